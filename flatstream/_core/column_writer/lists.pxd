from libc.stdint cimport int32_t, uint8_t

from flatstream._core.arrow.importer cimport Source
from flatstream._core.flatbuf.layout cimport Layout

# The column that a list is, for a field of this type. `rows` says where the values come from, and is None if each is of
# a row of its own. `depth` is how many values it is inside of.
cdef Source from_values(
    Layout layout, list values, object rows, uint8_t kind, uint8_t element, int32_t index, str path, int depth
)
# What is said of a name that there is not.
cdef str no_field(Layout layout, int32_t index, object name)
cdef str no_variant(Layout layout, int32_t index, object name)
# Values of a union, or of a vector of them (`many`), in the form that says of what variant each is.
cdef list with_types(Layout layout, list values, list types, object rows, int32_t index, bint many, str path)

from libc.stdint cimport int32_t, uint8_t

from flatstream._core.arrow.importer cimport Source
from flatstream._core.flatbuf.layout cimport Layout

# The column of a list of values for a field of this type. `origin` is for error messages: None if value i is that of
# row i, else see `fail_value`. `depth` is the number of lists and mappings around the values.
cdef Source list_column(
    Layout layout, list values, object origin, uint8_t kind, uint8_t element, int32_t index, str path, int depth
)
# The texts of errors: a table has no field, or a union no variant, of this name.
cdef str no_field(Layout layout, int32_t index, object name)
cdef str no_variant(Layout layout, int32_t index, object name)
# Values of a union, or with `is_vector` of a vector of unions, as mappings {variant: value}: `types` has the variants.
cdef list with_variants(
    Layout layout, list values, list types, object origin, int32_t index, bint is_vector, str path
)

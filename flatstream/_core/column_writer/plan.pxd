from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.arrow.importer cimport Column, Source
from flatstream._core.column_writer.sources cimport Values
from flatstream._core.flatbuf.layout cimport Layout
from flatstream._core.flatbuf.verifier cimport Types


# What a step makes.
cdef enum Action:
    TAKE_SCALAR
    TAKE_STRUCT
    # From here on: something elsewhere in the message, and an offset to it.
    TAKE_STRING
    TAKE_TABLE
    TAKE_VECTOR
    TAKE_UNION
    TAKE_UNIONS
    # In structs.
    TAKE_ARRAY


cdef struct Step:
    uint8_t action
    # Of a scalar.
    uint8_t kind
    uint8_t width
    # Its bytes are those of the column, as they are.
    bint plain
    # It is written even if it has the default.
    bint keep
    bint required
    # The enum of a scalar, or the union; else -1.
    int32_t enumeration
    # The object that the fields of a struct or a table are those of, or -1.
    int32_t object
    # The field that it is, of the object of its parent; -1 for elements and variants, which say what they are.
    int32_t field
    int64_t element
    uint64_t code
    # Where it is in the vtable, and the type of a union; or where it is in a struct. And how many bytes it takes.
    Py_ssize_t slot
    Py_ssize_t type_slot
    uint32_t place
    uint32_t size
    uint32_t alignment
    # Of vectors and arrays: of one element, and how many.
    uint32_t element_size
    uint32_t element_alignment
    uint32_t count
    uint64_t default_bits
    # NULL if the parts are columns of their own, under names with a dot.
    Column* column
    Step* parent
    Step* children
    Py_ssize_t child_count
    # Of a union: its type, or NULL.
    Step* type
    # Of an enum whose names are in a dictionary: the value of each, and CODE_NULL or CODE_UNKNOWN.
    uint64_t* codes
    uint8_t* code_states
    int64_t code_count
    # While a row is made: the value of a scalar or the type of a union, and the place of what was built, or 0.
    uint64_t bits
    Py_ssize_t result


cdef class ColumnPlan:
    """Columns bound to the fields of a table: a tree of steps, each of which takes one column to one field."""
    cdef Layout layout
    cdef Types types
    cdef int32_t number
    cdef bint force_defaults
    cdef Step root
    # The sources of all steps, which own what their columns point at; and the feeds among them.
    cdef list sources
    cdef list feeds
    # Steps that look names up in a dictionary, and the sources of these.
    cdef list coded
    cdef int start(self, object inputs) except -1
    cdef str name_of(self, uint8_t kind, uint8_t element, int32_t index)
    cdef int bind_parts(self, Step* step, object value, str path) except -1
    cdef Values typed_values(self, Values given, object types, int32_t index, bint many, str path)
    cdef bint is_type(self, int32_t number, Py_ssize_t i)
    cdef int bind_field(self, Step* step, int32_t number, Py_ssize_t i, object value, str path) except -1
    cdef int bind_type(self, Step* step, int32_t number, Py_ssize_t i, object value, str path) except -1
    cdef Source source_of(self, object value, uint8_t kind, uint8_t element, int32_t index, str path)
    cdef Source plain_source(self, Source source)
    cdef int mismatch(self, Source source, uint8_t kind, uint8_t element, int32_t index, str path) except -1
    cdef int bind(self, Step* step, uint8_t kind, uint8_t element, int32_t index, object value, str path) except -1
    cdef int bind_union(self, Step* step, int32_t index, object value, str path) except -1
    cdef str path_of(self, const Step* step)

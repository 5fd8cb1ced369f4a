from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.arrow.importer cimport Column, Source
from flatstream._core.column_writer.sources cimport PythonList
from flatstream._core.flatbuf.layout cimport Layout
from flatstream._core.flatbuf.verifier cimport Types


# What a binding writes.
cdef enum Action:
    PUT_SCALAR
    PUT_STRUCT
    # From here to PUT_UNION_VECTOR: a part elsewhere in the message, and an offset to it.
    PUT_STRING
    PUT_TABLE
    PUT_VECTOR
    PUT_UNION
    PUT_UNION_VECTOR
    # A fixed array, in structs only.
    PUT_ARRAY


# How a field, an element of a vector or array, or a variant of a union gets its values from a column.
cdef struct Binding:
    uint8_t action
    # Scalars only: kind, bytes, and whether the column stores them exactly as the message does.
    uint8_t kind
    uint8_t width
    bint same_layout
    # Whether the field is stored even if it has its default value.
    bint always_stored
    bint required
    # Index in the schema: of the enum or union, and of the table or struct. -1 if the type is not one.
    int32_t enum_index
    int32_t object
    # Number of the field in the object of the parent; -1 for elements and variants.
    int32_t field
    # Index of the element that is being written, for error messages; -1 if there is none.
    int64_t element
    # Of a variant of a union: its type. 0 for any other binding.
    uint64_t variant
    # In a table: entry of the field in the vtable, and of the type of a union. In a struct: offset of the field.
    Py_ssize_t entry
    Py_ssize_t type_entry
    uint32_t offset
    # Bytes of the value, and their alignment.
    uint32_t size
    uint32_t alignment
    # Vectors and arrays: bytes of one element and their alignment. Arrays: number of elements.
    uint32_t element_size
    uint32_t element_alignment
    uint32_t length
    uint64_t default_bits
    # NULL if the parts have columns of their own, whose names have a dot.
    Column* column
    Binding* parent
    Binding* children
    Py_ssize_t child_count
    # Unions and vectors of unions: the binding of the type or types, or NULL.
    Binding* type
    # An enum whose column is a dictionary of names: the value and the NameState of each name (see `bound_values`).
    uint64_t* name_values
    uint8_t* name_states
    int64_t name_count
    # The row that is being written. `bits`: the value of a scalar, the type of a union, or the end offset of the vector
    # of the types of a vector of unions. `end_offset`: that of a part that was written, or 0.
    uint64_t bits
    Py_ssize_t end_offset


cdef class WritePlan:
    """The columns for the fields of a table, as a tree of bindings. Serves one call of `write_columns`."""
    cdef Layout layout
    cdef Types types
    # Number of the table.
    cdef int32_t number
    cdef bint force_defaults
    cdef Binding root
    # The Sources of all bindings, which own the memory of the columns.
    cdef list sources
    # The ArrayStreams of these.
    cdef list streams
    # Enums whose column is a dictionary of names: (address of the Binding, Source of the dictionary).
    cdef list name_dictionaries
    cdef int bind_table(self, object inputs) except -1
    cdef str type_name_of(self, uint8_t kind, uint8_t element, int32_t index)
    cdef int fail_mismatch(self, Source source, uint8_t kind, uint8_t element, int32_t index, str path) except -1
    cdef Source source_of(self, object value, uint8_t kind, uint8_t element, int32_t index, str path)
    cdef list parts_of(self, Binding* binding, object value, uint8_t kind, int32_t index, str path)
    cdef int bind_fields(self, Binding* binding, object value, str path) except -1
    cdef PythonList tag_values(self, PythonList given, object types, int32_t index, bint is_vector, str path)
    cdef bint is_union_type(self, int32_t number, Py_ssize_t i)
    cdef int bind_field(self, Binding* binding, int32_t number, Py_ssize_t i, object value, str path) except -1
    cdef int bind_union_type(self, Binding* binding, int32_t number, Py_ssize_t i, object value, str path) except -1
    cdef int bind(
        self, Binding* binding, uint8_t kind, uint8_t element, int32_t index, object value, str path
    ) except -1
    cdef bint may_be_bare(self, int32_t number) noexcept
    cdef bint has_only_tables(self, int32_t index) noexcept
    cdef int bind_variants(self, Binding* binding, int32_t index, object value, str path) except -1
    cdef str path_of(self, const Binding* binding)

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.flatbuf.kinds cimport is_scalar, may_be_enum, scalar_width
from flatstream._core.flatbuf.verifier cimport Types


cdef struct FieldLayout:
    # The default of a number, in the low bytes. 0 if the number is optional: then it has no default.
    uint64_t default_bits
    # The bytes that the field takes in its table or struct, and their alignment. A string, a vector and a table take
    # the 4 bytes of an offset.
    uint32_t size
    uint32_t alignment
    # The bytes of one element of a vector or an array, and their alignment, `force_align` included. An element stored
    # elsewhere takes the 4 bytes of an offset. The size is 0 for other fields.
    uint32_t element_size
    uint32_t element_alignment
    # The number of elements of an array.
    uint32_t length
    # For a union, or a vector of unions, the number of the field of its type; for that field the number of the union;
    # else -1.
    int32_t paired_field
    # A number without a default: absent does not mean 0.
    bint optional
    bint deprecated
    # Whether a value equal to the default is stored too: the field is optional, or its default is not known.
    bint always_stored


cdef struct ObjectLayout:
    uint32_t alignment
    # As many as `Types.objects` has for the object.
    FieldLayout* fields


cdef class EnumLayout:
    cdef readonly str name
    cdef readonly bint is_union
    cdef readonly bint bit_flags
    # The Kind that an enumerator is stored as.
    cdef readonly int kind
    cdef readonly dict by_name
    cdef readonly dict by_value

    # The value that a message stores as these low bytes, and the low bytes of a value.
    cdef object value_of(self, uint64_t bits)
    cdef uint64_t bits_of(self, object value) except? 0


cdef class Layout:
    """The types of a schema for reading and writing messages: `Types`, with defaults, sizes, alignments and names.

    Indices are the same as in `types`. A layout never changes once it is made.
    """
    cdef readonly Types types
    cdef ObjectLayout* objects
    cdef Py_ssize_t object_count
    # By the number of the object: its full name; the names of its fields, by their numbers; the numbers of those that
    # are not deprecated, by their names.
    cdef readonly tuple object_names
    cdef readonly tuple field_names
    cdef readonly tuple numbers
    # EnumLayout by the number of the enum.
    cdef readonly tuple enums
    cdef readonly bytes file_identifier
    # The number of the root table, whose messages may carry the file identifier; -1 if there is none.
    cdef readonly int32_t root
    # By (number of an object, number of a field), what JSON makes of attributes of the schema: the number of the table
    # that the bytes of the field are a message of (`nested_flatbuffer`); the name of the function by which a string
    # becomes a number (`hash`). By the number of an object: the number of the field by which a vector of these objects
    # is sorted (`key`).
    cdef readonly dict nested
    cdef readonly dict hashes
    cdef readonly dict keys
    # The identifier as a little-endian number; 0 if there is none.
    cdef uint32_t identifier
    # Whether __init__ completed.
    cdef bint ready

    # Returns `number` if it is the number of a table.
    cdef int32_t check_table(self, object number) except -1
    # The same, also before the layout is complete.
    cdef int32_t check_is_table(self, object number) except -1
    # Whether the argument `on_other` of reading this table says to skip; raises an error unless it is valid.
    cdef bint check_on_other(self, object on_other, int32_t number) except -1
    # The reason why a message of this table is refused: it carries another file identifier.
    cdef str reason_of_other(self, int32_t number, const uint8_t* data)


cdef inline uint32_t identifier_of(Layout layout, int32_t number) noexcept:
    """The file identifier that messages of this table may carry; 0 if any will do: it belongs to the root table."""
    return layout.identifier if number == layout.root else 0

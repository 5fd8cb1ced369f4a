from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.base.endian cimport load_le
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, NOTHING, OBJECT, SHORT, STRING, UBYTE, UINT, ULONG, UNION, UNION_TYPE,
    USHORT, VECTOR,
)


cdef struct Field:
    # The field's place in a vtable, or in a struct.
    uint16_t offset
    uint8_t kind
    # Of a vector or an array.
    uint8_t element
    # Of the object or the enum that `kind` or `element` is about, or -1.
    int32_t index
    # Of a union or a vector of unions: the place of its type, or of the vector of its types, in the vtable.
    uint16_t type_offset
    bint required
    # Not looked at: it is deprecated, or the type of a union, which is looked at with it.
    bint skipped


cdef struct ObjectType:
    bint is_struct
    uint32_t size
    Py_ssize_t field_count
    Field* fields


cdef struct Variant:
    # Its type, as the low bytes of a message store it.
    uint64_t bits
    uint8_t kind
    int32_t index


cdef struct UnionType:
    # The bytes that the type of a union takes in a message: 1, unless the schema gives it a wider type.
    uint8_t type_width
    Py_ssize_t variant_count
    Variant* variants


cdef inline uint64_t load_type(const UnionType* union_type, const uint8_t* p) noexcept nogil:
    """The type that is stored at `p`."""
    if union_type.type_width == 1:
        return p[0]
    return load_le(p, union_type.type_width)


cdef inline const Variant* find_variant(const UnionType* union_type, uint64_t type) noexcept nogil:
    """The variant of a type, or NULL if the schema has none."""
    cdef Py_ssize_t i
    for i in range(union_type.variant_count):
        if union_type.variants[i].bits == type:
            return &union_type.variants[i]
    return NULL


cdef class Types:
    """The types of a schema, as the verifier wants them. Never changed once it is made."""
    cdef Py_ssize_t object_count
    cdef ObjectType* objects
    cdef Py_ssize_t union_count
    cdef UnionType* unions
    # For the paths in messages: of each object its name and the names of its fields.
    cdef list names
    # The bytes in front of a message from which its alignment is counted: 4 for size-prefixed messages, 0 for others.
    cdef readonly Py_ssize_t prefix_size
    # Whether __init__ came to its end, so that every index in them is one.
    cdef bint ready


cdef struct Limits:
    Py_ssize_t max_depth
    Py_ssize_t max_tables
    uint64_t max_apparent_size


cdef int check_limits(object max_depth, object max_tables, object max_apparent_size, Limits* limits) except -1
cdef int32_t check_root(object types, object number) except -1
# None, or why the bytes are no message that begins with a table.
cdef object verify_table_root(const uint8_t* data, Py_ssize_t size, const Limits* limits)
# None, or the path of the field that is wrong, and why.
cdef object verify_object(Types types, int32_t root, const uint8_t* data, Py_ssize_t size, const Limits* limits)
# Where the bytes stop being UTF-8, or -1.
cdef int64_t find_not_utf8(const uint8_t* p, uint64_t size) noexcept nogil

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.flatbuf.verifier cimport DOUBLE, FLOAT, UNION_TYPE, Types


cdef extern from *:
    """
    /* The smallest and the largest integer of each kind up to that of ulong, of which the signed part counts. */
    static inline int64_t fs_least(uint8_t kind) {
        static const int64_t least[] = {0, 0, 0, INT8_MIN, 0, INT16_MIN, 0, INT32_MIN, 0, INT64_MIN, 0};
        return least[kind];
    }
    static inline int64_t fs_most(uint8_t kind) {
        static const int64_t most[] = {
            0, UINT8_MAX, 1, INT8_MAX, UINT8_MAX, INT16_MAX, UINT16_MAX, INT32_MAX, UINT32_MAX, INT64_MAX, INT64_MAX
        };
        return most[kind];
    }
    """
    # Of kinds from UNION_TYPE to ULONG only.
    int64_t least_of "fs_least"(uint8_t kind) noexcept nogil
    int64_t most_of "fs_most"(uint8_t kind) noexcept nogil


cdef struct FieldLayout:
    # Of a scalar: the bytes of its default, in the low ones. 0 if it is optional, and so has none.
    uint64_t default_bits
    # How many bytes the field takes in its table or struct: a number, a struct, an array, or an offset of 4.
    uint32_t size
    # And to what that is aligned.
    uint32_t alignment
    # Of a vector or an array: the bytes of an element, or 4 if that is an offset; else 0.
    uint32_t element_size
    # And to what the elements are aligned, `force_align` included.
    uint32_t element_alignment
    # Of an array: how many elements.
    uint32_t length
    # Of a union (or a vector of them), the number of the field of its type, and the other way round; else -1.
    int32_t paired_field
    # A scalar without a default: absent is not the same as 0.
    bint optional
    bint deprecated
    # Whether a value that is the default is stored all the same: the field is optional, or nobody knows its default.
    bint always_stored


cdef struct ObjectLayout:
    uint32_t alignment
    # As many as `Types.objects` says.
    FieldLayout* fields


cdef class EnumLayout:
    cdef readonly str name
    cdef readonly bint is_union
    cdef readonly bint bit_flags
    # What an enumerator is stored as: one of Kind.
    cdef readonly int kind
    cdef readonly dict by_name
    cdef readonly dict by_value


cdef class Layout:
    """The types of a schema, as what reads and writes messages wants them: `Types`, and what that leaves out.

    Indices are the same as in `types`. Never changed once it is made.
    """
    cdef readonly Types types
    cdef ObjectLayout* objects
    cdef Py_ssize_t object_count
    # By the numbers of objects: full names; names of fields, by their numbers; numbers of fields that are not
    # deprecated, by their names.
    cdef readonly tuple object_names
    cdef readonly tuple field_names
    cdef readonly tuple numbers
    # EnumLayout by the numbers of enums.
    cdef readonly tuple enums
    cdef readonly bytes file_identifier
    # Whether __init__ came to its end.
    cdef bint ready

    # The number of an object that is a table, checked.
    cdef int32_t check_table(self, object number) except -1


cdef inline bint is_scalar(uint8_t kind) noexcept nogil:
    """Whether a field of this kind is a number, stored where it is."""
    return UNION_TYPE <= kind <= DOUBLE


cdef inline bint may_be_enum(uint8_t kind) noexcept nogil:
    """Whether `Field.index` of a number of this kind is that of its enum, or -1. Of others it says nothing."""
    return UNION_TYPE <= kind < FLOAT


cdef inline uint32_t scalar_width(uint8_t kind) noexcept nogil:
    """The bytes of a number, or those of the offset of what is no number."""
    if kind <= 4:
        return 1
    if kind <= 6:
        return 2
    if kind == 9 or kind == 10 or kind == 12:
        return 8
    return 4

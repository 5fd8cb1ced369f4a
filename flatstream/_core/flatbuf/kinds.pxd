# The types of FlatBuffers, and the properties that depend on the type alone.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


# The type of a field, of an element of a vector or of a variant of a union: reflection.BaseType, by its numbers.
cdef enum Kind:
    NOTHING = 0
    UNION_TYPE = 1
    BOOL = 2
    BYTE = 3
    UBYTE = 4
    SHORT = 5
    USHORT = 6
    INT = 7
    UINT = 8
    LONG = 9
    ULONG = 10
    FLOAT = 11
    DOUBLE = 12
    STRING = 13
    VECTOR = 14
    OBJECT = 15
    UNION = 16
    ARRAY = 17


cdef extern from *:
    """
    /* The smallest and the largest value of each integer type. The largest ulong does not fit in an int64_t: its entry
     * is the largest int64_t, and callers check a ulong separately. */
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
    /* The mask of the bits that a number of each type has. */
    static inline uint64_t fs_mask(uint8_t kind) {
        static const uint64_t masks[] = {
            0, UINT8_MAX, UINT8_MAX, UINT8_MAX, UINT8_MAX, UINT16_MAX, UINT16_MAX, UINT32_MAX, UINT32_MAX, UINT64_MAX,
            UINT64_MAX, UINT32_MAX, UINT64_MAX
        };
        return masks[kind];
    }
    """
    # For kinds from UNION_TYPE to ULONG only.
    int64_t least_of "fs_least"(uint8_t kind) noexcept nogil
    int64_t most_of "fs_most"(uint8_t kind) noexcept nogil
    # For kinds from UNION_TYPE to DOUBLE only.
    uint64_t mask_of "fs_mask"(uint8_t kind) noexcept nogil


cdef inline bint is_scalar(uint8_t kind) noexcept nogil:
    """Whether a value of this kind is a number, stored in place."""
    return UNION_TYPE <= kind <= DOUBLE


cdef inline bint may_be_enum(uint8_t kind) noexcept nogil:
    """Whether `Field.index` of a field of this kind is the number of its enum, or -1. It has other meanings for other
    kinds.
    """
    return UNION_TYPE <= kind < FLOAT


cdef inline uint32_t scalar_width(uint8_t kind) noexcept nogil:
    """The size of a number in bytes; for any other kind the size of an offset, 4."""
    if kind <= UBYTE:
        return 1
    if kind <= USHORT:
        return 2
    if kind == LONG or kind == ULONG or kind == DOUBLE:
        return 8
    return 4

from libc.stdint cimport INT64_MAX, int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.flatbuf.kinds cimport BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, ULONG
from flatstream._core.flatbuf.layout cimport Layout


cdef class Condition:
    """Which values of one field are let through: those in one of some ranges, which ascend and do not touch.

    A number is compared by its key, an int64 that ascends as the numbers of its type do. A string is compared by its
    bytes, whose order is that of its code points.
    """
    cdef readonly str path
    # The kind of the field, and whether it is a string.
    cdef readonly uint8_t kind
    cdef readonly bint is_text
    cdef Py_ssize_t count
    # Of numbers: the keys of the first and the last number of each range.
    cdef int64_t* firsts
    cdef int64_t* lasts
    # Of strings: the first string of each range, and the first behind it; None if all that follow are in the range.
    cdef tuple begins
    cdef tuple ends

    cdef bint takes_text(self, const uint8_t* data, Py_ssize_t size) except -1


# The condition that an entry of `parse_conditions` sets for a field of this kind.
cdef Condition condition_of(Layout layout, tuple parsed, uint8_t kind, int index)


cdef inline int64_t key_of(uint8_t kind, uint64_t bits) noexcept nogil:
    """The key of a number, given by the bytes that it is stored in. The key of NaN is that of no other number."""
    cdef uint32_t low = <uint32_t>bits
    cdef float single = 0
    cdef double real
    cdef int64_t key = 0
    if kind == DOUBLE or kind == FLOAT:
        if kind == FLOAT:
            memcpy(&single, &low, 4)
            real = single
            memcpy(&key, &real, 8)
        else:
            key = <int64_t>bits
        # The numbers below 0 descend when their bits ascend. The two zeros have one key.
        return key if key >= 0 else -(key & INT64_MAX)
    if kind == ULONG:
        return <int64_t>(bits ^ (<uint64_t>1 << 63))
    if kind == BYTE:
        return <int8_t>bits
    if kind == SHORT:
        return <int16_t>bits
    if kind == INT:
        return <int32_t>bits
    if kind == BOOL:
        return (bits & 0xFF) != 0
    return <int64_t>bits


cdef inline bint takes_key(Condition condition, int64_t key) noexcept nogil:
    """Whether the number with this key is let through."""
    cdef Py_ssize_t low = 0, high = condition.count, middle
    # The last range that begins at or before the key.
    while low < high:
        middle = (low + high) // 2
        if condition.firsts[middle] <= key:
            low = middle + 1
        else:
            high = middle
    return low > 0 and key <= condition.lasts[low - 1]

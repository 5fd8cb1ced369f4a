# cython: boundscheck=False, wraparound=False, cdivision=True
"""The rows of a scalar column that are in a half-open range, compared exactly.

A limit can be any number, whatever the type of the column. It is converted once, to the type of the column, so that the
loops compare numbers of one type: for integers to the smallest and the largest one in the range, for floats to the
smallest float that is not below it.
"""

import datetime
import operator

from libc.math cimport INFINITY, nextafter
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from flatstream._core.column_reader.plan cimport Node
from flatstream._core.flatbuf.kinds cimport BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, ULONG

# A constant: for a tuple of classes of Python in the call itself, Cython's isinstance loses the error.
cdef tuple TIMES = (datetime.date, datetime.time, datetime.timedelta)


# Limits


cdef tuple limits_of(const Node* node, object low, object high):
    low = None if low is None else number_of(low, "low")
    high = None if high is None else number_of(high, "high")
    if node.kind == FLOAT or node.kind == DOUBLE:
        return float_limits(low, high)
    return integer_limits(low, high, node.kind, <int>node.width)


cdef object number_of(object value, str name):
    """An end of a range as an int, or as a float that is not NaN."""
    # The kind of a NumPy type. `__float__` alone does not make a number: a NumPy time returns the count of its unit,
    # whatever the unit, and other types raise an error that does not mention limits.
    letter = getattr(getattr(value, "dtype", None), "kind", None)
    if (letter is None or letter in ("b", "i", "u", "f")) and not isinstance(value, (str, bytes, bytearray)):
        try:
            if letter == "b":
                return int(value)
            if letter != "f" and hasattr(type(value), "__index__"):
                return operator.index(value)
            if isinstance(value, float) or hasattr(type(value), "__float__"):
                number = float(value)
                if number != number:
                    raise ValueError(f"where: the {name} end of the range is NaN")
                return number
        except TypeError:
            # For example an array of more than one element.
            pass
    shown = str(value.dtype) if letter in ("m", "M") else type(value).__name__
    hint = ""
    if letter in ("m", "M") or isinstance(value, TIMES):
        hint = ": give a time as its integer in the unit of the field"
    elif isinstance(value, str):
        hint = ": give an enum as its number, and a time as its integer in the unit of the field"
    raise TypeError(f"where: the {name} end of the range must be a number or None, got {shown}{hint}")


cdef tuple integer_range(int kind, int width):
    """The smallest and the largest number of an integer type."""
    # As an int of Python, which does not overflow.
    cdef object end = 2 ** <object>(8 * width)
    if kind == BYTE or kind == SHORT or kind == INT or kind == LONG:
        return -(end // 2), end // 2 - 1
    return 0, end - 1


def integer_limits(low, high, int kind, int width):
    """The smallest and the largest integer of a type in the range [low, high), both included; (1, 0) if there is none.
    """
    first, last = integer_range(kind, width)
    if low is not None:
        if isinstance(low, float):
            if low == float("inf"):
                return 1, 0
            # Rounded up.
            low = first if low == -float("inf") else -int(-low // 1)
        first = max(first, low)
    if high is not None:
        if isinstance(high, float):
            if high == -float("inf"):
                return 1, 0
            high = last + 1 if high == float("inf") else -int(-high // 1)
        last = min(last, high - 1)
    return (first, last) if first <= last else (1, 0)


cdef object round_up(object number):
    """The smallest float that is not less than a number."""
    cdef double largest = 1.7976931348623157e308
    try:
        real = float(number)
    except OverflowError:
        return INFINITY if number > 0 else -largest
    return nextafter(real, INFINITY) if real < number else real


def float_limits(low, high):
    """The limits of the range [low, high) as floats; the high one is None if the range has no end."""
    return -INFINITY if low is None else round_up(low), None if high is None else round_up(high)


# Rows


cdef int mark_in_range(const Node* node, object low, object high, uint8_t* keep, Py_ssize_t count) except -1:
    cdef Py_ssize_t i
    cdef const uint8_t* data = node.data.data
    cdef double real_low = 0, real_high = 0, real
    cdef int64_t signed_low = 0, signed_high = 0, number
    cdef uint64_t unsigned_low = 0, unsigned_high = 0
    cdef bint unbounded
    if node.kind == FLOAT or node.kind == DOUBLE:
        unbounded = high is None
        real_low = low
        real_high = 0 if unbounded else high
        for i in range(count):
            real = (<const float*>data)[i] if node.kind == FLOAT else (<const double*>data)[i]
            # False for NaN.
            keep[i] = real_low <= real and (unbounded or real < real_high)
    elif low > high:
        memset(keep, 0, <size_t>count)
    elif node.kind == ULONG:
        unsigned_low = low
        unsigned_high = high
        for i in range(count):
            keep[i] = unsigned_low <= (<const uint64_t*>data)[i] <= unsigned_high
    else:
        signed_low = low
        signed_high = high
        for i in range(count):
            number = integer_at(node, i)
            keep[i] = signed_low <= number <= signed_high
    if node.keeps_validity:
        for i in range(count):
            keep[i] &= node.validity.data[i]
    return 0


cdef inline int64_t integer_at(const Node* node, Py_ssize_t i) noexcept nogil:
    """Number `i` of a column of any integer type but ULONG."""
    cdef const uint8_t* data = node.data.data
    if node.width == 8:
        return (<const int64_t*>data)[i]
    if node.width == 4:
        return (<const int32_t*>data)[i] if node.kind == INT else <int64_t>(<const uint32_t*>data)[i]
    if node.width == 2:
        return (<const int16_t*>data)[i] if node.kind == SHORT else <int64_t>(<const uint16_t*>data)[i]
    return (<const int8_t*>data)[i] if node.kind == BYTE else <int64_t>data[i]

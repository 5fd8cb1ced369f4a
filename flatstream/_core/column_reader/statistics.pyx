# cython: boundscheck=False, wraparound=False, cdivision=True
"""The least and the greatest value of a range of rows of a column, and how many of them are null."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.arrow.exporter cimport ColumnData, check_data
from flatstream._core.base.checks cimport checked_int

from flatstream._core.arrow.exporter import WIDTHS

# From this many rows on the GIL is released: they take about 10 us.
cdef enum:
    RELEASE_FROM_ROWS = 16384

ctypedef fused number:
    int8_t
    uint8_t
    int16_t
    uint16_t
    int32_t
    uint32_t
    int64_t
    uint64_t
    float
    double


cdef inline bint is_value(number value) noexcept nogil:
    """False for NaN, which alone is not equal to itself."""
    if number is float or number is double:
        return value == value
    else:
        return True


cdef inline int scan_rows(
    const number* data, const uint8_t* validity, Py_ssize_t begin, Py_ssize_t end, Found* found
) noexcept nogil:
    """Finds the extremes of the rows from `begin` to `end`, which are inside of both arrays."""
    cdef Py_ssize_t i = begin, count = 0
    cdef number value, low, high
    # The first value.
    while i < end and (validity is not NULL and not validity[i] or not is_value(data[i])):
        i += 1
    if i == end:
        return 0
    low = high = data[i]
    # NaN is neither less nor greater than anything, so that the loops compare only.
    if validity is NULL:
        for i in range(i, end):
            value = data[i]
            count += is_value(value)
            low = value if value < low else low
            high = value if value > high else high
    else:
        for i in range(i, end):
            value = data[i] if validity[i] else low
            count += 1 if validity[i] and is_value(value) else 0
            low = value if value < low else low
            high = value if value > high else high
    found.count = count
    if number is float or number is double:
        found.low_float = low
        found.high_float = high
    elif number is uint64_t:
        found.low_uint = low
        found.high_uint = high
    else:
        found.low_int = <int64_t>low
        found.high_int = <int64_t>high
    return 0


cdef int scan(
    char format, const uint8_t* data, const uint8_t* validity, Py_ssize_t begin, Py_ssize_t end, Found* found
) noexcept nogil:
    if format == b"b" or format == b"C":
        return scan_rows(<const uint8_t*>data, validity, begin, end, found)
    if format == b"c":
        return scan_rows(<const int8_t*>data, validity, begin, end, found)
    if format == b"s":
        return scan_rows(<const int16_t*>data, validity, begin, end, found)
    if format == b"S":
        return scan_rows(<const uint16_t*>data, validity, begin, end, found)
    if format == b"i":
        return scan_rows(<const int32_t*>data, validity, begin, end, found)
    if format == b"I":
        return scan_rows(<const uint32_t*>data, validity, begin, end, found)
    if format == b"l":
        return scan_rows(<const int64_t*>data, validity, begin, end, found)
    if format == b"L":
        return scan_rows(<const uint64_t*>data, validity, begin, end, found)
    if format == b"f":
        return scan_rows(<const float*>data, validity, begin, end, found)
    return scan_rows(<const double*>data, validity, begin, end, found)


def column_statistics(ColumnData column not None, begin=0, end=None):
    """The least and the greatest value of rows of a scalar column, and the number of rows without a value.

    Parameters
    ----------
    column : ColumnData
        A column of numbers, bools or enums: a child of `ColumnBatch._data`. Enums are their numbers.
    begin, end : int, optional
        The range of the rows; by default all.

    Returns
    -------
    low, high : int or float, or None
        Exact ints, 0 and 1 for bools, and floats; -0.0 and 0.0 are equal, and either is given. None if no row has a
        value.
    nulls : int
        How many rows are null or NaN.

    Raises
    ------
    TypeError
        The column has no scalars.
    ValueError
        The range is not inside of the column.
    """
    cdef Found found
    cdef Py_ssize_t first, last
    cdef const uint8_t* data
    cdef const uint8_t* validity = NULL
    cdef char format
    check_data(column)
    if column.type.format not in WIDTHS:
        raise TypeError(
            f"only columns of numbers, bools and enums have statistics: {column.type.name!r:.200} is none of these"
        )
    first = checked_int("begin", begin, 0, column.length)
    last = column.length if end is None else checked_int("end", end, first, column.length)
    if column.data is None or column.data.capacity < column.length * <Py_ssize_t>WIDTHS[column.type.format] or (
        column.validity is not None and column.validity.capacity < column.length
    ):
        raise SystemError("flatstream: a column is shorter than its length")
    data = column.data.data
    if column.validity is not None:
        validity = column.validity.data
    format = <char>ord(column.type.format)
    found.count = 0
    if last - first >= RELEASE_FROM_ROWS:
        # The values of a column never change, and `column` owns them.
        with nogil:
            scan(format, data, validity, first, last, &found)
    else:
        scan(format, data, validity, first, last, &found)
    nulls = last - first - found.count
    if not found.count:
        return None, None, nulls
    if format == b"f" or format == b"g":
        return found.low_float, found.high_float, nulls
    if format == b"L":
        return found.low_uint, found.high_uint, nulls
    return found.low_int, found.high_int, nulls

from libc.stdint cimport int64_t, uint8_t, uint64_t


# The values found: of integers, of those of 64 bits without a sign, or of floats. `count` of the rows have a value.
cdef struct Found:
    int64_t low_int
    int64_t high_int
    uint64_t low_uint
    uint64_t high_uint
    double low_float
    double high_float
    Py_ssize_t count


# Finds the extremes of the rows from `begin` to `end`, which are in both arrays. `format` is Arrow's of a scalar;
# `validity` has a byte for each row, or is NULL. Without a value, nothing of `found` is set: it is to be all 0 before.
cdef int scan(
    char format, const uint8_t* data, const uint8_t* validity, Py_ssize_t begin, Py_ssize_t end, Found* found
) noexcept nogil

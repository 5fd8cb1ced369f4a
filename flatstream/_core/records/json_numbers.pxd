# Numbers as JSON text. Each function writes at `out`, where the caller has made room for MAX_NUMBER_SIZE bytes, and
# returns the end of the text.

from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef enum:
    # The longest is -2.2250738585072014e-308, with 24 bytes; a table of digits can write one more.
    MAX_NUMBER_SIZE = 32

# What is written for NaN and the infinities, which JSON does not have.
cdef enum Nonfinite:
    # "nan", "inf" and "-inf": JSON, and flatc reads these strings as numbers.
    NONFINITE_STRING
    NONFINITE_NULL
    # nan, inf and -inf, as flatc writes them: no JSON.
    NONFINITE_BARE


# Fills the tables of this module, which are the same in every interpreter. Called before the functions below.
cdef int prepare_numbers() except -1

cdef uint8_t* write_unsigned(uint8_t* out, uint64_t number) noexcept nogil
cdef uint8_t* write_signed(uint8_t* out, int64_t number) noexcept nogil
# The fewest digits that read back as the same number, laid out as repr() of a float.
cdef uint8_t* write_double(uint8_t* out, uint64_t bits, Nonfinite nonfinite) noexcept nogil
cdef uint8_t* write_float(uint8_t* out, uint64_t bits, Nonfinite nonfinite) noexcept nogil

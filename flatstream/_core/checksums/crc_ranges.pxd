from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.checksums.kernel cimport checksum_kernel, extension_kernel

# The CRC of a range below this size is calculated from its bytes, which takes as long.
cdef enum:
    RANGE_FROM = 512

# The multiples of bytes by which a CRC is shifted: three digits of POWER_BITS bits.
cdef enum:
    POWER_BITS = 11
    POWERS = 1 << POWER_BITS
    DIGITS = 3


cdef struct CrcKind:
    checksum_kernel kernel
    extension_kernel extend
    int width
    bint reflected
    uint64_t polynomial
    bint is_filled
    # powers[k][i] is x^(8 * i * POWERS^k) modulo the polynomial.
    uint64_t powers[DIGITS][POWERS]


cdef struct CrcRanges:
    # The CRCs of all ranges of `size` bytes at `data`.
    const CrcKind* kind
    const uint8_t* data
    Py_ssize_t size
    # The CRCs of the bytes before each multiple of PREFIX_STEP.
    uint64_t* prefixes


cdef const CrcKind* crc_kind_of(checksum_kernel kernel) noexcept
cdef int begin_ranges(CrcRanges* ranges, const CrcKind* kind, const uint8_t* data, Py_ssize_t size) except -1
cdef void end_ranges(CrcRanges* ranges) noexcept
cdef uint64_t crc_of_range(const CrcRanges* ranges, Py_ssize_t begin, Py_ssize_t end) noexcept nogil

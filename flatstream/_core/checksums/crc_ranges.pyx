# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The CRCs of many ranges of the same bytes, each in a time that does not depend on its size.

A CRC is linear: that of a message A + B is that of A, multiplied by x^(8 * len(B)) modulo the polynomial, plus that of
B. (The initial and final values of all four kinds cancel out.) So the CRC of a range follows from those of the bytes
before its end and before its beginning, of which some are stored.
"""

from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.checksums.crc cimport (
    crc16_xmodem, crc32_iso_hdlc, crc32c_iscsi, crc64_xz, extend_iscsi, extend_iso_hdlc, extend_xmodem, extend_xz,
)
from flatstream._core.checksums.kernel cimport checksum_kernel, extension_kernel


cdef extern from "Python.h":
    void* PyMem_RawMalloc(size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# One CRC of so many bytes is stored.
cdef enum:
    PREFIX_STEP = 256

cdef enum:
    KINDS = 4

cdef CrcKind kinds[KINDS]


cdef void set_kind(
    int i, checksum_kernel kernel, extension_kernel extend, int width, bint reflected, uint64_t polynomial
) noexcept:
    kinds[i].kernel = kernel
    kinds[i].extend = extend
    kinds[i].width = width
    kinds[i].reflected = reflected
    kinds[i].polynomial = polynomial
    kinds[i].is_filled = False


set_kind(0, crc16_xmodem, extend_xmodem, 16, False, 0x1021)
set_kind(1, crc32_iso_hdlc, extend_iso_hdlc, 32, True, 0xEDB88320ULL)
set_kind(2, crc32c_iscsi, extend_iscsi, 32, True, 0x82F63B78ULL)
set_kind(3, crc64_xz, extend_xz, 64, True, 0xC96C5795D7870F42ULL)


cdef uint64_t multiplied(const CrcKind* kind, uint64_t a, uint64_t b) noexcept nogil:
    """The product of two polynomials, modulo that of the CRC. The branches of the loops would be unpredictable."""
    cdef uint64_t product = 0, polynomial = kind.polynomial
    cdef int i
    if kind.reflected:
        # The highest bit is x^0.
        for i in range(kind.width - 1, -1, -1):
            product ^= b & (0 - (a >> i & 1))
            b = (b >> 1) ^ (polynomial & (0 - (b & 1)))
        return product
    # XMODEM: the lowest bit is x^0, and 16 bits are used.
    for i in range(16):
        product ^= b & (0 - (a >> i & 1))
        b = (b << 1 & 0xFFFF) ^ (polynomial & (0 - (b >> 15 & 1)))
    return product


cdef void fill_powers(CrcKind* kind) noexcept:
    cdef uint64_t unit = <uint64_t>1 << (kind.width - 9 if kind.reflected else 8)
    cdef int digit, i
    for digit in range(DIGITS):
        kind.powers[digit][0] = <uint64_t>1 << (kind.width - 1 if kind.reflected else 0)
        for i in range(1, POWERS):
            kind.powers[digit][i] = multiplied(kind, kind.powers[digit][i - 1], unit)
        unit = multiplied(kind, kind.powers[digit][POWERS - 1], unit)
    kind.is_filled = True


cdef const CrcKind* crc_kind_of(checksum_kernel kernel) noexcept:
    """The CRC that `kernel` calculates; NULL if it is no CRC."""
    cdef int i
    for i in range(KINDS):
        if kinds[i].kernel == kernel:
            if not kinds[i].is_filled:
                fill_powers(&kinds[i])
            return &kinds[i]
    return NULL


cdef int begin_ranges(CrcRanges* ranges, const CrcKind* kind, const uint8_t* data, Py_ssize_t size) except -1:
    """Prepares `crc_of_range` for the `size` bytes at `data`, of which the caller holds the owner. `end_ranges` frees
    the memory: a 32nd part of the size of the data.
    """
    cdef Py_ssize_t i, count = size // PREFIX_STEP
    cdef uint64_t value = 0
    ranges.prefixes = <uint64_t*>PyMem_RawMalloc(<size_t>(count + 1) * sizeof(uint64_t))
    if ranges.prefixes is NULL:
        raise MemoryError(f"no memory for the checksums of {size} bytes")
    ranges.kind = kind
    ranges.data = data
    ranges.size = size
    ranges.prefixes[0] = 0
    with nogil:
        for i in range(count):
            value = kind.extend(value, data + i * PREFIX_STEP, PREFIX_STEP)
            ranges.prefixes[i + 1] = value
    return 0


cdef void end_ranges(CrcRanges* ranges) noexcept:
    PyMem_RawFree(ranges.prefixes)
    ranges.prefixes = NULL


cdef uint64_t crc_before(const CrcRanges* ranges, Py_ssize_t end) noexcept nogil:
    """The CRC of the bytes before `end`, which is at most the size."""
    cdef Py_ssize_t i = end // PREFIX_STEP
    return ranges.kind.extend(
        ranges.prefixes[i], ranges.data + i * PREFIX_STEP, <size_t>(end - i * PREFIX_STEP)
    )


cdef uint64_t crc_of_range(const CrcRanges* ranges, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """The CRC of the bytes from `begin` to `end`, with 0 <= begin <= end <= size."""
    cdef Py_ssize_t size = end - begin
    cdef uint64_t value
    cdef int digit
    if size < RANGE_FROM:
        return ranges.kind.kernel(ranges.data + begin, <size_t>size)
    value = crc_before(ranges, begin)
    for digit in range(DIGITS):
        if size & (POWERS - 1):
            value = multiplied(ranges.kind, value, ranges.kind.powers[digit][size & (POWERS - 1)])
        size >>= POWER_BITS
    return value ^ crc_before(ranges, end)


def crcs_of_ranges(const unsigned char[::1] data not None, str name not None, ranges):
    """The CRCs of ranges of `data`: the Python door of `crc_of_range`.

    Parameters
    ----------
    data : contiguous buffer of unsigned bytes
    name : "crc16", "crc32", "crc32c" or "crc64"
    ranges : iterable of (begin, end)
        Offsets in `data`, in bytes.

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        There is no such CRC, or a range does not lie in `data`.
    """
    cdef CrcRanges prepared
    cdef Py_ssize_t begin, end, size = data.shape[0]
    names = ("crc16", "crc32", "crc32c", "crc64")
    if name not in names:
        raise ValueError(f"name must be one of {', '.join(names)}, got {name!r:.100}")
    begin_ranges(&prepared, crc_kind_of(kinds[<int>names.index(name)].kernel), &data[0] if size else NULL, size)
    try:
        result = []
        for begin, end in ranges:
            if not 0 <= begin <= end <= size:
                raise ValueError(f"the range {begin} to {end} does not lie in {size} bytes")
            result.append(crc_of_range(&prepared, begin, end))
        return result
    finally:
        end_ranges(&prepared)

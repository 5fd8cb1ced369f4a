# cython: boundscheck=False, wraparound=False
"""Cyclic redundancy checks, with the fastest instructions of the processor.

There are four code paths; one is chosen when the module is imported. `vpclmul` and `pclmul` use carry-less
multiplication (see crc_fold.h), and the CRC32 instruction for short messages with CRC-32C. `sse42` uses the CRC32
instruction only. `portable` uses tables, sixteen bytes at a time. The environment variable FLATSTREAM_CRC requests a
path; the import fails if the processor does not support it.

`crc16`, `crc32`, `crc32c` and `crc64` are the Python functions: they take a typed memoryview, so that a kernel can be
tested and measured without a stream. Each calls a `cdef` function (`crc16_of` ...) that calls the kernel.

The parameters and names are those of the RevEng catalogue. "Check" is the CRC of b"123456789":

    ==================  =====  ==================  =========  ==================  ==================
    name                width  polynomial          reflected  initial, final xor  check
    ==================  =====  ==================  =========  ==================  ==================
    CRC-16/XMODEM          16  1021                no         0                   31C3
    CRC-32/ISO-HDLC        32  04C11DB7            yes        FFFFFFFF            CBF43926
    CRC-32C (iSCSI)        32  1EDC6F41            yes        FFFFFFFF            E3069283
    CRC-64/XZ              64  42F0E1EBA9EA3693    yes        FFFFFFFFFFFFFFFF    995DC9BBDF1939FA
    ==================  =====  ==================  =========  ==================  ==================

A reflected register is kept in the low bits of a 64-bit word and shifts right. The register of CRC-16/XMODEM is kept in
the high bits and shifts left. In both, table[k][b] is the contribution of byte b to the register after k more bytes.
With these tables ("slicing by 16"), the sixteen lookups of a block do not depend on one another.
"""

import os

from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.base.checks cimport exact_int
from flatstream._core.base.endian cimport load_u64, low_bytes
from flatstream._core.checksums.kernel cimport RELEASE_FROM, extension_kernel


cdef extern from "flatstream/_core/checksums/crc_fold.h":
    ctypedef struct fs_crc_constants:
        pass
    void fs_crc_prepare(fs_crc_constants* constants, uint64_t polynomial_at_top, bint reflected) noexcept nogil
    bint fs_has_pclmul() noexcept nogil
    bint fs_has_vpclmul() noexcept nogil
    bint fs_has_crc32() noexcept nogil
    uint64_t fs_crc32c_sse42(uint64_t register, const uint8_t* p, size_t size) noexcept nogil
    uint64_t fs_reflected_pclmul(
        const fs_crc_constants* c, uint64_t register, const uint8_t* p, size_t size
    ) noexcept nogil
    uint64_t fs_forward_pclmul(
        const fs_crc_constants* c, uint64_t register, const uint8_t* p, size_t size
    ) noexcept nogil
    uint64_t fs_reflected_vpclmul(
        const fs_crc_constants* c, uint64_t register, const uint8_t* p, size_t size
    ) noexcept nogil
    uint64_t fs_forward_vpclmul(
        const fs_crc_constants* c, uint64_t register, const uint8_t* p, size_t size
    ) noexcept nogil

ctypedef uint64_t (*fold_kernel)(
    const fs_crc_constants* c, uint64_t register, const uint8_t* p, size_t size
) noexcept nogil

# Folding needs a block of 16 bytes. From that size on it is at least as fast as the tables: some 5 ns up to 100 bytes.
# The CRC32 instruction takes 3 to 4 ns for up to 31 bytes (ShortPayloads of asv_benchmarks/checksums.py).
cdef enum:
    FOLD_FROM = 16
    FOLD_ISCSI_FROM = 32

ctypedef uint64_t slicing_table[16][256]

# Filled at import, at the end of this file; read-only afterwards.
cdef slicing_table XMODEM
cdef slicing_table ISO_HDLC
cdef slicing_table ISCSI
cdef slicing_table XZ
cdef fs_crc_constants XMODEM_FOLD
cdef fs_crc_constants ISO_HDLC_FOLD
cdef fs_crc_constants ISCSI_FOLD
cdef fs_crc_constants XZ_FOLD

# NULL on the portable path.
cdef fold_kernel fold_reflected = NULL
cdef fold_kernel fold_forward = NULL
# Whether CRC-32C uses the CRC32 instruction.
cdef bint use_crc32_instruction = False


cdef void fill_reflected(slicing_table table, uint64_t reversed_polynomial) noexcept nogil:
    cdef uint64_t register
    cdef int byte, following, _
    for byte in range(256):
        register = <uint64_t>byte
        for _ in range(8):
            register = (register >> 1) ^ (reversed_polynomial if register & 1 else 0)
        table[0][byte] = register
    for following in range(1, 16):
        for byte in range(256):
            register = table[following - 1][byte]
            table[following][byte] = (register >> 8) ^ table[0][register & 0xFF]


cdef void fill_forward(slicing_table table, uint64_t polynomial_at_top) noexcept nogil:
    cdef uint64_t register
    cdef int byte, following, _
    for byte in range(256):
        register = <uint64_t>byte << 56
        for _ in range(8):
            register = (register << 1) ^ (polynomial_at_top if register >> 63 else 0)
        table[0][byte] = register
    for following in range(1, 16):
        for byte in range(256):
            register = table[following - 1][byte]
            table[following][byte] = (register << 8) ^ table[0][register >> 56]


cdef inline uint64_t look_up_last_six(slicing_table table, int first, uint64_t word) noexcept nogil:
    """`look_up_word` for the last six of the eight bytes of `word`."""
    return (
        (table[first + 5][(word >> 16) & 0xFF] ^ table[first + 4][(word >> 24) & 0xFF])
        ^ (table[first + 3][(word >> 32) & 0xFF] ^ table[first + 2][(word >> 40) & 0xFF])
        ^ (table[first + 1][(word >> 48) & 0xFF] ^ table[first][word >> 56])
    )


cdef inline uint64_t look_up_word(slicing_table table, int first, uint64_t word) noexcept nogil:
    """The contribution of the eight bytes of `word` to a register; `first` bytes follow the last of them."""
    return (table[first + 7][word & 0xFF] ^ table[first + 6][(word >> 8) & 0xFF]) ^ look_up_last_six(table, first, word)


cdef uint64_t update_reflected(slicing_table table, uint64_t register, const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t rest
    while size >= 16:
        # The second eight bytes do not depend on the register, so they are looked up first.
        rest = look_up_word(table, 0, load_u64(data + 8))
        register = rest ^ look_up_word(table, 8, register ^ load_u64(data))
        data += 16
        size -= 16
    if size >= 8:
        register = look_up_word(table, 0, register ^ load_u64(data))
        data += 8
        size -= 8
    while size:
        register = (register >> 8) ^ table[0][(register ^ data[0]) & 0xFF]
        data += 1
        size -= 1
    return register


cdef uint64_t update_forward(slicing_table table, uint64_t register, const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t word, rest
    # The two bytes of the register, in its high bits, are combined with the first two bytes of the data. The lookups of
    # the other bytes do not depend on the register.
    while size >= 16:
        word = load_u64(data)
        rest = look_up_word(table, 0, load_u64(data + 8)) ^ look_up_last_six(table, 8, word)
        register = rest ^ (
            table[15][(word ^ (register >> 56)) & 0xFF] ^ table[14][((word >> 8) ^ (register >> 48)) & 0xFF]
        )
        data += 16
        size -= 16
    if size >= 8:
        register = look_up_word(table, 0, load_u64(data) ^ (register >> 56) ^ ((register >> 40) & 0xFF00))
        data += 8
        size -= 8
    while size:
        register = (register << 8) ^ table[0][(register >> 56) ^ data[0]]
        data += 1
        size -= 1
    return register


cdef inline uint64_t extend_reflected(
    slicing_table table, fs_crc_constants* constants, uint64_t register, const uint8_t* data, size_t size
) noexcept nogil:
    if size >= FOLD_FROM and fold_reflected is not NULL:
        return fold_reflected(constants, register, data, size)
    return update_reflected(table, register, data, size)


cdef uint64_t extend_xmodem(uint64_t value, const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t register = value << 48
    if size >= FOLD_FROM and fold_forward is not NULL:
        return fold_forward(&XMODEM_FOLD, register, data, size) >> 48
    return update_forward(XMODEM, register, data, size) >> 48


cdef uint64_t extend_iso_hdlc(uint64_t value, const uint8_t* data, size_t size) noexcept nogil:
    return extend_reflected(ISO_HDLC, &ISO_HDLC_FOLD, value ^ 0xFFFFFFFFULL, data, size) ^ 0xFFFFFFFFULL


cdef uint64_t extend_iscsi(uint64_t value, const uint8_t* data, size_t size) noexcept nogil:
    if use_crc32_instruction and (size < FOLD_ISCSI_FROM or fold_reflected is NULL):
        return fs_crc32c_sse42(value ^ 0xFFFFFFFFULL, data, size) ^ 0xFFFFFFFFULL
    return extend_reflected(ISCSI, &ISCSI_FOLD, value ^ 0xFFFFFFFFULL, data, size) ^ 0xFFFFFFFFULL


cdef uint64_t extend_xz(uint64_t value, const uint8_t* data, size_t size) noexcept nogil:
    return extend_reflected(XZ, &XZ_FOLD, value ^ 0xFFFFFFFFFFFFFFFFULL, data, size) ^ 0xFFFFFFFFFFFFFFFFULL


cdef uint64_t crc16_xmodem(const uint8_t* data, size_t size) noexcept nogil:
    return extend_xmodem(0, data, size)


cdef uint64_t crc32_iso_hdlc(const uint8_t* data, size_t size) noexcept nogil:
    return extend_iso_hdlc(0, data, size)


cdef uint64_t crc32c_iscsi(const uint8_t* data, size_t size) noexcept nogil:
    return extend_iscsi(0, data, size)


cdef uint64_t crc64_xz(const uint8_t* data, size_t size) noexcept nogil:
    return extend_xz(0, data, size)


cdef inline uint64_t extend_by_view(
    extension_kernel kernel, uint64_t value, const unsigned char[::1] data
) noexcept nogil:
    # `&data[0]` is valid only if there is a byte.
    if not data.shape[0]:
        return value
    return kernel(value, &data[0], <size_t>data.shape[0])


cdef uint64_t crc16_of(const unsigned char[::1] data, uint64_t value=0) noexcept nogil:
    return extend_by_view(extend_xmodem, value, data)


cdef uint64_t crc32_of(const unsigned char[::1] data, uint64_t value=0) noexcept nogil:
    return extend_by_view(extend_iso_hdlc, value, data)


cdef uint64_t crc32c_of(const unsigned char[::1] data, uint64_t value=0) noexcept nogil:
    return extend_by_view(extend_iscsi, value, data)


cdef uint64_t crc64_of(const unsigned char[::1] data, uint64_t value=0) noexcept nogil:
    return extend_by_view(extend_xz, value, data)


cdef uint64_t checked_crc(object value, Py_ssize_t size) except? 0xFFFFFFFFFFFFFFFFULL:
    """`value`, which must be an int from 0 to the largest CRC of `size` bytes."""
    value = exact_int("value", value)
    if not 0 <= value <= low_bytes(~<uint64_t>0, size):
        raise ValueError(f"value must be a checksum of {size} bytes, got {value}")
    return value


# A typed `uint64_t value` would accept 1.5 as 1: Cython converts with `__int__`. `checked_crc` accepts ints only.
def crc16(const unsigned char[::1] data not None, value=0):
    """The CRC-16/XMODEM of `data`, or of a message that begins with bytes whose CRC is `value` and ends with `data`.

    The GIL is released for 256 KiB or more.

    Parameters
    ----------
    data : bytes-like
        Contiguous, one-dimensional memory of unsigned bytes. It may be read-only, and it may be empty.
    value : int, optional
        The CRC of the bytes before `data`.

    Raises
    ------
    TypeError
        `data` is None or not bytes-like, or `value` is not an int.
    ValueError, BufferError
        `data` is strided, has several dimensions or items of another type, or `value` is outside the range of the CRC.

    Examples
    --------
    >>> crc16(b"123456789")
    12739
    >>> crc16(b"56789", crc16(b"1234"))
    12739
    """
    cdef uint64_t result = checked_crc(value, 2)
    if data.shape[0] < RELEASE_FROM:
        return crc16_of(data, result)
    with nogil:
        result = crc16_of(data, result)
    return result


def crc32(const unsigned char[::1] data not None, value=0):
    """The CRC-32/ISO-HDLC of `data`, or of a message that begins with bytes whose CRC is `value`; see `crc16`."""
    cdef uint64_t result = checked_crc(value, 4)
    if data.shape[0] < RELEASE_FROM:
        return crc32_of(data, result)
    with nogil:
        result = crc32_of(data, result)
    return result


def crc32c(const unsigned char[::1] data not None, value=0):
    """The CRC-32C of `data`, or of a message that begins with bytes whose CRC is `value`; see `crc16`."""
    cdef uint64_t result = checked_crc(value, 4)
    if data.shape[0] < RELEASE_FROM:
        return crc32c_of(data, result)
    with nogil:
        result = crc32c_of(data, result)
    return result


def crc64(const unsigned char[::1] data not None, value=0):
    """The CRC-64/XZ of `data`, or of a message that begins with bytes whose CRC is `value`; see `crc16`."""
    cdef uint64_t result = checked_crc(value, 8)
    if data.shape[0] < RELEASE_FROM:
        return crc64_of(data, result)
    with nogil:
        result = crc64_of(data, result)
    return result


fill_forward(XMODEM, <uint64_t>0x1021 << 48)
fill_reflected(ISO_HDLC, 0xEDB88320ULL)
fill_reflected(ISCSI, 0x82F63B78ULL)
fill_reflected(XZ, 0xC96C5795D7870F42ULL)
fs_crc_prepare(&XMODEM_FOLD, <uint64_t>0x1021 << 48, False)
fs_crc_prepare(&ISO_HDLC_FOLD, <uint64_t>0x04C11DB7 << 32, True)
fs_crc_prepare(&ISCSI_FOLD, <uint64_t>0x1EDC6F41 << 32, True)
fs_crc_prepare(&XZ_FOLD, 0x42F0E1EBA9EA3693ULL, True)

# The code path that is used.
PATH = "portable"


def available_paths():
    """The code paths that this processor supports, the fastest first."""
    paths = ["portable"]
    if fs_has_crc32():
        paths.insert(0, "sse42")
    if fs_has_pclmul():
        paths.insert(0, "pclmul")
    if fs_has_vpclmul():
        paths.insert(0, "vpclmul")
    return paths


def _choose(str wanted):
    global PATH, fold_reflected, fold_forward, use_crc32_instruction
    paths = available_paths()
    if wanted and wanted not in paths:
        raise ImportError(f"FLATSTREAM_CRC requests {wanted!r}; this processor supports {', '.join(paths)}")
    PATH = wanted or paths[0]
    use_crc32_instruction = PATH != "portable" and fs_has_crc32()
    if PATH == "vpclmul":
        fold_reflected = fs_reflected_vpclmul
        fold_forward = fs_forward_vpclmul
    elif PATH == "pclmul":
        fold_reflected = fs_reflected_pclmul
        fold_forward = fs_forward_pclmul


_choose(os.environ.get("FLATSTREAM_CRC", ""))

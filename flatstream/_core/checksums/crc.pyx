# cython: boundscheck=False, wraparound=False
"""Cyclic redundancy checks, by whatever the processor does fastest.

Four ways, chosen once, when the module is imported: `vpclmul` and `pclmul` multiply without carries (see crc_fold.h)
and have the CRC32 instruction for short messages with CRC-32C; `sse42` has that instruction alone; `portable` looks
sixteen bytes up at a time. The environment variable FLATSTREAM_CRC asks for one of them; if it cannot be had, the
import fails.

The parameters are those of the RevEng catalogue, under its names:

    ==================  =====  ==================  =========  ==================  ==================
    name                width  polynomial          reflected  initial, final xor  of b"123456789"
    ==================  =====  ==================  =========  ==================  ==================
    CRC-16/XMODEM          16  1021                no         0                   31C3
    CRC-32/ISO-HDLC        32  04C11DB7            yes        FFFFFFFF            CBF43926
    CRC-32C (iSCSI)        32  1EDC6F41            yes        FFFFFFFF            E3069283
    CRC-64/XZ              64  42F0E1EBA9EA3693    yes        FFFFFFFFFFFFFFFF    995DC9BBDF1939FA
    ==================  =====  ==================  =========  ==================  ==================

A reflected register is kept in the low bits of 64 and shifts right; CRC-16/XMODEM is kept in the high bits and shifts
left. In both, table[k][b] is what byte b does to the register when k more bytes follow it, so that sixteen look-ups
that do not wait for one another replace sixteen that do ("slicing by 16").
"""

import os

from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.base.endian cimport load_u64


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

# Folding needs a block of 16 bytes, and from there on is no slower than the table: some 5 ns up to 100 bytes. The CRC32
# instruction takes 3 to 4 ns for up to 31 (ShortPayloads of asv_benchmarks/checksums.py).
cdef enum:
    FOLD_FROM = 16
    FOLD_ISCSI_FROM = 32

ctypedef uint64_t slices[16][256]

# Filled once, below, when the module is imported; only read afterwards.
cdef slices XMODEM
cdef slices ISO_HDLC
cdef slices ISCSI
cdef slices XZ
cdef fs_crc_constants XMODEM_FOLD
cdef fs_crc_constants ISO_HDLC_FOLD
cdef fs_crc_constants ISCSI_FOLD
cdef fs_crc_constants XZ_FOLD

# NULL on the portable path.
cdef fold_kernel fold_reflected = NULL
cdef fold_kernel fold_forward = NULL
# Whether the CRC32 instruction is used.
cdef bint instruction = False


cdef void fill_reflected(slices table, uint64_t reversed_polynomial) noexcept nogil:
    cdef uint64_t register
    cdef int byte, step, _
    for byte in range(256):
        register = <uint64_t>byte
        for _ in range(8):
            register = (register >> 1) ^ (reversed_polynomial if register & 1 else 0)
        table[0][byte] = register
    for step in range(1, 16):
        for byte in range(256):
            register = table[step - 1][byte]
            table[step][byte] = (register >> 8) ^ table[0][register & 0xFF]


cdef void fill_forward(slices table, uint64_t polynomial_at_top) noexcept nogil:
    cdef uint64_t register
    cdef int byte, step, _
    for byte in range(256):
        register = <uint64_t>byte << 56
        for _ in range(8):
            register = (register << 1) ^ (polynomial_at_top if register >> 63 else 0)
        table[0][byte] = register
    for step in range(1, 16):
        for byte in range(256):
            register = table[step - 1][byte]
            table[step][byte] = (register << 8) ^ table[0][register >> 56]


cdef inline uint64_t look_up_six(slices table, int first, uint64_t word) noexcept nogil:
    """`look_up` without the first two bytes of `word`."""
    return (
        (table[first + 5][(word >> 16) & 0xFF] ^ table[first + 4][(word >> 24) & 0xFF])
        ^ (table[first + 3][(word >> 32) & 0xFF] ^ table[first + 2][(word >> 40) & 0xFF])
        ^ (table[first + 1][(word >> 48) & 0xFF] ^ table[first][word >> 56])
    )


cdef inline uint64_t look_up(slices table, int first, uint64_t word) noexcept nogil:
    """What the eight bytes of `word` do to a register, when `first` to `first` + 7 bytes follow them."""
    return (table[first + 7][word & 0xFF] ^ table[first + 6][(word >> 8) & 0xFF]) ^ look_up_six(table, first, word)


cdef uint64_t update_reflected(slices table, uint64_t register, const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t rest
    while size >= 16:
        # The second eight bytes wait for nothing, so they are looked up first.
        rest = look_up(table, 0, load_u64(data + 8))
        register = rest ^ look_up(table, 8, register ^ load_u64(data))
        data += 16
        size -= 16
    if size >= 8:
        register = look_up(table, 0, register ^ load_u64(data))
        data += 8
        size -= 8
    while size:
        register = (register >> 8) ^ table[0][(register ^ data[0]) & 0xFF]
        data += 1
        size -= 1
    return register


cdef uint64_t update_forward(slices table, uint64_t register, const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t word, rest
    # The register's two bytes, which stand at its top, meet the first two of the data. The others do not wait for it.
    while size >= 16:
        word = load_u64(data)
        rest = look_up(table, 0, load_u64(data + 8)) ^ look_up_six(table, 8, word)
        register = rest ^ (
            table[15][(word ^ (register >> 56)) & 0xFF] ^ table[14][((word >> 8) ^ (register >> 48)) & 0xFF]
        )
        data += 16
        size -= 16
    if size >= 8:
        register = look_up(table, 0, load_u64(data) ^ (register >> 56) ^ ((register >> 40) & 0xFF00))
        data += 8
        size -= 8
    while size:
        register = (register << 8) ^ table[0][(register >> 56) ^ data[0]]
        data += 1
        size -= 1
    return register


cdef inline uint64_t reflected(
    slices table, fs_crc_constants* constants, uint64_t register, const uint8_t* data, size_t size
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
    return reflected(ISO_HDLC, &ISO_HDLC_FOLD, value ^ 0xFFFFFFFFULL, data, size) ^ 0xFFFFFFFFULL


cdef uint64_t extend_iscsi(uint64_t value, const uint8_t* data, size_t size) noexcept nogil:
    if instruction and (size < FOLD_ISCSI_FROM or fold_reflected is NULL):
        return fs_crc32c_sse42(value ^ 0xFFFFFFFFULL, data, size) ^ 0xFFFFFFFFULL
    return reflected(ISCSI, &ISCSI_FOLD, value ^ 0xFFFFFFFFULL, data, size) ^ 0xFFFFFFFFULL


cdef uint64_t extend_xz(uint64_t value, const uint8_t* data, size_t size) noexcept nogil:
    return reflected(XZ, &XZ_FOLD, value ^ 0xFFFFFFFFFFFFFFFFULL, data, size) ^ 0xFFFFFFFFFFFFFFFFULL


cdef uint64_t crc16_xmodem(const uint8_t* data, size_t size) noexcept nogil:
    return extend_xmodem(0, data, size)


cdef uint64_t crc32_iso_hdlc(const uint8_t* data, size_t size) noexcept nogil:
    return extend_iso_hdlc(0, data, size)


cdef uint64_t crc32c_iscsi(const uint8_t* data, size_t size) noexcept nogil:
    return extend_iscsi(0, data, size)


cdef uint64_t crc64_xz(const uint8_t* data, size_t size) noexcept nogil:
    return extend_xz(0, data, size)


fill_forward(XMODEM, <uint64_t>0x1021 << 48)
fill_reflected(ISO_HDLC, 0xEDB88320ULL)
fill_reflected(ISCSI, 0x82F63B78ULL)
fill_reflected(XZ, 0xC96C5795D7870F42ULL)
fs_crc_prepare(&XMODEM_FOLD, <uint64_t>0x1021 << 48, False)
fs_crc_prepare(&ISO_HDLC_FOLD, <uint64_t>0x04C11DB7 << 32, True)
fs_crc_prepare(&ISCSI_FOLD, <uint64_t>0x1EDC6F41 << 32, True)
fs_crc_prepare(&XZ_FOLD, 0x42F0E1EBA9EA3693ULL, True)

# Which of the ways is used.
PATH = "portable"


def available_paths():
    """The ways that this processor can go, the fastest first."""
    paths = ["portable"]
    if fs_has_crc32():
        paths.insert(0, "sse42")
    if fs_has_pclmul():
        paths.insert(0, "pclmul")
    if fs_has_vpclmul():
        paths.insert(0, "vpclmul")
    return paths


def _choose(str wanted):
    global PATH, fold_reflected, fold_forward, instruction
    paths = available_paths()
    if wanted and wanted not in paths:
        raise ImportError(f"FLATSTREAM_CRC asks for {wanted!r}; this processor has {', '.join(paths)}")
    PATH = wanted or paths[0]
    instruction = PATH != "portable" and fs_has_crc32()
    if PATH == "vpclmul":
        fold_reflected = fs_reflected_vpclmul
        fold_forward = fs_forward_vpclmul
    elif PATH == "pclmul":
        fold_reflected = fs_reflected_pclmul
        fold_forward = fs_forward_pclmul


_choose(os.environ.get("FLATSTREAM_CRC", ""))

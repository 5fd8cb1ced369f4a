# cython: boundscheck=False, wraparound=False
"""Cyclic redundancy checks, eight bytes a step.

The parameters are those of the RevEng catalogue, under its names:

    ==================  =====  ==================  =========  ==================  ==================
    name                width  polynomial          reflected  initial, final xor  of b"123456789"
    ==================  =====  ==================  =========  ==================  ==================
    CRC-16/XMODEM          16  1021                no         0                   31C3
    CRC-32/ISO-HDLC        32  04C11DB7            yes        FFFFFFFF            CBF43926
    CRC-32C (iSCSI)        32  1EDC6F41            yes        FFFFFFFF            E3069283
    CRC-64/XZ              64  42F0E1EBA9EA3693    yes        FFFFFFFFFFFFFFFF    995DC9BBDF1939FA
    ==================  =====  ==================  =========  ==================  ==================

A reflected register is kept in the low bits of 64 and shifts right; CRC-16/XMODEM is kept in the high bits and shifts left.
In both, table[k][b] is what byte b does to the register when k more bytes follow it, so that eight look-ups that do not
wait for one another replace eight that do ("slicing by 8").
"""

from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.wire cimport load_u64

ctypedef uint64_t slices[8][256]

# Filled once, below, when the module is imported; only read afterwards.
cdef slices XMODEM
cdef slices ISO_HDLC
cdef slices ISCSI
cdef slices XZ


cdef void fill_reflected(slices table, uint64_t reversed_polynomial) noexcept nogil:
    cdef uint64_t register
    cdef int byte, step
    for byte in range(256):
        register = <uint64_t>byte
        for step in range(8):
            register = (register >> 1) ^ (reversed_polynomial if register & 1 else 0)
        table[0][byte] = register
    for step in range(1, 8):
        for byte in range(256):
            register = table[step - 1][byte]
            table[step][byte] = (register >> 8) ^ table[0][register & 0xFF]


cdef void fill_forward(slices table, uint64_t polynomial_at_top) noexcept nogil:
    cdef uint64_t register
    cdef int byte, step
    for byte in range(256):
        register = <uint64_t>byte << 56
        for step in range(8):
            register = (register << 1) ^ (polynomial_at_top if register >> 63 else 0)
        table[0][byte] = register
    for step in range(1, 8):
        for byte in range(256):
            register = table[step - 1][byte]
            table[step][byte] = (register << 8) ^ table[0][register >> 56]


cdef uint64_t update_reflected(slices table, uint64_t register, const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t word
    while size >= 8:
        word = register ^ load_u64(data)
        register = (
            table[7][word & 0xFF]
            ^ table[6][(word >> 8) & 0xFF]
            ^ table[5][(word >> 16) & 0xFF]
            ^ table[4][(word >> 24) & 0xFF]
            ^ table[3][(word >> 32) & 0xFF]
            ^ table[2][(word >> 40) & 0xFF]
            ^ table[1][(word >> 48) & 0xFF]
            ^ table[0][word >> 56]
        )
        data += 8
        size -= 8
    while size:
        register = (register >> 8) ^ table[0][(register ^ data[0]) & 0xFF]
        data += 1
        size -= 1
    return register


cdef uint64_t update_forward(slices table, uint64_t register, const uint8_t* data, size_t size) noexcept nogil:
    # The register's first byte meets the data's first byte, so the word is taken as little-endian and only the
    # register is turned round: its two bytes stand at its top.
    cdef uint64_t word
    while size >= 8:
        word = load_u64(data) ^ (register >> 56) ^ (((register >> 48) & 0xFF) << 8)
        register = (
            table[7][word & 0xFF]
            ^ table[6][(word >> 8) & 0xFF]
            ^ table[5][(word >> 16) & 0xFF]
            ^ table[4][(word >> 24) & 0xFF]
            ^ table[3][(word >> 32) & 0xFF]
            ^ table[2][(word >> 40) & 0xFF]
            ^ table[1][(word >> 48) & 0xFF]
            ^ table[0][word >> 56]
        )
        data += 8
        size -= 8
    while size:
        register = (register << 8) ^ table[0][(register >> 56) ^ data[0]]
        data += 1
        size -= 1
    return register


cdef uint64_t crc16_xmodem(const uint8_t* data, size_t size) noexcept nogil:
    return update_forward(XMODEM, 0, data, size) >> 48


cdef uint64_t crc32_iso_hdlc(const uint8_t* data, size_t size) noexcept nogil:
    return update_reflected(ISO_HDLC, 0xFFFFFFFFULL, data, size) ^ 0xFFFFFFFFULL


cdef uint64_t crc32c_iscsi(const uint8_t* data, size_t size) noexcept nogil:
    return update_reflected(ISCSI, 0xFFFFFFFFULL, data, size) ^ 0xFFFFFFFFULL


cdef uint64_t crc64_xz(const uint8_t* data, size_t size) noexcept nogil:
    return update_reflected(XZ, 0xFFFFFFFFFFFFFFFFULL, data, size) ^ 0xFFFFFFFFFFFFFFFFULL


fill_forward(XMODEM, <uint64_t>0x1021 << 48)
fill_reflected(ISO_HDLC, 0xEDB88320ULL)
fill_reflected(ISCSI, 0x82F63B78ULL)
fill_reflected(XZ, 0xC96C5795D7870F42ULL)

from libc.stdint cimport uint8_t, uint64_t

# Every checksum kernel has this shape, XXH3's included, so that one pointer to it is all that framing has to know.
ctypedef uint64_t (*checksum_kernel)(const uint8_t* data, size_t size) noexcept nogil
# The CRC of a message whose beginning has the CRC `value`, and whose rest these bytes are.
ctypedef uint64_t (*extension_kernel)(uint64_t value, const uint8_t* data, size_t size) noexcept nogil

cdef uint64_t crc16_xmodem(const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t crc32_iso_hdlc(const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t crc32c_iscsi(const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t crc64_xz(const uint8_t* data, size_t size) noexcept nogil

cdef uint64_t extend_xmodem(uint64_t value, const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t extend_iso_hdlc(uint64_t value, const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t extend_iscsi(uint64_t value, const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t extend_xz(uint64_t value, const uint8_t* data, size_t size) noexcept nogil

from libc.stdint cimport uint8_t, uint64_t

cdef uint64_t crc16_xmodem(const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t crc32_iso_hdlc(const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t crc32c_iscsi(const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t crc64_xz(const uint8_t* data, size_t size) noexcept nogil

cdef uint64_t extend_xmodem(uint64_t value, const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t extend_iso_hdlc(uint64_t value, const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t extend_iscsi(uint64_t value, const uint8_t* data, size_t size) noexcept nogil
cdef uint64_t extend_xz(uint64_t value, const uint8_t* data, size_t size) noexcept nogil

# The CRC of all of `data`, or of a message that begins with bytes whose CRC is `value` and goes on with `data`. Never
# called with None: Cython allows `not None` in `def` functions only.
cdef uint64_t crc16_of(const unsigned char[::1] data, uint64_t value=*) noexcept nogil
cdef uint64_t crc32_of(const unsigned char[::1] data, uint64_t value=*) noexcept nogil
cdef uint64_t crc32c_of(const unsigned char[::1] data, uint64_t value=*) noexcept nogil
cdef uint64_t crc64_of(const unsigned char[::1] data, uint64_t value=*) noexcept nogil

# `value` as a C integer. Raises TypeError if it is not an int, ValueError if no CRC of `size` bytes has this value.
cdef uint64_t checked_crc(object value, Py_ssize_t size) except? 0xFFFFFFFFFFFFFFFFULL

from libc.stdint cimport uint8_t, uint32_t, uint64_t

# Little-endian loads and stores. They use shifts, so they need no alignment and work with any byte order of the
# machine. On a little-endian machine, compilers turn each into one load or store.

cdef inline uint32_t load_u16(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0]) | (<uint32_t>p[1] << 8)


cdef inline uint32_t load_u32(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0]) | (<uint32_t>p[1] << 8) | (<uint32_t>p[2] << 16) | (<uint32_t>p[3] << 24)


cdef inline uint64_t load_u64(const uint8_t* p) noexcept nogil:
    return (<uint64_t>load_u32(p)) | (<uint64_t>load_u32(p + 4) << 32)


cdef inline uint64_t load_le(const uint8_t* p, Py_ssize_t size) noexcept nogil:
    """The little-endian number of `size` bytes (0 to 8) at `p`."""
    cdef uint64_t value = 0
    cdef Py_ssize_t i
    if size == 4:
        return load_u32(p)
    if size == 8:
        return load_u64(p)
    for i in range(size):
        value |= <uint64_t>p[i] << (8 * i)
    return value


cdef inline void store_u32(uint8_t* p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>value
    p[1] = <uint8_t>(value >> 8)
    p[2] = <uint8_t>(value >> 16)
    p[3] = <uint8_t>(value >> 24)


cdef inline void store_le(uint8_t* p, uint64_t value, Py_ssize_t size) noexcept nogil:
    """Stores the low `size` bytes (0 to 8) of `value` at `p`."""
    cdef Py_ssize_t i
    if size == 4:
        store_u32(p, <uint32_t>value)
        return
    if size == 8:
        store_u32(p, <uint32_t>value)
        store_u32(p + 4, <uint32_t>(value >> 32))
        return
    for i in range(size):
        p[i] = <uint8_t>(value >> (8 * i))


cdef inline uint64_t low_bytes(uint64_t value, Py_ssize_t size) noexcept nogil:
    """The low `size` bytes (0 to 8) of `value`."""
    if size >= 8:
        return value
    return value & ((<uint64_t>1 << (8 * size)) - 1)

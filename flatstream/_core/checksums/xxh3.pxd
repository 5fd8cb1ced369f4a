from flatstream._core.checksums.crc cimport checksum_kernel

# XXH3-64 with seed 0, or NULL where the xxhash module hides its C functions.
cdef checksum_kernel xxh3_64_kernel() noexcept

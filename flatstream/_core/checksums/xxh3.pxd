from libc.stdint cimport uint64_t

from flatstream._core.checksums.kernel cimport checksum_kernel

# XXH3-64 with seed 0, or NULL if the xxhash module does not export its C functions.
cdef checksum_kernel xxh3_64_kernel() noexcept
# The XXH3-64 of `data`, which is never None. Called only if there is a kernel.
cdef uint64_t xxh3_64_of(const unsigned char[::1] data) noexcept nogil

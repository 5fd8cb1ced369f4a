from libc.stdint cimport uint8_t, uint64_t

# Apart from crc.pxd, because a module that sees a typed memoryview in a .pxd depends on Cython's memoryview code.

# From this size on, a checksum is calculated with the GIL released. Handing over the GIL takes tens of microseconds
# when another thread waits for it; below this size, two threads gained nothing (TwoThreads of
# asv_benchmarks/threads.py).
cdef enum:
    RELEASE_FROM = 1 << 18

# The signature of every checksum kernel, XXH3's included: one such pointer is all that framing needs of a checksum.
ctypedef uint64_t (*checksum_kernel)(const uint8_t* data, size_t size) noexcept nogil
# Given `value`, the CRC of the beginning of a message, and the rest of the message: the CRC of the whole message.
ctypedef uint64_t (*extension_kernel)(uint64_t value, const uint8_t* data, size_t size) noexcept nogil

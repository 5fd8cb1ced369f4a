from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.checksums.crc cimport checksum_kernel

# The largest checksum, in bytes: what a frame's header has room for.
cdef enum:
    MAX_CHECKSUM_SIZE = 8

# From this many bytes on, a checksum is calculated with the interpreter's lock released. Handing the lock over takes
# tens of microseconds when another thread waits for it; below this, two threads gained nothing (TwoThreads of
# asv_benchmarks/threads.py).
cdef enum:
    RELEASE_FROM = 1 << 18

cdef uint64_t run_kernel(checksum_kernel kernel, const uint8_t* data, Py_ssize_t length) noexcept


cdef class Checksum:
    # Set where the value can be had without Python: for the built-in ones that no subclass has overridden.
    cdef checksum_kernel kernel
    # Size 0 and no override: there is nothing to calculate and nothing to compare.
    cdef bint absent
    cdef bint overrides_verify
    cdef Py_ssize_t checked_size(self) except -1
    cdef int compute(
        self, object owner_view, const uint8_t* data, Py_ssize_t length, Py_ssize_t size, uint64_t* value
    ) except -1
    cdef int compare(
        self, uint64_t expected, object owner_view, const uint8_t* data, Py_ssize_t length, Py_ssize_t size
    ) except -1


cdef class NoChecksum(Checksum):
    pass

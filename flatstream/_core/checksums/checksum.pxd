from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.checksums.kernel cimport RELEASE_FROM, checksum_kernel

# The largest size of a checksum, in bytes: the wire format allows no more.
cdef enum:
    MAX_CHECKSUM_SIZE = 8

cdef uint64_t run_kernel(checksum_kernel kernel, const uint8_t* data, Py_ssize_t length) noexcept


cdef class Checksum:
    # Set for a built-in checksum whose `calculate` and `size` are not overridden; if NULL, `calculate` is called.
    cdef checksum_kernel kernel
    # Size 0 and nothing overridden: nothing is calculated or compared.
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

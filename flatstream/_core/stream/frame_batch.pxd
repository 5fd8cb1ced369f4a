from flatstream._core.base.buffers cimport IndexArray


cdef class FrameBatch:
    cdef readonly object buffer
    cdef readonly object offsets
    cdef readonly object lengths
    cdef readonly object stream_offset
    # What was lost before it; None for nothing.
    cdef list losses
    cdef readonly unsigned long long skipped
    cdef IndexArray starts
    cdef IndexArray sizes
    cdef object view(self, Py_ssize_t i)
    cdef int tell_losses(self, unsigned long long skipped, list ranges) except -1
    cdef int reserve(self, Py_ssize_t capacity) except -1

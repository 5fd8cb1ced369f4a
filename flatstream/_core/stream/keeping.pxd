from flatstream._core.stream.encoder cimport Encoder


cdef class KeepingEncoder(Encoder):
    # Views of the bytes before those in the buffer, each of them immutable, oldest first, from `next_piece` on; how
    # many bytes of the first were taken already; how many bytes are left in all of them.
    cdef list pieces
    cdef Py_ssize_t next_piece
    cdef Py_ssize_t taken_of_first
    cdef Py_ssize_t kept
    # The most bytes that are pending, but for a single frame. The pieces and the capacity of the chunk are never more.
    cdef Py_ssize_t most
    cdef Py_ssize_t usual_capacity

    cdef int keep(self, object view, Py_ssize_t size) except -1
    cdef int check_held(self) except -1
    cdef int fail_full(self, Py_ssize_t size) except -1
    cdef int fit_capacity(self) noexcept
    cdef Py_ssize_t count_pending(self) noexcept
    cdef int drop(self, Py_ssize_t size) except -1

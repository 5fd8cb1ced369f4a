cdef class Exclusive:
    cdef bint busy
    cdef unsigned long owner
    cdef Py_ssize_t waiters
    cdef object condition
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef int wait(self) except -1

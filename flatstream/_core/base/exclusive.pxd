cdef class Exclusive:
    cdef bint busy
    cdef unsigned long owner
    cdef int enter(self) except -1
    cdef int leave(self) except -1

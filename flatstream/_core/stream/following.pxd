from flatstream._core.stream.resync cimport ResyncBuffer


cdef class FollowingBuffer(ResyncBuffer):
    # The bytes up to this stream offset do not belong to zeros that run to the end of the file.
    cdef unsigned long long zeros_end_before

    cdef int look(self) except -1
    cdef bint ends_in_zeros(self) except -1
    cdef int check_stalled(self) except -1
    cdef long long find_behind_stalled(self) except -2
    cdef bint leads_to_end(self, object data, Py_ssize_t* begin) except -1

# What a reader does at damage; see `StreamReader`.
cdef enum OnError:
    ON_ERROR_RAISE
    ON_ERROR_SKIP
    ON_ERROR_STOP
    ON_ERROR_RESYNC


cdef int on_error_of(object value, int default) except -1


cdef class Losses:
    """What reading left out of a stream."""
    # How many frames are known to be left out, and the size of the ranges in bytes.
    cdef readonly unsigned long long skipped
    cdef readonly unsigned long long lost_bytes
    # Pairs of stream offsets, ascending. Neighbours that touch are one.
    cdef list ranges
    cdef int add(self, unsigned long long start, unsigned long long end) except -1
    cdef unsigned long long end(self) except? 0
    cdef list since(self, unsigned long long offset)

from libc.stdint cimport uint8_t

from flatstream._core.framing.deframer cimport Deframer, Span
from flatstream._core.stream.following cimport FollowingBuffer


cdef class HeadBuffer(FollowingBuffer):
    cdef Deframer _deframer
    # Whether frames are found without calling the deframer, which is then a chain of bounds around a built-in deframer.
    # False until the head was read.
    cdef bint has_fast_path
    # The frame last found.
    cdef Span span
    # The error that the next read raises, or None.
    cdef object deferred
    # The description with which the stream or the part begins, and the size of its frame; None and 0 if there is none.
    cdef object parse_description
    # Returns another deframer for what is behind a description, or None; None if that is never so.
    cdef object deframer_for
    cdef object description
    cdef Py_ssize_t description_size
    # What errors say if the first frame is a description with another checksum; None if it is not.
    cdef object first_note
    # How many bytes of the first frame had arrived when more were needed to know that it is none. The deframer is shown
    # no more of them at first, so that it refuses a length when it would have done without the description.
    cdef Py_ssize_t first_seen
    # Whether the last frame refused was one.
    cdef bint was_description

    cdef int begin_head(self) except -1
    cdef int restore_fast_path(self) except -1
    cdef int find_description(self, Py_ssize_t available, Py_ssize_t* missing) except -1
    cdef int check_description(self) except -1
    cdef int look_for_description(self) except -1
    cdef int note_other_description(self, const uint8_t* frame, Py_ssize_t available, Py_ssize_t header=*) except -1
    cdef int describe_chain(self, object description, object payload) except -1
    cdef int use_deframer(self, object deframer) except -1

    # Refused frames
    cdef int count_refused(self) except -1
    cdef int uncount_refused(self) except -1
    cdef int recount_refused(self) except -1
    cdef int note_first(self, object error) except -1

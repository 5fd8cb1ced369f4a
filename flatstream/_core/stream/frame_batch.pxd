from flatstream._core.base.buffers cimport IndexArray
from flatstream._core.framing.deframer cimport Deframer


cdef class FrameBatch:
    cdef readonly object buffer
    cdef readonly object offsets
    cdef readonly object lengths
    cdef readonly unsigned long long stream_offset
    # The deframer that found the frames.
    cdef Deframer deframer
    # What was lost before it; None for nothing.
    cdef list losses
    cdef readonly unsigned long long skipped
    # Whether the bytes lie in the memory of a caller, who may change them.
    cdef bint may_change
    cdef IndexArray starts
    cdef IndexArray sizes
    # Where the frames begin in the stream; None while it follows from `starts`, because all headers have the same size.
    cdef IndexArray places
    # Where the last frame ends, and where the reader then was: behind a frame that is no message.
    cdef unsigned long long frames_end
    cdef unsigned long long position_behind
    # If payloads were restored: `buffer` has them, one after another, and `stored` the bytes of the frames, with that
    # of a frame behind them that is no message. `states` are the states before each frame, None without states.
    cdef bint is_restored
    cdef readonly object _stored
    cdef list states
    cdef object view(self, Py_ssize_t i)
    cdef unsigned long long begin_of(self, Py_ssize_t i) noexcept
    cdef unsigned long long end_of(self, Py_ssize_t i) noexcept
    cdef int tell_losses(self, unsigned long long skipped, list ranges) except -1
    cdef int reserve(self, Py_ssize_t capacity) except -1

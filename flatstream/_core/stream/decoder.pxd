cimport cython
from libc.stdint cimport uint8_t

from flatstream._core.framing.deframer cimport Deframer, Span
from flatstream._core.framing.wire cimport HeaderFormat
from flatstream._core.stream.frame_batch cimport FrameBatch
from flatstream._core.stream.input_buffer cimport InputBuffer


cdef class Decoder(InputBuffer):
    cdef Deframer _deframer
    # If `has_fast_path` is set, `format` is all that is needed to find frames: the deframer, a chain of bounds around a
    # built-in deframer, is not called. Payloads longer than `fast_limit` need the decoder to be held, because their
    # checksum releases the interpreter's lock.
    cdef bint has_fast_path
    cdef HeaderFormat format
    cdef Py_ssize_t fast_limit
    # The frame last found, and its stream offset.
    cdef Span span
    cdef Py_ssize_t frame_start
    cdef unsigned long long last_offset
    # How many frames were refused before it.
    cdef unsigned long long refused_before
    # The numbers of frames delivered and refused, and the size of those delivered in bytes.
    cdef unsigned long long delivered
    cdef unsigned long long refused
    cdef unsigned long long delivered_bytes
    # The error that the next read raises, or None. That read then moves past the frame of `deferred_size` bytes.
    cdef object deferred
    cdef Py_ssize_t deferred_size
    # Returns the stream offset at which the source ends; None if that is not known.
    cdef object source_size

    cdef int cache_fast_path(self) except -1
    cdef int check_open(self) except -1

    @cython.final
    cdef object next_payload(self)

    @cython.final
    cdef object view_of(self, const uint8_t* data, Py_ssize_t size)

    cdef int next_frame(self) except -1
    cdef int check_frame(self) except -1
    cdef int check_source_size(self) except -1
    cdef int note_first(self, object error) except -1
    cdef int gather(self, FrameBatch batch, Py_ssize_t frames_left, Py_ssize_t bytes_left) except -1
    cdef int index_rest(
        self, FrameBatch batch, Py_ssize_t begin, Py_ssize_t* frames_left, Py_ssize_t* bytes_left
    ) except -1
    cdef int next_buffered_frame(self, Py_ssize_t bytes_left) except -1

cimport cython
from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport Chunk, IndexArray
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.framing.deframer cimport Deframer, Span
from flatstream._core.framing.wire cimport HeaderFormat


cdef class FrameBatch:
    cdef readonly object buffer
    cdef readonly object offsets
    cdef readonly object lengths
    cdef readonly object stream_offset
    cdef IndexArray starts
    cdef IndexArray sizes
    cdef object view(self, Py_ssize_t i)


cdef class Decoder(Exclusive):
    cdef Deframer _deframer
    # If `has_fast_path` is set, `format` is all that is needed to find frames: the deframer, a chain of bounds around a
    # built-in deframer, is not called. Of checksums, only payloads of `fast_limit` bytes are compared without holding
    # the decoder, because longer ones release the interpreter's lock.
    cdef bint has_fast_path
    cdef HeaderFormat format
    cdef Py_ssize_t fast_limit
    # Where bytes come from: one of the two functions, or neither when all of them lie in the caller's buffer.
    cdef object readinto
    cdef object read
    cdef bint exact
    # The memory being decoded: bytes [position, end) have arrived and are not read yet. `owner_view` is None while
    # there is no memory.
    cdef object owner_view
    # The last two views handed out. None, too, before there are any.
    cdef object recent
    cdef object older
    cdef const uint8_t* data
    cdef Py_ssize_t position
    cdef Py_ssize_t end
    cdef Chunk chunk
    cdef Chunk spare
    cdef Py_ssize_t capacity
    # How many bytes, from `position`, it takes to go on.
    cdef Py_ssize_t needed
    # The frame last found.
    cdef Span span
    cdef Py_ssize_t frame_start
    # Its stream offset.
    cdef unsigned long long last_offset
    # How many were refused before it.
    cdef unsigned long long refused_before
    # The stream offset of the memory's first byte, and counts of frames delivered and refused, and of the bytes of the
    # former.
    cdef unsigned long long base
    cdef unsigned long long delivered
    cdef unsigned long long refused
    cdef unsigned long long delivered_bytes
    # Raised by every later read; raised by the next, which then moves past the frame that it is about.
    cdef object failure
    cdef object deferred
    cdef Py_ssize_t deferred_size
    cdef bint shut
    cdef object policy
    cdef Py_ssize_t baseline
    cdef bint watched
    cdef bint shrinking

    cdef int cache_fast_path(self) except -1
    cdef int check_open(self) except -1

    @cython.final
    cdef object next_payload(self)

    @cython.final
    cdef object view_of(self, const uint8_t* data, Py_ssize_t size)

    cdef int next_frame(self) except -1
    cdef int ensure_owner_view(self) except -1
    cdef int check_frame(self) except -1
    cdef int locate_error(self, object error) except -1
    cdef int gather(self, FrameBatch batch, Py_ssize_t frames_left, Py_ssize_t bytes_left) except -1
    cdef int index_rest(
        self, FrameBatch batch, Py_ssize_t begin, Py_ssize_t* frames_left, Py_ssize_t* bytes_left
    ) except -1
    cdef int next_buffered_frame(self, Py_ssize_t bytes_left) except -1
    cdef int fill(self) except -1
    cdef int make_room(self) except -1
    cdef Py_ssize_t receive(self, object function, Py_ssize_t size) except -1
    cdef Py_ssize_t held(self) noexcept
    cdef int rewatch(self) noexcept
    cdef int consult(self, Py_ssize_t size) except -1

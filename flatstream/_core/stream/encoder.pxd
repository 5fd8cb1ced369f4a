cimport cython
from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport Chunk
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.framing.framer cimport FrameEnds, Framer, FrameRun
from flatstream._core.framing.wire cimport HeaderFormat


cdef class Encoder(Exclusive):
    cdef Framer _framer
    # What the sink offers; see __init__.
    cdef object sink_write
    cdef object sink_writev
    cdef object sink_fileno
    cdef object sink_rollback
    cdef bint exact
    cdef bint none_blocks
    # The output: bytes [start, used) of the chunk are not with the sink yet.
    cdef Chunk chunk
    cdef object owner_view
    cdef Py_ssize_t capacity
    cdef bint write_through
    cdef Py_ssize_t start
    cdef Py_ssize_t used
    # Where the frames in the chunk end, and where the first of them began: before 0 if part of it went out directly.
    cdef Py_ssize_t* ends
    cdef Py_ssize_t end_count
    cdef Py_ssize_t end_capacity
    cdef Py_ssize_t origin
    cdef unsigned long long frame_count
    cdef unsigned long long byte_count
    # Whether the frame that an error was raised for is accepted all the same: the sink has its beginning.
    cdef bint stands
    # Why nothing more is written: an exception, or None.
    cdef object refusal
    # While `has_fast_path` is set, the encoder is open, and `format` is all that is needed to frame a payload: the
    # framer, a chain of bounds around a built-in framer, is not called.
    cdef bint has_fast_path
    cdef HeaderFormat format
    cdef bint shut
    # Whether a thread has shut it and is still about to let go of the sink.
    cdef public bint _finishing
    cdef unsigned long generation

    cdef int cache_fast_path(self) except -1

    @cython.final
    cdef bint put_directly(self, const uint8_t* data, Py_ssize_t length) noexcept

    @cython.final
    cdef Py_ssize_t put_run(self, object payloads, Py_ssize_t first) except -1

    # Frames made in place: nothing between the two may run Python. See FrameRun.
    @cython.final
    cdef bint begin_run(self, FrameRun* run) noexcept

    @cython.final
    cdef int end_run(self, const FrameRun* run) noexcept

    @cython.final
    cdef bint can_put_directly(self) noexcept

    @cython.final
    cdef int get_ends(self, FrameEnds* ends) noexcept

    @cython.final
    cdef int accept(self, Py_ssize_t end_count, Py_ssize_t used) noexcept

    cdef int check_open(self) except -1

    @cython.final
    cdef int write_one(self, object payload) except -1

    @cython.final
    cdef int put(self, object source, const uint8_t* data, Py_ssize_t length) except -1

    cdef int put_carefully(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int put_located(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int put_builder(self, object builder, bint held) except -1
    cdef int refuse_unfinished(self) except -1
    cdef int locate_error(self, object error) except -1
    cdef int put_held(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int put_exclusively(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int emit(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size
    ) except -1
    cdef int emit_held(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size,
        bint keep
    ) except -1
    cdef int emit_large(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size,
        bint keep
    ) except -1
    cdef int append(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* body, Py_ssize_t body_size
    ) except -1
    cdef int keep_rest(self, bytes header, const uint8_t* body, Py_ssize_t body_size, Py_ssize_t done) except -1
    cdef int drain(self) except -1
    cdef int resumable(self, object error) except -1
    cdef Py_ssize_t offer(self, object function, object argument, Py_ssize_t size) except -1
    cdef int renew(self, Py_ssize_t extra) except -1
    cdef Py_ssize_t frame_begin(self) noexcept
    cdef int fault(self, object error, Py_ssize_t torn, bint buffered) except -1
    cdef int refuse(self, object error, str where) except -1

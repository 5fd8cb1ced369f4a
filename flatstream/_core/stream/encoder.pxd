cimport cython
from libc.stdint cimport uint8_t

from flatstream._core.framing.framer cimport FrameEnds, Framer, FrameRun
from flatstream._core.framing.wire cimport HeaderFormat
from flatstream._core.stream.frame_batch cimport FrameBatch
from flatstream._core.stream.output_buffer cimport OutputBuffer


cdef class Encoder(OutputBuffer):
    # The framer that was given; `_framer` is its copy for this stream.
    cdef object given
    cdef Framer _framer
    # The framers of a chain with transforms that are told when a frame is accepted; None if there are none.
    cdef list accepters
    # While `has_fast_path` is set, the encoder is open, and `format` is all that is needed to frame a payload: the
    # framer, a chain of bounds around a built-in framer, is not called.
    cdef HeaderFormat format
    # Whether the framer may have frames of its own; whether those before the first message are still to be put, with
    # that message; whether a write must look at this or at `is_finished`.
    cdef bint has_own_frames
    cdef bint is_unbegun
    cdef bint has_edge
    # A signal handler raised while the framers were told that the last frame was accepted.
    cdef bint is_untold
    # The number of forks when the encoder was made.
    cdef unsigned long generation

    cdef int cache_fast_path(self) except -1

    @cython.final
    cdef bint put_directly(self, const uint8_t* data, Py_ssize_t length) noexcept

    @cython.final
    cdef Py_ssize_t put_run(self, object payloads, Py_ssize_t first) except -1

    cdef int check_same_frames(self, FrameBatch batch, const HeaderFormat* format) except -1

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

    @cython.final
    cdef int write_one(self, object payload) except -1

    @cython.final
    cdef int put(self, object source, const uint8_t* data, Py_ssize_t length) except -1

    cdef int put_slow(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int put_unlocked(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int put_exclusively(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int put_held(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int use_session(self, object session) except -1
    cdef int begin_held(self, object frames) except -1
    cdef int check_edge(self) except -1
    cdef int put_transformed(self, object source, const uint8_t* data, Py_ssize_t length) except -1
    cdef int tell(self) except -1
    cdef int put_builder(self, object builder, bint held) except -1
    cdef int fail_prefixed(self) except -1
    cdef int fail_unfinished(self) except -1
    cdef int locate_error(self, object error) except -1

cimport cython
from libc.stdint cimport uint8_t

from flatstream._core.framing.deframer cimport Deframer, Span
from flatstream._core.framing.wire cimport HeaderFormat
from flatstream._core.stream.frame_batch cimport FrameBatch
from flatstream._core.stream.head cimport HeadBuffer


cdef class Decoder(HeadBuffer):
    # For the fast path: all that is needed to find frames, and the longest payload that it takes. Longer ones need the
    # decoder to be held, because their checksum releases the interpreter's lock.
    cdef HeaderFormat format
    cdef Py_ssize_t fast_limit
    # Where the frame last found begins, and its stream offset.
    cdef Py_ssize_t frame_start
    cdef unsigned long long last_offset
    # How many frames were refused before it.
    cdef unsigned long long refused_before
    # The next read, which raises the error `deferred`, moves past the frame of so many bytes.
    cdef Py_ssize_t deferred_size
    # The deframer that was given, and the one in use: the same, unless a description asked for another. `_deframer` is
    # its copy for this stream or part.
    cdef object given
    cdef object in_use
    # The deframers that define end(); None if none does. Whether they are being told that the stream ends.
    cdef list enders
    cdef bint is_ending
    # Whether the transforms were told that frames behind damage are given.
    cdef bint tolerant
    # The restored payload of the frame last found, until it is handed out.
    cdef object payload
    # A restored payload that is to be given again, of the frame at `position`; the states of the transforms are those
    # behind that frame, and `held_state` those before it.
    cdef object held
    cdef Span held_span
    cdef object held_state
    # How many frames were taken off that are no messages.
    cdef unsigned long long control_frames
    # Whether batches of restored payloads keep the bytes of their frames.
    cdef bint keeps_stored
    # What to do at damage (an OnError): by default, and in the operation in progress. An operation that does not raise
    # at damage uses a deframer that refuses empty payloads, unless they were allowed explicitly.
    cdef int own_mode
    cdef int mode
    cdef object allow_empty
    cdef Deframer strict
    cdef object stopped_by
    # Whether the operation in progress, or the last one, ended at damage, because its mode is "stop".
    cdef bint stopped
    # Of `losses`, what the batches given so far have told.
    cdef unsigned long long told_skipped
    cdef unsigned long long told_offset
    # Returns the stream offset at which the source ends; None if that is not known.
    cdef object source_size
    # Returns how many bytes the source still has, 0 if that is not known; or None.
    cdef object bytes_left
    # Whether another part may have begun, so that a description may be next.
    cdef bint is_part_unknown

    cdef int cache_fast_path(self) except -1
    cdef int use_session(self, object deframer, object session) except -1
    cdef int choose_active(self, int mode) except -1
    cdef int check_open(self) except -1
    cdef int mode_of(self, object on_error) except -1
    cdef int set_mode(self, int mode) except -1

    @cython.final
    cdef object next_payload(self, int mode)

    @cython.final
    cdef object view_of(self, const uint8_t* data, Py_ssize_t size)

    cdef object awaited_payload(self, int mode, double seconds)
    cdef FrameBatch next_batch(self, Py_ssize_t max_frames, Py_ssize_t max_bytes, int mode)
    cdef int next_intact_frame(self) except -1
    cdef int advance_part(self) except -1
    cdef int leave_for_later(self, object error) except -1
    cdef bint has_grown(self, object error) except -1
    cdef int next_frame(self) except -1
    cdef int next_followed_frame(self) except -1
    cdef int check_frame(self) except -1

    @cython.final
    cdef int accept_frame(self) except -1

    @cython.final
    cdef int hold(self, unsigned long long last_offset, unsigned long long refused_before) except -1

    @cython.final
    cdef int take_held(self) except -1

    cdef int end_chain(self) except -1
    cdef int check_failure(self) except -1
    cdef int begin_part(self) except -1
    cdef int is_within_source(self) except -1
    cdef int check_source_size(self) except -1
    cdef int gather(self, FrameBatch batch, Py_ssize_t frames_left, Py_ssize_t bytes_left) except -1
    cdef int gather_restored(self, FrameBatch batch, Py_ssize_t frames_left, Py_ssize_t bytes_left) except -1
    cdef int index_rest(
        self, FrameBatch batch, Py_ssize_t begin, Py_ssize_t* frames_left, Py_ssize_t* bytes_left
    ) except -1
    cdef int next_buffered_frame(self, Py_ssize_t bytes_left) except -1

    # Damage
    cdef unsigned long long end_of_last(self, Py_ssize_t length) noexcept
    cdef int stop_before(
        self, object error, unsigned long long offset, unsigned long long end, unsigned long long behind,
        unsigned long long frames, object states,
    ) except -1
    cdef int get_over(self, object error, bint refused) except -1
    cdef int skip_empty_frame(self, object error) except -1

from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport Chunk
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.stream.frame_watcher cimport FrameWatcher


cdef class OutputBuffer(Exclusive):
    # The functions of the sink; see `Encoder`.
    cdef object sink_write
    cdef object sink_writev
    cdef object sink_fileno
    cdef object sink_rollback
    cdef bint error_takes_nothing
    cdef bint none_blocks
    cdef bint takes_at_once
    # What `_conclude` ends: the sink's `flatstream._endpoints.Sink`. None before it is set, and when all is done.
    cdef public object _endpoint
    # Whether the sink's own flush() was called after the last byte was handed over.
    cdef bint is_sink_flushed
    # Bytes [start, used) of the chunk are not with the sink yet. `owner_view` is a view of the chunk, or None.
    cdef Chunk chunk
    cdef object owner_view
    # The usual size of the chunk; `write_through` hands over each frame at once.
    cdef Py_ssize_t capacity
    cdef bint write_through
    # How many frames the buffer holds at most; 0 for as many as have room. `end_capacity` is never larger.
    cdef Py_ssize_t max_frames
    # Whether every frame, but for one that is larger than the buffer, goes through the buffer: the sink asks by
    # `_whole_frames` where they end.
    cdef bint gathers_all
    cdef Py_ssize_t start
    cdef Py_ssize_t used
    # Where the frames in the chunk end.
    cdef Py_ssize_t* ends
    cdef Py_ssize_t end_count
    cdef Py_ssize_t end_capacity
    # Where the first of them begins. Negative if its first bytes went to the sink directly.
    cdef Py_ssize_t origin
    cdef unsigned long long frame_count
    cdef unsigned long long byte_count
    # How many of them are no messages: the description, and the framer's own frames before the first message; and those
    # behind the last one.
    cdef unsigned long long head_count
    cdef unsigned long long head_size
    cdef unsigned long long tail_count
    cdef unsigned long long tail_size
    # Whether the frames behind the last message are in the buffer, so that no message can follow.
    cdef bint is_finished
    # What the framer raised instead of them: raised again when all is done.
    cdef object finish_error
    # Whether the last error was raised for a frame that is accepted all the same: the sink has its first bytes.
    cdef bint frame_committed
    # The error after which nothing is written any more, or None.
    cdef object broken_by
    # What it says about `broken_by`, as the part of a sentence behind "because".
    cdef str broken_because
    # Whether the last exception came from a signal handler that ran between two calls of the sink.
    cdef bint is_between_calls
    # What sees the frames that the sink gets; None for nothing.
    cdef FrameWatcher watcher
    # Whether the watcher sees the next frame only when it was accepted, so that it is not told before that the sink has
    # it; and whether it is to be told then.
    cdef bint shows_later
    cdef bint owes_hand_over
    # See `Encoder`. Cleared here, when the buffer is shut or broken.
    cdef bint has_fast_path
    cdef bint shut

    cdef int set_sink(
        self, Py_ssize_t buffer_size, object write, object writev, object fileno, object rollback,
        bint error_takes_nothing, bint none_blocks, bint takes_at_once
    ) except -1
    cdef int check_open(self) except -1
    cdef int emit(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size
    ) except -1
    cdef int emit_held(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size,
        bint may_wait
    ) except -1
    cdef int emit_large(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size,
        bint may_wait
    ) except -1
    cdef bint is_full(self) noexcept
    cdef object pending_number(self)
    cdef int put_control(self, list frames) except -1
    cdef int put_finish(self) except -1
    cdef int reserve_ends(self, Py_ssize_t count) except -1
    cdef int append(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* body, Py_ssize_t body_size
    ) except -1
    cdef int pass_on(
        self, object frames, const long long* starts, const long long* sizes, Py_ssize_t count, Py_ssize_t head_size
    ) except -1
    cdef int gather_frames(
        self, object frames, const long long* starts, const long long* sizes, Py_ssize_t count, Py_ssize_t head_size
    ) except -1
    cdef Py_ssize_t append_frames(
        self, const uint8_t* data, const long long* starts, const long long* sizes, Py_ssize_t count,
        Py_ssize_t head_size
    ) except -1
    cdef int pass_on_directly(
        self, object frames, const long long* starts, const long long* sizes, Py_ssize_t count, Py_ssize_t head_size
    ) except -1
    cdef int look_for_signals(self) except -1
    cdef bint is_final(self, object error) except -1
    cdef int close_owned(self) except -1
    cdef int keep_rest(self, bytes header, const uint8_t* body, Py_ssize_t body_size, Py_ssize_t done) except -1
    cdef int drain(self) except -1
    cdef int tell_watcher(self) except -1
    cdef int show_buffer(self) noexcept
    cdef int dismiss_watcher(self) except -1
    cdef int is_resumable(self, object error) except -1
    cdef Py_ssize_t offer_part(self, object owner_view, const uint8_t* data, Py_ssize_t size) except -1
    cdef Py_ssize_t offer(self, object function, object argument, Py_ssize_t size) except -1
    cdef int renew(self, Py_ssize_t extra) except -1
    cdef Py_ssize_t first_pending(self) noexcept
    cdef Py_ssize_t frame_begin(self) noexcept
    cdef int handle_failure(self, object error, Py_ssize_t torn, bint buffered) except -1
    cdef int mark_broken(self, object error, str where) except -1

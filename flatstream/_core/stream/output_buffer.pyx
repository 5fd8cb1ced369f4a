# cython: boundscheck=False, wraparound=False
"""The output buffer: between finished frames and a sink.

It gathers frames and hands them over through functions of the sink. It knows nothing of files. At any moment it knows
which bytes the sink has, which it has not, and where the frames among them begin. So after the sink blocks or fails, it
is known whether the stream ends inside a frame.
"""

# States of the buffer. `start`, `used`, `origin`, `broken_by` and `shut` are its fields.
#
# state     | what holds                            | what a write does                   | how it is left
# ----------|---------------------------------------|-------------------------------------|----------------------------
# empty     | start == used                         | appends the frame; a frame larger   | a write: gathering; or
#           |                                       | than the buffer goes to the sink    | partial, if the sink takes
#           |                                       | directly                            | only a part of it
# gathering | start == 0 < used, origin == 0: the   | appends the frame; without room for | a drain: empty; or partial,
#           | buffer begins with a whole frame      | it, drains first                    | if the sink takes only a
#           |                                       |                                     | part and blocks
# partial   | start > 0 or origin < 0: the sink has | as in gathering; raises             | a drain: empty; or a failure
#           | the bytes before `start`, and may     | BlockingIOError if the sink still   | of the sink: gathering after
#           | stand inside a frame                  | blocks and there is no room         | a rollback, else broken
# broken    | broken_by is an error: the sink       | raises FlatStreamError              | never; `_conclude` closes
#           | stands inside a frame, it is not      |                                     | the sink
#           | known where it stands, or a sync      |                                     |
#           | failed                                |                                     |
# shut      | shut; bytes are left only after an    | raises ValueError                   | never
#           | error of the sink                     |                                     |
#
# The buffer is shut before `__init__` and after `_shut_down`. `has_fast_path` is set in the first three states only.
#
# The end of a writer (`_conclude`) has these steps: the buffer is drained, then shut, the watcher is dismissed, the
# sink is flushed, a sink that the writer opened is closed, `_endpoint` is dropped. Each is done once. An exception
# leaves those behind it for the next call.

import errno

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memmove

from flatstream._core.base.buffers cimport Chunk, grow, owner_view_of, slice_view
from flatstream._core.base.checks cimport index_of
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.stream.frame_watcher cimport FrameWatcher

from flatstream.errors import FlatStreamError


cdef extern from "Python.h":
    void PyMem_RawFree(void* p) nogil

# With buffer_size=0 every frame is handed over at once. A frame of at most this size is put together first, so that
# header and payload go out in one write.
cdef enum:
    WRITE_THROUGH_CAPACITY = 4096

# A sink that may keep what it gets gets copies of a large payload, of at most this many bytes each.
cdef enum:
    MAX_COPY = 1 << 20


@cython.auto_pickle(False)
cdef class OutputBuffer(Exclusive):
    """Gathers frames and hands them to a sink. The base class of `Encoder`, which describes the arguments.

    A base class and not a second object: framing a payload touches nine of these fields, and reaching them through a
    reference would cost more than the framing (F4 of asv_benchmarks/framing.py).
    """

    def __cinit__(self, *args, **kwargs):
        # Until __init__ has run, there is no sink to write to.
        self.shut = True

    cdef int set_sink(
        self, Py_ssize_t buffer_size, object write, object writev, object fileno, object rollback,
        bint error_takes_nothing, bint none_blocks, bint takes_at_once,
    ) except -1:
        self.sink_write = write
        self.sink_writev = writev
        self.sink_fileno = fileno
        self.sink_rollback = rollback
        self.error_takes_nothing = error_takes_nothing
        self.none_blocks = none_blocks
        self.takes_at_once = takes_at_once
        self.write_through = buffer_size == 0
        self.capacity = buffer_size or WRITE_THROUGH_CAPACITY
        self.renew(0)
        self.shut = False
        return 0

    def __dealloc__(self):
        PyMem_RawFree(self.ends)

    # State

    @property
    def frames_written(self):
        """The number of messages accepted. Some may still be in the buffer: see `flush`.

        A description is not counted, nor what a framer puts before and behind the messages.
        """
        return self.frame_count - self.head_count - self.tail_count

    @property
    def bytes_written(self):
        """The size of these frames in bytes, headers included."""
        return self.byte_count - self.head_size - self.tail_size

    @property
    def buffer_capacity(self):
        """The size of the output buffer in bytes."""
        return self.chunk.capacity if self.chunk is not None else 0

    @property
    def pending_bytes(self):
        """The number of bytes in the buffer that the sink does not have yet."""
        return self.used - self.start

    @property
    def is_refusing(self):
        """Whether every later write is refused: the sink failed inside a frame, or `sync` failed."""
        return self.broken_by is not None

    @property
    def _is_shut(self):
        """Whether `_shut_down` was called."""
        return self.shut

    cdef int check_open(self) except -1:
        if self.broken_by is not None:
            raise FlatStreamError(
                f"this {type(self).__name__} refuses to go on, because {self.broken_because}: "
                f"{type(self.broken_by).__name__}: {self.broken_by}; {self.used - self.start} bytes were not handed "
                "over",
                frame=self.pending_number() or 0, offset=self.byte_count - (self.used - self.frame_begin()),
            ) from self.broken_by
        if self.shut or self.chunk is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return 0

    cdef object pending_number(self):
        """The number of the first frame in the buffer, or of the next one; None for the description."""
        cdef unsigned long long before = self.frame_count - <unsigned long long>self.end_count
        if before >= self.head_count:
            return before - self.head_count
        return 0 if self.first_pending() else None

    # Accepting frames

    def _put_head(self, bytes frame not None):
        """Puts the frame of a description in front of all others. The sink gets it together with what follows."""
        self.check_open()
        self.enter()
        try:
            self.check_open()
            if self.frame_count:
                raise ValueError("a description must be the first frame, and this writer has written others")
            self.put_control([frame])
            self.head_count = 1
            self.head_size = <unsigned long long>PyBytes_GET_SIZE(frame)
        finally:
            self.leave()

    cdef int put_control(self, list frames) except -1:
        """Puts whole frames that are no messages into the buffer, which grows if need be. All of them, or it raises."""
        cdef Py_ssize_t size = 0
        for frame in frames:
            size += PyBytes_GET_SIZE(frame)
        if size > self.chunk.capacity - self.used:
            self.renew(size)
        if self.end_capacity - self.end_count < len(frames):
            self.reserve_ends(self.end_count + <Py_ssize_t>len(frames))
        for frame in frames:
            self.append(NULL, 0, <const uint8_t*>PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame))
        return 0

    cdef int put_finish(self) except -1:
        """Puts the framer's frames behind the last message. See `Encoder`."""
        return 0

    cdef int emit(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size
    ) except -1:
        """Accepts a frame of `head_size` bytes and then `body_size` bytes that lie inside `source`, or raises."""
        if not self.write_through and head_size + body_size <= self.chunk.capacity - self.used and not self.is_full():
            return self.append(head, head_size, body, body_size)
        self.enter()
        try:
            # A thread that waited already may have closed or broken it.
            self.check_open()
            return self.emit_held(head, head_size, source, body, body_size, False)
        finally:
            self.leave()

    cdef int emit_held(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size,
        bint may_wait,
    ) except -1:
        """`emit`, while this thread holds the buffer. With `may_wait`, it is accepted even if the sink blocks."""
        cdef Py_ssize_t size = head_size + body_size
        cdef Py_ssize_t begin
        if size > self.chunk.capacity - self.used or self.is_full():
            try:
                self.drain()
            except (BlockingIOError, TimeoutError):
                # The sink may have taken enough to make room.
                if self.is_between_calls or self.broken_by is not None or (
                    not may_wait and size > self.capacity - (self.used - self.start)
                ):
                    raise
                self.renew(size if may_wait else 0)
                if self.is_full():
                    # The number of frames is a promise to the caller (they are not synced).
                    raise
        if size > self.chunk.capacity - self.used:
            return self.emit_large(head, head_size, source, body, body_size, may_wait)
        self.append(head, head_size, body, body_size)
        if not self.write_through:
            return 0
        try:
            self.drain()
        except BaseException as error:
            # The frame is not accepted if it can be removed from the buffer. If the sink has a part of it and can go
            # on later, the frame is accepted, and its rest follows with the next write. If the sink cannot go on, the
            # buffer is broken.
            begin = self.used - size
            blocked = not self.is_between_calls and isinstance(error, (BlockingIOError, TimeoutError))
            if may_wait and self.broken_by is None and blocked:
                return 0
            if self.end_count and (begin >= self.start or self.broken_by is not None):
                self.used = begin
                self.start = min(self.start, begin)
                self.end_count -= 1
                self.frame_count -= 1
                self.byte_count -= <unsigned long long>size
                raise
            if not blocked:
                self.frame_committed = True
                raise
        return 0

    cdef bint is_full(self) noexcept:
        """Whether the buffer holds as many frames as it may."""
        return self.max_frames and self.end_count >= self.max_frames

    cdef int reserve_ends(self, Py_ssize_t count) except -1:
        """Makes room for the ends of `count` frames in the buffer, or of `max_frames`."""
        cdef Py_ssize_t capacity = self.end_capacity
        self.ends = <Py_ssize_t*>grow(self.ends, &capacity, count, sizeof(Py_ssize_t), "ends of frames")
        # Frames are put into the buffer without a call as long as there is room for their ends.
        self.end_capacity = min(capacity, max(self.max_frames, self.end_count + 1)) if self.max_frames else capacity
        return 0

    cdef int append(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* body, Py_ssize_t body_size
    ) except -1:
        """Copies a frame into the buffer, which has room for it."""
        if self.end_count == self.end_capacity:
            self.reserve_ends(self.end_count + 64)
        if head_size:
            memcpy(self.chunk.data + self.used, head, <size_t>head_size)
        if body_size:
            memcpy(self.chunk.data + self.used + head_size, body, <size_t>body_size)
        self.used += head_size + body_size
        self.ends[self.end_count] = self.used
        self.end_count += 1
        self.frame_count += 1
        self.byte_count += <unsigned long long>(head_size + body_size)
        return 0

    cdef int emit_large(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size,
        bint may_wait,
    ) except -1:
        """Hands over a frame that the (empty) buffer cannot hold. Its payload is copied only if the sink may keep it.
        """
        cdef Py_ssize_t size = head_size + body_size, done = 0
        cdef bytes header = head[:head_size] if head_size else b""
        owner_view = owner_view_of(source, "payload")
        self.is_between_calls = False
        try:
            while done < size:
                if done < head_size:
                    pieces = [memoryview(header)[done:], slice_view(owner_view, body, body_size)]
                    if self.sink_writev is not None:
                        done += self.offer(self.sink_writev, pieces, size - done)
                    else:
                        done += self.offer(self.sink_write, pieces[0], head_size - done)
                else:
                    done += self.offer_part(owner_view, body + (done - head_size), size - done)
                if done < size:
                    self.look_for_signals()
        except BaseException as error:
            if not self.is_resumable(error):
                self.handle_failure(error, done, False)
                raise
            if not self.is_between_calls:
                done += min(blocked_after(error), size - done)
            blocked = not self.is_between_calls and isinstance(error, (BlockingIOError, TimeoutError))
            if not done and not (may_wait and blocked):
                raise
            # The sink has its first bytes, so the frame is accepted, and its rest waits in the buffer.
            try:
                self.keep_rest(header, body, body_size, done)
            except BaseException as second:
                self.mark_broken(second, f"{done} bytes into it, and there is no memory to keep the rest")
                raise
            if blocked:
                return 0
            self.frame_committed = True
            raise
        if self.watcher is not None and self.watcher.sees_stored:
            self.watcher.see_message(
                body, body_size, head, head_size, body, body_size, self.frame_count - self.head_count, self.byte_count
            )
        self.frame_count += 1
        self.byte_count += <unsigned long long>size
        return 0

    cdef int pass_on(
        self, object frames, const long long* starts, const long long* sizes, Py_ssize_t count, Py_ssize_t head_size
    ) except -1:
        """Accepts `count` whole frames, which follow one another in the view `frames`. This thread holds the buffer.

        `starts` and `sizes` are where their payloads begin in it, and how long they are. If the sink does not take them
        all, those before the one that raises are accepted, as with `emit_held` for each.
        """
        cdef const uint8_t* data = <const uint8_t*>PyMemoryView_GET_BUFFER(frames).buf
        cdef Py_ssize_t size = head_size + <Py_ssize_t>(starts[count - 1] + sizes[count - 1] - starts[0])
        self.frame_committed = False
        if self.gathers_all:
            return self.gather_frames(frames, starts, sizes, count, head_size)
        if self.write_through or size > self.chunk.capacity - self.used:
            try:
                self.drain()
            except (BlockingIOError, TimeoutError):
                if self.is_between_calls or self.broken_by is not None or self.write_through:
                    raise
                # The sink may have taken enough to make room for some of them.
                self.renew(0)
                if self.append_frames(data, starts, sizes, count, head_size) < count:
                    raise
                return 0
            if self.write_through or size > self.capacity:
                return self.pass_on_directly(frames, starts, sizes, count, head_size)
        # There is room for all of them.
        self.append_frames(data, starts, sizes, count, head_size)
        return 0

    cdef int gather_frames(
        self, object frames, const long long* starts, const long long* sizes, Py_ssize_t count, Py_ssize_t head_size
    ) except -1:
        """`pass_on` through the buffer."""
        cdef const uint8_t* data = <const uint8_t*>PyMemoryView_GET_BUFFER(frames).buf
        cdef Py_ssize_t i = 0
        while i < count:
            if not self.write_through:
                i += self.append_frames(data, starts + i, sizes + i, count - i, head_size)
            if i < count:
                # It has no room for this one, or hands over each frame at once.
                self.emit_held(
                    data + starts[i] - head_size, head_size, frames, data + starts[i], <Py_ssize_t>sizes[i], False
                )
                i += 1
        return 0

    cdef Py_ssize_t append_frames(
        self, const uint8_t* data, const long long* starts, const long long* sizes, Py_ssize_t count,
        Py_ssize_t head_size
    ) except -1:
        """Copies as many of `count` frames, see `pass_on`, into the buffer as it has room for; returns how many."""
        cdef Py_ssize_t i = 0, room = self.chunk.capacity - self.used, size = 0, next_size
        if self.max_frames:
            count = min(count, self.max_frames - self.end_count)
        if count <= 0:
            return 0
        if self.end_capacity - self.end_count < count:
            # No more of them than have room.
            count = min(count, room // head_size)
            self.reserve_ends(self.end_count + count + 64)
        while i < count:
            next_size = head_size + <Py_ssize_t>(starts[i] + sizes[i] - starts[0])
            if next_size > room:
                break
            size = next_size
            self.ends[self.end_count + i] = self.used + size
            i += 1
        if size:
            memcpy(self.chunk.data + self.used, data + starts[0] - head_size, <size_t>size)
        self.used += size
        self.end_count += i
        self.frame_count += <unsigned long long>i
        self.byte_count += <unsigned long long>size
        return i

    cdef int pass_on_directly(
        self, object frames, const long long* starts, const long long* sizes, Py_ssize_t count, Py_ssize_t head_size
    ) except -1:
        """`pass_on` without the (empty) buffer, as long as the sink takes them."""
        cdef const uint8_t* data = <const uint8_t*>PyMemoryView_GET_BUFFER(frames).buf
        cdef Py_ssize_t begin = <Py_ssize_t>starts[0] - head_size
        cdef Py_ssize_t size = <Py_ssize_t>(starts[count - 1] + sizes[count - 1]) - begin
        # How many bytes the sink has, how many frames it has whole, and how many bytes of the one behind them.
        cdef Py_ssize_t done = 0, whole = 0, torn
        cdef const uint8_t* out = data + begin
        self.is_between_calls = False
        try:
            while done < size:
                done += self.offer_part(frames, out + done, size - done)
                if done < size:
                    self.look_for_signals()
        except BaseException as error:
            resumable = self.is_resumable(error)
            if resumable and not self.is_between_calls:
                done += min(blocked_after(error), size - done)
            while whole < count and starts[whole] + sizes[whole] - begin <= done:
                whole += 1
            torn = done
            if whole:
                torn -= <Py_ssize_t>(starts[whole - 1] + sizes[whole - 1]) - begin
            self.frame_count += <unsigned long long>whole
            self.byte_count += <unsigned long long>(done - torn)
            if not resumable:
                self.handle_failure(error, torn, False)
                raise
            if torn:
                # The sink has its first bytes, so the frame is accepted, and its rest waits in the buffer.
                try:
                    self.keep_rest(b"", data + starts[whole] - head_size, head_size + <Py_ssize_t>sizes[whole], torn)
                except BaseException as second:
                    self.mark_broken(second, f"{torn} bytes into it, and there is no memory to keep the rest")
                    raise
                whole += 1
            if self.is_between_calls or not isinstance(error, (BlockingIOError, TimeoutError)):
                self.frame_committed = torn > 0
                raise
            if not self.write_through:
                whole += self.append_frames(data, starts + whole, sizes + whole, count - whole, head_size)
            if whole < count:
                raise
            return 0
        if self.watcher is not None and self.watcher.sees_stored:
            self.watcher.see_frames(
                data, starts, sizes, count, head_size, self.frame_count - self.head_count, self.byte_count
            )
        self.frame_count += <unsigned long long>count
        self.byte_count += <unsigned long long>size
        return 0

    cdef int keep_rest(self, bytes header, const uint8_t* body, Py_ssize_t body_size, Py_ssize_t done) except -1:
        """Puts the rest of a frame, of which the sink took `done` bytes, into the (empty) buffer."""
        cdef Py_ssize_t head_size = PyBytes_GET_SIZE(header)
        cdef Py_ssize_t rest = head_size + body_size - done
        if rest > self.chunk.capacity:
            self.owner_view = None
            self.chunk = Chunk(rest)
        if done < head_size:
            self.append(<const uint8_t*>PyBytes_AS_STRING(header) + done, head_size - done, body, body_size)
        else:
            self.append(NULL, 0, body + (done - head_size), rest)
        self.origin = -done
        self.byte_count += <unsigned long long>done
        return 0

    # Handing over

    def _watch(self, FrameWatcher watcher):
        """Has `watcher`, or None, see all frames from now on that are handed to the sink."""
        self.enter()
        try:
            self.watcher = watcher
        finally:
            self.leave()

    def _drain_buffer(self):
        """Hands everything in the buffer to the sink.

        Raises
        ------
        OSError
            The sink failed. The bytes that it did not take stay in the buffer, unless the buffer is broken.
        BlockingIOError
            The sink would block. The bytes that it did not take stay in the buffer.
        """
        self.check_open()
        self.enter()
        try:
            self.check_open()
            self.drain()
        finally:
            self.leave()

    def _gather_all(self, max_frames):
        """Has every frame go through the buffer, but for one that is larger than it, and hands it over when it has
        `max_frames` frames, if that is not 0.

        For a sink that has to know where frames end: it asks `_whole_frames` while it is offered bytes.
        """
        self.gathers_all = True
        # It holds when the buffer is handed over the next time.
        self.max_frames = max_frames

    @property
    def _frames_taken(self):
        """How many frames the sink has whole."""
        cdef unsigned long long taken = self.frame_count - <unsigned long long>(self.end_count - self.first_pending())
        return min(taken - min(taken, self.head_count), self.frame_count - self.head_count - self.tail_count)

    def _whole_frames(self, size, count):
        """Of the bytes in the buffer that the sink does not have yet, those up to the end of a frame: at most `size`
        bytes and `count` ends of frames. Returns the two numbers.

        If the sink has a part of a frame already, its end is the first one.
        """
        cdef Py_ssize_t first = self.first_pending(), i = first
        cdef long long limit = size, ends = count
        while i < self.end_count and i - first < ends and self.ends[i] - self.start <= limit:
            i += 1
        return (self.ends[i - 1] - self.start if i > first else 0), i - first

    def _drain_within(self, seconds):
        """`_drain_buffer` that waits for at most that many seconds for other threads; returns whether it did it."""
        self.check_open()
        if not self.enter_within(seconds):
            return False
        try:
            self.check_open()
            self.drain()
        finally:
            self.leave()
        return True

    # The end

    def _conclude(self, close):
        """Hands everything over, refuses every later write, flushes the sink, and drops `_endpoint`; with `close`, also
        closes a sink that the writer opened. All of it is one operation: no other thread can write or close in between.

        Returns the sink. If all this was done before, None with `close`, and ValueError without.

        If the sink fails for good and `close` is set, the rest is done all the same before the error is raised. After
        any other exception nothing is lost, and a further call goes on where this one stopped.

        Raises
        ------
        OSError, FlatStreamError
            The sink failed, now or earlier.
        BlockingIOError, TimeoutError
            The sink would block.
        """
        self.enter()
        try:
            endpoint = self._endpoint
            if endpoint is None:
                if close:
                    return None
                raise ValueError(f"this {type(self).__name__} is closed")
            try:
                if not self.shut:
                    self.check_open()
                    self.put_finish()
                    self.drain()
                    self._shut_down()
                self.dismiss_watcher()
                if not self.is_sink_flushed:
                    flush = getattr(endpoint.target, "flush", None)
                    if callable(flush):
                        flush()
                    self.is_sink_flushed = True
            except BaseException as error:
                if close and self.is_final(error):
                    self._shut_down()
                    self.dismiss_watcher()
                    self.close_owned()
                raise
            if close:
                self.close_owned()
            self._endpoint = None
            if self.finish_error is not None:
                error = self.finish_error
                self.finish_error = None
                raise error
            return endpoint.target
        finally:
            self.leave()

    cdef bint is_final(self, object error) except -1:
        """Whether it is of no use to try again what raised `error` in `_conclude`."""
        if self.broken_by is not None:
            return True
        if self.is_between_calls:
            return False
        if isinstance(error, OSError):
            return not isinstance(error, (BlockingIOError, TimeoutError))
        # A sink that somebody else has closed.
        return isinstance(error, ValueError) and getattr(self._endpoint.target, "closed", False) is True

    cdef int close_owned(self) except -1:
        """Closes the sink if the writer opened it, and drops `_endpoint`."""
        endpoint = self._endpoint
        try:
            if endpoint.owned:
                endpoint.target.close()
        except OSError:
            # The descriptor is closed all the same.
            self._endpoint = None
            raise
        self._endpoint = None
        return 0

    def _shut_down(self):
        """Refuses every later write. Bytes in the buffer stay there."""
        self.shut = True
        self.has_fast_path = False

    # Handing over, while this thread holds the buffer

    cdef int drain(self) except -1:
        """Hands everything in the buffer to the sink."""
        cdef Py_ssize_t size
        self.is_between_calls = False
        if self.owner_view is None:
            self.owner_view = PyMemoryView_FromObject(self.chunk)
        try:
            while self.start < self.used:
                size = self.used - self.start
                # The number of bytes taken is added before Python runs again: no signal handler can come between.
                self.start += self.offer(
                    self.sink_write, slice_view(self.owner_view, self.chunk.data + self.start, size), size
                )
                if self.start < self.used:
                    self.look_for_signals()
        except BaseException as error:
            if self.is_resumable(error):
                # The rest is not moved to the front: with a sink that takes a little at a time, all of it would be
                # copied each time.
                if not self.is_between_calls:
                    self.start += min(blocked_after(error), self.used - self.start)
            else:
                self.handle_failure(error, self.start - self.frame_begin(), True)
            raise
        if self.watcher is not None:
            self.show_buffer()
        self.renew(0)
        if self.shows_later:
            self.owes_hand_over = True
        elif self.watcher is not None:
            self.tell_watcher()
        return 0

    cdef int tell_watcher(self) except -1:
        """Tells the watcher that the sink has all frames."""
        # Everything is counted: a signal handler may raise in it, and what it raises is no error of the sink.
        self.is_between_calls = True
        self.watcher.hand_over(self.frame_count - self.head_count - self.tail_count, self.byte_count)
        self.is_between_calls = False
        return 0

    cdef int dismiss_watcher(self) except -1:
        """Tells the watcher that no more frames come."""
        if self.watcher is not None:
            self.is_between_calls = True
            self.watcher.conclude()
            self.is_between_calls = False
            self.watcher = None
        return 0

    cdef int show_buffer(self) noexcept:
        """Shows the watcher the frames in the buffer, all of which the sink has."""
        cdef unsigned long long before = self.frame_count - <unsigned long long>self.end_count
        cdef Py_ssize_t first = 0, begin = self.origin
        if before < self.head_count:
            first = <Py_ssize_t>(self.head_count - before)
        if begin < 0:
            # The beginning of the first frame is not here.
            first = max(first, 1)
        if first >= self.end_count:
            return 0
        if first:
            begin = self.ends[first - 1]
        self.watcher.see_buffer(
            self.chunk.data, begin, self.ends + first, self.end_count - first,
            before + <unsigned long long>first - self.head_count,
            self.byte_count - <unsigned long long>(self.used - begin),
        )
        return 0

    cdef int look_for_signals(self) except -1:
        """Runs the handlers of signals that have arrived. To be called between two calls of the sink, when all bytes
        are counted: a signal often makes a call return early, and the next one may block for long.
        """
        self.is_between_calls = True
        PyErr_CheckSignals()
        self.is_between_calls = False
        return 0

    cdef int is_resumable(self, object error) except -1:
        """Whether it is known how much the sink took, and the rest may be offered again later.

        True if a signal handler raised between two calls, if the sink would block, and if a call that moves bytes in
        one step was interrupted by something other than an error of the device: a time limit, or a signal handler that
        raised.
        """
        if self.is_between_calls or isinstance(error, BlockingIOError):
            return True
        return self.error_takes_nothing and (isinstance(error, TimeoutError) or not isinstance(error, OSError))

    cdef Py_ssize_t offer_part(self, object owner_view, const uint8_t* data, Py_ssize_t size) except -1:
        """Offers the sink at most `size` bytes at `data`, inside `owner_view`, or a copy of some of them if it may keep
        what it gets and they may change; returns how many it took.
        """
        # NULL for memory that belongs to no object.
        cdef void* holder = <void*>PyMemoryView_GET_BUFFER(owner_view).obj
        if self.takes_at_once or (holder is not NULL and type(<object>holder) is bytes):
            return self.offer(self.sink_write, slice_view(owner_view, data, size), size)
        size = min(size, MAX_COPY)
        # The sink gets nothing if there is no memory.
        self.is_between_calls = True
        piece = PyMemoryView_FromObject(PyBytes_FromStringAndSize(<const char*>data, size))
        self.is_between_calls = False
        return self.offer(self.sink_write, piece, size)

    cdef Py_ssize_t offer(self, object function, object argument, Py_ssize_t size) except -1:
        """Calls `function` with `argument`, of which it takes at most `size` bytes; returns how many it took."""
        cdef Py_ssize_t taken
        while True:
            try:
                if function is self.sink_writev and self.sink_fileno is not None:
                    count = function(self.sink_fileno(), argument)
                else:
                    count = function(argument)
            except InterruptedError:
                # The sinks of the standard library retry after a signal; others may not.
                continue
            except MemoryError:
                # It may have taken the bytes, and then had no memory for their number.
                self.error_takes_nothing = False
                raise
            if count is None:
                if not self.none_blocks:
                    return size
                count = 0
            taken = -1
            if isinstance(count, int):
                # Nothing here allocates memory, so that the number of bytes taken cannot be lost.
                try:
                    taken = count
                except OverflowError:
                    pass
            if not 0 <= taken <= size:
                error = OSError(
                    errno.EIO, f"the sink's write() was offered {size} bytes and returned {count!r:.100}: how many it "
                    "took is unknown"
                )
                # From now on it is not known where the sink stands, whatever kind of sink it is.
                self.error_takes_nothing = False
                raise error
            if not taken:
                raise BlockingIOError(
                    errno.EAGAIN, "the sink would block: the bytes it has not taken stay in the writer's buffer", 0
                )
            return taken

    cdef int renew(self, Py_ssize_t extra) except -1:
        """Moves the rest to the front of the buffer, and replaces the chunk if the sink still has a view of it.

        The chunk then has its usual capacity, or more if the rest and `extra` bytes need more.
        """
        cdef Py_ssize_t rest = self.used - self.start
        cdef Py_ssize_t capacity = max(self.capacity, rest + extra)
        cdef Py_ssize_t i, kept = 0
        cdef Chunk chunk
        self.owner_view = None
        if self.chunk is None or self.chunk.exports or self.chunk.capacity != capacity:
            chunk = Chunk(capacity)
            if rest:
                memcpy(chunk.data, self.chunk.data + self.start, <size_t>rest)
            self.chunk = chunk
        elif rest and self.start:
            memmove(self.chunk.data, self.chunk.data + self.start, <size_t>rest)
        self.origin = 0
        if rest:
            self.origin = self.frame_begin() - self.start
            for i in range(self.end_count):
                if self.ends[i] > self.start:
                    self.ends[kept] = self.ends[i] - self.start
                    kept += 1
        self.end_count = kept
        if self.max_frames and self.end_capacity > self.max_frames:
            self.end_capacity = max(self.max_frames, kept)
        self.start = 0
        self.used = rest
        return 0

    cdef Py_ssize_t first_pending(self) noexcept:
        """The number in the buffer of the first frame that the sink does not have whole."""
        cdef Py_ssize_t i = 0
        while i < self.end_count and self.ends[i] <= self.start:
            i += 1
        return i

    cdef Py_ssize_t frame_begin(self) noexcept:
        """The offset in the buffer of the frame to which the byte at `start` belongs."""
        cdef Py_ssize_t i, begin = self.origin
        for i in range(self.end_count):
            if self.ends[i] > self.start:
                break
            begin = self.ends[i]
        return begin

    cdef int handle_failure(self, object error, Py_ssize_t torn, bint buffered) except -1:
        """Rolls the sink back to the end of a frame, or marks the buffer as broken.

        The sink failed with `error`, and has `torn` bytes of an unfinished frame. `buffered` is whether the frame is in
        the buffer; otherwise it goes to the sink directly.
        """
        cdef bint whole = self.error_takes_nothing and torn == 0
        # Bytes that went to the sink directly cannot be offered again, so a rollback would not help.
        cdef bint can_repeat = not buffered or torn <= self.start
        if self.error_takes_nothing and torn and can_repeat and self.sink_rollback is not None:
            try:
                whole = self.sink_rollback(torn)
            except OSError as second:
                error.add_note(f"the rollback of {torn} bytes of the unfinished frame failed too: {second}")
            except BaseException as second:
                # A signal handler raised: it is not known whether the rollback happened.
                self.mark_broken(second, f"{torn} bytes into it, or rolled back to its beginning")
                raise
            if whole and buffered:
                self.start -= torn
        if not whole:
            self.mark_broken(
                error, f"{torn} bytes into it" if self.error_takes_nothing else "it is not known how far into it"
            )
        return 0

    cdef int mark_broken(self, object error, str where) except -1:
        """Refuses every later write: the stream ends inside a frame. `where` says how far into it."""
        self.broken_by = error
        self.broken_because = "an earlier write failed inside a frame"
        self.has_fast_path = False
        number = self.pending_number()
        error.add_note(
            f"the sink ends inside {'the description' if number is None else f'frame {number}'}, {where}: this writer "
            "refuses every later write"
        )
        return 0

    def _refuse_after_failed_sync(self, error):
        """Refuses every later write: bytes that the sink took may be lost, and no later sync would say so."""
        if self.broken_by is None:
            self.broken_by = error
            self.broken_because = "an earlier sync failed, and what it should have stored may be lost"
            self.has_fast_path = False


cdef Py_ssize_t blocked_after(object error) except -1:
    """How many bytes the sink took before it would block, as its error says."""
    # An exact int: a subclass can compare as it likes.
    taken = index_of(getattr(error, "characters_written", 0))
    if taken is None or taken <= 0:
        return 0
    return min(taken, 0x7FFFFFFFFFFFFFFF)

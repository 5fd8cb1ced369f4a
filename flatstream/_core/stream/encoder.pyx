# cython: boundscheck=False, wraparound=False
"""The encoder: payloads in, bytes of a stream out, through one buffer.

It knows three ways to hand bytes over, which its user gives it as functions, and nothing about files. What the buffer
holds is exact at any moment: which bytes the sink has, which it has not, and where the frames among them begin. So
after a sink would block, or fails, it is known whether the stream ends inside a frame.
"""

import errno
import os

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memmove

from flatstream._core.base.buffers cimport Chunk, acquire, owner_view_of, slice_view
from flatstream._core.base.endian cimport low_bytes, store_le, store_u32
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.checksums.checksum cimport RELEASE_FROM
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.framing.framer cimport (
    FrameEnds, Framer, FrameRun, checked_limit, collect_frame, frame_payloads_into, fs_copy, get_framer_format, start_run,
)
from flatstream._core.framing.wire cimport LENGTH_SIZE, MAX_HEADER_SIZE

from flatstream.errors import FlatbufferError, FlatStreamError


cdef extern from "Python.h":
    void* PyMem_RawRealloc(void* p, size_t n) nogil
    void PyMem_RawFree(void* p) nogil

# With buffer_size=0 every frame is handed over at once. Frames up to this size are put together first, so that header
# and payload still go out in one write.
cdef enum:
    WRITE_THROUGH_CAPACITY = 4096

# Fewer payloads than this are framed one by one: a typed view of the buffer takes as long as that saves (100 ns).
cdef enum:
    MIN_RUN = 32

# How often this process is a fork of the one that imported the module.
cdef unsigned long FORKS = 0


def _count_fork():
    global FORKS
    FORKS += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def check_buffer_size(value):
    """Raises what `Encoder` would raise for this `buffer_size`, before anything is opened for it."""
    checked_limit("buffer_size", value)


cdef class Encoder(Exclusive):
    """Frames payloads into a buffer and hands the buffer to a sink.

    Parameters
    ----------
    framer : Framer
        What makes the frames.
    buffer_size : int
        How many bytes are gathered before the sink gets them; 0 hands over each frame at once.
    write : callable
        Takes a memoryview; returns how many of its bytes it took, or None.
    writev : callable, optional
        Takes a list of memoryviews and returns how many of their bytes it took. With it, a payload larger than the
        buffer is handed over together with its header.
    fileno : callable, optional
        What `writev` takes before the list: a descriptor, asked for each time.
    rollback : callable, optional
        ``rollback(n)`` takes back the last n bytes that were handed over and returns True, or False if it cannot.
    exact : bool
        Whether an exception from `write` says that nothing of its argument was taken (a system call), or says nothing
        about it (a buffer with a file behind it).
    none_blocks : bool
        Whether None from `write` says that the sink would block and took nothing (io.RawIOBase), or that it took all.
    """

    def __cinit__(self, *args, **kwargs):
        self.generation = FORKS
        # Until __init__ has run, there is nothing to write to.
        self.shut = True

    def __init__(
        self, framer, buffer_size, write, *, writev=None, fileno=None, rollback=None, exact=False, none_blocks=False
    ):
        if not isinstance(framer, Framer):
            raise TypeError(f"framer must be an instance of Framer, got {framer!r:.100}")
        cdef Py_ssize_t size = checked_limit("buffer_size", buffer_size)
        self._framer = framer
        self.sink_write = write
        self.sink_writev = writev
        self.sink_fileno = fileno
        self.sink_rollback = rollback
        self.exact = exact
        self.none_blocks = none_blocks
        self.write_through = size == 0
        self.capacity = size or WRITE_THROUGH_CAPACITY
        self.renew(0)
        self.shut = False
        self.cache_fast_path()

    cdef int cache_fast_path(self) except -1:
        """Stores what the framer does to a payload, if it need not be called for each."""
        self.has_fast_path = get_framer_format(self._framer, &self.format) and not self.write_through
        if self.format.kernel is not NULL:
            # A checksum of more bytes releases the lock, and for that the encoder must be held.
            self.format.max_length = min(self.format.max_length, RELEASE_FROM - 1)
        return 0

    def __dealloc__(self):
        PyMem_RawFree(self.ends)

    # State

    @property
    def framer(self):
        """The framer."""
        return self._framer

    @property
    def frames_written(self):
        """How many frames were accepted. Some may still be in the buffer: see `flush`."""
        return self.frame_count

    @property
    def bytes_written(self):
        """How many bytes these frames have, headers included."""
        return self.byte_count

    @property
    def buffer_capacity(self):
        """The size of the output buffer in bytes."""
        return self.chunk.capacity if self.chunk is not None else 0

    @property
    def pending_bytes(self):
        """How many bytes are in the buffer and not with the sink yet."""
        return self.used - self.start

    cdef int check_open(self) except -1:
        if self.generation != FORKS:
            raise RuntimeError(
                f"this {type(self).__name__} belongs to the process that made it: after a fork both would write to one "
                "sink, so the child must open its own"
            )
        if self.refusal is not None:
            raise FlatStreamError(
                f"this {type(self).__name__} refuses to go on, because an earlier write failed inside a frame: "
                f"{type(self.refusal).__name__}: {self.refusal}; {self.used - self.start} bytes were not handed over",
                frame=self.frame_count - self.end_count, offset=self.byte_count - (self.used - self.frame_begin()),
            ) from self.refusal
        # None is what the garbage collector leaves of the parts of a cycle.
        if self.shut or self._framer is None or self.chunk is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return 0

    # Writing

    # A plain method of one positional argument is what the interpreter calls fastest: 20 ns a message where an ordinary
    # compiled function takes 31 (F4 of asv_benchmarks/framing.py). The directive keeps its signature for help().
    @cython.binding(False)
    @cython.embedsignature(True)
    @cython.embedsignature.format("clinic")
    def write_payload(self, payload, /):
        """Frames bytes that are finished already.

        Parameters
        ----------
        payload : bytes-like
            Any C-contiguous buffer of at most 2**32 - 1 bytes. It is copied into the output buffer, or, if it is larger
            than that, handed to the sink as it is; either way it may be changed when the call returns.

        Raises
        ------
        TypeError, BufferError
            `payload` is not bytes-like, or strided.
        InvalidFrameError, ValidationFailedError
            The framer refuses the payload. Nothing was written; the writer goes on.
        OSError
            The sink failed. The payload was not accepted. If the stream now ends inside a frame and cannot be cut back,
            every later write is refused with FlatStreamError.
        BlockingIOError
            The sink would block and the buffer has no room. The payload was not accepted; try again later.
        ValueError
            The writer is closed.
        """
        if type(payload) is bytes and self.put_directly(
            <const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)
        ):
            return
        self.write_one(payload)

    def write_payloads(self, payloads):
        """Frames each of `payloads`, an iterable of bytes-like objects, in one call.

        If one is refused, those before it are written; `frames_written` says how many that were.

        Raises
        ------
        See `write_payload`.
        """
        cdef Py_ssize_t i = 0
        if isinstance(payloads, (bytes, bytearray, memoryview, str)) or not hasattr(type(payloads), "__iter__"):
            raise TypeError(f"payloads must be an iterable of bytes-like objects, got one {type(payloads).__name__}")
        if type(payloads) is not list and type(payloads) is not tuple:
            for payload in payloads:
                self.write_one(payload)
            return
        # The sequence is looked at anew each time round: writing may run Python, which may change it.
        while i < len(payloads):
            i = self.put_run(payloads, i)
            if i < len(payloads):
                self.write_one(payloads[i])
                i += 1

    cdef int write_one(self, object payload) except -1:
        cdef Py_buffer view
        if type(payload) is bytes:
            return self.put(payload, <const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        acquire(payload, &view, "payload")
        try:
            return self.put(payload, <const uint8_t*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef Py_ssize_t put_run(self, object payloads, Py_ssize_t first) except -1:
        """Frames the bytes objects of a list or tuple from `first` on for as long as there is room in the buffer.

        Returns the number of the first payload that it left. It does what `put_directly` does, for many payloads.
        """
        cdef unsigned char[::1] out
        cdef Chunk chunk = self.chunk
        cdef FrameEnds ends
        if len(payloads) - first < MIN_RUN or not self.can_put_directly():
            return first
        chunk.writable = True
        try:
            out = chunk
        finally:
            chunk.writable = False
        # Making the view may have collected garbage, and so have run code that used the writer.
        if not self.can_put_directly() or self.chunk is not chunk:
            return first
        self.get_ends(&ends)
        first = frame_payloads_into(payloads, first, &self.format, out, &ends)
        self.accept(ends.count, ends.used)
        return first

    cdef bint can_put_directly(self) noexcept:
        """Whether frames can be made in the buffer itself, if it has room for them."""
        return (
            self.has_fast_path and not self.busy and self.generation == FORKS and self.chunk is not None
            and self.end_count < self.end_capacity
        )

    cdef int get_ends(self, FrameEnds* ends) noexcept:
        ends.ends = self.ends
        ends.count = self.end_count
        ends.capacity = self.end_capacity
        ends.used = self.used
        return 0

    cdef int accept(self, Py_ssize_t end_count, Py_ssize_t used) noexcept:
        """Counts the frames that were made in the buffer, up to a new number of ends and of used bytes."""
        self.frame_count += <unsigned long long>(end_count - self.end_count)
        self.byte_count += <unsigned long long>(used - self.used)
        self.end_count = end_count
        self.used = used
        return 0

    cdef bint begin_run(self, FrameRun* run) noexcept:
        """Sets a cursor for frames that are made in the buffer itself: `payload_room` and `end_frame` for each, then
        `end_run`. Nothing between the two may run Python.

        Returns False if there is no room, or if a frame needs more than room. Then frame one payload by `put`, and try
        again.
        """
        cdef FrameEnds ends
        if not self.can_put_directly():
            return False
        self.get_ends(&ends)
        start_run(run, &self.format, self.chunk.data, self.chunk.capacity, &ends)
        return True

    cdef int end_run(self, const FrameRun* run) noexcept:
        """Accepts the frames of a run."""
        return self.accept(self.end_count + run.count, run.out - run.base)

    @cython.binding(False)
    @cython.embedsignature(True)
    @cython.embedsignature.format("clinic")
    def write_finished(self, builder, /):
        """Frames the message that `builder` has finished, without a copy of its own; the builder is left as it is.

        Parameters
        ----------
        builder : Builder or flatbuffers.Builder
            Or any object with its ``finished``, ``Bytes`` and ``Head()``. Its ``Finish`` was called.

        Raises
        ------
        FlatbufferError
            ``Finish`` was not called.
        TypeError
            `builder` is no builder.
        OSError, InvalidFrameError, ...
            See `write_payload`.
        """
        self.put_builder(builder, False)

    def write_built(self, build, item):
        """Frames the message of the builder that ``build(item)`` returns.

        Both are one operation: no other thread comes between them, and `build` must not write here itself.
        """
        self.check_open()
        self.enter()
        try:
            self.check_open()
            self.put_builder(build(item), True)
        except FlatStreamError as error:
            self.locate_error(error)
            raise
        finally:
            self.leave()

    cdef int put_builder(self, object builder, bint held) except -1:
        """Frames what `builder` has finished. `held` says that the encoder is held by this thread already."""
        cdef Py_buffer view
        cdef Chunk chunk
        cdef const uint8_t* message
        cdef Py_ssize_t size = 0
        if type(builder) is Builder:
            message = (<Builder>builder).finished_bytes(&size)
            if message is NULL:
                self.refuse_unfinished()
            # While it counts as looked at, the builder leaves it alone, whatever the sink does.
            chunk = (<Builder>builder).chunk
            chunk.exports += 1
            try:
                return self.put_held(chunk, message, size) if held else self.put(chunk, message, size)
            finally:
                chunk.exports -= 1
        try:
            if isinstance(builder, type):
                raise AttributeError
            finished = builder.finished
            data = builder.Bytes
            get_head = builder.Head
        except AttributeError as error:
            raise TypeError(
                "builder must be a finished flatbuffers.Builder, got "
                + (f"the class {builder.__name__}" if isinstance(builder, type) else type(builder).__name__)
            ) from error
        if not finished:
            self.refuse_unfinished()
        head = get_head()
        acquire(data, &view, "builder.Bytes")
        try:
            if not isinstance(head, int):
                raise TypeError(f"builder.Head() must return an int, got {type(head).__name__}: {head!r:.100}")
            if not 0 <= head <= view.len:
                raise FlatbufferError(
                    f"the builder's head is {head}, outside its {view.len} bytes",
                    frame=self.frame_count, offset=self.byte_count,
                )
            if held:
                return self.put_held(data, <const uint8_t*>view.buf + <Py_ssize_t>head, view.len - <Py_ssize_t>head)
            return self.put(data, <const uint8_t*>view.buf + <Py_ssize_t>head, view.len - <Py_ssize_t>head)
        finally:
            PyBuffer_Release(&view)

    cdef int refuse_unfinished(self) except -1:
        raise FlatbufferError(
            "the builder is not finished: call its Finish(root) after building and before writing",
            frame=self.frame_count, offset=self.byte_count,
        )

    cdef inline bint put_directly(self, const uint8_t* data, Py_ssize_t length) noexcept:
        """Frames `length` bytes at `data` if that takes nothing but room in the buffer; returns whether it did."""
        cdef Py_ssize_t head = self.format.header_size
        cdef uint8_t* out
        if (
            not self.has_fast_path or self.busy or length > self.format.max_length
            or self.end_count == self.end_capacity or self.generation != FORKS
            or head + length > self.chunk.capacity - self.used
        ):
            return False
        out = self.chunk.data + self.used
        store_u32(out, <uint32_t>length)
        if self.format.kernel is not NULL:
            store_le(
                out + LENGTH_SIZE, low_bytes(self.format.kernel(data, <size_t>length), self.format.checksum_size),
                self.format.checksum_size,
            )
        fs_copy(out + head, data, <size_t>length)
        self.used += head + length
        self.ends[self.end_count] = self.used
        self.end_count += 1
        self.frame_count += 1
        self.byte_count += <unsigned long long>(head + length)
        return True

    cdef int put(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        """Frames `length` bytes at `data`, which lie inside the object `source`."""
        if self.put_directly(data, length):
            return 0
        return self.put_carefully(source, data, length)

    cdef int put_carefully(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        """`put` for everything that may fail."""
        try:
            return self.put_located(source, data, length)
        except FlatStreamError as error:
            self.locate_error(error)
            raise

    cdef int locate_error(self, object error) except -1:
        """Says in an error where it happened."""
        if error.offset is None:
            error.offset = self.byte_count
        if error.frame is None:
            error.frame = self.frame_count
        return 0

    cdef int put_located(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        cdef uint8_t head[MAX_HEADER_SIZE]
        cdef Py_ssize_t head_size
        self.stands = False
        if (
            self.shut or self.busy or self.refusal is not None or self.generation != FORKS
            or self._framer is None or self._framer.needs_view or self.chunk is None or length >= RELEASE_FROM
        ):
            return self.put_exclusively(source, data, length)
        # Nothing below runs Python or blocks before the frame is in the buffer.
        head_size = self._framer.header(None, data, length, head)
        return self.emit(head, head_size, source, data, length)

    cdef int put_exclusively(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        self.check_open()
        self.enter()
        try:
            # Once more: another thread may have closed or broken it in the meantime.
            self.check_open()
            return self.put_held(source, data, length)
        finally:
            self.leave()

    cdef int put_held(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        cdef uint8_t head[MAX_HEADER_SIZE]
        cdef Py_ssize_t head_size
        self.stands = False
        if not self._framer.needs_view:
            head_size = self._framer.header(None, data, length, head)
            return self.emit_held(head, head_size, source, data, length, False)
        # An observer may be told of the payload now, and must not be told twice: from here on a sink that would block
        # does not refuse the frame, for which the buffer grows if need be. So that it does not grow on, the next is
        # refused here.
        if self.used - self.start > (0 if self.write_through else self.capacity):
            self.drain()
        owner_view = owner_view_of(source, "payload")
        if not self._framer.in_python:
            head_size = self._framer.header(owner_view, data, length, head)
            return self.emit_held(head, head_size, source, data, length, True)
        frame = collect_frame(self._framer, slice_view(owner_view, data, length))
        return self.emit_held(
            NULL, 0, frame, <const uint8_t*>PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), True
        )

    cdef int emit(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size
    ) except -1:
        """Takes one frame: `head_size` bytes, then `body_size` bytes that lie inside `source`. All of it, or an
        error.
        """
        if not self.write_through and head_size + body_size <= self.chunk.capacity - self.used:
            return self.append(head, head_size, body, body_size)
        self.enter()
        try:
            return self.emit_held(head, head_size, source, body, body_size, False)
        finally:
            self.leave()

    cdef int emit_held(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size,
        bint keep,
    ) except -1:
        """`emit`, while this thread holds the encoder. `keep` has a frame wait that the sink has taken nothing of."""
        cdef Py_ssize_t size = head_size + body_size
        cdef Py_ssize_t begin
        if size > self.chunk.capacity - self.used:
            try:
                self.drain()
            except (BlockingIOError, TimeoutError):
                # What the sink did take may have made room enough.
                if self.refusal is not None or (not keep and size > self.capacity - (self.used - self.start)):
                    raise
                self.renew(size if keep else 0)
        if size > self.chunk.capacity - self.used:
            return self.emit_large(head, head_size, source, body, body_size, keep)
        self.append(head, head_size, body, body_size)
        if not self.write_through:
            return 0
        try:
            self.drain()
        except BaseException as error:
            # Not accepted, if it can be taken out again. If the sink has a part of it and goes on later, the frame
            # stands, and the rest follows with the next write. If it does not go on, neither does the encoder.
            begin = self.used - size
            if keep and self.refusal is None and isinstance(error, (BlockingIOError, TimeoutError)):
                return 0
            if self.end_count and (begin >= self.start or self.refusal is not None):
                self.used = begin
                self.start = min(self.start, begin)
                self.end_count -= 1
                self.frame_count -= 1
                self.byte_count -= <unsigned long long>size
                raise
            if not isinstance(error, (BlockingIOError, TimeoutError)):
                self.stands = True
                raise
        return 0

    cdef int append(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* body, Py_ssize_t body_size
    ) except -1:
        """Copies a frame for which there is room."""
        cdef Py_ssize_t capacity
        cdef Py_ssize_t* ends
        if self.end_count == self.end_capacity:
            capacity = 2 * self.end_capacity + 64
            ends = <Py_ssize_t*>PyMem_RawRealloc(self.ends, <size_t>capacity * sizeof(Py_ssize_t))
            if ends is NULL:
                raise MemoryError(f"no memory to note where {capacity} frames end")
            self.ends = ends
            self.end_capacity = capacity
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
        bint keep,
    ) except -1:
        """Hands over a frame that the (empty) buffer cannot hold, without copying its payload."""
        cdef Py_ssize_t size = head_size + body_size, done = 0
        cdef bytes header = head[:head_size] if head_size else b""
        owner_view = owner_view_of(source, "payload")
        try:
            while done < size:
                if done < head_size:
                    pieces = [memoryview(header)[done:], slice_view(owner_view, body, body_size)]
                    if self.sink_writev is not None:
                        done += self.offer(self.sink_writev, pieces, size - done)
                    else:
                        done += self.offer(self.sink_write, pieces[0], head_size - done)
                else:
                    piece = slice_view(owner_view, body + (done - head_size), size - done)
                    done += self.offer(self.sink_write, piece, size - done)
        except BaseException as error:
            if not self.resumable(error):
                self.fault(error, done, False)
                raise
            done += min(blocked_after(error), size - done)
            if not done and not (keep and isinstance(error, (BlockingIOError, TimeoutError))):
                raise
            # The sink has its beginning, so the frame is accepted, and its rest waits in the buffer.
            try:
                self.keep_rest(header, body, body_size, done)
            except BaseException as second:
                self.refuse(second, f"{done} bytes into it, and there is no memory to keep the rest")
                raise
            if isinstance(error, (BlockingIOError, TimeoutError)):
                return 0
            self.stands = True
            raise
        self.frame_count += 1
        self.byte_count += <unsigned long long>size
        return 0

    cdef int keep_rest(self, bytes header, const uint8_t* body, Py_ssize_t body_size, Py_ssize_t done) except -1:
        """Puts what a sink left of a frame, of which it took `done` bytes, into the (empty) buffer."""
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

    def drain_buffer(self):
        """Hands everything in the buffer to the sink.

        Raises
        ------
        OSError
            The sink failed; what it did not take stays in the buffer, unless the encoder refuses to go on.
        BlockingIOError
            The sink would block; what it did not take stays in the buffer.
        """
        self.check_open()
        self.enter()
        try:
            self.check_open()
            self.drain()
        finally:
            self.leave()

    def drain_and_shut(self):
        """Hands everything over and refuses every later write, as one operation: no frame can slip in between.

        Returns True, or False if another thread has shut it and is finishing: from shutting it until it has let go of
        the sink, or says that it has not. If the sink fails, the encoder is shut all the same, unless the rest may be
        offered again later.

        Raises
        ------
        OSError, BlockingIOError
            See `drain_buffer`.
        """
        if self._finishing:
            return False
        self.check_open()
        self.enter()
        try:
            # While this one waited.
            if self._finishing:
                return False
            self.check_open()
            try:
                self.drain()
            except BaseException as error:
                if not self.resumable(error):
                    self.shut_down()
                raise
            self._finishing = True
            self.shut_down()
            return True
        finally:
            self.leave()

    def shut_down(self):
        """Refuses every later write. What is in the buffer stays there."""
        self.shut = True
        self.has_fast_path = False

    @property
    def is_shut(self):
        """Whether `shut_down` was called."""
        return self.shut

    @property
    def is_refusing(self):
        """Whether the sink failed inside a frame, so that nothing more is written."""
        return self.refusal is not None

    @property
    def is_foreign(self):
        """Whether this process is a fork of the one that made the encoder."""
        return self.generation != FORKS

    cdef int drain(self) except -1:
        cdef Py_ssize_t size
        if self.owner_view is None:
            self.owner_view = PyMemoryView_FromObject(self.chunk)
        try:
            while self.start < self.used:
                size = self.used - self.start
                # The number of bytes taken is added before any Python runs again, so that no signal can make it wrong.
                self.start += self.offer(
                    self.sink_write, slice_view(self.owner_view, self.chunk.data + self.start, size), size
                )
        except BaseException as error:
            if self.resumable(error):
                # What is left is not moved to the front: a sink that takes a little at a time would have all of it
                # copied each time.
                self.start += min(blocked_after(error), self.used - self.start)
            else:
                self.fault(error, self.start - self.frame_begin(), True)
            raise
        self.renew(0)
        return 0

    cdef int resumable(self, object error) except -1:
        """Whether it is known how much the sink took, and whether nothing speaks against offering the rest again later.

        That is so when a sink says that it would block, and when a call that moves bytes in one step was cut short by
        something other than the device's own error: a time limit, a signal handler that raised.
        """
        if isinstance(error, BlockingIOError):
            return True
        return self.exact and (isinstance(error, TimeoutError) or not isinstance(error, OSError))

    cdef Py_ssize_t offer(self, object function, object argument, Py_ssize_t size) except -1:
        """Calls `function` with `argument`, of which it takes `size` bytes or fewer; returns how many."""
        cdef Py_ssize_t taken
        while True:
            try:
                if function is self.sink_writev and self.sink_fileno is not None:
                    count = function(self.sink_fileno(), argument)
                else:
                    count = function(argument)
            except InterruptedError:
                # Python's own sinks retry after a signal; others may not.
                continue
            except MemoryError:
                # It may have taken the bytes, and had no memory for their number.
                self.exact = False
                raise
            if count is None:
                if not self.none_blocks:
                    return size
                count = 0
            taken = -1
            if isinstance(count, int):
                # Nothing here needs memory: it is known how many bytes the sink took, and must not be lost.
                try:
                    taken = count
                except OverflowError:
                    pass
            if not 0 <= taken <= size:
                error = OSError(
                    errno.EIO, f"the sink's write() was offered {size} bytes and returned {count!r:.100}: how many it "
                    "took is unknown"
                )
                # Even an exact sink has lost count now.
                self.exact = False
                raise error
            if not taken:
                raise BlockingIOError(
                    errno.EAGAIN, "the sink would block: what it has not taken stays in the writer's buffer", 0
                )
            return taken

    cdef int renew(self, Py_ssize_t extra) except -1:
        """Moves what is left to the front of the buffer, and takes another if the sink still looks at this one.

        It has its usual capacity then, or more if what is left and `extra` bytes need it.
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
        self.start = 0
        self.used = rest
        return 0

    cdef Py_ssize_t frame_begin(self) noexcept:
        """Where in the buffer the frame begins that the byte at `start` belongs to."""
        cdef Py_ssize_t i, begin = self.origin
        for i in range(self.end_count):
            if self.ends[i] > self.start:
                break
            begin = self.ends[i]
        return begin

    cdef int fault(self, object error, Py_ssize_t torn, bint buffered) except -1:
        """Decides how to go on after the sink failed with `error`, when it has `torn` bytes of an unfinished frame.

        `buffered` says that the frame is in the buffer, and not one that goes out directly.
        """
        cdef bint whole = self.exact and torn == 0
        # What went out directly before is not there to be handed over again, so taking it back would not help.
        cdef bint can_repeat = not buffered or torn <= self.start
        if self.exact and torn and can_repeat and self.sink_rollback is not None:
            try:
                whole = self.sink_rollback(torn)
            except OSError as second:
                error.add_note(f"taking back the {torn} bytes of the unfinished frame failed too: {second}")
            except BaseException as second:
                # A signal: whether they were taken back is not known.
                self.refuse(second, f"{torn} bytes into it, or taken back to its beginning")
                raise
            if whole and buffered:
                self.start -= torn
        if not whole:
            self.refuse(error, f"{torn} bytes into it" if self.exact else "it is not known how far into it")
        return 0

    cdef int refuse(self, object error, str where) except -1:
        """Writes nothing any more: the stream ends inside a frame, `where`."""
        self.refusal = error
        self.has_fast_path = False
        error.add_note(
            f"the sink stands in frame {self.frame_count - self.end_count}, {where}: this writer refuses every later "
            "write"
        )
        return 0


cdef Py_ssize_t blocked_after(object error) except -1:
    """How many bytes a sink says it took before it would block."""
    taken = getattr(error, "characters_written", 0)
    return taken if isinstance(taken, int) and taken > 0 else 0

# cython: boundscheck=False, wraparound=False
"""The encoder: payloads in, frames out, into its output buffer."""

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from flatstream._core.base.buffers cimport Chunk, acquire, owner_view_of, slice_view
from flatstream._core.base.checks cimport index_of
from flatstream._core.base.endian cimport load_u32, low_bytes, store_le, store_u32
from flatstream._core.base.exclusive cimport FORKS
from flatstream._core.checksums.checksum cimport RELEASE_FROM
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.flatbuf.message_builder cimport MessageBuilder, has_size_prefix
from flatstream._core.framing.framer cimport (
    FrameEnds, Framer, FramerAdapter, FrameRun, checked_limit, collect_frame, frame_payloads_into, fs_copy,
    get_framer_format, start_run,
)
from flatstream._core.framing.transform cimport accepters_of, framers_of, has_own_frames
from flatstream._core.framing.wire cimport LENGTH_SIZE, MAX_HEADER_SIZE
from flatstream._core.stream.frame_batch cimport FrameBatch
from flatstream._core.stream.output_buffer cimport OutputBuffer

from flatstream.errors import FlatbufferError, FlatStreamError

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object sequence)
    # These take a borrowed reference: as an object, its reference count would go up and down.
    bint PyBytes_CheckExact(PyObject* o)
    Py_ssize_t borrowed_size "PyBytes_GET_SIZE"(PyObject* o)
    char* borrowed_bytes "PyBytes_AS_STRING"(PyObject* o)

# Fewer payloads than this, or payloads of which the buffer holds fewer, are framed without a typed view of the buffer,
# which costs about 100 ns: more than the loop over it saves then.
cdef enum:
    MIN_RUN = 32


def check_buffer_size(value):
    """Raises the error that `Encoder` raises for this `buffer_size`, so that it comes before a file is opened."""
    checked_limit("buffer_size", value)


@cython.auto_pickle(False)
cdef class Encoder(OutputBuffer):
    """Frames payloads into a buffer and hands the buffer to a sink.

    Parameters
    ----------
    framer : Framer
        Makes the frames. Its own frames before the first message are put by `_begin`, or with the first message.
    buffer_size : int
        How many bytes are gathered before the sink gets them; 0 hands over each frame at once.
    write : callable
        Takes a memoryview; returns how many of its bytes it took, or None.
    writev : callable, optional
        Takes a list of memoryviews and returns how many of their bytes it took. With it, a payload larger than the
        buffer is handed over together with its header.
    fileno : callable, optional
        Returns the descriptor that `writev` takes before the list. It is called for each `writev`.
    rollback : callable, optional
        ``rollback(n)`` removes the last n bytes from the sink and returns True, or returns False if it cannot.
    error_takes_nothing : bool
        Whether `write` took none of its argument if it raises (as a system call). Otherwise that is not known (as for a
        buffer with a file behind it).
    none_blocks : bool
        Whether None from `write` means that the sink would block and took nothing (io.RawIOBase). Otherwise it means
        that the sink took all.
    takes_at_once : bool
        Whether `write` and `writev` have read or copied the bytes when they return. Otherwise they may keep them, and
        get bytes that never change: those of a payload that is a bytes object, or copies.
    session : Framer, optional
        What ``framer.start()`` returned, if it was called already.
    """

    def __cinit__(self, *args, **kwargs):
        self.generation = FORKS

    def __init__(
        self, framer, buffer_size, write, *, writev=None, fileno=None, rollback=None, error_takes_nothing=False,
        none_blocks=False, takes_at_once=False, session=None,
    ):
        if not isinstance(framer, Framer):
            raise TypeError(f"framer must be an instance of Framer, got {framer!r:.100}")
        cdef Py_ssize_t size = checked_limit("buffer_size", buffer_size)
        if session is None:
            session = framer.start()
        check_session(framer, session)
        self.given = framer
        self.set_sink(size, write, writev, fileno, rollback, error_takes_nothing, none_blocks, takes_at_once)
        self.use_session(session)

    cdef int cache_fast_path(self) except -1:
        """Stores what the framer does to a payload, if it need not be called for each."""
        self.has_fast_path = get_framer_format(self._framer, &self.format) and not self.write_through and (
            not self.has_edge
        )
        if self.format.kernel is not NULL:
            # A checksum of more bytes releases the lock, and for that the encoder must be held.
            self.format.max_length = min(self.format.max_length, RELEASE_FROM - 1)
        return 0

    cdef int use_session(self, object session) except -1:
        """Frames with `session`, the copy of the framer for this stream."""
        self._framer = session
        self.accepters = accepters_of(session)
        self.has_own_frames = self.is_unbegun = self.has_edge = has_own_frames(session)
        return self.cache_fast_path()

    # The framer's own frames

    def _restart(self, after, description=None):
        """Begins with another copy of the framer: for a stream to which is appended. Nothing was written yet.

        `after` is what ``Framer.start`` gets, and `description` the payload of the stream's description, or None.
        """
        self.enter()
        try:
            self.check_open()
            if self.frame_count != self.head_count or self.has_own_frames != self.is_unbegun:
                raise ValueError("this writer has begun already")
            session = self.given.start(after)
            check_session(self.given, session)
            bind_description(session, description)
            self.use_session(session)
        finally:
            self.leave()

    def _begin(self, frames=None):
        """Puts the framer's own frames before the first message: `frames`, if they were made already."""
        self.enter()
        try:
            self.check_open()
            self.begin_held(frames)
        finally:
            self.leave()

    cdef int begin_held(self, object frames) except -1:
        """`_begin`, while this thread holds the encoder. Does nothing if they were put."""
        if not self.is_unbegun:
            return 0
        if frames is None:
            frames = control_frames_of(self._framer, "begin")
        self.put_control(frames)
        self.is_unbegun = self.has_edge = False
        self.head_count += <unsigned long long>len(frames)
        for frame in frames:
            self.head_size += <unsigned long long>len(frame)
        return self.cache_fast_path()

    cdef int put_finish(self) except -1:
        if not self.has_own_frames or self.is_finished or self.is_unbegun or self._framer is None:
            return 0
        if self.is_untold:
            self.tell()
        try:
            frames = control_frames_of(self._framer, "finish")
        except Exception as error:
            # The messages reach the sink all the same.
            self.finish_error = error
            frames = []
        self.put_control(frames)
        self.tail_count = <unsigned long long>len(frames)
        for frame in frames:
            self.tail_size += <unsigned long long>len(frame)
        self.is_finished = self.has_edge = True
        return 0

    cdef int check_edge(self) except -1:
        """Before a message: puts what stands before it, or raises if the end was written."""
        if self.is_finished:
            raise ValueError(f"this {type(self).__name__} is being closed: the end of the stream was written already")
        return self.begin_held(None)

    # State

    @property
    def framer(self):
        """The framer."""
        return self.given

    @property
    def _session(self):
        """The copy of the framer that this stream has for itself."""
        return self._framer

    @property
    def _is_forked_copy(self):
        """Whether this process is a fork of the process that made the encoder."""
        return self.generation != FORKS

    cdef int check_open(self) except -1:
        if self.generation != FORKS:
            raise RuntimeError(
                f"this {type(self).__name__} belongs to the process that made it: after a fork both would write to one "
                "sink, so the child must open its own"
            )
        OutputBuffer.check_open(self)
        # The garbage collector sets it to None when it clears a reference cycle.
        if self._framer is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return 0

    # Writing

    # The interpreter calls a plain method of one positional argument fastest: 20 ns a message, 31 for an ordinary
    # compiled function (F4 of asv_benchmarks/framing.py). The directives keep its signature for help().
    @cython.binding(False)
    @cython.embedsignature(True)
    @cython.embedsignature.format("clinic")
    def write_payload(self, payload, /):
        """Writes a finished message, any C-contiguous buffer of at most 2**32 - 1 bytes.

        The bytes may be changed as soon as the call returns.
        """
        if type(payload) is bytes and self.put_directly(
            <const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)
        ):
            return
        self.write_one(payload)

    def write_payloads(self, payloads):
        """Writes each of `payloads`, an iterable of bytes-like objects, in order.

        If one is refused, those before it are written; `frames_written` says how many.
        """
        cdef Py_ssize_t i = 0
        if isinstance(payloads, (bytes, bytearray, memoryview, str)) or not hasattr(type(payloads), "__iter__"):
            raise TypeError(f"payloads must be an iterable of bytes-like objects, got one {type(payloads).__name__}")
        if type(payloads) is not list and type(payloads) is not tuple:
            for payload in payloads:
                self.write_one(payload)
            return
        # The length is read again in each turn: a write may run Python code, which may change the sequence.
        while i < len(payloads):
            i = self.put_run(payloads, i)
            if i < len(payloads):
                self.write_one(payloads[i])
                i += 1

    def write_frames(self, batch):
        """Writes the frames of a `FrameBatch` as they are, headers included, without a copy if there are many.

        The reader and the writer must have the same checksum; ValueError otherwise, and nothing is written. A framer
        that observes or validates payloads gets each of them. If a frame is not accepted, those before it are written;
        `frames_written` says how many.
        """
        cdef HeaderFormat format
        cdef FrameBatch frames
        cdef Py_ssize_t i = 0, count, run
        if not isinstance(batch, FrameBatch):
            raise TypeError(f"batch must be a FrameBatch, got {type(batch).__name__}: use write_payloads()")
        frames = batch
        count = frames.starts.length
        if frames.is_restored:
            raise ValueError(
                f"the payloads of this batch were restored by {frames.deframer!r:.100}, so that it has no frames: use "
                "write_payloads(batch), which frames the payloads again"
            )
        self.check_open()
        if not get_framer_format(self._framer, &format):
            while i < count:
                self.write_one(frames.view(i))
                i += 1
            return
        self.check_same_frames(frames, &format)
        # A view of our own, which the caller cannot release.
        view = PyMemoryView_FromObject(frames.buffer)
        while i < count:
            # A run of frames that follow one another. (It ends where one is longer than the framer's bound.)
            run = count_of_run(view, frames, i, &format)
            if not run:
                # The error for this payload is the framer's.
                self.write_one(frames.view(i))
                i += 1
                continue
            self.enter()
            try:
                self.check_open()
                if self.has_edge:
                    self.check_edge()
                self.pass_on(view, frames.starts.data + i, frames.sizes.data + i, run, format.header_size)
            finally:
                self.leave()
            i += run

    cdef int check_same_frames(self, FrameBatch batch, const HeaderFormat* format) except -1:
        """Raises ValueError unless the frames of `batch` are those that a framer with this format makes."""
        cdef HeaderFormat found
        if batch.deframer is not None and batch.deframer.locate_is_native:
            batch.deframer.get_format(&found)
            if (
                found.header_size == format.header_size and found.checksum_size == format.checksum_size
                and found.kernel == format.kernel
            ):
                return 0
        raise ValueError(
            f"the frames of this batch were found by {batch.deframer!r}, and {self._framer!r} makes others: use "
            "write_payloads(batch), which frames the payloads again"
        )

    cdef int write_one(self, object payload) except -1:
        cdef Py_buffer view
        if type(payload) is bytes:
            return self.put(payload, <const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        if isinstance(payload, MessageBuilder) and (<MessageBuilder>payload).size_prefixed:
            self.fail_prefixed()
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
        cdef Py_ssize_t count = len(payloads)
        cdef PyObject** items = PySequence_Fast_ITEMS(payloads)
        if not self.can_put_directly() or not PyBytes_CheckExact(items[first]):
            return first
        if (
            count - first < MIN_RUN
            or borrowed_size(items[first]) > (chunk.capacity - self.used) // MIN_RUN - self.format.header_size
        ):
            # Nothing here runs Python, so the sequence cannot change.
            while first < count and PyBytes_CheckExact(items[first]) and self.put_directly(
                <const uint8_t*>borrowed_bytes(items[first]), borrowed_size(items[first])
            ):
                first += 1
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
        """Writes the message that `builder` has finished; the builder is not changed.

        It is a Builder, a flatbuffers.Builder, or an object with their ``finished``, ``Bytes`` and ``Head()``.
        """
        self.put_builder(builder, False)

    def _write_built(self, build, item):
        """Frames the message of the builder that ``build(item)`` returns.

        Both are one operation: no other thread can write in between, and `build` must not write to this encoder.
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
        """Frames the message that `builder` has finished. `held` is whether this thread already holds the encoder."""
        cdef Py_buffer view
        cdef Chunk chunk
        cdef const uint8_t* message
        cdef Py_ssize_t size = 0
        cdef bint prefixed
        if type(builder) is Builder or type(builder) is MessageBuilder:
            message = (<MessageBuilder>builder).finished_bytes(&size)
            if message is NULL:
                if (<MessageBuilder>builder).size_prefixed:
                    self.fail_prefixed()
                self.fail_unfinished()
            # While the chunk counts as exported, the builder does not reuse it, whatever code the sink runs.
            chunk = (<MessageBuilder>builder).chunk
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
            self.fail_unfinished()
        head = get_head()
        acquire(data, &view, "builder.Bytes")
        try:
            # An exact int: a subclass can compare as it likes.
            given = head
            head = index_of(given)
            if head is None:
                raise TypeError(f"builder.Head() must return an int, got {type(given).__name__}: {given!r:.100}")
            if not 0 <= head <= view.len:
                raise FlatbufferError(
                    f"the builder's head is {head}, outside its {view.len} bytes",
                    frame=self.frame_count - self.head_count, offset=self.byte_count,
                )
            if isinstance(builder, MessageBuilder):
                prefixed = (<MessageBuilder>builder).size_prefixed
            else:
                prefixed = has_size_prefix(
                    <const uint8_t*>view.buf + <Py_ssize_t>head, <uint64_t>(view.len - <Py_ssize_t>head)
                )
            if prefixed:
                self.fail_prefixed()
            if held:
                return self.put_held(data, <const uint8_t*>view.buf + <Py_ssize_t>head, view.len - <Py_ssize_t>head)
            return self.put(data, <const uint8_t*>view.buf + <Py_ssize_t>head, view.len - <Py_ssize_t>head)
        finally:
            PyBuffer_Release(&view)

    cdef int fail_prefixed(self) except -1:
        raise FlatbufferError(
            "the builder was finished with FinishSizePrefixed, but a frame has its own length, and without the prefix "
            "the message would be misaligned: call Finish(root) instead",
            frame=self.frame_count - self.head_count, offset=self.byte_count,
        )

    cdef int fail_unfinished(self) except -1:
        raise FlatbufferError(
            "the builder is not finished: call its Finish(root) after building and before writing",
            frame=self.frame_count - self.head_count, offset=self.byte_count,
        )

    cdef inline bint put_directly(self, const uint8_t* data, Py_ssize_t length) noexcept:
        """Frames `length` bytes at `data` if there is the fast path and room in the buffer; returns whether it did."""
        cdef Py_ssize_t head = self.format.header_size
        cdef uint8_t* out
        if (
            not self.has_fast_path or self.busy or length > self.format.max_length
            or length < self.format.min_length or self.end_count == self.end_capacity or self.generation != FORKS
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
        """Frames `length` bytes at `data`, inside the object `source`."""
        if self.put_directly(data, length):
            return 0
        return self.put_slow(source, data, length)

    cdef int put_slow(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        """`put` for payloads that `put_directly` does not frame; whatever may fail is here."""
        try:
            return self.put_unlocked(source, data, length)
        except FlatStreamError as error:
            self.locate_error(error)
            raise

    cdef int locate_error(self, object error) except -1:
        """Stores in an error where it happened."""
        if error.offset is None:
            error.offset = self.byte_count
        if error.frame is None:
            error.frame = self.frame_count - self.head_count
        return 0

    cdef int put_unlocked(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        """Frames a payload without holding the encoder, if no other code can run before the frame is in the buffer."""
        cdef uint8_t head[MAX_HEADER_SIZE]
        cdef Py_ssize_t head_size
        self.frame_committed = False
        if (
            self.shut or self.busy or self.broken_by is not None or self.generation != FORKS
            or self._framer is None or self._framer.needs_view or self.chunk is None or length >= RELEASE_FROM
            or self.has_edge
        ):
            return self.put_exclusively(source, data, length)
        # Nothing here runs Python or blocks before the frame is in the buffer.
        head_size = self._framer.header(None, data, length, head)
        return self.emit(head, head_size, source, data, length)

    cdef int put_exclusively(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        self.check_open()
        self.enter()
        try:
            # Again: another thread may have closed or broken it in the meantime.
            self.check_open()
            return self.put_held(source, data, length)
        finally:
            self.leave()

    cdef int put_held(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        """Frames a payload while this thread holds the encoder."""
        cdef uint8_t head[MAX_HEADER_SIZE]
        cdef Py_ssize_t head_size
        self.frame_committed = False
        if self.has_edge:
            self.check_edge()
        if not self._framer.needs_view:
            head_size = self._framer.header(None, data, length, head)
            return self.emit_held(head, head_size, source, data, length, False)
        # An observer gets each payload once, and gets this one now. So from here on the frame is accepted even if the
        # sink would block, and the buffer grows if need be. The next payload is refused here, so that it does not grow
        # any further.
        if self.used - self.start > (0 if self.write_through else self.capacity):
            self.drain()
        if self._framer.has_transform:
            return self.put_transformed(source, data, length)
        owner_view = owner_view_of(source, "payload")
        if not self._framer.in_python:
            head_size = self._framer.header(owner_view, data, length, head)
            return self.emit_held(head, head_size, source, data, length, True)
        frame = collect_frame(self._framer, slice_view(owner_view, data, length))
        return self.emit_held(
            NULL, 0, frame, <const uint8_t*>PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), True
        )

    cdef int put_transformed(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        """`put_held` for a framer with transforms, which is told when its frame is accepted."""
        cdef uint8_t head[MAX_HEADER_SIZE]
        cdef Py_ssize_t head_size = 0, size
        cdef const uint8_t* body
        cdef Framer framer = self._framer
        if self.is_untold:
            self.tell()
        owner_view = slice_view(owner_view_of(source, "payload"), data, length)
        if framer.in_python:
            owner_view = collect_frame(framer, owner_view)
            body = <const uint8_t*>PyBytes_AS_STRING(owner_view)
            size = PyBytes_GET_SIZE(owner_view)
        else:
            while framer.has_transform:
                owner_view = (<FramerAdapter>framer).converted(owner_view)
                framer = (<FramerAdapter>framer)._inner
            body = <const uint8_t*>PyMemoryView_GET_BUFFER(owner_view).buf
            size = PyMemoryView_GET_BUFFER(owner_view).len
            head_size = framer.header(owner_view, body, size, head)
        self.shows_later = self.watcher is not None
        self.owes_hand_over = False
        try:
            self.emit_held(head, head_size, owner_view, body, size, True)
        except BaseException:
            if self.frame_committed:
                self.tell()
            raise
        finally:
            self.shows_later = False
        if self.watcher is not None:
            self.watcher.see_message(
                data, length, head, head_size, body, size, self.frame_count - self.head_count - 1,
                self.byte_count - <unsigned long long>(head_size + size),
            )
        # Whatever is raised from here on, the frame is accepted.
        self.frame_committed = True
        self.tell()
        if self.owes_hand_over and self.watcher is not None and self.start == self.used:
            self.tell_watcher()
        return 0

    cdef int tell(self) except -1:
        """Tells the framers that the last frame was accepted; again before the next one, if that raised."""
        if self.accepters is not None:
            self.is_untold = True
            for link in self.accepters:
                link.accepted()
            self.is_untold = False
        return 0


cdef int bind_description(object session, object description) except -1:
    """Tells the framers of a chain the payload of the description, if there is one."""
    if description is not None:
        for link in framers_of(session):
            link.bind_description(description)
    return 0


cdef list control_frames_of(Framer session, str name):
    """The result of a framer's `begin` or `finish`, checked."""
    frames = getattr(session, name)()
    if not isinstance(frames, list) or not all([type(frame) is bytes and frame for frame in frames]):
        raise TypeError(
            f"{type(session).__name__}.{name} must return a list of frames, each bytes, got {frames!r:.100}"
        )
    return frames


def begin_session(Framer framer not None, description=None, after=None):
    """A framer's copy for one stream, and its own frames before the first message.

    For `Encoder`, before its sink is opened: so that an error does not empty a file.

    Parameters
    ----------
    framer : Framer
        Whose ``start`` is called.
    description : bytes, optional
        The payload of the stream's description.
    after : bytes, optional
        What ``start`` gets.

    Returns
    -------
    (Framer, list of bytes)
    """
    session = framer.start(after)
    check_session(framer, session)
    bind_description(session, description)
    return session, control_frames_of(session, "begin")


cdef int check_session(object framer, object session) except -1:
    if not isinstance(session, Framer):
        raise TypeError(f"{type(framer).__name__}.start must return a Framer, got {session!r:.100}")
    return 0


cdef bint is_one_run(
    const uint8_t* data, Py_ssize_t size, const long long* sizes, Py_ssize_t count, const HeaderFormat* format,
    bint check_headers
) noexcept nogil:
    """Whether the `size` bytes at `data` are `count` frames of this format with payloads of these sizes.

    The loops have no branches, and the headers are read only if they have to be: that takes as long as copying all of
    the bytes (W1 of asv_benchmarks/framing.py).
    """
    cdef Py_ssize_t i, head = format.header_size
    cdef long long total = 0, signs = 0, longest = format.max_length, shortest = format.min_length
    cdef uint32_t differing = 0
    for i in range(count):
        # Negative if a size is outside of the limits.
        signs |= (sizes[i] - shortest) | (longest - sizes[i])
        total += sizes[i]
    if signs < 0 or total + count * head != size:
        return False
    if not check_headers:
        return True
    # Each frame lies inside of the bytes.
    for i in range(count):
        differing |= load_u32(data) ^ <uint32_t>sizes[i]
        data += head + sizes[i]
    return not differing


cdef Py_ssize_t count_of_run(
    object owner_view, FrameBatch batch, Py_ssize_t first, const HeaderFormat* format
) except -1:
    """How many frames of `batch`, from `first` on, follow one another without a gap and are of this format.

    If the memory is that of a caller, who may have changed it, the lengths are compared with those in the headers.
    """
    cdef const Py_buffer* view = PyMemoryView_GET_BUFFER(owner_view)
    cdef const uint8_t* data = <const uint8_t*>view.buf
    cdef Py_ssize_t i = first, count = batch.starts.length, head = format.header_size, end
    cdef Py_ssize_t begin = <Py_ssize_t>batch.starts.data[first] - head
    cdef long long length
    cdef const long long* starts = batch.starts.data
    cdef const long long* sizes = batch.sizes.data
    if begin < 0:
        raise ValueError(f"frame {first} of the batch has no header of {head} bytes")
    end = <Py_ssize_t>(starts[count - 1] + sizes[count - 1])
    if begin <= end <= view.len and is_one_run(
        data + begin, end - begin, sizes + first, count - first, format, batch.may_change
    ):
        return count - first
    while i < count and starts[i] == begin + head:
        length = sizes[i]
        if length > format.max_length or length < format.min_length or length > view.len - begin - head:
            break
        if batch.may_change and load_u32(data + begin) != <uint32_t>length:
            raise ValueError(
                f"frame {i} of the batch was changed after it was read: its header says {load_u32(data + begin)} "
                f"bytes, and it had {length}"
            )
        begin += head + <Py_ssize_t>length
        i += 1
    return i - first

# cython: boundscheck=False, wraparound=False
"""The decoder: bytes of a stream in, views of its payloads out."""

import errno
from functools import partial
from time import monotonic

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.ref cimport PyObject
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from flatstream._core.base.buffers cimport Chunk, IndexArray, slice_view, try_reuse_view
from flatstream._core.base.checks cimport checked_int, index_of
from flatstream._core.checksums.checksum cimport RELEASE_FROM
from flatstream._core.framing.deframer cimport (
    Deframer, FrameIndex, NonEmptyDeframer, checksum_matches, index_frames_of, whole_payload_at,
)
from flatstream._core.framing.transform cimport TransformDeframer, deframers_of
from flatstream._core.framing.wire cimport MAX_PAYLOAD_LEN, HeaderFormat
from flatstream._core.stream.frame_batch cimport FrameBatch
from flatstream._core.stream.head cimport HeadBuffer
from flatstream._core.stream.input_buffer cimport MAX_CAPACITY
from flatstream._core.stream.losses cimport (
    ON_ERROR_RAISE, ON_ERROR_RESYNC, ON_ERROR_SKIP, ON_ERROR_STOP, Losses, on_error_of,
)

from flatstream.errors import (
    ChecksumMismatchError, FlatbufferError, FlatStreamError, InvalidFrameError, UnexpectedEofError,
    ValidationFailedError,
)

from flatstream._core.stream.losses import NAMES as _NAMES

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    ctypedef struct TypeSlots "PyTypeObject":
        void* tp_iternext

# The most frames in a batch by default. Its index then has 128 KiB, which stays in the processor's caches and which the
# allocator has without asking the system for pages. A frame of 64 bytes takes 2.5 ns; with 65,536 frames in a batch 2.9
# ns, with 200,000 frames 6 ns (BatchSizes of asv_benchmarks/deframing.py).
cdef enum:
    DEFAULT_BATCH = 1 << 13

# A batch of restored payloads ends when it has so many bytes of them: a chunk of compressed frames can become any size.
cdef enum:
    MAX_RESTORED = 4 << 20

DEFAULT_RESYNC_WINDOW = 64 << 20

_MODE_NAMES = {mode: name for name, mode in _NAMES.items()}

# A note for an error about the first message of a stream: with another checksum, or none, messages begin elsewhere.
FIRST_FAILED = (
    "nothing was read before it: was the stream written with another checksum (flatstream.detect tells), or with "
    "another schema?"
)


@cython.auto_pickle(False)
cdef class Decoder(HeadBuffer):
    """Finds frames in the bytes of a source.

    Parameters
    ----------
    deframer : Deframer
        Finds the frames.
    capacity : int
        The size of a chunk in bytes.
    batch_capacity : int
        The size of a chunk while batches are read (`read_batch`, and all that reads columns), once as many bytes have
        been read. 0: `capacity`, as always with a memory policy.
    readinto : callable, optional
        Takes a writable memoryview and returns how many bytes it put there, 0 at the end, None if it would block.
    read : callable, optional
        Takes a number of bytes and returns at most that many, b"" at the end, None if it would block.
    buffer : bytes-like, optional
        The whole stream. Payloads are then views of this object. Exactly one of the three is given.
    memory_policy : MemoryPolicy, optional
        Decides when a chunk that grew for a large frame shrinks to `capacity` again.
    error_takes_nothing : bool
        Whether `readinto` took nothing from the source if it raises (as a system call). Otherwise that is not known (as
        for code that runs after one).
    follower : flatstream._follow.Follower, optional
        The source is a file that is being written, and `readinto` is the follower's. Reads wait for frames.
    parts : flatstream.journal._parts.Parts, optional
        The source has parts, whose bytes `readinto` gives one after the other: it returns 0 at the end of each one,
        until ``parts.advance()`` has begun the next. Damage, and a frame that is not whole, never reach into the next
        part. If `parts` is the follower too, it is so while ``parts.is_growing``; other parts are read as any file.
    on_error, resync_window
        See `StreamReader`. With an `on_error` other than "raise", `deframer` refuses empty payloads already.
    allow_empty : bool, optional
        Whether operations with another `on_error` than that of the decoder take empty payloads. By default not.
    seekable : bool
        Whether a frame that is larger than the window, and in whose beginning no others were found, is read whole.
    bytes_left : callable, optional
        Returns how many bytes the source has that were not taken from it, 0 if that is not known. A frame that is
        larger than the window, and of which all bytes are there, is read whole, and searched only if it is damaged.
    parse_description : callable, optional
        Makes what `_description` returns from the payload of the first frame of the stream, or of a part, if that is a
        description, or raises FlatbufferError. The frame is then no message. By default every frame is one.
    deframer_for : callable, optional
        ``deframer_for(description)`` returns a deframer for the frames behind a description, or None: `deframer` goes
        on. If it raises, each read of a message raises the same exception.
    """

    def __cinit__(self, *args, **kwargs):
        self.losses = Losses()

    def __init__(
        self, deframer, capacity, *, readinto=None, read=None, buffer=None, memory_policy=None,
        error_takes_nothing=False, follower=None, parts=None, on_error="raise", resync_window=DEFAULT_RESYNC_WINDOW,
        allow_empty=None, seekable=False, bytes_left=None, parse_description=None, deframer_for=None, batch_capacity=0,
    ):
        if not isinstance(deframer, Deframer):
            raise TypeError(f"deframer must be an instance of Deframer, got {deframer!r:.100}")
        mode = on_error_of(on_error, ON_ERROR_RAISE)
        window = checked_int("resync_window", resync_window, 1, MAX_CAPACITY)
        batch_size = checked_int("batch_capacity", batch_capacity, 0, MAX_CAPACITY)
        session = deframer.start()
        self.set_source(capacity, readinto, read, buffer, memory_policy, error_takes_nothing)
        self.batch_capacity = batch_size if memory_policy is None else 0
        self.follower = follower
        self.parts = parts
        self.own_mode = mode
        self.resync_window = window
        self.allow_empty = allow_empty
        self.reads_whole_frames = seekable
        self.bytes_left = bytes_left
        self.trusted = -1
        self.first_seen = PY_SSIZE_T_MAX
        self.parse_description = parse_description
        self.deframer_for = deframer_for
        self.given = deframer
        self.use_session(deframer, session)
        if parts is None or parts.begins_at(0):
            self.begin_head()

    cdef int cache_fast_path(self) except -1:
        """Stores how the deframer finds frames, if it need not be called for each."""
        self.has_fast_path = self._deframer.is_batchable
        if self.has_fast_path:
            self._deframer.get_format(&self.format)
            self.fast_limit = min(self.format.max_length, RELEASE_FROM - 1)
            if self.follower is not None:
                # Empty frames may be zeros at the end of the file, which `ends_in_zeros` finds.
                self.format.min_length = max(1, self.format.min_length)
        return 0

    cdef int use_deframer(self, object deframer) except -1:
        """Finds the frames from here on with `deframer`."""
        return self.use_session(deframer, deframer.start())

    cdef int use_session(self, object deframer, object session) except -1:
        """Finds the frames from here on with `session`, the copy of `deframer` for this stream."""
        if not isinstance(session, Deframer):
            raise TypeError(f"{type(deframer).__name__}.start must return a Deframer, got {session!r:.100}")
        links = deframers_of(session)
        stages = [link for link in links if isinstance(link, TransformDeframer)]
        self.in_use = deframer
        self._deframer = session
        self.stages = stages or None
        self.has_state = any([(<TransformDeframer>stage).has_state for stage in stages])
        self.state_before = self.state_refused = None
        self.enders = [link for link in links if type(link).end is not Deframer.end] or None
        self.strict = None
        self.tolerant = False
        self.cache_fast_path()
        return self.choose_active(self.mode)

    # State

    @property
    def deframer(self):
        """The deframer."""
        return self.in_use

    @property
    def _session(self):
        """The copy of the deframer that this stream, or the part of it that is read, has for itself."""
        return self._deframer

    @property
    def _control_frames(self):
        """How many frames were taken off that are no messages, without descriptions."""
        return self.control_frames

    def _keep_stored(self):
        """Has batches keep the bytes of frames whose payloads are restored, as their attribute ``_stored``."""
        self.keeps_stored = True

    @property
    def frames_read(self):
        """The number of frames delivered."""
        return self.delivered

    @property
    def bytes_read(self):
        """The size of these frames in bytes, headers included."""
        return self.delivered_bytes

    @property
    def _is_following(self):
        """Whether the source is a file that is followed, so that reads wait and do not come to an end."""
        return self.follower is not None

    @property
    def _frames_refused(self):
        """The number of frames that were refused or left out; a range that was searched counts as one."""
        return self.refused

    @property
    def message_offset(self):
        """Where the last frame delivered begins, in bytes from where reading began. (A batch has its own offsets.)"""
        return self.last_offset

    @property
    def message_number(self):
        """The number of that frame, counted from 0; -1 before the first frame."""
        return <long long>(self.delivered + self.refused_before) - 1

    @property
    def stop_error(self):
        """The error at which ``on_error="stop"`` ended, or None. Its `offset` is that of the damage."""
        return self.stopped_by

    @property
    def skipped(self):
        """How many frames were left out because of damage; a range that was searched counts as one."""
        return self.losses.skipped if self.losses is not None else 0

    @property
    def lost_bytes(self):
        """How many bytes were left out."""
        return self.losses.lost_bytes if self.losses is not None else 0

    @property
    def lost_ranges(self):
        """Where they are: a list of (start, end), in bytes from where reading began."""
        return self.losses.since(0) if self.losses is not None else []

    def _mode_of(self, on_error):
        """What an operation with this argument does at damage: it, or if it is None what the reader does."""
        return _MODE_NAMES[self.mode_of(on_error)]

    cdef int mode_of(self, object on_error) except -1:
        """The OnError for an argument of an operation; None means that of the decoder."""
        return on_error_of(on_error, self.own_mode)

    cdef int set_mode(self, int mode) except -1:
        """Sets what the operation that begins does at damage."""
        if self.follower is not None and self.parts is None and mode in (ON_ERROR_STOP, ON_ERROR_RESYNC):
            raise ValueError('a reader that follows a file takes on_error="raise" or "skip": the file has no end yet')
        self.mode = mode
        self.stopped = False
        self.is_gathering = False
        return self.choose_active(mode)

    cdef int choose_active(self, int mode) except -1:
        """Sets the deframer that an operation with this mode uses."""
        cdef bint tolerant
        self.active = self._deframer
        if mode != ON_ERROR_RAISE and self.own_mode == ON_ERROR_RAISE and self.allow_empty is None and (
            self._deframer is not None
        ):
            if self.strict is None:
                self.strict = NonEmptyDeframer(self._deframer)
            self.active = self.strict
        if self.stages is not None:
            tolerant = mode == ON_ERROR_SKIP or mode == ON_ERROR_RESYNC
            if tolerant != self.tolerant:
                for stage in self.stages:
                    stage.tolerate(tolerant)
                self.tolerant = tolerant
                # It may be another one now: the next read looks at the frame again.
                self.deferred = None
        return 0

    cdef int check_open(self) except -1:
        # The garbage collector sets the deframer to None when it clears a reference cycle.
        if self.shut or self._deframer is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        if self.deferred is not None:
            error = self.deferred
            self.deferred = None
            self.span.frame_end = self.deferred_size
            self.recount_refused()
            raise error
        return 0

    # Reading

    def __iter__(self):
        return self

    def __next__(self):
        view = self.next_payload(self.own_mode)
        if view is None:
            view = self.awaited_payload(self.own_mode, INFINITY)
            if view is None:
                raise StopIteration
        return view

    def read_message(self, timeout=None):
        """The next payload, a read-only memoryview of unsigned bytes; None at a clean end.

        A reader that follows a file (``follow=True``) waits for the payload instead of returning None: for at most
        `timeout` seconds, if given. Then it raises TimeoutError, and a later call goes on; 0 looks at the file without
        waiting. For other readers, `timeout` is a ValueError.
        """
        cdef double seconds = INFINITY
        if timeout is not None:
            if self.follower is None:
                raise ValueError(
                    "timeout is for a reader that follows a file: open it with follow=True (of a socket, call "
                    "settimeout)"
                )
            seconds = checked_timeout(timeout)
        view = self.next_payload(self.own_mode)
        return view if view is not None else self.awaited_payload(self.own_mode, seconds)

    def process_all(self, fn, *, on_error=None):
        """Calls ``fn(payload)`` for each payload up to the end, and returns the number of calls.

        The result of `fn` is ignored. An exception of `fn` stops it and reaches the caller; its payload counts as read.
        If `fn` reads from the reader itself, it is not called with the payloads that it read.
        """
        cdef Py_ssize_t count = 0
        cdef int mode = self.mode_of(on_error)
        if not callable(fn):
            raise TypeError(f"fn must be callable, got {type(fn).__name__}")
        while (view := self.next_payload(mode)) is not None or (
            (view := self.awaited_payload(mode, INFINITY)) is not None
        ):
            fn(view)
            # Released before the next frame is looked for, so that its chunk can be filled again.
            view = None
            count += 1
        return count

    def read_batch(self, max_frames=None, max_bytes=None, *, on_error=None):
        """The whole frames that have arrived in one chunk, as a FrameBatch; None at a clean end.

        Reads from the source only if none has arrived. There are at most `max_frames` frames (8,192 by default) and
        `max_bytes` bytes of payload; a first frame that is larger is given alone. Frames before one that is refused are
        given first; the error comes with the next call.
        """
        cdef Py_ssize_t frames_left = DEFAULT_BATCH, bytes_left = MAX_CAPACITY
        if max_frames is not None:
            frames_left = checked_int("max_frames", max_frames, 1, MAX_CAPACITY)
        if max_bytes is not None:
            bytes_left = checked_int("max_bytes", max_bytes, 1, MAX_CAPACITY)
        return self.next_batch(frames_left, bytes_left, self.mode_of(on_error))

    def batches(self, max_frames=None, max_bytes=None, *, on_error=None):
        """Iterates over the results of `read_batch` up to the end. After an error, the iterator can go on."""
        self.mode_of(on_error)
        # Not a generator: a generator that has raised is at its end.
        if on_error is None:
            return iter(partial(self.read_batch, max_frames, max_bytes), None)
        return iter(partial(self.read_batch, max_frames, max_bytes, on_error=on_error), None)

    cdef FrameBatch next_batch(self, Py_ssize_t max_frames, Py_ssize_t max_bytes, int mode):
        """See `read_batch`."""
        cdef FrameBatch batch = FrameBatch.__new__(FrameBatch)
        while True:
            self.enter()
            try:
                self.set_mode(mode)
                self.is_gathering = True
                if self.next_intact_frame():
                    if self.stages is None:
                        self.gather(batch, max_frames, max_bytes)
                    else:
                        self.gather_restored(batch, max_frames, max_bytes)
                    if self.losses.skipped != self.told_skipped:
                        batch.tell_losses(self.losses.skipped - self.told_skipped, self.losses.since(self.told_offset))
                        self.told_skipped = self.losses.skipped
                        self.told_offset = self.losses.end()
                    return batch
            finally:
                self.leave()
            if self.follower is None or self.stopped:
                return None
            self.follower.wait(INFINITY)

    cdef int gather(self, FrameBatch batch, Py_ssize_t frames_left, Py_ssize_t bytes_left) except -1:
        """Fills `batch` with the frame last found and the frames behind it that have arrived."""
        cdef Py_ssize_t begin = self.frame_start, first_size = self.span.frame_end, length
        cdef unsigned long long delivered = self.delivered - 1, refused = self.refused
        cdef unsigned long long delivered_bytes = self.delivered_bytes - <unsigned long long>first_size
        try:
            if not self.has_fast_path:
                # Headers may have any size.
                batch.places = IndexArray.__new__(IndexArray)
            # As many as there are if all have the size of the first one.
            batch.reserve(min(frames_left, (self.end - begin) // first_size + 1))
            while True:
                length = self.span.payload_end - self.span.payload_start
                if batch.starts.length == batch.starts.capacity:
                    batch.reserve(2 * batch.starts.capacity)
                batch.starts.data[batch.starts.length] = self.frame_start - begin + self.span.payload_start
                batch.sizes.data[batch.starts.length] = length
                if batch.places is not None:
                    batch.places.data[batch.starts.length] = (
                        <long long>(self.base + <unsigned long long>self.frame_start)
                    )
                batch.starts.length += 1
                frames_left -= 1
                bytes_left -= length
                if self.watched:
                    self.consult(length)
                elif self.has_fast_path and frames_left > 0 and bytes_left > 0:
                    self.index_rest(batch, begin, &frames_left, &bytes_left)
                if frames_left <= 0 or bytes_left <= 0 or not self.next_buffered_frame(bytes_left):
                    break
            batch.sizes.length = batch.starts.length
            if batch.places is not None:
                batch.places.length = batch.starts.length
            batch.buffer = slice_view(self.owner_view, self.data + begin, self.position - begin)
            batch.offsets = PyMemoryView_FromObject(batch.starts)
            batch.lengths = PyMemoryView_FromObject(batch.sizes)
            batch.stream_offset = self.base + <unsigned long long>begin
            batch.frames_end = batch.position_behind = self.base + <unsigned long long>self.position
            batch.deframer = self._deframer
            batch.may_change = self.chunk is None
        except BaseException:
            # No memory, or a signal: the frames gathered so far are given again.
            self.position = begin
            self.needed = 1
            self.delivered = delivered
            self.delivered_bytes = delivered_bytes
            self.refused = refused
            self.deferred = None
            raise
        return 0

    cdef int gather_restored(self, FrameBatch batch, Py_ssize_t frames_left, Py_ssize_t bytes_left) except -1:
        """`gather` for a deframer with transforms: copies the payloads that they restore into memory of the batch.

        A frame that is no message ends the batch, so that the frames of a batch follow one another.
        """
        cdef Py_ssize_t begin = self.frame_start, first_size = self.span.frame_end, used = 0, length, count
        cdef unsigned long long delivered = self.delivered - 1, refused = self.refused
        cdef unsigned long long delivered_bytes = self.delivered_bytes - <unsigned long long>first_size
        cdef unsigned long long control_frames = self.control_frames, last_offset, refused_before
        cdef object states = self.state_before, payload
        cdef Py_buffer* view
        cdef Chunk chunk
        try:
            bytes_left = min(bytes_left, MAX_RESTORED)
            batch.places = IndexArray.__new__(IndexArray)
            batch.reserve(min(frames_left, (self.end - begin) // first_size + 1))
            batch.states = [] if self.has_state else None
            chunk = Chunk(PyMemoryView_GET_BUFFER(self.payload).len)
            while True:
                payload = self.payload
                self.payload = None
                view = PyMemoryView_GET_BUFFER(payload)
                length = view.len
                count = batch.starts.length
                if count == batch.starts.capacity:
                    batch.reserve(2 * count)
                if length > chunk.capacity - used:
                    chunk.resize(max(used + length, 2 * chunk.capacity))
                if length:
                    memcpy(chunk.data + used, view.buf, <size_t>length)
                batch.starts.data[count] = used
                batch.sizes.data[count] = length
                batch.places.data[count] = <long long>(self.base + <unsigned long long>self.frame_start)
                batch.starts.length = count + 1
                if batch.states is not None:
                    batch.states.append(self.state_before)
                used += length
                frames_left -= 1
                bytes_left -= length
                batch.frames_end = self.base + <unsigned long long>self.position
                last_offset = self.last_offset
                refused_before = self.refused_before
                if self.watched:
                    self.consult(self.span.payload_end - self.span.payload_start)
                if frames_left <= 0 or bytes_left <= 0 or not self.next_buffered_frame(bytes_left):
                    break
                if PyMemoryView_GET_BUFFER(self.payload).len > bytes_left:
                    # Its size is known only now. It was accepted, so the next read gives it without a second look.
                    self.hold(last_offset, refused_before)
                    break
            if chunk.capacity > used:
                chunk.resize(used)
            batch.sizes.length = batch.places.length = batch.starts.length
            batch.buffer = slice_view(PyMemoryView_FromObject(chunk), chunk.data, used)
            if self.keeps_stored:
                batch._stored = slice_view(self.owner_view, self.data + begin, self.position - begin)
            batch.offsets = PyMemoryView_FromObject(batch.starts)
            batch.lengths = PyMemoryView_FromObject(batch.sizes)
            batch.stream_offset = self.base + <unsigned long long>begin
            batch.position_behind = self.base + <unsigned long long>self.position
            batch.deframer = self._deframer
            batch.is_restored = True
        except BaseException:
            # See `gather`.
            self.position = begin
            self.needed = 1
            self.delivered = delivered
            self.delivered_bytes = delivered_bytes
            self.refused = refused
            self.control_frames = control_frames
            self.deferred = self.held = self.payload = None
            self.set_states(states)
            raise
        return 0

    cdef int index_rest(
        self, FrameBatch batch, Py_ssize_t begin, Py_ssize_t* frames_left, Py_ssize_t* bytes_left
    ) except -1:
        """Adds the whole, good frames at `position` to `batch`. For decoders that have the fast path."""
        cdef HeaderFormat format = self.format
        # The bytes of the batch, from `begin` on. The view is taken once, and its offsets are those of the batch.
        cdef const unsigned char[::1] data = self.owner_view
        cdef FrameIndex index
        # How many bytes of payload may still be checked with the interpreter's lock held. Without a checksum: all.
        cdef Py_ssize_t held = RELEASE_FROM if format.checksum_size else MAX_CAPACITY
        cdef bint release = False
        cdef Py_ssize_t longest = min(
            self.format.max_length, RELEASE_FROM - 1 if format.checksum_size else MAX_PAYLOAD_LEN
        )
        cdef Py_ssize_t room, budget, length, found
        data = data[begin:self.end]
        if format.checksum_size and self.end - self.position >= RELEASE_FROM and bytes_left[0] >= RELEASE_FROM and (
            frames_left[0] >= RELEASE_FROM // self.span.frame_end
        ):
            # Frames like the first one are more than is checked with the lock held.
            release = True
        else:
            format.max_length = longest
        if self.active is not self._deframer:
            # It refuses empty payloads.
            format.min_length = max(format.min_length, 1)
        index.position = self.position - begin
        while frames_left[0]:
            room = min(frames_left[0], batch.starts.capacity - batch.starts.length)
            if not room:
                batch.reserve(2 * batch.starts.capacity)
                continue
            index.offsets = batch.starts.data
            index.lengths = batch.sizes.data
            index.count = batch.starts.length
            index.capacity = index.count + room
            budget = bytes_left[0] if release else min(bytes_left[0], held)
            index.bytes_left = budget
            if release:
                with nogil:
                    index_frames_of(data, &format, &index)
            else:
                index_frames_of(data, &format, &index)
                held -= budget - index.bytes_left
            bytes_left[0] -= budget - index.bytes_left
            found = index.count - batch.starts.length
            batch.starts.length = index.count
            self.delivered += <unsigned long long>found
            self.delivered_bytes += <unsigned long long>(begin + index.position - self.position)
            self.position = begin + index.position
            frames_left[0] -= found
            if found == room:
                continue
            if not format.checksum_size or release:
                return 0
            # It may have stopped because of the lock: then more is to be done than may be done with the lock held.
            length = whole_payload_at(
                self.data + self.position, self.end - self.position, &self.format, self.format.max_length
            )
            if length > bytes_left[0] or (length <= index.bytes_left and length <= longest):
                return 0
            release = True
            format.max_length = self.format.max_length
        return 0

    cdef int next_buffered_frame(self, Py_ssize_t bytes_left) except -1:
        """`next_frame` without the source. Leaves a payload that is larger than `bytes_left`, and defers errors."""
        cdef Py_ssize_t missing, available = self.end - self.position
        if available < self.needed or (self.follows_now() and self.ends_in_zeros()):
            return 0
        try:
            missing = self.active.find(
                self.owner_view, self.data + self.position, available, &self.span
            )
        except Exception:
            # The next read finds the same frame, and raises the same error.
            return 0
        if missing or self.span.frame_end > available:
            self.needed = missing or self.span.frame_end
            return 0
        if self.span.payload_end - self.span.payload_start > bytes_left and self.stages is None:
            return 0
        try:
            return self.check_frame()
        except Exception as error:
            # The frame is not checked twice, because a check may call observers: the next read raises this error.
            self.uncount_refused()
            if self.follower is not None and isinstance(error, ChecksumMismatchError):
                # The next read looks at the file again.
                return 0
            self.deferred = error
            self.deferred_size = self.span.frame_end
            return 0

    cdef object next_payload(self, int mode):
        """A view of the next payload, or None at a clean end, and where `mode` says that reading stops."""
        # An operation with another mode than that of the decoder may refuse empty payloads.
        cdef Py_ssize_t position, length, size, least = mode != self.own_mode
        cdef const uint8_t* data
        cdef const uint8_t* frame
        cdef object view
        while self.has_fast_path and self._deframer is not None and self.owner_view is not None and not (
            self.busy or self.shut or self.watched or self.failure is not None or self.deferred is not None
        ):
            position = self.position
            data = self.data
            frame = data + position
            length = whole_payload_at(frame, self.end - position, &self.format, self.fast_limit)
            if length < least or not checksum_matches(frame, length, &self.format):
                break
            size = self.format.header_size + length
            # Making the view may fail, or collect garbage and so run another thread. So the frame is counted after the
            # view is there, and only if no other thread has taken it.
            view = self.view_of(frame + self.format.header_size, length)
            if self.position == position and self.data == data:
                self.last_offset = self.base + <unsigned long long>position
                self.refused_before = self.refused
                self.position += size
                self.needed = 1
                self.delivered += 1
                self.delivered_bytes += <unsigned long long>size
                return view
        self.enter()
        try:
            self.set_mode(mode)
            if not self.next_intact_frame():
                return None
            size = self.span.payload_end - self.span.payload_start
            if self.stages is None:
                view = self.view_of(self.data + self.frame_start + self.span.payload_start, size)
            else:
                view = self.payload
            if self.watched:
                try:
                    self.consult(size)
                except BaseException:
                    if self.stages is not None:
                        self.hold(self.last_offset, self.refused_before)
                        raise
                    # The policy failed, not the reading: the next read gives the frame again.
                    self.position = self.frame_start
                    self.delivered -= 1
                    self.delivered_bytes -= <unsigned long long>self.span.frame_end
                    raise
            self.payload = None
            return view
        finally:
            self.leave()

    cdef object view_of(self, const uint8_t* data, Py_ssize_t size):
        """A view of `size` bytes at `data`: a view handed out earlier that nobody holds any more, or a new one.

        A loop still holds the last view when it asks for the next, so two views alternate. (Making a memoryview takes
        longer than everything else for a small frame: F2 of asv_benchmarks/deframing.py.)
        """
        cdef object view, owner_view = self.owner_view, _dropped
        if try_reuse_view(<PyObject*>self.older, owner_view, data, size):
            view = self.older
            self.older = self.recent
            self.recent = view
            return view
        view = slice_view(owner_view, data, size)
        # Making the view may have collected garbage, and so have run code that closed the reader.
        if self.owner_view is owner_view:
            # Deallocating the dropped view may run code too, so that happens at the end.
            _dropped = self.older
            self.older = self.recent
            self.recent = view
        return view

    cdef int next_intact_frame(self) except -1:
        """`next_frame`, with damage treated as the `mode` says; also 0 where it stops."""
        while True:
            self.is_ending = False
            try:
                if not self.searching or self.failure is not self.damage or self.search():
                    self.check_open()
                    if self.next_frame():
                        return 1
                if self.enders is not None:
                    self.end_chain()
                if not self.advance_part():
                    return 0
            except FlatStreamError as error:
                if self.is_ending:
                    # It is not about damage behind which there is more.
                    if self.mode != ON_ERROR_STOP:
                        raise
                    self.stopped_by = error
                    self.stopped = True
                    return 0
                if self.mode == ON_ERROR_RAISE or (self.failure is not None and self.failure is not self.damage):
                    raise
                if self.mode == ON_ERROR_RESYNC and self.follows_now() and self.leave_for_later(error):
                    return 0
                if self.mode == ON_ERROR_RESYNC and self.failure is not None and self.has_grown(error):
                    continue
                if not self.get_over(error, self.failure is None):
                    return 0
                # With a stream in memory, no other statement of this loop runs Python code.
                PyErr_CheckSignals()

    cdef int end_chain(self) except -1:
        """Tells the deframers that the stream, or a part of it, ends here."""
        if self.awaits_bytes or self.follows_now():
            return 0
        self.is_ending = True
        try:
            for link in self.enders:
                link.end()
        except FlatStreamError as error:
            self.locate_error(error)
            raise
        self.is_ending = False
        return 0

    cdef int advance_part(self) except -1:
        """At the end of a part, or of what it has now: begins the next; returns 0 if there is none."""
        if self.parts is None:
            return 0
        # An exception of a signal handler can come when the next part has begun, and before that is known here.
        self.is_part_unknown = True
        self.has_fast_path = False
        if not self.parts.advance(self.base + <unsigned long long>self.position, self.delivered, self.refused):
            self.is_part_unknown = False
            self.restore_fast_path()
            return 0
        self.ended = False
        self.needed = 1
        self.begin_part()
        return 1

    cdef int begin_part(self) except -1:
        """Expects a description if a part begins at `position`."""
        if self.parts.begins_at(self.base + <unsigned long long>self.position):
            session = self.given.start()
            if session is not self._deframer:
                self.use_session(self.given, session)
            self.begin_head()
        self.is_part_unknown = False
        self.restore_fast_path()
        return 0

    cdef int leave_for_later(self, object error) except -1:
        """In a part that is still written: undoes the reading of a frame that is damaged, or that is still written,
        until the part is at its end. Returns 0 if the frame can be left out now, because its length is right.
        """
        if self.failure is None:
            if isinstance(error, ValidationFailedError) and self._deframer.evidence_bytes() > 0:
                return 0
            self.uncount_refused()
        self.failure = None
        self.needed = 1
        self.parts.note_damage(error)
        return 1

    cdef bint has_grown(self, object error) except -1:
        """Whether the source has bytes again, after `error`: perhaps it is a file that somebody writes, and the end was
        seen in the middle of a write. Then the frame is to be found anew.
        """
        cdef Py_ssize_t before = self.end - self.position
        if self.searching or self.is_buffer() or not isinstance(error, UnexpectedEofError):
            return False
        try:
            self.fill()
        finally:
            # Even if a signal handler raised. If there was no data yet, the next read tries that again.
            if self.end - self.position > before and self.failure is error:
                self.failure = None
        return self.failure is None

    cdef int next_frame(self) except -1:
        """Finds and checks the next frame, and reads from the source as long as it is not whole; 0 at a clean end."""
        cdef Py_ssize_t available, missing = 0
        cdef bint accepting = False, filling = False
        if self.is_part_unknown:
            self.begin_part()
        if self.held is not None:
            return self.take_held()
        if self.follows_now():
            return self.next_followed_frame()
        self.ensure_owner_view()
        try:
            while True:
                available = self.end - self.position
                if available >= self.needed:
                    if self.is_ahead and not self.find_description(available, &missing):
                        continue
                    if not self.is_ahead:
                        self.was_description = False
                        missing = self.active.find(
                            self.owner_view, self.data + self.position, min(available, self.first_seen), &self.span
                        )
                        self.first_seen = PY_SSIZE_T_MAX
                    if not missing and self.span.frame_end <= available:
                        accepting = True
                        if not self.is_ahead:
                            if self.check_frame():
                                return 1
                        else:
                            self.check_description()
                            self.check_failure()
                        accepting = False
                        continue
                    self.needed = missing or self.span.frame_end
                    if missing and missing <= available:
                        # It was shown fewer.
                        continue
                if self.mode == ON_ERROR_RESYNC and available >= self.resync_window and not self.is_buffer() and (
                    self.trusted != <long long>(self.base + <unsigned long long>self.position)
                ) and not self.is_within_source():
                    self.over_window = True
                    raise InvalidFrameError(f"the frame has more than {available} bytes, the window")
                if self.awaits_bytes:
                    return 0
                self.check_source_size()
                filling = True
                if self.fill():
                    filling = False
                    continue
                filling = False
                if available and self.is_ahead and not self.is_description:
                    # They are too few to tell whether it is one: the deframer says what they are.
                    self.end_head()
                    continue
                if not available:
                    return 0
                raise UnexpectedEofError(needed=self.needed, got=available)
        except FlatStreamError as error:
            self.locate_error(error)
            if isinstance(error, UnexpectedEofError) or isinstance(error, InvalidFrameError):
                self.note_first(error)
            if not accepting:
                self.failure = error
                if not filling:
                    self.damage = error
            raise

    cdef int check_frame(self) except -1:
        """Has the deframer check the whole frame at `position`, and moves behind it; returns 0 if it is no message."""
        cdef Py_ssize_t size = self.span.frame_end
        self.needed = 1
        if self.stages is not None:
            # If a signal handler raises here, the state is that of the frame still.
            self.state_before = self.get_states()
        try:
            if self.stages is None:
                self.active.examine(self.owner_view, self.data + self.position, &self.span, False)
            else:
                self.payload = self.active.unpack(self.owner_view, self.data + self.position, &self.span)
                if self.payload is None:
                    self.position += size
                    self.control_frames += 1
                    return 0
        except Exception as error:
            if isinstance(error, FlatStreamError):
                self.locate_error(error)
                if isinstance(error, ChecksumMismatchError):
                    self.note_first(error)
            self.count_refused()
            raise
        except BaseException:
            # The next read gives the frame.
            self.set_states(self.state_before)
            raise
        return self.accept_frame()

    cdef int accept_frame(self) except -1:
        """Moves behind the frame of `span` at `position`, which is delivered."""
        cdef Py_ssize_t size = self.span.frame_end
        self.frame_start = self.position
        self.longest = max(self.longest, self.span.payload_end - self.span.payload_start)
        self.last_offset = self.base + <unsigned long long>self.position
        self.refused_before = self.refused
        self.position += size
        self.delivered += 1
        self.delivered_bytes += <unsigned long long>size
        return 1

    cdef int hold(self, unsigned long long last_offset, unsigned long long refused_before) except -1:
        """Goes back before the frame last found, whose restored payload the next read gives without a second look."""
        self.held = self.payload
        self.held_span = self.span
        self.held_state = self.state_before
        self.payload = None
        self.position = self.frame_start
        self.last_offset = last_offset
        self.refused_before = refused_before
        self.delivered -= 1
        self.delivered_bytes -= <unsigned long long>self.span.frame_end
        return 0

    cdef int take_held(self) except -1:
        """Finds the frame again that was held back."""
        self.payload = self.held
        self.span = self.held_span
        self.state_before = self.held_state
        self.held = self.held_state = None
        self.needed = 1
        return self.accept_frame()

    cdef int check_failure(self) except -1:
        """Raises the failure of a deframer that cannot be used for what is behind a description."""
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        return 0

    # Following a file that is being written

    cdef object awaited_payload(self, int mode, double seconds):
        """For a read to which `next_payload` gave None: None at the end of a stream; for a file that is followed, waits
        for the payload, at most that many seconds.
        """
        cdef double deadline, left = seconds
        cdef object view
        if self.follower is None or self.stopped:
            return None
        deadline = <double>monotonic() + seconds
        while True:
            # The decoder is not held meanwhile, so that another thread may close it.
            self.follower.wait(left)
            view = self.next_payload(mode)
            if view is not None or self.stopped:
                return view
            left = deadline - <double>monotonic()
            if left <= 0:
                raise TimeoutError(errno.ETIMEDOUT, f"no whole frame came within {seconds:g} s: read again later")

    cdef int next_followed_frame(self) except -1:
        """`next_frame` for a file that is being written; 0 if the file has no further whole frame now.

        The bytes of a frame that is not whole are dropped, and read again by the next call: its writer may cut them off
        and write others. For the same reason a frame that seems damaged is read again before it is refused.
        """
        cdef Py_ssize_t available, missing = 0
        cdef bint accepting = False
        # Whether the bytes were read by this call.
        cdef bint fresh = False
        self.ensure_owner_view()
        try:
            while True:
                accepting = False
                available = self.end - self.position
                try:
                    if available and self.ends_in_zeros():
                        if fresh:
                            self.end = self.position
                            return 0
                    elif available >= self.needed:
                        if self.is_ahead and not self.find_description(available, &missing):
                            continue
                        if not self.is_ahead:
                            self.was_description = False
                            missing = self.active.find(
                                self.owner_view, self.data + self.position, available, &self.span
                            )
                        if not missing and self.span.frame_end <= available:
                            accepting = True
                            if not self.is_ahead:
                                if self.check_frame():
                                    return 1
                            else:
                                self.check_description()
                                self.check_failure()
                            continue
                        self.needed = missing or self.span.frame_end
                except (ChecksumMismatchError, InvalidFrameError):
                    if accepting:
                        self.uncount_refused()
                    if fresh and not self.follower.settle(self.base + <unsigned long long>self.position):
                        if accepting:
                            self.recount_refused()
                        raise
                    fresh = False
                if not fresh:
                    # The frame that begins there now may be a shorter one.
                    self.needed = 1
                if not self.look():
                    if fresh:
                        self.check_stalled()
                    return 0
                fresh = True
        except FlatStreamError as error:
            self.locate_error(error)
            if not accepting:
                self.failure = error
                self.damage = error
            raise

    cdef int is_within_source(self) except -1:
        """Whether the source is known to have the `needed` bytes of the frame at `position`."""
        cdef long long left
        if self.bytes_left is None or self.needed <= self.end - self.position:
            return False
        left = self.bytes_left()
        return self.needed - (self.end - self.position) <= left

    cdef int check_source_size(self) except -1:
        """Raises if a large frame ends behind the end of the source: its bytes are not fetched in vain."""
        cdef long long rest
        if self.source_size is not None and self.needed > self.capacity:
            rest = self.source_size()
            rest -= <long long>self.base + self.position
            if self.needed > rest:
                raise UnexpectedEofError(needed=self.needed, got=max(rest, self.end - self.position))
        return 0

    def _set_source_size(self, function):
        """`function` returns the stream offset at which the source ends. With it, a frame that is larger than a chunk
        and not whole is not fetched.
        """
        self.source_size = function

    # Damage

    cdef unsigned long long end_of_last(self, Py_ssize_t length) noexcept:
        """The stream offset at which the frame last delivered ends, whose payload has `length` bytes."""
        cdef Py_ssize_t size = self.span.frame_end
        if self._deframer.is_batchable:
            size = self.format.header_size + length
        return self.last_offset + <unsigned long long>size

    cdef int stop_before(
        self, object error, unsigned long long offset, unsigned long long end, unsigned long long behind,
        unsigned long long frames, object states,
    ) except -1:
        """Ends an operation at `error`, about a message of the frame at the stream offset `offset`. It is the first of
        the last `frames` frames delivered, which end at `end`: they are given again, unless somebody else has read on.

        Reading had come as far as `behind`: `end`, or the end of a frame that is no message. `states` are those of the
        transforms before the frame.
        """
        self.enter()
        try:
            self.stopped_by = error
            self.stopped = True
            if self.base <= offset and self.base + <unsigned long long>self.position == behind and not self.shut:
                self.position = <Py_ssize_t>(offset - self.base)
                self.needed = 1
                self.delivered -= frames
                self.delivered_bytes -= end - offset
                self.deferred = self.held = None
                self.set_states(states)
            return 0
        finally:
            self.leave()

    def _give_again(self, FrameBatch batch not None, Py_ssize_t i):
        """Has the frames of the last batch, from number `i` of it on, read again, and returns whether that is possible.

        It is not if somebody has read on since.
        """
        if not 0 <= i < batch.starts.length:
            raise IndexError(f"frame {i} of a batch of {batch.starts.length}")
        cdef object stopped_by = self.stopped_by
        cdef unsigned long long before = self.delivered
        self._stop_at(None, batch, i)
        self.stopped_by = stopped_by
        return self.delivered != before

    def _stop_at(self, error, FrameBatch batch not None, Py_ssize_t i):
        """Does what ``on_error="stop"`` does at an error about frame `i` of the last batch: it is read again next."""
        if not 0 <= i < batch.starts.length:
            raise IndexError(f"frame {i} of a batch of {batch.starts.length}")
        self.stop_before(
            error, batch.begin_of(i), batch.frames_end, batch.position_behind,
            <unsigned long long>(batch.starts.length - i), None if batch.states is None else batch.states[i],
        )
        # The operation that ends is that of the caller.
        self.stopped = False

    def _leave_out(self, FrameBatch batch not None, Py_ssize_t i):
        """Counts frame `i` of the last batch as left out because of damage."""
        if not 0 <= i < batch.starts.length:
            raise IndexError(f"frame {i} of a batch of {batch.starts.length}")
        self.losses.add(batch.begin_of(i), batch.end_of(i))

    cdef int get_over(self, object error, bint refused) except -1:
        """Does what the mode says after `error`, about a frame that was `refused`, or after which the position is lost;
        returns 0 where reading stops.
        """
        cdef HeaderFormat format
        cdef Py_ssize_t size = self.span.frame_end if refused else 0
        cdef unsigned long long here = self.base + <unsigned long long>self.position
        if self.mode == ON_ERROR_STOP:
            if refused:
                # It stops before the frame. A read that does not stop finds the error there.
                self.uncount_refused()
                self.deferred = error
                self.deferred_size = size
            self.stopped_by = error
            self.stopped = True
            return 0
        if refused and (
            self.mode == ON_ERROR_SKIP
            # The checksum matched, so the length is right.
            or (isinstance(error, ValidationFailedError) or self.was_description and isinstance(error, FlatbufferError))
            and self._deframer.evidence_bytes() > 0
        ):
            self.losses.add(here - <unsigned long long>size, here)
            return 1
        if self.mode == ON_ERROR_SKIP:
            return self.skip_empty_frame(error)
        if refused:
            self.uncount_refused()
        elif isinstance(error, InvalidFrameError) and error.declared_len is not None and self.active.locate_is_native:
            self.active.get_format(&format)
            size = format.header_size + <Py_ssize_t>error.declared_len
        return self.begin_search(error, size)

    cdef int skip_empty_frame(self, object error) except -1:
        """Moves past an empty frame, which is all that `error` is about; otherwise raises it."""
        cdef HeaderFormat format
        cdef unsigned long long here = self.base + <unsigned long long>self.position
        if not isinstance(error, InvalidFrameError) or error.declared_len != 0 or not self.active.locate_is_native:
            raise error
        self.active.get_format(&format)
        if self.end - self.position < format.header_size:
            self.failure = None
            self.needed = format.header_size
            if not self.fill():
                self.failure = self.damage = UnexpectedEofError(
                    needed=format.header_size, got=self.end - self.position,
                    offset=here, frame=self.delivered + self.refused,
                )
                raise self.failure
            # The frame is found again.
            return 1
        self.losses.add(here, here + <unsigned long long>format.header_size)
        self.pass_over()
        self.failure = None
        self.position += format.header_size
        self.needed = 1
        self.refused += 1
        return 1

    cdef int release_all(self) except -1:
        # The functions may refer to the reader.
        self.source_size = None
        self.bytes_left = None
        self.held = self.held_state = self.payload = None
        self.enders = None
        return HeadBuffer.release_all(self)


cdef double checked_timeout(object timeout) except -1:
    cdef double seconds
    number = index_of(timeout)
    if number is not None:
        # An int can be larger than any float.
        seconds = INFINITY if number > 2**1000 else number
    elif isinstance(timeout, float):
        seconds = timeout
    else:
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r:.100}")
    if not seconds >= 0:
        raise ValueError(f"timeout must be at least 0 seconds, got {timeout!r:.100}")
    return seconds


@cython.final
@cython.auto_pickle(False)
cdef class PayloadIterator:
    """The payloads of a decoder, with an `on_error` of its own. A class and not a generator, because a generator ends
    once it has raised.
    """
    cdef Decoder decoder
    cdef int mode

    def __init__(self, decoder, on_error):
        if not isinstance(decoder, Decoder):
            raise TypeError(f"decoder must be a Decoder, got {type(decoder).__name__}")
        self.mode = (<Decoder>decoder).mode_of(on_error)
        self.decoder = decoder

    def __iter__(self):
        return self

    def __next__(self):
        if self.decoder is None:
            raise ValueError("PayloadIterator.__init__ was not called")
        view = self.decoder.next_payload(self.mode)
        if view is None:
            view = self.decoder.awaited_payload(self.mode, INFINITY)
            if view is None:
                raise StopIteration
        return view


def iterates_in_c(cls):
    """A class decorator for subclasses of Decoder that do not override `__next__`: they iterate without a Python call.

    Cython gives a class its `__next__` as a method, so the loops of a subclass look it up and call it for each payload:
    37 ns instead of 29 (F2 of asv_benchmarks/deframing.py). The decorator sets the slot that a subclass would inherit.
    """
    if not issubclass(cls, Decoder) or cls.__next__ is not Decoder.__next__:
        raise TypeError(f"{cls.__name__} does not have the iteration of Decoder")
    (<TypeSlots*>cls).tp_iternext = (<TypeSlots*>Decoder).tp_iternext
    return cls

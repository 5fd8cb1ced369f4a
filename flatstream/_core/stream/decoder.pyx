# cython: boundscheck=False, wraparound=False
"""The decoder: bytes of a stream in, views of its payloads out.

It fills a chunk of memory and has the deframer walk all frames in it. The views it hands out point into the chunk, and
the chunk knows whether any of them is alive: if none is, it is filled again; if one is, it is left to its holders and
another takes its place. A loop that keeps one payload at a time therefore swaps between two chunks and allocates
nothing.
"""

import errno
import operator
from functools import partial

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memmove

from flatstream._core.base.buffers cimport Chunk, IndexArray, acquire, owner_view_of, try_reuse_view, slice_view
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.checksums.checksum cimport RELEASE_FROM
from flatstream._core.framing.deframer cimport (
    Deframer, FrameIndex, checksum_matches, index_frames_of, whole_payload_at,
)
from flatstream._core.framing.wire cimport MAX_PAYLOAD_LEN, HeaderFormat

from flatstream._core.stream.memory_policy import MemoryPolicy, ReclamationInfo, ReclamationReason
from flatstream.errors import ChecksumMismatchError, FlatStreamError, UnexpectedEofError

cdef extern from "Python.h":
    ctypedef struct TypeSlots "PyTypeObject":
        void* tp_iternext

# A frame larger than the chunk gets memory as its bytes arrive, and never more than this ahead of them: a header that
# claims two gigabytes costs one megabyte.
cdef enum:
    GROWTH_STEP = 1 << 20

# How many frames a batch has at most if nobody says. Its index then has 128 KiB: it stays in the processor's caches,
# and the allocator has that much without asking the system for pages. A frame of 64 bytes takes 2.5 ns, with 65,536 in
# a batch 2.9, with 200,000 in one 6 (BatchSizes of asv_benchmarks/deframing.py).
cdef enum:
    DEFAULT_BATCH = 1 << 13

# What is said with the error of a stream's first message. Bytes read with another checksum, or none, begin elsewhere.
FIRST_FAILED = "nothing was read before it: was the stream written with another checksum, or with another schema?"

# The largest chunk that may be asked for.
cdef Py_ssize_t MAX_CAPACITY = <Py_ssize_t>1 << 40


cdef Py_ssize_t checked_count(str name, object value, Py_ssize_t least, Py_ssize_t most) except -1:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}: {value!r:.100}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, got {value}")
    return value


cdef class FrameBatch:
    """The payloads of many frames in one chunk: a sequence of read-only memoryviews.

    Attributes
    ----------
    buffer : memoryview
        The bytes of all these frames, headers included. Shared with the chunk, and unchanged as long as anybody holds
        it.
    offsets, lengths : memoryview of int64, shape (n,)
        Where each payload begins in `buffer`, and how many bytes it has. NumPy takes them without a copy.
    stream_offset : int
        The stream offset of ``buffer[0]``.
    """

    def __cinit__(self):
        self.starts = IndexArray.__new__(IndexArray)
        self.sizes = IndexArray.__new__(IndexArray)
        self.buffer = memoryview(b"")

    def __init__(self):
        raise TypeError("a FrameBatch is made by StreamReader.read_batch")

    def __len__(self):
        return self.starts.length

    def __getitem__(self, index):
        cdef Py_ssize_t i
        if isinstance(index, slice):
            return [self.view(i) for i in range(*index.indices(self.starts.length))]
        place = operator.index(index)
        if not -self.starts.length <= place < self.starts.length:
            raise IndexError(f"frame {index} of a batch of {self.starts.length}")
        i = place
        if i < 0:
            i += self.starts.length
        return self.view(i)

    def __iter__(self):
        cdef Py_ssize_t i
        for i in range(self.starts.length):
            yield self.view(i)

    def __repr__(self):
        return f"<FrameBatch of {self.starts.length} frames at stream offset {self.stream_offset}>"

    cdef object view(self, Py_ssize_t i):
        return slice_view(
            self.buffer,
            <const uint8_t*>PyMemoryView_GET_BUFFER(self.buffer).buf + self.starts.data[i],
            <Py_ssize_t>self.sizes.data[i],
        )


cdef class Decoder(Exclusive):
    """Finds frames in what a source gives.

    Parameters
    ----------
    deframer : Deframer
        What tells frames apart.
    capacity : int
        The size of a chunk in bytes.
    readinto : callable, optional
        Takes a writable memoryview and returns how many bytes it put there, 0 at the end, None if it would block.
    read : callable, optional
        Takes a number of bytes and returns at most so many, b"" at the end, None if it would block.
    buffer : bytes-like, optional
        The whole stream. Payloads are then views of this object. Exactly one of the three is given.
    memory_policy : MemoryPolicy, optional
        Decides when a chunk that grew for a large frame shrinks to `capacity` again.
    exact : bool
        Whether an exception from `readinto` says that nothing was taken from the source (a system call), or says
        nothing about it (code that runs after one).
    """

    def __cinit__(self, *args, **kwargs):
        # Until __init__ has run, there is nothing to read from.
        self.shut = True

    def __init__(
        self, deframer, capacity, *, readinto=None, read=None, buffer=None, memory_policy=None, exact=False
    ):
        if not isinstance(deframer, Deframer):
            raise TypeError(f"deframer must be an instance of Deframer, got {deframer!r:.100}")
        if (readinto is None) + (read is None) + (buffer is None) != 2:
            raise TypeError("expected exactly one of readinto, read and buffer")
        if memory_policy is not None and not isinstance(memory_policy, MemoryPolicy):
            raise TypeError(f"memory_policy must be an instance of MemoryPolicy, got {memory_policy!r:.100}")
        self.capacity = checked_count("capacity", capacity, 1, MAX_CAPACITY)
        self._deframer = deframer
        self.readinto = readinto
        self.read = read
        self.exact = exact
        self.needed = 1
        if memory_policy is not None:
            self.policy = memory_policy
            # A chunk is never made smaller than it was asked to be.
            self.baseline = max(
                checked_count("memory_policy.baseline_capacity", memory_policy.baseline_capacity, 0, MAX_CAPACITY),
                self.capacity,
            )
        if buffer is not None:
            self.owner_view = owner_view_of(buffer, "source")
            self.data = <const uint8_t*>PyMemoryView_GET_BUFFER(self.owner_view).buf
            self.end = PyMemoryView_GET_BUFFER(self.owner_view).len
        self.cache_fast_path()
        self.shut = False

    cdef int cache_fast_path(self) except -1:
        """Stores how the deframer finds frames, if it need not be called for each."""
        self.has_fast_path = self._deframer.is_batchable
        if self.has_fast_path:
            self._deframer.get_format(&self.format)
            self.fast_limit = min(self.format.max_length, RELEASE_FROM - 1)
        return 0

    # State

    @property
    def deframer(self):
        """The deframer."""
        return self._deframer

    @property
    def frames_read(self):
        """How many frames were delivered."""
        return self.delivered

    @property
    def bytes_read(self):
        """How many bytes these frames have, headers included."""
        return self.delivered_bytes

    @property
    def offset(self):
        """Where the next frame begins, in bytes from where reading began."""
        return self.base + <unsigned long long>self.position

    @property
    def message_offset(self):
        """Where the frame began that was delivered last in bytes from where reading began.

        After `read_batch` see the batch's own offsets instead.
        """
        return self.last_offset

    @property
    def message_number(self):
        """The number of that frame, counted from 0; -1 before the first."""
        return <long long>(self.delivered + self.refused_before) - 1

    @property
    def buffer_capacity(self):
        """The size of the largest chunk held, in bytes; 0 if there is none, as with a source that is a buffer."""
        return self.held()

    cdef int check_open(self) except -1:
        # None is what the garbage collector leaves of the parts of a cycle.
        if self.shut or self._deframer is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        if self.deferred is not None:
            error = self.deferred
            self.deferred = None
            self.position += self.deferred_size
            self.refused += 1
            raise error
        return 0

    # Reading

    def __iter__(self):
        return self

    def __next__(self):
        view = self.next_payload()
        if view is None:
            raise StopIteration
        return view

    def read_message(self):
        """The next payload, or None at a clean end.

        Returns
        -------
        memoryview or None
            Read-only, of unsigned bytes. It stays valid and unchanged for as long as it is kept, whatever happens to
            the reader; what it points into (a chunk, or the caller's own buffer) is kept alive with it. After None, a
            later call looks again, so that a file that grows can be followed.

        Raises
        ------
        ChecksumMismatchError, ValidationFailedError
            The frame was read whole and refused. The next call gives the frame after it.
        UnexpectedEofError
            The stream ends inside a frame. Every later call raises the same.
        InvalidFrameError
            A length over the limit, or bytes that are no frame. Every later call raises the same.
        OSError
            From the source, as it is. Every later call raises the same, except after BlockingIOError and TimeoutError:
            nothing was lost then, and a later call goes on.
        ValueError
            The reader is closed.
        """
        return self.next_payload()

    def process_all(self, fn):
        """Calls ``fn(payload)`` for each payload up to the end; an exception stops it and reaches the caller.

        The payload is the same view that `read_message` gives, and what `fn` returns is ignored. If `fn` reads from the
        reader itself, it is called with what that leaves.

        Returns
        -------
        int
            How many payloads `fn` was called with.

        Raises
        ------
        See `read_message`, and whatever `fn` raises. The payload that `fn` raised for counts as read.
        """
        cdef Py_ssize_t count = 0
        if not callable(fn):
            raise TypeError(f"fn must be callable, got {type(fn).__name__}")
        while (view := self.next_payload()) is not None:
            fn(view)
            # Let go of it before the next frame is looked for, so that its chunk can be filled again.
            view = None
            count += 1
        return count

    def read_batch(self, max_frames=None, max_bytes=None):
        """The frames that are at hand in one chunk, or None at a clean end.

        Reads from the source only if no whole frame is at hand.

        Parameters
        ----------
        max_frames, max_bytes : int, optional
            At most that many frames (8,192 by default), and that many bytes of payload together; a first frame that is
            larger is given alone.

        Returns
        -------
        FrameBatch or None
            At least one frame.

        Raises
        ------
        See `read_message`. Frames before the one that is refused are given first; the error comes with the next call.
        """
        cdef Py_ssize_t frames_left = DEFAULT_BATCH, bytes_left = MAX_CAPACITY
        if max_frames is not None:
            frames_left = checked_count("max_frames", max_frames, 1, MAX_CAPACITY)
        if max_bytes is not None:
            bytes_left = checked_count("max_bytes", max_bytes, 1, MAX_CAPACITY)
        cdef FrameBatch batch = FrameBatch.__new__(FrameBatch)
        self.enter()
        try:
            self.check_open()
            if not self.next_frame():
                return None
            self.gather(batch, frames_left, bytes_left)
            return batch
        finally:
            self.leave()

    cdef int gather(self, FrameBatch batch, Py_ssize_t frames_left, Py_ssize_t bytes_left) except -1:
        """Fills `batch` with the frame last found and those behind it that are at hand."""
        cdef Py_ssize_t begin = self.frame_start, first_size = self.span.frame_end, length
        cdef unsigned long long delivered = self.delivered - 1, refused = self.refused
        cdef unsigned long long delivered_bytes = self.delivered_bytes - <unsigned long long>first_size
        try:
            # As many as there would be if all were like the first one.
            reserve(batch, min(frames_left, (self.end - begin) // first_size + 1))
            while True:
                length = self.span.payload_end - self.span.payload_start
                if batch.starts.length == batch.starts.capacity:
                    reserve(batch, 2 * batch.starts.capacity)
                batch.starts.data[batch.starts.length] = self.frame_start - begin + self.span.payload_start
                batch.sizes.data[batch.starts.length] = length
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
            batch.buffer = slice_view(self.owner_view, self.data + begin, self.position - begin)
            batch.offsets = PyMemoryView_FromObject(batch.starts)
            batch.lengths = PyMemoryView_FromObject(batch.sizes)
            batch.stream_offset = self.base + <unsigned long long>begin
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

    cdef int index_rest(
        self, FrameBatch batch, Py_ssize_t begin, Py_ssize_t* frames_left, Py_ssize_t* bytes_left
    ) except -1:
        """Adds the whole, good frames at `position` to `batch`. For decoders that have the fast path."""
        cdef HeaderFormat format = self.format
        # The batch's own bytes, from `begin` on. The view is taken once, and offsets in it are those of the batch.
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
        format.max_length = longest
        index.position = self.position - begin
        while frames_left[0]:
            room = min(frames_left[0], batch.starts.capacity - batch.starts.length)
            if not room:
                reserve(batch, 2 * batch.starts.capacity)
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
        """`next_frame` without the source: leaves a payload larger than `bytes_left`, and defers errors."""
        cdef Py_ssize_t missing, available = self.end - self.position
        if available < self.needed:
            return 0
        try:
            missing = self._deframer.find(
                self.owner_view, self.data + self.position, available, &self.span
            )
        except Exception:
            # The next read looks for the same frame, and gets the same error.
            return 0
        if missing or self.span.frame_end > available:
            self.needed = missing or self.span.frame_end
            return 0
        if self.span.payload_end - self.span.payload_start > bytes_left:
            return 0
        try:
            return self.check_frame()
        except Exception as error:
            # The check is not made twice, since it may call observers: its result is kept for the next read.
            self.deferred = error
            self.deferred_size = self.span.frame_end
            self.position -= self.deferred_size
            self.refused -= 1
            return 0

    def batches(self, max_frames=None, max_bytes=None):
        """Iterates over `read_batch` up to the end. After an error it can be gone on with, as `read_batch` can."""
        # Not a generator, which is at its end once it has raised.
        return iter(partial(self.read_batch, max_frames, max_bytes), None)

    cdef object next_payload(self):
        """A view of the next payload, or None at a clean end."""
        cdef Py_ssize_t position, length, size
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
            if length < 0 or not checksum_matches(frame, length, &self.format):
                break
            size = self.format.header_size + length
            # Making the view may collect garbage, and so run another thread, or fail: nothing is counted before it is
            # there, and only if nobody else has taken the frame.
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
            self.check_open()
            if not self.next_frame():
                return None
            size = self.span.payload_end - self.span.payload_start
            view = self.view_of(self.data + self.frame_start + self.span.payload_start, size)
            if self.watched:
                try:
                    self.consult(size)
                except BaseException:
                    # The policy failed, not the reading: the frame is given again.
                    self.position = self.frame_start
                    self.delivered -= 1
                    self.delivered_bytes -= <unsigned long long>self.span.frame_end
                    raise
            return view
        finally:
            self.leave()

    cdef object view_of(self, const uint8_t* data, Py_ssize_t size):
        """A view of `size` bytes at `data`: one handed out earlier that its holders have forgotten, or a new one.

        A loop still holds the last view when it asks for the next, so two take turns. (Making a memoryview takes longer
        than all else that is done for a small frame: F2 of asv_benchmarks/deframing.py.)
        """
        cdef object view, owner_view = self.owner_view, _dropped
        if try_reuse_view(<PyObject*>self.older, owner_view, data, size):
            view = self.older
            self.older = self.recent
            self.recent = view
            return view
        view = slice_view(owner_view, data, size)
        # Making it may have collected garbage, and so have run code that closed the reader.
        if self.owner_view is owner_view:
            # Letting go of it may do the same, and is left to the end.
            _dropped = self.older
            self.older = self.recent
            self.recent = view
        return view

    cdef int next_frame(self) except -1:
        """Finds and accepts the next frame, asking the source for more as long as it takes; 0 at a clean end."""
        cdef Py_ssize_t available, missing
        cdef bint accepting = False
        self.ensure_owner_view()
        try:
            while True:
                available = self.end - self.position
                if available >= self.needed:
                    missing = self._deframer.find(
                        self.owner_view, self.data + self.position, available, &self.span
                    )
                    if not missing and self.span.frame_end <= available:
                        accepting = True
                        return self.check_frame()
                    self.needed = missing or self.span.frame_end
                if self.fill():
                    continue
                if not available:
                    return 0
                raise UnexpectedEofError(needed=self.needed, got=available)
        except FlatStreamError as error:
            self.locate_error(error)
            if not accepting:
                self.failure = error
            raise

    cdef int ensure_owner_view(self) except -1:
        """Makes the view of the chunk that payload views are made from. There is none after memory ran out in
        `fill`.
        """
        if self.owner_view is None and self.chunk is not None:
            self.owner_view = PyMemoryView_FromObject(self.chunk)
        return 0

    cdef int check_frame(self) except -1:
        """Has the deframer check the frame at `position`, which is all there, and moves on."""
        cdef Py_ssize_t size = self.span.frame_end
        self.needed = 1
        try:
            self._deframer.examine(self.owner_view, self.data + self.position, &self.span, False)
        except Exception as error:
            if isinstance(error, FlatStreamError):
                self.locate_error(error)
                if isinstance(error, ChecksumMismatchError) and not self.delivered and not self.refused:
                    error.add_note("nothing was read before it: was the stream written with another checksum?")
            self.position += size
            self.refused += 1
            raise
        self.frame_start = self.position
        self.last_offset = self.base + <unsigned long long>self.position
        self.refused_before = self.refused
        self.position += size
        self.delivered += 1
        self.delivered_bytes += <unsigned long long>size
        return 1

    cdef int locate_error(self, object error) except -1:
        """Says in an error where it happened."""
        if error.offset is None:
            error.offset = self.base + <unsigned long long>self.position
        if error.frame is None:
            error.frame = self.delivered + self.refused
        return 0

    # Memory

    cdef int fill(self) except -1:
        """Asks the source for more; 0 at its end."""
        cdef Py_ssize_t taken
        if self.readinto is None and self.read is None:
            return 0
        self.make_room()
        try:
            taken = self.receive(
                self.readinto if self.readinto is not None else self.read, self.chunk.capacity - self.end
            )
        except (BlockingIOError, TimeoutError):
            # Nothing is lost: the source has kept what it had.
            raise
        except OSError as error:
            self.failure = error
            raise
        except BaseException as error:
            if not self.exact:
                self.failure = error if isinstance(error, Exception) else FlatStreamError(
                    f"reading was interrupted inside the source ({type(error).__name__}), and how much was taken is "
                    "not known: the position in the stream is lost"
                )
                if isinstance(self.failure, FlatStreamError):
                    self.locate_error(self.failure)
            raise
        self.end += taken
        return taken > 0

    cdef Py_ssize_t receive(self, object function, Py_ssize_t size) except -1:
        """Puts at most `size` bytes behind `end`; returns how many."""
        cdef Py_buffer view
        cdef Py_ssize_t taken
        cdef object room, result = None
        while True:
            try:
                if self.readinto is None:
                    result = function(size)
                else:
                    self.chunk.writable = True
                    try:
                        room = PyMemoryView_FromObject(self.chunk)
                    finally:
                        self.chunk.writable = False
                    result = function(slice_view(room, self.chunk.data + self.end, size))
                break
            except InterruptedError:
                # Python's own sources retry after a signal; others may not.
                continue
        if result is None:
            raise BlockingIOError(errno.EAGAIN, "the source has no data now: read again later, nothing was lost")
        if self.readinto is not None:
            if not isinstance(result, int) or not 0 <= result <= size:
                raise OSError(
                    errno.EIO, f"the source's readinto() was offered {size} bytes and returned {result!r:.100}"
                )
            return result
        if isinstance(result, str):
            raise TypeError("the source's read() returned str: open the file in binary mode")
        acquire(result, &view, "what the source's read() returned")
        taken = view.len
        if taken <= size:
            memcpy(self.chunk.data + self.end, view.buf, <size_t>taken)
        PyBuffer_Release(&view)
        if taken > size:
            raise OSError(errno.EIO, f"the source's read() was asked for {size} bytes and returned {taken}")
        return taken

    cdef int make_room(self) except -1:
        """Provides a chunk with free bytes behind `end`, enough for the frame at `position` or for the next step of
        it.
        """
        cdef Py_ssize_t available = self.end - self.position
        # What the frame is known to need, and never a step more than what has arrived.
        cdef Py_ssize_t wanted = min(max(self.needed, available + 1), available + GROWTH_STEP)
        # Shrinking, a chunk gets the size that the memory policy was told.
        cdef Py_ssize_t target = max(self.baseline if self.shrinking else self.capacity, wanted)
        cdef Chunk chunk = self.chunk
        cdef bint in_use
        if chunk is not None:
            self.older = None
            self.recent = None
            self.owner_view = None
            in_use = chunk.exports != 0
            if in_use and not self.shrinking and chunk.capacity - self.position >= wanted and (
                chunk.capacity - self.end >= chunk.capacity // 8
            ):
                # Views are alive, but they lie before `end`: a slow source fills a chunk bit by bit.
                return self.ensure_owner_view()
            if self.shrinking:
                self.spare = None
            if self.shrinking and chunk.capacity > target:
                chunk = None
            elif in_use:
                chunk = self.spare
                if chunk is not None and (chunk.exports or chunk.capacity < target):
                    chunk = None
            elif chunk.capacity < target:
                if self.position:
                    memmove(chunk.data, chunk.data + self.position, <size_t>available)
                    self.base += <unsigned long long>self.position
                    self.position = 0
                    self.end = available
                chunk.resize(target)
                self.data = chunk.data
        if chunk is None:
            chunk = Chunk(target)
        if self.position or chunk is not self.chunk:
            if available:
                memmove(chunk.data, self.data + self.position, <size_t>available)
            self.base += <unsigned long long>self.position
            self.position = 0
            self.end = available
        if chunk is not self.chunk:
            self.spare = None if self.shrinking else self.chunk
            self.chunk = chunk
            self.data = chunk.data
        self.shrinking = False
        self.rewatch()
        return self.ensure_owner_view()

    cdef Py_ssize_t held(self) noexcept:
        cdef Py_ssize_t capacity = 0
        if self.chunk is not None:
            capacity = self.chunk.capacity
        if self.spare is not None and self.spare.capacity > capacity:
            capacity = self.spare.capacity
        return capacity

    cdef int rewatch(self) noexcept:
        """Notes whether the memory policy is to be asked: only while something larger than its baseline is held."""
        self.watched = self.policy is not None and not self.shrinking and self.held() > self.baseline
        return 0

    cdef int consult(self, Py_ssize_t size) except -1:
        """Asks the memory policy after a message of `size` bytes. The chunk is replaced when it is filled next."""
        cdef Py_ssize_t capacity = self.held()
        reason = self.policy.should_reset(size, capacity)
        if reason is None:
            return 0
        if not isinstance(reason, ReclamationReason):
            raise TypeError(
                f"{type(self.policy).__name__}.should_reset must return a ReclamationReason or None, "
                f"got {reason!r:.100}"
            )
        self.shrinking = True
        self.rewatch()
        self.policy.on_reclaim(ReclamationInfo(reason, size, capacity, self.baseline))
        return 0

    # For recovery

    def remaining(self):
        """A view of what has arrived and was not read."""
        self.ensure_owner_view()
        if self.owner_view is None:
            return memoryview(b"")
        return slice_view(self.owner_view, self.data + self.position, self.end - self.position)

    def whole_buffer(self):
        """A view of the whole stream if the source is a buffer, else None."""
        if self.owner_view is None or self.chunk is not None:
            return None
        # Not `owner_view` itself, which the caller could release.
        return slice_view(self.owner_view, self.data, self.end)

    def rest_is_zero(self):
        """Reads on to the end of the source, past everything, and returns whether all of it was zero bytes."""
        cdef Py_ssize_t i
        self.enter()
        try:
            while True:
                for i in range(self.position, self.end):
                    if self.data[i]:
                        return False
                self.position = self.end
                self.needed = 1
                if not self.fill():
                    return True
        finally:
            self.leave()

    # The end

    def shut_down(self):
        """Lets go of the chunk and the source; every later read raises ValueError.

        Returns
        -------
        bytes-like
            What was taken from the source, or lies in its buffer, and was not read: bytes, or a memoryview of the
            buffer.
        """
        self.enter()
        try:
            rest = b""
            self.ensure_owner_view()
            if not self.shut and self.owner_view is not None:
                rest = slice_view(self.owner_view, self.data + self.position, self.end - self.position)
                if self.chunk is not None:
                    rest = bytes(rest)
            self.shut = True
            self.base += <unsigned long long>self.position
            self.position = 0
            self.end = 0
            self.data = NULL
            self.older = None
            self.recent = None
            self.owner_view = None
            self.chunk = None
            self.spare = None
            self.readinto = None
            self.read = None
            self.failure = None
            self.deferred = None
            self.watched = False
            return rest
        finally:
            self.leave()

    @property
    def is_shut(self):
        """Whether `shut_down` was called."""
        return self.shut


def iterates_in_c(cls):
    """A class decorator for subclasses of Decoder that leave `__next__` alone.

    Cython gives a class its `__next__` as a method, and so Python has a subclass's loops look that up and call it each
    time: 37 ns a payload instead of 29 (F2 of asv_benchmarks/deframing.py). This is what it would have inherited.
    """
    if not issubclass(cls, Decoder) or cls.__next__ is not Decoder.__next__:
        raise TypeError(f"{cls.__name__} does not have the iteration of Decoder")
    (<TypeSlots*>cls).tp_iternext = (<TypeSlots*>Decoder).tp_iternext
    return cls


cdef int reserve(FrameBatch batch, Py_ssize_t capacity) except -1:
    batch.starts.reserve(capacity)
    batch.sizes.reserve(capacity)
    return 0

# cython: boundscheck=False, wraparound=False
"""The decoder without a source: a program hands in the bytes as they arrive, and takes out what is in them.

Bytes come in by `feed`, which copies them behind `end` of the chunk, or by `get_buffer`, which lends out the free bytes
there, and `buffer_updated`. Both never touch bytes of the chunk before `end` while a view of it is alive.
"""

# States of the lending. `lent` and `room` are fields of the decoder.
#
# state      | what holds                           | how it is left
# -----------|--------------------------------------|------------------------------------------------------------------
# at home    | lent is None, no buffer of the room  | `get_buffer`: lent
#            | is held                              |
# lent       | lent is the view that is out; bytes  | `buffer_updated`, `feed_eof`, `get_buffer`, `_shut_down`: at
#            | may be written into the room         | home, or unreturned if its holder still has a buffer of it
# unreturned | lent is None, but the room has       | its holder releases it: at home. Until then, nothing more is put
#            | exports                              | into this chunk: the next bytes go into another one

import errno

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_FillInfo, PyBuffer_Release
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memcpy

from flatstream._core.base.buffers cimport Chunk, acquire
from flatstream._core.base.checks cimport checked_int, index_of
from flatstream._core.framing.wire cimport MAX_HEADER_SIZE
from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.losses cimport ON_ERROR_RAISE

from flatstream.errors import InvalidFrameError

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

# A frame that is larger than the chunk gets memory as its bytes arrive, and at most this much ahead of them; so does a
# chunk that grows because nobody reads.
cdef enum:
    GROWTH_STEP = 1 << 20

# The largest description that is taken, or what messages may have if that is more.
cdef enum:
    MAX_DESCRIPTION = 1 << 20

# As in `ResyncBuffer`: up to so many bytes, a search is repeated whenever more bytes have arrived.
cdef enum:
    SMALL_SEARCH = 1 << 16


class BytesAwaitedError(BlockingIOError):
    """More bytes are needed to go on with a search. It does not leave this module."""


def _not_called(buffer):
    raise SystemError("flatstream: a decoder without a source reads from one")


# The garbage collector must not clear it: a view of it can be released after that, and then counts down in the chunk.
# (It is in no cycle, because a chunk refers to nothing.)
@cython.no_gc
cdef class Room:
    """Free bytes of a chunk, which are lent out to be written."""

    def __init__(self):
        raise TypeError("a Room is made by FrameParser.get_buffer")

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, False, flags)
        # The chunk is neither resized nor filled again meanwhile.
        self.chunk.exports += 1
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        self.exports -= 1
        self.chunk.exports -= 1


@cython.auto_pickle(False)
cdef class FedDecoder(Decoder):
    """A decoder whose bytes a program hands in. The arguments are those of `Decoder`, without a source.

    Parameters
    ----------
    max_stored_len : int, optional
        The longest payload as it is stored, for a deframer with transforms, whose bounds are for what is restored.
    """

    def __init__(self, deframer, capacity, *, max_stored_len=None, **options):
        cdef Py_ssize_t limit = PY_SSIZE_T_MAX
        if max_stored_len is not None:
            limit = checked_int("max_stored_len", max_stored_len, 0, PY_SSIZE_T_MAX)
        Decoder.__init__(self, deframer, capacity, readinto=_not_called, **options)
        self.max_stored_len = limit
        self.awaits_bytes = True

    # State

    @property
    def buffered(self):
        """How many bytes were handed in and are not read yet, those of a frame that is not whole included."""
        return self.end - self.position

    @property
    def _missing(self):
        """How many bytes are missing, at least, until a read can give the next frame; see `FrameParser.needed`."""
        if not self.awaits_bytes or self.shut or (self.failure is not None and not self.searching):
            return 0
        return max(self.needed - (self.end - self.position), 0)

    @property
    def at_eof(self):
        """Whether `feed_eof` was called and every byte was read."""
        return not self.awaits_bytes and self.position == self.end and not self.shut

    # Bytes in

    def feed(self, data, /):
        """Takes a copy of `data`, the bytes that follow those handed in before.

        Parameters
        ----------
        data : bytes-like
            Any C-contiguous buffer. It may be changed as soon as the call returns.

        Raises
        ------
        BufferError
            A buffer of `get_buffer` is out: its bytes come first.
        ValueError
            `feed_eof` was called, or the parser is detached.
        """
        cdef Py_buffer view
        acquire(data, &view, "data")
        try:
            self.enter()
            try:
                self.check_can_take()
                if self.lent is not None:
                    raise BufferError(
                        "a buffer of get_buffer() is out, and its bytes come first: call buffer_updated(n), or "
                        "buffer_updated(0) if none came"
                    )
                if view.len:
                    self.reserve(view.len)
                    memcpy(self.chunk.data + self.end, view.buf, <size_t>view.len)
                    self.end += view.len
            finally:
                self.leave()
        finally:
            PyBuffer_Release(&view)

    def get_buffer(self, size_hint=-1, /):
        """Lends out free memory, into which a transport puts the bytes that follow: nothing is copied.

        With `buffer_updated` it is what `asyncio.BufferedProtocol` needs. Frames that have arrived can be read while
        the buffer is out.

        Parameters
        ----------
        size_hint : int
            Ignored; asyncio passes it. The size depends on `capacity`, and on the frame that is not whole.

        Returns
        -------
        memoryview
            Writable, of at least one byte. It ends with `buffer_updated`, which releases it, and with the next
            `get_buffer`, which may lend out the same bytes again (asyncio calls it again when nothing came).

        Raises
        ------
        ValueError
            `feed_eof` was called, or the parser is detached.
        """
        cdef Room room
        if type(size_hint) is not int and index_of(size_hint) is None:
            raise TypeError(f"size_hint must be an int, got {size_hint!r:.100}")
        self.enter()
        try:
            self.check_can_take()
            self.take_back()
            self.reserve_room()
            room = Room.__new__(Room)
            room.chunk = self.chunk
            room.data = self.chunk.data + self.end
            room.size = self.chunk.capacity - self.end
            self.lent = PyMemoryView_FromObject(room)
            self.room = room
            return self.lent
        finally:
            self.leave()

    def buffer_updated(self, nbytes, /):
        """Takes the first `nbytes` bytes of the buffer that `get_buffer` lent out last, and releases it.

        Where other views of these bytes are left, such as slices, the bytes are copied: payloads never change. A buffer
        that C code holds until the call returns is left to it, as uvloop does; it must not be written then.

        Raises
        ------
        ValueError
            No buffer is out; `nbytes` is negative or larger than the buffer (nothing is taken, and it stays out); the
            parser is detached.
        """
        cdef Py_ssize_t taken
        number = index_of(nbytes)
        if number is None:
            raise TypeError(f"nbytes must be an int, got {nbytes!r:.100}")
        self.enter()
        try:
            self.check_can_take()
            if self.lent is None:
                raise ValueError("no buffer is out: call get_buffer() before each buffer_updated()")
            if not 0 <= number <= self.room.size:
                raise ValueError(f"nbytes must be from 0 to {self.room.size}, the size of the buffer, got {number}")
            taken = number
            if self.take_back() and taken:
                # Views of it that the program made are alive, and can be written.
                self.end += taken
                self.change_chunk(self.end - self.position)
            else:
                self.end += taken
        finally:
            self.leave()

    def feed_eof(self):
        """Says that no more bytes come. A frame that is not whole is then an UnexpectedEofError from the next read.

        A buffer that is out is taken back, with nothing in it. A second call does nothing.
        """
        self.enter()
        try:
            if self.shut:
                raise ValueError(f"this {type(self).__name__} is detached")
            self.take_back()
            self.awaits_bytes = False
        finally:
            self.leave()

    cdef int check_can_take(self) except -1:
        # The garbage collector takes the chunk away when it clears a reference cycle.
        if self.shut or (self.chunk is None and self.data is not NULL):
            raise ValueError(f"this {type(self).__name__} is detached")
        if not self.awaits_bytes:
            raise ValueError(f"this {type(self).__name__} was told by feed_eof() that no more bytes come")
        return 0

    cdef bint is_written(self) noexcept:
        """Whether somebody still has a buffer of the room in this chunk that was lent out last."""
        return self.room is not None and self.room.exports != 0 and self.room.chunk is self.chunk

    cdef int take_back(self) except -1:
        """Releases the view that is out. Returns 1 if the program has made others of the same bytes."""
        cdef object lent = self.lent
        if lent is None:
            return 0
        self.lent = None
        try:
            lent.release()
        except BufferError:
            # A transport in C has the buffer until its callback has returned.
            return 0
        return self.is_written()

    cdef int reserve(self, Py_ssize_t size) except -1:
        """Provides at least `size` free bytes behind `end`."""
        cdef Chunk chunk = self.chunk
        cdef Py_ssize_t available = self.end - self.position
        cdef Py_ssize_t wanted = available + size
        if chunk is None:
            return self.provide(wanted)
        if self.is_written():
            return self.change_chunk(wanted)
        if size <= chunk.capacity - self.end and not self.shrinking:
            # The views that were handed out, and the view from which they are made, stay as they are.
            return 0
        if available > self.position and available >= self.needed:
            # Bytes are handed in faster than they are read: moving them would take longer each time.
            wanted = max(wanted, 2 * available)
        if wanted > chunk.capacity:
            wanted = max(wanted, chunk.capacity + min(chunk.capacity, GROWTH_STEP))
        return self.provide(wanted)

    cdef int reserve_room(self) except -1:
        """Provides free bytes behind `end` to be lent out."""
        cdef Py_ssize_t available = self.end - self.position, missing = self.needed - available
        cdef Py_ssize_t size = max(self.capacity // 2, 1), room
        if self.chunk is None or missing <= 0 or self.needed <= size or self.is_written() or self.shrinking:
            return self.reserve(size)
        # A large frame has begun. It is moved only if it does not fit where it begins, and nothing behind it has to be
        # moved if it ends with the chunk.
        room = self.chunk.capacity - self.end
        if missing <= room:
            return 0
        if self.needed <= self.chunk.capacity:
            return self.provide(self.needed)
        return 0 if room >= size else self.provide(available + min(missing, GROWTH_STEP))

    cdef int change_chunk(self, Py_ssize_t wanted) except -1:
        """Moves the bytes that were not read into another chunk, with room for `wanted` bytes."""
        cdef Py_ssize_t available = self.end - self.position
        cdef Chunk chunk = Chunk(max(self.capacity, wanted))
        memcpy(chunk.data, self.data + self.position, <size_t>available)
        self.older = self.recent = self.owner_view = None
        self.base += <unsigned long long>self.position
        self.position = 0
        self.end = available
        self.spare = self.chunk
        self.chunk = chunk
        self.data = chunk.data
        self.update_watched()
        return self.ensure_owner_view()

    # Frames out

    def read_message(self):
        """The next payload, a read-only memoryview of unsigned bytes.

        None if no whole frame has arrived; `at_eof` tells whether that is the end.
        """
        return self.next_payload(self.own_mode)

    cdef bint is_buffer(self) noexcept:
        return not self.awaits_bytes

    cdef int fill(self) except -1:
        if self.awaits_bytes:
            raise BytesAwaitedError(errno.EAGAIN, "no more bytes were handed in")
        return 0

    cdef int next_intact_frame(self) except -1:
        cdef Py_ssize_t available, limit
        if self.searching and self.awaits_bytes and (
            self.base + <unsigned long long>self.end < self.search_from and self.failure is self.damage
        ):
            # No more has come than was searched, or not enough to search again.
            return 0
        self.search_from = 0
        try:
            while True:
                if Decoder.next_intact_frame(self):
                    return 1
                limit = self.exceeded_limit()
                if limit < 0:
                    return 0
                error = InvalidFrameError(
                    f"the {'description' if self.is_description else 'frame'} has more than "
                    f"{self.needed - MAX_HEADER_SIZE} bytes, more than the limit of {limit} for what is stored",
                    declared_len=self.needed - MAX_HEADER_SIZE, buffer_len=self.end - self.position, limit=limit,
                )
                self.locate_error(error)
                self.failure = self.damage = error
                if self.mode == ON_ERROR_RAISE:
                    raise error
                if not self.get_over(error, False):
                    return 0
        except BytesAwaitedError:
            available = self.end - self.position
            self.search_from = self.base + <unsigned long long>self.end + 1
            if self.claimed:
                self.search_from = max(
                    self.search_from, self.base + <unsigned long long>(self.position + self.needed)
                )
            elif available > SMALL_SEARCH:
                self.search_from += <unsigned long long>(available // 4)
            return 0

    cdef Py_ssize_t exceeded_limit(self) noexcept:
        """The limit that the frame exceeds of which more bytes are awaited; -1 if it exceeds none.

        Only of a description, which the limit of the deframer does not bound, and of a frame for transforms, whose
        bounds are for what is restored. (If such a frame is there, its memory is spent.)
        """
        cdef Py_ssize_t limit = self.max_stored_len
        if not self.awaits_bytes or self.searching or self.stopped:
            return -1
        if self.is_description:
            limit = max(limit, MAX_DESCRIPTION)
        elif self.stages is None:
            return -1
        return limit if self.needed > MAX_HEADER_SIZE and self.needed - MAX_HEADER_SIZE > limit else -1

    cdef int release_all(self) except -1:
        self.lent = None
        self.room = None
        return Decoder.release_all(self)

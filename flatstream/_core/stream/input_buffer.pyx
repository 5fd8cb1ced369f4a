# cython: boundscheck=False, wraparound=False
"""The input buffer: between a source and the decoder.

It fills a chunk of memory from the source. The decoder hands out views that point into the chunk, and the chunk knows
whether any of them is alive. If none is, the chunk is filled again. If one is, only the free bytes behind the views are
filled; when few of them are left, the chunk is left to the holders of its views, and another takes its place. A loop
that keeps one payload at a time therefore alternates between two chunks and allocates nothing.
"""

# States of the buffer. `chunk`, `data`, `failure` and `shut` are its fields.
#
# state     | what holds                             | what a read does                   | how it is left
# ----------|----------------------------------------|------------------------------------|----------------------------
# unfilled  | data is NULL: nothing was read yet     | gets a chunk and fills it          | the first read: chunked
# chunked   | chunk is not None, data is its memory  | takes frames from [position, end); | `_shut_down`: shut; an
#           |                                        | fills the chunk, or another one,   | error that loses the
#           |                                        | if it needs more bytes             | position: failed
# buffer    | chunk is None, data is not NULL: the   | takes frames from [position, end), | `_shut_down`: shut; a torn
#           | memory of the caller, with all bytes   | which never gets longer            | or invalid frame: failed
# failed    | failure is an error                    | raises it                          | `_shut_down`: shut
# shut      | shut; nothing is held                  | raises ValueError                  | never
#
# The buffer is shut before `__init__`. In the states chunked and failed, `owner_view` can be None after memory ran out.
# A deferred error, which the next read raises once, is kept by the decoder.

import errno

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memmove

from flatstream._core.base.buffers cimport Chunk, acquire, owner_view_of, slice_view
from flatstream._core.base.checks cimport checked_int, index_of
from flatstream._core.base.exclusive cimport Exclusive

from flatstream._core.stream.memory_policy import MemoryPolicy, ReclamationInfo, ReclamationReason
from flatstream.errors import FlatStreamError

# A frame larger than the chunk gets memory as its bytes arrive, and at most this much ahead of them: a header that
# declares two gigabytes costs one megabyte.
cdef enum:
    GROWTH_STEP = 1 << 20


@cython.auto_pickle(False)
cdef class InputBuffer(Exclusive):
    """Holds the bytes that a source gave and that are not decoded yet. The base class of `Decoder`, which describes the
    arguments.
    """

    def __cinit__(self, *args, **kwargs):
        # Until __init__ has run, there is no source to read from.
        self.shut = True

    cdef int set_source(
        self, object capacity, object readinto, object read, object buffer, object memory_policy,
        bint error_takes_nothing,
    ) except -1:
        if (readinto is None) + (read is None) + (buffer is None) != 2:
            raise TypeError("expected exactly one of readinto, read and buffer")
        if memory_policy is not None and not isinstance(memory_policy, MemoryPolicy):
            raise TypeError(f"memory_policy must be an instance of MemoryPolicy, got {memory_policy!r:.100}")
        self.capacity = checked_int("capacity", capacity, 1, MAX_CAPACITY)
        self.readinto = readinto
        self.read = read
        self.error_takes_nothing = error_takes_nothing
        self.needed = 1
        if memory_policy is not None:
            self.policy = memory_policy
            # A chunk never shrinks below the capacity that was asked for.
            self.baseline = max(
                checked_int("memory_policy.baseline_capacity", memory_policy.baseline_capacity, 0, MAX_CAPACITY),
                self.capacity,
            )
        if buffer is not None:
            self.owner_view = owner_view_of(buffer, "source")
            self.data = <const uint8_t*>PyMemoryView_GET_BUFFER(self.owner_view).buf
            self.end = PyMemoryView_GET_BUFFER(self.owner_view).len
        self.shut = False
        return 0

    # State

    @property
    def offset(self):
        """Where the next frame begins, in bytes from where reading began."""
        return self.base + <unsigned long long>self.position

    @property
    def buffer_capacity(self):
        """The size of the largest chunk held, in bytes; 0 if there is none, as for a source that is a buffer."""
        return self.max_held_capacity()

    @property
    def _is_shut(self):
        """Whether `_shut_down` was called."""
        return self.shut

    cdef int locate_error(self, object error) except -1:
        """Stores in an error where it happened."""
        if error.offset is None:
            error.offset = self.base + <unsigned long long>self.position
        return 0

    # Memory

    cdef int ensure_owner_view(self) except -1:
        """Makes the view of the chunk from which payload views are made. There is none after `fill` had no memory."""
        if self.owner_view is None and self.chunk is not None:
            self.owner_view = PyMemoryView_FromObject(self.chunk)
        return 0

    cdef int follows_now(self) except -1:
        """Whether the bytes are those of a file that is being written. Of a source with parts, only the last is."""
        return self.follower is not None and (self.parts is None or self.parts.is_growing)

    cdef int fill(self) except -1:
        """Reads more bytes from the source; returns 0 at its end."""
        cdef Py_ssize_t taken
        if self.readinto is None and self.read is None:
            return 0
        self.make_room()
        if self.follower is not None:
            self.follower.position = self.base + <unsigned long long>self.end
        elif self.parts is not None:
            self.parts.position = self.base + <unsigned long long>self.end
        try:
            taken = self.receive(
                self.readinto if self.readinto is not None else self.read, self.chunk.capacity - self.end
            )
        except (BlockingIOError, TimeoutError):
            # Nothing is lost: the source still has its bytes.
            raise
        except OSError as error:
            self.failure = error
            raise
        except BaseException as error:
            if not self.error_takes_nothing:
                self.failure = error if isinstance(error, Exception) else FlatStreamError(
                    f"reading was interrupted inside the source ({type(error).__name__}), and it is not known how many "
                    "bytes were taken: the position in the stream is lost"
                )
                if isinstance(self.failure, FlatStreamError):
                    self.locate_error(self.failure)
            raise
        self.end += taken
        if taken:
            # A signal may have made the read return early. Here every byte is counted.
            PyErr_CheckSignals()
        return taken > 0

    cdef Py_ssize_t receive(self, object function, Py_ssize_t size) except -1:
        """Reads at most `size` bytes from the source and puts them behind `end`; returns how many."""
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
                # The sources of the standard library retry after a signal; others may not.
                continue
        if result is None:
            raise BlockingIOError(errno.EAGAIN, "the source has no data now: read again later, nothing was lost")
        if self.readinto is not None:
            # An exact int: a subclass can compare as it likes.
            count = index_of(result)
            if count is None or not 0 <= count <= size:
                raise OSError(
                    errno.EIO, f"the source's readinto() was offered {size} bytes and returned {result!r:.100}"
                )
            return count
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
        """Provides a chunk with free bytes behind `end`: for the rest of the frame, or for GROWTH_STEP bytes of it."""
        cdef Py_ssize_t available = self.end - self.position
        # The bytes that the frame is known to need, but at most GROWTH_STEP more than have arrived.
        cdef Py_ssize_t wanted = min(max(self.needed, available + 1), available + GROWTH_STEP)
        if self.follows_now():
            # The file has these bytes. They are read at once, so that they belong together.
            wanted = max(self.needed, available + 1)
        return self.provide(wanted)

    cdef int provide(self, Py_ssize_t wanted) except -1:
        """Provides a chunk with room for `wanted` bytes from `position` on."""
        cdef Py_ssize_t available = self.end - self.position
        # A chunk that shrinks gets the size that the memory policy was told.
        cdef Py_ssize_t target = max(self.baseline if self.shrinking else self.capacity, wanted)
        cdef Chunk chunk = self.chunk
        cdef bint in_use
        if self.is_gathering and self.batch_capacity > target and chunk is not None and self.end == chunk.capacity and (
            self.base >= <unsigned long long>self.batch_capacity
        ):
            # The source fills chunks. What is done with a larger one is worth releasing the GIL for.
            target = self.batch_capacity
        if chunk is not None:
            self.older = None
            self.recent = None
            self.owner_view = None
            in_use = chunk.exports != 0
            if in_use and not self.shrinking and chunk.capacity - self.position >= wanted and (
                chunk.capacity - self.end >= chunk.capacity // 8
            ):
                # Views are alive, but they lie before `end`, so the rest of the chunk is filled: a slow source fills
                # a chunk in many small steps.
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
        self.update_watched()
        return self.ensure_owner_view()

    cdef Py_ssize_t max_held_capacity(self) noexcept:
        cdef Py_ssize_t capacity = 0
        if self.chunk is not None:
            capacity = self.chunk.capacity
        if self.spare is not None and self.spare.capacity > capacity:
            capacity = self.spare.capacity
        return capacity

    cdef int update_watched(self) noexcept:
        """Sets whether the memory policy is to be asked: only while a chunk larger than its baseline is held."""
        self.watched = self.policy is not None and not self.shrinking and self.max_held_capacity() > self.baseline
        return 0

    cdef int consult(self, Py_ssize_t size) except -1:
        """Asks the memory policy after a message of `size` bytes. The next `fill` replaces the chunk, if it says so."""
        cdef Py_ssize_t capacity = self.max_held_capacity()
        reason = self.policy.should_reset(size, capacity)
        if reason is None:
            return 0
        if not isinstance(reason, ReclamationReason):
            raise TypeError(
                f"{type(self.policy).__name__}.should_reset must return a ReclamationReason or None, "
                f"got {reason!r:.100}"
            )
        self.shrinking = True
        self.update_watched()
        self.policy.on_reclaim(ReclamationInfo(reason, size, capacity, self.baseline))
        return 0

    # For recovery

    def _remaining(self):
        """A view of the bytes that have arrived and were not read."""
        self.ensure_owner_view()
        if self.owner_view is None:
            return memoryview(b"")
        return slice_view(self.owner_view, self.data + self.position, self.end - self.position)

    def _whole_buffer(self):
        """A view of the whole stream if the source is a buffer, else None."""
        if self.owner_view is None or self.chunk is not None:
            return None
        # A new view: the caller may release it, but not `owner_view`.
        return slice_view(self.owner_view, self.data, self.end)

    def _look_ahead(self, offset, size):
        """Goes back to the stream offset of the last frame, reads until `size` bytes from there on have arrived or the
        source ends. Returns a view of the bytes that have arrived, and whether the source ends with them.

        An error of the source stops it too: what the source would have given is not known.
        """
        cdef long long begin = offset, wanted = size
        self.enter()
        try:
            if not <long long>self.base <= begin <= <long long>self.base + self.position:
                raise ValueError(f"the bytes at stream offset {offset} are gone")
            self.position = <Py_ssize_t>(begin - <long long>self.base)
            try:
                while self.end - self.position < wanted:
                    self.needed = <Py_ssize_t>min(wanted, MAX_CAPACITY)
                    if not self.fill():
                        return self._remaining(), True
            except OSError:
                pass
            return self._remaining(), False
        finally:
            self.leave()

    def _rest_is_zero(self):
        """Reads all bytes up to the end of the source, and returns whether all of them are zero."""
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

    def _shut_down(self):
        """Releases the chunk and the source; every later read raises ValueError.

        Returns
        -------
        bytes-like
            The bytes that were taken from the source, or lie in its buffer, and were not read: bytes, or a memoryview
            of the buffer. b"" if another thread was reading when the process forked, and this is the child: then it is
            not known what it has taken.
        """
        if self.is_abandoned():
            # Nobody is in the operation any more.
            self.busy = False
            self.shut = True
            self.release_all()
            return b""
        self.enter()
        try:
            rest = b""
            self.ensure_owner_view()
            if not self.shut and self.owner_view is not None:
                rest = slice_view(self.owner_view, self.data + self.position, self.end - self.position)
                if self.chunk is not None:
                    rest = bytes(rest)
            self.shut = True
            self.release_all()
            return rest
        finally:
            self.leave()

    cdef int release_all(self) except -1:
        """Releases everything that the buffer holds."""
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
        self.watched = False
        if self.follower is not None:
            self.follower.close()
        return 0

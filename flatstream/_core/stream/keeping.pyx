# cython: boundscheck=False, wraparound=False
"""The encoder without a sink: it keeps the frames until a program takes their bytes.

What does not fit into the output buffer any more becomes a piece: the chunk of the buffer itself, for which another one
takes its place, or a large payload. So the bytes of a frame are copied once on their way in, and on their way out only
if the program wants one bytes object.
"""

import errno

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from flatstream._core.base.buffers cimport slice_view
from flatstream._core.base.checks cimport checked_int, index_of
from flatstream._core.stream.encoder cimport Encoder
from flatstream._core.stream.input_buffer cimport MAX_CAPACITY

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

# So many pieces that were taken are left in the list before it is made shorter, which moves the others.
cdef enum:
    MAX_TAKEN_PIECES = 64


def _not_called(buffer):
    raise SystemError("flatstream: an encoder without a sink writes to one")


@cython.auto_pickle(False)
cdef class KeepingEncoder(Encoder):
    """An encoder that keeps its frames.

    Parameters
    ----------
    framer : Framer
        Makes the frames.
    buffer_size : int
        How many bytes are gathered in one piece of memory.
    max_pending : int, optional
        How many bytes are kept at most, but for a single frame. By default there is no limit.
    """

    def __cinit__(self, *args, **kwargs):
        self.pieces = []

    def __init__(self, framer, buffer_size, max_pending=None, *, session=None):
        cdef Py_ssize_t size = checked_int("buffer_size", buffer_size, 1, MAX_CAPACITY)
        cdef Py_ssize_t most = PY_SSIZE_T_MAX
        if max_pending is not None:
            most = checked_int("max_pending", max_pending, 1, MAX_CAPACITY)
        size = min(size, most)
        Encoder.__init__(self, framer, size, _not_called, error_takes_nothing=True, session=session)
        self.most = most
        self.usual_capacity = size
        # Frames of a batch are copied into the buffer, too: they may be views of memory that changes.
        self.gathers_all = True

    # State

    @property
    def pending_bytes(self):
        """The number of bytes to send: those that were neither taken nor marked as sent."""
        return self.count_pending()

    cdef int check_held(self) except -1:
        """Raises if the garbage collector has taken the memory away, as it clears a reference cycle."""
        if self.pieces is None or (self.chunk is None and self.used > self.start):
            raise ValueError(f"this {type(self).__name__} is closed")
        return 0

    cdef Py_ssize_t count_pending(self) noexcept:
        return self.kept + self.used - self.start

    # Keeping

    cdef int fail_full(self, Py_ssize_t size) except -1:
        raise BlockingIOError(
            errno.EAGAIN,
            f"{self.count_pending()} bytes are pending, and {size} more would be above max_pending={self.most}: "
            "send some of them (take, or pending_buffers and mark_sent), then write it again",
            0,
        )

    cdef int fit_capacity(self) noexcept:
        """Makes the next chunk as large as usual, or as the rest of what may be pending: writes do not look at it.

        (One byte has no room for a frame.)
        """
        self.capacity = min(self.usual_capacity, max(1, self.most - self.kept))
        return 0

    cdef int put_held(self, object source, const uint8_t* data, Py_ssize_t length) except -1:
        # The framer sees each payload once, so from there on the frame is accepted.
        if self._framer.needs_view and self.count_pending() > max(0, self.most - length):
            self.frame_committed = False
            self.fail_full(length)
        return Encoder.put_held(self, source, data, length)

    cdef int keep(self, object view, Py_ssize_t size) except -1:
        self.pieces.append(view)
        self.kept += size
        self.fit_capacity()
        return 0

    cdef Py_ssize_t offer(self, object function, object argument, Py_ssize_t size) except -1:
        # These were in the buffer, and so counted already.
        self.keep(argument, size)
        return size

    cdef int emit_large(
        self, const uint8_t* head, Py_ssize_t head_size, object source, const uint8_t* body, Py_ssize_t body_size,
        bint may_wait,
    ) except -1:
        """Keeps a frame that the (empty) buffer cannot hold. Its payload is copied only if it may change."""
        cdef Py_ssize_t size = head_size + body_size, kept
        cdef bytes frame
        cdef uint8_t* out
        if self.kept and not may_wait and self.kept > self.most - size:
            self.fail_full(size)
        if type(source) is bytes and head_size and body_size and <const uint8_t*>PyBytes_AS_STRING(source) == body and (
            PyBytes_GET_SIZE(source) == body_size
        ):
            frame = head[:head_size]
            pieces = [PyMemoryView_FromObject(frame), PyMemoryView_FromObject(source)]
        else:
            frame = PyBytes_FromStringAndSize(NULL, size)
            out = <uint8_t*>PyBytes_AS_STRING(frame)
            if head_size:
                memcpy(out, head, <size_t>head_size)
            memcpy(out + head_size, body, <size_t>body_size)
            pieces = [PyMemoryView_FromObject(frame)]
        # Before anything is accepted: without memory, it is refused.
        kept = self.kept
        self.kept += size
        self.fit_capacity()
        try:
            if self.chunk.capacity != self.capacity:
                self.renew(0)
            self.pieces += pieces
        except BaseException:
            self.kept = kept
            self.fit_capacity()
            raise
        self.frame_count += 1
        self.byte_count += <unsigned long long>size
        return 0

    # The end

    def finish(self):
        """Ends the stream: every later write raises ValueError. What is pending can still be sent.

        A framer that has frames of its own behind the last message puts them. A second call does nothing.
        """
        self.enter()
        try:
            if self.shut:
                return
            self.check_open()
            self.put_finish()
            self._shut_down()
            if self.finish_error is not None:
                error = self.finish_error
                self.finish_error = None
                raise error
        finally:
            self.leave()

    # Taking

    def take(self, max_bytes=None):
        """Removes bytes to send, the oldest first, and returns them as one bytes object.

        Parameters
        ----------
        max_bytes : int, optional
            At most so many; by default all that are pending.

        Returns
        -------
        bytes
            b"" if nothing is pending. Frames may be cut in two: the next call goes on.
        """
        cdef Py_ssize_t size = PY_SSIZE_T_MAX, left, part
        cdef bytes result
        cdef uint8_t* out
        cdef Py_buffer* piece
        cdef Py_ssize_t i, skipped
        if max_bytes is not None:
            size = checked_int("max_bytes", max_bytes, 1, PY_SSIZE_T_MAX)
        self.enter()
        try:
            self.check_held()
            size = min(size, self.count_pending())
            if not size:
                return b""
            result = PyBytes_FromStringAndSize(NULL, size)
            out = <uint8_t*>PyBytes_AS_STRING(result)
            left = size
            i = self.next_piece
            skipped = self.taken_of_first
            while left and i < len(self.pieces):
                piece = PyMemoryView_GET_BUFFER(self.pieces[i])
                part = min(left, piece.len - skipped)
                memcpy(out, <const uint8_t*>piece.buf + skipped, <size_t>part)
                out += part
                left -= part
                skipped = 0
                i += 1
            if left:
                memcpy(out, self.chunk.data + self.start, <size_t>left)
            self.drop(size)
            return result
        finally:
            self.leave()

    def pending_buffers(self, max_buffers=None):
        """The bytes to send, as a list of read-only memoryviews; nothing is copied, and nothing removed.

        A view stays valid and unchanged for as long as it is held. After a transport has taken bytes, `mark_sent`
        removes them.

        Parameters
        ----------
        max_buffers : int, optional
            The first so many of them; by default all. ``socket.sendmsg`` takes at most 1,024 on Linux.
        """
        cdef Py_ssize_t most = PY_SSIZE_T_MAX
        cdef list buffers = []
        cdef Py_buffer* piece
        cdef Py_ssize_t i, skipped
        if max_buffers is not None:
            most = checked_int("max_buffers", max_buffers, 1, PY_SSIZE_T_MAX)
        self.enter()
        try:
            self.check_held()
            skipped = self.taken_of_first
            for i in range(self.next_piece, min(len(self.pieces), self.next_piece + min(most, len(self.pieces)))):
                # A view of the program's own: it may release it.
                piece = PyMemoryView_GET_BUFFER(self.pieces[i])
                buffers.append(slice_view(self.pieces[i], <const uint8_t*>piece.buf + skipped, piece.len - skipped))
                skipped = 0
            if self.used > self.start and len(buffers) < most:
                if self.owner_view is None:
                    self.owner_view = PyMemoryView_FromObject(self.chunk)
                buffers.append(slice_view(self.owner_view, self.chunk.data + self.start, self.used - self.start))
            return buffers
        finally:
            self.leave()

    def mark_sent(self, nbytes, /):
        """Removes the first `nbytes` bytes of `pending_buffers`, because a transport has them.

        Raises
        ------
        ValueError
            `nbytes` is negative, or larger than `pending_bytes`.
        """
        number = index_of(nbytes)
        if number is None:
            raise TypeError(f"nbytes must be an int, got {nbytes!r:.100}")
        self.enter()
        try:
            self.check_held()
            if not 0 <= number <= self.count_pending():
                raise ValueError(f"nbytes must be from 0 to {self.count_pending()}, the bytes pending, got {number}")
            self.drop(number)
        finally:
            self.leave()

    cdef int drop(self, Py_ssize_t size) except -1:
        """Removes the first `size` of the bytes that are pending."""
        cdef Py_ssize_t part
        while size and self.next_piece < len(self.pieces):
            part = PyMemoryView_GET_BUFFER(self.pieces[self.next_piece]).len - self.taken_of_first
            if part > size:
                self.taken_of_first += size
                self.kept -= size
                self.fit_capacity()
                return 0
            # The memory is given back now, although the list is made shorter later.
            self.pieces[self.next_piece] = None
            self.next_piece += 1
            self.taken_of_first = 0
            self.kept -= part
            size -= part
        if self.next_piece == len(self.pieces) or self.next_piece >= MAX_TAKEN_PIECES:
            if self.next_piece:
                del self.pieces[:self.next_piece]
                self.next_piece = 0
        self.fit_capacity()
        self.start += size
        if self.start == self.used and (size or self.chunk is not None and self.chunk.capacity != self.capacity):
            try:
                self.renew(0)
            except MemoryError:
                # There is no other chunk for one that somebody has views of. The next write tries again.
                pass
        return 0

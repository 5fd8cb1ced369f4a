# cython: boundscheck=False, wraparound=False
"""A file that is being written: between the search behind damage and the decoder.

The bytes that it has now may be cut off or overwritten by its writer. So they are read anew, zeros at its end are no
frames, and a frame that does not become whole is damaged only if intact frames behind it lead to the end of the file.
"""

cimport cython

from flatstream._core.framing.deframer cimport Span
from flatstream._core.stream.frame_search cimport find_next_frames
from flatstream._core.stream.resync cimport ResyncBuffer

from flatstream.errors import InvalidFrameError

# In a file that is followed, so many bytes behind a frame that does not become whole are searched, and as many before
# the end of the file; or 4 times as many as the longest payload has.
cdef enum:
    FOLLOWED_SEARCH = 1 << 20

# How many rows of frames before the end of the file are followed to see whether one leads there.
cdef enum:
    MAX_ROWS = 8


@cython.auto_pickle(False)
cdef class FollowingBuffer(ResyncBuffer):
    """A buffer that looks at a file again whenever the file may have changed. The base class of `HeadBuffer`."""

    cdef int check_stalled(self) except -1:
        """Raises InvalidFrameError if the frame at `position`, which is not whole, never will be: its length is wrong.
        """
        cdef unsigned long long here = self.base + <unsigned long long>self.position
        cdef long long found
        if not self.follower.is_stalled(here):
            return 0
        found = self.find_behind_stalled()
        self.follower.note_search()
        if found < 0:
            return 0
        error = InvalidFrameError(
            f"the frame's length reaches {self.needed} bytes, beyond the end of the file, but an intact frame begins "
            f"at stream offset {found}, and frames lead to the end: the length is damaged, or bytes of something else "
            "were written",
            buffer_len=<long long>(self.follower.size - here),
        )
        error.next_intact_offset = found
        raise error

    cdef int look(self) except -1:
        """Reads the file from `position` on anew; returns 0 if it has fewer than `needed` bytes there."""
        cdef unsigned long long there
        self.end = self.position
        self.zeros_end_before = 0
        try:
            there = self.follower.look(self.base + <unsigned long long>self.position)
        except OSError as error:
            self.failure = error
            raise
        if there < <unsigned long long>self.needed:
            return 0
        return self.fill()

    cdef bint ends_in_zeros(self) except -1:
        """Whether the file has nothing but zeros from `position` on. They are no empty frames: the file was made longer
        before it is written, or its last bytes were lost.
        """
        cdef Py_ssize_t i = self.position
        if i < self.end and self.data[i]:
            return False
        if self.base + <unsigned long long>i < self.zeros_end_before:
            return False
        while i < self.end and not self.data[i]:
            i += 1
        if i == self.end and self.follower.only_zeros(self.base + <unsigned long long>i):
            return True
        self.zeros_end_before = self.base + <unsigned long long>i
        return False

    cdef long long find_behind_stalled(self) except -2:
        """For the frame at `position` of a file that is followed, which has not become whole: the stream offset of the
        nearest intact frames behind it, if frames lead to the end of the file; -1 if not.

        Intact frames alone are not enough: they may be those of a stream in the payload of a large frame, half of which
        has been written. But that half hardly ends with one of them.
        """
        cdef unsigned long long here = self.base + <unsigned long long>self.position
        cdef Py_ssize_t longest = self.longest_payload(), rest = self.follower.size - here, size, nearest, at = 0, _
        cdef const unsigned char[::1] data
        cdef Span span
        cdef object head, tail
        size = min(rest, self.resync_window, max(FOLLOWED_SEARCH, 4 * longest))
        head = self.follower.read_bytes(here, size)
        tail = head if size == rest else self.follower.read_bytes(here + rest - size, size)
        data = head
        if not data.shape[0]:
            return -1
        try:
            # The writer may have replaced it meanwhile.
            if not self.active.find(head, &data[0], data.shape[0], &span) and span.frame_end <= rest:
                return -1
        except Exception:
            return -1
        nearest, _ = find_next_frames(self.active, head, 1, size == rest, longest)
        if nearest < 0:
            return -1
        if size == rest:
            at = nearest
        for _ in range(MAX_ROWS):
            at, _ = find_next_frames(self.active, tail, at, True, longest)
            if at < 0:
                return -1
            if self.leads_to_end(tail, &at):
                return <long long>here + nearest
        return -1

    cdef bint leads_to_end(self, object data, Py_ssize_t* begin) except -1:
        """Whether intact frames lead from `begin` to the end of `data`, or to zeros that run to it. Sets `begin` to
        where the last of them ends.
        """
        cdef const unsigned char[::1] bytes_ = data
        cdef Py_ssize_t at = begin[0], size = bytes_.shape[0], i
        cdef Span span
        try:
            while at < size and not self.active.find(data, &bytes_[at], size - at, &span) and (
                span.frame_end <= size - at
            ):
                self.active.examine(data, &bytes_[at], &span, True)
                at += span.frame_end
        except Exception:
            pass
        begin[0] = at = max(at, begin[0] + 1)
        for i in range(at, size):
            if bytes_[i]:
                return False
        return True

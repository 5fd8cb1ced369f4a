# cython: boundscheck=False, wraparound=False
"""The search for the next intact frames, in the bytes that a source gives: between the input buffer and the decoder.

`find_next_frames` searches bytes that are there. Here it is decided which bytes it is shown, when more are read, what
is kept, and whether the frame's own claim, or its checksum, says more than a search.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from flatstream._core.base.buffers cimport slice_view
from flatstream._core.base.endian cimport load_u32
from flatstream._core.framing.deframer cimport Span
from flatstream._core.framing.wire cimport HeaderFormat
from flatstream._core.stream.frame_search cimport find_next_frames
from flatstream._core.stream.input_buffer cimport InputBuffer

from flatstream.errors import UnexpectedEofError

# A search for intact frames looks at so many bytes first, and then at four times as many, and so on. The nearest intact
# frames are seldom far, and what a search costs grows with the bytes that it is shown.
cdef enum:
    FIRST_SEARCH = 1 << 14

# Up to so many bytes, a search is repeated whenever more bytes have arrived; beyond, when there are a quarter more.
cdef enum:
    SMALL_SEARCH = 1 << 16

# Up to so many bytes, a length is nothing unusual if no payload was seen so far, else up to four times the longest one.
cdef enum:
    USUAL_LENGTH = 4096

# How many frames behind a damaged one are looked at to see that they are intact. (A weak checksum needs several.)
cdef enum:
    MAX_PROBED_FRAMES = 8


@cython.auto_pickle(False)
cdef class ResyncBuffer(InputBuffer):
    """An input buffer that finds its way from a damaged frame to the next intact ones. The base class of
    `FollowingBuffer`.
    """

    cdef int end_head(self) except -1:
        raise SystemError("flatstream: a buffer without a head")

    cdef object get_states(self):
        """The states of the transforms: those that belong to the frame at `position`."""
        return tuple([stage.state for stage in self.stages]) if self.has_state else None

    cdef int set_states(self, object states) except -1:
        """Goes back to the states of another frame, which is the next one."""
        if self.has_state and states is not None:
            for stage, state in zip(self.stages, states, strict=True):
                stage.rewind(state)
        return 0

    cdef int pass_over(self) except -1:
        """Tells the transforms that frames may be missing before the next one."""
        if self.stages is not None:
            for stage in self.stages:
                stage.passed_over()
        return 0

    cdef bint is_buffer(self) noexcept:
        """Whether all bytes of the stream are there."""
        return self.readinto is None and self.read is None

    cdef int begin_search(self, object error, Py_ssize_t claimed) except -1:
        """Begins the search behind the damaged frame at `position`, which says that it has `claimed` bytes, or 0."""
        self.description_end = claimed if self.is_description else 0
        if claimed > self.end - self.position and (self.is_buffer() or claimed > self.resync_window):
            claimed = 0
        self.lost_from = self.base + <unsigned long long>self.position
        self.claimed = claimed
        self.search_begin = 1
        self.search_size = FIRST_SEARCH
        self.failure = self.damage = error
        self.searching = True
        self.ended = isinstance(error, UnexpectedEofError)
        return 1

    cdef int end_search(self, Py_ssize_t found) except -1:
        """Ends the search: intact frames, or the end of the stream, are `found` bytes behind `position`."""
        self.losses.add(self.lost_from, self.base + <unsigned long long>(self.position + found))
        self.pass_over()
        self.position += found
        self.needed = 1
        if self.is_ahead:
            self.end_head()
        # The description alone has no number. Behind it, messages are lost as well.
        if found != self.description_end:
            self.refused += 1
        self.description_end = 0
        self.searching = False
        self.over_window = False
        self.failure = None
        return 1

    cdef int search(self) except -1:
        """Moves `position` from a damaged frame to the next intact frames; or to the end of the stream, and returns 0.
        If it raises, the next read goes on with the search.
        """
        cdef bint at_end = self.is_buffer() or self.ended, is_last
        cdef Py_ssize_t available, size, found, undecided = 0
        self.ensure_owner_view()
        if self.claimed:
            if self.is_intact_behind_claim(&at_end):
                return self.end_search(self.true_size(at_end))
            self.claimed = 0
        while True:
            PyErr_CheckSignals()
            available = self.end - self.position
            size = min(available, self.search_size)
            found = self.find_from(self.search_begin, size, at_end and size == available, &undecided)
            is_last = at_end or self.over_window or available >= self.resync_window
            if found >= 0 and (
                (size == available and is_last) or not self.is_inside_a_frame(undecided, found, size)
            ):
                return self.end_search(found)
            self.search_begin = max(self.search_begin, min(undecided, size))
            if size < available:
                self.search_size *= 4
            elif at_end:
                self.end_search(available)
                return 0
            elif self.over_window and self.reads_whole_frames:
                self.trusted = <long long>self.lost_from
                self.searching = False
                self.over_window = False
                self.failure = None
                return 1
            else:
                at_end = self.ended = not self.await_bytes()
                self.search_size = max(self.search_size, self.end - self.position)

    cdef int is_intact_behind_claim(self, bint* at_end) except -1:
        """Whether intact frames begin, or the stream ends, where the damaged frame says that it ends. Sets `at_end` if
        it came to the end of the stream.
        """
        cdef Py_ssize_t at = self.claimed, available, reach, missing, undecided = 0
        # A frame that is longer than the window is there already.
        cdef Py_ssize_t limit = self.resync_window + (self.claimed if self.claimed > self.resync_window else 0)
        cdef int count = 0
        cdef Span span
        while True:
            available = self.end - self.position
            reach = at + 1
            if available > at:
                try:
                    missing = self.active.find(
                        self.owner_view, self.data + self.position + at, available - at, &span
                    )
                    reach = at + (missing or span.frame_end)
                    if not missing and reach <= available and not count:
                        self.active.examine(self.owner_view, self.data + self.position + at, &span, True)
                except Exception:
                    return 0
                if not missing and reach <= available:
                    at = reach
                    count += 1
                    if self.find_from(self.claimed, at, at_end[0] and at == available, &undecided) == self.claimed:
                        return 1
                    if count == MAX_PROBED_FRAMES:
                        return 0
                    continue
            if at_end[0]:
                return at == available and (
                    not count or self.find_from(self.claimed, at, True, &undecided) == self.claimed
                )
            if reach > max(limit, available + 1):
                return 0
            self.needed = reach
            at_end[0] = not self.fill()

    cdef Py_ssize_t true_size(self, bint at_end) except -1:
        """The size of the damaged frame at `position`, behind whose claim all is intact.

        It is what the frame claims. But where frames have equal sizes, a wrong length often leads to the beginning of
        another frame. So if intact frames begin inside of the claim, and the checksum stored in the damaged frame is
        that of its bytes before them, only its length is wrong, and it ends there. (Frames of a stream that is inside
        of a damaged payload do not pass this test.)
        """
        cdef HeaderFormat format
        cdef Span span
        cdef Py_ssize_t found, undecided = 0, available = self.end - self.position
        # A weak checksum needs several frames in a row, some of them behind the claim.
        cdef Py_ssize_t size = min(available, self.claimed + FIRST_SEARCH)
        if not self.active.locate_is_native or self.active.evidence_bytes() < 2:
            return self.claimed
        found = self.find_from(1, size, at_end and size == available, &undecided)
        self.active.get_format(&format)
        if found < format.header_size or found >= self.claimed:
            return self.claimed
        span.payload_start = format.header_size
        span.payload_end = found
        span.frame_end = found
        try:
            self.active.examine(self.owner_view, self.data + self.position, &span, True)
        except Exception:
            return self.claimed
        return found

    cdef Py_ssize_t find_from(
        self, Py_ssize_t begin, Py_ssize_t size, bint at_end, Py_ssize_t* undecided
    ) except -2:
        """`find_next_frames` in the `size` bytes from `position` on."""
        cdef Py_ssize_t found
        found, undecided[0] = find_next_frames(
            self.active, slice_view(self.owner_view, self.data + self.position, size), begin, at_end,
            self.longest_payload(),
            <Py_ssize_t>(self.delivered_bytes // self.delivered) if self.delivered else 0,
        )
        return found

    cdef bint is_inside_a_frame(self, Py_ssize_t begin, Py_ssize_t found, Py_ssize_t size) noexcept:
        """Whether a frame of usual length may begin between `begin` and `found` that ends behind the `size` bytes from
        `position` on. If so, the frames that were found may be those of a stream in its payload.
        """
        cdef HeaderFormat format
        cdef Py_ssize_t at, length, longest
        if not self.active.locate_is_native:
            return False
        self.active.get_format(&format)
        longest = min(format.max_length, 4 * self.longest_payload() or USUAL_LENGTH)
        for at in range(max(begin, size - format.header_size - longest), found):
            length = load_u32(self.data + self.position + at)
            if format.min_length <= length <= longest and length > size - at - format.header_size:
                return True
        return False

    cdef Py_ssize_t longest_payload(self) noexcept:
        """About the length of the longest payload so far."""
        if not self.delivered:
            return self.longest
        return max(self.longest, 4 * <Py_ssize_t>(self.delivered_bytes // self.delivered))

    cdef int await_bytes(self) except -1:
        """Reads as many bytes as make it worth while to search again; returns 0 at the end of the source."""
        cdef Py_ssize_t before, available
        # What was searched is not kept, but for frames that are not whole; and of these only a part of the window.
        self.position += self.search_begin
        self.search_begin = 0
        if self.end - self.position >= self.resync_window:
            self.position = self.end - self.resync_window // 2
        before = available = self.end - self.position
        while True:
            self.needed = available + max(self.capacity, available // 2)
            if not self.fill():
                return 0
            available = self.end - self.position
            if available <= SMALL_SEARCH or available - before >= before // 4:
                return 1

    cdef int release_all(self) except -1:
        self.damage = None
        self.searching = False
        return InputBuffer.release_all(self)

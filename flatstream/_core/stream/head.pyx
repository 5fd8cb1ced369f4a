# cython: boundscheck=False, wraparound=False
"""The head of a stream: the description with which it, or a part of it, may begin, and which is no message.

A description is a frame that is found, checked and counted apart from those of messages.
"""

cimport cython
from libc.stdint cimport uint8_t

from flatstream._core.base.buffers cimport slice_view
from flatstream._core.base.endian cimport load_u32
from flatstream._core.framing.deframer cimport Deframer, DeframerAdapter
from flatstream._core.framing.transform cimport deframers_of
from flatstream._core.framing.wire cimport LENGTH_SIZE, HeaderFormat
from flatstream._core.stream.following cimport FollowingBuffer
from flatstream._core.stream.input_buffer cimport InputBuffer

from flatstream.errors import ChecksumMismatchError, FlatStreamError

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

# A description, the frame by which a stream may introduce itself, is recognised by the file identifier of its payload,
# "FSD1", which stands behind the offset of the root. A table takes 4 bytes more.
cdef enum:
    DESCRIPTION_MARK = 0x31445346
    MARKED_SIZE = 8
    MIN_DESCRIPTION = 12
    MAX_DESCRIPTION = 1 << 24
    # The checksums that there are have 0 to 8 bytes.
    LONGEST_HEADER = 12


@cython.auto_pickle(False)
cdef class HeadBuffer(FollowingBuffer):
    """A buffer that takes off the description, and counts the frames that are refused. The base class of `Decoder`."""

    @property
    def _description(self):
        """What `parse_description` made of the description with which the stream, or the part that is read, begins.

        None if it begins with a message. If nothing was read yet, reads as far as the first frame; takes no message.
        """
        if self.is_ahead and not self.shut and self.failure is None and self.deferred is None:
            self.enter()
            try:
                self.look_for_description()
            finally:
                self.leave()
        return self.description

    @property
    def _description_size(self):
        """The size of the frame of that description in bytes, 0 if there is none or it was not read yet."""
        return self.description_size

    @property
    def _is_in_description(self):
        """Whether the next frame is a description, of which not all bytes have arrived."""
        return self.is_description

    def _deliver_description(self):
        """Makes a description an ordinary message, if it was not read yet."""
        self.parse_description = None
        if self.is_ahead:
            self.end_head()

    cdef int begin_head(self) except -1:
        """Expects a description: at the beginning of the stream or of a part.

        The fast path is off until the description was read, or it is known that there is none. So it costs the frames
        behind it nothing.
        """
        cdef Deframer inner = self._deframer
        self.description = None
        self.description_size = 0
        self.was_description = False
        self.is_description = False
        self.is_ahead = self.parse_description is not None
        self.first_note = None
        if not self.is_ahead:
            return 0
        self.has_fast_path = False
        # It was framed by the innermost framer: adapters bound, observe and validate messages.
        while isinstance(inner, DeframerAdapter) and not inner.locates_in_python and not inner.checks_in_python and (
            (<DeframerAdapter>inner)._inner is not None
        ):
            inner = (<DeframerAdapter>inner)._inner
        self.innermost = inner
        self.first_seen = PY_SSIZE_T_MAX
        return 0

    cdef int end_head(self) except -1:
        """No description is expected any more."""
        self.is_ahead = self.is_description = False
        self.needed = 1
        return self.restore_fast_path()

    cdef int restore_fast_path(self) except -1:
        self.has_fast_path = not self.is_ahead and self._deframer is not None and self._deframer.is_batchable
        return 0

    cdef int find_description(self, Py_ssize_t available, Py_ssize_t* missing) except -1:
        """Finds the frame at `position`, of which `available` bytes are there, if it may be a description.

        Returns 0 if it is none. Otherwise it sets `span`; or `missing`, how many bytes are needed to know more.
        """
        cdef const uint8_t* frame = self.data + self.position
        cdef HeaderFormat format
        cdef Py_ssize_t size
        missing[0] = 0
        self.is_description = False
        if self.innermost is None:
            # Cleared by the garbage collector.
            self.end_head()
            return 0
        if self.innermost.locate_is_native:
            # With a limit of its own, so that bounds of messages do not bound it.
            self.innermost.get_format(&format)
            if available < LENGTH_SIZE:
                missing[0] = LENGTH_SIZE
                return 1
            self.span.payload_start = format.header_size
            self.span.payload_end = self.span.frame_end = format.header_size + <Py_ssize_t>load_u32(frame)
        else:
            try:
                missing[0] = self.innermost.find(self.owner_view, frame, available, &self.span)
            except Exception:
                # It is called again for the first message, and raises that.
                self.end_head()
                return 0
            if missing[0]:
                return 1
        size = self.span.payload_end - self.span.payload_start
        if not MIN_DESCRIPTION <= size <= MAX_DESCRIPTION:
            self.end_head()
            return 0
        if available < self.span.payload_start + MARKED_SIZE:
            missing[0] = self.span.payload_start + MARKED_SIZE
            self.first_seen = min(available, self.first_seen)
            return 1
        if load_u32(frame + self.span.payload_start + 4) != DESCRIPTION_MARK:
            self.note_other_description(frame, available)
            self.end_head()
            return 0
        self.is_description = True
        return 1

    cdef int check_description(self) except -1:
        """Checks the whole description at `position`, parses it, and moves behind it."""
        cdef Py_ssize_t size = self.span.frame_end
        cdef bint accepted = False
        self.needed = 1
        try:
            self.innermost.examine(self.owner_view, self.data + self.position, &self.span, True)
            accepted = True
            description = self.parse_description(slice_view(
                self.owner_view, self.data + self.position + self.span.payload_start,
                self.span.payload_end - self.span.payload_start,
            ))
        except Exception as error:
            if isinstance(error, FlatStreamError):
                self.locate_error(error)
                if isinstance(error, ChecksumMismatchError):
                    # A checksum of the same size, perhaps.
                    self.note_other_description(
                        self.data + self.position, self.end - self.position, self.span.payload_start
                    )
                    if self.first_note is None:
                        self.note_first(error)
                    else:
                        error.add_note(self.first_note)
                        self.first_note = None
            elif accepted:
                # Without memory, for instance: the next read parses it again.
                raise
            self.count_refused()
            raise
        self.description = description
        self.description_size = size
        self.describe_chain(description, slice_view(
            self.owner_view, self.data + self.position + self.span.payload_start,
            self.span.payload_end - self.span.payload_start,
        ))
        self.position += size
        self.end_head()
        return 0

    cdef int note_other_description(
        self, const uint8_t* frame, Py_ssize_t available, Py_ssize_t header=LENGTH_SIZE
    ) except -1:
        """Makes `first_note`, for errors, if a description with another checksum than the deframer's begins at `frame`.

        It is only a hint: who knows what these bytes are. `header` is the smallest header that it may have.
        """
        cdef Py_ssize_t length = load_u32(frame)
        if available < LENGTH_SIZE + MARKED_SIZE or not MIN_DESCRIPTION <= length <= MAX_DESCRIPTION:
            return 0
        while header <= LONGEST_HEADER and header + length <= available:
            if load_u32(frame + header + 4) == DESCRIPTION_MARK:
                try:
                    name = self.parse_description(slice_view(self.owner_view, frame + header, length)).checksum
                except FlatStreamError:
                    return 0
                # Otherwise it is damaged.
                if name is not None and name != getattr(self, "checksum", None):
                    self.first_note = (
                        f"the stream begins with a description, by which its checksum is {name!r:.100}: pass it "
                        "(flatstream.open does it by itself)"
                    )
                return 0
            header += 1
        return 0

    cdef int describe_chain(self, object description, object payload) except -1:
        """Uses the deframer for the description, and tells the deframers its payload.

        An exception belongs to the messages, not to the description: it is the `failure` that each read raises.
        """
        try:
            if self.deframer_for is not None:
                deframer = self.deframer_for(description)
                if deframer is not None:
                    self.use_deframer(deframer)
            for link in deframers_of(self._deframer):
                link.bind_description(bytes(payload))
        except Exception as error:
            self.failure = error
        return 0

    cdef int use_deframer(self, object deframer) except -1:
        raise SystemError("flatstream: a buffer without a decoder")

    cdef int look_for_description(self) except -1:
        """Reads as far as it takes to know whether there is a description, and takes it.

        Its damage is left to the first read.
        """
        cdef Py_ssize_t available, missing = 0
        if self.shut or self._deframer is None or self.failure is not None or self.deferred is not None:
            return 0
        self.ensure_owner_view()
        if self.follows_now():
            # What was read earlier may have been replaced.
            self.needed = 1
            if not self.look():
                return 0
        while self.is_ahead:
            available = self.end - self.position
            if available and self.follows_now() and self.ends_in_zeros():
                return 0
            if available >= self.needed:
                if not self.find_description(available, &missing):
                    return 0
                if not missing and self.span.frame_end <= available:
                    try:
                        self.check_description()
                    except Exception:
                        if self.is_ahead:
                            raise
                        self.uncount_refused()
                    return 0
                self.needed = missing or self.span.frame_end
            if self.awaits_bytes or not (self.look() if self.follows_now() else self.fill()):
                return 0
        return 0

    # Refused frames

    cdef int count_refused(self) except -1:
        """Moves behind the frame of `span`, which is refused."""
        self.position += self.span.frame_end
        self.was_description = self.is_ahead
        if self.is_ahead:
            self.end_head()
        else:
            self.refused += 1
        return 0

    cdef int uncount_refused(self) except -1:
        """Undoes `count_refused`. The transforms go back to the frame too."""
        self.position -= self.span.frame_end
        if self.was_description:
            self.is_ahead = self.is_description = True
            self.has_fast_path = self.was_description = False
        else:
            self.refused -= 1
            self.state_refused = self.get_states()
            self.set_states(self.state_before)
        return 0

    cdef int recount_refused(self) except -1:
        """Undoes `uncount_refused`."""
        self.count_refused()
        if not self.was_description:
            self.set_states(self.state_refused)
        return 0

    cdef int note_first(self, object error) except -1:
        """Adds a note to an error about the first frame: with another checksum, or none, frames begin elsewhere."""
        if not self.delivered and not self.refused and not self.description_size:
            error.add_note(
                "nothing was read before it: was the stream written with another checksum? (flatstream.detect tells)"
            )
        return 0

    cdef int locate_error(self, object error) except -1:
        InputBuffer.locate_error(self, error)
        # A description has no number.
        if error.frame is None and not self.is_description and not self.was_description:
            error.frame = self.delivered + self.refused
        if self.first_note is not None and self.first_note not in getattr(error, "__notes__", ()):
            error.add_note(self.first_note)
        return 0

    cdef int release_all(self) except -1:
        self.deferred = None
        # The function may refer to the reader.
        self.parse_description = None
        self.deframer_for = None
        self.innermost = None
        self.stages = None
        self.state_before = self.state_refused = None
        return FollowingBuffer.release_all(self)

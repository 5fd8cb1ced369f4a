# cython: boundscheck=False, wraparound=False, cdivision=True
"""Deframers: from the bytes of a stream to where its frames and payloads lie.

A deframer never reads. It is shown the bytes that have arrived, from the first of a frame on, and says where the
payload is and where the next frame begins (`find`), or how many bytes it must see to say so. When the whole frame is
there it may refuse it (`examine`). `index` is both for many frames at once, for the built-in ones.
"""

from collections import namedtuple

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport uint8_t, uint32_t

from flatstream._core.base.buffers cimport acquire, owner_view_of, slice_view
from flatstream._core.base.endian cimport load_le, load_u32, low_bytes
from flatstream._core.checksums.checksum cimport Checksum, NoChecksum
from flatstream._core.checksums.kernel cimport checksum_kernel
from flatstream._core.framing.framer cimport check_callable, checked_limit, deeper
from flatstream._core.framing.validator cimport Validator
from flatstream._core.framing.wire cimport LENGTH_SIZE

from flatstream.errors import InvalidFrameError

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define fs_prefetch(p) __builtin_prefetch(p)
    #else
    #define fs_prefetch(p) ((void)(p))
    #endif
    """
    # Asks for a cache line before it is needed; any address may be given, also one where nothing is.
    void fs_prefetch(const uint8_t* p) noexcept nogil

if sizeof(Py_ssize_t) < 8:
    raise ImportError("flatstream needs a 64-bit Python: frames may be longer than 2**31 bytes")

# The largest message that FlatBuffers allows.
DEFAULT_MAX_FRAME_LEN = 2**31

# Where a frame begins is known only when the header of the one before has come from memory, and that wait is most of
# what finding a small frame costs. Two things help (LengthPatterns of asv_benchmarks/deframing.py). The bytes so far
# ahead are asked for: 3.0 ns a frame instead of 6.3 when lengths change from frame to frame. And after so many frames
# of one length the next is expected to have it as well, so that its place needs no header: 2.5 ns instead of 8.3.
cdef enum:
    AHEAD = 2048
    RUN = 4

FrameSpan = namedtuple("FrameSpan", ["payload_start", "payload_end", "frame_end"])
FrameSpan.__doc__ = "Where a frame's payload begins and ends and where the next frame begins, from its first byte."


cdef class Deframer:
    """How frames are found in a stream; subclass it and give ``locate``, and ``check`` if a frame can be damaged.

    The built-in deframers and the adapters around them are compiled and call one another in C. A subclass anywhere in
    the chain is called as Python; what stands around it stays compiled.

    Examples
    --------
    >>> class MagicDeframer(Deframer):
    ...     def __init__(self, inner):
    ...         self.inner = inner
    ...     def locate(self, data):
    ...         if len(data) < 4:
    ...             return 4
    ...         if data[:4] != b"MAGC":
    ...             raise InvalidFrameError(f"expected the magic number b'MAGC', got {bytes(data[:4])}")
    ...         found = self.inner.locate(data[4:])
    ...         return found + 4 if isinstance(found, int) else FrameSpan(*(place + 4 for place in found))
    ...     def check(self, frame, payload):
    ...         self.inner.check(frame[4:], payload)
    """

    def __cinit__(self, *args, **kwargs):
        cdef object cls = type(self)
        self.locates_in_python = True
        self.checks_in_python = cls.check is not Deframer.check
        for base in cls.__mro__:
            if base in (DefaultDeframer, ChecksumDeframer, BoundedDeframer, ObserverDeframer, ValidatingDeframer):
                self.locates_in_python = cls.locate is not base.locate
                self.checks_in_python = cls.check is not base.check
                break

    def locate(self, data):
        """Finds the frame at the beginning of `data`.

        Parameters
        ----------
        data : bytes-like
            Begins where a frame begins, and holds at least one byte; from a reader, a memoryview of what has arrived.

        Returns
        -------
        FrameSpan or int
            A span, as soon as it is known: it may reach past the end of `data`, and the reader fetches the rest. Or a
            number larger than ``len(data)``: it takes at least that many bytes to know more.

        Raises
        ------
        InvalidFrameError
            These bytes are the beginning of no frame. The stream cannot be read on from there.
        """
        cdef Py_buffer view
        cdef Span span
        cdef Py_ssize_t missing
        if not isinstance(self, (HeaderDeframer, DeframerAdapter)):
            raise TypeError(f"{type(self).__name__} must define locate(data)")
        owner_view = owner_view_of(data, "data")
        acquire(owner_view, &view, "data")
        try:
            missing = self.find_natively(owner_view, <const uint8_t*>view.buf, view.len, &span)
        finally:
            PyBuffer_Release(&view)
        return missing or FrameSpan(span.payload_start, span.payload_end, span.frame_end)

    def check(self, frame, payload):
        """Accepts the whole frame by returning None. What this refuses has been consumed: the next read gives the next.

        Parameters
        ----------
        frame : bytes-like
            All bytes of the frame.
        payload : bytes-like
            The part of `frame` that is the payload.

        Raises
        ------
        ChecksumMismatchError, ValidationFailedError, ...
            The frame is damaged.
        """
        cdef Py_buffer whole, part
        cdef Span span
        if not isinstance(self, (HeaderDeframer, DeframerAdapter)):
            return
        owner_view = owner_view_of(frame, "frame")
        acquire(owner_view, &whole, "frame")
        try:
            acquire(payload, &part, "payload")
            span.payload_start = <const uint8_t*>part.buf - <const uint8_t*>whole.buf
            span.payload_end = span.payload_start + part.len
            span.frame_end = whole.len
            PyBuffer_Release(&part)
            if not 0 <= span.payload_start <= span.payload_end <= span.frame_end:
                raise ValueError("payload must be a memoryview of a part of frame, not a copy")
            self.examine_natively(owner_view, <const uint8_t*>whole.buf, &span, False)
        finally:
            PyBuffer_Release(&whole)

    def bounded(self, max_len):
        """A deframer that refuses frames whose payload is longer than `max_len` bytes, before they are read."""
        return BoundedDeframer(self, max_len)

    def with_max_frame_len(self, max_frame_len):
        """A deframer like this one whose own limit is `max_frame_len`; one that has none is bounded."""
        return BoundedDeframer(self, max_frame_len)

    def observed(self, callback):
        """A deframer that calls ``callback(payload)`` once for each frame that this one accepts."""
        return ObserverDeframer(self, callback)

    def with_validator(self, validator):
        """A deframer that has `validator` accept each payload that this one accepts."""
        return ValidatingDeframer(self, validator)

    def __repr__(self):
        return f"{type(self).__name__}()"

    cdef Py_ssize_t find(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1:
        """Finds the frame at `data`, of which `size` bytes (inside the memoryview `owner_view`) are there.

        0 says that `span` is set; otherwise that many bytes are needed.
        """
        if not self.locates_in_python:
            return self.find_natively(owner_view, data, size, span)
        return self.located(self.locate(slice_view(owner_view, data, size)), size, span)

    cdef Py_ssize_t find_natively(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1:
        raise SystemError("flatstream: a deframer that finds nothing")

    cdef Py_ssize_t located(self, object result, Py_ssize_t size, Span* span) except -1:
        """What a locate() in Python returned, checked."""
        name = type(self).__name__
        if isinstance(result, int) and not isinstance(result, bool):
            if not size < result <= PY_SSIZE_T_MAX:
                raise ValueError(f"{name}.locate asked for {result} bytes, but it was shown {size}")
            return result
        if not isinstance(result, tuple) or len(result) != 3:
            raise TypeError(
                f"{name}.locate must return FrameSpan(payload_start, payload_end, frame_end) or an int, "
                f"got {result!r:.100}"
            )
        start, end, frame_end = result
        if not (isinstance(start, int) and isinstance(end, int) and isinstance(frame_end, int)):
            raise TypeError(f"{name}.locate must return a span of three ints, got {result!r:.100}")
        if not 0 <= start <= end <= frame_end <= PY_SSIZE_T_MAX or frame_end == 0:
            raise ValueError(
                f"{name}.locate must return 0 <= payload_start <= payload_end <= frame_end and frame_end > 0, "
                f"got {result!r:.100}"
            )
        span.payload_start = start
        span.payload_end = end
        span.frame_end = frame_end
        return 0

    cdef int examine(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        """Refuses the whole frame at `frame` by raising. `probe` asks for no more than the verdict: no observer is
        called.
        """
        if not self.checks_in_python:
            return self.examine_natively(owner_view, frame, span, probe)
        outcome = self.check(
            slice_view(owner_view, frame, span.frame_end),
            slice_view(owner_view, frame + span.payload_start, span.payload_end - span.payload_start),
        )
        if outcome is not None:
            raise TypeError(f"{type(self).__name__}.check must return None or raise, got {outcome!r:.100}")
        return 0

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        return 0

    cdef Py_ssize_t index(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit, Py_ssize_t max_frames, Py_ssize_t* max_bytes,
        Py_ssize_t base, long long* offsets, long long* lengths, Py_ssize_t* consumed
    ) noexcept nogil:
        """Indexes whole, good frames from `data` on, of which `size` bytes are there; returns how many.

        Stops before the first frame that is not whole, not good, longer than `limit`, or would exceed `max_frames` or
        `max_bytes` of payload; `consumed` is where, and `max_bytes` becomes what is left of it. `offsets` gets where
        the payloads begin, plus `base`. Only for deframers that are `is_batchable`.
        """
        consumed[0] = 0
        return 0

    cdef Py_ssize_t frame_size_at(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit) noexcept nogil:
        """The size of the frame at `data` if its header may be one and all of it is there, else 0. Nothing is checked.

        Only for deframers that `locate_is_native`.
        """
        return 0

    cdef Py_ssize_t evidence_bytes(self) noexcept:
        """How many bytes of checksum speak for a frame that this deframer accepts."""
        # What a check in Python is worth is not known; it is taken for as much as the weakest built-in one.
        return 2 if self.checks_in_python else 0


cdef int refuse_length(Py_ssize_t length, Py_ssize_t size, Py_ssize_t limit) except -1:
    raise InvalidFrameError(
        f"the header declares a payload of {length} bytes, more than the limit of {limit}",
        declared_len=length, buffer_len=size, limit=limit,
    )


cdef inline Py_ssize_t index_run(
    const uint8_t* data, Py_ssize_t header, Py_ssize_t length, Py_ssize_t most, Py_ssize_t base, long long* offsets,
    long long* lengths
) noexcept nogil:
    """Indexes frames from `data` on, as long as each has the payload length `length`; returns how many.

    No more than `most`, for all of which there are bytes.
    """
    cdef Py_ssize_t at = 0, count = 0
    while count < most and load_u32(data + at) == <uint32_t>length:
        offsets[count] = base + at + header
        lengths[count] = length
        at += header + length
        count += 1
    return count


cdef class HeaderDeframer(Deframer):
    """Finds frames by the header of the wire format: a length, and a checksum of a fixed size (which may be 0)."""

    cdef int configure(self, object checksum, object max_frame_len, object allow_empty) except -1:
        if not isinstance(checksum, Checksum):
            raise TypeError(f"checksum must be an instance of Checksum, got {checksum!r:.100}")
        if not isinstance(allow_empty, bool):
            raise TypeError(f"allow_empty must be a bool, got {allow_empty!r:.100}")
        self._checksum = checksum
        self.size = self._checksum.checked_size()
        self.max_frame_len = checked_limit("max_frame_len", max_frame_len)
        self.allow_empty = allow_empty
        self.check_is_native = not self.checks_in_python and (
            self._checksum.absent or (self._checksum.kernel is not NULL and not self._checksum.overrides_verify)
        )
        self.locate_is_native = not self.locates_in_python
        self.is_batchable = self.locate_is_native and self.check_is_native
        return 0

    def with_max_frame_len(self, max_frame_len):
        """A deframer like this one, with another limit."""
        if self.locates_in_python or self.checks_in_python:
            return BoundedDeframer(self, max_frame_len)
        if isinstance(self, ChecksumDeframer):
            return ChecksumDeframer(self._checksum, max_frame_len=max_frame_len, allow_empty=self.allow_empty)
        return DefaultDeframer(max_frame_len=max_frame_len, allow_empty=self.allow_empty)

    cdef Py_ssize_t find_natively(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1:
        cdef Py_ssize_t length
        if self._checksum is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        if size < LENGTH_SIZE:
            return LENGTH_SIZE
        # Refused here: before anything is allocated for it, and before its checksum has arrived.
        length = load_u32(data)
        if length > self.max_frame_len:
            refuse_length(length, size, self.max_frame_len)
        if length == 0 and not self.allow_empty:
            raise InvalidFrameError(
                "the header declares an empty payload, and empty payloads are not allowed here",
                declared_len=0, buffer_len=size, limit=self.max_frame_len,
            )
        span.payload_start = LENGTH_SIZE + self.size
        span.payload_end = span.payload_start + length
        span.frame_end = span.payload_end
        return 0

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        if self._checksum is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        # The whole header, because check() may be called from Python with a frame of any size.
        if span.payload_start < LENGTH_SIZE + self.size:
            raise ValueError(
                f"the payload begins {span.payload_start} bytes into the frame, inside its header of "
                f"{LENGTH_SIZE + self.size}"
            )
        return self._checksum.compare(
            load_le(frame + LENGTH_SIZE, self.size),
            owner_view, frame + span.payload_start, span.payload_end - span.payload_start, self.size,
        )

    cdef Py_ssize_t index(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit, Py_ssize_t max_frames, Py_ssize_t* max_bytes,
        Py_ssize_t base, long long* offsets, long long* lengths, Py_ssize_t* consumed
    ) noexcept nogil:
        cdef Py_ssize_t header = LENGTH_SIZE + self.size
        cdef Py_ssize_t width = self.size
        cdef Py_ssize_t position = 0, count = 0, length, previous = -1, repeated = 0, bytes_left = max_bytes[0], most
        cdef bint compare = not self._checksum.absent and width > 0
        cdef checksum_kernel kernel = self._checksum.kernel
        cdef Py_ssize_t least = 0 if self.allow_empty else 1
        limit = min(limit, self.max_frame_len)
        while count < max_frames and bytes_left > 0 and size - position >= header:
            length = load_u32(data + position)
            fs_prefetch(data + position + AHEAD)
            # Subtracted, so that no sum can overflow.
            if length > limit or length < least or length > size - position - header or length > bytes_left:
                break
            if compare and load_le(data + position + LENGTH_SIZE, width) != low_bytes(
                kernel(data + position + header, <size_t>length), width
            ):
                break
            offsets[count] = base + position + header
            lengths[count] = length
            count += 1
            bytes_left -= length
            position += header + length
            repeated = (repeated + 1) * (length == previous)
            previous = length
            if repeated >= RUN and length and not compare:
                most = min(
                    max_frames - count, min((size - position) // (header + length), bytes_left // length)
                )
                repeated = index_run(
                    data + position, header, length, most, base + position, offsets + count, lengths + count
                )
                count += repeated
                bytes_left -= repeated * length
                position += repeated * (header + length)
                repeated = 0
        max_bytes[0] = bytes_left
        consumed[0] = position
        return count

    cdef Py_ssize_t frame_size_at(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit) noexcept nogil:
        cdef Py_ssize_t header = LENGTH_SIZE + self.size, length
        if size < header:
            return 0
        length = load_u32(data)
        if length > min(limit, self.max_frame_len) or length > size - header or (length == 0 and not self.allow_empty):
            return 0
        return header + length

    cdef Py_ssize_t evidence_bytes(self) noexcept:
        return self.size


cdef class DefaultDeframer(HeaderDeframer):
    """``[u32 LE length][payload]``.

    Parameters
    ----------
    max_frame_len : int
        The longest payload accepted, in bytes, at most 2**32 - 1. A header that declares more is refused before
        anything is allocated for it.
    allow_empty : bool
        Whether a payload may be empty. Zero bytes, which file systems leave after a power cut, are empty frames.

    Raises
    ------
    TypeError, ValueError
        `max_frame_len` is no int, or negative.
    """

    def __init__(self, *, max_frame_len=DEFAULT_MAX_FRAME_LEN, allow_empty=True):
        self.configure(NO_CHECKSUM, max_frame_len, allow_empty)


cdef class ChecksumDeframer(HeaderDeframer):
    """``[u32 LE length][checksum, LE][payload]``, with the checksum compared.

    Parameters
    ----------
    checksum : Checksum
        The one that the stream was written with.
    max_frame_len, allow_empty
        See `DefaultDeframer`.

    Raises
    ------
    TypeError, ValueError
        `checksum` is not an instance of Checksum, its size is not 0 to 8, `max_frame_len` is no int, or negative.
    """

    def __init__(self, checksum, *, max_frame_len=DEFAULT_MAX_FRAME_LEN, allow_empty=True):
        self.configure(checksum, max_frame_len, allow_empty)

    @property
    def checksum(self):
        """The checksum compared."""
        return self._checksum

    def __repr__(self):
        return f"{type(self).__name__}({self._checksum!r})"


cdef Checksum NO_CHECKSUM = NoChecksum()


cdef class DeframerAdapter(Deframer):
    """A deframer around another."""

    @property
    def inner(self):
        """The deframer inside."""
        return self._inner

    cdef int adapt(self, object inner) except -1:
        if not isinstance(inner, Deframer):
            raise TypeError(f"inner must be an instance of Deframer, got {inner!r:.100}")
        self.depth = deeper((<Deframer>inner).depth, self._inner)
        self._inner = inner
        self.locate_is_native = self._inner.locate_is_native and not self.locates_in_python
        self.check_is_native = self._inner.check_is_native and not self.checks_in_python
        return 0

    cdef Py_ssize_t find_natively(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1:
        if self._inner is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        return self._inner.find(owner_view, data, size, span)

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        if self._inner is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        return self._inner.examine(owner_view, frame, span, probe)

    cdef Py_ssize_t frame_size_at(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit) noexcept nogil:
        return self._inner.frame_size_at(data, size, limit)

    cdef Py_ssize_t evidence_bytes(self) noexcept:
        return self._inner.evidence_bytes() if self._inner is not None else 0


cdef class BoundedDeframer(DeframerAdapter):
    """Refuses frames whose payload is longer than `max_len` bytes, before they are read; leaves the rest to `inner`.

    Raises
    ------
    TypeError, ValueError
        `inner` is not a Deframer, `max_len` not an int, or negative.
    """

    def __init__(self, inner, max_len):
        limit = checked_limit("max_len", max_len)
        self.adapt(inner)
        self.max_len = limit
        self.is_batchable = self.locate_is_native and self.check_is_native and self._inner.is_batchable

    def with_max_frame_len(self, max_frame_len):
        """The same bound around an inner deframer with another limit of its own."""
        return BoundedDeframer(self._inner.with_max_frame_len(max_frame_len), self.max_len)

    cdef Py_ssize_t find_natively(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1:
        cdef Py_ssize_t missing = DeframerAdapter.find_natively(self, owner_view, data, size, span)
        if not missing and span.payload_end - span.payload_start > self.max_len:
            refuse_length(span.payload_end - span.payload_start, size, self.max_len)
        return missing

    cdef Py_ssize_t frame_size_at(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit) noexcept nogil:
        return self._inner.frame_size_at(data, size, min(limit, self.max_len))

    cdef Py_ssize_t index(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit, Py_ssize_t max_frames, Py_ssize_t* max_bytes,
        Py_ssize_t base, long long* offsets, long long* lengths, Py_ssize_t* consumed
    ) noexcept nogil:
        return self._inner.index(
            data, size, min(limit, self.max_len), max_frames, max_bytes, base, offsets, lengths, consumed
        )

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self.max_len})"


cdef class ObserverDeframer(DeframerAdapter):
    """Calls ``callback(payload)`` once for each frame that `inner` accepts.

    The payload is the same kind of view that the reader hands out, and may be kept like one. What `callback` returns is
    ignored; what it raises reaches the caller of the read, and the frame counts as consumed.

    Raises
    ------
    TypeError
        `inner` is not a Deframer, or `callback` not callable.
    """

    def __init__(self, inner, callback):
        check_callable(callback)
        self.adapt(inner)
        self.callback = callback

    def with_max_frame_len(self, max_frame_len):
        """The same observer around an inner deframer with another limit."""
        return ObserverDeframer(self._inner.with_max_frame_len(max_frame_len), self.callback)

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        DeframerAdapter.examine_natively(self, owner_view, frame, span, probe)
        if not probe:
            self.callback(slice_view(owner_view, frame + span.payload_start, span.payload_end - span.payload_start))
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self.callback!r})"


cdef class ValidatingDeframer(DeframerAdapter):
    """Has `validator` accept each payload that `inner` accepts.

    A refusal is raised as ValidationFailedError; the frame has been consumed, and the next read gives the next.

    Raises
    ------
    TypeError
        `inner` is not a Deframer, or `validator` not a Validator.
    """

    def __init__(self, inner, validator):
        if not isinstance(validator, Validator):
            raise TypeError(f"validator must be an instance of Validator, got {validator!r:.100}")
        self.adapt(inner)
        self._validator = validator

    @property
    def validator(self):
        """The validator that is asked."""
        return self._validator

    def with_max_frame_len(self, max_frame_len):
        """The same validator around an inner deframer with another limit."""
        return ValidatingDeframer(self._inner.with_max_frame_len(max_frame_len), self._validator)

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        DeframerAdapter.examine_natively(self, owner_view, frame, span, probe)
        return self._validator.inspect(
            owner_view, frame + span.payload_start, span.payload_end - span.payload_start
        )

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self._validator!r})"

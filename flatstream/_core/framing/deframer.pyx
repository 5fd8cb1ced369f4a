# cython: boundscheck=False, wraparound=False, cdivision=True
"""Deframers: from the bytes of a stream to the offsets of its frames and payloads.

A deframer never reads. It gets the bytes that have arrived, from the first byte of a frame on. `find` returns where the
payload lies and where the next frame begins, or how many bytes it needs to know that. When the whole frame has arrived,
`examine` may refuse it. `index_frames` does both for many frames at once, for chains of built-in deframers and bounds.
"""

from collections import namedtuple

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t, uint32_t

from flatstream._core.base.buffers cimport acquire, owner_view_of, slice_view
from flatstream._core.base.checks cimport index_of
from flatstream._core.base.endian cimport load_le, load_u32
from flatstream._core.base.pickling cimport reduced
from flatstream._core.checksums.checksum cimport Checksum, NoChecksum
from flatstream._core.framing.framer cimport (
    check_callable, checked_depth, checked_limit, copied_attributes, make_transform,
)
from flatstream._core.framing.validator cimport Validator
from flatstream._core.framing.wire cimport LENGTH_SIZE, HeaderFormat

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
    # Loads a cache line before it is needed. Any address may be given, also an invalid one.
    void fs_prefetch(const uint8_t* p) noexcept nogil

if sizeof(Py_ssize_t) < 8:
    raise ImportError("flatstream needs a 64-bit Python: frames may be longer than 2**31 bytes")

# The largest message that FlatBuffers allows.
DEFAULT_MAX_FRAME_LEN = 2**31

# The offset of a frame is known only when the header of the frame before has come from memory. That wait is most of
# the cost of a small frame. Two techniques shorten it (LengthPatterns of asv_benchmarks/deframing.py). PREFETCH_BYTES
# ahead of each header, memory is prefetched: 3.0 ns a frame instead of 6.3 when lengths change from frame to frame.
# After MIN_EQUAL_LENGTHS frames of one length, the next frame is expected to have the same length, so that its offset
# does not depend on a header: 2.5 ns instead of 8.3.
cdef enum:
    PREFETCH_BYTES = 2048
    MIN_EQUAL_LENGTHS = 4

FrameSpan = namedtuple("FrameSpan", ["payload_start", "payload_end", "frame_end"], module=__name__)
FrameSpan.__doc__ = (
    "`payload_start`, `payload_end`: where a payload begins and ends; `frame_end`: where its frame ends; all in bytes "
    "from the first of the frame."
)


cdef class Deframer:
    """Finds frames in a stream. A subclass defines ``locate``, and ``check`` if damage to a frame can be detected.

    The built-in deframers and the adapters around them are compiled and call one another in C. A subclass anywhere in
    the chain is called through Python; the adapters around it stay compiled.

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
    ...         return found + 4 if isinstance(found, int) else FrameSpan(*(offset + 4 for offset in found))
    ...     def check(self, frame, payload):
    ...         self.inner.check(frame[4:], payload)
    """

    def __cinit__(self, *args, **kwargs):
        cdef object cls = type(self)
        self.locates_in_python = True
        self.checks_in_python = cls.check is not Deframer.check
        for base in cls.__mro__:
            if base in (
                DefaultDeframer, ChecksumDeframer, BoundedDeframer, NonEmptyDeframer, ObserverDeframer,
                ValidatingDeframer,
            ):
                self.locates_in_python = cls.locate is not base.locate
                self.checks_in_python = cls.check is not base.check
                break

    def locate(self, data):
        """Finds the frame at the beginning of `data`.

        Parameters
        ----------
        data : bytes-like
            Begins where a frame begins, and holds at least one byte. A reader passes a memoryview of the bytes that
            have arrived.

        Returns
        -------
        FrameSpan or int
            A span, as soon as it is known: it may reach past the end of `data`, and the reader fetches the rest. Or a
            number larger than ``len(data)``: the method needs at least that many bytes.

        Raises
        ------
        InvalidFrameError
            No frame begins with these bytes. The stream cannot be read any further.
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
        """Accepts a whole frame by returning None. A refused frame is consumed: the next read gives the frame after it.

        Parameters
        ----------
        frame : bytes-like
            The whole frame.
        payload : bytes-like
            The part of `frame` that is the payload. Outside of a transform: what the transform has restored, which is
            no part of `frame`; the deframers inside of it have accepted the frame already.

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
            if self.has_transform and not 0 <= span.payload_start <= span.payload_end <= span.frame_end:
                # It was restored.
                try:
                    (<DeframerAdapter>self).inspect(
                        owner_view_of(payload, "payload"), <const uint8_t*>part.buf, part.len
                    )
                finally:
                    PyBuffer_Release(&part)
                return
            PyBuffer_Release(&part)
            if not 0 <= span.payload_start <= span.payload_end <= span.frame_end:
                raise ValueError("payload must be a memoryview of a part of frame, not a copy")
            self.examine_natively(owner_view, <const uint8_t*>whole.buf, &span, False)
        finally:
            PyBuffer_Release(&whole)

    def start(self):
        """The deframer for one stream. A reader calls it once, and uses what it returns.

        By default the deframer itself. One that has a state returns a copy, so that it may serve many streams.
        """
        return self

    def end(self):
        """Is called, on each deframer of the chain, whenever a read comes to a clean end of the stream.

        It may raise a FlatStreamError if the stream cannot end here.
        """

    def bind_description(self, payload):
        """Is called, on each deframer of the chain, with the payload of the stream's description, if it has one.

        `payload` is bytes. No frame behind the description was looked at yet.
        """

    def compressed(self, decompressor=None, **options):
        """A deframer that decompresses what this one finds: see `flatstream.transforms.CompressedDeframer`."""
        return make_transform("compressed_deframer", self, (decompressor,), options)

    def encrypted(self, cipher, **options):
        """A deframer that decrypts what this one finds: see `flatstream.transforms.EncryptedDeframer`."""
        return make_transform("encrypted_deframer", self, (cipher,), options)

    def bounded(self, max_len):
        """A deframer that refuses payloads longer than `max_len` bytes before they are read.

        Around a transform, it refuses them when they are restored, and the frame is consumed.
        """
        return BoundedDeframer(self, max_len)

    def with_max_frame_len(self, max_frame_len):
        """A deframer like this one with the limit `max_frame_len`. Without a limit of its own, it is bounded."""
        return BoundedDeframer(self, max_frame_len)

    def observed(self, callback):
        """A deframer that calls ``callback(payload)`` once for each frame that this one accepts."""
        return ObserverDeframer(self, callback)

    def with_validator(self, validator):
        """A deframer that also checks each payload with `validator`."""
        return ValidatingDeframer(self, validator)

    def __repr__(self):
        return f"{type(self).__name__}()"

    def __reduce__(self):
        return reduced(self, Deframer, (), {})

    cdef Py_ssize_t find(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1:
        """Finds the frame at `data`, of which `size` bytes (inside the memoryview `owner_view`) are there.

        Returns 0 if `span` is set, otherwise the number of bytes needed.
        """
        if not self.locates_in_python:
            return self.find_natively(owner_view, data, size, span)
        return self.located(self.locate(slice_view(owner_view, data, size)), size, span)

    cdef Py_ssize_t find_natively(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1:
        raise SystemError("flatstream: a deframer without find_natively")

    cdef Py_ssize_t located(self, object result, Py_ssize_t size, Span* span) except -1:
        """Checks the result of a locate() in Python and returns it as `find` does."""
        name = type(self).__name__
        needed = index_of(result)
        if needed is not None:
            if not size < needed <= PY_SSIZE_T_MAX:
                raise ValueError(f"{name}.locate asked for {needed} bytes, but it was shown {size}")
            return needed
        if not isinstance(result, tuple) or len(result) != 3:
            raise TypeError(
                f"{name}.locate must return FrameSpan(payload_start, payload_end, frame_end) or an int, "
                f"got {result!r:.100}"
            )
        start, end, frame_end = result
        # Exact ints: a subclass can compare as it likes.
        start, end, frame_end = index_of(start), index_of(end), index_of(frame_end)
        if start is None or end is None or frame_end is None:
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
        """Raises if the whole frame at `frame` is refused. With `probe`, no observer is called.

        With `has_transform` nothing is restored, so that only what can be told from the stored bytes is examined.
        """
        if not self.checks_in_python or self.has_transform:
            return self.examine_natively(owner_view, frame, span, probe)
        return self.check_in_python(
            owner_view, frame, span,
            slice_view(owner_view, frame + span.payload_start, span.payload_end - span.payload_start),
        )

    cdef int check_in_python(self, object owner_view, const uint8_t* frame, const Span* span, object payload) except -1:
        cdef const uint8_t* data = <const uint8_t*>PyMemoryView_GET_BUFFER(payload).buf
        if self.has_transform and frame <= data <= frame + span.frame_end:
            # A part of what is stored was restored. By its place, check() tells the one from the other.
            payload = PyMemoryView_FromObject(bytes(payload))
        outcome = self.check(slice_view(owner_view, frame, span.frame_end), payload)
        if outcome is not None:
            raise TypeError(f"{type(self).__name__}.check must return None or raise, got {outcome!r:.100}")
        return 0

    cdef object unpack(self, object owner_view, const uint8_t* frame, const Span* span):
        """Raises if the whole frame at `frame` is refused, else returns its payload: a memoryview, with `has_transform`
        of what was restored; None for a frame that is no message.
        """
        self.examine(owner_view, frame, span, False)
        return slice_view(owner_view, frame + span.payload_start, span.payload_end - span.payload_start)

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        return 0

    cdef int get_format(self, HeaderFormat* format) noexcept:
        """Sets `format` to the header and the limits of this chain. Only for deframers that `locate_is_native`."""
        return 0

    cdef Py_ssize_t evidence_bytes(self) noexcept:
        """The size of the checksum, in bytes, that every frame accepted by this deframer matches."""
        # How strong a check in Python is, is unknown. It counts as much as the weakest built-in checksum.
        return 2 if self.checks_in_python else 0


cdef int fail_length(Py_ssize_t length, Py_ssize_t size, Py_ssize_t limit) except -1:
    raise InvalidFrameError(
        f"the header declares a payload of {length} bytes, more than the limit of {limit}",
        declared_len=length, buffer_len=size, limit=limit,
    )


cdef int fail_empty(Py_ssize_t size, object limit) except -1:
    raise InvalidFrameError(
        "the header declares an empty payload, and empty payloads are not allowed here",
        declared_len=0, buffer_len=size, limit=limit,
    )


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
        # Checked here: before anything is allocated for the frame, and before its checksum has arrived.
        length = load_u32(data)
        if length > self.max_frame_len:
            fail_length(length, size, self.max_frame_len)
        if length == 0 and not self.allow_empty:
            fail_empty(size, self.max_frame_len)
        span.payload_start = LENGTH_SIZE + self.size
        span.payload_end = span.payload_start + length
        span.frame_end = span.payload_end
        return 0

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        if self._checksum is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        # Python code may call check() with a frame of any size.
        if span.payload_start < LENGTH_SIZE + self.size:
            raise ValueError(
                f"the payload begins {span.payload_start} bytes into the frame, inside its header of "
                f"{LENGTH_SIZE + self.size}"
            )
        return self._checksum.compare(
            load_le(frame + LENGTH_SIZE, self.size),
            owner_view, frame + span.payload_start, span.payload_end - span.payload_start, self.size,
        )

    cdef int get_format(self, HeaderFormat* format) noexcept:
        format.header_size = LENGTH_SIZE + self.size
        format.checksum_size = self.size
        format.min_length = 0 if self.allow_empty else 1
        format.max_length = self.max_frame_len
        format.kernel = NULL
        if self.check_is_native and not self._checksum.absent and self.size:
            format.kernel = self._checksum.kernel
        return 0

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
        Whether a payload may be empty. The zero bytes that file systems leave after a power cut are empty frames.

    Raises
    ------
    TypeError, ValueError
        `max_frame_len` is not an int, or negative.
    """

    def __init__(self, *, max_frame_len=DEFAULT_MAX_FRAME_LEN, allow_empty=True):
        self.configure(NO_CHECKSUM, max_frame_len, allow_empty)

    def __reduce__(self):
        limits = {"max_frame_len": self.max_frame_len, "allow_empty": self.allow_empty}
        return reduced(self, DefaultDeframer, (), limits)


cdef class ChecksumDeframer(HeaderDeframer):
    """``[u32 LE length][checksum, LE][payload]``, with the checksum compared.

    Parameters
    ----------
    checksum : Checksum
        The checksum that the stream was written with.
    max_frame_len, allow_empty
        See `DefaultDeframer`.

    Raises
    ------
    TypeError, ValueError
        `checksum` is not an instance of Checksum, its size is not 0 to 8, or `max_frame_len` is not an int, or
        negative.
    """

    def __init__(self, checksum, *, max_frame_len=DEFAULT_MAX_FRAME_LEN, allow_empty=True):
        self.configure(checksum, max_frame_len, allow_empty)

    @property
    def checksum(self):
        """The checksum that is compared."""
        return self._checksum

    def __repr__(self):
        return f"{type(self).__name__}({self._checksum!r})"

    def __reduce__(self):
        limits = {"max_frame_len": self.max_frame_len, "allow_empty": self.allow_empty}
        return reduced(self, ChecksumDeframer, (self._checksum,), limits)


cdef Checksum NO_CHECKSUM = NoChecksum()


cdef class DeframerAdapter(Deframer):
    """A deframer around another."""

    @property
    def inner(self):
        """The inner deframer."""
        return self._inner

    cdef int adapt(self, object inner) except -1:
        if not isinstance(inner, Deframer):
            raise TypeError(f"inner must be an instance of Deframer, got {inner!r:.100}")
        self.depth = checked_depth((<Deframer>inner).depth, self._inner)
        self._inner = inner
        self.has_transform = self._inner.has_transform
        self.locate_is_native = self._inner.locate_is_native and not self.locates_in_python
        # Outside of a transform, check() gets what was restored.
        self.check_is_native = self._inner.check_is_native and not (self.checks_in_python and not self.has_transform)
        return 0

    def start(self):
        """The deframer for one stream: this one, or a copy of it around ``inner.start()`` if that is another."""
        if self._inner is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        inner = self._inner.start()
        return self if inner is self._inner else self.around(inner)

    cdef object around(self, object inner):
        """A copy of this adapter around another inner deframer."""
        raise SystemError("flatstream: an adapter without around")

    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        """The adapter's own step for a payload that the inner deframer has accepted."""
        return 0

    cdef object unpack(self, object owner_view, const uint8_t* frame, const Span* span):
        if not self.has_transform:
            return Deframer.unpack(self, owner_view, frame, span)
        payload = self._inner.unpack(owner_view, frame, span)
        if payload is None:
            return None
        if self.checks_in_python:
            self.check_in_python(owner_view, frame, span, payload)
        else:
            self.inspect(
                payload, <const uint8_t*>PyMemoryView_GET_BUFFER(payload).buf, PyMemoryView_GET_BUFFER(payload).len
            )
        return payload

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

    cdef int get_format(self, HeaderFormat* format) noexcept:
        return self._inner.get_format(format)

    cdef Py_ssize_t evidence_bytes(self) noexcept:
        return self._inner.evidence_bytes() if self._inner is not None else 0


cdef class BoundedDeframer(DeframerAdapter):
    """Refuses payloads longer than `max_len` bytes before they are read; `inner` does the rest.

    Around a transform, the bound is for what is restored: the frame was read then, and is consumed.

    Raises
    ------
    TypeError, ValueError
        `inner` is not a Deframer, or `max_len` is not an int, or negative.
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
        if not missing and span.payload_end - span.payload_start > self.max_len and not self.has_transform:
            fail_length(span.payload_end - span.payload_start, size, self.max_len)
        return missing

    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        if length > self.max_len:
            raise InvalidFrameError(
                f"the payload has {length} bytes when it is restored, more than the bound of {self.max_len}",
                declared_len=length, buffer_len=length, limit=self.max_len,
            )
        return 0

    cdef object around(self, object inner):
        return copied_attributes(self, BoundedDeframer, (inner, self.max_len))

    cdef int get_format(self, HeaderFormat* format) noexcept:
        self._inner.get_format(format)
        if not self.has_transform:
            format.max_length = min(format.max_length, self.max_len)
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self.max_len})"

    def __reduce__(self):
        return reduced(self, BoundedDeframer, (self._inner, self.max_len), {})


cdef class NonEmptyDeframer(DeframerAdapter):
    """Refuses empty payloads; `inner` does the rest. What ``allow_empty=False`` puts around a deframer that takes them.

    Around a transform, it refuses payloads that are empty as they are stored, like zeros in a file, and those that are
    empty when they are restored.

    Raises
    ------
    TypeError
        `inner` is not a Deframer.
    """

    def __init__(self, inner):
        self.adapt(inner)
        self.is_batchable = self.locate_is_native and self.check_is_native and self._inner.is_batchable

    def with_max_frame_len(self, max_frame_len):
        """The same around an inner deframer with another limit."""
        return NonEmptyDeframer(self._inner.with_max_frame_len(max_frame_len))

    cdef Py_ssize_t find_natively(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1:
        cdef Py_ssize_t missing = DeframerAdapter.find_natively(self, owner_view, data, size, span)
        if not missing and span.payload_end == span.payload_start:
            fail_empty(size, None)
        return missing

    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        if not length:
            raise InvalidFrameError(
                "the payload is empty when it is restored, and empty payloads are not allowed here",
                declared_len=0, buffer_len=0,
            )
        return 0

    cdef object around(self, object inner):
        return copied_attributes(self, NonEmptyDeframer, (inner,))

    cdef int get_format(self, HeaderFormat* format) noexcept:
        self._inner.get_format(format)
        format.min_length = max(format.min_length, 1)
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r})"

    def __reduce__(self):
        return reduced(self, NonEmptyDeframer, (self._inner,), {})


cdef class ObserverDeframer(DeframerAdapter):
    """Calls ``callback(payload)`` once for each frame that `inner` accepts.

    The payload is a view like those of the reader, and may be kept in the same way. The callback's result is ignored.
    An exception that it raises reaches the caller of the read, and the frame counts as consumed.

    Raises
    ------
    TypeError
        `inner` is not a Deframer, or `callback` is not callable.
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
        if not probe and not self.has_transform:
            self.callback(slice_view(owner_view, frame + span.payload_start, span.payload_end - span.payload_start))
        return 0

    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        self.callback(slice_view(owner_view, data, length))
        return 0

    cdef object around(self, object inner):
        return copied_attributes(self, ObserverDeframer, (inner, self.callback))

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self.callback!r})"

    def __reduce__(self):
        return reduced(self, ObserverDeframer, (self._inner, self.callback), {})


cdef class ValidatingDeframer(DeframerAdapter):
    """Checks each payload that `inner` accepts with `validator`.

    If the validator refuses a payload, ValidationFailedError is raised. The frame is consumed: the next read gives the
    frame after it.

    Raises
    ------
    TypeError
        `inner` is not a Deframer, or `validator` is not a Validator.
    """

    def __init__(self, inner, validator):
        if not isinstance(validator, Validator):
            raise TypeError(f"validator must be an instance of Validator, got {validator!r:.100}")
        self.adapt(inner)
        self._validator = validator

    @property
    def validator(self):
        """The validator."""
        return self._validator

    def with_max_frame_len(self, max_frame_len):
        """The same validator around an inner deframer with another limit."""
        return ValidatingDeframer(self._inner.with_max_frame_len(max_frame_len), self._validator)

    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1:
        DeframerAdapter.examine_natively(self, owner_view, frame, span, probe)
        if self.has_transform:
            return 0
        return self._validator.inspect(
            owner_view, frame + span.payload_start, span.payload_end - span.payload_start
        )

    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        return self._validator.inspect(owner_view, data, length)

    cdef object around(self, object inner):
        return copied_attributes(self, ValidatingDeframer, (inner, self._validator))

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self._validator!r})"

    def __reduce__(self):
        return reduced(self, ValidatingDeframer, (self._inner, self._validator), {})


# Many frames

cdef inline Py_ssize_t index_equal_lengths(
    const uint8_t* data, Py_ssize_t header_size, Py_ssize_t length, Py_ssize_t max_frames, Py_ssize_t base,
    long long* offsets, long long* lengths
) noexcept nogil:
    """Indexes frames from `data` on, as long as each has the payload length `length`; returns how many.

    Stops after `max_frames`, for which `data` has enough bytes. `base` is added to each offset.
    """
    cdef Py_ssize_t at = 0, count = 0
    while count < max_frames and load_u32(data + at) == <uint32_t>length:
        offsets[count] = base + at + header_size
        lengths[count] = length
        at += header_size + length
        count += 1
    return count


cdef int index_frames_of(const unsigned char[::1] data, const HeaderFormat* format, FrameIndex* index) noexcept nogil:
    """Adds to `index` the whole, good frames of `data` from `index.position` on.

    Stops before the first frame that is not whole or not good, whose length `format` does not accept, or that exceeds
    the capacity or the bytes left.
    """
    # Their addresses are not passed on, so the compiler keeps them in registers.
    cdef HeaderFormat header = format[0]
    cdef long long* offsets = index.offsets
    cdef long long* lengths = index.lengths
    cdef Py_ssize_t size = data.shape[0], position = index.position, count = index.count
    cdef Py_ssize_t capacity = index.capacity, bytes_left = index.bytes_left
    cdef Py_ssize_t length, previous = -1, repeated = 0, possible
    cdef const uint8_t* base
    if not size:
        return 0
    base = &data[0]
    while count < capacity and bytes_left > 0:
        fs_prefetch(base + position + PREFETCH_BYTES)
        length = whole_payload_at(base + position, size - position, &header, min(header.max_length, bytes_left))
        if length < 0 or not checksum_matches(base + position, length, &header):
            break
        offsets[count] = position + header.header_size
        lengths[count] = length
        count += 1
        bytes_left -= length
        position += header.header_size + length
        repeated = (repeated + 1) * (length == previous)
        previous = length
        if repeated >= MIN_EQUAL_LENGTHS and length and header.kernel is NULL:
            possible = min(
                capacity - count, min((size - position) // (header.header_size + length), bytes_left // length)
            )
            repeated = index_equal_lengths(
                base + position, header.header_size, length, possible, position, offsets + count, lengths + count
            )
            count += repeated
            bytes_left -= repeated * length
            position += repeated * (header.header_size + length)
            repeated = 0
    index.count = count
    index.position = position
    index.bytes_left = bytes_left
    return 0


def index_frames(
    const unsigned char[::1] data not None, Deframer deframer not None, long long[::1] offsets not None,
    long long[::1] lengths not None, *, max_bytes=None,
):
    """Finds the frames in memory: the loop of `StreamReader.read_batch`, without a stream.

    Parameters
    ----------
    data : contiguous buffer of unsigned bytes
        Begins where a frame begins.
    deframer : Deframer
        A built-in deframer with a built-in checksum, with or without bounds around it.
    offsets, lengths : writable, contiguous buffers of signed 64-bit integers
        Get where each payload begins in `data`, and its length.
    max_bytes : int, optional
        The most bytes of payload to find. By default there is no limit.

    Returns
    -------
    count : int
        How many frames were found. The loop stops before the first frame that is not whole, that the deframer refuses,
        or for which there is no room.
    end : int
        The offset in `data` at which the last of them ends.

    Raises
    ------
    TypeError
        `deframer` runs Python or looks at payloads.
    BufferError, ValueError
        A buffer is strided, has other items, or is read-only and must not be.
    """
    cdef HeaderFormat format
    cdef FrameIndex index
    if not deframer.is_batchable:
        raise TypeError(
            f"expected a chain of bounds around a built-in deframer and a built-in checksum, got {deframer!r}"
        )
    index.bytes_left = PY_SSIZE_T_MAX if max_bytes is None else max_bytes
    index.count = 0
    index.capacity = min(offsets.shape[0], lengths.shape[0])
    index.position = 0
    if not index.capacity:
        return 0, 0
    index.offsets = &offsets[0]
    index.lengths = &lengths[0]
    deframer.get_format(&format)
    with nogil:
        index_frames_of(data, &format, &index)
    return index.count, index.position

"""Framers: from a payload to the bytes of its frame.

The built-in ones put a header in front of the payload and nothing behind it, and `header` is all they do: the caller
copies the payload, or does not. A framer written in Python gives the whole frame through `frame_and_write`.
"""

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from flatstream._core.base.buffers cimport acquire, owner_view_of, slice_view
from flatstream._core.base.checks cimport check_int
from flatstream._core.base.endian cimport store_le, store_u32
from flatstream._core.checksums.checksum cimport Checksum
from flatstream._core.framing.validator cimport Validator
from flatstream._core.framing.wire cimport LENGTH_SIZE, MAX_HEADER_SIZE, MAX_PAYLOAD_LEN

from flatstream.errors import InvalidFrameError


# Each is a call inside another, and the stack is finite.
cdef enum:
    MAX_DEPTH = 1000


cdef Py_ssize_t checked_limit(str name, object value) except -1:
    """`value` as a payload length: from 0 to what the header can express."""
    check_int(name, value)
    if value < 0:
        raise ValueError(f"{name} must not be negative, got {value}")
    return min(value, MAX_PAYLOAD_LEN)


cdef int check_callable(object callback) except -1:
    if not callable(callback):
        raise TypeError(f"an observer must be callable, got {type(callback).__name__}: {callback!r:.100}")
    return 0


cdef Py_ssize_t write_all(object write, object view) except -1:
    """Hands all of `view` to a `write` that may take less than it is offered, or return None for all of it."""
    cdef Py_ssize_t total = len(view), done = 0, taken
    while done < total:
        count = write(view[done:] if done else view)
        if count is None:
            break
        taken = count
        if not 0 < taken <= total - done:
            raise OSError(f"write() was offered {total - done} bytes and returned {count!r}")
        done += taken
    return total


cdef int check_outcome(Framer framer, object outcome) except -1:
    """Refuses what a frame_and_write() in Python returned, unless it is None."""
    if outcome is not None:
        raise TypeError(
            f"{type(framer).__name__}.frame_and_write must write the frame and return None, got {outcome!r:.100}"
        )
    return 0


cdef class Framer:
    """How a payload becomes a frame; subclass it and give ``frame_and_write``.

    The built-in framers and the adapters around them are compiled and call one another in C. A subclass anywhere in
    the chain is called as Python; what stands around it stays compiled.

    Examples
    --------
    >>> class MagicFramer(Framer):
    ...     def frame_and_write(self, writer, payload):
    ...         writer.write(b"MAGC")
    ...         DefaultFramer().frame_and_write(writer, payload)
    """

    def __cinit__(self, *args, **kwargs):
        cdef object cls = type(self)
        self.in_python = True
        for base in cls.__mro__:
            if base in (DefaultFramer, ChecksumFramer, BoundedFramer, ObserverFramer, ValidatingFramer):
                self.in_python = cls.frame_and_write is not base.frame_and_write
                break
        self.needs_view = self.in_python

    def frame_and_write(self, writer, payload):
        """Writes the frame of `payload` to `writer`.

        Parameters
        ----------
        writer : object with ``write(buffer)``
            Inside a StreamWriter, one that collects the frame: what a call writes is one frame, and if it raises,
            nothing of it is written. It must not be kept.
        payload : bytes-like
            Inside a StreamWriter, a read-only memoryview that is valid during the call.

        Raises
        ------
        InvalidFrameError
            The payload is longer than a bound, or than 2**32 - 1 bytes.
        """
        cdef Py_buffer view
        cdef uint8_t header[MAX_HEADER_SIZE]
        cdef Py_ssize_t header_size
        cdef Framer inner = None
        if isinstance(self, FramerAdapter):
            inner = (<FramerAdapter>self)._inner
        elif not isinstance(self, (DefaultFramer, ChecksumFramer)):
            raise TypeError(f"{type(self).__name__} must define frame_and_write(writer, payload)")
        owner_view = owner_view_of(payload, "payload")
        acquire(owner_view, &view, "payload")
        try:
            if inner is not None and inner.in_python:
                self.examine(owner_view, <const uint8_t*>view.buf, view.len)
                check_outcome(inner, inner.frame_and_write(writer, owner_view))
            else:
                header_size = self.header(owner_view, <const uint8_t*>view.buf, view.len, header)
                write_all(writer.write, memoryview(PyBytes_FromStringAndSize(<const char*>header, header_size)))
                write_all(writer.write, owner_view)
        finally:
            PyBuffer_Release(&view)

    def bounded(self, max_len):
        """A framer that refuses payloads longer than `max_len` bytes and leaves the rest to this one."""
        return BoundedFramer(self, max_len)

    def with_max_frame_len(self, max_frame_len):
        """The same as `bounded`, under the name that deframers have for it."""
        return BoundedFramer(self, max_frame_len)

    def observed(self, callback):
        """A framer that calls ``callback(payload)`` for each payload, then leaves it to this one."""
        return ObserverFramer(self, callback)

    def with_validator(self, validator):
        """A framer that has `validator` accept each payload, then leaves it to this one."""
        return ValidatingFramer(self, validator)

    def __repr__(self):
        return f"{type(self).__name__}()"

    cdef int examine(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        """What an adapter does with a payload before the framer inside it."""
        return 0

    cdef Py_ssize_t header(self, object owner_view, const uint8_t* data, Py_ssize_t length, uint8_t* out) except -1:
        """Writes the header of the payload (`length` bytes at `data`, inside `owner_view`) to `out`; gives its size.

        `out` has room for MAX_HEADER_SIZE bytes. `owner_view` is None unless `needs_view`.
        """
        raise SystemError("flatstream: a framer without a header")


cdef int store_length(Py_ssize_t length, uint8_t* out) except -1:
    if length > <Py_ssize_t>MAX_PAYLOAD_LEN:
        raise InvalidFrameError(
            f"a payload of {length} bytes does not fit into a frame: its length field has 32 bits",
            declared_len=length, buffer_len=length, limit=MAX_PAYLOAD_LEN,
        )
    store_u32(out, <uint32_t>length)
    return 0


cdef class DefaultFramer(Framer):
    """``[u32 LE length][payload]``."""

    cdef Py_ssize_t header(self, object owner_view, const uint8_t* data, Py_ssize_t length, uint8_t* out) except -1:
        store_length(length, out)
        return LENGTH_SIZE


cdef class ChecksumFramer(Framer):
    """``[u32 LE length][checksum, LE][payload]``.

    Parameters
    ----------
    checksum : Checksum
        Whose value is stored, in exactly ``checksum.size`` bytes.

    Raises
    ------
    TypeError, ValueError
        `checksum` is not an instance of Checksum, or its size is not 0 to 8.
    """

    def __init__(self, checksum):
        if not isinstance(checksum, Checksum):
            raise TypeError(f"checksum must be an instance of Checksum, got {checksum!r:.100}")
        self._checksum = checksum
        self.size = self._checksum.checked_size()
        self.needs_view = self.needs_view or self._checksum.kernel is NULL

    @property
    def checksum(self):
        """The checksum stored in each frame."""
        return self._checksum

    cdef Py_ssize_t header(self, object owner_view, const uint8_t* data, Py_ssize_t length, uint8_t* out) except -1:
        cdef uint64_t value = 0
        if self._checksum is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        store_length(length, out)
        self._checksum.compute(owner_view, data, length, self.size, &value)
        store_le(out + LENGTH_SIZE, value, self.size)
        return LENGTH_SIZE + self.size

    def __repr__(self):
        return f"{type(self).__name__}({self._checksum!r})"


cdef int deeper(int depth, object already) except -1:
    """The depth of an adapter around something of `depth`; a chain that is endless, or nearly so, is refused."""
    if already is not None:
        raise TypeError("an adapter's __init__ must not be called twice")
    if depth >= MAX_DEPTH:
        raise RecursionError(f"no more than {MAX_DEPTH} adapters may stand around one another")
    return depth + 1


cdef class FramerAdapter(Framer):
    """A framer around another."""

    @property
    def inner(self):
        """The framer inside."""
        return self._inner

    cdef int adapt(self, object inner) except -1:
        if not isinstance(inner, Framer):
            raise TypeError(f"inner must be an instance of Framer, got {inner!r:.100}")
        self.depth = deeper((<Framer>inner).depth, self._inner)
        self._inner = inner
        self.in_python = self.in_python or self._inner.in_python
        self.needs_view = self.needs_view or self._inner.needs_view
        return 0

    cdef Py_ssize_t header(self, object owner_view, const uint8_t* data, Py_ssize_t length, uint8_t* out) except -1:
        if self._inner is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        self.examine(owner_view, data, length)
        return self._inner.header(owner_view, data, length, out)


cdef class BoundedFramer(FramerAdapter):
    """Refuses payloads longer than `max_len` bytes with InvalidFrameError, and has `inner` frame the others.

    Raises
    ------
    TypeError, ValueError
        `inner` is not a Framer, `max_len` not an int, or negative.
    """

    def __init__(self, inner, max_len):
        limit = checked_limit("max_len", max_len)
        self.adapt(inner)
        self.max_len = limit

    cdef int examine(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        if length > self.max_len:
            raise InvalidFrameError(
                f"a payload of {length} bytes is longer than the bound of {self.max_len}",
                declared_len=length, buffer_len=length, limit=self.max_len,
            )
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self.max_len})"


cdef class ObserverFramer(FramerAdapter):
    """Calls ``callback(payload)`` once for each payload, then has `inner` frame it.

    The payload is a read-only memoryview of the caller's own bytes: it is good during the call, and must be copied to
    be kept, because a builder overwrites its bytes. What `callback` returns is ignored; what it raises stops the write.
    A payload that something behind it refuses (a bound, a validator) has been seen all the same.

    Raises
    ------
    TypeError
        `inner` is not a Framer, or `callback` not callable.
    """

    def __init__(self, inner, callback):
        check_callable(callback)
        self.adapt(inner)
        self.callback = callback
        self.needs_view = True

    cdef int examine(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        self.callback(slice_view(owner_view, data, length))
        return 0

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self.callback!r})"


cdef class ValidatingFramer(FramerAdapter):
    """Has `validator` accept each payload before `inner` frames it.

    A refusal is raised as ValidationFailedError, and nothing is written.

    Raises
    ------
    TypeError
        `inner` is not a Framer, or `validator` not a Validator.
    """

    def __init__(self, inner, validator):
        if not isinstance(validator, Validator):
            raise TypeError(f"validator must be an instance of Validator, got {validator!r:.100}")
        self.adapt(inner)
        self._validator = validator
        self.needs_view = self.needs_view or self._validator.needs_view()

    @property
    def validator(self):
        """The validator that is asked."""
        return self._validator

    cdef int examine(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1:
        return self._validator.inspect(owner_view, data, length)

    def __repr__(self):
        return f"{type(self).__name__}({self._inner!r}, {self._validator!r})"

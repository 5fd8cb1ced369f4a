"""Checksum strategies: a framer stores the checksum of a payload, a deframer compares it."""

import xxhash

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.base.buffers cimport acquire, slice_view
from flatstream._core.base.checks cimport index_of
from flatstream._core.base.endian cimport low_bytes
from flatstream._core.base.pickling cimport reduced
from flatstream._core.checksums.crc cimport (
    checked_crc, crc16_xmodem, crc32_iso_hdlc, crc32c_iscsi, crc64_xz, extend_iscsi, extend_iso_hdlc, extend_xmodem,
    extend_xz,
)
from flatstream._core.checksums.kernel cimport RELEASE_FROM, checksum_kernel, extension_kernel
from flatstream._core.checksums.xxh3 cimport xxh3_64_kernel

from flatstream.errors import ChecksumMismatchError


cdef uint64_t no_checksum(const uint8_t* data, size_t size) noexcept nogil:
    return 0


cdef uint64_t run_kernel(checksum_kernel kernel, const uint8_t* data, Py_ssize_t length) noexcept:
    """The checksum of `length` bytes. The GIL may be released, so the caller holds the memory."""
    cdef uint64_t value
    if length < RELEASE_FROM or kernel is no_checksum:
        return kernel(data, <size_t>length)
    with nogil:
        value = kernel(data, <size_t>length)
    return value


cdef class Checksum:
    """A checksum algorithm; subclass it to define another.

    A subclass defines ``size`` and ``calculate``; the other methods use these two.

    Attributes
    ----------
    size : int
        The number of bytes that the value takes in a frame, from 0 to 8. A framer or deframer reads it once, when it is
        created with the checksum.
    name : str
        The name of the checksum in error messages and representations; by default the name of the class.

    Notes
    -----
    Instances of the built-in checksums hold no state; streams and threads can share one.

    Examples
    --------
    >>> class Sum24(Checksum):
    ...     size = 3
    ...     def calculate(self, payload):
    ...         return sum(payload)
    >>> Sum24().calculate(b"abc")
    294
    """

    size = 0

    def __cinit__(self, *args, **kwargs):
        cdef object cls = type(self)
        cdef object builtin = builtin_of(cls)
        self.overrides_verify = cls.verify is not Checksum.verify
        if builtin is None or cls.calculate is not builtin.calculate or cls.size is not builtin.size:
            return
        if builtin is NoChecksum:
            self.kernel = no_checksum
            self.absent = not self.overrides_verify
        elif builtin is Crc16:
            self.kernel = crc16_xmodem
        elif builtin is Crc32:
            self.kernel = crc32_iso_hdlc
        elif builtin is Crc32c:
            self.kernel = crc32c_iscsi
        elif builtin is Crc64:
            self.kernel = crc64_xz
        elif builtin is XxHash64:
            self.kernel = xxh3_64_kernel()

    @property
    def name(self):
        """The name of this checksum in error messages."""
        return type(self).__name__

    def calculate(self, payload):
        """The checksum of `payload` as a non-negative number.

        Parameters
        ----------
        payload : bytes-like
            Any C-contiguous buffer. A framer or deframer passes a memoryview. That of a framer is valid during the call
            only; that of a deframer is valid as long as it is referenced.

        Returns
        -------
        int
            The value. Only the low ``8 * size`` bits are stored.

        Raises
        ------
        TypeError
            `payload` is not bytes-like.
        BufferError
            `payload` is not contiguous.
        """
        raise TypeError(f"{type(self).__name__} must define calculate(payload)")

    def verify(self, expected, payload):
        """Compares the low ``8 * size`` bits of `expected` and of the checksum of `payload`.

        Raises
        ------
        ChecksumMismatchError
            The values differ.
        """
        cdef Py_ssize_t size = self.checked_size()
        number = int(expected) if isinstance(expected, bool) else index_of(expected)
        if number is None:
            raise TypeError(f"expected must be an int, got {type(expected).__name__}")
        cdef uint64_t mask = low_bytes(~<uint64_t>0, size)
        stored = number & mask
        calculated = checked_value(self, self.calculate(payload)) & mask
        if stored != calculated:
            raise ChecksumMismatchError(expected=stored, calculated=calculated)

    def __repr__(self):
        return f"{type(self).__name__}()"

    def __reduce__(self):
        return reduced(self, Checksum, (), {})

    cdef Py_ssize_t checked_size(self) except -1:
        cdef object given = self.size, size = index_of(given)
        if size is None:
            raise TypeError(f"{type(self).__name__}.size must be an int from 0 to 8, got {given!r}")
        if not 0 <= size <= MAX_CHECKSUM_SIZE:
            raise ValueError(f"{type(self).__name__}.size must be from 0 to 8 bytes, got {size}")
        return size

    cdef int compute(
        self, object owner_view, const uint8_t* data, Py_ssize_t length, Py_ssize_t size, uint64_t* value
    ) except -1:
        """Stores the low `size` bytes of the checksum of `length` bytes at `data`, which `owner_view` contains."""
        if self.kernel is not NULL:
            value[0] = low_bytes(run_kernel(self.kernel, data, length), size)
        else:
            result = checked_value(self, self.calculate(slice_view(owner_view, data, length)))
            value[0] = <uint64_t>(result & low_bytes(~<uint64_t>0, size))
        return 0

    cdef int compare(
        self, uint64_t expected, object owner_view, const uint8_t* data, Py_ssize_t length, Py_ssize_t size
    ) except -1:
        cdef uint64_t calculated = 0
        if self.absent:
            return 0
        if self.overrides_verify:
            outcome = self.verify(expected, slice_view(owner_view, data, length))
            if outcome is not None:
                raise TypeError(
                    f"{type(self).__name__}.verify must return None or raise ChecksumMismatchError, got {outcome!r}"
                )
            return 0
        self.compute(owner_view, data, length, size, &calculated)
        if calculated != expected:
            raise ChecksumMismatchError(expected=expected, calculated=calculated)
        return 0


cdef object checked_value(Checksum checksum, object value):
    number = int(value) if isinstance(value, bool) else index_of(value)
    if number is None:
        raise TypeError(
            f"{type(checksum).__name__}.calculate must return an int, got {type(value).__name__}: {value!r:.100}"
        )
    return number


cdef object builtin_of(object cls):
    """The built-in checksum that `cls` is or inherits from."""
    for base in cls.__mro__:
        if base in (NoChecksum, Crc16, Crc32, Crc32c, Crc64, XxHash64):
            return base
    return None


cdef object calculate_with(checksum_kernel kernel, object payload):
    cdef Py_buffer view
    cdef uint64_t value
    acquire(payload, &view, "payload")
    value = run_kernel(kernel, <const uint8_t*>view.buf, view.len)
    PyBuffer_Release(&view)
    return value


cdef object extend_with(extension_kernel kernel, Py_ssize_t size, object value, object payload):
    """The CRC, of `size` bytes, of a message that begins with bytes whose CRC is `value` and ends with `payload`."""
    cdef Py_buffer view
    cdef uint64_t result = checked_crc(value, size)
    acquire(payload, &view, "payload")
    if view.len < RELEASE_FROM:
        result = kernel(result, <const uint8_t*>view.buf, <size_t>view.len)
    else:
        with nogil:
            result = kernel(result, <const uint8_t*>view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return result


cdef class NoChecksum(Checksum):
    """No checksum: 0 bytes. Nothing is calculated, and every payload is accepted."""

    size = 0

    def calculate(self, payload):
        """0, for any payload."""
        return calculate_with(no_checksum, payload)


cdef class Crc16(Checksum):
    """CRC-16/XMODEM: 2 bytes; 0x31C3 for b"123456789". For small messages, where two bytes instead of four matter."""

    size = 2

    def calculate(self, payload):
        """The CRC-16/XMODEM of `payload`."""
        return calculate_with(crc16_xmodem, payload)

    def extend(self, value, payload):
        """The CRC-16/XMODEM of a message that begins with bytes whose CRC is `value` and ends with `payload`."""
        return extend_with(extend_xmodem, 2, value, payload)


cdef class Crc32(Checksum):
    """CRC-32/ISO-HDLC (used by zlib, gzip and PNG): 4 bytes; 0xCBF43926 for b"123456789"."""

    size = 4

    def calculate(self, payload):
        """The CRC-32/ISO-HDLC of `payload`."""
        return calculate_with(crc32_iso_hdlc, payload)

    def extend(self, value, payload):
        """The CRC-32/ISO-HDLC of a message that begins with bytes whose CRC is `value` and ends with `payload`."""
        return extend_with(extend_iso_hdlc, 4, value, payload)


cdef class Crc32c(Checksum):
    """CRC-32C (Castagnoli; used by iSCSI and ext4): 4 bytes; 0xE3069283 for b"123456789"."""

    size = 4

    def calculate(self, payload):
        """The CRC-32C of `payload`."""
        return calculate_with(crc32c_iscsi, payload)

    def extend(self, value, payload):
        """The CRC-32C of a message that begins with bytes whose CRC is `value` and ends with `payload`."""
        return extend_with(extend_iscsi, 4, value, payload)


cdef class Crc64(Checksum):
    """CRC-64/XZ: 8 bytes; 0x995DC9BBDF1939FA for b"123456789"."""

    size = 8

    def calculate(self, payload):
        """The CRC-64/XZ of `payload`."""
        return calculate_with(crc64_xz, payload)

    def extend(self, value, payload):
        """The CRC-64/XZ of a message that begins with bytes whose CRC is `value` and ends with `payload`."""
        return extend_with(extend_xz, 8, value, payload)


cdef class XxHash64(Checksum):
    """XXH3-64 with seed 0: 8 bytes; 0x72DCB18B67A17DFF for b"123456789". The fastest of the 8-byte checksums.

    The name is that of the Rust crate. The algorithm is the 64-bit variant of XXH3, not the older XXH64.
    """

    size = 8

    def calculate(self, payload):
        """The XXH3-64 of `payload`."""
        cdef Py_buffer view
        if self.kernel is not NULL:
            return calculate_with(self.kernel, payload)
        acquire(payload, &view, "payload")
        PyBuffer_Release(&view)
        return xxhash.xxh3_64_intdigest(payload)


cdef class UncheckedChecksum(Checksum):
    """Stands for a checksum of `size` bytes that is not compared: a deframer with it reads headers only.

    Not public, and never evidence that a frame is intact: it is for counting frames where nothing is decided.
    """

    cdef readonly Py_ssize_t size

    def __init__(self, Py_ssize_t size):
        self.size = size
        self.checked_size()
        self.absent = True

    def calculate(self, payload):
        """Raises TypeError: frames cannot be written with it."""
        raise TypeError("UncheckedChecksum reads headers only: it calculates nothing")

    def __reduce__(self):
        return UncheckedChecksum, (self.size,)

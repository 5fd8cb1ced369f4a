"""Checksums as strategies: what a framer stores beside a payload and a deframer compares."""

import xxhash

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport uint8_t, uint64_t

from flatstream._core.base.buffers cimport acquire, slice_view
from flatstream._core.base.endian cimport low_bytes
from flatstream._core.checksums.crc cimport (
    checksum_kernel, crc16_xmodem, crc32_iso_hdlc, crc32c_iscsi, crc64_xz, extend_iscsi, extend_iso_hdlc, extend_xmodem,
    extend_xz, extension_kernel,
)
from flatstream._core.checksums.xxh3 cimport xxh3_64_kernel

from flatstream.errors import ChecksumMismatchError


cdef uint64_t no_checksum(const uint8_t* data, size_t size) noexcept nogil:
    return 0


cdef uint64_t run_kernel(checksum_kernel kernel, const uint8_t* data, Py_ssize_t length) noexcept:
    """What `kernel` makes of `length` bytes, which the caller keeps where they are; other threads may run meanwhile."""
    cdef uint64_t value
    if length < RELEASE_FROM or kernel is no_checksum:
        return kernel(data, <size_t>length)
    with nogil:
        value = kernel(data, <size_t>length)
    return value


cdef class Checksum:
    """A checksum algorithm; subclass it to bring your own.

    A subclass gives ``size`` and ``calculate``; the rest follows from them.

    Attributes
    ----------
    size : int
        How many bytes of a frame hold the value: 0 to 8. It is read when a framer or deframer takes the checksum.
    name : str
        What error messages and representations call it; the class's name unless given.

    Notes
    -----
    Instances of the built-in checksums hold no state; one may serve any number of streams and threads.

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
        """What error messages call this checksum."""
        return type(self).__name__

    def calculate(self, payload):
        """The checksum of `payload` as a non-negative number.

        Parameters
        ----------
        payload : bytes-like
            Any C-contiguous buffer. From a framer or deframer it is a memoryview, valid for the length of the call and,
            when reading, for as long as it is kept.

        Returns
        -------
        int
            The value; what lies above ``8 * size`` bits is not stored.

        Raises
        ------
        TypeError
            `payload` is not bytes-like.
        BufferError
            `payload` is not contiguous.
        """
        raise TypeError(f"{type(self).__name__} must define calculate(payload)")

    def verify(self, expected, payload):
        """Compares the checksum of `payload` with `expected`, modulo the width of ``size`` bytes.

        Raises
        ------
        ChecksumMismatchError
            They differ.
        """
        cdef Py_ssize_t size = self.checked_size()
        if not isinstance(expected, int):
            raise TypeError(f"expected must be an int, got {type(expected).__name__}")
        cdef uint64_t mask = low_bytes(~<uint64_t>0, size)
        stored = expected & mask
        calculated = checked_value(self, self.calculate(payload)) & mask
        if stored != calculated:
            raise ChecksumMismatchError(expected=stored, calculated=calculated)

    def __repr__(self):
        return f"{type(self).__name__}()"

    cdef Py_ssize_t checked_size(self) except -1:
        cdef object size = self.size
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{type(self).__name__}.size must be an int from 0 to 8, got {size!r}")
        if not 0 <= size <= MAX_CHECKSUM_SIZE:
            raise ValueError(f"{type(self).__name__}.size must be from 0 to 8 bytes, got {size}")
        return size

    cdef int compute(
        self, object owner_view, const uint8_t* data, Py_ssize_t length, Py_ssize_t size, uint64_t* value
    ) except -1:
        """The checksum of `length` bytes at `data` (inside the memoryview `owner_view`), reduced to `size` bytes."""
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
    if not isinstance(value, int):
        raise TypeError(
            f"{type(checksum).__name__}.calculate must return an int, got {type(value).__name__}: {value!r:.100}"
        )
    return value


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
    """What `kernel`, for a CRC of `size` bytes, makes of `value` and the bytes of `payload`."""
    cdef Py_buffer view
    cdef uint64_t result
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"value must be an int, got {type(value).__name__}: {value!r:.100}")
    if not 0 <= value <= low_bytes(~<uint64_t>0, size):
        raise ValueError(f"value must be a checksum of {size} bytes, got {value}")
    result = value
    acquire(payload, &view, "payload")
    if view.len < RELEASE_FROM:
        result = kernel(result, <const uint8_t*>view.buf, <size_t>view.len)
    else:
        with nogil:
            result = kernel(result, <const uint8_t*>view.buf, <size_t>view.len)
    PyBuffer_Release(&view)
    return result


cdef class NoChecksum(Checksum):
    """No checksum: 0 bytes. Nothing is calculated, every payload passes."""

    size = 0

    def calculate(self, payload):
        """0, for any payload."""
        return calculate_with(no_checksum, payload)


cdef class Crc16(Checksum):
    """CRC-16/XMODEM: 2 bytes, of b"123456789" 0x31C3. For small messages where every byte counts."""

    size = 2

    def calculate(self, payload):
        """The CRC-16/XMODEM of `payload`."""
        return calculate_with(crc16_xmodem, payload)

    def extend(self, value, payload):
        """The CRC-16/XMODEM of a message that begins with bytes whose own is `value`, and goes on with `payload`."""
        return extend_with(extend_xmodem, 2, value, payload)


cdef class Crc32(Checksum):
    """CRC-32/ISO-HDLC (that of zlib, gzip and PNG): 4 bytes, of b"123456789" 0xCBF43926."""

    size = 4

    def calculate(self, payload):
        """The CRC-32/ISO-HDLC of `payload`."""
        return calculate_with(crc32_iso_hdlc, payload)

    def extend(self, value, payload):
        """The CRC-32/ISO-HDLC of a message that begins with bytes whose own is `value`, and goes on with `payload`."""
        return extend_with(extend_iso_hdlc, 4, value, payload)


cdef class Crc32c(Checksum):
    """CRC-32C (Castagnoli, that of iSCSI and ext4): 4 bytes, of b"123456789" 0xE3069283."""

    size = 4

    def calculate(self, payload):
        """The CRC-32C of `payload`."""
        return calculate_with(crc32c_iscsi, payload)

    def extend(self, value, payload):
        """The CRC-32C of a message that begins with bytes whose own is `value`, and goes on with `payload`."""
        return extend_with(extend_iscsi, 4, value, payload)


cdef class Crc64(Checksum):
    """CRC-64/XZ: 8 bytes, of b"123456789" 0x995DC9BBDF1939FA."""

    size = 8

    def calculate(self, payload):
        """The CRC-64/XZ of `payload`."""
        return calculate_with(crc64_xz, payload)

    def extend(self, value, payload):
        """The CRC-64/XZ of a message that begins with bytes whose own is `value`, and goes on with `payload`."""
        return extend_with(extend_xz, 8, value, payload)


cdef class XxHash64(Checksum):
    """XXH3-64 with seed 0: 8 bytes, of b"123456789" 0x72DCB18B67A17DFF. The fastest of the strong ones.

    The name is the crate's; the algorithm is XXH3's 64-bit variant, not the older XXH64.
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

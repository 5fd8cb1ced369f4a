# cython: boundscheck=False, wraparound=False
"""Compressed payloads: the byte that says how one is stored, and what the headers of Zstandard and LZ4 declare.

flatstream/transforms/compression.py has the picture. The libraries are Python packages. What stands between them and
the decoder is compiled: for a message of 130 bytes, it would take longer than the decompression.
"""

from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.base.buffers cimport acquire, slice_view
from flatstream._core.base.endian cimport load_le, load_u32
from flatstream._core.framing.transform cimport TransformDeframer, TransformFramer

cdef enum:
    # The byte before a payload that is stored as it is.
    STORED = 0
    # Of a frame of Zstandard (RFC 8878, 3.1.1): the first bytes, and the shortest header.
    ZSTD_MAGIC = 0xFD2FB528
    SHORTEST_ZSTD_HEADER = 6
    # A block becomes at most 128 KiB and takes 4 bytes or more, with its header. So no frame becomes larger than this
    # allows, whatever size it declares.
    MAX_BLOCK = 128 << 10
    MIN_BLOCK = 4
    # No block of LZ4 becomes larger than so many times its own size.
    LZ4_SIZE = 4
    LZ4_RATIO = 255


cdef Py_ssize_t zstd_content_size(
    const uint8_t* frame, Py_ssize_t size, uint32_t own_id, Py_ssize_t max_size
) noexcept nogil:
    """The size of the content that the header of a frame declares; -1 if it is none to be decompressed: it is damaged,
    declares no size, one over the limit, or one that its bytes cannot hold, or it has another dictionary.
    """
    cdef int descriptor, id_size, size_size
    cdef Py_ssize_t place
    cdef uint64_t content
    cdef uint32_t dictionary_id
    if size < SHORTEST_ZSTD_HEADER or load_u32(frame) != ZSTD_MAGIC:
        return -1
    descriptor = frame[4]
    if descriptor & 0x08:
        return -1
    # 0, 1, 2 and 4 bytes; and 0, 2, 4 and 8, but 1 instead of 0 if the content is the window.
    id_size = (1 << (descriptor & 3)) >> 1
    size_size = 1 << (descriptor >> 6)
    if size_size == 1 and not descriptor & 0x20:
        return -1
    place = 5 + (0 if descriptor & 0x20 else 1)
    if size - place < id_size + size_size:
        return -1
    dictionary_id = <uint32_t>load_le(frame + place, id_size)
    content = load_le(frame + place + id_size, size_size)
    if size_size == 2:
        content += 256
    if (dictionary_id and dictionary_id != own_id) or content > <uint64_t>max_size:
        return -1
    if content > <uint64_t>(size // MIN_BLOCK) * MAX_BLOCK:
        return -1
    return <Py_ssize_t>content


cdef class ZstdUnpack:
    """``unpack(data, max_size)`` by the package zstandard, whose contexts are kept and used again.

    Each call takes a context, so that threads can share this, and none is locked in a process that forks meanwhile.

    Parameters
    ----------
    make : callable
        Makes a context, with ``decompress(data, max_output_size, read_across_frames, allow_extra_data)``.
    error : type
        The exception of the library.
    explain : callable
        ``explain(data, max_size)`` is called for what this does not decompress: an empty content, which it returns, and
        everything else, for which it raises.
    fail : callable
        ``fail(error)`` makes the exception for a damaged frame.
    own_id : int
        The number of the dictionary, 0 without one.
    """

    cdef list free
    cdef object make, error, explain, fail
    cdef uint32_t own_id

    def __init__(self, make, error, explain, fail, own_id):
        self.free = []
        self.make, self.error, self.explain, self.fail = make, error, explain, fail
        self.own_id = own_id

    def __call__(self, data, Py_ssize_t max_size):
        return self.unpack(data, max_size)

    def __reduce__(self):
        raise TypeError("a ZstdUnpack can be neither pickled nor copied: it has contexts of the library")

    cdef object unpack(self, object data, Py_ssize_t max_size):
        cdef Py_buffer view
        cdef Py_ssize_t size
        acquire(data, &view, "data")
        size = zstd_content_size(<const uint8_t*>view.buf, view.len, self.own_id, max_size)
        PyBuffer_Release(&view)
        if size <= 0:
            return self.explain(data, max_size)
        try:
            context = self.free.pop()
        except IndexError:
            context = self.make()
        try:
            # It allocates the declared size, and bytes behind the frame are an error.
            content = context.decompress(data, size, False, False)
        except self.error as error:
            raise self.fail(error) from error
        self.free.append(context)
        return content


cdef class Lz4Unpack:
    """``unpack(data, max_size)`` by ``lz4.block.decompress``.

    Parameters
    ----------
    decompress : callable
        Allocates the size that is stored before the block, and raises if that is not the size of the content.
    error : type
        The exception of the library.
    explain, fail : callable
        As for `ZstdUnpack`.
    """

    cdef object decompress, error, explain, fail

    def __init__(self, decompress, error, explain, fail):
        self.decompress, self.error, self.explain, self.fail = decompress, error, explain, fail

    def __call__(self, data, Py_ssize_t max_size):
        return self.unpack(data, max_size)

    def __reduce__(self):
        raise TypeError("a Lz4Unpack can be neither pickled nor copied: a Lz4Compressor can")

    cdef object unpack(self, object data, Py_ssize_t max_size):
        cdef Py_buffer view
        cdef Py_ssize_t length, size = -1
        acquire(data, &view, "data")
        length = view.len - LZ4_SIZE
        if length > 0:
            size = load_u32(<const uint8_t*>view.buf)
        PyBuffer_Release(&view)
        if size < 0 or size > max_size or size // LZ4_RATIO > length or size > length * LZ4_RATIO:
            self.explain(data, max_size)
        try:
            return self.decompress(data)
        except (ValueError, self.error) as error:
            raise self.fail(error) from error


cdef class StoredFramer(TransformFramer):
    """The compiled part of `CompressedFramer`, which says what compresses payloads, and the byte before them."""

    cdef object compress
    cdef uint8_t mark

    def _set_compress(self, compress, mark):
        self.compress, self.mark = compress, mark

    def transform(self, payload):
        """What is framed for a payload."""
        cdef Py_buffer plain, compressed
        if self.compress is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        data = self.compress(payload)
        acquire(payload, &plain, "payload")
        try:
            acquire(data, &compressed, "what a compressor returned")
            try:
                if compressed.len < plain.len:
                    return marked(self.mark, &compressed)
                return marked(STORED, &plain)
            finally:
                PyBuffer_Release(&compressed)
        finally:
            PyBuffer_Release(&plain)


cdef bytes marked(uint8_t mark, const Py_buffer* data):
    """The byte `mark` and what follows it."""
    cdef bytes made = PyBytes_FromStringAndSize(NULL, data.len + 1)
    cdef char* out = PyBytes_AS_STRING(made)
    out[0] = <char>mark
    memcpy(out + 1, data.buf, <size_t>data.len)
    return made


cdef class StoredDeframer(TransformDeframer):
    """The compiled part of `CompressedDeframer`, which says what decompresses payloads behind which byte."""

    cdef list functions
    cdef Py_ssize_t limit

    def _set_limit(self, limit):
        """Says how many bytes a payload may have. Forgets what decompresses."""
        self.limit = limit
        self.functions = [None] * 256

    @property
    def max_payload_len(self):
        """How many bytes a payload may have."""
        return self.limit

    def restore(self, payload):
        """The message in what is stored."""
        cdef Py_buffer view
        cdef int method = -1
        cdef Py_ssize_t size
        cdef object stored = None
        if self.functions is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        if type(payload) is not memoryview:
            payload = memoryview(payload)
        acquire(payload, &view, "payload")
        try:
            if not view.len:
                return self._too_short()
            method = (<const uint8_t*>view.buf)[0]
            stored = slice_view(payload, <const uint8_t*>view.buf + 1, view.len - 1)
        finally:
            PyBuffer_Release(&view)
        if method == STORED:
            message = stored
        else:
            function = self.functions[method]
            if function is None:
                function = self._unpack_of(method)
                self.functions[method] = function
            if type(function) is ZstdUnpack:
                message = (<ZstdUnpack>function).unpack(stored, self.limit)
            elif type(function) is Lz4Unpack:
                message = (<Lz4Unpack>function).unpack(stored, self.limit)
            else:
                message = function(stored, self.limit)
        size = PyBytes_GET_SIZE(message) if PyBytes_CheckExact(message) else len(message)
        if size > self.limit:
            self._too_long(size)
        return message

    def _too_short(self):
        raise TypeError("a subclass says that a payload without any bytes is refused")

    def _too_long(self, size):
        raise TypeError("a subclass says that a payload is too long")

    def _unpack_of(self, method):
        raise TypeError("a subclass says what decompresses")

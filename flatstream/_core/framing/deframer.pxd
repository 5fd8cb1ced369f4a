from libc.stdint cimport uint8_t, uint32_t

from flatstream._core.base.endian cimport load_le, load_u32, low_bytes
from flatstream._core.checksums.checksum cimport Checksum
from flatstream._core.framing.validator cimport Validator
from flatstream._core.framing.wire cimport LENGTH_SIZE, HeaderFormat


cdef struct Span:
    # Counted from the first byte of the frame.
    Py_ssize_t payload_start
    Py_ssize_t payload_end
    Py_ssize_t frame_end


cdef struct FrameIndex:
    # Input and output of `index_frames_of`. The arrays get where each payload begins in the data, and its length; they
    # have `count` entries, and room for `capacity`. The next frame begins at `position`, and `bytes_left` is how many
    # bytes of payload may still be added.
    long long* offsets
    long long* lengths
    Py_ssize_t count
    Py_ssize_t capacity
    Py_ssize_t position
    Py_ssize_t bytes_left


cdef inline Py_ssize_t whole_payload_at(
    const uint8_t* data, Py_ssize_t size, const HeaderFormat* format, Py_ssize_t max_length
) noexcept nogil:
    """The payload length of the frame at `data`, of which `size` bytes are there; -1 if the frame is not whole or its
    length is not accepted. The checksum is not compared.
    """
    cdef Py_ssize_t length
    if size < format.header_size:
        return -1
    length = load_u32(data)
    # Subtracted, so that no sum can overflow.
    if length > max_length or length < format.min_length or length > size - format.header_size:
        return -1
    return length


cdef inline bint checksum_matches(const uint8_t* frame, Py_ssize_t length, const HeaderFormat* format) noexcept nogil:
    """Whether the whole frame at `frame`, with a payload of `length` bytes, has the checksum of its payload."""
    return format.kernel is NULL or load_le(frame + LENGTH_SIZE, format.checksum_size) == low_bytes(
        format.kernel(frame + format.header_size, <size_t>length), format.checksum_size
    )


cdef int index_frames_of(const unsigned char[::1] data, const HeaderFormat* format, FrameIndex* index) noexcept nogil


cdef class Deframer:
    cdef int depth
    # locate() or check() of this class are Python's.
    cdef bint locates_in_python
    cdef bint checks_in_python
    # Nothing in the chain runs Python or looks at single frames: `index_frames_of` gives the same as `find` and
    # `examine`.
    cdef bint is_batchable
    # No locate() in the chain is Python's: `get_format` may be used.
    cdef bint locate_is_native
    # The checksum at the end of the chain is one of the built-in kernels.
    cdef bint check_is_native
    # Something in the chain is a transform (transform.pyx): the payload of a message is what `unpack` gives.
    cdef bint has_transform
    cdef Py_ssize_t find(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1
    cdef Py_ssize_t find_natively(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1
    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1
    cdef int examine(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1
    cdef object unpack(self, object owner_view, const uint8_t* frame, const Span* span)
    cdef int check_in_python(self, object owner_view, const uint8_t* frame, const Span* span, object payload) except -1
    cdef int get_format(self, HeaderFormat* format) noexcept
    cdef Py_ssize_t evidence_bytes(self) noexcept
    cdef Py_ssize_t located(self, object result, Py_ssize_t size, Span* span) except -1


cdef class HeaderDeframer(Deframer):
    cdef readonly Py_ssize_t max_frame_len
    cdef readonly bint allow_empty
    cdef Checksum _checksum
    cdef Py_ssize_t size
    cdef int configure(self, object checksum, object max_frame_len, object allow_empty) except -1


cdef class DefaultDeframer(HeaderDeframer):
    pass


cdef class ChecksumDeframer(HeaderDeframer):
    pass


cdef class DeframerAdapter(Deframer):
    cdef Deframer _inner
    cdef int adapt(self, object inner) except -1
    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1
    cdef object around(self, object inner)


cdef class BoundedDeframer(DeframerAdapter):
    cdef readonly Py_ssize_t max_len


cdef class NonEmptyDeframer(DeframerAdapter):
    pass


cdef class ObserverDeframer(DeframerAdapter):
    cdef readonly object callback


cdef class ValidatingDeframer(DeframerAdapter):
    cdef Validator _validator

from libc.stdint cimport uint8_t

from flatstream._core.checksums.checksum cimport Checksum
from flatstream._core.framing.validator cimport Validator


cdef struct Span:
    # Counted from the frame's first byte.
    Py_ssize_t payload_start
    Py_ssize_t payload_end
    Py_ssize_t frame_end


cdef class Deframer:
    cdef int depth
    # locate() or check() of this class are Python's.
    cdef bint locates_in_python
    cdef bint checks_in_python
    # Nothing in the chain runs Python or looks at single frames: index() may be used.
    cdef bint is_batchable
    # No locate() in the chain is Python's: frame_size_at() may be used.
    cdef bint locate_is_native
    # The checksum at the bottom of the chain is one of the built-in kernels.
    cdef bint check_is_native
    cdef Py_ssize_t find(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1
    cdef Py_ssize_t find_natively(
        self, object owner_view, const uint8_t* data, Py_ssize_t size, Span* span
    ) except -1
    cdef int examine_natively(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1
    cdef int examine(self, object owner_view, const uint8_t* frame, const Span* span, bint probe) except -1
    cdef Py_ssize_t index(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit, Py_ssize_t max_frames, Py_ssize_t* max_bytes,
        Py_ssize_t base, long long* offsets, long long* lengths, Py_ssize_t* consumed
    ) noexcept nogil
    cdef Py_ssize_t frame_size_at(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t limit) noexcept nogil
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


cdef class BoundedDeframer(DeframerAdapter):
    cdef readonly Py_ssize_t max_len


cdef class ObserverDeframer(DeframerAdapter):
    cdef readonly object callback


cdef class ValidatingDeframer(DeframerAdapter):
    cdef Validator _validator

from libc.stdint cimport uint8_t

from flatstream._core.checksums.checksum cimport Checksum
from flatstream._core.framing.validator cimport Validator


cdef class Framer:
    # frame_and_write() of this class or of an inner framer is Python's, and must be called for each frame.
    cdef bint in_python
    # Something in the chain wants the payload as a memoryview.
    cdef bint needs_view
    cdef int depth
    cdef int examine(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1
    cdef Py_ssize_t header(self, object owner_view, const uint8_t* data, Py_ssize_t length, uint8_t* out) except -1


cdef class DefaultFramer(Framer):
    pass


cdef class ChecksumFramer(Framer):
    cdef Checksum _checksum
    cdef Py_ssize_t size


cdef class FramerAdapter(Framer):
    cdef Framer _inner
    cdef int adapt(self, object inner) except -1


cdef class BoundedFramer(FramerAdapter):
    cdef readonly Py_ssize_t max_len


cdef class ObserverFramer(FramerAdapter):
    cdef readonly object callback


cdef class ValidatingFramer(FramerAdapter):
    cdef Validator _validator

cdef int check_callable(object callback) except -1
cdef Py_ssize_t checked_limit(str name, object value) except -1
cdef Py_ssize_t write_all(object write, object view) except -1
cdef int check_outcome(Framer framer, object outcome) except -1
cdef int deeper(int depth, object already) except -1

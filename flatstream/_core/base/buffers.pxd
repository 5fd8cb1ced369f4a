from cpython.buffer cimport Py_buffer
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t

cdef int acquire(object obj, Py_buffer* view, str what) except -1
# The bytes of a bytes or bytearray object, or of an instance of a subclass, without calling its methods.
cdef bytes exact_bytes(object value)
# An array with room for `needed` items: `memory` reallocated if `capacity` is less, and the new `capacity`. The caller
# stores the pointer that comes back; after an error its array is as it was.
cdef void* grow(void* memory, Py_ssize_t* capacity, Py_ssize_t needed, size_t item_size, str what) except NULL
cdef void* try_grow(void* memory, Py_ssize_t* capacity, Py_ssize_t needed, size_t item_size) noexcept nogil


cdef class Lease:
    """Holds the buffer of a caller's object while views of it exist, and exports it as read-only unsigned bytes."""
    cdef object source
    cdef void* data
    cdef Py_ssize_t size


cdef class Chunk:
    """Allocated memory that counts its exports and refuses to be resized while there are any."""
    cdef uint8_t* data
    cdef readonly Py_ssize_t capacity
    cdef Py_ssize_t exports
    cdef bint writable
    cdef int resize(self, Py_ssize_t capacity) except -1


cdef class IndexArray:
    """A read-only array of signed 64-bit integers."""
    cdef long long* data
    cdef Py_ssize_t length
    cdef Py_ssize_t capacity
    cdef Py_ssize_t exports
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]
    cdef int reserve(self, Py_ssize_t capacity) except -1


cdef object owner_view_of(object source, str what)
cdef object slice_view(object owner_view, const uint8_t* start, Py_ssize_t length)
cdef bint try_reuse_view(PyObject* view, object owner_view, const uint8_t* start, Py_ssize_t length) noexcept

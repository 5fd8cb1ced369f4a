from libc.stdint cimport uint8_t


cdef class Validator:
    # The class (or a subclass of it) defines validate() in Python, which must be called.
    cdef bint in_python
    cdef int depth
    cdef int needs_view(self) except -1
    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1
    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1

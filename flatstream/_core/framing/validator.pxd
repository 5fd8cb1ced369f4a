from libc.stdint cimport uint8_t


cdef class Validator:
    # Whether a subclass defines validate(), so that it must be called.
    cdef bint in_python
    # The nesting depth of CompositeValidators: 0 for every other validator.
    cdef int depth
    cdef int needs_view(self) except -1
    cdef int inspect_natively(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1
    cdef int inspect(self, object owner_view, const uint8_t* data, Py_ssize_t length) except -1

from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uint8_t, uint64_t

from flatstream._core.flatbuf.layout cimport EnumLayout


# What the elements of a buffer are.
cdef enum ElementClass:
    UNKNOWN_CLASS
    SIGNED_CLASS
    UNSIGNED_CLASS
    BOOL_CLASS
    FLOAT_CLASS


# Raises RefusalError: the class of the error to raise, and what is wrong. It is for the caller to say where.
cdef int take_scalar(uint8_t kind, EnumLayout enum, object value, uint64_t* bits) except -1
cdef bint take_exact(uint8_t kind, object value, uint64_t* bits) noexcept
cdef ElementClass class_of_format(const char* format, Py_ssize_t size, bint* swapped) noexcept nogil
cdef int store_elements(uint8_t kind, const Py_buffer* source, ElementClass element, bint swapped, uint8_t* out,
                        Py_ssize_t* failed) except -1
cdef bint same_layout(uint8_t kind, ElementClass element, Py_ssize_t size) noexcept nogil

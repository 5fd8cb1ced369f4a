from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uint8_t, uint64_t

from flatstream._core.flatbuf.layout cimport EnumLayout


# The type of the elements of a buffer.
cdef enum ElementClass:
    UNKNOWN_CLASS
    SIGNED_CLASS
    UNSIGNED_CLASS
    BOOL_CLASS
    FLOAT_CLASS


# Raises RefusalError if the value cannot be stored; the caller knows the path of the value and raises the final error.
cdef int pack_scalar(uint8_t kind, EnumLayout enum, object value, uint64_t* bits) except -1
cdef bint pack_exact(uint8_t kind, object value, uint64_t* bits) noexcept
cdef ElementClass class_of_format(const char* format, Py_ssize_t size, bint* swapped) noexcept nogil
cdef int store_elements(uint8_t kind, const Py_buffer* source, ElementClass element, bint swapped, uint8_t* out,
                        Py_ssize_t* failed) except -1
cdef bint same_layout(uint8_t kind, ElementClass element, Py_ssize_t size) noexcept nogil

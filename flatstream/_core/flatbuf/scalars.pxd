from cpython.buffer cimport Py_buffer
from cpython.float cimport PyFloat_AS_DOUBLE
from libc.math cimport isinf
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.flatbuf.kinds cimport DOUBLE, FLOAT, ULONG, least_of, mask_of, most_of
from flatstream._core.flatbuf.layout cimport EnumLayout


cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    bint PyFloat_CheckExact(object number)
    bint PyLong_CheckExact(object number)
    bint PyBool_Check(object number)


# The type of the elements of a buffer.
cdef enum ElementClass:
    UNKNOWN_CLASS
    SIGNED_CLASS
    UNSIGNED_CLASS
    BOOL_CLASS
    FLOAT_CLASS


# Raises RefusalError if the value cannot be stored; the caller knows the path of the value and raises the final error.
cdef int pack_scalar(uint8_t kind, EnumLayout enum, object value, uint64_t* bits) except -1
cdef ElementClass class_of_format(const char* format, Py_ssize_t size, bint* swapped) noexcept nogil
cdef int store_elements(uint8_t kind, const Py_buffer* source, ElementClass element, bint swapped, uint8_t* out,
                        Py_ssize_t* failed) except -1
cdef bint same_layout(uint8_t kind, ElementClass element, Py_ssize_t size) noexcept nogil


cdef inline bint pack_exact(uint8_t kind, object value, uint64_t* bits) noexcept:
    """Stores the bytes of `value` in the low bytes of `bits` if it is exactly an int, a bool or a float of the right
    type and fits; returns whether it did.

    Runs no Python code and raises nothing.
    """
    cdef int overflow = 0
    cdef long long number
    cdef double wide
    cdef float narrow
    cdef uint32_t low = 0
    if kind >= FLOAT:
        if not PyFloat_CheckExact(value):
            return False
        wide = PyFloat_AS_DOUBLE(value)
        if kind == DOUBLE:
            memcpy(bits, &wide, 8)
            return True
        narrow = <float>wide
        if isinf(narrow) and not isinf(wide):
            return False
        memcpy(&low, &narrow, 4)
        bits[0] = low
        return True
    if not PyLong_CheckExact(value) and not PyBool_Check(value):
        return False
    # Cannot fail for an int.
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        return False
    if kind == ULONG:
        bits[0] = <uint64_t>number
        return number >= 0
    if not least_of(kind) <= number <= most_of(kind):
        return False
    bits[0] = <uint64_t>number & mask_of(kind)
    return True

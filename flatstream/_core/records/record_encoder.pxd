from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint64_t

from flatstream._core.flatbuf.template cimport TemplateCache
from flatstream._core.records.record_builder cimport RecordBuilder
from flatstream._core.stream.encoder cimport Encoder


cdef class RecordEncoder(RecordBuilder):
    cdef Encoder encoder
    # What asks the memory policy of a stream writer, or None.
    cdef object consult
    # The messages of records that have nothing but numbers, by the fields that are present; bit i is field i. None if a
    # field has a number of 64 or more.
    cdef TemplateCache templates
    # The mask of the required fields.
    cdef uint64_t required
    # The names of the last call with keywords, and what fields they are.
    cdef object call_names
    cdef int32_t[64] call_fields

    cdef int write_located(self, object record, list values, Py_ssize_t row) except -1
    cdef int write_values(self, list values) except -1
    cdef bint put_simple(self, object record) except -1
    cdef bint put_exact(self, PyObject** values, const int32_t* numbers, Py_ssize_t count) except -1
    cdef int put_numbers(self, uint64_t mask, const uint64_t* bits) except -1
    cdef int learn_names(self, tuple names) except -1

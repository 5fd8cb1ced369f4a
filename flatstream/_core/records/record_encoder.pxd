from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint64_t

from flatstream._core.flatbuf.template cimport TemplateCache
from flatstream._core.records.record_builder cimport RecordBuilder
from flatstream._core.stream.encoder cimport Encoder


cdef class RecordEncoder(RecordBuilder):
    cdef Encoder encoder
    # Asks the memory policy of the stream writer; None if it has no policy.
    cdef object consult
    # The templates of messages that consist of scalars, by the mask of the fields that are present; bit i is field i.
    # None if the table has more than 64 fields.
    cdef TemplateCache templates
    # The mask of the required fields.
    cdef uint64_t required
    # The names of the last keywords or dict keys, and the numbers of their fields; None if one of them was no field.
    cdef object call_names
    cdef int32_t[64] call_fields

    cdef bint put_fast(self, object record) except -1
    cdef int put_slow(self, object record, list values, Py_ssize_t row) except -1
    cdef int write_values(self, list values) except -1
    cdef bint put_exact(self, PyObject** values, const int32_t* numbers, Py_ssize_t count) except -1
    cdef int put_scalars_message(self, uint64_t mask, const uint64_t* bits) except -1
    cdef int cache_names(self, tuple names) except -1

from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.flatbuf.template cimport Template
from flatstream._core.records.record_builder cimport RecordBuilder
from flatstream._core.stream.encoder cimport Encoder


cdef class Pattern:
    """A record with certain fields, all of them numbers: its message lacks only their values."""
    cdef uint64_t mask
    cdef Template template
    # The numbers of these fields.
    cdef uint8_t[64] fields
    cdef Py_ssize_t count


cdef class RecordEncoder(RecordBuilder):
    cdef Encoder encoder
    # What asks the memory policy of a stream writer, or None.
    cdef object consult
    # Patterns by their masks, and the one used last.
    cdef dict patterns
    cdef Pattern recent
    # Of a table whose fields have numbers under 64: which of them are required. Else there are no patterns.
    cdef bint patterned
    cdef uint64_t required
    # The names of the last call with keywords, and what fields they are.
    cdef object call_names
    cdef int32_t[64] call_fields

    cdef int write_located(self, object record, list values, Py_ssize_t row) except -1
    cdef int write_values(self, list values) except -1
    cdef bint put_simple(self, object record) except -1
    cdef bint put_exact(self, PyObject** values, const int32_t* numbers, Py_ssize_t count) except -1
    cdef int put_numbers(self, uint64_t mask, const uint64_t* bits) except -1
    cdef Pattern pattern_of(self, uint64_t mask)
    cdef int learn_names(self, tuple names) except -1

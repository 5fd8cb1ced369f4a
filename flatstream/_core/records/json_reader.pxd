from libc.stdint cimport int32_t, int64_t, uint8_t

from flatstream._core.records.json_types cimport JsonTypes
from flatstream._core.records.json_scanner cimport JsonScanner


cdef class JsonReader(JsonScanner):
    cdef JsonTypes names
    # By the number of an object: the numbers of its fields by their names in UTF-8, or None until it is needed.
    cdef list numbers
    cdef bint skips_unknown
    # A stack: a byte for each field of the objects that are being read, which says whether the field was there.
    cdef uint8_t* seen
    cdef Py_ssize_t seen_size
    cdef Py_ssize_t seen_capacity

    # Members of objects
    cdef int32_t read_key(self, int32_t index, int32_t expected) except -2
    cdef int32_t find_key(self, int32_t index, int32_t expected, const uint8_t* name, Py_ssize_t size) except -2
    cdef Py_ssize_t push_seen(self, Py_ssize_t count) except -1
    cdef object hash_of(self, int32_t index, int32_t i)
    cdef int mark_seen(self, Py_ssize_t base, int32_t index, int32_t i) except -1
    # Values
    cdef int64_t read_table(self, int32_t index) except -1
    cdef int read_member(self, int32_t index, int32_t i, Py_ssize_t base) except -1
    cdef int finish_fields(self, int32_t index, Py_ssize_t base, Py_ssize_t seen, dict waiting) except -1
    cdef int64_t read_child(self, uint8_t kind, int32_t index) except -1
    cdef int64_t read_string(self) except -1
    cdef int64_t read_nested(self, int32_t index) except -1
    cdef int read_struct(self, int32_t index, Py_ssize_t start) except -1
    cdef int read_struct_field(self, int32_t index, int32_t i, Py_ssize_t start) except -1
    cdef int64_t read_vector(self, int32_t index, int32_t i) except -1
    cdef int64_t read_unions(self, int32_t index, int32_t i, object types) except -1
    cdef int sort_by_key(self, int32_t index, Py_ssize_t base, Py_ssize_t count) except -1
    cdef object key_of(self, int32_t index, int64_t end_offset)

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.flatbuf.layout cimport EnumLayout
from flatstream._core.flatbuf.verifier cimport Field
from flatstream._core.records.json_types cimport JsonTypes
from flatstream._core.records.record_builder cimport RecordBuilder


cdef class JsonReader(RecordBuilder):
    cdef JsonTypes names
    # By the number of an object: the numbers of its fields by their names in UTF-8, or None until it is needed.
    cdef list numbers
    # The text being read: `size` bytes of UTF-8, with a zero byte behind them. NULL between two texts.
    cdef const uint8_t* text
    cdef Py_ssize_t size
    # The byte that is read next, and the first byte of the current value.
    cdef Py_ssize_t position
    cdef Py_ssize_t token
    # How many objects and arrays the skipped value is nested.
    cdef Py_ssize_t skip_depth
    cdef bint skips_unknown
    # A stack: a byte for each field of the objects that are being read, which says whether the field was there.
    cdef uint8_t* seen
    cdef Py_ssize_t seen_size
    cdef Py_ssize_t seen_capacity

    # Characters
    cdef int fail_at(self, Py_ssize_t position, str reason) except -1
    cdef str shown(self, Py_ssize_t position)
    cdef uint8_t next_character(self) except? 0
    cdef int expect(self, uint8_t character, str where) except -1
    cdef bint has_more(self, uint8_t bracket, bint is_first, str what) except -1
    cdef bint take_null(self) except -1
    cdef Py_ssize_t read_word(self) except -1
    cdef Py_ssize_t read_quoted(self, Py_ssize_t* begin, bint* in_scratch) except -1
    cdef Py_ssize_t unescape(self, Py_ssize_t begin, uint8_t quote) except -1
    cdef int push_character(self, uint32_t code) except -1
    cdef const uint8_t* text_at(self, Py_ssize_t begin, bint in_scratch) noexcept
    cdef uint32_t read_hex(self, int digits) except? 0
    cdef int skip_value(self) except -1
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
    cdef int read_scalar(self, const Field* field, uint8_t kind, object function, uint64_t* bits) except -1
    cdef int read_integer(self, uint8_t kind, const uint8_t* p, Py_ssize_t size, uint64_t* bits) except -1
    cdef int read_float(self, uint8_t kind, Py_ssize_t begin, Py_ssize_t size, uint64_t* bits) except -1
    cdef int read_name(self, uint8_t kind, EnumLayout enum, const uint8_t* p, Py_ssize_t size, uint64_t* bits) except -1
    cdef int64_t read_vector(self, int32_t index, int32_t i) except -1
    cdef int64_t read_unions(self, int32_t index, int32_t i, object types) except -1
    cdef int sort_by_key(self, int32_t index, Py_ssize_t base, Py_ssize_t count) except -1
    cdef object key_of(self, int32_t index, int64_t end_offset)

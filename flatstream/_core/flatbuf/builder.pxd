from libc.stdint cimport uint64_t

from flatstream._core.flatbuf.kinds cimport Kind
from flatstream._core.flatbuf.message_builder cimport MessageBuilder


cdef class Builder(MessageBuilder):
    cdef object _force_defaults
    # The length that the vector being built will have, if `has_vector_length`.
    cdef object _vector_length
    cdef bint has_vector_length
    # The end offsets of shared strings, or None.
    cdef object shared

    cdef int prepend_number(self, Kind kind, object x) except -1
    cdef int place_number(self, Kind kind, object x) except -1
    cdef int prepend_slot(self, Kind kind, object o, object x, object d) except -1
    cdef int mark_slot(self, object o) except -1
    cdef int prepend_offset(self, object off) except -1
    cdef int check_nested(self) except -1
    cdef int check_not_nested(self) except -1
    cdef int check_inline(self, object x) except -1
    cdef object close_vector(self)
    cdef object end_bytes(self, Py_ssize_t end_offset)
    cdef object finish(self, object root, bint size_prefix, object file_identifier)

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from flatstream._core.flatbuf.message cimport OpenTable
from flatstream._core.records.field_lookup cimport RecordTypes, Shape
from flatstream._core.stream.decoder cimport Decoder


cdef class RecordView:
    # A memoryview of the message that nobody else is given, so that nobody can release it; None if this was never made
    # by `open_message`, or was taken apart by the garbage collector, which comes to this member first. Nothing else may
    # be looked at then.
    cdef object payload
    cdef RecordTypes types
    cdef const Shape* shape
    # The record that this one is part of, and where: the number of the field, and of an element of it, or -1.
    cdef RecordView parent
    cdef Py_ssize_t field
    cdef Py_ssize_t element
    cdef const uint8_t* data
    cdef uint64_t size
    # Of a struct only its place, of which all bytes are in the message.
    cdef OpenTable table
    cdef int32_t number
    # How many tables deep it is; that of a root is 1.
    cdef int32_t depth
    # Of a root: where its frame begins in a stream, and its number; -1 if there is none.
    cdef int64_t offset
    cdef int64_t frame


cdef class VectorView:
    # Whose field it is.
    cdef RecordView record
    cdef Py_ssize_t field
    # Where the first element of the vector is in the message, and of a vector of unions the first of their types.
    cdef uint64_t start
    cdef uint64_t kinds
    # Which elements of it are shown: so many, from `first` in steps of `step`. All these are in the vector.
    cdef Py_ssize_t first
    cdef Py_ssize_t step
    cdef Py_ssize_t count


cdef class RecordIterator:
    cdef Decoder decoder
    cdef RecordTypes types
    cdef int32_t number
    cdef bint verify

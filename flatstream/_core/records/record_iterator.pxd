from libc.stdint cimport int32_t, int64_t

from flatstream._core.records.field_lookup cimport RecordTypes
from flatstream._core.records.record_filter cimport RecordFilter
from flatstream._core.records.record_view cimport RecordView
from flatstream._core.stream.decoder cimport Decoder


cdef class RecordIterator:
    cdef Decoder decoder
    cdef RecordTypes types
    # The number of the table.
    cdef int32_t number
    cdef bint verify
    # What happens at damage, an OnError; and whether it has stopped the iterator.
    cdef int mode
    cdef bint stopped
    # Whether messages with another file identifier are skipped, and how many were.
    cdef bint skipping
    cdef readonly unsigned long long others
    # Which records are given; None for all.
    cdef RecordFilter selected
    # Of a stream with several tables: the types and the number of each, by its file identifier as a number, 0 for the
    # table of all other messages. None if there is one table.
    cdef dict tables
    # Whether each message is given, or raises: the usual case, which takes a shorter way (R1).
    cdef bint is_plain

    cdef RecordView next_selected(self, Decoder decoder)
    cdef tuple table_of(self, object payload)
    cdef object other_error(self, object payload, Decoder decoder)


cdef RecordView open_message(
    RecordTypes types, int32_t number, object payload, bint verify, int64_t offset, int64_t frame
)

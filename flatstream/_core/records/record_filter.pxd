from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

from flatstream._core.records.record_view cimport RecordView
from flatstream._core.stream.decoder cimport Decoder


# How a step of a path is taken.
cdef enum StepKind:
    # Along the offset in a field of a table, to a table.
    STEP_TABLE
    # To a struct in a table or in a struct.
    STEP_STRUCT
    # Along the offset of a union whose type is that of the variant, to a table, a struct or a string.
    STEP_VARIANT_TABLE
    STEP_VARIANT_STRUCT
    STEP_VARIANT_STRING
    # The value itself.
    STEP_NUMBER
    STEP_STRING


cdef struct Step:
    StepKind kind
    # Whether the step begins in a struct; `entry` is then the offset in it, else that of the entry in the vtable.
    bint in_struct
    uint16_t entry
    # Of a union: the entry of its type, how that is stored, and the bits that it must have.
    uint16_t type_entry
    uint8_t type_kind
    uint64_t variant
    # Of a struct: its size.
    uint64_t size
    # Of a number: its kind, whether it may be absent, and its default.
    uint8_t number_kind
    bint optional
    uint64_t default_bits
    # The number of the field in the table that the path begins with, for errors.
    int32_t field


cdef class RecordFilter:
    """Which records of a stream an iterator gives: those for which all conditions hold, up to a number."""
    cdef list conditions
    # For each condition its steps, one condition after another; where each begins, and at last where they end.
    cdef Step* steps
    cdef list starts
    # How many records may be given, -1 for all, and how many were; how many messages were read, now and when `progress`
    # was called last.
    cdef int64_t limit
    cdef int64_t given
    cdef int64_t seen
    cdef int64_t reported
    cdef object progress

    cdef bint wants_more(self, Decoder decoder) except -1
    cdef bint takes(self, RecordView record) except -1
    cdef int report(self, Decoder decoder) except -1

from flatstream._core.arrow.exporter cimport ColumnData
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.column_reader.extract cimport Reading
from flatstream._core.column_reader.plan cimport Memory, Plan
from flatstream._core.flatbuf.verifier cimport Limits
from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.frame_batch cimport FrameBatch


cdef class ColumnReader(Exclusive):
    """Reads the messages of a decoder as columns."""
    cdef Decoder decoder
    cdef Plan plan
    cdef Plan filter_plan
    cdef object low
    cdef object high
    cdef bint skipping
    cdef bint verifying
    cdef Limits limits
    cdef object progress
    # The batch that is being read, from which of its frames on, and the number of its first frame.
    cdef FrameBatch batch
    cdef Py_ssize_t next_row
    cdef bint batch_is_ours
    cdef double last_turn
    cdef unsigned long long first_number
    # Raised by the next call.
    cdef object pending
    # Of the columns so far, and of all.
    cdef Py_ssize_t rows
    cdef Py_ssize_t max_rows
    cdef Py_ssize_t skipped
    cdef Py_ssize_t message_bytes
    cdef unsigned long long total_rows
    cdef readonly unsigned long long total_skipped
    # How many frames are looked at together, now and next.
    cdef Py_ssize_t window
    cdef Py_ssize_t next_window
    # Of those: how many messages were left out, and where and why reading ends.
    cdef Py_ssize_t left_out
    cdef Py_ssize_t stop_row
    cdef object stop_error
    # Working memory: which messages are read, and whether, whether they are damaged, and what may be repeated.
    cdef Memory chosen
    cdef Memory kept
    cdef Memory bad
    cdef Memory budget

    cdef int read_some(self, Py_ssize_t max_rows) except -1
    cdef int take_rows(self, Py_ssize_t max_rows) except -1
    cdef int expect_rows(self, Py_ssize_t count) noexcept
    cdef int own_choice(self, Reading* reading) except -1
    cdef Py_ssize_t row_of(self, const Reading* reading, Py_ssize_t i) noexcept
    cdef int stop_at(self, Reading* reading, Py_ssize_t i, object path, object reason) except -1
    cdef int verify_rows(self, Reading* reading) except -1
    cdef int filter_rows(self, Reading* reading) except -1
    cdef int read_rows(self, Plan plan, Reading* reading) except -1
    cdef int read_batch_rows(self, Plan plan, Reading* reading) except? -2
    cdef ColumnData finish(self)

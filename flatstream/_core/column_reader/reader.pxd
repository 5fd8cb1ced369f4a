from libc.stdint cimport uint32_t

from flatstream._core.arrow.exporter cimport ColumnData, ColumnType
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.column_reader.extract cimport BatchCursor
from flatstream._core.column_reader.plan cimport Memory, ReadPlan
from flatstream._core.flatbuf.verifier cimport Limits
from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.frame_batch cimport FrameBatch


cdef class ColumnReader(Exclusive):
    """Reads the messages of a decoder as columns."""
    cdef Decoder decoder
    cdef ReadPlan plan
    # A plan of the columns that are filtered by, or None; and the conditions on them.
    cdef ReadPlan filter_plan
    cdef list conditions
    # What happens at damage, an OnError; and whether it has stopped the reader.
    cdef int mode
    cdef bint skipping
    cdef bint stopped
    cdef bint verifying
    cdef Limits limits
    cdef object progress
    # The batch of frames that is being read, the frame to go on with, and the number in the stream of the first frame.
    cdef FrameBatch batch
    cdef Py_ssize_t next_row
    cdef unsigned long long first_number
    # The stream offset and number behind the last frame whose row was read or left out.
    cdef unsigned long long reached_offset
    cdef unsigned long long reached_number
    cdef bint has_reached
    # Whether no other thread can write to the batch's memory, so that it can be read without the GIL.
    cdef bint batch_is_private
    cdef double last_yield
    # An error that the next call raises.
    cdef object pending
    # What was read and is not passed on yet.
    cdef tuple kept
    # Of the columns that are being filled: rows, their limit and bytes of messages. And the total.
    cdef Py_ssize_t rows
    cdef Py_ssize_t max_rows
    cdef Py_ssize_t message_bytes
    cdef unsigned long long total_rows
    # How much of the decoder's losses came before this reader, and before the columns that are being filled.
    cdef unsigned long long first_skipped
    cdef unsigned long long first_lost
    cdef unsigned long long told_skipped
    cdef unsigned long long told_lost
    # The file identifier that messages may carry, or 0; whether messages with another one are skipped; how many were,
    # in the current window, for the columns that are being filled and in total.
    cdef uint32_t identifier
    cdef bint skipping_others
    # Of a table that is one of several in the stream: the identifiers of the others, as bytes. Then messages without an
    # identifier are not of a table that has one. Otherwise None.
    cdef bytes excluded
    cdef Py_ssize_t window_others
    cdef Py_ssize_t others
    cdef readonly unsigned long long total_others
    # How many frames are read together, now and next.
    cdef Py_ssize_t window
    cdef Py_ssize_t next_window
    # Of the current window: the frames of damaged messages that are skipped, or None; the frame that reading stops at,
    # and the error that stops it.
    cdef list left_out
    cdef Py_ssize_t stop_row
    cdef object window_error
    # Working memory. `selection`: frame, offset and length of each message that is left, if any was dropped; `frames`
    # points to the first third, and is NULL while the messages are those from `next_row` on.
    cdef Memory selection
    cdef long long* frames
    cdef Memory in_range
    cdef Memory damaged
    cdef Memory budget
    # With a column of frame numbers: the type of the columns with it, and the numbers so far as int64. Otherwise None.
    cdef ColumnType type_with_numbers
    cdef Memory numbers

    cdef tuple read_next(self, Py_ssize_t limit, bint read_all, bint one_batch)
    cdef int read_some(self, Py_ssize_t max_rows) except -1
    cdef int read_window(self, Py_ssize_t max_rows) except -1
    cdef int expect_rows(self, Py_ssize_t count) noexcept
    cdef int add_numbers(self, Py_ssize_t count) noexcept
    cdef int select_all(self, BatchCursor* cursor) except -1
    cdef int drop_marked(self, BatchCursor* cursor) noexcept
    cdef int leave_out(self, Py_ssize_t i) except -1
    cdef int tell_left_out(self, FrameBatch batch, list rows) except -1
    cdef Py_ssize_t row_of(self, Py_ssize_t i) noexcept
    cdef int stop_at(self, BatchCursor* cursor, Py_ssize_t i, object path, object reason) except -1
    cdef bint is_of_others(self, BatchCursor* cursor, Py_ssize_t i) noexcept
    cdef int check_identifiers(self, BatchCursor* cursor) except -1
    cdef int verify_rows(self, BatchCursor* cursor) except -1
    cdef int filter_rows(self, BatchCursor* cursor) except -1
    cdef int read_rows(self, ReadPlan plan, BatchCursor* cursor) except -1
    cdef int read_columns(self, ReadPlan plan, BatchCursor* cursor) except? -2
    cdef ColumnData finish(self)


cdef class ColumnIterator:
    """The batches of a reader, one after another."""
    cdef readonly ColumnReader _reader
    cdef object max_rows
    cdef bint one_batch
    cdef object make
    # Whether the last read found the end of the stream.
    cdef readonly bint _at_end

    cdef object read(self, make)

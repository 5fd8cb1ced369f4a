# cython: boundscheck=False, wraparound=False, cdivision=True
"""The reader of columns: batches of frames in, columns out.

`extract` appends the rows of each batch of frames to the columns. The reader decides what happens to damaged messages:
after a batch that has some, the columns are rolled back, and the batch is read again without them.
"""

from time import monotonic

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.exporter cimport ColumnData, ColumnType
from flatstream._core.base.checks cimport checked_int, exact_str
from flatstream._core.base.endian cimport load_u32
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.checksums.checksum cimport RELEASE_FROM
from flatstream._core.column_reader.column_memory cimport (
    clear_columns, make_room, mark_good, reserve, resize, roll_back, take_columns, take_memory,
)
from flatstream._core.column_reader.extract cimport (
    BatchCursor, describe_damage, open_batch, read_batch, reset_damage,
)
from flatstream._core.column_reader.plan cimport ReadPlan
from flatstream._core.column_reader.range_filter cimport conditions_on, mark_rows
from flatstream._core.column_reader.vtable_shapes cimport forget_shapes
from flatstream._core.flatbuf.layout cimport identifier_of
from flatstream._core.flatbuf.message cimport is_other
from flatstream._core.flatbuf.verifier cimport check_limits, verify_object
from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.frame_batch cimport FrameBatch
from flatstream._core.stream.input_buffer cimport MAX_CAPACITY
from flatstream._core.stream.losses cimport ON_ERROR_RAISE, ON_ERROR_STOP, on_error_of

from flatstream._core.stream.decoder import FIRST_FAILED
from flatstream.errors import FlatbufferError


cdef extern from "Python.h":
    void PyMem_RawFree(void* p) nogil

# A batch of columns ends after this many bytes of messages, even if it has few rows.
cdef Py_ssize_t MAX_BATCH_BYTES = 64 << 20

# The most frames that are read together: the working memory for this many stays in the CPU's caches.
cdef Py_ssize_t MAX_WINDOW = 8192

# From this many messages on they are read with the GIL released, even if they are small: it takes 20 us or more.
cdef Py_ssize_t RELEASE_FROM_ROWS = 4096

# The first window after a damaged message.
cdef Py_ssize_t RETRY_WINDOW = 32

# Memory is reserved for this many rows if the size of the source is unknown, and never for more bytes than this.
cdef Py_ssize_t EXPECTED_ROWS = 65536
cdef Py_ssize_t MAX_EXPECTED_BYTES = 4 << 30

# How long the GIL is held before it is offered to other threads. A thread that waits for it asks after 5 ms
# (sys.getswitchinterval), and only a release after that hands it over. Releasing more often gains nothing: we retake
# the GIL before a waiter wakes, and its timer restarts.
cdef double GIL_YIELD_SECONDS = 0.01

# How often a window is read again because of damaged messages. Once is enough if the memory does not change.
cdef int MAX_REREADS = 8


cdef class ColumnReader(Exclusive):
    """Reads the messages of a decoder as columns.

    Parameters
    ----------
    decoder : Decoder
        The source of the messages.
    plan : ReadPlan
        The fields to read. A plan serves one reader.
    filter_plan : ReadPlan, optional
        A plan of the columns that `where` is about. Only messages for which all conditions hold are read.
    where : list, optional
        The result of `parse_conditions`.
    verify : bool
        Whether each message is verified as a whole first.
    on_error : str, optional
        What happens at damage, see `StreamReader`; by default what the decoder does. Damaged messages are left out if
        it is "skip" or "resync".
    progress : callable, optional
        Called with the number of rows read and the offset in the stream, after each batch of frames.
    limits : tuple of int
        The limits of the verification: (max_depth, max_tables, max_apparent_size).
    on_other : {"raise", "skip"}
        What happens to a message with another file identifier than the schema's.
    excluded : bytes, optional
        The file identifiers of the other tables of the stream, one after another, if each message is of one table.
    numbers : str, optional
        The name of one more column, behind all others: the number of each row's frame in the stream, counted from 0 as
        `StreamReader.message_number` counts, as int64. Frames that are left out are counted too.
    """

    def __init__(
        self, decoder, plan, filter_plan=None, where=(), *, verify=False, on_error=None, progress=None,
        tuple limits not None=(64, 1_000_000, 2**31), on_other="raise", bytes excluded=None, str numbers=None
    ):
        conditions = type_with_numbers = None
        if not isinstance(decoder, Decoder):
            raise TypeError(f"reader must be a StreamReader, got {type(decoder).__name__}")
        for each in (plan, filter_plan):
            if each is not None and not (isinstance(each, ReadPlan) and (<ReadPlan>each).ready):
                raise TypeError(f"expected a ReadPlan, got {each!r:.100}")
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, got {type(progress).__name__}")
        if plan is None or self.plan is not None:
            raise TypeError("a ColumnReader has one plan, given once")
        if (<ReadPlan>plan).taken or filter_plan is not None and (
            (<ReadPlan>filter_plan).taken or filter_plan is plan
        ):
            raise ValueError("a plan belongs to one reader: make another one for this reader")
        mode = on_error_of(on_error, (<Decoder>decoder).own_mode)
        max_depth, max_tables, max_apparent_size = limits
        check_limits(max_depth, max_tables, max_apparent_size, &self.limits)
        if excluded is None:
            self.skipping_others = (<ReadPlan>plan).layout.check_on_other(on_other, (<ReadPlan>plan).table)
        else:
            if not isinstance(on_other, str) or on_other not in ("raise", "skip"):
                raise ValueError(f"on_other must be 'raise' or 'skip', got {on_other!r:.100}")
            self.skipping_others = on_other == "skip"
        self.excluded = excluded
        self.identifier = identifier_of((<ReadPlan>plan).layout, (<ReadPlan>plan).table)
        if numbers is not None:
            type_with_numbers = with_numbers((<ReadPlan>plan).type, numbers)
        if filter_plan is not None:
            conditions = conditions_on(filter_plan, list(where))
            if not conditions:
                raise ValueError("a plan of the columns to filter by needs conditions on them")
        # Check again: methods of the operands may have run, and may have used the plan or this reader.
        if self.plan is not None or (<ReadPlan>plan).taken or filter_plan is not None and (
            (<ReadPlan>filter_plan).taken
        ):
            raise ValueError("a plan belongs to one reader, and a reader has one plan")
        self.window = MAX_WINDOW
        self.mode = mode
        self.skipping = mode not in (ON_ERROR_RAISE, ON_ERROR_STOP)
        self.verifying = verify
        self.progress = progress
        self.decoder = decoder
        if self.decoder.losses is not None:
            self.first_skipped = self.told_skipped = self.decoder.losses.skipped
            self.first_lost = self.told_lost = self.decoder.losses.end()
        self.filter_plan = filter_plan
        self.conditions = conditions
        self.type_with_numbers = type_with_numbers
        self.plan = plan
        self.plan.taken = True
        if filter_plan is not None:
            self.filter_plan.taken = True

    @property
    def type(self):
        """The type of the columns: a struct of all."""
        self.check()
        return self.plan.type if self.type_with_numbers is None else self.type_with_numbers

    @property
    def skipped(self):
        """How many messages were left out because of damage."""
        self.check()
        return self.decoder.losses.skipped - self.first_skipped

    @property
    def lost_ranges(self):
        """Where they are, in stream offsets."""
        self.check()
        return self.decoder.losses.since(self.first_lost)

    @property
    def stop_error(self):
        """The error at which reading stopped, or None."""
        self.check()
        return self.decoder.stopped_by

    @property
    def reached(self):
        """The stream offset and the number of the frame behind the last one that was given, or left out, so far; None
        before the first. A damaged message that raises an error is not behind it.
        """
        self.check()
        return (self.reached_offset, self.reached_number) if self.has_reached else None

    def check(self):
        """Raises TypeError if this object was never completed."""
        if self.plan is None or self.decoder is None or self.decoder.losses is None:
            raise TypeError("ColumnReader.__init__ was not called")

    def read(self, max_rows, one_batch=False, make=None):
        """The next rows as columns, or None at the end.

        Parameters
        ----------
        max_rows : int or None
            The most rows to return; None for all that are left.
        one_batch : bool
            Whether to return after one read from the source.
        make : callable, optional
            Called with the result and `stop_error`; what it returns is returned instead. If it raises, as the handler
            of a signal does in it, the next call returns the same rows.

        Returns
        -------
        (ColumnData, int, list of (int, int), int) or None
            A struct of all columns; the number of messages that were left out because of damage, and where; and how
            many were skipped because of their file identifier.

        Raises
        ------
        See `StreamReader.read_batch`, and FlatbufferError for a damaged message. The rows before it are returned first,
        unless `max_rows` is None.
        """
        self.check()
        cdef Py_ssize_t limit = 0x7FFFFFFFFFFFFFFF
        if max_rows is not None:
            limit = checked_int("the number of rows", max_rows, 1, 0x7FFFFFFF)
        self.enter()
        try:
            if self.kept is None:
                self.kept = self.read_next(limit, max_rows is None, one_batch)
            found = self.kept
            if found is not None and make is not None:
                found = make(*found, self.decoder.stopped_by)
            self.kept = None
            return found
        finally:
            self.leave()

    cdef tuple read_next(self, Py_ssize_t limit, bint read_all, bint one_batch):
        """The next `limit` rows, or all that are left; None at the end."""
        self.max_rows = limit
        while self.pending is None:
            try:
                if not self.read_some(limit - self.rows):
                    break
            except Exception as error:
                self.pending = error
                break
            # Not without a row, which would be the end: a condition may leave out any number of messages.
            if not read_all and self.rows and (
                self.rows >= limit or self.message_bytes >= MAX_BATCH_BYTES or one_batch
            ):
                break
        # If all rows were asked for, the error is raised and the rows are lost: no later call would return them.
        if self.pending is not None and (read_all or not self.rows):
            error = self.pending
            self.pending = None
            if read_all:
                self.finish()
            raise error
        skipped = self.decoder.losses.skipped - self.told_skipped
        if not read_all and not self.rows and not skipped and not self.others:
            return None
        ranges = self.decoder.losses.since(self.told_lost) if skipped else []
        others = self.others
        columns = self.finish()
        self.told_skipped += <unsigned long long>skipped
        if skipped:
            self.told_lost = self.decoder.losses.end()
        return columns, skipped, ranges, others

    # A batch of frames

    cdef int read_some(self, Py_ssize_t max_rows) except -1:
        """Appends the rows of the next frames to the columns; 0 at the end. Sets `pending` to an error to be raised."""
        # With a stream in memory, no other statement of this loop runs Python code.
        PyErr_CheckSignals()
        now = monotonic()
        if now - self.last_yield > GIL_YIELD_SECONDS:
            self.last_yield = now
            with nogil:
                pass
        if self.stopped:
            return 0
        if self.batch is None:
            self.batch = self.decoder.next_batch(min(max_rows, MAX_WINDOW), MAX_CAPACITY, self.mode)
            if self.batch is None:
                return 0
            self.first_number = (
                self.decoder.delivered + self.decoder.refused - <unsigned long long>self.batch.starts.length
            )
            self.next_row = 0
            # Other memory can be written to by other threads while the GIL is released, so it is read with the GIL.
            self.batch_is_private = not self.batch.may_change or type(self.batch.buffer.obj) is bytes
            self.message_bytes += PyMemoryView_GET_BUFFER(self.batch.buffer).len
        self.read_window(max_rows)
        if self.progress is not None and self.batch is None:
            self.progress(self.total_rows, self.decoder.offset)
        return 1

    cdef int read_window(self, Py_ssize_t max_rows) except -1:
        """Appends the rows of the next frames of the batch, up to the first damaged message if it raises an error.

        Usually the window is the whole batch. After a damaged message it is small at first: if there are many of them,
        the frames read beyond each one are read again.
        """
        cdef FrameBatch batch = self.batch
        cdef Py_ssize_t first = self.next_row
        cdef Py_ssize_t end = first + min(batch.starts.length - first, self.window, max_rows)
        # Once per window. The cursor needs them until the end of this method.
        cdef const unsigned char[::1] data = batch.buffer
        cdef const long long[::1] offsets = batch.starts
        cdef const long long[::1] lengths = batch.sizes
        cdef BatchCursor cursor
        cdef object error = None, left_out
        cdef Py_ssize_t i
        open_batch(&cursor, data, offsets[first:end], lengths[first:end])
        self.frames = NULL
        self.next_window = 2 * self.window if self.window < MAX_WINDOW else self.window
        self.stop_row = end
        self.left_out = None
        self.window_error = None
        self.window_others = 0
        if self.identifier or self.excluded is not None:
            self.check_identifiers(&cursor)
        if self.verifying:
            self.verify_rows(&cursor)
        if self.filter_plan is not None:
            self.filter_rows(&cursor)
        if self.type_with_numbers is not None and make_room(&self.numbers, <size_t>cursor.count * sizeof(int64_t)):
            raise MemoryError(f"no memory for the numbers of {cursor.count} frames")
        self.read_rows(self.plan, &cursor)
        if self.type_with_numbers is not None:
            self.add_numbers(cursor.count)
        # All columns have the rows of this window. Nothing below raises an error.
        if not self.rows and cursor.count:
            self.expect_rows(cursor.count)
        self.rows += cursor.count
        self.total_rows += <unsigned long long>cursor.count
        if self.window_others and self.stop_row < end:
            # The messages behind the damaged one are read again.
            open_batch(&cursor, data, offsets[first:self.stop_row], lengths[first:self.stop_row])
            self.window_others = 0
            for i in range(cursor.count):
                self.window_others += self.is_of_others(&cursor, i)
        self.others += self.window_others
        self.total_others += <unsigned long long>self.window_others
        left_out = self.left_out
        self.left_out = None
        error = self.window_error
        self.window_error = None
        # Before a damaged message that raises an error.
        self.reached_offset = (
            batch.begin_of(self.stop_row) if self.stop_row < batch.starts.length else batch.frames_end
        )
        self.reached_number = self.first_number + <unsigned long long>self.stop_row
        self.has_reached = True
        if error is not None:
            # Go on behind the damaged message.
            first = self.stop_row
            self.stop_row += 1
            self.next_window = RETRY_WINDOW
            if self.mode == ON_ERROR_STOP:
                self.stopped = True
            else:
                self.pending = error
        self.window = self.next_window
        self.next_row = self.stop_row
        if self.next_row == batch.starts.length or self.stopped:
            self.batch = None
        if self.stopped:
            self.decoder.stop_before(
                error, batch.begin_of(first), batch.frames_end, batch.position_behind,
                <unsigned long long>(batch.starts.length - first),
                None if batch.states is None else batch.states[first],
            )
        if left_out is not None:
            self.tell_left_out(batch, left_out)
        return 0

    cdef int expect_rows(self, Py_ssize_t count) noexcept:
        """Reserves memory for the rest of the columns, as if it were like the first `count` rows."""
        cdef Decoder decoder = self.decoder
        cdef double factor, frames = <double>self.batch.starts.length, size = <double>self.message_bytes
        if decoder.chunk is None and decoder.readinto is None and decoder.read is None:
            factor = 1 + <double>(decoder.end - decoder.position) / size
        else:
            factor = min(<double>EXPECTED_ROWS / frames, <double>MAX_BATCH_BYTES / size)
        factor = min(factor, <double>self.max_rows / count, <double>MAX_EXPECTED_BYTES / size)
        if factor > 1:
            reserve(self.plan, 1.01 * factor)
        return 0

    cdef int add_numbers(self, Py_ssize_t count) noexcept:
        """Stores the frame numbers of the `count` rows of the window. There is room for them."""
        cdef int64_t* numbers = <int64_t*>(self.numbers.data + self.numbers.size)
        cdef int64_t first = <int64_t>self.first_number
        cdef Py_ssize_t i
        for i in range(count):
            numbers[i] = first + self.row_of(i)
        self.numbers.size += <size_t>count * sizeof(int64_t)
        return 0

    # Selected messages

    cdef int select_all(self, BatchCursor* cursor) except -1:
        """Copies the messages of the cursor to `selection`, where `drop_marked` can remove some."""
        cdef size_t size = <size_t>cursor.count * sizeof(long long)
        cdef Py_ssize_t i
        if self.frames is not NULL:
            return 0
        if resize(&self.selection, 3 * size):
            raise MemoryError("no memory to select messages")
        self.frames = <long long*>self.selection.data
        for i in range(cursor.count):
            self.frames[i] = self.next_row + i
        memcpy(self.selection.data + size, cursor.offsets, size)
        memcpy(self.selection.data + 2 * size, cursor.lengths, size)
        cursor.offsets = <long long*>(self.selection.data + size)
        cursor.lengths = <long long*>(self.selection.data + 2 * size)
        return 0

    cdef int drop_marked(self, BatchCursor* cursor) noexcept:
        """Removes the messages whose frame is marked with -1."""
        # The cursor's pointers are those into `selection`.
        cdef long long* offsets = <long long*>cursor.offsets
        cdef long long* lengths = <long long*>cursor.lengths
        cdef Py_ssize_t i, kept = 0
        for i in range(cursor.count):
            if self.frames[i] >= 0:
                self.frames[kept] = self.frames[i]
                offsets[kept] = offsets[i]
                lengths[kept] = lengths[i]
                kept += 1
        cursor.count = kept
        return 0

    cdef int leave_out(self, Py_ssize_t i) except -1:
        """Marks message `i` of the selection, which is damaged, for `drop_marked`."""
        if self.left_out is None:
            self.left_out = []
        self.left_out.append(self.frames[i])
        self.frames[i] = -1
        return 0

    cdef int tell_left_out(self, FrameBatch batch, list rows) except -1:
        """Accounts for the frames of damaged messages as lost."""
        cdef Py_ssize_t row
        # Two passes over the messages may have found them.
        rows.sort()
        for row in rows:
            self.decoder.losses.add(batch.begin_of(row), batch.end_of(row))
        return 0

    cdef Py_ssize_t row_of(self, Py_ssize_t i) noexcept:
        """Index in the batch of the frame of message `i`."""
        return self.next_row + i if self.frames is NULL else <Py_ssize_t>self.frames[i]

    cdef int stop_at(self, BatchCursor* cursor, Py_ssize_t i, object path, object reason) except -1:
        """Ends the window before message `i`, which is damaged."""
        cdef Py_ssize_t row = self.row_of(i)
        cdef FrameBatch batch = self.batch
        error = FlatbufferError(
            f"a message cannot be read: {path}: {reason}",
            offset=batch.begin_of(row),
            frame=self.first_number + <unsigned long long>row,
        )
        if not error.frame:
            error.add_note(FIRST_FAILED)
        self.window_error = error
        self.stop_row = row
        cursor.count = i
        return 0

    cdef bint is_of_others(self, BatchCursor* cursor, Py_ssize_t i) noexcept:
        """Whether message `i` carries another file identifier."""
        cdef const uint8_t* data = cursor.data + cursor.offsets[i]
        cdef uint64_t size = <uint64_t>cursor.lengths[i]
        cdef const uint8_t* other
        cdef Py_ssize_t k
        if self.excluded is None:
            return is_other(data, size, self.identifier)
        # No identifier is 1: it would be no printable ASCII.
        if not is_other(data, size, 1):
            return self.identifier != 0
        if self.identifier:
            return load_u32(data + 4) != self.identifier
        other = <const uint8_t*>PyBytes_AS_STRING(self.excluded)
        for k in range(0, PyBytes_GET_SIZE(self.excluded) - 3, 4):
            if load_u32(other + k) == load_u32(data + 4):
                return True
        return False

    cdef int check_identifiers(self, BatchCursor* cursor) except -1:
        """Skips the messages that carry another file identifier, or stops at the first."""
        cdef Py_ssize_t i
        for i in range(cursor.count):
            if not self.is_of_others(cursor, i):
                continue
            if self.skipping_others:
                self.window_others += 1
                self.select_all(cursor)
                self.frames[i] = -1
            elif self.skipping:
                # An error like any other.
                self.select_all(cursor)
                self.leave_out(i)
            else:
                reason = "the message is not of this table: it has another file identifier, or none"
                if self.excluded is None:
                    reason = self.plan.layout.reason_of_other(self.plan.table, cursor.data + cursor.offsets[i])
                return self.stop_at(cursor, i, self.plan.path_of(self.plan.root.number), reason)
        if self.frames is not NULL:
            self.drop_marked(cursor)
        return 0

    cdef int verify_rows(self, BatchCursor* cursor) except -1:
        """Skips the messages that the verifier rejects, or stops at the first."""
        cdef Py_ssize_t i
        cdef object failure
        for i in range(cursor.count):
            failure = verify_object(
                self.plan.layout.types, self.plan.table, cursor.data + cursor.offsets[i],
                <Py_ssize_t>cursor.lengths[i], &self.limits,
            )
            if failure is None:
                continue
            if not self.skipping:
                return self.stop_at(cursor, i, failure[0], failure[1])
            self.select_all(cursor)
            self.leave_out(i)
        if self.frames is NULL:
            return 0
        self.drop_marked(cursor)
        return 0

    cdef int filter_rows(self, BatchCursor* cursor) except -1:
        """Drops the messages for which not all conditions hold."""
        cdef Py_ssize_t i
        cdef uint8_t* keep
        self.read_rows(self.filter_plan, cursor)
        if not cursor.count:
            return 0
        self.select_all(cursor)
        if resize(&self.in_range, <size_t>cursor.count):
            raise MemoryError("no memory to select messages")
        keep = self.in_range.data
        mark_rows(self.filter_plan, self.conditions, keep, cursor.count, cursor.count >= RELEASE_FROM_ROWS)
        for i in range(cursor.count):
            if not keep[i]:
                self.frames[i] = -1
        self.drop_marked(cursor)
        clear_columns(self.filter_plan)
        return 0

    cdef int read_rows(self, ReadPlan plan, BatchCursor* cursor) except -1:
        """Reads all columns of a plan. Damaged messages are skipped, or the first one ends the window."""
        cdef Py_ssize_t i
        cdef int _attempt
        for _attempt in range(MAX_REREADS):
            forget_shapes(plan)
            mark_good(plan)
            if not cursor.count:
                return 0
            if reset_damage(cursor, &self.damaged, &self.budget, plan.has_vectors):
                raise MemoryError("no memory to read columns")
            if self.read_columns(plan, cursor):
                roll_back(plan)
                raise MemoryError(f"no memory for the columns of {cursor.count} messages")
            if not cursor.damaged_count:
                return 0
            roll_back(plan)
            if not self.skipping:
                self.stop_at(
                    cursor, cursor.first_damaged, plan.path_of(cursor.damaged_node), describe_damage(cursor)
                )
                continue
            self.select_all(cursor)
            for i in range(cursor.count):
                if cursor.damaged[i]:
                    self.leave_out(i)
            self.drop_marked(cursor)
        raise FlatbufferError("messages change while they are read")

    cdef int read_columns(self, ReadPlan plan, BatchCursor* cursor) except? -2:
        """Reads all columns of the messages of a cursor; -1 without memory."""
        cdef int failed
        if self.batch_is_private and (
            cursor.count >= RELEASE_FROM_ROWS or PyMemoryView_GET_BUFFER(self.batch.buffer).len >= RELEASE_FROM
        ):
            with nogil:
                failed = read_batch(cursor, plan.root)
        else:
            failed = read_batch(cursor, plan.root)
        return -1 if failed else 0

    cdef ColumnData finish(self):
        """Moves the columns out of the reader, which starts new ones."""
        cdef ColumnData columns, numbers
        try:
            columns = take_columns(self.plan, self.rows)
            if self.type_with_numbers is not None:
                numbers = ColumnData.__new__(ColumnData)
                numbers.type = self.type_with_numbers.children[len(columns.children)]
                numbers.length = self.rows
                numbers.data = take_memory(&self.numbers)
                numbers.children = ()
                columns.children = (*columns.children, numbers)
                columns.type = self.type_with_numbers
            return columns
        finally:
            # After a MemoryError too: the rest of the rows is incomplete.
            self.numbers.size = 0
            self.rows = 0
            self.others = 0
            self.message_bytes = 0

    def __dealloc__(self):
        PyMem_RawFree(self.selection.data)
        PyMem_RawFree(self.in_range.data)
        PyMem_RawFree(self.damaged.data)
        PyMem_RawFree(self.budget.data)
        PyMem_RawFree(self.numbers.data)


cdef ColumnType with_numbers(ColumnType type, str name):
    """The type of the columns with one of frame numbers behind them."""
    name = exact_str(name)
    for child in type.children:
        if (<ColumnType>child).name == name:
            raise ValueError(f"the column of frame numbers must have another name than the field {name!r:.200}")
    return ColumnType(
        type.name, type.format, type.nullable, (*type.children, ColumnType(name, "l", False)), metadata=type.metadata
    )


cdef class ColumnIterator:
    """The batches of a reader, one after another.

    It is compiled: between the end of the reading and the return to the caller no statement of Python runs, at which
    the handler of a signal could raise and lose a batch.

    Parameters
    ----------
    reader : ColumnReader
        What reads the messages.
    max_rows : int
        The most rows of a batch.
    one_batch : bool
        Whether a batch ends after one read from the source.
    make : callable
        Makes what is returned, see `ColumnReader.read`.
    """

    def __init__(self, ColumnReader reader not None, max_rows, one_batch, make):
        reader.check()
        self._reader = reader
        self.max_rows = max_rows
        self.one_batch = one_batch
        self.make = make

    def __iter__(self):
        return self

    def __next__(self):
        found = self.read(self.make)
        if found is None:
            raise StopIteration
        return found

    def next_data(self):
        """The columns of the next batch, or None at the end, for `export_stream`."""
        found = self.read(None)
        return None if found is None else found[0]

    cdef object read(self, make):
        if self._reader is None:
            raise TypeError(f"{type(self).__name__}.__init__ was not called")
        found = self._reader.read(self.max_rows, self.one_batch, make)
        self._at_end = found is None
        return found

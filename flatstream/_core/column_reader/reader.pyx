# cython: boundscheck=False, wraparound=False, cdivision=True
"""The reader of columns: batches of frames in, columns out.

It has each batch of frames read by `extract`, whose columns grow with every batch, and decides what becomes of messages
that are damaged. After a batch with such messages the columns are taken back to where they were, and the batch is read
again without those.
"""

import datetime
from time import monotonic

from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.math cimport INFINITY, nextafter
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from flatstream._core.arrow.exporter cimport ColumnData
from flatstream._core.base.buffers cimport Chunk
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.checksums.checksum cimport RELEASE_FROM
from flatstream._core.column_reader.extract cimport (
    Reading, begin_offsets, forget_shapes, make_room, open_roots, read_members, resize,
)
from flatstream._core.column_reader.plan cimport (
    OP_BINARY, OP_SCALAR, OP_STRING, OP_TABLE, OP_UNION_VECTOR, OP_VECTOR, Memory, Node, Plan,
)
from flatstream._core.flatbuf.verifier cimport (
    BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, ULONG, check_limits, verify_object,
)
from flatstream._core.stream.decoder cimport Decoder
from flatstream._core.stream.frame_batch cimport FrameBatch

from flatstream._core.stream.decoder import FIRST_FAILED
from flatstream.errors import ChecksumMismatchError, FlatbufferError, ValidationFailedError


cdef extern from "Python.h":
    void* PyMem_RawMalloc(size_t n) nogil
    void* PyMem_RawRealloc(void* p, size_t n) nogil
    void PyMem_RawFree(void* p) nogil

# What a message may have repeated inside of vectors: so many times its own bytes, and as many more. Whoever refers
# to the same string from every element of a vector stays far below it; who nests vectors that all lead to the same
# elements does not, and could otherwise have a few bytes fill all memory.
cdef uint64_t REPEATED = 256
cdef uint64_t REPEATED_MORE = 1 << 20

# A batch of columns ends after so many bytes of messages, however few rows that are.
cdef Py_ssize_t MOST_BYTES = 64 << 20

# How many frames are looked at together: the working memory for so many stays in the caches.
cdef Py_ssize_t FRAMES = 8192

# What is expected to come of a source whose size is not known, in rows; and at most of any, in bytes of messages.
cdef Py_ssize_t EXPECTED_ROWS = 65536
cdef Py_ssize_t MOST_EXPECTED = 4 << 30

# Memory up to this size is asked for in a way that has the C library keep it for the next columns.
cdef size_t MOST_KEPT = 32 << 20

cdef Py_ssize_t FEW_FRAMES = 32

# For how many seconds the interpreter's lock is kept before others get a turn. A thread that wants it asks for it after
# 5 ms (sys.getswitchinterval), and only then does giving it up mean that the other gets it. Given up more often, it is
# back before anybody has woken up, and those who wait begin to wait anew.
cdef double TURN = 0.01

# How often a batch of frames is read again because of damaged messages. Once is enough for memory that nobody changes.
cdef int MOST_TURNS = 8


# Columns


cdef int reserve_exactly(Memory* memory, size_t size) noexcept:
    cdef uint8_t* data
    if size > memory.capacity:
        data = <uint8_t*>PyMem_RawRealloc(memory.data, size)
        if data is not NULL:
            memory.data = data
            memory.capacity = size
    return 0


cdef size_t expected(const Memory* memory, double factor) noexcept:
    return <size_t>(factor * <double>memory.size) + 64 if memory.size else 0


cdef int reserve(Plan plan, double factor) noexcept:
    """Takes memory for columns that get so many times as long. Without it they grow as they can."""
    cdef Node* node
    cdef Py_ssize_t i
    cdef size_t total = 0
    for i in range(plan.node_count):
        node = plan.nodes[i]
        total += expected(&node.validity, factor) + expected(&node.offsets, factor) + expected(&node.data, factor)
    # The C library gives what is freed back to the system, unless it has seen that so much is taken and freed again:
    # then it keeps it. A page that is new costs more than the reading of the numbers on it (R2 of
    # asv_benchmarks/columns.py: 4 ns a message instead of 13).
    if total < MOST_KEPT:
        PyMem_RawFree(PyMem_RawMalloc(total))
    for i in range(plan.node_count):
        node = plan.nodes[i]
        reserve_exactly(&node.validity, expected(&node.validity, factor))
        reserve_exactly(&node.offsets, expected(&node.offsets, factor))
        reserve_exactly(&node.data, expected(&node.data, factor))
    return 0


cdef int mark_good(Plan plan) noexcept:
    """What the columns have now is good: `roll_back` returns to it."""
    cdef Py_ssize_t i
    cdef Node* node
    for i in range(plan.node_count):
        node = plan.nodes[i]
        node.good_count = node.count
        node.good_null_count = node.null_count
        node.good_size = node.data.size
        if node.op == OP_TABLE:
            forget_shapes(node)
    return 0


cdef int roll_back(Plan plan) noexcept:
    cdef Py_ssize_t i
    cdef Node* node
    for i in range(plan.node_count):
        node = plan.nodes[i]
        node.count = node.good_count
        node.null_count = node.good_null_count
        node.data.size = node.good_size
        if node.keeps_validity and node.emits:
            node.validity.size = <size_t>node.count
        if node.offsets.size:
            node.offsets.size = (<size_t>node.count + 1) * sizeof(int64_t)
    return 0


cdef Chunk take_memory(Memory* memory, size_t least):
    """The memory of a column as an object of its own; the column begins anew."""
    cdef Chunk chunk = Chunk(0)
    cdef uint8_t* data
    if make_room(memory, least if least > memory.size else 0):
        raise MemoryError("no memory for a column")
    # What was reserved ahead is given back, where it is much.
    if memory.capacity - memory.size > memory.size // 4 + 64:
        data = <uint8_t*>PyMem_RawRealloc(memory.data, max(memory.size, least, <size_t>1))
        if data is not NULL:
            memory.data = data
            memory.capacity = max(memory.size, least, <size_t>1)
    if memory.data is not NULL:
        PyMem_RawFree(chunk.data)
        chunk.data = memory.data
        chunk.capacity = <Py_ssize_t>memory.capacity
    memory.data = NULL
    memory.size = 0
    memory.capacity = 0
    return chunk


cdef ColumnData take_column(Plan plan, Node* node):
    cdef ColumnData column = ColumnData.__new__(ColumnData), inner
    cdef Node* child = node.child
    cdef list children = []
    column.type = plan.types[node.number]
    column.length = node.count
    column.null_count = node.null_count
    if node.null_count:
        column.validity = take_memory(&node.validity, 0)
    node.validity.size = 0
    if node.op == OP_SCALAR or node.op == OP_STRING or node.op == OP_BINARY:
        column.data = take_memory(&node.data, 0)
    if node.op == OP_STRING or node.op == OP_BINARY or node.op == OP_VECTOR or node.op == OP_UNION_VECTOR:
        node.rows = 0
        if begin_offsets(node):
            raise MemoryError("no memory for a column")
        column.offsets = take_memory(&node.offsets, 0)
    while child is not NULL:
        inner = take_column(plan, child)
        children.append(inner)
        child = child.next
    column.children = tuple(children)
    node.count = 0
    node.null_count = 0
    return column


# Filters


cdef int choose(Node* node, object low, object high, uint8_t* keep, Py_ssize_t count) except -1:
    """Notes which rows of a column of numbers are in a range: from `low` to `high` with both, of reals without."""
    cdef Py_ssize_t i
    cdef const uint8_t* data = node.data.data
    cdef double real_low = 0, real_high = 0, real
    cdef int64_t least = 0, most = 0, number
    cdef uint64_t unsigned_least = 0, unsigned_most = 0
    cdef bint unbounded
    if node.kind == FLOAT or node.kind == DOUBLE:
        unbounded = high is None
        real_low = low
        real_high = 0 if unbounded else high
        for i in range(count):
            real = (<const float*>data)[i] if node.kind == FLOAT else (<const double*>data)[i]
            # Not true of NaN.
            keep[i] = real_low <= real and (unbounded or real < real_high)
    elif low > high:
        memset(keep, 0, <size_t>count)
    elif node.kind == ULONG:
        unsigned_least = low
        unsigned_most = high
        for i in range(count):
            keep[i] = unsigned_least <= (<const uint64_t*>data)[i] <= unsigned_most
    else:
        least = low
        most = high
        for i in range(count):
            number = signed_at(node, i)
            keep[i] = least <= number <= most
    if node.keeps_validity:
        for i in range(count):
            keep[i] &= node.validity.data[i]
    return 0


cdef inline int64_t signed_at(const Node* node, Py_ssize_t i) noexcept nogil:
    """A number of at most 64 bits, or of less if it is unsigned."""
    cdef const uint8_t* data = node.data.data
    if node.width == 8:
        return (<const int64_t*>data)[i]
    if node.width == 4:
        return (<const int32_t*>data)[i] if node.kind == INT else <int64_t>(<const uint32_t*>data)[i]
    if node.width == 2:
        return (<const int16_t*>data)[i] if node.kind == SHORT else <int64_t>(<const uint16_t*>data)[i]
    return (<const int8_t*>data)[i] if node.kind == BYTE else <int64_t>data[i]


cdef tuple range_of(int kind, int width):
    """The smallest and the largest number of an integer type."""
    # Of Python, which has room for all of them.
    cdef object end = 2 ** <object>(8 * width)
    if kind == BYTE or kind == SHORT or kind == INT or kind == LONG:
        return -(end // 2), end // 2 - 1
    return 0, end - 1


cdef object limit_of(object value, str name, int kind):
    """A limit of a filter as a number: an int, or a float that is none."""
    # The letter of NumPy's type, if it has one. Not everything of NumPy that has `__float__` is a number: a time gives
    # the count of its unit, whichever that is, and some give an error that says nothing of limits.
    letter = getattr(getattr(value, "dtype", None), "kind", None)
    if (letter is None or letter in ("b", "i", "u", "f")) and not isinstance(value, (str, bytes, bytearray)):
        try:
            if letter == "b":
                return int(value)
            if letter != "f" and hasattr(type(value), "__index__"):
                return value.__index__()
            if isinstance(value, float) or hasattr(type(value), "__float__"):
                number = float(value)
                if number != number:
                    raise ValueError(f"where: the {name} end of the range is NaN")
                return number
        except TypeError:
            # Of arrays with more than one element, say.
            pass
    shown = str(value.dtype) if letter in ("m", "M") else type(value).__name__
    hint = ""
    if letter in ("m", "M") or isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
        hint = ": a time is its integer in the unit of the field"
    elif isinstance(value, str):
        hint = ": an enum is its number, and a time its integer in the unit of the field"
    raise TypeError(f"where: the {name} end of the range must be a number or None, got {shown}{hint}")


def whole_limits(low, high, int kind, int width):
    """The smallest and the largest integer of a type that are in a half-open range; the first is larger if none is."""
    least, most = range_of(kind, width)
    if low is not None:
        # The first integer that is not below.
        if isinstance(low, float):
            if low == float("inf"):
                return 1, 0
            low = least if low == -float("inf") else -int(-low // 1)
        least = max(least, low)
    if high is not None:
        if isinstance(high, float):
            if high == -float("inf"):
                return 1, 0
            high = most + 1 if high == float("inf") else -int(-high // 1)
        most = min(most, high - 1)
    return (least, most) if least <= most else (1, 0)


cdef object round_up(object number):
    """The smallest float that is not less than a number."""
    cdef double most = 1.7976931348623157e308
    try:
        real = float(number)
    except OverflowError:
        return INFINITY if number > 0 else -most
    return nextafter(real, INFINITY) if real < number else real


def real_limits(low, high):
    """The ends of a half-open range as floats; None for a high end that is open."""
    return -INFINITY if low is None else round_up(low), None if high is None else round_up(high)


cdef class ColumnReader(Exclusive):
    """Reads the messages of a decoder as columns.

    Parameters
    ----------
    decoder : Decoder
        Gives the messages.
    plan : Plan
        What is read of them. A plan belongs to one reader.
    filter_plan : Plan, optional
        Has one column of numbers; only messages where it is at least `low` and less than `high` are read.
    low, high : number, optional
        The ends of that range.
    verify : bool
        Whether each message is verified as a whole first.
    skip : bool
        Whether damaged messages are left out and counted, instead of raised.
    progress : callable, optional
        Called with the number of rows read and the offset in the stream, after each batch of frames.
    """

    def __init__(
        self, decoder, plan, filter_plan=None, low=None, high=None, *, verify=False, skip=False, progress=None
    ):
        cdef Node* node
        if not isinstance(decoder, Decoder):
            raise TypeError(f"reader must be a StreamReader, got {type(decoder).__name__}")
        for each in (plan, filter_plan):
            if each is not None and not (isinstance(each, Plan) and (<Plan>each).ready):
                raise TypeError(f"expected a Plan, got {each!r:.100}")
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, got {type(progress).__name__}")
        if plan is None or self.plan is not None:
            raise TypeError("a ColumnReader has one plan, given once")
        if (<Plan>plan).taken or filter_plan is not None and ((<Plan>filter_plan).taken or filter_plan is plan):
            raise ValueError("a plan belongs to one reader: make another for this one")
        check_limits(64, 1_000_000, 2**31, &self.limits)
        if filter_plan is not None:
            node = the_output(filter_plan)
            if node.op != OP_SCALAR:
                raise ValueError(
                    f"where: {(<Plan>filter_plan).path_of(node.number)} is no number, and has no range to be in"
                )
            low = None if low is None else limit_of(low, "low", node.kind)
            high = None if high is None else limit_of(high, "high", node.kind)
            if node.kind == FLOAT or node.kind == DOUBLE:
                self.low, self.high = real_limits(low, high)
            else:
                self.low, self.high = whole_limits(low, high, node.kind, <int>node.width)
        # Once more: a limit's own methods may have run.
        if self.plan is not None or (<Plan>plan).taken or filter_plan is not None and (<Plan>filter_plan).taken:
            raise ValueError("a plan belongs to one reader, and a reader has one plan")
        self.window = FRAMES
        self.skipping = skip
        self.verifying = verify
        self.progress = progress
        self.decoder = decoder
        self.filter_plan = filter_plan
        self.plan = plan
        self.plan.taken = True
        if filter_plan is not None:
            self.filter_plan.taken = True

    @property
    def type(self):
        """The type of the columns: a struct of all."""
        self.check()
        return self.plan.type

    def check(self):
        """Raises TypeError if this object was never completed."""
        if self.plan is None or self.decoder is None:
            raise TypeError("ColumnReader.__init__ was not called")

    def read(self, max_rows, one_batch=False):
        """The next rows as columns, or None at the end.

        Parameters
        ----------
        max_rows : int or None
            At most this many; None for all that there are.
        one_batch : bool
            Not more than what one reading from the source gives.

        Returns
        -------
        (ColumnData, int) or None
            A struct of all columns, and how many messages were left out on the way.

        Raises
        ------
        See `StreamReader.read_batch`, and FlatbufferError for a damaged message. Rows before it are given first, unless
        all were asked for.
        """
        self.check()
        cdef Py_ssize_t most = 0x7FFFFFFFFFFFFFFF
        if max_rows is not None:
            if not isinstance(max_rows, int) or isinstance(max_rows, bool):
                raise TypeError(f"the number of rows must be an int, got {type(max_rows).__name__}: {max_rows!r:.100}")
            if not 1 <= max_rows <= 2**31 - 1:
                raise ValueError(f"the number of rows must be from 1 to {2**31 - 1}, got {max_rows}")
            most = max_rows
        self.enter()
        try:
            self.max_rows = most
            while self.pending is None:
                try:
                    if not self.read_some(most - self.rows):
                        break
                except Exception as error:
                    self.pending = error
                    break
                if max_rows is not None and (
                    self.rows >= most or self.message_bytes >= MOST_BYTES or one_batch and self.rows
                ):
                    break
            # Of a reader of all rows, the caller gets the error and no rows: there is no later call.
            if self.pending is not None and (max_rows is None or not self.rows):
                error = self.pending
                self.pending = None
                if max_rows is None:
                    self.finish()
                raise error
            if max_rows is not None and not self.rows and not self.skipped:
                return None
            skipped = self.skipped
            return self.finish(), skipped
        finally:
            self.leave()

    # A batch of frames

    cdef int read_some(self, Py_ssize_t max_rows) except -1:
        """Adds the rows of the next frames to the columns; 0 at the end. What is to be raised is left in `pending`."""
        # Nothing else here may run any Python, for as long as a stream in memory lasts.
        PyErr_CheckSignals()
        moment = monotonic()
        if moment - self.last_turn > TURN:
            self.last_turn = moment
            with nogil:
                pass
        if self.batch is None:
            try:
                self.batch = self.decoder.read_batch(min(max_rows, FRAMES))
            except (ChecksumMismatchError, ValidationFailedError):
                # Both are about a frame that was read whole, and passed over.
                if not self.skipping or self.decoder.failure is not None:
                    raise
                self.skipped += 1
                self.total_skipped += 1
                return 1
            if self.batch is None:
                return 0
            self.first_number = (
                self.decoder.delivered + self.decoder.refused - <unsigned long long>self.batch.starts.length
            )
            self.next_row = 0
            # What others could write to while the interpreter's lock is not held is read with it.
            self.batch_is_ours = self.decoder.chunk is not None or type(self.batch.buffer.obj) is bytes
            self.message_bytes += PyMemoryView_GET_BUFFER(self.batch.buffer).len
        self.take_rows(max_rows)
        if self.progress is not None and self.batch is None:
            self.progress(self.total_rows, self.decoder.offset)
        return 1

    cdef int take_rows(self, Py_ssize_t max_rows) except -1:
        """Adds what is left of the batch of frames, up to the first damaged message if that is to be raised.

        Behind a damaged message only a few are read at a time at first: if there are many such messages, what was read
        beyond each of them is read again.
        """
        cdef FrameBatch batch = self.batch
        cdef Py_ssize_t first = self.next_row
        cdef Reading reading
        cdef object error = None
        memset(&reading, 0, sizeof(Reading))
        reading.base = <const uint8_t*>PyMemoryView_GET_BUFFER(batch.buffer).buf
        reading.starts = batch.starts.data + first
        reading.sizes = batch.sizes.data + first
        reading.count = min(batch.starts.length - first, self.window, max_rows)
        self.next_window = 2 * self.window if self.window < FRAMES else self.window
        self.stop_row = first + reading.count
        self.left_out = 0
        self.stop_error = None
        if self.verifying:
            self.verify_rows(&reading)
        if self.filter_plan is not None:
            self.filter_rows(&reading)
        self.read_rows(self.plan, &reading)
        # Everything went well: now it counts.
        if not self.rows and reading.count:
            self.expect_rows(reading.count)
        self.rows += reading.count
        self.total_rows += <unsigned long long>reading.count
        self.skipped += self.left_out
        self.total_skipped += <unsigned long long>self.left_out
        error = self.stop_error
        self.stop_error = None
        if error is not None:
            # Past the message that it is about.
            self.stop_row += 1
            self.next_window = FEW_FRAMES
            self.pending = error
        self.window = self.next_window
        self.next_row = self.stop_row
        if self.next_row == batch.starts.length:
            self.batch = None
        return 0

    cdef int expect_rows(self, Py_ssize_t count) noexcept:
        """Takes memory for what is to come, if the rest of it is like the first `count` rows."""
        cdef Decoder decoder = self.decoder
        cdef double factor, frames = <double>self.batch.starts.length, size = <double>self.message_bytes
        if decoder.chunk is None and decoder.readinto is None and decoder.read is None:
            factor = 1 + <double>(decoder.end - decoder.position) / size
        else:
            factor = min(<double>EXPECTED_ROWS / frames, <double>MOST_BYTES / size)
        factor = min(factor, <double>self.max_rows / count, <double>MOST_EXPECTED / size)
        if factor > 1:
            reserve(self.plan, 1.01 * factor)
        return 0

    cdef int own_choice(self, Reading* reading) except -1:
        """Has the choice of messages be in memory of our own, where it can become smaller."""
        cdef size_t size = <size_t>reading.count * sizeof(long long)
        cdef long long* rows
        cdef Py_ssize_t i
        if reading.rows is not NULL:
            return 0
        if resize(&self.chosen, 3 * size):
            raise MemoryError("no memory for a choice of messages")
        rows = <long long*>self.chosen.data
        for i in range(reading.count):
            rows[i] = self.next_row + i
        memcpy(self.chosen.data + size, reading.starts, size)
        memcpy(self.chosen.data + 2 * size, reading.sizes, size)
        reading.rows = rows
        reading.starts = <long long*>(self.chosen.data + size)
        reading.sizes = <long long*>(self.chosen.data + 2 * size)
        return 0

    cdef Py_ssize_t row_of(self, const Reading* reading, Py_ssize_t i) noexcept:
        """Which of the frames of the batch message `i` is."""
        return self.next_row + i if reading.rows is NULL else <Py_ssize_t>reading.rows[i]

    cdef int stop_at(self, Reading* reading, Py_ssize_t i, object path, object reason) except -1:
        """Has reading end before message `i`, which is damaged."""
        cdef Py_ssize_t row = self.row_of(reading, i)
        cdef FrameBatch batch = self.batch
        # Every header of a frame has the same size, so the first tells where any begins.
        error = FlatbufferError(
            f"a message cannot be read: {path}: {reason}",
            offset=batch.stream_offset + batch.starts.data[row] - batch.starts.data[0],
            frame=self.first_number + <unsigned long long>row,
        )
        if not error.frame:
            error.add_note(FIRST_FAILED)
        self.stop_error = error
        self.stop_row = row
        reading.count = i
        return 0

    cdef int verify_rows(self, Reading* reading) except -1:
        """Leaves out, or stops at, what is no message of the schema."""
        cdef Py_ssize_t i
        cdef object refusal
        for i in range(reading.count):
            refusal = verify_object(
                self.plan.layout.types, self.plan.table, reading.base + reading.starts[i],
                <Py_ssize_t>reading.sizes[i], &self.limits,
            )
            if refusal is None:
                continue
            if not self.skipping:
                return self.stop_at(reading, i, refusal[0], refusal[1])
            self.own_choice(reading)
            reading.rows[i] = -1
        if reading.rows is NULL:
            return 0
        self.left_out += drop(reading)
        return 0

    cdef int filter_rows(self, Reading* reading) except -1:
        """Leaves out what is not in the range."""
        cdef Node* node = the_output(self.filter_plan)
        cdef Py_ssize_t i
        cdef uint8_t* keep
        self.read_rows(self.filter_plan, reading)
        if not reading.count:
            return 0
        self.own_choice(reading)
        if resize(&self.kept, <size_t>reading.count):
            raise MemoryError("no memory for a choice of messages")
        keep = self.kept.data
        choose(node, self.low, self.high, keep, reading.count)
        for i in range(reading.count):
            if not keep[i]:
                reading.rows[i] = -1
        drop(reading)
        empty(self.filter_plan)
        return 0

    cdef int read_rows(self, Plan plan, Reading* reading) except -1:
        """Reads all columns of a plan. Messages that are damaged are left out, or end the reading."""
        cdef Py_ssize_t i
        cdef int _turn
        for _turn in range(MOST_TURNS):
            mark_good(plan)
            if not reading.count:
                return 0
            if resize(&self.bad, <size_t>reading.count) or (
                plan.counts and resize(&self.budget, <size_t>reading.count * sizeof(uint64_t))
            ):
                raise MemoryError("no memory to read columns")
            memset(self.bad.data, 0, <size_t>reading.count)
            reading.bad = self.bad.data
            reading.bad_count = 0
            reading.row = -1
            if plan.counts:
                reading.budget = <uint64_t*>self.budget.data
                for i in range(reading.count):
                    reading.budget[i] = REPEATED * <uint64_t>reading.sizes[i] + REPEATED_MORE
            if self.read_batch_rows(plan, reading):
                roll_back(plan)
                raise MemoryError(f"no memory for the columns of {reading.count} messages")
            if not reading.bad_count:
                return 0
            roll_back(plan)
            if not self.skipping:
                self.stop_at(reading, reading.row, plan.path_of(reading.node), describe(reading))
                continue
            self.own_choice(reading)
            for i in range(reading.count):
                if reading.bad[i]:
                    reading.rows[i] = -1
            self.left_out += drop(reading)
        raise FlatbufferError("messages change while they are read")

    cdef int read_batch_rows(self, Plan plan, Reading* reading) except? -2:
        """Reads all columns of the messages there are; -1 without memory."""
        cdef Node* root = plan.root
        cdef int failed
        if self.batch_is_ours and PyMemoryView_GET_BUFFER(self.batch.buffer).len >= RELEASE_FROM:
            with nogil:
                failed = open_roots(reading, root) or read_members(reading, root)
        else:
            failed = open_roots(reading, root) or read_members(reading, root)
        return -1 if failed else 0

    cdef ColumnData finish(self):
        """The columns so far, which begin anew."""
        cdef ColumnData whole = ColumnData.__new__(ColumnData), column
        cdef list children = []
        try:
            for number in self.plan.outputs:
                column = take_column(self.plan, self.plan.nodes[<Py_ssize_t>number])
                # Not a comprehension: what Cython 3.3 makes of one releases an element twice if memory runs out.
                children.append(column)
            whole.type = self.plan.type
            whole.length = self.rows
            whole.children = tuple(children)
            return whole
        finally:
            # Also after an error, for want of memory: what is left of the rows is incomplete.
            empty(self.plan)
            self.rows = 0
            self.skipped = 0
            self.message_bytes = 0

    def __dealloc__(self):
        PyMem_RawFree(self.chosen.data)
        PyMem_RawFree(self.kept.data)
        PyMem_RawFree(self.bad.data)
        PyMem_RawFree(self.budget.data)


cdef Py_ssize_t drop(Reading* reading) noexcept:
    """Leaves out the messages that are marked; returns how many."""
    cdef Py_ssize_t i, kept = 0
    for i in range(reading.count):
        if reading.rows[i] >= 0:
            reading.rows[kept] = reading.rows[i]
            reading.starts[kept] = reading.starts[i]
            reading.sizes[kept] = reading.sizes[i]
            kept += 1
    i = reading.count - kept
    reading.count = kept
    return i


cdef str describe(const Reading* reading):
    """What is wrong with a damaged message."""
    what = (<bytes>reading.what).decode()
    size = reading.sizes[reading.row]
    if reading.needed:
        return f"{what} at byte {reading.place} needs {reading.needed} bytes, but the message ends at {size}"
    return f"{what} at byte {reading.place}"


cdef Node* the_output(Plan plan) except NULL:
    """The node of a plan's only column."""
    if len(plan.outputs) != 1:
        raise ValueError(f"expected a plan with one column, got {len(plan.outputs)}")
    return plan.nodes[<Py_ssize_t>plan.outputs[0]]


cdef int empty(Plan plan) noexcept:
    """Has all columns begin anew, in the memory they have."""
    cdef Py_ssize_t i
    cdef Node* node
    for i in range(plan.node_count):
        node = plan.nodes[i]
        node.count = 0
        node.null_count = 0
        node.validity.size = 0
        node.offsets.size = 0
        node.data.size = 0
    return 0

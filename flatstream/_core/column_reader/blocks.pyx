# cython: boundscheck=False, wraparound=False, cdivision=True
"""Blocks of frames, and the range of fields in each: what the index of a stream has.

    frames of a stream   | d | f f f f f f f f | f f f f f f f f | f f x f f f f f f | f f f
    blocks                     block             block             (gap)  block        being filled
    runs                     +-------------------------------------+      +----------------- ...

A block ends with the frame with which it has `block_size` bytes. A frame whose message cannot be read (x) is in no
block, nor what was lost around damage in the stream: a gap ends the run of blocks before it. A block before a gap that
has less than `least_size` bytes becomes a part of the gap, so that damage cannot make an index large.

The numbers of a field come from the columns of a plan, of which no more is kept than is needed for some thousand
frames. A missing number counts as its default; nulls and NaN count as nulls.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from flatstream._core.arrow.exporter cimport ColumnType
from flatstream._core.base.checks cimport checked_int
from flatstream._core.base.endian cimport load_u32
from flatstream._core.checksums.kernel cimport RELEASE_FROM, checksum_kernel
from flatstream._core.checksums.xxh3 cimport xxh3_64_kernel
from flatstream._core.column_reader.column_memory cimport clear_columns, make_room, resize
from flatstream._core.column_reader.extract cimport read_batch, reset_damage
from flatstream._core.column_reader.plan cimport OP_SCALAR
from flatstream._core.column_reader.statistics cimport Found, scan
from flatstream._core.column_reader.vtable_shapes cimport forget_shapes
from flatstream._core.flatbuf.layout cimport identifier_of
from flatstream._core.flatbuf.message cimport is_other
from flatstream._core.stream.frame_batch cimport FrameBatch

from flatstream._core.checksums.xxh3 import xxh3_64


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil

# The most frames that are read together, as in the reader of columns; and behind a damaged message.
cdef enum:
    MAX_WINDOW = 8192
    RETRY_WINDOW = 32

# How many bytes of a frame are hashed at most.
MAX_HASHED = 4096
cdef Py_ssize_t HASHED = 4096

FORM_NAMES = {SIGNED: "signed", UNSIGNED: "unsigned", FLOATING: "floating"}


cdef int widen(FieldRange* field, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    """Widens the range of a field by `count` rows of its column, from row `first` on."""
    cdef Node* node = field.node
    cdef const uint8_t* valid = node.validity.data if node.keeps_validity and node.null_count else NULL
    cdef Found found
    memset(&found, 0, sizeof(Found))
    scan(field.format, node.data.data, valid, first, first + count, &found)
    field.nulls += <uint32_t>(count - found.count)
    if not found.count:
        return 0
    if field.form == SIGNED:
        if not field.values or found.low_int < field.low.signed_value:
            field.low.signed_value = found.low_int
        if not field.values or found.high_int > field.high.signed_value:
            field.high.signed_value = found.high_int
    elif field.form == UNSIGNED:
        if not field.values or found.low_uint < field.low.unsigned_value:
            field.low.unsigned_value = found.low_uint
        if not field.values or found.high_uint > field.high.unsigned_value:
            field.high.unsigned_value = found.high_uint
    else:
        if not field.values or found.low_float < field.low.floating_value:
            field.low.floating_value = found.low_float
        if not field.values or found.high_float > field.high.floating_value:
            field.high.floating_value = found.high_float
    field.values += <uint32_t>found.count
    return 0


cdef int append_number(Memory* memory, uint64_t number, size_t width) except -1:
    """Appends a number to an array; on a machine of either byte order, as its own."""
    cdef uint32_t short_number = <uint32_t>number
    if make_room(memory, width):
        raise MemoryError("no memory for the blocks of an index")
    if width == 4:
        memcpy(memory.data + memory.size, &short_number, 4)
    else:
        memcpy(memory.data + memory.size, &number, 8)
    memory.size += width
    return 0


cdef bytes take_bytes(Memory* memory):
    """The content of an array, which is empty afterwards."""
    made = PyBytes_FromStringAndSize(<const char*>memory.data, <Py_ssize_t>memory.size)
    memory.size = 0
    return made


@cython.auto_pickle(False)
cdef class BlockBuilder(FrameWatcher):
    """Cuts a stream of frames into blocks.

    Parameters
    ----------
    plan : ReadPlan
        The fields: each a number. The builder uses it alone.
    block_size, least_size : int
        How many bytes a block has at least, and before a gap.
    excluded : bytes, optional
        As of `ColumnReader`.
    offset, number : int
        The stream offset, and the number, of the first frame that it gets.

    Attributes
    ----------
    forms : list of str
        Of each field: "signed", "unsigned" or "floating". The ranges have int64, uint64 or float64.
    waiting_blocks : int
        How many blocks `take` would return.
    seen_to : tuple of int
        Behind the last frame that was seen: its stream offset and number.
    failure : Exception or None
        After an error in what a writer called: nothing is seen any more.

    Notes
    -----
    One thread at a time may use it.
    """

    def __init__(self, plan, *, block_size=65536, least_size=16384, excluded=None, offset=0, number=0):
        cdef Node* node
        cdef Py_ssize_t i
        if self.plan is not None:
            raise TypeError("BlockBuilder.__init__ must not be called twice")
        if not isinstance(plan, ReadPlan) or not (<ReadPlan>plan).ready:
            raise TypeError(f"expected a ReadPlan, got {plan!r:.100}")
        if (<ReadPlan>plan).taken:
            raise ValueError("a plan belongs to one reader: make another one for this builder")
        if excluded is not None and not isinstance(excluded, bytes):
            raise TypeError(f"excluded must be bytes, got {type(excluded).__name__}")
        self.block_size = checked_int("block_size", block_size, 1, 1 << 40)
        self.least_size = checked_int("least_size", least_size, 0, 1 << 40)
        self.next_offset = self.run_begin = self.block_begin = checked_int("offset", offset, 0, 2**62)
        self.next_number = self.run_number = checked_int("number", number, 0, 2**62)
        numbers = (<ReadPlan>plan).outputs
        for number in numbers:
            node = (<ReadPlan>plan).nodes[<Py_ssize_t>number]
            if node.op != OP_SCALAR or node.in_vector or (<ReadPlan>plan).enum_names:
                raise TypeError("an index has the ranges of numbers only, each at a path of its own")
        self.fields = <FieldRange*>PyMem_RawCalloc(<size_t>len(numbers) + 1, sizeof(FieldRange))
        if self.fields is NULL:
            raise MemoryError("no memory for the fields of an index")
        self.field_count = len(numbers)
        for i in range(self.field_count):
            node = (<ReadPlan>plan).nodes[<Py_ssize_t>numbers[i]]
            self.fields[i].node = node
            format = (<ColumnType>(<ReadPlan>plan).types[node.number]).format
            self.fields[i].format = <char>ord(format)
            self.fields[i].form = FLOATING if format in "fg" else UNSIGNED if format == "L" else SIGNED
        self.identifier = identifier_of((<ReadPlan>plan).layout, (<ReadPlan>plan).table)
        self.excluded = excluded
        self.runs = []
        self.plan = plan
        self.plan.taken = True

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.field_count):
            PyMem_RawFree(self.fields[i].lows.data)
            PyMem_RawFree(self.fields[i].highs.data)
            PyMem_RawFree(self.fields[i].null_counts.data)
        PyMem_RawFree(self.fields)
        PyMem_RawFree(self.ends.data)
        PyMem_RawFree(self.frame_counts.data)
        PyMem_RawFree(self.row_counts.data)
        PyMem_RawFree(self.starts.data)
        PyMem_RawFree(self.sizes.data)
        PyMem_RawFree(self.kept_starts.data)
        PyMem_RawFree(self.kept_sizes.data)
        PyMem_RawFree(self.places.data)
        PyMem_RawFree(self.row_flags.data)
        PyMem_RawFree(self.damaged.data)
        PyMem_RawFree(self.budget.data)

    @property
    def forms(self):
        """What the numbers of each field are."""
        return [FORM_NAMES[self.fields[i].form] for i in range(self.field_count)]

    @property
    def waiting_blocks(self):
        """How many complete blocks are there."""
        return self.waiting + self.block_count()

    @property
    def seen_to(self):
        """Where the next frame is expected: its stream offset and number."""
        return self.next_offset, self.next_number

    cdef Py_ssize_t block_count(self) noexcept:
        return <Py_ssize_t>(self.ends.size // 8)

    # Frames of a reader

    def add(self, batch, number, offset=0):
        """Adds the frames of a batch; those before it end where it begins, or a gap is between.

        Parameters
        ----------
        batch : FrameBatch
            Of the stream, in order.
        number : int
            The number of its first frame.
        offset : int
            Where in the stream the reading of the batch's reader began.
        """
        cdef FrameBatch frames
        cdef long long* places
        cdef unsigned long long base, first
        cdef const uint8_t* stored
        cdef const uint8_t* data
        cdef Py_ssize_t count, i
        cdef long long head, size
        cdef unsigned long long end
        if self.plan is None:
            raise TypeError("BlockBuilder.__init__ was not called")
        if not isinstance(batch, FrameBatch):
            raise TypeError(f"batch must be a FrameBatch, got {type(batch).__name__}")
        frames = batch
        count = frames.starts.length
        if not count:
            return
        base = checked_int("offset", offset, 0, 2**62)
        first = checked_int("number", number, 0, 2**62)
        if self.is_adding:
            # Without the GIL: the columns and these arrays are in use.
            raise RuntimeError("another thread is adding frames to this BlockBuilder")
        if resize(&self.places, <size_t>count * 8):
            raise MemoryError("no memory for the blocks of an index")
        places = <long long*>self.places.data
        for i in range(count):
            places[i] = <long long>(frames.begin_of(i) + base)
        end = frames.frames_end + base
        data = <const uint8_t*>PyMemoryView_GET_BUFFER(frames.buffer).buf
        size = PyMemoryView_GET_BUFFER(frames.buffer).len
        for i in range(count):
            if not 0 <= frames.starts.data[i] <= size or not 0 <= frames.sizes.data[i] <= size - frames.starts.data[i]:
                raise ValueError(f"frame {i} of the batch lies outside of its memory")
        stored = NULL
        if frames._stored is not None:
            if PyMemoryView_GET_BUFFER(frames._stored).len >= <long long>end - places[0]:
                stored = <const uint8_t*>PyMemoryView_GET_BUFFER(frames._stored).buf
        elif not frames.is_restored:
            # Inside of a batch, frames follow one another, and each has a header of the same size.
            head = <long long>end - places[count - 1] - frames.sizes.data[count - 1]
            if 0 <= head <= frames.starts.data[0] and (
                <long long>end - places[0] <= size - (frames.starts.data[0] - head)
            ):
                stored = data + (frames.starts.data[0] - head)
        self.is_adding = True
        try:
            self.move_to(<unsigned long long>places[0], first)
            self.add_frames(
                data, frames.starts.data, frames.sizes.data, places, count, end, stored,
                not frames.may_change or type(frames.buffer.obj) is bytes,
            )
        finally:
            self.is_adding = False

    def skip_to(self, offset, number):
        """What follows begins at this stream offset and has this number: what lies before is a gap."""
        self.move_to(checked_int("offset", offset, 0, 2**62), checked_int("number", number, 0, 2**62))

    def take(self, with_rest=False):
        """The blocks that are there, with `with_rest` also the one that is being filled; they are taken out.

        Returns
        -------
        list of tuple
            A run of blocks in each: where it begins, the number of its first frame, the ends of the blocks (uint64),
            how many frames each has (uint32), how many of them are messages of the table (None if all are), for each
            field the lowest and highest numbers (see `forms`) and the counts of nulls (uint32, or None), and of the
            last frame its size and hash. Arrays are bytes in the byte order of the machine.
        """
        if with_rest and self.block_frames:
            self.close_block()
        run = self.take_run()
        if run is not None:
            self.runs.append(run)
        runs = self.runs
        self.runs = []
        self.waiting = 0
        return runs

    # Frames of a writer

    def watch(self, head_size, base_offset, base_number, sees_stored, threshold, on_blocks, on_end):
        """Prepares it for a writer.

        Parameters
        ----------
        head_size : int
            Bytes of a frame's header.
        base_offset, base_number : int
            Where in the stream the writer's offset 0 and message 0 are.
        sees_stored : bool
            Whether what is stored are the messages themselves.
        threshold, on_blocks : int, callable
            It is called when the sink has that many blocks.
        on_end : callable
            Is called when no more frames come. Both raise nothing but what a signal handler raises.
        """
        if self.plan is None:
            raise TypeError("BlockBuilder.__init__ was not called")
        self.head_size = checked_int("head_size", head_size, 4, 4096)
        self.base_offset = checked_int("base_offset", base_offset, 0, 2**62)
        self.base_number = checked_int("base_number", base_number, 0, 2**62)
        self.threshold = checked_int("threshold", threshold, 1, 2**31)
        self.sees_stored = sees_stored
        self.on_blocks = on_blocks
        self.on_end = on_end

    def stop(self):
        """Has it see nothing any more, and call nothing. Blocks that are there can be taken."""
        self.on_blocks = self.on_end = None
        self.is_stopped = True

    cdef int see_frames(
        self, const uint8_t* data, const long long* starts, const long long* sizes, Py_ssize_t count,
        Py_ssize_t head_size, unsigned long long number, unsigned long long offset,
    ) noexcept:
        cdef long long* places
        cdef Py_ssize_t i
        if self.is_stopped or self.failure is not None or count <= 0:
            return 0
        try:
            self.move_to(self.base_offset + offset, self.base_number + number)
            if resize(&self.places, <size_t>count * 8):
                raise MemoryError("no memory for the blocks of an index")
            places = <long long*>self.places.data
            for i in range(count):
                places[i] = <long long>(self.base_offset + offset) + (starts[i] - starts[0])
            self.add_frames(
                data, starts, sizes, places, count,
                <unsigned long long>(places[count - 1] + head_size + sizes[count - 1]),
                data + (starts[0] - head_size), False,
            )
        except Exception as error:
            self.failure = error
        return 0

    cdef int see_buffer(
        self, const uint8_t* data, Py_ssize_t begin, const Py_ssize_t* ends, Py_ssize_t count,
        unsigned long long number, unsigned long long offset,
    ) noexcept:
        cdef long long* starts
        cdef long long* sizes
        cdef Py_ssize_t i, before = begin
        if self.is_stopped or self.failure is not None or count <= 0 or not self.sees_stored:
            return 0
        if resize(&self.starts, <size_t>count * 8) or resize(&self.sizes, <size_t>count * 8):
            # Without them, these frames are a gap.
            return 0
        starts = <long long*>self.starts.data
        sizes = <long long*>self.sizes.data
        for i in range(count):
            starts[i] = before + self.head_size
            sizes[i] = ends[i] - starts[i]
            if sizes[i] < 0:
                return 0
            before = ends[i]
        return self.see_frames(data, starts, sizes, count, self.head_size, number, offset)

    cdef int see_message(
        self, const uint8_t* message, Py_ssize_t length, const uint8_t* head, Py_ssize_t head_size,
        const uint8_t* body, Py_ssize_t body_size, unsigned long long number, unsigned long long offset,
    ) noexcept:
        cdef uint8_t stored[4096]
        cdef long long start = 0, size = length, place = <long long>(self.base_offset + offset)
        cdef Py_ssize_t first = min(head_size, HASHED)
        if self.is_stopped or self.failure is not None:
            return 0
        # As much of it as is hashed.
        if first:
            memcpy(stored, head, <size_t>first)
        memcpy(stored + first, body, <size_t>min(body_size, HASHED - first))
        try:
            self.move_to(<unsigned long long>place, self.base_number + number)
            self.add_frames(
                message, &start, &size, &place, 1, <unsigned long long>(place + head_size + body_size), stored, False
            )
        except Exception as error:
            self.failure = error
        return 0

    cdef int hand_over(self, unsigned long long number, unsigned long long offset) except -1:
        if self.is_stopped:
            return 0
        if self.failure is None:
            try:
                # What was not seen is a gap.
                self.move_to(self.base_offset + offset, self.base_number + number)
            except Exception as error:
                self.failure = error
        if self.on_blocks is not None and (
            self.failure is not None or self.waiting + self.block_count() >= self.threshold
        ):
            self.on_blocks()
        return 0

    cdef int conclude(self) except -1:
        if self.on_end is not None:
            self.on_end()
        return 0

    # Blocks

    cdef int move_to(self, unsigned long long offset, unsigned long long number) except -1:
        """The next frame begins at `offset` and has this number. If that is not where the last one ended, a gap is."""
        if offset == self.next_offset and number == self.next_number:
            return 0
        if offset < self.next_offset or number < self.next_number:
            raise ValueError(
                f"the frames of a stream come in order: expected frame {self.next_number} at {self.next_offset}, got "
                f"{number} at {offset}"
            )
        self.end_run()
        self.next_offset = self.run_begin = self.block_begin = offset
        self.next_number = self.run_number = number
        return 0

    cdef int begin_block(self) noexcept:
        cdef Py_ssize_t i
        self.block_frames = self.block_rows = 0
        for i in range(self.field_count):
            self.fields[i].values = self.fields[i].nulls = 0
        return 0

    cdef int close_block(self) except -1:
        """Ends the block that is being filled with the last frame that was seen."""
        cdef Py_ssize_t i
        cdef FieldRange* field
        cdef size_t size = self.ends.size
        try:
            append_number(&self.frame_counts, self.block_frames, 4)
            append_number(&self.row_counts, self.block_rows, 4)
            for i in range(self.field_count):
                field = &self.fields[i]
                if not field.values:
                    field.low.unsigned_value = field.high.unsigned_value = 0
                append_number(&field.lows, field.low.unsigned_value, 8)
                append_number(&field.highs, field.high.unsigned_value, 8)
                append_number(&field.null_counts, field.nulls, 4)
            append_number(&self.ends, self.next_offset, 8)
        except BaseException:
            self.frame_counts.size = self.row_counts.size = size // 2
            for i in range(self.field_count):
                self.fields[i].lows.size = self.fields[i].highs.size = size
                self.fields[i].null_counts.size = size // 2
            raise
        for i in range(self.field_count):
            self.fields[i].has_nulls |= self.fields[i].nulls != 0
        self.has_others |= self.block_rows != self.block_frames
        self.block_begin = self.next_offset
        self.complete_size = self.last_size
        self.complete_hash = self.last_hash
        return self.begin_block()

    cdef int end_run(self) except -1:
        """A gap follows behind the last frame that was seen."""
        if self.block_frames:
            if self.next_offset - self.block_begin >= <unsigned long long>self.least_size:
                self.close_block()
            else:
                self.begin_block()
        run = self.take_run()
        if run is not None:
            self.waiting += len(run[2]) // 8
            self.runs.append(run)
        return 0

    cdef tuple take_run(self):
        """The complete blocks of the run, which goes on behind them; None if there is none."""
        cdef Py_ssize_t i, n = self.block_count()
        cdef FieldRange* field
        cdef unsigned long long frames = 0
        if not n:
            return None
        for i in range(n):
            frames += (<const uint32_t*>self.frame_counts.data)[i]
        begin, number = self.run_begin, self.run_number
        ranges = []
        for i in range(self.field_count):
            field = &self.fields[i]
            nulls = take_bytes(&field.null_counts)
            ranges.append((take_bytes(&field.lows), take_bytes(&field.highs), nulls if field.has_nulls else None))
            field.has_nulls = False
        rows = take_bytes(&self.row_counts)
        counts = take_bytes(&self.frame_counts)
        run = (
            begin, number, take_bytes(&self.ends), counts, rows if self.has_others else None, ranges,
            self.complete_size, self.complete_hash,
        )
        self.has_others = False
        self.run_begin = self.block_begin
        self.run_number = number + frames
        return run

    # Frames

    cdef bint is_of_others(self, const uint8_t* message, uint64_t size, bint* wrong) noexcept:
        """Whether a message is of another table; `wrong`, if it is of none that the stream has."""
        cdef Py_ssize_t k
        cdef const uint8_t* other
        wrong[0] = False
        if self.excluded is None:
            # Without a word about other tables, it is an error.
            wrong[0] = is_other(message, size, self.identifier)
            return wrong[0]
        if not is_other(message, size, 1):
            return self.identifier != 0
        if self.identifier:
            return load_u32(message + 4) != self.identifier
        other = <const uint8_t*>(<const char*>self.excluded)
        for k in range(0, len(self.excluded) - 3, 4):
            if load_u32(other + k) == load_u32(message + 4):
                return True
        return False

    cdef int add_frames(
        self, const uint8_t* data, const long long* starts, const long long* sizes, const long long* places,
        Py_ssize_t count, unsigned long long end, const uint8_t* stored, bint private,
    ) except -1:
        """Adds `count` frames that follow one another. Their messages are at `starts` in `data`; they begin at `places`
        in the stream, and the last one ends at `end`. `stored` has the frames as they are stored, or is NULL.
        """
        cdef Py_ssize_t i = 0, done, window = MAX_WINDOW, n
        if self.plan is None:
            raise TypeError("BlockBuilder.__init__ was not called")
        while i < count:
            n = min(count - i, window)
            done = self.add_window(
                data, starts + i, sizes + i, places + i, n,
                <unsigned long long>places[i + n] if i + n < count else end,
                stored + (places[i] - places[0]) if stored is not NULL else NULL, private,
            )
            if done == n:
                window = min(2 * window, MAX_WINDOW)
            else:
                # Frame i + done cannot be read. It is a gap.
                window = RETRY_WINDOW
                done += 1
                self.move_to(
                    <unsigned long long>places[i + done] if i + done < count else end, self.next_number + 1
                )
            i += done
        return 0

    cdef Py_ssize_t add_window(
        self, const uint8_t* data, const long long* starts, const long long* sizes, const long long* places,
        Py_ssize_t count, unsigned long long end, const uint8_t* stored, bint private,
    ) except -1:
        """`add_frames` up to the first one that cannot be read; returns how many were added."""
        cdef BatchCursor cursor
        cdef Py_ssize_t i, row, first_row, kept = 0
        cdef long long* kept_starts
        cdef long long* kept_sizes
        cdef uint8_t* flags = NULL
        cdef bint wrong = False
        cdef int failed = 0
        cdef unsigned long long frame_end = 0
        cdef Py_ssize_t part
        memset(&cursor, 0, sizeof(BatchCursor))
        cursor.data = data
        cursor.offsets = starts
        cursor.lengths = sizes
        cursor.count = count
        cursor.first_damaged = -1
        if self.identifier or self.excluded is not None:
            # Which frames have a row.
            if resize(&self.row_flags, <size_t>count) or resize(&self.kept_starts, <size_t>count * 8) or resize(
                &self.kept_sizes, <size_t>count * 8
            ):
                raise MemoryError("no memory for the blocks of an index")
            flags = self.row_flags.data
            kept_starts = <long long*>self.kept_starts.data
            kept_sizes = <long long*>self.kept_sizes.data
            for i in range(count):
                flags[i] = not self.is_of_others(data + starts[i], <uint64_t>sizes[i], &wrong)
                if wrong:
                    count = i
                    break
                if flags[i]:
                    kept_starts[kept] = starts[i]
                    kept_sizes[kept] = sizes[i]
                    kept += 1
            if kept == count:
                flags = NULL
            cursor.offsets = kept_starts
            cursor.lengths = kept_sizes
            cursor.count = kept
            if wrong:
                end = <unsigned long long>places[count]
        forget_shapes(self.plan)
        if cursor.count:
            if reset_damage(&cursor, &self.damaged, &self.budget, self.plan.has_vectors):
                raise MemoryError("no memory for the blocks of an index")
            if private and cursor.lengths[0] * cursor.count >= RELEASE_FROM:
                with nogil:
                    failed = read_batch(&cursor, self.plan.root)
            else:
                failed = read_batch(&cursor, self.plan.root)
            if failed:
                clear_columns(self.plan)
                raise MemoryError(f"no memory for the columns of {cursor.count} messages")
            if cursor.damaged_count:
                # Once more, without it and what follows.
                row = cursor.first_damaged
                for i in range(count):
                    if flags is NULL or flags[i]:
                        if not row:
                            break
                        row -= 1
                else:
                    i = count
                clear_columns(self.plan)
                if i:
                    self.add_window(data, starts, sizes, places, i, <unsigned long long>places[i], stored, private)
                return i
        try:
            i = row = 0
            while i < count:
                # As many frames as the block still takes.
                first_row = row
                part = i
                while True:
                    frame_end = <unsigned long long>places[i + 1] if i + 1 < count else end
                    if flags is NULL or flags[i]:
                        row += 1
                    i += 1
                    if i == count or frame_end - self.block_begin >= <unsigned long long>self.block_size:
                        break
                self.note_rows(first_row, row - first_row)
                self.block_frames += <uint32_t>(i - part)
                self.block_rows += <uint32_t>(row - first_row)
                self.next_number += <unsigned long long>(i - part)
                self.next_offset = frame_end
                self.note_last(
                    stored + (places[i - 1] - places[0]) if stored is not NULL else NULL,
                    frame_end - <unsigned long long>places[i - 1],
                )
                if frame_end - self.block_begin >= <unsigned long long>self.block_size:
                    self.close_block()
        finally:
            clear_columns(self.plan)
        return count

    cdef int note_rows(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
        """Widens the ranges of the block by `count` rows of the columns."""
        cdef Py_ssize_t i
        for i in range(self.field_count):
            widen(&self.fields[i], first, count)
        return 0

    cdef int note_last(self, const uint8_t* stored, unsigned long long size) except -1:
        """Stores what is needed to know the last frame again."""
        cdef checksum_kernel kernel = xxh3_64_kernel()
        cdef Py_ssize_t hashed = <Py_ssize_t>min(size, <unsigned long long>HASHED)
        self.last_size = size
        if stored is NULL:
            self.last_size = self.last_hash = 0
        elif kernel is not NULL:
            self.last_hash = kernel(stored, <size_t>hashed)
        else:
            self.last_hash = xxh3_64(PyBytes_FromStringAndSize(<const char*>stored, hashed))
        return 0

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from flatstream._core.column_reader.extract cimport BatchCursor
from flatstream._core.column_reader.plan cimport Memory, Node, ReadPlan
from flatstream._core.stream.frame_watcher cimport FrameWatcher


# What the numbers of a field are compared as.
cdef enum Form:
    SIGNED
    UNSIGNED
    FLOATING


cdef union Number:
    long long signed_value
    uint64_t unsigned_value
    double floating_value


# The range of one field: of the block that is being filled, and of the blocks of the run that is not taken yet.
cdef struct FieldRange:
    Node* node
    # Arrow's format of its column.
    char format
    Form form
    Number low
    Number high
    # Messages with a value, and without.
    uint32_t values
    uint32_t nulls
    bint has_nulls
    Memory lows
    Memory highs
    Memory null_counts


cdef class BlockBuilder(FrameWatcher):
    cdef ReadPlan plan
    cdef FieldRange* fields
    cdef Py_ssize_t field_count
    cdef Py_ssize_t block_size
    cdef Py_ssize_t least_size
    # The header of a frame, and what is added to the offsets and numbers of a writer.
    cdef Py_ssize_t head_size
    cdef unsigned long long base_offset
    cdef unsigned long long base_number
    # See ColumnReader.
    cdef uint32_t identifier
    cdef bytes excluded
    # Behind the last frame that was seen.
    cdef unsigned long long next_offset
    cdef unsigned long long next_number
    # The run: blocks that follow one another without a gap.
    cdef unsigned long long run_begin
    cdef unsigned long long run_number
    cdef Memory ends
    cdef Memory frame_counts
    cdef Memory row_counts
    cdef bint has_others
    # The block that is being filled.
    cdef unsigned long long block_begin
    cdef uint32_t block_frames
    cdef uint32_t block_rows
    # The last frame of the last block that is complete, and of the one that is being filled.
    cdef uint64_t complete_size
    cdef uint64_t complete_hash
    cdef uint64_t last_size
    cdef uint64_t last_hash
    # Runs that ended at a gap.
    cdef list runs
    cdef Py_ssize_t waiting
    # What is called when the sink has `threshold` blocks; what the watcher raised, after which it sees nothing.
    cdef object on_blocks
    # What is called at the end.
    cdef object on_end
    cdef Py_ssize_t threshold
    cdef readonly object failure
    cdef bint is_stopped
    # Whether a thread is in `add`, perhaps without the GIL.
    cdef bint is_adding
    # Working memory.
    cdef Memory starts
    cdef Memory sizes
    cdef Memory kept_starts
    cdef Memory kept_sizes
    cdef Memory places
    cdef Memory row_flags
    cdef Memory damaged
    cdef Memory budget

    cdef int add_frames(
        self, const uint8_t* data, const long long* starts, const long long* sizes, const long long* places,
        Py_ssize_t count, unsigned long long end, const uint8_t* stored, bint private,
    ) except -1
    cdef Py_ssize_t add_window(
        self, const uint8_t* data, const long long* starts, const long long* sizes, const long long* places,
        Py_ssize_t count, unsigned long long end, const uint8_t* stored, bint private,
    ) except -1
    cdef bint is_of_others(self, const uint8_t* message, uint64_t size, bint* wrong) noexcept
    cdef int move_to(self, unsigned long long offset, unsigned long long number) except -1
    cdef int begin_block(self) noexcept
    cdef int close_block(self) except -1
    cdef int end_run(self) except -1
    cdef tuple take_run(self)
    cdef int note_rows(self, Py_ssize_t first, Py_ssize_t count) noexcept nogil
    cdef int note_last(self, const uint8_t* stored, unsigned long long size) except -1
    cdef Py_ssize_t block_count(self) noexcept

from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.column_reader.plan cimport Memory, Node, ReadPlan


# The messages of a batch that are to be read, and the damage found in them. Made by `open_batch`.
cdef struct BatchCursor:
    # The bytes of the batch; offset and length of each message in them.
    const uint8_t* data
    const long long* offsets
    const long long* lengths
    Py_ssize_t count
    # One flag per message.
    uint8_t* damaged
    Py_ssize_t damaged_count
    # Bytes inside vectors that each message may still have read; NULL if the plan reads no vectors.
    uint64_t* budget
    # The first damaged message, -1 if there is none, and the first damage found in it.
    Py_ssize_t first_damaged
    int32_t damaged_node
    const char* damage
    uint64_t damage_offset
    # Bytes that must follow the offset; 0 if the damage is of another kind.
    uint64_t needed


# Where a batch is handed over. The cursor is good for as long as the caller holds the three views.
cdef int open_batch(
    BatchCursor* cursor, const unsigned char[::1] data, const long long[::1] offsets, const long long[::1] lengths
) noexcept nogil

# Gives a cursor its flags and budgets in memory that the caller owns, all reset; -1 without memory.
cdef int reset_damage(BatchCursor* cursor, Memory* damaged, Memory* budget, bint has_vectors) noexcept nogil

# Appends the rows of all messages of a batch to the columns under a root node; -1 without memory.
cdef int read_batch(BatchCursor* cursor, Node* root) noexcept nogil

# The first damage, for an error message.
cdef str describe_damage(const BatchCursor* cursor)

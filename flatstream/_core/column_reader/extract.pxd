from libc.stdint cimport int32_t, uint8_t, uint64_t

from flatstream._core.column_reader.plan cimport Memory, Node


cdef struct Reading:
    # The messages of a batch: where they are, and which of them are wanted.
    const uint8_t* base
    long long* starts
    long long* sizes
    # Which frames of the batch they are; NULL: one after another.
    long long* rows
    Py_ssize_t count
    # Those that turned out to be damaged.
    uint8_t* bad
    Py_ssize_t bad_count
    # How many bytes each may still have read of what repeats; NULL if nothing can.
    uint64_t* budget
    # What is wrong with the first of them.
    Py_ssize_t row
    int32_t node
    const char* what
    uint64_t place
    uint64_t needed


# Room for `more` bytes behind those that are there; -1 if there is none.
cdef int make_room(Memory* memory, size_t more) noexcept nogil
# The root tables of all messages, and then all their columns; -1 without memory.
cdef int open_roots(Reading* reading, Node* node) noexcept nogil
cdef int read_members(Reading* reading, Node* node) noexcept nogil
# Room for an offset for each row of a node, and the first of all; -1 without memory.
cdef int begin_offsets(Node* node) noexcept nogil
# Has a node begin its shapes anew if it has too many. No rows may refer to them.
cdef int forget_shapes(Node* node) noexcept nogil


cdef inline int resize(Memory* memory, size_t size) noexcept nogil:
    """Has working memory be `size` bytes, whatever was in it."""
    memory.size = 0
    if make_room(memory, size):
        return -1
    memory.size = size
    return 0

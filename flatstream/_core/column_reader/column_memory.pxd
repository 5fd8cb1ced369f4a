from libc.stdint cimport uint8_t

from flatstream._core.arrow.exporter cimport ColumnData
from flatstream._core.base.buffers cimport Chunk, try_grow
from flatstream._core.column_reader.plan cimport Memory, Node, ReadPlan


# In a header, so that each module that reads inlines it: it is called once per vector and string.
cdef inline int make_room(Memory* memory, size_t more) noexcept nogil:
    """Makes room for `more` bytes after the ones in use; -1 without memory."""
    cdef Py_ssize_t capacity = <Py_ssize_t>memory.capacity
    cdef uint8_t* data
    if more <= memory.capacity - memory.size:
        return 0
    data = <uint8_t*>try_grow(memory.data, &capacity, <Py_ssize_t>(memory.size + more + 64), 1)
    if data is NULL:
        return -1
    memory.data = data
    memory.capacity = <size_t>capacity
    return 0


cdef inline int resize(Memory* memory, size_t size) noexcept nogil:
    """Makes working memory `size` bytes long; its content is undefined. -1 without memory."""
    memory.size = 0
    if make_room(memory, size):
        return -1
    memory.size = size
    return 0


# Makes room for one offset per row of a node, and writes the first offset of a column; -1 without memory.
cdef int begin_offsets(Node* node) noexcept nogil

# Allocates memory for columns that become `factor` times as long. If that fails, they grow as they are read.
cdef int reserve(ReadPlan plan, double factor) noexcept

# Marks the present rows of all columns as good, so that `roll_back` can remove the rows added after them.
cdef int mark_good(ReadPlan plan) noexcept
cdef int roll_back(ReadPlan plan) noexcept

# Removes all rows; the memory is kept.
cdef int clear_columns(ReadPlan plan) noexcept

# Moves memory into a Chunk. The column starts again without memory.
cdef Chunk take_memory(Memory* memory)

# Moves the columns of a plan into a struct column of `rows` rows. The plan's columns are cleared, also after an error.
cdef ColumnData take_columns(ReadPlan plan, Py_ssize_t rows)

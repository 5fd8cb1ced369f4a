# cython: boundscheck=False, wraparound=False
"""The memory in which columns grow: reserved ahead, rolled back after damage, handed over when a batch is complete."""

from libc.stdint cimport int64_t, uint8_t

from flatstream._core.arrow.exporter cimport ColumnData
from flatstream._core.base.buffers cimport Chunk
from flatstream._core.column_reader.plan cimport (
    OP_BINARY, OP_SCALAR, OP_STRING, OP_UNION_VECTOR, OP_VECTOR, Memory, Node, ReadPlan,
)


cdef extern from "Python.h":
    void* PyMem_RawMalloc(size_t n) nogil
    void* PyMem_RawRealloc(void* p, size_t n) nogil
    void PyMem_RawFree(void* p) nogil

# Below this size, `reserve` makes the C library keep the freed memory of earlier columns for later ones.
cdef size_t MAX_RECYCLED_BYTES = 32 << 20


cdef int begin_offsets(Node* node) noexcept nogil:
    if make_room(&node.offsets, (<size_t>node.rows + 1) * sizeof(int64_t)):
        return -1
    if not node.offsets.size:
        (<int64_t*>node.offsets.data)[0] = 0
        node.offsets.size = sizeof(int64_t)
    return 0


# Reserving


cdef int reserve_exactly(Memory* memory, size_t size) noexcept:
    cdef uint8_t* data
    if size > memory.capacity:
        data = <uint8_t*>PyMem_RawRealloc(memory.data, size)
        if data is not NULL:
            memory.data = data
            memory.capacity = size
    return 0


cdef size_t expected_size(const Memory* memory, double factor) noexcept:
    return <size_t>(factor * <double>memory.size) + 64 if memory.size else 0


cdef int reserve(ReadPlan plan, double factor) noexcept:
    cdef Node* node
    cdef Py_ssize_t i
    cdef size_t total = 0
    for i in range(plan.node_count):
        node = plan.nodes[i]
        total += expected_size(&node.validity, factor) + expected_size(&node.offsets, factor)
        total += expected_size(&node.data, factor)
    # The C library returns freed memory to the system, unless it has seen a block of this size allocated and freed:
    # then it keeps the memory. A new page costs more than reading the numbers on it (R2 of asv_benchmarks/columns.py:
    # 4 ns a message instead of 13).
    if total < MAX_RECYCLED_BYTES:
        PyMem_RawFree(PyMem_RawMalloc(total))
    for i in range(plan.node_count):
        node = plan.nodes[i]
        reserve_exactly(&node.validity, expected_size(&node.validity, factor))
        reserve_exactly(&node.offsets, expected_size(&node.offsets, factor))
        reserve_exactly(&node.data, expected_size(&node.data, factor))
    return 0


# Rolling back


cdef int mark_good(ReadPlan plan) noexcept:
    cdef Py_ssize_t i
    cdef Node* node
    for i in range(plan.node_count):
        node = plan.nodes[i]
        node.good_count = node.count
        node.good_null_count = node.null_count
        node.good_size = node.data.size
    return 0


cdef int roll_back(ReadPlan plan) noexcept:
    cdef Py_ssize_t i
    cdef Node* node
    for i in range(plan.node_count):
        node = plan.nodes[i]
        node.count = node.good_count
        node.null_count = node.good_null_count
        node.data.size = node.good_size
        if node.keeps_validity and node.has_column:
            node.validity.size = <size_t>node.count
        if node.offsets.size:
            node.offsets.size = (<size_t>node.count + 1) * sizeof(int64_t)
    return 0


cdef int clear_columns(ReadPlan plan) noexcept:
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


# Handing over


cdef Chunk take_memory(Memory* memory):
    """Moves the memory of a column into a Chunk. The column starts again without memory."""
    cdef Chunk chunk = Chunk(0)
    cdef uint8_t* data
    # Return what was reserved and not used, if it is much.
    if memory.capacity - memory.size > memory.size // 4 + 64:
        data = <uint8_t*>PyMem_RawRealloc(memory.data, max(memory.size, <size_t>1))
        if data is not NULL:
            memory.data = data
            memory.capacity = max(memory.size, <size_t>1)
    if memory.data is not NULL:
        PyMem_RawFree(chunk.data)
        chunk.data = memory.data
        chunk.capacity = <Py_ssize_t>memory.capacity
    memory.data = NULL
    memory.size = 0
    memory.capacity = 0
    return chunk


cdef ColumnData take_column(ReadPlan plan, Node* node):
    cdef ColumnData column = ColumnData.__new__(ColumnData), inner
    cdef Node* child = node.child
    cdef list children = []
    column.type = plan.types[node.number]
    column.length = node.count
    column.null_count = node.null_count
    if node.null_count:
        column.validity = take_memory(&node.validity)
    node.validity.size = 0
    if node.op == OP_SCALAR or node.op == OP_STRING or node.op == OP_BINARY:
        column.data = take_memory(&node.data)
    if node.op == OP_STRING or node.op == OP_BINARY or node.op == OP_VECTOR or node.op == OP_UNION_VECTOR:
        node.rows = 0
        if begin_offsets(node):
            raise MemoryError("no memory for a column")
        column.offsets = take_memory(&node.offsets)
    while child is not NULL:
        inner = take_column(plan, child)
        children.append(inner)
        child = child.next
    column.children = tuple(children)
    node.count = 0
    node.null_count = 0
    return column


cdef ColumnData take_columns(ReadPlan plan, Py_ssize_t rows):
    cdef ColumnData table = ColumnData.__new__(ColumnData), column
    cdef list children = []
    try:
        # Loop, not comprehension: Cython 3.3 decrefs the item twice if the append fails with MemoryError.
        for number in plan.outputs:
            column = take_column(plan, plan.nodes[<Py_ssize_t>number])
            children.append(column)
        table.type = plan.type
        table.length = rows
        table.children = tuple(children)
        return table
    finally:
        # After a MemoryError too: the remaining columns belong to incomplete rows.
        clear_columns(plan)

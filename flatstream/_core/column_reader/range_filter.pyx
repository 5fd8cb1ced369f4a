# cython: boundscheck=False, wraparound=False, cdivision=True
"""The rows of columns for which conditions hold; `records.conditions` says what they are."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from flatstream._core.arrow.exporter cimport ColumnType
from flatstream._core.column_reader.plan cimport OP_SCALAR, OP_STRING, Node, ReadPlan
from flatstream._core.flatbuf.kinds cimport NOTHING, STRING
from flatstream._core.records.conditions cimport Condition, condition_of, key_of, takes_key


cdef list conditions_on(ReadPlan plan, list parsed):
    cdef Node* node
    cdef dict columns = {}
    cdef list conditions = []
    cdef uint8_t kind
    for number in plan.outputs:
        columns[(<ColumnType>plan.types[<Py_ssize_t>number]).name] = number
    for each in parsed:
        number = columns[each[0]]
        node = plan.nodes[<Py_ssize_t>number]
        kind = node.kind if node.op == OP_SCALAR else STRING if node.op == OP_STRING else NOTHING
        conditions.append((number, condition_of(plan.layout, each, kind, node.type_index)))
    return conditions


cdef int mark_rows(ReadPlan plan, list conditions, uint8_t* keep, Py_ssize_t count, bint release) except -1:
    cdef Condition condition
    cdef Node* node
    cdef Py_ssize_t i
    memset(keep, 1, <size_t>count)
    for number, each in conditions:
        condition = each
        node = plan.nodes[<Py_ssize_t>number]
        if node.count != count:
            raise SystemError("flatstream: a column that is filtered by has another length")
        if condition.is_text:
            mark_texts(node, condition, keep, count)
        elif release:
            with nogil:
                mark_numbers(node, condition, keep, count)
        else:
            mark_numbers(node, condition, keep, count)
        if node.keeps_validity:
            for i in range(count):
                keep[i] &= node.validity.data[i]
    return 0


cdef int mark_numbers(const Node* node, Condition condition, uint8_t* keep, Py_ssize_t count) noexcept nogil:
    if condition.count == 1:
        return mark_range(node, condition.firsts[0], condition.lasts[0], keep, count)
    return mark_ranges(node, condition, keep, count)


cdef inline int64_t key_at(const Node* node, Py_ssize_t i) noexcept nogil:
    """The key of number `i` of a scalar column."""
    cdef const uint8_t* data = node.data.data
    cdef uint64_t bits
    if node.width == 8:
        bits = (<const uint64_t*>data)[i]
    elif node.width == 4:
        bits = (<const uint32_t*>data)[i]
    elif node.width == 2:
        bits = (<const uint16_t*>data)[i]
    else:
        bits = data[i]
    return key_of(node.kind, bits)


cdef int mark_range(
    const Node* node, int64_t first, int64_t last, uint8_t* keep, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t key
    for i in range(count):
        key = key_at(node, i)
        keep[i] &= first <= key <= last
    return 0


cdef int mark_ranges(const Node* node, Condition condition, uint8_t* keep, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        keep[i] &= takes_key(condition, key_at(node, i))
    return 0


cdef int mark_texts(const Node* node, Condition condition, uint8_t* keep, Py_ssize_t count) except -1:
    cdef const int64_t* offsets = <const int64_t*>node.offsets.data
    cdef Py_ssize_t i
    for i in range(count):
        if keep[i]:
            keep[i] = condition.takes_text(node.data.data + offsets[i], <Py_ssize_t>(offsets[i + 1] - offsets[i]))
    return 0

# cython: boundscheck=False, wraparound=False, cdivision=True
"""The shapes of tables: the vtable entries of the selected fields, each combination stored once.

    vtable   | size 2 | table size 2 | entry 2 | entry 2 | ...
                                     '---- key: as far as the last selected field, padded with zeros

A shape answers, for every table with the same entries, how far the selected fields extend and whether a required one is
missing. Nearly all messages of a stream have the shape of the one before, which `is_last_shape` checks inline; others
are found in a hash table (key to shape number: power-of-two size, linear probing, load factor below 1/2).
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from flatstream._core.base.endian cimport load_u16
from flatstream._core.column_reader.column_memory cimport make_room, resize
from flatstream._core.column_reader.plan cimport OP_TABLE, OP_UNION, OP_UNION_VECTOR, Node, ReadPlan, VtableShape


cdef extern from *:
    """
    #define FS_GOLDEN 0x9E3779B97F4A7C15u
    """
    # 2**64 divided by the golden ratio: a multiplier that mixes bits well.
    const uint64_t GOLDEN "FS_GOLDEN"


# More shapes than this are not kept from one batch to the next.
cdef Py_ssize_t MAX_SHAPES = 4096


cdef uint64_t hash_bytes(const uint8_t* data, uint32_t size) noexcept nogil:
    cdef uint64_t value = size
    cdef uint32_t i
    for i in range(0, size, 2):
        value = (value ^ load_u16(data + i)) * GOLDEN
        value ^= value >> 29
    return value


cdef Py_ssize_t find_shape(Node* node, const uint8_t* entries, uint32_t size) noexcept nogil:
    cdef uint64_t value
    cdef size_t index, mask
    cdef int32_t* table = <int32_t*>node.shape_table.data
    cdef VtableShape* shape
    cdef size_t capacity = node.shape_table.size // sizeof(int32_t)
    cdef uint32_t stride = node.vtable_reach
    cdef uint8_t* key
    # Copy the entries first: another thread may write to the message, and the bytes that are hashed, compared and
    # stored must be the same.
    if make_room(&node.shape_keys, stride) or make_room(&node.shapes, sizeof(VtableShape)):
        return -1
    key = node.shape_keys.data + node.shape_keys.size
    memcpy(key, entries, size)
    memset(key + size, 0, stride - size)
    value = hash_bytes(key, size)
    if <size_t>node.shape_count * 2 >= capacity:
        if rehash(node, max(2 * capacity, <size_t>16)):
            return -1
        table = <int32_t*>node.shape_table.data
        capacity = node.shape_table.size // sizeof(int32_t)
    mask = capacity - 1
    index = <size_t>value & mask
    while table[index] >= 0:
        shape = <VtableShape*>node.shapes.data + table[index]
        if shape.hash == value and shape.key_size == size and (
            memcmp(node.shape_keys.data + <size_t>table[index] * stride, key, size) == 0
        ):
            return table[index]
        index = (index + 1) & mask
    table[index] = <int32_t>node.shape_count
    shape = <VtableShape*>node.shapes.data + node.shape_count
    measure_shape(node, key, shape)
    shape.key_size = size
    shape.hash = value
    node.shape_keys.size += stride
    node.shapes.size += sizeof(VtableShape)
    node.shape_count += 1
    return node.shape_count - 1


cdef int measure_shape(const Node* node, const uint8_t* key, VtableShape* shape) noexcept nogil:
    """Sets how far the selected fields extend in a table with these entries, and the first required field missing."""
    cdef const Node* child = node.child
    cdef uint32_t offset
    shape.extent = 4
    shape.missing = 0
    while child is not NULL:
        offset = load_u16(key + child.offset - 4)
        if offset:
            # The value of a union is looked at only if its type is known, as by the verifier: see `union_value`.
            if child.op != OP_UNION:
                shape.extent = max(shape.extent, offset + child.size)
        elif child.required and not shape.missing:
            shape.missing = child.rank
        if child.type_offset:
            offset = load_u16(key + child.type_offset - 4)
            if offset:
                shape.extent = max(shape.extent, offset + (4 if child.op == OP_UNION_VECTOR else child.width))
        child = child.next
    return 0


cdef int rehash(Node* node, size_t capacity) noexcept nogil:
    cdef int32_t* table
    cdef size_t i, index, mask = capacity - 1
    if resize(&node.shape_table, capacity * sizeof(int32_t)):
        return -1
    table = <int32_t*>node.shape_table.data
    memset(table, 0xFF, capacity * sizeof(int32_t))
    for i in range(<size_t>node.shape_count):
        index = <size_t>(<VtableShape*>node.shapes.data)[i].hash & mask
        while table[index] >= 0:
            index = (index + 1) & mask
        table[index] = <int32_t>i
    return 0


cdef int forget_shapes(ReadPlan plan) noexcept:
    cdef Py_ssize_t i
    cdef Node* node
    for i in range(plan.node_count):
        node = plan.nodes[i]
        if node.op == OP_TABLE and node.shape_count > MAX_SHAPES:
            node.shape_count = 0
            node.last_shape = -1
            node.shape_keys.size = 0
            node.shapes.size = 0
            if node.shape_table.data is not NULL:
                memset(node.shape_table.data, 0xFF, node.shape_table.size)
    return 0

from libc.stdint cimport uint8_t, uint32_t

from flatstream._core.base.endian cimport load_u16, load_u32, load_u64
from flatstream._core.column_reader.plan cimport Node, ReadPlan, VtableShape


cdef extern from *:
    """
    #ifdef __GNUC__
    #define FS_UNLIKELY(x) __builtin_expect(!!(x), 0)
    #else
    #define FS_UNLIKELY(x) (x)
    #endif
    """
    bint unlikely "FS_UNLIKELY"(bint) noexcept nogil


cdef inline bint same_bytes(const uint8_t* a, const uint8_t* b, uint32_t size) noexcept nogil:
    """Whether two runs of bytes of the same, even size are equal. Written for short runs that nearly always are."""
    while size >= 8:
        if load_u64(a) != load_u64(b):
            return False
        a += 8
        b += 8
        size -= 8
    if size & 4:
        if load_u32(a) != load_u32(b):
            return False
        a += 4
        b += 4
    return not size & 2 or load_u16(a) == load_u16(b)


cdef inline bint is_last_shape(const Node* node, const uint8_t* entries, uint32_t size) noexcept nogil:
    """Whether a vtable with these entries has the shape of the table before it."""
    return node.last_shape >= 0 and (<const VtableShape*>node.shapes.data)[node.last_shape].key_size == size and (
        same_bytes(entries, node.shape_keys.data + <size_t>node.last_shape * node.vtable_reach, size)
    )


# The number of the shape with these entries of a vtable, which is added if it is new; -1 without memory.
cdef Py_ssize_t find_shape(Node* node, const uint8_t* entries, uint32_t size) noexcept nogil

# Removes the shapes of nodes that have more than MAX_SHAPES. No row may refer to a shape.
cdef int forget_shapes(ReadPlan plan) noexcept

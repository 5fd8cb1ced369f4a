# Reading a message that may hold any bytes: every function compares an offset with the size of the message before it
# loads anything, whether the message was verified or not. Alignment does not matter: numbers are loaded byte by byte.
#
# Offsets are counted from the first byte of the message and have 64 bits. A number that is added to a checked offset
# has at most 32 bits, so no sum overflows. Nothing valid lies at offset 0, where the offset of the root is stored, so
# 0 stands for "absent".

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.base.endian cimport load_u16, load_u32


cdef struct Message:
    const uint8_t* data
    uint64_t size
    # The part that does not lie in the message, after an error: its name, its offset, and the bytes that it needs.
    const char* what
    uint64_t offset
    uint64_t needed


cdef struct OpenTable:
    # The offset of the table, and that of its vtable.
    uint64_t offset
    uint64_t vtable
    # The whole vtable lies in the message.
    uint32_t vtable_size


cdef inline int reach(Message* message, uint64_t offset, uint64_t needed, const char* what) noexcept nogil:
    """Checks that `needed` bytes at `offset` lie in the message."""
    if offset > message.size or needed > message.size - offset:
        message.what = what
        message.offset = offset
        message.needed = needed
        return -1
    return 0


cdef inline int follow_offset(Message* message, uint64_t offset, uint64_t* target) noexcept nogil:
    """Loads the offset stored at `offset`; the caller checks that its target lies in the message."""
    if reach(message, offset, 4, b"an offset"):
        return -1
    target[0] = offset + load_u32(message.data + offset)
    return 0


cdef inline int open_table(Message* message, uint64_t offset, OpenTable* table) noexcept nogil:
    """Opens the table at `offset`, and checks that its vtable lies in the message."""
    cdef int64_t vtable
    if reach(message, offset, 4, b"a table"):
        return -1
    vtable = <int64_t>offset - <int64_t><int32_t>load_u32(message.data + offset)
    if vtable < 0:
        # The vtable would begin before the message; offsets have no sign.
        message.what = b"a vtable before the message, of a table"
        message.offset = offset
        message.needed = 4
        return -1
    if reach(message, <uint64_t>vtable, 2, b"a vtable"):
        return -1
    table.offset = offset
    table.vtable = <uint64_t>vtable
    # A vtable shorter than its 4-byte header has no entries (the verifier's rule).
    table.vtable_size = load_u16(message.data + vtable)
    return reach(message, <uint64_t>vtable, table.vtable_size, b"a vtable")


cdef inline int open_root(Message* message, OpenTable* table) noexcept nogil:
    cdef uint64_t root = 0
    if follow_offset(message, 0, &root):
        return -1
    return open_table(message, root, table)


cdef inline bint is_identifier(uint32_t bytes) noexcept nogil:
    """Whether four bytes are printable ASCII, as file identifiers are."""
    cdef int i
    for i in range(4):
        if not 0x20 <= (bytes >> 8 * i & 0xFF) <= 0x7E:
            return False
    return True


cdef inline bint is_other(const uint8_t* data, uint64_t size, uint32_t identifier) noexcept nogil:
    """Whether a message carries another file identifier than `identifier`, which is 0 if any will do.

    A message carries one if there is room for it before the root, and the bytes there are printable ASCII: without one
    these bytes are padding, or a vtable that begins with its size, and so hardly ever printable.
    """
    cdef uint32_t found
    if not identifier or size < 8:
        return False
    found = load_u32(data + 4)
    return found != identifier and load_u32(data) >= 8 and is_identifier(found)


cdef inline uint64_t field_offset(const Message* message, const OpenTable* table, uint16_t entry) noexcept nogil:
    """The offset of the field whose entry is at `entry` in the vtable, or 0 if the field is absent. The caller checks
    with `reach` that it lies in the message.
    """
    cdef uint32_t distance
    if <uint32_t>entry + 2 > table.vtable_size:
        return 0
    distance = load_u16(message.data + table.vtable + entry)
    return table.offset + distance if distance else 0


cdef inline int open_vector(
    Message* message, uint64_t offset, uint64_t element_size, uint64_t* start, uint64_t* count
) noexcept nogil:
    """Opens the vector or string whose offset is stored at `offset`, and checks that all its elements lie in the
    message.
    """
    cdef uint64_t target = 0
    if follow_offset(message, offset, &target) or reach(message, target, 4, b"the length of a vector"):
        return -1
    count[0] = load_u32(message.data + target)
    start[0] = target + 4
    # At most 2**32 elements of less than 2**31 bytes.
    return reach(message, start[0], count[0] * element_size, b"a vector")

# Reading a message that may say anything: each of these looks at nothing before it has been compared with the size of
# the message, whether the message was verified or not. Alignment does not matter, since bytes are loaded one by one.
#
# Places are counted from the first byte of the message and have 64 bits; what is added to one has at most 32, so that
# no sum of a checked place and an offset overflows. Nothing valid lies at place 0, which is that of the root's offset,
# so 0 stands for "absent".

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.base.endian cimport load_u16, load_u32


cdef struct Message:
    const uint8_t* data
    uint64_t size
    # Of what was refused: what it is, where it begins, and how many bytes it needs.
    const char* what
    uint64_t place
    uint64_t needed


cdef struct OpenTable:
    uint64_t place
    uint64_t vtable
    # All of it lies in the message.
    uint32_t vtable_size


cdef inline int reach(Message* message, uint64_t place, uint64_t needed, const char* what) noexcept nogil:
    """`needed` bytes at `place` must be there."""
    if place > message.size or needed > message.size - place:
        message.what = what
        message.place = place
        message.needed = needed
        return -1
    return 0


cdef inline int follow_offset(Message* message, uint64_t place, uint64_t* target) noexcept nogil:
    """Where the offset at `place` leads; whether anything is there is not known yet."""
    if reach(message, place, 4, b"an offset"):
        return -1
    target[0] = place + load_u32(message.data + place)
    return 0


cdef inline int open_table(Message* message, uint64_t place, OpenTable* table) noexcept nogil:
    """Looks at the table at `place` and makes sure that its vtable is there."""
    cdef int64_t vtable
    if reach(message, place, 4, b"a table"):
        return -1
    vtable = <int64_t>place - <int64_t><int32_t>load_u32(message.data + place)
    if vtable < 0:
        # Before the first byte, which no place can express.
        message.what = b"a vtable before the message, of a table"
        message.place = place
        message.needed = 4
        return -1
    if reach(message, <uint64_t>vtable, 2, b"a vtable"):
        return -1
    table.place = place
    table.vtable = <uint64_t>vtable
    # Fewer than 4 bytes are no fields, to the verifier as well.
    table.vtable_size = load_u16(message.data + vtable)
    return reach(message, <uint64_t>vtable, table.vtable_size, b"a vtable")


cdef inline int open_root(Message* message, OpenTable* table) noexcept nogil:
    cdef uint64_t place = 0
    if follow_offset(message, 0, &place):
        return -1
    return open_table(message, place, table)


cdef inline uint64_t field_place(const Message* message, const OpenTable* table, uint16_t offset) noexcept nogil:
    """Where the field with this place in the vtable is, or 0 if it is absent. That it lies in the message is for
    `reach` to say.
    """
    cdef uint32_t distance
    if <uint32_t>offset + 2 > table.vtable_size:
        return 0
    distance = load_u16(message.data + table.vtable + offset)
    return table.place + distance if distance else 0


cdef inline int open_vector(
    Message* message, uint64_t place, uint64_t element_size, uint64_t* start, uint64_t* count
) noexcept nogil:
    """The vector (or string) that the offset at `place` leads to: all of its elements must be there."""
    cdef uint64_t target = 0
    if follow_offset(message, place, &target) or reach(message, target, 4, b"the length of a vector"):
        return -1
    count[0] = load_u32(message.data + target)
    start[0] = target + 4
    # At most 2**32 elements of less than 2**31 bytes.
    return reach(message, start[0], count[0] * element_size, b"a vector")

# cython: boundscheck=False, wraparound=False, cdivision=True
"""Reading a batch of messages as columns: for each batch of frames, one field of all messages after the other.

First the tables of a batch are opened, each once: their positions and their *shapes* (see `vtable_shapes`). A shape
tells where the selected fields end, so one comparison with the end of the message covers all of them, and reading a
column is a loop that loads and stores.

Bounds are checked before a byte is loaded. Every offset is loaded once, and the number that was checked is the number
that is followed, even if another thread writes to the memory meanwhile. A damaged message is noted, and its values are
treated as absent. Once all columns of the batch are read, the caller removes the batch's rows if a message was damaged,
and reads the batch again without those messages.

The batch is handed over once, to `open_batch`, as typed views: its bytes, and an offset and a length for each message.
The loops run over the cursor that it fills. `read_messages` is the same for callers in Python.
"""

from cpython.mem cimport PyMem_RawFree
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from flatstream._core.base.endian cimport load_le, load_u16, load_u32, load_u64
from flatstream._core.column_reader.column_memory cimport (
    begin_offsets, clear_columns, make_room, resize, take_columns,
)
from flatstream._core.column_reader.plan cimport (
    OP_ARRAY, OP_BINARY, OP_SCALAR, OP_STRING, OP_STRUCT, OP_TABLE, OP_UNION, OP_UNION_VECTOR, OP_VECTOR, Memory, Node,
    ReadPlan, VtableShape,
)
from flatstream._core.column_reader.vtable_shapes cimport find_shape, forget_shapes, is_last_shape, unlikely
from flatstream._core.flatbuf.kinds cimport BOOL
from flatstream._core.flatbuf.verifier cimport find_not_utf8

from flatstream.errors import FlatbufferError


cdef extern from *:
    """
    #define FS_HIGH_BITS 0x8080808080808080u
    """
    # The highest bit of each byte.
    const uint64_t HIGH_BITS "FS_HIGH_BITS"

# Limit of the bytes inside vectors that are read from a message: REPEAT_FACTOR times its size, plus REPEAT_ALLOWANCE. A
# message in which every element of a vector refers to the same string stays far below. Nested vectors that all refer to
# the same elements exceed it; without a limit, a few bytes of them could fill all memory.
cdef uint64_t REPEAT_FACTOR = 256
cdef uint64_t REPEAT_ALLOWANCE = 1 << 20


# Handing over a batch


cdef int open_batch(
    BatchCursor* cursor, const unsigned char[::1] data, const long long[::1] offsets, const long long[::1] lengths
) noexcept nogil:
    memset(cursor, 0, sizeof(BatchCursor))
    cursor.count = offsets.shape[0]
    cursor.first_damaged = -1
    # An empty view has no first element.
    if cursor.count:
        cursor.offsets = &offsets[0]
        cursor.lengths = &lengths[0]
    if data.shape[0]:
        cursor.data = <const uint8_t*>&data[0]
    return 0


cdef int read_batch(BatchCursor* cursor, Node* root) noexcept nogil:
    return open_roots(cursor, root) or read_members(cursor, root)


def read_messages(
    ReadPlan plan not None, const unsigned char[::1] data not None, const long long[::1] offsets not None,
    const long long[::1] lengths not None
):
    """Reads messages that lie in one piece of memory as columns.

    Parameters
    ----------
    plan : ReadPlan
        The fields to read. It must not be in use by a reader.
    data : contiguous buffer of unsigned bytes
        The memory that has the messages.
    offsets, lengths : contiguous buffers of int64
        Offset and length in `data` of each message.

    Returns
    -------
    ColumnData
        A struct of all columns, with memory of its own.

    Raises
    ------
    ValueError
        A message does not lie within `data`; the numbers of offsets and lengths differ; the plan is in use.
    FlatbufferError
        A message is damaged; `frame` is its index and `offset` its offset in `data`.
    """
    cdef BatchCursor cursor
    cdef Memory damaged, budget
    cdef Py_ssize_t i, size = data.shape[0]
    memset(&damaged, 0, sizeof(Memory))
    memset(&budget, 0, sizeof(Memory))
    if not plan.ready:
        raise TypeError("ReadPlan.__init__ was not called")
    if plan.taken:
        raise ValueError("this plan is in use: make another one")
    if offsets.shape[0] != lengths.shape[0]:
        raise ValueError(f"expected as many lengths as offsets, got {lengths.shape[0]} and {offsets.shape[0]}")
    for i in range(offsets.shape[0]):
        if not 0 <= offsets[i] <= size or not 0 <= lengths[i] <= size - offsets[i]:
            raise ValueError(f"message {i} has {lengths[i]} bytes at {offsets[i]}, but the data has {size} bytes")
    open_batch(&cursor, data, offsets, lengths)
    # Handing over creates objects, so a garbage collection may run code that finds this plan.
    plan.taken = True
    try:
        forget_shapes(plan)
        if cursor.count and (
            reset_damage(&cursor, &damaged, &budget, plan.has_vectors) or read_batch(&cursor, plan.root)
        ):
            raise MemoryError(f"no memory for the columns of {cursor.count} messages")
        if cursor.damaged_count:
            i = cursor.first_damaged
            raise FlatbufferError(
                f"a message cannot be read: {plan.path_of(cursor.damaged_node)}: {describe_damage(&cursor)}",
                offset=offsets[i], frame=i,
            )
        return take_columns(plan, cursor.count)
    finally:
        clear_columns(plan)
        plan.taken = False
        PyMem_RawFree(damaged.data)
        PyMem_RawFree(budget.data)


# Damage


cdef int reset_damage(BatchCursor* cursor, Memory* damaged, Memory* budget, bint has_vectors) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint64_t* bytes_left
    if resize(damaged, <size_t>cursor.count) or (
        has_vectors and resize(budget, <size_t>cursor.count * sizeof(uint64_t))
    ):
        return -1
    memset(damaged.data, 0, <size_t>cursor.count)
    cursor.damaged = damaged.data
    cursor.damaged_count = 0
    cursor.first_damaged = -1
    if has_vectors:
        bytes_left = <uint64_t*>budget.data
        for i in range(cursor.count):
            bytes_left[i] = REPEAT_FACTOR * <uint64_t>cursor.lengths[i] + REPEAT_ALLOWANCE
        cursor.budget = bytes_left
    return 0


cdef inline int note_damage(
    BatchCursor* cursor, Py_ssize_t message, const Node* node, const char* damage, uint64_t offset, uint64_t needed
) noexcept nogil:
    """Marks a message as damaged. For the error, keeps the first damage of the first such message."""
    if not cursor.damaged[message]:
        cursor.damaged[message] = 1
        cursor.damaged_count += 1
        if cursor.first_damaged < 0 or message < cursor.first_damaged:
            cursor.first_damaged = message
            cursor.damaged_node = node.number
            cursor.damage = damage
            cursor.damage_offset = offset
            cursor.needed = needed
    return 0


cdef str describe_damage(const BatchCursor* cursor):
    damage = (<bytes>cursor.damage).decode()
    size = cursor.lengths[cursor.first_damaged]
    if cursor.needed:
        return f"{damage} at byte {cursor.damage_offset} needs {cursor.needed} bytes, but the message ends at {size}"
    return f"{damage} at byte {cursor.damage_offset}"


cdef inline int spend_budget(BatchCursor* cursor, Py_ssize_t message, uint64_t size) noexcept nogil:
    """Subtracts bytes that are read inside a vector from the budget of a message; -1 if it is exhausted."""
    if size > cursor.budget[message]:
        return -1
    cursor.budget[message] -= size
    return 0


cdef inline Py_ssize_t message_of(const Node* node, Py_ssize_t i) noexcept nogil:
    """The message that row `i` belongs to."""
    return i if node.row_messages is NULL else <Py_ssize_t>node.row_messages[i]


# Tables


cdef inline int open_row(
    BatchCursor* cursor, Node* node, Py_ssize_t i, Py_ssize_t message, const uint8_t* data, uint64_t size,
    uint64_t offset, const uint8_t** objects, uint32_t* shape_numbers
) noexcept nogil:
    """Opens the table at `offset` of a message as row `i`; -1 without memory. A damaged table is an absent one."""
    cdef int64_t vtable
    cdef uint32_t vtable_size, key_size
    cdef const uint8_t* entries
    cdef VtableShape* shape
    objects[i] = NULL
    shape_numbers[i] = 0
    if unlikely(size < 4 or offset > size - 4):
        return note_damage(cursor, message, node, b"a table", offset, 4)
    vtable = <int64_t>offset - <int64_t><int32_t>load_u32(data + offset)
    if unlikely(vtable < 0):
        return note_damage(cursor, message, node, b"a table whose vtable begins before the message,", offset, 0)
    if unlikely(<uint64_t>vtable > size - 2):
        return note_damage(cursor, message, node, b"a vtable", <uint64_t>vtable, 2)
    vtable_size = load_u16(data + vtable)
    if unlikely(vtable_size > size - <uint64_t>vtable):
        return note_damage(cursor, message, node, b"a vtable", <uint64_t>vtable, vtable_size)
    # A vtable shorter than its 4-byte header has no entries (the verifier's rule).
    key_size = (min(max(vtable_size, <uint32_t>4), node.vtable_reach) - 4) & ~<uint32_t>1
    entries = data + vtable + 4
    if not is_last_shape(node, entries, key_size):
        node.last_shape = find_shape(node, entries, key_size)
        if node.last_shape < 0:
            return -1
    shape = <VtableShape*>node.shapes.data + node.last_shape
    if unlikely(shape.extent > size - offset):
        return note_field_outside(cursor, node, message, size, offset)
    if unlikely(shape.missing != 0):
        return note_missing_field(cursor, node, message, shape.missing, offset)
    objects[i] = data + offset
    shape_numbers[i] = <uint32_t>node.last_shape
    return 0


cdef int note_field_outside(
    BatchCursor* cursor, const Node* node, Py_ssize_t message, uint64_t size, uint64_t table_offset
) noexcept nogil:
    """Notes the first field of the table that lies outside the message."""
    cdef const uint8_t* key = node.shape_keys.data + <size_t>node.last_shape * node.vtable_reach
    cdef const Node* child = node.child
    cdef uint32_t offset, needed
    while child is not NULL:
        offset = load_u16(key + child.offset - 4)
        needed = child.size
        if not offset or child.op == OP_UNION or offset + needed <= size - table_offset:
            offset = load_u16(key + child.type_offset - 4) if child.type_offset else 0
            needed = 4 if child.op == OP_UNION_VECTOR else child.width
        if offset and offset + needed > size - table_offset:
            return note_damage(cursor, message, child, b"a field", table_offset + offset, needed)
        child = child.next
    return note_damage(cursor, message, node, b"a table", table_offset, 4)


cdef int note_missing_field(
    BatchCursor* cursor, const Node* node, Py_ssize_t message, int32_t rank, uint64_t table_offset
) noexcept nogil:
    cdef const Node* child = node.child
    while child.rank != rank:
        child = child.next
    return note_damage(cursor, message, child, b"a required field, missing from the table", table_offset, 0)


cdef int open_roots(BatchCursor* cursor, Node* node) noexcept nogil:
    """Opens the root tables of all messages; -1 without memory."""
    cdef Py_ssize_t i
    cdef const uint8_t* data
    cdef uint64_t size
    cdef const uint8_t** objects
    cdef uint32_t* shape_numbers
    node.rows = cursor.count
    node.row_messages = NULL
    if resize(&node.objects, <size_t>node.rows * sizeof(uint8_t*)) or (
        resize(&node.shape_numbers, <size_t>node.rows * sizeof(uint32_t))
    ):
        return -1
    objects = <const uint8_t**>node.objects.data
    shape_numbers = <uint32_t*>node.shape_numbers.data
    for i in range(node.rows):
        data = cursor.data + cursor.offsets[i]
        size = <uint64_t>cursor.lengths[i]
        if unlikely(size < 4):
            objects[i] = NULL
            shape_numbers[i] = 0
            note_damage(cursor, i, node, b"the offset of the root", 0, 4)
        elif open_row(cursor, node, i, i, data, size, load_u32(data), objects, shape_numbers):
            return -1
    note_uniformity(node)
    return 0


cdef int note_uniformity(Node* node) noexcept nogil:
    """Notes whether all rows have the same shape and none is absent."""
    cdef const uint8_t** objects = <const uint8_t**>node.objects.data
    cdef const uint32_t* shape_numbers = <const uint32_t*>node.shape_numbers.data
    cdef Py_ssize_t i
    cdef uint32_t different = 0
    cdef bint absent = False
    node.uniform = False
    if not node.rows:
        return 0
    for i in range(node.rows):
        different |= shape_numbers[i] ^ shape_numbers[0]
    for i in range(node.rows):
        absent |= objects[i] is NULL
    node.uniform = not different and not absent
    return 0


cdef int open_tables(BatchCursor* cursor, Node* node) noexcept nogil:
    """Opens the tables that the offsets at the locations lead to; -1 without memory."""
    cdef const uint8_t** locations = <const uint8_t**>node.locations.data
    cdef const uint8_t** objects
    cdef uint32_t* shape_numbers
    cdef const uint8_t* data
    cdef uint64_t size, target
    cdef Py_ssize_t i, message
    if resize(&node.objects, <size_t>node.rows * sizeof(uint8_t*)) or (
        resize(&node.shape_numbers, <size_t>node.rows * sizeof(uint32_t))
    ):
        return -1
    objects = <const uint8_t**>node.objects.data
    shape_numbers = <uint32_t*>node.shape_numbers.data
    for i in range(node.rows):
        if locations[i] is NULL:
            objects[i] = NULL
            shape_numbers[i] = 0
            continue
        message = message_of(node, i)
        data = cursor.data + cursor.offsets[message]
        size = <uint64_t>cursor.lengths[message]
        target = <uint64_t>(locations[i] - data) + load_u32(locations[i])
        if open_row(cursor, node, i, message, data, size, target, objects, shape_numbers):
            return -1
        if node.in_vector and objects[i] is not NULL and spend_budget(
            cursor, message, (<VtableShape*>node.shapes.data)[node.last_shape].extent
        ):
            objects[i] = NULL
            note_damage(cursor, message, node, b"more repeated bytes than the limit, in a table", target, 0)
    note_uniformity(node)
    return 0


cdef int open_structs(BatchCursor* cursor, Node* node) noexcept nogil:
    """Opens the structs at the locations, or those that the offsets there lead to; -1 without memory."""
    cdef const uint8_t** locations = <const uint8_t**>node.locations.data
    cdef const uint8_t** objects
    cdef const uint8_t* data
    cdef uint64_t size, target
    cdef Py_ssize_t i, message
    cdef bint absent = False
    if resize(&node.objects, <size_t>node.rows * sizeof(uint8_t*)):
        return -1
    objects = <const uint8_t**>node.objects.data
    if node.op == OP_STRUCT:
        for i in range(node.rows):
            objects[i] = locations[i]
            absent |= locations[i] is NULL
    else:
        for i in range(node.rows):
            objects[i] = NULL
            if locations[i] is NULL:
                absent = True
                continue
            message = message_of(node, i)
            data = cursor.data + cursor.offsets[message]
            size = <uint64_t>cursor.lengths[message]
            target = <uint64_t>(locations[i] - data) + load_u32(locations[i])
            if target > size or node.size > size - target:
                note_damage(cursor, message, node, b"a struct", target, node.size)
                absent = True
            else:
                objects[i] = data + target
    node.uniform = node.rows and not absent
    return 0


# Validity


cdef int add_validity(Node* node, const uint8_t** values) noexcept nogil:
    """Appends the validity of all rows: a row is null if its pointer is NULL."""
    cdef Py_ssize_t i, nulls = 0
    cdef uint8_t* valid
    if not node.keeps_validity:
        return 0
    if make_room(&node.validity, <size_t>node.rows):
        return -1
    valid = node.validity.data + node.validity.size
    for i in range(node.rows):
        valid[i] = values[i] is not NULL
        nulls += values[i] is NULL
    node.validity.size += <size_t>node.rows
    node.null_count += nulls
    return 0


cdef int add_all_valid(Node* node) noexcept nogil:
    """Appends the validity of all rows, none of which is null."""
    if not node.keeps_validity:
        return 0
    if make_room(&node.validity, <size_t>node.rows):
        return -1
    memset(node.validity.data + node.validity.size, 1, <size_t>node.rows)
    node.validity.size += <size_t>node.rows
    return 0


# Children of tables and structs


cdef inline int64_t offset_in(const Node* parent, uint32_t shape_number, uint16_t offset) noexcept nogil:
    """Offset of a field in a table of a shape, from the field's vtable entry; 0 if it is absent."""
    return load_u16(parent.shape_keys.data + <size_t>shape_number * parent.vtable_reach + offset - 4)


cdef int locate_field(
    const Node* parent, Node* child, Memory* memory, uint16_t offset, bint has_default
) noexcept nogil:
    """Computes the location of a field in each row of its parent: NULL if absent, or its default if it has one."""
    cdef const uint8_t** objects = <const uint8_t**>parent.objects.data
    cdef const uint32_t* shape_numbers = <const uint32_t*>parent.shape_numbers.data
    cdef const uint8_t** locations
    cdef const uint8_t* absent = child.default_bytes if has_default else NULL
    cdef Py_ssize_t i
    cdef int64_t in_table
    if resize(memory, <size_t>parent.rows * sizeof(uint8_t*)):
        return -1
    locations = <const uint8_t**>memory.data
    if parent.op != OP_TABLE:
        for i in range(parent.rows):
            locations[i] = objects[i] + offset if objects[i] is not NULL else NULL
        return 0
    if parent.uniform:
        in_table = offset_in(parent, shape_numbers[0], offset)
        for i in range(parent.rows):
            locations[i] = objects[i] + in_table if in_table else absent
        return 0
    for i in range(parent.rows):
        if objects[i] is NULL:
            locations[i] = NULL
        else:
            in_table = offset_in(parent, shape_numbers[i], offset)
            locations[i] = objects[i] + in_table if in_table else absent
    return 0


cdef int read_members(BatchCursor* cursor, Node* node) noexcept nogil:
    """Reads all children of a node whose `objects` are set."""
    cdef Node* child = node.child
    while child is not NULL:
        child.rows = node.rows
        child.row_messages = node.row_messages
        if child.op == OP_SCALAR:
            if read_scalar_member(node, child):
                return -1
        else:
            if locate_field(node, child, &child.locations, child.offset, False):
                return -1
            if child.type_offset and locate_field(node, child, &child.union_types, child.type_offset, False):
                return -1
            if child.op == OP_UNION and load_types(child):
                return -1
            if read_node(cursor, child):
                return -1
        child = child.next
    return 0


cdef uint32_t rank_of_type(const Node* node, const uint8_t* p) noexcept nogil:
    """The rank of the variant whose type is stored at `p`; 0 if there is none."""
    cdef uint64_t type = load_le(p, node.width)
    cdef const Node* child = node.child
    while child is not NULL:
        if child.variant == type:
            return <uint32_t>child.rank
        child = child.next
    return 0


cdef int load_types(Node* node) noexcept nogil:
    """Replaces the locations of the types of unions by the types, or wide types by the ranks of their variants. A union
    without a value has type 0.
    """
    cdef const uint8_t** type_locations = <const uint8_t**>node.union_types.data
    cdef const uint8_t** locations = <const uint8_t**>node.locations.data
    cdef uint8_t* types = node.union_types.data
    cdef Py_ssize_t i
    cdef const uint8_t* type_location
    if node.width != 1:
        for i in range(node.rows):
            type_location = type_locations[i]
            # In place, as below: no pointer has less than 4 bytes.
            (<uint32_t*>types)[i] = rank_of_type(node, type_location) if (
                type_location is not NULL and locations[i] is not NULL
            ) else 0
        return 0
    for i in range(node.rows):
        # In place: type i is stored in a byte of a pointer that has been loaded already.
        type_location = type_locations[i]
        types[i] = type_location[0] if type_location is not NULL and locations[i] is not NULL else 0
    return 0


cdef int read_scalar_member(const Node* parent, Node* child) noexcept nogil:
    cdef const uint8_t** objects = <const uint8_t**>parent.objects.data
    cdef Py_ssize_t i, count = parent.rows
    cdef int64_t offset
    cdef uint8_t* out
    if not parent.uniform:
        return locate_field(parent, child, &child.locations, child.offset, child.has_default) or read_scalars(child)
    offset = child.offset
    if parent.op == OP_TABLE:
        offset = offset_in(parent, (<const uint32_t*>parent.shape_numbers.data)[0], child.offset)
        if not offset:
            return locate_field(parent, child, &child.locations, child.offset, child.has_default) or read_scalars(child)
    if add_all_valid(child) or make_room(&child.data, <size_t>count * child.width):
        return -1
    out = child.data.data + child.data.size
    if child.width == 8:
        for i in range(count):
            (<uint64_t*>out)[i] = load_u64(objects[i] + offset)
    elif child.width == 4:
        for i in range(count):
            (<uint32_t*>out)[i] = load_u32(objects[i] + offset)
    elif child.width == 2:
        for i in range(count):
            (<uint16_t*>out)[i] = <uint16_t>load_u16(objects[i] + offset)
    elif child.kind == BOOL:
        for i in range(count):
            out[i] = objects[i][offset] != 0
    else:
        for i in range(count):
            out[i] = objects[i][offset]
    child.data.size += <size_t>count * child.width
    child.count += count
    return 0


# Nodes of each kind, whose locations are set


cdef int read_scalars(Node* node) noexcept nogil:
    cdef const uint8_t** locations = <const uint8_t**>node.locations.data
    cdef uint64_t fill = node.fill_bits
    cdef uint8_t* out
    cdef Py_ssize_t i
    if add_validity(node, locations) or make_room(&node.data, <size_t>node.rows * node.width):
        return -1
    out = node.data.data + node.data.size
    if node.width == 8:
        for i in range(node.rows):
            (<uint64_t*>out)[i] = load_u64(locations[i]) if locations[i] is not NULL else fill
    elif node.width == 4:
        for i in range(node.rows):
            (<uint32_t*>out)[i] = load_u32(locations[i]) if locations[i] is not NULL else <uint32_t>fill
    elif node.width == 2:
        for i in range(node.rows):
            (<uint16_t*>out)[i] = <uint16_t>load_u16(locations[i]) if locations[i] is not NULL else <uint16_t>fill
    elif node.kind == BOOL:
        for i in range(node.rows):
            out[i] = locations[i][0] != 0 if locations[i] is not NULL else fill != 0
    else:
        for i in range(node.rows):
            out[i] = locations[i][0] if locations[i] is not NULL else <uint8_t>fill
    node.data.size += <size_t>node.rows * node.width
    node.count += node.rows
    return 0


cdef inline int open_elements(
    BatchCursor* cursor, Node* node, Py_ssize_t message, const uint8_t* location, uint64_t width, const uint8_t** first,
    uint64_t* count
) noexcept nogil:
    """Finds the elements of the vector that the offset at a location leads to; -1 if the vector is damaged."""
    cdef const uint8_t* data = cursor.data + cursor.offsets[message]
    cdef uint64_t size = <uint64_t>cursor.lengths[message], target, length
    cdef const char* damage = b"a string" if node.op == OP_STRING else b"a vector"
    count[0] = 0
    target = <uint64_t>(location - data) + load_u32(location)
    # A message with locations has at least 4 bytes, so this does not wrap around.
    if unlikely(target > size - 4):
        note_damage(
            cursor, message, node, b"the length of a string" if node.op == OP_STRING else b"the length of a vector",
            target, 4,
        )
        return -1
    length = load_u32(data + target)
    # No overflow: at most 2**32 elements of less than 2**31 bytes.
    if unlikely(length * width > size - target - 4):
        note_damage(cursor, message, node, damage, target + 4, length * width)
        return -1
    if node.in_vector and spend_budget(cursor, message, length * width + 4):
        note_damage(cursor, message, node, b"more repeated bytes than the limit, in a vector", target, 0)
        return -1
    first[0] = data + target + 4
    count[0] = length
    return 0


cdef int read_strings(BatchCursor* cursor, Node* node) noexcept nogil:
    cdef const uint8_t** locations = <const uint8_t**>node.locations.data
    cdef int64_t* offsets
    cdef size_t begin = node.data.size
    cdef Py_ssize_t i, message
    cdef const uint8_t* first = NULL
    cdef uint64_t length = 0
    if begin_offsets(node) or add_validity(node, locations):
        return -1
    offsets = <int64_t*>(node.offsets.data + node.offsets.size)
    for i in range(node.rows):
        if locations[i] is not NULL:
            message = message_of(node, i)
            if open_elements(cursor, node, message, locations[i], 1, &first, &length) == 0 and length:
                if length > node.data.capacity - node.data.size and make_room(&node.data, length):
                    return -1
                memcpy(node.data.data + node.data.size, first, length)
                node.data.size += length
        offsets[i] = <int64_t>node.data.size
    if node.op == OP_STRING and not all_ascii(node.data.data + begin, node.data.size - begin):
        # Checked on the copy, which no other thread can change.
        for i in range(node.rows):
            first = node.data.data + (offsets[i - 1] if i else <int64_t>begin)
            length = <uint64_t>(node.data.data + offsets[i] - first)
            if find_not_utf8(first, length) >= 0:
                message = message_of(node, i)
                note_damage(
                    cursor, message, node, b"a string that is not UTF-8",
                    <uint64_t>(locations[i] - (cursor.data + cursor.offsets[message])) + load_u32(locations[i]), 0,
                )
    node.offsets.size += <size_t>node.rows * sizeof(int64_t)
    node.count += node.rows
    return 0


cdef bint all_ascii(const uint8_t* data, size_t size) noexcept nogil:
    cdef uint64_t bits = 0
    cdef size_t i = 0
    while size - i >= 32:
        bits |= load_u64(data + i) | load_u64(data + i + 8) | load_u64(data + i + 16) | load_u64(data + i + 24)
        i += 32
        if bits & HIGH_BITS:
            return False
    while i < size:
        bits |= data[i]
        i += 1
    return not bits & HIGH_BITS


cdef int begin_items(Node* item) noexcept nogil:
    item.rows = 0
    item.locations.size = 0
    item.message_indices.size = 0
    item.union_types.size = 0
    return 0


cdef int add_items(
    Node* item, Py_ssize_t message, const uint8_t* first, uint64_t count, const uint8_t* types
) noexcept nogil:
    """Appends the locations of the elements of a vector; -1 without memory."""
    cdef const uint8_t** locations
    cdef uint32_t* messages
    cdef uint32_t* ranks
    cdef uint64_t i
    if make_room(&item.locations, count * sizeof(uint8_t*)) or (
        make_room(&item.message_indices, count * sizeof(uint32_t))
    ):
        return -1
    locations = <const uint8_t**>(item.locations.data + item.locations.size)
    messages = <uint32_t*>(item.message_indices.data + item.message_indices.size)
    for i in range(count):
        locations[i] = first + i * item.size
        messages[i] = <uint32_t>message
    item.locations.size += count * sizeof(uint8_t*)
    item.message_indices.size += count * sizeof(uint32_t)
    item.rows += <Py_ssize_t>count
    if types is not NULL and item.width != 1:
        if make_room(&item.union_types, count * sizeof(uint32_t)):
            return -1
        ranks = <uint32_t*>(item.union_types.data + item.union_types.size)
        for i in range(count):
            ranks[i] = rank_of_type(item, types + i * item.width)
        item.union_types.size += count * sizeof(uint32_t)
    elif types is not NULL:
        if make_room(&item.union_types, count):
            return -1
        memcpy(item.union_types.data + item.union_types.size, types, count)
        item.union_types.size += count
    return 0


cdef int add_numbers(Node* item, const uint8_t* first, uint64_t count) noexcept nogil:
    """Appends the numbers of a vector to the column of its elements, in the machine's byte order; -1 without memory."""
    cdef uint8_t* out
    cdef uint64_t i
    if make_room(&item.data, count * item.width):
        return -1
    out = item.data.data + item.data.size
    if item.kind == BOOL:
        for i in range(count):
            out[i] = first[i] != 0
    elif item.width == 1:
        memcpy(out, first, count)
    elif item.width == 2:
        for i in range(count):
            (<uint16_t*>out)[i] = <uint16_t>load_u16(first + 2 * i)
    elif item.width == 4:
        for i in range(count):
            (<uint32_t*>out)[i] = load_u32(first + 4 * i)
    else:
        for i in range(count):
            (<uint64_t*>out)[i] = load_u64(first + 8 * i)
    item.data.size += count * item.width
    item.count += <Py_ssize_t>count
    return 0


cdef int read_vectors(BatchCursor* cursor, Node* node) noexcept nogil:
    cdef Node* item = node.child
    cdef const uint8_t** locations = <const uint8_t**>node.locations.data
    cdef const uint8_t** type_locations = <const uint8_t**>node.union_types.data
    cdef int64_t* offsets
    cdef int64_t end
    cdef Py_ssize_t i, message
    cdef const uint8_t* first = NULL
    cdef const uint8_t* types = NULL
    cdef uint64_t count = 0, type_count = 0
    cdef bint unions = node.op == OP_UNION_VECTOR
    if begin_offsets(node) or add_validity(node, locations):
        return -1
    offsets = <int64_t*>(node.offsets.data + node.offsets.size)
    # The new rows begin where the last one ends.
    end = (offsets - 1)[0]
    begin_items(item)
    for i in range(node.rows):
        if locations[i] is not NULL:
            message = message_of(node, i)
            if open_elements(cursor, node, message, locations[i], item.size, &first, &count):
                count = 0
            elif unions:
                if type_locations[i] is NULL:
                    type_count = 0
                elif open_elements(cursor, node, message, type_locations[i], node.width, &types, &type_count):
                    type_count = count = 0
                if count != type_count:
                    note_damage(
                        cursor, message, node, b"a vector of unions not as long as the vector of their types,",
                        <uint64_t>(first - 4 - (cursor.data + cursor.offsets[message])), 0,
                    )
                    count = 0
            if count:
                if item.op == OP_SCALAR:
                    if add_numbers(item, first, count):
                        return -1
                elif add_items(item, message, first, count, types if unions else NULL):
                    return -1
                end += <int64_t>count
        offsets[i] = end
    node.offsets.size += <size_t>node.rows * sizeof(int64_t)
    node.count += node.rows
    if item.op == OP_SCALAR:
        return 0
    item.row_messages = <const uint32_t*>item.message_indices.data
    return read_node(cursor, item)


cdef int read_arrays(BatchCursor* cursor, Node* node) noexcept nogil:
    """Reads fixed arrays in structs. The column has their elements even in rows whose struct is absent."""
    cdef Node* item = node.child
    cdef const uint8_t** locations = <const uint8_t**>node.locations.data
    cdef const uint8_t** item_locations
    cdef uint32_t* messages
    cdef Py_ssize_t i, k, total = node.rows * <Py_ssize_t>node.length
    if add_validity(node, locations):
        return -1
    if resize(&item.locations, <size_t>total * sizeof(uint8_t*)) or (
        resize(&item.message_indices, <size_t>total * sizeof(uint32_t))
    ):
        return -1
    item_locations = <const uint8_t**>item.locations.data
    messages = <uint32_t*>item.message_indices.data
    for i in range(node.rows):
        for k in range(<Py_ssize_t>node.length):
            item_locations[0] = locations[i] + k * <Py_ssize_t>item.size if locations[i] is not NULL else NULL
            messages[0] = <uint32_t>message_of(node, i)
            item_locations += 1
            messages += 1
    item.rows = total
    item.row_messages = <const uint32_t*>item.message_indices.data
    node.count += node.rows
    return read_node(cursor, item)


cdef inline const uint8_t* union_value(
    BatchCursor* cursor, const Node* node, Py_ssize_t i, const uint8_t* location
) noexcept nogil:
    """The location of the value of row `i`, whose type is known; NULL if it lies outside of the message."""
    cdef Py_ssize_t message = message_of(node, i)
    cdef uint64_t offset = <uint64_t>(location - (cursor.data + cursor.offsets[message]))
    # A message with locations has at least 4 bytes.
    if unlikely(offset > <uint64_t>cursor.lengths[message] - 4):
        note_damage(cursor, message, node, b"a field", offset, 4)
        return NULL
    return location


cdef int read_unions(BatchCursor* cursor, Node* node) noexcept nogil:
    cdef const uint8_t** locations = <const uint8_t**>node.locations.data
    cdef const uint8_t** objects
    cdef const uint8_t** child_locations
    cdef const uint8_t* types = node.union_types.data
    cdef Node* child = node.child
    cdef Py_ssize_t i
    # The location of each value whose type is in the schema.
    if resize(&node.objects, <size_t>node.rows * sizeof(uint8_t*)):
        return -1
    objects = <const uint8_t**>node.objects.data
    for i in range(node.rows):
        objects[i] = NULL
    while child is not NULL:
        if resize(&child.locations, <size_t>node.rows * sizeof(uint8_t*)):
            return -1
        child_locations = <const uint8_t**>child.locations.data
        if node.width != 1:
            for i in range(node.rows):
                child_locations[i] = NULL
                if (<const uint32_t*>types)[i] == <uint32_t>child.rank and locations[i] is not NULL:
                    child_locations[i] = objects[i] = union_value(cursor, node, i, locations[i])
        else:
            for i in range(node.rows):
                if types[i] == child.variant and locations[i] is not NULL:
                    child_locations[i] = objects[i] = union_value(cursor, node, i, locations[i])
                else:
                    child_locations[i] = NULL
        child.rows = node.rows
        child.row_messages = node.row_messages
        if read_node(cursor, child):
            return -1
        child = child.next
    if node.has_column:
        if add_validity(node, objects):
            return -1
        node.count += node.rows
    return 0


cdef int read_node(BatchCursor* cursor, Node* node) noexcept nogil:
    """Appends a row to the columns of a node for each of its locations; -1 without memory."""
    if node.op == OP_SCALAR:
        return read_scalars(node)
    if node.op == OP_STRING or node.op == OP_BINARY:
        return read_strings(cursor, node)
    if node.op == OP_VECTOR or node.op == OP_UNION_VECTOR:
        return read_vectors(cursor, node)
    if node.op == OP_ARRAY:
        return read_arrays(cursor, node)
    if node.op == OP_UNION:
        return read_unions(cursor, node)
    if node.op == OP_TABLE:
        if open_tables(cursor, node):
            return -1
    elif open_structs(cursor, node):
        return -1
    if node.has_column:
        if add_validity(node, <const uint8_t**>node.objects.data):
            return -1
        node.count += node.rows
    return read_members(cursor, node)

# cython: boundscheck=False, wraparound=False, cdivision=True
"""Messages as columns: for each batch of frames, one field of all messages after the other.

The tables of a batch are looked up first, each once: where it is, and which *shape* it has. A shape is what the vtable
says of the chosen fields. Nearly all messages of a stream have the shape of the one before them, so it is compared with
that, and looked up among all that were seen if it is another. When the fields of a shape end is known, so one
comparison with the end of the message is enough for all of them, and reading a column is a loop that loads and stores.

Nothing is looked at before its bounds are checked, and every offset is loaded once: checked and followed as the same
number, even if somebody else writes to the memory meanwhile. A message that turns out to be damaged is noted, and its
values are taken for absent. When all columns of the batch are read and there were any such messages, the batch is read
again without them.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from flatstream._core.base.buffers cimport try_grow
from flatstream._core.base.endian cimport load_u16, load_u32, load_u64
from flatstream._core.column_reader.plan cimport (
    OP_ARRAY, OP_BINARY, OP_SCALAR, OP_STRING, OP_STRUCT, OP_TABLE, OP_UNION, OP_UNION_VECTOR, OP_VECTOR, Memory, Node,
    Shape,
)
from flatstream._core.flatbuf.kinds cimport BOOL
from flatstream._core.flatbuf.verifier cimport find_not_utf8


cdef extern from *:
    """
    #ifdef __GNUC__
    #define FS_UNLIKELY(x) __builtin_expect(!!(x), 0)
    #else
    #define FS_UNLIKELY(x) (x)
    #endif
    #define FS_HIGH_BITS 0x8080808080808080u
    #define FS_GOLDEN 0x9E3779B97F4A7C15u
    """
    # The highest bit of each byte, and 2**64 divided by the golden ratio: a multiplier that mixes bits well.
    const uint64_t HIGH_BITS "FS_HIGH_BITS"
    const uint64_t GOLDEN "FS_GOLDEN"
    bint unlikely "FS_UNLIKELY"(bint) noexcept nogil


# A table of shapes is begun anew once it has more than this.
cdef Py_ssize_t MOST_SHAPES = 4096


cdef int make_room(Memory* memory, size_t more) noexcept nogil:
    """Room for `more` bytes behind those that are there; -1 if there is none."""
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


# Damage


cdef inline int refuse(
    Reading* reading, Py_ssize_t message, const Node* node, const char* what, uint64_t place, uint64_t needed
) noexcept nogil:
    """Notes that a message is damaged. Of the first such message, what was found first is what is told."""
    if not reading.bad[message]:
        reading.bad[message] = 1
        reading.bad_count += 1
        if reading.row < 0 or message < reading.row:
            reading.row = message
            reading.node = node.number
            reading.what = what
            reading.place = place
            reading.needed = needed
    return 0


cdef inline int spend(Reading* reading, Py_ssize_t message, uint64_t size) noexcept nogil:
    """Counts what is read of what repeats; -1 if that is too much."""
    if size > reading.budget[message]:
        return -1
    reading.budget[message] -= size
    return 0


cdef inline Py_ssize_t message_of(const Node* node, Py_ssize_t i) noexcept nogil:
    return i if node.message is NULL else <Py_ssize_t>node.message[i]


# Shapes


cdef inline bint same_bytes(const uint8_t* a, const uint8_t* b, uint32_t size) noexcept nogil:
    """Whether two runs of an even number of bytes are equal. (Nearly always they are, and short.)"""
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


cdef uint64_t hash_bytes(const uint8_t* data, uint32_t size) noexcept nogil:
    cdef uint64_t value = size
    cdef uint32_t i
    for i in range(0, size, 2):
        value = (value ^ load_u16(data + i)) * GOLDEN
        value ^= value >> 29
    return value


cdef Py_ssize_t find_shape(Node* node, const uint8_t* entries, uint32_t size) noexcept nogil:
    """The number of the shape with these entries of a vtable, which is added if it is new; -1 without memory."""
    cdef uint64_t value
    cdef size_t place, mask
    cdef int32_t* table = <int32_t*>node.table.data
    cdef Shape* shape
    cdef size_t slots = node.table.size // sizeof(int32_t)
    cdef uint32_t stride = node.reach
    cdef uint8_t* key
    # Entries are loaded once: what is hashed, compared and kept must be the same.
    if make_room(&node.keys, stride) or make_room(&node.shapes, sizeof(Shape)):
        return -1
    key = node.keys.data + node.keys.size
    memcpy(key, entries, size)
    memset(key + size, 0, stride - size)
    value = hash_bytes(key, size)
    if <size_t>node.shape_count * 2 >= slots:
        if rehash(node, max(2 * slots, <size_t>16)):
            return -1
        table = <int32_t*>node.table.data
        slots = node.table.size // sizeof(int32_t)
    mask = slots - 1
    place = <size_t>value & mask
    while table[place] >= 0:
        shape = <Shape*>node.shapes.data + table[place]
        if shape.hash == value and shape.key_size == size and (
            memcmp(node.keys.data + <size_t>table[place] * stride, key, size) == 0
        ):
            return table[place]
        place = (place + 1) & mask
    table[place] = <int32_t>node.shape_count
    shape = <Shape*>node.shapes.data + node.shape_count
    measure_shape(node, key, shape)
    shape.key_size = size
    shape.hash = value
    node.keys.size += stride
    node.shapes.size += sizeof(Shape)
    node.shape_count += 1
    return node.shape_count - 1


cdef int measure_shape(const Node* node, const uint8_t* key, Shape* shape) noexcept nogil:
    """How far the chosen fields of a table with these entries reach."""
    cdef const Node* child = node.child
    cdef uint32_t offset
    shape.extent = 4
    shape.missing = 0
    while child is not NULL:
        offset = load_u16(key + child.offset - 4)
        if offset:
            shape.extent = max(shape.extent, offset + child.size)
        elif child.required and not shape.missing:
            shape.missing = child.rank
        if child.type_offset:
            offset = load_u16(key + child.type_offset - 4)
            if offset:
                shape.extent = max(shape.extent, offset + (4 if child.op == OP_UNION_VECTOR else 1))
        child = child.next
    return 0


cdef int rehash(Node* node, size_t slots) noexcept nogil:
    cdef int32_t* table
    cdef size_t i, place, mask = slots - 1
    if resize(&node.table, slots * sizeof(int32_t)):
        return -1
    table = <int32_t*>node.table.data
    memset(table, 0xFF, slots * sizeof(int32_t))
    for i in range(<size_t>node.shape_count):
        place = <size_t>(<Shape*>node.shapes.data)[i].hash & mask
        while table[place] >= 0:
            place = (place + 1) & mask
        table[place] = <int32_t>i
    return 0


cdef int forget_shapes(Node* node) noexcept nogil:
    if node.shape_count > MOST_SHAPES:
        node.shape_count = 0
        node.last_shape = -1
        node.keys.size = 0
        node.shapes.size = 0
        if node.table.data is not NULL:
            memset(node.table.data, 0xFF, node.table.size)
    return 0


# Tables


cdef inline int open_row(
    Reading* reading, Node* node, Py_ssize_t i, Py_ssize_t message, const uint8_t* data, uint64_t size, uint64_t place,
    const uint8_t** places, uint32_t* shape_numbers
) noexcept nogil:
    """Row `i` is the table at `place` of a message, if one is there; -1 without memory."""
    cdef int64_t vtable
    cdef uint32_t vtable_size, key_size
    cdef const uint8_t* entries
    cdef Shape* shape
    places[i] = NULL
    shape_numbers[i] = 0
    if unlikely(size < 4 or place > size - 4):
        return refuse(reading, message, node, b"a table", place, 4)
    vtable = <int64_t>place - <int64_t><int32_t>load_u32(data + place)
    if unlikely(vtable < 0):
        return refuse(reading, message, node, b"a vtable before the message, of a table", place, 4)
    if unlikely(<uint64_t>vtable > size - 2):
        return refuse(reading, message, node, b"a vtable", <uint64_t>vtable, 2)
    vtable_size = load_u16(data + vtable)
    if unlikely(vtable_size > size - <uint64_t>vtable):
        return refuse(reading, message, node, b"a vtable", <uint64_t>vtable, vtable_size)
    # One too small for the two sizes that it begins with has no entries, as the verifier sees it.
    key_size = (min(max(vtable_size, <uint32_t>4), node.reach) - 4) & ~<uint32_t>1
    entries = data + vtable + 4
    if unlikely(node.last_shape < 0) or (<Shape*>node.shapes.data)[node.last_shape].key_size != key_size or (
        not same_bytes(entries, node.keys.data + <size_t>node.last_shape * node.reach, key_size)
    ):
        node.last_shape = find_shape(node, entries, key_size)
        if node.last_shape < 0:
            return -1
    shape = <Shape*>node.shapes.data + node.last_shape
    if unlikely(shape.extent > size - place):
        return refuse_field(reading, node, message, size, place)
    if unlikely(shape.missing != 0):
        return refuse_missing(reading, node, message, shape.missing, place)
    places[i] = data + place
    shape_numbers[i] = <uint32_t>node.last_shape
    return 0


cdef int refuse_field(
    Reading* reading, const Node* node, Py_ssize_t message, uint64_t size, uint64_t place
) noexcept nogil:
    """Tells which field of a table lies outside of its message."""
    cdef const uint8_t* key = node.keys.data + <size_t>node.last_shape * node.reach
    cdef const Node* child = node.child
    cdef uint32_t offset, needed
    while child is not NULL:
        offset = load_u16(key + child.offset - 4)
        needed = child.size
        if not offset or offset + needed <= size - place:
            offset = load_u16(key + child.type_offset - 4) if child.type_offset else 0
            needed = 4 if child.op == OP_UNION_VECTOR else 1
        if offset and offset + needed > size - place:
            return refuse(reading, message, child, b"a field", place + offset, needed)
        child = child.next
    return refuse(reading, message, node, b"a table", place, 4)


cdef int refuse_missing(
    Reading* reading, const Node* node, Py_ssize_t message, int32_t rank, uint64_t place
) noexcept nogil:
    cdef const Node* child = node.child
    while child.rank != rank:
        child = child.next
    # What needs no bytes is missing.
    return refuse(reading, message, child, b"a required field, missing from the table", place, 0)


cdef int open_roots(Reading* reading, Node* node) noexcept nogil:
    cdef Py_ssize_t i
    cdef const uint8_t* data
    cdef uint64_t size
    cdef const uint8_t** places
    cdef uint32_t* shape_numbers
    node.rows = reading.count
    node.message = NULL
    if resize(&node.places, <size_t>node.rows * sizeof(uint8_t*)) or (
        resize(&node.shape_numbers, <size_t>node.rows * sizeof(uint32_t))
    ):
        return -1
    places = <const uint8_t**>node.places.data
    shape_numbers = <uint32_t*>node.shape_numbers.data
    for i in range(node.rows):
        data = reading.base + reading.starts[i]
        size = <uint64_t>reading.sizes[i]
        if unlikely(size < 4):
            places[i] = NULL
            shape_numbers[i] = 0
            refuse(reading, i, node, b"the offset of the root", 0, 4)
        elif open_row(reading, node, i, i, data, size, load_u32(data), places, shape_numbers):
            return -1
    look_for_uniformity(node)
    return 0


cdef int look_for_uniformity(Node* node) noexcept nogil:
    """Sees whether all rows have the same shape, and none is absent."""
    cdef const uint8_t** places = <const uint8_t**>node.places.data
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
        absent |= places[i] is NULL
    node.uniform = not different and not absent
    return 0


cdef int open_tables(Reading* reading, Node* node) noexcept nogil:
    """The tables that offsets in the slots lead to."""
    cdef const uint8_t** slots = <const uint8_t**>node.slots.data
    cdef const uint8_t** places
    cdef uint32_t* shape_numbers
    cdef const uint8_t* data
    cdef uint64_t size, target
    cdef Py_ssize_t i, message
    if resize(&node.places, <size_t>node.rows * sizeof(uint8_t*)) or (
        resize(&node.shape_numbers, <size_t>node.rows * sizeof(uint32_t))
    ):
        return -1
    places = <const uint8_t**>node.places.data
    shape_numbers = <uint32_t*>node.shape_numbers.data
    for i in range(node.rows):
        if slots[i] is NULL:
            places[i] = NULL
            shape_numbers[i] = 0
            continue
        message = message_of(node, i)
        data = reading.base + reading.starts[message]
        size = <uint64_t>reading.sizes[message]
        target = <uint64_t>(slots[i] - data) + load_u32(slots[i])
        if open_row(reading, node, i, message, data, size, target, places, shape_numbers):
            return -1
        if node.repeats and places[i] is not NULL and spend(
            reading, message, (<Shape*>node.shapes.data)[node.last_shape].extent
        ):
            places[i] = NULL
            refuse(reading, message, node, b"more repetition than is allowed, in a table", target, 0)
    look_for_uniformity(node)
    return 0


cdef int open_structs(Reading* reading, Node* node) noexcept nogil:
    """The structs in the slots, or those that offsets there lead to."""
    cdef const uint8_t** slots = <const uint8_t**>node.slots.data
    cdef const uint8_t** places
    cdef const uint8_t* data
    cdef uint64_t size, target
    cdef Py_ssize_t i, message
    cdef bint absent = False
    if resize(&node.places, <size_t>node.rows * sizeof(uint8_t*)):
        return -1
    places = <const uint8_t**>node.places.data
    if node.op == OP_STRUCT:
        for i in range(node.rows):
            places[i] = slots[i]
            absent |= slots[i] is NULL
    else:
        for i in range(node.rows):
            places[i] = NULL
            if slots[i] is NULL:
                absent = True
                continue
            message = message_of(node, i)
            data = reading.base + reading.starts[message]
            size = <uint64_t>reading.sizes[message]
            target = <uint64_t>(slots[i] - data) + load_u32(slots[i])
            if target > size or node.size > size - target:
                refuse(reading, message, node, b"a struct", target, node.size)
                absent = True
            else:
                places[i] = data + target
    node.uniform = node.rows and not absent
    return 0


# Validity


cdef int add_validity(Node* node, const uint8_t** there) noexcept nogil:
    """Adds whether rows are there."""
    cdef Py_ssize_t i, nulls = 0
    cdef uint8_t* valid
    if not node.keeps_validity:
        return 0
    if make_room(&node.validity, <size_t>node.rows):
        return -1
    valid = node.validity.data + node.validity.size
    for i in range(node.rows):
        valid[i] = there[i] is not NULL
        nulls += there[i] is NULL
    node.validity.size += <size_t>node.rows
    node.null_count += nulls
    return 0


cdef int add_valid(Node* node) noexcept nogil:
    """Adds that all rows are there."""
    if not node.keeps_validity:
        return 0
    if make_room(&node.validity, <size_t>node.rows):
        return -1
    memset(node.validity.data + node.validity.size, 1, <size_t>node.rows)
    node.validity.size += <size_t>node.rows
    return 0


# Children of tables and structs


cdef inline int64_t offset_in(const Node* parent, uint32_t shape_number, uint16_t offset) noexcept nogil:
    """Where a field is in a table of a shape; 0 if it is absent."""
    return load_u16(parent.keys.data + <size_t>shape_number * parent.reach + offset - 4)


cdef int fill_slots(const Node* parent, Node* child, Memory* memory, uint16_t offset, bint has_default) noexcept nogil:
    """Where a field is in each row of its parent; NULL where it is absent."""
    cdef const uint8_t** places = <const uint8_t**>parent.places.data
    cdef const uint32_t* shape_numbers = <const uint32_t*>parent.shape_numbers.data
    cdef const uint8_t** slots
    cdef const uint8_t* absent = child.default_bytes if has_default else NULL
    cdef Py_ssize_t i
    cdef int64_t place
    if resize(memory, <size_t>parent.rows * sizeof(uint8_t*)):
        return -1
    slots = <const uint8_t**>memory.data
    if parent.op != OP_TABLE:
        for i in range(parent.rows):
            slots[i] = places[i] + offset if places[i] is not NULL else NULL
        return 0
    if parent.uniform:
        place = offset_in(parent, shape_numbers[0], offset)
        for i in range(parent.rows):
            slots[i] = places[i] + place if place else absent
        return 0
    for i in range(parent.rows):
        if places[i] is NULL:
            slots[i] = NULL
        else:
            place = offset_in(parent, shape_numbers[i], offset)
            slots[i] = places[i] + place if place else absent
    return 0


cdef int read_members(Reading* reading, Node* node) noexcept nogil:
    """All children of a table or struct whose places are known."""
    cdef Node* child = node.child
    while child is not NULL:
        child.rows = node.rows
        child.message = node.message
        if child.op == OP_SCALAR:
            if read_scalar_member(node, child):
                return -1
        else:
            if fill_slots(node, child, &child.slots, child.offset, False):
                return -1
            if child.type_offset and fill_slots(node, child, &child.types, child.type_offset, False):
                return -1
            if child.op == OP_UNION and load_types(child):
                return -1
            if read_node(reading, child):
                return -1
        child = child.next
    return 0


cdef int load_types(Node* node) noexcept nogil:
    """The types of unions, instead of the places of these. A union without a value has none."""
    cdef const uint8_t** places = <const uint8_t**>node.types.data
    cdef const uint8_t** slots = <const uint8_t**>node.slots.data
    cdef uint8_t* types = node.types.data
    cdef Py_ssize_t i
    cdef const uint8_t* place
    for i in range(node.rows):
        # Each place has 8 bytes, of which the number overwrites those of an earlier one.
        place = places[i]
        types[i] = place[0] if place is not NULL and slots[i] is not NULL else 0
    return 0


cdef int read_scalar_member(const Node* parent, Node* child) noexcept nogil:
    cdef const uint8_t** places = <const uint8_t**>parent.places.data
    cdef Py_ssize_t i, count = parent.rows
    cdef int64_t offset
    cdef uint8_t* out
    if not parent.uniform:
        return fill_slots(parent, child, &child.slots, child.offset, child.has_default) or read_scalars(child)
    offset = child.offset
    if parent.op == OP_TABLE:
        offset = offset_in(parent, (<const uint32_t*>parent.shape_numbers.data)[0], child.offset)
        if not offset:
            return fill_slots(parent, child, &child.slots, child.offset, child.has_default) or read_scalars(child)
    if add_valid(child) or make_room(&child.data, <size_t>count * child.width):
        return -1
    out = child.data.data + child.data.size
    if child.width == 8:
        for i in range(count):
            (<uint64_t*>out)[i] = load_u64(places[i] + offset)
    elif child.width == 4:
        for i in range(count):
            (<uint32_t*>out)[i] = load_u32(places[i] + offset)
    elif child.width == 2:
        for i in range(count):
            (<uint16_t*>out)[i] = <uint16_t>load_u16(places[i] + offset)
    elif child.kind == BOOL:
        for i in range(count):
            out[i] = places[i][offset] != 0
    else:
        for i in range(count):
            out[i] = places[i][offset]
    child.data.size += <size_t>count * child.width
    child.count += count
    return 0


# Nodes of each kind, with slots


cdef int read_scalars(Node* node) noexcept nogil:
    cdef const uint8_t** slots = <const uint8_t**>node.slots.data
    cdef uint64_t fill = node.fill_bits
    cdef uint8_t* out
    cdef Py_ssize_t i
    if add_validity(node, slots) or make_room(&node.data, <size_t>node.rows * node.width):
        return -1
    out = node.data.data + node.data.size
    if node.width == 8:
        for i in range(node.rows):
            (<uint64_t*>out)[i] = load_u64(slots[i]) if slots[i] is not NULL else fill
    elif node.width == 4:
        for i in range(node.rows):
            (<uint32_t*>out)[i] = load_u32(slots[i]) if slots[i] is not NULL else <uint32_t>fill
    elif node.width == 2:
        for i in range(node.rows):
            (<uint16_t*>out)[i] = <uint16_t>load_u16(slots[i]) if slots[i] is not NULL else <uint16_t>fill
    elif node.kind == BOOL:
        for i in range(node.rows):
            out[i] = slots[i][0] != 0 if slots[i] is not NULL else fill != 0
    else:
        for i in range(node.rows):
            out[i] = slots[i][0] if slots[i] is not NULL else <uint8_t>fill
    node.data.size += <size_t>node.rows * node.width
    node.count += node.rows
    return 0


cdef int begin_offsets(Node* node) noexcept nogil:
    """Room for an offset for each row, and the first of all."""
    if make_room(&node.offsets, (<size_t>node.rows + 1) * sizeof(int64_t)):
        return -1
    if not node.offsets.size:
        (<int64_t*>node.offsets.data)[0] = 0
        node.offsets.size = sizeof(int64_t)
    return 0


cdef inline int open_elements(
    Reading* reading, Node* node, Py_ssize_t message, const uint8_t* slot, uint64_t width, const uint8_t** first,
    uint64_t* count
) noexcept nogil:
    """The elements of the vector that an offset in a slot leads to; -1 if they are not all there."""
    cdef const uint8_t* data = reading.base + reading.starts[message]
    cdef uint64_t size = <uint64_t>reading.sizes[message], target, length
    cdef const char* what = b"a string" if node.op == OP_STRING else b"a vector"
    count[0] = 0
    target = <uint64_t>(slot - data) + load_u32(slot)
    # A message has 4 bytes at least, or it would have no slots.
    if unlikely(target > size - 4):
        refuse(reading, message, node, b"the length of a string" if node.op == OP_STRING else b"the length of a vector",
               target, 4)
        return -1
    length = load_u32(data + target)
    # At most 2**32 elements of less than 2**31 bytes.
    if unlikely(length * width > size - target - 4):
        refuse(reading, message, node, what, target + 4, length * width)
        return -1
    if node.repeats and spend(reading, message, length * width + 4):
        refuse(reading, message, node, b"more repetition than is allowed, in a vector", target, 0)
        return -1
    first[0] = data + target + 4
    count[0] = length
    return 0


cdef int read_texts(Reading* reading, Node* node) noexcept nogil:
    cdef const uint8_t** slots = <const uint8_t**>node.slots.data
    cdef int64_t* offsets
    cdef size_t begin = node.data.size
    cdef Py_ssize_t i, message
    cdef const uint8_t* first = NULL
    cdef uint64_t length = 0
    if begin_offsets(node) or add_validity(node, slots):
        return -1
    offsets = <int64_t*>(node.offsets.data + node.offsets.size)
    for i in range(node.rows):
        if slots[i] is not NULL:
            message = message_of(node, i)
            if open_elements(reading, node, message, slots[i], 1, &first, &length) == 0 and length:
                if length > node.data.capacity - node.data.size and make_room(&node.data, length):
                    return -1
                memcpy(node.data.data + node.data.size, first, length)
                node.data.size += length
        offsets[i] = <int64_t>node.data.size
    if node.op == OP_STRING and not all_ascii(node.data.data + begin, node.data.size - begin):
        # On what was copied, which nobody else can change.
        for i in range(node.rows):
            first = node.data.data + (offsets[i - 1] if i else <int64_t>begin)
            length = <uint64_t>(node.data.data + offsets[i] - first)
            if find_not_utf8(first, length) >= 0:
                message = message_of(node, i)
                refuse(
                    reading, message, node, b"a string that is not UTF-8",
                    <uint64_t>(slots[i] - (reading.base + reading.starts[message])) + load_u32(slots[i]), 0,
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


cdef int begin_items(Node* node, Node* item) noexcept nogil:
    item.rows = 0
    item.slots.size = 0
    item.messages.size = 0
    item.types.size = 0
    return 0


cdef int add_items(
    Node* item, Py_ssize_t message, const uint8_t* first, uint64_t count, const uint8_t* types
) noexcept nogil:
    """Slots for the elements of a vector."""
    cdef const uint8_t** slots
    cdef uint32_t* messages
    cdef uint64_t i
    if make_room(&item.slots, count * sizeof(uint8_t*)) or make_room(&item.messages, count * sizeof(uint32_t)):
        return -1
    slots = <const uint8_t**>(item.slots.data + item.slots.size)
    messages = <uint32_t*>(item.messages.data + item.messages.size)
    for i in range(count):
        slots[i] = first + i * item.size
        messages[i] = <uint32_t>message
    item.slots.size += count * sizeof(uint8_t*)
    item.messages.size += count * sizeof(uint32_t)
    item.rows += <Py_ssize_t>count
    if types is not NULL:
        if make_room(&item.types, count):
            return -1
        memcpy(item.types.data + item.types.size, types, count)
        item.types.size += count
    return 0


cdef int add_numbers(Node* item, const uint8_t* first, uint64_t count) noexcept nogil:
    """The numbers of a vector, which are a column as they are on a machine with their byte order."""
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


cdef int read_vectors(Reading* reading, Node* node) noexcept nogil:
    cdef Node* item = node.child
    cdef const uint8_t** slots = <const uint8_t**>node.slots.data
    cdef const uint8_t** type_slots = <const uint8_t**>node.types.data
    cdef int64_t* offsets
    cdef int64_t end
    cdef Py_ssize_t i, message
    cdef const uint8_t* first = NULL
    cdef const uint8_t* types = NULL
    cdef uint64_t count = 0, type_count = 0
    cdef bint unions = node.op == OP_UNION_VECTOR
    if begin_offsets(node) or add_validity(node, slots):
        return -1
    offsets = <int64_t*>(node.offsets.data + node.offsets.size)
    # Behind the last of those that are there.
    end = (offsets - 1)[0]
    begin_items(node, item)
    for i in range(node.rows):
        if slots[i] is not NULL:
            message = message_of(node, i)
            if open_elements(reading, node, message, slots[i], item.size, &first, &count):
                count = 0
            elif unions:
                if type_slots[i] is NULL:
                    type_count = 0
                elif open_elements(reading, node, message, type_slots[i], 1, &types, &type_count):
                    type_count = count = 0
                if count != type_count:
                    refuse(reading, message, node, b"a vector of another length than that of its types",
                           <uint64_t>(first - 4 - (reading.base + reading.starts[message])), 0)
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
    item.message = <const uint32_t*>item.messages.data
    return read_node(reading, item)


cdef int read_arrays(Reading* reading, Node* node) noexcept nogil:
    """Fixed arrays inside of structs, whose elements are there even where the struct is not."""
    cdef Node* item = node.child
    cdef const uint8_t** slots = <const uint8_t**>node.slots.data
    cdef const uint8_t** item_slots
    cdef uint32_t* messages
    cdef Py_ssize_t i, k, total = node.rows * <Py_ssize_t>node.length
    if add_validity(node, slots):
        return -1
    if resize(&item.slots, <size_t>total * sizeof(uint8_t*)) or (
        resize(&item.messages, <size_t>total * sizeof(uint32_t))
    ):
        return -1
    item_slots = <const uint8_t**>item.slots.data
    messages = <uint32_t*>item.messages.data
    for i in range(node.rows):
        for k in range(<Py_ssize_t>node.length):
            item_slots[0] = slots[i] + k * <Py_ssize_t>item.size if slots[i] is not NULL else NULL
            messages[0] = <uint32_t>message_of(node, i)
            item_slots += 1
            messages += 1
    item.rows = total
    item.message = <const uint32_t*>item.messages.data
    node.count += node.rows
    return read_node(reading, item)


cdef int read_unions(Reading* reading, Node* node) noexcept nogil:
    cdef const uint8_t** slots = <const uint8_t**>node.slots.data
    cdef const uint8_t** places
    cdef const uint8_t** child_slots
    cdef const uint8_t* types = node.types.data
    cdef Node* child = node.child
    cdef Py_ssize_t i
    # Where a value is of one of the types that are known.
    if resize(&node.places, <size_t>node.rows * sizeof(uint8_t*)):
        return -1
    places = <const uint8_t**>node.places.data
    for i in range(node.rows):
        places[i] = NULL
    while child is not NULL:
        if resize(&child.slots, <size_t>node.rows * sizeof(uint8_t*)):
            return -1
        child_slots = <const uint8_t**>child.slots.data
        for i in range(node.rows):
            if types[i] == child.variant and slots[i] is not NULL:
                child_slots[i] = places[i] = slots[i]
            else:
                child_slots[i] = NULL
        child.rows = node.rows
        child.message = node.message
        if read_node(reading, child):
            return -1
        child = child.next
    if node.emits:
        if add_validity(node, places):
            return -1
        node.count += node.rows
    return 0


cdef int read_node(Reading* reading, Node* node) noexcept nogil:
    """Adds the rows that a node has slots for to its columns; -1 without memory."""
    if node.op == OP_SCALAR:
        return read_scalars(node)
    if node.op == OP_STRING or node.op == OP_BINARY:
        return read_texts(reading, node)
    if node.op == OP_VECTOR or node.op == OP_UNION_VECTOR:
        return read_vectors(reading, node)
    if node.op == OP_ARRAY:
        return read_arrays(reading, node)
    if node.op == OP_UNION:
        return read_unions(reading, node)
    if node.op == OP_TABLE:
        if open_tables(reading, node):
            return -1
    elif open_structs(reading, node):
        return -1
    if node.emits:
        if add_validity(node, <const uint8_t**>node.places.data):
            return -1
        node.count += node.rows
    return read_members(reading, node)

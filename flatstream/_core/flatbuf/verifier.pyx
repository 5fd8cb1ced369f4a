# cython: boundscheck=False, wraparound=False, cdivision=True
"""The verifier: checks whether untrusted bytes can be read as a FlatBuffer.

It performs the same checks, in the same order, as the verifier of the Rust crate `flatbuffers` with the code that flatc
generates for Rust, so that both accept the same messages, but for those in which only an empty vector is misaligned:
flatc writes such messages, and the crate refuses them. Every offset is compared with the size of the message before
bytes at it are read, and nothing is written. `docs/verifying.md` lists the differences from the documentation of
FlatBuffers.

Offsets are counted from the first byte of the message. They are 64-bit numbers. A distance that is added to an offset
has at most 32 bits, so the sum of a checked offset and a distance cannot overflow.
"""

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.base.buffers cimport acquire
from flatstream._core.base.checks cimport checked_int, index_of
from flatstream._core.base.endian cimport load_u16, load_u32, load_u64, low_bytes


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# Verification is recursive: each level of nesting takes 300 bytes of the stack.
cdef Py_ssize_t MAX_VERIFIER_DEPTH = 1000
# The largest limit of tables and bytes that can be set.
cdef Py_ssize_t MAX_LIMIT = <Py_ssize_t>1 << 62

# The mask with which a negative number becomes 64 bits without a sign.
cdef object ALL_BITS = 0xFFFFFFFFFFFFFFFF

# The bytes of the size in front of a size-prefixed message.
cdef uint64_t SIZE_PREFIX = 4
cdef str HINT_AT_PREFIX = (
    "; counted from 4 bytes before the message it is: to read size-prefixed messages, load the schema with "
    "size_prefixed=True"
)

# The high bit of each of eight bytes: none is set if all eight are ASCII.
cdef uint64_t HIGH_BITS = <uint64_t>0x80808080 << 32 | <uint64_t>0x80808080

cdef enum Fault:
    SOUND
    UNALIGNED
    OUT_OF_RANGE
    VTABLE_OUT_OF_RANGE
    TOO_DEEP
    TOO_MANY_TABLES
    TOO_LARGE
    MISSING
    INCONSISTENT_UNION
    NO_TERMINATOR
    NOT_UTF8
    UNEQUAL_VECTORS

REASONS = {
    UNALIGNED: "{item} at byte {offset} is not aligned to {detail} bytes",
    OUT_OF_RANGE: "{item} at byte {offset} needs {detail} bytes, but the message ends at {size}",
    VTABLE_OUT_OF_RANGE: "the table at byte {offset} has its vtable {detail} bytes away, outside the message",
    TOO_DEEP: "tables are nested deeper than the limit of {detail}",
    TOO_MANY_TABLES: "there are more tables than the limit of {detail}",
    TOO_LARGE: "the message has more than the limit of {detail} bytes if shared bytes are counted at each use",
    MISSING: "a required field is missing from the table at byte {offset}",
    INCONSISTENT_UNION: "a union in the table at byte {offset} has a type without a value, or a value without a type",
    NO_TERMINATOR: "the string at byte {offset} has no zero byte after its {detail} bytes",
    NOT_UTF8: "the string at byte {offset} is not UTF-8: see its byte {detail}",
    UNEQUAL_VECTORS: "a vector of unions in the table at byte {offset} and the vector of its types differ in length",
}


# The field and the element that are being verified at one level of nesting; -1 if none.
cdef struct PathStep:
    int32_t object
    Py_ssize_t field
    Py_ssize_t element


cdef struct Verification:
    const uint8_t* data
    uint64_t size
    # See Types.prefix_size.
    uint64_t prefix_size
    Limits limits
    Py_ssize_t depth
    Py_ssize_t tables
    uint64_t apparent_size
    # The first fault, and the values for its text in REASONS.
    Fault fault
    uint64_t offset
    int64_t detail
    const char* item
    # One step for each level of nesting; NULL if the path is not recorded.
    PathStep* path


cdef int note_fault(Verification* state, Fault fault, uint64_t offset, int64_t detail, const char* item) noexcept nogil:
    state.fault = fault
    state.offset = offset
    state.detail = detail
    state.item = item
    return -1


cdef inline int check_range(Verification* state, uint64_t offset, uint64_t size, const char* item) noexcept nogil:
    """Requires `size` bytes at `offset`, and adds them to the apparent size."""
    # A subtraction, because a sum could overflow.
    if offset > state.size or size > state.size - offset:
        return note_fault(state, OUT_OF_RANGE, offset, <int64_t>size, item)
    state.apparent_size += size
    if state.apparent_size > state.limits.max_apparent_size:
        return note_fault(state, TOO_LARGE, offset, <int64_t>state.limits.max_apparent_size, item)
    return 0


cdef inline int check_number(Verification* state, uint64_t offset, uint64_t size, const char* item) noexcept nogil:
    """Requires an aligned number of `size` bytes at `offset`."""
    # The prefix has 4 bytes: only wider numbers are aligned differently with it.
    if (offset + state.prefix_size if size > 4 else offset) & (size - 1):
        return note_fault(state, UNALIGNED, offset, <int64_t>size, item)
    return check_range(state, offset, size, item)


cdef inline int read_u16(Verification* state, uint64_t offset, uint16_t* value, const char* item) noexcept nogil:
    if check_number(state, offset, 2, item):
        return -1
    value[0] = <uint16_t>load_u16(state.data + offset)
    return 0


cdef inline int read_u32(Verification* state, uint64_t offset, uint32_t* value, const char* item) noexcept nogil:
    if check_number(state, offset, 4, item):
        return -1
    value[0] = load_u32(state.data + offset)
    return 0


cdef inline int follow(Verification* state, uint64_t offset, uint64_t* target) noexcept nogil:
    """Reads the offset at `offset`. `target` is not checked yet."""
    cdef uint32_t distance = 0
    if read_u32(state, offset, &distance, b"an offset"):
        return -1
    target[0] = offset + distance
    return 0


cdef struct Table:
    uint64_t offset
    uint64_t vtable
    uint16_t vtable_size


cdef int enter_table(Verification* state, uint64_t offset, Table* table) noexcept nogil:
    cdef uint32_t raw = 0
    cdef int64_t distance
    if read_u32(state, offset, &raw, b"the offset of a vtable"):
        return -1
    distance = <int64_t><int32_t>raw
    # The vtable may be before or after the table: the signed distance is subtracted.
    if distance > 0 and <uint64_t>distance > offset:
        return note_fault(state, VTABLE_OUT_OF_RANGE, offset, -distance, b"")
    table.offset = offset
    table.vtable = offset - <uint64_t>distance
    if table.vtable >= state.size:
        return note_fault(state, VTABLE_OUT_OF_RANGE, offset, -distance, b"")
    if read_u16(state, table.vtable, &table.vtable_size, b"a vtable"):
        return -1
    if (table.vtable + table.vtable_size) & 1:
        return note_fault(state, UNALIGNED, table.vtable + table.vtable_size, 2, b"the end of a vtable")
    if check_range(state, table.vtable, table.vtable_size, b"a vtable"):
        return -1
    if state.depth == state.limits.max_depth:
        return note_fault(state, TOO_DEEP, offset, state.limits.max_depth, b"")
    if state.tables == state.limits.max_tables:
        return note_fault(state, TOO_MANY_TABLES, offset, state.limits.max_tables, b"")
    state.depth += 1
    state.tables += 1
    return 0


cdef inline int find_field(Verification* state, const Table* table, uint16_t entry, uint64_t* offset) noexcept nogil:
    """Finds the field whose vtable entry is at `entry`; 0 if it is absent. (No field is at byte 0 of a message.)"""
    cdef uint16_t distance = 0
    offset[0] = 0
    if entry >= table.vtable_size:
        return 0
    if read_u16(state, table.vtable + entry, &distance, b"an entry of a vtable"):
        return -1
    if distance:
        offset[0] = table.offset + distance
    return 0


cdef inline uint64_t width_of(uint8_t kind) noexcept nogil:
    """The size of a number, or of the offset to any other kind of value."""
    if kind == BOOL or kind == BYTE or kind == UBYTE or kind == UNION_TYPE:
        return 1
    if kind == SHORT or kind == USHORT:
        return 2
    if kind == LONG or kind == ULONG or kind == DOUBLE:
        return 8
    return 4


cdef int check_vector_bounds(
    Verification* state, uint64_t offset, uint64_t width, uint64_t alignment, uint64_t* start, uint64_t* count
) noexcept nogil:
    """Requires the length of the vector at `offset` and all of its elements. Without elements, there is nothing to
    align: flatc ends an empty vector where its length ends.
    """
    cdef uint32_t length = 0
    if read_u32(state, offset, &length, b"the length of a vector"):
        return -1
    start[0] = offset + 4
    count[0] = length
    if length and (start[0] + state.prefix_size) & (alignment - 1):
        return note_fault(state, UNALIGNED, start[0], <int64_t>alignment, b"a vector")
    return check_range(state, start[0], length * width, b"a vector")


cdef int64_t find_not_utf8(const uint8_t* p, uint64_t size) noexcept nogil:
    """The offset of the first byte that is not UTF-8 by RFC 3629 (surrogate, above U+10FFFF, overlong form), or -1."""
    cdef uint64_t i = 0
    cdef uint8_t first, low, high
    cdef int following
    while i < size:
        if size - i >= 8 and not load_u64(p + i) & HIGH_BITS:
            i += 8
            continue
        first = p[i]
        if first < 0x80:
            i += 1
            continue
        low = 0x80
        high = 0xBF
        if 0xC2 <= first <= 0xDF:
            following = 1
        elif 0xE0 <= first <= 0xEF:
            following = 2
            if first == 0xE0:
                low = 0xA0
            elif first == 0xED:
                high = 0x9F
        elif 0xF0 <= first <= 0xF4:
            following = 3
            if first == 0xF0:
                low = 0x90
            elif first == 0xF4:
                high = 0x8F
        else:
            return <int64_t>i
        if <uint64_t>following >= size - i:
            return <int64_t>i
        # Only the first continuation byte has a range that depends on the leading byte.
        if not low <= p[i + 1] <= high:
            return <int64_t>i
        if following > 1 and p[i + 2] & 0xC0 != 0x80:
            return <int64_t>i
        if following > 2 and p[i + 3] & 0xC0 != 0x80:
            return <int64_t>i
        i += 1 + <uint64_t>following
    return -1


cdef int verify_string(Verification* state, uint64_t offset) noexcept nogil:
    cdef uint64_t start = 0, length = 0
    cdef int64_t invalid
    if check_vector_bounds(state, offset, 1, 1, &start, &length):
        return -1
    invalid = find_not_utf8(state.data + start, length)
    if invalid >= 0:
        return note_fault(state, NOT_UTF8, offset, invalid, b"")
    if start + length >= state.size or state.data[start + length]:
        return note_fault(state, NO_TERMINATOR, offset, <int64_t>length, b"")
    return 0


cdef int verify_target(
    const ObjectType* objects, const UnionType* unions, Verification* state, uint64_t offset, uint8_t kind,
    int32_t index
) noexcept nogil:
    """Verifies the target of the offset at `offset`: a table, a string, or a struct as a variant of a union."""
    cdef uint64_t target = 0
    if follow(state, offset, &target):
        return -1
    if kind == STRING:
        return verify_string(state, target)
    if objects[index].is_struct:
        return check_range(state, target, objects[index].size, b"a struct")
    return verify_table(objects, unions, state, target, index)


cdef int verify_variant(
    const ObjectType* objects, const UnionType* unions, Verification* state, uint64_t offset, int32_t index,
    uint64_t type
) noexcept nogil:
    """Verifies the value of a union, whose offset is stored at `offset`. A value of an unknown type is not verified."""
    cdef const Variant* variant = find_variant(&unions[index], type)
    if variant is NULL or variant.kind == NOTHING:
        return 0
    return verify_target(objects, unions, state, offset, variant.kind, variant.index)


cdef int verify_vector(
    const ObjectType* objects, const UnionType* unions, Verification* state, uint64_t offset, const Field* field,
    PathStep* step
) noexcept nogil:
    cdef uint64_t start = 0, count = 0, i, width
    cdef uint64_t target = 0
    if follow(state, offset, &target):
        return -1
    if field.element == OBJECT and objects[field.index].is_struct:
        # Alignment is not checked: the reference reads structs as arrays of bytes.
        return check_vector_bounds(state, target, objects[field.index].size, 1, &start, &count)
    width = width_of(field.element)
    if check_vector_bounds(state, target, width, width, &start, &count):
        return -1
    if field.element != STRING and field.element != OBJECT:
        return 0
    for i in range(count):
        if step is not NULL:
            step.element = <Py_ssize_t>i
        if verify_target(objects, unions, state, start + 4 * i, field.element, field.index):
            return -1
    if step is not NULL:
        step.element = -1
    return 0


cdef int verify_union_vector(
    const ObjectType* objects, const UnionType* unions, Verification* state, const Table* table, uint64_t types_offset,
    uint64_t offset, const Field* field, PathStep* step
) noexcept nogil:
    """Verifies a vector of unions and the vector of their types. (The reference does not support them.)"""
    cdef uint64_t target = 0, start = 0, count = 0, types = 0, type_count = 0, i
    cdef uint64_t width = unions[field.index].type_width
    if follow(state, types_offset, &target) or check_vector_bounds(state, target, width, width, &types, &type_count):
        return -1
    if follow(state, offset, &target) or check_vector_bounds(state, target, 4, 4, &start, &count):
        return -1
    if count != type_count:
        return note_fault(state, UNEQUAL_VECTORS, table.offset, 0, b"")
    for i in range(count):
        if step is not NULL:
            step.element = <Py_ssize_t>i
        if verify_variant(
            objects, unions, state, start + 4 * i, field.index,
            load_type(&unions[field.index], state.data + types + width * i),
        ):
            return -1
    if step is not NULL:
        step.element = -1
    return 0


cdef int verify_table(
    const ObjectType* objects, const UnionType* unions, Verification* state, uint64_t offset, int32_t index
) noexcept nogil:
    cdef const ObjectType* type = &objects[index]
    cdef const Field* field
    cdef Table table
    cdef Py_ssize_t i
    cdef uint64_t field_offset = 0, type_offset = 0
    cdef PathStep* step = NULL
    if enter_table(state, offset, &table):
        return -1
    if state.path is not NULL:
        # `path` has room for `max_depth` steps and one more.
        step = state.path + (state.depth - 1)
        step.object = index
        step.field = -1
        step.element = -1
    for i in range(type.field_count):
        field = &type.fields[i]
        if field.skipped:
            continue
        if step is not NULL:
            step.field = i
        if find_field(state, &table, field.offset, &field_offset):
            return -1
        if field.type_offset:
            if find_field(state, &table, field.type_offset, &type_offset):
                return -1
            if (field_offset == 0) != (type_offset == 0):
                return note_fault(state, INCONSISTENT_UNION, offset, 0, b"")
        if not field_offset:
            if field.required:
                return note_fault(state, MISSING, offset, 0, b"")
            continue
        if field.kind == UNION:
            if check_number(state, type_offset, unions[field.index].type_width, b"the type of a union"):
                return -1
            if verify_variant(
                objects, unions, state, field_offset, field.index,
                load_type(&unions[field.index], state.data + type_offset),
            ):
                return -1
        elif field.kind == STRING:
            if verify_target(objects, unions, state, field_offset, STRING, -1):
                return -1
        elif field.kind == VECTOR:
            if field.element == UNION:
                if verify_union_vector(objects, unions, state, &table, type_offset, field_offset, field, step):
                    return -1
            elif verify_vector(objects, unions, state, field_offset, field, step):
                return -1
        elif field.kind == OBJECT:
            if objects[field.index].is_struct:
                if check_range(state, field_offset, objects[field.index].size, b"a struct"):
                    return -1
            elif verify_target(objects, unions, state, field_offset, OBJECT, field.index):
                return -1
        elif check_number(state, field_offset, width_of(field.kind), b"a field"):
            return -1
    state.depth -= 1
    return 0


cdef int check_limits(object max_depth, object max_tables, object max_apparent_size, Limits* limits) except -1:
    limits.max_depth = checked_int("max_depth", max_depth, 0, MAX_VERIFIER_DEPTH)
    limits.max_tables = checked_int("max_tables", max_tables, 0, MAX_LIMIT)
    limits.max_apparent_size = <uint64_t>checked_int("max_apparent_size", max_apparent_size, 0, MAX_LIMIT)
    return 0


cdef object describe_fault(const Verification* state):
    return REASONS[<int>state.fault].format(
        item=(<bytes>state.item).decode() if state.item is not NULL else "", offset=state.offset, detail=state.detail,
        size=state.size,
    )


cdef int init_verification(Verification* state, const uint8_t* data, Py_ssize_t size, const Limits* limits) noexcept:
    # Member by member: for a message of a few fields this is faster than `memset` and a copy.
    state.data = data
    state.size = <uint64_t>size
    state.prefix_size = 0
    state.limits = limits[0]
    state.depth = 0
    state.tables = 0
    state.apparent_size = 0
    state.fault = SOUND
    state.offset = 0
    state.detail = 0
    state.item = NULL
    state.path = NULL
    return 0


cdef object verify_table_root(const uint8_t* data, Py_ssize_t size, const Limits* limits):
    cdef Verification state
    cdef Table table
    cdef uint64_t offset = 0
    init_verification(&state, data, size, limits)
    if follow(&state, 0, &offset) or enter_table(&state, offset, &table):
        return describe_fault(&state)
    return None


cdef int32_t check_root(object types, object number) except -1:
    """`number`, which must be the number of a table in `types`, a completed Types object."""
    if not isinstance(types, Types):
        raise TypeError(f"expected the types of a schema, got {type(types).__name__}")
    cdef Types known = types
    if not known.ready:
        raise ValueError("these types were never completed")
    index = index_of(number)
    if index is None or not 0 <= index < known.object_count:
        raise ValueError(f"object {number!r:.100} is outside the list of {known.object_count} objects")
    if known.objects[<Py_ssize_t>index].is_struct:
        raise ValueError(f"object {index} is a struct, not a table")
    return index


cdef object verify_object(Types types, int32_t root, const uint8_t* data, Py_ssize_t size, const Limits* limits):
    cdef Verification state
    cdef uint64_t offset = 0
    cdef bint sound
    init_verification(&state, data, size, limits)
    state.prefix_size = <uint64_t>types.prefix_size
    sound = not follow(&state, 0, &offset) and not verify_table(types.objects, types.unions, &state, offset, root)
    if sound:
        return None
    # Verify again and record the path, so that valid messages do not pay for it.
    path, reason = find_fault(types, root, data, size, limits)
    if state.fault == UNALIGNED and not types.prefix_size:
        init_verification(&state, data, size, limits)
        state.prefix_size = SIZE_PREFIX
        if not follow(&state, 0, &offset) and not verify_table(types.objects, types.unions, &state, offset, root):
            reason += HINT_AT_PREFIX
    return path, reason


cdef object find_fault(Types types, int32_t root, const uint8_t* data, Py_ssize_t size, const Limits* limits):
    """The path and the reason of the first fault in a message."""
    cdef Verification state
    cdef uint64_t offset = 0
    cdef Py_ssize_t i
    init_verification(&state, data, size, limits)
    state.prefix_size = <uint64_t>types.prefix_size
    state.path = <PathStep*>PyMem_RawCalloc(<size_t>(limits.max_depth + 1), sizeof(PathStep))
    if state.path is NULL:
        raise MemoryError("cannot allocate the path of a fault in a message")
    try:
        if follow(&state, 0, &offset) == 0:
            verify_table(types.objects, types.unions, &state, offset, root)
        path = types.names[root][0].rpartition(".")[2].lower()
        for i in range(state.depth):
            if state.path[i].field >= 0:
                path += "." + types.names[state.path[i].object][1][state.path[i].field]
            if state.path[i].element >= 0:
                path += f"[{state.path[i].element}]"
        return path, describe_fault(&state)
    finally:
        PyMem_RawFree(state.path)


# Its only Python objects are lists of strings, so it cannot be part of a reference cycle.
@cython.no_gc
cdef class Types:
    """The types of a schema.

    Parameters
    ----------
    objects : sequence of (name, is_struct, size, fields)
        Each field is (name, offset, kind, element, index, type_offset, required, skipped); see `Field`.
    unions : sequence of sequence of (value, kind, index)
        The variants of each enum of the schema, in its order; empty for an enum that is not a union.
    type_widths : sequence of int, optional
        The bytes of the type of each of `unions`; 1 for all by default.
    size_prefixed : bool
        Whether the alignment of messages is counted from a prefix of 4 bytes in front of them, which is not part of
        them.

    Notes
    -----
    Every index and kind is checked here, so that no message can make the verifier read outside the arrays.
    """

    def __init__(self, objects, unions, type_widths=None, *, bint size_prefixed=False):
        cdef Py_ssize_t i, j
        cdef ObjectType* object_type
        cdef UnionType* union_type
        cdef Field* field
        if self.objects is not NULL:
            raise TypeError("Types.__init__ must not be called twice")
        self.names = [(name, [entry[0] for entry in fields]) for name, _, _, fields in objects]
        self.objects = <ObjectType*>PyMem_RawCalloc(<size_t>max(len(objects), 1), sizeof(ObjectType))
        self.unions = <UnionType*>PyMem_RawCalloc(<size_t>max(len(unions), 1), sizeof(UnionType))
        if self.objects is NULL or self.unions is NULL:
            raise MemoryError("cannot allocate the types of a schema")
        self.object_count = len(objects)
        self.union_count = len(unions)
        for i in range(self.object_count):
            object_type = &self.objects[i]
            _, is_struct, size, fields = objects[i]
            object_type.is_struct = is_struct
            object_type.size = size
            object_type.fields = <Field*>PyMem_RawCalloc(<size_t>max(len(fields), 1), sizeof(Field))
            if object_type.fields is NULL:
                raise MemoryError("cannot allocate the fields of a schema")
            object_type.field_count = len(fields)
            for j in range(object_type.field_count):
                field = &object_type.fields[j]
                (
                    _, field.offset, field.kind, field.element, field.index, field.type_offset, field.required,
                    field.skipped,
                ) = fields[j]
                self.check_reference(field.kind, field.element, field.index, is_struct)
        for i in range(self.union_count):
            union_type = &self.unions[i]
            variants = unions[i]
            union_type.type_width = 1 if type_widths is None else type_widths[i]
            if union_type.type_width not in (1, 2, 4, 8):
                raise ValueError(f"the type of union {i} has {union_type.type_width} bytes, expected 1, 2, 4 or 8")
            union_type.variants = <Variant*>PyMem_RawCalloc(<size_t>max(len(variants), 1), sizeof(Variant))
            if union_type.variants is NULL:
                raise MemoryError("cannot allocate the unions of a schema")
            union_type.variant_count = len(variants)
            for j in range(union_type.variant_count):
                value, kind, index = variants[j]
                if kind not in (NOTHING, STRING, OBJECT):
                    raise ValueError(f"a union cannot hold base type {kind}")
                self.check_reference(kind, 0, index, False)
                union_type.variants[j].bits = low_bytes(<uint64_t>(value & ALL_BITS), union_type.type_width)
                union_type.variants[j].kind = kind
                union_type.variants[j].index = index
        self.prefix_size = <Py_ssize_t>SIZE_PREFIX if size_prefixed else 0
        self.ready = True

    def check_reference(self, kind, element, index, is_struct):
        """Raises ValueError if the kinds are unknown, or if `index` is outside the array that they refer to."""
        referring = element if kind in (VECTOR, ARRAY) else kind
        if not NOTHING <= kind <= ARRAY or not NOTHING <= referring < VECTOR and referring not in (OBJECT, UNION):
            raise ValueError(f"unknown base type {kind}, {element}")
        if kind == ARRAY and not is_struct:
            raise ValueError("an array outside of a struct")
        if referring == OBJECT and not 0 <= index < self.object_count:
            raise ValueError(f"object {index} is outside the list of {self.object_count} objects")
        if referring == UNION and not 0 <= index < self.union_count:
            raise ValueError(f"enum {index} is outside the list of {self.union_count} enums")

    def verify(self, root, payload, max_depth=64, max_tables=1_000_000, max_apparent_size=2**31):
        """None if `payload` is a message with object number `root` as its root; else the path and the reason."""
        cdef Py_buffer view
        cdef Limits limits
        check_limits(max_depth, max_tables, max_apparent_size, &limits)
        check_root(self, root)
        acquire(payload, &view, "payload")
        try:
            return verify_object(self, root, <const uint8_t*>view.buf, view.len, &limits)
        finally:
            PyBuffer_Release(&view)

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.objects is not NULL:
            for i in range(self.object_count):
                PyMem_RawFree(self.objects[i].fields)
        if self.unions is not NULL:
            for i in range(self.union_count):
                PyMem_RawFree(self.unions[i].variants)
        PyMem_RawFree(self.objects)
        PyMem_RawFree(self.unions)

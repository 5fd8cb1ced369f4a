# cython: boundscheck=False, wraparound=False, cdivision=True
"""The verifier: whether bytes that somebody else wrote can be read as a FlatBuffer.

It does what the verifier of the Rust crate `flatbuffers` does with the code that flatc generates for Rust, check by
check, so that both accept the same messages. Every place is compared with the size of the message before it is looked
at, and nothing is written. `docs/verifying.md` says where this differs from the documentation of FlatBuffers.

Places are counted from the first byte of the message. They have 64 bits, and what is added to one has at most 32, so
that no sum of a checked place and an offset overflows.
"""

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_Release
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flatstream._core.base.buffers cimport acquire
from flatstream._core.base.endian cimport load_u16, load_u32, load_u64


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# Each level of nesting is a call inside another, and the stack is finite: 300 bytes a level.
cdef Py_ssize_t DEEPEST = 1000

# Of eight bytes, the bit that none of them has if they are ASCII.
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
    UNALIGNED: "{what} at byte {place} is not aligned to {detail} bytes",
    OUT_OF_RANGE: "{what} at byte {place} needs {detail} bytes, but the message ends at {size}",
    VTABLE_OUT_OF_RANGE: "the table at byte {place} has its vtable {detail} bytes away, outside the message",
    TOO_DEEP: "tables are nested deeper than the limit of {detail}",
    TOO_MANY_TABLES: "there are more tables than the limit of {detail}",
    TOO_LARGE: "the message has more than the limit of {detail} bytes if what is used twice counts twice",
    MISSING: "a required field is missing from the table at byte {place}",
    INCONSISTENT_UNION: "a union in the table at byte {place} has a type without a value, or a value without a type",
    NO_TERMINATOR: "the string at byte {place} has no zero byte behind its {detail} bytes",
    NOT_UTF8: "the string at byte {place} is not UTF-8: see its byte {detail}",
    UNEQUAL_VECTORS:
        "a vector of unions in the table at byte {place} has another length than the vector of their types",
}


cdef struct Step:
    # Where the verifier is: a field of an object, and an element of it, or -1.
    int32_t object
    Py_ssize_t field
    Py_ssize_t element


cdef struct Walk:
    const uint8_t* data
    uint64_t size
    Limits limits
    Py_ssize_t depth
    Py_ssize_t tables
    uint64_t apparent_size
    # What went wrong.
    Fault fault
    uint64_t place
    int64_t detail
    const char* what
    # One for each level of depth, or NULL if nobody wants to know.
    Step* steps


cdef int refuse(Walk* walk, Fault fault, uint64_t place, int64_t detail, const char* what) noexcept nogil:
    walk.fault = fault
    walk.place = place
    walk.detail = detail
    walk.what = what
    return -1


cdef inline int check_range(Walk* walk, uint64_t place, uint64_t size, const char* what) noexcept nogil:
    """`size` bytes at `place` must be there. They count towards the apparent size."""
    # Subtracted, so that no sum can overflow.
    if place > walk.size or size > walk.size - place:
        return refuse(walk, OUT_OF_RANGE, place, <int64_t>size, what)
    walk.apparent_size += size
    if walk.apparent_size > walk.limits.max_apparent_size:
        return refuse(walk, TOO_LARGE, place, <int64_t>walk.limits.max_apparent_size, what)
    return 0


cdef inline int check_number(Walk* walk, uint64_t place, uint64_t size, const char* what) noexcept nogil:
    """A number of `size` bytes at `place` must be there and aligned."""
    if place & (size - 1):
        return refuse(walk, UNALIGNED, place, <int64_t>size, what)
    return check_range(walk, place, size, what)


cdef inline int take_u16(Walk* walk, uint64_t place, uint16_t* value, const char* what) noexcept nogil:
    if check_number(walk, place, 2, what):
        return -1
    value[0] = <uint16_t>load_u16(walk.data + place)
    return 0


cdef inline int take_u32(Walk* walk, uint64_t place, uint32_t* value, const char* what) noexcept nogil:
    if check_number(walk, place, 4, what):
        return -1
    value[0] = load_u32(walk.data + place)
    return 0


cdef inline int follow(Walk* walk, uint64_t place, uint64_t* target) noexcept nogil:
    """Where the offset at `place` leads; whether anything is there is not known yet."""
    cdef uint32_t offset = 0
    if take_u32(walk, place, &offset, b"an offset"):
        return -1
    target[0] = place + offset
    return 0


cdef struct Table:
    uint64_t place
    uint64_t vtable
    uint16_t vtable_size


cdef int enter_table(Walk* walk, uint64_t place, Table* table) noexcept nogil:
    cdef uint32_t raw = 0
    cdef int64_t distance
    if take_u32(walk, place, &raw, b"the offset of a vtable"):
        return -1
    distance = <int64_t><int32_t>raw
    # The vtable may lie on either side; its distance is subtracted.
    if distance > 0 and <uint64_t>distance > place:
        return refuse(walk, VTABLE_OUT_OF_RANGE, place, -distance, b"")
    table.place = place
    table.vtable = place - <uint64_t>distance
    if table.vtable >= walk.size:
        return refuse(walk, VTABLE_OUT_OF_RANGE, place, -distance, b"")
    if take_u16(walk, table.vtable, &table.vtable_size, b"a vtable"):
        return -1
    if (table.vtable + table.vtable_size) & 1:
        return refuse(walk, UNALIGNED, table.vtable + table.vtable_size, 2, b"the end of a vtable")
    if check_range(walk, table.vtable, table.vtable_size, b"a vtable"):
        return -1
    if walk.depth == walk.limits.max_depth:
        return refuse(walk, TOO_DEEP, place, walk.limits.max_depth, b"")
    if walk.tables == walk.limits.max_tables:
        return refuse(walk, TOO_MANY_TABLES, place, walk.limits.max_tables, b"")
    walk.depth += 1
    walk.tables += 1
    return 0


cdef inline int find_field(Walk* walk, const Table* table, uint16_t offset, uint64_t* place) noexcept nogil:
    """Where a field is, or 0 if it is absent. (Byte 0 of a message is no field's.)"""
    cdef uint16_t distance = 0
    place[0] = 0
    if offset >= table.vtable_size:
        return 0
    if take_u16(walk, table.vtable + offset, &distance, b"an entry of a vtable"):
        return -1
    if distance:
        place[0] = table.place + distance
    return 0


cdef inline uint64_t width_of(uint8_t kind) noexcept nogil:
    """The size of a number, or of the offset of what is no number."""
    if kind == BOOL or kind == BYTE or kind == UBYTE or kind == UNION_TYPE:
        return 1
    if kind == SHORT or kind == USHORT:
        return 2
    if kind == LONG or kind == ULONG or kind == DOUBLE:
        return 8
    return 4


cdef int verify_span(
    Walk* walk, uint64_t place, uint64_t width, uint64_t alignment, uint64_t* start, uint64_t* count
) noexcept nogil:
    """The length of the vector at `place`, and all of its elements, must be there."""
    cdef uint32_t length = 0
    if take_u32(walk, place, &length, b"the length of a vector"):
        return -1
    start[0] = place + 4
    count[0] = length
    if start[0] & (alignment - 1):
        return refuse(walk, UNALIGNED, start[0], <int64_t>alignment, b"a vector")
    return check_range(walk, start[0], length * width, b"a vector")


cdef int64_t find_not_utf8(const uint8_t* p, uint64_t size) noexcept nogil:
    """Where the bytes stop being UTF-8 after RFC 3629, or -1: no surrogates, nothing over U+10FFFF, no long forms."""
    cdef uint64_t i = 0
    cdef uint8_t first, low, high
    cdef int more
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
            more = 1
        elif 0xE0 <= first <= 0xEF:
            more = 2
            if first == 0xE0:
                low = 0xA0
            elif first == 0xED:
                high = 0x9F
        elif 0xF0 <= first <= 0xF4:
            more = 3
            if first == 0xF0:
                low = 0x90
            elif first == 0xF4:
                high = 0x8F
        else:
            return <int64_t>i
        if <uint64_t>more >= size - i:
            return <int64_t>i
        # Only the first of those that follow has limits of its own.
        if not low <= p[i + 1] <= high:
            return <int64_t>i
        if more > 1 and p[i + 2] & 0xC0 != 0x80:
            return <int64_t>i
        if more > 2 and p[i + 3] & 0xC0 != 0x80:
            return <int64_t>i
        i += 1 + <uint64_t>more
    return -1


cdef int verify_string(Walk* walk, uint64_t place) noexcept nogil:
    cdef uint64_t start = 0, length = 0
    cdef int64_t wrong
    if verify_span(walk, place, 1, 1, &start, &length):
        return -1
    wrong = find_not_utf8(walk.data + start, length)
    if wrong >= 0:
        return refuse(walk, NOT_UTF8, place, wrong, b"")
    if start + length >= walk.size or walk.data[start + length]:
        return refuse(walk, NO_TERMINATOR, place, <int64_t>length, b"")
    return 0


cdef int verify_referred(const ObjectType* objects, const UnionType* unions, Walk* walk, uint64_t place, uint8_t kind,
                         int32_t index) noexcept nogil:
    """What an offset at `place` leads to: a table, a string, or a struct as a variant of a union."""
    cdef uint64_t target = 0
    if follow(walk, place, &target):
        return -1
    if kind == STRING:
        return verify_string(walk, target)
    if objects[index].is_struct:
        return check_range(walk, target, objects[index].size, b"a struct")
    return verify_table(objects, unions, walk, target, index)


cdef int verify_variant(const ObjectType* objects, const UnionType* unions, Walk* walk, uint64_t place, int32_t index,
                        uint8_t type) noexcept nogil:
    """The value of a union, whose offset is at `place`. Of a type that the schema does not know nothing is asked."""
    cdef const UnionType* union_type = &unions[index]
    cdef Py_ssize_t i
    for i in range(union_type.variant_count):
        if union_type.variants[i].value == type:
            if union_type.variants[i].kind == NOTHING:
                return 0
            return verify_referred(
                objects, unions, walk, place, union_type.variants[i].kind, union_type.variants[i].index
            )
    return 0


cdef int verify_vector(const ObjectType* objects, const UnionType* unions, Walk* walk, uint64_t place,
                       const Field* field, Step* step) noexcept nogil:
    cdef uint64_t start = 0, count = 0, i, width
    cdef uint64_t target = 0
    if follow(walk, place, &target):
        return -1
    if field.element == OBJECT and objects[field.index].is_struct:
        # Not aligned: structs are arrays of bytes to the reference.
        return verify_span(walk, target, objects[field.index].size, 1, &start, &count)
    width = width_of(field.element)
    if verify_span(walk, target, width, width, &start, &count):
        return -1
    if field.element != STRING and field.element != OBJECT:
        return 0
    for i in range(count):
        if step is not NULL:
            step.element = <Py_ssize_t>i
        if verify_referred(objects, unions, walk, start + 4 * i, field.element, field.index):
            return -1
    if step is not NULL:
        step.element = -1
    return 0


cdef int verify_union_vector(const ObjectType* objects, const UnionType* unions, Walk* walk, const Table* table,
                             uint64_t types_place, uint64_t place, const Field* field, Step* step) noexcept nogil:
    """A vector of unions beside the vector of their types. (The reference knows none.)"""
    cdef uint64_t target = 0, start = 0, count = 0, types = 0, type_count = 0, i
    if follow(walk, types_place, &target) or verify_span(walk, target, 1, 1, &types, &type_count):
        return -1
    if follow(walk, place, &target) or verify_span(walk, target, 4, 4, &start, &count):
        return -1
    if count != type_count:
        return refuse(walk, UNEQUAL_VECTORS, table.place, 0, b"")
    for i in range(count):
        if step is not NULL:
            step.element = <Py_ssize_t>i
        if verify_variant(objects, unions, walk, start + 4 * i, field.index, walk.data[types + i]):
            return -1
    if step is not NULL:
        step.element = -1
    return 0


cdef int verify_table(const ObjectType* objects, const UnionType* unions, Walk* walk, uint64_t place,
                      int32_t index) noexcept nogil:
    cdef const ObjectType* type = &objects[index]
    cdef const Field* field
    cdef Table table
    cdef Py_ssize_t i
    cdef uint64_t at = 0, type_at = 0
    cdef Step* step = NULL
    if enter_table(walk, place, &table):
        return -1
    if walk.steps is not NULL:
        # `depth` is at most the limit, for which there is room.
        step = walk.steps + (walk.depth - 1)
        step.object = index
        step.field = -1
        step.element = -1
    for i in range(type.field_count):
        field = &type.fields[i]
        if field.skipped:
            continue
        if step is not NULL:
            step.field = i
        if find_field(walk, &table, field.offset, &at):
            return -1
        if field.type_offset:
            if find_field(walk, &table, field.type_offset, &type_at):
                return -1
            if (at == 0) != (type_at == 0):
                return refuse(walk, INCONSISTENT_UNION, place, 0, b"")
        if not at:
            if field.required:
                return refuse(walk, MISSING, place, 0, b"")
            continue
        if field.kind == UNION:
            if check_number(walk, type_at, 1, b"the type of a union"):
                return -1
            if verify_variant(objects, unions, walk, at, field.index, walk.data[type_at]):
                return -1
        elif field.kind == STRING:
            if verify_referred(objects, unions, walk, at, STRING, -1):
                return -1
        elif field.kind == VECTOR:
            if field.element == UNION:
                if verify_union_vector(objects, unions, walk, &table, type_at, at, field, step):
                    return -1
            elif verify_vector(objects, unions, walk, at, field, step):
                return -1
        elif field.kind == OBJECT:
            if objects[field.index].is_struct:
                if check_range(walk, at, objects[field.index].size, b"a struct"):
                    return -1
            elif verify_referred(objects, unions, walk, at, OBJECT, field.index):
                return -1
        elif check_number(walk, at, width_of(field.kind), b"a field"):
            return -1
    walk.depth -= 1
    return 0


cdef int check_limits(object max_depth, object max_tables, object max_apparent_size, Limits* limits) except -1:
    for name, value, most in (
        ("max_depth", max_depth, DEEPEST), ("max_tables", max_tables, 2**62),
        ("max_apparent_size", max_apparent_size, 2**62),
    ):
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name} must be an int, got {type(value).__name__}: {value!r:.100}")
        if not 0 <= value <= most:
            raise ValueError(f"{name} must be from 0 to {most}, got {value}")
    limits.max_depth = max_depth
    limits.max_tables = max_tables
    limits.max_apparent_size = max_apparent_size
    return 0


cdef object explain(const Walk* walk):
    return REASONS[<int>walk.fault].format(
        what=(<bytes>walk.what).decode() if walk.what is not NULL else "", place=walk.place, detail=walk.detail,
        size=walk.size,
    )


cdef int begin(Walk* walk, const uint8_t* data, Py_ssize_t size, const Limits* limits) noexcept:
    # Member by member: that is faster than `memset` and a copy for a message of a few fields.
    walk.data = data
    walk.size = <uint64_t>size
    walk.limits = limits[0]
    walk.depth = 0
    walk.tables = 0
    walk.apparent_size = 0
    walk.fault = SOUND
    walk.place = 0
    walk.detail = 0
    walk.what = NULL
    walk.steps = NULL
    return 0


cdef object verify_table_root(const uint8_t* data, Py_ssize_t size, const Limits* limits):
    cdef Walk walk
    cdef Table table
    cdef uint64_t place = 0
    begin(&walk, data, size, limits)
    if follow(&walk, 0, &place) or enter_table(&walk, place, &table):
        return explain(&walk)
    return None


cdef int32_t check_root(object types, object number) except -1:
    """`number` as that of a table of `types`, with which messages can be verified."""
    if not isinstance(types, Types):
        raise TypeError(f"expected the types of a schema, got {type(types).__name__}")
    cdef Types known = types
    if not known.ready:
        raise ValueError("these types were never completed")
    if not isinstance(number, int) or not 0 <= number < known.object_count:
        raise ValueError(f"object {number!r:.100} of {known.object_count}")
    if known.objects[<Py_ssize_t>number].is_struct:
        raise ValueError(f"object {number} is a struct, and no table")
    return number


cdef object verify_object(Types types, int32_t root, const uint8_t* data, Py_ssize_t size, const Limits* limits):
    cdef Walk walk
    cdef uint64_t place = 0
    cdef bint sound
    begin(&walk, data, size, limits)
    sound = not follow(&walk, 0, &place) and not verify_table(types.objects, types.unions, &walk, place, root)
    if sound:
        return None
    # Once more, with an eye on the way: it costs nothing while messages are good.
    return refusal(types, root, data, size, limits)


cdef object refusal(Types types, int32_t root, const uint8_t* data, Py_ssize_t size, const Limits* limits):
    """Why a message is refused: where, and what is wrong there."""
    cdef Walk walk
    cdef uint64_t place = 0
    cdef Py_ssize_t i
    begin(&walk, data, size, limits)
    walk.steps = <Step*>PyMem_RawCalloc(<size_t>(limits.max_depth + 1), sizeof(Step))
    if walk.steps is NULL:
        raise MemoryError("no memory to find out what is wrong with a message")
    try:
        if follow(&walk, 0, &place) == 0:
            verify_table(types.objects, types.unions, &walk, place, root)
        path = types.names[root][0].rpartition(".")[2].lower()
        for i in range(walk.depth):
            if walk.steps[i].field >= 0:
                path += "." + types.names[walk.steps[i].object][1][walk.steps[i].field]
            if walk.steps[i].element >= 0:
                path += f"[{walk.steps[i].element}]"
        return path, explain(&walk)
    finally:
        PyMem_RawFree(walk.steps)


# It holds nothing but strings, so it cannot be part of a cycle, and the collector need not take it apart.
@cython.no_gc
cdef class Types:
    """The types of a schema.

    Parameters
    ----------
    objects : sequence of (name, is_struct, size, fields)
        Of each field (name, offset, kind, element, index, type_offset, required, skipped); see `Field`.
    unions : sequence of sequence of (value, kind, index)
        By the number of the enum; those that are no unions are empty.

    Notes
    -----
    Every index and kind is checked here, so that no message can lead outside the arrays.
    """

    def __init__(self, objects, unions):
        cdef Py_ssize_t i, j
        cdef ObjectType* object_type
        cdef UnionType* union_type
        cdef Field* field
        if self.objects is not NULL:
            raise TypeError("Types.__init__ must not be called twice")
        self.names = [(name, [described[0] for described in fields]) for name, _, _, fields in objects]
        self.objects = <ObjectType*>PyMem_RawCalloc(<size_t>max(len(objects), 1), sizeof(ObjectType))
        self.unions = <UnionType*>PyMem_RawCalloc(<size_t>max(len(unions), 1), sizeof(UnionType))
        if self.objects is NULL or self.unions is NULL:
            raise MemoryError("no memory for the types of a schema")
        self.object_count = len(objects)
        self.union_count = len(unions)
        for i in range(self.object_count):
            object_type = &self.objects[i]
            _, is_struct, size, fields = objects[i]
            object_type.is_struct = is_struct
            object_type.size = size
            object_type.fields = <Field*>PyMem_RawCalloc(<size_t>max(len(fields), 1), sizeof(Field))
            if object_type.fields is NULL:
                raise MemoryError("no memory for the fields of a schema")
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
            union_type.variants = <Variant*>PyMem_RawCalloc(<size_t>max(len(variants), 1), sizeof(Variant))
            if union_type.variants is NULL:
                raise MemoryError("no memory for the unions of a schema")
            union_type.variant_count = len(variants)
            for j in range(union_type.variant_count):
                value, kind, index = variants[j]
                if kind not in (NOTHING, STRING, OBJECT):
                    raise ValueError(f"a union cannot hold base type {kind}")
                self.check_reference(kind, 0, index, False)
                union_type.variants[j].value = value
                union_type.variants[j].kind = kind
                union_type.variants[j].index = index
        self.ready = True

    def check_reference(self, kind, element, index, is_struct):
        """Raises ValueError unless `index` is one that the verifier may use."""
        what = element if kind in (VECTOR, ARRAY) else kind
        if not NOTHING <= kind <= ARRAY or not NOTHING <= what < VECTOR and what not in (OBJECT, UNION):
            raise ValueError(f"unknown base type {kind}, {element}")
        if kind == ARRAY and not is_struct:
            raise ValueError("an array outside of a struct")
        if what == OBJECT and not 0 <= index < self.object_count:
            raise ValueError(f"object {index} of {self.object_count}")
        if what == UNION and not 0 <= index < self.union_count:
            raise ValueError(f"enum {index} of {self.union_count}")

    def verify(self, root, payload, max_depth=64, max_tables=1_000_000, max_apparent_size=2**31):
        """None, or the path and the reason why `payload` is no message whose root is object number `root`."""
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

# cython: boundscheck=False, wraparound=False, cdivision=True
"""Messages as JSON text, as `flatc --json --strict-json --natural-utf8` writes them.

Differences from flatc's text, each of which keeps a value or keeps the text JSON: a float has as many digits as it
needs (flatc writes 6 digits after the point, or 12 of a double); control characters are escaped; NaN and the infinities
are strings unless the caller wants flatc's bare words; the bytes of a nested message that cannot be read stay bytes.

Every offset is compared with the size of the message before it is followed (`message.pxd`); memory is written only
behind a `reserve` of as many bytes.
"""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from flatstream._core.base.checks cimport index_of
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, NOTHING, OBJECT, SHORT, STRING, UNION, is_scalar, may_be_enum,
    scalar_width,
)
from flatstream._core.flatbuf.layout cimport FieldLayout, Layout
from flatstream._core.flatbuf.message cimport (
    Message, OpenTable, field_offset, follow_offset, open_root, open_table, open_vector, reach,
)
from flatstream._core.flatbuf.verifier cimport (
    Field, ObjectType, UnionType, Variant, find_not_utf8, find_variant, load_type,
)
from flatstream._core.records.json_numbers cimport (
    MAX_NUMBER_SIZE, NONFINITE_BARE, NONFINITE_NULL, NONFINITE_STRING, Nonfinite, write_double, write_float,
    write_signed, write_unsigned,
)
from flatstream._core.records.json_types cimport JsonEnum, JsonField, JsonName, JsonTypes, find_name
from flatstream._core.records.record_numbers cimport load_bits


cdef extern from "Python.h":
    void* PyMem_RawRealloc(void* p, size_t size) nogil
    const Py_ssize_t PY_SSIZE_T_MAX

cdef extern from *:
    """
    /* Whether any of eight bytes cannot stand in a JSON string as it is: a control character, a quote, a backslash. */
    static inline int fs_needs_escape(uint64_t word) {
        const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
        uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\\\');
        return (((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & high ? 1 : 0;
    }
    static inline int fs_has_high_bit(uint64_t word) { return (word & 0x8080808080808080u) != 0; }
    """
    bint needs_escape "fs_needs_escape"(uint64_t word) noexcept nogil
    bint has_high_bit "fs_has_high_bit"(uint64_t word) noexcept nogil


cdef enum:
    MAX_INDENT = 16

NONFINITES = {"string": NONFINITE_STRING, "null": NONFINITE_NULL, "bare": NONFINITE_BARE}


cdef int set_types(JsonWriter* writer, Layout layout, JsonTypes names) noexcept:
    writer.types = layout.types.objects
    writer.unions = layout.types.unions
    writer.layouts = layout.objects
    writer.names = names.objects
    writer.enums = names.enums
    return 0


cdef int check_options(object enums, object defaults, object nonfinite, object indent, JsonOptions* options) except -1:
    cdef object spaces
    if not isinstance(enums, str) or enums not in ("name", "number"):
        raise ValueError(f"enums must be 'name' or 'number', got {enums!r:.100}")
    if not isinstance(nonfinite, str) or nonfinite not in NONFINITES:
        raise ValueError(f"nonfinite must be 'string', 'null' or 'bare', got {nonfinite!r:.100}")
    options.enum_names = enums == "name"
    options.defaults = bool(defaults)
    options.nonfinite = <Nonfinite><int>NONFINITES[nonfinite]
    options.indent = -1
    if indent is not None:
        spaces = index_of(indent)
        if spaces is None:
            raise TypeError(f"indent must be an int or None, got {type(indent).__name__}: {indent!r:.100}")
        if not 0 <= spaces <= MAX_INDENT:
            raise ValueError(f"indent must be 0 to {MAX_INDENT}, got {spaces}")
        options.indent = <int>spaces
    return 0


cdef str reason_of(const JsonWriter* writer):
    if writer.fault == OUTSIDE:
        what = (<bytes>writer.message.what).decode()
        return (
            f"{what} at byte {writer.message.offset}: {writer.message.needed} bytes are needed, and the message ends "
            f"at {writer.message.size}"
        )
    if writer.fault == NOT_UTF8:
        return f"the string at byte {writer.message.offset} is not UTF-8: see its byte {writer.detail}"
    if writer.fault == UNEQUAL_VECTORS:
        return f"a vector of unions has another length than that of their types, in the table at byte {writer.detail}"
    if writer.fault == TOO_DEEP:
        return f"tables are nested deeper than the limit of {writer.limits.max_depth}"
    if writer.fault == TOO_MANY_TABLES:
        return f"there are more tables than the limit of {writer.limits.max_tables}"
    return (
        f"the message has more than the limit of {writer.limits.max_apparent_size} bytes, counting bytes again each "
        "time that an offset leads to them"
    )


# Faults

cdef int note_fault(JsonWriter* writer, JsonFault fault, uint64_t detail) noexcept nogil:
    writer.fault = fault
    writer.detail = detail
    return -1


cdef inline int add_step(JsonWriter* writer, int32_t object, Py_ssize_t field, Py_ssize_t element) noexcept nogil:
    """Adds a step to the path of a fault; always returns -1."""
    cdef JsonStep* step
    if writer.step_count < MAX_JSON_STEPS:
        step = &writer.steps[writer.step_count]
        step.object = object
        step.field = <int32_t>field
        step.element = element
        writer.step_count += 1
    return -1


cdef inline int visit(JsonWriter* writer, uint64_t size) noexcept nogil:
    """Counts bytes of the message, as `to_dict` does."""
    # The sum cannot overflow before it exceeds the limit: `size` is at most the size of a message.
    writer.visited += size
    if writer.visited > writer.limits.max_apparent_size:
        return note_fault(writer, TOO_MANY_BYTES, 0)
    return 0


# Text

cdef int reserve(JsonWriter* writer, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t capacity
    cdef uint8_t* text
    if size <= writer.capacity - writer.size:
        return 0
    if size > PY_SSIZE_T_MAX // 4 - writer.size:
        return note_fault(writer, NO_MEMORY, 0)
    capacity = max(2 * (writer.size + size), 512)
    text = <uint8_t*>PyMem_RawRealloc(writer.text, <size_t>capacity)
    if text is NULL:
        return note_fault(writer, NO_MEMORY, 0)
    writer.text = text
    writer.capacity = capacity
    return 0


cdef inline int put(JsonWriter* writer, uint8_t character) noexcept nogil:
    if writer.size == writer.capacity and reserve(writer, 1):
        return -1
    writer.text[writer.size] = character
    writer.size += 1
    return 0


cdef int break_line(JsonWriter* writer) noexcept nogil:
    """Begins a line if the text has lines."""
    cdef Py_ssize_t spaces = <Py_ssize_t>writer.options.indent * writer.level
    if writer.options.indent < 0:
        return 0
    if reserve(writer, spaces + 1):
        return -1
    writer.text[writer.size] = c"\n"
    memset(writer.text + writer.size + 1, c" ", <size_t>spaces)
    writer.size += spaces + 1
    return 0


cdef int begin(JsonWriter* writer, uint8_t bracket) noexcept nogil:
    writer.level += 1
    return put(writer, bracket)


cdef int end(JsonWriter* writer, uint8_t bracket, bint is_empty) noexcept nogil:
    writer.level -= 1
    if not is_empty and break_line(writer):
        return -1
    return put(writer, bracket)


cdef int write_key(JsonWriter* writer, const JsonField* name, bint is_first) noexcept nogil:
    """Writes what stands between two members of an object, and the name of the second one. Afterwards there is room for
    a number.
    """
    cdef uint8_t* out
    if writer.options.indent < 0:
        # The usual case, in which most of the time goes into names (D2 of asv_benchmarks/json_lines.py).
        if writer.capacity - writer.size < name.key_size + 1 + MAX_NUMBER_SIZE and reserve(
            writer, name.key_size + 1 + MAX_NUMBER_SIZE
        ):
            return -1
        out = writer.text + writer.size
        out[0] = c","
        out += not is_first
        memcpy(out, name.key, <size_t>name.key_size)
        writer.size = out + name.key_size - writer.text
        return 0
    if not is_first and put(writer, c","):
        return -1
    if break_line(writer) or reserve(writer, name.key_size + 1 + MAX_NUMBER_SIZE):
        return -1
    out = writer.text + writer.size
    memcpy(out, name.key, <size_t>name.key_size)
    writer.size += name.key_size
    out[name.key_size] = c" "
    writer.size += 1
    return 0


cdef int write_null(JsonWriter* writer) noexcept nogil:
    if reserve(writer, 4):
        return -1
    memcpy(writer.text + writer.size, b"null", 4)
    writer.size += 4
    return 0


cdef int escape(JsonWriter* writer, const uint8_t* p, uint64_t count) noexcept nogil:
    """Writes `count` bytes of a string, which need escapes or are few. There is room for them without escapes."""
    cdef uint64_t i
    cdef uint8_t* out
    cdef uint8_t character, letter
    cdef const char* digits = b"0123456789abcdef"
    for i in range(count):
        character = p[i]
        if character >= 0x20 and character != c'"' and character != c"\\":
            writer.text[writer.size] = character
            writer.size += 1
            continue
        # The longest escape, and the bytes that are left.
        if reserve(writer, <Py_ssize_t>(count - i) + 6):
            return -1
        out = writer.text + writer.size
        out[0] = c"\\"
        letter = 0
        if character >= 0x20:
            letter = character
        elif character == c"\n":
            letter = c"n"
        elif character == c"\t":
            letter = c"t"
        elif character == c"\r":
            letter = c"r"
        elif character == 8:
            letter = c"b"
        elif character == 12:
            letter = c"f"
        if letter:
            out[1] = letter
            writer.size += 2
        else:
            memcpy(out + 1, b"u00", 3)
            out[4] = digits[character >> 4]
            out[5] = digits[character & 15]
            writer.size += 6
    return 0


cdef int write_string(JsonWriter* writer, uint64_t offset) noexcept nogil:
    """Writes the string whose offset is stored at `offset`."""
    cdef uint64_t start = 0, count = 0, i = 0, word = 0
    cdef int64_t wrong
    cdef const uint8_t* p
    cdef bint ascii = True
    if open_vector(&writer.message, offset, 1, &start, &count):
        return note_fault(writer, OUTSIDE, 0)
    if visit(writer, count) or reserve(writer, <Py_ssize_t>count + 2):
        return -1
    p = writer.message.data + start
    writer.text[writer.size] = c'"'
    writer.size += 1
    while count - i >= 8:
        memcpy(&word, p + i, 8)
        if has_high_bit(word):
            ascii = False
        if needs_escape(word):
            # Leaves room for the rest and the quote.
            if escape(writer, p + i, 8) or reserve(writer, <Py_ssize_t>(count - i)):
                return -1
        else:
            memcpy(writer.text + writer.size, &word, 8)
            writer.size += 8
        i += 8
    for word in range(i, count):
        if p[word] >= 0x80:
            ascii = False
    if escape(writer, p + i, count - i):
        return -1
    if not ascii:
        wrong = find_not_utf8(p, count)
        if wrong >= 0:
            writer.message.offset = start - 4
            return note_fault(writer, NOT_UTF8, <uint64_t>wrong)
    return put(writer, c'"')


# Numbers

cdef int write_flags(JsonWriter* writer, const JsonEnum* enum, uint64_t bits) noexcept nogil:
    """Writes the names of flags with spaces between them. Returns 1, and writes nothing, if a flag has no name."""
    cdef uint64_t named = 0
    cdef Py_ssize_t i, begin = writer.size
    for i in range(enum.count):
        if enum.names[i].bits & ~bits == 0:
            named |= enum.names[i].bits
    if named != bits or not bits:
        return 1
    for i in range(enum.count):
        if enum.names[i].bits and enum.names[i].bits & ~bits == 0:
            if reserve(writer, enum.names[i].size):
                return -1
            # With its quotes: the first one becomes the space, the last one is overwritten.
            memcpy(writer.text + writer.size, enum.names[i].text, <size_t>enum.names[i].size)
            writer.text[writer.size] = c" "
            writer.size += enum.names[i].size - 1
    writer.text[begin] = c'"'
    return put(writer, c'"')


cdef inline int write_integer(JsonWriter* writer, uint8_t kind, uint64_t bits) noexcept nogil:
    """Writes a number for which there is room."""
    cdef uint8_t* out = writer.text + writer.size
    if kind == INT:
        out = write_signed(out, <int32_t>bits)
    elif kind == LONG:
        out = write_signed(out, <int64_t>bits)
    elif kind == SHORT:
        out = write_signed(out, <int16_t>bits)
    elif kind == BYTE:
        out = write_signed(out, <int8_t>bits)
    else:
        out = write_unsigned(out, bits)
    writer.size = out - writer.text
    return 0


cdef int write_number(JsonWriter* writer, uint8_t kind, int32_t index, uint64_t bits) noexcept nogil:
    """Writes a scalar, given as the low bytes that a message stores. There is room for MAX_NUMBER_SIZE bytes."""
    cdef const JsonName* name
    cdef uint8_t* out = writer.text + writer.size
    cdef int done
    if kind == DOUBLE:
        writer.size = write_double(out, bits, writer.options.nonfinite) - writer.text
        return 0
    if kind == FLOAT:
        writer.size = write_float(out, bits, writer.options.nonfinite) - writer.text
        return 0
    if index >= 0 and writer.options.enum_names:
        name = find_name(&writer.enums[index], bits)
        if name is not NULL:
            if reserve(writer, name.size):
                return -1
            memcpy(writer.text + writer.size, name.text, <size_t>name.size)
            writer.size += name.size
            return 0
        if writer.enums[index].bit_flags:
            done = write_flags(writer, &writer.enums[index], bits)
            if done <= 0:
                return done
            # The number has no names and may need the room that these would have taken.
            if reserve(writer, MAX_NUMBER_SIZE):
                return -1
    if kind == BOOL:
        if bits:
            memcpy(out, b"true", 4)
            writer.size += 4
        else:
            memcpy(out, b"false", 5)
            writer.size += 5
        return 0
    return write_integer(writer, kind, bits)


# Objects

cdef int write_object(
    JsonWriter* writer, const OpenTable* table, uint64_t start, int32_t number, int32_t depth
) noexcept nogil:
    cdef const ObjectType* type = &writer.types[number]
    cdef const JsonField* names = writer.names[number]
    cdef const FieldLayout* layouts = writer.layouts[number].fields
    cdef const Field* field
    cdef Py_ssize_t j
    cdef uint64_t offset, bits
    cdef uint32_t width
    cdef bint is_empty = True
    cdef const Variant* variant
    if not type.is_struct:
        if depth > writer.limits.max_depth:
            return note_fault(writer, TOO_DEEP, 0)
        writer.tables += 1
        if writer.tables > writer.limits.max_tables:
            return note_fault(writer, TOO_MANY_TABLES, 0)
    if begin(writer, c"{"):
        return -1
    for j in range(type.field_count):
        if layouts[j].deprecated:
            # No verifier looks at it.
            continue
        field = &type.fields[j]
        offset = start + field.offset if type.is_struct else field_offset(&writer.message, table, field.offset)
        if is_scalar(field.kind):
            if offset:
                width = scalar_width(field.kind)
                if reach(&writer.message, offset, width, b"a field"):
                    note_fault(writer, OUTSIDE, 0)
                    return add_step(writer, number, j, -1)
                bits = load_bits(writer.message.data + offset, width)
            elif writer.options.defaults or names[j].is_key:
                bits = layouts[j].default_bits
            else:
                continue
            if write_key(writer, &names[j], is_empty):
                return add_step(writer, number, j, -1)
            if not offset and layouts[j].optional:
                if write_null(writer):
                    return add_step(writer, number, j, -1)
            elif write_number(writer, field.kind, field.index if may_be_enum(field.kind) else -1, bits):
                return add_step(writer, number, j, -1)
            is_empty = False
            continue
        if not offset:
            continue
        variant = NULL
        if field.kind == UNION:
            if find_type(writer, table, field, &variant):
                return add_step(writer, number, layouts[j].paired_field, -1)
            if variant is NULL or variant.kind == NOTHING:
                continue
        if write_key(writer, &names[j], is_empty):
            return add_step(writer, number, j, -1)
        is_empty = False
        if field.kind == OBJECT:
            # Called from here, so that there is one C call for each level of nesting.
            if write_child(writer, offset, field.index, not writer.types[field.index].is_struct, depth):
                return add_step(writer, number, j, -1)
        elif field.kind == UNION:
            if write_variant(writer, offset, variant, depth):
                return add_step(writer, number, j, -1)
        elif field.kind == STRING:
            if write_string(writer, offset):
                return add_step(writer, number, j, -1)
        elif write_vector(writer, table, number, j, offset, depth):
            # The step is there already: it has the element.
            return -1
    return end(writer, c"}", is_empty)


cdef int find_type(
    JsonWriter* writer, const OpenTable* table, const Field* field, const Variant** variant
) noexcept nogil:
    """Finds the variant of a union; NULL if the schema has none of its type, or the type is absent."""
    cdef const UnionType* known = &writer.unions[field.index]
    cdef uint64_t offset = field_offset(&writer.message, table, field.type_offset)
    variant[0] = NULL
    if not offset:
        return 0
    if reach(&writer.message, offset, known.type_width, b"the type of a union"):
        return note_fault(writer, OUTSIDE, 0)
    variant[0] = find_variant(known, load_type(known, writer.message.data + offset))
    return 0


cdef int write_child(
    JsonWriter* writer, uint64_t offset, int32_t number, bint indirect, int32_t depth
) noexcept nogil:
    """Writes the table or struct at `offset`; with `indirect`, where the offset that is stored there leads."""
    cdef OpenTable table
    if indirect and follow_offset(&writer.message, offset, &offset):
        return note_fault(writer, OUTSIDE, 0)
    if writer.types[number].is_struct:
        if reach(&writer.message, offset, writer.types[number].size, b"a struct"):
            return note_fault(writer, OUTSIDE, 0)
        return write_object(writer, NULL, offset, number, depth)
    if open_table(&writer.message, offset, &table):
        return note_fault(writer, OUTSIDE, 0)
    return write_object(writer, &table, 0, number, depth + 1)


cdef int write_variant(JsonWriter* writer, uint64_t offset, const Variant* variant, int32_t depth) noexcept nogil:
    """Writes the value of a union, whose offset is stored at `offset`."""
    if variant.kind == STRING:
        return write_string(writer, offset)
    return write_child(writer, offset, variant.index, True, depth)


# Vectors

cdef int write_vector(
    JsonWriter* writer, const OpenTable* table, int32_t number, Py_ssize_t j, uint64_t offset, int32_t depth
) noexcept nogil:
    """Writes the vector or array in field `j`."""
    cdef const Field* field = &writer.types[number].fields[j]
    cdef const FieldLayout* layout = &writer.layouts[number].fields[j]
    cdef uint64_t start = offset, count = layout.length, types = 0, type_count = 0
    cdef int done
    # An array is part of a struct, which is in the message as a whole.
    if field.kind != ARRAY and open_vector(&writer.message, offset, layout.element_size, &start, &count):
        note_fault(writer, OUTSIDE, 0)
        return add_step(writer, number, j, -1)
    if field.element == UNION:
        offset = field_offset(&writer.message, table, field.type_offset)
        if offset and open_vector(
            &writer.message, offset, writer.unions[field.index].type_width, &types, &type_count
        ):
            note_fault(writer, OUTSIDE, 0)
            return add_step(writer, number, layout.paired_field, -1)
        if type_count != count:
            note_fault(writer, UNEQUAL_VECTORS, table.offset)
            return add_step(writer, number, j, -1)
    elif writer.names[number][j].nested >= 0 and count:
        done = write_nested(writer, writer.names[number][j].nested, start, count, depth)
        if done < 0:
            return add_step(writer, number, j, -1)
        if done == 0:
            return 0
    return write_elements(writer, number, j, start, types, 0, 1, <Py_ssize_t>count, depth)


cdef int write_nested(
    JsonWriter* writer, int32_t number, uint64_t start, uint64_t count, int32_t depth
) noexcept nogil:
    """Writes the message that `count` bytes are. Returns 1, and writes nothing, if they cannot be read as one."""
    cdef Message outer = writer.message
    cdef OpenTable table
    cdef Py_ssize_t size = writer.size
    cdef int level = writer.level, done
    if visit(writer, count):
        return -1
    writer.message.data = outer.data + start
    writer.message.size = count
    done = open_root(&writer.message, &table)
    if done:
        note_fault(writer, OUTSIDE, 0)
    else:
        done = write_object(writer, &table, 0, number, depth + 1)
    writer.message = outer
    if done and (writer.fault == OUTSIDE or writer.fault == NOT_UTF8 or writer.fault == UNEQUAL_VECTORS):
        # The verifier does not look into it either: the bytes are valid, whatever they are.
        writer.fault = NO_FAULT
        writer.step_count = 0
        writer.size = size
        writer.level = level
        return 1
    return done


cdef int write_elements(
    JsonWriter* writer, int32_t number, Py_ssize_t j, uint64_t elements, uint64_t types, Py_ssize_t first,
    Py_ssize_t step, Py_ssize_t count, int32_t depth
) noexcept nogil:
    cdef const Field* field = &writer.types[number].fields[j]
    cdef uint8_t element = field.element
    cdef uint32_t size = writer.layouts[number].fields[j].element_size
    cdef int32_t index = field.index if may_be_enum(element) else -1
    cdef Py_ssize_t i, place = first
    cdef uint64_t offset
    cdef const UnionType* known
    cdef const Variant* variant
    cdef int failed
    if begin(writer, c"[") or visit(writer, <uint64_t>count * size):
        return add_step(writer, number, j, -1)
    for i in range(count):
        if i and put(writer, c",") or break_line(writer) or reserve(writer, MAX_NUMBER_SIZE):
            return add_step(writer, number, j, place)
        offset = elements + <uint64_t>place * size
        if is_scalar(element):
            failed = write_number(writer, element, index, load_bits(writer.message.data + offset, size))
        elif element == STRING:
            failed = write_string(writer, offset)
        elif element == UNION:
            known = &writer.unions[field.index]
            variant = find_variant(
                known, load_type(known, writer.message.data + types + <uint64_t>place * known.type_width)
            )
            if variant is NULL or variant.kind == NOTHING:
                failed = write_null(writer)
            else:
                failed = write_variant(writer, offset, variant, depth)
        else:
            failed = write_child(writer, offset, field.index, not writer.types[field.index].is_struct, depth)
        if failed:
            return add_step(writer, number, j, place)
        place += step
    return end(writer, c"]", not count)

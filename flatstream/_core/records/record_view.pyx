# cython: boundscheck=False, wraparound=False
"""Records: messages read with a schema. A field is decoded when it is requested.

Every offset is compared with the size of the message before it is followed (`message.pxd`), so no message, verified
or not, causes a read outside of its memory. A record holds a memoryview of its message that nobody else has, so nobody
can release it.

This module is one piece because its parts need each other: reading a field makes views, and the methods of views
(conversion, equality, repr) read fields.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject_GenericGetAttr
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from flatstream._core.base.pickling cimport refuse_pickling
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, NOTHING, OBJECT, STRING, UBYTE, UNION, VECTOR, is_scalar, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout
from flatstream._core.flatbuf.message cimport (
    Message, field_offset, follow_offset, open_table, open_vector, reach,
)
from flatstream._core.flatbuf.verifier cimport (
    Field, Limits, UnionType, Variant, check_limits, find_variant, load_type,
)
from flatstream._core.records.field_lookup cimport NameEntry, ObjectFields, RecordTypes, find_interned, is_special
from flatstream._core.records.json_writer cimport (
    NO_MEMORY, JsonWriter, check_options, reason_of, set_types, write_elements, write_object,
)
from flatstream._core.records.message_arrays cimport ArrayTypes, plain_array, scalar_array, struct_array
from flatstream._core.records.record_numbers cimport equal_numbers, equal_objects, load_bits, number_from_bits

import operator

from flatstream._core.flatbuf.kinds import KIND_NAMES
from flatstream.errors import FlatbufferError


cdef extern from "Python.h":
    bint PyUnicode_CHECK_INTERNED(PyObject* text) noexcept
    str PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    object PySeqIter_New(object sequence)
    void PyMem_RawFree(void* p) nogil

# The largest `max_depth` that the verifier takes: every message that any verifier accepts can be read.
cdef enum:
    MAX_RECORD_DEPTH = 1000

# The most fields of a record, strings of a vector, and bytes of a string that a repr shows.
cdef enum:
    MAX_SHOWN_FIELDS = 8
    MAX_SHOWN_STRINGS = 4
    MAX_SHOWN_BYTES = 40


cdef struct Traversal:
    # One call of to_dict, to_list or ==. Tables and bytes are counted and limited: in a message that was not verified,
    # many offsets can lead to the same few bytes.
    bint enum_names
    bint absent_is_null
    Limits limits
    Py_ssize_t tables
    uint64_t size


# Errors

cdef str path_of(RecordView record, Py_ssize_t field, Py_ssize_t element):
    """The path of a field, or of an element of it, from the root of the message, as the verifier writes paths."""
    cdef str step
    steps = []
    while record is not None and record.payload is not None:
        if field >= 0:
            step = "." + record.types.names[record.number][field]
            steps.append(f"{step}[{element}]" if element >= 0 else step)
        field = record.field
        element = record.element
        if record.parent is None:
            steps.append(record.types.layout.object_names[record.number].rpartition(".")[2].lower())
        record = record.parent
    return "".join(reversed(steps))


cdef object damage_error(RecordView record, Py_ssize_t field, Py_ssize_t element, str reason):
    """The error for a part of a message that contradicts the schema."""
    cdef RecordView root = record
    while root.parent is not None:
        root = root.parent
    return FlatbufferError(
        f"{path_of(record, field, element)}: {reason}",
        offset=root.offset if root.offset >= 0 else None, frame=root.frame if root.frame >= 0 else None,
    )


cdef int fail(RecordView record, Py_ssize_t field, Py_ssize_t element, const Message* message) except -1:
    what = (<bytes>message.what).decode()
    raise damage_error(
        record, field, element,
        f"{what} at byte {message.offset}: {message.needed} bytes are needed, and the message ends at {message.size}",
    )


cdef int count_visited(
    Traversal* traversal, RecordView record, Py_ssize_t field, Py_ssize_t element, Py_ssize_t tables, uint64_t size
) except -1:
    """Adds to the counts of a traversal, and compares them with its limits."""
    cdef const Limits* limits = &traversal.limits
    traversal.tables += tables
    # The sum cannot overflow before it exceeds the limit: `size` is at most the size of a message.
    traversal.size += size
    if traversal.tables > limits.max_tables:
        raise damage_error(record, field, element, f"there are more tables than the limit of {limits.max_tables}")
    if traversal.size > limits.max_apparent_size:
        raise damage_error(
            record, field, element,
            f"the message has more than the limit of {limits.max_apparent_size} bytes, counting bytes again each time "
            "that an offset leads to them",
        )
    return 0


cdef inline int check_made(RecordView record) except -1:
    if record is None or record.payload is None:
        raise ValueError("this record is uninitialized: Table.view and StreamReader.records make records")
    return 0


cdef inline int set_message(RecordView record, Message* message) noexcept:
    message.data = record.data
    message.size = record.size
    return 0


# Scalars, and vectors and arrays of them

cdef inline object convert_number(
    RecordTypes types, const Field* field, uint8_t kind, uint64_t bits, const Traversal* conversion
):
    """A number, or the name of an enum's value if a conversion wants names."""
    cdef EnumLayout enum
    number = number_from_bits(kind, bits)
    if conversion is NULL or not conversion.enum_names or not may_be_enum(kind) or field.index < 0:
        return number
    enum = types.layout.enums[field.index]
    # A combination of flags has no name.
    return number if enum.bit_flags else enum.by_value.get(number, number)


cdef object read_numbers(
    RecordView record, Py_ssize_t j, uint8_t kind, uint64_t start, uint64_t count, Traversal* conversion
):
    """A vector or array of numbers, all of it in the message: a NumPy array, or one of the standard library if there is
    no NumPy; bytes or a list in a conversion.
    """
    cdef const Field* field = &record.object_fields.fields[j]
    cdef uint32_t width = scalar_width(kind)
    cdef uint64_t i
    cdef list values = []
    cdef ArrayTypes arrays
    if conversion is NULL:
        arrays = record.types.find_array_types()
        if arrays is None:
            return plain_array(record.data + start, kind, count)
        return scalar_array(arrays, record.payload, record.data + start, kind, count)
    count_visited(conversion, record, j, -1, 0, count * width)
    if kind == UBYTE and field.index < 0:
        return PyBytes_FromStringAndSize(<const char*>record.data + start, <Py_ssize_t>count)
    for i in range(count):
        values.append(
            convert_number(record.types, field, kind, load_bits(record.data + start + i * width, width), conversion)
        )
    return values


# Fields and elements. In all of these, `conversion` is NULL for the value that an attribute has. Otherwise numbers and
# vectors of numbers are read without NumPy; tables, structs and other vectors are views in both cases.

cdef object read_string(
    RecordView record, Py_ssize_t field, Py_ssize_t element, uint64_t offset, Traversal* conversion
):
    cdef Message message
    cdef uint64_t start = 0, count = 0
    set_message(record, &message)
    if open_vector(&message, offset, 1, &start, &count):
        fail(record, field, element, &message)
    if conversion is not NULL:
        count_visited(conversion, record, field, element, 0, count)
    try:
        return PyUnicode_DecodeUTF8(<const char*>record.data + start, <Py_ssize_t>count, NULL)
    except UnicodeDecodeError as error:
        raise damage_error(
            record, field, element, f"the string at byte {start - 4} is not UTF-8: see its byte {error.start}"
        ) from None


cdef object read_object(
    RecordView record, Py_ssize_t field, Py_ssize_t element, uint64_t offset, int32_t number, bint indirect
):
    """The table or struct at `offset`; with `indirect`, where the offset that is stored there leads."""
    cdef RecordView part
    cdef RecordTypes types = record.types
    cdef Message message
    set_message(record, &message)
    part = RecordView.__new__(RecordView)
    if indirect and follow_offset(&message, offset, &offset):
        fail(record, field, element, &message)
    part.depth = record.depth
    if types.object_fields[number].is_struct:
        part.table.offset = offset
        if reach(&message, offset, types.object_fields[number].size, b"a struct"):
            fail(record, field, element, &message)
    else:
        if open_table(&message, offset, &part.table):
            fail(record, field, element, &message)
        if part.depth >= MAX_RECORD_DEPTH:
            raise damage_error(
                record, field, element, f"tables are nested deeper than the limit of {MAX_RECORD_DEPTH}"
            )
        part.depth += 1
    part.types = types
    part.object_fields = types.object_fields[number]
    part.parent = record
    part.field = field
    part.element = element
    part.data = record.data
    part.size = record.size
    part.number = number
    part.payload = record.payload
    return part


cdef object read_variant(
    RecordView record, Py_ssize_t field, Py_ssize_t element, uint64_t offset, int32_t index, uint64_t type,
    Traversal* conversion
):
    """The value of a union, whose offset is stored at `offset`; None if the schema has no variant of this type."""
    cdef const Variant* variant = find_variant(&record.types.layout.types.unions[index], type)
    if variant is NULL or variant.kind == NOTHING:
        return None
    if variant.kind == STRING:
        return read_string(record, field, element, offset, conversion)
    return read_object(record, field, element, offset, variant.index, True)


cdef int find_elements(
    RecordView record, Py_ssize_t j, uint64_t offset, uint64_t* start, uint64_t* count
) except -1:
    """Finds the elements of the vector or array in field `j`, and checks that all of them are in the message."""
    cdef const ObjectFields* fields = record.object_fields
    cdef Message message
    if fields.fields[j].kind == ARRAY:
        # Part of a struct, which is in the message as a whole.
        start[0] = offset
        count[0] = fields.layouts[j].length
        return 0
    set_message(record, &message)
    if open_vector(&message, offset, fields.layouts[j].element_size, start, count):
        fail(record, j, -1, &message)
    return 0


cdef object read_vector(RecordView record, Py_ssize_t j, uint64_t offset, Traversal* conversion):
    cdef const ObjectFields* fields = record.object_fields
    cdef const Field* field = &fields.fields[j]
    cdef VectorView vector
    cdef Message message
    cdef uint64_t start = 0, count = 0, types = 0, type_count = 0
    find_elements(record, j, offset, &start, &count)
    if is_scalar(field.element):
        return read_numbers(record, j, field.element, start, count, conversion)
    if field.element == UNION:
        set_message(record, &message)
        offset = field_offset(&message, &record.table, field.type_offset)
        if offset and open_vector(&message, offset, union_of(record, j).type_width, &types, &type_count):
            fail(record, fields.layouts[j].paired_field, -1, &message)
        if type_count != count:
            raise damage_error(
                record, j, -1,
                f"the vector of unions has {count} elements, and the vector of their types has {type_count}, in the "
                f"table at byte {record.table.offset}",
            )
    vector = VectorView.__new__(VectorView)
    vector.record = record
    vector.field = j
    vector.elements_offset = start
    vector.types_offset = types
    vector.step = 1
    vector.count = <Py_ssize_t>count
    return vector


cdef inline const UnionType* union_of(RecordView record, Py_ssize_t j) noexcept:
    """The type of field `j`, which is a union or a vector of unions."""
    return &record.types.layout.types.unions[record.object_fields.fields[j].index]


cdef inline uint64_t element_type(VectorView vector, Py_ssize_t i) noexcept:
    """The type of element `i` of a vector of unions, where 0 <= `i` < `count`."""
    cdef const UnionType* known = union_of(vector.record, vector.field)
    cdef uint64_t element = <uint64_t>(vector.first + i * vector.step)
    return load_type(known, vector.record.data + vector.types_offset + element * known.type_width)


cdef inline uint64_t vector_size(VectorView vector) noexcept:
    """The bytes of the view's elements themselves, without the strings and tables that they refer to."""
    return <uint64_t>vector.count * vector.record.object_fields.layouts[vector.field].element_size


cdef object read_element(VectorView vector, Py_ssize_t i, Traversal* conversion):
    """Element `i` of a view, where 0 <= `i` < `count`."""
    cdef RecordView record = vector.record
    cdef const Field* field = &record.object_fields.fields[vector.field]
    cdef Py_ssize_t element = vector.first + i * vector.step
    cdef uint64_t offset = (
        vector.elements_offset + <uint64_t>element * record.object_fields.layouts[vector.field].element_size
    )
    if field.element == STRING:
        return read_string(record, vector.field, element, offset, conversion)
    if field.element == UNION:
        return read_variant(
            record, vector.field, element, offset, field.index, element_type(vector, i), conversion,
        )
    return read_object(
        record, vector.field, element, offset, field.index, not record.types.object_fields[field.index].is_struct
    )


cdef inline uint64_t find_field(RecordView record, Message* message, const Field* field) noexcept:
    """The offset of a field in the message, or 0 if it is absent. A field of a struct is never absent."""
    if record.object_fields.is_struct:
        return record.table.offset + field.offset
    return field_offset(message, &record.table, field.offset)


cdef object read_field(RecordView record, Py_ssize_t j, Traversal* conversion):
    """The value of field `j`."""
    cdef const Field* field = &record.object_fields.fields[j]
    cdef Message message
    cdef uint64_t offset
    cdef uint32_t width
    set_message(record, &message)
    offset = find_field(record, &message, field)
    if not is_scalar(field.kind):
        return read_part(record, j, offset, conversion) if offset else None
    if not offset:
        if record.object_fields.layouts[j].optional or conversion is not NULL and conversion.absent_is_null:
            return None
        return convert_number(
            record.types, field, field.kind, record.object_fields.layouts[j].default_bits, conversion
        )
    width = scalar_width(field.kind)
    if reach(&message, offset, width, b"a field"):
        fail(record, j, -1, &message)
    return convert_number(record.types, field, field.kind, load_bits(record.data + offset, width), conversion)


cdef object read_part(RecordView record, Py_ssize_t j, uint64_t offset, Traversal* conversion):
    """The value of field `j`, which is no scalar."""
    cdef const Field* field = &record.object_fields.fields[j]
    if field.kind == STRING:
        return read_string(record, j, -1, offset, conversion)
    if field.kind == OBJECT:
        return read_object(record, j, -1, offset, field.index, not record.types.object_fields[field.index].is_struct)
    if field.kind == UNION:
        return read_variant(record, j, -1, offset, field.index, read_union_type(record, j), conversion)
    return read_vector(record, j, offset, conversion)


cdef uint64_t read_union_type(RecordView record, Py_ssize_t j) except? 0:
    """The type of the variant in union `j`; 0 if the type is absent."""
    cdef const ObjectFields* fields = record.object_fields
    cdef Message message
    cdef uint64_t offset
    set_message(record, &message)
    offset = field_offset(&message, &record.table, fields.fields[j].type_offset)
    if not offset:
        return 0
    if reach(&message, offset, union_of(record, j).type_width, b"the type of a union"):
        fail(record, fields.layouts[j].paired_field, -1, &message)
    return load_type(union_of(record, j), record.data + offset)


# Conversion to dicts and lists

cdef dict record_to_dict(RecordView record, Traversal* conversion):
    cdef const ObjectFields* fields = record.object_fields
    cdef list names = record.types.names[record.number]
    cdef Py_ssize_t j
    cdef dict values = {}
    if record.depth > conversion.limits.max_depth:
        raise damage_error(
            record, -1, -1, f"tables are nested deeper than the limit of {conversion.limits.max_depth}"
        )
    count_visited(conversion, record, -1, -1, not fields.is_struct, 0)
    for j in range(fields.field_count):
        if not fields.layouts[j].deprecated:
            # Read first, then convert: one C call per level of nesting, so that the deepest message fits on the stack.
            value = read_field(record, j, conversion)
            if type(value) is RecordView:
                value = record_to_dict(value, conversion)
            elif type(value) is VectorView:
                value = vector_to_list(value, conversion)
            values[names[j]] = value
    return values


cdef list vector_to_list(VectorView vector, Traversal* conversion):
    cdef Py_ssize_t i
    cdef list values = []
    count_visited(conversion, vector.record, vector.field, -1, 0, vector_size(vector))
    for i in range(vector.count):
        value = read_element(vector, i, conversion)
        values.append(record_to_dict(value, conversion) if type(value) is RecordView else value)
    return values


cdef int begin_traversal(RecordTypes types, Traversal* traversal) noexcept:
    """Sets the counts to 0, and the limits to those of the types: but views limit the depth, whatever it was verified
    with.
    """
    traversal.enum_names = False
    traversal.absent_is_null = False
    traversal.limits = types.limits
    traversal.limits.max_depth = MAX_RECORD_DEPTH
    traversal.tables = 0
    traversal.size = 0
    return 0


cdef int begin_conversion(
    RecordTypes types, object enums, object absent, object max_depth, object max_tables, object max_apparent_size,
    Traversal* conversion
) except -1:
    """Checks the arguments of to_dict and to_list, and begins a traversal with them."""
    cdef const Limits* limits = &conversion.limits
    if not isinstance(enums, str) or enums not in ("number", "name"):
        raise ValueError(f"enums must be 'number' or 'name', got {enums!r:.100}")
    if not isinstance(absent, str) or absent not in ("default", "null"):
        raise ValueError(f"absent must be 'default' or 'null', got {absent!r:.100}")
    begin_traversal(types, conversion)
    conversion.enum_names = enums == "name"
    conversion.absent_is_null = absent == "null"
    if max_depth is not None or max_tables is not None or max_apparent_size is not None:
        check_limits(
            limits.max_depth if max_depth is None else max_depth,
            limits.max_tables if max_tables is None else max_tables,
            limits.max_apparent_size if max_apparent_size is None else max_apparent_size,
            &conversion.limits,
        )
    return 0


# Conversion to JSON

cdef int begin_json(RecordTypes types, const Limits* limits, JsonWriter* writer) except -1:
    """Prepares for a record of these types; the text, the options and `limits`, unless it is NULL, are the caller's."""
    cdef Traversal traversal
    set_types(writer, types.layout, types.json_types())
    begin_traversal(types, &traversal)
    writer.limits = traversal.limits if limits is NULL else limits[0]
    writer.tables = 0
    writer.visited = 0
    writer.level = 0
    writer.step_count = 0
    return 0


cdef int fail_json(RecordView record, const JsonWriter* writer) except -1:
    cdef RecordView root = record
    cdef Py_ssize_t i
    cdef str path = path_of(record, -1, -1)
    if writer.fault == NO_MEMORY:
        raise MemoryError("no memory for JSON text")
    for i in range(writer.step_count - 1, -1, -1):
        path += "." + record.types.names[writer.steps[i].object][writer.steps[i].field]
        if writer.steps[i].element >= 0:
            path += f"[{writer.steps[i].element}]"
    while root.parent is not None:
        root = root.parent
    raise FlatbufferError(
        f"{path}: {reason_of(writer)}",
        offset=root.offset if root.offset >= 0 else None, frame=root.frame if root.frame >= 0 else None,
    )


cdef int write_record(RecordView record, const Limits* limits, JsonWriter* writer) except -1:
    check_made(record)
    begin_json(record.types, limits, writer)
    set_message(record, &writer.message)
    if write_object(writer, &record.table, record.table.offset, record.number, record.depth):
        fail_json(record, writer)
    return 0


cdef int write_vector(VectorView vector, const Limits* limits, JsonWriter* writer) except -1:
    cdef RecordView record = vector.record
    check_made(record)
    begin_json(record.types, limits, writer)
    set_message(record, &writer.message)
    if write_elements(
        writer, record.number, vector.field, vector.elements_offset, vector.types_offset, vector.first, vector.step,
        vector.count, record.depth,
    ):
        fail_json(record, writer)
    return 0


cdef str to_json(
    object view, object enums, object defaults, object nonfinite, object indent, object max_depth, object max_tables,
    object max_apparent_size
):
    """A record or a vector as JSON text."""
    cdef RecordView record = view if type(view) is RecordView else (<VectorView>view).record
    cdef Traversal traversal
    cdef JsonWriter writer
    check_made(record)
    begin_conversion(record.types, "number", "default", max_depth, max_tables, max_apparent_size, &traversal)
    check_options(enums, defaults, nonfinite, indent, &writer.options)
    writer.text = NULL
    writer.size = 0
    writer.capacity = 0
    try:
        if type(view) is RecordView:
            write_record(view, &traversal.limits, &writer)
        else:
            write_vector(view, &traversal.limits, &writer)
        return PyUnicode_DecodeUTF8(<const char*>writer.text, writer.size, NULL)
    finally:
        PyMem_RawFree(writer.text)


# Equality

cdef bint same_type(RecordView a, RecordView b) except -1:
    """Whether two records have the same type, or types of two schemas with the same name and the same field names."""
    if a.types is b.types and a.number == b.number:
        return True
    return a.types.layout.object_names[a.number] == b.types.layout.object_names[b.number] and (
        a.types.layout.field_names[a.number] == b.types.layout.field_names[b.number]
    )


cdef bint equal_records(RecordView a, RecordView b, Traversal* traversal) except -1:
    cdef const ObjectFields* fields = a.object_fields
    cdef Py_ssize_t j
    count_visited(traversal, a, -1, -1, not fields.is_struct, 0)
    if not same_type(a, b):
        return False
    for j in range(fields.field_count):
        if not fields.layouts[j].deprecated and not equal_fields(a, b, j, traversal):
            return False
    return True


cdef inline bint has_numbers(const Field* field) noexcept:
    return (field.kind == VECTOR or field.kind == ARRAY) and is_scalar(field.element)


cdef bint equal_fields(RecordView a, RecordView b, Py_ssize_t j, Traversal* traversal) except -1:
    cdef const Field* field = &a.object_fields.fields[j]
    cdef const Field* other = &b.object_fields.fields[j]
    cdef Message message
    cdef uint64_t offset, start = 0, count = 0, other_offset, other_start = 0, other_count = 0
    if has_numbers(field) != has_numbers(other):
        return False
    if not has_numbers(field):
        return equal_values(read_field(a, j, NULL), read_field(b, j, NULL), a, j, traversal)
    # Vectors of numbers are compared in the messages: equality needs no NumPy.
    set_message(a, &message)
    offset = find_field(a, &message, field)
    set_message(b, &message)
    other_offset = find_field(b, &message, other)
    if not offset or not other_offset:
        return offset == other_offset
    find_elements(a, j, offset, &start, &count)
    find_elements(b, j, other_offset, &other_start, &other_count)
    if count != other_count:
        return False
    count_visited(traversal, a, j, -1, 0, count * scalar_width(field.element))
    return equal_numbers(a.data + start, field.element, b.data + other_start, other.element, count)


cdef bint equal_values(object x, object y, RecordView record, Py_ssize_t field, Traversal* traversal) except -1:
    if type(x) is RecordView and type(y) is RecordView:
        check_made(x)
        check_made(y)
        return equal_records(x, y, traversal)
    if type(x) is VectorView and type(y) is VectorView:
        return equal_vectors(x, y, traversal)
    if type(x) is str:
        # A character has at least one byte.
        count_visited(traversal, record, field, -1, 0, <uint64_t>len(<str>x))
    return equal_objects(x, y)


cdef bint equal_vectors(VectorView a, VectorView b, Traversal* traversal) except -1:
    cdef Py_ssize_t i
    check_made(a.record)
    check_made(b.record)
    if a.count != b.count:
        return False
    count_visited(traversal, a.record, a.field, -1, 0, vector_size(a))
    for i in range(a.count):
        if (a.types_offset != 0) != (b.types_offset != 0):
            return False
        if a.types_offset and element_type(a, i) != element_type(b, i):
            return False
        if not equal_values(read_element(a, i, NULL), read_element(b, i, NULL), a.record, a.field, traversal):
            return False
    return True


# Representations

cdef str type_name(RecordTypes types, uint8_t kind, int32_t index):
    """The name of a type in the schema."""
    if kind == OBJECT:
        return types.layout.object_names[index]
    if kind == UNION or index >= 0 and may_be_enum(kind):
        return (<EnumLayout>types.layout.enums[index]).name
    return KIND_NAMES[kind]


cdef str show_string(RecordView record, uint64_t offset):
    """The first bytes of a string, which need not be UTF-8."""
    cdef Message message
    cdef uint64_t start = 0, count = 0
    set_message(record, &message)
    if open_vector(&message, offset, 1, &start, &count):
        return "<damaged>"
    text = repr(PyUnicode_DecodeUTF8(
        <const char*>record.data + start, <Py_ssize_t>min(count, <uint64_t>MAX_SHOWN_BYTES), b"backslashreplace"
    ))
    return f"{text}..." if count > MAX_SHOWN_BYTES else text


cdef str show_field(RecordView record, Py_ssize_t j):
    """A short text for a field; "" if it is absent."""
    cdef const Field* field = &record.object_fields.fields[j]
    cdef Message message
    cdef uint64_t offset, start = 0, count = 0
    set_message(record, &message)
    offset = find_field(record, &message, field)
    if not offset:
        return ""
    if field.kind == STRING:
        return show_string(record, offset)
    try:
        if field.kind == VECTOR or field.kind == ARRAY:
            find_elements(record, j, offset, &start, &count)
            return f"<{count} x {type_name(record.types, field.element, field.index)}>"
        value = read_field(record, j, NULL)
    except FlatbufferError:
        return "<damaged>"
    if type(value) is RecordView:
        return f"<{record.types.layout.object_names[(<RecordView>value).number]}>"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_BYTES else f"{text[:MAX_SHOWN_BYTES]}..."


cdef object find_attribute(RecordView record, object name):
    """The attribute with a name that `find_interned` does not find: an attribute of the class, or a field if the name
    is not interned.
    """
    cdef int32_t j
    if record.payload is not None and isinstance(name, str) and (
        type(name) is not str or not PyUnicode_CHECK_INTERNED(<PyObject*>name)
    ):
        j = record.types.find(record.number, name)
        if j >= 0 and not is_special(str(name)):
            return read_field(record, j, NULL)
    try:
        return PyObject_GenericGetAttr(record, name)
    except AttributeError:
        if record.payload is None:
            raise
    raise AttributeError(
        f"{record.types.layout.object_names[record.number]} has no field {name!r:.100}", name=name, obj=record
    )


# auto_pickle(False): a generated __setstate_cython__ would let a caller set any member.
# freelist: reusing freed records makes them cheap (R1 of asv_benchmarks/records_out.py).
@cython.final
@cython.freelist(16)
@cython.auto_pickle(False)
cdef class RecordView:
    """A table or struct of a message. Its fields are attributes; each is decoded when it is requested.

    `Table.view`, `StreamReader.records` and the fields of other records make records. Attributes have the field names
    of the schema. A field with the name of a method (`to_dict`) hides the method, which remains available as
    ``RecordView.to_dict(record)``. ``record["name"]`` is the same value as ``record.name``. `docs/records.md` lists the
    Python type for each type of the schema.

    Attributes
    ----------
    __table__ : str
        The full name of the table or struct.
    __fields__ : tuple of str
        The names of the fields in the order of their numbers, without deprecated fields.

    Notes
    -----
    A record keeps its message: as long as the record, a part of it or an array from it is alive, a bytearray cannot be
    resized and a reader does not reuse the memory. Records are read-only. Two records are equal if they have the same
    type and all of their fields are equal, where NaN equals NaN; records have no hash. If the message was not verified,
    any field can raise FlatbufferError.

    Examples
    --------
    >>> from flatstream import Builder, Schema
    >>> table = Schema.from_file("examples/telemetry.bfbs").root
    >>> builder = Builder(64)
    >>> _ = table.encode(builder, host="alpha")
    >>> record = table.view(builder)
    >>> record.host, record.sequence, record.cores
    ('alpha', 0, None)
    >>> record
    <telemetry.Event host='alpha'>
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("a RecordView is made by Table.view or StreamReader.records")

    def __getattribute__(self, name):
        cdef const NameEntry* entry
        cdef Message message
        cdef uint64_t offset
        if self.payload is None:
            return find_attribute(self, name)
        entry = find_interned(self.object_fields, <PyObject*>name)
        if entry is NULL:
            return find_attribute(self, name)
        if entry.width:
            # The result of `read_field` without its lookup of the field: R1 of asv_benchmarks/records_out.py.
            set_message(self, &message)
            offset = field_offset(&message, &self.table, entry.offset)
            if offset and not reach(&message, offset, entry.width, b"a field"):
                return number_from_bits(entry.kind, load_bits(self.data + offset, entry.width))
        return read_field(self, entry.number, NULL)

    def __setattr__(self, name, value):
        raise AttributeError(f"records are read-only: cannot set {name!r:.100}")

    def __delattr__(self, name):
        raise AttributeError(f"records are read-only: cannot delete {name!r:.100}")

    def __getitem__(self, name):
        cdef int32_t j
        check_made(self)
        if not isinstance(name, str):
            # iter() and dict() of a record ask for 0.
            raise TypeError(
                f"expected the name of a field, got {type(name).__name__}: {name!r:.100}; to_dict() gives all fields"
            )
        j = self.types.find(self.number, name)
        if j < 0:
            raise KeyError(f"{self.types.layout.object_names[self.number]} has no field {name!r:.100}")
        return read_field(self, j, NULL)

    def __contains__(self, name):
        check_made(self)
        return isinstance(name, str) and self.types.find(self.number, name) >= 0

    def __dir__(self):
        return sorted({*dir(type(self)), *(() if self.payload is None else self.types.layout.numbers[self.number])})

    @property
    def __table__(self):
        """The full name of the table or struct."""
        check_made(self)
        return self.types.layout.object_names[self.number]

    @property
    def __fields__(self):
        """The names of the fields in the order of their numbers, without deprecated fields."""
        check_made(self)
        return tuple(self.types.layout.numbers[self.number])

    def to_dict(self, *, enums="number", absent="default", max_depth=None, max_tables=None, max_apparent_size=None):
        """Converts the record and everything that it contains to dicts, lists, numbers, str, bytes and None.

        A vector or array of ubyte becomes bytes, any other a list. A union ``x`` has two entries: ``x`` is the value,
        ``x_type`` the number or name of its type.

        Parameters
        ----------
        enums : {"number", "name"}
            How values of enums and types of unions are returned. A value without a name is returned as its number, and
            so is a value of an enum of flags.
        absent : {"default", "null"}
            What a number that the message does not store becomes: its default, or None.
        max_depth : int, optional
            The largest number of tables inside one another, counted from the root of the message: at most 1,000, which
            is also the default.
        max_tables, max_apparent_size : int, optional
            The most tables and bytes, counting them again each time that an offset leads to them. By default the limits
            that the record was opened with (see `Table.view`).

        Raises
        ------
        FlatbufferError
            The message is damaged or exceeds a limit. A verified message raises neither by default.
        TypeError, ValueError
            `enums` or `absent` is none of these, or a limit has the wrong type or range.
        """
        cdef Traversal conversion
        check_made(self)
        begin_conversion(self.types, enums, absent, max_depth, max_tables, max_apparent_size, &conversion)
        return record_to_dict(self, &conversion)

    def to_json(
        self, *, enums="name", defaults=False, nonfinite="string", indent=None, max_depth=None, max_tables=None,
        max_apparent_size=None
    ):
        """The record as JSON text, as ``flatc --json --strict-json --natural-utf8`` writes it; see docs/json.md.

        Parameters
        ----------
        enums : {"name", "number"}
            How values of enums and types of unions are written. Flags are their names with spaces between them, and a
            value without a name is a number.
        defaults : bool
            Whether numbers that the message does not store are written too, as their defaults or null. Strings,
            vectors, tables and structs that are absent are left out in any case.
        nonfinite : {"string", "null", "bare"}
            How NaN and infinities are written, which JSON does not have: as the strings "nan", "inf" and "-inf", which
            `Table.from_json` and flatc read as numbers; as null; or as flatc writes them, without quotes.
        indent : int, optional
            The spaces of each level, 0 to 16, in a text with lines. By default it is one line.
        max_depth, max_tables, max_apparent_size : int, optional
            See `to_dict`.

        Returns
        -------
        str
            Text that `Table.from_json` reads back to the same values.

        Raises
        ------
        FlatbufferError
            The message is damaged or exceeds a limit. A verified message raises neither by default, unless messages in
            its fields (`nested_flatbuffer`), which no verifier looks into, exceed a limit.
        TypeError, ValueError
            An argument has the wrong type or value.

        Examples
        --------
        >>> from flatstream import Builder, Schema
        >>> table = Schema.from_file("examples/telemetry.bfbs").root
        >>> builder = Builder(64)
        >>> _ = table.encode(builder, host="alpha", load_1=0.1)
        >>> table.view(builder).to_json()
        '{"host":"alpha","load_1":0.1}'
        """
        return to_json(self, enums, defaults, nonfinite, indent, max_depth, max_tables, max_apparent_size)

    def __eq__(self, other):
        cdef Traversal traversal
        if type(other) is not RecordView or self.payload is None or (<RecordView>other).payload is None:
            return NotImplemented
        begin_traversal(self.types, &traversal)
        return equal_records(self, other, &traversal)

    def __reduce__(self):
        refuse_pickling(self, "it is a view of a message; take to_dict() or the bytes of the message")

    def __repr__(self):
        cdef const ObjectFields* fields
        cdef Py_ssize_t j
        if self.payload is None:
            return "<uninitialized RecordView>"
        fields = self.object_fields
        shown = [self.types.layout.object_names[self.number]]
        for j in range(fields.field_count):
            text = "" if fields.layouts[j].deprecated else show_field(self, j)
            if not text:
                continue
            if len(shown) > MAX_SHOWN_FIELDS:
                shown.append("...")
                break
            shown.append(f"{self.types.names[self.number][j]}={text}")
        return f"<{' '.join(shown)}>"

    def _repr_html_(self):
        cdef Py_ssize_t j
        # Imported here, because only notebooks need it.
        from flatstream._core.base.html_page import html_page
        if self.payload is None:
            return html_page("RecordView", "", ["uninitialized"], (), ())
        names = self.types.names[self.number]
        rows = [(names[j], show_field(self, j)) for j in range(self.object_fields.field_count)]
        present = [row for row in rows if row[1]]
        absent = len(rows) - len(present)
        facts = [f"{absent} fields are absent" if absent else ""]
        return html_page("Record", self.types.layout.object_names[self.number], facts, ("field", "value"), present)


@cython.final
@cython.freelist(16)
@cython.auto_pickle(False)
cdef class VectorView:
    """A vector of strings, tables, structs or unions in a message: a sequence that reads an element when requested.

    A slice is another view. A vector equals another vector, a list or a tuple if their elements are equal; it has no
    hash.
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("a VectorView is made by the field of a record")

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        cdef VectorView part
        check_made(self.record)
        if isinstance(index, slice):
            # Called once: the bounds of a slice are arbitrary objects, and can give other numbers the next time.
            start, stop, step = index.indices(self.count)
            part = VectorView.__new__(VectorView)
            part.count = len(range(start, stop, step))
            if part.count:
                # The bounds of an empty slice can be outside of the vector.
                part.first = self.first + <Py_ssize_t>start * self.step
                part.step = <Py_ssize_t>step * self.step if part.count > 1 else 1
            part.record = self.record
            part.field = self.field
            part.elements_offset = self.elements_offset
            part.types_offset = self.types_offset
            return part
        i = operator.index(index)
        if not -self.count <= i < self.count:
            raise IndexError(f"index {index} is out of range for a vector of {self.count} elements")
        return read_element(self, i if i >= 0 else i + self.count, NULL)

    def __iter__(self):
        return PySeqIter_New(self)

    def to_list(self, *, enums="number", absent="default", max_depth=None, max_tables=None, max_apparent_size=None):
        """Converts the elements as `RecordView.to_dict` converts fields, with the same arguments."""
        cdef Traversal conversion
        check_made(self.record)
        begin_conversion(self.record.types, enums, absent, max_depth, max_tables, max_apparent_size, &conversion)
        return vector_to_list(self, &conversion)

    def to_json(
        self, *, enums="name", defaults=False, nonfinite="string", indent=None, max_depth=None, max_tables=None,
        max_apparent_size=None
    ):
        """The elements as a JSON array; see `RecordView.to_json`."""
        return to_json(self, enums, defaults, nonfinite, indent, max_depth, max_tables, max_apparent_size)

    def to_numpy(self):
        """A vector of structs as a read-only structured array that shares the memory of the message.

        The array is a copy if the vector has a bool that is neither 0 nor 1, which NumPy does not support.

        Raises
        ------
        TypeError
            The elements are not structs.
        ImportError
            NumPy is not installed.
        """
        cdef RecordView record = self.record
        cdef Py_ssize_t lowest
        cdef const Field* field
        check_made(record)
        field = &record.object_fields.fields[self.field]
        if field.element != OBJECT or not record.types.object_fields[field.index].is_struct:
            raise TypeError(
                f"to_numpy() needs a vector of structs, and this is a vector of "
                f"{type_name(record.types, field.element, field.index)}"
            )
        lowest = self.first if self.step > 0 or not self.count else self.first + (self.count - 1) * self.step
        return struct_array(
            record.types.array_types(), record.payload,
            record.data + self.elements_offset + <uint64_t>lowest * record.types.object_fields[field.index].size,
            field.index, self.count, self.step,
        )

    def __eq__(self, other):
        cdef Traversal traversal
        cdef Py_ssize_t i
        if self.record is None or self.record.types is None:
            return NotImplemented
        begin_traversal(self.record.types, &traversal)
        if type(other) is VectorView:
            return NotImplemented if (<VectorView>other).record is None else equal_vectors(self, other, &traversal)
        if not isinstance(other, (list, tuple)):
            return NotImplemented
        check_made(self.record)
        others = tuple(other)
        if len(others) != self.count:
            return False
        for i in range(self.count):
            if not equal_values(read_element(self, i, NULL), others[i], self.record, self.field, &traversal):
                return False
        return True

    def __reduce__(self):
        refuse_pickling(self, "it is a view of a message; take to_list() or the bytes of the message")

    def __repr__(self):
        cdef RecordView record = self.record
        cdef const Field* field
        if record is None or record.payload is None:
            return "<uninitialized VectorView>"
        field = &record.object_fields.fields[self.field]
        text = f"<VectorView of {self.count} x {type_name(record.types, field.element, field.index)}"
        if field.element == STRING and self.count:
            shown = [
                show_string(record, self.elements_offset + 4 * <uint64_t>(self.first + <Py_ssize_t>i * self.step))
                for i in range(min(self.count, MAX_SHOWN_STRINGS))
            ]
            text += f": {', '.join(shown)}{', ...' if self.count > MAX_SHOWN_STRINGS else ''}"
        return f"{text}>"

# cython: boundscheck=False, wraparound=False
"""Records: messages read by a schema, field by field, when a field is asked for.

Nothing is looked at before it has been compared with the size of the message (`access.pxd`), so that no bytes, verified
or not, lead outside of it. A record holds its message: a memoryview that nobody else gets, and so nobody can release.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject_GenericGetAttr
from cpython.ref cimport PyObject
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from flatstream._core.base.buffers cimport owner_view_of
from flatstream._core.base.endian cimport load_u16, load_u32, load_u64
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, OBJECT, SHORT, STRING, UBYTE, UINT, ULONG, UNION, USHORT, VECTOR,
    is_scalar, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout
from flatstream._core.flatbuf.message cimport (
    Message, field_offset, follow_offset, open_root, open_table, open_vector, reach,
)
from flatstream._core.flatbuf.verifier cimport Field, Limits, UnionType, verify_object
from flatstream._core.records.field_lookup cimport RecordTypes, Shape, Slot, find_interned, is_special
from flatstream._core.stream.decoder cimport Decoder

import operator

from flatstream._core.stream.decoder import FIRST_FAILED
from flatstream.errors import FlatbufferError, ValidationFailedError


cdef extern from "Python.h":
    bint PyUnicode_CHECK_INTERNED(PyObject* text) noexcept
    str PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    object PySeqIter_New(object sequence)

# As deep as the verifier can be told to go; whatever it accepts can be read.
cdef enum:
    DEEPEST = 1000

# A repr shows so many fields, and so much of a string.
cdef enum:
    SHOWN_FIELDS = 8
    SHOWN_BYTES = 40

# What schemas call the kinds, by their numbers.
KINDS = (
    "nothing", "ubyte", "bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong", "float", "double",
    "string",
)


cdef struct Conversion:
    # Of one call of to_dict or ==: whether enums are names, and how much was looked at, since a small message that
    # nobody has verified can refer to the same bytes over and over.
    bint names
    Py_ssize_t tables
    uint64_t size


# Errors

cdef str path_of(RecordView record, Py_ssize_t field, Py_ssize_t element):
    """Where in a message something is: like the verifier's paths."""
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


cdef object damaged(RecordView record, Py_ssize_t field, Py_ssize_t element, str reason):
    """The error that something in a message is not what the schema says."""
    cdef RecordView root = record
    while root.parent is not None:
        root = root.parent
    return FlatbufferError(
        f"{path_of(record, field, element)}: {reason}",
        offset=root.offset if root.offset >= 0 else None, frame=root.frame if root.frame >= 0 else None,
    )


cdef int refuse(RecordView record, Py_ssize_t field, Py_ssize_t element, const Message* message) except -1:
    """Raises what `message` says was refused."""
    what = (<bytes>message.what).decode()
    raise damaged(
        record, field, element,
        f"{what} at byte {message.offset}: {message.needed} bytes are needed, and the message ends at {message.size}",
    )


cdef int spend(
    Conversion* conversion, RecordView record, Py_ssize_t field, Py_ssize_t element, Py_ssize_t tables, uint64_t size
) except -1:
    """Counts what is looked at, up to the verifier's own limits."""
    cdef const Limits* limits = &record.types.limits
    conversion.tables += tables
    # Each summand is at most the size of a message, so that the sum cannot overflow before it is noticed.
    conversion.size += size
    if conversion.tables > limits.max_tables:
        raise damaged(record, field, element, f"there are more tables than the limit of {limits.max_tables}")
    if conversion.size > limits.max_apparent_size:
        raise damaged(
            record, field, element,
            f"the message has more than the limit of {limits.max_apparent_size} bytes if what is used twice counts "
            "twice",
        )
    return 0


cdef inline int check_made(RecordView record) except -1:
    if record is None or record.payload is None:
        raise ValueError("this record was never made: see Table.view and StreamReader.records")
    return 0


cdef inline int begin(RecordView record, Message* message) noexcept:
    message.data = record.data
    message.size = record.size
    return 0


# Numbers

cdef inline uint64_t load_bits(const uint8_t* p, uint32_t width) noexcept:
    if width == 1:
        return p[0]
    if width == 2:
        return load_u16(p)
    if width == 4:
        return load_u32(p)
    return load_u64(p)


cdef inline double as_double(uint8_t kind, uint64_t bits) noexcept:
    cdef float single = 0
    cdef double value = 0
    cdef uint32_t low = <uint32_t>bits
    if kind == FLOAT:
        memcpy(&single, &low, 4)
        return single
    memcpy(&value, &bits, 8)
    return value


cdef inline object number_of(uint8_t kind, uint64_t bits):
    """The number whose bytes are the low ones of `bits`."""
    if kind == BOOL:
        return True if bits & 0xFF else False
    elif kind == DOUBLE or kind == FLOAT:
        return as_double(kind, bits)
    elif kind == ULONG:
        return bits
    elif kind == UINT:
        return <uint32_t>bits
    elif kind == LONG:
        return <int64_t>bits
    elif kind == INT:
        return <int32_t>bits
    elif kind == SHORT:
        return <int16_t>bits
    elif kind == USHORT:
        return <uint16_t>bits
    elif kind == BYTE:
        return <int8_t>bits
    else:
        return <uint8_t>bits


cdef inline object converted(RecordTypes types, const Field* field, uint8_t kind, uint64_t bits, const Conversion* to):
    """A number, or the name that an enum has for it."""
    cdef EnumLayout known
    number = number_of(kind, bits)
    if to is NULL or not to.names or not may_be_enum(kind) or field.index < 0:
        return number
    known = types.layout.enums[field.index]
    # More than one flag has no name.
    return number if known.bit_flags else known.by_value.get(number, number)


# None of these classes is pickled. What Cython makes for that by itself would also set any member to anything.

# The owner of the memory of an array. Not a memoryview, which whoever has the array could release; and it holds one, so
# that the chunk behind it knows.
@cython.final
@cython.auto_pickle(False)
cdef class Pinned:
    cdef object payload
    cdef const uint8_t* data
    cdef Py_ssize_t size

    def __init__(self, *args, **kwargs):
        raise TypeError("the owner of an array's memory is made with the array")

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if self.payload is None:
            raise BufferError("no memory")
        PyBuffer_FillInfo(buffer, self, <void*>self.data, self.size, True, flags)


cdef object array_of(RecordView record, uint64_t start, uint64_t size, object dtype):
    """A read-only array of `size` bytes, all in the message, that keeps it."""
    cdef Pinned owner = Pinned.__new__(Pinned)
    owner.payload = record.payload
    owner.data = record.data + start
    owner.size = <Py_ssize_t>size
    return record.types.frombuffer(owner, dtype)


cdef object numbers_array(RecordView record, uint8_t kind, uint64_t start, uint64_t count):
    cdef uint64_t i
    if record.types.frombuffer is None:
        record.types.load_numpy()
    if kind == BOOL:
        for i in range(count):
            if record.data[start + i] > 1:
                # To NumPy a truth value that is neither 0 nor 1 is neither true nor false.
                array = array_of(record, start, count, record.types.dtypes[UBYTE]) != 0
                array.setflags(write=False)
                return array
    return array_of(record, start, count * scalar_width(kind), record.types.dtypes[kind])


cdef object numbers(
    RecordView record, Py_ssize_t j, uint8_t kind, uint64_t start, uint64_t count, Conversion* to
):
    """A vector or an array of numbers, all in the message: an array, or if it is converted a list or bytes."""
    cdef const Field* field = &record.shape.fields[j]
    cdef uint32_t width = scalar_width(kind)
    cdef uint64_t i
    cdef list values = []
    if to is NULL:
        return numbers_array(record, kind, start, count)
    spend(to, record, j, -1, 0, count * width)
    if kind == UBYTE and field.index < 0:
        return PyBytes_FromStringAndSize(<const char*>record.data + start, <Py_ssize_t>count)
    for i in range(count):
        values.append(converted(record.types, field, kind, load_bits(record.data + start + i * width, width), to))
    return values


# What is behind an offset, or part of a struct

cdef object read_string(
    RecordView record, Py_ssize_t field, Py_ssize_t element, uint64_t place, Conversion* to
):
    cdef Message message
    cdef uint64_t start = 0, count = 0
    begin(record, &message)
    if open_vector(&message, place, 1, &start, &count):
        refuse(record, field, element, &message)
    if to is not NULL:
        spend(to, record, field, element, 0, count)
    try:
        return PyUnicode_DecodeUTF8(<const char*>record.data + start, <Py_ssize_t>count, NULL)
    except UnicodeDecodeError as error:
        raise damaged(
            record, field, element, f"the string at byte {start - 4} is not UTF-8: see its byte {error.start}"
        ) from None


cdef object read_object(
    RecordView record, Py_ssize_t field, Py_ssize_t element, uint64_t place, int32_t number, bint offset
):
    """The table or struct that lies at `place`, or that the offset there leads to."""
    cdef RecordView part
    cdef RecordTypes types = record.types
    cdef Message message
    begin(record, &message)
    part = RecordView.__new__(RecordView)
    if offset and follow_offset(&message, place, &place):
        refuse(record, field, element, &message)
    part.depth = record.depth
    if types.shapes[number].is_struct:
        part.table.offset = place
        if reach(&message, place, types.shapes[number].size, b"a struct"):
            refuse(record, field, element, &message)
    else:
        if open_table(&message, place, &part.table):
            refuse(record, field, element, &message)
        if part.depth >= DEEPEST:
            raise damaged(record, field, element, f"tables are nested deeper than the limit of {DEEPEST}")
        part.depth += 1
    part.types = types
    part.shape = types.shapes[number]
    part.parent = record
    part.field = field
    part.element = element
    part.data = record.data
    part.size = record.size
    part.number = number
    part.payload = record.payload
    return part


cdef object read_variant(
    RecordView record, Py_ssize_t field, Py_ssize_t element, uint64_t place, int32_t index, uint8_t type, Conversion* to
):
    """The value of a union, whose offset is at `place`; None if the schema does not know the type."""
    cdef const UnionType* known = &record.types.layout.types.unions[index]
    cdef Py_ssize_t i
    for i in range(known.variant_count):
        if known.variants[i].value == type:
            if known.variants[i].kind == STRING:
                return read_string(record, field, element, place, to)
            if known.variants[i].kind == OBJECT:
                return read_object(record, field, element, place, known.variants[i].index, True)
            return None
    return None


cdef int find_numbers(
    RecordView record, Py_ssize_t j, uint64_t place, uint64_t* start, uint64_t* count
) except -1:
    """Where the elements of a vector or array are, of which all are there."""
    cdef const Shape* shape = record.shape
    cdef Message message
    if shape.fields[j].kind == ARRAY:
        start[0] = place
        count[0] = shape.layouts[j].length
        return 0
    begin(record, &message)
    if open_vector(&message, place, shape.layouts[j].element_size, start, count):
        refuse(record, j, -1, &message)
    return 0


cdef object read_vector(RecordView record, Py_ssize_t j, uint64_t place, Conversion* to):
    cdef const Shape* shape = record.shape
    cdef const Field* field = &shape.fields[j]
    cdef VectorView vector
    cdef Message message
    cdef uint64_t start = 0, count = 0, kinds = 0, kind_count = 0
    find_numbers(record, j, place, &start, &count)
    if is_scalar(field.element):
        return numbers(record, j, field.element, start, count, to)
    if field.element == UNION:
        begin(record, &message)
        place = field_offset(&message, &record.table, field.type_offset)
        if place and open_vector(&message, place, 1, &kinds, &kind_count):
            refuse(record, shape.layouts[j].paired_field, -1, &message)
        if kind_count != count:
            raise damaged(
                record, j, -1,
                f"a vector of unions in the table at byte {record.table.offset} has another length than the vector of "
                "their types",
            )
    vector = VectorView.__new__(VectorView)
    vector.record = record
    vector.field = j
    vector.start = start
    vector.kinds = kinds
    vector.step = 1
    vector.count = <Py_ssize_t>count
    return vector


cdef inline uint64_t vector_size(VectorView vector) noexcept:
    """How many bytes those elements have that are shown, not counting what they lead to."""
    return <uint64_t>vector.count * vector.record.shape.layouts[vector.field].element_size


cdef object read_element(VectorView vector, Py_ssize_t i, Conversion* to):
    """Element `i` of those shown, which is one of them; see `read_field`."""
    cdef RecordView record = vector.record
    cdef const Field* field = &record.shape.fields[vector.field]
    cdef Py_ssize_t element = vector.first + i * vector.step
    cdef uint64_t place = vector.start + <uint64_t>element * record.shape.layouts[vector.field].element_size
    if field.element == STRING:
        return read_string(record, vector.field, element, place, to)
    if field.element == UNION:
        return read_variant(
            record, vector.field, element, place, field.index, record.data[vector.kinds + <uint64_t>element], to
        )
    return read_object(
        record, vector.field, element, place, field.index, not record.types.shapes[field.index].is_struct
    )


cdef inline uint64_t place_of(RecordView record, Message* message, const Field* field) noexcept:
    """Where a field of a record is, or 0 if it is absent. Of a struct all of it is there."""
    if record.shape.is_struct:
        return record.table.offset + field.offset
    return field_offset(message, &record.table, field.offset)


cdef object read_field(RecordView record, Py_ssize_t j, Conversion* to):
    """The value of field `j`. With a conversion numbers and vectors of them are without NumPy; what has parts is a view
    all the same.
    """
    cdef const Field* field = &record.shape.fields[j]
    cdef Message message
    cdef uint64_t place
    cdef uint32_t width
    begin(record, &message)
    place = place_of(record, &message, field)
    if not is_scalar(field.kind):
        return read_part(record, j, place, to) if place else None
    if not place:
        if record.shape.layouts[j].optional:
            return None
        return converted(record.types, field, field.kind, record.shape.layouts[j].default_bits, to)
    width = scalar_width(field.kind)
    if reach(&message, place, width, b"a field"):
        refuse(record, j, -1, &message)
    return converted(record.types, field, field.kind, load_bits(record.data + place, width), to)


cdef object read_part(RecordView record, Py_ssize_t j, uint64_t place, Conversion* to):
    """The value of field `j` if that is more than a number."""
    cdef const Field* field = &record.shape.fields[j]
    if field.kind == STRING:
        return read_string(record, j, -1, place, to)
    if field.kind == OBJECT:
        return read_object(record, j, -1, place, field.index, not record.types.shapes[field.index].is_struct)
    if field.kind == UNION:
        return read_variant(record, j, -1, place, field.index, union_type(record, j), to)
    return read_vector(record, j, place, to)


cdef int union_type(RecordView record, Py_ssize_t j) except -1:
    """The number of the variant in union `j`; 0 if there is none."""
    cdef const Shape* shape = record.shape
    cdef Message message
    cdef uint64_t place
    begin(record, &message)
    place = field_offset(&message, &record.table, shape.fields[j].type_offset)
    if not place:
        return 0
    if reach(&message, place, 1, b"the type of a union"):
        refuse(record, shape.layouts[j].paired_field, -1, &message)
    return record.data[place]


cdef dict plain(RecordView record, Conversion* to):
    """A record without views."""
    cdef const Shape* shape = record.shape
    cdef list names = record.types.names[record.number]
    cdef Py_ssize_t j
    cdef dict values = {}
    spend(to, record, -1, -1, not shape.is_struct, 0)
    for j in range(shape.field_count):
        if not shape.layouts[j].deprecated:
            # One call inside another for each level, and no more, since the stack is finite.
            value = read_field(record, j, to)
            if type(value) is RecordView:
                value = plain(value, to)
            elif type(value) is VectorView:
                value = plain_list(value, to)
            values[names[j]] = value
    return values


cdef list plain_list(VectorView vector, Conversion* to):
    """A vector without views."""
    cdef Py_ssize_t i
    cdef list values = []
    spend(to, vector.record, vector.field, -1, 0, vector_size(vector))
    for i in range(vector.count):
        value = read_element(vector, i, to)
        values.append(plain(value, to) if type(value) is RecordView else value)
    return values


cdef int check_enums(object enums, Conversion* to) except -1:
    if not isinstance(enums, str) or enums not in ("number", "name"):
        raise ValueError(f"enums must be 'number' or 'name', got {enums!r:.100}")
    to.names = enums == "name"
    to.tables = 0
    to.size = 0
    return 0


# Equality

cdef bint same_type(RecordView a, RecordView b) except -1:
    """Whether two records are of the same type, or of types with the same name and fields in two schemas."""
    if a.types is b.types and a.number == b.number:
        return True
    return a.types.layout.object_names[a.number] == b.types.layout.object_names[b.number] and (
        a.types.layout.field_names[a.number] == b.types.layout.field_names[b.number]
    )


cdef bint equal_records(RecordView a, RecordView b, Conversion* seen) except -1:
    cdef const Shape* shape = a.shape
    cdef Py_ssize_t j
    spend(seen, a, -1, -1, not shape.is_struct, 0)
    if not same_type(a, b):
        return False
    for j in range(shape.field_count):
        if not shape.layouts[j].deprecated and not equal_fields(a, b, j, seen):
            return False
    return True


cdef inline bint has_numbers(const Field* field) noexcept:
    return (field.kind == VECTOR or field.kind == ARRAY) and is_scalar(field.element)


cdef inline bint same_double(double x, double y) noexcept:
    # A record is equal to itself: NaN is the same as NaN, unlike for IEEE 754 and for Python.
    return x == y or (x != x and y != y)


cdef bint same_number(object x, object y) except -1:
    if type(x) is float and type(y) is float:
        return same_double(x, y)
    return x == y


cdef bint equal_fields(RecordView a, RecordView b, Py_ssize_t j, Conversion* seen) except -1:
    cdef const Field* one = &a.shape.fields[j]
    cdef const Field* other = &b.shape.fields[j]
    cdef Message message
    cdef uint64_t place, start = 0, count = 0, other_place, other_start = 0, other_count = 0
    if has_numbers(one) != has_numbers(other):
        return False
    if not has_numbers(one):
        return equal_values(read_field(a, j, NULL), read_field(b, j, NULL), a, j, seen)
    begin(a, &message)
    place = place_of(a, &message, one)
    begin(b, &message)
    other_place = place_of(b, &message, other)
    if not place or not other_place:
        return place == other_place
    find_numbers(a, j, place, &start, &count)
    find_numbers(b, j, other_place, &other_start, &other_count)
    if count != other_count:
        return False
    spend(seen, a, j, -1, 0, count * scalar_width(one.element))
    return equal_numbers(a.data + start, one.element, b.data + other_start, other.element, count)


cdef bint equal_numbers(
    const uint8_t* a, uint8_t kind, const uint8_t* b, uint8_t other_kind, uint64_t count
) except -1:
    """Whether `count` numbers are equal to as many others."""
    cdef uint32_t width = scalar_width(kind), other_width = scalar_width(other_kind)
    cdef uint64_t i
    if kind != other_kind:
        for i in range(count):
            if not same_number(
                number_of(kind, load_bits(a + i * width, width)),
                number_of(other_kind, load_bits(b + i * other_width, other_width)),
            ):
                return False
        return True
    if kind == BOOL:
        for i in range(count):
            if (a[i] != 0) != (b[i] != 0):
                return False
        return True
    if kind == FLOAT or kind == DOUBLE:
        for i in range(count):
            if not same_double(
                as_double(kind, load_bits(a + i * width, width)), as_double(kind, load_bits(b + i * width, width))
            ):
                return False
        return True
    return memcmp(a, b, <size_t>(count * width)) == 0


cdef bint equal_values(object x, object y, RecordView record, Py_ssize_t field, Conversion* seen) except -1:
    if type(x) is RecordView and type(y) is RecordView:
        check_made(x)
        check_made(y)
        return equal_records(x, y, seen)
    if type(x) is VectorView and type(y) is VectorView:
        return equal_vectors(x, y, seen)
    if type(x) is str:
        # At least one byte each.
        spend(seen, record, field, -1, 0, <uint64_t>len(<str>x))
    return same_number(x, y)


cdef bint equal_vectors(VectorView a, VectorView b, Conversion* seen) except -1:
    cdef Py_ssize_t i
    check_made(a.record)
    check_made(b.record)
    if a.count != b.count:
        return False
    spend(seen, a.record, a.field, -1, 0, vector_size(a))
    for i in range(a.count):
        if (a.kinds != 0) != (b.kinds != 0):
            return False
        if a.kinds and a.record.data[a.kinds + <uint64_t>(a.first + i * a.step)] != (
            b.record.data[b.kinds + <uint64_t>(b.first + i * b.step)]
        ):
            return False
        if not equal_values(read_element(a, i, NULL), read_element(b, i, NULL), a.record, a.field, seen):
            return False
    return True


# What a person is shown

cdef str type_name(RecordTypes types, uint8_t kind, int32_t index):
    """What a schema calls a type."""
    if kind == OBJECT:
        return types.layout.object_names[index]
    if kind == UNION or index >= 0 and may_be_enum(kind):
        return (<EnumLayout>types.layout.enums[index]).name
    return KINDS[kind]


cdef str show_string(RecordView record, uint64_t place):
    """The beginning of a string, whatever its bytes are."""
    cdef Message message
    cdef uint64_t start = 0, count = 0
    begin(record, &message)
    if open_vector(&message, place, 1, &start, &count):
        return "<damaged>"
    text = repr(PyUnicode_DecodeUTF8(
        <const char*>record.data + start, <Py_ssize_t>min(count, <uint64_t>SHOWN_BYTES), b"backslashreplace"
    ))
    return f"{text}..." if count > SHOWN_BYTES else text


cdef str show_field(RecordView record, Py_ssize_t j):
    """A field in a few characters; "" if it is absent."""
    cdef const Field* field = &record.shape.fields[j]
    cdef Message message
    cdef uint64_t place, start = 0, count = 0
    begin(record, &message)
    place = place_of(record, &message, field)
    if not place:
        return ""
    if field.kind == STRING:
        return show_string(record, place)
    try:
        if field.kind == VECTOR or field.kind == ARRAY:
            find_numbers(record, j, place, &start, &count)
            return f"<{count} x {type_name(record.types, field.element, field.index)}>"
        value = read_field(record, j, NULL)
    except FlatbufferError:
        return "<damaged>"
    if type(value) is RecordView:
        return f"<{record.types.layout.object_names[(<RecordView>value).number]}>"
    text = repr(value)
    return text if len(text) <= SHOWN_BYTES else f"{text[:SHOWN_BYTES]}..."


cdef object find_attribute(RecordView record, object name):
    """An attribute that is not found by the address of its name: one of the class, unless the name is a copy."""
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


# Freed records are kept and used again, which makes them cheap: R1 of asv_benchmarks/records_out.py.
@cython.final
@cython.freelist(16)
@cython.auto_pickle(False)
cdef class RecordView:
    """A table or struct of a message, whose fields are attributes and are decoded when they are asked for.

    Made by `Table.view` and `StreamReader.records`, and by the fields of other records. Attributes have the names of
    the schema; one that is called like a method (`to_dict`) is the field, and `RecordView.to_dict(record)` is the
    method. ``record["name"]`` is the same value. `docs/records.md` has what each type of the schema gives.

    Attributes
    ----------
    __table__ : str
        The full name of the table or struct.
    __fields__ : tuple of str
        The names of the fields, in the order of their numbers, without deprecated ones.

    Notes
    -----
    A record keeps its message: a bytearray cannot be resized and a reader does not fill its memory again as long as the
    record, a part of it or an array from it is alive. Records cannot be changed. Two are equal if they are of the same
    type and all of their fields are equal, in which NaN is equal to NaN; they have no hash. What no verifier has looked
    at may give FlatbufferError for any field.

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
        cdef const Slot* slot
        cdef Message message
        cdef uint64_t place
        if self.payload is None:
            return find_attribute(self, name)
        slot = find_interned(self.shape, <PyObject*>name)
        if slot is NULL:
            return find_attribute(self, name)
        if slot.width:
            # What `read_field` would do, without looking the field up again: R1 of asv_benchmarks/records_out.py.
            begin(self, &message)
            place = field_offset(&message, &self.table, slot.offset)
            if place and not reach(&message, place, slot.width, b"a field"):
                return number_of(slot.kind, load_bits(self.data + place, slot.width))
        return read_field(self, slot.number, NULL)

    def __setattr__(self, name, value):
        raise AttributeError(f"records cannot be changed: {name!r:.100} was to be set")

    def __delattr__(self, name):
        raise AttributeError(f"records cannot be changed: {name!r:.100} was to be deleted")

    def __getitem__(self, name):
        cdef int32_t j
        check_made(self)
        if not isinstance(name, str):
            raise TypeError(f"fields have names, got {type(name).__name__}: {name!r:.100}")
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
        """The names of the fields, in the order of their numbers, without deprecated ones."""
        check_made(self)
        return tuple(self.types.layout.numbers[self.number])

    def to_dict(self, *, enums="number"):
        """The record and all that it leads to as dicts, lists, numbers, str, bytes and None.

        A vector or an array of ubyte is bytes, and others are lists. A union has its value under its name, and the
        number or name of its type beside it: ``x`` and ``x_type``.

        Parameters
        ----------
        enums : {"number", "name"}
            What values of enums and types of unions are. A number that has no name stays a number, and so do flags.

        Raises
        ------
        FlatbufferError
            The message is damaged, deeper than 1,000 tables, or has more than 1,000,000 tables or 2 GiB if what is used
            twice counts twice; only if it was not verified.
        ValueError
            `enums` is neither of these.
        """
        cdef Conversion to
        check_made(self)
        check_enums(enums, &to)
        return plain(self, &to)

    def __eq__(self, other):
        cdef Conversion seen
        if type(other) is not RecordView or self.payload is None or (<RecordView>other).payload is None:
            return NotImplemented
        check_enums("number", &seen)
        return equal_records(self, other, &seen)

    def __repr__(self):
        cdef const Shape* shape
        cdef Py_ssize_t j
        if self.payload is None:
            return "<RecordView that was never made>"
        shape = self.shape
        shown = [self.types.layout.object_names[self.number]]
        for j in range(shape.field_count):
            text = "" if shape.layouts[j].deprecated else show_field(self, j)
            if not text:
                continue
            if len(shown) > SHOWN_FIELDS:
                shown.append("...")
                break
            shown.append(f"{self.types.names[self.number][j]}={text}")
        return f"<{' '.join(shown)}>"


@cython.final
@cython.freelist(16)
@cython.auto_pickle(False)
cdef class VectorView:
    """A vector of strings, tables, structs or unions in a message: a sequence whose elements are read when asked for.

    A slice is another view. A vector is equal to another vector, a list or a tuple with equal elements; it has no hash.
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("a VectorView is made by the field of a record")

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        cdef VectorView part
        check_made(self.record)
        if isinstance(index, slice):
            # Once: what a slice is made of may answer anything each time it is asked.
            start, stop, step = index.indices(self.count)
            part = VectorView.__new__(VectorView)
            part.count = len(range(start, stop, step))
            if part.count:
                # Otherwise they may be anything.
                part.first = self.first + <Py_ssize_t>start * self.step
                part.step = <Py_ssize_t>step * self.step if part.count > 1 else 1
            part.record = self.record
            part.field = self.field
            part.start = self.start
            part.kinds = self.kinds
            return part
        place = operator.index(index)
        if not -self.count <= place < self.count:
            raise IndexError(f"element {index} of a vector of {self.count}")
        return read_element(self, place if place >= 0 else place + self.count, NULL)

    def __iter__(self):
        return PySeqIter_New(self)

    def to_list(self, *, enums="number"):
        """The elements, without any views; see `RecordView.to_dict`."""
        cdef Conversion to
        check_made(self.record)
        check_enums(enums, &to)
        return plain_list(self, &to)

    def to_numpy(self):
        """A vector of structs as a read-only array with named fields, without a copy.

        It is copied if it has truth values that are neither 0 nor 1, which NumPy does not know.

        Raises
        ------
        TypeError
            These are no structs.
        ImportError
            NumPy is missing.
        """
        cdef RecordView record = self.record
        cdef Py_ssize_t i, lowest, place
        cdef uint64_t size
        cdef const Field* field
        check_made(record)
        field = &record.shape.fields[self.field]
        if field.element != OBJECT or not record.types.shapes[field.index].is_struct:
            raise TypeError(
                f"only vectors of structs are arrays, and this is one of "
                f"{type_name(record.types, field.element, field.index)}"
            )
        if record.types.frombuffer is None:
            record.types.load_numpy()
        size = record.types.shapes[field.index].size
        lowest = self.first if self.step > 0 else self.first + (self.count - 1) * self.step
        # From the lowest element to the highest: all of them are in the vector.
        array = array_of(
            record, self.start + <uint64_t>lowest * size,
            size * <uint64_t>((self.count - 1) * abs(self.step) + 1) if self.count else 0,
            record.types.struct_dtype(field.index),
        )[::self.step or 1]
        places = record.types.truth_places(field.index)
        for place in places:
            for i in range(self.count):
                if record.data[
                    self.start + <uint64_t>(self.first + i * self.step) * size + <uint64_t>place
                ] > 1:
                    array = array.copy()
                    raw = array.view("u1").reshape(self.count, size)
                    raw[:, places] = raw[:, places] != 0
                    array.setflags(write=False)
                    return array
        return array

    def __eq__(self, other):
        cdef Conversion seen
        cdef Py_ssize_t i
        if self.record is None:
            return NotImplemented
        check_enums("number", &seen)
        if type(other) is VectorView:
            return NotImplemented if (<VectorView>other).record is None else equal_vectors(self, other, &seen)
        if not isinstance(other, (list, tuple)):
            return NotImplemented
        check_made(self.record)
        others = tuple(other)
        if len(others) != self.count:
            return False
        for i in range(self.count):
            if not equal_values(read_element(self, i, NULL), others[i], self.record, self.field, &seen):
                return False
        return True

    def __repr__(self):
        cdef RecordView record = self.record
        cdef const Field* field
        if record is None or record.payload is None:
            return "<VectorView that was never made>"
        field = &record.shape.fields[self.field]
        text = f"<VectorView of {self.count} x {type_name(record.types, field.element, field.index)}"
        if field.element == STRING and self.count:
            shown = [
                show_string(record, self.start + 4 * <uint64_t>(self.first + <Py_ssize_t>i * self.step))
                for i in range(min(self.count, 4))
            ]
            text += f": {', '.join(shown)}{', ...' if self.count > 4 else ''}"
        return f"{text}>"


cdef RecordView open_message(
    RecordTypes types, int32_t number, object payload, bint verify, int64_t offset, int64_t frame
):
    """The root of a message, after all of it was verified if that is asked for.

    `payload` is a memoryview of the whole message that nobody else is given.
    """
    cdef Py_buffer* buffer = PyMemoryView_GET_BUFFER(payload)
    cdef RecordView record
    cdef Message message
    message.data = <const uint8_t*>buffer.buf
    message.size = <uint64_t>buffer.len
    if verify:
        refusal = verify_object(types.layout.types, number, message.data, buffer.len, &types.limits)
        if refusal is not None:
            error = ValidationFailedError(
                validator=types.layout.object_names[number], path=refusal[0], reason=refusal[1],
                offset=None if offset < 0 else offset, frame=None if frame < 0 else frame,
            )
            if not frame:
                error.add_note(FIRST_FAILED)
            raise error
    record = RecordView.__new__(RecordView)
    record.types = types
    record.shape = types.shapes[number]
    record.field = -1
    record.element = -1
    record.data = message.data
    record.size = message.size
    record.number = number
    record.depth = 1
    record.offset = offset
    record.frame = frame
    record.payload = payload
    if open_root(&message, &record.table):
        try:
            refuse(record, -1, -1, &message)
        except FlatbufferError as refused:
            if not frame:
                refused.add_note(FIRST_FAILED)
            raise
    return record


@cython.final
@cython.auto_pickle(False)
cdef class RecordIterator:
    """The messages of a reader as records; see `StreamReader.records`.

    Not a generator, which is at its end once it has raised: after an error it goes on.
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("an iterator over records is made by StreamReader.records")

    def __iter__(self):
        return self

    def __next__(self):
        cdef Decoder decoder = self.decoder
        if decoder is None or self.types is None:
            raise ValueError("this iterator was never made: see StreamReader.records")
        payload = decoder.next_payload()
        if payload is None:
            raise StopIteration
        return open_message(
            self.types, self.number, payload, self.verify, <int64_t>decoder.last_offset,
            <int64_t>(decoder.delivered + decoder.refused_before) - 1,
        )


def view_message(RecordTypes types not None, number, payload, bint verify):
    """The record of object `number` at the root of `payload`; see `Table.view`."""
    cdef int32_t root = types.check_root(number)
    return open_message(types, root, owner_view_of(payload, "payload"), verify, -1, -1)


def iterate_records(RecordTypes types not None, number, reader, bint verify):
    """An iterator over the messages of `reader` as records of object `number`; see `StreamReader.records`."""
    cdef RecordIterator records
    cdef int32_t root = types.check_root(number)
    if not isinstance(reader, Decoder):
        raise TypeError(f"reader must be a StreamReader, got {type(reader).__name__}: {reader!r:.100}")
    records = RecordIterator.__new__(RecordIterator)
    records.decoder = reader
    records.types = types
    records.number = root
    records.verify = verify
    return records

# cython: boundscheck=False, wraparound=False
"""Records from columns: a message of each row, built and framed in one loop.

    columns ── Source: where the bytes of each column are, whoever's they are (see arrow_import)
       │
       ▼
    Plan: a tree of steps, each of which takes one column to one field; everything that can be wrong with names and
       │  types is found here, before anything is written
       ▼
    rows: of tables with nothing but scalars and structs in them, a copy of a `Template` with the values stored into
          it, in the encoder's own buffer; of others, what the `Builder` makes

A row is read, built and then accepted by the encoder as a whole, so that a row with a bad value leaves nothing behind.
Every offset of a list or string is compared with the size of what it leads into each time that it is followed: what
belongs to somebody else may change while a sink is written to.
"""

import operator
import sys
from collections.abc import Mapping

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, Py_buffer, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.math cimport isinf
from libc.stdint cimport (
    INT64_MAX, INT64_MIN, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t,
)
from libc.string cimport memcpy, memset

from flatstream._core.arrow_import cimport (
    BITS, BYTES32, BYTES64, BYTES_FIXED, BYTES_VIEW, DICTIONARY, HALF, LIST32, LIST64, LIST_FIXED, LIST_VIEW32,
    LIST_VIEW64, NULLS, NUMBERS, STRUCT, ArrayOwner, Column, SchemaOwner, Source, StreamOwner, attach, describe,
    native_32, native_64, take_array, take_schema, take_stream,
)
from flatstream._core.buffers cimport Chunk
from flatstream._core.encoder cimport Encoder, FrameRun, end_frame, payload_room
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.flatbuf.layout cimport EnumLayout, FieldLayout, Layout, is_scalar, may_be_enum, scalar_width
from flatstream._core.flatbuf.template cimport Template, make_template
from flatstream._core.flatbuf.verifier cimport (
    ARRAY, BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, NOTHING, OBJECT, SHORT, STRING, UBYTE, UINT, ULONG, UNION, UNION_TYPE,
    USHORT, VECTOR, Field, ObjectType, Types, UnionType, find_not_utf8,
)
from flatstream._core.wire cimport load_le, load_u16, load_u32, load_u64, store_le, store_u32


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void* PyMem_RawRealloc(void* p, size_t n) nogil
    void PyMem_RawFree(void* p) nogil

# What a vector or a string may have at most; the message is checked by the builder.
cdef int64_t MOST_BYTES = <int64_t>1 << 31
cdef int64_t MOST_ROWS = <int64_t>1 << 48
# A table with more columns is built by the builder; and there are so many places for templates.
cdef enum:
    MOST_MASKED = 64
    MOST_SLOTS = 8192

cdef int64_t[11] LEAST = [
    0, 0, 0, -(1 << 7), 0, -(1 << 15), 0, -(<int64_t>1 << 31), 0, INT64_MIN, 0
]
cdef int64_t[11] MOST = [
    0, (1 << 8) - 1, 1, (1 << 7) - 1, (1 << 8) - 1, (1 << 15) - 1, (1 << 16) - 1, (<int64_t>1 << 31) - 1,
    (<int64_t>1 << 32) - 1, INT64_MAX, INT64_MAX
]
KIND_NAMES = (
    "nothing", "union type", "bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong", "float",
    "double", "string",
)


# What a step makes.
cdef enum Action:
    TAKE_SCALAR
    TAKE_STRUCT
    # From here on: something elsewhere in the message, and an offset to it.
    TAKE_STRING
    TAKE_TABLE
    TAKE_VECTOR
    TAKE_UNION
    TAKE_UNIONS
    # In structs.
    TAKE_ARRAY


cdef struct Step:
    uint8_t action
    # Of a scalar.
    uint8_t kind
    uint8_t width
    # Its bytes are those of the column, as they are.
    bint plain
    # It is written even if it has the default.
    bint keep
    bint required
    # The enum of a scalar, or the union; else -1.
    int32_t enumeration
    # The object that the fields of a struct or a table are those of, or -1.
    int32_t object
    # The field that it is, of the object of its parent; -1 for elements and variants, which say what they are.
    int32_t field
    int64_t element
    uint64_t code
    # Where it is: in a struct; and how many bytes it takes.
    uint32_t place
    uint32_t size
    uint32_t alignment
    # Of vectors and arrays: of one element, and how many.
    uint32_t element_size
    uint32_t element_alignment
    uint32_t count
    uint64_t default_bits
    # NULL if the parts are columns of their own, under names with a dot.
    Column* column
    Step* parent
    Step* children
    Py_ssize_t child_count
    # Of a union: its type, or NULL.
    Step* type
    # Of an enum whose names are in a dictionary: the value of each, and CODE_NULL or CODE_UNKNOWN.
    uint64_t* codes
    uint8_t* code_states
    int64_t code_count
    # While a row is made: the value of a scalar or the type of a union, and the place of what was built, or 0.
    uint64_t bits
    Py_ssize_t result

cdef enum:
    CODE_KNOWN
    CODE_NULL
    CODE_UNKNOWN


cdef extern from *:
    """
    /* The value of a float of 16 bits, which floats of 32 have exactly. */
    static inline double fs_half(uint16_t bits) {
        uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = (bits >> 10) & 0x1F, fraction = bits & 0x3FF, wide;
        float value;
        if (exponent == 0) {
            /* A fraction of 2**-24. */
            value = (float)fraction / 16777216.0f;
            return sign ? -(double)value : (double)value;
        }
        wide = sign | ((exponent == 31 ? 255 : exponent + 112) << 23) | (fraction << 13);
        memcpy(&value, &wide, 4);
        return (double)value;
    }
    """
    double fs_half(uint16_t bits) noexcept nogil


cdef inline bint bit_at(const uint8_t* bits, int64_t at) noexcept nogil:
    return (bits[at >> 3] >> (at & 7)) & 1


cdef inline Py_ssize_t width_of(uint8_t kind) noexcept nogil:
    return 2 if kind == HALF else <Py_ssize_t>scalar_width(kind)


cdef inline uint64_t load_number(const uint8_t* p, Py_ssize_t width, bint big) noexcept nogil:
    cdef uint64_t value = 0
    cdef Py_ssize_t i
    if not big:
        return load_le(p, width)
    for i in range(width):
        value = value << 8 | p[i]
    return value


cdef inline int64_t extended(uint64_t raw, uint8_t kind) noexcept nogil:
    """The value of a number whose bytes are `raw`; what a ulong has beyond comes out negative."""
    if kind == BYTE:
        return <int8_t>raw
    if kind == SHORT:
        return <int16_t>raw
    if kind == INT:
        return <int32_t>raw
    if kind == BOOL:
        return raw != 0
    return <int64_t>raw


cdef inline int number_at(const Column* column, int64_t at, int64_t* value, double* real) noexcept nogil:
    """The number at this place: 0 if it is `value`, 1 if it is `value` as a ulong, 2 if it is `real`."""
    cdef uint64_t raw
    cdef float narrow = 0
    cdef uint32_t low
    if column.form == BITS:
        value[0] = bit_at(column.values, at)
        return 0
    raw = load_number(column.values + at * column.stride, width_of(column.kind), column.big)
    if column.kind == DOUBLE:
        memcpy(real, &raw, 8)
        return 2
    if column.kind == FLOAT:
        low = <uint32_t>raw
        memcpy(&narrow, &low, 4)
        real[0] = narrow
        return 2
    if column.kind == HALF:
        real[0] = fs_half(<uint16_t>raw)
        return 2
    value[0] = extended(raw, column.kind)
    return column.kind == ULONG and value[0] < 0


cdef inline int convert(const Step* step, const Column* column, int64_t at, uint64_t* bits) noexcept nogil:
    """The number at this place as the field wants it: 1, or -1 if it does not fit."""
    cdef int64_t value = 0
    cdef double real = 0.0
    cdef float narrow
    cdef uint32_t low = 0
    cdef int what
    if column.form != NUMBERS and column.form != BITS:
        return -1
    if column.kind == step.kind and column.form == NUMBERS and step.kind != BOOL:
        # As it is, so that a NaN stays the one that it was.
        bits[0] = load_number(column.values + at * column.stride, step.width, column.big)
        return 1
    what = number_at(column, at, &value, &real)
    if step.kind == DOUBLE or step.kind == FLOAT:
        if step.kind == DOUBLE:
            if what != 2:
                real = <double><uint64_t>value if what else <double>value
            memcpy(bits, &real, 8)
            return 1
        if what == 2:
            narrow = <float>real
            if isinf(narrow) and not isinf(real):
                return -1
        else:
            # Rounded once, and not by way of a double.
            narrow = <float><uint64_t>value if what else <float>value
        memcpy(&low, &narrow, 4)
        bits[0] = low
        return 1
    if what == 2:
        return -1
    if step.kind == ULONG:
        if value < 0 and not what:
            return -1
    elif what or value < LEAST[step.kind] or value > MOST[step.kind]:
        return -1
    bits[0] = <uint64_t>value
    if step.width < 8:
        bits[0] &= (<uint64_t>1 << (8 * step.width)) - 1
    return 1


cdef inline int resolve(const Column** column, int64_t row, int64_t* at) noexcept nogil:
    """Where the value of a row is, dictionaries looked up: 1, or 0 if it is null, or -1 if a dictionary has no such."""
    cdef const Column* known = column[0]
    cdef int64_t value
    while True:
        if known.form == NULLS:
            return 0
        at[0] = known.offset + row
        if known.validity is not NULL and not bit_at(known.validity, at[0]):
            return 0
        if known.form != DICTIONARY:
            column[0] = known
            return 1
        value = extended(load_number(known.values + at[0] * known.stride, width_of(known.kind), known.big), known.kind)
        known = known.dictionary
        if value < 0 or value >= known.length:
            return -1
        row = value


cdef inline int take_quick(const Step* step, int64_t row, uint64_t* bits) noexcept nogil:
    """The bytes of a scalar: 1, or 0 if it is null, or -1 if that is for `Plan.take` to say."""
    cdef const Column* column = step.column
    cdef int64_t at = 0, code
    cdef int there
    if step.plain:
        at = column.offset + row
        if column.validity is not NULL and not bit_at(column.validity, at):
            return 0
        if step.width == 8:
            bits[0] = load_u64(column.values + at * column.stride)
        elif step.width == 4:
            bits[0] = load_u32(column.values + at * column.stride)
        elif step.width == 2:
            bits[0] = load_u16(column.values + at * column.stride)
        else:
            bits[0] = column.values[at * column.stride]
        return 1
    if step.codes is not NULL:
        at = column.offset + row
        if column.validity is not NULL and not bit_at(column.validity, at):
            return 0
        code = extended(
            load_number(column.values + at * column.stride, width_of(column.kind), column.big), column.kind
        )
        if code < 0 or code >= step.code_count:
            return -1
        bits[0] = step.codes[code]
        return 1 if step.code_states[code] == CODE_KNOWN else 0 if step.code_states[code] == CODE_NULL else -1
    there = resolve(&column, row, &at)
    if there <= 0:
        return there
    return convert(step, column, at, bits)


cdef inline int list_range(const Column* column, int64_t at, int64_t* start, int64_t* count) noexcept nogil:
    """Which elements a list has, or -1 if those are not there."""
    cdef int64_t length = column.children[0].length
    if column.form == LIST_FIXED:
        count[0] = column.width
        start[0] = at * column.width
    elif column.form == LIST32:
        start[0] = native_32(column.offsets + 4 * at)
        count[0] = native_32(column.offsets + 4 * at + 4) - start[0]
    elif column.form == LIST64:
        start[0] = native_64(column.offsets + 8 * at)
        if start[0] < 0 or native_64(column.offsets + 8 * at + 8) < start[0]:
            return -1
        count[0] = native_64(column.offsets + 8 * at + 8) - start[0]
    elif column.form == LIST_VIEW32:
        start[0] = native_32(column.offsets + 4 * at)
        count[0] = native_32(column.sizes + 4 * at)
    else:
        start[0] = native_64(column.offsets + 8 * at)
        count[0] = native_64(column.sizes + 8 * at)
    return -1 if start[0] < 0 or count[0] < 0 or start[0] > length or count[0] > length - start[0] else 0


cdef inline int bytes_range(const Column* column, int64_t at, const uint8_t** data, int64_t* size) noexcept nogil:
    """Where the bytes of a string are, or -1 if they are not there."""
    cdef int64_t start, end
    cdef const uint8_t* view
    cdef int64_t piece
    if column.form == BYTES_FIXED:
        data[0] = column.values + at * column.stride
        size[0] = column.width
        return 0
    if column.form == BYTES_VIEW:
        view = column.values + 16 * at
        size[0] = native_32(view)
        if size[0] < 0:
            return -1
        if size[0] <= 12:
            data[0] = view + 4
            return 0
        piece = native_32(view + 8)
        start = native_32(view + 12)
        if piece < 0 or piece >= column.piece_count or start < 0:
            return -1
        end = native_64(column.piece_sizes + 8 * piece)
        if start > end or size[0] > end - start:
            return -1
        data[0] = <const uint8_t*>column.pieces[piece] + start
        return 0
    if column.form == BYTES32:
        start = native_32(column.offsets + 4 * at)
        end = native_32(column.offsets + 4 * at + 4)
    else:
        start = native_64(column.offsets + 8 * at)
        end = native_64(column.offsets + 8 * at + 8)
    if start < 0 or end < start or end > column.data_size:
        return -1
    data[0] = column.values + start
    size[0] = end - start
    return 0


cdef inline bint is_text(uint8_t form) noexcept nogil:
    return form == BYTES32 or form == BYTES64 or form == BYTES_VIEW or form == BYTES_FIXED


cdef inline bint is_list(uint8_t form) noexcept nogil:
    return form == LIST32 or form == LIST64 or form == LIST_VIEW32 or form == LIST_VIEW64 or form == LIST_FIXED


cdef inline int64_t wrong_utf8(const uint8_t* data, int64_t size) noexcept nogil:
    """Where bytes stop being UTF-8, or -1. ASCII, which most are, is passed over eight at a time."""
    cdef int64_t i = 0, found
    while size - i >= 8 and not load_u64(data + i) & <uint64_t>0x8080808080808080:
        i += 8
    found = find_not_utf8(data + i, <uint64_t>(size - i))
    return found if found < 0 else i + found


cdef bint fill_quick(const Step* step, int64_t row, uint8_t* out) noexcept nogil:
    """Stores the fields of a struct; False if that is for `Plan.fill` to do."""
    cdef Py_ssize_t i
    cdef int64_t at = row
    cdef uint64_t bits = 0
    cdef const Step* child
    cdef const Column* column = step.column
    if column is not NULL and resolve(&column, row, &at) != 1:
        return False
    for i in range(step.child_count):
        child = &step.children[i]
        if child.action == TAKE_SCALAR:
            if take_quick(child, at, &bits) != 1:
                return False
            store_le(out + child.place, bits, child.width)
        elif child.action == TAKE_STRUCT:
            if not fill_quick(child, at, out + child.place):
                return False
        else:
            return False
    return True


cdef bint is_there(const Step* step, int64_t row) noexcept nogil:
    """Whether anything but null is in a column, or in any of those that stand for it."""
    cdef Py_ssize_t i
    cdef int64_t at = 0
    cdef const Column* column = step.column
    if column is not NULL:
        # A bad dictionary is for whoever takes the value.
        return resolve(&column, row, &at) != 0
    for i in range(step.child_count):
        if is_there(&step.children[i], row):
            return True
    return False


cdef int free_step(Step* step) noexcept:
    cdef Py_ssize_t i
    if step is NULL:
        return 0
    for i in range(step.child_count):
        free_step(&step.children[i])
    PyMem_RawFree(step.children)
    if step.type is not NULL:
        free_step(step.type)
        PyMem_RawFree(step.type)
    PyMem_RawFree(step.codes)
    PyMem_RawFree(step.code_states)
    return 0


# What comes in

@cython.final
@cython.no_gc
cdef class Values:
    """A list of Python's, which becomes a column when the field that it is for is known."""
    cdef list values

    def __cinit__(self, list values not None):
        self.values = values


@cython.final
@cython.no_gc
cdef class Feed:
    """A column, or a table, and the arrays that it comes in."""
    cdef Source source
    cdef StreamOwner stream
    cdef list waiting
    # How many rows of the current array are left; those before are passed over.
    cdef int64_t left

    cdef bint advance(self) except -1:
        """Has the column be that of the next array that is not empty; False at the end."""
        cdef ArrayOwner array
        while self.left == 0:
            if self.waiting:
                array = self.waiting.pop(0)
            elif self.stream is not None:
                array = self.stream.read_next()
            else:
                array = None
            if array is None:
                return False
            attach(self.source, array)
            self.left = self.source.column.length
        return True

    cdef int gather(self) except -1:
        """Takes everything out of a stream, so that it is known how long it is."""
        cdef ArrayOwner array
        while self.stream is not None:
            array = self.stream.read_next()
            if array is None:
                self.stream = None
            elif not 0 <= array.array.length <= MOST_ROWS:
                raise ValueError(f"column {self.source.name!r} comes in an array of {array.array.length} rows")
            else:
                self.waiting.append(array)
        return 0

    cdef int64_t total(self) noexcept:
        cdef int64_t rows = self.left
        for array in self.waiting:
            rows += (<ArrayOwner>array).array.length
        return rows


cdef Feed open_feed(object value):
    """What reads anything that has the Arrow C data interface."""
    cdef Feed feed = Feed.__new__(Feed)
    cdef SchemaOwner schema
    feed.waiting = []
    if hasattr(type(value), "__arrow_c_stream__"):
        feed.stream = take_stream(value.__arrow_c_stream__())
        schema = feed.stream.read_schema()
    else:
        answer = value.__arrow_c_array__()
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(f"{type(value).__name__}.__arrow_c_array__ must return two capsules, got {answer!r:.100}")
        schema = take_schema(answer[0])
        feed.waiting.append(take_array(answer[1]))
    feed.source = describe(&schema.schema, 0)
    return feed


cdef bint has_arrow(object value):
    return hasattr(type(value), "__arrow_c_stream__") or hasattr(type(value), "__arrow_c_array__")


cdef Feed feed_of(Source source):
    cdef Feed feed = Feed.__new__(Feed)
    feed.source = source
    feed.waiting = []
    feed.left = source.column.length
    return feed


FORMATS = {
    "?": (BOOL, "bool"), "b": (BYTE, "int8"), "B": (UBYTE, "uint8"), "e": (HALF, "float16"), "f": (FLOAT, "float32"),
    "d": (DOUBLE, "float64"),
}
SIGNED = {1: (BYTE, "int8"), 2: (SHORT, "int16"), 4: (INT, "int32"), 8: (LONG, "int64")}
UNSIGNED = {1: (UBYTE, "uint8"), 2: (USHORT, "uint16"), 4: (UINT, "uint32"), 8: (ULONG, "uint64")}


cdef object read_format(str name, str format, Py_ssize_t size):
    """Kind, name and whether the high byte is first, of the items of a buffer."""
    code = format[len(format) - 1:]
    order = format[:len(format) - 1]
    found = None
    if code in FORMATS:
        found = FORMATS[code]
    elif code in ("h", "i", "l", "q", "n"):
        found = SIGNED.get(size)
    elif code in ("H", "I", "L", "Q", "N"):
        found = UNSIGNED.get(size)
    if found is None or order not in ("", "@", "=", "<", ">", "!") or width_of(found[0]) != size:
        raise TypeError(f"column {name!r} has items of {size} bytes in the format {format!r:.100}, which are no numbers")
    return found[0], found[1], order in (">", "!") or (order not in ("<",) and sys.byteorder == "big")


cdef Source from_buffer(str name, object value):
    """The column that a buffer of one or two dimensions is."""
    cdef object view = PyMemoryView_FromObject(value)
    cdef const Py_buffer* buffer = PyMemoryView_GET_BUFFER(view)
    cdef Source source, part
    if buffer.ndim not in (1, 2):
        raise TypeError(f"column {name!r} has {buffer.ndim} dimensions, where there can be one, or two for vectors")
    kind, type_name, big = read_format(name, view.format, buffer.itemsize)
    source = Source(name, type_name)
    source.owner = view
    source.column.form = NUMBERS
    source.column.kind = kind
    source.column.big = big
    source.column.length = buffer.shape[0]
    source.column.values = <const uint8_t*>buffer.buf
    source.column.stride = buffer.strides[0]
    if buffer.ndim == 1:
        return source
    # Rows of numbers. Those that do not lie one after another are copied.
    if not view.c_contiguous:
        source.owner = view.tobytes()
        source.column.values = <const uint8_t*>PyBytes_AS_STRING(source.owner)
    part = source
    part.column.stride = buffer.itemsize
    part.column.length = buffer.shape[0] * buffer.shape[1]
    source = Source(name, f"{type_name} in rows of {buffer.shape[1]}")
    source.owner = part.owner
    source.column.form = LIST_FIXED
    source.column.width = buffer.shape[1]
    source.column.length = buffer.shape[0]
    source.adopt([part])
    return source


cdef int hide(Source source, object mask, bint hidden_is_true) except -1:
    """Has null be what a mask (bytes of 0 and 1, in the order of the rows) hides."""
    cdef bytes flags = mask
    cdef Py_ssize_t i, count = PyBytes_GET_SIZE(flags)
    cdef const uint8_t* flag = <const uint8_t*>PyBytes_AS_STRING(flags)
    cdef Chunk bits = Chunk((count + 7) // 8)
    memset(bits.data, 0, <size_t>bits.capacity)
    for i in range(count):
        if (flag[i] != 0) != hidden_is_true:
            bits.data[i >> 3] |= <uint8_t>(1 << (i & 7))
    if count != source.column.length:
        raise ValueError(f"column {source.name!r} has {source.column.length} values and a mask of {count}")
    source.column.validity = bits.data
    source.owner = (source.owner, bits)
    return 0


cdef object as_input(str name, object value):
    """A Feed, Values, or a dict of them: what a column is made of."""
    cdef Source source
    if has_arrow(value):
        return open_feed(value)
    if isinstance(value, Mapping):
        return grouped(value)
    if isinstance(value, (list, tuple)):
        return Values(list(value))
    if isinstance(value, (str, bytes)):
        raise TypeError(f"column {name!r} must be a column of values, got one {type(value).__name__}")
    dtype = getattr(value, "dtype", None)
    mask = getattr(value, "mask", None) if dtype is not None else None
    kind = getattr(dtype, "kind", None)
    if mask is not None and getattr(value, "data", None) is not None:
        # A masked array of NumPy.
        value = value.data
    if kind == "V" and getattr(dtype, "names", None):
        if mask is not None and getattr(mask, "ndim", 0):
            raise TypeError(f"column {name!r} is a masked array of structures, which is not taken: give its fields")
        return grouped({str(part): value[part] for part in dtype.names})
    if kind is not None and kind in "OUST":
        values = value.tolist()
        if not isinstance(values, list):
            raise TypeError(f"column {name!r} has no dimension")
        if mask is not None and getattr(mask, "ndim", 0):
            values = [None if hidden else item for item, hidden in zip(values, mask.tolist(), strict=True)]
        return Values(values)
    hidden = None
    if kind is not None and kind in "mM":
        # Which have no code among the formats of buffers.
        value = value.view("i8" if dtype.byteorder != ">" else ">i8")
        hidden = (value == -(2**63)).tobytes()
        if b"\x01" not in hidden:
            hidden = None
    if not PyObject_CheckBuffer(value):
        raise TypeError(
            f"column {name!r} must be a NumPy array, a buffer, a list or an object with the Arrow C data interface, got "
            f"{type(value).__name__}"
        )
    source = from_buffer(name, value)
    if mask is not None and getattr(mask, "ndim", 0):
        if mask.ndim != 1:
            raise TypeError(f"column {name!r} has a mask of {mask.ndim} dimensions, where there can be one")
        masked = mask.tobytes()
        hide(source, masked if hidden is None else bytes(map(operator.or_, masked, hidden)), True)
    elif hidden is not None:
        hide(source, hidden, True)
    return feed_of(source)


cdef dict grouped(object columns):
    """The inputs of a mapping; those whose names have a dot are put together under what stands in front of it."""
    cdef dict found = {}, names = {}
    for name in columns:
        if not isinstance(name, str):
            raise TypeError(f"the names of columns must be str, got {name!r:.100}")
        head, dot, rest = name.partition(".")
        if dot:
            parts = names.setdefault(head, {})
            if not isinstance(parts, dict):
                raise ValueError(f"column {head!r} is there both as a whole and in parts: {name!r}")
            parts[rest] = columns[name]
        elif head in names:
            raise ValueError(f"column {head!r} is there both as a whole and in parts")
        else:
            names[head] = Whole(columns[name])
    for head, parts in names.items():
        found[head] = grouped(parts) if isinstance(parts, dict) else as_input(head, (<Whole>parts).value)
    return found


@cython.final
cdef class Whole:
    cdef object value

    def __cinit__(self, value):
        self.value = value


cdef int measure(dict inputs, str prefix, list lengths) except -1:
    """Notes how long each column is, in the order of the mapping."""
    for name, value in inputs.items():
        path = prefix + name
        if isinstance(value, dict):
            measure(value, path + ".", lengths)
        elif isinstance(value, Feed):
            (<Feed>value).gather()
            lengths.append((path, (<Feed>value).total()))
        else:
            lengths.append((path, len((<Values>value).values)))
    return 0


# What is done with it

# A template, and where in it the values of the steps are; `data` is NULL if there is none.
cdef struct Slot:
    uint64_t mask
    const uint8_t* data
    Py_ssize_t size
    int32_t* places


@cython.final
@cython.no_gc
cdef class Plan:
    """Which column goes to which field."""
    cdef Layout layout
    cdef Types types
    cdef int32_t number
    cdef bytes identifier
    cdef Step root
    # The sources of all steps, which own what their columns point at; and the feeds among them.
    cdef list sources
    cdef list feeds
    # Steps that look names up in a dictionary, and the sources of these.
    cdef list coded
    # Rows before the current window, and the row of it that is being made.
    cdef int64_t done
    cdef int64_t row
    cdef Builder builder
    # Places of elements whose vectors are not written yet.
    cdef Py_ssize_t* places
    cdef Py_ssize_t place_count
    cdef Py_ssize_t place_capacity
    # The row, for the types of the vector of unions that is being built.
    cdef int64_t unions_row
    # Templates by the mask of the steps that are present: a table with a power of two of slots, less than half of which
    # are taken, and the first after `place_of(mask)` that is free or has the mask is that of the mask.
    cdef Slot* slots
    cdef Py_ssize_t slot_count
    cdef list templates
    # The mask of the row that is looked at, and its slot.
    cdef uint64_t mask
    cdef Slot* slot

    def __dealloc__(self):
        free_step(&self.root)
        PyMem_RawFree(self.places)
        self.drop_slots()

    # Binding

    cdef str name_of(self, uint8_t kind, uint8_t element, int32_t index):
        """What the schema calls a type."""
        if kind == VECTOR or kind == ARRAY:
            return f"[{self.name_of(element, 0, index)}]"
        if kind == OBJECT:
            word = "struct" if self.types.objects[index].is_struct else "table"
            return f"{word} {self.layout.object_names[index]}"
        if kind == UNION:
            return f"union {(<EnumLayout>self.layout.enums[index]).name}"
        if may_be_enum(kind) and index >= 0:
            return f"{KIND_NAMES[kind]} {(<EnumLayout>self.layout.enums[index]).name}"
        return KIND_NAMES[kind]

    cdef int start(self, object inputs) except -1:
        """Binds the columns to the fields of the table."""
        self.root.action = TAKE_TABLE
        self.root.field = -1
        self.root.element = -1
        self.root.object = self.number
        self.bind_parts(&self.root, inputs, "")
        return 0

    cdef int bind_parts(self, Step* step, object value, str path) except -1:
        """Binds the parts of a struct or a table; `value` is what as_input gives, or a Source."""
        cdef Source source
        cdef int32_t number = step.object
        cdef ObjectType* known = &self.types.objects[number]
        cdef FieldLayout* fields = self.layout.objects[number].fields
        cdef Py_ssize_t i
        cdef uint32_t alignment
        cdef Step* child
        cdef dict numbers = self.layout.numbers[number], given = {}
        title = self.layout.object_names[number]
        if isinstance(value, dict):
            parts = list(value.items())
        else:
            source = self.source_of(value, OBJECT, 0, number, path)
            step.column = &source.column
            source = self.plain_source(source)
            if source.column.form == NULLS:
                return 0
            if source.column.form != STRUCT:
                raise TypeError(
                    f"column {path!r} is {source.type_name}: {self.name_of(OBJECT, 0, number)} needs a struct" if path
                    else f"expected a table of columns, got {source.type_name}"
                )
            parts = [((<Source>part).name, part) for part in source.parts]
        prefix = path + "." if path else ""
        for name, part in parts:
            if name not in numbers:
                why = "is deprecated in" if name in self.layout.field_names[number] else "is no field of"
                raise ValueError(f"column {prefix + name!r} {why} {title}")
            if name in given:
                raise ValueError(f"there are two columns {prefix + name!r}")
            given[name] = part
        wanted = []
        for i in range(known.field_count):
            name = self.layout.field_names[number][i]
            if fields[i].deprecated and not known.is_struct:
                continue
            if name not in given:
                if known.is_struct:
                    raise ValueError(f"column {prefix + name!r} is missing: a struct like {title} needs all of its fields")
                if known.fields[i].required:
                    raise ValueError(f"column {prefix + name!r} is missing: {title} requires it")
            elif self.is_type(number, i):
                union_name = self.layout.field_names[number][fields[i].companion]
                if union_name not in given:
                    raise ValueError(f"column {prefix + union_name!r} is missing, whose type is in {prefix + name!r}")
            else:
                wanted.append(i)
        step.children = <Step*>PyMem_RawCalloc(<size_t>max(len(wanted), 1), sizeof(Step))
        if step.children is NULL:
            raise MemoryError("no memory to bind columns")
        # What is aligned most is stored first, so that nothing has to be left free between fields.
        alignment = 256
        while alignment:
            for i in reversed(wanted):
                if (fields[i].alignment if known.fields[i].kind != UNION else 4) == alignment:
                    child = &step.children[step.child_count]
                    step.child_count += 1
                    child.parent = step
                    child.field = <int32_t>i
                    child.element = -1
                    name = self.layout.field_names[number][i]
                    self.bind_field(child, number, i, given[name], prefix + name)
                    if known.fields[i].kind == UNION or known.fields[i].element == UNION:
                        name = self.layout.field_names[number][fields[i].companion]
                        if name in given:
                            self.bind_type(child, number, fields[i].companion, given[name], prefix + name)
            alignment >>= 1
        return 0

    cdef bint is_type(self, int32_t number, Py_ssize_t i):
        """Whether a field is the type of a union, or of a vector of them."""
        cdef Field* field = &self.types.objects[number].fields[i]
        cdef int32_t companion = self.layout.objects[number].fields[i].companion
        return companion >= 0 and (field.kind == UNION_TYPE or field.kind == VECTOR and field.element == UNION_TYPE)

    cdef int bind_field(self, Step* step, int32_t number, Py_ssize_t i, object value, str path) except -1:
        cdef Field* field = &self.types.objects[number].fields[i]
        cdef FieldLayout* known = &self.layout.objects[number].fields[i]
        step.required = field.required
        step.keep = known.optional
        step.default_bits = known.default_bits
        step.place = field.offset if self.types.objects[number].is_struct else 0
        step.size = known.size
        step.alignment = known.alignment
        step.element_size = known.element_size
        step.element_alignment = known.element_alignment
        step.count = known.length
        return self.bind(step, field.kind, field.element, field.index, value, path)

    cdef int bind_type(self, Step* step, int32_t number, Py_ssize_t i, object value, str path) except -1:
        """Binds the type of a union to it, or the vector of the types of a vector of unions."""
        cdef Field* field = &self.types.objects[number].fields[i]
        step.type = <Step*>PyMem_RawCalloc(1, sizeof(Step))
        if step.type is NULL:
            raise MemoryError("no memory to bind columns")
        step.type.parent = step.parent
        step.type.field = <int32_t>i
        step.type.element = -1
        step.type.element_size = 1
        step.type.element_alignment = 1
        return self.bind(step.type, field.kind, field.element, step.enumeration, value, path)

    cdef Source source_of(self, object value, uint8_t kind, uint8_t element, int32_t index, str path):
        """The source of an input, which is kept."""
        cdef Source source
        if isinstance(value, Source):
            return value
        if isinstance(value, Feed):
            source = (<Feed>value).source
            self.feeds.append(value)
        elif isinstance(value, Values):
            source = self.from_values((<Values>value).values, None, kind, element, index, path)
            self.feeds.append(feed_of(source))
        else:
            raise TypeError(f"column {path!r} has parts, but {self.name_of(kind, element, index)} has none")
        self.sources.append(source)
        return source

    cdef Source plain_source(self, Source source):
        while source.dictionary is not None:
            source = source.dictionary
        return source

    cdef int mismatch(self, Source source, uint8_t kind, uint8_t element, int32_t index, str path) except -1:
        raise TypeError(
            f"column {path!r} is {source.type_name}, which does not go into {self.name_of(kind, element, index)}"
        )

    cdef int bind(self, Step* step, uint8_t kind, uint8_t element, int32_t index, object value, str path) except -1:
        """Binds one column to a field, an element or a variant of this type."""
        cdef Source source, plain
        cdef Column* column
        step.object = -1
        step.enumeration = -1
        if kind == OBJECT:
            step.action = TAKE_STRUCT if self.types.objects[index].is_struct else TAKE_TABLE
            step.object = index
            return self.bind_parts(step, value, path)
        if kind == UNION:
            step.action = TAKE_UNION
            return self.bind_union(step, index, value, path)
        source = self.source_of(value, kind, element, index, path)
        step.column = &source.column
        plain = self.plain_source(source)
        column = &plain.column
        if is_scalar(kind):
            step.action = TAKE_SCALAR
            step.kind = kind
            step.width = <uint8_t>scalar_width(kind)
            step.enumeration = index if may_be_enum(kind) else -1
            if column.form == NULLS or column.form == BITS or column.form == NUMBERS:
                if (column.kind == HALF or column.kind == FLOAT or column.kind == DOUBLE) and kind < FLOAT:
                    raise TypeError(
                        f"column {path!r} is {source.type_name}: {self.name_of(kind, element, index)} needs integers, "
                        "so that nothing is lost"
                    )
            elif not is_text(column.form) or step.enumeration < 0:
                self.mismatch(source, kind, element, index, path)
            elif source.column.form == DICTIONARY and source.dictionary is plain:
                # Each name is looked up once for all rows.
                self.coded.append((<size_t>step, plain))
            step.plain = (
                source.column.form == NUMBERS and source.column.kind == kind and kind != BOOL and not source.column.big
            )
            return 0
        if kind == STRING:
            step.action = TAKE_STRING
            if column.form != NULLS and not is_text(column.form):
                self.mismatch(source, kind, element, index, path)
            return 0
        if kind != VECTOR and kind != ARRAY:
            raise TypeError(f"column {path!r} is for a field of a kind that is not known: {kind}")
        step.action = TAKE_ARRAY if kind == ARRAY else TAKE_UNIONS if element == UNION else TAKE_VECTOR
        if column.form == NULLS:
            if element == UNION:
                step.enumeration = index
            return 0
        if is_text(column.form) and not column.text and (element == UBYTE or element == BYTE):
            return 0
        if not is_list(column.form):
            self.mismatch(source, kind, element, index, path)
        # What its parts are is said by the one child.
        step.children = <Step*>PyMem_RawCalloc(1, sizeof(Step))
        if step.children is NULL:
            raise MemoryError("no memory to bind columns")
        step.child_count = 1
        step.children.parent = step
        step.children.field = -1
        step.children.element = -1
        step.children.size = step.element_size
        if element == UNION:
            step.enumeration = index
        return self.bind(step.children, element, 0, index, plain.parts[0], path + "[]")

    cdef int bind_union(self, Step* step, int32_t index, object value, str path) except -1:
        """Binds the parts of a struct to the variants of a union, by their names."""
        cdef UnionType* known = &self.types.unions[index]
        cdef EnumLayout names = self.layout.enums[index]
        cdef Source source
        cdef Py_ssize_t i
        cdef Step* child
        cdef dict given = {}
        step.enumeration = index
        if isinstance(value, dict):
            parts = list(value.items())
        else:
            source = self.source_of(value, UNION, 0, index, path)
            step.column = &source.column
            source = self.plain_source(source)
            if source.column.form == NULLS:
                return 0
            if source.column.form != STRUCT:
                raise TypeError(
                    f"column {path!r} is {source.type_name}: {self.name_of(UNION, 0, index)} needs a struct with one "
                    "nullable child per variant"
                )
            parts = [((<Source>part).name, part) for part in source.parts]
        for name, part in parts:
            if not names.by_name.get(name, 0):
                raise ValueError(f"column {f'{path}.{name}'!r} is no variant of {names.name}")
            if name in given:
                raise ValueError(f"there are two columns {f'{path}.{name}'!r}")
            given[name] = part
        step.children = <Step*>PyMem_RawCalloc(<size_t>max(len(given), 1), sizeof(Step))
        if step.children is NULL:
            raise MemoryError("no memory to bind columns")
        for name, part in given.items():
            for i in range(known.variant_count):
                if known.variants[i].value == names.by_name[name]:
                    child = &step.children[step.child_count]
                    step.child_count += 1
                    child.parent = step
                    child.field = -1
                    child.element = -1
                    child.code = <uint64_t>known.variants[i].value
                    if known.variants[i].kind == OBJECT and self.types.objects[known.variants[i].index].is_struct:
                        child.size = self.types.objects[known.variants[i].index].size
                        child.alignment = self.layout.objects[known.variants[i].index].alignment
                    self.bind(child, known.variants[i].kind, 0, known.variants[i].index, part, f"{path}.{name}")
                    break
        return 0

    # Lists of Python's

    cdef int wrong_value(self, str path, object rows, Py_ssize_t i, object kind, str why) except -1:
        row = i if rows is None else rows[i]
        raise kind(f"column {path!r}, row {row}: {why}")

    cdef Source from_values(
        self, list values, object rows, uint8_t kind, uint8_t element, int32_t index, str path
    ):
        """The column that a list is, for a field of this type. `rows` says to which rows the values belong."""
        cdef Source source
        cdef Py_ssize_t i
        if kind == OBJECT or kind == UNION:
            source = self.from_mappings(values, rows, kind, index, path)
        elif kind == VECTOR or kind == ARRAY:
            source = self.from_sequences(values, rows, element, index, path)
        elif kind == STRING:
            encoded = []
            for i in range(len(values)):
                if values[i] is not None and not isinstance(values[i], str):
                    self.wrong_value(path, rows, i, TypeError, f"expected a str, got {type(values[i]).__name__}")
                try:
                    encoded.append(b"" if values[i] is None else values[i].encode())
                except UnicodeEncodeError as error:
                    self.wrong_value(path, rows, i, ValueError, f"not to be written as UTF-8: {error}")
            source = joined(path, "list of str", encoded)
            source.column.text = True
        else:
            source = self.from_numbers(values, rows, kind, index, path)
        if any([value is None for value in values]):
            hide(source, bytes([value is None for value in values]), True)
        return source

    cdef Source from_numbers(self, list values, object rows, uint8_t kind, int32_t index, str path):
        cdef Source source = Source(path, f"list of {KIND_NAMES[kind]}")
        cdef Chunk memory = Chunk(8 * len(values))
        cdef EnumLayout names = self.layout.enums[index] if may_be_enum(kind) and index >= 0 else None
        cdef Py_ssize_t i
        cdef double real = 0.0
        cdef uint64_t bits
        source.column.form = NUMBERS
        source.column.kind = DOUBLE if kind >= FLOAT else ULONG if kind == ULONG else LONG
        source.column.stride = 8
        source.column.length = len(values)
        source.column.values = memory.data
        source.owner = memory
        for i in range(len(values)):
            value = values[i]
            bits = 0
            if hasattr(value, "item") and not isinstance(value, (int, float)):
                # A number of NumPy's.
                value = value.item()
            if names is not None and isinstance(value, str):
                if value not in names.by_name:
                    self.wrong_value(path, rows, i, ValueError, f"{names.name} has no {value!r:.100}")
                value = names.by_name[value]
            if value is None:
                pass
            elif kind >= FLOAT:
                if isinstance(value, (str, bytes, bytearray)) or not hasattr(value, "__float__") and not hasattr(
                    value, "__index__"
                ):
                    self.wrong_value(path, rows, i, TypeError, f"expected a number, got {type(value).__name__}")
                try:
                    real = float(value)
                except OverflowError:
                    self.wrong_value(path, rows, i, OverflowError, f"{value!r:.100} does not fit into {KIND_NAMES[kind]}")
                memcpy(&bits, &real, 8)
            else:
                if not hasattr(value, "__index__"):
                    self.wrong_value(path, rows, i, TypeError, f"expected an integer, got {type(value).__name__}")
                value = operator.index(value)
                least, most = (0, 2**64 - 1) if kind == ULONG else (LEAST[kind], MOST[kind])
                if not least <= value <= most:
                    self.wrong_value(
                        path, rows, i, OverflowError,
                        f"{value!r:.100} does not fit into {KIND_NAMES[kind]} ({least} to {most})",
                    )
                bits = value & 0xFFFFFFFFFFFFFFFF
            memcpy(memory.data + 8 * i, &bits, 8)
        source.column.big = sys.byteorder == "big"
        return source

    cdef Source from_sequences(self, list values, object rows, uint8_t element, int32_t index, str path):
        cdef Source source, part
        cdef Py_ssize_t i
        cdef Chunk offsets
        cdef int64_t end = 0
        cdef list flat = [], origins = []
        if element == UBYTE and all(
            value is None or isinstance(value, (bytes, bytearray, memoryview)) for value in values
        ):
            return joined(path, "list of bytes", [b"" if value is None else bytes(value) for value in values])
        source = Source(path, "list of lists")
        offsets = Chunk(8 * (len(values) + 1))
        memcpy(offsets.data, &end, 8)
        for i in range(len(values)):
            value = values[i]
            if value is not None:
                if hasattr(value, "tolist"):
                    value = value.tolist()
                if not isinstance(value, (list, tuple)):
                    if isinstance(value, (str, Mapping)) or not hasattr(type(value), "__iter__"):
                        self.wrong_value(path, rows, i, TypeError, f"expected a sequence, got {type(value).__name__}")
                    value = list(value)
                flat.extend(value)
                origins.extend([i if rows is None else rows[i]] * len(value))
                end = len(flat)
            memcpy(offsets.data + 8 * (i + 1), &end, 8)
        part = self.from_values(flat, origins, element, 0, index, path + "[]")
        source.column.form = LIST64
        source.column.length = len(values)
        source.column.offsets = offsets.data
        source.owner = offsets
        source.adopt([part])
        return source

    cdef Source from_mappings(self, list values, object rows, uint8_t kind, int32_t index, str path):
        cdef Source source = Source(path, "list of mappings")
        cdef Py_ssize_t i
        cdef dict names = {}
        for i in range(len(values)):
            value = values[i]
            if value is not None:
                if not isinstance(value, Mapping):
                    self.wrong_value(path, rows, i, TypeError, f"expected a mapping, got {type(value).__name__}")
                for name in value:
                    if name not in names:
                        names[name] = self.part_kind(kind, index, name, path, rows, i)
        parts = []
        for name, (part_kind, element, part_index) in names.items():
            column = [None if value is None else value.get(name) for value in values]
            part = self.from_values(column, rows, part_kind, element, part_index, f"{path}.{name}")
            (<Source>part).name = name
            parts.append(part)
        source.column.form = STRUCT
        source.column.length = len(values)
        source.adopt(parts)
        return source

    cdef object part_kind(self, uint8_t kind, int32_t index, object name, str path, object rows, Py_ssize_t row):
        """Of the field or the variant with this name: kind, element and index."""
        cdef Field* field
        cdef Py_ssize_t i
        if kind == OBJECT:
            number = self.layout.numbers[index].get(name)
            if number is None:
                self.wrong_value(
                    path, rows, row, ValueError, f"{self.layout.object_names[index]} has no field {name!r:.100}"
                )
            field = &self.types.objects[index].fields[<Py_ssize_t>number]
            return field.kind, field.element, field.index
        value = (<EnumLayout>self.layout.enums[index]).by_name.get(name, 0)
        for i in range(self.types.unions[index].variant_count):
            if value and self.types.unions[index].variants[i].value == value:
                return self.types.unions[index].variants[i].kind, 0, self.types.unions[index].variants[i].index
        self.wrong_value(
            path, rows, row, ValueError, f"{(<EnumLayout>self.layout.enums[index]).name} has no variant {name!r:.100}"
        )

    # Errors

    cdef str path_of(self, const Step* step):
        """The way to a field, as the schema names it."""
        cdef Step* parent = step.parent
        if parent is NULL:
            return ""
        if step.field >= 0:
            name = self.layout.field_names[parent.object][step.field]
            front = self.path_of(parent)
            path = f"{front}.{name}" if front else name
        elif step.code:
            variants = (<EnumLayout>self.layout.enums[parent.enumeration]).by_value
            path = f"{self.path_of(parent)}.{variants.get(step.code, step.code)}"
        else:
            path = self.path_of(parent)
        return f"{path}[{step.element}]" if step.element >= 0 else path

    cdef int refuse(self, const Step* step, object kind, str why) except -1:
        path = self.path_of(step)
        where = f"column {path!r}, row" if path else "row"
        raise kind(f"{where} {self.done + self.row}: {why}")

    # Values

    cdef int take(self, Step* step, int64_t row, uint64_t* bits) except -1:
        """The bytes of a scalar: returns 1, or 0 if it is null."""
        cdef int known = take_quick(step, row, bits)
        cdef const Column* column = step.column
        cdef int64_t at = 0, value = 0, size = 0
        cdef double real = 0.0
        cdef const uint8_t* text = NULL
        cdef int what
        if known >= 0:
            return known
        what = resolve(&column, row, &at)
        if what < 0:
            self.refuse(step, ValueError, "it has an index outside of its dictionary")
        if what == 0:
            return 0
        if is_text(column.form):
            if bytes_range(column, at, &text, &size) < 0:
                self.refuse(step, ValueError, "its offsets lead outside of its bytes")
            if wrong_utf8(text, size) >= 0:
                self.refuse(step, ValueError, "this name is not UTF-8")
            return self.look_up(step, PyUnicode_DecodeUTF8(<const char*>text, size, NULL), bits)
        what = number_at(column, at, &value, &real)
        given = real if what == 2 else <uint64_t>value if what else value
        if step.kind == BOOL:
            limits = "0 or 1"
        elif step.kind >= FLOAT:
            limits = "it would become infinite"
        elif step.kind == ULONG:
            limits = f"0 to {2**64 - 1}"
        else:
            limits = f"{LEAST[step.kind]} to {MOST[step.kind]}"
        self.refuse(step, OverflowError, f"{given!r} does not fit into {KIND_NAMES[step.kind]}: {limits}")

    cdef int look_up(self, Step* step, str name, uint64_t* bits) except -1:
        cdef EnumLayout known = self.layout.enums[step.enumeration]
        value = known.by_name.get(name)
        if value is None:
            # A number that has no name is given as it is.
            try:
                value = int(name) if name.isascii() and len(name) < 21 else None
            except ValueError:
                value = None
            least, most = (0, 2**64 - 1) if step.kind == ULONG else (LEAST[step.kind], MOST[step.kind])
            if value is None or str(value) != name or not least <= value <= most:
                self.refuse(step, ValueError, f"{known.name} has no {name!r:.100}")
        bits[0] = value & ((1 << (8 * step.width)) - 1)
        return 1

    cdef int prepare_codes(self) except -1:
        """Looks up the names in the dictionaries of enums."""
        cdef Step* step
        cdef Source source
        cdef Column* column
        cdef int64_t i, size = 0
        cdef const uint8_t* text = NULL
        for place, source in self.coded:
            step = <Step*><size_t>place
            column = &source.column
            PyMem_RawFree(step.codes)
            PyMem_RawFree(step.code_states)
            step.codes = NULL
            step.code_states = NULL
            step.code_count = 0
            step.codes = <uint64_t*>PyMem_RawCalloc(<size_t>max(column.length, 1), sizeof(uint64_t))
            step.code_states = <uint8_t*>PyMem_RawCalloc(<size_t>max(column.length, 1), 1)
            if step.codes is NULL or step.code_states is NULL:
                PyMem_RawFree(step.codes)
                step.codes = NULL
                raise MemoryError(f"no memory for the {column.length} names of a dictionary")
            step.code_count = column.length
            for i in range(column.length):
                if column.validity is not NULL and not bit_at(column.validity, column.offset + i):
                    step.code_states[i] = CODE_NULL
                    continue
                step.code_states[i] = CODE_UNKNOWN
                if bytes_range(column, column.offset + i, &text, &size) < 0 or wrong_utf8(text, size) >= 0:
                    continue
                try:
                    self.look_up(step, PyUnicode_DecodeUTF8(<const char*>text, size, NULL), &step.codes[i])
                except ValueError:
                    # Only a row that has it is wrong.
                    continue
                step.code_states[i] = CODE_KNOWN
        return 0

    cdef int fill(self, Step* step, int64_t row, uint8_t* out) except -1:
        """Stores the fields of a struct."""
        cdef Py_ssize_t i
        cdef int64_t at = row
        cdef const Column* column = step.column
        cdef Step* child
        if column is not NULL and resolve(&column, row, &at) != 1:
            self.refuse(step, ValueError, "it is null, and nothing in a struct or among its elements can be")
        for i in range(step.child_count):
            child = &step.children[i]
            self.fill_part(child, at, out + child.place)
        return 0

    cdef int fill_part(self, Step* step, int64_t row, uint8_t* out) except -1:
        cdef uint64_t bits = 0
        cdef int64_t at = row, start = 0, count = 0, i
        cdef const Column* column = step.column
        cdef const uint8_t* data = NULL
        if step.action == TAKE_STRUCT:
            return self.fill(step, row, out)
        if step.action == TAKE_SCALAR:
            if not self.take(step, row, &bits):
                self.refuse(step, ValueError, "it is null, and nothing in a struct or among its elements can be")
            store_le(out, bits, step.width)
            return 0
        # An array.
        if resolve(&column, row, &at) != 1:
            self.refuse(step, ValueError, "it is null, and nothing in a struct or among its elements can be")
        if is_text(column.form):
            if bytes_range(column, at, &data, &count) < 0:
                self.refuse(step, ValueError, "its offsets lead outside of its bytes")
        elif list_range(column, at, &start, &count) < 0:
            self.refuse(step, ValueError, "its offsets lead outside of its elements")
        if count != step.count:
            self.refuse(step, ValueError, f"it has {count} elements, where the array has {step.count}")
        if data is not NULL:
            memcpy(out, data, <size_t>count)
            return 0
        for i in range(count):
            step.element = i
            self.fill_part(step.children, start + i, out + i * step.element_size)
        step.element = -1
        return 0

    # Rows of any table

    cdef Py_ssize_t build_string(self, Step* step, const Column* column, int64_t at) except -1:
        cdef const uint8_t* text = NULL
        cdef int64_t size = 0, wrong
        if bytes_range(column, at, &text, &size) < 0:
            self.refuse(step, ValueError, "its offsets lead outside of its bytes")
        if size > MOST_BYTES:
            self.refuse(step, ValueError, f"{size} bytes are too many for a message")
        wrong = wrong_utf8(text, size)
        if wrong >= 0:
            self.refuse(step, ValueError, f"it is not UTF-8: see its byte {wrong}")
        self.builder.prep(4, size + 1)
        self.builder.store(0, 1)
        self.builder.store_bytes(text, size)
        self.builder.store(<uint64_t>size, 4)
        return self.builder.capacity - self.builder._head

    cdef int start_vector(self, Step* step, int64_t count) except -1:
        """Makes room for `count` elements and aligns them."""
        cdef int64_t size
        if count > MOST_BYTES or count * <int64_t>step.element_size > MOST_BYTES:
            self.refuse(step, ValueError, f"{count} elements are too many for a message")
        size = count * step.element_size
        self.builder.prep(4, size)
        self.builder.prep(step.element_alignment, size)
        return 0

    cdef Py_ssize_t build_vector(self, Step* step, const Column* column, int64_t at) except -1:
        cdef Builder builder = self.builder
        cdef const uint8_t* data = NULL
        cdef int64_t start = 0, count = 0, i
        cdef Step* child = step.children
        cdef const Column* inner
        cdef uint8_t* out
        cdef Py_ssize_t size, base
        if is_text(column.form):
            if bytes_range(column, at, &data, &count) < 0:
                self.refuse(step, ValueError, "its offsets lead outside of its bytes")
            self.start_vector(step, count)
            builder.store_bytes(data, count)
        else:
            if list_range(column, at, &start, &count) < 0:
                self.refuse(step, ValueError, "its offsets lead outside of its elements")
            if child.action == TAKE_SCALAR or child.action == TAKE_STRUCT:
                self.start_vector(step, count)
                size = <Py_ssize_t>count * step.element_size
                inner = child.column
                if child.plain and inner.stride == child.width and inner.validity is NULL:
                    builder.store_bytes(inner.values + (inner.offset + start) * inner.stride, size)
                else:
                    # There is room, and what is there now is padding or nothing.
                    builder._head -= size
                    if size:
                        memset(builder.data + builder._head, 0, <size_t>size)
                    for i in range(count):
                        child.element = i
                        out = builder.data + builder._head + i * step.element_size
                        self.fill_part(child, start + i, out)
                    child.element = -1
            else:
                base = self.place_count
                for i in range(count):
                    child.element = i
                    self.keep_place(self.build_offset(child, start + i))
                    if not self.places[base + i]:
                        self.refuse(child, ValueError, "it is null, and no element of a vector can be")
                child.element = -1
                self.start_vector(step, count)
                for i in range(count - 1, -1, -1):
                    self.store_offset(self.places[base + i])
                self.place_count = base
        builder.store(<uint64_t>count, 4)
        return builder.capacity - builder._head

    cdef int keep_place(self, Py_ssize_t place) except -1:
        """Notes a number for later, on top of those that are noted already."""
        cdef Py_ssize_t capacity
        cdef Py_ssize_t* places
        if self.place_count == self.place_capacity:
            capacity = 2 * self.place_capacity + 64
            places = <Py_ssize_t*>PyMem_RawRealloc(self.places, <size_t>capacity * sizeof(Py_ssize_t))
            if places is NULL:
                raise MemoryError(f"no memory to note {capacity} elements")
            self.places = places
            self.place_capacity = capacity
        self.places[self.place_count] = place
        self.place_count += 1
        return 0

    cdef int store_offset(self, Py_ssize_t place) except -1:
        """Puts the distance to what is at `place`, for which there is room and which is aligned."""
        return self.builder.store(<uint64_t>(self.builder.capacity - self.builder._head - place + 4), 4)

    cdef Py_ssize_t build_union(self, Step* step, int64_t row, bint typed, uint64_t code) except -1:
        """Builds the value of a union and notes its type in the step; returns 0 if there is none.

        `code` is the type that it is said to have, if it is `typed`.
        """
        cdef const Column* column = step.column
        cdef int64_t at = row
        cdef Step* chosen = NULL
        cdef Py_ssize_t i, place
        cdef int there = 1
        if column is not NULL:
            there = resolve(&column, row, &at)
            if there < 0:
                self.refuse(step, ValueError, "it has an index outside of its dictionary")
        if there:
            for i in range(step.child_count):
                if is_there(&step.children[i], at):
                    if chosen is not NULL:
                        self.refuse(step, ValueError, "it has values for two variants")
                    chosen = &step.children[i]
        step.bits = chosen.code if chosen is not NULL else 0
        if typed and code != step.bits:
            known = (<EnumLayout>self.layout.enums[step.enumeration]).by_value
            self.refuse(
                step, ValueError,
                f"its type is {known.get(code, code)} and its value is {known.get(step.bits, step.bits)}",
            )
        if chosen is NULL:
            return 0
        place = self.build_offset(chosen, at)
        if not place:
            self.refuse(chosen, ValueError, "it is null")
        return place

    cdef Py_ssize_t build_unions(self, Step* step, const Column* column, int64_t at) except -1:
        """Builds a vector of unions, and notes in the step where the vector of their types is."""
        cdef Builder builder = self.builder
        cdef Step* child = step.children
        cdef const Column* types
        cdef int64_t start = 0, count = 0, types_at = 0, types_start = 0, types_count = 0, i
        cdef uint64_t code = 0
        cdef Py_ssize_t base = self.place_count
        if list_range(column, at, &start, &count) < 0:
            self.refuse(step, ValueError, "its offsets lead outside of its elements")
        if step.type is not NULL:
            types = step.type.column
            if resolve(&types, self.unions_row, &types_at) == 1 and types.form != NULLS:
                if list_range(types, types_at, &types_start, &types_count) < 0:
                    self.refuse(step.type, ValueError, "its offsets lead outside of its elements")
            if types_count != count:
                self.refuse(step, ValueError, f"it has {count} elements and {types_count} types")
        for i in range(count):
            child.element = i
            code = 0
            if step.type is not NULL:
                step.type.children.element = i
                self.take(step.type.children, types_start + i, &code)
            self.keep_place(self.build_union(child, start + i, step.type is not NULL, code))
            self.keep_place(<Py_ssize_t>child.bits)
        child.element = -1
        if step.type is not NULL:
            step.type.children.element = -1
        builder.prep(4, count)
        for i in range(count - 1, -1, -1):
            builder.store(<uint64_t>self.places[base + 2 * i + 1], 1)
        builder.store(<uint64_t>count, 4)
        step.bits = <uint64_t>(builder.capacity - builder._head)
        self.start_vector(step, count)
        for i in range(count - 1, -1, -1):
            if self.places[base + 2 * i]:
                self.store_offset(self.places[base + 2 * i])
            else:
                builder.store(0, 4)
        self.place_count = base
        builder.store(<uint64_t>count, 4)
        return builder.capacity - builder._head

    cdef Py_ssize_t build_offset(self, Step* step, int64_t row) except -1:
        """Builds what a field or an element has an offset to; returns where it is, or 0 if it is null."""
        cdef const Column* column = step.column
        cdef int64_t at = row
        cdef uint64_t code = 0
        cdef int there
        if step.action == TAKE_UNION:
            if step.type is not NULL:
                self.take(step.type, row, &code)
            return self.build_union(step, row, step.type is not NULL, code)
        if column is NULL:
            # Its parts are columns of their own, and all of them may be null.
            if not is_there(step, row):
                return 0
        else:
            there = resolve(&column, row, &at)
            if there < 0:
                self.refuse(step, ValueError, "it has an index outside of its dictionary")
            if not there:
                if step.action == TAKE_UNIONS and step.type is not NULL and is_there(step.type, row):
                    self.refuse(step, ValueError, "it is null, and its types are not")
                return 0
        if step.action == TAKE_STRING:
            return self.build_string(step, column, at)
        if step.action == TAKE_TABLE:
            return self.build_table(step, at)
        if step.action == TAKE_VECTOR:
            return self.build_vector(step, column, at)
        if step.action == TAKE_UNIONS:
            self.unions_row = row
            return self.build_unions(step, column, at)
        # A struct, as a variant of a union.
        self.place_struct(step, row)
        return self.builder.capacity - self.builder._head

    cdef int place_struct(self, Step* step, int64_t row) except -1:
        """Puts a struct in front of the message."""
        cdef Builder builder = self.builder
        builder.prep(step.alignment, step.size)
        builder._head -= step.size
        memset(builder.data + builder._head, 0, step.size)
        # Nothing in it moves the memory.
        return self.fill(step, row, builder.data + builder._head)

    cdef int missing(self, Step* step) except -1:
        return self.refuse(step, ValueError, "it is null, and the schema requires it")

    cdef Py_ssize_t build_table(self, Step* step, int64_t row) except -1:
        """Builds a table from the row of its parts."""
        cdef Builder builder = self.builder
        cdef Step* child
        cdef Py_ssize_t i, count = 0
        cdef uint64_t bits = 0
        cdef bint typed = False
        for i in range(step.child_count):
            child = &step.children[i]
            count = max(count, child.field + 1)
            if child.action >= TAKE_STRING:
                child.result = self.build_offset(child, row)
                if not child.result and child.required:
                    self.missing(child)
                if child.action == TAKE_UNION or child.action == TAKE_UNIONS:
                    typed = True
                    count = max(count, self.layout.objects[step.object].fields[child.field].companion + 1)
        start_table(builder, count)
        for i in range(step.child_count):
            child = &step.children[i]
            if child.action == TAKE_SCALAR:
                if not self.take(child, row, &bits) or (bits == child.default_bits and not child.keep):
                    continue
                builder.prep(child.width, 0)
                builder.store(bits, child.width)
            elif child.action == TAKE_STRUCT:
                if not is_there(child, row):
                    if child.required:
                        self.missing(child)
                    continue
                self.place_struct(child, row)
            elif child.result:
                builder.prep(4, 0)
                self.store_offset(child.result)
                if child.action == TAKE_UNIONS:
                    # The vector of its types.
                    builder.slots[child.field] = builder.capacity - builder._head
                    self.store_offset(<Py_ssize_t>child.bits)
                    builder.slots[self.layout.objects[step.object].fields[child.field].companion] = (
                        builder.capacity - builder._head
                    )
                    continue
            else:
                continue
            builder.slots[child.field] = builder.capacity - builder._head
        if typed:
            for i in range(step.child_count):
                child = &step.children[i]
                if child.action == TAKE_UNION and child.result:
                    builder.store(child.bits, 1)
                    builder.slots[self.layout.objects[step.object].fields[child.field].companion] = (
                        builder.capacity - builder._head
                    )
        builder._nested = False
        return builder.write_vtable()

    cdef int write_row(self, Encoder encoder, int64_t row) except -1:
        """Builds the message of a row and has the encoder take it."""
        cdef Builder builder = self.builder
        cdef Py_ssize_t place, size = PyBytes_GET_SIZE(self.identifier)
        cdef const Column* column = self.root.column
        cdef int64_t at = row
        if column is not NULL and resolve(&column, row, &at) != 1:
            self.refuse(&self.root, ValueError, "it is null, and no message can be")
        builder.reset()
        self.place_count = 0
        place = self.build_table(&self.root, at)
        builder.prep(builder._minalign, 4 + size)
        if size:
            builder.store_bytes(<const uint8_t*>PyBytes_AS_STRING(self.identifier), size)
        self.store_offset(place)
        builder._finished = True
        return encoder.put_builder(builder, False)

    # Rows of tables with nothing but scalars and structs

    cdef bint is_flat(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.root.child_count):
            if self.root.children[i].action > TAKE_STRUCT:
                return False
        return self.root.child_count <= MOST_MASKED

    cdef int drop_slots(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.slot_count):
            PyMem_RawFree(self.slots[i].places)
        PyMem_RawFree(self.slots)
        self.slots = NULL
        self.slot = NULL
        self.slot_count = 0
        return 0

    cdef Slot* find_slot(self, uint64_t mask) noexcept nogil:
        """The slot of a mask, or the free one that would be; NULL if there are none at all."""
        cdef Py_ssize_t i = <Py_ssize_t>((mask * <uint64_t>0x9E3779B97F4A7C15) >> 40)
        if not self.slot_count:
            return NULL
        while True:
            i &= self.slot_count - 1
            if self.slots[i].data is NULL or self.slots[i].mask == mask:
                return &self.slots[i]
            i += 1

    cdef int make_slot(self) except -1:
        """Makes the template for `mask`."""
        cdef bytearray present = bytearray(self.types.objects[self.number].field_count + 1)
        cdef Py_ssize_t i, count = self.root.child_count, size, old_count = self.slot_count
        cdef Template template
        cdef Slot* slots
        cdef Slot* old = self.slots
        cdef int32_t* places
        if 2 * len(self.templates) + 2 > self.slot_count:
            size = 2 * self.slot_count or 16
            if size > MOST_SLOTS:
                # Who has that many gains nothing by them.
                self.drop_slots()
                self.templates = []
                old = NULL
                old_count = 0
                size = 16
            slots = <Slot*>PyMem_RawCalloc(<size_t>size, sizeof(Slot))
            if slots is NULL:
                raise MemoryError(f"no memory for {size} templates")
            self.slots = slots
            self.slot_count = size
            for i in range(old_count):
                if old[i].data is not NULL:
                    self.find_slot(old[i].mask)[0] = old[i]
            PyMem_RawFree(old)
            self.slot = NULL
        for i in range(count):
            if self.mask >> i & 1:
                present[self.root.children[i].field] = 1
        template = make_template(self.layout, self.number, <const uint8_t*><char*>present, self.identifier)
        self.templates.append(template)
        places = <int32_t*>PyMem_RawCalloc(<size_t>max(count, 1), sizeof(int32_t))
        if places is NULL:
            raise MemoryError("no memory for the places of fields")
        for i in range(count):
            places[i] = template.places[self.root.children[i].field]
        self.slot = self.find_slot(self.mask)
        self.slot.mask = self.mask
        self.slot.data = template.data
        self.slot.size = template.size
        self.slot.places = places
        return 0

    cdef int64_t fill_run(self, FrameRun* run, int64_t row, int64_t rows) noexcept:
        """Makes frames of rows in place; returns the first that it left.

        It leaves a row if there is no room, if something is wrong with it, and if no template for it is there yet: then
        `slot` is NULL, and `mask` says for what. No Python code runs in here.
        """
        cdef Step* steps = self.root.children
        cdef Step* step
        cdef Py_ssize_t i, count = self.root.child_count, size
        cdef uint64_t mask, bits = 0
        cdef int64_t at, base = self.root.column.offset if self.root.column is not NULL else 0
        cdef const uint8_t* data
        cdef const int32_t* places
        cdef uint8_t* out
        cdef int there
        if self.slot is NULL:
            return row
        data = self.slot.data
        size = self.slot.size
        places = self.slot.places
        while row < rows:
            at = base + row
            mask = 0
            for i in range(count):
                step = &steps[i]
                if step.action == TAKE_SCALAR:
                    there = take_quick(step, at, &bits)
                    if there <= 0:
                        if there < 0:
                            return row
                        continue
                    if bits == step.default_bits and not step.keep:
                        continue
                    step.bits = bits
                elif not is_there(step, at):
                    if step.required:
                        return row
                    continue
                mask |= <uint64_t>1 << i
            if mask != self.mask:
                self.mask = mask
                self.slot = self.find_slot(mask)
                if self.slot.data is NULL:
                    self.slot = NULL
                    return row
                data = self.slot.data
                size = self.slot.size
                places = self.slot.places
            out = payload_room(run, size)
            if out is NULL:
                return row
            memcpy(out, data, <size_t>size)
            for i in range(count):
                if not mask >> i & 1:
                    continue
                step = &steps[i]
                if step.action == TAKE_SCALAR:
                    store_le(out + places[i], step.bits, step.width)
                elif not fill_quick(step, at, out + places[i]):
                    return row
            end_frame(run, size)
            row += 1
        return row

    cdef int write_rows(self, Encoder encoder, int64_t rows) except -1:
        """Writes the rows of the current window."""
        cdef FrameRun run
        cdef const Column* column = self.root.column
        # A row that is null, or in a dictionary, is for the builder.
        cdef bint flat = self.is_flat() and (column is NULL or column.form == STRUCT and column.validity is NULL)
        self.row = 0
        self.prepare_codes()
        while self.row < rows:
            if flat:
                if self.slot is NULL:
                    self.make_slot()
                if encoder.begin_run(&run):
                    self.row = self.fill_run(&run, self.row, rows)
                    encoder.end_run(&run)
                    if self.row == rows or self.slot is NULL:
                        continue
            self.write_row(encoder, self.row)
            self.row += 1
            if not self.row & 255:
                PyErr_CheckSignals()
        return 0

    cdef int write_all(self, Encoder encoder) except -1:
        """Writes all rows, a window after another: rows for which every column has one array."""
        cdef Feed feed
        cdef int64_t rows
        cdef bint more = True
        while True:
            rows = MOST_ROWS
            for feed in self.feeds:
                more = feed.advance()
                rows = min(rows, feed.left)
            if not more:
                return 0
            self.write_rows(encoder, rows)
            self.done += rows
            self.row = 0
            for feed in self.feeds:
                feed.left -= rows
                feed.source.column.offset += rows
                feed.source.column.length -= rows


cdef Source joined(str path, str type_name, list values):
    """A column of strings of bytes."""
    cdef Source source = Source(path, type_name)
    cdef Chunk offsets = Chunk(8 * (len(values) + 1))
    cdef int64_t end = 0
    cdef Py_ssize_t i
    cdef bytes data = b"".join(values)
    memcpy(offsets.data, &end, 8)
    for i in range(len(values)):
        end += len(values[i])
        memcpy(offsets.data + 8 * (i + 1), &end, 8)
    source.column.form = BYTES64
    source.column.length = len(values)
    source.column.offsets = offsets.data
    source.column.values = <const uint8_t*>PyBytes_AS_STRING(data)
    source.column.data_size = end
    source.owner = (offsets, data)
    return source


cdef int start_table(Builder builder, Py_ssize_t count) except -1:
    """Begins a table of so many fields, of which all are absent yet."""
    cdef int64_t* slots
    if count > builder.slot_capacity or builder.slots is NULL:
        slots = <int64_t*>PyMem_RawRealloc(builder.slots, <size_t>max(count, 16) * sizeof(int64_t))
        if slots is NULL:
            raise MemoryError(f"no memory for a table of {count} fields")
        builder.slots = slots
        builder.slot_capacity = max(count, 16)
    memset(builder.slots, 0, <size_t>count * sizeof(int64_t))
    builder.slot_count = count
    builder.has_slots = True
    builder.object_end = builder.capacity - builder._head
    builder._nested = True
    return 0


cpdef object write_columns(Encoder encoder, Layout layout, object number, object columns, bytes identifier=b""):
    """Writes a message for each row of `columns`, all of which is built and framed here.

    Parameters
    ----------
    encoder : Encoder
        What takes the messages.
    layout : Layout
        Of the schema.
    number : int
        Of the table that each message has as its root.
    columns : mapping, or object with the Arrow C data interface
        Columns by the names of fields.
    identifier : bytes
        The file identifier of the messages, or none.

    Returns
    -------
    int
        How many messages were written.

    Raises
    ------
    TypeError, ValueError
        The columns are not those of the table. Nothing was written.
    ValueError, OverflowError
        A value is wrong. The rows before its own were written; the error has their number as ``rows_written``.
    """
    cdef Plan plan = Plan.__new__(Plan)
    cdef Feed feed
    cdef list lengths = []
    if encoder is None or layout is None or identifier is None:
        raise TypeError("write_columns needs an encoder, a layout and an identifier")
    if len(identifier) not in (0, 4):
        raise ValueError(f"a file identifier has four bytes, got {identifier!r:.100}")
    encoder.check_open()
    plan.number = layout.check_table(number)
    plan.layout = layout
    plan.types = layout.types
    plan.identifier = identifier
    plan.sources = []
    plan.feeds = []
    plan.coded = []
    plan.templates = []
    inputs = None
    if has_arrow(columns):
        inputs = open_feed(columns)
    elif isinstance(columns, Mapping):
        inputs = grouped(columns)
    elif getattr(getattr(columns, "dtype", None), "names", None):
        inputs = as_input("", columns)
    else:
        raise TypeError(
            "columns must be a mapping of names to arrays, or have the Arrow C data interface, got "
            f"{type(columns).__name__}"
        )
    if isinstance(inputs, dict):
        measure(inputs, "", lengths)
        if not lengths:
            raise ValueError("there are no columns, so it is not known how many rows there are")
        for name, length in lengths:
            if length != lengths[0][1]:
                raise ValueError(
                    f"all columns must have the same length: {lengths[0][0]!r} has {lengths[0][1]} rows and {name!r} "
                    f"{length}"
                )
    plan.start(inputs)
    plan.builder = Builder(1024)
    try:
        plan.write_all(encoder)
    except Exception as error:
        error.rows_written = plan.done + plan.row
        raise
    return plan.done

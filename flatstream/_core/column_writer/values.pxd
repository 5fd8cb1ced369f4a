# Values of a column that may be anybody's: each of these compares what it follows with what is there, every time, since
# what belongs to somebody else may change. Rows are for the caller to keep inside of the column.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.importer cimport (
    BITS, BYTES32, BYTES64, BYTES_FIXED, BYTES_VIEW, DICTIONARY, HALF, LIST32, LIST64, LIST_FIXED, LIST_VIEW32,
    LIST_VIEW64, NULLS, Column, native_32, native_64,
)
from flatstream._core.base.endian cimport load_le, load_u64
from flatstream._core.flatbuf.kinds cimport BOOL, BYTE, DOUBLE, FLOAT, INT, SHORT, ULONG, scalar_width
from flatstream._core.flatbuf.verifier cimport find_not_utf8


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

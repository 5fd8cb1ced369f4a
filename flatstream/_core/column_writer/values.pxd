# The values of a column in the caller's memory. Other code can change this memory at any time, so offsets, sizes and
# indices are checked against the column each time they are followed. Whoever calls these functions ensures that the row
# is inside the column.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.importer cimport (
    BITS, BYTES32, BYTES64, BYTES_FIXED, BYTES_VIEW, DICTIONARY, HALF, LIST32, LIST64, LIST_FIXED, LIST_VIEW32,
    LIST_VIEW64, NULLS, Column, native_32, native_64,
)
from flatstream._core.base.endian cimport load_le
from flatstream._core.flatbuf.kinds cimport BOOL, BYTE, DOUBLE, FLOAT, INT, SHORT, ULONG, scalar_width


cdef extern from *:
    """
    /* The value of a 16-bit float. A 32-bit float represents each of them exactly. */
    static inline double fs_half(uint16_t bits) {
        uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = (bits >> 10) & 0x1F, fraction = bits & 0x3FF, wide;
        float value;
        if (exponent == 0) {
            /* Zero or subnormal: a multiple of 2**-24. */
            value = (float)fraction / 16777216.0f;
            return sign ? -(double)value : (double)value;
        }
        wide = sign | ((exponent == 31 ? 255 : exponent + 112) << 23) | (fraction << 13);
        memcpy(&value, &wide, 4);
        return (double)value;
    }
    """
    double fs_half(uint16_t bits) noexcept nogil


# How `number_at` returns a number.
cdef enum NumberForm:
    # In the int64_t.
    INT_NUMBER
    # In the int64_t, as the bits of a uint64_t that is too large for it.
    ULONG_NUMBER
    # In the double.
    REAL_NUMBER


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


cdef inline int64_t sign_extended(uint64_t raw, uint8_t kind) noexcept nogil:
    """The integer whose bytes are `raw`; a ulong above the largest int64_t becomes negative."""
    if kind == BYTE:
        return <int8_t>raw
    if kind == SHORT:
        return <int16_t>raw
    if kind == INT:
        return <int32_t>raw
    if kind == BOOL:
        return raw != 0
    return <int64_t>raw


cdef inline NumberForm number_at(const Column* column, int64_t at, int64_t* value, double* real) noexcept nogil:
    """Loads element `at` of a column of numbers or bits into `value` or `real`; returns into which."""
    cdef uint64_t raw
    cdef float narrow = 0
    cdef uint32_t low
    if column.form == BITS:
        value[0] = bit_at(column.values, at)
        return INT_NUMBER
    raw = load_number(column.values + at * column.stride, width_of(column.kind), column.big)
    if column.kind == DOUBLE:
        memcpy(real, &raw, 8)
        return REAL_NUMBER
    if column.kind == FLOAT:
        low = <uint32_t>raw
        memcpy(&narrow, &low, 4)
        real[0] = narrow
        return REAL_NUMBER
    if column.kind == HALF:
        real[0] = fs_half(<uint16_t>raw)
        return REAL_NUMBER
    value[0] = sign_extended(raw, column.kind)
    return ULONG_NUMBER if column.kind == ULONG and value[0] < 0 else INT_NUMBER


cdef inline int resolve(const Column** column, int64_t row, int64_t* at) noexcept nogil:
    """Finds the value of a row through all dictionaries: afterwards it is element `at` of `column`.

    Returns 1, 0 if the value is null, or -1 if a dictionary does not have the index.
    """
    cdef const Column* current = column[0]
    cdef int64_t value
    while True:
        if current.form == NULLS:
            return 0
        at[0] = current.offset + row
        if current.validity is not NULL and not bit_at(current.validity, at[0]):
            return 0
        if current.form != DICTIONARY:
            column[0] = current
            return 1
        value = sign_extended(
            load_number(current.values + at[0] * current.stride, width_of(current.kind), current.big), current.kind
        )
        current = current.dictionary
        if value < 0 or value >= current.length:
            return -1
        row = value


cdef inline int list_range(const Column* column, int64_t at, int64_t* start, int64_t* count) noexcept nogil:
    """Finds the elements of list `at`: `count` of them from `start` on. Returns 0, or -1 if the child column does not
    have them.
    """
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
    """Finds the `size` bytes of byte string `at`. Returns 0, or -1 if they are outside of the column's buffers."""
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


cdef inline bint is_bytes_form(uint8_t form) noexcept nogil:
    return form == BYTES32 or form == BYTES64 or form == BYTES_VIEW or form == BYTES_FIXED


cdef inline bint is_list_form(uint8_t form) noexcept nogil:
    return form == LIST32 or form == LIST64 or form == LIST_VIEW32 or form == LIST_VIEW64 or form == LIST_FIXED

# Scalars of a message as numbers of Python. `bits` holds the stored bytes of a scalar in its low bytes.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from flatstream._core.base.endian cimport load_u16, load_u32, load_u64
from flatstream._core.flatbuf.kinds cimport (
    BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, UINT, ULONG, USHORT, scalar_width,
)


cdef inline uint64_t load_bits(const uint8_t* p, uint32_t width) noexcept nogil:
    if width == 1:
        return p[0]
    if width == 2:
        return load_u16(p)
    if width == 4:
        return load_u32(p)
    return load_u64(p)


cdef inline double float_from_bits(uint8_t kind, uint64_t bits) noexcept:
    cdef float single = 0
    cdef double value = 0
    cdef uint32_t low = <uint32_t>bits
    if kind == FLOAT:
        memcpy(&single, &low, 4)
        return single
    memcpy(&value, &bits, 8)
    return value


cdef inline object number_from_bits(uint8_t kind, uint64_t bits):
    if kind == BOOL:
        return True if bits & 0xFF else False
    elif kind == DOUBLE or kind == FLOAT:
        return float_from_bits(kind, bits)
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


# Equality of records is reflexive, so NaN equals NaN here, unlike in IEEE 754 and in Python.

cdef inline bint equal_floats(double x, double y) noexcept:
    return x == y or (x != x and y != y)


cdef inline bint equal_objects(object x, object y) except -1:
    if type(x) is float and type(y) is float:
        return equal_floats(x, y)
    return x == y


cdef inline bint equal_numbers(
    const uint8_t* a, uint8_t kind, const uint8_t* b, uint8_t other_kind, uint64_t count
) except -1:
    """Whether the `count` numbers at `a` equal those at `b`, element by element."""
    cdef uint32_t width = scalar_width(kind), other_width = scalar_width(other_kind)
    cdef uint64_t i
    if kind != other_kind:
        for i in range(count):
            if not equal_objects(
                number_from_bits(kind, load_bits(a + i * width, width)),
                number_from_bits(other_kind, load_bits(b + i * other_width, other_width)),
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
            if not equal_floats(
                float_from_bits(kind, load_bits(a + i * width, width)),
                float_from_bits(kind, load_bits(b + i * width, width)),
            ):
                return False
        return True
    return memcmp(a, b, <size_t>(count * width)) == 0

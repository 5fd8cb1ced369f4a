# cython: boundscheck=False, wraparound=False
"""Numbers of Python, and of its buffers, as the bytes that a message stores.

A value that cannot be stored unchanged is an error: no number wraps around, is truncated or is taken for another type.
The one exception is Python's own: a number becomes the nearest float.
"""

import operator

from cpython.buffer cimport Py_buffer
from cpython.float cimport PyFloat_AS_DOUBLE
from libc.math cimport INFINITY, isinf, ldexpf
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.base.checks cimport exact_str, listed
from flatstream._core.base.endian cimport store_le
from flatstream._core.flatbuf.kinds cimport (
    BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, ULONG, least_of, most_of, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout

from flatstream._core.flatbuf.kinds import NUMBER_NAMES, NUMBER_RANGES


cdef extern from "Python.h":
    unsigned long long PyLong_AsUnsignedLongLong(object number) except? -1
    double unpack_half "PyFloat_Unpack2"(const char* p, int little) except? -1.0


class RefusalError(Exception):
    """A value cannot be stored. The arguments are the class of the error to raise and its text, to which the caller
    adds the path of the value.
    """


cdef int fail(object kind, str text) except -1:
    raise RefusalError(kind, text)


cdef int pack_scalar(uint8_t kind, EnumLayout enum, object value, uint64_t* bits) except -1:
    """Stores the bytes of `value`, as a number of this kind, in the low bytes of `bits`. `enum` is the enum of the
    number, or None.

    Accepts the values that Python accepts for such a number: an int or any object with ``__index__``; for a float also
    any object with ``__float__``; for a bool a bool, 0 or 1. For an enum it also accepts a name, for flags several.
    """
    cdef uint64_t high
    if pack_exact(kind, value, bits):
        return 0
    if isinstance(value, str):
        if enum is None:
            fail(TypeError, f"expected {NUMBER_NAMES[kind]}, got str: {value!r:.100}")
        value = number_of_name(enum, exact_str(value))
    elif enum is not None and enum.bit_flags and isinstance(value, (list, tuple, set, frozenset)):
        value = number_of_flags(enum, value)
    elif kind >= FLOAT:
        return pack_float(kind, value, bits)
    elif kind == BOOL and getattr(getattr(value, "dtype", None), "kind", None) == "b" and not value.shape:
        # NumPy's own bool has no __index__.
        value = bool(value)
    else:
        try:
            # An exact int, also for an instance of a subclass of int.
            value = operator.index(value)
        except TypeError:
            fail(
                TypeError,
                f"expected {expected_values(kind, enum)}, got {type(value).__name__}: {value!r:.100}{hint(value)}"
            )
    # If the value is out of range, the bits are not used.
    if not pack_exact(kind, value, bits):
        if kind == ULONG and 0 <= value <= 0xFFFFFFFFFFFFFFFF:
            high = PyLong_AsUnsignedLongLong(value)
            bits[0] = high
            return 0
        fail(ValueError, f"expected {NUMBER_NAMES[kind]}, {NUMBER_RANGES[kind]}, got {value}")
    return 0


cdef float nearest_float(object number) except? -1:
    """The float nearest to an int; infinity if the int is too large."""
    cdef int overflow = 0
    cdef long long small = PyLong_AsLongLongAndOverflow(number, &overflow)
    cdef object size
    if not overflow:
        return <float>small
    size = abs(number)
    shift = size.bit_length() - 64
    if shift > 64:
        return INFINITY
    # The highest 64 bits. The last of them is also set if any lower bit is set, so that the float is rounded correctly.
    if shift > 0:
        size = size >> shift | (size & (1 << shift) - 1 != 0)
    narrow = ldexpf(<float>PyLong_AsUnsignedLongLong(size), max(shift, 0))
    return narrow if number > 0 else -narrow


cdef int pack_float(uint8_t kind, object value, uint64_t* bits) except -1:
    cdef float narrow
    cdef uint32_t low = 0
    if hasattr(type(value), "mask") and getattr(value.mask, "shape", None) == () and value.mask:
        # float() makes NaN of it.
        fail(ValueError, f"expected {NUMBER_NAMES[kind]}, got a masked value")
    if hint(value) or not hasattr(type(value), "__float__") and not hasattr(type(value), "__index__"):
        fail(TypeError, f"expected {NUMBER_NAMES[kind]}, got {type(value).__name__}: {value!r:.100}{hint(value)}")
    if kind == FLOAT and isinstance(value, int):
        # Rounded once: by way of a double it would be rounded twice.
        narrow = nearest_float(operator.index(value))
        if not isinf(narrow):
            memcpy(&low, &narrow, 4)
            bits[0] = low
            return 0
    try:
        # An exact float, which `pack_exact` needs: for an instance of a subclass of float without its methods.
        wide = PyFloat_AS_DOUBLE(value) if isinstance(value, float) else float(value)
    except OverflowError:
        wide = None
    if wide is None or not pack_exact(kind, wide, bits):
        fail(ValueError, f"expected {NUMBER_NAMES[kind]}, {NUMBER_RANGES[kind]}, got {value!r:.100}")
    return 0


cdef object number_of_name(EnumLayout enum, str name):
    """The value of an enumerator; for flags also of several, as a schema writes them: "Read Write"."""
    number = enum.by_name.get(name)
    if number is not None:
        return number
    if enum.bit_flags:
        total = 0
        for part in name.replace("|", " ").split():
            number = enum.by_name.get(part)
            if number is None:
                break
            total |= number
        else:
            return total
    if name.isascii() and name.removeprefix("-").isdecimal():
        # Columns show a number that has no name as its digits.
        return int(name)
    fail(
        ValueError,
        f"expected {'names' if enum.bit_flags else 'an enumerator'} of {enum.name} ({listed(enum.by_name)})"
        f"{', with spaces between them' if enum.bit_flags else ''}, got {name!r:.100}"
    )


cdef object number_of_flags(EnumLayout enum, object names):
    """The combined value of flags, each of which is a name or a number."""
    cdef uint64_t bits = 0
    total = 0
    for name in names:
        if isinstance(name, (list, tuple, set, frozenset)):
            # Also ends a list that contains itself.
            fail(TypeError, f"expected names or numbers of {enum.name}, got {type(name).__name__} among them")
        pack_scalar(<uint8_t>enum.kind, enum, name, &bits)
        total |= bits
    return total


cdef str expected_values(uint8_t kind, EnumLayout enum):
    """The values that a field accepts, for an error message."""
    if enum is None:
        return NUMBER_NAMES[kind]
    return f"{NUMBER_NAMES[kind]} or a name of {enum.name} ({listed(enum.by_name)})"


cdef str hint(object value):
    """Advice to add to an error message about a time; "" for any other value."""
    if hasattr(type(value), "isoformat") or getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M"):
        return "; a time goes in as an integer, in the unit that the field has"
    return ""


cdef ElementClass class_of_format(const char* format, Py_ssize_t size, bint* swapped) noexcept nogil:
    """The class of the elements of a buffer with this format. `swapped` becomes whether they are big-endian."""
    cdef char code
    swapped[0] = False
    if format is NULL:
        return UNSIGNED_CLASS if size == 1 else UNKNOWN_CLASS
    if format[0] == c">" or format[0] == c"!":
        swapped[0] = True
        format += 1
    elif format[0] == c"<":
        format += 1
    else:
        if format[0] == c"@" or format[0] == c"=":
            format += 1
        swapped[0] = is_big_endian()
    code = format[0]
    if code == 0 or format[1] != 0 or size not in (1, 2, 4, 8):
        return UNKNOWN_CLASS
    if code == c"?":
        return BOOL_CLASS if size == 1 else UNKNOWN_CLASS
    if code in (c"b", c"h", c"i", c"l", c"q", c"n"):
        return SIGNED_CLASS
    if code in (c"B", c"H", c"I", c"L", c"Q", c"N"):
        return UNSIGNED_CLASS
    if (code == c"e" and size == 2) or (code == c"f" and size == 4) or (code == c"d" and size == 8):
        return FLOAT_CLASS
    return UNKNOWN_CLASS


cdef inline bint is_big_endian() noexcept nogil:
    cdef uint32_t one = 1
    return (<uint8_t*>&one)[0] == 0


cdef bint same_layout(uint8_t kind, ElementClass element, Py_ssize_t size) noexcept nogil:
    """Whether little-endian elements of this class and size can be copied into a message without a conversion."""
    if size != <Py_ssize_t>scalar_width(kind):
        return False
    if kind >= FLOAT:
        return element == FLOAT_CLASS
    if kind == BYTE or kind == SHORT or kind == INT or kind == LONG:
        return element == SIGNED_CLASS
    # Each bool is converted to 0 or 1.
    return element == UNSIGNED_CLASS and kind != BOOL


cdef int store_elements(
    uint8_t kind, const Py_buffer* source, ElementClass element, bint swapped, uint8_t* out, Py_ssize_t* failed
) except -1:
    """Stores all elements of a buffer of one dimension as numbers of this kind, one after another, at `out`.

    Raises RefusalError for the first element that cannot be stored; `failed` is then its index.
    """
    cdef Py_ssize_t i, count = source.shape[0], size = source.itemsize, width = scalar_width(kind), k
    cdef Py_ssize_t stride = source.strides[0] if source.strides is not NULL else size
    cdef const uint8_t* next_item = <const uint8_t*>source.buf
    cdef uint8_t item[8]
    cdef uint64_t bits
    cdef int64_t number
    cdef double wide = 0
    cdef float narrow = 0
    cdef bint whole
    cdef uint32_t low = 0
    for i in range(count):
        for k in range(size):
            item[size - 1 - k if swapped else k] = next_item[k]
        next_item += stride
        bits = 0
        for k in range(size):
            bits |= <uint64_t>item[k] << (8 * k)
        failed[0] = i
        whole = False
        if element == FLOAT_CLASS:
            if kind < FLOAT:
                fail(TypeError, f"expected {NUMBER_NAMES[kind]}, got a float")
            if size == 8:
                memcpy(&wide, &bits, 8)
            elif size == 4:
                low = <uint32_t>bits
                memcpy(&narrow, &low, 4)
                if kind == FLOAT:
                    store_le(out, low, 4)
                    out += 4
                    continue
                wide = narrow
            else:
                wide = unpack_half(<const char*>item, 1)
        elif element == BOOL_CLASS:
            bits = bits != 0
            wide = <double>bits
        elif element == SIGNED_CLASS:
            # Sign extension.
            number = <int64_t>(bits << (64 - 8 * size)) >> (64 - 8 * size)
            wide = <double>number
            narrow = <float>number
            whole = True
            if kind < FLOAT and (
                number < 0 if kind == ULONG else not least_of(kind) <= number <= most_of(kind)
            ):
                fail(ValueError, f"expected {NUMBER_NAMES[kind]}, {NUMBER_RANGES[kind]}, got {number}")
            bits = <uint64_t>number
        else:
            wide = <double>bits
            narrow = <float>bits
            whole = True
            if kind < FLOAT and kind != ULONG and bits > <uint64_t>most_of(kind):
                fail(ValueError, f"expected {NUMBER_NAMES[kind]}, {NUMBER_RANGES[kind]}, got {bits}")
        if kind == DOUBLE:
            memcpy(&bits, &wide, 8)
        elif kind == FLOAT:
            # An integer is already rounded, once: by way of a double it would be rounded twice.
            if not whole:
                narrow = <float>wide
            if isinf(narrow) and not isinf(wide):
                fail(ValueError, f"expected {NUMBER_NAMES[kind]}, {NUMBER_RANGES[kind]}, got {wide!r}")
            memcpy(&low, &narrow, 4)
            bits = low
        store_le(out, bits, width)
        out += width
    return 0

"""Conditions that select messages: the argument `where` of reading records and columns.

    (path, low, high)                  low <= value < high; None leaves an end open
    (path, operator, value)            ==  !=  <  <=  >  >=  in  not in  startswith
    (..., unit)                        with times of Python, of a field that counts in this unit: s, ms, us or ns
    [condition, condition, ...]        all of them hold

Whatever the operator, a condition becomes ranges of the values that it lets through. Limits are converted once,
exactly, so that the loops over messages compare values of one type. No condition holds for an absent value or for NaN.
"""

import datetime
import struct
from decimal import Decimal
from fractions import Fraction
from operator import index as index_of

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE
from libc.math cimport nextafter
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp

from flatstream._core.base.checks cimport exact_str, listed
from flatstream._core.flatbuf.kinds cimport (
    BOOL, BYTE, DOUBLE, FLOAT, INT, LONG, SHORT, STRING, ULONG, is_scalar, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, Layout


cdef extern from "Python.h":
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in", "startswith")

# Decimal numbers with more digits than this are compared as floats.
cdef int MAX_EXPONENT = 400

# Nanoseconds of each unit that a field may count in.
UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

# Of the units of NumPy; months and years differ in length.
cdef dict NUMPY_UNITS = {
    "W": 604_800 * 10**9, "D": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, **UNITS,
    "ps": Fraction(1, 10**3), "fs": Fraction(1, 10**6), "as": Fraction(1, 10**9),
}

cdef object EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
# Constants: for a tuple of classes of Python in the call itself, Cython's isinstance loses an error.
cdef tuple TIMES = (datetime.date, datetime.time, datetime.timedelta)
cdef tuple COUNTABLE_TIMES = (datetime.datetime, datetime.timedelta)
cdef tuple CONTAINERS = (tuple, list)
cdef tuple TEXTS = (str, bytes, bytearray)


# The grammar


def parse_conditions(where):
    """The conditions of a `where` as tuples (path, operator, operands, unit).

    The operator of ``(path, low, high)`` is "range", with two operands; that of all others has one operand, a list for
    "in" and "not in". The unit is None if there is none.

    Raises
    ------
    TypeError, ValueError
        `where` is neither a condition nor a list of conditions.
    """
    if not isinstance(where, CONTAINERS):
        raise TypeError(wrong_form(where))
    conditions = [where] if len(where) and isinstance(where[0], str) else list(where)
    parsed = []
    for condition in conditions:
        if not isinstance(condition, CONTAINERS) or len(condition) not in (3, 4) or not isinstance(condition[0], str):
            raise TypeError(wrong_form(condition))
        path, second, third, *rest = condition
        # Subclasses of str may say of themselves what they like.
        path = exact_str(path)
        unit = rest[0] if rest else None
        if unit is not None and (not isinstance(unit, str) or unit not in UNITS):
            raise ValueError(f"where: the unit of {path!r:.200} must be one of {listed(UNITS)}, got {unit!r:.100}")
        if isinstance(second, str):
            second = exact_str(second)
        else:
            parsed.append((path, "range", (second, third), unit))
            continue
        if second not in OPERATORS:
            raise ValueError(
                f"where: {second!r:.100} is no operator: use one of {', '.join(OPERATORS)}; a range of strings or "
                f"names is two conditions, ({path!r:.200}, '>=', low) and ({path!r:.200}, '<', high)"
            )
        operand = third
        if second in ("in", "not in"):
            if isinstance(third, TEXTS) or not hasattr(type(third), "__iter__"):
                raise TypeError(f"where: {second!r} needs a list of values, got {third!r:.100}")
            operand = list(third)
        parsed.append((path, second, (operand,), unit))
    return parsed


cdef str wrong_form(object where):
    return f"where must be (path, low, high), (path, operator, value) or a list of these, got {where!r:.200}"


# Operands


cdef object number_of(object value, str what, object unit):
    """An operand as an int, a Fraction, or a float that is not NaN."""
    # The kind of a NumPy type. `__float__` alone does not make a number: a NumPy time returns the count of its unit,
    # whatever the unit, and other types raise an error that does not mention conditions.
    letter = getattr(getattr(value, "dtype", None), "kind", None)
    if letter in ("m", "M") or isinstance(value, TIMES):
        return time_number(value, letter, what, unit)
    if (letter is None or letter in ("b", "i", "u", "f")) and not isinstance(value, TEXTS):
        try:
            if letter == "b":
                return int(value)
            if letter != "f" and hasattr(type(value), "__index__"):
                return index_of(value)
            if isinstance(value, float):
                # Not its own method: a subclass may have another one.
                return not_nan(PyFloat_AS_DOUBLE(value), what)
            if isinstance(value, Fraction):
                return value
            if hasattr(type(value), "__float__"):
                number = not_nan(float(value), what)
                # As a float, a decimal number would be rounded. An int of a large power of ten would fill memory.
                is_exact = isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < MAX_EXPONENT
                return Fraction(value) if is_exact else number
        except TypeError:
            # For example an array of more than one element.
            pass
    hint = ""
    if isinstance(value, str):
        hint = ": the field is no string and no enum, and a time is a datetime with a time zone"
    raise TypeError(f"where: {what} must be a number{'' if what == 'the value' else ' or None'}, got "
                    f"{type(value).__name__}{hint}")


def number_operand(value, str what, unit):
    """An operand for a field of numbers as an int, a Fraction, or a float that is not NaN.

    Parameters
    ----------
    value : object
        A number; with a unit also a time, which becomes the number of these units since 1970 in UTC, or a duration.
    what : str
        What an error calls the operand.
    unit : {"s", "ms", "us", "ns"} or None
        The unit that the field counts in.

    Raises
    ------
    TypeError, ValueError
        It is none of these.
    """
    return number_of(value, what, unit)


cdef double not_nan(double number, str what) except? -1:
    if number != number:
        raise ValueError(f"where: {what} is NaN")
    return number


cdef object time_number(object value, object letter, str what, object unit):
    """A time as the number of its units since 1970 in UTC, a duration as the number of its units."""
    shown = str(value.dtype) if letter is not None else type(value).__name__
    is_numpy = letter is not None and getattr(value, "ndim", None) == 0
    is_known = is_numpy or letter is None and isinstance(value, COUNTABLE_TIMES)
    if not is_known:
        raise TypeError(f"where: {what} must be a number, a datetime or a timedelta, got {shown}")
    if unit is None:
        raise TypeError(
            f"where: {what} is a {shown}, which needs the unit that the field counts in: (path, low, high, unit) or "
            f"(path, operator, value, unit), with one of {listed(UNITS)}"
        )
    if value != value:
        raise ValueError(f"where: {what} is no time, {value}")
    if is_numpy:
        nanoseconds = numpy_nanoseconds(value, what)
    else:
        if isinstance(value, datetime.datetime):
            if value.utcoffset() is None:
                raise ValueError(
                    f"where: {what}, {value}, has no time zone, so it is no point in time: give it one, as "
                    "datetime.UTC"
                )
            value = value - EPOCH
        # Types of pandas, which inherit from these, have nanoseconds.
        nanoseconds = (
            ((value.days * 86_400 + value.seconds) * 10**6 + value.microseconds) * 10**3
            + getattr(value, "nanoseconds", 0)
        )
    number = Fraction(nanoseconds, UNITS[unit])
    return number.numerator if number.denominator == 1 else number


cdef object numpy_nanoseconds(object value, str what):
    import numpy

    code, count = numpy.datetime_data(value.dtype)
    if code in ("Y", "M") and value.dtype.kind == "M":
        value, code, count = value.astype("datetime64[D]"), "D", 1
    if code not in NUMPY_UNITS:
        raise TypeError(f"where: {what} is a {value.dtype}, which has no length in seconds")
    return int(value.astype("int64")) * count * NUMPY_UNITS[code]


cdef object named_number(EnumLayout enum, str name, str what):
    """The number of a name of an enum; of several names of flags, that of all together. As writing takes names."""
    names = name.replace("|", " ").split() if enum.bit_flags and name not in enum.by_name else [name]
    for each in names:
        if each not in enum.by_name:
            if name.isascii() and name.removeprefix("-").isdecimal():
                # Columns show a number that has no name as its digits.
                return int(name)
            raise ValueError(f"where: {what}, {name!r:.100}, is no name of {enum.name}; it has {listed(enum.by_name)}")
    numbers = [enum.by_name[each] for each in names]
    total = 0
    for number in numbers:
        total |= number
    return total if enum.bit_flags else numbers[0]


# Ranges. Of integers: pairs of the first and the last one.


cdef tuple key_range(int kind):
    """The keys of the smallest and the largest number of a type."""
    # As an int of Python, which does not overflow.
    cdef object end = 2 ** <object>(8 * <int>scalar_width(<uint8_t>kind))
    if kind == DOUBLE or kind == FLOAT:
        return -float_key(float("inf")), float_key(float("inf"))
    if kind == BYTE or kind == SHORT or kind == INT or kind == LONG or kind == ULONG:
        return -(end // 2), end // 2 - 1
    return 0, 1 if kind == BOOL else end - 1


cdef object float_key(double number):
    key = struct.unpack("<q", struct.pack("<d", abs(number)))[0]
    return -key if number < 0 else key


def key_bounds(int kind, number):
    """The key of the largest number of a type that is not above `number`, and of the smallest that is not below it.

    They are equal if the type has the number, and lie outside of the type's keys if it has none on that side.
    """
    cdef double real
    first, last = key_range(kind)
    if kind == DOUBLE or kind == FLOAT:
        try:
            real = float(number)
        except OverflowError:
            real = float("inf") if number > 0 else -float("inf")
        below = nextafter(real, -float("inf")) if real > number else real
        above = nextafter(real, float("inf")) if real < number else real
        return float_key(below), float_key(above)
    if isinstance(number, float):
        if number == float("inf"):
            return last, last + 1
        if number == -float("inf"):
            return first - 1, first
        number = Fraction(number)
    shift = 2**63 if kind == ULONG else 0
    return number // 1 - shift, -(-number // 1) - shift


cdef list number_ranges(int kind, str operator, list bounds):
    """The ranges of keys that a condition lets through, before those outside of the type are cut off.

    `bounds` has the `key_bounds` of each operand, or None for an open end.
    """
    first, last = key_range(kind)
    if operator == "range":
        low, high = bounds
        return [(first if low is None else low[1], last if high is None else high[1] - 1)]
    if operator in ("==", "in", "!=", "not in"):
        return [(below, above) for below, above in bounds if below == above]
    below, above = bounds[0]
    if operator == "<":
        return [(first, above - 1)]
    if operator == "<=":
        return [(first, below)]
    if operator == ">":
        return [(below + 1, last)]
    return [(above, last)]


cdef list joined(list ranges, object first, object last):
    """The parts of these ranges between `first` and `last`, ascending, where those that overlap or touch are one."""
    kept = []
    for begin, end in sorted([(max(begin, first), min(end, last)) for begin, end in ranges]):
        if begin > end:
            continue
        if kept and begin <= kept[-1][1] + 1:
            kept[-1] = kept[-1][0], max(end, kept[-1][1])
        else:
            kept.append((begin, end))
    return kept


cdef list others(list ranges, object first, object last):
    """The ranges between those of `joined`."""
    left = []
    for begin, end in ranges:
        left.append((first, begin - 1))
        first = end + 1
    left.append((first, last))
    return joined(left, left[0][0], last)


# Of strings: pairs of the first one and the first behind; None if there is none behind.


cdef list text_ranges(str operator, list texts):
    """The ranges of strings, as bytes, that a condition lets through."""
    first = texts[0] if texts else None
    if operator == "range":
        return [(first or b"", texts[1])]
    if operator in ("==", "in", "!=", "not in"):
        # A byte of 0 behind a string makes the next one.
        return [(text, text + b"\0") for text in texts]
    if operator == "startswith":
        # No byte of UTF-8 is 255.
        return [(first, first[:-1] + bytes([first[-1] + 1]) if first else None)]
    if operator == "<":
        return [(b"", first)]
    if operator == "<=":
        return [(b"", first + b"\0")]
    return [(first + b"\0" if operator == ">" else first, None)]


cdef list joined_texts(list ranges):
    kept = []
    for begin, end in sorted(ranges, key=range_begin):
        if end is not None and begin >= end:
            continue
        if kept and (kept[-1][1] is None or begin <= kept[-1][1]):
            if kept[-1][1] is not None and (end is None or end > kept[-1][1]):
                kept[-1] = kept[-1][0], end
        else:
            kept.append((begin, end))
    return kept


cdef object range_begin(tuple each):
    return each[0]


cdef list other_texts(list ranges):
    left = []
    begin = b""
    for first, end in ranges:
        left.append((begin, first))
        begin = end
        if end is None:
            return joined_texts(left)
    left.append((begin, None))
    return joined_texts(left)


# Conditions


cdef class Condition:
    def __init__(self, *args, **kwargs):
        raise TypeError("a Condition is made from a `where`")

    cdef bint takes_text(self, const uint8_t* data, Py_ssize_t size) except -1:
        """Whether this string is let through."""
        cdef Py_ssize_t low = 0, high = self.count, middle
        while low < high:
            middle = (low + high) // 2
            if compare(<bytes>self.begins[middle], data, size) <= 0:
                low = middle + 1
            else:
                high = middle
        if not low:
            return False
        end = self.ends[low - 1]
        return end is None or compare(<bytes>end, data, size) > 0

    def __dealloc__(self):
        PyMem_RawFree(self.firsts)
        PyMem_RawFree(self.lasts)


cdef int compare(bytes text, const uint8_t* data, Py_ssize_t size) noexcept:
    """Whether `text` is less than (-1), equal to or greater than (1) these bytes."""
    cdef Py_ssize_t own = PyBytes_GET_SIZE(text)
    cdef Py_ssize_t common = min(own, size)
    # Not with 0 bytes: a column of nothing but empty strings has no memory, and `memcmp` may not be given NULL.
    cdef int order = memcmp(PyBytes_AS_STRING(text), data, <size_t>common) if common else 0
    if order == 0:
        return (own > size) - (own < size)
    return 1 if order > 0 else -1


cdef Condition condition_of(Layout layout, tuple parsed, uint8_t kind, int index):
    cdef Condition condition = Condition.__new__(Condition)
    cdef EnumLayout enum = None
    cdef Py_ssize_t i
    cdef list ranges
    path, operator, operands, unit = parsed
    condition.path = path
    condition.kind = kind
    condition.is_text = kind == STRING
    if operator in ("in", "not in"):
        operands = operands[0]
    names = ("the low end of the range", "the high end of the range") if operator == "range" else None
    if condition.is_text:
        if unit is not None:
            raise ValueError(f"where: {path} is a string, which has no unit")
        texts = []
        for i, operand in enumerate(operands):
            if names is not None and operand is None:
                texts.append(None)
            elif isinstance(operand, str):
                # Not its own method: a subclass may have another one.
                texts.append(str.encode(operand, "utf-8"))
            else:
                what = "the value" if names is None else names[i]
                raise TypeError(f"where: {path} is a string: {what} must be a str, got {type(operand).__name__}")
        ranges = joined_texts(text_ranges(operator, texts))
        if operator in ("!=", "not in"):
            ranges = other_texts(ranges)
        condition.begins = tuple([begin for begin, _ in ranges])
        condition.ends = tuple([end for _, end in ranges])
        condition.count = len(ranges)
        return condition
    if not is_scalar(kind):
        raise ValueError(f"where: {path} is no number, enum or string; no condition can be on it")
    if operator == "startswith":
        raise ValueError(f"where: {path} is no string: 'startswith' is for strings")
    if may_be_enum(kind) and index >= 0:
        enum = layout.enums[index]
    bounds = []
    for i, operand in enumerate(operands):
        what = "the value" if names is None else names[i]
        if names is not None and operand is None:
            bounds.append(None)
            continue
        if enum is not None and isinstance(operand, str):
            number = named_number(enum, str.__str__(operand), what)
        else:
            number = number_of(operand, what, unit)
        bounds.append(key_bounds(kind, number))
    first, last = key_range(kind)
    ranges = joined(number_ranges(kind, operator, bounds), first, last)
    if operator in ("!=", "not in"):
        ranges = others(ranges, first, last)
    condition.firsts = <int64_t*>PyMem_RawCalloc(<size_t>max(len(ranges), 1), sizeof(int64_t))
    condition.lasts = <int64_t*>PyMem_RawCalloc(<size_t>max(len(ranges), 1), sizeof(int64_t))
    if condition.firsts is NULL or condition.lasts is NULL:
        raise MemoryError("no memory for a condition")
    for i in range(len(ranges)):
        condition.firsts[i], condition.lasts[i] = ranges[i]
    condition.count = len(ranges)
    return condition

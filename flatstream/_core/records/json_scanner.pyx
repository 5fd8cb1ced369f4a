# cython: boundscheck=False, wraparound=False
"""Reads the parts of JSON text: white space, strings, numbers and names. `JsonReader` builds messages from them.

The text has a zero byte behind its last one, and `position` never passes it: it is compared with `size` wherever it
advances over a byte that may be 0, and stops at 0 everywhere else.
"""

cimport cython
from cpython.ref cimport PyObject
from libc.math cimport isinf, nextafterf
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from flatstream._core.flatbuf.kinds cimport BOOL, DOUBLE, FLOAT, ULONG, least_of, mask_of, may_be_enum, most_of
from flatstream._core.flatbuf.layout cimport EnumLayout
from flatstream._core.flatbuf.scalars cimport pack_scalar
from flatstream._core.flatbuf.verifier cimport Field, find_not_utf8
from flatstream._core.records.record_builder cimport RecordBuilder

from flatstream._core.flatbuf.kinds import NUMBER_NAMES, NUMBER_RANGES
from flatstream._core.flatbuf.scalars import RefusalError
from flatstream.errors import JsonError


cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char* data, Py_ssize_t size, const char* errors)
    double PyOS_string_to_double(const char* text, char** end, PyObject* overflow) except? -1.0

# The most levels of a value that is skipped.
cdef Py_ssize_t MAX_SKIP_DEPTH = 1000
# Powers of ten that a double holds exactly, and the largest integer up to which it holds all.
cdef double[23] POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
]
cdef uint64_t MAX_EXACT = <uint64_t>1 << 53


cdef bint is_word(const uint8_t* p, Py_ssize_t size, const char* word, Py_ssize_t length) noexcept:
    """Whether the bytes are this word, in letters of any case."""
    cdef Py_ssize_t i
    if size != length:
        return False
    for i in range(size):
        if (p[i] | 0x20) != <uint8_t>word[i]:
            return False
    return True


cdef int hexadecimal(uint8_t c) noexcept:
    if is_digit(c):
        return c - c"0"
    c |= 0x20
    return c - c"a" + 10 if c"a" <= c <= c"f" else -1


cdef uint64_t fnv(str name, const uint8_t* p, Py_ssize_t size) except? 0:
    """The hash of a string, by the name of the attribute `hash`. The first number for 64 bits is flatc's, which is not
    that of FNV.
    """
    cdef bint xor_first = name.startswith("fnv1a_"), is_wide = name.endswith("_64")
    cdef uint64_t prime = (<uint64_t>1 << 40) + 0x1B3 if is_wide else 0x01000193
    cdef uint64_t hash = (<uint64_t>0xCBF29CE4 << 32) + <uint64_t>0x84222645 if is_wide else <uint64_t>0x811C9DC5
    cdef Py_ssize_t i
    if name not in ("fnv1_32", "fnv1a_32", "fnv1_64", "fnv1a_64"):
        # flatc hashes to 32 and 64 bits only.
        raise RefusalError(ValueError, f"expected a number, because the hash function {name!r:.100} is not known")
    for i in range(size):
        if xor_first:
            hash = (hash ^ p[i]) * prime
        else:
            hash = hash * prime ^ p[i]
        if not is_wide:
            hash &= <uint64_t>0xFFFFFFFF
    return hash


cdef int order_of(str text, double value) except -2:
    """Whether the number in a text is less than `value`, to which it was rounded (-1), the same (0), or greater (1)."""
    from decimal import Decimal
    from fractions import Fraction
    number, _, exponent = text.lower().partition("p")
    if "x" in number:
        whole, _, part = number.replace("0x", "", 1).partition(".")
        exact = int(whole + part, 16) * Fraction(2) ** (int(exponent or "0") - 4 * len(part))
        known = Fraction(value)
    else:
        # Not a Fraction: the digits of an int are limited.
        exact = Decimal(text)
        known = Decimal(value)
    return (exact > known) - (exact < known)


@cython.auto_pickle(False)
cdef class JsonScanner(RecordBuilder):
    """Reads JSON text from its beginning to its end. The base class of `JsonReader`."""

    # Characters

    cdef int fail_at(self, Py_ssize_t position, str reason) except -1:
        """Raises JsonError for what is at `position`."""
        cdef Py_ssize_t i, line = 1, begin = 0
        path = self.path_of_value(-1)
        for i in range(position):
            if self.text[i] == c"\n":
                line += 1
                begin = i + 1
        column = len(PyUnicode_DecodeUTF8(<const char*>self.text + begin, position - begin, b"replace")) + 1
        if reason.startswith("expected") and ", got " not in reason:
            reason += f", got {self.shown(position)}"
        raise JsonError(f"{path}: {reason}" if path else reason, path=path, line=line, column=column)

    cdef str shown(self, Py_ssize_t position):
        """The text at `position`, for an error."""
        cdef Py_ssize_t size = min(self.size - position, 40), word = 0
        if size <= 0:
            return "the end of the text"
        while word < size and (is_letter(self.text[position + word]) or is_digit(self.text[position + word]) or (
            self.text[position + word] in (c"-", c"+", c".")
        )):
            word += 1
        if word:
            size = word
        text = PyUnicode_DecodeUTF8(<const char*>self.text + position, size, b"replace")
        return repr(text[:20] + "..." if len(text) > 20 else text)

    cdef uint8_t skip_comments(self) except? 0:
        """`next_character` where a comment may begin."""
        cdef const uint8_t* found
        while True:
            while is_space(self.text[self.position]):
                self.position += 1
            if self.text[self.position] != c"/":
                return self.text[self.position]
            if self.text[self.position + 1] == c"/":
                found = <const uint8_t*>memchr(
                    self.text + self.position, c"\n", <size_t>(self.size - self.position)
                )
                self.position = self.size if found is NULL else found - self.text
            elif self.text[self.position + 1] == c"*":
                begin = self.position
                self.position += 2
                while self.text[self.position] != c"*" or self.text[self.position + 1] != c"/":
                    if self.position == self.size:
                        self.fail_at(begin, "a comment has no end")
                    self.position += 1
                self.position += 2
            else:
                return c"/"

    cdef bint take_null_word(self) except -1:
        """`take_null` at a word that begins with "n"."""
        if self.size - self.position < 4 or memcmp(self.text + self.position, b"null", 4):
            return False
        if is_letter(self.text[self.position + 4]) or is_digit(self.text[self.position + 4]):
            return False
        self.position += 4
        return True

    cdef Py_ssize_t read_word(self) except -1:
        """Reads a number, a name or a literal; returns its length."""
        cdef Py_ssize_t begin
        cdef uint8_t c = self.next_character()
        begin = self.token = self.position
        while is_letter(c) or is_digit(c) or c == c"." or c == c"-" or c == c"+":
            self.position += 1
            c = self.text[self.position]
        if self.position == begin:
            self.fail_at(begin, "expected a value")
        return self.position - begin

    cdef Py_ssize_t read_quoted(self, Py_ssize_t* begin, bint* in_scratch) except -1:
        """Reads a string, whose quote is the next character; returns its length in bytes.

        It begins at `begin`: of the text, or, if it has escapes, of `scratch`, from which the caller removes it.
        """
        cdef uint8_t quote = self.text[self.position]
        cdef uint8_t c
        self.token = self.position
        self.position += 1
        begin[0] = self.position
        in_scratch[0] = False
        while True:
            c = self.text[self.position]
            if c == quote:
                self.position += 1
                return self.position - 1 - begin[0]
            if c == c"\\":
                in_scratch[0] = True
                begin[0] = self.scratch_size
                return self.unescape(self.token + 1, quote)
            if c < 0x20:
                if self.position == self.size:
                    self.fail_at(self.token, "a string has no end")
                self.fail_at(self.position, "expected no control character in a string")
            self.position += 1

    cdef Py_ssize_t unescape(self, Py_ssize_t begin, uint8_t quote) except -1:
        """Puts the string whose text begins at `begin` on top of `scratch`; returns its length. `position` is at its
        first escape.
        """
        cdef Py_ssize_t start = self.scratch_size, run
        cdef uint8_t c, letter
        cdef uint32_t code, low
        cdef bint any_byte = False
        cdef int64_t wrong
        run = begin
        while True:
            c = self.text[self.position]
            if c == quote or c == c"\\":
                if self.position > run:
                    self.push_scratch(self.position - run)
                    memcpy(
                        self.scratch + self.scratch_size - (self.position - run), self.text + run,
                        <size_t>(self.position - run),
                    )
                self.position += 1
                if c == quote:
                    break
                letter = self.text[self.position]
                code = 0
                if letter == c"u":
                    self.position += 1
                    code = self.read_hex(4)
                    if 0xDC00 <= code < 0xE000:
                        self.fail_at(self.position - 6, "expected the first half of a surrogate pair before the second")
                    if 0xD800 <= code < 0xDC00:
                        if self.text[self.position] != c"\\" or self.text[self.position + 1] != c"u":
                            self.fail_at(self.position, "expected the second half of a surrogate pair")
                        self.position += 2
                        low = self.read_hex(4)
                        if not 0xDC00 <= low < 0xE000:
                            self.fail_at(self.position - 6, "expected the second half of a surrogate pair")
                        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                elif letter == c"x":
                    self.position += 1
                    code = self.read_hex(2)
                    if code >= 0x80:
                        # A byte, which is part of a character together with others.
                        any_byte = True
                        self.push_scratch(1)
                        self.scratch[self.scratch_size - 1] = <uint8_t>code
                        run = self.position
                        continue
                else:
                    if letter == c"n":
                        code = 10
                    elif letter == c"t":
                        code = 9
                    elif letter == c"r":
                        code = 13
                    elif letter == c"b":
                        code = 8
                    elif letter == c"f":
                        code = 12
                    elif letter == c'"' or letter == c"\\" or letter == c"/" or letter == c"'":
                        code = letter
                    else:
                        self.fail_at(self.position - 1, "expected an escape of JSON")
                    self.position += 1
                run = self.position
                self.push_character(code)
                continue
            if c < 0x20:
                if self.position == self.size:
                    self.fail_at(self.token, "a string has no end")
                self.fail_at(self.position, "expected no control character in a string")
            self.position += 1
        if any_byte:
            wrong = find_not_utf8(self.scratch + start, <uint64_t>(self.scratch_size - start))
            if wrong >= 0:
                self.fail_at(self.token, "expected escapes that make UTF-8")
        return self.scratch_size - start

    cdef int push_character(self, uint32_t code) except -1:
        """Puts a character on top of `scratch`, as UTF-8."""
        cdef int size = 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
        cdef Py_ssize_t start = self.push_scratch(size)
        cdef uint8_t* out = self.scratch + start
        cdef int i
        if size == 1:
            out[0] = <uint8_t>code
            return 0
        for i in range(size - 1, 0, -1):
            out[i] = <uint8_t>(0x80 | code & 0x3F)
            code >>= 6
        out[0] = <uint8_t>(0xFF << (8 - size) | code)
        return 0

    cdef uint32_t read_hex(self, int digits) except? 0:
        cdef uint32_t code = 0
        cdef int digit
        for _ in range(digits):
            # Not past the end: a zero byte is no digit.
            digit = hexadecimal(self.text[self.position])
            if digit < 0:
                self.fail_at(self.position, f"expected {digits} hexadecimal digits")
            code = code << 4 | <uint32_t>digit
            self.position += 1
        return code

    cdef int skip_value(self) except -1:
        """Reads any value, and builds nothing."""
        cdef Py_ssize_t begin = 0, scratch = self.scratch_size
        cdef bint in_scratch = False, is_first = True
        cdef uint8_t c = self.next_character()
        if c == c'"' or c == c"'":
            self.read_quoted(&begin, &in_scratch)
            self.scratch_size = scratch
            return 0
        if c != c"{" and c != c"[":
            self.read_word()
            return 0
        if self.skip_depth == MAX_SKIP_DEPTH:
            self.fail_at(self.position, f"a value is nested deeper than {MAX_SKIP_DEPTH} levels")
        self.skip_depth += 1
        self.position += 1
        while self.has_more(c"}" if c == c"{" else c"]", is_first, "a value"):
            is_first = False
            if c == c"{":
                if self.next_character() == c'"' or self.text[self.position] == c"'":
                    self.read_quoted(&begin, &in_scratch)
                    self.scratch_size = scratch
                else:
                    self.read_word()
                self.expect(c":", "behind a name")
            self.skip_value()
        self.skip_depth -= 1
        return 0

    # Scalars

    cdef int read_scalar(self, const Field* field, uint8_t kind, object function, uint64_t* bits) except -1:
        """Reads a number, a literal or the name of an enumerator, with or without quotes."""
        cdef Py_ssize_t begin = 0, size, scratch = self.scratch_size
        cdef bint in_scratch = False
        cdef const uint8_t* p
        cdef uint8_t c = self.next_character()
        cdef EnumLayout enum = None
        if c == c'"' or c == c"'":
            size = self.read_quoted(&begin, &in_scratch)
            self.scratch_size = scratch
            p = self.text_at(begin, in_scratch)
            if function is not None:
                bits[0] = fnv(function, p, size) & mask_of(kind)
                return 0
            while size and is_space(p[0]):
                p += 1
                begin += 1
                size -= 1
            while size and is_space(p[size - 1]):
                size -= 1
            if in_scratch and kind >= FLOAT:
                self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}")
        else:
            size = self.read_word()
            begin = self.token
            p = self.text + begin
        if kind >= FLOAT:
            return self.read_float(kind, begin, size, bits)
        if may_be_enum(kind) and field.index >= 0:
            enum = self.layout.enums[field.index]
        if size and (is_letter(p[0]) or p[0] >= 0x80):
            if enum is not None:
                return self.read_name(kind, enum, p, size, bits)
            if kind == BOOL:
                if is_word(p, size, b"true", 4) or is_word(p, size, b"false", 5):
                    bits[0] = (p[0] | 0x20) == c"t"
                    return 0
        return self.read_integer(kind, p, size, bits)

    cdef int read_name(
        self, uint8_t kind, EnumLayout enum, const uint8_t* p, Py_ssize_t size, uint64_t* bits
    ) except -1:
        """The value of an enumerator, or of several flags."""
        cdef str name = PyUnicode_DecodeUTF8(<const char*>p, size, NULL)
        number = enum.by_name.get(name)
        pack_scalar(kind, enum, name if number is None else number, bits)
        return 0

    cdef int read_integer(self, uint8_t kind, const uint8_t* p, Py_ssize_t size, uint64_t* bits) except -1:
        cdef Py_ssize_t i = 0
        cdef uint64_t number = 0, most
        cdef bint negative = False
        cdef int digit, base = 10
        if size and (p[0] == c"-" or p[0] == c"+"):
            negative = p[0] == c"-"
            i = 1
        if size > i + 2 and p[i] == c"0" and (p[i + 1] | 0x20) == c"x":
            base = 16
            i += 2
        if i == size:
            self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}")
        # The largest absolute value.
        if kind == ULONG:
            most = 0 if negative else ~<uint64_t>0
        elif kind == BOOL:
            most = ~<uint64_t>0
        elif negative:
            most = <uint64_t>0 - <uint64_t>least_of(kind)
        else:
            most = <uint64_t>most_of(kind)
        while i < size:
            digit = hexadecimal(p[i])
            if not 0 <= digit < base:
                self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}")
            if most < <uint64_t>digit or number > (most - <uint64_t>digit) // <uint64_t>base:
                self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}, {NUMBER_RANGES[kind]}")
            number = number * <uint64_t>base + <uint64_t>digit
            i += 1
        if kind == BOOL:
            # flatc takes any number.
            number = number != 0
        bits[0] = (<uint64_t>0 - number if negative else number) & mask_of(kind)
        return 0

    cdef int read_float(self, uint8_t kind, Py_ssize_t begin, Py_ssize_t size, uint64_t* bits) except -1:
        """Reads the number whose text begins at `begin`."""
        cdef const uint8_t* p = self.text + begin
        cdef Py_ssize_t i = 0, point = 0, digits = 0, exponent = 0
        cdef uint64_t number = 0
        cdef bint negative = False, is_exact = True
        cdef char* end = NULL
        cdef double value = 0
        cdef float narrow, other
        cdef uint32_t low = 0
        if size and (p[0] == c"-" or p[0] == c"+"):
            negative = p[0] == c"-"
            i = 1
        if size > i and is_letter(p[i]):
            if not is_word(p + i, size - i, b"nan", 3) and not is_word(p + i, size - i, b"inf", 3) and (
                not is_word(p + i, size - i, b"infinity", 8)
            ):
                self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}")
            value = float((<const char*>p)[:size].decode())
        elif size > i + 2 and p[i] == c"0" and (p[i + 1] | 0x20) == c"x":
            try:
                value = float.fromhex((<const char*>p)[:size].decode())
            except (ValueError, OverflowError):
                self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}")
        else:
            # Few digits and a small power of ten: both are exact, so that one operation rounds once.
            while i < size and (is_digit(p[i]) or p[i] == c"." and not point):
                if p[i] == c".":
                    point = i + 1
                else:
                    digits += 1
                    if number > MAX_EXACT // 16:
                        is_exact = False
                    else:
                        number = number * 10 + (p[i] - c"0")
                        if point:
                            exponent -= 1
                i += 1
            if not digits:
                self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}")
            if i == size and is_exact and exponent >= -22:
                value = <double>number / POWERS[-exponent]
                if negative:
                    value = -value
            else:
                if i < size and (p[i] | 0x20) != c"e":
                    self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}")
                # It stops at the end of the token: what follows is no part of a number, or the zero byte.
                value = PyOS_string_to_double(<const char*>p, &end, NULL)
                if <const uint8_t*>end != p + size:
                    self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}")
                if isinf(value):
                    self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}, {NUMBER_RANGES[kind]}")
        if kind == DOUBLE:
            memcpy(bits, &value, 8)
            return 0
        narrow = <float>value
        if isinf(narrow) and not isinf(value):
            self.fail_at(self.token, f"expected {NUMBER_NAMES[kind]}, {NUMBER_RANGES[kind]}")
        if <double>narrow != value and value == value:
            other = nextafterf(narrow, <float>1e39 if <double>narrow < value else <float>-1e39)
            if (<double>narrow + <double>other) / 2 == value:
                # In the middle between two floats, as a double: which one is nearer depends on the digits behind.
                order = order_of((<const char*>p)[:size].decode(), value)
                if order and (order > 0) == (other > narrow):
                    narrow = other
        memcpy(&low, &narrow, 4)
        bits[0] = low
        return 0

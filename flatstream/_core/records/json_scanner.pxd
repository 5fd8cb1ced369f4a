cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from flatstream._core.flatbuf.layout cimport EnumLayout
from flatstream._core.flatbuf.verifier cimport Field
from flatstream._core.records.record_builder cimport RecordBuilder


cdef inline bint is_space(uint8_t c) noexcept:
    return c == c" " or c == c"\n" or c == c"\r" or c == c"\t"


cdef inline bint is_digit(uint8_t c) noexcept:
    return c"0" <= c <= c"9"


cdef inline bint is_letter(uint8_t c) noexcept:
    return c"a" <= (c | 0x20) <= c"z" or c == c"_"


cdef class JsonScanner(RecordBuilder):
    # The text being read: `size` bytes of UTF-8, with a zero byte behind them. NULL between two texts.
    cdef const uint8_t* text
    cdef Py_ssize_t size
    # The byte that is read next, and the first byte of the current value.
    cdef Py_ssize_t position
    cdef Py_ssize_t token
    # How many objects and arrays the skipped value is nested.
    cdef Py_ssize_t skip_depth

    # Characters
    cdef int fail_at(self, Py_ssize_t position, str reason) except -1
    cdef str shown(self, Py_ssize_t position)
    cdef uint8_t skip_comments(self) except? 0
    cdef bint take_null_word(self) except -1
    cdef Py_ssize_t read_word(self) except -1
    cdef Py_ssize_t read_quoted(self, Py_ssize_t* begin, bint* in_scratch) except -1
    cdef Py_ssize_t unescape(self, Py_ssize_t begin, uint8_t quote) except -1
    cdef int push_character(self, uint32_t code) except -1
    cdef uint32_t read_hex(self, int digits) except? 0
    cdef int skip_value(self) except -1
    # Scalars
    cdef int read_scalar(self, const Field* field, uint8_t kind, object function, uint64_t* bits) except -1
    cdef int read_integer(self, uint8_t kind, const uint8_t* p, Py_ssize_t size, uint64_t* bits) except -1
    cdef int read_float(self, uint8_t kind, Py_ssize_t begin, Py_ssize_t size, uint64_t* bits) except -1
    cdef int read_name(self, uint8_t kind, EnumLayout enum, const uint8_t* p, Py_ssize_t size, uint64_t* bits) except -1

    # Here, so that the compiler puts them into the functions of `JsonReader`.

    @cython.final
    cdef inline uint8_t next_character(self) except? 0:
        """Skips white space and comments; returns the character behind them, which is at `position`: 0 at the end."""
        while is_space(self.text[self.position]):
            self.position += 1
        if self.text[self.position] == c"/":
            return self.skip_comments()
        return self.text[self.position]

    @cython.final
    cdef inline const uint8_t* text_at(self, Py_ssize_t begin, bint in_scratch) noexcept:
        """What `read_quoted` found. The address is valid until something is put into `scratch`."""
        if in_scratch:
            return self.scratch + begin
        return self.text + begin

    @cython.final
    cdef inline int expect(self, uint8_t character, str where) except -1:
        if self.next_character() != character:
            self.fail_at(self.position, f"expected {chr(character)!r} {where}")
        self.position += 1
        return 0

    @cython.final
    cdef inline bint has_more(self, uint8_t bracket, bint is_first, str what) except -1:
        """Reads what is between two members or elements; returns whether there is another one, or else the closing
        bracket was read. A comma may stand behind the last one.
        """
        cdef uint8_t found = self.next_character()
        if not is_first and found != bracket:
            if found != c",":
                self.fail_at(self.position, f"expected ',' or {chr(bracket)!r} behind {what}")
            self.position += 1
            found = self.next_character()
        if found == bracket:
            self.position += 1
            return False
        return True

    @cython.final
    cdef inline bint take_null(self) except -1:
        """Reads null, if it is what follows; returns whether it was."""
        return self.next_character() == c"n" and self.take_null_word()

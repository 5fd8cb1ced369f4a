# cython: boundscheck=False, wraparound=False
"""Records from columns: a message of each row, built and framed in one loop.

    columns ── Source: where the bytes of each column are, whoever's they are (see arrow_import)
       │
       ▼
    Plan: a tree of steps, each of which takes one column to one field; everything that can be wrong with names and
       │  types is found here, before anything is written
       ▼
    rows: of tables with nothing but scalars and structs in them, a copy of a `Template` with the values stored into
          it, in the encoder's own buffer; of others, what the `MessageBuilder` makes

A row is read, built and then accepted by the encoder as a whole, so that a row with a bad value leaves nothing behind.
Every offset of a list or string is compared with the size of what it leads into each time that it is followed: what
belongs to somebody else may change while a sink is written to.
"""

from collections.abc import Mapping

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport isinf
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.importer cimport BITS, NUMBERS, STRUCT, Column, Source
from flatstream._core.base.buffers cimport grow
from flatstream._core.base.endian cimport load_u16, load_u32, load_u64, store_le
from flatstream._core.column_writer.plan cimport (
    TAKE_SCALAR, TAKE_STRING, TAKE_STRUCT, TAKE_TABLE, TAKE_UNION, TAKE_UNIONS, TAKE_VECTOR, ColumnPlan, Step,
)
from flatstream._core.column_writer.sources cimport MOST_ROWS, Feed, as_input, grouped, has_arrow, measure, open_feed
from flatstream._core.column_writer.values cimport (
    bit_at, bytes_range, extended, is_text, list_range, load_number, number_at, resolve, width_of, wrong_utf8,
)
from flatstream._core.flatbuf.kinds cimport BOOL, DOUBLE, FLOAT, ULONG, least_of, most_of
from flatstream._core.flatbuf.layout cimport EnumLayout, Layout
from flatstream._core.flatbuf.message_builder cimport MAX_MESSAGE_SIZE, MessageBuilder, end_offset_of, mark_field
from flatstream._core.flatbuf.scalars cimport pack_scalar
from flatstream._core.flatbuf.template cimport (
    MAX_MASKED_FIELDS, CacheEntry, TemplateCache, find_template, make_template_cache,
)
from flatstream._core.framing.framer cimport FrameRun, end_frame, payload_room
from flatstream._core.stream.encoder cimport Encoder

from flatstream._core.flatbuf.kinds import NUMBER_NAMES, NUMBER_RANGES
from flatstream._core.flatbuf.scalars import RefusalError


cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# More templates than that are not kept.
cdef Py_ssize_t MAX_TEMPLATES = 4096

cdef enum:
    CODE_KNOWN
    CODE_NULL
    CODE_UNKNOWN


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
    elif what or value < least_of(step.kind) or value > most_of(step.kind):
        return -1
    bits[0] = <uint64_t>value
    if step.width < 8:
        bits[0] &= (<uint64_t>1 << (8 * step.width)) - 1
    return 1


cdef inline int take_quick(const Step* step, int64_t row, uint64_t* bits) noexcept nogil:
    """The bytes of a scalar: 1, or 0 if it is null, or -1 if that is for `Rows.take` to say."""
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


cdef bint fill_quick(const Step* step, int64_t row, uint8_t* out) noexcept nogil:
    """Stores the fields of a struct; False if that is for `Rows.fill` to do."""
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


@cython.final
@cython.no_gc
cdef class Rows(ColumnPlan):
    """Messages from the rows of the columns of a plan."""
    cdef bytes identifier
    # Rows before the current window, and the row of it that is being made.
    cdef int64_t done
    cdef int64_t row
    cdef MessageBuilder builder
    # Places of elements whose vectors are not written yet.
    cdef Py_ssize_t* places
    cdef Py_ssize_t place_count
    cdef Py_ssize_t place_capacity
    # The row, for the types of the vector of unions that is being built.
    cdef int64_t unions_row
    # Templates by the mask of the steps that are present; None if the table has other fields than scalars and structs.
    cdef TemplateCache templates
    # The mask of the row that is looked at, and its template; NULL if that is not made yet.
    cdef uint64_t mask
    cdef const CacheEntry* template

    def __dealloc__(self):
        PyMem_RawFree(self.places)

    # Errors

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
        given = <object>value
        if what == 1:
            given = <object><uint64_t>value
        elif what == 2:
            given = <object>real
        self.refuse(step, ValueError, f"expected {NUMBER_NAMES[step.kind]}, {NUMBER_RANGES[step.kind]}, got {given!r}")

    cdef int look_up(self, Step* step, str name, uint64_t* bits) except -1:
        cdef EnumLayout known = self.layout.enums[step.enumeration]
        try:
            # A number that has no name may be given as such: that is how it comes out as one of a dictionary.
            pack_scalar(step.kind, known, int(name) if is_decimal(name) else name, bits)
        except RefusalError as refusal:
            error, text = refusal.args
            self.refuse(step, error, text)
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
        if size > MAX_MESSAGE_SIZE:
            self.refuse(step, ValueError, f"{size} bytes are too many for a message")
        wrong = wrong_utf8(text, size)
        if wrong >= 0:
            self.refuse(step, ValueError, f"it is not UTF-8: see its byte {wrong}")
        return self.builder.put_string(text, size)

    cdef int start_vector(self, Step* step, int64_t count) except -1:
        """Makes room for `count` elements and aligns them."""
        if count > MAX_MESSAGE_SIZE or count * <int64_t>step.element_size > MAX_MESSAGE_SIZE:
            self.refuse(step, ValueError, f"{count} elements are too many for a message")
        return self.builder.start_vector(count * step.element_size, step.element_alignment)

    cdef Py_ssize_t build_vector(self, Step* step, const Column* column, int64_t at) except -1:
        cdef MessageBuilder builder = self.builder
        cdef const uint8_t* data = NULL
        cdef int64_t start = 0, count = 0, i
        cdef Step* child = step.children
        cdef const Column* inner
        cdef uint8_t* elements
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
                    # Filling it moves no memory.
                    elements = builder.store_zeros(size)
                    for i in range(count):
                        child.element = i
                        self.fill_part(child, start + i, elements + i * step.element_size)
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
                    builder.store_offset(self.places[base + i])
                self.place_count = base
        return builder.end_vector(count)

    cdef int keep_place(self, Py_ssize_t place) except -1:
        """Notes a number for later, on top of those that are noted already."""
        if self.place_count == self.place_capacity:
            self.places = <Py_ssize_t*>grow(
                self.places, &self.place_capacity, self.place_count + 1, sizeof(Py_ssize_t), "elements of vectors"
            )
        self.places[self.place_count] = place
        self.place_count += 1
        return 0

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
        cdef MessageBuilder builder = self.builder
        cdef Step* child = step.children
        cdef const Column* types
        cdef int64_t start = 0, count = 0, types_at = 0, types_start = 0, types_count = 0, i
        cdef uint64_t code = 0
        cdef Py_ssize_t base = self.place_count
        if list_range(column, at, &start, &count) < 0:
            self.refuse(step, ValueError, "its offsets lead outside of its elements")
        if step.type is not NULL:
            types = step.type.column
            if resolve(&types, self.unions_row, &types_at) == 1:
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
        if count and step.type is not NULL:
            # A column of types that is nothing but null has none; but then there are no values either.
            step.type.children.element = -1
        builder.start_vector(count, 1)
        for i in range(count - 1, -1, -1):
            builder.store(<uint64_t>self.places[base + 2 * i + 1], 1)
        step.bits = <uint64_t>builder.end_vector(count)
        self.start_vector(step, count)
        for i in range(count - 1, -1, -1):
            if self.places[base + 2 * i]:
                builder.store_offset(self.places[base + 2 * i])
            else:
                builder.store(0, 4)
        self.place_count = base
        return builder.end_vector(count)

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
        return end_offset_of(self.builder)

    cdef int place_struct(self, Step* step, int64_t row) except -1:
        """Puts a struct in front of the message."""
        # Filling it moves no memory.
        return self.fill(step, row, self.builder.put_struct(step.size, step.alignment))

    cdef int missing(self, Step* step) except -1:
        return self.refuse(step, ValueError, "it is null, and the schema requires it")

    cdef Py_ssize_t build_table(self, Step* step, int64_t row) except -1:
        """Builds a table from the row of its parts."""
        cdef MessageBuilder builder = self.builder
        cdef Step* child
        cdef Py_ssize_t i, count = 0
        cdef uint64_t bits = 0
        cdef bint typed = False
        for i in range(step.child_count):
            child = &step.children[i]
            count = max(count, child.slot + 1)
            if child.action >= TAKE_STRING:
                child.result = self.build_offset(child, row)
                if not child.result and child.required:
                    self.missing(child)
                if child.action == TAKE_UNION or child.action == TAKE_UNIONS:
                    typed = True
                    count = max(count, child.type_slot + 1)
        builder.start_table(count)
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
                builder.put_offset(child.result)
                if child.action == TAKE_UNIONS:
                    # The vector of its types.
                    mark_field(builder, child.slot)
                    builder.put_offset(<Py_ssize_t>child.bits)
                    mark_field(builder, child.type_slot)
                    continue
            else:
                continue
            mark_field(builder, child.slot)
        if typed:
            for i in range(step.child_count):
                child = &step.children[i]
                if child.action == TAKE_UNION and child.result:
                    builder.store(child.bits, 1)
                    mark_field(builder, child.type_slot)
        return builder.end_table()

    cdef int write_row(self, Encoder encoder, int64_t row) except -1:
        """Builds the message of a row and has the encoder take it."""
        cdef MessageBuilder builder = self.builder
        cdef const Column* column = self.root.column
        cdef int64_t at = row
        if column is not NULL and resolve(&column, row, &at) != 1:
            self.refuse(&self.root, ValueError, "it is null, and no message can be")
        builder.clear()
        self.place_count = 0
        builder.finish_message(self.build_table(&self.root, at), self.identifier)
        return encoder.put_builder(builder, False)

    # Rows of tables with nothing but scalars and structs

    cdef int prepare_templates(self) except -1:
        cdef Py_ssize_t i
        cdef int32_t[MAX_MASKED_FIELDS] fields
        if self.root.child_count > MAX_MASKED_FIELDS:
            return 0
        for i in range(self.root.child_count):
            if self.root.children[i].action > TAKE_STRUCT:
                return 0
            fields[i] = self.root.children[i].field
        self.templates = make_template_cache(
            self.layout, self.number, self.identifier, fields, self.root.child_count, MAX_TEMPLATES
        )
        return 0

    cdef int64_t fill_run(self, FrameRun* run, int64_t row, int64_t rows) noexcept:
        """Makes frames of rows in place; returns the first that it left.

        It leaves a row if there is no room, if something is wrong with it, and if no template for it is there yet: then
        `template` is NULL, and `mask` says for what. No Python code runs in here.
        """
        cdef Step* steps = self.root.children
        cdef Step* step
        cdef Py_ssize_t i, count = self.root.child_count, size
        cdef uint64_t mask, bits = 0
        cdef int64_t at, base = self.root.column.offset if self.root.column is not NULL else 0
        cdef const uint8_t* data
        cdef const int32_t* offsets
        cdef uint8_t* out
        cdef int there
        if self.template is NULL:
            return row
        data = self.template.data
        size = self.template.size
        offsets = self.template.offsets
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
                self.template = find_template(self.templates, mask)
                if self.template is NULL:
                    return row
                data = self.template.data
                size = self.template.size
                offsets = self.template.offsets
            out = payload_room(run, size)
            if out is NULL:
                return row
            memcpy(out, data, <size_t>size)
            for i in range(count):
                if not mask >> i & 1:
                    continue
                step = &steps[i]
                if step.action == TAKE_SCALAR:
                    store_le(out + offsets[i], step.bits, step.width)
                elif not fill_quick(step, at, out + offsets[i]):
                    return row
            end_frame(run, size)
            row += 1
        return row

    cdef int write_rows(self, Encoder encoder, int64_t rows) except -1:
        """Writes the rows of the current window."""
        cdef FrameRun run
        cdef const Column* column = self.root.column
        # A row that is null, or in a dictionary, is for the builder.
        cdef bint flat = self.templates is not None and (
            column is NULL or column.form == STRUCT and column.validity is NULL
        )
        self.row = 0
        self.prepare_codes()
        while self.row < rows:
            if flat:
                if self.template is NULL:
                    self.template = self.templates.add(self.mask)
                if encoder.begin_run(&run):
                    self.row = self.fill_run(&run, self.row, rows)
                    encoder.end_run(&run)
                    if self.row == rows or self.template is NULL:
                        continue
            try:
                self.write_row(encoder, self.row)
            except BaseException:
                # The sink may have the beginning of its frame, of which the rest waits: then it is written.
                self.row += encoder.frame_committed
                raise
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


cdef bint is_decimal(str name):
    digits = name.removeprefix("-")
    return len(digits) < 21 and digits.isascii() and digits.isdigit()


cpdef object write_columns(Encoder encoder, Layout layout, object number, object columns, bytes identifier=b"",
                           bint force_defaults=False):
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
    force_defaults : bool
        Whether values that are the default are stored as well.

    Returns
    -------
    int
        How many messages were written.

    Raises
    ------
    TypeError, ValueError
        The columns are not those of the table. Nothing was written.
    ValueError
        A value is wrong. The rows before its own were written; every error has their number as ``rows_written``.
    """
    cdef Rows plan = Rows.__new__(Rows)
    if encoder is None or layout is None or identifier is None:
        raise TypeError("write_columns needs an encoder, a layout and an identifier")
    if len(identifier) not in (0, 4):
        raise ValueError(f"a file identifier has four bytes, got {identifier!r:.100}")
    encoder.check_open()
    plan.number = layout.check_table(number)
    plan.layout = layout
    plan.types = layout.types
    plan.identifier = identifier
    plan.force_defaults = force_defaults
    plan.builder = MessageBuilder(1024)
    try:
        plan.start(take_columns(columns))
        plan.prepare_templates()
        plan.write_all(encoder)
    except BaseException as error:
        error.rows_written = plan.done + plan.row
        raise
    return plan.done


cdef object take_columns(object columns):
    """A Feed that gives a table, or a dict of what columns are made of, all of the same length."""
    cdef list lengths = []
    if has_arrow(columns):
        return open_feed("", columns)
    if isinstance(columns, Mapping):
        inputs = grouped(columns, 0)
    elif getattr(getattr(columns, "dtype", None), "names", None):
        inputs = as_input("", columns, 0)
    else:
        raise TypeError(
            "columns must be a mapping of names to arrays, or have the Arrow C data interface, got "
            f"{type(columns).__name__}" + (": collect() it first" if hasattr(columns, "collect") else "")
        )
    measure(inputs, "", lengths)
    if not lengths:
        raise ValueError("there are no columns, so it is not known how many rows there are")
    for name, length in lengths:
        if length != lengths[0][1]:
            raise ValueError(
                f"all columns must have the same length: {lengths[0][0]!r} has {lengths[0][1]} rows and {name!r} "
                f"{length}"
            )
    return inputs

# cython: boundscheck=False, wraparound=False
"""Builds messages from JSON text, as the schema requires. What is accepted is what ``flatc --binary`` accepts.

The text is read once, from its first byte to its last, and the parts of the message are built on the way: strings,
vectors and inner tables at once, and a table when its closing brace is reached. The stacks are those of
`RecordBuilder`, and `JsonScanner` reads the text.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from flatstream._core.base.buffers cimport grow
from flatstream._core.base.checks cimport listed
from flatstream._core.base.endian cimport load_le, load_u16, load_u32, store_le
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.flatbuf.kinds cimport NOTHING, OBJECT, STRING, UNION, VECTOR, is_scalar, scalar_width
from flatstream._core.flatbuf.layout cimport FieldLayout, Layout
from flatstream._core.flatbuf.message_builder cimport Checkpoint, MessageBuilder
from flatstream._core.flatbuf.verifier cimport Field, Variant, find_not_utf8, find_variant
from flatstream._core.records.json_scanner cimport JsonScanner, is_digit, is_letter
from flatstream._core.records.json_types cimport JsonField, JsonTypes
from flatstream._core.records.record_builder cimport RecordBuilder, checked_builder
from flatstream._core.records.record_numbers cimport number_from_bits

from flatstream._core.flatbuf.scalars import RefusalError
from flatstream.errors import JsonError


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    void PyMem_RawFree(void* p) nogil

# The most tables inside one another, as in `RecordBuilder`.
cdef Py_ssize_t MAX_TABLE_DEPTH = 64


@cython.final
@cython.auto_pickle(False)
cdef class JsonReader(JsonScanner):
    """Builds messages of one table from JSON text; for the parameters see `RecordBuilder`."""

    def __init__(
        self, Layout layout not None, number, *, bytes file_identifier not None=b"", bint force_defaults=False
    ):
        RecordBuilder.__init__(self, layout, number, file_identifier=file_identifier, force_defaults=force_defaults)
        self.names = JsonTypes(layout)
        self.numbers = [None] * layout.object_count

    def __dealloc__(self):
        PyMem_RawFree(self.seen)

    def _encode_json(
        self, builder, text, *, bytes file_identifier not None=b"", bint force_defaults=False, unknown="raise"
    ):
        """Builds the record that a JSON text describes with `builder`, and finishes the message.

        Returns
        -------
        int
            The index in ``builder.Bytes`` at which the message begins, as from ``Finish``.

        Raises
        ------
        JsonError
            The text is no JSON, or no record of the table. The builder is as it was before the call.
        FlatbufferError
            The builder holds a finished message, or one that is being built.
        """
        cdef MessageBuilder target, own
        cdef Checkpoint checkpoint
        cdef int64_t root, wrong
        cdef Py_ssize_t size = 0
        cdef const uint8_t* data
        target = checked_builder(builder)
        if not isinstance(unknown, str) or unknown not in ("raise", "skip"):
            raise ValueError(f"unknown must be 'raise' or 'skip', got {unknown!r:.100}")
        self.check_made()
        if self.names is None or self.numbers is None:
            raise ValueError(f"this {type(self).__name__} is uninitialized: its __init__ did not finish")
        # In both cases a zero byte follows the text, and the object does not change.
        if type(text) is str:
            try:
                data = <const uint8_t*>PyUnicode_AsUTF8AndSize(text, &size)
            except UnicodeEncodeError as error:
                raise JsonError(f"expected text, got a lone surrogate at index {error.start}") from None
        elif isinstance(text, str):
            return self._encode_json(
                builder, str.__str__(text), file_identifier=file_identifier, force_defaults=force_defaults,
                unknown=unknown,
            )
        else:
            if type(text) is not bytes:
                text = bytes(memoryview(text))
            data = <const uint8_t*><const char*>text
            size = len(<bytes>text)
        target.set_checkpoint(&checkpoint)
        self.enter()
        own = self.builder
        try:
            self.text = data
            self.size = size
            self.position = self.token = self.skip_depth = 0
            self.skips_unknown = unknown == "skip"
            self.identifier = file_identifier
            self.force_defaults = force_defaults
            self.builder = target
            wrong = find_not_utf8(data, <uint64_t>size)
            if wrong >= 0:
                self.fail_at(<Py_ssize_t>wrong, "the text is not UTF-8")
            if size >= 3 and memcmp(data, b"\xef\xbb\xbf", 3) == 0:
                # A byte order mark.
                self.position = 3
            if self.next_character() != c"{":
                self.fail_at(self.position, "expected an object")
            root = self.read_table(self.number)
            if self.next_character():
                self.fail_at(self.position, "expected the end of the text")
            if self.position < size:
                self.fail_at(self.position, "expected the end of the text")
            return target.finish_message(root, self.identifier)
        except RefusalError as error:
            target.roll_back(&checkpoint)
            self.fail_at(self.token, error.args[1])
        except BaseException:
            target.roll_back(&checkpoint)
            raise
        finally:
            self.builder = own
            self.text = NULL
            self.clear_stacks()
            self.seen_size = 0
            self.leave()

    # Members of objects

    cdef int32_t read_key(self, int32_t index, int32_t expected) except -2:
        """Reads the name of a member and the colon behind it; returns the number of the field, or -1 if the object has
        no such field. `expected` is the number of the field that often comes next.
        """
        cdef uint8_t c = self.next_character()
        cdef Py_ssize_t begin = 0, size = 0, scratch = self.scratch_size
        cdef bint in_scratch = False
        cdef int32_t i
        if c == c'"' or c == c"'":
            size = self.read_quoted(&begin, &in_scratch)
        elif is_letter(c):
            begin = self.token = self.position
            while is_letter(self.text[self.position]) or is_digit(self.text[self.position]):
                self.position += 1
            size = self.position - begin
        else:
            self.fail_at(self.position, "expected the name of a field")
        i = self.find_key(index, expected, self.text_at(begin, in_scratch), size)
        self.scratch_size = scratch
        if i < 0 and not self.skips_unknown:
            self.fail_at(self.token, f"{self.layout.object_names[index]} has no such field")
        self.expect(c":", "behind the name of a field")
        return i

    cdef int32_t find_key(self, int32_t index, int32_t expected, const uint8_t* name, Py_ssize_t size) except -2:
        cdef const JsonField* fields = self.names.objects[index]
        cdef Py_ssize_t count = self.layout.types.objects[index].field_count
        cdef int32_t i
        # Texts mostly have the order of the schema, and leave some fields out. The key is in quotes, with a colon.
        for i in range(expected, <int32_t>min(<Py_ssize_t>expected + 8, count)):
            if fields[i].key_size == size + 3 and memcmp(fields[i].key + 1, name, <size_t>size) == 0:
                return i
        numbers = self.numbers[index]
        if numbers is None:
            numbers = {field.encode(): number for number, field in enumerate(self.layout.field_names[index])}
            self.numbers[index] = numbers
        found = (<dict>numbers).get(PyBytes_FromStringAndSize(<const char*>name, size))
        return -1 if found is None else found

    cdef Py_ssize_t push_seen(self, Py_ssize_t count) except -1:
        cdef Py_ssize_t base = self.seen_size
        if base + count > self.seen_capacity or self.seen is NULL:
            self.seen = <uint8_t*>grow(self.seen, &self.seen_capacity, base + count, 1, "fields of a record")
        memset(self.seen + base, 0, <size_t>count)
        self.seen_size = base + count
        return base

    cdef object hash_of(self, int32_t index, int32_t i):
        """The name of the function by which a string becomes the number of this field, or None."""
        return self.layout.hashes.get((index, i)) if self.layout.hashes else None

    cdef int mark_seen(self, Py_ssize_t base, int32_t index, int32_t i) except -1:
        if self.seen[base + i]:
            self.fail_at(self.token, "the field is there twice")
        self.seen[base + i] = 1
        return 0

    # Tables

    cdef int64_t read_table(self, int32_t index) except -1:
        """Reads an object, or an array with a value for each field, and builds the table; returns its end offset."""
        cdef Py_ssize_t base, seen, cells = self.cell_count, scratch = self.scratch_size
        cdef Py_ssize_t count = self.layout.types.objects[index].field_count
        cdef uint8_t bracket = self.next_character()
        cdef int32_t i = -1
        cdef bint is_first = True
        cdef int64_t end_offset
        cdef const Field* field
        cdef dict waiting = None
        if bracket != c"{" and bracket != c"[":
            self.fail_at(self.position, f"expected an object of {self.layout.object_names[index]}")
        if self.table_count == MAX_TABLE_DEPTH:
            self.fail_at(self.position, f"tables are nested deeper than {MAX_TABLE_DEPTH}, the limit of verifiers")
        self.position += 1
        self.table_count += 1
        base = self.push_cells(count)
        seen = self.push_seen(count)
        self.push_step(index)
        while self.has_more(c"}" if bracket == c"{" else c"]", is_first, "a field"):
            is_first = False
            self.steps[self.depth - 1].field = -1
            self.steps[self.depth - 1].element = -1
            if bracket == c"{":
                i = self.read_key(index, i + 1)
                if i < 0:
                    self.skip_value()
                    continue
            else:
                i += 1
                if i == count:
                    self.fail_at(self.position, f"expected {count} values for {self.layout.object_names[index]}")
            self.steps[self.depth - 1].field = i
            self.mark_seen(seen, index, i)
            field = &self.layout.types.objects[index].fields[i]
            if (field.kind == UNION or field.kind == VECTOR and field.element == UNION) and not self.seen[
                seen + self.layout.objects[index].fields[i].paired_field
            ]:
                # The type comes later: then the value is read.
                if waiting is None:
                    waiting = {}
                self.next_character()
                waiting[i] = self.position
                self.skip_value()
                continue
            self.read_member(index, i, base)
        if bracket == c"[" and i + 1 != count:
            self.fail_at(self.position, f"expected {count} values for {self.layout.object_names[index]}")
        self.finish_fields(index, base, seen, waiting)
        end_offset = self.store_table(index, base)
        self.depth -= 1
        self.table_count -= 1
        self.cell_count = cells
        self.scratch_size = scratch
        self.seen_size = seen
        return end_offset

    cdef int finish_fields(self, int32_t index, Py_ssize_t base, Py_ssize_t seen, dict waiting) except -1:
        """Reads unions whose type came behind them, and checks that nothing is missing."""
        cdef Py_ssize_t behind = self.position
        cdef const Field* field
        cdef int32_t i, paired
        self.steps[self.depth - 1].element = -1
        if waiting is not None:
            for i, position in waiting.items():
                self.steps[self.depth - 1].field = i
                self.position = position
                self.read_member(index, i, base)
            self.position = behind
        for i in range(<int32_t>self.layout.types.objects[index].field_count):
            field = &self.layout.types.objects[index].fields[i]
            self.steps[self.depth - 1].field = i
            if field.required and not self.cells[base + i].present:
                self.fail_at(self.position, "a required field is missing")
            paired = self.layout.objects[index].fields[i].paired_field
            if paired < 0 or field.kind != UNION and field.element != UNION:
                continue
            if self.cells[base + paired].present and not self.cells[base + i].present:
                if field.kind == UNION and not self.cells[base + paired].bits:
                    # NONE, and no value: neither is stored.
                    self.cells[base + paired].present = False
                else:
                    self.fail_at(self.position, "the type of the union is there, but its value is missing")
        self.steps[self.depth - 1].field = -1
        return 0

    cdef int read_member(self, int32_t index, int32_t i, Py_ssize_t base) except -1:
        """Reads the value of a field into its cell."""
        cdef const Field* field = &self.layout.types.objects[index].fields[i]
        cdef const FieldLayout* layout = &self.layout.objects[index].fields[i]
        cdef uint64_t bits = 0
        cdef const Variant* variant
        cdef int32_t paired = layout.paired_field
        cdef Py_ssize_t start
        if self.take_null():
            return 0
        if is_scalar(field.kind):
            self.read_scalar(field, field.kind, self.hash_of(index, i), &bits)
            # The type of a union is stored with the union, whatever it is.
            if bits == layout.default_bits and not layout.always_stored and not self.force_defaults and paired < 0:
                return 0
        elif field.kind == UNION:
            if not self.cells[base + paired].present:
                self.fail_at(self.position, "the union has no type")
            variant = find_variant(&self.layout.types.unions[field.index], self.cells[base + paired].bits)
            if variant is NULL or variant.kind == NOTHING:
                self.fail_at(self.position, "expected null, because the type of the union has no value")
            bits = <uint64_t>self.read_child(variant.kind, variant.index)
        elif field.kind == OBJECT and self.layout.types.objects[field.index].is_struct:
            start = self.push_scratch(self.layout.types.objects[field.index].size)
            self.read_struct(field.index, start)
            bits = <uint64_t>start
        elif field.kind != VECTOR:
            bits = <uint64_t>self.read_child(field.kind, field.index)
        elif field.element == UNION:
            if not self.cells[base + paired].present:
                self.fail_at(self.position, "the vector of unions has no types")
            bits = <uint64_t>self.read_unions(index, i, <int64_t>self.cells[base + paired].bits)
        else:
            bits = <uint64_t>self.read_vector(index, i)
        self.cells[base + i].bits = bits
        self.cells[base + i].present = True
        return 0

    cdef int64_t read_child(self, uint8_t kind, int32_t index) except -1:
        """A part that is referred to by an offset: a string, a table, or a struct as the variant of a union."""
        cdef Py_ssize_t start, size
        cdef int64_t end_offset
        if kind == STRING:
            return self.read_string()
        if not self.layout.types.objects[index].is_struct:
            return self.read_table(index)
        size = self.layout.types.objects[index].size
        start = self.push_scratch(size)
        self.read_struct(index, start)
        self.builder.prep(self.layout.objects[index].alignment, size)
        self.builder.store_bytes(self.scratch + start, size)
        self.scratch_size = start
        end_offset = self.builder.capacity - self.builder._head
        return end_offset

    cdef int64_t read_string(self) except -1:
        cdef Py_ssize_t begin = 0, size, scratch = self.scratch_size
        cdef bint in_scratch = False
        cdef int64_t end_offset
        cdef uint8_t c = self.next_character()
        if c != c'"' and c != c"'":
            self.fail_at(self.position, "expected a string")
        size = self.read_quoted(&begin, &in_scratch)
        end_offset = self.builder.put_string(self.text_at(begin, in_scratch), size)
        self.scratch_size = scratch
        return end_offset

    cdef int64_t read_nested(self, int32_t index) except -1:
        """The bytes of a message, whose record is here."""
        cdef MessageBuilder outer = self.builder
        cdef MessageBuilder inner = Builder(256)
        cdef int64_t root
        cdef Py_ssize_t size = 0
        cdef const uint8_t* message
        self.builder = inner
        try:
            root = self.read_table(index)
            inner.finish_message(root, b"")
        finally:
            self.builder = outer
        message = inner.finished_bytes(&size)
        return outer.put_vector(message, size, inner._minalign, size)

    # Structs

    cdef int read_struct(self, int32_t index, Py_ssize_t start) except -1:
        """Reads a struct into `scratch`, where its bytes are 0."""
        cdef Py_ssize_t count = self.layout.types.objects[index].field_count, seen, found = 0
        cdef uint8_t bracket = self.next_character()
        cdef int32_t i = -1
        if bracket != c"{" and bracket != c"[":
            self.fail_at(self.position, f"expected an object of {self.layout.object_names[index]}")
        self.position += 1
        seen = self.push_seen(count)
        self.push_step(index)
        while self.has_more(c"}" if bracket == c"{" else c"]", not found and i < 0, "a field"):
            self.steps[self.depth - 1].field = -1
            self.steps[self.depth - 1].element = -1
            if bracket == c"{":
                i = self.read_key(index, i + 1)
                if i < 0:
                    self.skip_value()
                    i = 0
                    continue
            else:
                i += 1
                if i == count:
                    break
            self.steps[self.depth - 1].field = i
            self.mark_seen(seen, index, i)
            self.read_struct_field(index, i, start)
            found += 1
        if found != count or i == count:
            self.steps[self.depth - 1].field = -1
            names = self.layout.field_names[index]
            missing = [names[i] for i in range(count) if not self.seen[seen + i]]
            self.fail_at(
                self.position,
                f"a struct needs all of its fields, and {self.layout.object_names[index]} has no value for "
                f"{listed(missing)}" if missing else
                f"expected {count} values for struct {self.layout.object_names[index]}"
            )
        self.seen_size = seen
        self.depth -= 1
        return 0

    cdef int read_struct_field(self, int32_t index, int32_t i, Py_ssize_t start) except -1:
        cdef const Field* field = &self.layout.types.objects[index].fields[i]
        cdef const FieldLayout* layout = &self.layout.objects[index].fields[i]
        cdef uint64_t bits = 0
        cdef Py_ssize_t k = 0, count = layout.length
        start += field.offset
        if is_scalar(field.kind):
            self.read_scalar(field, field.kind, self.hash_of(index, i), &bits)
            store_le(self.scratch + start, bits, layout.size)
            return 0
        if field.kind == OBJECT:
            return self.read_struct(field.index, start)
        self.expect(c"[", "of an array")
        while self.has_more(c"]", k == 0, "an element"):
            if k == count:
                self.steps[self.depth - 1].element = -1
                self.fail_at(self.position, f"expected {count} elements")
            self.steps[self.depth - 1].element = k
            if field.element == OBJECT:
                self.read_struct(field.index, start + k * <Py_ssize_t>layout.element_size)
            else:
                self.read_scalar(field, field.element, None, &bits)
                store_le(self.scratch + start + k * <Py_ssize_t>layout.element_size, bits, layout.element_size)
            k += 1
        self.steps[self.depth - 1].element = -1
        if k != count:
            self.fail_at(self.position, f"{k} elements are there, and the array has {count}")
        return 0

    # Vectors

    cdef int64_t read_vector(self, int32_t index, int32_t i) except -1:
        """Reads a vector of anything but unions."""
        cdef const Field* field = &self.layout.types.objects[index].fields[i]
        cdef uint32_t alignment = self.layout.objects[index].fields[i].element_alignment
        cdef Py_ssize_t size = self.layout.objects[index].fields[i].element_size
        cdef Py_ssize_t count = 0, base = self.cell_count, start = self.scratch_size, place, depth = self.depth
        cdef bint is_struct = field.element == OBJECT and self.layout.types.objects[field.index].is_struct
        cdef bint in_place = is_struct or is_scalar(field.element)
        cdef uint64_t bits = 0
        cdef int64_t end_offset
        if self.names.objects[index][i].nested >= 0 and self.next_character() == c"{":
            return self.read_nested(self.names.objects[index][i].nested)
        self.expect(c"[", "of a vector")
        while self.has_more(c"]", count == 0, "an element"):
            self.steps[depth - 1].element = count
            if is_struct:
                place = self.push_scratch(size)
                self.read_struct(field.index, place)
            elif in_place:
                self.read_scalar(field, field.element, None, &bits)
                place = self.push_scratch(size)
                store_le(self.scratch + place, bits, size)
            else:
                end_offset = self.read_child(field.element, field.index)
                place = self.push_cells(1)
                self.cells[place].bits = <uint64_t>end_offset
            count += 1
        self.steps[depth - 1].element = -1
        if field.element == OBJECT and count > 1 and field.index in self.layout.keys:
            self.sort_by_key(field.index, start if is_struct else base, count)
        if in_place:
            return self.put_scratch_vector(start, count * size, alignment, count)
        return self.put_offset_vector(base, count, alignment)

    cdef int64_t read_unions(self, int32_t index, int32_t i, object types) except -1:
        """Reads a vector of unions. `types` is the end offset of the vector of their types."""
        cdef const Field* field = &self.layout.types.objects[index].fields[i]
        cdef Py_ssize_t width = self.layout.types.unions[field.index].type_width
        cdef Py_ssize_t count = 0, base = self.cell_count, place, depth = self.depth, known
        cdef int64_t types_offset = types, end_offset
        cdef const uint8_t* p
        cdef const Variant* variant
        # The vector begins with its length. Its address changes when the builder's buffer grows.
        known = load_u32(self.builder.data + self.builder.capacity - types_offset)
        self.expect(c"[", "of a vector")
        while self.has_more(c"]", count == 0, "an element"):
            self.steps[depth - 1].element = count
            if count == known:
                self.fail_at(self.position, f"more unions are there than types, {known}")
            p = self.builder.data + self.builder.capacity - types_offset + 4 + count * width
            variant = find_variant(&self.layout.types.unions[field.index], load_le(p, width))
            end_offset = 0
            if variant is NULL or variant.kind == NOTHING:
                # Such an element has no value: its offset is 0.
                if not self.take_null():
                    self.fail_at(self.position, "expected null, because the type of the union has no value")
            else:
                end_offset = self.read_child(variant.kind, variant.index)
            place = self.push_cells(1)
            self.cells[place].bits = <uint64_t>end_offset
            count += 1
        self.steps[depth - 1].element = -1
        if count != known:
            self.fail_at(self.position, f"{count} unions are there, and {known} types")
        return self.put_offset_vector(base, count, 4)

    cdef int sort_by_key(self, int32_t index, Py_ssize_t base, Py_ssize_t count) except -1:
        """Sorts tables, whose cells begin at `base`, or structs, which begin at `base` of `scratch`, by their key."""
        cdef Py_ssize_t k, size = self.layout.types.objects[index].size, field_number = self.layout.keys[index]
        cdef const Field* key = &self.layout.types.objects[index].fields[field_number]
        cdef bint is_struct = self.layout.types.objects[index].is_struct
        cdef list keys = []
        cdef list parts = []
        for k in range(count):
            if is_struct:
                parts.append(PyBytes_FromStringAndSize(<const char*>self.scratch + base + k * size, size))
                keys.append(number_from_bits(
                    key.kind, load_le(self.scratch + base + k * size + key.offset, scalar_width(key.kind))
                ))
            else:
                parts.append(self.cells[base + k].bits)
                keys.append(self.key_of(index, <int64_t>self.cells[base + k].bits))
        order = sorted(range(count), key=keys.__getitem__)
        for k in range(count):
            if is_struct:
                memcpy(self.scratch + base + k * size, <const char*>(<bytes>parts[order[k]]), <size_t>size)
            else:
                self.cells[base + k].bits = parts[order[k]]
        return 0

    cdef object key_of(self, int32_t index, int64_t end_offset):
        """The key of a table that was built: a number, or the bytes of a string."""
        cdef Py_ssize_t number = self.layout.keys[index]
        cdef const Field* key = &self.layout.types.objects[index].fields[number]
        cdef const uint8_t* table = self.builder.data + self.builder.capacity - end_offset
        cdef const uint8_t* vtable = table - <int32_t>load_u32(table)
        cdef const uint8_t* p = NULL
        if key.offset < load_u16(vtable) and load_u16(vtable + key.offset):
            p = table + load_u16(vtable + key.offset)
        if key.kind != STRING:
            return number_from_bits(
                key.kind,
                self.layout.objects[index].fields[number].default_bits if p is NULL
                else load_le(p, scalar_width(key.kind))
            )
        if p is NULL:
            return b""
        p += load_u32(p)
        return PyBytes_FromStringAndSize(<const char*>p + 4, load_u32(p))

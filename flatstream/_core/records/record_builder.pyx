# cython: boundscheck=False, wraparound=False
"""Builds messages from Python records, as the schema requires.

Values are read from the outermost record inwards, and the message is built from the innermost table outwards. `collect`
visits the fields of a table once: scalars become the bytes that are stored for them, structs are assembled in
`scratch`, and strings, vectors and other tables are built at once, because the table refers to them by an offset.
`store_table` then writes the table itself, the widest fields first, so that no bytes are lost to alignment; it runs no
Python code.
"""

cimport cython
from cpython.buffer cimport Py_buffer, PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_CheckBuffer
from cpython.buffer cimport PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from flatstream._core.base.buffers cimport exact_bytes, grow
from flatstream._core.base.checks cimport index_of, listed
from flatstream._core.base.endian cimport store_le
from flatstream._core.base.exclusive cimport Exclusive
from flatstream._core.flatbuf.builder cimport Builder
from flatstream._core.flatbuf.kinds cimport (
    NOTHING, OBJECT, STRING, UBYTE, UNION, UNION_TYPE, VECTOR, is_scalar, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, FieldLayout, Layout
from flatstream._core.flatbuf.message_builder cimport (
    MAX_MESSAGE_SIZE, Checkpoint, MessageBuilder, end_offset_of, mark_field,
)
from flatstream._core.flatbuf.scalars cimport (
    ElementClass, class_of_format, same_layout, store_elements, pack_exact, pack_scalar, UNKNOWN_CLASS,
)
from flatstream._core.flatbuf.verifier cimport Field, UnionType, Variant, find_not_utf8, find_variant
from flatstream._core.records.record_fields cimport (
    ObjectEncoding, buffer_of, elements_of, fail, field_values, integers_of_times, make_encoding, null_in, type_name,
)
from flatstream._core.records.record_view cimport RecordView

from flatstream._core.flatbuf.scalars import RefusalError
from flatstream.errors import FlatbufferError


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil

# The most tables inside one another, the root included: the default limit of verifiers. It also ends a record that
# contains itself.
cdef Py_ssize_t MAX_TABLE_DEPTH = 64
# The most steps of a path: inside of the tables, a schema nests at most 101 structs.
cdef Py_ssize_t MAX_PATH_STEPS = 64 + 101


cdef MessageBuilder checked_builder(object builder):
    """A caller's builder, in which a message can begin; TypeError or FlatbufferError otherwise."""
    cdef MessageBuilder target
    if type(builder) is not Builder:
        raise TypeError(f"builder must be a flatstream.Builder, got {type(builder).__name__}")
    target = builder
    target.check_made()
    if not target.is_idle():
        raise FlatbufferError(
            "the builder holds a finished message: call its Clear() first" if builder.finished
            else "the builder is in the middle of a table or a vector"
        )
    return target


@cython.auto_pickle(False)
cdef class RecordBuilder(Exclusive):
    """Builds records of one table into messages.

    Parameters
    ----------
    layout : Layout
        The layout of the schema.
    number : int
        The number of the table in the layout.
    file_identifier : bytes
        The four bytes that identify each message, or none.
    force_defaults : bool
        Whether values that equal the default are stored.
    """

    def __cinit__(self, *args, **kwargs):
        self.number = -1

    def __init__(
        self, Layout layout not None, number, *, bytes file_identifier not None=b"", bint force_defaults=False
    ):
        if self.steps is not NULL:
            raise TypeError(f"{type(self).__name__}.__init__ must not be called twice")
        if len(file_identifier) not in (0, 4):
            raise ValueError(f"a file identifier has four bytes, got {file_identifier!r:.100}")
        self.number = layout.check_table(number)
        if layout.types.prefix_size:
            raise ValueError(
                "a schema with size_prefixed=True reads messages only: load it again without to write records"
            )
        self.layout = layout
        self.builder = Builder(1024)
        self.identifier = file_identifier
        self.force_defaults = force_defaults
        self.encodings = [None] * layout.object_count
        self.steps = <PathStep*>PyMem_RawCalloc(<size_t>MAX_PATH_STEPS, sizeof(PathStep))
        if self.steps is NULL:
            raise MemoryError("no memory for the path of a value")

    def __dealloc__(self):
        PyMem_RawFree(self.steps)
        PyMem_RawFree(self.cells)
        PyMem_RawFree(self.scratch)

    cdef int check_made(self) except -1:
        # The garbage collector sets members to None when it breaks a cycle.
        if self.steps is NULL or self.layout is None or self.builder is None or self.encodings is None:
            raise ValueError(f"this {type(self).__name__} is uninitialized: its __init__ did not finish")
        return 0

    cdef ObjectEncoding encoding_of(self, int32_t index):
        encoding = self.encodings[index]
        if encoding is None:
            encoding = make_encoding(self.layout, index)
            self.encodings[index] = encoding
        return encoding

    def _encode(self, builder, record):
        """Builds a record with `builder` and finishes the message.

        Returns
        -------
        int
            The index in ``builder.Bytes`` at which the message begins, as from ``Finish``.

        Raises
        ------
        TypeError, ValueError
            See `write_record`. The builder is as it was before the call.
        FlatbufferError
            The builder holds a finished message, or one that is being built.
        """
        cdef MessageBuilder target, own
        cdef Checkpoint checkpoint
        cdef int64_t root
        target = checked_builder(builder)
        self.check_made()
        target.set_checkpoint(&checkpoint)
        self.enter()
        own = self.builder
        try:
            self.builder = target
            root = self.put_table(self.number, record)
            if not target.is_after(&checkpoint):
                raise RuntimeError("the record used the builder that it was being built with")
            return target.finish_message(root, self.identifier)
        except BaseException as error:
            target.roll_back(&checkpoint)
            self.add_path(error, -1)
            raise
        finally:
            self.builder = own
            self.clear_stacks()
            self.leave()

    cdef int clear_stacks(self) noexcept:
        self.depth = self.table_count = self.cell_count = self.scratch_size = 0
        return 0

    cdef object path_of_value(self, Py_ssize_t row):
        """The path of the current value, with the row number of its record unless `row` is -1."""
        cdef Py_ssize_t i
        path = ""
        for i in range(self.depth):
            if self.steps[i].field >= 0:
                path += "." + self.layout.field_names[self.steps[i].object][self.steps[i].field]
            if self.steps[i].element >= 0:
                path += f"[{self.steps[i].element}]"
        path = path[1:]
        if row < 0:
            return path
        return f"row {row}, {path}" if path else f"row {row}"

    cdef int add_path(self, object error, Py_ssize_t row) except -1:
        """For a RefusalError, raises the exception that it describes, with the path of the current value. Adds the path
        to any other exception as a note.
        """
        if isinstance(error, RefusalError):
            kind, text = error.args
            path = self.path_of_value(row)
            raise kind(f"{path}: {text}" if path else text) from None
        if self.depth:
            error.add_note(f"at {self.path_of_value(row)}")
        elif row >= 0:
            error.add_note(f"at row {row}")
        return 0

    # Stacks

    cdef int push_step(self, int32_t index) except -1:
        """Begins an object: the path has one more step."""
        if self.depth == MAX_PATH_STEPS:
            fail(ValueError, f"records are nested deeper than {MAX_PATH_STEPS} levels")
        self.steps[self.depth].object = index
        self.steps[self.depth].field = -1
        self.steps[self.depth].element = -1
        self.depth += 1
        return 0

    cdef Py_ssize_t push_cells(self, Py_ssize_t count) except -1:
        """Adds `count` empty cells; returns the index of the first."""
        cdef Py_ssize_t base = self.cell_count
        if count > MAX_MESSAGE_SIZE:
            fail(ValueError, f"{count} elements are more than a message can hold")
        if base + count > self.cell_capacity:
            self.cells = <Cell*>grow(
                self.cells, &self.cell_capacity, base + count, sizeof(Cell), "parts of a record"
            )
        if count:
            memset(self.cells + base, 0, <size_t>count * sizeof(Cell))
        self.cell_count = base + count
        return base

    cdef Py_ssize_t push_scratch(self, Py_ssize_t size) except -1:
        """Adds `size` bytes, all zero; returns the offset of the first."""
        cdef Py_ssize_t start = self.scratch_size
        if size > MAX_MESSAGE_SIZE:
            fail(ValueError, f"{size} bytes are more than a message can hold")
        if start + size > self.scratch_capacity or self.scratch is NULL:
            self.scratch = <uint8_t*>grow(self.scratch, &self.scratch_capacity, start + size, 1, "bytes of a record")
        if size:
            memset(self.scratch + start, 0, <size_t>size)
        self.scratch_size = start + size
        return start

    cdef EnumLayout enum_of(self, uint8_t kind, int32_t index):
        return self.layout.enums[index] if may_be_enum(kind) and index >= 0 else None

    # Values to cells

    cdef bint collect(self, int32_t index, list values, Py_ssize_t base) except -1:
        """Fills the cells from `base` on with what is stored for `values`; returns whether all of it is scalars."""
        cdef Field* field
        cdef FieldLayout* layout
        cdef Py_ssize_t count = len(values)
        cdef int32_t i
        cdef uint64_t bits = 0
        cdef bint only_scalars = True
        self.push_step(index)
        for i in range(count):
            field = &self.layout.types.objects[index].fields[i]
            layout = &self.layout.objects[index].fields[i]
            self.steps[self.depth - 1].field = i
            self.steps[self.depth - 1].element = -1
            value = values[i]
            if layout.deprecated:
                continue
            if field.kind == UNION:
                self.collect_union(index, i, values, base)
            elif field.kind == VECTOR and field.element == UNION:
                self.collect_unions(index, i, values, base)
            elif layout.paired_field >= 0:
                # The type of a union: collected together with the union.
                continue
            elif value is None:
                pass
            elif is_scalar(field.kind):
                if not pack_exact(field.kind, value, &bits):
                    pack_scalar(field.kind, self.enum_of(field.kind, field.index), value, &bits)
                if bits != layout.default_bits or layout.always_stored or self.force_defaults:
                    self.cells[base + i].bits = bits
                    self.cells[base + i].present = True
                continue
            elif field.kind == OBJECT and self.layout.types.objects[field.index].is_struct:
                bits = <uint64_t>self.push_scratch(self.layout.types.objects[field.index].size)
                self.fill_struct(field.index, <Py_ssize_t>bits, value)
                self.cells[base + i].bits = bits
                self.cells[base + i].present = True
            else:
                if field.kind == VECTOR:
                    bits = <uint64_t>self.put_vector(index, i, value)
                else:
                    bits = <uint64_t>self.put_child(field.kind, field.index, value)
                self.cells[base + i].bits = bits
                self.cells[base + i].present = True
            if self.cells[base + i].present:
                only_scalars = False
            elif field.required:
                fail(ValueError, "a required field is missing")
        return only_scalars

    cdef int collect_union(self, int32_t index, int32_t i, list values, Py_ssize_t base) except -1:
        """Fills the cells of a union and of its type, or neither."""
        cdef int32_t paired_field = self.layout.objects[index].fields[i].paired_field
        cdef uint64_t type_bits = 0
        cdef int64_t end_offset
        end_offset = self.put_union(index, i, values[paired_field], values[i], &type_bits)
        if end_offset:
            self.cells[base + i].bits = <uint64_t>end_offset
            self.cells[base + i].present = True
            self.cells[base + paired_field].bits = type_bits
            self.cells[base + paired_field].present = True
        return 0

    cdef int collect_unions(self, int32_t index, int32_t i, list values, Py_ssize_t base) except -1:
        """Fills the cells of a vector of unions and of the vector of their types, or neither."""
        cdef int32_t paired_field = self.layout.objects[index].fields[i].paired_field
        cdef uint64_t type_bits = 0
        cdef int64_t end_offset
        cdef Py_ssize_t k, count, first_cell, types, width
        if values[i] is None and values[paired_field] is None:
            return 0
        items = elements_of([] if values[i] is None else values[i])
        kinds = values[paired_field]
        if kinds is None:
            kinds = [None] * len(items)
        else:
            # A type is a ubyte, so bytes are a valid vector of types, although not of other elements.
            kinds = list(exact_bytes(kinds)) if isinstance(kinds, (bytes, bytearray)) else elements_of(kinds)
        count = len(items)
        if len(kinds) != count:
            fail(ValueError, f"expected as many values as types, got {count} and {len(kinds)}")
        first_cell = self.push_cells(count)
        width = self.layout.types.unions[self.layout.types.objects[index].fields[i].index].type_width
        types = self.push_scratch(count * width)
        for k in range(count):
            self.steps[self.depth - 1].element = k
            type_bits = 0
            end_offset = self.put_union(index, i, kinds[k], items[k], &type_bits)
            # With the type NONE, an element has no value: its offset is 0.
            if not end_offset and kinds[k] is None:
                fail(ValueError, "an element of a vector of unions must have a value")
            self.cells[first_cell + k].bits = <uint64_t>end_offset
            store_le(self.scratch + types + k * width, type_bits, width)
        self.steps[self.depth - 1].element = -1
        self.cells[base + i].bits = <uint64_t>self.put_offset_vector(first_cell, count, 4)
        self.cells[base + i].present = True
        end_offset = self.put_scratch_vector(types, count * width, <uint32_t>width, count)
        self.cells[base + paired_field].bits = <uint64_t>end_offset
        self.cells[base + paired_field].present = True
        return 0

    cdef int64_t put_union(
        self, int32_t index, int32_t i, object type, object value, uint64_t* type_bits
    ) except -1:
        """Builds the value of a union field, or of one element of it, from the value of the field and that of the field
        of its type; returns the end offset, or 0 if the union has no value.
        """
        cdef int32_t union_index = self.layout.types.objects[index].fields[i].index
        cdef int32_t type_field = self.layout.objects[index].fields[i].paired_field
        cdef EnumLayout enum = self.layout.enums[union_index]
        cdef const UnionType* known = &self.layout.types.unions[union_index]
        cdef const Variant* variant
        cdef uint8_t kind = UNION_TYPE if enum.kind == UBYTE else <uint8_t>enum.kind
        if value is None and type is None:
            return 0
        if type is None:
            if isinstance(value, tuple) and len(value) == 2 and (
                isinstance(value[0], str) or index_of(value[0]) is not None
            ):
                type, value = value
            else:
                type = self.variant_of(union_index, value)
                if type is None:
                    fail(
                        TypeError,
                        f"expected (variant, value){self.example_of(union_index)}, or the variant in field "
                        f"{self.layout.field_names[index][type_field]!r}; the variants of {enum.name} are "
                        f"{listed(enum.by_name)}; got {type_name(value)}: {value!r:.100}"
                    )
            pack_scalar(kind, enum, type, type_bits)
        else:
            if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and (
                value[0] in enum.by_name
            ):
                # Ambiguous: a pair of variant and value, or a record with a variant's name as its first value.
                fail(
                    ValueError,
                    f"the type of the union is given twice, as {type!r:.100} and in {value!r:.100}; if the tuple is a "
                    "record, pass a list instead"
                )
            # An error in the type has the path of the type's field.
            self.steps[self.depth - 1].field = type_field
            pack_scalar(kind, enum, type, type_bits)
            self.steps[self.depth - 1].field = i
        variant = find_variant(known, type_bits[0])
        if variant is NULL:
            fail(
                ValueError, f"expected a variant of {enum.name} ({listed(enum.by_name)}), got {type!r:.100}"
            )
        name = enum.by_value.get(enum.value_of(type_bits[0]))
        if variant.kind == NOTHING:
            if value is not None:
                fail(ValueError, f"the type of the union is {name}, which has no value, got {type_name(value)}")
            return 0
        if isinstance(value, dict) and value.keys() <= enum.by_name.keys() and name in value:
            # The representation of columns: an entry for each variant, and only one of them has a value.
            others = set()
            for other in value:
                if value[other] is not None and other != name:
                    others.add(other)
            if others:
                fail(ValueError, f"the type of the union is {name}, but there is a value for {listed(sorted(others))}")
            value = value[name]
        if value is None:
            if variant.kind == OBJECT and self.is_inside(variant.index):
                # Columns leave out a table inside itself, and keep the type of the union.
                type_bits[0] = 0
                return 0
            fail(ValueError, f"the type of the union is {name}, but its value is missing")
        return self.put_child(variant.kind, variant.index, value)

    cdef bint is_inside(self, int32_t index) noexcept:
        """Whether the current value is inside of a table of this type."""
        cdef Py_ssize_t i
        for i in range(self.depth):
            if self.steps[i].object == index:
                return True
        return False

    cdef object variant_of(self, int32_t union_index, object value):
        """The type of the variant that a record view is; None if `value` is no view, or not of exactly one variant."""
        cdef EnumLayout enum = self.layout.enums[union_index]
        cdef UnionType* known = &self.layout.types.unions[union_index]
        cdef Py_ssize_t k
        if type(value) is not RecordView:
            return None
        name = value.__table__
        found = []
        for k in range(known.variant_count):
            if known.variants[k].kind == OBJECT and self.layout.object_names[known.variants[k].index] == name:
                found.append(enum.value_of(known.variants[k].bits))
        return found[0] if len(found) == 1 else None

    cdef str example_of(self, int32_t union_index):
        """For the text of an error: a pair of variant and value."""
        cdef EnumLayout enum = self.layout.enums[union_index]
        cdef UnionType* known = &self.layout.types.unions[union_index]
        cdef Py_ssize_t k
        for k in range(known.variant_count):
            if known.variants[k].kind != NOTHING:
                value = "'text'" if known.variants[k].kind == STRING else "{...}"
                return f", for example ({enum.by_value.get(enum.value_of(known.variants[k].bits))!r}, {value})"
        return ""

    # Building. What puts a part of the message returns its end offset.

    cdef int64_t put_table(self, int32_t index, object record) except -1:
        cdef Py_ssize_t base, cells = self.cell_count, scratch = self.scratch_size
        cdef list values
        cdef int64_t end_offset
        if self.table_count == MAX_TABLE_DEPTH:
            fail(ValueError, f"tables are nested deeper than {MAX_TABLE_DEPTH}, the default limit of verifiers")
        self.table_count += 1
        values = field_values(self.encoding_of(index), record)
        base = self.push_cells(len(values))
        self.collect(index, values, base)
        end_offset = self.store_table(index, base)
        self.depth -= 1
        self.table_count -= 1
        self.cell_count = cells
        self.scratch_size = scratch
        return end_offset

    cdef int64_t store_table(self, int32_t index, Py_ssize_t base) except -1:
        """Writes the table whose fields are in the cells from `base` on. Runs no Python code."""
        cdef ObjectEncoding encoding = self.encoding_of(index)
        cdef Field* fields = self.layout.types.objects[index].fields
        cdef FieldLayout* layouts = self.layout.objects[index].fields
        cdef MessageBuilder builder = self.builder
        cdef Py_ssize_t k
        cdef int32_t i
        cdef Cell* cell
        builder.start_table(encoding.entry_count)
        for k in range(encoding.position_count):
            i = encoding.storage_order[k]
            cell = &self.cells[base + i]
            if not cell.present:
                continue
            if is_scalar(fields[i].kind):
                builder.prep(layouts[i].size, 0)
                builder.store(cell.bits, layouts[i].size)
            elif fields[i].kind == OBJECT and self.layout.types.objects[fields[i].index].is_struct:
                builder.prep(layouts[i].alignment, layouts[i].size)
                builder.store_bytes(self.scratch + <Py_ssize_t>cell.bits, layouts[i].size)
            else:
                builder.put_offset(<int64_t>cell.bits)
            mark_field(builder, (fields[i].offset - 4) // 2)
        return builder.end_table()

    cdef int64_t put_child(self, uint8_t kind, int32_t index, object value) except -1:
        """A part that is referred to by an offset: a string, a table, or a struct as the variant of a union."""
        cdef Py_ssize_t start, size
        if kind == STRING:
            return self.put_string(value)
        if not self.layout.types.objects[index].is_struct:
            return self.put_table(index, value)
        size = self.layout.types.objects[index].size
        start = self.push_scratch(size)
        self.fill_struct(index, start, value)
        self.builder.prep(self.layout.objects[index].alignment, size)
        self.builder.store_bytes(self.scratch + start, size)
        self.scratch_size = start
        return end_offset_of(self.builder)

    cdef int64_t put_string(self, object value) except -1:
        cdef Py_ssize_t size = 0
        cdef const uint8_t* text = NULL
        cdef int64_t wrong
        if type(value) is not str:
            if isinstance(value, bytes):
                text = <const uint8_t*>PyBytes_AS_STRING(value)
                size = PyBytes_GET_SIZE(value)
                wrong = find_not_utf8(text, <uint64_t>size)
                if wrong >= 0:
                    fail(ValueError, f"expected UTF-8, got an invalid byte at index {wrong} of {value!r:.100}")
                return self.builder.put_string(text, size)
            if not isinstance(value, str):
                fail(TypeError, f"expected a str, or bytes of UTF-8, got {type_name(value)}: {value!r:.100}")
        try:
            text = <const uint8_t*>PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError as error:
            fail(ValueError, f"expected text, got a lone surrogate at index {error.start} of {value!r:.100}")
        return self.builder.put_string(text, size)

    cdef int64_t put_vector(self, int32_t index, int32_t i, object value) except -1:
        cdef Field* field = &self.layout.types.objects[index].fields[i]
        cdef uint32_t alignment = self.layout.objects[index].fields[i].element_alignment
        cdef Py_ssize_t k, base, count, depth = self.depth
        cdef int64_t end_offset
        if is_scalar(field.element):
            return self.put_scalars(field.element, field.index, alignment, value)
        if field.element == OBJECT and self.layout.types.objects[field.index].is_struct:
            return self.put_structs(field.index, alignment, value)
        self.check_no_nulls(value)
        items = elements_of(value)
        count = len(items)
        base = self.push_cells(count)
        for k in range(count):
            self.steps[depth - 1].element = k
            if items[k] is None:
                fail(ValueError, "an element of a vector must not be None")
            end_offset = self.put_child(field.element, field.index, items[k])
            self.cells[base + k].bits = <uint64_t>end_offset
        self.steps[depth - 1].element = -1
        return self.put_offset_vector(base, count, alignment)

    cdef int64_t put_offset_vector(self, Py_ssize_t base, Py_ssize_t count, uint32_t alignment) except -1:
        """A vector of offsets to the parts in the cells from `base` on. These cells are removed."""
        cdef MessageBuilder builder = self.builder
        cdef Py_ssize_t k
        builder.start_vector(4 * count, alignment)
        for k in range(count - 1, -1, -1):
            if self.cells[base + k].bits:
                builder.store_offset(<int64_t>self.cells[base + k].bits)
            else:
                builder.store(0, 4)
        self.cell_count = base
        return builder.end_vector(count)

    cdef int64_t put_scratch_vector(
        self, Py_ssize_t start, Py_ssize_t size, uint32_t alignment, Py_ssize_t count
    ) except -1:
        """A vector of `count` elements with the `size` bytes from `start` of `scratch`. These bytes are removed."""
        self.scratch_size = start
        return self.builder.put_vector(self.scratch + start, size, alignment, count)

    cdef int64_t put_structs(self, int32_t index, uint32_t alignment, object value) except -1:
        cdef Py_ssize_t size = self.layout.types.objects[index].size, k, start, count, depth = self.depth
        self.check_no_nulls(value)
        items = elements_of(value)
        count = len(items)
        if count > MAX_MESSAGE_SIZE // size:
            fail(ValueError, f"{count} structs are more than a message can hold")
        start = self.push_scratch(count * size)
        for k in range(count):
            self.steps[depth - 1].element = k
            self.fill_struct(index, start + k * size, items[k])
        self.steps[depth - 1].element = -1
        return self.put_scratch_vector(start, count * size, alignment, count)

    cdef int check_no_nulls(self, object value) except -1:
        """Raises an error with the place of the first null of a Series or array. Its conversion could make NaN of it.
        """
        cdef Py_ssize_t place = null_in(value)
        return self.fail_null(place) if place >= 0 else 0

    cdef int fail_null(self, Py_ssize_t place) except -1:
        self.steps[self.depth - 1].element = place
        fail(ValueError, "an element of a vector must not be null")

    cdef int64_t put_scalars(self, uint8_t kind, int32_t index, uint32_t alignment, object value) except -1:
        """A vector of numbers. The elements of a buffer are converted without Python objects, or copied at once if they
        have the type of the field.
        """
        cdef Py_buffer view
        cdef Py_ssize_t width = scalar_width(kind), count, start, k = 0, null = -1
        cdef ElementClass element
        cdef bint swapped = False
        self.check_no_nulls(value)
        value = buffer_of(value, &null)
        if null >= 0:
            self.fail_null(null)
        if not PyObject_CheckBuffer(value) or (width > 1 and isinstance(value, (bytes, bytearray))):
            items = elements_of(value)
            count = len(items)
            if count > MAX_MESSAGE_SIZE // width:
                fail(ValueError, f"{count} elements are more than a message can hold")
            start = self.push_scratch(count * width)
            self.fill_scalars(kind, index, start, items, count)
            return self.put_scratch_vector(start, count * width, alignment, count)
        PyObject_GetBuffer(value, &view, PyBUF_FORMAT | PyBUF_STRIDES)
        try:
            if view.ndim != 1:
                fail(ValueError, f"expected one dimension, got {type_name(value)} with {view.ndim}")
            count = view.shape[0]
            if count > MAX_MESSAGE_SIZE // width:
                fail(ValueError, f"{count} elements are more than a message can hold")
            element = class_of_format(view.format, view.itemsize, &swapped)
            if element == UNKNOWN_CLASS:
                items = elements_of(value)
                start = self.push_scratch(count * width)
                if len(items) != count:
                    fail(ValueError, f"expected {count} elements, got {len(items)}")
                self.fill_scalars(kind, index, start, items, count)
                return self.put_scratch_vector(start, count * width, alignment, count)
            if same_layout(kind, element, view.itemsize) and not swapped and (
                view.strides is NULL or view.strides[0] == width or count < 2
            ):
                return self.builder.put_vector(<const uint8_t*>view.buf, count * width, alignment, count)
            start = self.push_scratch(count * width)
            try:
                store_elements(kind, &view, element, swapped, self.scratch + start, &k)
            except RefusalError:
                self.steps[self.depth - 1].element = k
                raise
            return self.put_scratch_vector(start, count * width, alignment, count)
        finally:
            PyBuffer_Release(&view)

    # Filling of `scratch` from `start`, where the caller has added room

    cdef int fill_scalars(
        self, uint8_t kind, int32_t index, Py_ssize_t start, object items, Py_ssize_t count
    ) except -1:
        """Stores the numbers of a list or tuple."""
        cdef EnumLayout enum = self.enum_of(kind, index)
        cdef Py_ssize_t k, width = scalar_width(kind), depth = self.depth
        cdef uint64_t bits = 0
        for k in range(count):
            value = items[k]
            if not pack_exact(kind, value, &bits):
                self.steps[depth - 1].element = k
                if value is None:
                    fail(ValueError, "an element of a vector must not be None")
                pack_scalar(kind, enum, value, &bits)
                self.steps[depth - 1].element = -1
            store_le(self.scratch + start + k * width, bits, width)
        return 0

    cdef int fill_struct(self, int32_t index, Py_ssize_t start, object record) except -1:
        """Stores a struct. The caller has set its bytes to zero, so that padding is zero."""
        cdef list values = field_values(self.encoding_of(index), record)
        cdef Field* field
        cdef FieldLayout* layout
        cdef Py_ssize_t count = len(values)
        cdef int32_t i
        cdef uint64_t bits = 0
        self.push_step(index)
        for i in range(count):
            field = &self.layout.types.objects[index].fields[i]
            layout = &self.layout.objects[index].fields[i]
            if layout.deprecated:
                continue
            self.steps[self.depth - 1].field = i
            self.steps[self.depth - 1].element = -1
            value = values[i]
            if value is None:
                fail(
                    ValueError,
                    f"field {self.layout.field_names[index][i]!r} of struct {self.layout.object_names[index]} is "
                    "missing: a struct needs a value for each of its fields"
                )
            if is_scalar(field.kind):
                if not pack_exact(field.kind, value, &bits):
                    pack_scalar(field.kind, self.enum_of(field.kind, field.index), value, &bits)
                store_le(self.scratch + start + field.offset, bits, layout.size)
            elif field.kind == OBJECT:
                self.fill_struct(field.index, start + field.offset, value)
            else:
                self.fill_array(index, i, start + field.offset, value)
        self.depth -= 1
        return 0

    cdef int fill_array(self, int32_t index, int32_t i, Py_ssize_t start, object value) except -1:
        """Stores an array of a struct. The number of elements must be that of the schema."""
        cdef Field* field = &self.layout.types.objects[index].fields[i]
        cdef Py_ssize_t k, count = self.layout.objects[index].fields[i].length
        cdef Py_ssize_t size = self.layout.objects[index].fields[i].element_size, null = -1
        self.check_no_nulls(value)
        value = integers_of_times(value, &null)
        if null >= 0:
            self.fail_null(null)
        # No buffers here, unlike in put_scalars: arrays in structs are short, and elements_of calls `tolist`.
        if field.element == UBYTE and isinstance(value, (bytes, bytearray)):
            items = list(exact_bytes(value))
        else:
            items = elements_of(value)
        if len(items) != count:
            fail(ValueError, f"expected {count} elements, got {len(items)}")
        if is_scalar(field.element):
            return self.fill_scalars(field.element, field.index, start, items, count)
        for k in range(count):
            self.steps[self.depth - 1].element = k
            self.fill_struct(field.index, start + k * size, items[k])
        return 0

# cython: boundscheck=False, wraparound=False
"""Builds the message of a row of columns, for tables of any kind.

A table is written after all parts that it refers to, so `put_table` first builds these and keeps their end offsets in
the bindings. Every offset of a list or string is checked each time it is followed, because other code can change the
columns while a row is being built or a sink is being written to.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.importer cimport BITS, NUMBERS, Column, Source
from flatstream._core.base.buffers cimport grow
from flatstream._core.base.endian cimport store_le
from flatstream._core.column_writer.bound_values cimport (
    NAME_KNOWN, NAME_NULL, NAME_UNKNOWN, has_value, try_scalar_bits,
)
from flatstream._core.column_writer.plan cimport (
    PUT_SCALAR, PUT_STRING, PUT_STRUCT, PUT_TABLE, PUT_UNION, PUT_UNION_VECTOR, PUT_VECTOR, Binding,
)
from flatstream._core.column_writer.values cimport (
    REAL_NUMBER, ULONG_NUMBER, NumberForm, bit_at, bytes_range, is_bytes_form, list_range, number_at, resolve,
)
from flatstream._core.flatbuf.kinds cimport OBJECT
from flatstream._core.flatbuf.layout cimport EnumLayout
from flatstream._core.flatbuf.message_builder cimport MAX_MESSAGE_SIZE, MessageBuilder, end_offset_of, mark_field
from flatstream._core.flatbuf.scalars cimport pack_scalar
from flatstream._core.flatbuf.verifier cimport Variant, find_not_utf8, find_variant

from flatstream._core.flatbuf.kinds import NUMBER_NAMES, NUMBER_RANGES
from flatstream._core.flatbuf.scalars import RefusalError


cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


cdef bint stands_for_table(const Column* column, int64_t at) noexcept:
    """Whether a row that is not null has a table: in a column of bools, if it is true."""
    cdef int64_t value = 1
    cdef double real = 0.0
    if column.form == BITS or column.form == NUMBERS:
        number_at(column, at, &value, &real)
    return value != 0


@cython.no_gc
cdef class RowBuilder(WritePlan):
    def __dealloc__(self):
        PyMem_RawFree(self.end_offsets)

    # Errors

    cdef int fail(self, const Binding* binding, object kind, str reason) except -1:
        """Raises an exception of class `kind`, with the path of a field and the current row."""
        path = self.path_of(binding)
        where = f"column {path!r}, row" if path else "row"
        raise kind(f"{where} {self.rows_before + self.row}: {reason}")

    cdef int fail_missing(self, const Binding* binding) except -1:
        return self.fail(binding, ValueError, "it is null, but the schema requires a value")

    cdef int fail_null_part(self, const Binding* binding) except -1:
        return self.fail(
            binding, ValueError, "it is null, but a field of a struct and an element of a vector must have a value"
        )

    cdef int fail_index(self, const Binding* binding) except -1:
        return self.fail(binding, ValueError, "it has an index outside of its dictionary")

    cdef int fail_bytes(self, const Binding* binding) except -1:
        return self.fail(binding, ValueError, "its offsets lead outside of its bytes")

    cdef int fail_elements(self, const Binding* binding) except -1:
        return self.fail(binding, ValueError, "its offsets lead outside of its elements")

    # Values

    cdef int scalar_bits(self, Binding* binding, int64_t row, uint64_t* bits) except -1:
        """The bytes of a scalar; returns 1, or 0 if it is null."""
        cdef int present = try_scalar_bits(binding, row, bits)
        cdef const Column* column = binding.column
        cdef int64_t at = 0, value = 0, size = 0
        cdef double real = 0.0
        cdef const uint8_t* text = NULL
        cdef NumberForm form
        if present >= 0:
            return present
        present = resolve(&column, row, &at)
        if present < 0:
            self.fail_index(binding)
        if not present:
            return 0
        if is_bytes_form(column.form):
            if bytes_range(column, at, &text, &size) < 0:
                self.fail_bytes(binding)
            if find_not_utf8(text, <uint64_t>size) >= 0:
                self.fail(binding, ValueError, "the name is not UTF-8")
            return self.look_up_name(binding, PyUnicode_DecodeUTF8(<const char*>text, size, NULL), bits)
        form = number_at(column, at, &value, &real)
        given = <object>value
        if form == ULONG_NUMBER:
            given = <object><uint64_t>value
        elif form == REAL_NUMBER:
            given = <object>real
        self.fail(
            binding, ValueError,
            f"expected {NUMBER_NAMES[binding.kind]}, {NUMBER_RANGES[binding.kind]}, got {given!r}"
        )

    cdef int look_up_name(self, Binding* binding, str name, uint64_t* bits) except -1:
        """The bytes of an enum by name; returns 1. The digits of a number are a name too: columns show a value that has
        no name as its digits.
        """
        try:
            pack_scalar(binding.kind, <EnumLayout>self.layout.enums[binding.enum_index], name, bits)
        except RefusalError as refusal:
            error, text = refusal.args
            self.fail(binding, error, text)
        return 1

    cdef int look_up_dictionaries(self) except -1:
        """Looks up the names in the dictionaries of enums."""
        cdef Binding* binding
        cdef Source source
        cdef Column* column
        cdef int64_t i, size = 0
        cdef const uint8_t* text = NULL
        for address, source in self.name_dictionaries:
            binding = <Binding*><size_t>address
            column = &source.column
            PyMem_RawFree(binding.name_values)
            PyMem_RawFree(binding.name_states)
            binding.name_values = NULL
            binding.name_states = NULL
            binding.name_count = 0
            binding.name_values = <uint64_t*>PyMem_RawCalloc(<size_t>max(column.length, 1), sizeof(uint64_t))
            binding.name_states = <uint8_t*>PyMem_RawCalloc(<size_t>max(column.length, 1), 1)
            if binding.name_values is NULL or binding.name_states is NULL:
                PyMem_RawFree(binding.name_values)
                binding.name_values = NULL
                raise MemoryError(f"no memory for the {column.length} names of a dictionary")
            binding.name_count = column.length
            for i in range(column.length):
                if column.validity is not NULL and not bit_at(column.validity, column.offset + i):
                    binding.name_states[i] = NAME_NULL
                    continue
                binding.name_states[i] = NAME_UNKNOWN
                if (
                    bytes_range(column, column.offset + i, &text, &size) < 0
                    or find_not_utf8(text, <uint64_t>size) >= 0
                ):
                    continue
                try:
                    self.look_up_name(
                        binding, PyUnicode_DecodeUTF8(<const char*>text, size, NULL), &binding.name_values[i]
                    )
                except ValueError:
                    # An error only for rows that have this name.
                    continue
                binding.name_states[i] = NAME_KNOWN
        return 0

    # Structs

    cdef int fill_struct(self, Binding* binding, int64_t row, uint8_t* out) except -1:
        """Stores the fields of a struct at `out`."""
        cdef Py_ssize_t i
        cdef int64_t at = row
        cdef const Column* column = binding.column
        cdef Binding* child
        if column is not NULL and resolve(&column, row, &at) != 1:
            self.fail_null_part(binding)
        for i in range(binding.child_count):
            child = &binding.children[i]
            self.fill_value(child, at, out + child.offset)
        return 0

    cdef int fill_value(self, Binding* binding, int64_t row, uint8_t* out) except -1:
        """Stores a scalar, a struct or a fixed array at `out`."""
        cdef uint64_t bits = 0
        cdef int64_t at = row, start = 0, count = 0, i
        cdef const Column* column = binding.column
        cdef const uint8_t* data = NULL
        if binding.action == PUT_STRUCT:
            return self.fill_struct(binding, row, out)
        if binding.action == PUT_SCALAR:
            if not self.scalar_bits(binding, row, &bits):
                self.fail_null_part(binding)
            store_le(out, bits, binding.width)
            return 0
        if resolve(&column, row, &at) != 1:
            self.fail_null_part(binding)
        if is_bytes_form(column.form):
            if bytes_range(column, at, &data, &count) < 0:
                self.fail_bytes(binding)
        elif list_range(column, at, &start, &count) < 0:
            self.fail_elements(binding)
        if count != binding.length:
            self.fail(binding, ValueError, f"it has {count} elements, but the array has {binding.length}")
        if data is not NULL:
            memcpy(out, data, <size_t>count)
            return 0
        for i in range(count):
            binding.element = i
            self.fill_value(binding.children, start + i, out + i * binding.element_size)
        binding.element = -1
        return 0

    cdef int put_struct(self, Binding* binding, int64_t row) except -1:
        """Puts a struct in front of the message."""
        # Filling the struct moves no memory, so the address stays valid.
        return self.fill_struct(binding, row, self.builder.put_struct(binding.size, binding.alignment))

    # Strings, vectors and unions

    cdef Py_ssize_t put_string(self, Binding* binding, const Column* column, int64_t at) except -1:
        cdef const uint8_t* text = NULL
        cdef int64_t size = 0, invalid
        if bytes_range(column, at, &text, &size) < 0:
            self.fail_bytes(binding)
        if size > MAX_MESSAGE_SIZE:
            self.fail(binding, ValueError, f"{size} bytes are more than a message can hold")
        invalid = find_not_utf8(text, <uint64_t>size)
        if invalid >= 0:
            self.fail(binding, ValueError, f"it is not UTF-8: see its byte {invalid}")
        return self.builder.put_string(text, size)

    cdef int check_vector_size(self, Binding* binding, int64_t count) except -1:
        if count > MAX_MESSAGE_SIZE or count * <int64_t>binding.element_size > MAX_MESSAGE_SIZE:
            self.fail(binding, ValueError, f"{count} elements are more than a message can hold")
        return 0

    cdef int start_vector(self, Binding* binding, int64_t count) except -1:
        """Makes room for `count` elements and aligns them."""
        self.check_vector_size(binding, count)
        return self.builder.start_vector(count * binding.element_size, binding.element_alignment)

    cdef int push_end_offset(self, Py_ssize_t end_offset) except -1:
        if self.end_offset_count == self.end_offset_capacity:
            self.end_offsets = <Py_ssize_t*>grow(
                self.end_offsets, &self.end_offset_capacity, self.end_offset_count + 1, sizeof(Py_ssize_t),
                "elements of vectors"
            )
        self.end_offsets[self.end_offset_count] = end_offset
        self.end_offset_count += 1
        return 0

    cdef Py_ssize_t put_vector(self, Binding* binding, const Column* column, int64_t at) except -1:
        cdef MessageBuilder builder = self.builder
        cdef const uint8_t* data = NULL
        cdef int64_t start = 0, count = 0, i
        cdef Binding* child = binding.children
        cdef const Column* inner
        cdef uint8_t* elements
        cdef Py_ssize_t size, base
        if is_bytes_form(column.form):
            if bytes_range(column, at, &data, &count) < 0:
                self.fail_bytes(binding)
            self.check_vector_size(binding, count)
            return builder.put_vector(data, count, binding.element_alignment, count)
        if list_range(column, at, &start, &count) < 0:
            self.fail_elements(binding)
        if child.action == PUT_SCALAR or child.action == PUT_STRUCT:
            self.start_vector(binding, count)
            size = <Py_ssize_t>count * binding.element_size
            inner = child.column
            if child.same_layout and inner.stride == child.width and inner.validity is NULL:
                builder.store_bytes(inner.values + (inner.offset + start) * inner.stride, size)
            else:
                # Filling the elements moves no memory, so the address stays valid.
                elements = builder.store_zeros(size)
                for i in range(count):
                    child.element = i
                    self.fill_value(child, start + i, elements + i * binding.element_size)
                child.element = -1
            return builder.end_vector(count)
        base = self.end_offset_count
        for i in range(count):
            child.element = i
            self.push_end_offset(self.put_part(child, start + i))
            if not self.end_offsets[base + i]:
                self.fail(child, ValueError, "it is null, but an element of a vector must have a value")
        child.element = -1
        self.start_vector(binding, count)
        for i in range(count - 1, -1, -1):
            builder.store_offset(self.end_offsets[base + i])
        self.end_offset_count = base
        return builder.end_vector(count)

    cdef bint is_left_out(self, const Binding* binding, uint64_t type) noexcept:
        """Whether columns leave out the value of a union of this type: a table inside itself. They keep the type."""
        cdef const Variant* variant = find_variant(&self.types.unions[binding.enum_index], type)
        cdef const Binding* around = binding.parent
        if variant is NULL or variant.kind != OBJECT:
            return False
        while around is not NULL:
            if around.object == variant.index:
                return True
            around = around.parent
        return False

    cdef Py_ssize_t put_union(self, Binding* binding, int64_t row, bint has_type, uint64_t type) except -1:
        """Builds the value of a union and sets the `bits` of the binding to its type; returns 0 if it has no value.

        With `has_type`, the type of the union is given, and the value must have it.
        """
        cdef const Column* column = binding.column
        cdef EnumLayout enum
        cdef int64_t at = row
        cdef Binding* chosen = NULL
        cdef Py_ssize_t i, end_offset
        cdef int present = 1
        if column is not NULL:
            present = resolve(&column, row, &at)
            if present < 0:
                self.fail_index(binding)
        if present:
            for i in range(binding.child_count):
                if has_value(&binding.children[i], at):
                    if chosen is not NULL:
                        self.fail(binding, ValueError, "it has values for two variants")
                    chosen = &binding.children[i]
        binding.bits = chosen.variant if chosen is not NULL else 0
        if present and column is not NULL and (column.form == BITS or column.form == NUMBERS):
            # Bools, which say where a value was left out.
            if not stands_for_table(column, at):
                self.fail(binding, ValueError, "it is false: a union without columns is true where it is, or null")
            if not has_type or not self.is_left_out(binding, type):
                self.fail(binding, ValueError, "it is true, but its type is not that of a table around it")
        if has_type and type != binding.bits and (chosen is not NULL or not self.is_left_out(binding, type)):
            enum = self.layout.enums[binding.enum_index]
            given, found = enum.value_of(type), enum.value_of(binding.bits)
            self.fail(
                binding, ValueError,
                f"its type is {enum.by_value.get(given, given)}, but its value is {enum.by_value.get(found, found)}",
            )
        if chosen is NULL:
            return 0
        end_offset = self.put_part(chosen, at)
        if not end_offset:
            self.fail(chosen, ValueError, "it is null")
        return end_offset

    cdef Py_ssize_t put_union_vector(
        self, Binding* binding, const Column* column, int64_t at, int64_t row
    ) except -1:
        """Builds a vector of unions. The `bits` of the binding become the end offset of the vector of their types."""
        cdef MessageBuilder builder = self.builder
        cdef Binding* child = binding.children
        cdef const Column* types
        cdef int64_t start = 0, count = 0, types_at = 0, types_start = 0, types_count = 0, i
        cdef uint64_t type = 0
        cdef Py_ssize_t base = self.end_offset_count, width = self.types.unions[binding.enum_index].type_width
        if list_range(column, at, &start, &count) < 0:
            self.fail_elements(binding)
        if binding.type is not NULL:
            types = binding.type.column
            if resolve(&types, row, &types_at) == 1:
                if list_range(types, types_at, &types_start, &types_count) < 0:
                    self.fail_elements(binding.type)
            if types_count != count:
                self.fail(binding, ValueError, f"it has {count} elements and {types_count} types")
        for i in range(count):
            child.element = i
            type = 0
            if binding.type is not NULL:
                binding.type.children.element = i
                self.scalar_bits(binding.type.children, types_start + i, &type)
            # Two entries for each element: its end offset and its type.
            self.push_end_offset(self.put_union(child, start + i, binding.type is not NULL, type))
            self.push_end_offset(<Py_ssize_t>child.bits)
        child.element = -1
        if count and binding.type is not NULL:
            # Without elements, the binding of the types may have no child: their column can consist of nulls.
            binding.type.children.element = -1
        builder.start_vector(count * width, width)
        for i in range(count - 1, -1, -1):
            builder.store(<uint64_t>self.end_offsets[base + 2 * i + 1], width)
        binding.bits = <uint64_t>builder.end_vector(count)
        self.start_vector(binding, count)
        for i in range(count - 1, -1, -1):
            if self.end_offsets[base + 2 * i]:
                builder.store_offset(self.end_offsets[base + 2 * i])
            else:
                builder.store(0, 4)
        self.end_offset_count = base
        return builder.end_vector(count)

    cdef Py_ssize_t put_part(self, Binding* binding, int64_t row) except -1:
        """Builds the part to which a field or element has an offset; returns its end offset, or 0 if it is null."""
        cdef const Column* column = binding.column
        cdef int64_t at = row
        cdef uint64_t type = 0
        cdef int present
        if binding.action == PUT_UNION:
            if binding.type is not NULL:
                self.scalar_bits(binding.type, row, &type)
            return self.put_union(binding, row, binding.type is not NULL, type)
        if column is NULL:
            # A table without a column is null if all of its parts are.
            if not has_value(binding, row):
                return 0
        else:
            present = resolve(&column, row, &at)
            if present < 0:
                self.fail_index(binding)
            if not present:
                if binding.action == PUT_UNION_VECTOR and binding.type is not NULL and has_value(binding.type, row):
                    self.fail(binding, ValueError, "it is null, but its types are not")
                return 0
        if binding.action == PUT_STRING:
            return self.put_string(binding, column, at)
        if binding.action == PUT_TABLE:
            if column is not NULL and not stands_for_table(column, at):
                self.fail(binding, ValueError, "it is false: a table without fields is true where it is, or null")
            return self.put_table(binding, at)
        if binding.action == PUT_VECTOR:
            return self.put_vector(binding, column, at)
        if binding.action == PUT_UNION_VECTOR:
            return self.put_union_vector(binding, column, at, row)
        # A struct, as a variant of a union.
        self.put_struct(binding, row)
        return end_offset_of(self.builder)

    # Tables and messages

    cdef Py_ssize_t put_table(self, Binding* binding, int64_t row) except -1:
        """Builds a table from one row of its parts."""
        cdef MessageBuilder builder = self.builder
        cdef Binding* child
        cdef Py_ssize_t i, width, entry_count = 0
        cdef uint64_t bits = 0
        cdef bint has_unions = False
        for i in range(binding.child_count):
            child = &binding.children[i]
            entry_count = max(entry_count, child.entry + 1)
            if child.action >= PUT_STRING:
                child.end_offset = self.put_part(child, row)
                if not child.end_offset and child.required:
                    self.fail_missing(child)
                if child.action == PUT_UNION or child.action == PUT_UNION_VECTOR:
                    has_unions = True
                    entry_count = max(entry_count, child.type_entry + 1)
        builder.start_table(entry_count)
        for i in range(binding.child_count):
            child = &binding.children[i]
            if child.action == PUT_SCALAR:
                if not self.scalar_bits(child, row, &bits) or (
                    bits == child.default_bits and not child.always_stored
                ):
                    continue
                builder.prep(child.width, 0)
                builder.store(bits, child.width)
            elif child.action == PUT_STRUCT:
                if not has_value(child, row):
                    if child.required:
                        self.fail_missing(child)
                    continue
                self.put_struct(child, row)
            elif child.end_offset:
                builder.put_offset(child.end_offset)
                if child.action == PUT_UNION_VECTOR:
                    # The vector of the types.
                    mark_field(builder, child.entry)
                    builder.put_offset(<Py_ssize_t>child.bits)
                    mark_field(builder, child.type_entry)
                    continue
            else:
                continue
            mark_field(builder, child.entry)
        if has_unions:
            # The types of unions are single bytes mostly, so they come last.
            for i in range(binding.child_count):
                child = &binding.children[i]
                if child.action == PUT_UNION and child.end_offset:
                    width = self.types.unions[child.enum_index].type_width
                    builder.prep(width, 0)
                    builder.store(child.bits, width)
                    mark_field(builder, child.type_entry)
        return builder.end_table()

    cdef int write_row(self, Encoder encoder, int64_t row) except -1:
        """Builds the message of a row and writes it as a whole, so that a row with an error leaves nothing behind."""
        cdef MessageBuilder builder = self.builder
        cdef const Column* column = self.root.column
        cdef int64_t at = row
        if column is not NULL and resolve(&column, row, &at) != 1:
            self.fail(&self.root, ValueError, "it is null, but each row must be a message")
        builder.clear()
        self.end_offset_count = 0
        builder.finish_message(self.put_table(&self.root, at), self.identifier)
        return encoder.put_builder(builder, False)

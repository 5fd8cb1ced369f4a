# cython: boundscheck=False, wraparound=False
"""The plan for writing columns as messages: a tree of bindings, built from a schema and the given columns.

    columns "id", "level.value", "vectors"        root (table)
                                                   +-- id          scalar                 <- column "id"
                                                   +-- level       table, without column
                                                   |    +-- value  scalar                 <- column "level.value"
                                                   +-- vectors     table                  <- column "vectors"
                                                        +-- truths vector -- element scalar
                                                        +-- ...

All errors in names and types are found here, before the first row is written.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.arrow.importer cimport (
    BITS, DICTIONARY, HALF, MAX_INPUT_DEPTH, NULLS, NUMBERS, STRUCT, Column, Source, attach,
)
from flatstream._core.column_writer.lists cimport list_column, no_field, no_variant, with_variants
from flatstream._core.column_writer.sources cimport ArrayStream, PythonList, stream_of
from flatstream._core.column_writer.values cimport (
    INT_NUMBER, bytes_range, is_bytes_form, is_list_form, list_range, number_at, resolve,
)
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, BOOL, BYTE, DOUBLE, FLOAT, NOTHING, OBJECT, STRING, UBYTE, UNION, VECTOR, is_scalar, may_be_enum,
    scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, FieldLayout
from flatstream._core.flatbuf.verifier cimport Field, ObjectType, Variant, find_not_utf8, find_variant

from flatstream._core.flatbuf.kinds import KIND_NAMES


cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


# The most tables inside one another, the root included: the default limit of verifiers.
cdef Py_ssize_t MAX_TABLE_DEPTH = 64


# Bindings

cdef Binding* allocate_bindings(Py_ssize_t count) except NULL:
    cdef Binding* bindings = <Binding*>PyMem_RawCalloc(<size_t>max(count, 1), sizeof(Binding))
    if bindings is NULL:
        raise MemoryError("no memory to bind columns")
    return bindings


cdef Binding* add_child(Binding* parent) noexcept:
    """Makes the next child of `parent`, whose `children` have room for it, a binding of an element or a variant."""
    cdef Binding* child = &parent.children[parent.child_count]
    parent.child_count += 1
    child.parent = parent
    child.field = -1
    child.element = -1
    return child


cdef Py_ssize_t tables_around(const Binding* binding) noexcept:
    """How many tables the field, element or variant is inside of."""
    cdef Py_ssize_t count = 0
    cdef const Binding* around = binding.parent
    while around is not NULL:
        count += around.action == PUT_TABLE
        around = around.parent
    return count


cdef int free_binding(Binding* binding) noexcept:
    """Frees everything that a binding refers to, but not the binding itself."""
    cdef Py_ssize_t i
    if binding is NULL:
        return 0
    for i in range(binding.child_count):
        free_binding(&binding.children[i])
    PyMem_RawFree(binding.children)
    if binding.type is not NULL:
        free_binding(binding.type)
        PyMem_RawFree(binding.type)
    PyMem_RawFree(binding.name_values)
    PyMem_RawFree(binding.name_states)
    return 0


# Names of parts

cdef list group_parts(list parts, object known, str prefix):
    """The parts, as (name, part). Parts whose names have a dot become a dict under the part of the name before it.

    The parts of a mapping are in this form already, see `group_columns`; those of an Arrow table or struct are not. A
    name that is `known` as it is stays, even if it has a dot.
    """
    cdef list grouped = []
    cdef dict groups = {}
    cdef set whole = set()
    for name, part in parts:
        head, dot, rest = name.partition(".")
        if not dot or name in known:
            whole.add(name)
            grouped.append((name, part))
            continue
        if (prefix + name).count(".") > MAX_INPUT_DEPTH:
            raise ValueError(f"column {prefix + name!r:.100} is nested deeper than {MAX_INPUT_DEPTH} tables")
        if head not in groups:
            groups[head] = {}
            grouped.append((head, groups[head]))
        if rest in groups[head]:
            raise ValueError(f"there are two columns {prefix + name!r}")
        groups[head][rest] = part
    for head in groups:
        if head in whole:
            raise ValueError(f"column {prefix + head!r} is given both as a whole and in parts")
    return grouped


cdef Source without_dictionary(Source source):
    """The source of the values: that of the innermost dictionary, or `source` itself."""
    while source.dictionary is not None:
        source = source.dictionary
    return source


cdef inline bint is_bool(const Column* column) noexcept:
    return column.form == BITS or column.form == NUMBERS and column.kind == BOOL


# Types of unions

cdef object read_type(const Column* column, int64_t row):
    """The types in a row: a name, a number or a list of these. None for any other value: it raises an error later."""
    cdef int64_t at = 0, start = 0, count = 0, i, value = 0
    cdef double real = 0.0
    cdef const uint8_t* text = NULL
    cdef list types
    if resolve(&column, row, &at) != 1:
        return None
    if is_bytes_form(column.form):
        if bytes_range(column, at, &text, &count) < 0 or find_not_utf8(text, <uint64_t>count) >= 0:
            return None
        return PyUnicode_DecodeUTF8(<const char*>text, count, NULL)
    if is_list_form(column.form):
        if list_range(column, at, &start, &count) < 0:
            return None
        types = []
        for i in range(count):
            types.append(read_type(column.children[0], start + i))
        return types
    if column.form != NUMBERS or number_at(column, at, &value, &real) != INT_NUMBER:
        return None
    return value


cdef list read_types(ArrayStream arrays):
    """The types in all arrays of a column whose stream has been read to its end. No array is consumed."""
    cdef list types = []
    cdef Column* column = &arrays.source.column
    cdef int64_t i
    for i in range(arrays.rows_left):
        types.append(read_type(column, i))
    for array in arrays.pending:
        attach(arrays.source, array)
        for i in range(column.length):
            types.append(read_type(column, i))
    return types


# no_gc: clearing a cycle would remove the sources from a plan in use, and nothing that a plan holds refers back to it.
@cython.no_gc
cdef class WritePlan:
    def __cinit__(self):
        self.sources = []
        self.streams = []
        self.name_dictionaries = []

    def __dealloc__(self):
        free_binding(&self.root)

    cdef int bind_table(self, object inputs) except -1:
        """Binds the input of a whole table, see `table_input`."""
        self.root.action = PUT_TABLE
        self.root.field = -1
        self.root.element = -1
        self.root.object = self.number
        return self.bind_fields(&self.root, inputs, "")

    # Errors

    cdef str type_name_of(self, uint8_t kind, uint8_t element, int32_t index):
        """The type of a field as the schema writes it."""
        if kind == VECTOR or kind == ARRAY:
            return f"[{self.type_name_of(element, 0, index)}]"
        if kind == OBJECT:
            word = "struct" if self.types.objects[index].is_struct else "table"
            return f"{word} {self.layout.object_names[index]}"
        if kind == UNION:
            return f"union {(<EnumLayout>self.layout.enums[index]).name}"
        if may_be_enum(kind) and index >= 0:
            return f"{KIND_NAMES[kind]} {(<EnumLayout>self.layout.enums[index]).name}"
        return KIND_NAMES[kind]

    cdef str path_of(self, const Binding* binding):
        """The path of a field by the names of the schema, with the index of each element that is being written."""
        cdef Binding* parent = binding.parent
        cdef EnumLayout enum
        if parent is NULL:
            return ""
        path = self.path_of(parent)
        if binding.field >= 0:
            name = self.layout.field_names[parent.object][binding.field]
            path = f"{path}.{name}" if path else name
        elif binding.variant:
            enum = self.layout.enums[parent.enum_index]
            number = enum.value_of(binding.variant)
            path = f"{path}.{enum.by_value.get(number, number)}"
        return f"{path}[{binding.element}]" if binding.element >= 0 else path

    cdef int fail_mismatch(self, Source source, uint8_t kind, uint8_t element, int32_t index, str path) except -1:
        raise TypeError(
            f"column {path!r} is {source.type_name}, which cannot be stored as "
            f"{self.type_name_of(kind, element, index)}"
        )

    # Inputs

    cdef Source source_of(self, object value, uint8_t kind, uint8_t element, int32_t index, str path):
        """The source of an input for this type. The plan keeps it, and its stream of arrays."""
        cdef Source source
        if isinstance(value, Source):
            return value
        if isinstance(value, ArrayStream):
            source = (<ArrayStream>value).source
            self.streams.append(value)
        elif isinstance(value, PythonList):
            source = list_column(self.layout, (<PythonList>value).values, None, kind, element, index, path, 0)
            self.streams.append(stream_of(source))
        elif kind == VECTOR or kind == ARRAY:
            # An empty mapping has no parts.
            part = next(iter(value), "")
            raise TypeError(
                f"column {path!r} takes lists, because it is a vector, {self.type_name_of(kind, element, index)}: its "
                f"parts, like {f'{path}.{part}'!r}, cannot be columns"
            )
        else:
            raise TypeError(f"column {path!r} has parts, but {self.type_name_of(kind, element, index)} has none")
        self.sources.append(source)
        return source

    cdef list parts_of(self, Binding* binding, object value, uint8_t kind, int32_t index, str path):
        """The parts of an input for a table, a struct or a union, as (name, part); None if all values are null.

        Sets the column of the binding, if the input has one.
        """
        cdef Source source
        cdef list parts = []
        if isinstance(value, dict):
            return list(value.items())
        source = self.source_of(value, kind, 0, index, path)
        binding.column = &source.column
        source = without_dictionary(source)
        if source.column.form == NULLS:
            return None
        if path and is_bool(&source.column) and (
            self.may_be_bare(index) if kind == OBJECT else self.has_only_tables(index)
        ):
            return parts
        if source.column.form != STRUCT:
            if not path:
                raise TypeError(f"expected a table of columns, got {source.type_name}")
            raise TypeError(
                f"column {path!r} is {source.type_name}: {self.type_name_of(kind, 0, index)} needs a struct"
                + (" with one nullable child per variant" if kind == UNION else "")
            )
        for part in source.parts:
            parts.append(((<Source>part).name, part))
        return parts

    # Tables and structs

    cdef bint may_be_bare(self, int32_t number) noexcept:
        """Whether a table can have no column for any of its fields, so that its column says only where it is present:
        it has none, or all of them lead to tables, which are left out if they are around it.
        """
        cdef ObjectType* object_type = &self.types.objects[number]
        cdef const Field* field
        cdef Py_ssize_t i
        if object_type.is_struct:
            return False
        for i in range(object_type.field_count):
            field = &object_type.fields[i]
            if self.layout.objects[number].fields[i].deprecated:
                continue
            if (field.element if field.kind == VECTOR else field.kind) != OBJECT or (
                self.types.objects[field.index].is_struct
            ):
                return False
        return True

    cdef bint has_only_tables(self, int32_t index) noexcept:
        """Whether a union can have no column for any of its variants: columns leave out tables inside themselves."""
        cdef const Variant* variant
        cdef Py_ssize_t i
        for i in range(self.types.unions[index].variant_count):
            variant = &self.types.unions[index].variants[i]
            if variant.kind != NOTHING and (variant.kind != OBJECT or self.types.objects[variant.index].is_struct):
                return False
        return True

    cdef int bind_fields(self, Binding* binding, object value, str path) except -1:
        """Binds the parts of an input, or of a Source, to the fields of a table or struct."""
        cdef int32_t number = binding.object
        cdef ObjectType* object_type = &self.types.objects[number]
        cdef FieldLayout* fields = self.layout.objects[number].fields
        cdef Py_ssize_t i
        cdef uint32_t alignment
        cdef Binding* child
        cdef dict numbers = self.layout.numbers[number], given = {}
        cdef list parts = self.parts_of(binding, value, OBJECT, number, path)
        title = self.layout.object_names[number]
        if parts is None:
            return 0
        if binding.action == PUT_TABLE and tables_around(binding) >= MAX_TABLE_DEPTH:
            raise ValueError(
                f"column {path!r:.100} is nested deeper than {MAX_TABLE_DEPTH} tables, the default limit of verifiers"
            )
        prefix = path + "." if path else ""
        for name, part in group_parts(parts, numbers, prefix):
            if name not in numbers:
                if name in self.layout.field_names[number]:
                    raise ValueError(f"column {prefix + name!r} is deprecated in {title}")
                if not path and name.startswith("__index_level_"):
                    raise ValueError(
                        f"column {name!r} is the index of a pandas data frame, not a field of {title}: remove it with "
                        "reset_index(drop=True)"
                    )
                raise ValueError(f"column {prefix + name!r}: {no_field(self.layout, number, name)}")
            if name in given:
                raise ValueError(f"there are two columns {prefix + name!r}")
            given[name] = part
        bound = []
        for i in range(object_type.field_count):
            name = self.layout.field_names[number][i]
            if fields[i].deprecated and not object_type.is_struct:
                continue
            if name not in given:
                if object_type.is_struct:
                    raise ValueError(
                        f"column {prefix + name!r} is missing: struct {title} needs all of its fields"
                    )
                # Without a column for the type of a union, the value determines the type.
                if object_type.fields[i].required and not self.is_union_type(number, i):
                    raise ValueError(f"column {prefix + name!r} is missing: {title} requires it")
            elif self.is_union_type(number, i):
                union_name = self.layout.field_names[number][fields[i].paired_field]
                if union_name not in given:
                    raise ValueError(
                        f"column {prefix + union_name!r} is missing, but column {prefix + name!r} has its type"
                    )
            else:
                bound.append(i)
        binding.children = allocate_bindings(len(bound))
        # Stored by descending alignment, so that no padding is needed between fields.
        alignment = 256
        while alignment:
            for i in reversed(bound):
                if (fields[i].alignment if object_type.fields[i].kind != UNION else 4) == alignment:
                    child = add_child(binding)
                    child.field = <int32_t>i
                    name = self.layout.field_names[number][i]
                    if object_type.fields[i].kind != UNION and object_type.fields[i].element != UNION:
                        self.bind_field(child, number, i, given[name], prefix + name)
                        continue
                    type_name = self.layout.field_names[number][fields[i].paired_field]
                    part = given[name]
                    if isinstance(part, PythonList) and type_name in given:
                        part = self.tag_values(
                            part, given[type_name], object_type.fields[i].index, object_type.fields[i].kind != UNION,
                            prefix + name,
                        )
                    self.bind_field(child, number, i, part, prefix + name)
                    if type_name in given:
                        self.bind_union_type(
                            child, number, fields[i].paired_field, given[type_name], prefix + type_name
                        )
            alignment >>= 1
        return 0

    cdef PythonList tag_values(self, PythonList given, object types, int32_t index, bint is_vector, str path):
        """A list of the values of a union, or of vectors of unions, in which each value has its variant, see
        `with_variants`. Returns `given` if the lengths differ, which is an error later.
        """
        cdef list variants
        if isinstance(types, PythonList):
            variants = (<PythonList>types).values
        elif isinstance(types, ArrayStream):
            variants = read_types(types)
        else:
            return given
        if len(variants) != len(given.values):
            return given
        return PythonList(with_variants(self.layout, given.values, variants, None, index, is_vector, path))

    cdef bint is_union_type(self, int32_t number, Py_ssize_t i):
        """Whether a field is the type of a union, or the types of a vector of unions."""
        cdef Field* field = &self.types.objects[number].fields[i]
        cdef int32_t paired_field = self.layout.objects[number].fields[i].paired_field
        return paired_field >= 0 and is_scalar(field.element if field.kind == VECTOR else field.kind)

    cdef int bind_field(self, Binding* binding, int32_t number, Py_ssize_t i, object value, str path) except -1:
        cdef Field* field = &self.types.objects[number].fields[i]
        cdef FieldLayout* layout = &self.layout.objects[number].fields[i]
        binding.required = field.required
        binding.always_stored = layout.always_stored or self.force_defaults
        binding.default_bits = layout.default_bits
        if self.types.objects[number].is_struct:
            binding.offset = field.offset
        else:
            binding.entry = (field.offset - 4) // 2
            if field.type_offset:
                binding.type_entry = (field.type_offset - 4) // 2
        binding.size = layout.size
        binding.alignment = layout.alignment
        binding.element_size = layout.element_size
        binding.element_alignment = layout.element_alignment
        binding.length = layout.length
        return self.bind(binding, field.kind, field.element, field.index, value, path)

    cdef int bind_union_type(self, Binding* binding, int32_t number, Py_ssize_t i, object value, str path) except -1:
        """Binds a column of types to field `i`, as the type of the union (or the vector of unions) of `binding`."""
        cdef Field* field = &self.types.objects[number].fields[i]
        binding.type = allocate_bindings(1)
        binding.type.parent = binding.parent
        binding.type.field = <int32_t>i
        binding.type.element = -1
        binding.type.element_size = 1
        binding.type.element_alignment = 1
        return self.bind(binding.type, field.kind, field.element, binding.enum_index, value, path)

    # Any type

    cdef int bind(
        self, Binding* binding, uint8_t kind, uint8_t element, int32_t index, object value, str path
    ) except -1:
        """Binds an input, or a Source, to a field, an element or a variant of this type."""
        cdef Source source, values
        cdef Column* column
        cdef Binding* child
        binding.object = -1
        binding.enum_index = -1
        if kind == OBJECT:
            binding.action = PUT_STRUCT if self.types.objects[index].is_struct else PUT_TABLE
            binding.object = index
            return self.bind_fields(binding, value, path)
        if kind == UNION:
            binding.action = PUT_UNION
            return self.bind_variants(binding, index, value, path)
        source = self.source_of(value, kind, element, index, path)
        binding.column = &source.column
        values = without_dictionary(source)
        column = &values.column
        if is_scalar(kind):
            binding.action = PUT_SCALAR
            binding.kind = kind
            binding.width = <uint8_t>scalar_width(kind)
            binding.enum_index = index if may_be_enum(kind) else -1
            if column.form == NULLS or column.form == BITS or column.form == NUMBERS:
                if (column.kind == HALF or column.kind == FLOAT or column.kind == DOUBLE) and kind < FLOAT:
                    raise TypeError(
                        f"column {path!r} is {source.type_name}: {self.type_name_of(kind, element, index)} needs "
                        "integers, and floats are not converted (pandas turns integers with nulls into floats, unless "
                        "they have a nullable dtype like 'Int64')"
                    )
            elif not is_bytes_form(column.form) or binding.enum_index < 0:
                self.fail_mismatch(source, kind, element, index, path)
            elif source.column.form == DICTIONARY and source.dictionary is values:
                # Each name is looked up once, not in each row.
                self.name_dictionaries.append((<size_t>binding, values))
            binding.same_layout = (
                source.column.form == NUMBERS and source.column.kind == kind and kind != BOOL and not source.column.big
            )
            return 0
        if kind == STRING:
            binding.action = PUT_STRING
            if column.form != NULLS and not is_bytes_form(column.form):
                self.fail_mismatch(source, kind, element, index, path)
            return 0
        if kind != VECTOR and kind != ARRAY:
            raise TypeError(f"column {path!r} is for a field of unknown kind {kind}")
        binding.action = PUT_ARRAY if kind == ARRAY else PUT_UNION_VECTOR if element == UNION else PUT_VECTOR
        if element == UNION:
            binding.enum_index = index
        if column.form == NULLS:
            return 0
        if is_bytes_form(column.form) and not column.text and (element == UBYTE or element == BYTE):
            return 0
        if not is_list_form(column.form):
            self.fail_mismatch(source, kind, element, index, path)
        binding.children = allocate_bindings(1)
        child = add_child(binding)
        child.size = binding.element_size
        return self.bind(child, element, 0, index, values.parts[0], path + "[]")

    cdef int bind_variants(self, Binding* binding, int32_t index, object value, str path) except -1:
        """Binds the parts of an input, or of a Source, to the variants of a union with the same names."""
        cdef EnumLayout enum = self.layout.enums[index]
        cdef const Variant* variant
        cdef Binding* child
        cdef dict given = {}
        cdef list parts
        binding.enum_index = index
        parts = self.parts_of(binding, value, UNION, index, path)
        if parts is None:
            return 0
        for name, part in group_parts(parts, enum.by_name, path + "."):
            if not enum.by_name.get(name, 0):
                raise ValueError(f"column {f'{path}.{name}'!r}: {no_variant(self.layout, index, name)}")
            if name in given:
                raise ValueError(f"there are two columns {f'{path}.{name}'!r}")
            given[name] = part
        binding.children = allocate_bindings(len(given))
        for name, part in given.items():
            variant = find_variant(&self.types.unions[index], enum.bits_of(enum.by_name[name]))
            if variant is not NULL:
                child = add_child(binding)
                child.variant = variant.bits
                if variant.kind == OBJECT and self.types.objects[variant.index].is_struct:
                    child.size = self.types.objects[variant.index].size
                    child.alignment = self.layout.objects[variant.index].alignment
                self.bind(child, variant.kind, 0, variant.index, part, f"{path}.{name}")
        return 0

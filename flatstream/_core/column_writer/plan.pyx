# cython: boundscheck=False, wraparound=False
"""Which column goes to which field: everything that can be wrong with names and types is found here, before any row."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from flatstream._core.arrow.importer cimport (
    BITS, DEEPEST, DICTIONARY, HALF, NULLS, NUMBERS, STRUCT, Column, Source, attach,
)
from flatstream._core.column_writer.lists cimport from_values, no_field, no_variant, with_types
from flatstream._core.column_writer.sources cimport Feed, Values, feed_of
from flatstream._core.column_writer.values cimport (
    bytes_range, is_list, is_text, list_range, number_at, resolve, wrong_utf8,
)
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, BOOL, BYTE, DOUBLE, FLOAT, OBJECT, STRING, UBYTE, UNION, UNION_TYPE, VECTOR, is_scalar, may_be_enum,
    scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, FieldLayout
from flatstream._core.flatbuf.verifier cimport Field, ObjectType, UnionType

from flatstream._core.flatbuf.kinds import KIND_NAMES


cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    void* PyMem_RawCalloc(size_t count, size_t size) nogil
    void PyMem_RawFree(void* p) nogil


cdef int free_step(Step* step) noexcept:
    cdef Py_ssize_t i
    if step is NULL:
        return 0
    for i in range(step.child_count):
        free_step(&step.children[i])
    PyMem_RawFree(step.children)
    if step.type is not NULL:
        free_step(step.type)
        PyMem_RawFree(step.type)
    PyMem_RawFree(step.codes)
    PyMem_RawFree(step.code_states)
    return 0


cdef list named_parts(Source source):
    """The parts of a struct, with their names."""
    cdef list parts = []
    for part in source.parts:
        parts.append(((<Source>part).name, part))
    return parts


cdef list by_dots(list parts, object known, str prefix):
    """Parts with their names; those with dots in them are put together under what stands in front of the first one.

    So they are in mappings already (see `grouped`); Arrow has them as they were called. What is `known` by the name as
    it is stays so.
    """
    cdef list found = []
    cdef dict groups = {}
    cdef set whole = set()
    for name, part in parts:
        head, dot, rest = name.partition(".")
        if not dot or name in known:
            whole.add(name)
            found.append((name, part))
            continue
        if (prefix + name).count(".") > DEEPEST:
            raise ValueError(f"column {prefix + name!r:.100} is nested deeper than {DEEPEST} tables")
        if head not in groups:
            groups[head] = {}
            found.append((head, groups[head]))
        if rest in groups[head]:
            raise ValueError(f"there are two columns {prefix + name!r}")
        groups[head][rest] = part
    for head in groups:
        if head in whole:
            raise ValueError(f"column {prefix + head!r} is there both as a whole and in parts")
    return found


cdef object read_value(const Column* column, int64_t row):
    """The name, the number or the list of such in a row; None for what is neither, which others will refuse."""
    cdef int64_t at = 0, start = 0, count = 0, i, value = 0
    cdef double real = 0.0
    cdef const uint8_t* text = NULL
    cdef list found
    if resolve(&column, row, &at) != 1:
        return None
    if is_text(column.form):
        if bytes_range(column, at, &text, &count) < 0 or wrong_utf8(text, count) >= 0:
            return None
        return PyUnicode_DecodeUTF8(<const char*>text, count, NULL)
    if is_list(column.form):
        if list_range(column, at, &start, &count) < 0:
            return None
        found = []
        for i in range(count):
            found.append(read_value(column.children[0], start + i))
        return found
    if column.form != NUMBERS or number_at(column, at, &value, &real) != 0:
        return None
    return value


cdef list read_feed(Feed feed):
    """The types of a union in all arrays of a column that was gathered, which then begins anew."""
    cdef list found = []
    cdef Column* column = &feed.source.column
    cdef int64_t i
    for i in range(feed.left):
        found.append(read_value(column, i))
    for array in feed.waiting:
        attach(feed.source, array)
        for i in range(column.length):
            found.append(read_value(column, i))
    return found


# The collector would take the sources away from a plan in use; and nothing that a plan holds leads back to it.
@cython.no_gc
cdef class ColumnPlan:
    def __cinit__(self):
        self.sources = []
        self.feeds = []
        self.coded = []

    def __dealloc__(self):
        free_step(&self.root)

    cdef str name_of(self, uint8_t kind, uint8_t element, int32_t index):
        """What the schema calls a type."""
        if kind == VECTOR or kind == ARRAY:
            return f"[{self.name_of(element, 0, index)}]"
        if kind == OBJECT:
            word = "struct" if self.types.objects[index].is_struct else "table"
            return f"{word} {self.layout.object_names[index]}"
        if kind == UNION:
            return f"union {(<EnumLayout>self.layout.enums[index]).name}"
        if may_be_enum(kind) and index >= 0:
            return f"{KIND_NAMES[kind]} {(<EnumLayout>self.layout.enums[index]).name}"
        return KIND_NAMES[kind]

    cdef int start(self, object inputs) except -1:
        """Binds the columns to the fields of the table."""
        self.root.action = TAKE_TABLE
        self.root.field = -1
        self.root.element = -1
        self.root.object = self.number
        self.bind_parts(&self.root, inputs, "")
        return 0

    cdef int bind_parts(self, Step* step, object value, str path) except -1:
        """Binds the parts of a struct or a table; `value` is what as_input gives, or a Source."""
        cdef Source source
        cdef int32_t number = step.object
        cdef ObjectType* known = &self.types.objects[number]
        cdef FieldLayout* fields = self.layout.objects[number].fields
        cdef Py_ssize_t i
        cdef uint32_t alignment
        cdef Step* child
        cdef dict numbers = self.layout.numbers[number], given = {}
        title = self.layout.object_names[number]
        if isinstance(value, dict):
            parts = list(value.items())
        else:
            source = self.source_of(value, OBJECT, 0, number, path)
            step.column = &source.column
            source = self.plain_source(source)
            if source.column.form == NULLS:
                return 0
            if source.column.form != STRUCT:
                raise TypeError(
                    f"column {path!r} is {source.type_name}: {self.name_of(OBJECT, 0, number)} needs a struct" if path
                    else f"expected a table of columns, got {source.type_name}"
                )
            parts = named_parts(source)
        prefix = path + "." if path else ""
        for name, part in by_dots(parts, numbers, prefix):
            if name not in numbers:
                if name in self.layout.field_names[number]:
                    raise ValueError(f"column {prefix + name!r} is deprecated in {title}")
                if not path and name.startswith("__index_level_"):
                    raise ValueError(
                        f"column {name!r} is the index of a pandas data frame, and no field of {title}: leave it away "
                        "with reset_index(drop=True)"
                    )
                raise ValueError(f"column {prefix + name!r}: {no_field(self.layout, number, name)}")
            if name in given:
                raise ValueError(f"there are two columns {prefix + name!r}")
            given[name] = part
        wanted = []
        for i in range(known.field_count):
            name = self.layout.field_names[number][i]
            if fields[i].deprecated and not known.is_struct:
                continue
            if name not in given:
                if known.is_struct:
                    raise ValueError(
                        f"column {prefix + name!r} is missing: a struct like {title} needs all of its fields"
                    )
                # The type of a union is that of its value, if nobody says it.
                if known.fields[i].required and not self.is_type(number, i):
                    raise ValueError(f"column {prefix + name!r} is missing: {title} requires it")
            elif self.is_type(number, i):
                union_name = self.layout.field_names[number][fields[i].paired_field]
                if union_name not in given:
                    raise ValueError(f"column {prefix + union_name!r} is missing, whose type is in {prefix + name!r}")
            else:
                wanted.append(i)
        step.children = <Step*>PyMem_RawCalloc(<size_t>max(len(wanted), 1), sizeof(Step))
        if step.children is NULL:
            raise MemoryError("no memory to bind columns")
        # What is aligned most is stored first, so that nothing has to be left free between fields.
        alignment = 256
        while alignment:
            for i in reversed(wanted):
                if (fields[i].alignment if known.fields[i].kind != UNION else 4) == alignment:
                    child = &step.children[step.child_count]
                    step.child_count += 1
                    child.parent = step
                    child.field = <int32_t>i
                    child.element = -1
                    name = self.layout.field_names[number][i]
                    if known.fields[i].kind != UNION and known.fields[i].element != UNION:
                        self.bind_field(child, number, i, given[name], prefix + name)
                        continue
                    type_name = self.layout.field_names[number][fields[i].paired_field]
                    part = given[name]
                    if isinstance(part, Values) and type_name in given:
                        part = self.typed_values(
                            part, given[type_name], known.fields[i].index, known.fields[i].kind != UNION, prefix + name
                        )
                    self.bind_field(child, number, i, part, prefix + name)
                    if type_name in given:
                        self.bind_type(child, number, fields[i].paired_field, given[type_name], prefix + type_name)
            alignment >>= 1
        return 0

    cdef Values typed_values(self, Values given, object types, int32_t index, bint many, str path):
        """A list of values of a union, or of vectors of them, each as its type says that it is to be taken."""
        cdef list kinds
        if isinstance(types, Values):
            kinds = (<Values>types).values
        elif isinstance(types, Feed):
            kinds = read_feed(types)
        else:
            return given
        if len(kinds) != len(given.values):
            return given
        return Values(with_types(self.layout, given.values, kinds, None, index, many, path))

    cdef bint is_type(self, int32_t number, Py_ssize_t i):
        """Whether a field is the type of a union, or of a vector of them."""
        cdef Field* field = &self.types.objects[number].fields[i]
        cdef int32_t paired_field = self.layout.objects[number].fields[i].paired_field
        return paired_field >= 0 and (field.kind == UNION_TYPE or field.kind == VECTOR and field.element == UNION_TYPE)

    cdef int bind_field(self, Step* step, int32_t number, Py_ssize_t i, object value, str path) except -1:
        cdef Field* field = &self.types.objects[number].fields[i]
        cdef FieldLayout* known = &self.layout.objects[number].fields[i]
        step.required = field.required
        step.keep = known.always_stored or self.force_defaults
        step.default_bits = known.default_bits
        if self.types.objects[number].is_struct:
            step.place = field.offset
        else:
            step.slot = (field.offset - 4) // 2
            if field.type_offset:
                step.type_slot = (field.type_offset - 4) // 2
        step.size = known.size
        step.alignment = known.alignment
        step.element_size = known.element_size
        step.element_alignment = known.element_alignment
        step.count = known.length
        return self.bind(step, field.kind, field.element, field.index, value, path)

    cdef int bind_type(self, Step* step, int32_t number, Py_ssize_t i, object value, str path) except -1:
        """Binds the type of a union to it, or the vector of the types of a vector of unions."""
        cdef Field* field = &self.types.objects[number].fields[i]
        step.type = <Step*>PyMem_RawCalloc(1, sizeof(Step))
        if step.type is NULL:
            raise MemoryError("no memory to bind columns")
        step.type.parent = step.parent
        step.type.field = <int32_t>i
        step.type.element = -1
        step.type.element_size = 1
        step.type.element_alignment = 1
        return self.bind(step.type, field.kind, field.element, step.enumeration, value, path)

    cdef Source source_of(self, object value, uint8_t kind, uint8_t element, int32_t index, str path):
        """The source of an input, which is kept."""
        cdef Source source
        if isinstance(value, Source):
            return value
        if isinstance(value, Feed):
            source = (<Feed>value).source
            self.feeds.append(value)
        elif isinstance(value, Values):
            source = from_values(self.layout, (<Values>value).values, None, kind, element, index, path, 0)
            self.feeds.append(feed_of(source))
        elif kind == VECTOR or kind == ARRAY:
            # There may be no part at all, in a mapping of none.
            part = next(iter(value), "")
            raise TypeError(
                f"column {path!r} takes lists, for it is a vector, {self.name_of(kind, element, index)}: its parts, "
                f"like {f'{path}.{part}'!r}, cannot be columns"
            )
        else:
            raise TypeError(f"column {path!r} has parts, but {self.name_of(kind, element, index)} has none")
        self.sources.append(source)
        return source

    cdef Source plain_source(self, Source source):
        while source.dictionary is not None:
            source = source.dictionary
        return source

    cdef int mismatch(self, Source source, uint8_t kind, uint8_t element, int32_t index, str path) except -1:
        raise TypeError(
            f"column {path!r} is {source.type_name}, which does not go into {self.name_of(kind, element, index)}"
        )

    cdef int bind(self, Step* step, uint8_t kind, uint8_t element, int32_t index, object value, str path) except -1:
        """Binds one column to a field, an element or a variant of this type."""
        cdef Source source, plain
        cdef Column* column
        step.object = -1
        step.enumeration = -1
        if kind == OBJECT:
            step.action = TAKE_STRUCT if self.types.objects[index].is_struct else TAKE_TABLE
            step.object = index
            return self.bind_parts(step, value, path)
        if kind == UNION:
            step.action = TAKE_UNION
            return self.bind_union(step, index, value, path)
        source = self.source_of(value, kind, element, index, path)
        step.column = &source.column
        plain = self.plain_source(source)
        column = &plain.column
        if is_scalar(kind):
            step.action = TAKE_SCALAR
            step.kind = kind
            step.width = <uint8_t>scalar_width(kind)
            step.enumeration = index if may_be_enum(kind) else -1
            if column.form == NULLS or column.form == BITS or column.form == NUMBERS:
                if (column.kind == HALF or column.kind == FLOAT or column.kind == DOUBLE) and kind < FLOAT:
                    raise TypeError(
                        f"column {path!r} is {source.type_name}: {self.name_of(kind, element, index)} needs integers, "
                        "so that nothing is lost (where pandas made floats of integers with nulls, a nullable dtype "
                        "like 'Int64' keeps them)"
                    )
            elif not is_text(column.form) or step.enumeration < 0:
                self.mismatch(source, kind, element, index, path)
            elif source.column.form == DICTIONARY and source.dictionary is plain:
                # Each name is looked up once for all rows.
                self.coded.append((<size_t>step, plain))
            step.plain = (
                source.column.form == NUMBERS and source.column.kind == kind and kind != BOOL and not source.column.big
            )
            return 0
        if kind == STRING:
            step.action = TAKE_STRING
            if column.form != NULLS and not is_text(column.form):
                self.mismatch(source, kind, element, index, path)
            return 0
        if kind != VECTOR and kind != ARRAY:
            raise TypeError(f"column {path!r} is for a field of a kind that is not known: {kind}")
        step.action = TAKE_ARRAY if kind == ARRAY else TAKE_UNIONS if element == UNION else TAKE_VECTOR
        if column.form == NULLS:
            if element == UNION:
                step.enumeration = index
            return 0
        if is_text(column.form) and not column.text and (element == UBYTE or element == BYTE):
            return 0
        if not is_list(column.form):
            self.mismatch(source, kind, element, index, path)
        # What its parts are is said by the one child.
        step.children = <Step*>PyMem_RawCalloc(1, sizeof(Step))
        if step.children is NULL:
            raise MemoryError("no memory to bind columns")
        step.child_count = 1
        step.children.parent = step
        step.children.field = -1
        step.children.element = -1
        step.children.size = step.element_size
        if element == UNION:
            step.enumeration = index
        return self.bind(step.children, element, 0, index, plain.parts[0], path + "[]")

    cdef int bind_union(self, Step* step, int32_t index, object value, str path) except -1:
        """Binds the parts of a struct to the variants of a union, by their names."""
        cdef UnionType* known = &self.types.unions[index]
        cdef EnumLayout names = self.layout.enums[index]
        cdef Source source
        cdef Py_ssize_t i
        cdef Step* child
        cdef dict given = {}
        step.enumeration = index
        if isinstance(value, dict):
            parts = list(value.items())
        else:
            source = self.source_of(value, UNION, 0, index, path)
            step.column = &source.column
            source = self.plain_source(source)
            if source.column.form == NULLS:
                return 0
            if source.column.form != STRUCT:
                raise TypeError(
                    f"column {path!r} is {source.type_name}: {self.name_of(UNION, 0, index)} needs a struct with one "
                    "nullable child per variant"
                )
            parts = named_parts(source)
        for name, part in by_dots(parts, names.by_name, path + "."):
            if not names.by_name.get(name, 0):
                raise ValueError(f"column {f'{path}.{name}'!r}: {no_variant(self.layout, index, name)}")
            if name in given:
                raise ValueError(f"there are two columns {f'{path}.{name}'!r}")
            given[name] = part
        step.children = <Step*>PyMem_RawCalloc(<size_t>max(len(given), 1), sizeof(Step))
        if step.children is NULL:
            raise MemoryError("no memory to bind columns")
        for name, part in given.items():
            for i in range(known.variant_count):
                if known.variants[i].value == names.by_name[name]:
                    child = &step.children[step.child_count]
                    step.child_count += 1
                    child.parent = step
                    child.field = -1
                    child.element = -1
                    child.code = <uint64_t>known.variants[i].value
                    if known.variants[i].kind == OBJECT and self.types.objects[known.variants[i].index].is_struct:
                        child.size = self.types.objects[known.variants[i].index].size
                        child.alignment = self.layout.objects[known.variants[i].index].alignment
                    self.bind(child, known.variants[i].kind, 0, known.variants[i].index, part, f"{path}.{name}")
                    break
        return 0

    cdef str path_of(self, const Step* step):
        """The way to a field, as the schema names it."""
        cdef Step* parent = step.parent
        if parent is NULL:
            return ""
        if step.field >= 0:
            name = self.layout.field_names[parent.object][step.field]
            front = self.path_of(parent)
            path = f"{front}.{name}" if front else name
        elif step.code:
            variants = (<EnumLayout>self.layout.enums[parent.enumeration]).by_value
            path = f"{self.path_of(parent)}.{variants.get(step.code, step.code)}"
        else:
            path = self.path_of(parent)
        return f"{path}[{step.element}]" if step.element >= 0 else path

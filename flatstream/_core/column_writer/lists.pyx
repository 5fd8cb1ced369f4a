# cython: boundscheck=False, wraparound=False
"""Lists of Python as columns: each value is taken as a record writer takes it, and stored as its field wants it."""

from bisect import bisect_right
from collections.abc import Mapping

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.importer cimport MAX_INPUT_DEPTH, LIST64, NULLS, NUMBERS, STRUCT, Source
from flatstream._core.base.buffers cimport Chunk
from flatstream._core.base.checks cimport listed
from flatstream._core.base.endian cimport store_le
from flatstream._core.column_writer.sources cimport hide, joined
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, OBJECT, STRING, UBYTE, UNION, UNION_TYPE, VECTOR, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, Layout
from flatstream._core.flatbuf.scalars cimport pack_scalar
from flatstream._core.flatbuf.verifier cimport Field

from flatstream._core.flatbuf.scalars import RefusalError


# Where values come from, `rows`, is None if each is of the row with its number. Elements of lists have a pair: where
# the lists come from, and where each of them ends among the elements; or, of the elements of one list, which one it is.

cdef int wrong_value(str path, object rows, Py_ssize_t i, object kind, str why) except -1:
    cdef Py_ssize_t row
    cdef str end = ""
    while rows is not None:
        rows, lists = rows
        if isinstance(lists, int):
            row = lists
            index = i
        else:
            row = bisect_right(lists, i)
            index = i - lists[row - 1] if row else i
        path, _, rest = path.rpartition("[]")
        end = f"[{index}]{rest}{end}"
        i = row
    raise kind(f"column {path + end!r}, row {i}: {why}")


cdef str no_field(Layout layout, int32_t index, object name):
    known = listed(layout.numbers[index])
    return f"{layout.object_names[index]} has no field {name!r:.100}; it has {known}"


cdef str no_variant(Layout layout, int32_t index, object name):
    cdef EnumLayout names = layout.enums[index]
    cdef list known = []
    for variant, value in names.by_name.items():
        if value:
            known.append(variant)
    return f"{names.name} has no variant {name!r:.100}; it has {listed(known)}"


cdef list with_types(Layout layout, list values, list types, object rows, int32_t index, bint many, str path):
    """Values of a union, or with `many` of a vector of them, with the types that they are said to have.

    A value that is not a mapping of variants is a record of the variant that its type says, and becomes such a mapping.
    """
    cdef EnumLayout names = layout.enums[index]
    cdef Py_ssize_t i
    cdef uint64_t bits = 0
    cdef list found = [], inner, inner_types
    for i in range(len(values)):
        value = values[i]
        kind = types[i]
        if value is None or kind is None:
            found.append(value)
            continue
        if many:
            # What are no lists, or not as long, others will refuse.
            if isinstance(value, (list, tuple)) and isinstance(kind, (list, tuple)):
                # Copies, which nobody makes longer or shorter.
                inner = list(value)
                inner_types = list(kind)
                if len(inner) == len(inner_types):
                    value = with_types(layout, inner, inner_types, (rows, i), index, False, path + "[]")
            found.append(value)
            continue
        if isinstance(value, Mapping) and len(value) > 0:
            for name in value:
                if name not in names.by_name:
                    break
            else:
                found.append(value)
                continue
        try:
            pack_scalar(UNION_TYPE, names, kind, &bits)
        except RefusalError as refusal:
            error, text = refusal.args
            wrong_value(path, rows, i, error, f"its type: {text}")
        if not bits:
            wrong_value(path, rows, i, ValueError, "its type is NONE, so that there can be no value")
        found.append({names.by_value.get(bits, bits): value})
    return found


cdef Source from_values(
    Layout layout, list values, object rows, uint8_t kind, uint8_t element, int32_t index, str path, int depth
):
    """The column that a list is, for a field of this type. `rows` says where the values come from."""
    cdef Source source
    cdef Py_ssize_t i, nulls = 0
    cdef bytearray hidden
    if depth > MAX_INPUT_DEPTH:
        raise ValueError(f"column {path!r:.100} has values that are nested deeper than {MAX_INPUT_DEPTH}")
    hidden = bytearray(len(values))
    for i in range(len(values)):
        if values[i] is None:
            hidden[i] = 1
            nulls += 1
    if nulls == len(values):
        # Which parts they would have, nobody says.
        source = Source(path, "list of None")
        source.column.form = NULLS
        source.column.length = len(values)
        return source
    if kind == OBJECT or kind == UNION:
        source = from_mappings(layout, values, rows, kind, index, path, depth)
    elif kind == VECTOR or kind == ARRAY:
        source = from_sequences(layout, values, rows, element, index, path, depth)
    elif kind == STRING:
        encoded = []
        for i in range(len(values)):
            value = values[i]
            if value is None:
                encoded.append(b"")
            elif isinstance(value, bytes):
                # Whether these are UTF-8 is looked at with those of anybody else.
                encoded.append(value)
            elif isinstance(value, str):
                try:
                    encoded.append(value.encode())
                except UnicodeEncodeError as error:
                    wrong_value(path, rows, i, ValueError, f"not to be written as UTF-8: {error}")
            else:
                wrong_value(path, rows, i, TypeError, f"expected a str, got {type(value).__name__}")
        source = joined(path, "list of str", encoded)
        source.column.text = True
    else:
        source = from_numbers(layout, values, rows, kind, index, path)
    if nulls:
        hide(source, bytes(hidden))
    return source


cdef Source from_numbers(Layout layout, list values, object rows, uint8_t kind, int32_t index, str path):
    cdef Source source = Source(path, "list")
    cdef Py_ssize_t i, width = scalar_width(kind)
    cdef Chunk memory = Chunk(width * len(values))
    cdef EnumLayout names = layout.enums[index] if may_be_enum(kind) and index >= 0 else None
    cdef uint64_t bits
    source.column.form = NUMBERS
    source.column.kind = kind if kind != UNION_TYPE else UBYTE
    source.column.stride = width
    source.column.length = len(values)
    source.column.values = memory.data
    source.owner = memory
    for i in range(len(values)):
        bits = 0
        if values[i] is not None:
            try:
                pack_scalar(kind, names, values[i], &bits)
            except RefusalError as refusal:
                error, text = refusal.args
                wrong_value(path, rows, i, error, text)
        store_le(memory.data + width * i, bits, width)
    return source


cdef Source from_sequences(
    Layout layout, list values, object rows, uint8_t element, int32_t index, str path, int depth
):
    cdef Source source, part
    cdef Py_ssize_t i
    cdef Chunk offsets
    cdef int64_t end = 0
    cdef list flat = [], ends = []
    if element == UBYTE:
        for value in values:
            if value is None:
                flat.append(b"")
            elif isinstance(value, (bytes, bytearray)) or isinstance(value, memoryview) and value.format == "B":
                flat.append(bytes(value))
            else:
                break
        if len(flat) == len(values):
            return joined(path, "list of bytes", flat)
        flat = []
    source = Source(path, "list of lists")
    offsets = Chunk(8 * (len(values) + 1))
    memcpy(offsets.data, &end, 8)
    for i in range(len(values)):
        value = values[i]
        if value is not None:
            if hasattr(value, "tolist"):
                value = value.tolist()
            if not isinstance(value, (list, tuple)):
                if isinstance(value, (str, Mapping)) or not hasattr(type(value), "__iter__"):
                    wrong_value(path, rows, i, TypeError, f"expected a sequence, got {type(value).__name__}")
                value = list(value)
            flat.extend(value)
            end = len(flat)
        ends.append(end)
        memcpy(offsets.data + 8 * (i + 1), &end, 8)
    part = from_values(layout, flat, (rows, ends), element, 0, index, path + "[]", depth + 1)
    source.column.form = LIST64
    source.column.length = len(values)
    source.column.offsets = offsets.data
    source.owner = offsets
    source.adopt([part])
    return source


cdef list column_of(list mappings, object name):
    # No comprehension: what the Cython of today makes of one lets go of an object twice if there is no memory.
    cdef list column = []
    for value in mappings:
        column.append(None if value is None else value.get(name))
    return column


cdef str type_field(Layout layout, int32_t index, object name):
    """The name of the field that has the type of a union, or the types of a vector of them."""
    cdef Py_ssize_t number = layout.numbers[index][name]
    return layout.field_names[index][layout.objects[index].fields[number].paired_field]


cdef Source from_mappings(Layout layout, list values, object rows, uint8_t kind, int32_t index, str path, int depth):
    cdef Source source = Source(path, "list of mappings")
    cdef Py_ssize_t i
    cdef dict names = {}
    cdef list mappings = []
    for i in range(len(values)):
        value = values[i]
        if isinstance(value, tuple):
            value = from_tuple(layout, kind, index, value, path, rows, i)
        if value is not None and not isinstance(value, Mapping):
            wrong_value(path, rows, i, TypeError, f"expected a mapping or a tuple, got {type(value).__name__}")
        mappings.append(value)
        for name in value or ():
            if name not in names:
                names[name] = part_kind(layout, kind, index, name, path, rows, i)
    parts = []
    for name, (inner, element, part_index) in names.items():
        column = column_of(mappings, name)
        if inner == UNION or inner == VECTOR and element == UNION:
            # The variants of a union have no types of their own.
            type_name = type_field(layout, index, name) if kind == OBJECT else None
            if type_name in names:
                column = with_types(
                    layout, column, column_of(mappings, type_name), rows, part_index, inner == VECTOR, f"{path}.{name}"
                )
        part = from_values(layout, column, rows, inner, element, part_index, f"{path}.{name}", depth + 1)
        (<Source>part).name = name
        parts.append(part)
    source.column.form = STRUCT
    source.column.length = len(values)
    source.adopt(parts)
    return source


cdef object from_tuple(
    Layout layout, uint8_t kind, int32_t index, tuple value, str path, object rows, Py_ssize_t row
):
    """The mapping that a tuple stands for: values in the order of the fields; of a union, a variant and its value."""
    if kind == OBJECT:
        if len(value) > len(layout.numbers[index]):
            wrong_value(
                path, rows, row, ValueError,
                f"{layout.object_names[index]} has {len(layout.numbers[index])} fields, got {len(value)} values",
            )
        return dict(zip(layout.numbers[index], value))
    if len(value) != 2:
        wrong_value(path, rows, row, ValueError, f"expected a variant and its value, got {len(value)} values")
    variant, inner = value
    if type(variant) is int:
        variant = (<EnumLayout>layout.enums[index]).by_value.get(variant, variant)
    return None if variant is None or variant == "NONE" else {variant: inner}


cdef object part_kind(Layout layout, uint8_t kind, int32_t index, object name, str path, object rows, Py_ssize_t row):
    """Of the field or the variant with this name: kind, element and index."""
    cdef Field* field
    cdef Py_ssize_t i
    if kind == OBJECT:
        number = layout.numbers[index].get(name)
        if number is None:
            wrong_value(path, rows, row, ValueError, no_field(layout, index, name))
        field = &layout.types.objects[index].fields[<Py_ssize_t>number]
        return field.kind, field.element, field.index
    value = (<EnumLayout>layout.enums[index]).by_name.get(name, 0)
    for i in range(layout.types.unions[index].variant_count):
        if value and layout.types.unions[index].variants[i].value == value:
            return layout.types.unions[index].variants[i].kind, 0, layout.types.unions[index].variants[i].index
    wrong_value(
        path, rows, row, ValueError,
        f"{no_variant(layout, index, name)}. A value is {{variant: value}} or (variant, value), or a record if there "
        "is a column of types",
    )

# cython: boundscheck=False, wraparound=False
"""Python lists as columns. A value is accepted and converted as by a record writer, and stored in the form that its
field needs.
"""

from bisect import bisect_right
from collections.abc import Mapping

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from flatstream._core.arrow.importer cimport LIST64, NULLS, NUMBERS, STRUCT, Source
from flatstream._core.base.buffers cimport Chunk, exact_bytes
from flatstream._core.base.checks cimport exact_str, index_of, listed
from flatstream._core.base.endian cimport store_le
from flatstream._core.column_writer.sources cimport apply_mask, bytes_column
from flatstream._core.flatbuf.kinds cimport (
    ARRAY, OBJECT, STRING, UBYTE, UNION, UNION_TYPE, VECTOR, may_be_enum, scalar_width,
)
from flatstream._core.flatbuf.layout cimport EnumLayout, Layout
from flatstream._core.flatbuf.scalars cimport pack_scalar
from flatstream._core.flatbuf.verifier cimport Field, Variant, find_variant
from flatstream._core.records.record_fields cimport integers_of_times, null_in

from flatstream._core.flatbuf.scalars import RefusalError


cdef extern from "Python.h":
    object PyUnicode_AsUTF8String(object text)

# As deep as a verifier accepts by default: 64 tables, each in a union in a list, and 101 structs inside of the last.
cdef int MAX_VALUE_DEPTH = 3 * 64 + 101


# Errors. The elements of all lists of a column are converted together, as one flat list. The origin of these elements
# is a pair: the origin of the lists, and the index in the flat list at which each list ends. If the elements are those
# of a single list, the pair has its index instead of the ends. If value i is that of row i, the origin is None.

cdef int fail_value(str path, object origin, Py_ssize_t i, object kind, str reason) except -1:
    """Raises an exception of class `kind` for value `i`, with its path, its indices in lists and its row."""
    cdef Py_ssize_t row
    cdef str end = ""
    while origin is not None:
        origin, lists = origin
        if isinstance(lists, int):
            row = lists
            index = i
        else:
            row = bisect_right(lists, i)
            index = i - lists[row - 1] if row else i
        path, _, rest = path.rpartition("[]")
        end = f"[{index}]{rest}{end}"
        i = row
    raise kind(f"column {path + end!r}, row {i}: {reason}")


cdef str no_field(Layout layout, int32_t index, object name):
    known = listed(layout.numbers[index])
    return f"{layout.object_names[index]} has no field {name!r:.100}; it has {known}"


cdef str no_variant(Layout layout, int32_t index, object name):
    cdef EnumLayout enum = layout.enums[index]
    cdef list known = []
    for variant, value in enum.by_name.items():
        if value:
            known.append(variant)
    return f"{enum.name} has no variant {name!r:.100}; it has {listed(known)}"


# Unions whose types are in a column of their own

cdef list with_variants(
    Layout layout, list values, list types, object origin, int32_t index, bint is_vector, str path
):
    """A mapping whose keys are all variants stays as it is. Any other value is the value of the variant in `types`."""
    cdef EnumLayout enum = layout.enums[index]
    cdef Py_ssize_t i
    cdef uint64_t bits = 0
    cdef list tagged = [], inner, inner_types
    for i in range(len(values)):
        value = values[i]
        variant = types[i]
        if value is None or variant is None:
            tagged.append(value)
            continue
        if is_vector:
            # Values that are not lists, and lists of different lengths, raise an error later.
            if isinstance(value, (list, tuple)) and isinstance(variant, (list, tuple)):
                # Copies, so that no other code changes their lengths.
                inner = list(value)
                inner_types = list(variant)
                if len(inner) == len(inner_types):
                    value = with_variants(layout, inner, inner_types, (origin, i), index, False, path + "[]")
            tagged.append(value)
            continue
        if isinstance(value, Mapping) and len(value) > 0:
            for name in value:
                if name not in enum.by_name:
                    break
            else:
                tagged.append(value)
                continue
        try:
            pack_scalar(UNION_TYPE if enum.kind == UBYTE else <uint8_t>enum.kind, enum, variant, &bits)
        except RefusalError as refusal:
            error, text = refusal.args
            fail_value(path, origin, i, error, f"its type: {text}")
        if not bits:
            fail_value(path, origin, i, ValueError, "its type is NONE, so it must not have a value")
        number = enum.value_of(bits)
        tagged.append({enum.by_value.get(number, number): value})
    return tagged


# Columns

cdef Source list_column(
    Layout layout, list values, object origin, uint8_t kind, uint8_t element, int32_t index, str path, int depth
):
    cdef Source source
    cdef Py_ssize_t i, null_count = 0
    cdef bytearray mask
    if depth > MAX_VALUE_DEPTH:
        raise ValueError(f"column {path!r:.100} has values that are nested deeper than {MAX_VALUE_DEPTH}")
    mask = bytearray(len(values))
    for i in range(len(values)):
        if values[i] is None:
            mask[i] = 1
            null_count += 1
    if null_count == len(values):
        # No value shows which parts the column has.
        source = Source(path, "list of None")
        source.column.form = NULLS
        source.column.length = len(values)
        return source
    if kind == OBJECT or kind == UNION:
        source = mapping_column(layout, values, origin, kind, index, path, depth)
    elif kind == VECTOR or kind == ARRAY:
        source = sequence_column(layout, values, origin, element, index, path, depth)
    elif kind == STRING:
        source = string_column(values, origin, path)
    else:
        source = number_column(layout, values, origin, kind, index, path)
    if null_count:
        apply_mask(source, bytes(mask))
    return source


cdef Source string_column(list values, object origin, str path):
    cdef Source source
    cdef Py_ssize_t i
    cdef list encoded = []
    for i in range(len(values)):
        value = values[i]
        if value is None:
            encoded.append(b"")
        elif isinstance(value, bytes):
            # Checked for UTF-8 when its row is written, as a column of bytes from any other source.
            encoded.append(exact_bytes(value))
        elif isinstance(value, str):
            try:
                encoded.append(PyUnicode_AsUTF8String(value))
            except UnicodeEncodeError as error:
                fail_value(path, origin, i, ValueError, f"it cannot be encoded as UTF-8: {error}")
        else:
            fail_value(path, origin, i, TypeError, f"expected a str, got {type(value).__name__}")
    source = bytes_column(path, "list of str", encoded)
    source.column.text = True
    return source


cdef Source number_column(Layout layout, list values, object origin, uint8_t kind, int32_t index, str path):
    cdef Source source = Source(path, "list")
    cdef Py_ssize_t i, width = scalar_width(kind)
    cdef Chunk memory = Chunk(width * len(values))
    cdef EnumLayout enum = layout.enums[index] if may_be_enum(kind) and index >= 0 else None
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
                pack_scalar(kind, enum, values[i], &bits)
            except RefusalError as refusal:
                error, text = refusal.args
                fail_value(path, origin, i, error, text)
        store_le(memory.data + width * i, bits, width)
    return source


cdef Source sequence_column(
    Layout layout, list values, object origin, uint8_t element, int32_t index, str path, int depth
):
    cdef Source source, part
    cdef Py_ssize_t i, place
    cdef Chunk offsets
    cdef int64_t end = 0
    cdef list flat = [], ends = []
    if element == UBYTE:
        for value in values:
            if value is None:
                flat.append(b"")
            elif isinstance(value, (bytes, bytearray)):
                flat.append(exact_bytes(value))
            elif isinstance(value, memoryview) and value.format == "B" and value.ndim == 1:
                flat.append(value.tobytes())
            else:
                break
        if len(flat) == len(values):
            return bytes_column(path, "list of bytes", flat)
        flat = []
    source = Source(path, "list of lists")
    offsets = Chunk(8 * (len(values) + 1))
    memcpy(offsets.data, &end, 8)
    for i in range(len(values)):
        value = values[i]
        if value is not None:
            if type(value) is not list and type(value) is not tuple:
                place = null_in(value)
                if place >= 0:
                    fail_value(f"{path}[]", (origin, i), place, ValueError, "an element of a vector must not be null")
                value = integers_of_times(value, &place)
                if place >= 0:
                    fail_value(f"{path}[]", (origin, i), place, ValueError, "an element of a vector must not be null")
                if hasattr(type(value), "to_pylist"):
                    # An array of pyarrow; one in chunks has no `tolist`.
                    value = value.to_pylist()
                elif hasattr(value, "tolist"):
                    value = value.tolist()
            if not isinstance(value, (list, tuple)):
                # Apart: for a tuple of a built-in class and one of Python, Cython's isinstance loses the error.
                if isinstance(value, str) or isinstance(value, Mapping) or not hasattr(type(value), "__iter__"):
                    fail_value(path, origin, i, TypeError, f"expected a sequence, got {type(value).__name__}")
                value = list(exact_bytes(value) if isinstance(value, (bytes, bytearray)) else value)
            flat.extend(value)
            end = len(flat)
        ends.append(end)
        memcpy(offsets.data + 8 * (i + 1), &end, 8)
    part = list_column(layout, flat, (origin, ends), element, 0, index, path + "[]", depth + 1)
    source.column.form = LIST64
    source.column.length = len(values)
    source.column.offsets = offsets.data
    source.owner = offsets
    source.adopt([part])
    return source


cdef list values_of_key(list mappings, object name):
    # Loop, not comprehension: Cython decrefs the item twice if the append fails with MemoryError.
    cdef list values = []
    for mapping in mappings:
        values.append(None if mapping is None else mapping.get(name))
    return values


cdef str type_field_name(Layout layout, int32_t index, object name):
    """The name of the field with the type of this union field, or with the types of this vector of unions."""
    cdef Py_ssize_t number = layout.numbers[index][name]
    return layout.field_names[index][layout.objects[index].fields[number].paired_field]


cdef Source mapping_column(
    Layout layout, list values, object origin, uint8_t kind, int32_t index, str path, int depth
):
    """The column of tables, structs or unions: a struct with one part for each key of any mapping."""
    cdef Source source = Source(path, "list of mappings")
    cdef Py_ssize_t i
    cdef dict part_types = {}
    cdef list mappings = []
    for i in range(len(values)):
        value = values[i]
        if isinstance(value, tuple):
            names = getattr(value, "_fields", None) if kind == OBJECT else None
            # A named tuple has the names of fields, as in a record writer; any other tuple has the fields in order.
            value = (
                mapping_from_tuple(layout, kind, index, tuple(value), path, origin, i) if names is None
                else dict(zip(names, value))
            )
        if value is not None and not isinstance(value, Mapping):
            fail_value(path, origin, i, TypeError, f"expected a mapping or a tuple, got {type(value).__name__}")
        if value is not None and type(value) is not dict:
            # A copy: the class can have methods that say something else each time.
            value = dict(value)
        mappings.append(value)
        for name in value or ():
            if name not in part_types:
                part_types[name] = type_of_part(layout, kind, index, name, path, origin, i)
    parts = []
    for name, (part_kind, element, part_index) in part_types.items():
        column = values_of_key(mappings, name)
        if part_kind == UNION or part_kind == VECTOR and element == UNION:
            # Only a table has fields for the types of its unions. A variant of a union does not.
            type_name = type_field_name(layout, index, name) if kind == OBJECT else None
            if type_name in part_types:
                column = with_variants(
                    layout, column, values_of_key(mappings, type_name), origin, part_index, part_kind == VECTOR,
                    f"{path}.{name}",
                )
        part = list_column(layout, column, origin, part_kind, element, part_index, f"{path}.{name}", depth + 1)
        (<Source>part).name = exact_str(name)
        parts.append(part)
    source.column.form = STRUCT
    source.column.length = len(values)
    source.adopt(parts)
    return source


cdef object mapping_from_tuple(
    Layout layout, uint8_t kind, int32_t index, tuple value, str path, object origin, Py_ssize_t row
):
    """The mapping for a tuple: of a table or struct the values in the order of its fields, of a union a variant and its
    value.
    """
    if kind == OBJECT:
        if len(value) > len(layout.numbers[index]):
            fail_value(
                path, origin, row, ValueError,
                f"{layout.object_names[index]} has {len(layout.numbers[index])} fields, got {len(value)} values",
            )
        return dict(zip(layout.numbers[index], value))
    if len(value) != 2:
        fail_value(path, origin, row, ValueError, f"expected a variant and its value, got {len(value)} values")
    variant, inner = value
    if isinstance(variant, str):
        # A subclass can compare as it likes.
        variant = exact_str(variant)
    number = index_of(variant)
    if number is not None:
        variant = (<EnumLayout>layout.enums[index]).by_value.get(number, number)
    if variant is None or variant == "NONE":
        return None
    if inner is None and isinstance(variant, str) and variant in (<EnumLayout>layout.enums[index]).by_name:
        fail_value(path, origin, row, ValueError, f"its type is {variant}, but its value is None")
    return {variant: inner}


cdef object type_of_part(
    Layout layout, uint8_t kind, int32_t index, object name, str path, object origin, Py_ssize_t row
):
    """The kind, the kind of the elements and the index of the field or variant with this name."""
    cdef Field* field
    cdef EnumLayout enum
    cdef const Variant* variant
    if kind == OBJECT:
        number = layout.numbers[index].get(name)
        if number is None:
            fail_value(path, origin, row, ValueError, no_field(layout, index, name))
        field = &layout.types.objects[index].fields[<Py_ssize_t>number]
        return field.kind, field.element, field.index
    enum = layout.enums[index]
    value = enum.by_name.get(name, 0)
    if value:
        variant = find_variant(&layout.types.unions[index], enum.bits_of(value))
        if variant is not NULL:
            return variant.kind, 0, variant.index
    fail_value(
        path, origin, row, ValueError,
        f"{no_variant(layout, index, name)}. A value is {{variant: value}} or (variant, value), or a record if there "
        "is a column of types",
    )

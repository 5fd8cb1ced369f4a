"""From the content of a schema to the types of the compiled core: `Types` for the verifier, `Layout` for all else."""

from __future__ import annotations

import struct

from flatstream._core.flatbuf.layout import EnumLayout, Layout
from flatstream._core.flatbuf.verifier import Types
from flatstream.schema._reflection import SIZES, BaseType, EnumInfo, FieldInfo, SchemaInfo, TypeInfo, invalid_schema

_FORCED_ALIGNMENTS = tuple(str(1 << bits) for bits in range(9))


def types_of(schema: SchemaInfo, *, size_prefixed: bool = False) -> Types:
    """The types of a schema in the form that the verifier takes; see `Types` for `size_prefixed`."""
    objects = []
    for info in schema.objects:
        by_name = {field.name: field for field in info.fields}
        fields = []
        for field in info.fields:
            type_offset = 0
            if field.type.inner is BaseType.UNION:
                type_offset = by_name[f"{field.name}_type"].offset
            fields.append(
                (
                    field.name,
                    field.offset,
                    int(_stored(schema, field.type, field.type.base)),
                    int(_stored(schema, field.type, field.type.element)),
                    field.type.index,
                    type_offset,
                    field.required,
                    field.deprecated or field.type.inner is BaseType.UTYPE,
                )
            )
        objects.append((info.name, info.is_struct, info.size if info.is_struct else 0, fields))
    unions = []
    for enum in schema.enums:
        variants = [(value.value, int(value.type.base), value.type.index) for value in enum.values]
        unions.append(variants if enum.is_union else [])
    widths = [SIZES[enum.underlying.base] if enum.is_union else 1 for enum in schema.enums]
    return Types(objects, unions, widths, size_prefixed=size_prefixed)


def layout_of(schema: SchemaInfo, types: Types) -> Layout:
    """The layout of a schema, for code that reads and writes messages; `types` is its `types_of`."""
    enums = [
        EnumLayout(
            enum.name,
            enum.is_union,
            "bit_flags" in enum.attributes,
            int(enum.underlying.base),
            [(value.name, _enum_value(enum, value.value)) for value in enum.values],
        )
        for enum in schema.enums
    ]
    objects = []
    for info in schema.objects:
        numbers = {field.name: number for number, field in enumerate(info.fields)}
        fields = []
        for field in info.fields:
            base, element = (
                _stored(schema, field.type, field.type.base),
                _stored(schema, field.type, field.type.element),
            )
            size, alignment = _inline_size(schema, base, field.type.index)
            element_size, element_alignment = 0, 1
            if field.type.base in (BaseType.VECTOR, BaseType.ARRAY):
                element_size, element_alignment = _inline_size(schema, element, field.type.index)
                if field.type.base is BaseType.ARRAY:
                    size, alignment = element_size * field.type.fixed_length, element_alignment
                else:
                    element_alignment = max(element_alignment, _forced_alignment(field))
            fields.append(
                (
                    field.name,
                    _default_bits(field),
                    size,
                    alignment,
                    element_size,
                    element_alignment,
                    field.type.fixed_length if field.type.base is BaseType.ARRAY else 0,
                    _paired_field(field, numbers),
                    field.optional and field.type.base in SIZES,
                    field.deprecated,
                )
            )
        objects.append((info.name, info.alignment if info.is_struct else 4, fields))
    identifier = schema.file_identifier.encode()
    nested, hashes, keys = _json_attributes(schema)
    return Layout(
        types,
        objects,
        enums,
        identifier if len(identifier) == 4 else b"",
        -1 if schema.root is None else schema.root,
        nested=nested,
        hashes=hashes,
        keys=keys,
    )


def _json_attributes(
    schema: SchemaInfo,
) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], str], dict[int, int]]:
    """The attributes of fields that JSON depends on, as `Layout` takes them."""
    tables = {info.name: number for number, info in enumerate(schema.objects) if not info.is_struct}
    nested: dict[tuple[int, int], int] = {}
    hashes: dict[tuple[int, int], str] = {}
    keys: dict[int, int] = {}
    for number, info in enumerate(schema.objects):
        for place, field in enumerate(info.fields):
            if field.key:
                keys.setdefault(number, place)
            if "hash" in field.attributes:
                hashes[number, place] = field.attributes["hash"]
            inner = field.attributes.get("nested_flatbuffer")
            if inner is None or (field.type.base, field.type.element) != (BaseType.VECTOR, BaseType.UBYTE):
                continue
            # The name is looked up in the namespace of the table, then in those around it.
            namespace = info.name
            while namespace:
                namespace = namespace.rpartition(".")[0]
                full = f"{namespace}.{inner}" if namespace else inner
                if full in tables:
                    nested[number, place] = tables[full]
                    break
    return nested, hashes, keys


def _stored(schema: SchemaInfo, type_info: TypeInfo, base: BaseType) -> BaseType:
    """How `base`, the type or the element type in `type_info`, is stored: a union's type as what the union says."""
    if base is not BaseType.UTYPE:
        return base
    underlying = schema.enums[type_info.index].underlying.base
    return BaseType.UTYPE if underlying in (BaseType.UBYTE, BaseType.BOOL) else underlying


def _enum_value(enum: EnumInfo, value: int) -> int:
    """The value of an enumerator; a binary schema stores an unsigned 64-bit value as a signed number."""
    return value & 0xFFFFFFFFFFFFFFFF if enum.underlying.base is BaseType.ULONG else value


def _inline_size(schema: SchemaInfo, base: BaseType, index: int) -> tuple[int, int]:
    """Size and alignment of a value in its table, struct or vector, where a reference is an offset of 4 bytes."""
    if base is BaseType.OBJ and schema.objects[index].is_struct:
        return schema.objects[index].size, schema.objects[index].alignment
    size = SIZES.get(base, 4)
    return size, size


def _forced_alignment(field: FieldInfo) -> int:
    """The least alignment of a vector's elements, from the attribute `force_align`."""
    text = field.attributes.get("force_align", "1")
    if text not in _FORCED_ALIGNMENTS:
        raise invalid_schema(f"{field.name} has force_align {text!r:.100}, expected a power of two up to 256")
    return int(text)


def _default_bits(field: FieldInfo) -> int:
    """The bytes of a scalar's default, as an unsigned number."""
    base = field.type.base
    if base not in SIZES or field.optional:
        return 0
    if base is BaseType.DOUBLE:
        return int(struct.unpack("<Q", struct.pack("<d", field.default_real))[0])
    if base is BaseType.FLOAT:
        try:
            return int(struct.unpack("<I", struct.pack("<f", field.default_real))[0])
        except OverflowError:
            raise invalid_schema(
                f"the default of {field.name}, {field.default_real}, does not fit a 32-bit float"
            ) from None
    return field.default_integer & ((1 << 8 * SIZES[base]) - 1)


def _paired_field(field: FieldInfo, numbers: dict[str, int]) -> int:
    """For a union the number of its type field, for a type field the number of its union; else -1."""
    if field.type.inner is BaseType.UNION:
        return numbers[f"{field.name}_type"]
    if field.type.inner is BaseType.UTYPE and field.name.endswith("_type"):
        return numbers.get(field.name.removesuffix("_type"), -1)
    return -1

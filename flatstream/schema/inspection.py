"""What a schema says, in public: fields of tables and structs, enums and unions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from flatstream.schema._reflection import (
    INTEGERS,
    SIZES,
    BaseType,
    EnumInfo,
    FieldInfo,
    ObjectInfo,
    SchemaInfo,
    TypeInfo,
)

__all__ = ["Enum", "EnumValue", "Field", "Struct"]


@dataclass(frozen=True, repr=False)
class Field:
    """A field of a table or a struct; see `Table.fields` and `Struct.fields`.

    Attributes
    ----------
    name : str
        The name.
    type : str
        The type as a schema's text has it: ``"int"``, ``"[ubyte]"``, ``"[float:4]"``, ``"Color"``. The name of a type
        in another namespace is complete. The field that tells the type of a union ``u`` has the type ``"type of U"``.
    kind : str
        How a value is stored: ``"bool"``, ``"byte"``, ``"ubyte"``, ``"short"``, ``"ushort"``, ``"int"``, ``"uint"``,
        ``"long"``, ``"ulong"``, ``"float"``, ``"double"`` (also for enums), ``"string"``, ``"vector"``, ``"array"``,
        ``"table"``, ``"struct"``, ``"union"`` or ``"union type"``.
    element : str or None
        The kind of the elements of a vector or an array.
    type_name : str or None
        The complete name of the table, struct, enum or union that the field or its elements have as their type.
    length : int or None
        The number of elements of an array.
    id : int
        The number of the field.
    offset : int
        The offset of the field's entry in the vtable of a table, or of the field in its struct, in bytes.
    default : bool, int, float or None
        The value that an absent number, bool or enum (as a number) has; None for any other field, for optional ones,
        and for those of structs, which are never absent.
    optional : bool
        Whether the schema says ``= null``: an absent number, bool or enum is None.
    required, deprecated, key : bool
        Whether the field has the attribute of this name.
    attributes : dict of str to str
        The attributes, with their values as text. Those that flatc gives a meaning are there if the binary schema was
        made with ``--bfbs-builtins``, as `Schema.from_fbs` does.
    documentation : tuple of str
        The lines of the comment that begin with ``///``. They are there if the binary schema was made with
        ``--bfbs-comments``, as `Schema.from_fbs` does.
    """

    name: str
    type: str
    kind: str
    element: str | None
    type_name: str | None
    length: int | None
    id: int
    offset: int
    default: bool | int | float | None
    optional: bool
    required: bool
    deprecated: bool
    key: bool
    attributes: dict[str, str] = field(hash=False)
    documentation: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Field {self.name}: {self.type}>"


@dataclass(frozen=True, repr=False)
class Struct:
    """A struct of a schema; see `Schema.structs`.

    Attributes
    ----------
    name : str
        The complete name, with the namespace.
    fields : dict of str to Field
        The fields by their names, in order.
    size : int
        Bytes of the struct, with padding.
    alignment : int
        Bytes that the struct is aligned to.
    attributes : dict of str to str
        The attributes, with their values as text; see `Field`.
    documentation : tuple of str
        The lines of the comment that begin with ``///``; see `Field`.
    """

    name: str
    fields: dict[str, Field] = field(hash=False)
    size: int
    alignment: int
    attributes: dict[str, str] = field(hash=False)
    documentation: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Struct {self.name} of {len(self.fields)} fields, {self.size} bytes>"

    def _repr_html_(self) -> str:
        from flatstream.schema._html import struct_html

        return struct_html(self)


@dataclass(frozen=True, repr=False)
class EnumValue:
    """A value of an enum, or a variant of a union.

    Attributes
    ----------
    name : str
        The name.
    value : int
        The number; in an enum of flags, the number of the value with only this flag.
    type_name : str or None
        For a variant of a union the complete name of its table or struct, or ``"string"``. None for the variant
        ``NONE``, and for the values of enums.
    attributes : dict of str to str
        The attributes, with their values as text; see `Field`.
    documentation : tuple of str
        The lines of the comment that begin with ``///``; see `Field`.
    """

    name: str
    value: int
    type_name: str | None
    attributes: dict[str, str] = field(hash=False)
    documentation: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<EnumValue {self.name} = {self.value}>"


@dataclass(frozen=True, repr=False)
class Enum:
    """An enum or a union of a schema; see `Schema.enums`.

    Attributes
    ----------
    name : str
        The complete name, with the namespace.
    values : tuple of EnumValue
        The values or variants, in the order of their numbers.
    type : str
        The integer type that stores it, ``"ubyte"`` for instance; of a union, that of the field with its type.
    is_union : bool
        Whether this is a union.
    bit_flags : bool
        Whether values are flags, which can be combined.
    attributes : dict of str to str
        The attributes, with their values as text; see `Field`.
    documentation : tuple of str
        The lines of the comment that begin with ``///``; see `Field`.
    """

    name: str
    values: tuple[EnumValue, ...]
    type: str
    is_union: bool
    bit_flags: bool
    attributes: dict[str, str] = field(hash=False)
    documentation: tuple[str, ...]

    def __repr__(self) -> str:
        kind, values = ("Union", "variants") if self.is_union else ("Enum", "values")
        return f"<{kind} {self.name} of {len(self.values)} {values}>"

    def _repr_html_(self) -> str:
        from flatstream.schema._html import enum_html

        return enum_html(self)


def fields_of(schema: SchemaInfo, info: ObjectInfo) -> dict[str, Field]:
    """The fields of a table or a struct by their names, in the order of their ids."""
    return {each.name: _field_of(schema, info, each) for each in info.fields}


def struct_of(schema: SchemaInfo, info: ObjectInfo) -> Struct:
    """A struct."""
    return Struct(
        info.name,
        fields_of(schema, info),
        info.size,
        info.alignment,
        dict(info.attributes),
        documentation_of(info.documentation),
    )


def enum_of(schema: SchemaInfo, info: EnumInfo) -> Enum:
    """An enum or a union."""
    values = tuple(
        EnumValue(
            value.name,
            number_of(info.underlying.base, value.value),
            _variant_type(schema, value.type),
            dict(value.attributes),
            documentation_of(value.documentation),
        )
        for value in info.values
    )
    return Enum(
        info.name,
        values,
        _plain_name(info.underlying.base),
        info.is_union,
        "bit_flags" in info.attributes,
        dict(info.attributes),
        documentation_of(info.documentation),
    )


def documentation_of(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The lines of a comment without the space that usually follows the slashes."""
    return tuple(line.removeprefix(" ").rstrip() for line in lines)


def number_of(base: BaseType, value: int) -> int:
    """A number of a binary schema, which stores an unsigned number of 64 bits with a sign."""
    return value & 0xFFFFFFFFFFFFFFFF if base is BaseType.ULONG else value


def default_of(info: FieldInfo) -> bool | int | float | None:
    """The value of a field of a table that is absent; see `Field.default`."""
    base = info.type.base
    if base not in SIZES or info.optional:
        return None
    if base in (BaseType.FLOAT, BaseType.DOUBLE):
        # One object for all, so that fields with it compare as equal.
        return math.nan if math.isnan(info.default_real) else info.default_real
    return bool(info.default_integer) if base is BaseType.BOOL else number_of(base, info.default_integer)


def type_name_of(schema: SchemaInfo, type_info: TypeInfo) -> str | None:
    """The complete name of what a type refers to; None if it refers to nothing."""
    if type_info.inner is BaseType.OBJ:
        return schema.objects[type_info.index].name
    is_reference = type_info.inner in (BaseType.UNION, *INTEGERS) and type_info.index >= 0
    return schema.enums[type_info.index].name if is_reference else None


def shorter_name(name: str, namespace: str) -> str:
    """The name of a type as it can be written in `namespace`."""
    found, _, last = name.rpartition(".")
    return last if found == namespace else name


def _plain_name(base: BaseType) -> str:
    return "ubyte" if base is BaseType.UTYPE else base.name.lower()


def _kind(schema: SchemaInfo, base: BaseType, index: int) -> str:
    if base is BaseType.OBJ:
        return "struct" if schema.objects[index].is_struct else "table"
    return "union type" if base is BaseType.UTYPE else base.name.lower()


def _variant_type(schema: SchemaInfo, type_info: TypeInfo) -> str | None:
    return "string" if type_info.base is BaseType.STRING else type_name_of(schema, type_info)


def _field_of(schema: SchemaInfo, info: ObjectInfo, each: FieldInfo) -> Field:
    base, index = each.type.base, each.type.index
    has_elements = base in (BaseType.VECTOR, BaseType.ARRAY)
    type_name = type_name_of(schema, each.type)
    text = _plain_name(each.type.inner) if type_name is None else shorter_name(type_name, info.name.rpartition(".")[0])
    if each.type.inner is BaseType.UTYPE and type_name is not None:
        text = f"type of {text}"
    if has_elements:
        text = f"[{text}:{each.type.fixed_length}]" if base is BaseType.ARRAY else f"[{text}]"
    return Field(
        name=each.name,
        type=text,
        kind=_kind(schema, base, index),
        element=_kind(schema, each.type.element, index) if has_elements else None,
        type_name=type_name,
        length=each.type.fixed_length if base is BaseType.ARRAY else None,
        id=each.id,
        offset=each.offset,
        default=None if info.is_struct else default_of(each),
        optional=each.optional and base in SIZES,
        required=each.required,
        deprecated=each.deprecated,
        key=each.key,
        attributes=dict(each.attributes),
        documentation=documentation_of(each.documentation),
    )

"""The content of a binary schema (.bfbs) in Python objects: tables, structs, enums and unions.

The classes mirror reflection.fbs of FlatBuffers. `_parse` makes them from the bytes of a file; `_compile` turns them
into the types that the compiled core works with.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from flatstream.errors import FlatbufferError


class BaseType(enum.IntEnum):
    """The type of a field, with the numbers of reflection.BaseType."""

    NONE = 0
    UTYPE = 1
    BOOL = 2
    BYTE = 3
    UBYTE = 4
    SHORT = 5
    USHORT = 6
    INT = 7
    UINT = 8
    LONG = 9
    ULONG = 10
    FLOAT = 11
    DOUBLE = 12
    STRING = 13
    VECTOR = 14
    OBJ = 15
    UNION = 16
    ARRAY = 17
    VECTOR64 = 18


SIZES = {
    BaseType.UTYPE: 1,
    BaseType.BOOL: 1,
    BaseType.BYTE: 1,
    BaseType.UBYTE: 1,
    BaseType.SHORT: 2,
    BaseType.USHORT: 2,
    BaseType.INT: 4,
    BaseType.UINT: 4,
    BaseType.LONG: 8,
    BaseType.ULONG: 8,
    BaseType.FLOAT: 4,
    BaseType.DOUBLE: 8,
}
"""Bytes of each scalar type."""
INTEGERS = frozenset(SIZES) - {BaseType.FLOAT, BaseType.DOUBLE}


@dataclass(frozen=True)
class TypeInfo:
    """The type of a field, of a vector's elements, or of a union's variant.

    `index` is the number of the object, or of the enum or union, that the type refers to.
    """

    base: BaseType
    element: BaseType = BaseType.NONE
    index: int = -1
    fixed_length: int = 0

    @property
    def inner(self) -> BaseType:
        """The element type of a vector or an array; of any other type, the type itself."""
        return self.element if self.base in (BaseType.VECTOR, BaseType.ARRAY) else self.base


@dataclass(frozen=True)
class FieldInfo:
    """A field of a table or a struct.

    `offset` is the offset of the field's entry in the vtable, or of the field in its struct.
    """

    name: str
    type: TypeInfo
    id: int
    offset: int
    default_integer: int = 0
    default_real: float = 0.0
    deprecated: bool = False
    required: bool = False
    key: bool = False
    optional: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    documentation: tuple[str, ...] = ()


@dataclass(frozen=True)
class ObjectInfo:
    """A table or a struct, with its fields in the order of their ids."""

    name: str
    fields: tuple[FieldInfo, ...]
    is_struct: bool = False
    alignment: int = 1
    size: int = 0
    attributes: dict[str, str] = field(default_factory=dict)
    documentation: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnumValue:
    """A value of an enum, or a variant of a union with its type."""

    name: str
    value: int
    type: TypeInfo = TypeInfo(BaseType.NONE)
    attributes: dict[str, str] = field(default_factory=dict)
    documentation: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnumInfo:
    """An enum or a union."""

    name: str
    values: tuple[EnumValue, ...]
    is_union: bool
    underlying: TypeInfo
    attributes: dict[str, str] = field(default_factory=dict)
    documentation: tuple[str, ...] = ()


@dataclass(frozen=True)
class SchemaInfo:
    """A whole binary schema; `root` is the number of the root table in `objects`."""

    objects: tuple[ObjectInfo, ...]
    enums: tuple[EnumInfo, ...]
    file_identifier: str
    file_extension: str
    root: int | None


def vtable_offset(number: int) -> int:
    """The offset of a field's entry in a vtable, which begins with its own size and the size of the table."""
    return 4 + 2 * number


def invalid_schema(reason: str) -> FlatbufferError:
    """The error for a schema that verifies as a FlatBuffer, but contradicts itself."""
    return FlatbufferError(f"invalid binary schema: {reason}")

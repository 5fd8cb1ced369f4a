"""A schema as text that flatc compiles to the same types.

A binary schema lacks some of what its text had: the order of types, includes, plain comments, defaults of strings and
vectors, and defaults above the maximum of a long. Services are not read. All else is written.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from flatstream.errors import FlatbufferError
from flatstream.schema._reflection import (
    SIZES,
    BaseType,
    EnumInfo,
    EnumValue,
    FieldInfo,
    ObjectInfo,
    SchemaInfo,
    TypeInfo,
)
from flatstream.schema.inspection import default_of, number_of, type_name_of

# The attributes that flatc knows without a declaration.
_BUILT_IN_ATTRIBUTES = frozenset(
    {
        "bit_flags",
        "cpp_ptr_type",
        "cpp_ptr_type_get",
        "cpp_str_flex_ctor",
        "cpp_str_type",
        "cpp_type",
        "csharp_partial",
        "deprecated",
        "flexbuffer",
        "force_align",
        "hash",
        "id",
        "idempotent",
        "key",
        "native_custom_alloc",
        "native_default",
        "native_inline",
        "native_type",
        "native_type_pack_name",
        "nested_flatbuffer",
        "offset64",
        "original_order",
        "private",
        "required",
        "shared",
        "streaming",
        "vector64",
    }
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def schema_text(schema: SchemaInfo) -> str:
    """The text of a schema; see `Schema.to_fbs`."""
    return "\n".join(_Writer(schema).lines()).lstrip("\n") + "\n"


class _Writer:
    """Writes one schema."""

    def __init__(self, schema: SchemaInfo) -> None:
        self.schema = schema
        self.enum_names = {info.name for info in schema.enums}
        self.object_names = {info.name for info in schema.objects}
        self.last_parts = Counter(name.rpartition(".")[2] for name in (*self.enum_names, *self.object_names))
        self.referred_from_outside = self.find_references()
        # The types written so far, and the namespace of the present one.
        self.written: set[str] = set()
        self.namespace = ""
        # What tables that are not written yet were called, with their complete names.
        self.pending: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        schema = self.schema
        for name in self.custom_attributes():
            yield f"attribute {_quoted(name)};"
        # flatc takes a name that it has not seen yet for a table: enums, structs and unions have to come before tables.
        for enum in schema.enums:
            if not enum.is_union:
                yield from self.enter(enum.name)
                yield from self.enum(enum)
        for number in self.structs_in_order():
            info = schema.objects[number]
            yield from self.enter(info.name)
            yield from self.object(info)
        for enum in schema.enums:
            if enum.is_union:
                yield from self.enter(enum.name)
                yield from self.enum(enum)
        # Those without a namespace first: flatc takes the next definition of a T, in whatever namespace, for a T that
        # it has met and not seen defined.
        for info in sorted(schema.objects, key=lambda info: "." in info.name):
            if not info.is_struct:
                yield from self.enter(info.name)
                yield from self.object(info)
        yield ""
        if schema.root is not None:
            # Here flatc looks for the complete name first.
            root = schema.objects[schema.root].name
            namespace, _, last = root.rpartition(".")
            yield f"root_type {last if namespace == self.namespace and self.last_parts[last] == 1 else root};"
        if schema.file_identifier:
            yield f"file_identifier {_quoted(schema.file_identifier)};"
        if schema.file_extension:
            yield f"file_extension {_quoted(schema.file_extension)};"

    def custom_attributes(self) -> list[str]:
        holders: list[dict[str, str]] = []
        for info in self.schema.objects:
            holders += [info.attributes, *(field.attributes for field in info.fields)]
        for enum in self.schema.enums:
            holders += [enum.attributes, *(value.attributes for value in enum.values)]
        return sorted({name for attributes in holders for name in attributes} - _BUILT_IN_ATTRIBUTES)

    def structs_in_order(self) -> list[int]:
        """The numbers of all structs, those inside of others first: flatc has to know their sizes."""
        found: dict[int, None] = {}

        def add(number: int) -> None:
            # `parse` has made sure that structs do not contain themselves, and that they are not nested too deep.
            for field in self.schema.objects[number].fields:
                if field.type.inner is BaseType.OBJ and field.type.index not in found:
                    add(field.type.index)
            found[number] = None

        for number, info in enumerate(self.schema.objects):
            if info.is_struct and number not in found:
                add(number)
        return list(found)

    # Names

    def enter(self, name: str) -> Iterator[str]:
        """The line that changes the namespace to that of a type, if it is another one, and an empty line."""
        namespace, _, last = name.rpartition(".")
        # flatc takes the definition for the first of these that it has been waiting for.
        if self.pending.pop(last if last in self.pending else name, name) != name or name in self.pending.values():
            raise _inexpressible(f"{name} cannot be told from another type")
        self.written.add(name)
        yield ""
        if namespace != self.namespace:
            self.namespace = namespace
            for part in namespace.split(".") if namespace else ():
                _checked(part)
            yield f"namespace {namespace};"
            yield ""

    def find_references(self) -> set[str]:
        """The types that others refer to from another namespace."""
        schema = self.schema
        references = []
        for info in schema.objects:
            for each in info.fields:
                references.append((info.name, type_name_of(schema, each.type)))
        for enum in schema.enums:
            for value in enum.values:
                references.append((enum.name, type_name_of(schema, value.type)))
        return {
            target
            for origin, target in references
            if target is not None and target.rpartition(".")[0] != origin.rpartition(".")[0]
        }

    def reference(self, name: str) -> str:
        """How a type is called in the present namespace: by the last part of its name, if it is of this namespace and
        flatc cannot take this for another type; else by its complete name, or by a part of it.

        flatc keeps a type that is not defined yet under the name by which it was called first. Every other reference
        has to call it by the same name.
        """
        parts = name.split(".")
        for part in parts:
            _checked(part)
        is_defined = name in self.written
        called_so = [".".join(parts[start:]) for start in range(len(parts))] if is_defined else [name]
        is_own = name.rpartition(".")[0] == self.namespace and self.last_parts[parts[-1]] == 1
        if is_own and (is_defined or name not in self.referred_from_outside):
            called_so.insert(0, parts[-1])
        for called in called_so:
            found = self.resolved(called)
            if found == name:
                return called
            if found is None and not is_defined:
                self.pending[called] = name
                return called
        raise _inexpressible(f"{name} cannot be told from another type in the namespace {self.namespace!r}")

    def resolved(self, called: str) -> str | None:
        """The type that flatc takes a name for; None if it has not met this name.

        It looks in the present namespace, then in those around it; for an enum or a union first, and for a table that
        it has not seen defined under the name by which this was called.
        """
        around = self.namespace.split(".") if self.namespace else []
        candidates = [".".join([*around[:length], called]) for length in range(len(around), -1, -1)]
        for name in candidates:
            if name in self.enum_names and name in self.written:
                return name
        if called in self.pending:
            return self.pending[called]
        for name in candidates:
            if name in self.pending:
                return self.pending[name]
            if name in self.object_names and name in self.written:
                return name
        return None

    # Types

    def enum(self, enum: EnumInfo) -> Iterator[str]:
        base = enum.underlying.base
        # A union has a type of its own, unless another one is given.
        underlying = "" if enum.is_union and base is BaseType.UTYPE else f" : {_scalar(base)}"
        yield from _comment(enum.documentation, "")
        name = _checked(enum.name.rpartition(".")[2])
        head = f"{'union' if enum.is_union else 'enum'} {name}{underlying}{_attributes(enum.attributes)}"
        values = [value for value in enum.values if not (enum.is_union and value.value == 0)]
        if not values:
            yield f"{head} {{ }}"
            return
        yield f"{head} {{"
        is_flags = "bit_flags" in enum.attributes and not enum.is_union
        following = 0 if not enum.is_union else 1
        for value in values:
            number = number_of(base, value.value)
            if is_flags:
                if number <= 0 or number & number - 1:
                    raise _inexpressible(f"{enum.name}.{value.name} has the value {number}, which is no flag")
                number = number.bit_length() - 1
            shown = "" if number == following else f" = {number}"
            following = number + 1
            kind = f": {self.variant(value)}" if enum.is_union else ""
            yield from _comment(value.documentation, "  ")
            yield f"  {_checked(value.name)}{kind}{shown}{_attributes(value.attributes)},"
        yield "}"

    def variant(self, value: EnumValue) -> str:
        if value.type.base is BaseType.STRING:
            return "string"
        if value.type.base is not BaseType.OBJ:
            raise _inexpressible(f"the variant {value.name} of a union has no type")
        return self.reference(self.schema.objects[value.type.index].name)

    def object(self, info: ObjectInfo) -> Iterator[str]:
        yield from _comment(info.documentation, "")
        attributes = dict(info.attributes)
        if info.is_struct and "force_align" not in attributes and info.alignment > self.natural_alignment(info):
            attributes["force_align"] = str(info.alignment)
        head = f"{'struct' if info.is_struct else 'table'} {_checked(info.name.rpartition('.')[2])}"
        head += _attributes(attributes)
        fields = info.fields if info.is_struct else self.written_fields(info)
        if not fields:
            yield f"{head} {{ }}"
            return
        yield f"{head} {{"
        for field in fields:
            yield from _comment(field.documentation, "  ")
            default = "" if info.is_struct else self.default(field)
            attributes = dict(field.attributes)
            # A string that is a key is required without saying so.
            implied = "required" if field.key and field.type.base is BaseType.STRING else ""
            for name in ("required", "deprecated", "key"):
                if getattr(field, name) and name != implied:
                    attributes.setdefault(name, "0")
            yield f"  {_checked(field.name)}: {self.type(field.type)}{default}{_attributes(attributes)};"
        yield "}"

    def natural_alignment(self, info: ObjectInfo) -> int:
        return max(
            self.schema.objects[field.type.index].alignment
            if field.type.inner is BaseType.OBJ
            else SIZES[field.type.inner]
            for field in info.fields
        )

    def written_fields(self, info: ObjectInfo) -> list[FieldInfo]:
        """The fields of a table without those that flatc itself adds before each union: the type of the union."""
        fields = list(info.fields)
        if [field.id for field in fields] != list(range(len(fields))):
            raise _inexpressible(f"the fields of {info.name} are not numbered one after another")
        for number, field in enumerate(info.fields):
            if field.type.inner is BaseType.UNION:
                before = info.fields[number - 1] if number else None
                if before is None or before.name != f"{field.name}_type":
                    raise _inexpressible(f"the type of the union {info.name}.{field.name} does not precede it")
                fields.remove(before)
        if any(field.type.inner is BaseType.UTYPE for field in fields):
            raise _inexpressible(f"{info.name} has the type of a union, and no union")
        return fields

    def type(self, type_info: TypeInfo) -> str:
        if type_info.inner is BaseType.OBJ:
            text = self.reference(self.schema.objects[type_info.index].name)
        elif type_info.inner is BaseType.STRING:
            text = "string"
        elif type_info.index >= 0 and type_info.inner not in (BaseType.FLOAT, BaseType.DOUBLE):
            text = self.reference(self.schema.enums[type_info.index].name)
        else:
            text = _scalar(type_info.inner)
        if type_info.base is BaseType.ARRAY:
            return f"[{text}:{type_info.fixed_length}]"
        return f"[{text}]" if type_info.base is BaseType.VECTOR else text

    def default(self, field: FieldInfo) -> str:
        if field.optional and field.type.base in SIZES:
            return " = null"
        value = default_of(field)
        if not value and not (isinstance(value, float) and math.copysign(1, value) < 0):
            return ""
        if isinstance(value, bool):
            return " = true"
        if isinstance(value, int) and field.type.index >= 0:
            names = [each.name for each in self.schema.enums[field.type.index].values if each.value == value]
            return f" = {_checked(names[0]) if names else value}"
        return f" = {value!r}"


def _scalar(base: BaseType) -> str:
    return "ubyte" if base is BaseType.UTYPE else base.name.lower()


def _checked(name: str) -> str:
    """A name, if it is one: what a damaged or a forged binary schema calls so must not become other text."""
    if not _IDENTIFIER.fullmatch(name):
        raise _inexpressible(f"{name!r:.100} is not a name")
    return name


def _inexpressible(reason: str) -> FlatbufferError:
    return FlatbufferError(f"this schema cannot be written as text: {reason}")


def _comment(lines: Iterable[str], indent: str) -> Iterator[str]:
    for line in lines:
        for part in line.splitlines() or [""]:
            yield f"{indent}///{part}"


def _attributes(attributes: dict[str, str]) -> str:
    def text(name: str, value: str) -> str:
        # flatc gives an attribute without a value the value "0".
        if value == "0" and name != "id":
            return _checked(name)
        is_number = re.fullmatch(r"0|[1-9][0-9]{0,17}", value)
        return f"{_checked(name)}: {value if is_number else _quoted(value)}"

    return f" ({', '.join(text(*item) for item in attributes.items())})" if attributes else ""


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(each) or (each if each >= " " else f"\\u{ord(each):04x}") for each in text) + '"'

"""Random schemas as text, such as people write them, and the same schemas with one thing changed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import Phase

# Each step of shrinking would run flatc twice, for minutes, and a text is short enough to be read.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
NAMESPACES = ("", "a", "b", "a.b", "a.a", "telemetry.host")
INTEGERS = {"byte": 8, "ubyte": 8, "short": 16, "ushort": 16, "int": 32, "uint": 32, "long": 64, "ulong": 64}
SCALARS = (*INTEGERS, "bool", "float", "double")
COMMENTS = (
    "a comment",
    "with \"quotes\" and \\ and 'others'",
    "grüße, 日本語",
    "  indented",
    "",
    "ends with */ // ///",
)


@dataclass
class TextField:
    name: str
    type: str
    default: str = ""
    attributes: list[str] = field(default_factory=list)
    comment: list[str] = field(default_factory=list)


@dataclass
class TextType:
    """An enum, union, struct or table. `fields` are its values, variants or fields."""

    kind: str
    namespace: str
    name: str
    fields: list[TextField]
    underlying: str = ""
    attributes: list[str] = field(default_factory=list)
    comment: list[str] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


class RandomSchema:
    """A schema made by chance; `text` writes it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.names = 0
        self.types: list[TextType] = []
        for kind, most in (("enum", 3), ("struct", 3), ("union", 2), ("table", 4)):
            # Unions have tables that come later.
            self.upcoming = []
            for _ in range(chance.randint(1 if kind == "table" else 0, most)):
                self.upcoming.append(self.new_type(kind))
            if kind == "union":
                unions, self.upcoming = self.upcoming, []
                self.types += unions
                continue
            for each in self.upcoming:
                getattr(self, f"fill_{kind}")(each)
                self.decorate(each)
                self.types.append(each)
        tables = self.of("table")
        for each in self.of("union"):
            self.fill_union(each)
            self.decorate(each)
        # Only now are there unions with variants; one that holds a table which holds it is common.
        for table in tables:
            for union in self.of("union"):
                if chance.random() < 0.5:
                    text = union.full_name if chance.random() < 0.7 else f"[{union.full_name}]"
                    table.fields.append(self.decorated(TextField(self.new_name("union_").lower(), text)))
        for table in tables:
            if chance.random() < 0.25:
                self.number(table)
        self.root = chance.choice([None, *tables])
        self.identifier = chance.choice(["", "TEST", 'A"\\b'])
        self.extension = chance.choice(["", "bin2"])

    def of(self, *kinds: str) -> list[TextType]:
        return [each for each in self.types if each.kind in kinds]

    def new_type(self, kind: str) -> TextType:
        """A type with a name of its own, or with that of a type in another namespace."""
        known = {each.full_name: each.name for each in (*self.types, *self.upcoming)}
        for _ in range(10 if known and self.chance.random() < 0.2 else 0):
            each = TextType(kind, self.chance.choice(NAMESPACES), self.chance.choice(list(known.values())), [])
            if each.full_name not in known:
                return each
        return TextType(kind, self.chance.choice(NAMESPACES), self.new_name(kind.title()), [])

    def new_name(self, start: str) -> str:
        self.names += 1
        return f"{start}{self.names}"

    # Comments and attributes

    def decorate(self, each: TextType | TextField) -> None:
        if self.chance.random() < 0.25:
            each.comment = [self.chance.choice(COMMENTS) for _ in range(self.chance.randint(1, 3))]

    def decorated(self, each: TextField) -> TextField:
        self.decorate(each)
        if self.chance.random() < 0.2:
            each.attributes.append(
                self.chance.choice(["unit", 'unit: "m/s\\n\\"x\\""', "level: 7", "level: -3", "unit: 0"])
            )
        return each

    def number(self, table: TextType) -> None:
        """Gives the fields of a table explicit numbers; the text lists them in another order."""
        number = 0
        unions = {f"[{each.full_name}]" for each in self.of("union")} | {each.full_name for each in self.of("union")}
        for each in table.fields:
            number += each.type in unions
            each.attributes.append(f"id: {number}")
            number += 1
        self.chance.shuffle(table.fields)

    # Types

    def fill_enum(self, enum: TextType) -> None:
        chance = self.chance
        enum.underlying = chance.choice(list(INTEGERS))
        bits = INTEGERS[enum.underlying]
        names = [self.new_name("Value") for _ in range(chance.randint(1, 5))]
        if chance.random() < 0.4:
            enum.attributes.append("bit_flags")
            enum.underlying = enum.underlying if enum.underlying.startswith("u") else f"u{enum.underlying}"
            numbers = sorted(chance.sample(range(bits), len(names)))
        else:
            least = 0 if enum.underlying.startswith("u") else -(1 << bits - 1)
            numbers = [0, *(chance.choice([1, 2, 3, 100, least, least + (1 << bits) - 1]) for _ in names[1:])]
            numbers = sorted(set(numbers))
        enum.fields = [
            TextField(name, "", f" = {number}" if number != place or chance.random() < 0.3 else "")
            for place, (name, number) in enumerate(zip(names, numbers, strict=False))
        ]
        for each in enum.fields:
            self.decorate(each)

    def fill_struct(self, struct: TextType) -> None:
        chance = self.chance
        enums = [each.full_name for each in self.of("enum") if "bit_flags" in each.attributes]
        for _ in range(chance.randint(1, 5)):
            text = chance.choice([*SCALARS, *enums, *(each.full_name for each in self.of("struct"))])
            if chance.random() < 0.25:
                text = f"[{text}:{chance.randint(1, 4)}]"
            struct.fields.append(self.decorated(TextField(self.new_name("field_"), text)))
        if chance.random() < 0.2:
            struct.attributes.append(f"force_align: {chance.choice([8, 16])}")

    def fill_union(self, union: TextType) -> None:
        chance = self.chance
        kinds = [each.full_name for each in self.of("table", "struct")]
        union.fields = [
            self.variant(text)
            for text in {*chance.choices(kinds, k=chance.randint(1, 3)), chance.choice([*kinds, "string"])}
        ]
        union.fields.sort(key=lambda each: each.name)

    def variant(self, text: str) -> TextField:
        each = TextField(self.new_name("Variant"), text)
        self.decorate(each)
        return each

    def fill_table(self, table: TextType) -> None:
        chance = self.chance
        for _ in range(chance.randint(0, 8)):
            table.fields.append(self.decorated(self.table_field()))
        if chance.random() < 0.2:
            table.attributes.append(chance.choice(["unit", "original_order", 'unit: "x"']))
        if chance.random() < 0.3:
            table.fields.append(
                TextField(self.new_name("key_"), chance.choice(["string", "int", "ulong"]), "", ["key"])
            )

    def table_field(self) -> TextField:
        chance = self.chance
        name = self.new_name("field_")
        objects = [each.full_name for each in (*self.of("struct", "table"), *self.upcoming)]
        enums = {each.full_name: each for each in self.of("enum")}
        kind = chance.random()
        if kind < 0.35:
            text = chance.choice(SCALARS)
            each = TextField(name, text, chance.choice(["", self.default(text), " = null"]))
        elif kind < 0.5 and enums:
            text, enum = chance.choice(list(enums.items()))
            each = TextField(name, text, chance.choice(["", " = null", f" = {chance.choice(enum.fields).name}"]))
        elif kind < 0.65:
            text = chance.choice([*SCALARS, "string", *enums])
            each = TextField(name, f"[{text}]")
            if text == "ubyte" and chance.random() < 0.5:
                each.attributes.append(f'nested_flatbuffer: "{self.upcoming[0].full_name}"')
            elif text in ("int", "double") and chance.random() < 0.3:
                each.attributes.append("force_align: 16")
        elif kind < 0.8 or not objects:
            each = TextField(name, "string")
        else:
            text = chance.choice(objects)
            each = TextField(name, text if chance.random() < 0.6 else f"[{text}]")
        if chance.random() < 0.1:
            each.attributes.append("deprecated")
        elif (each.type.startswith("[") or each.type in ("string", *objects)) and chance.random() < 0.2:
            each.attributes.append("required")
        return each

    def default(self, text: str) -> str:
        chance = self.chance
        if text == "bool":
            return f" = {chance.choice(['true', 'false'])}"
        if text in ("float", "double"):
            return f" = {chance.choice(['0.5', '-1.25e+20', 'nan', 'inf', '-inf', '3', '1e-7', '0.1'])}"
        # A binary schema has no default of a ulong that is above the maximum of a long.
        bits = INTEGERS[text] - (text == "ulong")
        least = 0 if text.startswith("u") else -(1 << bits - 1)
        return f" = {chance.choice([1, 7, least, least + (1 << bits) - 1])}"

    # Text

    def text(self) -> str:
        lines = ['attribute "unit";', "attribute level;"]
        namespace: Any = ""
        for each in (*self.of("enum"), *self.of("struct"), *self.of("union"), *self.of("table")):
            if each.namespace != namespace:
                namespace = each.namespace
                lines.append(f"namespace {namespace};")
            lines += [f"///{line}" for line in each.comment]
            underlying = f" : {each.underlying}" if each.underlying else ""
            lines.append(f"{each.kind} {each.name}{underlying}{attributes_text(each.attributes)} {{")
            for part in each.fields:
                lines += [f"  ///{line}" for line in part.comment]
                kind = f" : {part.type}" if part.type else ""
                end = ";" if each.kind in ("struct", "table") else ","
                lines.append(f"  {part.name}{kind}{part.default}{attributes_text(part.attributes)}{end}")
            lines.append("}")
        if self.root is not None:
            lines.append(f"root_type {self.root.full_name};")
        if self.identifier:
            escaped = self.identifier.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'file_identifier "{escaped}";')
        if self.extension:
            lines.append(f'file_extension "{self.extension}";')
        return "\n".join(lines) + "\n"


def attributes_text(attributes: list[str]) -> str:
    return f" ({', '.join(attributes)})" if attributes else ""

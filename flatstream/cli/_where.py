"""The language of ``--where``: ``sequence >= 10 and host == 'a'``.

    condition:   FIELD == != < <= > >= VALUE    VALUE < FIELD <= VALUE    FIELD in [VALUE, VALUE]    FIELD not in [...]
                 FIELD startswith 'TEXT'        FIELD    not FIELD        (a field that is true or false)
    conditions: condition and condition and ...

Values are numbers, quoted text, true and false, names of an enum (quoted or not) and times of ISO 8601 (quoted or not).
The conditions are those of `StreamReader.records`; nothing is evaluated as Python.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flatstream.cli._times import is_time, parse_time, value_in_unit
from flatstream.schema._reflection import INTEGERS, BaseType
from flatstream.tools._fields import field_at, is_enum, known_paths
from flatstream.tools._times import unit_of_name

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = ["Comparison", "NoSuchFieldError", "WhereError", "bind", "parse"]

COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
WORDS = ("and", "or", "not", "in", "startswith")
CONSTANTS = {"true": True, "True": True, "false": False, "False": False}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<time>\d{4}-\d\d-\d\d(?:T[\d:.,]+(?:Z|z|[+-]\d\d:?\d\d)?)?)
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|(?:\d[\d_]*)?\.?\d[\d_]*\.?(?:[eE][+-]?\d+)?))(?![\w.])
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)
    | (?P<operator>==|!=|<=|>=|&&|\|\||<>|=~|[=<>!\[\](),&|])
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)

# What other languages write, and what to write here.
HINTS = {
    "=": "write '==' to compare",
    "<>": "write '!='",
    "&&": "write 'and'",
    "&": "write 'and'",
    "||": "conditions are joined by 'and' only; several values of one field are: FIELD in [VALUE, VALUE]",
    "|": "conditions are joined by 'and' only; several values of one field are: FIELD in [VALUE, VALUE]",
    "or": "conditions are joined by 'and' only; several values of one field are: FIELD in [VALUE, VALUE]",
    "(": "there are no parentheses, because conditions are joined by 'and' only; a list is [VALUE, VALUE]",
    "!": "write 'not' before a field that is true or false, or '!='",
    "=~": "there are no patterns; the beginning of a text is: FIELD startswith 'TEXT'",
}


class WhereError(ValueError):
    """Conditions that cannot be understood. The message says where: characters count from 1."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        near = text[position : position + 20].split("\n")[0]
        shown = f" ({near!r})" if near else " (the end)"
        super().__init__(f"character {position + 1}{shown}: {problem}")
        self.position = position


class NoSuchFieldError(WhereError):
    """A condition is on a field that the table does not have."""


@dataclass(frozen=True)
class Comparison:
    """One condition: `operator` is one of those of `StreamReader.columns`, and a value is a number, bool or `Text`."""

    path: str
    operator: str
    value: Any
    # Where the field and the value stand.
    position: int
    value_position: int


@dataclass(frozen=True)
class Text:
    """A value that is a text, a name of an enum, or a time."""

    text: str
    is_quoted: bool
    position: int


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._split())
        self.at = 0

    def _split(self) -> Iterator[_Token]:
        at = 0
        while True:
            match = _TOKEN.match(self.text, at)
            if match is None:
                begin = at + len(self.text[at:]) - len(self.text[at:].lstrip())
                character = self.text[begin]
                if character in "'\"":
                    raise WhereError(self.text, begin, "the quoted text has no end")
                raise WhereError(self.text, begin, f"{character!r} cannot stand here")
            kind = match.lastgroup
            assert kind is not None
            yield _Token(kind, match[kind], match.start(kind))
            if kind == "end":
                return
            at = match.end()

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        found = self.token
        self.at += found.kind != "end"
        return found

    def is_word(self, word: str) -> bool:
        return self.token.kind == "name" and self.token.text == word

    def fail(self, expected: str) -> WhereError:
        token = self.token
        hint = HINTS.get(token.text) if token.kind in ("operator", "name") else None
        return WhereError(self.text, token.position, hint or f"expected {expected}")

    # The grammar

    def conditions(self) -> list[Comparison]:
        found = list(self.condition())
        while self.is_word("and"):
            self.take()
            found += self.condition()
        if self.token.kind != "end":
            raise self.fail("'and' or the end")
        return found

    def condition(self) -> list[Comparison]:
        if self.is_word("not"):
            self.take()
            field = self.field()
            return [Comparison(field.text, "==", False, field.position, field.position)]
        if not self.is_field():
            return self.chain(self.value("a field or a value"))
        field = self.field()
        negated = self.is_word("not")
        if negated:
            self.take()
        if self.is_word("in"):
            self.take()
            position = self.token.position
            return [Comparison(field.text, "not in" if negated else "in", self.values(), field.position, position)]
        if negated:
            raise self.fail("'in'")
        if self.is_word("startswith"):
            self.take()
            return [self.comparison(field, "startswith")]
        if self.is_comparison():
            first = self.comparison(field, self.take().text)
            if self.is_comparison():
                raise WhereError(
                    self.text, self.token.position, "in 'VALUE < FIELD < VALUE' the field is in the middle"
                )
            return [first]
        if self.token.kind == "end" or self.is_word("and"):
            return [Comparison(field.text, "==", True, field.position, field.position)]
        raise self.fail(f"one of {', '.join(COMPARISONS)}, in, not in, startswith")

    def chain(self, low: Any) -> list[Comparison]:
        """``VALUE < FIELD``, ``VALUE <= FIELD < VALUE``."""
        position = self.tokens[self.at - 1].position
        if not self.is_comparison():
            raise self.fail(f"one of {', '.join(COMPARISONS)}")
        operator = MIRRORED[self.take().text]
        if not self.is_field():
            raise self.fail("a field: a condition compares a field with a value")
        field = self.field()
        found = [Comparison(field.text, operator, low, field.position, position)]
        if self.is_comparison():
            found.append(self.comparison(field, self.take().text))
        return found

    def comparison(self, field: _Token, operator: str) -> Comparison:
        position = self.token.position
        return Comparison(field.text, operator, self.value(), field.position, position)

    def is_comparison(self) -> bool:
        return self.token.kind == "operator" and self.token.text in COMPARISONS

    def is_field(self) -> bool:
        return self.token.kind == "name" and self.token.text not in WORDS and self.token.text not in CONSTANTS

    def field(self) -> _Token:
        if not self.is_field():
            raise self.fail("the name of a field")
        return self.take()

    def values(self) -> list[Any]:
        if self.token.text != "[" or self.token.kind != "operator":
            raise WhereError(self.text, self.token.position, "expected a list, as [1, 2] or ['a', 'b']")
        self.take()
        values: list[Any] = []
        while self.token.text != "]":
            values.append(self.value())
            if self.token.text == ",":
                self.take()
            elif self.token.text != "]":
                raise self.fail("',' or ']'")
        self.take()
        return values

    def value(self, expected: str = "a value") -> Any:
        token = self.token
        if token.kind == "number":
            self.take()
            return self.number(token)
        if token.kind == "text":
            self.take()
            return Text(self.unquoted(token), True, token.position)
        if token.kind == "time":
            self.take()
            return Text(token.text, True, token.position)
        if token.kind == "name" and token.text not in WORDS:
            self.take()
            if token.text in ("null", "None"):
                raise WhereError(self.text, token.position, "no condition holds for a field that is absent")
            return CONSTANTS[token.text] if token.text in CONSTANTS else Text(token.text, False, token.position)
        raise self.fail(expected)

    def number(self, token: _Token) -> Any:
        try:
            plain = token.text.lstrip("+-").lower()
            if plain.startswith("0x"):
                return int(token.text, 16)
            return float(token.text) if set(plain) & set(".e") else int(token.text)
        except ValueError:
            raise WhereError(self.text, token.position, "this is no number") from None

    def unquoted(self, token: _Token) -> str:
        def put(match: re.Match[str]) -> str:
            character: str = match[1]
            if character in ESCAPES:
                return ESCAPES[character]
            if character in "\\'\"":
                return character
            raise WhereError(
                self.text,
                token.position + 1 + match.start(),
                "a backslash in a text stands before n, t, r, 0, a quote or a backslash",
            )

        return re.sub(r"\\(.)", put, token.text[1:-1], flags=re.DOTALL)


def parse(text: str) -> list[Comparison]:
    """The conditions of a text.

    Raises
    ------
    WhereError
        It is none.
    """
    return _Parser(text).conditions()


def bind(
    text: str,
    comparisons: list[Comparison],
    table: Table,
    unit_of: Callable[[str], str | None] = unit_of_name,
    now: int | None = None,
) -> list[tuple[str, str, Any]]:
    """The conditions for the messages of a table, as `StreamReader.records` takes them.

    Parameters
    ----------
    text : str
        The text that `comparisons` were parsed from, for errors.
    comparisons : list of Comparison
        The result of `parse`.
    table : Table
        The table.
    unit_of : callable
        ``unit_of(path)`` is the unit of a field that counts time, or None.
    now : int, optional
        The present time in nanoseconds, for times as ``'5m'``.

    Raises
    ------
    NoSuchFieldError
        The table has no such field.
    WhereError
        A value does not fit its field.
    """

    def convert(comparison: Comparison, value: Any, position: int) -> Any:
        field = field_at(table, comparison.path)
        assert field is not None
        kind = field.type.base
        if isinstance(value, Text):
            if kind is BaseType.STRING:
                if not value.is_quoted:
                    raise WhereError(text, value.position, f"a text stands in quotes: '{value.text}'")
                return value.text
            if is_enum(field):
                names = [each.name for each in table.schema._info.enums[field.type.index].values]
                parts = value.text.replace("|", " ").split() or [value.text]
                if not all(part in names or part.lstrip("-").isdecimal() for part in parts):
                    shown = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
                    raise WhereError(text, value.position, f"no name of {comparison.path}; it has {shown}")
                return value.text
            if kind is BaseType.DOUBLE or (kind in INTEGERS and kind is not BaseType.BOOL):
                unit = unit_of(comparison.path)
                if unit is None and (kind is BaseType.DOUBLE or not is_time(value.text)):
                    raise WhereError(text, value.position, f"{comparison.path} is a number: compare it with one")
                if unit is None:
                    raise WhereError(
                        text,
                        value.position,
                        f"{comparison.path} is a number; for a time its unit must be known: say --time-field "
                        f"{comparison.path}:ns, or another unit",
                    )
                try:
                    return value_in_unit(parse_time(value.text, now), unit)
                except ValueError as error:
                    raise WhereError(text, value.position, str(error)) from None
            raise WhereError(text, value.position, f"{comparison.path} is no text")
        if kind is BaseType.STRING:
            raise WhereError(text, position, f"{comparison.path} is a text: compare it with one in quotes")
        if kind is BaseType.FLOAT and not isinstance(value, bool):
            # As the schema's compiler rounds it: 0.1 is the number of 32 bits that is nearest.
            try:
                return struct.unpack("<f", struct.pack("<f", value))[0]
            except OverflowError:
                return value
        return value

    conditions: list[tuple[str, str, Any]] = []
    for each in comparisons:
        field = field_at(table, each.path)
        if field is None:
            raise NoSuchFieldError(
                text, each.position, f"{table.name} has no field {each.path}; it has {known_paths(table, each.path)}"
            )
        kind = field.type.base
        if kind not in INTEGERS and kind not in (BaseType.FLOAT, BaseType.DOUBLE, BaseType.STRING):
            raise WhereError(text, each.position, f"{each.path} is no number, enum or text: no condition can be on it")
        if each.position == each.value_position and kind is not BaseType.BOOL:
            raise WhereError(
                text, each.position, f"{each.path} is not true or false: compare it, as {each.path} == VALUE"
            )
        if each.operator == "startswith" and kind is not BaseType.STRING:
            raise WhereError(text, each.position, f"{each.path} is no text, so it starts with none")
        if isinstance(each.value, list):
            conditions.append(
                (each.path, each.operator, [convert(each, value, each.value_position) for value in each.value])
            )
        else:
            conditions.append((each.path, each.operator, convert(each, each.value, each.value_position)))
    return conditions

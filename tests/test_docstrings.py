"""Everything public says what it is: classes, functions, methods and properties."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import flatstream

# Names of the sections that list names, as numpydoc writes them: each name at the beginning of a line, with its type.
LISTED = re.compile(r"^(?:\w+, )*{name}(?:, \w+)* :", re.MULTILINE)


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that `cls` has from classes of this package."""
    seen = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("flatstream"):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            if inspect.isclass(value):
                continue
            if callable(value) or inspect.isdatadescriptor(value) or isinstance(value, (classmethod, staticmethod)):
                yield name, value


def is_named_in(text: str, name: str) -> bool:
    """Whether a class's docstring tells of an attribute: in a list of them, or in a sentence about it."""
    return bool(re.search(LISTED.pattern.format(name=name), text, re.MULTILINE)) or f"`{name}`" in text


CLASSES = [name for name in flatstream.__all__ if inspect.isclass(getattr(flatstream, name))]
MEMBERS = [
    pytest.param(cls, name, value, id=f"{cls.__name__}.{name}")
    for cls in (getattr(flatstream, name) for name in CLASSES)
    for name, value in members(cls)
]


@pytest.mark.parametrize("name", flatstream.__all__)
def test_public_name_has_a_docstring(name: str) -> None:
    text = getattr(flatstream, name).__doc__
    assert text
    # One line says what it is, and it ends with a full stop.
    assert re.match(r"\S[^\n]*[.)](?:\n\n|$)", text.rstrip() + "\n\n"), text


@pytest.mark.parametrize("cls", [getattr(flatstream, name) for name in CLASSES])
def test_public_class_does_not_inherit_its_docstring(cls: type) -> None:
    assert "__doc__" in vars(cls)
    assert all(cls.__doc__ != base.__doc__ for base in cls.__mro__[1:])


@pytest.mark.parametrize(("cls", "name", "value"), MEMBERS)
def test_public_member_has_a_docstring(cls: type, name: str, value: Any) -> None:
    if callable(value) or isinstance(value, (classmethod, staticmethod)):
        assert value.__doc__, f"{cls.__name__}.{name} is undocumented"
        return
    # An attribute of a compiled class has a docstring only where one was written; its class may tell of it instead.
    own = value.__doc__ if not str(value.__doc__).startswith("Alias for field number") else None
    classes = [base for base in cls.__mro__ if base.__module__.startswith("flatstream")]
    assert own or any(is_named_in(base.__doc__ or "", name) for base in classes), f"{cls.__name__}.{name} is undocumented"


def test_members_of_all_kinds_are_looked_at() -> None:
    # The walk above must not pass over what Cython made: one of each kind that it must find.
    found = {(values[0].__name__, values[1]) for values in (parameter.values for parameter in MEMBERS)}
    assert {
        ("StreamWriter", "write"),  # Python's method
        ("StreamWriter", "write_payload"),  # a compiled base's method
        ("StreamReader", "offset"),  # a compiled base's property
        ("FrameBatch", "lengths"),  # a compiled class's attribute
        ("Crc32", "calculate"),
        ("Validator", "name"),
        ("RecoveryReport", "frames"),
        ("ChecksumType", "checksum"),
        ("StreamDeserialize", "from_payload"),
    } <= found


@pytest.mark.parametrize(
    "cls", [cls for cls in (getattr(flatstream, name) for name in CLASSES) if issubclass(cls, enum.Enum)]
)
def test_values_of_public_enumeration_are_strings(cls: type[enum.Enum]) -> None:
    # They are printed and stored; a number would say nothing.
    assert all(isinstance(member.value, str) and member.value == member.name.lower() for member in cls)

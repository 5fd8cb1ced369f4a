"""Everything public says what it is: classes, functions, methods and properties."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import flatstream
from support.extent import in_one_test


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
    """Whether a class's docstring tells of an attribute: in a list like numpydoc's, or in a sentence about it."""
    entry = rf"^(?:\w+, )*{name}(?:, \w+)*(?: :|$)"
    return bool(re.search(entry, inspect.cleandoc(text), re.MULTILINE)) or f"`{name}`" in text


NAMES = sorted({*flatstream.__all__, *flatstream._LAZY})
CLASSES = [value for value in (getattr(flatstream, name) for name in NAMES) if inspect.isclass(value)]
MEMBERS = [(cls, name, value) for cls in CLASSES for name, value in members(cls)]


@in_one_test
@pytest.mark.parametrize("name", NAMES)
def test_public_name_has_a_docstring_that_begins_with_one_sentence(name: str) -> None:
    text = getattr(flatstream, name).__doc__
    assert text
    first, _, _ = inspect.cleandoc(text).partition("\n\n")
    assert "\n" not in first
    assert first.endswith(".")


@in_one_test
@pytest.mark.parametrize(("cls", "name", "value"), MEMBERS, ids=[f"{cls.__name__}.{name}" for cls, name, _ in MEMBERS])
def test_public_member_has_a_docstring(cls: type, name: str, value: Any) -> None:
    text = value.__doc__ or ""
    if callable(value) or isinstance(value, (classmethod, staticmethod)):
        assert text
        return
    # An attribute of a compiled class has a docstring only where one was written, and a field of a named tuple has one
    # that says nothing; the class may tell of it instead.
    if text and not text.startswith("Alias for field number"):
        return
    classes = [base for base in cls.__mro__ if base.__module__.startswith("flatstream")]
    assert any(is_named_in(base.__doc__ or "", name) for base in classes)


def test_members_of_all_kinds_are_looked_at() -> None:
    # The walk above must not pass over what Cython made: one of each kind that it must find.
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
    } <= {(cls.__name__, name) for cls, name, _ in MEMBERS}

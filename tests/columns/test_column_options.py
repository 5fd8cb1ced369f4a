"""The keyword arguments for reading columns are the same wherever they are passed on."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from flatstream import Schema, StreamReader
from flatstream._message_reader import ColumnOptions
from flatstream.columns.stream import make_reader
from flatstream.schema import Table
from support.extent import in_one_test

SCHEMA = Schema.from_file(Path(__file__).resolve().parents[2] / "examples" / "telemetry.bfbs")
EVENT = SCHEMA.table("telemetry.Event")


def options_of(function: Any) -> dict[str, object]:
    """The keyword-only parameters of a function with their annotations and defaults, but for `batch_rows`."""
    parameters = inspect.signature(function).parameters.values()
    return {
        each.name: (each.annotation, each.default)
        for each in parameters
        if each.kind == inspect.Parameter.KEYWORD_ONLY and each.name != "batch_rows"
    }


def test_public_signatures_name_every_option() -> None:
    expected = options_of(make_reader)
    assert set(expected) == set(ColumnOptions.__annotations__)
    assert options_of(StreamReader.columns) == options_of(StreamReader.column_batches) == expected


@in_one_test
@pytest.mark.parametrize("name", sorted(ColumnOptions.__annotations__))
def test_help_of_tables_names_every_option(name: str) -> None:
    for method in (Table.read_columns, Table.read_column_batches):
        assert f"`{name}`" in (method.__doc__ or "")


def test_unknown_option_is_refused_by_name_before_anything_is_read() -> None:
    reader = StreamReader(b"\0\0\0\0")
    for read in (
        lambda: reader.columns(EVENT, verfy=True),  # type: ignore[call-overload]
        lambda: reader.column_batches(EVENT, verfy=True),  # type: ignore[call-overload]
        lambda: EVENT.read_columns(reader, verfy=True),  # type: ignore[call-arg]
        lambda: EVENT.read_column_batches(reader, verfy=True),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument 'verfy'"):
            read()
    assert reader.frames_read == 0


def test_options_of_a_table_are_those_of_a_reader() -> None:
    stream = b"\4\0\0\0\xff\xff\xff\xff"
    calls: list[tuple[int, int]] = []

    def progress(rows: int, offset: int) -> None:
        calls.append((rows, offset))

    for batch in (
        EVENT.read_columns(StreamReader(stream), ["sequence"], on_error="skip", progress=progress),
        next(EVENT.read_column_batches(StreamReader(stream), ["sequence"], on_error="skip", progress=progress)),
        StreamReader(stream).columns(EVENT, ["sequence"], on_error="skip", progress=progress),
        next(StreamReader(stream).column_batches(EVENT, ["sequence"], on_error="skip", progress=progress)),
    ):
        assert (batch.num_rows, batch.skipped) == (0, 1)
    assert calls == [(0, 8)] * 4

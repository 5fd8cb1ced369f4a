"""One table of a stream with several: its messages and no others, whether they have a file identifier or not."""

from __future__ import annotations

import io
import json
import random

import pytest

from flatstream import FlatbufferError, RecordWriter, StreamReader, StreamWriter
from support.schemas import root_of

A = root_of('table A { x: int; } root_type A; file_identifier "AAAA";')
B = root_of('table B { s: string; y: int; } root_type B; file_identifier "BBBB";')
C = root_of("table C { z: int; } root_type C;")


def mixed_stream(tables, count, seed):
    """Messages of A and B with and without an identifier, of C, and of a table that nobody knows; and what they are."""
    chance = random.Random(seed)
    sink = io.BytesIO()
    expected = []
    with StreamWriter(sink, "crc32", describe=tables) as writer:
        writers = {
            "A": RecordWriter(writer, A),
            "B": RecordWriter(writer, B),
            "": RecordWriter(writer, C, file_identifier=False),
            "?": RecordWriter(writer, A._identified("ZZZZ"), file_identifier=True),
        }
        for number in range(count):
            name = chance.choice(list(writers))
            writers[name].write(**{{"A": "x", "B": "y", "": "z", "?": "x"}[name]: number})
            expected.append((name, number))
    return sink.getvalue(), expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_default", [True, False], ids=["with a table for all others", "without"])
def test_a_table_has_its_messages_only(has_default, seed):
    data, found = mixed_stream([A, B, C] if has_default else [A, B], 300, seed)
    columns = {"A": "x", "AAAA": "x", "B": "y"} | ({"C": "z", "": "z"} if has_default else {})
    for name, column in columns.items():
        owners = {"C": ["", "?"], "": ["", "?"]}.get(name, [name[0]] if name else [])
        numbers = [number for owner, number in found if owner in owners]
        assert len(numbers) > 30
        for on_error in ("raise", "skip", "resync"):
            reader = StreamReader(data, "crc32", on_error=on_error)
            records = reader.records(name)
            assert [record[column] for record in records] == numbers
            assert records.others == 300 - len(numbers)
        assert list(StreamReader(data, "crc32").columns(name)[column]) == numbers
        batches = StreamReader(data, "crc32").column_batches(name, batch_rows=7, verify=True)
        assert [value for batch in batches for value in batch[column]] == numbers
        chosen = [number for number in numbers if number >= 100]
        where = (column, ">=", 100)
        assert [record[column] for record in StreamReader(data, "crc32").records(name, where=where)] == chosen
        assert list(StreamReader(data, "crc32").columns(name, where=where)[column]) == chosen
        assert [record[column] for record in StreamReader(data, "crc32").records(name, limit=5)] == numbers[:5]
        lines = io.BytesIO()
        assert StreamReader(data, "crc32").write_json_lines(lines, name) == len(numbers)
        assert [json.loads(line).get(column, 0) for line in lines.getvalue().splitlines()] == numbers
        # Also as one of the description's tables.
        description = StreamReader(data, "crc32").description
        assert description is not None
        table = description.tables[{"A": "AAAA", "B": "BBBB", "C": ""}.get(name, name)]
        assert list(StreamReader(data, "crc32").columns(table, on_other="skip")[column]) == numbers
        assert [record[column] for record in StreamReader(data, "crc32").records(table, on_other="skip")] == numbers
        if not has_default:
            with pytest.raises(FlatbufferError, match="file identifier"):
                list(StreamReader(data, "crc32").records(name, on_other="raise"))
        with pytest.raises(FlatbufferError, match="file identifier"):
            StreamReader(data, "crc32").columns(name, on_other="raise")
        with pytest.raises(ValueError, match="on_other"):
            StreamReader(data, "crc32").columns(name, on_other="")  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="on_other"):
            StreamReader(data, "crc32").records(name, on_other="")  # type: ignore[arg-type]


def test_messages_that_are_too_short_for_an_identifier_are_of_no_table():
    sink = io.BytesIO()
    with StreamWriter(sink, describe=[A, B]) as writer:
        for size in range(1, 13):
            writer.write_payload(b"\x04" + bytes(size - 1))
        RecordWriter(writer, A).write(x=1)
    assert list(StreamReader(sink.getvalue()).columns("A")["x"]) == [1]
    assert [record.x for record in StreamReader(sink.getvalue()).records("A")] == [1]
    with pytest.raises(FlatbufferError, match="not of this table"):
        StreamReader(sink.getvalue()).columns("A", on_other="raise")

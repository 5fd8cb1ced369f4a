"""Some rows or some columns of a batch, and what a notebook shows of batches, columns, records and readers."""

from __future__ import annotations

import io
import pickle
import random
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flatstream import RecordWriter, StreamReader, StreamWriter
from flatstream.columns import ColumnBatch
from support.arrow_types import Making, Mapping
from support.columns import stream_of
from support.extent import in_one_test
from support.html_tables import Cells
from support.records import encoded
from support.schemas import SHAPES, TELEMETRY

EVENT = TELEMETRY.table("telemetry.Event")


def batch_of(table_name: str, rows: int = 12, **options: Any) -> ColumnBatch:
    table = SHAPES.table(table_name)
    making = Making(Mapping(SHAPES._info), random.Random(table_name))
    messages = [encoded(table, making.record(table.number)) for _ in range(rows)]
    return StreamReader(stream_of(messages)).columns(table, **options)


def events(rows: int = 30) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        records = RecordWriter(writer, EVENT)
        for number in range(rows):
            records.write(sequence=number, host=f"<h{number}>", platform="Linux", cores=[(number, 0, 0, 0, 0, 0, 0, 0)])
    return sink.getvalue()


FIELDS = ["sequence", "host", "platform", "cores"]
BATCH = StreamReader(events()).columns(EVENT, FIELDS)


# Rows

SLICES = [
    slice(None),
    slice(0, 0),
    slice(5),
    slice(3, 7),
    slice(11, None),
    slice(-4, -1),
    slice(-100, 100),
    slice(9, 2),
    slice(np.int64(1), np.int64(3)),
]


@in_one_test(step=2)
@pytest.mark.parametrize("name", [table.name for table in SHAPES])
@pytest.mark.parametrize("absent", ["default", "null"])
def test_rows_of_a_batch_are_those_of_its_list(name, absent):
    batch = batch_of(name, absent=absent)
    rows = repr(batch.to_pylist())
    for part in SLICES:
        expected = batch.to_pylist()[part]
        taken = batch[part]
        assert repr(taken.to_pylist()) == repr(expected)
        assert taken.num_rows == len(expected)
        assert taken.names == batch.names
        assert taken.schema == batch.schema
        # Again, and after a copy.
        assert repr(taken[1:][:2].to_pylist()) == repr(expected[1:][:2])
        assert repr(pickle.loads(pickle.dumps(taken)).to_pylist()) == repr(expected)
    taken = batch[3:7]
    exported = pa.table(taken)
    exported.validate(full=True)
    assert exported.num_rows == 4
    assert exported.equals(batch.to_arrow()[3:7]) or "nan" in rows
    assert repr(batch.to_pylist()) == rows


def test_rows_are_copied_and_live_on_their_own():
    whole = StreamReader(events()).columns(EVENT, FIELDS)
    part = whole[7:9]
    column = part["sequence"].to_numpy()
    del whole
    assert column.tolist() == [7, 8]
    assert part["cores"].to_pylist()[1][0]["user"] == 8.0
    assert (part.skipped, part.lost_ranges, part.others, part.stop_error) == (0, [], 0, None)


@pytest.mark.parametrize("step", [2, -1, -3])
def test_steps_are_refused(step):
    with pytest.raises(ValueError, match=f"^rows of a batch can be taken in steps of 1 only, got {step}$"):
        BATCH[::step]
    with pytest.raises(ValueError, match="zero"):
        BATCH[::0]


# Columns


def test_columns_of_a_batch_are_a_batch_that_shares_their_memory():
    part = BATCH[["host", "sequence"]]
    assert isinstance(part, ColumnBatch)
    assert part.names == ("host", "sequence")
    assert part.to_pylist()[2] == {"host": "<h2>", "sequence": 2}
    assert part.schema.metadata == BATCH.schema.metadata
    assert np.shares_memory(part["sequence"].to_numpy(), BATCH["sequence"].to_numpy())
    assert part[4:6]["host"].to_pylist() == BATCH[4:6][["host"]]["host"].to_pylist() == ["<h4>", "<h5>"]
    assert BATCH[[]].num_rows == 30
    assert BATCH[[]].names == ()
    assert BATCH[:2][[]].to_pylist() == [{}, {}]


def test_counts_of_damage_stay_with_the_columns():
    damaged = bytearray(events())
    # Where the first message's root is.
    damaged[4:8] = b"\xff\xff\xff\x7f"
    batch = StreamReader(damaged).columns(EVENT, FIELDS, on_error="skip")
    part = batch[["host"]]
    assert (part.skipped, part.lost_ranges, part.lost_bytes) == (batch.skipped, batch.lost_ranges, batch.lost_bytes)
    assert part.skipped == 1
    assert part.num_rows == 29


def test_wrong_names_and_keys_are_errors():
    with pytest.raises(KeyError, match="no column 'other'; there are 'sequence', 'host', 'platform', 'cores'"):
        BATCH[["host", "other"]]
    with pytest.raises(ValueError, match=r"^a column is named twice: \['host', 'host'\]$"):
        BATCH[["host", "host"]]
    for key in (5, None, ("host", "sequence")):
        with pytest.raises(KeyError, match="no column"):
            BATCH[key]  # type: ignore[call-overload]
    assert "host" in BATCH
    assert "other" not in BATCH
    assert 5 not in BATCH  # type: ignore[comparison-overlap]


# Data frames


def test_batches_and_parts_of_them_are_data_frames():
    for batch, rows in ((BATCH, 30), (BATCH[5:9], 4), (BATCH[["host", "cores"]], 30)):
        frame = pl.DataFrame(batch)
        assert frame.shape == (rows, len(batch))
        assert frame.equals(batch.to_polars())
        assert batch.to_pandas().shape == (rows, len(batch))
        assert pa.table(batch).num_columns == len(batch)
        relation: Any = duckdb.sql("select count(*), count(host) from batch")
        assert relation.fetchall() == [(rows, rows)]
    # polars makes a Series of any object that is not pyarrow's here; its frame is one step away.
    assert pl.from_arrow(BATCH).struct.unnest().equals(BATCH.to_polars())  # type: ignore[union-attr]
    assert pl.DataFrame(StreamReader(events()).column_batches(EVENT, FIELDS)).shape == (30, 4)
    if hasattr(pd.DataFrame, "from_arrow"):
        assert pd.DataFrame.from_arrow(BATCH).shape == (30, 4)


def test_batch_is_not_one_array():
    # pandas would otherwise make a frame of the names of the columns.
    for make in (np.asarray, pd.DataFrame):
        with pytest.raises(TypeError, match=r"a batch is not one array: to_numpy\(\) has an array for each column"):
            make(BATCH)


# What a notebook shows


def test_batch_shows_its_first_rows():
    text = BATCH._repr_html_()
    rows = Cells(text).rows
    assert rows[0] == ["sequence: uint64", "host: large_string", "platform: enum", "cores: large_list"]
    assert rows[1][:3] == ["0", "<h0>", "Linux"]
    assert len(rows) == 11
    assert "30 rows in 4 columns" in text
    assert "20 more" in text
    wide = StreamReader(events()).columns(EVENT)
    assert len(Cells(wide._repr_html_()).rows[0]) == 20
    assert "The first 20 columns of 60" in wide._repr_html_()
    assert Cells(BATCH[:0]._repr_html_()).rows == rows[:1]
    assert Cells(BATCH[[]]._repr_html_()).rows == [[]]


def test_column_and_stream_show_types_and_first_rows():
    rows = Cells(BATCH["host"]._repr_html_()).rows
    assert rows == [["host"], *([f"<h{number}>"] for number in range(10))]
    assert "30 rows of large_string" in BATCH["host"]._repr_html_()
    reader = StreamReader(events())
    batches = reader.column_batches(EVENT, FIELDS)
    assert Cells(batches._repr_html_()).rows[1:3] == [["sequence", "uint64"], ["host", "large_string"]]
    assert reader.frames_read == 0
    assert next(batches).num_rows == 30
    nulls = batch_of("shapes.Optionals", absent="null")
    assert "null" in nulls._repr_html_()


def test_record_shows_the_fields_that_it_has():
    record = next(iter(StreamReader(events()).records(EVENT)))
    text = record._repr_html_()
    rows = dict(Cells(text).rows[1:])
    assert rows == {"sequence": "0", "host": "'<h0>'", "platform": "1", "cores": "<1 x telemetry.CpuTimes>"} or (
        "sequence" not in rows and rows["host"] == "'<h0>'"
    )
    assert "telemetry.Event" in text
    assert "fields are absent" in text
    assert "<h0>" not in text
    damaged = bytearray(encoded(EVENT, {"host": "abcdef"}))
    damaged[damaged.index(b"abcdef") - 4] = 0xFF
    damaged[damaged.index(b"abcdef") - 1] = 0x7F
    assert "damaged" in EVENT.view(damaged, verify=False)._repr_html_()


def test_reader_shows_where_it_is_and_reads_nothing():
    data = events()
    for source, text in (
        (data, f"bytes of {len(data):,} bytes"),
        (bytearray(data), f"bytearray of {len(data):,} bytes"),
        (memoryview(data), f"memoryview of {len(data):,} bytes"),
        (np.frombuffer(data, np.uint8), f"ndarray of {len(data):,} bytes"),
    ):
        reader = StreamReader(source)
        assert repr(reader) == f"<StreamReader from {text}, 0 frames>"
        assert Cells(reader._repr_html_()).rows[1:] == [
            ["source", text],
            ["checksum", "none"],
            ["messages read", "0"],
            ["offset", "0"],
        ]
        assert reader.offset == 0
        reader.read_message()
        assert Cells(reader._repr_html_()).rows[3] == ["messages read", "1"]
        reader.close()
        assert repr(reader) == "<StreamReader closed, 1 frames>"
        assert Cells(reader._repr_html_()).rows[1] == ["source", "closed"]
    assert repr(StreamReader(io.BytesIO(data))).startswith("<StreamReader from <_io.BytesIO object at ")


def test_description_is_shown_once_something_was_read():
    sink = io.BytesIO()
    with StreamWriter(sink, describe=EVENT) as writer:
        RecordWriter(writer, EVENT).write(sequence=1)
    reader = StreamReader(sink.getvalue())
    assert "description" not in reader._repr_html_()
    reader.read_message()
    assert ["description", repr(reader.description)] in Cells(reader._repr_html_()).rows


def test_reprs_of_many_columns_are_short():
    schema = EVENT.arrow_schema()
    assert repr(schema).endswith(", ... 50 more>")
    assert len(repr(schema)) < 1000
    stream = StreamReader(events()).column_batches(EVENT)
    assert repr(stream).endswith(", ... 50 more>")

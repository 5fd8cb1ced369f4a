"""Columns of the messages whose number is in a range."""

from __future__ import annotations

import datetime
import io
import math
import re
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flatbuffers.table import Table as RawTable
from hypothesis import given, settings
from hypothesis import strategies as st

from flatstream import (
    FlatbufferError,
    RecordWriter,
    StreamReader,
    StreamWriter,
)
from flatstream._core.records.conditions import key_bounds
from reference.columns import Reference, bits
from support.columns import LEVEL1, SHAPE, columns_of
from support.extent import in_one_test
from support.messages import (
    LIMITS,
    extreme_messages,
    numbered_messages,
    root_at,
    sample_messages,
)
from support.schemas import SHAPES

# Numbers in a range

ANY_LIMIT = st.one_of(
    st.none(),
    st.sampled_from([sign * 2**power + step for power in (0, 7, 8, 15, 31, 53, 63, 64) for sign in (1, -1)
                     for step in (-1, 0, 1)] + [10**400, -(10**400)]),
    st.integers(-300, 300),
    st.floats(allow_nan=False),
)  # fmt: skip


def in_range(value: Any, low: Any, high: Any) -> bool:
    if value is None or value != value:
        return False
    return (low is None or low <= value) and (high is None or value < high)


@settings(max_examples=150)
@given(
    st.sampled_from(
        ["id", *[f"{name}.{field}" for name in ("scalars", "optionals") for field in [*LIMITS, "f32", "f64"]]]
    ),
    ANY_LIMIT,
    ANY_LIMIT,
)
def test_filter_leaves_the_rows_that_are_in_the_range(path, low, high):
    payloads = extreme_messages()
    reference = Reference(SHAPES)
    wanted = [each for each in payloads if in_range(reference.at("shapes.Shape", each, path), low, high)]
    batch = columns_of(payloads, SHAPE, ["scalars", "id", path][: 2 + (path != "id")], (path, low, high))
    assert bits(batch["scalars"].to_pylist()) == bits(
        [reference.at("shapes.Shape", each, "scalars") for each in wanted]
    )
    assert bits(batch[path].to_pylist()) == bits([reference.at("shapes.Shape", each, path) for each in wanted])


def test_filter_may_be_on_enums_by_number_on_bools_types_of_unions_and_variants():
    payloads = sample_messages(30)
    reference = Reference(SHAPES, "number")
    for path, low, high in [
        ("choice_type", 1, 3), ("scalars.truth", True, None), ("scalars.color", None, 0),
        ("choice.Named.code", 1, None), ("structs.nest.line.to.x", -1.0, None), ("scalars.truth", 0, 1),
    ]:  # fmt: skip
        wanted = [each for each in payloads if in_range(reference.at("shapes.Shape", each, path), low, high)]
        batch = columns_of(payloads, SHAPE, ["title"], (path, low, high))
        assert batch["title"].to_pylist() == [reference.at("shapes.Shape", each, "title") for each in wanted]


def test_filter_looks_at_nothing_else_of_other_messages():
    payloads = numbered_messages(7)
    # The table that it leads to is nowhere.
    table = RawTable(bytearray(payloads[3]), root_at(payloads[3]))
    place = table.Pos + table.Offset(6)
    payloads[3] = payloads[3][:place] + b"\xff" * 4 + payloads[3][place + 4 :]
    with pytest.raises(FlatbufferError, match=r"level1\.next: a table at byte .*frame 3"):
        columns_of(payloads, LEVEL1)
    assert columns_of(payloads, LEVEL1, None, ("value", 4, None))["value"].to_pylist() == [4, 5, 6]
    assert columns_of(payloads, LEVEL1, None, ("value", None, 3))["value"].to_pylist() == [0, 1, 2]
    with pytest.raises(FlatbufferError, match="frame 3"):
        columns_of(payloads, LEVEL1, None, ("value", 3, 4))
    # On the way to the number it is looked at.
    with pytest.raises(FlatbufferError, match="frame 3"):
        columns_of(payloads, LEVEL1, ["value"], ("next.next.next.value", 0, 1))


@in_one_test
@pytest.mark.parametrize(
    ("where", "error", "text"),
    [
        ("id", TypeError, r"where must be \(path, low, high\)"),
        (("id", 1), TypeError, r"where must be \(path, low, high\)"),
        ((1, 2, 3), TypeError, r"where must be \(path, low, high\)"),
        (("nome", 1, 2), KeyError, "no field 'nome'"),
        (("title", 1, 2), TypeError, "where: title is a string: the low end of the range must be a str, got int"),
        (("vectors", 1, 2), ValueError, "where: vectors is no number, enum or string"),
        (("vectors.named.code", 1, 2), ValueError, "goes through 'named'"),
        (("id", "1", 2), ValueError, "where: '1' is no operator: use one of ==, !=, "),
        (("id", None, "1"), TypeError, "where: the high end of the range must be a number or None, got str"),
        (("id", 1, []), TypeError, "where: the high end of the range must be a number or None, got list$"),
        *(
            (
                ("id", 1, time),
                TypeError,
                f"high end .* is a {re.escape(name)}, which needs the unit that the field counts in",
            )
            for time, name in [
                (np.datetime64("2025-11-24", "ns"), "datetime64[ns]"),
                (np.datetime64("2025-11-24", "us"), "datetime64[us]"),
                (np.datetime64("2025-11-24"), "datetime64[D]"),
                (np.timedelta64(5, "ns"), "timedelta64[ns]"),
                (np.timedelta64(5, "D"), "timedelta64[D]"),
                (np.array(5, "M8[ns]"), "datetime64[ns]"),
                (datetime.datetime(2025, 11, 24), "datetime"),
                (datetime.timedelta(1), "timedelta"),
            ]
        ),
        (("id", 1, datetime.date(2025, 11, 24)), TypeError, "number, a datetime or a timedelta, got date$"),
        (("id", 1, datetime.time(1)), TypeError, "number, a datetime or a timedelta, got time$"),
        (("scalars.color", "Red", None), ValueError, r"no operator: .* \('scalars.color', '>=', low\) and "),
        (("scalars.f64", None, np.str_("1")), TypeError, "high end .* got str_: the field is no string and no enum"),
        (("scalars.f64", None, np.bytes_(b"1")), TypeError, "high end .* or None, got bytes_$"),
        (("scalars.f64", None, b"1"), TypeError, "high end .* or None, got bytes$"),
        (("scalars.f64", np.complex128(1), None), TypeError, "low end .* or None, got complex128$"),
        (("id", np.arange(3), None), TypeError, "low end .* or None, got ndarray$"),
        (("id", np.arange(3.0), None), TypeError, "low end .* or None, got ndarray$"),
        (("id", np.array(None), None), TypeError, "low end .* or None, got ndarray$"),
        (("id", 1, math.nan), ValueError, "where: the high end of the range is NaN"),
        (("id", 1j, None), TypeError, "where: the low end"),
    ],
)
def test_wrong_filter_is_refused(where, error, text):
    with pytest.raises(error, match=text):
        columns_of(sample_messages(1), SHAPE, ["id"], where)


def test_numbers_of_numpy_are_ends_of_a_range():
    payloads = numbered_messages(10)
    for low, high in [
        (np.int8(2), np.uint64(5)),
        (np.float32(2), np.float64(5)),
        (1.5, 4.5),
        (np.array(2), np.array(4.5)),
        (Fraction(3, 2), Decimal("4.5")),
    ]:
        assert columns_of(payloads, LEVEL1, ["value"], ("value", low, high))["value"].to_pylist() == [2, 3, 4]
    for low in (np.True_, True):
        assert columns_of(payloads, LEVEL1, ["value"], ("value", low, 3))["value"].to_pylist() == [1, 2]


@given(ANY_LIMIT, st.sampled_from([(3, True, 1), (4, False, 1), (7, True, 4), (9, True, 8), (10, False, 8)]))
def test_keys_around_a_limit_are_those_of_the_nearest_integers(limit, kind):
    number, signed, width = kind
    bottom, top = (-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1) if signed else (0, 2 ** (8 * width) - 1)
    # The keys of a ulong begin with the smallest int64.
    shift = 2**63 if number == 10 else 0
    below, above = (each + shift for each in key_bounds(number, 0 if limit is None else limit))
    for value in {bottom, bottom + 1, 0, 1, top - 1, top, below, above, below + 1, above - 1}:
        if bottom <= value <= top:
            assert (value <= below) == (value <= (limit or 0))
            assert (value >= above) == (value >= (limit or 0))


def float_of(key: int) -> float:
    """The float with this key."""
    return float(struct.unpack("<d", struct.pack("<q", abs(key)))[0]) * (-1 if key < 0 else 1)


@given(ANY_LIMIT)
def test_keys_around_a_limit_are_those_of_the_nearest_floats(limit):
    limit = 0 if limit is None else limit
    below, above = key_bounds(12, limit)
    assert float_of(below) <= limit <= float_of(above)
    if below != above:
        assert above == below + 1
        assert math.nextafter(float_of(below), math.inf) == float_of(above)
    else:
        assert float_of(below) == limit


def test_batches_go_on_behind_any_number_of_messages_that_a_condition_leaves_out():
    """Also behind more bytes of them than a batch may have, 64 MiB."""
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        records = RecordWriter(writer, SHAPE)
        records.write(id=1)
        for _ in range(70):
            records.write(id=0, title="x" * 1_000_000)
        records.write(id=2)
    for rows in (1, 512, None):
        with StreamReader(sink.getbuffer()) as reader:
            batches = list(reader.column_batches(SHAPE, ["id"], ("id", ">", 0), batch_rows=rows))
        assert [value for batch in batches for value in batch["id"]] == [1, 2]
        assert all(batch.num_rows for batch in batches)

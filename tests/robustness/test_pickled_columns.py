"""Pickled columns: transferred without a copy, and refused if the pickle is damaged."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import pyarrow
import pytest

from flatstream._core.arrow.column_parts import column_from_parts, parts_of
from flatstream._core.arrow.exporter import ColumnData, ColumnType
from flatstream.columns import Column, ColumnBatch
from support.extent import in_one_test
from support.pickling import batches
from support.processes import survives


def offsets(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}q", *numbers)


NUMBER = ColumnType("n", "s", True)
TEXT = ColumnType("t", "U", False)
NUMBERS = column_from_parts(NUMBER, 3, None, struct.pack("=3h", 1, -2, 3), None, ())


def test_column_of_parts_has_their_values() -> None:
    column = Column(column_from_parts(NUMBER, 3, b"\1\0\1", struct.pack("=3h", 1, -2, 3), None, ()))
    assert column.to_pylist() == [1, None, 3]
    assert column.null_count == 1
    texts = column_from_parts(TEXT, 2, None, "aß".encode(), offsets(0, 1, 3), ())
    assert Column(texts).to_pylist() == ["a", "ß"]
    lists = column_from_parts(ColumnType("l", "+L", False, [NUMBER]), 2, None, None, offsets(0, 0, 3), (NUMBERS,))
    assert Column(lists).to_pylist() == [[], [1, -2, 3]]
    fixed = column_from_parts(ColumnType("f", "+w:3", False, [NUMBER]), 1, None, None, None, (NUMBERS,))
    assert Column(fixed).to_pylist() == [[1, -2, 3]]
    rows = column_from_parts(ColumnType("r", "+s", True, [NUMBER]), 3, b"\0\1\1", None, None, (NUMBERS,))
    assert Column(rows).to_pylist() == [None, {"n": -2}, {"n": 3}]


def test_parts_are_copied() -> None:
    content = bytearray(struct.pack("=3h", 1, -2, 3))
    column = Column(column_from_parts(NUMBER, 3, None, content, None, ()))
    content[:] = bytes(len(content))
    content.append(0)
    assert column.to_pylist() == [1, -2, 3]


@in_one_test
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((NUMBER, -1, None, b"", None, ()), "number of rows"),
        ((NUMBER, 2**62, None, b"", None, ()), "number of rows"),
        ((NUMBER, "3", None, b"", None, ()), "number of rows"),
        ((NUMBER, 3, None, b"12345", None, ()), "must have 6 bytes, got 5"),
        ((NUMBER, 3, None, b"1234567", None, ()), "must have 6 bytes, got 7"),
        ((NUMBER, 3, b"\1\1", b"123456", None, ()), "must have 3 bytes, got 2"),
        ((NUMBER, 3, b"\1\1\2", b"123456", None, ()), "validity of row 2"),
        ((NUMBER, 3, None, None, None, ()), "other parts"),
        ((NUMBER, 3, None, b"123456", offsets(0, 1, 2, 3), ()), "other parts"),
        ((NUMBER, 3, None, b"123456", None, (NUMBERS,)), "has 0 children, got 1"),
        ((NUMBER, 3, None, "123456", None, ()), "bytes-like"),
        ((ColumnType("b", "b", False), 2, None, b"\1\2", None, ()), "row 1 of"),
        ((TEXT, 1, None, b"a", None, ()), "other parts"),
        ((TEXT, 1, None, b"a", offsets(0), ()), "must have 16 bytes, got 8"),
        ((TEXT, 1, None, b"a", offsets(0, 2), ()), "must have 2 bytes, got 1"),
        ((TEXT, 1, None, b"a", offsets(0, -1), ()), "become smaller at row 0"),
        ((TEXT, 2, None, b"a", offsets(0, 2**62, 1), ()), "become smaller at row 1"),
        ((TEXT, 1, None, b"a", offsets(1, 1), ()), "begin with 0"),
        ((TEXT, 2, None, "ß".encode(), offsets(0, 1, 2), ()), "row 0 of .* is not UTF-8"),
        ((ColumnType("l", "+L", False, [NUMBER]), 1, None, None, offsets(0, 4), (NUMBERS,)), "needs 4 rows"),
        ((ColumnType("l", "+L", False, [NUMBER]), 1, None, b"", offsets(0, 3), (NUMBERS,)), "other parts"),
        ((ColumnType("l", "+L", False, [TEXT]), 1, None, None, offsets(0, 3), (NUMBERS,)), "has a child"),
        ((ColumnType("f", "+w:2", False, [NUMBER]), 1, None, None, None, (NUMBERS,)), "needs 2 rows"),
        ((ColumnType("f", "+w:3", False, [NUMBER]), 2**58, None, None, None, (NUMBERS,)), "rows of"),
        ((ColumnType("f", "+w:-3", False, [NUMBER]), 1, None, None, None, (NUMBERS,)), "format"),
        ((ColumnType("f", "+w:99999999999", False, [NUMBER]), 0, None, None, None, (NUMBERS,)), "format"),
        ((ColumnType("r", "+s", False, [NUMBER]), 2, None, None, None, (NUMBERS,)), "needs 2 rows"),
        ((ColumnType("r", "+s", False, [NUMBER]), 3, None, None, None, ()), "has 1 children, got 0"),
        ((ColumnType("r", "+s", False, [NUMBER]), 3, None, None, None, [NUMBERS]), "a tuple of columns"),
        ((ColumnType("r", "+s", False, [NUMBER]), 3, None, None, None, ("n",)), "expected a column"),
        ((ColumnType("x", "vu", False), 0, None, b"", offsets(0), ()), "other parts|format"),
        (("U", 0, None, b"", offsets(0), ()), "expected a ColumnType"),
        ((ColumnType.__new__(ColumnType), 0, None, b"", None, ()), "__init__ was not called"),
        ((ColumnType("r", "+s", False, [NUMBER]), 0, None, None, None, (ColumnData.__new__(ColumnData),)), "column"),
    ],
)
def test_parts_that_make_no_column_are_refused(arguments: Any, match: str) -> None:
    with pytest.raises((TypeError, ValueError), match=match):
        column_from_parts(*arguments)


def test_type_that_is_nested_too_deep_is_refused() -> None:
    kind = NUMBER
    for _ in range(100):
        kind = ColumnType("r", "+s", False, [kind])
    with pytest.raises(ValueError, match="nested deeper than 100"):
        ColumnType("r", "+s", False, [kind])


def test_column_that_was_not_made_is_refused() -> None:
    with pytest.raises(TypeError, match="never completed"):
        parts_of(ColumnData.__new__(ColumnData), 4)
    with pytest.raises(TypeError, match="never completed"):
        pickle.dumps(ColumnData.__new__(ColumnData))


def test_memory_goes_beside_a_pickle_of_protocol_5() -> None:
    for batch in batches():
        beside: list[pickle.PickleBuffer] = []
        data = pickle.dumps(batch, protocol=5, buffer_callback=beside.append)
        views = [buffer.raw() for buffer in beside]
        again = pickle.loads(data, buffers=views)
        assert repr(again.to_pylist()) == repr(batch.to_pylist())
        assert repr(pickle.loads(pickle.dumps(batch, protocol=5)).to_pylist()) == repr(batch.to_pylist())


def test_pickled_batch_is_the_same_for_arrow() -> None:
    for batch in batches():
        again: ColumnBatch = pickle.loads(pickle.dumps(batch))
        table = again.to_arrow()
        table.validate(full=True)
        assert table.schema.equals(batch.to_arrow().schema, check_metadata=True)
        assert repr(table.to_pylist()) == repr(batch.to_arrow().to_pylist())
        assert again.schema == batch.schema


def test_arrow_table_of_an_empty_batch_survives_pickling() -> None:
    empty = batches()[0]
    again = pickle.loads(pickle.dumps(empty)).to_arrow()
    assert isinstance(again, pyarrow.Table)


# A pickle is trusted, as every pickle is: a damaged one may raise any error, but it must not crash the interpreter.

DAMAGE = """
import io, pickle, random
from support.pickling import batches

class Loader(pickle.Unpickler):
    def find_class(self, module, name):
        # Damage must not make this process call other functions.
        if module.startswith("flatstream.") or (module, name) == ("builtins", "getattr"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(name)

chance = random.Random({seed})
loaded = 0
for _ in range({rounds}):
    data = bytearray(pickle.dumps(chance.choice(batches()), chance.choice([2, 4, 5])))
    for _ in range(chance.choice([1, 1, 1, 3])):
        # Not the opcode of a bytearray: CPython complains on its own when it has no memory for a damaged length.
        data[chance.randrange(len(data))] = chance.choice([0, 1, 255, chance.randrange(0x96)])
    try:
        batch = Loader(io.BytesIO(bytes(data))).load()
        columns = list(batch._data.children)
    except (Exception, SystemError):
        continue
    for use in (
        batch.to_pylist, batch.to_numpy, lambda: batch.to_arrow().validate(full=True), batch.to_polars,
        lambda: repr(batch), lambda: batch.schema, lambda: pickle.loads(pickle.dumps(batch)),
    ):
        try:
            use()
        except (Exception, SystemError):
            pass
    loaded += 1
print(loaded)
"""


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 100))])
def test_damaged_pickle_of_columns_does_not_crash(seed: int) -> None:
    [loaded] = survives(DAMAGE.format(seed=seed, rounds=100))
    # Most bytes are numbers of rows, in which no value is wrong.
    assert int(loaded) > 5

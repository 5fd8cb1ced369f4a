"""The private forms of expressions: seen with pyarrow 17, 21 and 26, and with polars 1.30 and 2.1.

DuckDB hands over expressions of pyarrow; tests/datasets/test_equality.py asks it.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from polars.io.plugins import register_io_source

from flatstream.datasets import _expressions as expressions
from flatstream.datasets import _trees as trees
from flatstream.datasets._expressions import arrow_tree, is_row_wise, metadata_pairs, polars_tree
from flatstream.datasets._fields import Columns
from flatstream.datasets._predicate import Predicate
from flatstream.datasets._trees import UNKNOWN, Combined, Constant, Tree
from support.extent import in_one_test
from support.questions import questions, table_of

TABLE = table_of()
SCHEMA = TABLE.arrow_schema().to_pyarrow()
INDEX = SCHEMA.get_field_index("time_ns")
SCHEMA = SCHEMA.set(INDEX, pa.field("time_ns", pa.timestamp("ns", "UTC")))
QUESTIONS = questions(1200)


def columns() -> Columns:
    return Columns(SCHEMA, {"time_ns": "ns"})


def leaves(tree: Tree) -> Iterator[Any]:
    if isinstance(tree, trees.Test):
        yield tree
    elif isinstance(tree, Combined):
        for part in tree.parts:
            yield from leaves(part)


def has_unknown(tree: Tree) -> bool:
    return tree is UNKNOWN or (isinstance(tree, Combined) and any(map(has_unknown, tree.parts)))


def test_both_libraries_are_understood_in_each_question() -> None:
    for question in QUESTIONS:
        for tree in (arrow_tree(question.arrow, columns())[0], polars_tree(question.polars, columns())[0]):
            assert not has_unknown(tree), question.name
            assert list(leaves(tree)) or isinstance(tree, Constant)


def test_both_libraries_give_the_same_tests_where_they_say_the_same() -> None:
    compared = 0
    for question in QUESTIONS:
        path, _, rest = question.name.partition(" ")
        if path in ("i8", "u8", "i32", "u32", "i64", "u64", "b", "name", "opt") and not rest.startswith("not in"):
            one, other = arrow_tree(question.arrow, columns())[0], polars_tree(question.polars, columns())[0]
            # Whether a value that is not found is in a list: null is not in it, for Arrow.
            assert one == other or rest.startswith("in")
            compared += 1
    assert compared > 25


# Arrow


def test_metadata_has_all_pairs_in_order() -> None:
    pairs = [("a", "1"), ("b", ""), ("a", "2"), ("", "é\n"), ("a", "1")]
    schema = pa.schema([("x", pa.int8())], metadata=pa.KeyValueMetadata(pairs))
    assert metadata_pairs(schema) == pairs
    assert metadata_pairs(pa.schema([])) == []


class Damaged:
    """An expression of pyarrow that is written down in another way."""

    def __init__(self, pairs: list[tuple[str, str]], row: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        schema = pa.schema(row.schema, metadata=pa.KeyValueMetadata(pairs))
        with pa.ipc.new_file(sink, schema) as file:
            file.write_table(row.cast(pa.schema(row.schema)))
        self.data = sink.getvalue()

    def __reduce__(self) -> Any:
        return Damaged, (self.data,)


@in_one_test
@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_arrow_in_a_form_that_is_not_known_says_nothing(number: int) -> None:
    chance = random.Random(number)
    with pa.ipc.open_file(QUESTIONS[number].arrow.__reduce__()[1][0]) as file:
        pairs, row = metadata_pairs(file.schema), file.read_all()
    whole = arrow_tree(Damaged(pairs, row), columns())
    assert not has_unknown(whole[0])
    for _ in range(5):
        changed = list(pairs)
        place = chance.randrange(len(changed))
        key, value = changed[place]
        kind = chance.choice(["drop", "key", "value", "twice", "cut"])
        if kind == "drop":
            del changed[place]
        elif kind == "cut":
            del changed[place:]
        elif kind == "twice":
            changed.insert(place, changed[place])
        else:
            changed[place] = (key + "_2", value) if kind == "key" else (key, value + "9")
        # No error. What it says may be another expression, such as one of another column.
        tree, names = arrow_tree(Damaged(changed, row), columns())
        assert names is not None or tree is UNKNOWN
    assert arrow_tree(Damaged([], row), columns()) == (UNKNOWN, None)
    assert arrow_tree(Damaged([*pairs, ("literal", "0")], row), columns()) == (UNKNOWN, None)


class Unwritable:
    def __reduce__(self) -> Any:
        raise pa.ArrowNotImplementedError("cannot be written")


def test_arrow_that_cannot_be_written_down_says_nothing() -> None:
    assert arrow_tree(Unwritable(), columns()) == (UNKNOWN, None)
    assert arrow_tree(pc.field(3) > 5, columns()) == (UNKNOWN, None)


# polars


def changed_forms(form: Any, chance: random.Random) -> Any:
    """The JSON of an expression with one thing changed."""
    made = copy.deepcopy(form)
    places: list[tuple[Any, Any]] = []
    waiting = [made]
    while waiting:
        each = waiting.pop()
        keys = list(each) if isinstance(each, dict) else range(min(len(each), 8)) if isinstance(each, list) else ()
        for key in keys:
            places.append((each, key))
            waiting.append(each[key])
    holder, key = chance.choice(places)
    kind = chance.choice(["drop", "value", "type", "rename"])
    if kind == "drop":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[f"{key}2"] = holder.pop(key)
    else:
        holder[key] = chance.choice([None, 5, "x", [], {}, 1.5, True, {"x": 1}, [1, 2]])
    return made


class Meta:
    def __init__(self, text: str) -> None:
        self.text = text

    def serialize(self, *, format: str) -> str:
        assert format == "json"
        return self.text

    def root_names(self) -> list[str]:
        return ["i8"]


class Written:
    """An expression of polars that is written down in another way."""

    def __init__(self, text: str) -> None:
        self.meta = Meta(text)


@in_one_test
@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_polars_in_a_form_that_is_not_known_says_nothing(number: int) -> None:
    chance = random.Random(number)
    form = json.loads(QUESTIONS[number].polars.meta.serialize(format="json"))
    assert not has_unknown(polars_tree(Written(json.dumps(form)), columns())[0])
    for _ in range(8):
        # No error, whatever it is.
        polars_tree(Written(json.dumps(changed_forms(form, chance))), columns())


def test_polars_that_cannot_be_written_down_says_nothing() -> None:
    for text in ("", "{", "5", "null", "[]", "{}", '{"Column":5}', '{"New":{"a":1}}', "[" * 5000 + "]" * 5000):
        assert polars_tree(Written(text), columns())[0] is UNKNOWN


def test_polars_of_another_version_costs_speed_and_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressions, "_polars_json", lambda expression: '{"Expression":{"version":3}}')
    predicate = Predicate.of(pl.col("i8") > 5, SCHEMA)
    assert predicate is not None
    assert (predicate.is_exact, predicate.paths, predicate.conditions_for(TABLE)) == (False, frozenset({"i8"}), [])
    rows = pa.record_batch({"i8": pa.array([5, 6, None], pa.int8())})
    assert predicate.filter(rows).column(0).to_pylist() == [6]
    with pytest.raises(ValueError, match="may depend on other rows"):
        Predicate.of(pl.col("i8") > pl.col("i8").mean(), SCHEMA)


@in_one_test
@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_filter_that_polars_hands_to_a_source_is_understood(number: int) -> None:
    handed = []
    frame = pl.DataFrame(SCHEMA.empty_table())

    def rows(names: Any, predicate: Any, limit: Any, batch_rows: Any) -> Iterator[pl.DataFrame]:
        handed.append(predicate)
        yield frame if names is None else frame.select(names)

    question = QUESTIONS[number]
    register_io_source(rows, schema=frame.schema).filter(question.polars).collect()
    (found,) = handed
    # As the optimizer of 2.1 leaves it.
    if found is None:
        assert question.name == "u64 == 18446744073709551615"
        return
    tree, names, is_known = polars_tree(found, columns())
    assert is_known
    assert names
    assert not has_unknown(tree)


@in_one_test
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (pl.col("i8") > 5, True),
        (pl.col("name").str.contains("x") & (pl.col("i8") + 1 > 3), True),
        (pl.col("parts").list.len() > 2, True),
        (pl.all_horizontal(pl.col(pl.Boolean)), True),
        (pl.col("i8") > pl.col("i8").mean(), False),
        (pl.col("i8").shift() > 3, False),
        (pl.col("i8").rank() > 3, False),
        (pl.col("i8").cum_sum().over("level") > 3, False),
        (pl.col("i8").is_first_distinct(), False),
        (pl.col("i8").sort() > 5, False),
        (pl.int_range(pl.len()) > 5, False),
        (pl.col("i8").is_in(pl.col("u8").implode()), False),
        (pl.col("i8").is_in(pl.col("u8")), False),
        (pl.col("i32").is_in(pl.col("parts")), True),
        (pl.col("name") == pl.col("name").str.join(","), False),
        (pl.col("b").any(), False),
    ],
    ids=str,
)
def test_expression_of_polars_is_row_wise_only_if_polars_hands_it_to_a_source(expression: Any, expected: bool) -> None:
    assert is_row_wise(expression, columns()) is expected
    # What is known without asking must be right.
    assert polars_tree(expression, columns())[2] in (expected, False)

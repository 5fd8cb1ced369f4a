"""Which rows of a dataset are asked for: conditions, expressions of pyarrow and polars, and what follows from them.

A predicate is applied in three steps, each of which may let through too much, and never too little: blocks of an index
are left out, the reader of columns leaves out messages by its conditions, and the library of an expression decides
about each row that is left. The last step is not needed where the conditions say everything (`Predicate.is_exact`).

Conditions and expressions become trees (`_trees`, `_expressions`), and these become a formula (`_formulas`): for which
values of which columns a row may be let through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from flatstream._core.records.conditions import UNITS, number_operand, parse_conditions
from flatstream.datasets._expressions import MAX_LITERALS, arrow_tree, is_row_wise, polars_tree
from flatstream.datasets._fields import MAX_POINTS, Columns, FileFields, conditions_of, numbers_of, says_all
from flatstream.datasets._formulas import (
    ALWAYS,
    NEVER,
    Formula,
    Limit,
    Statistics,
    blocks_that_match,
    every,
    formula_of,
    limits_of,
    mapped,
    necessary,
)
from flatstream.datasets._trees import UNKNOWN, Constant, Test, Tree, interval_set
from flatstream.datasets._value_sets import (
    BEGIN,
    END,
    VALUES,
    Cut,
    ValueSet,
    before,
    before_integer,
    behind,
    behind_integer,
    behind_prefix,
    in_units,
    union_of,
)

if TYPE_CHECKING:
    import pyarrow

    from flatstream._core.records.conditions import _ParsedCondition
    from flatstream.schema import Table

__all__ = ["Predicate"]

# Tables with the formula for them are kept; more than these are those of somebody who makes a schema for each file.
MAX_KEPT = 64


class Predicate:
    """Which rows of a dataset are asked for.

    It is made by `of`, can be pickled, is never changed, and can be used by several threads.

    Attributes
    ----------
    paths : frozenset of str or None
        The columns that `filter` needs, and those of the conditions. None if that is not known: all columns are needed.
    listed : frozenset of str
        The fields of conditions with long lists, which `filter` needs also where `paths` is None.
    is_exact : bool
        Whether the conditions let through exactly the rows that are asked for, so that `filter` leaves out none.
    """

    paths: frozenset[str] | None
    listed: frozenset[str]
    is_exact: bool

    def __init__(
        self,
        where: Any,
        schema: pyarrow.Schema,
        time: tuple[str, str] | None,
        extra: Iterable[str],
        empty: Iterable[str] = (),
    ) -> None:
        self._time = time
        self._columns = Columns(schema, {} if time is None else dict([time]), extra, empty)
        # As expressions see them: a time that is given as a number is a number as any other.
        times = {path: unit for path, unit in self._columns.times.items() if not self._columns.is_number(path)}
        self._shown = Columns(schema, times, extra, empty)
        self._where, expressions = _parts_of(where)
        self._expressions = tuple(expressions)
        # Expressions of polars of which a part is not known.
        self._unknown: list[Any] = []
        # The names that conditions have for values of enums.
        self._names: list[tuple[str, list[str]]] = []
        # Long lists of conditions, as expressions; and which conditions these are.
        self._long: dict[int, Any] = {}
        # For each condition what it says of the values, and for a time the instants that it has, in nanoseconds.
        self._instants: list[list[Any] | None] = []
        self._limits = [formula_of(self._test_of(number, condition)) for number, condition in enumerate(self._where)]
        self.listed = frozenset(self._where[place][0] for place in self._long)
        names: set[str] | None = {condition[0] for condition in self._where}
        formulas = []
        for expression in self._expressions:
            tree, needed = self._read(expression)
            formulas.append(formula_of(tree))
            names = None if names is None or needed is None else names | needed
        self._formula = every(formulas)
        self.paths = None if names is None else frozenset(names)
        self._check_names()
        self.is_exact = self._formula == NEVER or (not self._long and self._says_all(self._formula))
        if self._expressions and not self.is_exact:
            # An expression that cannot be evaluated is refused here, whether or not there will be rows.
            self._evaluate(self._empty_batch())
        for expression in self._unknown:
            if not is_row_wise(expression, self._columns):
                raise ValueError(
                    f"where: {str(expression)!r:.200} may depend on other rows than its own, and rows are read in "
                    "batches: use scan().filter(), or collect the columns first"
                )
        self._kept: dict[Any, tuple[Formula, Formula, FileFields]] = {}

    @classmethod
    def of(
        cls,
        where: Any,
        schema: pyarrow.Schema,
        *,
        time: tuple[str, str] | None = None,
        extra: Iterable[str] = (),
        empty: Iterable[str] = (),
    ) -> Predicate | None:
        """The predicate that a `where` says; None if it says nothing.

        Parameters
        ----------
        where : None, condition, expression, list of these, or Predicate
            Conditions are those of `StreamReader.columns`; a datetime that the time of a message is compared with needs
            no unit. Expressions are a `pyarrow.compute.Expression` or a `polars.Expr`. All parts of a list must hold.
        schema : pyarrow.Schema
            All columns of the dataset, and those of `extra`.
        time : (str, str), optional
            The path of the field with the time of a message, and the unit that it counts in ("s", "ms", "us", "ns"),
            of several files the finest one. Its column is a timestamp, of this unit or of a coarser one to which the
            times are rounded down; or a number of these units.
        extra : iterable of str
            The columns that are no fields of messages.
        empty : iterable of str
            The paths of tables and structs without fields.

        Raises
        ------
        TypeError, ValueError
            `where` is none of these, or a value does not fit its field. An expression of polars depends on other rows
            than its own.
        KeyError
            There is no such column.
        Exception
            An error of the library that an expression is of, which cannot evaluate it with these columns.
        """
        if where is None or isinstance(where, cls):
            return where
        made = cls(where, schema, time, extra, empty)
        return made if made._where or made._expressions else None

    # Reading a `where`

    def _test_of(self, place: int, condition: _ParsedCondition) -> Tree:
        """A condition as a test."""
        path, operator, operands, unit = condition
        columns = self._columns
        if path in columns.extra:
            raise ValueError(
                f"where: {path!r:.200} is no field of the messages: use an expression of pyarrow or polars"
            )
        domain = columns.domain(path)
        own_unit = columns.times.get(path)
        values = list(operands[0]) if operator in ("in", "not in") else list(operands)
        if domain == "time" and unit is None and columns.is_number(path) and _are_numbers(values):
            # As they are stored, in each file in its own unit, as the column has them.
            domain, own_unit = "integer", None
        if domain == "time" and unit is not None and unit != own_unit:
            raise ValueError(f"where: {path} counts in {own_unit}, and the condition says {unit}")
        if operator == "startswith" and domain not in ("text", "other", None):
            raise ValueError(f"where: {path} is no string: 'startswith' is for strings")
        self._instants.append(None)
        if domain == "label" and operator in ("==", "!=", "in", "not in") and _are_texts(values):
            self._names.append((path, [str.__str__(value) for value in values]))
        elif domain not in ("bool", "integer", "real", "text", "time") or _has_texts(values, domain):
            return UNKNOWN
        made: list[Any] = []
        for i, value in enumerate(values):
            what = "the value" if operator != "range" else f"the {('low', 'high')[i]} end of the range"
            if operator == "range" and value is None:
                made.append(None)
            elif domain not in ("text", "label"):
                number = number_operand(value, what, unit or own_unit)
                # In nanoseconds. Of the field itself, also where its column is rounded.
                made.append(_scaled(number, UNITS[own_unit]) if domain == "time" and own_unit else number)
            elif isinstance(value, str):
                made.append(str.__str__(value))
            else:
                raise TypeError(f"where: {path} is a string: {what} must be a str, got {type(value).__name__}")
        if domain == "time":
            self._instants[-1] = made
        if len(made) > MAX_POINTS and domain in ("integer", "text") and operator in ("in", "not in"):
            self._long[place] = self._lookup(path, operator, domain, made)
            if len(made) > MAX_LITERALS:
                # Blocks are left out by the lowest and the highest.
                low, high = _cuts(min(made), domain)[0], _cuts(max(made), domain)[1]
                return Test(path, ValueSet(((low, high),)) if operator == "in" else VALUES, VALUES)
        return _condition_test(path, operator, made, domain)

    def _lookup(self, path: str, operator: str, domain: str, operands: list[Any]) -> Any:
        """The expression of pyarrow that says what a condition says with a long list."""
        import pyarrow.compute

        values = operands
        if domain == "integer":
            low, high, _ = self._columns.integer_range(path)
            values = [int(value) for value in operands if low <= value <= high and value == value // 1]
        column = pyarrow.compute.field(path)
        found = column.isin(pyarrow.array(values, self._columns.type_of(path)))
        return found if operator == "in" else ~found & column.is_valid()

    def _read(self, expression: Any) -> tuple[Tree, frozenset[str] | None]:
        if _library_of(expression) == "pyarrow":
            return arrow_tree(expression, self._shown)
        tree, names, is_known = polars_tree(expression, self._shown)
        if not is_known:
            self._unknown.append(expression)
        return tree, names

    def _check_names(self) -> None:
        for path in self.paths or ():
            if self._columns.type_of(path) is None:
                names = self._columns.schema.names
                more = f" and {len(names) - 20} more" if len(names) > 20 else ""
                raise KeyError(f"where: no field {path!r:.200}: there are {', '.join(names[:20])}{more}")

    def _empty_batch(self) -> pyarrow.RecordBatch:
        import pyarrow

        types = self._columns.type_of
        names = list(dict.fromkeys((*self._wanted, *self.listed)))
        return pyarrow.record_batch([pyarrow.nulls(0, types(name)) for name in names], names)

    @cached_property
    def _wanted(self) -> tuple[str, ...]:
        """The columns that expressions are evaluated with, in this order.

        Where these are not known, they are found by their places or types, for instance, and must be those of the
        dataset, whatever else is read; with those that are no fields of messages only if they are asked for by name.
        """
        if self.paths is not None:
            return tuple(sorted(self.paths))
        named: set[str] = set()
        for expression in self._expressions:
            if _library_of(expression) == "polars":
                named.update(expression.meta.root_names())
            else:
                # Nothing tells which names it has, and all names are known at the places before.
                named.update(self._columns.extra)
        names = self._columns.schema.names
        return tuple(name for name in names if name not in self._columns.extra or name in named)

    def _says_all(self, formula: Formula) -> bool:
        limits = limits_of(formula)
        if limits is None:
            return False
        for limit in limits:
            domain = self._shown.domain(limit.path)
            values = limit.values
            if domain == "time":
                values = in_units(values, UNITS[self._shown.times[limit.path]])
            integers = domain in ("bool", "integer", "time")
            if not limit.is_exact or domain == "other" or not says_all(values, integers=integers):
                return False
        return True

    # What follows from it

    def _for(self, table: Table, time: tuple[str, str] | None) -> tuple[Formula, Formula, FileFields]:
        """The formulas of conditions and of expressions for the values that the fields have in files of one table."""
        key = table, time
        found = self._kept.get(key)
        if found is None:
            fields = FileFields(table, time)
            conditions = [
                mapped(limit, partial(self._in_file, fields=fields, columns=self._columns_of(number)))
                for number, limit in enumerate(self._limits)
            ]
            formula = mapped(self._formula, partial(self._in_file, fields=fields, columns=self._shown))
            found = every(conditions), formula, fields
            if len(self._kept) < MAX_KEPT:
                self._kept[key] = found
        return found

    def _columns_of(self, condition: int) -> Columns:
        """What the set of values is about that a condition says: instants, or what columns show."""
        return self._shown if self._instants[condition] is None else self._columns

    @staticmethod
    def _in_file(limit: Limit, fields: FileFields, columns: Columns) -> Formula:
        path = limit.path
        if fields.column(path) == "missing":
            # It is null in each row.
            return ALWAYS if limit.values.null else NEVER
        domain = columns.domain(path)
        assert domain is not None
        values = fields.values(path, domain, limit.values, columns.times.get(path))
        return NEVER if values.is_empty else Limit(path, values, limit.is_exact)

    def conditions_for(self, table: Table, time: tuple[str, str] | None = None) -> list[tuple[Any, ...]] | None:
        """Conditions, for reading columns, that each row holds which is asked for.

        Parameters
        ----------
        table : Table
            That of the messages in a file.
        time : (str, str), optional
            The path of the field with the time of a message, and the unit that it counts in, in this file; by default
            those of the dataset.

        Returns
        -------
        list of tuple or None
            The conditions, which may be none. None if no message of such a file is asked for.

        Raises
        ------
        ValueError
            A condition orders the values of an enum by a name that it does not have in this file.
        """
        conditions, formula, fields = self._for(table, time)
        made: list[tuple[Any, ...]] = []
        needed = necessary(formula)
        if needed is None or necessary(conditions) is None or self._lacks(fields):
            return None
        for i, condition in enumerate(self._where):
            path, operator, operands, _ = condition
            limit, instants = self._limits[i], self._instants[i]
            if instants is not None:
                own = UNITS[fields.unit_of(path, self._columns.times[path])]
                numbers = [each if each is None else _scaled(each, Fraction(1, own)) for each in instants]
                operands = (numbers,) if operator in ("in", "not in") else tuple(numbers)
                made.append(_condition((path, operator, operands, None)))
            elif isinstance(limit, Limit) and (i in self._long or self._columns.domain(path) == "label"):
                # Names, of which this file may lack some; or from the lowest to the highest of a long list.
                found = self._in_file(limit, fields, self._shown)
                assert isinstance(found, Limit)
                integers = self._columns.domain(path) != "text"
                most = MAX_POINTS if i in self._long else math.inf
                made += conditions_of(path, found.values, integers=integers, nullable=True, most=most)
            else:
                made.append(_condition(condition))
        for path, values in needed.items():
            column = fields.column(path)
            domain = self._shown.domain(path)
            if isinstance(column, str) or domain == "other" or values.null or values.nan:
                continue
            integers = domain in ("bool", "integer", "time", "label")
            nullable = column.nullable or domain == "real"
            made += conditions_of(path, values, integers=integers, nullable=nullable)
        return made

    def _lacks(self, fields: FileFields) -> bool:
        """Whether a file lacks a field that a condition is on."""
        return any(fields.column(path) == "missing" for path, *_ in self._where)

    def may_match(
        self,
        table: Table,
        statistics: Mapping[str, Statistics],
        counts: Any,
        time: tuple[str, str] | None = None,
    ) -> Any:
        """Whether each block of a file may have a row that is asked for.

        Parameters
        ----------
        table, time
            As for `conditions_for`.
        statistics : mapping of str to an object with `low`, `high` and `nulls`
            Of some paths the smallest and the largest value in each block, enums as numbers, and how many rows have no
            value or NaN; three arrays.
        counts : array of int
            How many rows each block has.

        Returns
        -------
        numpy.ndarray of bool
            One for each block.
        """
        import numpy

        counts = numpy.asarray(counts)
        conditions, formula, fields = self._for(table, time)
        both = every([conditions, formula])
        if self._lacks(fields) or necessary(both) is None:
            return numpy.zeros(len(counts), bool)
        return blocks_that_match(both, statistics, counts)

    def check(self, tables: Iterable[Table]) -> None:
        """Refuses conditions with a name that the enum of a field has in none of these tables.

        Raises
        ------
        ValueError
            There is such a name.
        """
        if not self._names:
            return
        files = [FileFields(table, None) for table in tables]
        for path, names in self._names:
            columns = [file.column(path) for file in files]
            known = [column for column in columns if not isinstance(column, str) and column.labels is not None]
            labels = dict.fromkeys(label for column in known for label in column.labels or ())
            for name in names:
                # A number that has no name is its digits.
                if known and name not in labels and not numbers_of(_name_set(name), {}).intervals:
                    raise ValueError(f"where: {name!r:.100} is no name of {path}; it has {', '.join(labels)}")

    def filter(self, batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch:
        """Of rows that hold the conditions, those that are asked for.

        Parameters
        ----------
        batch : pyarrow.RecordBatch
            Rows with the columns in `paths`, or with all columns. They were read with `conditions_for`.
        """
        if self.is_exact or not batch.num_rows:
            return batch
        mask = self._evaluate(batch)
        return batch if mask is None else batch.filter(mask)

    def _evaluate(self, batch: pyarrow.RecordBatch) -> Any:
        """Which rows the expressions let through, as an array of bools; None for all."""
        import pyarrow.compute

        mask = None
        needed = batch.select(list(self._wanted)) if self._wanted else batch
        of_lists = [(expression, batch.select([self._where[i][0]])) for i, expression in self._long.items()]
        for expression, columns in (*of_lists, *((each, needed) for each in self._expressions)):
            evaluated = _arrow_mask if _library_of(expression) == "pyarrow" else _polars_mask
            found = evaluated(expression, columns)
            mask = found if mask is None else pyarrow.compute.and_kleene(mask, found)
        return mask

    def __reduce__(self) -> tuple[Any, ...]:
        columns = self._columns
        where = [_condition(each) for each in self._where] + list(self._expressions)
        return Predicate, (
            where,
            columns.schema,
            self._time,
            tuple(sorted(columns.extra)),
            tuple(sorted(columns.empty)),
        )

    def __repr__(self) -> str:
        parts = [repr(_condition(each)) for each in self._where] + [str(each) for each in self._expressions]
        return f"<Predicate {' and '.join(parts)}>"


def _condition(parsed: _ParsedCondition) -> tuple[Any, ...]:
    """A condition as it is given."""
    path, operator, operands, unit = parsed
    given = (path, *operands) if operator == "range" else (path, operator, *operands)
    return given if unit is None else (*given, unit)


def _library_of(value: Any) -> str | None:
    """The library that an expression is of; None if it is none."""
    import sys

    # Not imported for this: who has an expression has imported its library.
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(value, polars.Expr):
        return "polars"
    pyarrow = sys.modules.get("pyarrow.compute")
    return "pyarrow" if pyarrow is not None and isinstance(value, pyarrow.Expression) else None


def _parts_of(where: Any) -> tuple[list[_ParsedCondition], list[Any]]:
    """The conditions of a `where`, and its expressions."""
    if _library_of(where) is not None:
        return [], [where]
    if not isinstance(where, (list, tuple)) or (where and isinstance(where[0], str)):
        return parse_conditions(where), []
    expressions = [part for part in where if _library_of(part) is not None]
    return parse_conditions([part for part in where if _library_of(part) is None]), expressions


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _are_numbers(values: list[Any]) -> bool:
    """Whether no value of a condition is a time, which needs the unit of the field."""
    try:
        for value in values:
            if value is not None:
                number_operand(value, "the value", None)
    except (TypeError, ValueError):
        return False
    return True


def _has_texts(values: list[Any], domain: str) -> bool:
    """Whether numbers are given by names, as flags can be."""
    return domain == "integer" and any(isinstance(value, str) for value in values)


def _name_set(name: str) -> ValueSet:
    return ValueSet(union_of([(before(name), behind(name))]))


def _scaled(number: Any, factor: Any) -> Any:
    return number if isinstance(number, float) and math.isinf(number) else Fraction(number) * factor


def _cuts(operand: Any, domain: str) -> tuple[Cut, Cut]:
    """The cuts before and behind an operand."""
    if isinstance(operand, float) and math.isinf(operand) and domain != "real":
        # There are no numbers beyond.
        return (END, END) if operand > 0 else (BEGIN, BEGIN)
    if domain in ("text", "label", "real"):
        return before(operand), behind(operand)
    return before_integer(operand), behind_integer(operand)


def _condition_test(path: str, operator: str, operands: list[Any], domain: str) -> Tree:
    """The test that a condition makes; neither null nor NaN holds it."""
    cuts = [None if operator == "range" and each is None else _cuts(each, domain) for each in operands]
    if operator == "range":
        low, high = cuts
        true = ValueSet(union_of([(BEGIN if low is None else low[0], END if high is None else high[0])]))
    elif operator in ("==", "in", "!=", "not in"):
        true = ValueSet(union_of(each for each in cuts if each is not None))
        if operator in ("!=", "not in"):
            true = true.others
    else:
        (each,) = cuts
        assert each is not None
        if operator == "startswith":
            true = ValueSet(union_of([(each[0], behind_prefix(operands[0]))]))
        else:
            true = interval_set(operator, *each)
    return Constant(False) if true.is_empty else Test(path, true, VALUES)


# Evaluating expressions


def _arrow_mask(expression: Any, batch: pyarrow.RecordBatch) -> Any:
    import pyarrow
    from pyarrow import acero

    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(pyarrow.Table.from_batches([batch])))
    project = acero.Declaration("project", acero.ProjectNodeOptions([expression], ["mask"]))
    # With threads, the rows might come in another order.
    try:
        table = acero.Declaration.from_sequence([source, project]).to_table(use_threads=False)
    except pyarrow.ArrowNotImplementedError as error:
        _note_time_zone(error)
        raise
    return _as_mask(table.column(0).combine_chunks(), batch.num_rows, expression)


def _note_time_zone(error: Exception) -> None:
    """Adds to an error about a time that is compared with a datetime without a time zone how that is mended."""
    text = str(error).lower()
    # With a unit only, the type has no time zone.
    if re.search(r"(datetime|timestamp)[\[(][^]),]*[\])]", text) and "utc" in text:
        error.add_note("times of messages are in UTC: give the datetime a time zone, as datetime(..., tzinfo=UTC)")


def _polars_mask(expression: Any, batch: pyarrow.RecordBatch) -> Any:
    import polars

    frame = polars.from_arrow(batch)
    assert isinstance(frame, polars.DataFrame)
    try:
        made = frame.select(expression)
    except polars.exceptions.PolarsError as error:
        _note_time_zone(error)
        raise
    if made.width != 1:
        raise ValueError(f"where: {str(expression)!r:.200} is {made.width} columns, and not one of true and false")
    return _as_mask(made.to_series().to_arrow(), batch.num_rows, expression)


def _as_mask(mask: Any, rows: int, expression: Any) -> Any:
    import pyarrow

    if isinstance(mask, pyarrow.ChunkedArray):
        mask = mask.combine_chunks()
    if pyarrow.types.is_null(mask.type):
        mask = mask.cast(pyarrow.bool_())
    if not pyarrow.types.is_boolean(mask.type):
        raise TypeError(f"where: {str(expression)!r:.200} is {mask.type}, not true or false")
    if len(mask) == 1 != rows:
        # A literal.
        mask = pyarrow.repeat(mask[0], rows)
    return mask

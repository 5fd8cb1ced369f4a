"""What expressions of pyarrow and polars say, as trees that conditions and ranges of blocks can be taken from.

Neither library lets one walk through an expression. Both can write one down, in forms that are documented nowhere:

- pyarrow, to pickle an expression: a file of Arrow's IPC. The metadata of its schema has the expression, in pre-order
  as pairs of a key ("call", "field_ref", "literal", "options", "end") and a value; the columns of its only row have the
  literals with their types. Seen with 17, 21 and 26. Python's mapping of the metadata has each key once, hence
  the C data interface.
- polars, as JSON: ``Expr.meta.serialize(format="json")``. Seen with 1.30 and 2.1; of 1.3 lists are not understood.

Whatever is not known here, and any error, becomes `Unknown`: then nothing is left out when reading, and the library
that the expression is of decides about each row. So a newer version costs speed, and no result.

The semantics differ. For an ordered comparison with NaN, Arrow follows IEEE, and polars and DuckDB say that NaN is
greater than all numbers; literals of floats are rounded to 32 bits here and there. So a test of floats that an
expression makes counts as one that NaN may pass and fail, its limits are a bit wider, and it is never exact.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from flatstream._core.records.conditions import UNITS
from flatstream.datasets._value_sets import (
    BEGIN,
    END,
    NULL,
    VALUES,
    Cut,
    ValueSet,
    before,
    before_integer,
    before_time,
    behind,
    behind_integer,
    behind_prefix,
    behind_time,
    union_of,
)

if TYPE_CHECKING:
    from flatstream.datasets._fields import Columns

logger = logging.getLogger("flatstream.datasets")

# Of trees that are deeper, nothing is taken: Python limits how deep calls may be inside one another.
MAX_DEPTH = 200


# Trees


@dataclass(frozen=True, slots=True)
class Test:
    """A test of one column.

    Attributes
    ----------
    path : str
        The path of the column.
    true, false : ValueSet
        The values for which it says true, and false. For those in neither it says null.
    is_exact : bool
        Whether the sets are exactly these values, or at least these.
    """

    path: str
    true: ValueSet
    false: ValueSet
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Constant:
    """True, False, or None for null, in each row."""

    value: bool | None


@dataclass(frozen=True, slots=True)
class Combined:
    """Several trees, by Kleene's logic: "and", "or", "not" of one, or "if" of a condition and two values."""

    operator: str
    parts: tuple[Tree, ...]
    # Whether this is true and false exactly where Kleene's logic says so.
    is_exact: bool = True


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is known about which rows it lets through."""


Tree: TypeAlias = Test | Constant | Combined | Unknown
UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class _Column:
    """A column by its path; of times perhaps rounded to a coarser unit, of so many nanoseconds."""

    path: str
    unit: int = 0


@dataclass(frozen=True, slots=True)
class _Literal:
    """A literal: its kind, its value, and for numbers the type.

    The kinds are "null", "bool", "integer", "real", "text", and "time", whose value is the instant in nanoseconds.
    """

    kind: str
    value: Any
    # Of an integer, the name of its type ("int64"), None if it takes that of the column; of a time, the nanoseconds
    # of its unit.
    type: Any = None


_Node: TypeAlias = Test | Constant | Combined | Unknown | _Column | _Literal
FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


# Tests, for both libraries


def interval_set(operator: str, lower: Cut, upper: Cut) -> ValueSet:
    """The values that compare with one value so; the cuts before and behind this value."""
    if operator == "==":
        return ValueSet(union_of([(lower, upper)]))
    if operator == "!=":
        return ValueSet(union_of([(lower, upper)])).others
    begin, end = {"<": (BEGIN, lower), "<=": (BEGIN, upper), ">": (upper, END), ">=": (lower, END)}[operator]
    return ValueSet(union_of([(begin, end)]))


def _cuts(
    columns: Columns, column: _Column, domain: str, literal: _Literal, dialect: str
) -> tuple[Cut, Cut, bool] | None:
    """The cuts before and behind a literal, and whether they are exact; None if the comparison is not known."""
    path, value = column.path, literal.value
    if domain == "bool" and literal.kind == "bool":
        return before_integer(int(value)), behind_integer(int(value)), True
    if domain == "integer" and literal.kind == "integer":
        return (before_integer(value), behind_integer(value), True) if _fits(columns, path, literal, dialect) else None
    if domain in ("text", "label") and literal.kind == "text":
        return before(value), behind(value), True
    if domain == "real" and literal.kind in ("integer", "real"):
        if literal.kind == "real" and math.isnan(value):
            return None
        lower, upper = _rounded(value)
        return before(lower), behind(upper), False
    if domain == "time" and literal.kind == "time":
        unit = columns.unit_of(path)
        # polars compares in the coarser of two units, and rounds the other one.
        is_rounded = column.unit or (dialect == "polars" and literal.type != unit)
        slack = max(literal.type, unit, column.unit) if is_rounded else 0
        return before_time(value - slack, unit), behind_time(value + slack, unit), slack == 0
    if domain == "time" and literal.kind == "integer" and columns.is_number(path):
        if not _fits(columns, path, literal, dialect):
            return None
        unit = columns.unit_of(path)
        return before_time(Fraction(value * unit), unit), behind_time(Fraction(value * unit), unit), True
    return None


def _fits(columns: Columns, path: str, literal: _Literal, dialect: str) -> bool:
    """Whether a column of integers is compared with this literal as numbers are."""
    if dialect == "arrow":
        return True
    low, high, is_unsigned_long = columns.integer_range(path)
    if literal.type is None:
        return bool(low <= literal.value <= high)
    # Between an unsigned type of 64 bits and a signed one, polars compares floats.
    return literal.type in INTEGERS and is_unsigned_long == (literal.type == "uint64")


def _rounded(value: Any) -> tuple[float, float]:
    """Floats below and above a number, farther away than rounding to 32 bits moves it."""
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    if math.isinf(number):
        # The largest float of 32 bits, and a bit less: what is beyond becomes infinite there.
        return (3.4e38, math.inf) if number > 0 else (-math.inf, -3.4e38)
    slack = abs(number) * 2.0**-22 + 2.0**-148
    lower, upper = number - slack, number + slack
    # What is too large for 32 bits becomes infinite there.
    return (-math.inf if lower < -3.4e38 else lower), (math.inf if upper > 3.4e38 else upper)


INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


def _comparison(columns: Columns, operator: str, one: _Node, two: _Node, dialect: str, missing: bool = False) -> Tree:
    """A column compared with a literal; with `missing`, null equals null and nothing else (polars' ``eq_missing``)."""
    if isinstance(one, _Literal) and isinstance(two, _Column):
        one, two, operator = two, one, FLIPPED[operator]
    if not isinstance(one, _Column) or not isinstance(two, _Literal):
        return UNKNOWN
    domain = columns.domain(one.path)
    if domain is None:
        return UNKNOWN
    if two.kind == "null":
        if not missing:
            return Constant(None)
        values = VALUES.with_missing(nan=domain == "real")
        return Test(one.path, NULL, values) if operator == "==" else Test(one.path, values, NULL)
    if domain == "label" and operator not in ("==", "!="):
        return UNKNOWN
    cuts = _cuts(columns, one, domain, two, dialect)
    if cuts is None:
        return UNKNOWN
    lower, upper, is_exact = cuts
    if is_exact:
        true = interval_set(operator, lower, upper)
        false = true.others
    else:
        # Both sets are as large as they can be: a value near the literal may belong to either.
        true, false = _near_sets(operator, lower, upper)
    if domain == "real":
        true, false = true.with_missing(nan=True), false.with_missing(nan=True)
    if missing:
        equal = operator == "=="
        true, false = true.with_missing(null=not equal), false.with_missing(null=equal)
    return Test(one.path, true, false, is_exact)


def _near_sets(operator: str, lower: Cut, upper: Cut) -> tuple[ValueSet, ValueSet]:
    near = ValueSet(union_of([(lower, upper)]))
    below, above = ValueSet(union_of([(BEGIN, upper)])), ValueSet(union_of([(lower, END)]))
    return {
        "==": (near, VALUES),
        "!=": (VALUES, near),
        "<": (below, above),
        "<=": (below, above),
        ">": (above, below),
        ">=": (above, below),
    }[operator]


def _membership(columns: Columns, column: _Node, literals: Sequence[_Literal] | None, dialect: str, nulls: str) -> Tree:
    """A column that is one of some literals.

    `nulls` says what null in the column gives: "match" if it is found where the literals have a null, "false", or
    "null".
    """
    if not isinstance(column, _Column) or literals is None:
        return UNKNOWN
    domain = columns.domain(column.path)
    if domain is None:
        return UNKNOWN
    intervals = []
    is_exact = True
    has_null = False
    for literal in literals:
        if literal.kind == "null":
            has_null = True
            continue
        if literal.kind == "real" and math.isnan(literal.value) and domain == "real":
            is_exact = False
            continue
        cuts = _cuts(columns, column, domain, literal, dialect)
        if cuts is None:
            return UNKNOWN
        intervals.append(cuts[:2])
        is_exact = is_exact and cuts[2]
    true = ValueSet(union_of(intervals))
    false = true.others if is_exact else VALUES
    if domain == "real":
        true, false = true.with_missing(nan=True), false.with_missing(nan=True)
    if nulls == "match":
        true, false = true.with_missing(null=has_null), false.with_missing(null=not has_null)
    elif nulls == "false":
        false = false.with_missing(null=True)
    elif has_null:
        # Whether a value that is not found is not in a list with null: libraries differ.
        is_exact = False
    return Test(column.path, true, false, is_exact)


def _null_test(columns: Columns, column: _Node, *, is_null: bool, nan: bool = False) -> Tree:
    """Whether a column is null, with `nan` also whether it is NaN."""
    if not isinstance(column, _Column):
        return UNKNOWN
    domain = columns.domain(column.path)
    if domain is None:
        return UNKNOWN
    has_nan = domain in ("real", "other")
    null = NULL.with_missing(nan=nan and has_nan)
    values = VALUES.with_missing(nan=has_nan and not nan)
    return Test(column.path, null, values) if is_null else Test(column.path, values, null)


def _nan_test(columns: Columns, column: _Node, *, is_nan: bool) -> Tree:
    if not isinstance(column, _Column) or columns.domain(column.path) != "real":
        return UNKNOWN
    nan = ValueSet(nan=True)
    return Test(column.path, nan, VALUES) if is_nan else Test(column.path, VALUES, nan)


def _prefix_test(columns: Columns, column: _Node, literal: _Node) -> Tree:
    if not isinstance(column, _Column) or not isinstance(literal, _Literal):
        return UNKNOWN
    if literal.kind != "text" or columns.domain(column.path) != "text":
        return UNKNOWN
    true = ValueSet(union_of([(before(literal.value), behind_prefix(literal.value))]))
    return Test(column.path, true, true.others)


def _as_tree(columns: Columns, node: _Node) -> Tree:
    """A node where a truth value is expected."""
    if isinstance(node, _Column):
        if columns.domain(node.path) != "bool":
            return UNKNOWN
        true = ValueSet(((before_integer(1), behind_integer(1)),))
        return Test(node.path, true, true.others)
    if isinstance(node, _Literal):
        return Constant(node.value) if node.kind in ("bool", "null") else UNKNOWN
    return node


# pyarrow


def arrow_tree(expression: Any, columns: Columns) -> tuple[Tree, frozenset[str] | None]:
    """The tree of a `pyarrow.compute.Expression`, and the names of the columns that it takes; None if not known."""
    try:
        reader = _ArrowReader(expression, columns)
        node = reader.node(0)
        if not reader.at_end:
            return UNKNOWN, None
        return _as_tree(columns, node), frozenset(reader.names)
    # A form that is not known may fail anywhere, in any way.
    except Exception as error:
        logger.debug("all rows are read for an expression of pyarrow that is not understood: %r", error)
        return UNKNOWN, None


class _FormError(Exception):
    """Something that the parser of a form does not know, where it cannot go on behind."""


class _ArrowReader:
    """The nodes of an expression of pyarrow, in pre-order."""

    COMPARISONS: ClassVar = {
        "equal": "==",
        "not_equal": "!=",
        "less": "<",
        "less_equal": "<=",
        "greater": ">",
        "greater_equal": ">=",
    }

    def __init__(self, expression: Any, columns: Columns) -> None:
        import pyarrow

        self.columns = columns
        _, (data,) = expression.__reduce__()
        with pyarrow.ipc.open_file(data) as file:
            self.pairs = metadata_pairs(file.schema)
            self.row = file.read_all()
        self.position = 0
        # The columns, as they are named at the top.
        self.names: set[str] = set()

    @property
    def at_end(self) -> bool:
        return self.position == len(self.pairs)

    def take(self) -> tuple[str, str]:
        if self.at_end:
            raise _FormError("the expression ends early")
        self.position += 1
        return self.pairs[self.position - 1]

    def scalar(self, number: str) -> Any:
        return self.row.column(int(number))[0]

    def node(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise _FormError("the expression is too deep")
        key, value = self.take()
        if key == "field_ref":
            self.names.add(value)
            return _Column(value)
        if key == "nested_field_ref":
            parts = [self.take() for _ in range(int(value))]
            if not parts or any(part[0] != "field_ref" for part in parts):
                raise _FormError("a nested reference of another form")
            self.names.add(parts[0][1])
            return _Column(".".join(name for _, name in parts))
        if key == "literal":
            return _arrow_literal(self.scalar(value))
        if key != "call":
            raise _FormError(f"an entry {key!r}")
        name = value
        arguments: list[_Node] = []
        options: dict[str, Any] | None = None
        while self.position < len(self.pairs):
            key, value = self.pairs[self.position]
            if key == "end":
                if value != name:
                    raise _FormError(f"the end of {value!r} inside of {name!r}")
                self.position += 1
                return self.call(name, arguments, options)
            if key == "options":
                self.position += 1
                options = dict(zip(*_struct_of(self.scalar(value)), strict=True))
            else:
                arguments.append(self.node(depth + 1))
        raise _FormError("the expression ends early")

    def call(self, name: str, arguments: list[_Node], options: dict[str, Any] | None) -> _Node:
        columns = self.columns
        if name in self.COMPARISONS and len(arguments) == 2 and options is None:
            return _comparison(columns, self.COMPARISONS[name], arguments[0], arguments[1], "arrow")
        if name in ("and_kleene", "or_kleene", "and", "or") and len(arguments) == 2 and options is None:
            parts = tuple(_as_tree(columns, argument) for argument in arguments)
            # Those that are not Kleene's say null more often.
            return Combined(name.partition("_")[0], parts, name.endswith("_kleene"))
        if name == "invert" and len(arguments) == 1 and options is None:
            return Combined("not", (_as_tree(columns, arguments[0]),))
        if name == "if_else" and len(arguments) == 3 and options is None:
            return Combined("if", tuple(_as_tree(columns, argument) for argument in arguments))
        if name == "is_valid" and len(arguments) == 1 and options is None:
            return _null_test(columns, arguments[0], is_null=False)
        if name == "is_null" and len(arguments) == 1 and options is not None:
            return _null_test(columns, arguments[0], is_null=True, nan=options["nan_is_null"].as_py())
        if name == "is_nan" and len(arguments) == 1 and options is None:
            return _nan_test(columns, arguments[0], is_nan=True)
        if name == "is_in" and len(arguments) == 1 and options is not None:
            behaviour = {0: "match", 1: "false"}.get(options["null_matching_behavior"].as_py())
            found = None if behaviour is None else [_arrow_literal(each) for each in options["value_set"].values]
            return _membership(columns, arguments[0], found, "arrow", behaviour or "")
        if name == "starts_with" and len(arguments) == 1 and options is not None:
            if options["ignore_case"].as_py() is not False:
                return UNKNOWN
            return _prefix_test(columns, arguments[0], _arrow_literal(options["pattern"]))
        if name == "struct_field" and len(arguments) == 1 and options is not None:
            return self.member(arguments[0], options)
        return UNKNOWN

    @staticmethod
    def member(column: _Node, options: dict[str, Any]) -> _Node:
        path = options["field_ref"].as_py() if "field_ref" in options else ""
        # ".name", as Arrow writes a reference to one field; others have brackets and backslashes.
        if not isinstance(column, _Column) or not path.startswith(".") or not path[1:].isidentifier():
            return UNKNOWN
        return _Column(column.path + path)


@functools.cache
def _pointer_function() -> Any:
    """What gives the pointer in a capsule."""
    import ctypes

    kind = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    return kind(("PyCapsule_GetPointer", ctypes.pythonapi))


def metadata_pairs(schema: Any) -> list[tuple[str, str]]:
    """The metadata of a pyarrow.Schema, in its order, and with all entries of one key."""
    import ctypes

    # The capsule owns the structure, as long as this function runs.
    capsule = schema.__arrow_c_schema__()
    address = _pointer_function()(capsule, b"arrow_schema")
    if not address:
        raise _FormError("no schema")
    # struct ArrowSchema: format, name, metadata. The metadata is the number of pairs, then the length and the bytes of
    # each key and each value, where numbers are int32.
    metadata = ctypes.c_void_p.from_address(address + 2 * ctypes.sizeof(ctypes.c_void_p)).value
    if not metadata:
        return []
    pairs = []
    (count,) = struct.unpack("=i", ctypes.string_at(metadata, 4))
    position = metadata + 4
    for _ in range(count):
        texts = []
        for _ in range(2):
            (size,) = struct.unpack("=i", ctypes.string_at(position, 4))
            texts.append(ctypes.string_at(position + 4, size).decode())
            position += 4 + size
        pairs.append((texts[0], texts[1]))
    return pairs


def _struct_of(scalar: Any) -> tuple[list[str], list[Any]]:
    names = [scalar.type.field(index).name for index in range(scalar.type.num_fields)]
    return names, [scalar[name] for name in names]


def _arrow_literal(scalar: Any) -> _Literal:
    """A literal of pyarrow; of a kind that is not known, "other"."""
    import pyarrow

    types = pyarrow.types
    type_ = scalar.type
    if types.is_dictionary(type_):
        scalar = scalar.value
        type_ = scalar.type
    if types.is_null(type_) or not scalar.is_valid:
        return _Literal("null", None)
    if types.is_boolean(type_):
        return _Literal("bool", scalar.as_py())
    if types.is_integer(type_):
        return _Literal("integer", scalar.as_py(), str(type_))
    if types.is_floating(type_):
        return _Literal("real", float(scalar.as_py()))
    if types.is_string(type_) or types.is_large_string(type_) or str(type_) == "string_view":
        return _Literal("text", scalar.as_py())
    if types.is_timestamp(type_) and type_.tz is not None:
        unit = UNITS[type_.unit]
        return _Literal("time", Fraction(scalar.value * unit), unit)
    return _Literal("other", None)


# polars


def polars_tree(expression: Any, columns: Columns) -> tuple[Tree, frozenset[str] | None, bool]:
    """The tree of a `polars.Expr`, the names of the columns that it takes (None if not known), and whether each row of
    the result is known to depend on this row alone.
    """
    try:
        reader = _PolarsReader(columns)
        form = json.loads(_polars_json(expression))
        node = reader.node(form, 0)
        tree = _as_tree(columns, node)
        is_row_wise = not reader.unknown or _is_of_known_steps(form)
    # See `arrow_tree`.
    except Exception as error:
        logger.debug("all rows are read for an expression of polars that is not understood: %r", error)
        return UNKNOWN, None, False
    return tree, _polars_names(expression, reader), is_row_wise


def _polars_json(expression: Any) -> str:
    import warnings

    with warnings.catch_warnings():
        # polars warns that the format is not stable between versions.
        warnings.simplefilter("ignore")
        return str(expression.meta.serialize(format="json"))


def _polars_names(expression: Any, reader: _PolarsReader) -> frozenset[str] | None:
    """The names of the columns of an expression; None if it has selectors, whose columns are not in the names."""
    if reader.has_selector:
        return None
    names = frozenset(expression.meta.root_names())
    return names if reader.unknown or names == reader.names else None


def is_row_wise(expression: Any, columns: Columns) -> bool:
    """Whether each row of the result depends on this row alone, which polars does not say of an expression.

    ``meta.is_row_separable`` looks at the last step only, as of 2.1. But a filter is handed to a source of rows only if
    it is so.
    """
    import polars

    try:
        from polars.io.plugins import register_io_source
    except ImportError:
        return False
    frame: Any = polars.from_arrow(columns.schema.empty_table())
    handed = []

    def rows(names: Any, predicate: Any, limit: Any, batch_rows: Any) -> Any:
        handed.append(predicate)
        yield frame if names is None else frame.select(names)

    register_io_source(rows, schema=frame.schema).filter(expression).collect()
    return any(predicate is not None for predicate in handed)


class _PolarsReader:
    """Makes nodes of the JSON of an expression."""

    COMPARISONS: ClassVar = {"Eq": "==", "NotEq": "!=", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
    MISSING: ClassVar = {"EqValidity": "==", "NotEqValidity": "!="}
    LOGIC: ClassVar = {"And": "and", "LogicalAnd": "and", "Or": "or", "LogicalOr": "or"}

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.names: set[str] = set()
        # Whether a part was not known, and whether one may stand for several columns.
        self.unknown = False
        self.has_selector = False

    def node(self, form: Any, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise _FormError("the expression is too deep")
        found = self.known(form, depth)
        if found is UNKNOWN:
            self.unknown = True
            self.has_selector = self.has_selector or _has_selector(form)
        return found

    def known(self, form: Any, depth: int) -> _Node:
        if not isinstance(form, dict) or len(form) != 1:
            return UNKNOWN
        ((kind, body),) = form.items()
        if kind == "Column" and isinstance(body, str) and not _has_selector(form):
            self.names.add(body)
            return _Column(body)
        if kind == "Literal":
            return _polars_literal(body) or UNKNOWN
        if kind == "Alias":
            return self.node(body[0], depth + 1)
        if kind == "BinaryExpr":
            return self.binary(body, depth)
        if kind == "Cast":
            return self.cast(body, depth)
        if kind == "Function" and set(body) <= {"input", "function", "options"}:
            return self.function(body["function"], body["input"], depth)
        return UNKNOWN

    def binary(self, body: dict[str, Any], depth: int) -> _Node:
        operator = body["op"]
        one, two = self.node(body["left"], depth + 1), self.node(body["right"], depth + 1)
        if operator in self.COMPARISONS:
            return _comparison(self.columns, self.COMPARISONS[operator], one, two, "polars")
        if operator in self.MISSING:
            return _comparison(self.columns, self.MISSING[operator], one, two, "polars", missing=True)
        if operator in self.LOGIC:
            return Combined(self.LOGIC[operator], (_as_tree(self.columns, one), _as_tree(self.columns, two)))
        return UNKNOWN

    def cast(self, body: dict[str, Any], depth: int) -> _Node:
        """A column of times in a coarser unit, as polars compares it; no other cast is known."""
        column = self.node(body["expr"], depth + 1)
        form = body["dtype"]
        kind = form.get("Literal", form) if isinstance(form, dict) else None
        if not isinstance(column, _Column) or not isinstance(kind, dict) or kind.keys() != {"Datetime"}:
            return UNKNOWN
        if self.columns.domain(column.path) != "time" or self.columns.is_number(column.path):
            return UNKNOWN
        name, zone = kind["Datetime"]
        unit = POLARS_UNITS[name]
        is_coarser = zone == {"inner": "UTC"} and unit >= self.columns.unit_of(column.path)
        return _Column(column.path, unit) if is_coarser else UNKNOWN

    def function(self, function: Any, inputs: list[Any], depth: int) -> _Node:
        columns = self.columns
        if not isinstance(function, dict) or len(function) != 1:
            return UNKNOWN
        ((family, name),) = function.items()
        options: Any = None
        if isinstance(name, dict) and len(name) == 1:
            ((name, options),) = name.items()
        if (family, name) == ("Boolean", "IsIn"):
            column, values = self.node(inputs[0], depth + 1), _polars_values(inputs[1])
            nulls = {False: "null", True: "match"}.get(options["nulls_equal"])
            return UNKNOWN if nulls is None else _membership(columns, column, values, "polars", nulls)
        nodes = [self.node(each, depth + 1) for each in inputs]
        if (family, name) == ("StructExpr", "FieldByName") and len(nodes) == 1 and isinstance(nodes[0], _Column):
            return _Column(f"{nodes[0].path}.{options}")
        if (family, name) == ("StringExpr", "StartsWith") and len(nodes) == 2:
            return _prefix_test(columns, nodes[0], nodes[1])
        if family != "Boolean":
            return UNKNOWN
        if name in ("AllHorizontal", "AnyHorizontal") and nodes:
            logic = "and" if name == "AllHorizontal" else "or"
            return Combined(logic, tuple(_as_tree(columns, node) for node in nodes))
        if name == "IsBetween" and len(nodes) == 3:
            low, high = {"Both": (">=", "<="), "Left": (">=", "<"), "Right": (">", "<="), "None": (">", "<")}[
                options["closed"]
            ]
            parts = (
                _comparison(columns, low, nodes[0], nodes[1], "polars"),
                _comparison(columns, high, nodes[0], nodes[2], "polars"),
            )
            return Combined("and", parts)
        if len(nodes) != 1:
            return UNKNOWN
        if name == "Not":
            return Combined("not", (_as_tree(columns, nodes[0]),))
        if name in ("IsNull", "IsNotNull"):
            return _null_test(columns, nodes[0], is_null=name == "IsNull")
        if name in ("IsNan", "IsNotNan"):
            return _nan_test(columns, nodes[0], is_nan=name == "IsNan")
        return UNKNOWN


def _has_selector(form: Any) -> bool:
    """Whether a form has a part that may stand for several columns."""
    waiting = [form]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if not each.keys().isdisjoint({"Selector", "Columns", "Nth", "IndexColumn", "DtypeColumn", "Field"}):
                return True
            # Before 1.32, a pattern was the name of a column.
            name = each.get("Column")
            if isinstance(name, str) and (name == "*" or (name.startswith("^") and name.endswith("$"))):
                return True
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        elif each in ("Wildcard", "Selector"):
            return True
    return False


# Tests of which each row of the result depends on this row alone, and functions of strings of which it does not.
ROW_WISE_TESTS = frozenset(
    {"IsFinite", "IsInfinite", "IsNan", "IsNotNan", "IsNull", "IsNotNull", "Not", "IsIn", "IsBetween"}
    | {"AllHorizontal", "AnyHorizontal"}
)
VERTICAL_STRINGS = frozenset({"ConcatVertical"})


def _is_of_known_steps(form: Any) -> bool:
    """Whether all steps of an expression are of those that look at one row, whatever they do."""
    if not isinstance(form, dict) or len(form) != 1:
        return False
    ((kind, body),) = form.items()
    if kind in ("Column", "Literal"):
        # A series as a literal has rows of its own, unless it is what a column is looked up in.
        return not (isinstance(body, dict) and "Series" in body)
    if kind == "Alias":
        return _is_of_known_steps(body[0])
    if kind == "BinaryExpr":
        return _is_of_known_steps(body["left"]) and _is_of_known_steps(body["right"])
    if kind == "Cast":
        return _is_of_known_steps(body["expr"])
    if kind == "Ternary":
        return all(_is_of_known_steps(body[part]) for part in ("predicate", "truthy", "falsy"))
    if kind != "Function" or not isinstance(body["function"], dict) or len(body["function"]) != 1:
        return False
    ((family, name),) = body["function"].items()
    name = next(iter(name), "") if isinstance(name, dict) else name
    known = {
        "Boolean": name in ROW_WISE_TESTS,
        "StringExpr": name not in VERTICAL_STRINGS,
        "TemporalExpr": True,
        "StructExpr": True,
    }
    inputs = body["input"]
    if name == "IsIn" and "Literal" in (inputs[1]["Alias"][0] if "Alias" in inputs[1] else inputs[1]):
        inputs = inputs[:1]
    return known.get(family, False) and all(_is_of_known_steps(each) for each in inputs)


POLARS_UNITS = {"Nanoseconds": UNITS["ns"], "Microseconds": UNITS["us"], "Milliseconds": UNITS["ms"]}


OLD_NAMES: dict[Any, str] = {"Bool": "Boolean", "StringOwned": "String", "DatetimeOwned": "Datetime"}


def _polars_literal(body: Any) -> _Literal | None:
    if not isinstance(body, dict) or len(body) != 1:
        return None
    ((form, value),) = body.items()
    value = _scalar_value(value)
    if form not in ("Dyn", "Scalar") or not isinstance(value, dict) or len(value) != 1:
        return None
    ((name, content),) = value.items()
    # Before 1.32, these were other variants.
    name = str(OLD_NAMES.get(name, name))
    if name == "Null":
        return _Literal("null", None)
    if form == "Dyn":
        if name == "Int" and type(content) is int:
            return _Literal("integer", content)
        if name == "Float" and isinstance(content, float):
            return _Literal("real", content)
        return _Literal("text", content) if name == "Str" and isinstance(content, str) else None
    if name == "Boolean" and isinstance(content, bool):
        return _Literal("bool", content)
    if name.lower() in INTEGERS and type(content) is int:
        return _Literal("integer", content, name.lower())
    # JSON has neither NaN nor infinity.
    if name in ("Float32", "Float64") and isinstance(content, float):
        return _Literal("real", content)
    if name == "String" and isinstance(content, str):
        return _Literal("text", content)
    if name == "Datetime" and len(content) == 3 and content[2] is not None:
        unit = POLARS_UNITS[content[1]]
        return _Literal("time", Fraction(content[0] * unit), unit)
    return None


def _scalar_value(value: Any) -> Any:
    """The value of a scalar, beside which versions before 1.32 have the type."""
    return value["value"] if isinstance(value, dict) and value.keys() == {"dtype", "value"} else value


def _polars_values(form: Any) -> list[_Literal] | None:
    """The literals of a list or a series, which are in the JSON as the bytes of a stream of Arrow's IPC."""
    if isinstance(form, dict) and "Alias" in form:
        form = form["Alias"][0]
    literal = form.get("Literal") if isinstance(form, dict) else None
    if not isinstance(literal, dict):
        return None
    data = literal.get("Series")
    scalar = _scalar_value(literal.get("Scalar"))
    if data is None and isinstance(scalar, dict):
        data = scalar.get("List")
    if not isinstance(data, list):
        return None
    import pyarrow

    table = pyarrow.ipc.open_stream(bytes(data)).read_all()
    if table.num_columns != 1:
        return None
    return [_arrow_literal(value) for chunk in table.column(0).chunks for value in chunk]

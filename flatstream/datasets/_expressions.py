"""What expressions of pyarrow and polars say, as trees that conditions and ranges of blocks can be taken from.

Neither library lets one walk through an expression. Both can write one down, in forms that are documented nowhere:

- pyarrow, to pickle an expression: a file of Arrow's IPC. The metadata of its schema has the expression, in pre-order
  as pairs of a key ("call", "field_ref", "literal", "options", "end") and a value; the columns of its only row have the
  literals with their types. Seen with 17, 21 and 26. Python's mapping of the metadata has each key once, hence
  the C data interface.
- polars, as JSON: ``Expr.meta.serialize(format="json")``. Seen with 1.30 and 2.1; of 1.3 lists are not understood.

Whatever is not known here, and any error, becomes `Unknown`: then nothing is left out when reading, and the library
that the expression is of decides about each row. So a newer version costs speed, and no result.
"""

from __future__ import annotations

import functools
import json
import logging
import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

from flatstream._core.records.conditions import UNITS
from flatstream.datasets._trees import (
    INTEGERS,
    UNKNOWN,
    Combined,
    Literals,
    LiteralValue,
    Node,
    Reference,
    Tree,
    as_tree,
    comparison,
    membership,
    nan_test,
    null_test,
    prefix_test,
)

if TYPE_CHECKING:
    from flatstream.datasets._fields import Columns

logger = logging.getLogger("flatstream.datasets")

# Of trees that are deeper, nothing is taken: Python limits how deep calls may be inside one another.
MAX_DEPTH = 200
# Of longer lists of literals, the lowest and the highest are looked at.
MAX_LITERALS = 10_000
# Of the JSON of an expression of polars that has more characters, nothing is taken: it has a long list of literals, of
# which each byte is a number there.
MAX_TEXT = 4 << 20
# Of polars' forms, what may stand for several columns.
SELECTORS = frozenset({"Selector", "Columns", "Nth", "IndexColumn", "DtypeColumn", "Field", "Wildcard"})


# pyarrow


def arrow_tree(expression: Any, columns: Columns) -> tuple[Tree, frozenset[str] | None]:
    """The tree of a `pyarrow.compute.Expression`, and the names of the columns that it takes; None if not known."""
    try:
        reader = _ArrowReader(expression, columns)
        node = reader.node(0)
        if not reader.at_end:
            return UNKNOWN, None
        return as_tree(columns, node), frozenset(reader.names)
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

    def node(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _FormError("the expression is too deep")
        key, value = self.take()
        if key == "field_ref":
            self.names.add(value)
            return Reference(value)
        if key == "nested_field_ref":
            parts = [self.take() for _ in range(int(value))]
            if not parts or any(part[0] != "field_ref" for part in parts):
                raise _FormError("a nested reference of another form")
            self.names.add(parts[0][1])
            return Reference(".".join(name for _, name in parts))
        if key == "literal":
            return _arrow_literal(self.scalar(value))
        if key != "call":
            raise _FormError(f"an entry {key!r}")
        name = value
        arguments: list[Node] = []
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

    def call(self, name: str, arguments: list[Node], options: dict[str, Any] | None) -> Node:
        columns = self.columns
        if name in self.COMPARISONS and len(arguments) == 2 and options is None:
            return comparison(columns, self.COMPARISONS[name], arguments[0], arguments[1], "arrow")
        if name in ("and_kleene", "or_kleene", "and", "or") and len(arguments) == 2 and options is None:
            parts = tuple(as_tree(columns, argument) for argument in arguments)
            # Those that are not Kleene's say null more often.
            return Combined(name.partition("_")[0], parts, name.endswith("_kleene"))
        if name == "invert" and len(arguments) == 1 and options is None:
            return Combined("not", (as_tree(columns, arguments[0]),))
        if name == "if_else" and len(arguments) == 3 and options is None:
            return Combined("if", tuple(as_tree(columns, argument) for argument in arguments))
        if name == "is_valid" and len(arguments) == 1 and options is None:
            return null_test(columns, arguments[0], is_null=False)
        if name == "is_null" and len(arguments) == 1 and options is not None:
            return null_test(columns, arguments[0], is_null=True, nan=options["nan_is_null"].as_py())
        if name == "is_nan" and len(arguments) == 1 and options is None:
            return nan_test(columns, arguments[0], is_nan=True)
        if name == "is_in" and len(arguments) == 1 and options is not None:
            behaviour = {0: "match", 1: "false"}.get(options["null_matching_behavior"].as_py())
            found = None if behaviour is None else _arrow_literals(options["value_set"].values)
            return membership(columns, arguments[0], found, "arrow", behaviour or "")
        if name == "starts_with" and len(arguments) == 1 and options is not None:
            if options["ignore_case"].as_py() is not False:
                return UNKNOWN
            return prefix_test(columns, arguments[0], _arrow_literal(options["pattern"]))
        if name == "struct_field" and len(arguments) == 1 and options is not None:
            return self.member(arguments[0], options)
        return UNKNOWN

    @staticmethod
    def member(column: Node, options: dict[str, Any]) -> Node:
        path = options["field_ref"].as_py() if "field_ref" in options else ""
        # ".name", as Arrow writes a reference to one field; others have brackets and backslashes.
        if not isinstance(column, Reference) or not path.startswith(".") or not path[1:].isidentifier():
            return UNKNOWN
        return Reference(column.path + path)


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


def _arrow_literal(scalar: Any) -> LiteralValue:
    """A literal of pyarrow; of a kind that is not known, "other"."""
    import pyarrow

    types = pyarrow.types
    type_ = scalar.type
    if types.is_dictionary(type_):
        scalar = scalar.value
        type_ = scalar.type
    if types.is_null(type_) or not scalar.is_valid:
        return LiteralValue("null", None)
    if types.is_boolean(type_):
        return LiteralValue("bool", scalar.as_py())
    if types.is_integer(type_):
        return LiteralValue("integer", scalar.as_py(), str(type_))
    if types.is_floating(type_):
        return LiteralValue("real", float(scalar.as_py()))
    if types.is_string(type_) or types.is_large_string(type_) or str(type_) == "string_view":
        return LiteralValue("text", scalar.as_py())
    if types.is_timestamp(type_) and type_.tz is not None:
        unit = UNITS[type_.unit]
        return LiteralValue("time", Fraction(scalar.value * unit), unit)
    return LiteralValue("other", None)


def _arrow_literals(array: Any) -> Literals | None:
    """The literals of an array, which may have pieces."""
    import pyarrow.compute

    if len(array) <= MAX_LITERALS:
        return Literals([_arrow_literal(each) for each in array])
    if pyarrow.types.is_floating(array.type):
        # Which of them is the lowest is a matter of NaN.
        return None
    limits = pyarrow.compute.min_max(array)
    values = [_arrow_literal(limits[name]) for name in ("min", "max")]
    return Literals([*values, LiteralValue("null", None)] if array.null_count else values, is_whole=False)


# polars


def polars_tree(expression: Any, columns: Columns) -> tuple[Tree, frozenset[str] | None, bool]:
    """The tree of a `polars.Expr`, the names of the columns that it takes (None if not known), and whether each row of
    the result is known to depend on this row alone.
    """
    is_row_wise = False
    try:
        reader = _PolarsReader(columns)
        text = _polars_json(expression)
        if len(text) > MAX_TEXT:
            names = None if any(f'"{key}"' in text for key in SELECTORS) else expression.meta.root_names()
            return UNKNOWN, None if names is None else frozenset(names), False
        form = json.loads(text)
        is_row_wise = _is_of_known_steps(form)
        node = reader.node(form, 0)
        tree = as_tree(columns, node)
    # See `arrow_tree`.
    except Exception as error:
        logger.debug("all rows are read for an expression of polars that is not understood: %r", error)
        return UNKNOWN, None, is_row_wise
    return tree, _polars_names(expression, reader), is_row_wise or not reader.unknown


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

    def node(self, form: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _FormError("the expression is too deep")
        found = self.known(form, depth)
        if found is UNKNOWN:
            self.unknown = True
            self.has_selector = self.has_selector or _has_selector(form)
        return found

    def known(self, form: Any, depth: int) -> Node:
        if not isinstance(form, dict) or len(form) != 1:
            return UNKNOWN
        ((kind, body),) = form.items()
        if kind == "Column" and isinstance(body, str) and not _has_selector(form):
            self.names.add(body)
            return Reference(body)
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

    def binary(self, body: dict[str, Any], depth: int) -> Node:
        operator = body["op"]
        one, two = self.node(body["left"], depth + 1), self.node(body["right"], depth + 1)
        if operator in self.COMPARISONS:
            return comparison(self.columns, self.COMPARISONS[operator], one, two, "polars")
        if operator in self.MISSING:
            return comparison(self.columns, self.MISSING[operator], one, two, "polars", missing=True)
        if operator in self.LOGIC:
            return Combined(self.LOGIC[operator], (as_tree(self.columns, one), as_tree(self.columns, two)))
        return UNKNOWN

    def cast(self, body: dict[str, Any], depth: int) -> Node:
        """A column of times in a coarser unit, as polars compares it; no other cast is known."""
        column = self.node(body["expr"], depth + 1)
        form = body["dtype"]
        kind = form.get("Literal", form) if isinstance(form, dict) else None
        if not isinstance(column, Reference) or not isinstance(kind, dict) or kind.keys() != {"Datetime"}:
            return UNKNOWN
        if self.columns.domain(column.path) != "time" or self.columns.is_number(column.path):
            return UNKNOWN
        name, zone = kind["Datetime"]
        unit = POLARS_UNITS[name]
        is_coarser = zone == {"inner": "UTC"} and unit >= self.columns.unit_of(column.path)
        return Reference(column.path, unit) if is_coarser else UNKNOWN

    def function(self, function: Any, inputs: list[Any], depth: int) -> Node:
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
            return UNKNOWN if nulls is None else membership(columns, column, values, "polars", nulls)
        nodes = [self.node(each, depth + 1) for each in inputs]
        if (family, name) == ("StructExpr", "FieldByName") and len(nodes) == 1 and isinstance(nodes[0], Reference):
            return Reference(f"{nodes[0].path}.{options}")
        if (family, name) == ("StringExpr", "StartsWith") and len(nodes) == 2:
            return prefix_test(columns, nodes[0], nodes[1])
        if family != "Boolean":
            return UNKNOWN
        if name in ("AllHorizontal", "AnyHorizontal") and nodes:
            logic = "and" if name == "AllHorizontal" else "or"
            return Combined(logic, tuple(as_tree(columns, node) for node in nodes))
        if name == "IsBetween" and len(nodes) == 3:
            if any(isinstance(node, LiteralValue) and node.kind == "null" for node in nodes):
                # Not by Kleene's logic, as of 2.1: null also for a value that the other limit leaves out.
                return UNKNOWN
            low, high = {"Both": (">=", "<="), "Left": (">=", "<"), "Right": (">", "<="), "None": (">", "<")}[
                options["closed"]
            ]
            parts = (
                comparison(columns, low, nodes[0], nodes[1], "polars"),
                comparison(columns, high, nodes[0], nodes[2], "polars"),
            )
            return Combined("and", parts)
        if len(nodes) != 1:
            return UNKNOWN
        if name == "Not":
            return Combined("not", (as_tree(columns, nodes[0]),))
        if name in ("IsNull", "IsNotNull"):
            return null_test(columns, nodes[0], is_null=name == "IsNull")
        if name in ("IsNan", "IsNotNan"):
            return nan_test(columns, nodes[0], is_nan=name == "IsNan")
        return UNKNOWN


def _has_selector(form: Any) -> bool:
    """Whether a form has a part that may stand for several columns."""
    waiting = [form]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if not each.keys().isdisjoint(SELECTORS):
                return True
            # Before 1.32, a pattern was the name of a column.
            name = each.get("Column")
            if isinstance(name, str) and (name == "*" or (name.startswith("^") and name.endswith("$"))):
                return True
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
        elif isinstance(each, str) and each in SELECTORS:
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
    if name == "IsIn":
        if "Literal" not in (inputs[1]["Alias"][0] if "Alias" in inputs[1] else inputs[1]):
            # A column that is no list is looked up in as a whole.
            return False
        inputs = inputs[:1]
    return known.get(family, False) and all(_is_of_known_steps(each) for each in inputs)


POLARS_UNITS = {"Nanoseconds": UNITS["ns"], "Microseconds": UNITS["us"], "Milliseconds": UNITS["ms"]}


OLD_NAMES: dict[Any, str] = {"Bool": "Boolean", "StringOwned": "String", "DatetimeOwned": "Datetime"}


def _polars_literal(body: Any) -> LiteralValue | None:
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
        return LiteralValue("null", None)
    if form == "Dyn":
        if name == "Int" and type(content) is int:
            return LiteralValue("integer", content)
        if name == "Float" and isinstance(content, float):
            return LiteralValue("real", content)
        return LiteralValue("text", content) if name == "Str" and isinstance(content, str) else None
    if name == "Boolean" and isinstance(content, bool):
        return LiteralValue("bool", content)
    if name.lower() in INTEGERS and type(content) is int:
        return LiteralValue("integer", content, name.lower())
    # JSON has neither NaN nor infinity.
    if name in ("Float32", "Float64") and isinstance(content, float):
        return LiteralValue("real", content)
    if name == "String" and isinstance(content, str):
        return LiteralValue("text", content)
    if name == "Datetime" and len(content) == 3 and content[2] is not None:
        unit = POLARS_UNITS[content[1]]
        return LiteralValue("time", Fraction(content[0] * unit), unit)
    return None


def _scalar_value(value: Any) -> Any:
    """The value of a scalar, beside which versions before 1.32 have the type."""
    return value["value"] if isinstance(value, dict) and value.keys() == {"dtype", "value"} else value


def _polars_values(form: Any) -> Literals | None:
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

    try:
        table = pyarrow.ipc.open_stream(bytes(data)).read_all()
    except pyarrow.ArrowException:
        # Types that Arrow does not have, as integers of 128 bits.
        return None
    if table.num_columns != 1:
        return None
    return _arrow_literals(table.column(0))

"""No module asks for an instance in a way in which Cython loses the error.

``isinstance(x, (A, B))`` calls `PyObject_IsInstance` for each class that is not built in. If one of the classes of a
tuple in the source is such a class and the tuple has several, Cython (3.3) does not look at the result -1: the call
counts as true, and the error that an object, its class or a signal raised appears later as a SystemError.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flatstream import RecordWriter, StreamReader, StreamWriter
from support.extent import in_one_test
from support.schemas import ROOT, SHAPES

CORE = ROOT / "flatstream" / "_core"
GENERATED = ROOT / "build" / "cython" / "flatstream" / "_core"

# A call whose result nothing on its line looks at.
UNCHECKED = re.compile(r"= PyObject_Is(?:Instance|Subclass)\([^;]*\);[ \t]*$", re.MULTILINE)


def unchecked_calls(text: str) -> list[str]:
    return [match[0] for match in UNCHECKED.finditer(text)]


@pytest.mark.long  # the compiler takes a second
def test_pattern_in_generated_code_is_what_loses_the_error(tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    source = tmp_path / "sample.pyx"
    source.write_text(
        "from collections.abc import Mapping, Sequence\n"
        "def f(x): return isinstance(x, (str, Mapping))\n"
        "def g(x): return isinstance(x, (Mapping, Sequence))\n"
        "def h(x): return isinstance(x, str) or isinstance(x, Mapping) or isinstance(x, (str, bytes))\n"
    )
    subprocess.run([sys.executable, "-m", "cython", "-3", str(source)], check=True, capture_output=True, cwd=tmp_path)
    # If this fails with a newer Cython, the pattern above has to be looked at again: one class for `f`, two for `g`.
    assert len(unchecked_calls(source.with_suffix(".c").read_text())) == 3


@in_one_test
@pytest.mark.parametrize("path", sorted(CORE.rglob("*.pyx")), ids=lambda path: str(path.relative_to(CORE)))
def test_generated_code_of_module_checks_each_isinstance(path: Path) -> None:
    code = GENERATED / path.relative_to(CORE).with_suffix(".c")
    if not code.exists():
        pytest.skip("the C code is not here: the modules were not compiled in this tree, or for coverage")
    assert unchecked_calls(code.read_text()) == []


class Odd:
    """Says of its class what `Odd.error` is, as a proxy to something that is gone does."""

    error: BaseException = KeyError("mine")

    @property
    def __class__(self) -> Any:
        raise self.error

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise self.error

    def __iter__(self) -> Iterator[Any]:
        return iter([])


def write_with(method: str, *arguments: Any, **fields: Any) -> Callable[[], object]:
    writer = RecordWriter(StreamWriter(io.BytesIO()), SHAPES.table("shapes.Shape"))
    return lambda: getattr(writer, method)(*arguments, **fields)


def columns_where(bounds: Callable[[], tuple[Any, Any]]) -> Callable[[], object]:
    return lambda: StreamReader(io.BytesIO()).columns(SHAPES.table("shapes.Shape"), ["id"], where=("id", *bounds()))


CALLS: dict[str, Callable[[Any], Callable[[], object]]] = {
    "records": lambda odd: write_with("write_records", odd),
    "record": lambda odd: write_with("write_record", odd),
    "number": lambda odd: write_with("write", id=odd),
    "text": lambda odd: write_with("write", title=odd),
    "table": lambda odd: write_with("write", scalars=odd),
    "union": lambda odd: write_with("write", choice=odd),
    "union with its type": lambda odd: write_with("write", choice=odd, choice_type="Named"),
    "enum": lambda odd: write_with("write", scalars={"color": odd}),
    "flags": lambda odd: write_with("write", scalars={"access": odd}),
    "float": lambda odd: write_with("write", scalars={"f64": odd}),
    "struct": lambda odd: write_with("write", structs={"point": odd}),
    "vector of numbers": lambda odd: write_with("write", vectors={"i32s": odd}),
    "vector of strings": lambda odd: write_with("write", vectors={"strings": odd}),
    "vector of tables": lambda odd: write_with("write", vectors={"named": odd}),
    "columns": lambda odd: write_with("write_columns", odd),
    "column": lambda odd: write_with("write_columns", {"id": odd}),
    "number in a column": lambda odd: write_with("write_columns", {"id": [odd]}),
    "text in a column": lambda odd: write_with("write_columns", {"title": [odd]}),
    "table in a column": lambda odd: write_with("write_columns", {"scalars": [odd]}),
    "union in a column": lambda odd: write_with("write_columns", {"choice": [odd]}),
    "vector in a column": lambda odd: write_with("write_columns", {"vectors.i32s": [odd]}),
    "bytes in a column": lambda odd: write_with("write_columns", {"vectors.u8s": [odd]}),
    "low end": lambda odd: columns_where(lambda: (odd, None)),
    "high end": lambda odd: columns_where(lambda: (None, odd)),
}


@in_one_test
@pytest.mark.parametrize("error", [KeyError("mine"), ZeroDivisionError("mine"), KeyboardInterrupt("mine")], ids=repr)
@pytest.mark.parametrize("name", CALLS)
def test_error_of_an_object_that_is_looked_at_comes_through(name: str, error: BaseException) -> None:
    odd = Odd()
    odd.error = error
    # A refusal that never asked for the class is as good; an error in disguise is not.
    with pytest.raises((type(error), TypeError, ValueError)) as raised:
        CALLS[name](odd)()
    assert raised.type in (TypeError, ValueError) or raised.value.args == ("mine",)
    assert not isinstance(raised.value.__cause__, SystemError)
    assert not isinstance(raised.value.__context__, SystemError)

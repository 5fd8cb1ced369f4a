"""Every example in a docstring of the package runs and gives what it shows, those of the compiled modules included.

doctest's own finder passes over functions that Cython has compiled, so the objects are walked here.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import flatstream
from support.extent import in_one_test
from support.schemas import ROOT


def modules() -> Iterator[ModuleType]:
    """The package and all modules in it."""
    yield flatstream
    for found in pkgutil.walk_packages(flatstream.__path__, "flatstream."):
        yield importlib.import_module(found.name)


def documented(module: ModuleType) -> Iterator[tuple[str, str]]:
    """The names and docstrings of `module` and of what it defines in public: classes, their members and functions."""
    yield module.__name__, module.__doc__ or ""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            yield f"{module.__name__}.{name}", value.__doc__ or ""
            for member_name, member in vars(value).items():
                # A member's value may be any object, whose class's docstring is none of this package's.
                if callable(member) or inspect.isdatadescriptor(member) or isinstance(member, (classmethod, property)):
                    yield f"{module.__name__}.{name}.{member_name}", getattr(member, "__doc__", None) or ""
        elif callable(value):
            yield f"{module.__name__}.{name}", value.__doc__ or ""


def find_examples() -> dict[str, doctest.DocTest]:
    """The tests of all docstrings that hold examples, by the name of what they describe."""
    parser = doctest.DocTestParser()
    public = {name: getattr(flatstream, name) for name in {*flatstream.__all__, *flatstream._LAZY}}
    found = {}
    for module in modules():
        for name, text in documented(module):
            test = parser.get_doctest(text, {**public, **vars(module)}, name, getattr(module, "__file__", None), 0)
            if test.examples:
                found[name] = test
    return found


EXAMPLES = find_examples()


def run(test: doctest.DocTest) -> tuple[doctest.TestResults, str]:
    """Runs the examples of one docstring; gives how many were run and failed, and what doctest says of failures."""
    report: list[str] = []
    # Examples may be run more than once, and must not find what an earlier run has left.
    globs: dict[str, Any] = dict(test.globs)
    try:
        results = doctest.DocTestRunner(verbose=False).run(test, out=report.append, clear_globs=False)
    finally:
        test.globs.clear()
        test.globs.update(globs)
    return results, "".join(report)


@in_one_test
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstring_give_what_they_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some load a schema from examples/.
    monkeypatch.chdir(ROOT)
    results, report = run(EXAMPLES[name])
    assert not results.failed, report


@in_one_test
@pytest.mark.parametrize(
    "described",
    [
        flatstream.Checksum,
        flatstream.Validator,
        flatstream.Framer,
        flatstream.Deframer,
        flatstream.StreamWriter,
        flatstream.StreamReader,
        flatstream.FrameParser,
        flatstream.FrameSerializer,
        flatstream.recover,
        flatstream.open,
    ],
    ids=lambda described: described.__name__,
)
def test_main_parts_of_the_package_have_examples_that_run(described: Any) -> None:
    name = f"{described.__module__}.{described.__qualname__}"
    assert name in EXAMPLES, f"{name} has no example in its docstring"
    results, _ = run(EXAMPLES[name])
    assert results.attempted > 0


def test_wrong_example_in_docstring_is_reported() -> None:
    # The machinery above would be of no use if it passed over failures, as doctest's finder does over functions.
    test = doctest.DocTestParser().get_doctest(
        ">>> Crc32().calculate(b'')\n1\n", {**vars(flatstream)}, "wrong", None, 0
    )
    results, report = run(test)
    assert (results.failed, results.attempted) == (1, 1)
    assert "Expected:\n    1\nGot:\n    0\n" in report

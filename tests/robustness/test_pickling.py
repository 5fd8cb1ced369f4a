"""Pickling and copying: every public class goes to another process whole, or says that it cannot."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import flatstream
from flatstream import Crc32, DefaultFramer, ObserverFramer, Schema
from flatstream._core.base.pickling import rebuild
from support.extent import in_one_test
from support.pickling import ShortFramer, Sum24, carried, describe, describe_pickled, refused
from support.processes import survives
from support.schemas import ROOT, SCHEMAS, SHAPES, SHAPES_V2, TELEMETRY

CARRIED = carried()
REFUSED = refused()
# Protocols: their instances are of users' classes.
PROTOCOLS = {"Packable", "StreamDeserialize", "StreamSerialize"}

PROTOCOLS_OF_PICKLE = range(pickle.HIGHEST_PROTOCOL + 1)


def modules_of_the_package() -> list[str]:
    return [found.name for found in pkgutil.walk_packages(flatstream.__path__, "flatstream.")]


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


def public_classes() -> dict[str, type]:
    found = {}
    for module in ["flatstream", *filter(is_public, modules_of_the_package())]:
        names = importlib.import_module(module)
        for name in getattr(names, "__all__", ()):
            value = getattr(names, name)
            if inspect.isclass(value) and value.__module__.startswith("flatstream"):
                found[value.__name__] = value
    return found


def test_every_public_class_is_carried_or_refused() -> None:
    listed = {*CARRIED, *REFUSED, *PROTOCOLS}
    assert sorted({*public_classes(), "RecordIterator", "JsonLines"}) == sorted(listed)
    assert not CARRIED.keys() & REFUSED.keys()


@in_one_test
@pytest.mark.parametrize("name", sorted(CARRIED.keys() | REFUSED.keys()))
def test_samples_of_a_class_are_its_instances(name: str) -> None:
    cls = public_classes().get(name)
    assert cls is None or all(isinstance(value, cls) for value in CARRIED.get(name, []) + REFUSED.get(name, []))


@pytest.fixture(scope="module")
def other_process() -> Iterator[Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@in_one_test
@pytest.mark.parametrize("name", sorted(CARRIED))
def test_public_object_arrives_in_another_process_whole(name: str, other_process: Any) -> None:
    data = [pickle.dumps(value, protocol) for value in CARRIED[name] for protocol in PROTOCOLS_OF_PICKLE]
    expected = [describe(value) for value in CARRIED[name] for _ in PROTOCOLS_OF_PICKLE]
    assert other_process.map(describe_pickled, data) == expected


@in_one_test
@pytest.mark.parametrize("name", sorted(CARRIED))
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy_of_a_public_object_shows_the_same(name: str, copied: Any) -> None:
    for value in CARRIED[name]:
        assert describe(copied(value)) == describe(value)


@in_one_test
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_object_that_belongs_to_a_process_says_that_it_cannot_be_pickled(name: str) -> None:
    for value in REFUSED[name]:
        before = repr(value)
        for protocol in PROTOCOLS_OF_PICKLE:
            with pytest.raises(TypeError, match=f"^a {name} can be neither pickled nor copied: "):
                pickle.dumps(value, protocol)
        for copied in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=f"^a {name} can be neither pickled nor copied: "):
                copied(value)
        assert repr(value) == before


def test_strategy_with_an_observer_that_has_no_name_is_refused_by_pickle() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(ObserverFramer(DefaultFramer(), lambda payload: None))


def test_subclass_with_another_constructor_keeps_its_attributes() -> None:
    framer = pickle.loads(pickle.dumps(ShortFramer(Sum24(5, step=3))))
    assert (type(framer), framer.note, framer.max_len) == (ShortFramer, "short", 20)
    assert (framer.inner.checksum.start, framer.inner.checksum.step) == (5, 3)


def test_shared_parts_stay_shared() -> None:
    checksum = Sum24(1)
    first, second = pickle.loads(
        pickle.dumps([flatstream.ChecksumFramer(checksum), flatstream.ChecksumFramer(checksum)])
    )
    assert first.checksum is second.checksum


# Equality


def test_schemas_of_the_same_bytes_are_equal() -> None:
    again = Schema.from_file(SCHEMAS / "shapes.bfbs")
    assert again is not SHAPES
    assert again == SHAPES
    assert hash(again) == hash(SHAPES)
    assert again != SHAPES_V2
    assert again != "shapes"
    assert len({again, SHAPES, SHAPES_V2}) == 2
    prefixed = Schema.from_bytes(SCHEMAS.joinpath("shapes.bfbs").read_bytes(), size_prefixed=True)
    assert prefixed != SHAPES
    assert pickle.loads(pickle.dumps(prefixed)) == prefixed


def test_tables_are_equal_if_name_and_schema_are() -> None:
    again = Schema.from_file(SCHEMAS / "shapes.bfbs")
    name = "shapes.Tree"
    assert again.table(name) == SHAPES.table(name)
    assert hash(again.table(name)) == hash(SHAPES.table(name))
    assert again.table(name) != SHAPES.table("shapes.Shape")
    other = Schema.from_bytes(SCHEMAS.joinpath("shapes.bfbs").read_bytes() + b"\0")
    assert other.table(name) != SHAPES.table(name)
    assert pickle.loads(pickle.dumps({SHAPES.table(name): 1})) == {again.table(name): 1}


def test_schema_that_was_not_loaded_equals_only_itself_and_is_not_pickled() -> None:
    one, other = Schema(TELEMETRY._info), Schema(TELEMETRY._info)
    assert one == one
    assert one != other
    assert one != TELEMETRY
    assert not TELEMETRY.__eq__(one)
    assert hash(one) != hash(other)
    with pytest.raises(TypeError, match="not made by"):
        pickle.dumps(one)


# What a pickle can say that was not written by us


@in_one_test
@pytest.mark.parametrize(
    "arguments",
    [
        (int, flatstream.Framer, (), {}),
        (flatstream.DefaultFramer, flatstream.BoundedFramer, (DefaultFramer(), 1), {}),
        ("DefaultFramer", flatstream.DefaultFramer, (), {}),
        (flatstream.BoundedFramer, flatstream.BoundedFramer, (None, 1), {}),
        (flatstream.BoundedFramer, flatstream.BoundedFramer, (DefaultFramer(), "1"), {}),
        (flatstream.ChecksumFramer, flatstream.ChecksumFramer, (3,), {}),
        (flatstream.ChecksumDeframer, flatstream.ChecksumDeframer, (Crc32(),), {"max_frame_len": None}),
        (flatstream.CompositeValidator, flatstream.CompositeValidator, (3,), {}),
        (flatstream.AdaptiveWatermarkPolicy, flatstream.AdaptiveWatermarkPolicy, (None,), {}),
    ],
)
def test_pickle_with_wrong_arguments_is_refused_by_the_constructor(arguments: Any) -> None:
    with pytest.raises(TypeError):
        rebuild(*arguments)


def test_table_that_the_schema_does_not_have_is_refused() -> None:
    before, name, behind = pickle.dumps(SHAPES.table("shapes.Tree")).rpartition(b"shapes.Tree")
    data = before + name.replace(b"Tree", b"Treu") + behind
    with pytest.raises(KeyError, match=r"shapes\.Treu"):
        pickle.loads(data)


def test_schema_with_a_damaged_byte_is_refused() -> None:
    data = SCHEMAS.joinpath("tiny.bfbs").read_bytes()
    with pytest.raises(flatstream.FlatbufferError):
        pickle.loads(pickle.dumps(Schema.from_bytes(data)).replace(b"BFBS", b"BFBX"))


# Compiled classes. Cython's own pickling sets any member, pointers and lengths too.

COPY_INTERNALS = """
import copy, enum, importlib, inspect, pickle
module = importlib.import_module({module!r})
for name, cls in sorted(vars(module).items()):
    if not inspect.isclass(cls) or cls.__module__ not in ({module!r}, "View.MemoryView"):
        continue
    if issubclass(cls, (tuple, enum.Enum)):
        continue
    instance = None
    for arguments in ((), (8,), (b"abc", "it"), ((1,), 1, "c"), (b"abc", 0), (None,), ([1],), ("a", "b")):
        try:
            instance = cls.__new__(cls, *arguments)
            break
        except Exception:
            pass
    if instance is None:
        print(name, "not made")
        continue
    ways = [copy.copy, copy.deepcopy] + [lambda it, p=p: pickle.loads(pickle.dumps(it, p)) for p in range(6)]
    for way in ways:
        try:
            result = way(instance)
            repr(result)
            print(name, "copied")
        except TypeError:
            print(name, "TypeError")
        except Exception as error:
            print(name, type(error).__name__)
"""

COMPILED = [name for name in modules_of_the_package() if name.startswith("flatstream._core.")]
# Strategies, whose copies are made by their constructors; and errors, which are classes of Python.
COPIED = (
    flatstream.Checksum,
    flatstream.Framer,
    flatstream.Deframer,
    flatstream.Validator,
    flatstream.MemoryPolicy,
    Exception,
)


@in_one_test
@pytest.mark.parametrize("name", COMPILED)
def test_object_of_a_compiled_class_that_was_not_made_is_not_copied(name: str) -> None:
    module = importlib.import_module(name)
    for line in survives(COPY_INTERNALS.format(module=name)):
        cls, _, came = line.partition(" ")
        assert came != "not made", f"{cls}: give arguments for its __new__"
        assert came == "TypeError" or issubclass(getattr(module, cls), COPIED), line


@in_one_test
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_class_has_no_automatic_pickling(name: str) -> None:
    module = importlib.import_module(name)
    assert not [one for one in vars(module) if one.startswith("__pyx_unpickle")]
    for cls in filter(inspect.isclass, vars(module).values()):
        assert not hasattr(cls, "__reduce_cython__"), cls
        assert not hasattr(cls, "__setstate_cython__"), cls


def test_generated_c_has_no_function_that_pickles() -> None:
    written = [path for path in (ROOT / "build" / "cython").rglob("*.c") if "flatstream" in path.parts]
    if not written:
        pytest.skip("the C files are not here: the modules were installed, not compiled")
    # Not the names alone: the module of Cython's support code has them in a table.
    automatic = re.compile(
        r"^static PyObject \*__pyx_p[wf]\w*(?:__reduce_cython__|__setstate_cython__|__pyx_unpickle)", re.M
    )
    assert not [path for path in written if automatic.search(path.read_text())]

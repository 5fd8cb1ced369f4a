"""`flatstream.Builder` and random messages: operations in any order, generated code, NumPy, vtables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flatstream import Builder
from support.bad_input import shown
from support.builders import INTEGER_KINDS, KINDS, Twins
from support.extent import in_one_test
from support.messages import finished, outcome, root_at, telemetry_sample, written_by
from support.schemas import generated
from support.strategies import (
    DOUBLES,
    FLOATS,
    TEXTS,
    defaults,
    empties,
    holders,
    level1s,
    nameds,
    numbereds,
    olds,
    optionals,
    scalars,
    shapes,
    signed,
    structs,
    trees,
    unions,
    unsigned,
    vectors,
)


def check_same(build: Callable[[Any], Any], sizes: tuple[int, ...] = (0, 7, 1024)) -> bytes:
    """Builds with both builders from several initial sizes; returns the bytes, which are the same every time."""
    expected = written_by(flatbuffers.Builder, build, sizes[0])
    for size in sizes:
        assert written_by(Builder, build, size) == expected
    return expected


# Random sequences of operations


small_numbers = st.integers(-3, 300)
VALUES = {kind: st.one_of(st.integers(-2, 3), st.integers(-(2**64), 2**65), st.none()) for kind in INTEGER_KINDS}
VALUES["Bool"] = st.one_of(st.booleans(), st.integers(-1, 2), st.none())
VALUES["Float32"] = VALUES["Float64"] = st.one_of(st.floats(width=32), st.integers(-3, 3))
kinds_and_values = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind]))
kinds_and_slots = st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind], VALUES[kind]))
ROOM = 16


class Operations(RuleBasedStateMachine):
    """Both builders through the same operations, sensible or not, and views of ours that have to stay as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.twins = Twins(64)
        self.places = [0]
        self.views: list[tuple[memoryview, bytes]] = []

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        how, what = self.twins.call(name, *arguments, **keywords)
        if how == "raised":
            if not self.twins.alike():
                self.anew(64)
            return None
        if isinstance(what[1], int):
            self.places.append(what[1])
        return what[1]

    @rule(size=st.sampled_from([0, 1, 7, 64, 1024]))
    def anew(self, size):
        self.twins = Twins(size)
        self.places = [0]

    @rule()
    def clear(self):
        self.twins.Clear()
        self.places = [0]

    @rule(number=kinds_and_values)
    def prepend(self, number):
        self.call(f"Prepend{number[0]}", number[1])

    @rule(number=kinds_and_slots, slot=st.integers(-6, 6))
    def prepend_slot(self, number, slot):
        self.call(f"Prepend{number[0]}Slot", slot, number[1], number[2])

    @rule(force=st.booleans())
    def force_defaults(self, force):
        self.call("ForceDefaults", force)

    @rule(fields=st.integers(-1, 8))
    def start_object(self, fields):
        self.call("StartObject", fields)

    @rule(slot=st.integers(-6, 6))
    def slot(self, slot):
        self.call("Slot", slot)

    @rule()
    def end_object(self):
        self.call("EndObject")

    @rule(fields=st.lists(st.tuples(st.integers(0, 3), kinds_and_slots), max_size=6), count=st.integers(4, 6))
    def table(self, fields, count):
        self.call("StartObject", count)
        for slot, (kind, value, default) in fields:
            self.call(f"Prepend{kind}Slot", slot, value, default)
        self.call("EndObject")

    @rule(
        size=st.sampled_from([1, 2, 4, 8, 16]), count=st.integers(0, 9), alignment=st.sampled_from([1, 2, 4, 8, 16, 32])
    )
    def start_vector(self, size, count, alignment):
        self.call("StartVector", size, count, alignment)

    @rule()
    def end_vector(self):
        # Without room for the length the package would write it behind the end.
        if self.twins.package.Head() >= ROOM:
            self.call("EndVector")

    @rule(kind=st.sampled_from(INTEGER_KINDS), values=st.lists(st.integers(0, 127), max_size=9))
    def vector(self, kind, values):
        width = getattr(number_types, "Uint8Flags" if kind == "Byte" else f"{kind}Flags").bytewidth
        if self.call("StartVector", width, len(values), width) is not None:
            for value in reversed(values):
                self.call(f"Prepend{kind}", value)
            self.call("EndVector")

    @rule(text=st.one_of(st.text(max_size=9), st.binary(max_size=9), st.none()))
    def string(self, text):
        self.call("CreateString", text)

    @rule(text=st.sampled_from(["", "a", "abc", b"abc", "\ud800"]))
    def shared_string(self, text):
        self.call("CreateSharedString", text)

    @rule(data=st.one_of(st.binary(max_size=20), st.binary(max_size=20).map(bytearray), st.text(max_size=1)))
    def byte_vector(self, data):
        self.call("CreateByteVector", data)

    @rule(
        values=st.lists(st.integers(0, 127), max_size=9),
        dtype=st.sampled_from(["<u1", ">i2", "<i4", ">f4", "<f8", "?"]),
    )
    def numpy_vector(self, values, dtype):
        self.call("CreateNumpyVector", np.array(values, dtype))

    @rule(data=st.data())
    def offset(self, data):
        self.call("PrependUOffsetTRelative", data.draw(st.sampled_from(self.places)))

    @rule(data=st.data(), slot=st.integers(-1, 5), default=st.sampled_from([0, 0, 4]))
    def offset_slot(self, data, slot, default):
        self.call("PrependUOffsetTRelativeSlot", slot, data.draw(st.sampled_from(self.places)), default)

    @rule(place=small_numbers)
    def any_offset(self, place):
        self.call("PrependUOffsetTRelative", place)
        self.call("PrependSOffsetTRelative", place)

    @rule(slot=st.integers(0, 5), alignment=st.sampled_from([1, 4, 8, 16]), inline=st.booleans())
    def struct(self, slot, alignment, inline):
        self.call("Prep", alignment, 2 * alignment)
        if self.twins.package.Head() >= alignment:
            self.call("Pad", alignment)
        self.call("PrependUint8", 7)
        self.call("PrependStructSlot", slot, self.twins.package.Offset() - (not inline), 0)

    @rule(count=st.integers(-1, ROOM))
    def pad(self, count):
        if self.twins.package.Head() >= count:
            self.call("Pad", count)

    @rule(size=st.sampled_from([0, 1, 2, 3, 4, 8, 16, 64]), additional=st.integers(0, 70))
    def prep(self, size, additional):
        self.call("Prep", size, additional)

    @rule(value=small_numbers, name=st.sampled_from(["PlaceVOffsetT", "PlaceSOffsetT", "PlaceUOffsetT"]))
    def place(self, name, value):
        if self.twins.package.Head() >= ROOM:
            self.call(name, value)

    @rule(data=st.binary(max_size=ROOM))
    def bytes_through_the_buffer(self, data):
        if self.twins.package.Head() < ROOM or self.twins.package.nested:
            return

        def write(builder: Any) -> Any:
            builder.StartVector(1, len(data), 1)
            builder.head = builder.head - len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            return builder.EndVector()

        self.places.append(self.twins.make(write))

    @rule(data=st.data(), prefixed=st.booleans(), identifier=st.sampled_from([None, None, b"ABCD", b"no", "ABCD"]))
    def finish(self, data, prefixed, identifier):
        root = data.draw(st.one_of(st.sampled_from(self.places), small_numbers))
        self.call("FinishSizePrefixed" if prefixed else "Finish", root, identifier)

    @precondition(lambda self: self.twins.package.finished)
    @rule()
    def look(self):
        self.views.append((memoryview(self.twins.ours), bytes(self.twins.package.Output())))

    @precondition(lambda self: self.views)
    @rule(data=st.data())
    def look_away(self, data):
        self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))

    @invariant()
    def views_are_as_they_were(self):
        for view, expected in self.views:
            assert view == expected


Operations.TestCase.settings = settings(max_examples=2 * settings().max_examples)
TestOperations = Operations.TestCase


# Messages, through the code that flatc generates


@given(shapes, st.sampled_from([0, 1, 7, 1024]))
def test_random_message_is_the_packages_bytes_and_so_is_what_was_read_from_it(shape, size):
    expected = written_by(flatbuffers.Builder, finished(shape, b"SHAP"), size)
    builder = Builder(size)
    finished(shape, b"SHAP")(builder)
    assert bytes(memoryview(builder)) == bytes(builder.Output()) == expected
    # Read through the view, into objects whose vectors are NumPy arrays and whose strings are bytes.
    view = memoryview(builder)
    module = generated("Shape")
    assert module.Shape.ShapeBufferHasIdentifier(view, 0)
    again = module.ShapeT.InitFromBuf(view, root_at(view))
    assert written_by(Builder, finished(again), size) == written_by(flatbuffers.Builder, finished(again), size)


@pytest.mark.parametrize(
    "strategy",
    [scalars, defaults, optionals, vectors, structs, nameds, level1s, trees, numbereds, olds, unions, holders, empties],
    ids=[
        "scalars",
        "defaults",
        "optionals",
        "vectors",
        "structs",
        "named",
        "level",
        "tree",
        "numbered",
        "old",
        "unions",
        "holder",
        "empty",
    ],
)
@given(st.data(), st.booleans())
def test_random_table_is_the_packages_bytes_with_defaults_forced_and_without(strategy, data, force):
    made = data.draw(strategy)

    def build(builder: Any) -> Any:
        builder.ForceDefaults(force)
        return made.Pack(builder)

    # Forced, an absent optional scalar is refused, or kept out, as by the package.
    expected = outcome(lambda: written_by(flatbuffers.Builder, build))
    for size in (0, 7, 1024):
        assert outcome(lambda size=size: written_by(Builder, build, size)) == expected  # type: ignore[misc]


@given(st.lists(st.one_of(vectors, trees, unions), min_size=2, max_size=4))
def test_builder_that_is_cleared_and_used_again_writes_what_a_new_one_writes(made):
    builder = Builder(16)
    kept = []
    for shape in made:
        builder.Clear()
        finished(shape)(builder)
        expected = written_by(flatbuffers.Builder, finished(shape), 16)
        assert bytes(memoryview(builder)) == expected
        kept.append((memoryview(builder), expected))
    assert all(view == expected for view, expected in kept)


@given(
    st.tuples(
        unsigned(8), st.lists(signed(32), min_size=3, max_size=3), st.lists(unsigned(16), min_size=2, max_size=2)
    ),
    st.lists(FLOATS, min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.lists(DOUBLES, min_size=2, max_size=2),
)
def test_struct_with_fixed_arrays_is_the_packages_bytes(heads, corners, bits, weights):
    grid, vectors_module, structs_module = generated("Grid"), generated("Vectors"), generated("Structs")

    def place(builder: Any) -> Any:
        return grid.CreateGrid(builder, *heads, corners[:2], corners[2:], bits, weights)

    def build(builder: Any) -> Any:
        vectors_module.StartGridsVector(builder, 2)
        place(builder)
        place(builder)
        grids = builder.EndVector()
        vectors_module.Start(builder)
        vectors_module.AddGrids(builder, grids)
        inner = vectors_module.End(builder)
        structs_module.Start(builder)
        structs_module.AddGrid(builder, place(builder))
        structs_module.AddPointRequired(builder, generated("Point").CreatePoint(builder, 1.5, -2.5))
        structs_module.End(builder)
        return inner

    check_same(build)


@given(st.binary(max_size=40), nameds)
def test_vector_from_bytes_and_nested_message_are_the_packages_bytes(raw, named):
    holder = generated("Holder")

    def build(builder: Any) -> Any:
        inner = written_by(type(builder), finished(named))
        first = holder.HolderMakeInnerVectorFromBytes(builder, inner)
        second = holder.HolderMakeInnerShapeVectorFromBytes(builder, raw)
        third = builder.CreateByteVector(inner)
        holder.Start(builder)
        holder.AddInner(builder, first)
        holder.AddInnerShape(builder, second)
        holder.AddRaw(builder, third)
        return holder.End(builder)

    message = check_same(build)
    read = holder.Holder.GetRootAs(message)
    name = named.name.encode()
    assert generated("Named").Named.GetRootAs(read.InnerAsNumpy().tobytes()).Name() == name


def test_later_version_of_the_schema_reads_what_ours_wrote_and_back():
    named_v2 = generated("Named", "shapes_v2")
    builder = Builder(0)
    made = generated("Named").NamedT()
    made.name, made.note, made.code = "n", "o", 7
    finished(made)(builder)
    later = named_v2.NamedT.InitFromBuf(memoryview(builder), root_at(memoryview(builder)))
    assert (later.name, later.note, later.code, later.tags, later.added) == (b"n", b"o", 7, None, None)
    later.tags = ["x", "y"]
    message = check_same(lambda builder: later.Pack(builder))
    earlier = generated("Named").NamedT.InitFromBuf(message, root_at(message))
    assert (earlier.name, earlier.note, earlier.code) == (b"n", b"o", 7)


def test_event_of_the_telemetry_example_is_the_packages_bytes():
    module, sources, sample, tick = telemetry_sample()
    built = []
    for builder in (flatbuffers.Builder(0), Builder(0), Builder(4096)):
        module.build_event(builder, tick, sources, sample)
        module.build_event(builder, tick, sources, sample)
        built.append(bytes(builder.Output()))
    assert built[1] == built[0]
    assert built[2] == built[0]
    assert len(built[0]) > 500


@given(st.data())
def test_union_of_structs_and_strings_and_vector_of_unions_are_the_packages_bytes(data):
    """tests/data/schemas/unions.fbs, for which flatc 2.0.8 writes no code: built as such code would."""
    drawn = data.draw(st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 5]), FLOATS, TEXTS), max_size=5))

    def member(builder: Any, kind: int, number: float, text: str) -> Any:
        if kind == 1:
            name = builder.CreateString(text)
            builder.StartObject(2)
            builder.PrependUOffsetTRelativeSlot(0, name, 0)
            builder.PrependUint32Slot(1, len(text), 0)
            return builder.EndObject()
        if kind == 5:
            return builder.CreateSharedString(text)
        # A struct in a union stands by itself.
        if kind == 4:
            builder.Prep(8, 16)
            builder.PrependFloat64(number)
            builder.Pad(7)
            builder.PrependUint8(len(text))
        else:
            builder.Prep(4, 8)
            builder.PrependFloat32(number)
            builder.PrependFloat32(-number)
        return builder.Offset()

    def build(builder: Any) -> Any:
        places = [member(builder, *each) for each in drawn]
        builder.StartVector(1, len(drawn), 1)
        for kind, _, _ in reversed(drawn):
            builder.PrependUint8(kind)
        kinds = builder.EndVector()
        builder.StartVector(4, len(drawn), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        members = builder.EndVector()
        builder.StartObject(8)
        builder.PrependUOffsetTRelativeSlot(3, members, 0)
        builder.PrependUOffsetTRelativeSlot(2, kinds, 0)
        if drawn:
            builder.PrependUOffsetTRelativeSlot(1, places[0], 0)
            builder.PrependUint8Slot(0, drawn[0][0], 0)
        return builder.EndObject()

    check_same(build)


# NumPy


DTYPES = [
    "?",
    "i1",
    "u1",
    "<i2",
    ">i2",
    "<u2",
    ">u2",
    "<i4",
    ">i4",
    "<u4",
    ">u4",
    "<i8",
    ">i8",
    "<u8",
    ">u8",
    "<f2",
    ">f2",
    "<f4",
    ">f4",
    "<f8",
    ">f8",
    "g",
    ">g",
]
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda x: x,
    "empty": lambda x: x[:0],
    "strided": lambda x: x[::3],
    "backwards": lambda x: x[::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1),
    "single": lambda x: x[3:4],
    "no dimension": lambda x: np.array(x[2]).astype(x.dtype),
    "repeated": lambda x: np.broadcast_to(x[1:2], (4,)),
}


@in_one_test
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numpy_vector_is_the_packages_bytes(dtype, layout):
    with np.errstate(all="ignore"):
        values = np.arange(-3, 10).astype(dtype)
    array = LAYOUTS[layout](values)
    for size in (0, 1, 7, 1024):
        twins = Twins(size)
        twins.PrependUint8(1)
        twins.CreateNumpyVector(array)
        twins.CreateNumpyVector(array)


@in_one_test
@pytest.mark.parametrize(
    "value",
    [
        None, [1], b"x", 5, np.int32(5), np.zeros((2, 2)), np.zeros((0, 3)), np.array(["a"]), np.array([b"a"]),
        np.array([1j]), np.array([None]), np.zeros(2, "M8[s]"), np.zeros(2, "m8[s]"), np.zeros(2, [("a", "i4")]),
        memoryview(b"x"), bytearray(b"x"),
    ],
    ids=shown,
)  # fmt: skip
def test_what_is_no_vector_of_numbers_is_refused_as_by_the_package(value):
    twins = Twins()
    assert twins.call("CreateNumpyVector", value) == ("raised", TypeError)


def test_masked_array_is_written_as_by_the_package():
    twins = Twins()
    twins.CreateNumpyVector(np.ma.array([1, 2, 3], mask=[0, 1, 0], dtype="<i4", fill_value=9))  # type: ignore[arg-type]


def test_array_over_the_builders_own_buffer_is_written_as_it_was():
    builder = Builder(64)
    place = builder.CreateByteVector(b"abcdefgh")
    window = np.frombuffer(builder.Bytes, np.uint8)[-8:]
    assert bytes(window) == b"abcdefgh"
    assert builder.CreateNumpyVector(window) == place + 12
    assert bytes(builder.Bytes[builder.Head() :]) == 2 * b"\x08\0\0\0abcdefgh"


def test_without_numpy_the_package_says_so_through_our_builder(monkeypatch):
    monkeypatch.setattr("flatbuffers.builder.np", None)
    twins = Twins()
    assert twins.call("CreateNumpyVector", np.zeros(1)) == (
        "raised",
        flatbuffers.compat.NumpyRequiredForThisFeature,
    )


# Vtables


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["Uint8", "Uint16", "Uint32", "Float64"])), max_size=5),
        min_size=2,
        max_size=40,
    )
)
def test_tables_with_equal_vtables_share_one_as_the_package_has_them_do(tables):
    twins = Twins(0)
    for fields in tables:
        twins.StartObject(7)
        for slot, kind in fields:
            getattr(twins, f"Prepend{kind}Slot")(slot, 1, 0)
        twins.EndObject()
    places = twins.ours.vtables
    assert len(set(places.values())) == len(places) <= len(tables)


def test_thousands_of_different_vtables_are_all_found_again():
    def build(builder: Any) -> Any:
        tables = []
        for _ in range(2):
            for number in range(2000):
                builder.StartObject(12)
                for slot in range(11):
                    if number >> slot & 1:
                        builder.PrependUint8Slot(slot, 1, 0)
                builder.PrependUint8Slot(11, 1, 0)
                tables.append(builder.EndObject())
        builder.StartVector(4, len(tables), 4)
        for place in reversed(tables):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()

    expected = written_by(flatbuffers.Builder, build)
    builder = Builder(0)
    builder.Finish(build(builder))
    assert builder.Output() == expected
    assert len(builder.vtables) == 2000
    builder.Clear()
    assert builder.vtables == {}
    builder.Finish(build(builder))
    assert builder.Output() == expected


def test_vtables_are_forgotten_by_clear_and_not_found_in_the_next_message():
    def table(builder: Any) -> Any:
        builder.StartObject(2)
        builder.PrependUint32Slot(1, 7, 0)
        return builder.EndObject()

    twins = Twins(0)
    for _ in range(3):
        twins.attempt(table)
        twins.attempt(table)
        assert len(twins.ours.vtables) == 1
        twins.Clear()


@in_one_test
@pytest.mark.parametrize("fields", [1, 100, 32765, 32766, 40_000])
def test_table_of_very_many_fields_is_the_packages_as_long_as_the_last_are_absent(fields):
    for present in (0, min(fields - 1, 5), fields - 1):
        twins = Twins(64)
        twins.StartObject(fields)
        twins.PrependUint8Slot(present, 1, 0)
        how, _ = twins.attempt(lambda builder: builder.EndObject())
        assert how == ("raised" if present > 32764 else "returned")

"""FlatBuffers: made by the reference builder, by the code that flatc generated and by hand, and damaged."""

from __future__ import annotations

import functools
import importlib
import math
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from hypothesis import HealthCheck, given, settings

from flatstream import (
    ValidationFailedError,
    Validator,
)
from support import strategies
from support.schemas import VECTORS, generated


def outcome(call: Callable[[], Any]) -> tuple[str, Any]:
    """What a call comes to: its result with its type, or the exact type of its exception."""
    try:
        result = call()
    except Exception as error:
        return "raised", type(error)
    # A number of NumPy's that was put in comes out of the package as such.
    return "returned", (int if isinstance(result, np.integer) else type(result), result)


def written_by(make: Callable[[int], Any], build: Callable[[Any], Any], size: int = 1024) -> bytes:
    """The message that `build(builder)` makes, which returns the root or finishes by itself."""
    builder = make(size)
    root = build(builder)
    if not builder.finished:
        builder.Finish(root)
    return bytes(builder.Output())


def finished(made: Any, identifier: bytes | None = None) -> Callable[[Any], None]:
    return lambda builder: builder.Finish(made.Pack(builder), identifier)


def root_at(buffer: Any) -> int:
    return int(struct.unpack_from("<I", buffer)[0])


def telemetry_sample() -> tuple[Any, list[Any], list[Any], Any]:
    sources_module = importlib.import_module("telemetry_sources")
    sources, _ = sources_module.make_sources()
    sample = [source.read() for source in sources]
    return sources_module, sources, sample, sources_module.Tick(7, 1_735_689_600_000_000_000, 12_345, 678, True, 90)


def flatbuffer_of_string(text: str) -> bytes:
    """A message whose root is a string, as `StreamWriter.write` makes of a `str`."""
    builder = flatbuffers.Builder(64)
    builder.Finish(builder.CreateString(text))
    return bytes(builder.Output())


def flatbuffer_of_vector(values: Sequence[int], size: int = 4) -> bytes:
    """A message whose root is a table with one field: a vector of unsigned integers of `size` bytes."""
    builder = flatbuffers.Builder(64)
    prepend = {1: "PrependUint8", 2: "PrependUint16", 4: "PrependUint32", 8: "PrependUint64"}[size]
    builder.StartVector(size, len(values), size)
    for value in reversed(values):
        getattr(builder, prepend)(value)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def flatbuffer_of_event(number: int) -> bytes:
    """A message like a telemetry agent's: a counter, a measured value, a name, a short history, a flag."""
    builder = flatbuffers.Builder(256)
    name = builder.CreateString(f"sensor-{number % 7}")
    builder.StartVector(4, number % 9, 4)
    for place in range(number % 9):
        builder.PrependInt32(place * number % 50)
    history = builder.EndVector()
    builder.StartObject(5)
    builder.PrependUint64Slot(0, number, 0)
    builder.PrependFloat64Slot(1, number * 0.5, 0.0)
    builder.PrependUOffsetTRelativeSlot(2, name, 0)
    builder.PrependUOffsetTRelativeSlot(3, history, 0)
    builder.PrependBoolSlot(4, number % 2, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def message(made: Any) -> bytes:
    return written_by(flatbuffers.Builder, finished(made))


def event_payloads(count: int) -> list[bytes]:
    from asv_benchmarks.telemetry_event import make_payloads

    return [bytes(payload) for payload in make_payloads(count)]


def union_message(members: list[tuple[int, float, str]], one: int = 0) -> bytes:
    """A Holder of unions.fbs, for which flatc 2.0.8 writes no code: built as such code would."""

    def build(builder: Any) -> Any:
        def place(kind: int, number: float, text: str) -> Any:
            if kind == 1:
                name = builder.CreateString(text)
                builder.StartObject(2)
                builder.PrependUOffsetTRelativeSlot(0, name, 0)
                builder.PrependUint32Slot(1, len(text), 0)
                return builder.EndObject()
            if kind == 5:
                return builder.CreateString(text)
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

        places = [place(*each) for each in members]
        builder.StartVector(1, len(members), 1)
        for kind, _, _ in reversed(members):
            builder.PrependUint8(kind)
        kinds = builder.EndVector()
        builder.StartVector(4, len(members), 4)
        for where in reversed(places):
            builder.PrependUOffsetTRelative(where)
        values = builder.EndVector()
        # `must`, which is required, is empty.
        builder.StartVector(4, 0, 4)
        nothing = builder.EndVector()
        builder.StartVector(1, 0, 1)
        no_kinds = builder.EndVector()
        builder.StartObject(10)
        builder.PrependUOffsetTRelativeSlot(3, values, 0)
        builder.PrependUOffsetTRelativeSlot(2, kinds, 0)
        builder.PrependUOffsetTRelativeSlot(7, nothing, 0)
        builder.PrependUOffsetTRelativeSlot(6, no_kinds, 0)
        if members:
            builder.PrependUOffsetTRelativeSlot(1, places[one], 0)
            builder.PrependUint8Slot(0, members[one][0], 0)
        return builder.EndObject()

    return written_by(flatbuffers.Builder, build)


def grid_message(seed: int) -> bytes:
    """Structs with fixed arrays, by the code that flatc generates."""
    grid, structs, vectors = (generated(name) for name in ("Grid", "Structs", "Vectors"))
    shape = generated("Shape")
    rng = random.Random(seed)

    def place(builder: Any) -> Any:
        return grid.CreateGrid(
            builder,
            rng.randrange(256),
            [rng.randrange(-(2**31), 2**31) for _ in range(3)],
            [rng.choice([1, 2, 3, 65535, 77]) for _ in range(2)],
            [rng.random() for _ in range(2)],
            [rng.random() for _ in range(2)],
            [rng.random() < 0.5 for _ in range(5)],
            [rng.random() for _ in range(2)],
        )

    def build(builder: Any) -> Any:
        count = rng.randrange(4)
        vectors.StartGridsVector(builder, count)
        for _ in range(count):
            place(builder)
        grids = builder.EndVector()
        vectors.Start(builder)
        vectors.AddGrids(builder, grids)
        inner = vectors.End(builder)
        structs.Start(builder)
        if rng.random() < 0.7:
            structs.AddGrid(builder, place(builder))
        structs.AddPointRequired(builder, generated("Point").CreatePoint(builder, 1.5, -2.5))
        whole = structs.End(builder)
        shape.Start(builder)
        shape.AddVectors(builder, inner)
        if rng.random() < 0.8:
            shape.AddStructs(builder, whole)
        return shape.End(builder)

    return written_by(flatbuffers.Builder, build)


@functools.cache
def _samples() -> tuple[bytes, ...]:
    found: list[bytes] = []

    # Scripts in processes of their own make them too, without the settings of conftest.py.
    @settings(
        max_examples=40,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(strategies.shapes)
    def collect(made: Any) -> None:
        found.append(message(made))

    collect()
    return tuple(sorted(set(found), key=len, reverse=True))


def sample_messages(count: int) -> list[bytes]:
    """Some messages that have much in them."""
    return list(_samples()[:count])


def numbered_messages(count: int) -> list[bytes]:
    """Level1 messages: their number, and for some more than that."""
    level1, level2 = generated("Level1"), generated("Level2")
    payloads = []
    for number in range(count):
        made = level1.Level1T()
        made.value = number
        if number % 3 == 0:
            made.next = level2.Level2T()
            made.next.values = list(range(number % 7))
        payloads.append(message(made))
    return payloads


LIMITS = {
    "i8": (-128, 127), "u8": (0, 255), "i16": (-(2**15), 2**15 - 1), "u16": (0, 2**16 - 1),
    "i32": (-(2**31), 2**31 - 1), "u32": (0, 2**32 - 1), "i64": (-(2**63), 2**63 - 1), "u64": (0, 2**64 - 1),
}  # fmt: skip


@functools.cache
def extreme_messages() -> tuple[bytes, ...]:
    rng = random.Random(11)
    optionals, scalars = generated("Optionals"), generated("Scalars")
    shape = generated("Shape")
    payloads = []
    for _ in range(60):
        made = shape.ShapeT()
        for part, name in ((scalars.ScalarsT(), "scalars"), (optionals.OptionalsT(), "optionals")):
            if rng.random() < 0.15:
                continue
            for field, (low, high) in LIMITS.items():
                if name == "scalars" or rng.random() < 0.7:
                    around = [low, low + 1, high - 1, high, 0, 1, rng.randint(low, high)]
                    setattr(part, field, rng.choice(around))
            for field in ("f32", "f64"):
                if name == "scalars" or rng.random() < 0.7:
                    setattr(part, field, rng.choice([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.5, -300.0, 2.0**53]))
            setattr(made, name, part)
        made.id = rng.choice([0, 2**63, 2**64 - 1, 2**53 + 1])
        payloads.append(message(made))
    return tuple(payloads)


# Damage made by hand, in this message of the type shapes.Named:
#
#      0  16                   the offset of the root
#      4  10, 16, 4, 8, 12, 0  the vtable: its size, the table's, name, note, code; padding
#     16  12                   the table: its vtable is 12 bytes before it
#     20  12 -> 32             name
#     24  20 -> 44             note
#     28  7                    code
#     32  5, "hello", 0 0 0
#     44  2, "é", 0 0
#     52  the end
NAMED = struct.pack("<I6HiIII I8s I4s", 16, 10, 16, 4, 8, 12, 0, 12, 12, 20, 7, 5, b"hello", 2, "é".encode())


def changed(data: bytes, *changes: tuple[int, str, int]) -> bytes:
    """`data` with other numbers at some places: (place, format, value)."""
    damaged = bytearray(data)
    for place, form, value in changes:
        struct.pack_into(f"<{form}", damaged, place, value)
    return bytes(damaged)


def union_vector(types: bytes, values: bytes, tail: bytes) -> tuple[bytes, int]:
    """A message of the type unions.Root whose `things` are these, and where `values` lie: the table is at 16."""
    vector = struct.pack("<I", len(types)) + types.ljust(-(-len(types) // 4) * 4, b"\0")
    head = struct.pack("<I6HiII", 16, 12, 12, 0, 0, 4, 8, 12, 8, 4 + len(vector))
    return head + vector + values + tail, len(head + vector)


def chain(depth: int) -> bytes:
    """Trees in trees: `depth` tables, each the `left` of the one before, which lies 8 bytes before it."""
    # Vtables: of `value`, `left` at 4; of nothing at 12.
    head = struct.pack("<I4H2H", 16, 8, 8, 0, 4, 4, 4)
    tables = b"".join(struct.pack("<iI", 12 + 8 * i, 4) for i in range(depth - 1))
    return head + tables + struct.pack("<i", 4 + 8 * (depth - 1))


def doubling(levels: int) -> bytes:
    """Tables whose `left` and `right` are both the next: 2**levels - 1 of them to whoever goes all ways."""
    head = struct.pack("<I5Hxx2H", 20, 10, 12, 0, 4, 8, 4, 4)
    tables = b"".join(struct.pack("<iII", 16 + 12 * i, 8, 4) for i in range(levels - 1))
    return head + tables + struct.pack("<i", 4 + 12 * (levels - 1))


@functools.cache
def shape_messages() -> tuple[bytes, ...]:
    """Messages of the type shapes.Shape: one with everything in it, one with little, one with nothing."""
    from shapes.Defaults import DefaultsT
    from shapes.Empty import EmptyT
    from shapes.Holder import HolderT
    from shapes.Level1 import Level1T
    from shapes.Level2 import Level2T
    from shapes.Level3 import Level3T
    from shapes.Level4 import Level4T
    from shapes.Named import NamedT
    from shapes.Numbered import NumberedT
    from shapes.Optionals import OptionalsT
    from shapes.Point import PointT
    from shapes.Scalars import ScalarsT
    from shapes.Shape import ShapeT
    from shapes.Structs import StructsT
    from shapes.Tree import TreeT
    from shapes.Unions import UnionsT
    from shapes.Vectors import VectorsT

    def made(cls: type, **values: Any) -> Any:
        thing = cls()
        for name, value in values.items():
            assert hasattr(thing, name), name
            setattr(thing, name, value)
        return thing

    named = made(NamedT, name="named", note="é€", code=7)
    level = made(Level3T, name="three", next=made(Level4T, value=1.5, end="end"), others=[made(Level4T, value=2.5)] * 2)
    tree = made(TreeT, value=1, left=made(TreeT, value=2, label="left"), children=[made(TreeT, value=3), made(TreeT)])
    point = made(PointT, x=1.0, y=-1.0)
    vectors = made(
        VectorsT,
        truths=[True, False],
        # Not negative: to the package's PrependByte, which the generated code calls, a byte has no sign.
        i8s=[1, 2],
        u16s=[1, 2, 3],
        i64s=[-(2**63), 1],
        f32s=[0.5],
        f64s=[1.25, 2.5],
        strings=["a", "", "three"],
        points=[point, point],
        scalars=[made(ScalarsT, i32=3), made(ScalarsT, f64=2.5)],
        named=[named, made(NamedT, name="other")],
    )
    everything = made(
        ShapeT,
        scalars=made(ScalarsT, truth=True, u64=2**64 - 1, f64=3.5, i16=-2),
        defaults=made(DefaultsT, i8=1, f32=2.0),
        optionals=made(OptionalsT, i32=0, f64=1.0),
        vectors=vectors,
        structs=made(StructsT, point=point, pointRequired=point),
        named=named,
        level=made(Level1T, value=5, next=made(Level2T, next=level, values=[1, 2, 3])),
        tree=tree,
        numbered=made(NumberedT, last=6, first=1, text="text", choiceType=4, choice=tree),
        unions=made(UnionsT, choiceType=1, choice=named, otherType=2, other=made(Level1T), mustType=3, must=EmptyT()),
        holder=made(HolderT, raw=[1, 2, 3]),
        choiceType=1,
        choice=named,
        title="a title",
        id=12345,
    )
    little = made(ShapeT, tree=tree, numbered=made(NumberedT, choiceType=1, choice=named), title="little")
    messages = []
    for thing in (everything, little, ShapeT()):
        builder = flatbuffers.Builder(256)
        builder.Finish(thing.Pack(builder), b"SHAP")
        messages.append(bytes(builder.Output()))
    return tuple(messages)


def telemetry_messages() -> tuple[bytes, ...]:
    from telemetry import CpuTimes, Disk, DiskCounters, Event

    builder = flatbuffers.Builder(256)
    texts = [builder.CreateString(text) for text in ("host", "kernel 6.1", "sda", "nvme0n1")]
    disks = []
    for name in texts[2:]:
        Disk.Start(builder)
        Disk.AddName(builder, name)
        Disk.AddCounters(builder, DiskCounters.CreateDiskCounters(builder, 1, 2, 3, 4, 5, 6))
        disks.append(Disk.End(builder))
    builder.StartVector(4, len(disks), 4)
    for disk in reversed(disks):
        builder.PrependUOffsetTRelative(disk)
    disk_vector = builder.EndVector()
    builder.StartVector(64, 2, 8)
    for _ in range(2):
        CpuTimes.CreateCpuTimes(builder, *(0.5 * i for i in range(8)))
    cores = builder.EndVector()
    Event.Start(builder)
    Event.AddSequence(builder, 17)
    Event.AddHost(builder, texts[0])
    Event.AddKernel(builder, texts[1])
    Event.AddPlatform(builder, 1)
    Event.AddCores(builder, cores)
    Event.AddCpuTotal(builder, CpuTimes.CreateCpuTimes(builder, *(0.5 * i for i in range(8))))
    Event.AddDisks(builder, disk_vector)
    Event.AddLoad1(builder, 0.25)
    builder.Finish(Event.End(builder))
    return (bytes(builder.Output()),)


def union_messages() -> tuple[bytes, ...]:
    values = struct.pack("<I4I", 4, 16, 20, 0, 32)
    text_and_point = struct.pack("<I4s", 2, b"ok") + bytes(8)
    # Behind them an empty Holder-to-be, which lacks what is required: of an unknown type, so that nobody looks.
    return (union_vector(bytes([5, 2, 77, 2]), values, text_and_point + bytes(24))[0],)


def monster_messages() -> tuple[bytes, ...]:
    return tuple((VECTORS / "verifier" / f"monsterdata_{name}.mon").read_bytes() for name in ("test", "python_wire"))


def mutant(rng: random.Random, messages: tuple[bytes, ...]) -> bytes:
    """One of the messages after one to three accidents."""
    data = bytearray(rng.choice(messages))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if len(data) < 8:
            break
        place = rng.randrange(len(data))
        word = place & ~3
        accident = rng.randrange(7)
        if accident <= 1:
            data[place] ^= 1 << rng.randrange(8)
        elif accident == 2:
            data[place] = rng.choice((0, 1, 2, 3, 4, 0x7F, 0x80, 0xC3, 0xFF))
        elif accident == 3:
            number = rng.choice((0, 1, 4, 8, len(data), len(data) - word, 2**31, 2**32 - 1, rng.randrange(len(data))))
            struct.pack_into("<I", data, min(word, len(data) - 4), number)
        elif accident == 4:
            del data[rng.randrange(8, len(data) + 1) :]
        elif accident == 5:
            other = rng.choice(messages)
            begin = rng.randrange(len(other)) & ~3
            size = 4 * rng.randrange(1, 16)
            data[word : word + size] = other[begin : begin + size]
        else:
            size = 4 * rng.randrange(1, 5)
            if rng.random() < 0.5:
                data[word:word] = bytes(size)
            else:
                del data[word : word + size]
    return bytes(data)


FUZZED = ["shapes", "telemetry", "monster_test", "unions"]


def messages_of(name: str) -> tuple[bytes, ...]:
    return {  # type: ignore[no-any-return, operator]
        "shapes": shape_messages,
        "telemetry": telemetry_messages,
        "monster_test": monster_messages,
        "unions": union_messages,
    }[name]()


def refusal(validator: Validator, payload: Any) -> tuple[str, str] | None:
    """The path and the reason why `validator` refuses `payload`, without a hint at prefixes; None if it accepts it."""
    try:
        validator.validate(payload)
    except ValidationFailedError as error:
        return error.path, error.reason.partition("; counted from 4 bytes before")[0]
    return None

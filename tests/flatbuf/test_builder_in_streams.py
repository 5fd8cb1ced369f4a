"""`flatstream.Builder` in a StreamWriter, its names, and the differences that its docstring tells."""

from __future__ import annotations

import inspect
import io
import struct
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.builder import (
    BuilderSizeError,
)

import flatstream
from flatstream import Builder, SizeThresholdPolicy, StreamReader, StreamWriter
from support.builders import finished_builder
from support.extent import in_one_test
from support.messages import outcome

EITHER = pytest.mark.parametrize("make", [flatbuffers.Builder, Builder], ids=["package", "ours"])


# Drop-in: the same names


PUBLIC = sorted(name for name in dir(flatbuffers.Builder) if not name.startswith("_") and name not in ("Bytes",))


def test_every_public_name_of_the_package_is_there():
    ours = Builder(16)
    assert [name for name in PUBLIC if not hasattr(ours, name) and name != "vectorNumElems"] == []


METHODS = sorted(name for name in PUBLIC if inspect.isfunction(getattr(flatbuffers.Builder, name)))
KEYWORD_ARGUMENTS: dict[str, Any] = {
    "s": "text", "encoding": "utf-8", "errors": "strict", "x": 1, "rootTable": 0, "file_identifier": b"ABCD",
    "flags": number_types.Uint8Flags, "forceDefaults": True, "numElems": 2, "elemSize": 1, "alignment": 1, "n": 3,
    "off": 0, "size": 4, "additionalBytes": 2, "numfields": 3, "slotnum": 1, "obj": 0, "o": 0, "d": 0, "v": 0,
}  # fmt: skip
PARTICULAR = {
    "CreateByteVector": {"x": b"abc"},
    "CreateNumpyVector": {"x": np.arange(3)},
    "EndVector": {"numElems": None},
}


def test_every_method_takes_its_arguments_by_the_packages_names():
    refused = []
    for name in METHODS:
        parameters = list(inspect.signature(getattr(flatbuffers.Builder, name)).parameters.values())[1:]
        # Some take theirs by place alone in the package, too.
        if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
            continue
        arguments = {p.name: PARTICULAR.get(name, {}).get(p.name, KEYWORD_ARGUMENTS[p.name]) for p in parameters}  # type: ignore[attr-defined]
        expected = outcome(lambda name=name, arguments=arguments: getattr(flatbuffers.Builder(64), name)(**arguments))  # type: ignore[misc]
        if outcome(lambda name=name, arguments=arguments: getattr(Builder(64), name)(**arguments)) != expected:  # type: ignore[misc]
            refused.append(name)
    assert refused == []


# StreamWriter


class Item:
    """For simple mode: builds a table of a number and a string."""

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text

    def serialize(self, builder: Any) -> None:
        text = builder.CreateString(self.text)
        builder.StartObject(2)
        builder.PrependUint32Slot(0, self.number, 0)
        builder.PrependUOffsetTRelativeSlot(1, text, 0)
        builder.Finish(builder.EndObject())


ITEMS: list[Any] = [Item(number, "x" * size) for number, size in enumerate([0, 1, 10, 5000, 3, 70_000, 2])]
ITEMS += ["", "text", "\u20ac" * 2000]


def payload_of(item: Any) -> bytes:
    builder = flatbuffers.Builder(0)
    if isinstance(item, str):
        builder.Finish(builder.CreateString(item))
    else:
        item.serialize(builder)
    return bytes(builder.Output())


PAYLOADS = [payload_of(item) for item in ITEMS]
STREAM = b"".join(struct.pack("<I", len(payload)) + payload for payload in PAYLOADS)


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 1, 100, 65536])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"capacity": 1},
        {"builder": flatbuffers.Builder},
        {"builder": Builder},
        {"make_builder": flatbuffers.Builder},
        {"make_builder": Builder},
        {"memory_policy": lambda size: SizeThresholdPolicy(4096, 1024, 1, baseline_capacity=256)},
        {
            "make_builder": flatbuffers.Builder,
            "memory_policy": lambda size: SizeThresholdPolicy(4096, 1024, 1, baseline_capacity=256),
        },
    ],
    ids=lambda options: (
        " ".join(f"{key}={getattr(value, '__module__', value)}" for key, value in options.items()) or "default"
    ),
)
def test_simple_mode_writes_the_same_stream_with_either_builder(options, buffer_size):
    made = {key: value(64) if key in ("builder", "memory_policy") else value for key, value in options.items()}
    for write in (
        lambda writer: [writer.write(item) for item in ITEMS],
        lambda writer: writer.write_batch(iter(ITEMS)),
    ):
        sink = io.BytesIO()
        with StreamWriter(sink, buffer_size=buffer_size, **made) as writer:
            write(writer)
        assert sink.getvalue() == STREAM


def test_simple_mode_builds_with_our_builder_by_default():
    with StreamWriter(io.BytesIO()) as writer:
        assert type(writer.builder) is Builder is flatstream.Builder
        assert len(writer.builder.Bytes) == 1024
    with StreamWriter(io.BytesIO(), capacity=100) as writer:
        assert len(writer.builder.Bytes) == 100


@in_one_test
@EITHER
@pytest.mark.parametrize("buffer_size", [0, 100, 65536])
def test_expert_mode_writes_the_same_stream_with_either_builder(make, buffer_size):
    builder = make(64)
    sink = io.BytesIO()
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        for number, payload in enumerate(PAYLOADS):
            if isinstance(item := ITEMS[number], str):
                builder.Finish(builder.CreateString(item))
            else:
                item.serialize(builder)
            if number % 2:
                writer.write_message(builder)
                assert not builder.finished
            else:
                writer.write_finished(builder)
                assert bytes(builder.Output()) == payload
                builder.Clear()
    assert sink.getvalue() == STREAM


@EITHER
def test_unfinished_builder_is_refused_by_the_writer(make):
    with StreamWriter(io.BytesIO()) as writer:
        for write in (writer.write_finished, writer.write_message):
            with pytest.raises(flatstream.FlatbufferError, match="Finish"):
                write(make(16))
        assert writer.frames_written == 0


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_subclass_of_our_builder_is_written(large):
    class Own(Builder):
        cleared = 0

        def Clear(self):  # noqa: N802 - the package's name
            self.cleared += 1
            super().Clear()

    builder = Own(16)
    text = "t" * (100_000 if large else 5)
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        builder.Finish(builder.CreateString(text))
        writer.write_message(builder)
    assert builder.cleared == 1
    assert sink.getvalue()[4:] == payload_of(text)
    with StreamWriter(second := io.BytesIO(), builder=Own(16)) as writer:
        writer.write(text)
        assert writer.builder.cleared == 1
    assert second.getvalue() == sink.getvalue()


@in_one_test
@EITHER
@pytest.mark.parametrize("size", [3, 100_000])
def test_view_that_an_observer_keeps_of_a_builders_message_stays_as_it_was(make, size):
    kept: list[memoryview] = []
    copies: list[bytes] = []

    def observe(payload: memoryview) -> None:
        kept.append(payload)
        copies.append(bytes(payload))

    builder = make(64)
    sink = io.BytesIO()
    with StreamWriter(sink, flatstream.DefaultFramer().observed(observe), buffer_size=64) as writer:
        for letter in "abc":
            builder.Finish(builder.CreateString(letter * size))
            # The package's builder cannot be cleared under a view of its bytearray in every case: a fresh one then.
            writer.write_finished(builder)
            if make is Builder:
                builder.Clear()
            else:
                builder = make(64)
    assert [bytes(payload) for payload in kept] == copies == [payload_of(letter * size) for letter in "abc"]


class MeddlingSink:
    """Clears the builder and builds something else with it in the middle of every write, and takes it in pieces."""

    def __init__(self, builder: Any) -> None:
        self.builder, self.received, self.step = builder, bytearray(), 700

    def write(self, data: memoryview) -> int:
        taken = bytes(data[: self.step])
        self.builder.Clear()
        self.builder.Finish(self.builder.CreateByteVector(b"\xff" * 90_000))
        assert bytes(data[: self.step]) == taken
        self.received += taken
        return len(taken)


@in_one_test
@pytest.mark.parametrize("buffer_size", [0, 64, 65536])
@pytest.mark.parametrize("size", [10, 5000])
def test_sink_that_rebuilds_the_builder_in_the_middle_of_a_write_gets_the_message_as_it_was(buffer_size, size):
    builder = Builder(64)
    sink = MeddlingSink(builder)
    with StreamWriter(sink, buffer_size=buffer_size) as writer:
        for letter in "ab":
            builder.Clear()
            builder.Finish(builder.CreateString(letter * size))
            writer.write_finished(builder)
    assert bytes(sink.received) == b"".join(
        struct.pack("<I", len(payload)) + payload for payload in (payload_of(letter * size) for letter in "ab")
    )


def test_memory_policy_replaces_our_builder_when_it_has_grown():
    sink = io.BytesIO()
    policy = SizeThresholdPolicy(4096, 1024, 1, baseline_capacity=256)
    with StreamWriter(sink, memory_policy=policy, capacity=256) as writer:
        first = writer.builder
        writer.write(Item(1, "x" * 9000))
        grown = writer.builder
        assert len(grown.Bytes) > 4096
        writer.write("small")
        writer.write("small")
        assert type(writer.builder) is Builder
        assert writer.builder is not first
        assert len(writer.builder.Bytes) == 256
    with StreamReader(sink.getvalue()) as reader:
        assert [bytes(payload) for payload in reader] == [
            payload_of(i) for i in (Item(1, "x" * 9000), "small", "small")
        ]


# What the docstring names as differences


def test_bytes_is_a_writable_memoryview_of_the_whole_buffer():
    builder = Builder(32)
    assert type(builder.Bytes) is memoryview
    assert (builder.Bytes.readonly, builder.Bytes.format, len(builder.Bytes)) == (False, "B", 32)
    assert bytes(builder.Bytes) == bytes(32)
    builder.Bytes[0:2] = b"ab"
    assert bytes(builder.Bytes[:3]) == b"ab\0"


def test_bytes_that_somebody_holds_is_left_alone_by_the_builder():
    builder = Builder(32)
    builder.PrependUint32(1)
    held = builder.Bytes
    builder.PrependUint32(2)
    assert bytes(held[-8:]) == b"\0\0\0\0\x01\0\0\0"
    assert bytes(builder.Bytes[-8:]) == b"\x02\0\0\0\x01\0\0\0"


@pytest.mark.parametrize("size", [0, 1, 7])
def test_place_and_pad_make_room(size):
    builder = Builder(size)
    builder.Place(7, number_types.Uint64Flags)
    builder.Pad(5)
    builder.PlaceUOffsetT(3)
    builder.PlaceVOffsetT(2)
    builder.PlaceSOffsetT(-1)
    assert bytes(builder.Bytes[builder.Head() :]).hex() == "ffffffff020003000000" + "00" * 5 + "0700000000000000"


def test_end_of_a_vector_that_was_overfilled_makes_room():
    builder = Builder(8)
    builder.StartVector(1, 0, 1)
    for _ in range(8):
        builder.PrependUint8(1)
    assert builder.EndVector() == 12
    assert bytes(builder.Bytes[builder.Head() :]) == bytes(4) + b"\x01" * 8


def test_current_vtable_and_vtables_are_copies():
    builder = Builder(64)
    builder.StartObject(2)
    builder.current_vtable[0] = 99  # type: ignore[index]
    assert builder.current_vtable == [0, 0]
    builder.EndObject()
    builder.vtables.clear()
    assert builder.vtables == {(4,): 8}


def test_growing_by_hand_keeps_the_head_where_the_message_begins():
    builder = finished_builder(b"abc", 64)
    message = bytes(builder.Output())
    builder.GrowByteBuffer()
    assert len(builder.Bytes) == 128
    assert builder.Output() == message
    empty = Builder(0)
    empty.GrowByteBuffer()
    assert (len(empty.Bytes), empty.Head()) == (1, 1)


@pytest.mark.long  # not minutes, but 3 GiB of memory
def test_growing_by_hand_from_more_than_half_of_the_limit_ends_at_the_limit():
    builder = Builder(2**30 + 1)
    builder.GrowByteBuffer()
    assert len(builder.Bytes) == 2**31
    with pytest.raises(BuilderSizeError):
        builder.GrowByteBuffer()


@in_one_test
@pytest.mark.parametrize("head", [-1, 65, 2**70, -(2**70), None, "1", 1.5])
def test_head_outside_the_buffer_is_refused(head):
    builder = Builder(64)
    with pytest.raises((ValueError, TypeError, OverflowError)):
        builder.head = head
    assert builder.Head() == 64


def test_class_docstring_names_these_differences():
    text = " ".join((Builder.__doc__ or "").split())
    for said in (
        "memoryview(builder)",
        "``Bytes`` is a writable memoryview",
        "``Place`` and ``Pad`` make room",
        "``current_vtable`` and ``vtables`` are copies",
    ):
        assert said in text

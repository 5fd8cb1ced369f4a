"""`write` with a serializer, and `objects`: over streams, with damage, with what the description names."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    ChecksumMismatchError,
    Description,
    FlatStreamError,
    JsonSerializer,
    MessagePackSerializer,
    StreamReader,
    StreamWriter,
    ValidationFailedError,
)
from flatstream._core.stream.object_iterator import ObjectIterator
from reference import framing as reference
from support.columns import LEVEL1
from support.extent import in_one_test
from support.modes import MODES, Mode, every_mode
from support.serializers import Text
from support.sources import SourceKind, every_source

ITEMS: list[Any] = [{"host": "a", "load": 0.5}, [], None, "text", 7, {"nested": [{"x": [1, 2]}]}]


def written(items: list[Any], serializer: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    with StreamWriter(sink, serializer=serializer, **options) as writer:
        writer.write_batch(items)
    return sink.getvalue()


def tried(objects: Iterator[Any]) -> list[Any]:
    """The objects, with the errors between them."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(objects))
        except StopIteration:
            return found
        except FlatStreamError as error:
            found.append((type(error), error.offset, error.frame))


# Writing


@every_mode
@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_frames_hold_what_the_serializer_makes(mode: Mode, serializer: str) -> None:
    made: Any = {"json": JsonSerializer, "msgpack": MessagePackSerializer}[serializer]()
    expected = reference.encode([made.dumps(item) for item in ITEMS], mode.name)
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer(), serializer=serializer) as writer:
        assert writer.serializer is not None
        assert writer.serializer.name == serializer
        for item in ITEMS:
            writer.write(item)
    assert sink.getvalue() == expected
    assert written(ITEMS, made, framer=mode.framer()) == expected
    assert list(StreamReader(expected, mode.deframer()).objects(serializer)) == ITEMS


def test_item_that_cannot_be_written_leaves_nothing_of_it() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, serializer="json") as writer:
        writer.write(1)
        with pytest.raises(TypeError, match="object"):
            writer.write(object())
        with pytest.raises(TypeError, match="object"):
            writer.write_batch(iter([2, object(), 3]))
        assert writer.frames_written == 2
        with pytest.raises(TypeError, match="items must be an iterable"):
            writer.write_batch("text")
        with pytest.raises(TypeError, match="items must be an iterable"):
            writer.write_batch(5)  # type: ignore[arg-type]
        # Finished payloads are written as they are.
        writer.write_payload(b"3")
    assert list(StreamReader(sink.getvalue()).objects("json")) == [1, 2, 3]


class Wrong(Text):
    def dumps(self, item: Any) -> Any:
        return item


@in_one_test
@pytest.mark.parametrize("answer", [None, 5, "text", object(), memoryview(b"abcd")[::2]], ids=str)
def test_dumps_that_returns_no_bytes_is_refused(answer: Any) -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, serializer=Wrong()) as writer, pytest.raises((TypeError, BufferError, ValueError)):
        writer.write(answer)
    assert sink.getvalue() == b""


@in_one_test
@pytest.mark.parametrize("answer", [bytearray(b"abc"), memoryview(b"abc"), b"", b"x" * 100_000], ids=len)
def test_dumps_may_return_any_bytes(answer: Any) -> None:
    assert written([answer, answer], Wrong()) == reference.encode([bytes(answer)] * 2, "none")


def test_without_a_serializer_items_are_flatbuffers_as_always() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        assert writer.serializer is None
        writer.write("text")
    assert b"text" in sink.getvalue()
    with pytest.raises(ValidationFailedError):
        next(StreamReader(sink.getvalue()).objects("json"))


# Reading


@every_source
def test_objects_come_from_every_source(source_kind: SourceKind, tmp_path: Path) -> None:
    data = written(ITEMS * 20, "msgpack")
    with source_kind.open(data, tmp_path) as source, StreamReader(source, capacity=64) as reader:
        assert list(reader.objects("msgpack")) == ITEMS * 20


def broken_stream(mode: Mode) -> tuple[bytes, list[int]]:
    """Frames 0 to 5, of which 1 and 4 are no JSON; and where the frames begin, and the stream ends."""
    payloads = [b"0", b"{", b"2", b"3", b"\xff", b"5"]
    size = len(reference.encode([b""], mode.name))
    starts = [0]
    for payload in payloads:
        starts.append(starts[-1] + size + len(payload))
    return reference.encode(payloads, mode.name), starts


@every_mode
def test_payload_that_cannot_be_loaded_is_treated_as_on_error_says(mode: Mode) -> None:
    data, starts = broken_stream(mode)
    refused = [(starts[1], starts[2]), (starts[4], starts[5])]
    reader = StreamReader(data, mode.deframer())
    assert tried(reader.objects("json")) == [
        0, (ValidationFailedError, starts[1], 1), 2, 3, (ValidationFailedError, starts[4], 4), 5
    ]  # fmt: skip
    assert reader.lost_ranges == []
    for on_error in ("skip", "resync"):
        for by_call in (False, True):
            reader = StreamReader(data, mode.deframer(), on_error="raise" if by_call else on_error)
            assert list(reader.objects("json", on_error=on_error if by_call else None)) == [0, 2, 3, 5]
            assert (reader.skipped, reader.lost_ranges) == (2, refused)
    reader = StreamReader(data, mode.deframer(), on_error="stop")
    objects = reader.objects("json")
    assert list(objects) == [0]
    assert list(objects) == []
    assert isinstance(reader.stop_error, ValidationFailedError)
    assert (reader.stop_error.offset, reader.stop_error.frame) == (starts[1], 1)


def test_error_says_the_serializer_and_the_reason_and_has_the_cause() -> None:
    data, starts = broken_stream(MODES["none"])
    with pytest.raises(
        ValidationFailedError, match=r"json refused the payload: .*\(frame 1, stream offset 5\)"
    ) as info:
        list(StreamReader(data).objects("json"))
    assert (info.value.validator, info.value.offset) == ("json", starts[1])
    assert isinstance(info.value.__cause__, ValueError)


def test_first_payload_that_cannot_be_loaded_has_the_note_on_what_it_may_mean() -> None:
    with pytest.raises(ValidationFailedError) as info:
        next(StreamReader(reference.encode([b"{"], "none")).objects("json"))
    assert "with another checksum" in info.value.__notes__[0]


@every_mode
def test_damaged_frames_among_objects_are_left_out_too(mode: Mode) -> None:
    if mode.name == "none":
        return
    data = bytearray(reference.encode([b"%d" % number for number in range(10, 20)], mode.name))
    size = len(data) // 10
    data[3 * size + size - 1] ^= 1
    reader = StreamReader(bytes(data), mode.deframer())
    found = tried(reader.objects("json"))
    assert found[3] == (ChecksumMismatchError, 3 * size, 3)
    assert [value for value in found if isinstance(value, int)] == [10, 11, 12, 14, 15, 16, 17, 18, 19]
    reader = StreamReader(bytes(data), mode.deframer(), on_error="resync")
    assert list(reader.objects("json")) == [10, 11, 12, 14, 15, 16, 17, 18, 19]
    assert reader.lost_ranges == [(3 * size, 4 * size)]


class Faulty(Text):
    """Raises what the payload names."""

    errors: dict[str, Any] = {  # noqa: RUF012
        "value": ValueError("a reason"),
        "unicode": UnicodeDecodeError("utf-8", b"", 0, 1, "a reason"),
        "depth": RecursionError("a reason"),
        "own": ValidationFailedError(validator="mine", reason="a reason"),
        "key": KeyError("a bug"),
        "io": OSError(5, "a bug"),
        "memory": MemoryError("a bug"),
    }

    def loads(self, payload: memoryview) -> str:
        name = super().loads(payload)
        if name in self.errors:
            raise self.errors[name]
        return name


@in_one_test
@pytest.mark.parametrize("name", Faulty.errors)
def test_only_errors_of_the_value_are_damage(name: str) -> None:
    serializer = Faulty()
    data = written(["a", name, "b"], serializer)
    objects = StreamReader(data, on_error="skip").objects(serializer)
    assert next(objects) == "a"
    if "bug" in str(serializer.errors[name]):
        with pytest.raises(type(serializer.errors[name])) as caught:
            next(objects)
        assert caught.value is serializer.errors[name]
        assert list(objects) == ["b"]
    else:
        assert list(objects) == ["b"]
        with pytest.raises(ValidationFailedError, match="a reason") as info:
            list(StreamReader(data).objects(serializer))
        assert info.value.validator == ("mine" if name == "own" else "text")
        assert (info.value.frame, info.value.offset) == (1, 5)
    serializer.errors["own"].offset = serializer.errors["own"].frame = None


def test_loads_may_read_from_the_same_stream() -> None:
    class Pair(Text):
        def loads(self, payload: memoryview) -> Any:
            following = reader.read_message()
            if following is None:
                raise ValueError("no second one")
            return super().loads(payload), super().loads(following)

    reader = StreamReader(written(["a", "b", "c"], Text()))
    objects = reader.objects(Pair())
    assert next(objects) == ("a", "b")
    with pytest.raises(ValidationFailedError, match=r"no second one \(frame 2, stream offset 10\)"):
        next(objects)


def test_payload_that_a_serializer_keeps_stays_as_it_is() -> None:
    class Raw(Text):
        def loads(self, payload: memoryview) -> Any:
            return payload

    texts = [f"text {number}" for number in range(200)]
    reader = StreamReader(io.BytesIO(written(texts, Text())), capacity=50)
    kept = list(reader.objects(Raw()))
    reader.close()
    assert [str(view, "utf-8") for view in kept] == texts
    assert all(view.readonly for view in kept)


def test_threads_that_share_an_iterator_get_each_object_once() -> None:
    count = 4000
    objects = StreamReader(io.BytesIO(written(list(range(count)), "json")), capacity=256).objects("json")
    found: list[list[int]] = [[] for _ in range(3)]
    threads = [threading.Thread(target=part.extend, args=(objects,)) for part in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(number for part in found for number in part) == list(range(count))


def test_iterator_cannot_be_pickled_and_needs_its_arguments() -> None:
    reader = StreamReader(b"")
    with pytest.raises(TypeError, match="reads a stream of this process"):
        pickle.dumps(reader.objects("json"))
    with pytest.raises(TypeError, match="__init__ was not called"):
        next(ObjectIterator.__new__(ObjectIterator))
    wrong: list[Any] = [(None, len, (), len), (reader, len, None, len), (reader, len, [], len)]
    for arguments in wrong:
        with pytest.raises(TypeError):
            ObjectIterator(*arguments)
    with pytest.raises(ValueError, match="on_error must be"):
        reader.objects("json", on_error="ignore")  # type: ignore[arg-type]


# Descriptions


def test_description_names_the_serializer_and_objects_finds_it() -> None:
    for serializer in ("json", "msgpack"):
        reader = StreamReader(written(ITEMS, serializer, describe=True))
        assert list(reader.objects()) == ITEMS
        assert reader.description is not None
        assert reader.description.serializer == serializer
        assert f"serializer {serializer}" in repr(reader.description)
    # Only when asked.
    assert StreamReader(written(ITEMS, "json")).description is None


def test_description_that_names_a_serializer_is_enough_to_write_with_it() -> None:
    data = written(ITEMS, None, describe=Description(serializer="msgpack"))
    assert list(StreamReader(data).objects()) == ITEMS
    # One that is not known: payloads are up to the application.
    sink = io.BytesIO()
    with StreamWriter(sink, describe=Description(serializer="text")) as writer:
        assert writer.serializer is None
        writer.write_payload(b"abc")
    assert list(StreamReader(sink.getvalue()).objects(Text())) == ["abc"]
    with pytest.raises(ValueError, match="the serializer 'text', which the description names, is not known here"):
        StreamReader(sink.getvalue()).objects()


def test_metadata_goes_with_a_serializer() -> None:
    reader = StreamReader(written(["x"], Text(), metadata={"a": "b"}))
    assert reader.description is not None
    assert (reader.description.serializer, reader.description.metadata) == ("text", {"a": "b"})
    assert list(reader.objects(Text())) == ["x"]


CONTRADICTIONS: list[tuple[Any, Any, str]] = [
    (Description(serializer="msgpack"), "json", "names the serializer 'msgpack', and 'json' is given"),
    (Description(serializer="json"), Text(), "names the serializer 'json', and 'text' is given"),
    (LEVEL1, "json", "says that the messages are FlatBuffers .*, and the serializer 'json' is given"),
]


@in_one_test
@pytest.mark.parametrize(("describe", "serializer", "text"), CONTRADICTIONS)
def test_contradictions_are_refused(describe: Any, serializer: Any, text: str) -> None:
    sink = io.BytesIO()
    with pytest.raises(ValueError, match=text):
        StreamWriter(sink, describe=describe, serializer=serializer)
    assert sink.getvalue() == b""
    with StreamWriter(sink, describe=describe) as writer:
        writer.write_payload(b"null")
    reader = StreamReader(sink.getvalue())
    with pytest.raises(ValueError, match=text):
        reader.objects(serializer)
    # Nothing was taken.
    assert list(reader) == [b"null"]


def test_objects_without_a_serializer_says_what_is_missing() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, describe=LEVEL1):
        pass
    with pytest.raises(ValueError, match=r"the messages are FlatBuffers .*, which records\(\) reads"):
        StreamReader(sink.getvalue()).objects()
    with pytest.raises(ValueError, match=r"does not describe itself: pass the serializer, as in objects\('json'\)"):
        StreamReader(b"").objects()
    sink = io.BytesIO()
    with StreamWriter(sink, metadata={"a": "b"}) as writer:
        writer.write_payload(b"5")
    with pytest.raises(ValueError, match="its description names no serializer"):
        StreamReader(sink.getvalue()).objects()
    assert list(StreamReader(sink.getvalue()).objects("json")) == [5]

"""Objects to payloads and back: JSON by both libraries, MessagePack, and serializers of applications."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import pickle
import sys
import uuid
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatstream import JsonSerializer, MessagePackSerializer, Serializer, ValidationFailedError
from flatstream.serializers import as_serializer, known_serializer
from support.extent import in_one_test
from support.serializers import Text


def standard_json(**options: Any) -> JsonSerializer:
    """The serializer as it is where msgspec is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "msgspec", None)
        patch.setitem(sys.modules, "msgspec.json", None)
        return JsonSerializer(**options)


def both() -> list[JsonSerializer]:
    return [JsonSerializer(), standard_json()]


def test_without_msgspec_the_standard_library_is_used() -> None:
    by_msgspec, by_standard = both()
    assert type(by_msgspec._encode).__name__ == "builtin_function_or_method"
    assert by_msgspec._encode.__self__.__class__ is msgspec.json.Encoder  # type: ignore[attr-defined]
    assert by_standard.dumps(1e16) == b"1e+16"
    assert by_msgspec.dumps(1e16) == b"1e16"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equality that tells -0.0 from 0.0, 1 from 1.0 and True."""
    return repr(one) == repr(other)


@given(values)
def test_both_libraries_write_what_each_reads_as_the_same_object(value: Any) -> None:
    for writer in both():
        payload = writer.dumps(value)
        assert type(payload) is bytes
        assert b"\n" not in payload
        for reader in both():
            assert same(reader.loads(payload), value)
            assert same(reader.loads(memoryview(payload)), value)


def outcome(serializer: JsonSerializer, payload: bytes) -> Any:
    try:
        return repr(serializer.loads(payload))
    except ValidationFailedError as error:
        return f"refused by {error.validator}" if error.reason else error


@in_one_test
@pytest.mark.parametrize(
    "payload",
    [
        b"", b" ", b"nul", b"NaN", b"Infinity", b"-Infinity", b"[1,]", b"{1:2}", b"{'a':1}", b'{"a":1}x', b"01", b"+1",
        b".5", b"5.", b"1e", b"1e400", b"-1e400", b'"\xff"', b'"\xc3"', b'"\n"', b"\xef\xbb\xbf1", b"[" * 100_000,
        b'{"a":' * 100_000, b"\x00", b'"\\x41"', b'"a', b"1\x002", b'"\\ud800\\u0041"'[:9],
        # Taken by both.
        b"-0", b"-0.0", b"1e5", b"1E-5", b" [ 1 , 2 ] ", b'{"a":1,"a":2}', b"123456789012345678901234567890",
        b'"\\ud83d\\ude00"', b'"\\u0000"', b"5e-324", b"1.7976931348623157e308", b"1e-400", b"true", b"null",
    ],
    ids=repr,
)  # fmt: skip
def test_both_libraries_refuse_the_same_payloads_and_read_others_alike(payload: bytes) -> None:
    by_msgspec, by_standard = (outcome(serializer, payload) for serializer in both())
    assert by_msgspec == by_standard


def test_payload_that_is_refused_says_why_and_keeps_the_cause() -> None:
    with pytest.raises(ValidationFailedError, match=r"json refused the payload: .*truncated") as caught:
        JsonSerializer().loads(b"[1")
    assert isinstance(caught.value.__cause__, msgspec.DecodeError)
    with pytest.raises(ValidationFailedError, match="json refused the payload: Expecting value"):
        standard_json().loads(b"[")


def test_differences_of_the_libraries_are_as_they_are_documented() -> None:
    by_msgspec, by_standard = both()
    day = datetime.date(2026, 1, 31)
    for item, written in [
        (math.nan, b"null"),
        (math.inf, b"null"),
        (day, b'"2026-01-31"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (b"\xff", b'"/w=="'),
    ]:
        assert by_msgspec.dumps(item) == written
        with pytest.raises((TypeError, ValueError)):
            by_standard.dumps(item)
    assert by_standard.loads(b'"\\ud800"') == "\ud800"
    with pytest.raises(ValidationFailedError):
        by_msgspec.loads(b'"\\ud800"')


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def coordinates(value: Any) -> Any:
    if isinstance(value, Point):
        return [value.x]
    raise TypeError(f"no form of {type(value).__name__}")


def test_default_gives_what_is_written_instead() -> None:
    for serializer in (JsonSerializer(default=coordinates), standard_json(default=coordinates)):
        assert serializer.dumps({"a": Point(3)}) == b'{"a":[3]}'
        with pytest.raises(TypeError, match="no form of"):
            serializer.dumps({"a": object()})
    assert MessagePackSerializer(default=coordinates).dumps(Point(3)) == b"\x91\x03"
    for cls in (JsonSerializer, MessagePackSerializer):
        with pytest.raises(TypeError, match="default must be callable, got 5"):
            cls(default=5)  # type: ignore[arg-type]


def test_item_without_a_form_is_an_error_of_the_caller() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for serializer in [*both(), MessagePackSerializer()]:
        with pytest.raises(TypeError):
            serializer.dumps(object())
        with pytest.raises((RecursionError, ValueError)):
            serializer.dumps(circle)


@dataclasses.dataclass
class Reading:
    host: str
    load: float = 0.0


@pytest.mark.parametrize("cls", [JsonSerializer, MessagePackSerializer])
def test_type_is_made_and_checked(cls: Any) -> None:
    serializer = cls(Reading)
    assert serializer.type is Reading
    payload = serializer.dumps(Reading("a", 0.5))
    assert serializer.loads(payload) == Reading("a", 0.5)
    assert cls().loads(payload) == {"host": "a", "load": 0.5}
    with pytest.raises(ValidationFailedError, match=r"Expected `str`, got `int` - at `\$.host`"):
        serializer.loads(cls().dumps({"host": 5}))
    with pytest.raises(ValidationFailedError, match="missing required field `host`"):
        serializer.loads(cls().dumps({}))
    with pytest.raises(TypeError):
        cls(Reading | dict)


def test_msgspec_that_is_missing_is_named_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("msgspec", "msgspec.json", "msgspec.msgpack"):
        monkeypatch.setitem(sys.modules, name, None)
    for make in (lambda: JsonSerializer(Reading), MessagePackSerializer, lambda: known_serializer("msgpack")):
        with pytest.raises(ImportError, match=r"msgspec: pip install 'flatstream\[msgpack\]'"):
            make()
    assert known_serializer("json") is not None


# MessagePack

packed = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.integers(-9, 9), inner, max_size=4),
    max_leaves=12,
)


@given(packed)
def test_messagepack_is_what_another_library_reads_and_writes(value: Any) -> None:
    serializer = MessagePackSerializer()
    payload = serializer.dumps(value)
    assert same(msgpack.unpackb(payload, strict_map_key=False), value)
    assert same(serializer.loads(msgpack.packb(value)), value)
    assert same(serializer.loads(memoryview(payload)), value)


@given(packed, st.data())
def test_messagepack_that_is_cut_or_damaged_is_refused_or_read(value: Any, data: st.DataObject) -> None:
    serializer = MessagePackSerializer()
    payload = serializer.dumps([value])
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(ValidationFailedError, match="msgpack refused the payload"):
        serializer.loads(payload[:cut])
    damaged = bytearray(payload)
    damaged[cut] ^= data.draw(st.integers(1, 255))
    # Any other exception fails.
    with contextlib.suppress(ValidationFailedError):
        serializer.loads(bytes(damaged))


# Serializers of applications


def test_known_names_and_instances_are_serializers() -> None:
    assert type(as_serializer("json")) is JsonSerializer
    assert type(as_serializer("msgpack")) is MessagePackSerializer
    text = Text()
    assert as_serializer(text) is text
    assert known_serializer("text") is None
    assert known_serializer(None) is None


def nameless(name: Any) -> Serializer:
    made = Text()
    made.name = name
    return made


@in_one_test
@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("pickle", ValueError, "no serializer is called 'pickle': pass 'json' or 'msgpack', or a Serializer"),
        ("", ValueError, "no serializer is called ''"),
        (JsonSerializer, TypeError, "must be a Serializer or the name of one, got .*an instance is needed"),
        (json, TypeError, "must be a Serializer or the name of one"),
        (5, TypeError, "must be a Serializer or the name of one, got 5"),
        (b"json", TypeError, "must be a Serializer or the name of one"),
        (nameless(""), TypeError, "name of a Serializer must be a str that is not empty, got ''"),
        (nameless(None), TypeError, "name of a Serializer must be a str that is not empty, got None"),
        (Serializer(), TypeError, "name of a Serializer must be a str that is not empty"),
    ],
    ids=str,
)
def test_what_is_no_serializer_is_refused(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        as_serializer(value)


def test_serializer_without_methods_says_which_is_missing() -> None:
    for method in ("dumps", "loads"):
        with pytest.raises(NotImplementedError, match=rf"Serializer has no method {method}\("):
            getattr(Serializer(), method)(b"")


def test_subclass_of_a_known_serializer_is_called() -> None:
    class Upper(JsonSerializer):
        def dumps(self, item: Any) -> bytes:
            return super().dumps(item).upper()

        def loads(self, payload: Any) -> Any:
            return [super().loads(payload)]

    upper = Upper()
    assert upper._dumps("a") == upper.dumps("a") == b'"A"'
    assert upper._loads(b"1") == [1]


@pytest.mark.parametrize("serializer", [JsonSerializer(Reading), MessagePackSerializer(default=coordinates), Text()])
def test_pickled_serializer_works(serializer: Serializer) -> None:
    again = pickle.loads(pickle.dumps(serializer))
    assert repr(again) == repr(serializer)
    item: Any = Reading("a") if isinstance(serializer, JsonSerializer) else "a"
    assert again.loads(serializer.dumps(item)) == item

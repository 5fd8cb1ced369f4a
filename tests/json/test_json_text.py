"""Records as JSON text. flatc 25.12.19 is the judge wherever its text keeps the values."""

from __future__ import annotations

import io
import json
import math
import random
import re
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from flatstream import FlatbufferError, RecordWriter, StreamReader, StreamWriter
from flatstream._core.records.json_numbers import number_text, powers_of_ten
from flatstream.schema import json_lines
from support.columns import stream_of
from support.extent import in_one_test
from support.json_schema import FlatcInFolder, table
from support.messages import chain, doubling, mutant, shape_messages, union_messages
from support.records import encoded, table_of
from support.schemas import root_of, schema_of

# Floats of these have few digits, so that flatc writes them as they are.
TEXTS = [
    '{"truth":true,"i8":-5,"u8":200,"i64":-9223372036854775808,"u64":18446744073709551615,"f32":0.5,"f64":-0.25}',
    '{"color":"Blue","access":"Read Admin","maybe":0,"maybe_truth":false,"maybe_color":"Red"}',
    '{"text":"h\u00e9 \\"quoted\\" \\\\ / \\n\\r\\t\\b\\f 日本語 𝄞","texts":["","a","twelve bytes"]}',
    '{"bytes":[1,2,255],"point":{"x":1.0,"y":2.5},"points":[{"x":0.0,"y":-1.0},{"x":1024.0,"y":0.5}]}',
    '{"grid":{"color":"Red","cells":[1,-2,3],"points":[{"x":1.0,"y":2.0},{"x":3.0,"y":4.0}],"flag":true}}',
    '{"choice_type":"Text","choice":"x","choices_type":["Leaf","Spot","Text"],"choices":[{"n":1},{"x":1.0,"y":2.0},"z"]}',
    '{"choice_type":"Spot","choice":{"x":1.0,"y":2.0}}',
    '{"keyed":[{"id":0},{"id":3,"value":"c"}],"named":[{"name":"a","value":1}],"entries":[{"id":1,"value":2}]}',
    '{"colors":["Red","Blue",1],"accesses":["Read Write",0,"Admin",8,9,255],"truths":[true,false]}',
    '{"leaf":{"n":1,"s":""},"nested":{"n":7,"s":"in"},"inner":{"inner":{"leaf":{}}}}',
    '{"hash32":2,"hash64":3,"i8s":[-128,127],"choices_type":[],"choices":[],"f64s":[],"texts":[]}',
    "{}",
]  # fmt: skip


def all_record(**fields):
    return table().view(encoded(table(), fields))


@in_one_test
@pytest.mark.parametrize("text", TEXTS)
def test_text_is_that_of_flatc(text, tmp_path):
    flatc = FlatcInFolder(tmp_path)
    message = flatc.to_message(text.encode())
    assert message is not None
    record = table().view(message)
    assert json.loads(record.to_json(), object_pairs_hook=list) == json.loads(
        flatc.to_text(message), object_pairs_hook=list
    )
    assert json.loads(record.to_json(defaults=True), object_pairs_hook=list) == json.loads(
        flatc.to_text(message, "--defaults-json"), object_pairs_hook=list
    )
    # What the message was made from, as it was written.
    assert json.loads(record.to_json()) == json.loads(text)


def test_lines_are_indented_as_those_of_flatc(tmp_path):
    flatc = FlatcInFolder(tmp_path)
    for text in TEXTS:
        message = flatc.to_message(text.encode())
        assert message is not None
        # flatc breaks the line in what is empty.
        theirs = re.sub(r"([\[{])\s+([\]}])", r"\1\2", flatc.to_text(message))
        assert table().view(message).to_json(indent=2) == theirs.rstrip("\n")
    assert table().view(message).to_json(indent=0) == "{}"
    assert all_record(leaf={"n": 1}, texts=["a", "b"]).to_json(indent=1) == (
        '{\n "texts": [\n  "a",\n  "b"\n ],\n "leaf": {\n  "n": 1\n }\n}'
    )


def test_names_and_numbers_of_enums():
    record = all_record(color="Blue", access=129, colors=[5, 1], choice=("Leaf", {"n": 1}))
    assert record.to_json(enums="number") == (
        '{"color":5,"access":129,"choice_type":1,"choice":{"n":1},"colors":[5,1]}'
    )
    assert record.to_json() == (
        '{"color":"Blue","access":"Read Admin","choice_type":"Leaf","choice":{"n":1},"colors":["Blue",1]}'
    )


def test_nan_and_infinities():
    record = all_record(f32=math.nan, f64s=[math.inf, -math.inf, math.nan])
    assert record.to_json() == '{"f32":"nan","f64s":["inf","-inf","nan"]}'
    assert record.to_json(nonfinite="null") == '{"f32":null,"f64s":[null,null,null]}'
    assert record.to_json(nonfinite="bare") == '{"f32":nan,"f64s":[inf,-inf,nan]}'


def test_control_characters_are_escaped_and_others_are_not():
    characters = "".join(map(chr, range(0x80))) + "\u0080é\u2028\ud7ff\ue000\uffff𐀀\U0010ffff"
    for text in (characters, *characters, *("x" * count + '"' + "y" * (9 - count) for count in range(10))):
        assert all_record(text=text).to_json() == json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":"))


def test_bytes_that_are_no_nested_message_stay_bytes():
    inner = encoded(table().schema.table("all.Leaf"), {"n": 7})
    assert all_record(nested=inner).to_json() == '{"nested":{"n":7}}'
    for cut in range(len(inner)):
        text = all_record(nested=inner[:cut]).to_json()
        assert json.loads(text)["nested"] in (list(inner[:cut]), {"n": 7}, {})
    assert all_record(nested=b"").to_json() == '{"nested":[]}'


def test_vector_view_and_its_slices():
    record = all_record(texts=["a", "b", "c"], points=[(1, 2), (3, 4)], choices=[("Text", "x"), ("Leaf", {"n": 1})])
    assert record.texts.to_json() == '["a","b","c"]'
    assert record.texts[::-2].to_json() == '["c","a"]'
    assert record.texts[5:].to_json(indent=3) == "[]"
    assert record.points[1:].to_json() == '[{"x":3.0,"y":4.0}]'
    assert record.choices[::-1].to_json() == '[{"n":1},"x"]'
    assert record.point is None
    assert record.points[0].to_json() == '{"x":1.0,"y":2.0}'


def test_wrong_arguments_are_errors():
    record = all_record(texts=["a"])
    for view in (record, record.texts):
        for name, value in (
            ("enums", "names"), ("enums", None), ("nonfinite", "nan"), ("nonfinite", 1), ("indent", -1), ("indent", 17),
        ):  # fmt: skip
            with pytest.raises(ValueError, match="must be"):
                view.to_json(**{name: value})
        with pytest.raises(TypeError, match="indent must be an int or None, got float"):
            view.to_json(indent=1.5)
        with pytest.raises(TypeError):
            view.to_json(2)
    with pytest.raises(TypeError, match="expected records, got int: 1"):
        list(json_lines(cast("Any", [1])))


# Numbers


def float_bits(value: float, code: str) -> int:
    return int.from_bytes(struct.pack(f"<{code}", value), "little")


def hard_doubles(chance: random.Random, count: int) -> list[int]:
    """The bits of doubles: all exponents, neighbours of powers of two and of ten, and random ones."""
    bits = [exponent << 52 | low for exponent in range(2047) for low in (0, 1, (1 << 52) - 1)]
    for power in range(-323, 309):
        near = float_bits(float(f"1e{power}"), "d")
        bits += [near - 1, near, near + 1]
    bits += [float_bits(round(chance.uniform(-1e6, 1e6), chance.randrange(9)), "d") for _ in range(count)]
    return bits + [chance.getrandbits(64) for _ in range(count)]


def test_double_is_written_as_repr_writes_it():
    for bits in hard_doubles(random.Random(1), 5000):
        value = struct.unpack("<d", bits.to_bytes(8, "little"))[0]
        if math.isfinite(value):
            assert number_text("double", bits) == repr(value)


def test_float_has_the_fewest_digits_that_read_back_as_the_same():
    chance = random.Random(2)
    some = [exponent << 23 | low for exponent in range(255) for low in (0, 1, (1 << 23) - 1)]
    for bits in [*some, *(chance.getrandbits(32) for _ in range(2000))]:
        value = np.uint32(bits).view(np.float32)
        if np.isfinite(value):
            text = number_text("float", bits)
            assert Decimal(text) == Decimal(np.format_float_scientific(value, unique=True, trim="-"))
            assert np.float32(text).tobytes() == value.tobytes()


def test_powers_of_ten_are_rounded_up_to_128_bits():
    for power, bits in enumerate(powers_of_ten(), -292):
        assert bits.bit_length() == 128
        exact = Fraction(10) ** power
        while not exact >= (1 << 127):
            exact *= 1 << 16
        while not exact < 1 << 128:
            exact /= 2
        assert bits - 1 < exact <= bits


# Messages that are not what they should be


def test_deepest_message_is_written_and_limits_hold():
    deep = table_of("Tree").view(chain(1000), verify=False)
    assert deep.to_json() == 999 * '{"left":' + "{}" + 999 * "}"
    with pytest.raises(FlatbufferError, match=r"^tree(\.left){1000}: tables are nested deeper than the limit of 1000$"):
        table_of("Tree").view(chain(1001), verify=False).to_json()
    with pytest.raises(FlatbufferError, match=r"^tree(\.left){10}: tables are nested deeper than the limit of 10$"):
        deep.to_json(max_depth=10)
    many = table_of("Tree").view(doubling(60), verify=False)
    with pytest.raises(FlatbufferError, match=r"there are more tables than the limit of 1000$"):
        many.to_json(max_tables=1000)
    with pytest.raises(FlatbufferError, match="more than the limit of 5 bytes"):
        all_record(text="twelve bytes").to_json(max_apparent_size=5)


def told_by(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except FlatbufferError as error:
        return error


def test_damaged_message_is_the_error_that_to_dict_gives():
    chance = random.Random(3)
    mutants = [
        (cast("Any", schema_of(name).root), mutant(chance, whole))
        for name, whole in (("shapes", shape_messages()), ("unions", union_messages()))
        for _ in range(1500)
    ]
    limits = {"max_tables": 10_000, "max_apparent_size": 1 << 22}
    count = errors = same = 0
    for root, message in mutants:
        record = told_by(root.view, message, verify=False)
        if isinstance(record, FlatbufferError):
            continue
        as_dict = told_by(record.to_dict, **limits)
        text = told_by(record.to_json, **limits)
        count += 1
        if isinstance(text, FlatbufferError):
            assert isinstance(as_dict, FlatbufferError)
            errors += 1
            # Of several faults, the first that JSON meets may be another one.
            same += str(text) == str(as_dict)
        else:
            json.loads(text)
    assert errors > 300
    assert count - errors > 300
    assert same > 0.9 * errors


# Streams


def test_lines_of_a_stream():
    messages = [encoded(table(), {"i64": number, "text": "x" * (number % 50)}) for number in range(5000)]
    stream = stream_of(messages, "crc32")
    expected = b"".join(table().view(message).to_json().encode() + b"\n" for message in messages)
    lines = table().json_lines(StreamReader(stream, "crc32"))
    chunks = list(lines)
    assert b"".join(chunks) == expected
    assert len(chunks) > 3
    assert lines.lines == len(messages)
    assert list(table().json_lines(cast("Any", StreamReader(b"")))) == []
    one_each = list(table().json_lines(StreamReader(stream, "crc32"), chunk_size=1, limit=3, where=("i64", ">", 7)))
    assert one_each == expected.splitlines(keepends=True)[8:11]


def test_error_comes_behind_the_lines_before_it():
    messages = [encoded(table(), {"i64": number}) for number in range(1, 6)]
    stream = bytearray(stream_of(messages, "crc32"))
    stream[len(stream) // 2] ^= 1
    lines = table().json_lines(StreamReader(stream, "crc32"))
    assert next(lines) == b'{"i64":1}\n{"i64":2}\n'
    with pytest.raises(ValueError, match=r"checksum mismatch.*\(frame 2"):
        next(lines)
    assert list(lines) == [b'{"i64":4}\n{"i64":5}\n']
    assert lines.lines == 4
    assert b"".join(table().json_lines(StreamReader(stream, "crc32"), on_error="skip")).count(b"\n") == 4


def test_lines_of_records_of_several_tables():
    leaf = table().schema.table("all.Leaf")
    records = [all_record(i8=1), leaf.view(encoded(leaf, {"n": 2})), all_record(points=[(1, 2)]).points[0]]
    assert b"".join(json_lines(iter(records))) == b'{"i8":1}\n{"n":2}\n{"x":1.0,"y":2.0}\n'
    # Of an iterable that fails, the lines before come first, too.
    lines = json_lines(cast("Any", [records[0], 1]))
    assert next(lines) == b'{"i8":1}\n'
    with pytest.raises(TypeError):
        next(lines)
    with pytest.raises(TypeError, match=r"use table\.json_lines"):
        json_lines(cast("Any", StreamReader(b"")))
    for wrong in (0, -1, 1 << 31):
        with pytest.raises(ValueError, match="chunk_size must be 1 to"):
            json_lines([], chunk_size=wrong)
    with pytest.raises(TypeError, match="chunk_size must be an int"):
        json_lines([], chunk_size=cast("Any", "1"))


def test_files_that_take_a_part_of_the_lines_get_the_rest_too():
    class Slow(io.RawIOBase):
        def __init__(self, *sizes):
            self.sizes, self.data = list(sizes), b""

        def write(self, data):
            size = self.sizes.pop(0) if self.sizes else len(data)
            self.data += bytes(data[:size])
            return size

    leaf = root_of("table Leaf { n: int; } root_type Leaf;")
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        for number in range(5):
            RecordWriter(writer, leaf).write(n=number + 1)
    slow = Slow(1, 2, 7)
    assert StreamReader(sink.getvalue()).write_json_lines(slow, leaf) == 5
    assert slow.data == b"".join(b'{"n":%d}\n' % (number + 1) for number in range(5))
    with pytest.raises(OSError, match=r"took 0 of \d+ bytes"):
        StreamReader(sink.getvalue()).write_json_lines(Slow(3, 0), leaf)
    blocked = Slow()
    blocked.write = lambda data: None  # type: ignore[method-assign]
    with pytest.raises(BlockingIOError):
        StreamReader(sink.getvalue()).write_json_lines(blocked, leaf)

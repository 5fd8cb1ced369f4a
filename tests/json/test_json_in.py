"""Messages from JSON text. flatc 25.12.19 is the judge of what is accepted, and of what it means."""

from __future__ import annotations

import io
import json
import math
import random
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from flatstream import Builder, FlatbufferError, JsonError, RecordWriter, StreamReader, StreamWriter
from flatstream.schema import Schema
from support.extent import in_one_test
from support.json_schema import FlatcInFolder, schema, table
from support.json_texts import ACCEPTED, OURS_ONLY, REFUSED, THEIRS_ONLY
from support.processes import survives
from support.records import encoded, table_of
from support.schemas import EXAMPLES


def read(text, **options):
    return table().view(table().from_json(text, **options))


def refusal(text) -> str:
    with pytest.raises(JsonError) as caught:
        table().from_json(text)
    return str(caught.value)


def test_texts_that_flatc_accepts_make_the_same_record(tmp_path):
    flatc = FlatcInFolder(tmp_path)
    for text in ACCEPTED:
        message = flatc.to_message(text.encode())
        assert message is not None, text
        assert table().view(message) == read(text) == read(text.encode()), text
    for text in THEIRS_ONLY:
        assert flatc.to_message(text.encode()) is not None, text
        assert refusal(text)


def test_texts_that_flatc_refuses_are_errors(tmp_path):
    flatc = FlatcInFolder(tmp_path)
    for text in REFUSED:
        data = text if isinstance(text, bytes) else text.encode()
        assert flatc.to_message(data) is None, text
        assert refusal(text)
    for text, meaning in OURS_ONLY.items():
        assert flatc.to_message(text.encode()) is None, text
        assert read(text).to_json() == meaning


def test_message_is_sound_whatever_the_text():
    for text in (*ACCEPTED, *OURS_ONLY):
        assert table().types.verify(table().number, table().from_json(text)) is None
        for options in ({"force_defaults": True}, {"file_identifier": True}):
            message = table().from_json(text, **options)
            assert table().types.verify(table().number, message) is None
            assert table().view(message) == read(text) or "force_defaults" in options
    assert table().from_json("{}", file_identifier=True)[4:8] == b"ALLJ"
    assert read('{"i8":0}', force_defaults=True).to_json() == '{"i8":0}'


@in_one_test
@pytest.mark.parametrize(
    ("text", "path", "line", "column", "reason"),
    [
        ("", "", 1, 1, "expected an object, got the end of the text"),
        ("[]", "", 1, 1, "expected an object, got '[]'"),
        ('{"i8":1} x', "", 1, 10, "expected the end of the text, got 'x'"),
        ('{"nope": 1}', "", 1, 2, "all.All has no such field"),
        ('{\n  "inner": {"i8": 300}}', "inner.i8", 2, 19, "expected a byte, -128 to 127, got '300'"),
        ('{"inner":{"leaf":{"n":1,"n":2}}}', "inner.leaf.n", 1, 25, "the field is there twice"),
        ('{"ü":1', "", 1, 2, "all.All has no such field"),
        ('{"text":"日本\n"}', "text", 1, 12, "expected no control character in a string"),
        ('{"color":"Bleu"}', "color", 1, 10, "expected an enumerator of all.Color (Red, Green, Blue), got 'Bleu'"),
        ('{"choices_type":["Leaf"],"choices":[{},{}]}', "choices[1]", 1, 40, "more unions are there than types, 1"),
        ('{"points":[{"x":1,"y":2},{"x":1}]}', "points[1]", 1, 33, "and all.Point has no value for y"),
        ('{"grid":{"cells":[1,2]}}', "grid.cells", 1, 23, "2 elements are there, and the array has 3"),
        ('{"grid":{"cells":[1,2,3,4]}}', "grid.cells", 1, 25, "expected 3 elements, got '4'"),
        ('{"texts":["a" "b"]}', "texts[0]", 1, 15, "expected ',' or ']' behind an element, got '\"b\"]}'"),
        ('{"choice":{"n":1}}', "choice", 1, 11, "the union has no type"),
        ('{"choice_type":"Leaf"}', "choice", 1, 23, "the type of the union is there, but its value is missing"),
        ('{"nested":{"n":"x"}}', "nested.n", 1, 16, "expected an int, got '\"x\"}}'"),
        ("/* no end", "", 1, 1, "a comment has no end"),
        ('{"text":"no end', "text", 1, 9, "a string has no end"),
        (b'{"text":"\xff"}', "", 1, 10, "the text is not UTF-8"),
    ],
)
def test_error_says_where(text, path, line, column, reason):
    with pytest.raises(JsonError) as caught:
        table().from_json(text)
    error = caught.value
    assert (error.path, error.line, error.column) == (path, line, column), str(error)
    assert reason in str(error)
    assert str(error).endswith(f" (line {line}, column {column})")


def test_required_field_must_be_there():
    needs = schema().table("all.Needs")
    for text in ("{}", '{"may":1}', '{"must":null}'):
        with pytest.raises(JsonError, match=r"^must: a required field is missing"):
            needs.from_json(text)
    assert needs.view(needs.from_json('{"must":""}')).must == ""


def test_unknown_fields_are_left_out_if_wanted():
    text = (
        '{"a":[1,{"b":"]}\\"","c":{}}],\'x\\n\':nan,"i8":1,"inner":{"no":-1.5e3,"leaf":{"n":2,"z":[]}},'
        '"point":{"x":1,"q":0,"y":2}}'
    )
    assert read(text, unknown="skip").to_json() == '{"i8":1,"point":{"x":1.0,"y":2.0},"inner":{"leaf":{"n":2}}}'
    assert refusal(text).startswith("all.All has no such field")
    deep = '{"a":' + 1000 * "[" + 1000 * "]" + ',"i8":2}'
    assert read(deep, unknown="skip").i8 == 2
    with pytest.raises(JsonError, match="nested deeper than 1000 levels"):
        read('{"a":' + 1001 * "[" + 1001 * "]" + "}", unknown="skip")
    with pytest.raises(ValueError, match="unknown must be 'raise' or 'skip'"):
        read("{}", unknown="ignore")


def test_depth_is_that_of_records(tmp_path):
    flatc = FlatcInFolder(tmp_path)
    deepest = 63 * '{"inner":' + "{}" + 63 * "}"
    assert flatc.to_message(deepest.encode()) is not None
    assert read(deepest).to_json() == deepest
    deeper = 64 * '{"inner":' + "{}" + 64 * "}"
    assert flatc.to_message(deeper.encode()) is None
    assert "tables are nested deeper than 64" in refusal(deeper)


def test_vectors_with_a_key_are_sorted_as_flatc_sorts_them(tmp_path):
    chance = random.Random(4)
    numbers = chance.sample(range(-500, 500), 50)
    text = json.dumps(
        {
            "keyed": [{"id": number, "value": str(number)} for number in numbers],
            "named": [{"name": f"né{number}", "value": number} for number in numbers],
            "entries": [{"id": number, "value": 1} for number in numbers],
        }
    )
    message = FlatcInFolder(tmp_path).to_message(text.encode())
    assert message is not None
    assert table().view(message) == read(text)
    assert [entry.id for entry in read(text).entries] == sorted(numbers)


def test_hashes_are_those_of_flatc(tmp_path):
    flatc = FlatcInFolder(tmp_path)
    for name in ("hash32", "hash32a", "hash64", "hash64s"):
        for word in ("", "a", "hello", "5", "grüße"):
            text = json.dumps({name: word}, ensure_ascii=False)
            message = flatc.to_message(text.encode())
            assert message is not None
            assert table().view(message) == read(text), text


def test_floats_are_rounded_once():
    chance = random.Random(5)
    for _ in range(2000):
        bits = chance.getrandbits(64)
        value = struct.unpack("<d", struct.pack("<Q", bits))[0]
        for text in (repr(value), f"{value:.25g}", f"{chance.uniform(-10, 10):.{chance.randrange(1, 30)}f}"):
            if math.isfinite(float(text)):
                found = read(f'{{"f64":{text},"maybe":1}}').f64
                assert struct.pack("<d", found) == struct.pack("<d", float(text)), text
    for _ in range(2000):
        # In the middle between two floats, and a little beside it.
        low = np.float32(chance.uniform(-1e3, 1e3))
        middle = (Fraction(float(low)) + Fraction(float(np.nextafter(low, np.float32(1e4))))) / 2
        digits = f"{float(middle):.60f}"
        for text, near in ((digits, middle), (digits + "1", middle + Fraction(1, 10**61)), (digits[:-1] + "1", None)):
            found = Fraction(float(read(f'{{"f32":{text}}}').f32))
            exact = Fraction(text)
            others = [Fraction(float(low)), 2 * middle - Fraction(float(low))]
            assert abs(found - exact) == min(abs(other - exact) for other in others), (text, near)


def test_texts_in_the_middle_of_two_floats_may_be_long_and_hexadecimal():
    middle = "1.000000059604644775390625"
    zeros = "0" * 5000
    for text, expected in (
        (middle + zeros, 1),
        (middle + zeros + "1", 1 + 2**-23),
        (f"-{zeros}{middle}{zeros}1", -1 - 2**-23),
        ("0x1.000001p0", 1),
        (f'"-0x1.000001{zeros}1p0"', -1 - 2**-23),
        ("0x1000003p-24", 1 + 2**-22),
        (f"0x1.000002ffffffffffffffff{zeros}p0", 1 + 2**-23),
    ):
        assert read(f'{{"f32":{text}}}').f32 == expected, text[:40]


def test_lines_are_text():
    with (
        StreamWriter(io.BytesIO()) as writer,
        pytest.raises(TypeError, match="a line must be str or bytes-like") as found,
    ):
        RecordWriter(writer, table()).write_json_lines(["{}", bytearray(b"{}"), {}])
    assert vars(found.value)["rows_written"] == 2


def test_text_of_records_reads_back_to_the_same_records():
    fields = {
        "f32": math.nan, "f64": -0.0, "i64": -(2**63), "u64": 2**64 - 1, "text": "\0\x1f\x7f\"\\/é𝄞", "access": 9,
        "color": 100, "f64s": [5e-324, 1.7976931348623157e308, math.inf, 0.1], "maybe": 0, "maybe_truth": False,
        "choices": [("Leaf", {}), ("Spot", (1, 2)), ("Text", "")], "bytes": bytes(range(256)), "truths": [True, False],
        "nested": encoded(schema().table("all.Leaf"), {"n": 7}), "grid": ("Red", [1, 2, 3], [(1, 2), (3, 4)], True),
    }  # fmt: skip
    record = table().view(encoded(table(), fields))
    for options in ({}, {"enums": "number"}, {"defaults": True, "indent": 1}, {"nonfinite": "bare"}):
        again = read(record.to_json(**options))
        assert again == record, options


def test_builder_keeps_what_it_has_after_an_error():
    builder = Builder(64)
    with pytest.raises(JsonError):
        table().encode_json(builder, '{"text":"abc","inner":{"texts":["a",1]}}')
    assert builder.Offset() == 0
    offset = table().encode_json(builder, '{"text":"abc"}')
    assert bytes(builder.Bytes[offset:]) == table().from_json('{"text":"abc"}')
    with pytest.raises(FlatbufferError, match="holds a finished message"):
        table().encode_json(builder, "{}")
    builder.Clear()
    builder.StartObject(1)
    with pytest.raises(FlatbufferError, match="in the middle of a table"):
        table().encode_json(builder, "{}")
    with pytest.raises(TypeError, match=r"builder must be a flatstream\.Builder"):
        table().encode_json(None, "{}")


def test_wrong_texts_and_options_are_errors():
    class Text(str):
        __slots__ = ()

    assert read(Text('{"i8":1}')).i8 == 1
    assert read(bytearray(b'{"i8":1}')).i8 == read(memoryview(b'x{"i8":1}')[1:]).i8 == 1
    wrong: Any
    for wrong in (None, 1, ["{}"], {}):
        with pytest.raises(TypeError):
            table().from_json(wrong)
    with pytest.raises(JsonError, match="lone surrogate at index 9"):
        table().from_json('{"text":"\ud800"}')
    with pytest.raises(ValueError, match="'ALLJ' is that of the schema's root table"):
        schema().table("all.Leaf").from_json("{}", file_identifier=True)
    with pytest.raises(ValueError, match="has no file identifier"):
        table_of("Empty", Schema.from_fbs(text="namespace shapes; table Empty {} root_type Empty;")).from_json(
            "{}", file_identifier=True
        )


def test_mutated_texts_give_a_sound_message_or_an_error():
    chance = random.Random(6)
    alphabet = b"{}[]:,\"'\\/*- +.0123456789eEnulltrfasxX\x00\n\xc3\xa9"
    whole = [text.encode() for text in ACCEPTED]
    read_back = refused = 0
    for _ in range(10_000):
        text = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(1, 3)):
            place = chance.randrange(len(text) + 1)
            kind = chance.randrange(4)
            if kind == 0:
                text[place:place] = bytes([chance.choice(alphabet)])
            elif kind == 1:
                del text[place : place + chance.randrange(1, 4)]
            elif kind == 2:
                del text[place:]
            else:
                other = chance.choice(whole)
                text[place:place] = other[chance.randrange(len(other)) :][: chance.randrange(1, 20)]
        try:
            message = table().from_json(text, unknown=chance.choice(["raise", "skip"]))
        except JsonError:
            refused += 1
        else:
            assert table().types.verify(table().number, message) is None
            read_back += 1
    assert min(read_back, refused) > 500, (read_back, refused)


# Lines


def test_lines_become_a_stream():
    events = Schema.from_file(EXAMPLES / "telemetry.bfbs").root
    assert events is not None
    records = [{"sequence": number, "host": f"hé{number}\u2028", "load_1": number / 8} for number in range(100)]
    lines = "\n\n".join(json.dumps(record, ensure_ascii=number % 2 == 0) for number, record in enumerate(records))
    for source in (
        lines, lines.encode(), bytearray(lines.encode()), io.StringIO(lines), io.BytesIO(lines.encode() + b"\n"),
        lines.split("\n"), (memoryview(line.encode()) for line in lines.split("\n") if line),
    ):  # fmt: skip
        sink = io.BytesIO()
        with StreamWriter(sink, "crc32") as writer:
            assert RecordWriter(writer, events, file_identifier=True).write_json_lines(source) == 100
        read_back = list(StreamReader(sink.getvalue(), "crc32").records(events))
        assert [record.sequence for record in read_back] == list(range(100))
        assert read_back[99].host == "hé99\u2028"
        out = io.BytesIO()
        assert StreamReader(sink.getvalue(), "crc32").write_json_lines(out, events) == 100
        assert [json.loads(line) for line in out.getvalue().splitlines()][1:] == records[1:]


def test_wrong_line_is_an_error_with_its_number():
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        records = RecordWriter(writer, table())
        with pytest.raises(JsonError) as caught:
            records.write_json_lines('{"i8":1}\n\n{"i8":2}\n{"i8":\n')
        error: Any = caught.value
        assert (error.line, error.column, error.path) == (4, 7, "i8")
        assert error.rows_written == 2
        with pytest.raises(TypeError, match="source must be text, a file or an iterable of lines, got int"):
            records.write_json_lines(1)
        assert records.write_json_lines('{"x":1}\n{"i8":3}', unknown="skip") == 2
    assert [record.i8 for record in StreamReader(sink.getvalue()).records(table())] == [1, 2, 0, 3]
    with pytest.raises(TypeError, match="file must have a method write"):
        StreamReader(b"").write_json_lines("out.jsonl", table())
    with pytest.raises(TypeError, match="table must be a Table"):
        StreamReader(b"").write_json_lines(io.BytesIO(), 1)
    with pytest.raises(TypeError, match="the stream has no description"):
        StreamReader(b"").write_json_lines(io.BytesIO())


def test_table_of_a_described_stream_is_known():
    sink = io.BytesIO()
    with StreamWriter(sink, describe=table()) as writer:
        RecordWriter(writer, table()).write_json_lines('{"i8":1}')
    out = io.BytesIO()
    assert StreamReader(sink.getvalue()).write_json_lines(out) == 1
    assert out.getvalue() == b'{"i8":1}\n'


# Objects that were not made as they should be


def test_half_made_objects_are_errors_and_no_crash():
    code = """
from flatstream._core.flatbuf.layout import Layout
from flatstream._core.records.json_lines import JsonLines, json_lines
from flatstream._core.records.json_reader import JsonReader
from flatstream._core.records.json_types import JsonTypes
table = Schema.from_file(SCHEMA).root
attempt(next, JsonLines.__new__(JsonLines))
attempt(JsonLines)
attempt(JsonReader.__new__(JsonReader)._encode_json, Builder(8), "{}")
attempt(JsonReader, Layout.__new__(Layout), 0)
attempt(JsonReader, None, 0)
attempt(JsonTypes, Layout.__new__(Layout))
attempt(JsonTypes, None)
reader = JsonReader(table.layout, table.number)
attempt(reader.__init__, table.layout, table.number)
attempt(JsonTypes(table.layout).__init__, table.layout)
attempt(RecordView.to_json, RecordView.__new__(RecordView))
attempt(VectorView.to_json, VectorView.__new__(VectorView))
attempt(list, json_lines([RecordView.__new__(RecordView)]))
for number in (-1, 10**9, None, "1"):
    attempt(JsonReader, table.layout, number)
print(reader._encode_json(Builder(8), "{}") >= 0)
"""
    path = str((EXAMPLES / "telemetry.bfbs").resolve())
    lines = survives("from flatstream.schema import VectorView\n" + code.replace("SCHEMA", repr(path)))
    assert lines[-1] == "True"
    assert len(lines) == 17
    assert not [line for line in lines if line.startswith("no error")], lines

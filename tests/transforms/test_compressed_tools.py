"""The tools and the command line on compressed streams that describe themselves."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    ChecksumDeframer,
    ChecksumFramer,
    Crc32,
    DefaultFramer,
    Lz4Compressor,
    RecordWriter,
    Schema,
    StreamReader,
    ZstdCompressor,
    salvage,
)
from flatstream.description import Description, Transform
from flatstream.tools import convert, info, merge, sample, split, verify
from reference import framing
from support.cli import call_flatstream
from support.compression import Deflate, dictionary, event
from support.extent import in_one_test

# For arguments that type checkers refuse.
any_convert: Any = convert
EVENT = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Event")
COUNT = 60


def framer_of(name: str) -> Any:
    compressors: dict[str, Any] = {
        "zstd": lambda: ZstdCompressor(5),
        "zstd dictionary": lambda: ZstdCompressor(5, dictionary()),
        "lz4": lambda: Lz4Compressor(),
    }
    return ChecksumFramer(Crc32()) if name == "plain" else ChecksumFramer(Crc32()).compressed(compressors[name]())


def write(path: Path, name: str, first: int = 0, step: int = 1) -> list[bytes]:
    """Writes events whose numbers, and times in seconds, are `first` and each `step`-th behind it."""
    with flatstream.open(path, "w", framer=framer_of(name), describe=EVENT) as writer:
        records = RecordWriter(writer, EVENT)
        for number in range(first, first + COUNT * step, step):
            records.write(sequence=number, wall_time_ns=(1_700_000_000 + number) * 10**9, host=f"host-{number % 3}" * 9)
    return read(path)


def read(path: Any) -> list[bytes]:
    with flatstream.open(path) as reader:
        return [bytes(payload) for payload in reader]


def transforms_of(path: Path) -> tuple[Transform, ...]:
    with flatstream.open(path) as reader:
        assert reader.description is not None
        return reader.description.transforms


every_name = pytest.mark.parametrize("name", ["zstd", "zstd dictionary", "lz4"])


@in_one_test
@every_name
def test_info_and_verify_look_at_the_messages(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.fs"
    messages = write(path, name)
    for check in (None, False, True):
        found = info(path, check=check)
        assert (found.kind, found.state, found.frames, found.checked) == ("stream", "intact", COUNT, "payloads")
        assert (found.payload_bytes, found.largest) == (sum(map(len, messages)), max(map(len, messages)))
        assert found.identifiers == {"TELE": COUNT} or found.identifiers == {"": COUNT}
        assert (found.first_time, found.last_time) == (1_700_000_000 * 10**9, (1_700_000_000 + COUNT - 1) * 10**9)
        assert found.unreadable is None
    described = found.to_dict()["description"]["transforms"]
    assert [one["parameters"]["method"] for one in described] == [name.partition(" ")[0]]
    assert described[0]["data_bytes"] == (len(dictionary()) if "dictionary" in name else 0)
    report = verify(path)
    assert (report.state, report.frames, report.tables) == ("intact", COUNT, ("telemetry.Event",))


def test_verify_tells_frames_whose_payload_cannot_be_decompressed_and_those_that_are_no_messages(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.fs"
    messages = write(path, "zstd")
    with StreamReader(path.read_bytes(), ChecksumDeframer(Crc32())) as reader:
        description = reader.description
        assert description is not None
        stored = [bytes(payload) for payload in reader]
    stored[7] = stored[7][:-1]
    stored[20] = b"\0no FlatBuffer at all"
    data = framing.encode([description.to_bytes(), *stored], "crc32")
    offsets = [frame.offset for frame in framing.decode(data, "crc32").outcomes[1:]]
    path.write_bytes(data)
    report = verify(path)
    assert (report.state, report.frames) == ("damaged", COUNT - 2)
    assert [(one.begin, one.end, one.kind) for one in report.damage] == [
        (offsets[7], offsets[8], "payload"),
        (offsets[20], offsets[21], "payload"),
    ]
    # As a pipe, where nothing can be read twice.
    found = call_flatstream("verify", "-", input=data)
    assert f"offset {offsets[7]:,}" in found.output + found.errors or str(offsets[7]) in found.output
    assert messages[0] in read_skipping(path)


def read_skipping(path: Path) -> list[bytes]:
    with flatstream.open(path, on_error="skip") as reader:
        return [bytes(payload) for payload in reader]


@in_one_test
@every_name
def test_new_files_of_the_tools_are_compressed_as_their_source(tmp_path: Path, name: str) -> None:
    path, other = tmp_path / "a.fs", tmp_path / "b.fs"
    messages, others = write(path, name), write(other, name, first=1000)
    expected = transforms_of(path)
    assert len(expected) == 1
    assert sample(path, tmp_path / "sample.fs", every=7).frames == 9
    assert read(tmp_path / "sample.fs") == messages[::7]
    assert sample(path, tmp_path / "all.fs", every=1).frames == COUNT
    assert (tmp_path / "all.fs").read_bytes() == path.read_bytes()
    report = split(path, tmp_path / "count-{number}.fs", count=25)
    assert [file.frames for file in report.files] == [25, 25, 10]
    assert [each for file in report.files for each in read(file.path)] == messages
    report = split(path, tmp_path / "time-{time}.fs", every=timedelta(seconds=20))
    assert [each for file in report.files for each in read(file.path)] == messages
    size = 2000 + len(EVENT.schema.to_bytes()) + 4096
    report = split(path, tmp_path / "size-{number}.fs", size=size)
    assert [each for file in report.files for each in read(file.path)] == messages
    assert all(file.size <= size for file in report.files)
    for time in (None, False):
        out = tmp_path / f"merged-{time}.fs"
        merged = merge([other, path], out, time=time)
        assert merged.frames == 2 * COUNT
        assert read(out) == (messages + others if time is None else others + messages)
        assert transforms_of(out) == expected
    for made in ("sample.fs", "count-0.fs", "size-0.fs"):
        assert transforms_of(tmp_path / made) == expected


def test_merge_of_alternating_messages_keeps_their_order(tmp_path: Path) -> None:
    even, odd = write(tmp_path / "even.fs", "zstd", 0, 2), write(tmp_path / "odd.fs", "zstd", 1, 2)
    merge([tmp_path / "even.fs", tmp_path / "odd.fs"], tmp_path / "both.fs")
    assert read(tmp_path / "both.fs") == [each for pair in zip(even, odd, strict=True) for each in pair]


def test_merge_of_sources_that_differ_is_not_compressed(tmp_path: Path) -> None:
    for name in ("zstd", "lz4", "plain"):
        write(tmp_path / f"{name}.fs", name)
    merged = merge([tmp_path / f"{name}.fs" for name in ("zstd", "lz4", "plain")], tmp_path / "all.fs", time=False)
    assert merged.frames == 3 * COUNT
    assert transforms_of(tmp_path / "all.fs") == ()
    assert read(tmp_path / "all.fs") == read(tmp_path / "plain.fs") * 3


def test_reader_that_gives_what_is_stored_is_no_source(tmp_path: Path) -> None:
    write(tmp_path / "a.fs", "zstd")
    plain = ChecksumDeframer(Crc32())
    with (
        flatstream.open(tmp_path / "a.fs", deframer=plain) as reader,
        pytest.raises(ValueError, match="does not undo what its description says"),
    ):
        sample(reader, tmp_path / "b.fs", every=2)
    with flatstream.open(tmp_path / "a.fs") as reader:
        sample(reader, tmp_path / "b.fs", every=2)
    assert read(tmp_path / "b.fs") == read(tmp_path / "a.fs")[::2]


def test_encrypted_sources_do_not_become_plain_files(tmp_path: Path) -> None:
    encrypted = Description(
        checksum="crc32", transforms=[Transform("encryption", (("key_id", "k1"), ("version", "1")))]
    )
    path = tmp_path / "a.fs"
    path.write_bytes(framing.encode([encrypted.to_bytes(), b"secret", b"secret"], "crc32"))
    for tool in (
        lambda: sample(path, tmp_path / "b.fs", every=2),
        lambda: convert(path, tmp_path / "b.fs"),
    ):
        with pytest.raises(flatstream.InvalidFrameError, match=r"encrypted .*'k1'"):
            tool()
    report = verify(path)
    assert (report.frames, report.state) == (2, "intact")
    assert report.unreadable is not None
    found = info(path)
    assert (found.frames, found.state, found.payload_bytes) == (2, "intact", 12)
    assert found.unreadable is not None
    assert "'k1'" in found.unreadable
    assert not (tmp_path / "b.fs").exists()
    shown = call_flatstream("info", str(path))
    assert "messages       cannot be read" in shown.output or "cannot be read" in shown.output
    unreadable = json.loads(call_flatstream("info", "--json", str(path)).output)["unreadable"]
    assert unreadable.partition(":")[0] == found.unreadable.partition(":")[0]
    assert call_flatstream("cat", str(path)).status == 4


def test_info_of_a_compressor_of_an_application_says_what_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    with flatstream.open(path, "w", framer=DefaultFramer().compressed(Deflate()), describe=True) as writer:
        writer.write_payloads([event(number) for number in range(5)])
    found = info(path)
    assert (found.kind, found.frames, found.state) == ("stream", 5, "intact")
    assert found.unreadable is not None
    assert "'deflate', which is not built in" in found.unreadable


# Salvage and resync


@in_one_test
@every_name
def test_salvage_copies_intact_frames_as_they_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.fs"
    messages = write(path, name)
    data = bytearray(path.read_bytes())
    frames = framing.decode(bytes(data), "crc32").outcomes
    hit = frames[10]
    data[hit.offset + hit.size - 2] ^= 0x10
    path.write_bytes(bytes(data))
    report = salvage(path, tmp_path / "new.fs", "crc32")
    # The description is a frame too.
    assert report.frames == COUNT
    assert report.lost_ranges == ((hit.offset, hit.offset + hit.size),)
    assert read(tmp_path / "new.fs") == messages[:9] + messages[10:]
    assert transforms_of(tmp_path / "new.fs") == transforms_of_bytes(bytes(data))
    with flatstream.open(path, on_error="resync") as reader:
        assert [bytes(payload) for payload in reader] == messages[:9] + messages[10:]
        assert reader.lost_ranges == [(hit.offset, hit.offset + hit.size)]


def transforms_of_bytes(data: bytes) -> tuple[Transform, ...]:
    with StreamReader(data, "crc32") as reader:
        assert reader.description is not None
        return reader.description.transforms


def test_search_without_a_checksum_finds_compressed_frames_behind_damage() -> None:
    for compressor in (ZstdCompressor(), Lz4Compressor()):
        stored = [bytes([compressor.number]) + bytes(compressor.compress(event(number) * 3)) for number in range(40)]
        data = framing.encode(stored, "none")
        begin = len(framing.encode(stored[:5], "none"))
        broken = data[:begin] + b"\xee" * 7 + data[begin + 7 :]
        with StreamReader(broken, flatstream.DefaultDeframer().compressed(), on_error="resync") as reader:
            found = [bytes(payload) for payload in reader]
        expected = [event(number) * 3 for number in range(40)]
        assert found == expected[:5] + expected[6:]


# convert


def test_convert_keeps_changes_and_takes_off_compression(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    messages = write(path, "zstd dictionary")
    for number, (compressor, method) in enumerate(
        [(None, "zstd"), ("zstd:1", "zstd"), ("lz4", "lz4"), ("lz4:9", "lz4"), (Lz4Compressor(), "lz4"), ("none", None)]
    ):
        out = tmp_path / f"{number}.fs"
        convert(path, out, compressor=compressor)
        assert read(out) == messages
        assert [dict(one.parameters)["method"] for one in transforms_of(out)] == ([method] if method else [])
    assert transforms_of(tmp_path / "0.fs") == transforms_of(path)
    convert(path, tmp_path / "bare.fs", describe=False)
    with flatstream.open(tmp_path / "bare.fs") as reader:
        assert reader.description is None
        assert [bytes(payload) for payload in reader] == messages
    # Columns and back.
    convert(path, tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "back.fs", compressor="zstd")
    with flatstream.open(tmp_path / "back.fs") as reader:
        assert [record.sequence for record in reader.records()] == list(range(COUNT))
        assert "zstd" in repr(reader.description)


def test_convert_trains_a_dictionary_from_the_first_messages(tmp_path: Path) -> None:
    path, out, plain = tmp_path / "a.fs", tmp_path / "b.fs", tmp_path / "c.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        writer.write_payloads([event(number) for number in range(3000)])
    convert(path, out, checksum="crc32", compressor="zstd:6:dict")
    convert(path, plain, checksum="crc32", compressor="zstd:6")
    (transform,) = transforms_of(out)
    assert dict(transform.parameters) == {"level": "6", "method": "zstd"}
    assert 256 <= len(transform.data) <= 4096
    assert out.stat().st_size < plain.stat().st_size / 2
    assert read(out) == read(plain) == [event(number) for number in range(3000)]
    # Of too few messages there is none.
    with flatstream.open(tmp_path / "few.fs", "w", checksum="crc32") as writer:
        writer.write_payloads([event(1)] * 3)
    convert(tmp_path / "few.fs", tmp_path / "few-2.fs", compressor="zstd:6:dict")
    assert [one.data for one in transforms_of(tmp_path / "few-2.fs")] == [b""]
    assert len(read(tmp_path / "few-2.fs")) == 3


@in_one_test
@pytest.mark.parametrize(
    "text",
    ["", "gzip", "zstd:", "zstd:x", "zstd:99", "zstd:3:4", "zstd:3:dict:1", "lz4:3:dict", "lz4:13", "none:1", "3"],
)
def test_compression_that_is_none_says_what_is_expected(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a.fs", "plain")
    with pytest.raises(ValueError, match="expected 'none', 'lz4' or 'zstd'"):
        convert(tmp_path / "a.fs", tmp_path / "b.fs", compressor=text)
    found = call_flatstream("convert", "--compress", text, str(tmp_path / "a.fs"), str(tmp_path / "b.fs"))
    assert found.status == 2
    assert "expected 'none', 'lz4' or 'zstd'" in found.errors
    assert not (tmp_path / "b.fs").exists()


def test_compressor_is_for_streams_only(tmp_path: Path) -> None:
    write(tmp_path / "a.fs", "plain")
    with pytest.raises(ValueError, match="compresses the messages of streams, and the new format is"):
        convert(tmp_path / "a.fs", tmp_path / "a.jsonl", compressor="zstd")
    with pytest.raises(TypeError, match="must be an instance of Compressor"):
        any_convert(tmp_path / "a.fs", tmp_path / "b.fs", compressor=5)


# The command line


def test_commands_show_the_messages_of_a_compressed_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.fs"
    write(path, "zstd dictionary")
    plain = tmp_path / "plain.fs"
    write(plain, "plain")
    for command in (["cat"], ["head", "-n", "3"], ["tail", "-n", "3"], ["cat", "--where", "sequence > 50"]):
        shown = [
            call_flatstream(*command, "--format", "jsonl", "--fields", "sequence,host", str(one)).output
            for one in (path, plain)
        ]
        assert shown[0] == shown[1]
        assert shown[0].count("\n") >= 3
    out = tmp_path / "b.fs"
    assert call_flatstream("convert", "--compress", "zstd:9:dict", str(plain), str(out)).status == 0
    assert read(out) == read(plain)
    text = call_flatstream("info", str(out)).output
    assert "transform" in text
    assert "compression (level 9, method zstd" in text
    assert call_flatstream("verify", str(out)).status == 0
    assert call_flatstream("recover", str(out)).status == 0
    assert call_flatstream("salvage", str(out), str(tmp_path / "c.fs")).status in (0, 1)
    with open(path, "rb") as file:
        piped = call_flatstream("cat", "--format", "jsonl", "--fields", "sequence,host", "-", input=file.read()).output
    assert piped.count("\n") == COUNT

"""Commands on encrypted streams: those that look at what is stored need no key, the others take ``--key-file``."""

from __future__ import annotations

import json
import pickle
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    Aes256Gcm,
    ChaCha20Poly1305,
    ChecksumDeframer,
    ChecksumFramer,
    Crc32c,
    RecordWriter,
    Schema,
    StreamReader,
    ZstdCompressor,
    salvage,
)
from flatstream.cli._encrypted import KeyFile
from flatstream.tools import convert, info, plot, verify
from flatstream.tools.inputs import UnreadableError
from support.cli import call_flatstream, environment, script

KEY = bytes(range(100, 132))
EVENT = Schema.from_file("examples/telemetry.bfbs").table("telemetry.Event")
COUNT = 12
SEQUENCES = [json.dumps({"sequence": number}, separators=(",", ":")) for number in range(COUNT)]
FIELDS = ("--fields", "sequence")


def cipher(key: bytes = KEY) -> Aes256Gcm:
    return Aes256Gcm(key, key_id="k1")


def write(path: Path, kind: Any = Aes256Gcm, *, compressed: bool = True) -> bytes:
    framer: Any = ChecksumFramer(Crc32c()).encrypted(kind(KEY, key_id="k1"))
    if compressed:
        framer = framer.compressed(ZstdCompressor(1))
    with flatstream.open(path, "w", framer=framer, describe=EVENT) as writer:
        records = RecordWriter(writer, EVENT)
        for number in range(COUNT):
            records.write(sequence=number, wall_time_ns=(1_700_000_000 + number) * 10**9, host="h")
    return path.read_bytes()


def offsets_of(data: bytes) -> list[int]:
    with StreamReader(data, ChecksumDeframer(Crc32c())) as reader:
        return [offset for batch in reader.batches() for offset in batch.frame_offsets]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    return path


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    write(tmp_path / "a.fs")
    return tmp_path / "a.fs"


def with_gap(path: Path) -> None:
    """Takes two messages out of the stream; nothing else is wrong with it."""
    data = path.read_bytes()
    offsets = offsets_of(data)
    path.write_bytes(data[: offsets[4]] + data[offsets[6] :])


# Without a key


def test_stored_frames_are_checked_cut_and_copied_without_a_key(stream: Path, tmp_path: Path) -> None:
    data = stream.read_bytes()
    offsets = offsets_of(data)
    for paths, piped in (((stream,), b""), (("-",), data)):
        result = call_flatstream("verify", *paths, input=piped)
        assert result.status == 0, result
        # The head and the final frame are frames too.
        assert f"{COUNT + 2} intact frames" in result.output
        assert "messages not verified: the stream is encrypted (aes-256-gcm, key id 'k1'): pass --key-file FILE" in (
            result.output
        )
        shown = call_flatstream("info", *paths, input=piped)
        assert shown.status == 0
        assert "cannot be read: the stream is encrypted (aes-256-gcm, key id 'k1'): pass --key-file" in shown.output
        assert "time-field" not in shown.output
        assert f"{COUNT + 2} (with those that begin and end parts), payloads of" in shown.output
    torn = tmp_path / "torn.fs"
    torn.write_bytes(data[:-10])
    assert call_flatstream("verify", torn).status == 1
    result = call_flatstream("recover", torn)
    assert (result.status, torn.read_bytes()) == (3, data[: offsets[-1]])
    assert call_flatstream("recover", torn).status == 0
    hit = bytearray(data)
    hit[offsets[6] - 1] ^= 0x20
    damaged = tmp_path / "damaged.fs"
    damaged.write_bytes(bytes(hit))
    report = verify(damaged)
    assert [(one.begin, one.end, one.kind) for one in report.damage] == [(offsets[5], offsets[6], "checksum")]
    assert report.tables == ()
    assert report.unreadable is not None
    assert call_flatstream("salvage", damaged, tmp_path / "new.fs").status == 1
    assert (tmp_path / "new.fs").read_bytes() == data[: offsets[5]] + data[offsets[6] :]
    text = call_flatstream("schema", stream)
    assert text.status == 0
    assert "table Event" in text.output


@pytest.mark.parametrize("word", ["encrypted", "compressed", None])
def test_info_says_what_payloads_seem_to_be_without_a_description(tmp_path: Path, word: str | None) -> None:
    path = tmp_path / "a.fs"
    framer = ChecksumFramer(Crc32c())
    framers = {"encrypted": framer.encrypted(cipher()), "compressed": framer.compressed(ZstdCompressor()), None: framer}
    with flatstream.open(path, "w", framer=framers[word]) as writer:
        writer.write_payloads([b"one and one and one and one and one and one and one", b"two"])
    result = call_flatstream("info", path)
    assert result.status == 0
    assert ("no description says so" in result.output) == (word is not None)
    assert f"begin as {word} ones" in result.output or word is None


def test_commands_that_show_messages_say_how_a_key_is_given(stream: Path, tmp_path: Path) -> None:
    for command in (("head", stream), ("tail", stream), ("cat", stream), ("convert", stream, tmp_path / "b.csv")):
        result = call_flatstream(*command)
        assert (result.status, result.output) == (4, "")
        assert "the stream is encrypted (aes-256-gcm, key id 'k1'): pass --key-file FILE" in result.errors


def test_frames_are_not_put_into_another_stream(stream: Path, tmp_path: Path) -> None:
    for command in (
        ("merge", stream, stream, "-o", tmp_path / "b.fs"),
        ("split", stream, "--count", "3", "-o", tmp_path / "b-{number}.fs"),
        ("sample", stream, "--every", "2", "-o", tmp_path / "b.fs"),
    ):
        result = call_flatstream(*command)
        assert result.status == 4, result
        assert "belong to their places in it, and cannot be put into another stream" in result.errors
    assert [path.name for path in tmp_path.iterdir()] == ["a.fs"]


# With a key


@pytest.mark.parametrize("kind", [Aes256Gcm, ChaCha20Poly1305])
def test_messages_are_shown_with_the_key(tmp_path: Path, key: Path, kind: Any) -> None:
    path = tmp_path / "a.fs"
    data = write(path, kind)
    assert call_flatstream("cat", path, "--key-file", key, *FIELDS).lines == SEQUENCES
    assert call_flatstream("cat", "-", "--key-file", key, *FIELDS, input=data).lines == SEQUENCES
    assert call_flatstream("head", path, "--key-file", key, *FIELDS, "-n", "3").lines == SEQUENCES[:3]
    assert call_flatstream("tail", path, "--key-file", key, *FIELDS, "-n", "3").lines == SEQUENCES[-3:]
    result = call_flatstream("verify", path, "--key-file", key)
    assert (result.status, result.errors) == (0, "")
    assert f"{COUNT} intact frames" in result.output
    assert "messages of telemetry.Event" in result.output
    found = json.loads(call_flatstream("info", "--json", path, "--key-file", key).output)
    assert (found["frames"], found["first_time"], found["unreadable"]) == (COUNT, 1_700_000_000 * 10**9, None)
    assert found["encryption"]["is_finished"]
    shown = call_flatstream("info", path, "--key-file", key).output
    assert "1 part, each with all of its frames" in shown
    assert re.search(r"stored .* of messages \(\d+ %\)", shown)


@pytest.mark.parametrize(
    "content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n", KEY.hex().encode() + b"\r\n"]
)
def test_files_of_keys(stream: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    result = call_flatstream("head", "-n", "1", stream, "--key-file", tmp_path / "key", *FIELDS)
    assert (result.lines, result.errors) == (SEQUENCES[:1], "")


@pytest.mark.parametrize(
    "content",
    [b"", KEY[:-1], KEY + b"\n", KEY.hex().encode()[:-1], KEY.hex().encode() + b"\n\n", b"q" * 64, b"a " * 32, KEY * 9],
)
def test_what_is_no_key_is_wrong_usage_and_is_not_shown(stream: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    result = call_flatstream("head", stream, "--key-file", tmp_path / "key")
    assert (result.status, result.output) == (2, "")
    assert "is no key: expected a file of exactly 32 bytes, or of 64 hexadecimal digits" in result.errors
    assert KEY.hex()[:20] not in result.errors


def test_another_key_is_told_as_such_and_not_as_damage(stream: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(32))
    for command in ("cat", "tail", "verify", "info"):
        result = call_flatstream(command, stream, "--key-file", tmp_path / "key")
        assert (result.status, result.output) == (4, ""), command
        assert "nothing of the stream can be decrypted: the key" in result.errors
    piped = call_flatstream("cat", "-", "--key-file", tmp_path / "key", input=stream.read_bytes())
    assert piped.status == 1
    assert "nothing could be decrypted: the key may be another one" in piped.errors
    with pytest.raises(UnreadableError, match="nothing of the stream can be decrypted"):
        verify(stream, cipher=cipher(bytes(32)))


def test_key_is_for_encrypted_streams_only(tmp_path: Path, key: Path) -> None:
    for name, description in (("a.fs", EVENT), ("b.fs", None)):
        with flatstream.open(tmp_path / name, "w", checksum="crc32", describe=description) as writer:
            RecordWriter(writer, EVENT).write(sequence=1)
        result = call_flatstream("cat", tmp_path / name, "--key-file", key)
        assert (result.status, result.output) == (4, "")
        assert "description" in result.errors
    with flatstream.journal.JournalWriter(tmp_path / "journal") as journal:
        journal.write_payload(b"one")
    for command in ("cat", "verify", "info"):
        result = call_flatstream(command, tmp_path / "journal", "--key-file", key)
        assert (result.status, result.output) == (4, "")
        assert "journals are not encrypted" in result.errors


def test_missing_frames_are_told(stream: Path, key: Path) -> None:
    with_gap(stream)
    expected = SEQUENCES[:3] + SEQUENCES[5:]
    for command in ("cat", "tail"):
        result = call_flatstream(command, stream, "--key-file", key, *FIELDS)
        assert (result.status, result.lines) == (1, expected), command
        assert "2 encrypted frames missing" in result.errors
    for command in ("verify", "info"):
        result = call_flatstream(command, stream, "--key-file", key)
        assert result.status == 1, command
        assert "2 encrypted frames missing" in result.output
    report = verify(stream, cipher=cipher())
    assert (report.state, report.frames, report.damage) == ("damaged", COUNT - 2, ())
    assert report.encryption is not None
    assert report.encryption.missing_frames == 2
    # Nobody without the key can know.
    assert verify(stream).state == "intact"
    assert info(stream, cipher=cipher()).state == "damaged"


def test_end_that_is_missing_is_told_and_no_damage(stream: Path, key: Path) -> None:
    data = stream.read_bytes()
    stream.write_bytes(data[: offsets_of(data)[-1]])
    result = call_flatstream("verify", stream, "--key-file", key)
    assert result.status == 0
    assert "no end of part 0" in result.output
    shown = call_flatstream("cat", stream, "--key-file", key, *FIELDS)
    assert (shown.status, shown.lines) == (0, SEQUENCES)
    assert "no end of part 0" in shown.errors


# Converting


@pytest.mark.parametrize("compressed", [False, True])
def test_plain_files_are_written_if_they_are_asked_for(tmp_path: Path, key: Path, compressed: bool) -> None:
    path = tmp_path / "a.fs"
    write(path, compressed=compressed)
    for out in ("b.fs", "b.jsonl"):
        result = call_flatstream("convert", path, tmp_path / out, "--key-file", key)
        assert result.status == 2
        assert "the source is encrypted, and the new file would not be: pass --decrypt" in result.errors
        assert not (tmp_path / out).exists()
        result = call_flatstream("convert", path, tmp_path / out, "--key-file", key, "--decrypt")
        assert result.status == 0, result
    with flatstream.open(tmp_path / "b.fs") as reader, flatstream.open(path, cipher=cipher()) as source:
        assert list(reader) == list(source)
        assert reader.description is not None
        # Compressed as the source.
        assert [one.name for one in reader.description.transforms] == ["compression"] * compressed
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == COUNT
    with pytest.raises(ValueError, match="the source is encrypted, and the new file would not be"):
        convert(path, tmp_path / "c.fs", cipher=cipher())
    assert convert(path, tmp_path / "c.fs", cipher=cipher(), decrypt=True, compressor="none").checksum == "crc32c"  # type: ignore[union-attr]
    assert plot(path, "sequence", cipher=cipher()).messages == COUNT


def test_key_file_is_pickled_by_its_path(key: Path) -> None:
    made = pickle.dumps(KeyFile(str(key)))
    assert KEY not in made
    assert pickle.loads(made)._key._value == KEY
    assert KEY.hex() not in repr(vars(KeyFile(str(key))))


# Following


@pytest.fixture
def following() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_messages_are_followed_with_the_key(tmp_path: Path, key: Path, following: list[Any]) -> None:
    path = tmp_path / "a.fs"
    write(path)
    process = subprocess.Popen(
        [*script(), "follow", str(path), "--key-file", str(key), "-n", "2", *FIELDS],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    following.append(process)
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(2)] == SEQUENCES[-2:]
    for number in (100, 101):
        with flatstream.open(path, "a", cipher=cipher()) as writer:
            RecordWriter(writer, EVENT).write(sequence=number)
        assert json.loads(process.stdout.readline()) == {"sequence": number}
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130


def test_salvaged_stream_keeps_its_places(stream: Path, tmp_path: Path, key: Path) -> None:
    data = bytearray(stream.read_bytes())
    offsets = offsets_of(bytes(data))
    data[offsets[4] - 1] ^= 1
    stream.write_bytes(bytes(data))
    salvage(stream, tmp_path / "new.fs", "crc32c")
    result = call_flatstream("cat", tmp_path / "new.fs", "--key-file", key, *FIELDS)
    assert result.lines == SEQUENCES[:2] + SEQUENCES[3:]
    assert "1 encrypted frame missing" in result.errors

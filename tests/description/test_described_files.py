"""Described streams in files: appended to, followed, recovered and salvaged."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import (
    ChecksumMismatchError,
    Description,
    FlatbufferError,
    InvalidFrameError,
    RecoveryEnd,
    StreamReader,
    StreamWriter,
    UnexpectedEofError,
)
from reference import framing as reference
from support.alarms import Alarm, StruckError
from support.extent import in_one_test
from support.modes import MODES, Mode, every_mode
from support.python_strategies import PythonFramer
from support.schemas import TELEMETRY, TINY
from support.sources import CutSource

MESSAGES = [bytes([65 + number]) * (20 + number) for number in range(10)]


def described(mode: Mode, describe: Any = TELEMETRY, messages: list[bytes] | None = None) -> tuple[bytes, int]:
    """A stream with a description, and the size of the description's frame."""
    sink = io.BytesIO()
    with StreamWriter(sink, mode.framer(), describe=describe) as writer:
        writer.flush()
        head = len(sink.getvalue())
        writer.write_payloads(MESSAGES if messages is None else messages)
    return sink.getvalue(), head


def payload_of(message: memoryview | None) -> bytes:
    """The bytes of a message that is there."""
    assert message is not None
    return bytes(message)


# Appending


def test_appending_keeps_the_description_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    for number in range(3):
        with flatstream.open(path, "a", checksum="crc32", describe=TELEMETRY, metadata={"run": str(number)}) as writer:
            assert writer.description is not None
            assert writer.description.metadata == {"run": "0"}
            assert writer.frames_written == 0
            writer.write_payload(b"%d" % number)
    # Without describe=, with any description, and with that of the file itself.
    for describe in (None, True, writer.description, TELEMETRY.root):
        with flatstream.open(path, "a", checksum="crc32", describe=describe) as again:
            assert again.description == writer.description
    with flatstream.open(path, checksum="crc32") as reader:
        assert reader.description == writer.description
        assert list(reader) == [b"0", b"1", b"2"]


def test_appending_refuses_another_description(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    with flatstream.open(path, "w", checksum="crc32", describe=TELEMETRY) as writer:
        writer.write_payload(b"abc")
    before = path.read_bytes()
    for recover in (False, True):
        if recover:
            # Nothing is cut off before.
            before += b"\x09\0\0"
            path.write_bytes(before)
        for describe, difference in [
            (TINY, "schemas and roots differ"),
            (Description(TELEMETRY, serializer="json"), "serializer differs"),
            (Description(TELEMETRY, time_field="sequence", time_unit="s"), "roots differ"),
        ]:
            with pytest.raises(ValueError, match=rf"asks for <Desc.*>, and the file has <Desc.*: their {difference}"):
                flatstream.open(path, "a", checksum="crc32", describe=describe, recover=recover)
    assert path.read_bytes() == before
    plain = tmp_path / "plain.fs"
    plain.write_bytes(reference.encode([b"abc"], "crc32"))
    options: dict[str, Any]
    for options in ({"describe": True}, {"metadata": {"a": "b"}}, {"describe": TELEMETRY}):
        with pytest.raises(ValueError, match="the file has messages and no description"):
            flatstream.open(plain, "a", checksum="crc32", **options)
    # The file is not locked or open any more.
    with flatstream.open(plain, "a", checksum="crc32") as writer:
        assert writer.description is None
        writer.write_payload(b"d")
    assert plain.read_bytes() == reference.encode([b"abc", b"d"], "crc32")


def test_appending_with_a_framer_written_in_python(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    with flatstream.open(path, "a", framer=PythonFramer(), describe=True) as writer:
        writer.write_payload(b"abc")
    with flatstream.open(path, "a", framer=PythonFramer()) as writer:
        # It is not known.
        assert writer.description is None
        writer.write_payload(b"def")
    with pytest.raises(ValueError, match="is not known, because the framer is written in Python"):
        flatstream.open(path, "a", framer=PythonFramer(), describe=True)
    with flatstream.open(path) as reader:
        assert list(reader) == [b"abc", b"def"]
        assert reader.description is not None


def test_reading_takes_no_description(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(b"")
    asked: dict[str, Any] = {"describe": True, "metadata": {}, "time_field": "a", "time_unit": "s"}
    for name, value in asked.items():
        options: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"{name} needs the mode 'w', 'x' or 'a'"):
            flatstream.open(path, **options)


@pytest.mark.parametrize("size", [0, 3, 100])
def test_start_after_a_crash_in_the_description_begins_anew(size: int, tmp_path: Path) -> None:
    data, head = described(MODES["crc32"])
    path = tmp_path / "events.fs"
    path.write_bytes(data[:size])
    with flatstream.open(path, "a", checksum="crc32", recover=True, describe=TELEMETRY) as writer:
        writer.write_payload(b"abc")
        assert writer.recovery is not None
        saved = writer.recovery.saved_as
    assert saved is None or Path(saved).read_bytes() == data[:size]
    with flatstream.open(path, checksum="crc32") as reader:
        assert list(reader) == [b"abc"]
        assert reader.description == writer.description
    # In the first message behind it.
    path.write_bytes(data[: head + 3])
    with flatstream.open(path, "a", checksum="crc32", recover=True, describe=TELEMETRY) as writer:
        assert writer.recovery is not None
        assert (writer.recovery.action, writer.recovery.frames, writer.recovery.offset) == ("cut", 1, head)
    assert path.read_bytes() == data[:head]


# Recovery


@in_one_test
@every_mode
def test_recovery_counts_the_description_as_a_frame(mode: Mode, tmp_path: Path) -> None:
    data, head = described(mode)
    path = tmp_path / "events.fs"
    sizes = [head]
    for message in MESSAGES:
        sizes.append(sizes[-1] + 4 + mode.size + len(message))
    for size in [*sizes, *range(head + 1, len(data), 7)]:
        path.write_bytes(data[:size])
        frames = sum(end <= size for end in sizes)
        expected = (frames, sizes[frames - 1], RecoveryEnd.CLEAN_EOF if size in sizes else RecoveryEnd.TORN_TAIL)
        for source in (data[:size], io.BytesIO(data[:size]), CutSource(data[:size], range(0, size, 1000))):
            assert flatstream.recover(source, mode.deframer()) == expected
        assert flatstream.recover_file(path, mode.deframer()) == expected
        assert flatstream.recover(data[:size], mode.deframer(), guard=False) == expected
        # A bound for messages does not bound the description.
        assert flatstream.recover(data[:size], mode.deframer().bounded(100)) == expected


def test_recovery_of_a_torn_description_is_a_torn_tail() -> None:
    for name in ("none", "crc16", "crc32", "sum24"):
        mode = MODES[name]
        data, head = described(mode)
        # Without a checksum, a torn schema may look like frames that lead to the end: then it is an error.
        for size in (4 + mode.size + 12, 100, head - 1)[: 2 if name == "none" else 3]:
            for source in (data[:size], io.BytesIO(data[:size]), CutSource(data[:size])):
                report = flatstream.recover(source, mode.deframer())
                assert report == (0, 0, RecoveryEnd.TORN_TAIL), (name, size, report.looks_like)
    # With zeros in place of its last bytes, it is damaged.
    data, head = described(MODES["crc32"])
    with pytest.raises(ChecksumMismatchError):
        flatstream.recover(data[:100] + bytes(head - 100), "crc32")


def test_recovery_raises_for_a_damaged_description() -> None:
    data, head = described(MODES["crc32"])
    damaged = bytearray(data)
    damaged[head // 2] ^= 1
    with pytest.raises(ChecksumMismatchError) as raised:
        flatstream.recover(bytes(damaged), "crc32")
    assert (raised.value.offset, raised.value.next_intact_offset) == (0, head)
    broken = Description(created_ns=1).to_bytes()[:20] + b"\xff" * 40
    stream = reference.encode([broken, *MESSAGES], "crc32")
    with pytest.raises(FlatbufferError, match="description of the stream is damaged") as refused:
        flatstream.recover(stream, "crc32")
    assert (refused.value.offset, refused.value.next_intact_offset) == (0, len(broken) + 8)


# Salvage


def test_salvage_carries_the_description_on(tmp_path: Path) -> None:
    data, head = described(MODES["crc32"], messages=MESSAGES * 3)
    damaged = bytearray(data)
    damaged[head + 500] ^= 1
    out = tmp_path / "out.fs"
    for number, source in enumerate((bytes(damaged), tmp_path / "in.fs")):
        if isinstance(source, Path):
            source.write_bytes(damaged)
        out = tmp_path / f"out-{number}.fs"
        report = flatstream.salvage(source, out, "crc32")
        assert report.frames == 30
        assert report.size == out.stat().st_size
        original = StreamReader(data, "crc32").description
        with StreamReader(out, "crc32") as reader:
            assert len(list(reader)) == 29
            assert reader.description == original
        assert report.doubtful is not None
        with StreamReader(report.doubtful, "crc32") as reader:
            assert len(list(reader)) == 1
            assert reader.description == original
    # Nothing but the description.
    out = tmp_path / "alone.fs"
    report = flatstream.salvage(data[: head + 5], out, "crc32")
    assert (report.frames, report.size, report.lost_ranges) == (1, head, ((head, head + 5),))
    assert out.read_bytes() == data[:head]


def test_salvage_leaves_a_damaged_description_out(tmp_path: Path) -> None:
    data, head = described(MODES["crc32"])
    damaged = bytearray(data)
    damaged[head - 5] ^= 1
    report = flatstream.salvage(bytes(damaged), tmp_path / "out.fs", "crc32")
    assert (report.frames, report.lost_ranges) == (len(MESSAGES), ((0, head),))
    assert report.doubtful_ranges == ((0, head),)
    with StreamReader(tmp_path / "out.fs", "crc32") as reader:
        assert reader.description is None
        assert list(reader) == MESSAGES


# Following


def test_follower_sees_the_description_of_a_file_that_grows(tmp_path: Path) -> None:
    data, head = described(MODES["crc32"])
    path = tmp_path / "events.fs"
    path.write_bytes(b"")
    with StreamReader(path, "crc32", follow=True, capacity=100) as reader, open(path, "ab", buffering=0) as file:
        # It looks, and does not wait.
        assert reader.description is None
        with pytest.raises(TimeoutError):
            reader.read_message(timeout=0)
        for begin, end in ((0, 3), (3, 15), (15, head - 1)):
            file.write(data[begin:end])
            assert reader.description is None
            with pytest.raises(TimeoutError):
                reader.read_message(timeout=0)
        file.write(data[head - 1 : head])
        assert reader.description is not None
        assert reader.description.schema == TELEMETRY
        assert reader.offset == head
        with pytest.raises(TimeoutError):
            reader.read_message(timeout=0)
        file.write(data[head:])
        assert [bytes(reader.read_message(timeout=60) or b"") for _ in MESSAGES] == MESSAGES
        assert (reader.frames_read, reader.message_number, reader.offset) == (10, 9, len(data))
    # Read before it was looked at.
    with StreamReader(path, "crc32", follow=True) as reader:
        assert payload_of(reader.read_message(timeout=60)) == MESSAGES[0]
        assert reader.description is not None
        source, rest = reader.detach()
        with source:
            assert (rest, source.tell()) == (b"", head + 8 + len(MESSAGES[0]))


def test_follower_waits_for_the_description_of_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(b"")
    found: list[bytes] = []
    with StreamReader(path, "crc32", follow=True) as reader:

        def read() -> None:
            for payload in reader:
                found.append(bytes(payload))
                if len(found) == 3:
                    return

        thread = threading.Thread(target=read)
        thread.start()
        with flatstream.open(path, "a", checksum="crc32", describe=TELEMETRY) as writer:
            for message in MESSAGES[:3]:
                writer.write_payload(message)
                writer.flush()
        thread.join()
        assert found == MESSAGES[:3]
        assert reader.description == writer.description


def test_follower_refuses_a_damaged_description(tmp_path: Path) -> None:
    data, head = described(MODES["crc32"])
    damaged = bytearray(data)
    damaged[head - 1] ^= 1
    path = tmp_path / "events.fs"
    path.write_bytes(damaged)
    with StreamReader(path, "crc32", follow=True) as reader:
        assert reader.description is None
        with pytest.raises(ChecksumMismatchError):
            reader.read_message(timeout=60)
        assert payload_of(reader.read_message(timeout=60)) == MESSAGES[0]
        assert (reader.message_number, reader.description) == (0, None)
    with StreamReader(path, "crc32", follow=True, on_error="skip") as reader:
        assert payload_of(reader.read_message(timeout=60)) == MESSAGES[0]
        assert (reader.message_number, reader.lost_ranges) == (0, [(0, head)])
    # Half a description that is replaced by its writer is read anew.
    path.write_bytes(data[: head - 1])
    with StreamReader(path, "crc32", follow=True) as reader:
        assert reader.description is None
        path.write_bytes(reference.encode([b"other"], "crc32"))
        assert payload_of(reader.read_message(timeout=60)) == b"other"
        assert reader.description is None


# Others


def test_file_that_somebody_writes_is_read_on(tmp_path: Path) -> None:
    data, _ = described(MODES["crc32"])
    path = tmp_path / "events.fs"
    path.write_bytes(b"")
    with StreamReader(path, "crc32") as reader, open(path, "ab", buffering=0) as file:
        # At a clean end of no bytes, a description may still come.
        assert reader.description is None
        assert list(reader) == []
        file.write(data)
        assert list(reader) == MESSAGES
        assert reader.description is not None


def test_signal_while_the_description_is_awaited_loses_nothing() -> None:
    data, head = described(MODES["crc32"])
    read_end, write_end = os.pipe()
    with io.FileIO(read_end, "rb") as source, io.FileIO(write_end, "wb") as sink, Alarm(StruckError) as alarm:
        reader = StreamReader(source, "crc32")
        for begin, end in ((0, 9), (9, 100), (100, head - 1)):
            sink.write(data[begin:end])
            for look in (lambda: reader.description, reader.read_message):
                assert alarm.strike(look, 0.02)
        sink.write(data[head - 1 :])
        sink.close()
        assert list(reader) == MESSAGES
        assert reader.description is not None


def test_threads_that_ask_at_once_get_one_description() -> None:
    data = described(MODES["crc32"])[0]
    for _ in range(20):
        reader = StreamReader(CutSource(data, range(0, len(data), 50)), "crc32", capacity=64)
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(reader.description)) for _ in range(4)]  # noqa: B023
        for thread in threads:
            thread.start()
        messages = list(reader)
        for thread in threads:
            thread.join()
        assert messages == MESSAGES
        assert [found_one == reader.description for found_one in found] == [True] * 4
        assert reader.description is not None


def test_mapped_file_and_large_schema(tmp_path: Path) -> None:
    import mmap

    described_as = Description(TELEMETRY, metadata={"padding": "x" * 1_000_000})
    path = tmp_path / "events.fs"
    with flatstream.open(path, "x", checksum="xxhash64", describe=described_as) as writer:
        assert writer.buffer_capacity >= 1_000_000
        writer.write_payloads(MESSAGES)
        # The buffer has its usual size again.
        assert writer.buffer_capacity == 65536
    with open(path, "rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = StreamReader(mapping, "xxhash64")
    assert list(reader) == MESSAGES
    assert reader.description is not None
    assert len(reader.description.metadata["padding"]) == 1_000_000
    reader.close()
    with StreamReader(path, "xxhash64", capacity=1000, memory_policy=flatstream.SizeThresholdPolicy()) as reader:
        assert list(reader) == MESSAGES
    with pytest.raises(UnexpectedEofError):
        list(StreamReader(path.read_bytes()[:900_000], "xxhash64"))
    assert time.time_ns() - (writer.description.created_ns or 0) < 3600 * 10**9  # type: ignore[union-attr]


def test_error_says_what_a_file_without_frames_is(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(b"\x1f\x8b\x08" + bytes(100))
    with pytest.raises(InvalidFrameError, match="gzip"):
        flatstream.open(path, "a", checksum="crc32", describe=True)

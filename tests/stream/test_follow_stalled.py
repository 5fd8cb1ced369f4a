"""A reader that follows a file in which a length is too large: the frame never becomes whole, others come behind it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import InvalidFrameError, StreamReader, _follow
from support.errors import raised_by
from support.messages import flatbuffer_of_event
from support.modes import MODES, Mode, every_mode
from support.streams import Corpus, corpus, next_message

CRC32 = MODES["crc32"]


class Clock:
    """Stands where it is put, for the follower only; a wait moves it by one second."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(_follow, "time", made)
    return made


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the file when it was searched."""
    made: list[int] = []
    note = _follow.Follower.note_search

    def noted(follower: _follow.Follower) -> None:
        made.append(follower.size)
        note(follower)

    monkeypatch.setattr(_follow.Follower, "note_search", noted)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.fs"


def follow(path: Path, mode: Mode = CRC32, **options: Any) -> StreamReader:
    return flatstream.open(path, deframer=mode.deframer(), follow=True, **options)


def messages(mode: Mode, count: int = 12) -> Corpus:
    return corpus(mode, [flatbuffer_of_event(number) for number in range(count)])


def with_length(stream: Corpus, frame: int, length: int) -> bytes:
    start = stream.starts[frame]
    return stream.data[:start] + length.to_bytes(4, "little") + stream.data[start + 4 :]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def waits(reader: StreamReader) -> bool:
    return isinstance(raised_by(lambda: reader.read_message(timeout=0)), TimeoutError)


@every_mode
@pytest.mark.parametrize("length", [100_000, 1 << 30])
def test_wrong_length_is_an_error_after_a_second(mode: Mode, length: int, path: Path, clock: Clock) -> None:
    stream = messages(mode)
    path.write_bytes(with_length(stream, 3, length))
    with follow(path, mode) as reader:
        assert [next_message(reader, 0) for _ in range(3)] == list(stream.payloads[:3])
        assert waits(reader)
        clock.now += 0.9
        assert waits(reader)
        clock.now += 0.2
        for _ in range(2):
            error = raised_by(lambda: reader.read_message(timeout=0))
            assert isinstance(error, InvalidFrameError)
            assert (error.offset, error.frame) == (stream.starts[3], 3)
            assert error.next_intact_offset == stream.starts[4]
            assert "beyond the end of the file" in str(error)
        assert reader.offset == stream.starts[3]


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("by", ["message", "batch", "loop"])
def test_every_read_that_waits_ends(by: str, on_error: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_follow, "STALLED_AFTER", 0.05)
    monkeypatch.setattr(_follow, "PATH_INTERVAL", 0.05)
    stream = messages(CRC32)
    path.write_bytes(with_length(stream, 0, 1 << 20))
    read: Any = {"message": StreamReader.read_message, "batch": StreamReader.read_batch, "loop": next}[by]
    with follow(path, on_error=on_error) as reader, pytest.raises(InvalidFrameError) as caught:
        read(reader)
    assert caught.value.next_intact_offset == stream.starts[1]


def test_frames_that_come_later_are_found(path: Path, clock: Clock) -> None:
    stream = messages(CRC32)
    data = with_length(stream, 3, 1 << 20)
    path.write_bytes(data[: stream.ends[3]])
    with follow(path) as reader:
        assert [next_message(reader, 0) for _ in range(3)] == list(stream.payloads[:3])
        for _ in range(100):
            assert waits(reader)
            clock.now += 10
        # One frame is enough if it leads to the end.
        append(path, data[stream.ends[3] : stream.ends[4]])
        error = raised_by(lambda: reader.read_message(timeout=0))
    assert isinstance(error, InvalidFrameError)
    assert error.next_intact_offset == stream.starts[4]


def test_frames_before_zeros_that_were_reserved_are_found(path: Path, clock: Clock) -> None:
    stream = messages(CRC32)
    path.write_bytes(with_length(stream, 3, 1 << 20) + bytes(5000))
    with follow(path) as reader:
        assert [next_message(reader, 0) for _ in range(3)] == list(stream.payloads[:3])
        assert waits(reader)
        clock.now += 2
        assert isinstance(raised_by(lambda: reader.read_message(timeout=0)), InvalidFrameError)


def test_frames_far_behind_lead_to_the_end_too(path: Path, clock: Clock) -> None:
    stream = corpus(CRC32, [bytes([1 + number % 250]) * 30_000 for number in range(90)])
    assert len(stream.data) > 2 << 20
    path.write_bytes(with_length(stream, 2, 1 << 30))
    with follow(path) as reader:
        assert [next_message(reader, 0) for _ in range(2)] == list(stream.payloads[:2])
        assert waits(reader)
        clock.now += 2
        error = raised_by(lambda: reader.read_message(timeout=0))
    assert isinstance(error, InvalidFrameError)
    assert error.next_intact_offset == stream.starts[3]


@every_mode
def test_half_of_a_large_frame_that_contains_a_stream_is_waited_for(mode: Mode, path: Path, clock: Clock) -> None:
    inner = messages(mode, 40)
    stream = corpus(mode, [b"first", inner.data, b"last"])
    begin = stream.ends[1] - len(inner.data)
    for half in (5, 10, 33):
        for cut in (inner.starts[half] + 1, inner.starts[half] + 9, inner.ends[half] - 1):
            path.write_bytes(stream.data[: begin + cut])
            with follow(path, mode) as reader:
                assert next_message(reader, 0) == b"first"
                for _ in range(3):
                    assert waits(reader)
                    clock.now += 2
                append(path, stream.data[begin + cut :])
                assert [next_message(reader, 0) for _ in range(2)] == [inner.data, b"last"]


def test_large_frame_that_grows_slowly_is_searched_seldom(path: Path, clock: Clock, searches: list[int]) -> None:
    payload = bytes(range(256)) * 400
    stream = corpus(CRC32, [b"first", payload])
    path.write_bytes(stream.data[:100])
    with follow(path) as reader:
        assert next_message(reader, 0) == b"first"
        for size in range(100, len(stream.data), 100):
            assert waits(reader)
            append(path, stream.data[size : size + 100])
            clock.now += 0.1
        assert next_message(reader, 0) == payload
    # 102 s: after 1, 3, 7, 15, 31, 61, 91 s.
    assert len(searches) == 7


def test_half_frame_that_does_not_grow_is_searched_once(path: Path, clock: Clock, searches: list[int]) -> None:
    stream = messages(CRC32)
    path.write_bytes(stream.data[:-1])
    with follow(path) as reader:
        assert [next_message(reader, 0) for _ in range(11)] == list(stream.payloads[:11])
        for _ in range(50):
            assert waits(reader)
            clock.now += 20
        assert searches == [len(stream.data) - 1]
        append(path, stream.data[-1:])
        assert next_message(reader, 0) == stream.payloads[11]


def test_half_frame_that_was_taken_back_is_forgotten(path: Path, clock: Clock, searches: list[int]) -> None:
    stream = messages(CRC32)
    path.write_bytes(stream.data[:-1])
    with follow(path) as reader:
        assert [next_message(reader, 0) for _ in range(11)] == list(stream.payloads[:11])
        assert waits(reader)
        with path.open("r+b") as file:
            file.truncate(stream.starts[11])
        assert waits(reader)
        append(path, stream.data[stream.starts[11] : -1])
        clock.now += 5
        assert waits(reader)
        assert searches == []
        clock.now += 1.1
        assert waits(reader)
        assert len(searches) == 1


def test_frame_that_replaces_the_half_one_while_it_is_searched_is_read(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = messages(CRC32)
    path.write_bytes(with_length(stream, 3, 1 << 20))
    read_bytes = _follow.Follower.read_bytes

    def replace(follower: _follow.Follower, offset: int, size: int) -> memoryview:
        path.write_bytes(stream.data)
        return read_bytes(follower, offset, size)

    monkeypatch.setattr(_follow.Follower, "read_bytes", replace)
    with follow(path) as reader:
        assert [next_message(reader, 0) for _ in range(3)] == list(stream.payloads[:3])
        assert waits(reader)
        clock.now += 2
        assert [next_message(reader, 0) for _ in range(9)] == list(stream.payloads[3:])


def test_observers_do_not_see_what_is_searched(path: Path, clock: Clock) -> None:
    stream = messages(CRC32)
    seen: list[bytes] = []
    path.write_bytes(with_length(stream, 3, 1 << 20))
    deframer = CRC32.deframer().observed(lambda payload: seen.append(bytes(payload)))
    with StreamReader(path, deframer, follow=True) as reader:
        assert [next_message(reader, 0) for _ in range(3)] == list(stream.payloads[:3])
        assert waits(reader)
        clock.now += 2
        assert isinstance(raised_by(lambda: reader.read_message(timeout=0)), InvalidFrameError)
    assert seen == list(stream.payloads[:3])

"""Resynchronizing in a file that is being written: the end is seen inside of a frame, and then the file has grown."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import StreamReader
from support.extent import in_one_test
from support.modes import MODES, Mode, every_mode
from support.streams import Corpus, corpus

CRC32 = MODES["crc32"]
PAYLOADS = tuple(bytes([number + 1]) * (20 + 7 * number) for number in range(12))


class Growing(io.RawIOBase):
    """A file of which `sizes` are the sizes that it has from one end that is seen to the next; or errors there."""

    def __init__(self, data: bytes, steps: list[int | BaseException]) -> None:
        self.data = data
        self.steps = steps
        self.size = 0
        self.position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.position == self.size and self.steps:
            step = self.steps.pop(0)
            if isinstance(step, BaseException):
                raise step
            if step > self.size:
                self.size = step
            else:
                return 0
        piece = self.data[self.position : min(self.size, self.position + len(buffer))]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


def all_of(stream: Corpus, mode: Mode, steps: list[int | BaseException], **options: Any) -> StreamReader:
    return StreamReader(Growing(stream.data, steps), mode.deframer(), on_error="resync", capacity=64, **options)


@in_one_test
@every_mode
def test_frame_that_becomes_whole_behind_the_end_that_was_seen_is_read(mode: Mode) -> None:
    stream = corpus(mode, PAYLOADS)
    whole = len(stream.data)
    for cut in range(stream.starts[4] + 1, stream.ends[5]):
        # The end is seen once at the cut.
        reader = all_of(stream, mode, [cut, 0, whole])
        got = [bytes(payload) for payload in reader]
        if cut != stream.starts[5]:
            assert got == list(PAYLOADS)
        assert got + [bytes(payload) for payload in reader] == list(PAYLOADS)
        assert (reader.skipped, reader.lost_ranges) == (0, [])


def test_frame_that_grows_byte_by_byte_is_read() -> None:
    stream = corpus(CRC32, PAYLOADS)
    steps: list[int | BaseException] = []
    for size in range(1, len(stream.data) + 1):
        steps += [size, 0] if size not in stream.ends else [size]
    reader = all_of(stream, CRC32, steps)
    assert [bytes(payload) for batch in reader.batches() for payload in batch] == list(PAYLOADS)
    assert reader.lost_ranges == []


@pytest.mark.parametrize("late", [1, 7, 40])
def test_bytes_that_come_after_the_torn_tail_was_told_are_not_searched_with_it(late: int) -> None:
    stream = corpus(CRC32, PAYLOADS)
    cut = stream.starts[6] + 20
    # No bytes twice: it is torn.
    reader = all_of(stream, CRC32, [cut, 0, 0, cut + late])
    assert [bytes(payload) for payload in reader] == list(PAYLOADS[:6])
    assert reader.offset == cut
    assert reader.lost_ranges == [(stream.starts[6], cut)]


def test_frames_behind_a_wrong_length_are_found_and_what_is_written_later_is_read_on() -> None:
    stream = corpus(CRC32, PAYLOADS)
    data = stream.data[: stream.starts[3]] + b"\xff\xff" + stream.data[stream.starts[3] + 2 :]
    source = Growing(data, [stream.ends[6], 0, 0, 0, len(data)])
    reader = StreamReader(source, CRC32.deframer(), on_error="resync")
    got = [bytes(payload) for payload in reader]
    got += [bytes(payload) for payload in reader]
    assert got == [payload for number, payload in enumerate(PAYLOADS) if number != 3]
    assert reader.lost_ranges == [(stream.starts[3], stream.ends[3])]


@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, "not now"), KeyboardInterrupt()], ids=repr)
def test_error_of_the_second_read_loses_nothing(error: BaseException) -> None:
    stream = corpus(CRC32, PAYLOADS)
    cut = stream.starts[6] + 20
    for steps, rest in (([len(stream.data)], PAYLOADS[6:]), ([0], ())):
        reader = StreamReader(
            Growing(stream.data, [cut, 0, error, error, *steps]), CRC32.deframer().observed(id), on_error="resync"
        )
        assert [bytes(reader.read_message() or b"") for _ in range(6)] == list(PAYLOADS[:6])
        interrupted = 0
        got = []
        while True:
            try:
                payload = reader.read_message()
            except (BlockingIOError, KeyboardInterrupt):
                interrupted += 1
                if isinstance(error, KeyboardInterrupt):
                    # Whether an unknown source has taken bytes before it raised is not known.
                    return
                continue
            if payload is None:
                break
            got.append(bytes(payload))
        assert got == list(rest)
        assert interrupted == 2
        assert reader.lost_ranges == ([] if rest else [(stream.starts[6], cut)])


def test_file_that_is_written_while_it_is_salvaged_loses_only_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = corpus(CRC32, [bytes([1 + number % 250]) * 500 for number in range(1000)])
    path = tmp_path / "events.fs"
    written = stream.starts[300] + 17
    path.write_bytes(stream.data[:written])
    sizes = [stream.starts[600] + 400, stream.starts[900] + 1]

    class Written(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            count = super().readinto(buffer)
            if not count and sizes:
                with path.open("ab") as file:
                    file.write(stream.data[path.stat().st_size : sizes.pop(0)])
            return count or 0

    with Written(path, "rb") as file, StreamReader(file, "crc32", on_error="resync") as reader:
        assert sum(len(batch) for batch in reader.batches()) == 900
        assert reader.lost_ranges == [(stream.starts[900], stream.starts[900] + 1)]
    report = flatstream.salvage(path, tmp_path / "new.fs", "crc32")
    assert (report.frames, report.lost_ranges) == (900, ((stream.starts[900], stream.starts[900] + 1),))

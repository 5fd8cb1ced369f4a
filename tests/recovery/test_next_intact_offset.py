"""`next_intact_offset` of the errors of recovery: the nearest intact frame behind the damage."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    ChecksumMismatchError,
    FlatStreamError,
    InvalidFrameError,
    SizeValidator,
    StreamReader,
    UnexpectedEofError,
    ValidationFailedError,
    recover,
)
from support.extent import in_one_test
from support.messages import flatbuffer_of_event, flatbuffer_of_vector
from support.modes import MODES, Mode, every_mode
from support.sources import every_source
from support.streams import corpus, flip, recover_bytes

checksummed = pytest.mark.parametrize("mode", [pytest.param(m, id=n) for n, m in MODES.items() if n != "none"])


def events(mode: Mode, count: int = 12) -> Any:
    return corpus(mode, [flatbuffer_of_event(number) for number in range(count)])


@in_one_test
@checksummed
def test_wrong_checksum_names_the_frame_behind_it(mode: Mode) -> None:
    stream = events(mode)
    for frame in range(10):
        error = recover_bytes(flip(stream.data, 8 * (stream.ends[frame] - 13)), mode.deframer())
        assert isinstance(error, ChecksumMismatchError)
        assert (error.offset, error.next_intact_offset) == (stream.starts[frame], stream.starts[frame + 1])


@in_one_test
@checksummed
def test_wrong_length_names_the_frame_behind_it_whatever_it_is(mode: Mode) -> None:
    stream = events(mode)
    for frame in range(8):
        for bit in range(32):
            error = recover_bytes(flip(stream.data, 8 * stream.starts[frame] + bit), mode.deframer())
            assert isinstance(error, FlatStreamError)
            assert error.next_intact_offset == stream.starts[frame + 1], (frame, bit, error)


@in_one_test
@pytest.mark.parametrize("name", ["crc16", "crc32", "crc64", "xxhash64"])
def test_wrong_length_that_ends_with_another_frame_by_accident_names_the_nearest(name: str) -> None:
    # All frames have 64 bytes, so that a power of two more ends with one of them.
    size = 60 - MODES[name].size
    stream = corpus(MODES[name], [bytes([number]) * size for number in range(100, 200)])
    for bit in range(6, 12):
        error = recover_bytes(flip(stream.data, 8 * stream.starts[3] + bit), name)
        assert isinstance(error, ChecksumMismatchError)
        if size >> bit & 1 == 0:
            assert error.next_intact_offset == stream.starts[4], bit


@pytest.mark.parametrize("name", ["crc32", "xxhash64"])
def test_frames_inside_of_a_damaged_payload_are_not_named(name: str) -> None:
    inner = events(MODES[name], 3).data
    stream = corpus(MODES[name], [b"first", b"a stream:" + inner + b".", flatbuffer_of_vector(inner, 1), b"last"])
    for frame in (1, 2):
        error = recover_bytes(flip(stream.data, 8 * (stream.starts[frame] + 4 + MODES[name].size)), name)
        assert isinstance(error, ChecksumMismatchError)
        assert error.next_intact_offset == stream.starts[frame + 1]


@in_one_test
@every_mode
def test_length_over_the_limit_and_refused_payload_name_the_frame_behind_them(mode: Mode) -> None:
    stream = corpus(mode, [*[flatbuffer_of_event(1)] * 2, b"?" * 400, *[flatbuffer_of_event(1)] * 3])
    for deframer, kind in (
        (mode.deframer(max_frame_len=300), InvalidFrameError),
        (mode.deframer().with_validator(SizeValidator(0, 300)), ValidationFailedError),
    ):
        error = recover_bytes(stream.data, deframer)
        assert isinstance(error, kind)
        assert (error.offset, error.next_intact_offset) == (stream.starts[2], stream.starts[3])


@in_one_test
@every_source
@checksummed
def test_nearest_intact_frame_is_named_from_every_source(mode: Mode, source_kind: Any, tmp_path: Path) -> None:
    stream = events(mode)
    for place in (8 * stream.starts[3] + 3, 8 * stream.starts[3] + 23, 8 * (stream.ends[3] - 13)):
        with source_kind.open(flip(stream.data, place), tmp_path) as source:
            error = recover_bytes(source, mode.deframer())
        assert isinstance(error, FlatStreamError)
        assert (error.offset, error.next_intact_offset) == (stream.starts[3], stream.starts[4])


def test_offsets_count_from_where_the_source_stood() -> None:
    stream = events(MODES["crc32"])
    file = io.BytesIO(b"something else" + flip(stream.data, 8 * (stream.ends[3] - 13)))
    file.seek(14)
    with pytest.raises(ChecksumMismatchError) as caught:
        recover(file, "crc32")
    assert caught.value.next_intact_offset == stream.starts[4]
    assert pickle.loads(pickle.dumps(caught.value)).next_intact_offset == stream.starts[4]


@in_one_test
@checksummed
def test_none_is_named_where_none_is_intact(mode: Mode) -> None:
    stream = events(mode, 3)
    error = recover_bytes(flip(stream.data, 8 * stream.ends[2] - 1)[stream.starts[2] :] + b"rest", mode.deframer())
    assert isinstance(error, ChecksumMismatchError)
    assert error.next_intact_offset is None


# The note about another checksum


def test_first_frame_that_is_not_whole_asks_whether_the_checksum_is_another() -> None:
    note = ["nothing was read before it: was the stream written with another checksum? (flatstream.detect tells)"]
    for data, kind in ((b"text, and no stream", UnexpectedEofError), (b"\xff" * 20, InvalidFrameError)):
        with pytest.raises(kind) as caught:
            StreamReader(data).read_message()
        assert caught.value.__notes__ == note
        with pytest.raises(kind) as caught:
            StreamReader(b"\x01\x00\x00\x00a" + data).process_all(len)
        assert not hasattr(caught.value, "__notes__")

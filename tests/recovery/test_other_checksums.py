"""A stream that is read with a wrong checksum, and is damaged besides: nothing is cut off, moved or copied."""

from __future__ import annotations

from pathlib import Path

import pytest

import flatstream
from flatstream import FlatStreamError, InvalidFrameError, recover, recover_file
from support.extent import in_one_test
from support.messages import flatbuffer_of_event
from support.modes import MODES
from support.streams import corpus

# With lengths that no other checksum takes for a chain of frames by accident.
PAYLOADS = [flatbuffer_of_event(number) for number in range(100)]
STRONG = ["crc32", "crc32c", "crc64", "xxhash64"]
PAIRS = [(written, given) for written in STRONG for given in MODES if given != written]


def damaged(checksum: str, at: int) -> bytes:
    data = bytearray(corpus(MODES[checksum], PAYLOADS).data)
    data[at] ^= 1
    return bytes(data)


@in_one_test(step=2)
@pytest.mark.parametrize("at", [0, 2, 5, 13, 30])
@pytest.mark.parametrize(("written", "given"), PAIRS)
def test_recovery_never_allows_a_cut(written: str, given: str, at: int) -> None:
    data = damaged(written, at)
    try:
        report = recover(data, MODES[given].deframer())
    except FlatStreamError:
        return
    assert report.end is flatstream.RecoveryEnd.NOT_A_STREAM


def test_recovery_names_the_checksum_behind_the_tear() -> None:
    # Without a checksum, the first two frames are read, and the third one is torn.
    data = damaged("xxhash64", 30)
    frames = corpus(MODES["xxhash64"], PAYLOADS)
    with pytest.raises(InvalidFrameError, match="checksum 'xxhash64' begins at stream offset") as caught:
        recover(data)
    assert caught.value.offset is not None
    assert caught.value.offset < frames.ends[3]


@in_one_test(step=2)
@pytest.mark.parametrize("at", [0, 2, 5, 13, 30])
@pytest.mark.parametrize(("written", "given"), [pair for pair in PAIRS if MODES[pair[1]].checksum_type is not None])
def test_opening_with_recover_raises_and_changes_nothing(written: str, given: str, at: int, tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    data = damaged(written, at)
    path.write_bytes(data)
    with pytest.raises(InvalidFrameError, match=f"a stream with the checksum '{written}'.*nothing was changed"):
        flatstream.open(path, "a", checksum=given, recover=True)
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_stream_in_the_payloads_is_not_taken_for_the_file() -> None:
    # Of another checksum, in the payloads of a stream that is damaged in its first frame.
    inner = corpus(MODES["crc32"], PAYLOADS).data
    data = bytearray(corpus(MODES["xxhash64"], [inner, inner, inner]).data)
    data[13] ^= 1
    assert flatstream.detection.other_checksum(memoryview(bytes(data)), MODES["xxhash64"].deframer()) is None


def test_a_torn_tail_is_still_one(tmp_path: Path) -> None:
    for name in STRONG:
        stream = corpus(MODES[name], PAYLOADS)
        path = tmp_path / name
        path.write_bytes(stream.data[:-3])
        assert recover_file(path, name) == stream.report(len(stream.data) - 3)

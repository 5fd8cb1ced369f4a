"""The guard of recovery (hazard 2 and goal 2 of RELIABILITY.md): damage is no torn tail, and a torn tail is no damage.

An intact frame is one whose bytes are unchanged. Cutting a stream at ``last_good_offset`` destroys those beyond it.
A flip changes nothing of how the frames before it are read, so that a test may begin at the damaged frame.
"""

from __future__ import annotations

import io
import itertools
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    ChecksumMismatchError,
    ChecksumType,
    Deframer,
    FlatStreamError,
    FrameSpan,
    InvalidFrameError,
    RecoveryEnd,
    RecoveryReport,
    StreamReader,
    StreamWriter,
    recover,
    recover_file,
)
from support.extent import in_one_test, spread
from support.messages import flatbuffer_of_event, flatbuffer_of_string, flatbuffer_of_vector
from support.modes import MODES, Mode, every_mode
from support.python_strategies import CheckedMagicDeframer, MagicDeframer
from support.sources import CutReadSource, CutSource, every_source
from support.streams import Corpus, corpus, flip, read_all, recover_bytes

checksummed = pytest.mark.parametrize("mode", [pytest.param(m, id=n) for n, m in MODES.items() if n != "none"])
strong = pytest.mark.parametrize(
    "mode", [pytest.param(MODES[n], id=n) for n in ("crc32", "crc32c", "crc64", "xxhash64")]
)


def message(number: int) -> bytes:
    return flatbuffer_of_string(f"event {number}") if number % 4 == 0 else flatbuffer_of_event(number)


def agents_stream(mode: Mode) -> Corpus:
    """A few KiB such as a telemetry agent writes; less of it for the checksum in Python, which takes its time."""
    return corpus(mode, map(message, range(8 if mode.checksum_type is None else 30)))


def damaged_frame(stream: Corpus, bit: int) -> int:
    return sum(end <= bit >> 3 for end in stream.ends)


def length_bits(stream: Corpus, frame: int) -> range:
    return range(8 * stream.starts[frame], 8 * stream.starts[frame] + 32)


def cut_intact(
    stream: Corpus, damaged: int, report: RecoveryReport | FlatStreamError, *, whole: bool = False
) -> list[int]:
    """The intact frames that cutting a torn tail destroys, in part or, with `whole`, entirely."""
    if isinstance(report, FlatStreamError) or report.end is not RecoveryEnd.TORN_TAIL:
        return []
    return [
        frame
        for frame, (start, end) in enumerate(zip(stream.starts, stream.ends, strict=True))
        if frame != damaged and (start >= report.last_good_offset if whole else end > report.last_good_offset)
    ]


# Every single-bit flip


@checksummed
def test_flip_of_payload_or_checksum_is_never_delivered_as_good(mode: Mode) -> None:
    stream = agents_stream(mode)
    for frame, start in enumerate(stream.starts):
        # The frames before are read as ever; from one of them on is enough.
        begin = stream.starts[max(frame - 1, 0)]
        before = list(stream.payloads[max(frame - 1, 0) : frame])
        for bit in spread(range(8 * (start + 4), 8 * stream.ends[frame]), 5):
            payloads, error = read_all(flip(stream.data[begin:], bit - 8 * begin), mode.deframer())
            assert payloads == before, f"bit {bit}"
            assert isinstance(error, ChecksumMismatchError)
            assert (error.frame, error.offset) == (len(before), start - begin)


@in_one_test
@checksummed
def test_flip_of_a_length_delivers_nothing_that_was_not_written(mode: Mode) -> None:
    stream = agents_stream(mode)
    for frame in range(len(stream.payloads)):
        for bit in length_bits(stream, frame):
            payloads, error = read_all(flip(stream.data, bit), mode.deframer())
            assert payloads == list(stream.payloads[:frame]), f"bit {bit}"
            assert error is not None


@pytest.mark.parametrize("make_source", [bytes, io.BytesIO])
@every_mode
def test_guarded_recovery_after_any_flip_cuts_no_intact_frame(mode: Mode, make_source: Any) -> None:
    stream = agents_stream(mode)
    for bit in spread(range(8 * len(stream.data)), 7):
        report = recover_bytes(make_source(flip(stream.data, bit)), mode.deframer())
        assert cut_intact(stream, damaged_frame(stream, bit), report) == [], f"bit {bit}: {report}"


@in_one_test
@every_mode
def test_guarded_recovery_of_a_source_without_seek_cuts_no_intact_frame_beyond_the_tear(mode: Mode) -> None:
    # Without a checksum a wrong length may be noticed late. What was read by then cannot be looked at again here.
    stream = agents_stream(mode)
    for frame in range(len(stream.payloads)):
        for bit in length_bits(stream, frame):
            report = recover_bytes(CutReadSource(flip(stream.data, bit)), mode.deframer())
            assert cut_intact(stream, frame, report, whole=True) == [], f"bit {bit}: {report}"


@in_one_test
@every_mode
def test_unguarded_recovery_after_some_flips_would_cut_intact_frames(mode: Mode) -> None:
    # The hazard is real: this is what the guard is for.
    stream = agents_stream(mode)
    lost = 0
    for frame in range(len(stream.payloads)):
        for bit in length_bits(stream, frame):
            report = recover_bytes(flip(stream.data, bit), mode.deframer(), guard=False)
            lost += len(cut_intact(stream, frame, report))
    assert lost > 100


def test_one_flipped_length_bit_of_a_thousand_frames_costs_998_of_them_without_the_guard() -> None:
    # The case that RELIABILITY.md measured.
    stream = corpus(MODES["crc32"], [flatbuffer_of_string(f"event {number:04}") for number in range(1000)])
    damaged = flip(stream.data, 8 * stream.starts[1] + 30)
    unguarded = recover(damaged, ChecksumType.CRC32, guard=False)
    assert unguarded == RecoveryReport(1, stream.starts[1], RecoveryEnd.TORN_TAIL)
    assert len(cut_intact(stream, 1, unguarded)) == 998
    with pytest.raises(InvalidFrameError):
        recover(damaged, ChecksumType.CRC32)


# What the error says


@strong
def test_guards_error_says_where_the_intact_frame_is(mode: Mode) -> None:
    stream = agents_stream(mode)
    found = 0
    for frame, start in enumerate(stream.starts[:-1]):
        for bit in length_bits(stream, frame):
            error = recover_bytes(flip(stream.data, bit), mode.deframer())
            assert isinstance(error, FlatStreamError)
            if not isinstance(error, InvalidFrameError) or error.declared_len is not None:
                continue
            found += 1
            assert (error.offset, error.frame) == (start, frame)
            assert f"an intact frame begins at stream offset {stream.starts[frame + 1]}." in str(error)
            assert "guard=False" in str(error)
            assert str(error).endswith(f"(frame {frame}, stream offset {start})")
    assert found > 100


@in_one_test
@every_mode
def test_guards_error_names_only_frames_that_are_intact(mode: Mode) -> None:
    stream = agents_stream(mode)
    for frame in range(len(stream.payloads)):
        for bit in length_bits(stream, frame):
            error = recover_bytes(flip(stream.data, bit), mode.deframer())
            if named := re.search(r"an intact frame begins at stream offset (\d+)", str(error)):
                offset = int(named.group(1))
                assert offset in stream.starts, f"bit {bit}: {error}"
                assert offset != stream.starts[frame], f"bit {bit}: {error}"


@strong
def test_guards_error_says_that_only_the_last_length_is_wrong(mode: Mode) -> None:
    stream = agents_stream(mode)
    last = len(stream.payloads) - 1
    # From the first bit that makes the frame reach beyond the end, up to the last that the limit of 2**31 allows.
    for bit in range(8, 31):
        error = recover_bytes(flip(stream.data, 8 * stream.starts[last] + bit), mode.deframer())
        assert isinstance(error, InvalidFrameError)
        assert "only the length of this frame is wrong, and the payload behind it is intact" in str(error)
        assert (error.offset, error.frame) == (stream.starts[last], last)


def test_offsets_in_the_guards_error_count_from_where_the_source_stood() -> None:
    stream = agents_stream(MODES["crc32"])
    file = io.BytesIO(b"something else " + flip(stream.data, 8 * stream.starts[2] + 20))
    file.seek(15)
    with pytest.raises(InvalidFrameError, match=f"begins at stream offset {stream.starts[3]}\\.") as caught:
        recover(file, ChecksumType.CRC32)
    assert caught.value.offset == stream.starts[2]


# From every source


@in_one_test
@every_source
@every_mode
def test_guard_works_from_every_source(mode: Mode, source_kind: Any, tmp_path: Path) -> None:
    stream = agents_stream(mode)
    for frame in (0, len(stream.payloads) // 2, len(stream.payloads) - 3):
        # The frame reaches beyond the end, whatever its length was.
        data = flip(stream.data, 8 * stream.starts[frame] + 22)
        with source_kind.open(data, tmp_path) as source:
            with pytest.raises(InvalidFrameError) as caught:
                recover(source, mode.deframer())
            assert (caught.value.offset, caught.value.frame) == (stream.starts[frame], frame)
        with source_kind.open(data, tmp_path) as source:
            report = recover(source, mode.deframer(), guard=False)
        assert report == (frame, stream.starts[frame], RecoveryEnd.TORN_TAIL)


@in_one_test
@every_source
@every_mode
def test_guard_lets_a_tear_pass_from_every_source(mode: Mode, source_kind: Any, tmp_path: Path) -> None:
    stream = corpus(mode, [b"x" * 50, b"y" * 60, b"z" * 70])
    for cut in (len(stream.data) - 1, len(stream.data) - 70, stream.ends[0] + 3):
        with source_kind.open(stream.data[:cut], tmp_path) as source:
            assert recover(source, mode.deframer()) == stream.report(cut)


def test_guard_of_recover_file_changes_nothing(tmp_path: Path) -> None:
    stream = agents_stream(MODES["crc32"])
    damaged = flip(stream.data, 8 * stream.starts[1] + 22)
    path = tmp_path / "damaged.fs"
    path.write_bytes(damaged)
    with pytest.raises(InvalidFrameError):
        recover_file(path, ChecksumType.CRC32)
    with open(path, "r+b") as file:
        with pytest.raises(InvalidFrameError):
            recover_file(file, ChecksumType.CRC32)
        assert recover_file(file, ChecksumType.CRC32, guard=False).last_good_offset == file.tell()
    assert path.read_bytes() == damaged


# Pure cuts stay torn tails

RANDOM = random.Random(20240607)


def small(count: int, below: int) -> list[int]:
    return [RANDOM.randrange(below) for _ in range(count)]


# What telemetry is made of, and what could be taken for a frame: a small number is a plausible length, zeros are the
# checksum of zeros for some.
PAYLOADS: dict[str, list[bytes]] = {
    "events": [message(number) for number in range(30)],
    "strings": [flatbuffer_of_string("telemetry " * number) for number in range(12)],
    "zero bytes": [flatbuffer_of_vector([0] * count, 1) for count in (0, 1, 8, 100, 500)],
    "raw zero bytes": [b"", bytes(1), bytes(7), bytes(40), b"\x01" + bytes(100), bytes(300)],
    "number, then zeros": [flatbuffer_of_vector([number] + [0] * 30) for number in range(20)],
    "small bytes": [flatbuffer_of_vector(small(150, 16), 1) for _ in range(8)],
    "small u16": [flatbuffer_of_vector(small(80, 20), 2) for _ in range(8)],
    "small u32": [flatbuffer_of_vector(small(60, 20), 4) for _ in range(8)],
    "small u64": [flatbuffer_of_vector(small(30, 20), 8) for _ in range(5)],
    "sparse u32": [flatbuffer_of_vector([int(RANDOM.random() < 0.1) for _ in range(60)], 4) for _ in range(8)],
    "counting u32": [flatbuffer_of_vector(range(first, first + 50)) for first in (0, 1, 100, 1000)],
    "random": [flatbuffer_of_vector(small(150, 256), 1) for _ in range(8)],
    "text": [b"The quick brown fox jumps over the lazy dog, " * count for count in (1, 3, 7)],
}
every_kind_of_payload = pytest.mark.parametrize("kind", list(PAYLOADS))


@in_one_test
@every_kind_of_payload
@every_mode
def test_guard_takes_no_cut_for_damage(mode: Mode, kind: str) -> None:
    stream = corpus(mode, PAYLOADS[kind])
    wrong = {}
    for cut in spread(range(len(stream.data) + 1), 11):
        report = recover_bytes(stream.data[:cut], mode.deframer())
        if report != stream.report(cut):
            wrong[cut] = str(report)
    assert len(wrong) == 0, f"{len(wrong)} of {len(stream.data)}, such as {dict(itertools.islice(wrong.items(), 2))}"


@in_one_test
@every_mode
def test_guard_takes_no_cut_for_damage_when_payloads_hold_pieces_of_frames(mode: Mode) -> None:
    inner = corpus(mode, [message(1)]).data
    pieces = [
        inner[:7],  # a header, or the best part of it
        inner[: len(inner) // 2],  # a frame without its end
        inner[5:],  # without its beginning
        inner[1:-20],  # without both
    ]
    if mode.name == "none":
        # Without a checksum, nothing but its end tells a frame without its end from a whole one: when the stream is cut
        # at that very place, recovery refuses. The docstring of recover() says so.
        del pieces[1]
    stream = corpus(mode, [flatbuffer_of_vector(piece, 1) for piece in pieces])
    wrong = {}
    for cut in spread(range(len(stream.data) + 1), 5):
        report = recover_bytes(stream.data[:cut], mode.deframer())
        if report != stream.report(cut):
            wrong[cut] = str(report)
    assert wrong == {}


@strong
def test_guard_may_take_a_stream_inside_a_payload_for_evidence_and_can_be_switched_off(mode: Mode) -> None:
    # The docstring of recover() says so, and what to do.
    inner = corpus(mode, [message(1), message(2), message(3)])
    outer = corpus(mode, [message(4), flatbuffer_of_vector(inner.data + bytes(16), 1)])
    inner_start = outer.data.index(inner.data)
    for cut in spread(range(len(outer.data) + 1), 4):
        assert recover(outer.data[:cut], mode.deframer(), guard=False) == outer.report(cut, guard=False)
        report = recover_bytes(outer.data[:cut], mode.deframer())
        if report != outer.report(cut):
            assert isinstance(report, InvalidFrameError)
            assert cut >= inner_start + inner.ends[0]
    # Cut where a frame of the inner stream ends: that one leads to the end.
    cut = inner_start + inner.ends[1]
    with pytest.raises(InvalidFrameError, match=f"an intact frame begins at stream offset {inner_start}"):
        recover(outer.data[:cut], mode.deframer())


# Damage and a tear together


@every_mode
def test_guard_finds_intact_frames_between_damage_and_a_tear(mode: Mode) -> None:
    # How many good frames in a row speak for themselves, when nothing leads to the end of the stream.
    wanted = 1 if mode.size >= 4 else 2
    stream = corpus(mode, map(message, range(10)))
    for damaged in range(8):
        data = flip(stream.data, 8 * stream.starts[damaged] + 22)
        for cut in spread(range(stream.ends[damaged + wanted], len(data) + 1), 4):
            report = recover_bytes(data[:cut], mode.deframer())
            assert isinstance(report, InvalidFrameError), f"frame {damaged} damaged, cut at {cut}: {report}"
            assert (report.offset, report.frame) == (stream.starts[damaged], damaged)


@in_one_test
@checksummed
def test_damaged_payload_before_a_tear_is_an_error(mode: Mode) -> None:
    stream = corpus(mode, map(message, range(6)))
    data = flip(stream.data, 8 * (stream.ends[3] - 1))
    for cut in range(stream.ends[3], len(data) + 1):
        report = recover_bytes(data[:cut], mode.deframer())
        assert isinstance(report, ChecksumMismatchError)
        assert (report.offset, report.frame) == (stream.starts[3], 3)


# Custom deframers, written in Python


def magic_stream(mode: Mode, payloads: list[bytes]) -> Corpus:
    plain = corpus(mode, payloads)
    frames = [b"MAGC" + plain.data[start:end] for start, end in zip(plain.starts, plain.ends, strict=True)]
    ends = tuple(itertools.accumulate(map(len, frames)))
    return Corpus(plain.payloads, b"".join(frames), (0, *ends)[: len(frames)], ends)


CUSTOM: dict[str, tuple[Mode, Callable[[Mode], Deframer]]] = {
    "plain": (MODES["none"], lambda mode: MagicDeframer(mode.deframer())),
    "crc32": (MODES["crc32"], lambda mode: CheckedMagicDeframer(mode.deframer())),
    "sum24": (MODES["sum24"], lambda mode: CheckedMagicDeframer(mode.deframer())),
    "bounded": (MODES["crc16"], lambda mode: CheckedMagicDeframer(mode.deframer()).bounded(10_000)),
}
every_custom_deframer = pytest.mark.parametrize("custom", list(CUSTOM))


@in_one_test
@pytest.mark.parametrize("guard", [True, False], ids=["guarded", "unguarded"])
@every_custom_deframer
def test_custom_deframer_cut_at_every_byte_is_a_torn_tail(custom: str, guard: bool) -> None:
    mode, make = CUSTOM[custom]
    stream = magic_stream(mode, [message(number) for number in range(6)])
    for cut in spread(range(len(stream.data) + 1), 5):
        for source in (stream.data[:cut], io.BytesIO(stream.data[:cut])):
            assert recover_bytes(source, make(mode), guard=guard) == stream.report(cut, guard), f"cut at {cut}"


@every_custom_deframer
def test_custom_deframer_after_any_flip_cuts_no_intact_frame(custom: str) -> None:
    mode, make = CUSTOM[custom]
    stream = magic_stream(mode, [message(number) for number in range(5)])
    for bit in spread(range(8 * len(stream.data)), 7):
        report = recover_bytes(flip(stream.data, bit), make(mode))
        assert cut_intact(stream, damaged_frame(stream, bit), report) == [], f"bit {bit}: {report}"


@in_one_test
@every_custom_deframer
def test_custom_deframer_would_cut_intact_frames_without_the_guard(custom: str) -> None:
    mode, make = CUSTOM[custom]
    stream = magic_stream(mode, [message(number) for number in range(5)])
    data = flip(stream.data, 8 * (stream.starts[1] + 4) + 13)
    assert recover(data, make(mode), guard=False) == (1, stream.starts[1], RecoveryEnd.TORN_TAIL)
    with pytest.raises(InvalidFrameError, match=f"stream offset {stream.starts[2]}"):
        recover(data, make(mode))


def test_guard_does_not_call_observers() -> None:
    stream = agents_stream(MODES["crc32"])
    seen: list[bytes] = []
    deframer = MODES["crc32"].deframer().observed(lambda payload: seen.append(bytes(payload)))
    with pytest.raises(InvalidFrameError):
        recover(flip(stream.data, 8 * stream.starts[4] + 22), deframer)
    assert seen == list(stream.payloads[:4])


def test_guard_is_stopped_by_an_interruption() -> None:
    # Ctrl-C while it searches is not an answer about the bytes.
    stream = corpus(MODES["none"], map(message, range(3)))
    plain = MODES["none"].deframer()

    class Interrupted(Deframer):
        calls = 0

        def locate(self, data: Any) -> FrameSpan | int:
            self.calls += 1
            # Reading asks once a frame, or a few times more; the guard asks at every byte.
            if self.calls == 20:
                raise KeyboardInterrupt
            found = plain.locate(data)
            return found if isinstance(found, int) else FrameSpan(*found)

    deframer = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        recover(stream.data[:-1], deframer)
    assert deframer.calls == 20


# A stream of 1 MiB


def big_stream(mode: Mode) -> Corpus:
    def payloads() -> Iterator[bytes]:
        size = 0
        for number in itertools.count():
            payload = flatbuffer_of_vector([(number * 7919 + place) % 65536 for place in range(500)])
            yield payload
            size += len(payload) + 4 + mode.size
            if size >= 1 << 20:
                return

    return corpus(mode, payloads())


def is_delivered(frame: memoryview, deframer: Deframer) -> bool:
    # Hand-made, because it is asked eight million times.
    reader = StreamReader(frame, deframer)
    try:
        reader.read_message()
    except ChecksumMismatchError:
        return False
    finally:
        reader.close()
    return True


@pytest.mark.long
@pytest.mark.parametrize("name", ["crc16", "crc32", "crc32c", "crc64", "xxhash64"])
def test_no_flip_of_payload_or_checksum_of_a_mebibyte_is_delivered_as_good(name: str) -> None:
    mode = MODES[name]
    stream = big_stream(mode)
    deframer = mode.deframer()
    flips = 0
    for start, end in zip(stream.starts, stream.ends, strict=True):
        frame = bytearray(stream.data[start:end])
        # A view, so that the next flip can change it under a reader that is done.
        with memoryview(frame).toreadonly() as view:
            assert is_delivered(view, deframer)
            for place in range(4, len(frame)):
                for bit in range(8):
                    frame[place] ^= 1 << bit
                    assert not is_delivered(view, deframer), f"bit {bit} of byte {start + place}"
                    frame[place] ^= 1 << bit
                    flips += 1
    assert flips == 8 * (len(stream.data) - 4 * len(stream.payloads))


@pytest.mark.long
@pytest.mark.parametrize("name", ["none", "crc16", "crc32", "crc32c", "crc64", "xxhash64"])
def test_guarded_recovery_after_any_length_flip_of_a_mebibyte_cuts_no_intact_frame(name: str) -> None:
    # Flips of payloads and checksums end the recovery with their frame, as the test above shows. Without a checksum
    # they change no boundary.
    mode = MODES[name]
    stream = big_stream(mode)
    deframer = mode.deframer()
    lost_without = 0
    for frame, start in enumerate(stream.starts):
        rest = Corpus(
            stream.payloads[frame:],
            stream.data[start:],
            tuple(place - start for place in stream.starts[frame:]),
            tuple(place - start for place in stream.ends[frame:]),
        )
        for bit in range(32):
            data = flip(rest.data, bit)
            report = recover_bytes(data, deframer)
            assert cut_intact(rest, 0, report) == [], f"frame {frame}, bit {bit}: {report}"
            lost_without += len(cut_intact(rest, 0, recover_bytes(data, deframer, guard=False)))
    assert lost_without > 100_000


@pytest.mark.long
@every_mode
def test_guard_takes_no_cut_of_a_long_stream_for_damage(mode: Mode) -> None:
    stream = corpus(mode, map(message, range(60 if mode.checksum_type is None else 600)))
    for cut in spread(range(len(stream.data) + 1), 5):
        # The frames before the last few say nothing about the cut where there is a checksum.
        first = max(stream.whole_frames(cut) - 3, 0) if mode.size else 0
        begin = stream.starts[first]
        frames, offset, end = stream.report(cut)
        report = recover_bytes(CutSource(stream.data[begin:cut]), mode.deframer())
        assert report == (frames - first, offset - begin, end), f"cut at {cut}: {report}"


@in_one_test
@pytest.mark.parametrize("kind", ["crc16", "crc32", "crc32c", "crc64", "xxhash64"])
@pytest.mark.parametrize("make_source", [bytes, io.BytesIO])
def test_guard_without_a_checksum_notices_that_the_stream_has_one(kind: str, make_source: Any) -> None:
    # With the checksum forgotten, the second frame is looked for in the middle of the first: a whole file looks torn,
    # or is refused at once, as luck will have it.
    sink = io.BytesIO()
    with StreamWriter(sink, kind) as writer:
        for number in range(500):
            writer.write_payload(message(number))
    try:
        report = recover(make_source(sink.getvalue()), guard=False)
    except InvalidFrameError as error:
        expected = re.escape(str(error))
    else:
        assert report.frames < 500
        assert report.end is RecoveryEnd.TORN_TAIL
        expected = f"the first frame is intact with the checksum '{kind}'"
    with pytest.raises(InvalidFrameError, match=expected):
        recover(make_source(sink.getvalue()))


class OneWay:
    """A source whose bytes cannot be had again."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


@in_one_test
@pytest.mark.parametrize("size", [0, 24, 2_000_000])
@pytest.mark.parametrize(
    ("written", "read"),
    [("crc16", "crc32"), ("crc16", "xxhash64"), ("crc32", "xxhash64"), ("crc32", "crc64"), ("crc32c", "xxhash64")],
)
@pytest.mark.parametrize("make_source", [bytes, io.BytesIO, OneWay])
def test_guard_notices_that_a_single_frame_has_another_checksum(
    make_source: Any, written: str, read: str, size: int
) -> None:
    # With the longer checksum the frame reaches beyond the end, and all of the file would be cut off.
    stream = io.BytesIO()
    with StreamWriter(stream, written) as writer:
        writer.write_payload(message(1) + bytes(size))
    data = stream.getvalue()
    assert recover(data, read, guard=False) == RecoveryReport(0, 0, RecoveryEnd.TORN_TAIL)
    expected = f"the first frame is intact with the checksum '{written}', but the stream is read with another"
    with pytest.raises(InvalidFrameError, match=expected) as caught:
        recover(make_source(data), read)
    assert (caught.value.offset, caught.value.frame) == (0, 0)


@pytest.mark.parametrize("kind", ["crc16", "crc32", "crc32c", "crc64", "xxhash64"])
def test_single_frame_cut_anywhere_authorises_no_cut(kind: str) -> None:
    stream = io.BytesIO()
    with StreamWriter(stream, kind) as writer:
        writer.write_payload(message(1))
    data = stream.getvalue()
    for size in range(1, len(data)):
        assert recover(data[:size], kind) == RecoveryReport(0, 0, RecoveryEnd.NOT_A_STREAM)
        assert recover(data[:size], kind, guard=False) == RecoveryReport(0, 0, RecoveryEnd.TORN_TAIL)


def test_first_mismatch_of_a_stream_asks_whether_the_checksum_is_another() -> None:
    sink = io.BytesIO()
    with StreamWriter(sink, "crc32") as writer:
        writer.write_payload(message(1))
    with pytest.raises(ChecksumMismatchError) as caught:
        StreamReader(sink.getvalue(), "crc32c").read_message()
    assert caught.value.__notes__ == [
        "nothing was read before it: was the stream written with another checksum? (flatstream.detect tells)"
    ]

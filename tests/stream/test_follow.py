"""Reading a file that is being written: half frames, frames that are cut off and replaced, zeros, damage, waiting.

The tests are the writer here, so that the file has a known content at each look. Writers of other processes are in
test_follow_writers.py, files that are replaced in test_follow_rotation.py.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import ChecksumMismatchError, DefaultDeframer, InvalidFrameError, StreamReader, _follow
from reference import framing as reference
from support.bad_input import Case, refusals, table
from support.errors import raised_by
from support.messages import numbered_messages
from support.modes import MODES, Mode, every_mode
from support.schemas import SHAPES
from support.streams import corpus, next_message
from support.threads import running

PAYLOADS = (b"a", b"abc", b"\xff" * 5, bytes(range(1, 40)), b"ends in zeros\0\0\0\0", b"telemetry", b"\0", b"\x7f" * 17)


@pytest.fixture(autouse=True)
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether changes are reported by the system ("reports"), or the file is looked at after pauses (the default).

    To close what reports takes 20 ms.
    """
    if getattr(request, "param", "pauses") == "pauses":
        monkeypatch.setattr(_follow, "_watch_file", lambda file: None)


with_reports = pytest.mark.parametrize("waiting", ["reports"], indirect=True)
in_both_ways = pytest.mark.parametrize("waiting", ["reports", "pauses"], indirect=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "events.fs"
    made.touch()
    return made


def follow(path: Path, mode: Mode = MODES["crc32"], **options: Any) -> StreamReader:
    return flatstream.open(path, deframer=mode.deframer(), follow=True, **options)


def append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        file.write(data)


def frames_now(reader: StreamReader) -> list[bytes]:
    """The payloads of all frames that are whole now."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(next_message(reader, 0))
    return found


# Half a frame


@every_mode
def test_file_that_grows_byte_by_byte_gives_each_frame_with_its_last_byte(mode: Mode, path: Path) -> None:
    with follow(path, mode) as reader:
        for number, payload in enumerate(PAYLOADS):
            frame = reference.encode([payload], mode.name)
            for position in range(len(frame)):
                assert frames_now(reader) == []
                append(path, frame[position : position + 1])
            assert frames_now(reader) == [payload]
            assert (reader.frames_read, reader.message_number, reader.offset) == (
                number + 1,
                number,
                path.stat().st_size,
            )


@every_mode
def test_half_a_frame_that_is_cut_off_is_never_a_part_of_what_is_written_instead(mode: Mode, path: Path) -> None:
    first, torn = (reference.encode([payload], mode.name) for payload in (b"first", bytes(range(1, 50))))
    for size in range(1, len(torn), 4):
        for other in (b"x", b"longer" * 20):
            path.write_bytes(first + torn[:size])
            with follow(path, mode) as reader:
                # The half frame is read together with the whole one.
                assert next_message(reader) == b"first"
                if size % 3:
                    assert frames_now(reader) == []
                os.truncate(path, len(first))
                if size % 5:
                    assert frames_now(reader) == []
                append(path, reference.encode([other, b"last"], mode.name))
                assert frames_now(reader) == [other, b"last"]


@pytest.mark.parametrize("capacity", [1, 16, 1000, 1 << 18])
@pytest.mark.parametrize("by", ["message", "batch"])
def test_frames_of_any_size_arrive_whole_in_chunks_of_any_size(capacity: int, by: str, path: Path) -> None:
    sizes = (1, 12, 13, 1000, 70_000, 3_000_000, 5, 2_000_000)
    payloads = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    stream = corpus(MODES["xxhash64"], payloads)
    found: list[bytes] = []
    with follow(path, MODES["xxhash64"], capacity=capacity) as reader:
        for begin in range(0, len(stream.data), 450_001):
            append(path, stream.data[begin : begin + 450_001])
            if by == "message":
                found += frames_now(reader)
            else:
                while len(found) < stream.whole_frames(begin + 450_001):
                    found += [bytes(payload) for payload in reader.read_batch() or ()]
    assert found == payloads


def test_payloads_that_are_kept_stay_as_they_were(path: Path) -> None:
    payloads = [b"%06d" % number for number in range(500)]
    kept = []
    with follow(path, capacity=256) as reader:
        for payload in payloads:
            # A half frame is read behind the payloads that are kept, and again when it is whole.
            frame = reference.encode([payload], "crc32")
            append(path, frame[:9])
            assert frames_now(reader) == []
            append(path, frame[9:])
            kept.append(reader.read_message(timeout=0))
    assert [bytes(payload or b"") for payload in kept] == payloads


def test_length_that_the_file_does_not_have_costs_no_memory(path: Path) -> None:
    append(path, (2**31).to_bytes(4, "little") + b"crc!" + b"begin of the payload")
    with follow(path, capacity=4096) as reader:
        assert frames_now(reader) == []
        assert reader.buffer_capacity == 4096


# Zeros


@every_mode
@pytest.mark.parametrize("allow_empty", [True, False])
def test_zeros_at_the_end_are_no_frames_whatever_their_number(mode: Mode, allow_empty: bool, path: Path) -> None:
    first, second = (reference.encode([payload], mode.name) for payload in (b"first", b"second"))
    for count in (*range(1, 18), 40):
        path.write_bytes(first + bytes(count))
        with StreamReader(path, mode.deframer(allow_empty=allow_empty), follow=True) as reader:
            assert frames_now(reader) == [b"first"]
            # What was reserved is written.
            overwrite(path, len(first), second)
            assert frames_now(reader) == [b"second"]
        path.write_bytes(first + bytes(count))
        with StreamReader(path, mode.deframer(allow_empty=allow_empty), follow=True) as reader:
            assert list(reader.read_batch() or ()) == [b"first"]
            # The writer takes back what it reserved, or recovery does.
            os.truncate(path, len(first))
            assert frames_now(reader) == []
            append(path, second)
            assert frames_now(reader) == [b"second"]


@pytest.mark.parametrize("name", ["none", "crc32", "sum24"])
@pytest.mark.parametrize("capacity", [16, 1 << 18])
def test_empty_frames_come_when_something_stands_behind_them(name: str, capacity: int, path: Path) -> None:
    count = 5000
    with follow(path, MODES[name], capacity=capacity) as reader:
        append(path, reference.encode([b"first"] + [b""] * count, name))
        assert frames_now(reader) == [b"first"]
        append(path, reference.encode([b"x"], name))
        assert frames_now(reader) == [b""] * count + [b"x"]


def test_empty_frames_with_a_checksum_that_is_not_zero_come_at_once(path: Path) -> None:
    append(path, reference.encode([b"", b""], "xxhash64"))
    with follow(path, MODES["xxhash64"]) as reader:
        assert frames_now(reader) == [b"", b""]


def test_zeros_that_are_reserved_are_read_once_and_cost_no_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = reference.encode([b"first"], "crc32")
    append(path, first)
    os.truncate(path, 1 << 25)
    pieces: list[int] = []
    read_at = _follow.Follower._read_at

    def counted(follower: _follow.Follower, offset: int, buffer: memoryview) -> int:
        pieces.append(offset)
        return read_at(follower, offset, buffer)

    monkeypatch.setattr(_follow.Follower, "_read_at", counted)
    with follow(path) as reader:
        assert frames_now(reader) == [b"first"]
        for _ in range(5):
            assert frames_now(reader) == []
        # 512 pieces once, and the first one at each look.
        assert 512 <= len(pieces) < 530
        assert reader.buffer_capacity == 1 << 18
        overwrite(path, len(first), reference.encode([b"second", b"third"], "crc32"))
        assert frames_now(reader) == [b"second", b"third"]


@pytest.mark.parametrize("capacity", [1, 3, 100])
def test_zeros_inside_of_what_was_reserved_and_is_written_now_are_bytes_of_frames(capacity: int, path: Path) -> None:
    # Lengths whose first byte is zero, and payloads of zeros.
    payloads = [bytes(256), b"\1" * 512, bytes(65_536), b"x", bytes(3)]
    stream = corpus(MODES["xxhash64"], payloads)
    os.truncate(path, 1 << 20)
    with follow(path, MODES["xxhash64"], capacity=capacity) as reader:
        assert frames_now(reader) == []
        for number, payload in enumerate(payloads):
            begin, end = stream.starts[number], stream.ends[number]
            overwrite(path, begin, stream.data[begin:end])
            assert frames_now(reader) == [payload]


# Damage


def damaged(name: str = "crc32") -> bytes:
    frame = bytearray(reference.encode([b"damaged"], name))
    frame[-1] ^= 1
    return bytes(frame)


@pytest.mark.parametrize("wrong", ["payload", "length"])
@pytest.mark.parametrize("read", [StreamReader.read_message, lambda reader: reader.read_batch()[0]])
def test_frame_whose_bytes_are_not_visible_yet_is_read_again(
    wrong: str, read: Callable[[StreamReader], Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = reference.encode([b"damaged"], "crc32")
    settle = _follow.Follower.settle

    def become_visible(follower: _follow.Follower, offset: int) -> bool:
        overwrite(path, offset, frame)
        return settle(follower, offset)

    monkeypatch.setattr(_follow.Follower, "settle", become_visible)
    append(path, damaged() if wrong == "payload" else b"\xff" * len(frame))
    with follow(path) as reader:
        assert bytes(read(reader)) == b"damaged"
        assert (reader.frames_read, reader.offset) == (1, len(frame))


@pytest.mark.parametrize("by", ["message", "batch"])
def test_damage_that_stays_is_an_error_and_the_next_read_goes_on(by: str, path: Path) -> None:
    good = [reference.encode([payload], "crc32") for payload in (b"first", b"second", b"third")]
    append(path, good[0] + good[1] + damaged() + good[2] + good[2][:5])
    read = (lambda reader: [reader.read_message(timeout=0)]) if by == "message" else StreamReader.read_batch
    found: list[object] = []
    with follow(path) as reader:
        while len(found) < 4:
            try:
                found += [bytes(payload) for payload in read(reader) or ()]
            except ChecksumMismatchError as error:
                found.append((error.offset, error.frame))
        assert found == [b"first", b"second", (len(good[0] + good[1]), 2), b"third"]
        assert (reader.frames_read, reader.message_number) == (3, 3)
        assert frames_now(reader) == []


def test_many_damaged_frames_are_waited_for_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(_follow, "SETTLING", 0.001)
    monkeypatch.setattr(time, "sleep", pauses.append)
    append(path, damaged() * 300)
    with follow(path) as reader:
        for number in range(300):
            error = raised_by(reader.read_message)
            assert isinstance(error, ChecksumMismatchError)
            assert (error.frame, error.offset) == (number, number * len(damaged()))
        assert pauses == [0.001]
        # These are younger.
        append(path, damaged() * 2)
        for _ in range(2):
            assert isinstance(raised_by(reader.read_message), ChecksumMismatchError)
        assert pauses == [0.001] * 2


def test_length_over_the_limit_that_stays_is_the_end(path: Path) -> None:
    append(path, reference.encode([b"first"], "none") + (101).to_bytes(4, "little"))
    with StreamReader(path, DefaultDeframer(max_frame_len=100), follow=True) as reader:
        assert next_message(reader) == b"first"
        for _ in range(2):
            error = raised_by(reader.read_message)
            assert isinstance(error, InvalidFrameError)
            assert (error.declared_len, error.offset, error.frame) == (101, 9, 1)


def test_validator_and_observer_see_each_frame_once(path: Path) -> None:
    seen: list[bytes] = []
    deframer = DefaultDeframer().observed(lambda payload: seen.append(bytes(payload)))
    data = reference.encode(PAYLOADS, "none")
    with flatstream.open(path, deframer=deframer, follow=True) as reader:
        for position in range(len(data)):
            append(path, data[position : position + 1])
            frames_now(reader)
    assert tuple(seen) == PAYLOADS


# Waiting


@contextlib.contextmanager
def appended_later(path: Path, data: bytes, seconds: float = 0.1) -> Iterator[None]:
    def write() -> None:
        time.sleep(seconds)
        append(path, data)

    with running(write):
        yield


MESSAGE = b"abc"


def by_process_all(reader: StreamReader) -> bytes:
    """The first payload that `process_all` gives; closing the reader is what ends it."""
    found = []

    def take(payload: memoryview) -> None:
        found.append(bytes(payload))
        reader.close()

    with contextlib.suppress(ValueError):
        reader.process_all(take)
    return found[0]


WAYS: dict[str, Callable[[StreamReader], object]] = {
    "read_message": lambda reader: reader.read_message(),
    "read_message with a timeout": lambda reader: reader.read_message(timeout=60),
    "read_message for ever": lambda reader: reader.read_message(timeout=math.inf),
    "next": next,
    "read_batch": lambda reader: (reader.read_batch() or [b""])[0],
    "batches": lambda reader: next(reader.batches())[0],
    "process_all": by_process_all,
    "messages": lambda reader: next(reader.messages()),
}


@in_both_ways
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_to_read_waits_for_a_frame(way: Callable[[StreamReader], Any], path: Path) -> None:
    frame = reference.encode([MESSAGE], "crc32")
    append(path, frame[:7])
    with follow(path) as reader, appended_later(path, frame[7:]):
        assert bytes(way(reader)) == MESSAGE


@in_both_ways
def test_records_and_batches_of_columns_wait_for_a_frame(path: Path) -> None:
    table = SHAPES.table("shapes.Level1")
    frames = [reference.encode([payload], "crc32") for payload in numbered_messages(3)]
    with follow(path) as reader, appended_later(path, frames[1]):
        assert next(reader.records(table)).value == 1
        with appended_later(path, frames[2]):
            batch = next(reader.column_batches(table, ["value"], batch_rows=None))
        assert batch["value"].to_pylist() == [2]
        with pytest.raises(ValueError, match=r"no end: use column_batches\(batch_rows=None\)"):
            reader.columns(table)


@in_both_ways
@pytest.mark.parametrize("timeout", [0, 0.0, 0.05, 0.3])
def test_timeout_ends_the_wait_about_when_it_says(timeout: float, path: Path) -> None:
    append(path, reference.encode([b"first"], "crc32")[:-1])
    with follow(path) as reader:
        for _ in range(2):
            begin = time.monotonic()
            with pytest.raises(TimeoutError, match=f"no whole frame came within {timeout:g} s"):
                reader.read_message(timeout=timeout)
            # The upper bound is for a machine with other work.
            assert timeout <= time.monotonic() - begin < timeout + 5
        append(path, reference.encode([b"first"], "crc32")[-1:])
        assert next_message(reader, timeout) == b"first"


@in_both_ways
def test_waiting_takes_no_time_of_the_processor(path: Path) -> None:
    with follow(path) as reader:
        begin = time.process_time()
        with pytest.raises(TimeoutError):
            reader.read_message(timeout=0.5)
        assert time.process_time() - begin < 0.1


@with_reports
def test_growth_without_a_report_is_noticed_and_reports_are_given_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a file system where others write.
    monkeypatch.setattr(_follow, "PATH_INTERVAL", 0.02)
    monkeypatch.setattr(_follow.Watch, "wait", lambda watch, seconds: time.sleep(seconds))
    monkeypatch.setattr(_follow.Watch, "take_events", lambda watch: 0)
    frame = reference.encode([b"abc"], "crc32")
    followers: list[_follow.Follower] = []
    look = _follow.Follower.look

    def noted(follower: _follow.Follower, offset: int) -> int:
        followers.append(follower)
        return look(follower, offset)

    monkeypatch.setattr(_follow.Follower, "look", noted)
    with follow(path) as reader:
        for _ in range(20):
            with appended_later(path, frame, 0.03):
                assert next_message(reader, 60) == b"abc"
        assert followers[-1]._watch is None


# Opening and closing


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@in_both_ways
@pytest.mark.parametrize("end", [StreamReader.close, StreamReader.detach, lambda reader: None])
def test_no_descriptor_is_left_open(end: Callable[[StreamReader], object], path: Path) -> None:
    append(path, reference.encode([b"abc"], "crc32"))
    before = descriptors()
    for _ in range(5):
        reader = follow(path)
        assert next_message(reader) == b"abc"
        with pytest.raises(TimeoutError):
            reader.read_message(timeout=0.001)
        source = reader.source
        end(reader)
        source.close()
        del reader, source
    assert descriptors() == before


@with_reports
def test_reader_follows_without_reports_where_no_descriptor_is_left(path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with path.open("rb", buffering=0) as file:
        assert _follow._watch_file(file) is not None
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 1, limits[1]))
        try:
            assert _follow._watch_file(file) is None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_detached_file_stands_behind_the_last_frame_that_was_read(path: Path) -> None:
    frames = [reference.encode([payload], "crc32") for payload in (b"first", b"second")]
    append(path, frames[0] + frames[1] + b"x")
    reader = follow(path)
    assert next_message(reader) == b"first"
    file, rest = reader.detach()
    with file:
        assert rest == b""
        assert file.read() == frames[1] + b"x"


@in_both_ways
@pytest.mark.parametrize("by", ["read_message", "next", "read_batch"])
def test_close_in_another_thread_ends_the_wait(by: str, path: Path) -> None:
    read = WAYS[by]
    before = descriptors()
    reader = follow(path)
    errors: list[BaseException] = []
    with (
        running(lambda: errors.append(raised_by(read, reader))),
        running(lambda: errors.append(raised_by(read, reader))),
    ):
        time.sleep(0.1)
        begin = time.monotonic()
        reader.close()
    assert time.monotonic() - begin < 5
    assert [(type(error), str(error)) for error in errors] == [(ValueError, "this StreamReader is closed")] * 2
    errors.clear()
    assert descriptors() == before


@in_both_ways
def test_reader_that_waits_can_be_read_and_asked_by_other_threads(path: Path) -> None:
    with follow(path) as reader:
        found: list[bytes] = []
        with running(lambda: found.append(next_message(reader))):
            time.sleep(0.05)
            assert (reader.frames_read, reader.offset) == (0, 0)
            with pytest.raises(TimeoutError):
                reader.read_message(timeout=0.05)
            append(path, reference.encode([b"abc"], "crc32"))
        assert found == [b"abc"]


OPENING = [
    *refusals(
        "follow",
        lambda path, value: flatstream.open(path, follow=value),
        *[(value, TypeError, f"follow must be a bool, got {value!r}") for value in (1, None, "yes")],
    ),
    *refusals(
        "source",
        lambda path, value: StreamReader(value, follow=True),
        *[(value, TypeError, "follow=True needs a path, .* got") for value in (b"abc", 5, None, io.BytesIO())],
    ),
    Case("missing", lambda path: flatstream.open(path / "no", follow=True), OSError, "no"),
    Case("folder", lambda path: flatstream.open(path.parent, follow=True), IsADirectoryError, ""),
    Case(
        "device",
        lambda path: flatstream.open(os.devnull, follow=True),
        OSError,
        "needs a regular file, got '/dev/null'",
    ),
    Case(
        "writing",
        lambda path: flatstream.open(path, "a", follow=True),  # type: ignore[call-overload]
        ValueError,
        "follow=True needs the mode .r., got .a.",
    ),
]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@table(*OPENING)
def test_what_cannot_be_followed_is_refused(case: Case, path: Path) -> None:
    before = descriptors()
    case.check(path)
    assert descriptors() == before


TIMEOUTS = refusals(
    "timeout",
    lambda reader, value: reader.read_message(timeout=value),
    *[(value, TypeError, f"timeout must be a number of seconds or None, got {value!r}") for value in ("1", b"", True)],
    *[(value, ValueError, "timeout must be at least 0 seconds, got") for value in (-1, -0.5, math.nan, -math.inf)],
)


@table(*TIMEOUTS)
def test_bad_timeout_is_refused_and_takes_no_frame(case: Case, path: Path) -> None:
    append(path, reference.encode([b"abc"], "crc32"))
    with follow(path) as reader:
        case.check(reader)
        assert next_message(reader, 10**400) == b"abc"


@pytest.mark.parametrize("timeout", [0, 5.0])
def test_timeout_of_a_reader_that_does_not_follow_is_refused_and_takes_no_frame(timeout: float, path: Path) -> None:
    append(path, reference.encode([b"abc"], "none"))
    for source in (path, path.read_bytes()):
        with StreamReader(source) as reader:
            with pytest.raises(ValueError, match="follow=True"):
                reader.read_message(timeout=timeout)
            assert next_message(reader) == b"abc"
            assert reader.read_message() is None


@in_both_ways
def test_thread_that_waits_does_not_keep_the_interpreters_lock(path: Path) -> None:
    with follow(path) as reader:
        turns = 0
        done = threading.Event()

        def wait() -> None:
            with contextlib.suppress(TimeoutError):
                reader.read_message(timeout=0.2)
            done.set()

        with running(wait):
            while not done.wait(0.001):
                turns += 1
        assert turns > 10

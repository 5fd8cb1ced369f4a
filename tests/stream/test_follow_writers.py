"""Following this package's own writer in another process, which fails and takes back: every frame comes exactly once.

The writer's frames have random sizes, so has its buffer, and it is flushed at random moments. Again and again it is
not allowed to make the file longer, so that it writes a part of a frame, cuts that off, and goes on.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flatstream
from flatstream import StreamReader, _follow
from support.alarms import Alarm
from support.schemas import ROOT
from support.streams import next_message
from support.threads import running

WRITER = """
import os, random, resource, sys, time
import flatstream
from stream_of_numbers import payload

path, checksum, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
done = taken_back = 0

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

while done < count:
    base, end = done, min(count, done + chance.randrange(1, 400))
    buffer_size = chance.choice([0, 100, 1000, 65536])
    with flatstream.open(path, "a", checksum=checksum, buffer_size=buffer_size) as writer:
        while done < end:
            failing = chance.random() < 0.2
            if failing:
                limit(os.path.getsize(path) + chance.randrange(3000))
            for _ in range(chance.randrange(1, 10)):
                try:
                    if done < end:
                        writer.write_payload(payload(done))
                    elif chance.random() < 0.5:
                        writer.flush()
                except OSError:
                    taken_back += 1
                done = base + writer.frames_written
            if failing:
                time.sleep(chance.choice([0, 0.0005]))
                limit(resource.RLIM_INFINITY)
            elif chance.random() < 0.05:
                time.sleep(0.002)
print(taken_back)
"""

# For both processes.
NUMBERS = '''
import random, struct

def payload(number):
    """Its number, and bytes that depend on it."""
    chance = random.Random(number)
    size = chance.choice([1, 40, 300, 5000, 70000]) if number % 20 == 0 else chance.randrange(1, 200)
    return struct.pack("<I", number) + chance.randbytes(size)
'''


def payload(number: int) -> bytes:
    namespace: dict[str, Callable[[int], bytes]] = {}
    exec(NUMBERS, namespace)
    return namespace["payload"](number)


@contextlib.contextmanager
def writing(path: Path, checksum: str, count: int, seed: int) -> Iterator[None]:
    """Another process that writes `count` frames."""
    path.touch()
    path.with_name("stream_of_numbers.py").write_text(NUMBERS)
    command = [sys.executable, "-c", WRITER, str(path), checksum, str(count), str(seed)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(path.parent)])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
        except BaseException:
            process.kill()
            raise
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert int(printed) > count / 100, "the writer hardly ever failed"


def check_all(found: list[bytes], count: int) -> None:
    assert [struct.unpack_from("<I", each)[0] for each in found] == list(range(count))
    assert all(each == payload(number) for number, each in enumerate(found))


def by_message(reader: StreamReader, count: int) -> list[bytes]:
    return [next_message(reader, 60) for _ in range(count)]


def by_batch(reader: StreamReader, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        found += [bytes(each) for each in reader.read_batch(max_frames=100) or ()]
    return found


def by_looking(reader: StreamReader, count: int) -> list[bytes]:
    """Never waits, and so meets each state of the file."""
    found: list[bytes] = []
    while len(found) < count:
        with contextlib.suppress(TimeoutError):
            found.append(next_message(reader, 0))
    return found


def by_kept_views(reader: StreamReader, count: int) -> list[bytes]:
    kept = [next(reader) for _ in range(count)]
    return [bytes(each) for each in kept]


QUICK = [
    (by_message, "none", True),
    (by_batch, "crc32", True),
    (by_looking, "none", False),
    (by_kept_views, "crc32", False),
]
ALL = itertools.product([by_message, by_batch, by_looking, by_kept_views], ["none", "crc32", "xxhash64"], [True, False])


@pytest.mark.parametrize(
    ("read", "checksum", "reports", "count"),
    [
        *((*case, 1500) for case in QUICK),
        *(pytest.param(*case, 20_000, marks=pytest.mark.long) for case in ALL),
    ],
)
def test_writer_that_takes_back_half_frames_is_followed_without_an_error(
    read: Callable[[StreamReader, int], list[bytes]],
    checksum: str,
    reports: bool,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not reports:
        monkeypatch.setattr(_follow, "_watch_file", lambda file: None)
    path = tmp_path / "events.fs"
    seed = len(checksum) + 10 * reports + 100 * len(read.__name__)
    capacity = random.Random(seed).choice([16, 1000, 1 << 18])
    with (
        writing(path, checksum, count, seed),
        flatstream.open(path, checksum=checksum, follow=True, capacity=capacity) as reader,
    ):
        check_all(read(reader, count), count)
        assert (reader.frames_read, reader.offset) == (count, path.stat().st_size)


def test_signals_that_raise_at_any_moment_lose_no_frame_and_repeat_none(tmp_path: Path) -> None:
    path, count = tmp_path / "events.fs", 2000
    chance = random.Random(5)
    found: list[memoryview] = []
    struck = 0
    with (
        writing(path, "crc32", count, 5),
        flatstream.open(path, checksum="crc32", follow=True) as reader,
        Alarm() as alarm,
    ):
        end = time.monotonic() + 60
        while len(found) < count and time.monotonic() < end:
            # Between the reading of a frame and the call of list.append, no signal is looked at.
            struck += alarm.strike(lambda: reader.process_all(found.append), chance.uniform(1e-5, 2e-3))
    check_all([bytes(each) for each in found], count)
    assert struck > 10


def test_threads_that_share_a_reader_get_each_frame_once(tmp_path: Path) -> None:
    path, count, parts = tmp_path / "events.fs", 2000, 3
    found: list[list[bytes]] = [[] for _ in range(parts)]
    total = threading.Semaphore(0)

    def read(part: int) -> None:
        with contextlib.suppress(ValueError):
            while True:
                found[part].append(next_message(reader))
                total.release()

    with writing(path, "crc32", count, 6), contextlib.ExitStack() as stack:
        reader = flatstream.open(path, checksum="crc32", follow=True)
        for part in range(parts):
            stack.enter_context(running(functools.partial(read, part)))
        stack.callback(reader.close)
        for _ in range(count):
            assert total.acquire(timeout=60)
    for part in range(parts):
        # Each thread gets its frames in their order.
        assert found[part] == sorted(found[part], key=lambda each: struct.unpack_from("<I", each))
    check_all(sorted(itertools.chain(*found), key=lambda each: struct.unpack_from("<I", each)), count)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("closing", [False, True])
def test_child_and_parent_go_on_with_a_reader_each_from_the_same_frame(
    closing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count = tmp_path / "events.fs", 1000
    followers: list[_follow.Follower] = []
    look = _follow.Follower.look

    def noted(follower: _follow.Follower, offset: int) -> int:
        followers.append(follower)
        return look(follower, offset)

    monkeypatch.setattr(_follow.Follower, "look", noted)
    with writing(path, "crc32", count, 7), flatstream.open(path, checksum="crc32", follow=True) as reader:
        found = by_message(reader, 100)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(60)
                if closing:
                    reader.close()
                    status = 0
                else:
                    check_all(found + by_message(reader, count - 100), count)
                    status = 0
            finally:
                os._exit(status)
        found += by_message(reader, count - 100)
        assert os.waitpid(child, 0)[1] == 0
        check_all(found, count)
    # The child has not ended what the parent waits for.
    follower = followers[0]
    assert all(each is follower for each in followers)
    assert follower._missed == 0

"""Batches and columns of a large source are read in larger chunks, and are what they are with chunks of any size."""

from __future__ import annotations

import io
import os
import random
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from flatstream import (
    AdaptiveWatermarkPolicy,
    FlatStreamError,
    StreamReader,
)
from flatstream.journal import JournalReader, JournalWriter
from flatstream.reader import BATCH_CAPACITY, DEFAULT_CAPACITY
from support.bystander import Bystander
from support.columns import LEVEL1, stream_of
from support.extent import in_one_test
from support.messages import numbered_messages

KIB = 1024
SIZE = 3 * BATCH_CAPACITY


def frames_of(size: int, checksum: str = "none", seed: int = 1) -> tuple[list[bytes], bytes]:
    """Payloads of many sizes, together at least `size` bytes, and their stream."""
    rng = random.Random(seed)
    content = rng.randbytes(64 * KIB)
    payloads: list[bytes] = []
    while size > 0:
        length = rng.choice([1, 20, 300, 5_000, 60_000])
        begin = rng.randrange(len(content) - length)
        payloads.append(content[begin : begin + length])
        size -= length
    return payloads, stream_of(payloads, checksum)


PAYLOADS, STREAM = frames_of(SIZE)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("chunks") / "events.fs"
    made.write_bytes(STREAM)
    return made


def test_batches_of_a_large_file_get_larger_chunks(path: Path) -> None:
    with StreamReader(path) as reader:
        capacities = []
        found = []
        for batch in reader.batches():
            capacities.append(reader.buffer_capacity)
            found += [bytes(payload) for payload in batch]
    assert found == PAYLOADS
    # Not at once: the first MiB is read as messages are.
    assert capacities[0] == DEFAULT_CAPACITY
    assert capacities[-1] == BATCH_CAPACITY
    assert set(capacities) == {DEFAULT_CAPACITY, BATCH_CAPACITY}


@in_one_test
@pytest.mark.parametrize(
    "options",
    [{"capacity": DEFAULT_CAPACITY}, {"capacity": 4 * KIB}, {"memory_policy": AdaptiveWatermarkPolicy()}],
)
def test_chunks_of_a_size_that_was_asked_for_keep_it(options: dict[str, Any], path: Path) -> None:
    with StreamReader(path, **options) as reader:
        assert sum(len(batch) for batch in reader.batches()) == len(PAYLOADS)
        assert reader.buffer_capacity < BATCH_CAPACITY


def test_messages_and_small_files_keep_small_chunks(path: Path, tmp_path: Path) -> None:
    with StreamReader(path) as reader:
        assert sum(1 for _ in reader) == len(PAYLOADS)
        assert reader.buffer_capacity == DEFAULT_CAPACITY
    small = tmp_path / "small.fs"
    small.write_bytes(stream_of(PAYLOADS[:60]))
    assert DEFAULT_CAPACITY < small.stat().st_size < BATCH_CAPACITY
    with StreamReader(small) as reader:
        assert sum(len(batch) for batch in reader.batches()) == 60
        assert reader.buffer_capacity == DEFAULT_CAPACITY


def test_slow_source_keeps_small_chunks() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def send() -> None:
            for begin in range(0, len(STREAM), 100 * KIB):
                theirs.sendall(STREAM[begin : begin + 100 * KIB])
            theirs.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            reader = StreamReader(ours)
            found = [bytes(payload) for batch in reader.batches() for payload in batch]
        finally:
            thread.join()
    assert found == PAYLOADS


@in_one_test
@pytest.mark.parametrize("checksum", ["none", "xxhash64"])
@pytest.mark.parametrize("holding", [False, True])
def test_batches_messages_and_held_payloads_mix(checksum: str, holding: bool, tmp_path: Path) -> None:
    payloads, stream = frames_of(SIZE, checksum, seed=2)
    path = tmp_path / "events.fs"
    path.write_bytes(stream)
    rng = random.Random(3)
    held: list[tuple[memoryview, bytes]] = []
    found: list[bytes] = []
    with StreamReader(path, checksum) as reader:
        while True:
            if rng.random() < 0.3:
                views = [view] if (view := reader.read_message()) is not None else []
            else:
                batch = reader.read_batch(rng.choice([None, 1, 100]), rng.choice([None, 10_000]))
                views = [] if batch is None else list(batch)
            if not views:
                break
            found += [bytes(view) for view in views]
            if holding and rng.random() < 0.2:
                held.append((views[-1], found[-1]))
    assert found == payloads
    assert all(view == payload for view, payload in held)


@in_one_test
@pytest.mark.parametrize("on_error", ["raise", "skip", "stop", "resync"])
def test_damage_is_told_as_with_small_chunks(on_error: Any, tmp_path: Path) -> None:
    _, stream = frames_of(SIZE, "xxhash64", seed=4)
    spoiled = bytearray(stream)
    rng = random.Random(5)
    for _ in range(12):
        spoiled[rng.randrange(len(spoiled) // 2, len(spoiled))] ^= 1 << rng.randrange(8)
    path = tmp_path / "events.fs"
    path.write_bytes(spoiled[:-7])

    def read(source: Any, **options: Any) -> tuple[Any, ...]:
        found: list[Any] = []
        with StreamReader(source, "xxhash64", on_error=on_error, **options) as reader:
            while True:
                try:
                    batch = reader.read_batch()
                except FlatStreamError as error:
                    found.append((type(error), error.offset, error.frame))
                    if len(found) > 1 and found[-2] == found[-1]:
                        break
                    continue
                if batch is None:
                    break
                found += [bytes(payload) for payload in batch]
            return found, reader.skipped, reader.lost_ranges, reader.offset, str(reader.stop_error)

    expected = read(path, capacity=64 * KIB)
    assert read(path) == expected
    assert len(expected[0]) > 1


def test_columns_and_journals_get_larger_chunks(tmp_path: Path) -> None:
    messages = numbered_messages(500) * 120
    path = tmp_path / "events.fs"
    path.write_bytes(stream_of(messages, "crc32"))
    assert path.stat().st_size > 2 * BATCH_CAPACITY
    with StreamReader(path, "crc32") as reader:
        columns = reader.columns(LEVEL1, ["value"])
        assert reader.buffer_capacity == BATCH_CAPACITY
    with StreamReader(path, "crc32", capacity=8 * KIB) as reader:
        expected = reader.columns(LEVEL1, ["value"])
        assert reader.buffer_capacity < DEFAULT_CAPACITY
    assert columns["value"].to_array() == expected["value"].to_array()
    with JournalWriter(tmp_path / "journal", checksum="crc32") as writer:
        writer.write_payloads(messages)
    with JournalReader(tmp_path / "journal") as journal:
        assert journal.columns(LEVEL1, ["value"])["value"].to_array() == expected["value"].to_array()
        assert journal.buffer_capacity == BATCH_CAPACITY


def test_file_that_is_followed_keeps_small_chunks(path: Path) -> None:
    with StreamReader(path, follow=True) as reader:
        seen = 0
        while seen < len(PAYLOADS):
            batch = reader.read_batch()
            assert batch is not None
            seen += len(batch)
        assert reader.buffer_capacity < BATCH_CAPACITY


def test_path_that_cannot_be_read_ahead_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_bytes(STREAM))
    thread.start()
    with StreamReader(pipe) as reader:
        found = [bytes(payload) for batch in reader.batches() for payload in batch]
    thread.join()
    assert found == PAYLOADS


# The lock


@in_one_test
@pytest.mark.parametrize("where", [None, ("value", 100, None), [("value", "in", [1, 2, 3]), ("value", ">", 1)]])
@pytest.mark.parametrize("kind", ["memory", "file object"])
def test_lock_is_released_for_columns_of_many_small_messages(kind: str, where: Any, bystander: Bystander) -> None:
    messages = numbered_messages(500) * 10
    stream = stream_of(messages)
    assert len(stream) < 256 * KIB

    def read() -> None:
        source = stream if kind == "memory" else io.BytesIO(stream)
        assert StreamReader(source).columns(LEVEL1, ["value"], where).num_rows <= len(messages)

    bystander.wake(lambda: "ran")
    bystander.run_during(read)
    assert bystander.outcome() == "ran"

"""Files, journals and pipes in an event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import flatstream
import flatstream.aio
from flatstream import ChecksumMismatchError, InvalidFrameError
from flatstream.aio import AsyncFileReader, AsyncFileWriter
from flatstream.journal import JournalReader, JournalWriter
from reference import framing as reference
from support.async_streams import in_loop, turns, write_on
from support.schemas import root_of

MESSAGES = [b"%d" % number * 30 for number in range(2000)]


def worker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flatstream.aio"]


@in_loop
async def test_file_is_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    async with flatstream.aio.open(path, "w", checksum="none") as writer:
        for message in MESSAGES[:1000]:
            await writer.write_payload(message)
        await writer.write_payloads(MESSAGES[1000:])
        await writer.write_payload(bytearray(b"last"))
        await writer.write_payload(b"x" * 200_000)
        await writer.sync()
        assert writer.frames_written == 2002
    expected = [*MESSAGES, b"last", b"x" * 200_000]
    assert path.read_bytes() == reference.encode(expected, "none")
    async with flatstream.aio.open(path) as reader:
        number = offset = 0
        async for payload in reader:
            assert payload == expected[number]
            assert (reader.number, reader.offset) == (number, offset)
            number, offset = number + 1, offset + 4 + len(payload)
        assert await reader.read_message() is None
    reader = await flatstream.aio.open(path, on_error="skip")
    assert bytes(await reader.read_message()) == MESSAGES[0]
    await reader.close()
    await reader.close()
    assert (reader.number, reader.offset) == (0, 0)
    with pytest.raises(ValueError, match="closed"):
        await reader.read_message()
    for thread in worker_threads():
        thread.join(30)
    assert not worker_threads()


@in_loop
async def test_file_that_is_followed_is_read_as_it_grows_and_close_ends_the_wait(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    async with flatstream.aio.open(path, "w") as writer:
        reader = await flatstream.aio.open(path, follow=True, checksum="none")
        waiting = asyncio.create_task(reader.read_message())
        await turns()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for number in range(20):
            await writer.write_payload(b"%d" % number)
            await writer.flush()
            # The one that was cancelled has taken nothing.
            assert bytes(await reader.read_message()) == b"%d" % number
        waiting = asyncio.create_task(reader.read_message())
        await asyncio.sleep(0.01)
        await reader.close()
        with pytest.raises(ValueError, match="closed"):
            await waiting


@in_loop
async def test_journal_is_followed_and_read_on_at_what_was_committed(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal") as journal:
        journal.write_payloads(MESSAGES[:100])
        journal.flush()
        async with AsyncFileReader(JournalReader(tmp_path / "journal", follow=True, name="it")) as reader:
            with pytest.raises(ValueError, match="there is a cursor when"):
                _ = reader.cursor
            for number in range(30):
                assert bytes(await reader.read_message() or b"") == MESSAGES[number]
                assert reader.number == number
            await reader.commit()
            assert reader.cursor.number == 30
        async with AsyncFileReader(JournalReader(tmp_path / "journal", follow=True, name="it")) as reader:
            got: list[bytes] = []
            async for payload in reader:
                got.append(bytes(payload))
                if len(got) == 70:
                    journal.write_payloads(MESSAGES[100:110])
                    journal.flush()
                if len(got) == 80:
                    break
            assert got == MESSAGES[30:110]
            assert reader.number == 109
    async with AsyncFileWriter(JournalWriter(tmp_path / "journal")) as writer:
        await writer.write_payload(b"more")
    with JournalReader(tmp_path / "journal", start=110) as again:
        assert [bytes(payload) for payload in again] == [b"more"]


@in_loop
async def test_reads_that_are_cancelled_at_any_step_take_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(reference.encode(MESSAGES[:50], "none"))
    for step in range(1, 25):
        reader = await flatstream.aio.open(path, checksum="none", capacity=400)
        got: list[bytes] = []

        async def read(reader: Any = reader, got: list[bytes] = got) -> None:
            task = asyncio.current_task()
            assert task is not None
            while True:
                try:
                    payload = await reader.read_message()
                except asyncio.CancelledError:
                    task.uncancel()
                    continue
                if payload is None:
                    return
                got.append(bytes(payload))

        task = asyncio.create_task(read())
        turn = 0
        while not task.done():
            turn += 1
            if turn % (step + 1) == 0:
                task.cancel()
            await asyncio.sleep(0)
        await task
        await reader.close()
        assert got == MESSAGES[:50]


@in_loop
async def test_writes_that_are_cancelled_are_counted_right(tmp_path: Path) -> None:
    for step in range(1, 12):
        writer = await flatstream.aio.open(tmp_path / f"{step}.fs", "w", buffer_size=300)

        async def write(writer: Any = writer) -> None:
            task = asyncio.current_task()
            assert task is not None
            while (done := writer.frames_written) < 40:
                try:
                    await writer.write_payload(MESSAGES[done])
                except asyncio.CancelledError:
                    task.uncancel()

        task = asyncio.create_task(write())
        turn = 0
        while not task.done():
            turn += 1
            if turn % (step + 1) == 0:
                task.cancel()
            await asyncio.sleep(0)
        await task
        await writer.close()
        assert (tmp_path / f"{step}.fs").read_bytes() == reference.encode(MESSAGES[:40], "none")


@in_loop
async def test_errors_come_behind_the_messages_before_and_reading_goes_on(tmp_path: Path) -> None:
    frames = [bytearray(reference.encode([message], "crc32")) for message in MESSAGES[:10]]
    frames[4][-1] ^= 1
    path = tmp_path / "events.fs"
    path.write_bytes(b"".join(frames))
    async with flatstream.aio.open(path, checksum="crc32") as reader:
        assert [bytes(await anext(reader)) for _ in range(4)] == MESSAGES[:4]
        with pytest.raises(ChecksumMismatchError):
            await anext(reader)
        assert [bytes(payload) async for payload in reader] == MESSAGES[5:10]
    with pytest.raises(FileNotFoundError):
        await flatstream.aio.open(tmp_path / "nothing.fs")
    with pytest.raises(InvalidFrameError):
        async with flatstream.aio.open(
            tmp_path / "small.fs", "w", framer=flatstream.BoundedFramer(flatstream.DefaultFramer(), 3)
        ) as writer:
            await writer.write_payload(b"1234")
    with pytest.raises(ValueError, match="closed"):
        await writer.write_payload(b"12")


@in_loop
async def test_records_of_a_file_are_read(tmp_path: Path) -> None:
    table = root_of("table Sample { number: long; } root_type Sample;")
    with flatstream.open(tmp_path / "events.fs", "w") as writer:
        flatstream.RecordWriter(writer, table).write_records({"number": number} for number in range(1000))
    async with flatstream.aio.open(tmp_path / "events.fs") as reader:
        assert [record.number async for record in reader.records(table)] == list(range(1000))


@in_loop
async def test_pipes_are_read_and_written_without_a_thread() -> None:
    end, begin = os.pipe()

    async def write() -> None:
        async with flatstream.aio.open_pipe(os.fdopen(begin, "wb", 0), "w", framer="crc32") as writer:
            await writer.write_payloads(MESSAGES)

    before = threading.active_count()
    writing = asyncio.create_task(write())
    async with flatstream.aio.open_pipe(os.fdopen(end, "rb", 0), deframer="crc32") as reader:
        assert [bytes(payload) async for payload in reader] == MESSAGES
    await writing
    assert threading.active_count() == before


@in_loop
async def test_pipe_whose_reader_is_gone_is_an_error() -> None:
    end, begin = os.pipe()
    writer = await flatstream.aio.open_pipe(os.fdopen(begin, "wb", 0), "w")
    os.close(end)
    with pytest.raises(OSError):
        await write_on(writer)
    with pytest.raises(OSError):
        await writer.close()


@in_loop
async def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="reader must be a StreamReader"):
        AsyncFileReader(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="writer must be a StreamWriter"):
        AsyncFileWriter(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode must be"):
        flatstream.aio.open_pipe(None, "a")
    (tmp_path / "file").write_bytes(b"")
    with (tmp_path / "file").open("rb") as file, pytest.raises(ValueError, match="expected a pipe, got a regular file"):
        await flatstream.aio.open_pipe(file)

"""The methods of AsyncFileReader and AsyncFileWriter: what they give is what those of the readers and writers give."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import flatbuffers
import pytest

import flatstream
import flatstream.aio
from flatstream import StreamReader, ValidationFailedError
from flatstream.aio import AsyncFileReader, AsyncFileWriter
from flatstream.journal import JournalReader, JournalWriter
from reference import framing as reference
from support.async_streams import in_loop
from support.schemas import root_of

TABLE = root_of('table Sample { number: long; name: string; } root_type Sample; file_identifier "SAMP";')
OTHER = root_of('table Other { number: long; } root_type Other; file_identifier "OTHR";')
COUNT = 300


class Sample:
    """A message that knows its number, as generated code does."""

    def __init__(self, number: int) -> None:
        self.number = number

    @classmethod
    def from_payload(cls, payload: memoryview) -> Sample:
        return cls(TABLE.view(payload).number)


def write_samples(path: Path, count: int = COUNT) -> None:
    with flatstream.open(path, "w", describe=TABLE) as writer:
        records = flatstream.RecordWriter(writer, TABLE)
        for number in range(count):
            records.write(number=number, name=str(number % 3))


@in_loop
async def test_records_objects_and_columns_need_no_more_than_the_description(tmp_path: Path) -> None:
    path = tmp_path / "samples.fs"
    write_samples(path)
    async with flatstream.aio.open(path) as reader:
        assert reader.description.roots
        assert [record.number async for record in reader.records(limit=5)] == list(range(5))
        assert reader.number == 4
        # What was read ahead is given to whoever reads on, in whatever way.
        batch = await reader.read_batch(7)
        assert (len(batch), reader.number) == (7, 11)
        assert [record.number async for record in reader.records(where=("name", "==", "0"), limit=2)] == [12, 15]
        assert [message.number async for message in reader.typed_messages(Sample)][:2] == [16, 17]
        assert await reader.read_message() is None
    async with flatstream.aio.open(path) as reader:
        assert bytes(await reader.read_message())
        columns = await reader.columns(fields=["number"])
        assert columns["number"].to_pylist() == list(range(1, COUNT))
        assert reader.number == COUNT - 1
    async with flatstream.aio.open(path) as reader:
        await anext(reader)
        rows = []
        async for columns in reader.column_batches(fields=["number"], batch_rows=64):
            rows.append(columns["number"].to_pylist())
            assert reader.number == rows[-1][-1]
        assert [number for row in rows for number in row] == list(range(1, COUNT))
    async with AsyncFileReader(StreamReader(path)) as reader:
        assert reader.description is None
        description = await reader.read_description()
        assert description is not None
        assert description.roots
        assert len([batch async for batch in reader.batches(100)]) == 3


@in_loop
async def test_objects_that_were_written_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "objects.fs"
    objects = [{"n": number} for number in range(50)]
    async with flatstream.aio.open(path, "w", serializer="json", describe=True) as writer:
        await writer.write(objects[0])
        await writer.write_batch(objects[1:])
        assert (writer.frames_written, writer.recovery) == (50, None)
    async with flatstream.aio.open(path) as reader:
        assert [item async for item in reader.objects()] == objects
        with pytest.raises(ValueError, match="the description names the serializer 'json'"):
            reader.objects("msgpack")
    async with AsyncFileReader(StreamReader(path)) as reader:
        assert [item async for item in reader.objects()] == objects


@pytest.mark.parametrize("mode", ["raise", "skip", "stop", "resync"])
@in_loop
async def test_payload_that_cannot_be_loaded_is_damage_as_in_a_stream_reader(mode: Any, tmp_path: Path) -> None:
    path = tmp_path / "objects.fs"
    payloads = [json.dumps(number).encode() for number in range(20)]
    payloads[0] = payloads[7] = payloads[19] = b"{"
    path.write_bytes(reference.encode(payloads, "crc32"))

    def errors_of(error: Any) -> tuple[Any, ...]:
        return error.offset, error.frame, str(error), getattr(error, "__notes__", None)

    ways: list[tuple[Any, Any]] = [(mode, None), ("raise", mode)]
    for own, given in ways:
        expected: list[Any] = []
        got: list[Any] = []
        with StreamReader(path, "crc32", on_error=own) as reader:
            for _ in range(2):
                objects = reader.objects("json", on_error=given)
                while True:
                    try:
                        expected.append(next(objects, None))
                    except ValidationFailedError as error:
                        expected.append(errors_of(error))
                    if expected[-1] is None:
                        break
            expected += [reader.lost_ranges, reader.skipped]
            expected += [errors_of(reader.stop_error)] if mode == "stop" else []
        async with AsyncFileReader(StreamReader(path, "crc32", on_error=own)) as again:
            for _ in range(2):
                items = again.objects("json", on_error=given)
                while True:
                    try:
                        got.append(await anext(items, None))
                    except ValidationFailedError as error:
                        got.append(errors_of(error))
                    if got[-1] is None:
                        break
            got += [again.lost_ranges, again.skipped]
            got += [errors_of(again.stop_error)] if mode == "stop" else []
            if mode == "stop":
                # It is there again, for whoever reads it in another way.
                assert bytes(await again.read_message() or b"") == b"{"
                assert again.number == 0
        assert got == expected


@in_loop
async def test_messages_of_several_tables_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "mixed.fs"
    async with flatstream.aio.open(path, "w", describe=[TABLE, OTHER]) as writer:
        samples, others = writer.records(TABLE), writer.records(OTHER)
        for number in range(10):
            await samples.write(number=number)
            await others.write(number=-number)
        assert await samples.write_columns({"number": [10, 11]}) == 2
    async with flatstream.aio.open(path) as reader:
        assert [record.number async for record in reader.records()][:4] == [0, 0, 1, -1]
    async with flatstream.aio.open(path) as reader:
        assert [record.number async for record in reader.records("Sample")] == list(range(12))
    async with flatstream.aio.open(path) as reader:
        assert (await reader.columns("OTHR"))["number"].to_pylist() == [-number for number in range(10)]
        with pytest.raises(ValueError, match="Nothing"):
            reader.records("Nothing")


@in_loop
async def test_cancelled_reads_of_every_kind_take_nothing(tmp_path: Path) -> None:
    path = tmp_path / "samples.fs"
    write_samples(path, 60)
    ways: list[Any] = [
        lambda reader: reader.read_batch(10),
        lambda reader, kept: anext(kept.setdefault("columns", reader.column_batches(batch_rows=10)), None),
        lambda reader, kept: anext(kept.setdefault("records", reader.records(where=("number", ">=", 0))), None),
    ]
    for number, way in enumerate(ways):
        for step in (1, 2, 4):
            got = 0
            kept: dict[str, Any] = {}
            async with flatstream.aio.open(path) as reader:
                while True:
                    task = asyncio.ensure_future(way(reader, kept) if number else way(reader))
                    for _ in range(step):
                        await asyncio.sleep(0)
                    task.cancel()
                    try:
                        item = await task
                    except asyncio.CancelledError:
                        # Time for the thread: otherwise nothing would ever be there before it is cancelled.
                        while reader._is_reading:
                            await asyncio.sleep(0.001)
                        task = asyncio.ensure_future(way(reader, kept) if number else way(reader))
                        item = await task
                    if item is None:
                        break
                    got += (len, lambda columns: columns.num_rows, lambda record: 1)[number](item)
            assert got == 60


@in_loop
async def test_journal_is_read_in_every_way_and_committed(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    async with AsyncFileWriter(JournalWriter(folder, describe=TABLE)) as writer:
        assert writer.recovery == []
        assert await writer.records(TABLE).write_records({"number": number} for number in range(COUNT)) == COUNT
        builder = flatbuffers.Builder(0)
        with pytest.raises(flatstream.FlatStreamError):
            await writer.write_message(builder)
        await writer.sync()
    async with AsyncFileReader(JournalReader(folder, name="it", follow=True)) as reader:
        batches = reader.column_batches(fields=["number"], batch_rows=None)
        assert (await anext(batches))["number"].to_pylist()[:3] == [0, 1, 2]
        await reader.commit()
        assert reader.cursor.number == reader.number + 1
    async with AsyncFileReader(JournalReader(folder, start=10)) as reader:
        records = reader.records()
        assert [(await anext(records)).number for _ in range(5)] == [10, 11, 12, 13, 14]
        assert reader.cursor.number == 15
        assert len(await reader.read_batch(5) or ()) == 5
        assert reader.cursor.number == 20
        assert [record.number async for record in records] == list(range(20, COUNT))


@in_loop
async def test_what_was_read_ahead_of_an_encrypted_stream_is_given_again(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    path = tmp_path / "encrypted.fs"
    cipher = flatstream.Aes256Gcm(bytes(range(32)), key_id="it")
    framer = flatstream.ChecksumFramer(flatstream.Crc32()).encrypted(cipher).compressed(flatstream.Lz4Compressor())
    messages = [b"%d" % number for number in range(20)]
    async with flatstream.aio.open(path, "w", framer=framer, describe=True) as writer:
        await writer.write_payloads(messages)
    async with flatstream.aio.open(path, cipher=cipher) as reader:
        got = [bytes(await anext(reader)) for _ in range(3)]
        got += [bytes(payload) for payload in await reader.read_batch(2)]
        got.append(bytes(await reader.read_message()))
        async for batch in reader.batches(7):
            got += [bytes(payload) for payload in batch]
        assert got == messages
        assert reader.encryption.is_finished

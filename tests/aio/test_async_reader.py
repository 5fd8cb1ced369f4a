"""AsyncStreamReader: what it gives, when it waits, and what is left after errors and cancellation."""

from __future__ import annotations

import asyncio
import gc
import io
import itertools
import sys
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import flatstream
from flatstream import ChecksumMismatchError, InvalidFrameError, UnexpectedEofError
from flatstream.aio import AsyncStreamReader
from flatstream.aio._link import Link
from flatstream.aio.reader import DEFAULT_CAPACITY
from reference import framing as reference
from support.async_streams import StubTransport, in_loop, run, turns
from support.modes import Mode, every_mode
from support.schemas import root_of
from support.streams import corpus

PAYLOADS = [b"abc", b"", b"d" * 300, b"e"]
STREAM = reference.encode(PAYLOADS, "none")
SAMPLE = root_of("table Sample { number: long; name: string; } root_type Sample;")


def of_stream(data: bytes, *arguments: Any, end: bool = True, **options: Any) -> AsyncStreamReader:
    """A reader of an asyncio.StreamReader that has these bytes."""
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    if end:
        stream.feed_eof()
    return AsyncStreamReader(stream, *arguments, **options)


def of_transport(*arguments: Any, **options: Any) -> tuple[AsyncStreamReader, StubTransport]:
    link, transport = Link(asyncio.get_running_loop()), StubTransport()
    reader = AsyncStreamReader(link, *arguments, **options)
    transport.connect(link)
    return reader, transport


def records_of(numbers: range) -> bytes:
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink) as writer:
        records = flatstream.RecordWriter(writer, SAMPLE)
        for number in numbers:
            records.write(number=number, name=f"n{number}")
    return sink.getvalue()


# What is read


@every_mode
def test_messages_that_have_arrived_are_given_in_order(mode: Mode) -> None:
    made = corpus(mode)

    async def main() -> None:
        reader = of_stream(made.data, mode.deframer())
        assert [bytes(payload) async for payload in reader] == list(made.payloads)
        assert (reader.frames_read, reader.bytes_read, reader.offset) == (
            len(made.payloads),
            len(made.data),
            made.ends[-1],
        )
        # The end stays the end.
        assert await reader.read_message() is None
        assert [payload async for payload in reader] == []

    run(main())


@in_loop
async def test_messages_are_given_as_soon_as_they_are_whole_wherever_the_bytes_are_cut() -> None:
    for cut in range(len(STREAM) + 1):
        reader, transport = of_transport()
        got: list[bytes] = []

        async def read(reader: AsyncStreamReader = reader, got: list[bytes] = got) -> None:
            async for payload in reader:
                got.append(bytes(payload))

        task = asyncio.create_task(read())
        assert transport.give(STREAM[:cut]) == cut
        await turns()
        ends = [len(reference.encode(PAYLOADS[: n + 1], "none")) for n in range(len(PAYLOADS))]
        assert got == [payload for payload, end in zip(PAYLOADS, ends, strict=True) if end <= cut]
        transport.give(STREAM[cut:])
        transport.end()
        await task
        assert got == PAYLOADS


@in_loop
async def test_batches_have_what_has_arrived() -> None:
    reader, transport = of_transport()
    transport.give(STREAM)
    batch = await reader.read_batch()
    assert batch is not None
    assert [bytes(payload) for payload in batch] == PAYLOADS
    waiting = asyncio.create_task(reader.read_batch(max_frames=2))
    await turns()
    assert not waiting.done()
    transport.give(STREAM)
    transport.end()
    assert [bytes(payload) for payload in await waiting or ()] == PAYLOADS[:2]
    assert [len(batch) async for batch in reader.batches(max_bytes=1)] == [1, 1]
    assert await reader.read_batch() is None


@in_loop
async def test_typed_messages_and_records_are_given_as_they_arrive() -> None:
    class Message:
        def __init__(self, text: str) -> None:
            self.text = text

        @classmethod
        def from_payload(cls, payload: memoryview) -> Message:
            return cls(bytes(payload).decode())

    reader, transport = of_transport()
    transport.give(STREAM)
    texts = reader.typed_messages(Message)
    assert [(await anext(texts)).text for _ in PAYLOADS] == [payload.decode() for payload in PAYLOADS]

    reader, transport = of_transport()
    data = records_of(range(10))
    records = reader.records(SAMPLE, where=("number", ">=", 3), limit=5)
    waiting = asyncio.ensure_future(anext(records))
    transport.give(data[:-7])
    assert (await waiting).number == 3
    assert [record.number async for record in records] == [4, 5, 6, 7]
    # The limit, and not the end of the stream.
    assert [record.name async for record in reader.records(SAMPLE, limit=1)] == ["n8"]


@in_loop
async def test_column_batches_have_the_rows_that_have_arrived() -> None:
    reader, transport = of_transport()
    batches = reader.column_batches(SAMPLE, ["number"])
    got = []
    for part in (range(3), range(3, 4), range(4, 9)):
        transport.give(records_of(part))
        got.append((await anext(batches))["number"].to_pylist())
    transport.end()
    assert got == [[0, 1, 2], [3], [4, 5, 6, 7, 8]]
    assert [batch async for batch in batches] == []


@in_loop
async def test_description_is_awaited_and_takes_no_message() -> None:
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink, describe=SAMPLE) as writer:
        flatstream.RecordWriter(writer, SAMPLE).write(number=7)
    data = sink.getvalue()
    reader, transport = of_transport()
    waiting = asyncio.create_task(reader.read_description())
    transport.give(data[:20])
    await turns()
    assert not waiting.done()
    assert reader.description is None
    transport.give(data[20:])
    found = await waiting
    assert found is not None
    assert found == reader.description
    assert [record.number async for record in reader.records(limit=1)] == [7]

    reader, transport = of_transport()
    transport.give(STREAM)
    assert await reader.read_description() is None
    assert bytes(await reader.read_message() or b"") == PAYLOADS[0]
    reader, transport = of_transport()
    transport.end()
    assert await reader.read_description() is None


@in_loop
async def test_tasks_that_share_a_reader_get_each_message_once() -> None:
    reader, transport = of_transport()
    got: list[bytes] = []

    async def read() -> None:
        async for payload in reader:
            got.append(bytes(payload))
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(read()) for _ in range(5)]
    messages = [b"%d" % number for number in range(100)]
    data = reference.encode(messages, "none")
    for begin in range(0, len(data), 7):
        transport.give(data[begin : begin + 7])
        await turns(1)
    transport.end()
    await asyncio.gather(*tasks)
    assert sorted(got) == sorted(messages)


@in_loop
async def test_tasks_that_share_an_asyncio_stream_get_each_message_once() -> None:
    stream = asyncio.StreamReader()
    reader = AsyncStreamReader(stream)

    async def read() -> list[bytes]:
        return [bytes(payload) async for payload in reader]

    tasks = [asyncio.create_task(read()) for _ in range(3)]
    for byte in STREAM:
        stream.feed_data(bytes([byte]))
        await turns(3)
    stream.feed_eof()
    assert sorted(itertools.chain(*await asyncio.gather(*tasks))) == sorted(PAYLOADS)


@in_loop
async def test_payload_stays_unchanged_while_it_is_held() -> None:
    reader, transport = of_transport(capacity=512)
    held, expected = [], []
    for number in range(200):
        payload = bytes([number % 256]) * (number % 97)
        transport.give(reference.encode([payload], "none"))
        held.append(await reader.read_message())
        expected.append(payload)
    assert [bytes(view or b"") for view in held] == expected


# Errors


@in_loop
async def test_stream_that_ends_inside_of_a_frame_is_never_a_clean_end() -> None:
    reader = of_stream(STREAM + b"\x05\x00\x00\x00ab")
    assert [bytes(await anext(reader)) for _ in PAYLOADS] == PAYLOADS
    for _ in range(2):
        with pytest.raises(UnexpectedEofError) as caught:
            await reader.read_message()
        assert (caught.value.offset, caught.value.needed, caught.value.got) == (len(STREAM), 9, 6)


@in_loop
async def test_frame_over_the_limit_is_refused_before_its_bytes_arrive() -> None:
    reader, transport = of_transport(max_frame_len=100)
    transport.give(reference.encode([b"x" * 100], "none") + (101).to_bytes(4, "little"))
    assert len(await anext(reader)) == 100
    for _ in range(2):
        with pytest.raises(InvalidFrameError) as caught:
            await anext(reader)
        assert (caught.value.declared_len, caught.value.offset) == (101, 104)
    # What else is sent is not kept without end.
    assert transport.give(bytes(10 * DEFAULT_CAPACITY)) <= 2 * DEFAULT_CAPACITY


@in_loop
async def test_default_limit_of_a_frame_is_16_mib() -> None:
    reader, transport = of_transport()
    transport.give((16 * 1024 * 1024 + 1).to_bytes(4, "little"))
    with pytest.raises(InvalidFrameError):
        await anext(reader)


@in_loop
async def test_damage_is_treated_as_on_error_says() -> None:
    frames = [bytearray(reference.encode([payload], "crc32")) for payload in (b"one", b"two", b"three", b"four")]
    frames[1][-1] ^= 1
    data = b"".join(frames)
    reader = of_stream(data, "crc32")
    assert bytes(await anext(reader)) == b"one"
    with pytest.raises(ChecksumMismatchError):
        await anext(reader)
    # The iterator can go on.
    assert [bytes(payload) async for payload in reader] == [b"three", b"four"]
    for mode in ("skip", "resync"):
        reader = of_stream(data, "crc32", on_error=mode)
        assert [bytes(payload) async for payload in reader] == [b"one", b"three", b"four"]
        assert (reader.skipped, reader.lost_bytes, reader.lost_ranges) == (1, 11, [(11, 22)])
    reader, transport = of_transport("crc32", on_error="stop")
    transport.give(data)
    assert [bytes(payload) async for payload in reader] == [b"one"]
    assert isinstance(reader.stop_error, ChecksumMismatchError)
    assert await reader.read_batch() is None
    reader = of_stream(data, "crc32")
    assert [bytes(payload) async for payload in reader.messages(on_error="skip")] == [b"one", b"three", b"four"]
    reader = of_stream(data, "crc32")
    assert [len(batch) async for batch in reader.batches(on_error="skip")] == [1, 2]


@in_loop
async def test_search_behind_damage_goes_on_as_bytes_arrive() -> None:
    payloads = [b"%d" % number * 10 for number in range(40)]
    data = bytearray(reference.encode(payloads, "crc32"))
    ends = [len(reference.encode(payloads[: n + 1], "crc32")) for n in range(40)]
    data[ends[9] : ends[9] + 4] = b"\xff\xff\x00\x00"
    reader, transport = of_transport("crc32", on_error="resync")

    async def read() -> list[bytes]:
        return [bytes(payload) async for payload in reader]

    task = asyncio.create_task(read())
    for begin in range(0, len(data), 13):
        transport.give(bytes(data[begin : begin + 13]))
        await turns(1)
    transport.end()
    assert await task == payloads[:10] + payloads[11:]
    assert reader.lost_ranges == [(ends[9], ends[10])]


@in_loop
async def test_error_of_the_connection_comes_behind_the_messages_that_had_arrived() -> None:
    reader, transport = of_transport()
    transport.give(STREAM + b"\x05\x00")
    transport.lose(ConnectionResetError("gone"))
    await turns()
    assert [bytes(await anext(reader)) for _ in PAYLOADS] == PAYLOADS
    for read in (reader.read_message, reader.read_batch):
        with pytest.raises(ConnectionResetError, match="gone"):
            await read()


@in_loop
async def test_connection_that_is_lost_without_an_end_is_no_clean_end() -> None:
    reader, transport = of_transport()
    waiting = asyncio.create_task(reader.read_message())
    await turns()
    transport.lose(None)
    with pytest.raises(ConnectionAbortedError):
        await waiting


@in_loop
async def test_closed_reader_refuses_reads_and_wakes_who_waits() -> None:
    reader, _transport = of_transport()
    waiting = [asyncio.create_task(reader.read_message()) for _ in range(2)]
    await turns()
    async with reader:
        pass
    await reader.close()
    assert reader.closed
    for task in waiting:
        with pytest.raises(ValueError, match="closed"):
            await task
    reader, transport = of_transport()
    transport.give(STREAM)
    skipping = reader.messages(on_error="skip")
    await reader.close()
    for read in (reader.read_message, reader.read_batch, lambda: anext(skipping)):
        with pytest.raises(ValueError, match="closed"):
            await read()
    # What still comes is dropped.
    assert transport.give(STREAM) == 0


# Cancellation


async def _read_all(read: Callable[[], Awaitable[bytes | None]], got: list[bytes]) -> int:
    """Reads to the end, again after each cancellation; returns how often it was cancelled."""
    cancelled = 0
    task = asyncio.current_task()
    assert task is not None
    while True:
        try:
            payload = await read()
        except asyncio.CancelledError:
            cancelled += 1
            task.uncancel()
            continue
        if payload is None:
            return cancelled
        got.append(payload)


@pytest.mark.parametrize("way", ["read_message", "anext", "read_batch"])
@pytest.mark.parametrize("source", ["transport", "stream"])
@in_loop
async def test_read_that_is_cancelled_at_any_step_takes_nothing(source: str, way: str) -> None:
    messages = [b"%d" % number * 9 for number in range(12)]
    data = reference.encode(messages, "none")
    cancelled = 0
    for step in range(1, 60):
        if source == "stream":
            stream = asyncio.StreamReader()
            reader, give, end = AsyncStreamReader(stream), stream.feed_data, stream.feed_eof
        else:
            reader, transport = of_transport()
            give, end = transport.give, transport.end  # type: ignore[assignment]

        async def read(reader: AsyncStreamReader = reader) -> bytes | None:
            if way == "read_message":
                payload = await reader.read_message()
            elif way == "anext":
                payload = await anext(reader, None)
            else:
                batch = await reader.read_batch(max_frames=1)
                payload = None if batch is None else batch[0]
            return None if payload is None else bytes(payload)

        got: list[bytes] = []
        task = asyncio.create_task(_read_all(read, got))
        for turn in range(60):
            if turn == step:
                task.cancel()
            if turn % 2:
                give(data[turn // 2 * 5 : turn // 2 * 5 + 5])
            await asyncio.sleep(0)
        give(data[150:])
        end()
        cancelled += await task
        assert got == messages, step
    assert cancelled > 20


@in_loop
async def test_time_limit_takes_nothing_and_leaves_nothing_behind() -> None:
    reader, transport = of_transport()
    for _ in range(50):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await reader.read_message()
    link: Any = reader._inlet
    assert len(link._readers) <= 1
    transport.give(STREAM)
    assert bytes(await reader.read_message() or b"") == PAYLOADS[0]


@in_loop
async def test_operation_that_is_not_awaited_takes_nothing() -> None:
    reader, transport = of_transport()
    transport.give(STREAM)
    unused = [reader.read_message(), reader.__anext__()]
    never = "AsyncStreamReader was never awaited: it has read nothing"
    with pytest.warns(RuntimeWarning, match=never) as warned:  # noqa: PT031
        unused.clear()
        operation = reader.read_message()
    assert len(warned) == 2
    operation.close()
    with pytest.raises(RuntimeError, match="awaited already"):
        await operation
    thrown = reader.read_message()
    with pytest.raises(KeyError):
        thrown.throw(KeyError("x"))
    assert bytes(await reader.read_message() or b"") == PAYLOADS[0]
    awaited = reader.read_message()
    assert bytes(await awaited or b"") == PAYLOADS[1]
    with pytest.raises(RuntimeError, match="awaited already"):
        await awaited


@in_loop
async def test_operations_behave_under_a_trace_function() -> None:
    reader, transport = of_transport()
    got: list[bytes] = []

    async def read() -> None:
        async for payload in reader:
            got.append(bytes(payload))

    old = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        task = asyncio.create_task(read())
        await turns()
        transport.give(STREAM)
        transport.end()
        await task
    finally:
        sys.settrace(old)
    assert got == PAYLOADS


# Flow control


@in_loop
async def test_transport_is_paused_while_nobody_reads_and_memory_is_bounded() -> None:
    reader, transport = of_transport()
    frame = reference.encode([b"x" * 1000], "none")
    data = frame * (8 * DEFAULT_CAPACITY // len(frame))
    taken = transport.give(data)
    assert DEFAULT_CAPACITY <= taken <= 2 * DEFAULT_CAPACITY
    assert reader.buffered == taken
    # Reading on resumes it, when what has arrived is read.
    got = 0

    async def read() -> None:
        nonlocal got
        async for payload in reader:
            got += len(payload) + 4
            if got % 7 == 0:
                await asyncio.sleep(0)

    task = asyncio.create_task(read())
    while taken < len(data):
        await turns(1)
        # One read of the system at a time, as an event loop does.
        if transport.is_reading:
            taken += transport.give(data[taken : taken + DEFAULT_CAPACITY])
        assert reader.buffered <= 2 * DEFAULT_CAPACITY
    transport.end()
    await task
    assert got == len(data)
    assert transport.pauses >= 1


@in_loop
async def test_frame_larger_than_the_limit_of_what_waits_is_read() -> None:
    payload = bytes(range(256)) * (DEFAULT_CAPACITY // 64)
    reader, transport = of_transport()
    data = reference.encode([payload, b"next"], "none")
    waiting = asyncio.create_task(reader.read_message())
    sent = 0
    while sent < len(data):
        sent += transport.give(data[sent:])
        await turns(2)
    assert bytes(await waiting or b"") == payload
    assert bytes(await reader.read_message() or b"") == b"next"


@in_loop
async def test_readers_are_collected_without_close() -> None:
    reader, _transport = of_transport()
    kept = weakref.ref(reader)
    waiting = asyncio.create_task(reader.read_message())
    await turns()
    waiting.cancel()
    await turns()
    del reader, _transport, waiting
    gc.collect()
    assert kept() is None


@in_loop
async def test_wrong_arguments_are_refused() -> None:
    stream = asyncio.StreamReader()
    for source in (b"abc", None, "path", asyncio.StreamReader):
        with pytest.raises(TypeError, match=r"source must be an asyncio\.StreamReader"):
            AsyncStreamReader(source)  # type: ignore[arg-type]
    for options in ({"capacity": 0}, {"on_error": "what"}, {"max_frame_len": -1}):
        with pytest.raises(ValueError, match="must"):
            AsyncStreamReader(stream, **options)
    reader = AsyncStreamReader(stream)
    with pytest.raises(ValueError, match="on_error"):
        reader.batches(on_error="what")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="table"):
        reader.records(5)

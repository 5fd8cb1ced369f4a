"""AsyncStreamWriter: what is accepted, when it waits, and what is left after errors and cancellation."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import flatstream
from flatstream import BoundedFramer, InvalidFrameError
from flatstream.aio import AsyncRecordWriter, AsyncStreamReader, AsyncStreamWriter
from flatstream.aio._link import Link
from reference import framing as reference
from support.async_streams import StubTransport, in_loop, run, turns
from support.modes import Mode, every_mode
from support.schemas import root_of
from support.streams import corpus

BUFFER = 1024
SAMPLE = root_of("table Sample { number: long; name: string; } root_type Sample;")


def to_transport(
    *arguments: Any, room: int = 1 << 60, buffer_size: int = BUFFER, **options: Any
) -> tuple[AsyncStreamWriter, StubTransport]:
    link, transport = Link(asyncio.get_running_loop()), StubTransport(room)
    writer = AsyncStreamWriter(link, *arguments, buffer_size=buffer_size, **options)
    transport.connect(link)
    return writer, transport


def messages_of(data: bytes | bytearray) -> list[bytes]:
    return [bytes(payload) for payload in flatstream.StreamReader(data)]


# What is written


@every_mode
def test_messages_are_framed_in_order(mode: Mode) -> None:
    made = corpus(mode)

    async def main() -> None:
        writer, transport = to_transport(mode.framer())
        for payload in made.payloads:
            await writer.write_payload(payload)
        assert (writer.frames_written, writer.bytes_written) == (len(made.payloads), len(made.data))
        await writer.close()
        assert transport.taken == made.data
        assert transport.has_ended
        for ways in (list, tuple, iter):
            writer, transport = to_transport(mode.framer())
            await writer.write_payloads(ways(made.payloads))
            await writer.flush()
            assert transport.taken == made.data

    run(main())


@in_loop
async def test_messages_written_together_go_out_together_and_without_flush() -> None:
    writer, transport = to_transport()
    await writer.write_payload(b"one")
    await writer.write_payload(bytearray(b"two"))
    assert transport.taken == b""
    await turns(1)
    assert messages_of(transport.taken) == [b"one", b"two"]
    assert writer.pending_bytes == 0
    # A payload that is larger than the buffer goes out at once, behind what was before it.
    await writer.write_payload(b"three")
    await writer.write_payload(b"x" * 5000)
    assert messages_of(transport.taken)[2:] == [b"three", b"x" * 5000]


@in_loop
async def test_bytes_may_be_changed_when_the_write_has_returned() -> None:
    for size in (10, 5000):
        writer, transport = to_transport(room=100)
        payload = bytearray(b"a" * size)
        await writer.write_payload(payload)
        payload[:] = b"b" * size
        closing = asyncio.create_task(writer.close())
        while not closing.done():
            transport.take(1000)
            await turns(1)
        assert messages_of(transport.taken) == [b"a" * size]


@in_loop
async def test_every_kind_of_message_is_written() -> None:
    class Item:
        def serialize(self, builder: Any) -> None:
            builder.Finish(builder.CreateString("item"))

    builder = flatstream.Builder()
    builder.Finish(builder.CreateString("built"))
    sink = io.BytesIO()
    with flatstream.StreamWriter(sink) as plain:
        plain.write("text")
        plain.write_batch(["a", Item()])
        plain.write_finished(builder)
    writer, transport = to_transport()
    await writer.write("text")
    await writer.write_batch(["a", Item()])
    await writer.write_message(builder)
    with pytest.raises(flatstream.FlatbufferError):
        await writer.write_finished(builder)
    batch = flatstream.StreamReader(sink.getvalue()).read_batch()
    assert batch is not None
    await writer.write_frames(batch)
    await writer.flush()
    assert bytes(transport.taken) == sink.getvalue() * 2
    with pytest.raises(TypeError, match="write\\(\\) takes a single item"):
        await writer.write_batch("abc")


@in_loop
async def test_records_are_written_by_row_and_by_column() -> None:
    writer, transport = to_transport(describe=SAMPLE)
    records = writer.records(SAMPLE)
    await records.write(number=0, name="n0")
    await records.write_record({"number": 1, "name": "n1"})
    assert await records.write_records({"number": n, "name": f"n{n}"} for n in range(2, 1000)) == 998
    assert await records.write_columns({"number": [1000, 1001], "name": ["n1000", "n1001"]}) == 2
    with pytest.raises(TypeError, match="number"):
        await records.write_records([{"number": 1002, "name": "n1002"}] * 300 + [{"number": "x"}, {"number": 4}])
    assert writer.frames_written == 1302
    await writer.close()
    reader = flatstream.StreamReader(bytes(transport.taken))
    assert reader.description is not None
    numbers = [(record.number, record.name) for record in reader.records()]
    assert numbers == [(n, f"n{n}") for n in range(1002)] + [(1002, "n1002")] * 300
    with pytest.raises(TypeError, match="writer must be an AsyncStreamWriter"):
        AsyncRecordWriter(flatstream.StreamWriter(io.BytesIO()), SAMPLE)  # type: ignore[arg-type]


@in_loop
async def test_refused_payload_writes_nothing_and_those_before_it_stay() -> None:
    writer, transport = to_transport(BoundedFramer(flatstream.DefaultFramer(), 5))
    given: list[bytes] = []

    def payloads() -> Iterator[bytes]:
        for payload in (b"a", b"bb", b"cccccc", b"d"):
            given.append(payload)
            yield payload

    for many in ([b"a", b"bb", b"cccccc", b"d"], payloads()):
        with pytest.raises(InvalidFrameError):
            await writer.write_payloads(many)
    assert given == [b"a", b"bb", b"cccccc"]
    with pytest.raises(InvalidFrameError):
        await writer.write_payload(b"123456")
    with pytest.raises(TypeError, match="bytes-like"):
        await writer.write_payload("text")  # type: ignore[arg-type]
    for wrong in (b"ab", 5, "text"):
        with pytest.raises(TypeError, match="payloads must be an iterable"):
            await writer.write_payloads(wrong)  # type: ignore[arg-type]
    # They go out all the same.
    await turns(1)
    assert messages_of(transport.taken) == [b"a", b"bb", b"a", b"bb"]


@in_loop
async def test_objects_are_written_and_read_with_a_serializer() -> None:
    writer, transport = to_transport(serializer="json", describe=True)
    objects = [{"number": number} for number in range(5)]
    for item in objects:
        await writer.write(item)
    await writer.close()
    stream = asyncio.StreamReader()
    stream.feed_data(bytes(transport.taken))
    stream.feed_eof()
    reader = AsyncStreamReader(stream)
    assert await reader.read_description() is not None
    assert [item async for item in reader.objects()] == objects


# Backpressure


@in_loop
async def test_writes_wait_while_the_other_side_takes_nothing_and_memory_is_bounded() -> None:
    writer, transport = to_transport(room=0)
    written = 0

    async def write() -> None:
        nonlocal written
        for number in range(400):
            await writer.write_payload(b"%096d" % number)
            written += 1

    task = asyncio.create_task(write())
    await turns(50)
    # Two buffers are with the transport, and one is here.
    assert 2 * BUFFER < written * 100 <= 3 * BUFFER + 100
    assert writer.frames_written == written
    assert transport.largest <= 2 * BUFFER
    # It goes on when the transport has taken all that it had.
    transport.take(len(transport.kept) - 1)
    await turns(50)
    before = written
    transport.take(1)
    await turns(50)
    assert written > before
    while not task.done():
        transport.take(777)
        await turns(2)
        assert transport.largest <= 3 * BUFFER
    closing = asyncio.create_task(writer.close())
    while not closing.done():
        transport.take(777)
        await turns(2)
    assert messages_of(transport.taken) == [b"%096d" % number for number in range(400)]


@in_loop
async def test_many_writers_wait_and_none_is_forgotten() -> None:
    writer, transport = to_transport(room=0)

    async def write(name: int) -> None:
        for number in range(20):
            await writer.write_payload(b"%d %090d" % (name, number))

    tasks = [asyncio.create_task(write(name)) for name in range(8)]
    tasks.append(asyncio.create_task(writer.write_payloads([b"8 %090d" % number for number in range(20)])))
    while not all(task.done() for task in tasks):
        transport.take(500)
        await turns(2)
        assert transport.largest <= 3 * BUFFER
    await asyncio.gather(*tasks)
    transport.take(1 << 20)
    await writer.flush()
    got = messages_of(transport.taken)
    for name in range(9):
        own = [int(message.split()[1]) for message in got if message.startswith(b"%d " % name)]
        assert own == list(range(20))


@in_loop
async def test_flush_returns_when_all_was_taken() -> None:
    writer, transport = to_transport(room=0)
    await writer.write_payload(b"abc")
    flushing = asyncio.create_task(writer.flush())
    await turns(10)
    assert not flushing.done()
    transport.take(6)
    await turns(10)
    assert not flushing.done()
    transport.take(1)
    await flushing
    assert transport.taken == reference.encode([b"abc"], "none")


@in_loop
async def test_one_shot_values_are_used_once_although_the_write_waits() -> None:
    built: list[str] = []

    class Item:
        def serialize(self, builder: Any) -> None:
            built.append("x")
            builder.Finish(builder.CreateString("x" * 50))

    writer, transport = to_transport(room=0)
    items = [Item() for _ in range(100)]
    task = asyncio.create_task(writer.write_batch(items))
    await turns(50)
    assert len(built) == writer.frames_written < 60
    while not task.done():
        transport.take(300)
        await turns(2)
    assert len(built) == 100
    writer.abort()


# Cancellation


@pytest.mark.parametrize("way", ["write_payload", "write_payloads", "iterator", "records", "flush", "large"])
@in_loop
async def test_write_that_is_cancelled_at_any_step_is_not_accepted_and_others_are_once(way: str) -> None:
    # Each message is written again if its write was cancelled. So each must arrive once.
    size = 400 if way != "large" else 1500
    count = 24 if way != "large" else 8
    messages = [b"%d " % number + b"x" * size for number in range(count)]
    cancelled = 0
    for step in range(1, 45):
        writer, transport = to_transport(room=0)
        records = writer.records(SAMPLE)

        async def write_all(writer: AsyncStreamWriter = writer, records: AsyncRecordWriter = records) -> int:
            task = asyncio.current_task()
            assert task is not None
            times = 0
            given = iter(messages)
            while (done := writer.frames_written) < count:
                try:
                    if way == "write_payloads":
                        await writer.write_payloads(messages[done:])
                    elif way == "iterator":
                        await writer.write_payloads(given)
                    elif way == "records":
                        await records.write(number=done, name="x" * size)
                        assert writer.frames_written == done + 1
                    else:
                        await writer.write_payload(messages[done])
                        assert writer.frames_written == done + 1
                        if way == "flush" and done % 5 == 0:
                            await writer.flush()
                except asyncio.CancelledError:
                    times += 1
                    task.uncancel()
                    if way in ("write_payload", "large", "records"):
                        assert writer.frames_written == done
            while True:
                try:
                    await writer.close()
                    return times
                except asyncio.CancelledError:
                    times += 1
                    task.uncancel()

        task = asyncio.create_task(write_all())
        turn = 0
        while not task.done():
            if turn in (step, step + 1, step + 7):
                task.cancel()
            if turn % 2:
                transport.take(450)
            await asyncio.sleep(0)
            turn += 1
            assert turn < 10_000
        cancelled += await task
        if way == "records":
            got = [record.number for record in flatstream.StreamReader(bytes(transport.taken)).records(SAMPLE)]
            assert got == list(range(count)), step
        else:
            assert messages_of(transport.taken) == messages, step
    assert cancelled > 80


@in_loop
async def test_write_that_never_ran_is_not_accepted() -> None:
    writer, transport = to_transport()
    task = asyncio.create_task(writer.write_payload(b"never"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    never = "AsyncStreamWriter was never awaited: it has written nothing"
    with pytest.warns(RuntimeWarning, match=never) as warned:  # noqa: PT031
        writer.write_payload(b"not awaited")  # type: ignore[unused-coroutine]
        writer.write_payload(b"not awaited").close()
        writer.write("not awaited")  # type: ignore[unused-coroutine]
    assert len(warned) == 2
    writer.write("not awaited").close()
    await turns()
    assert (writer.frames_written, len(transport.taken)) == (0, 0)


@in_loop
async def test_operation_cannot_be_ended_by_code_that_it_calls() -> None:
    for end in (lambda step: step.close(), lambda step: step.throw(KeyError("x")), lambda step: step.send(None)):
        writer, transport = to_transport()

        def payloads(end: Callable[[Any], object] = end) -> Iterator[bytes]:
            yield b"before"
            with pytest.raises(ValueError, match="being done"):
                end(step)  # noqa: B023 - called in this turn
            yield b"after"

        step: Any = writer.write_payloads(payloads())
        await step
        await turns()
        assert messages_of(transport.taken) == [b"before", b"after"]


# The end, and loss


@in_loop
async def test_lost_connection_is_an_error_of_every_write() -> None:
    writer, transport = to_transport(room=0)
    waiting = asyncio.create_task(writer.write_payloads([b"x" * 100] * 100))
    flushing = asyncio.create_task(writer.flush())
    await turns(10)
    transport.lose(BrokenPipeError("gone"))
    for task in (waiting, flushing):
        with pytest.raises(BrokenPipeError, match="gone"):
            await task
    before = writer.frames_written
    assert 0 < before < 100
    operations: list[Callable[[], Coroutine[Any, Any, None]]] = [
        lambda: writer.write_payload(b"y"),
        lambda: writer.write("y"),
        lambda: writer.write_payloads([b""]),
    ]
    for operation in operations:
        with pytest.raises(BrokenPipeError, match="gone"):
            await operation()
    assert writer.frames_written == before
    with pytest.raises(BrokenPipeError, match="gone"):
        await writer.close()
    assert writer.closed


@in_loop
async def test_connection_that_is_lost_without_an_error_is_an_error_of_writes() -> None:
    writer, transport = to_transport()
    transport.lose(None)
    await turns()
    with pytest.raises(ConnectionResetError):
        await writer.write_payload(b"x")
    writer.abort()


@in_loop
async def test_closed_writer_refuses_writes() -> None:
    writer, transport = to_transport(room=0)
    waiting = asyncio.create_task(writer.write_payloads([b"x" * 100] * 100))
    await turns(10)
    accepted = writer.frames_written
    closing = asyncio.create_task(writer.close())
    await turns(10)
    with pytest.raises(ValueError, match="closed"):
        await waiting
    transport.take(1 << 20)
    await closing
    # What was accepted goes out.
    assert len(messages_of(transport.taken)) == accepted == writer.frames_written
    for operation in (writer.flush, lambda: writer.write_payload(b"y"), lambda: writer.write("y")):
        with pytest.raises(ValueError, match="closed"):
            await operation()
    await writer.close()


@in_loop
async def test_block_that_is_cancelled_does_not_wait_for_the_other_side() -> None:
    async def write(writer: AsyncStreamWriter) -> None:
        async with writer:
            await writer.write_payloads([b"x" * 100] * 100)

    writer, transport = to_transport(room=0)
    task = asyncio.create_task(write(writer))
    await turns(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert writer.closed
    assert transport.is_closing()


@in_loop
async def test_error_of_a_block_is_raised_and_the_writer_closed() -> None:
    async def fail(writer: AsyncStreamWriter, loss: BaseException | None) -> None:
        async with writer:
            await writer.write_payload(b"abc")
            if loss is not None:
                transport.lose(loss)
                await turns()
            raise KeyError("x")

    writer, transport = to_transport()
    with pytest.raises(KeyError):
        await fail(writer, None)
    assert writer.closed
    assert messages_of(transport.taken) == [b"abc"]
    writer, transport = to_transport()
    with pytest.raises(KeyError) as caught:
        await fail(writer, BrokenPipeError("gone"))
    assert "closing the stream writer failed too: BrokenPipeError: gone" in caught.value.__notes__


@in_loop
async def test_wrong_arguments_are_refused() -> None:
    for sink in (io.BytesIO(), None, "path"):
        with pytest.raises(TypeError, match=r"sink must be an asyncio\.StreamWriter"):
            AsyncStreamWriter(sink)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="buffer_size"):
        to_transport(buffer_size=-1)

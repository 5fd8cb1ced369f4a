"""A server and a client in one event loop: messages there and back, backpressure, limits, and an end without loss.

python examples/async_echo.py
"""

from __future__ import annotations

import asyncio

from flatstream.aio import Connection, connect, serve

COUNT = 10_000


async def answer(connection: Connection) -> None:
    """Sends each message back in capitals. The connection is closed when this returns."""
    async for payload in connection.reader:
        await connection.writer.write_payload(bytes(payload).upper())


async def send(connection: Connection) -> None:
    for number in range(COUNT):
        # Returns at once while there is room, and waits while the server takes no more.
        await connection.writer.write_payload(b"message %d" % number)
    # The server sees the end; what it still sends can be read.
    await connection.writer.close()


async def main() -> None:
    # A message of more than 1,000 bytes ends its connection, and so does a minute of silence.
    async with await serve(
        answer, "127.0.0.1", 0, deframer="crc32", framer="crc32", max_frame_len=1000, idle_timeout=60
    ) as server:
        async with connect("127.0.0.1", server.port, deframer="crc32", framer="crc32") as connection:
            sending = asyncio.create_task(send(connection))
            answers = [bytes(payload) async for payload in connection.reader]
            await sending
        assert answers == [b"MESSAGE %d" % number for number in range(COUNT)]
        print(f"{len(answers)} answers, the last one {answers[-1].decode()!r}")

        async with connect("127.0.0.1", server.port, deframer="crc32", framer="crc32") as connection:
            await connection.writer.write_payload(b"first")
            try:
                # A read that is cancelled takes nothing.
                async with asyncio.timeout(0):
                    await connection.reader.read_message()
            except TimeoutError:
                print("no answer yet")
            payload = await connection.reader.read_message()
            assert payload is not None
            assert bytes(payload) == b"FIRST"
    assert server.connections == 0


if __name__ == "__main__":
    asyncio.run(main())

"""Messages over any transport: FrameParser and FrameSerializer do no input and output of their own.

A subprocess echoes messages over its pipes, which `selectors` drives: the program writes while the pipe takes something
and reads while it has something, and never waits for one of the two. Then two sides exchange bytes in memory, in pieces
of any size, as TLS or another protocol brings them.

Run it: python examples/any_transport.py
"""

import os
import selectors
import subprocess
import sys

from flatstream import FrameParser, FrameSerializer

MESSAGES = [b"message %d " % number * (number % 50) + b"." for number in range(2000)]

ECHO = """
import sys
from flatstream import StreamReader, StreamWriter

with StreamReader(sys.stdin.buffer, "crc32") as reader, StreamWriter(sys.stdout.buffer, "crc32") as writer:
    for payload in reader:
        writer.write_payload(bytes(payload).upper())
"""


def over_pipes() -> None:
    """Sends all messages to a subprocess, and receives its answers meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    to_process, from_process = process.stdin.fileno(), process.stdout.fileno()
    os.set_blocking(to_process, False)
    os.set_blocking(from_process, False)
    serializer = FrameSerializer("crc32", max_pending=100_000)
    parser = FrameParser("crc32", max_frame_len=10_000)
    answers = []
    waiting = iter(MESSAGES)
    message = next(waiting, None)
    refusals = 0
    with selectors.DefaultSelector() as selector:
        selector.register(to_process, selectors.EVENT_WRITE)
        selector.register(from_process, selectors.EVENT_READ)
        while not parser.at_eof:
            # As many as the serializer keeps. It refuses the next one until the pipe has taken some.
            try:
                while message is not None:
                    serializer.write_payload(message)
                    message = next(waiting, None)
            except BlockingIOError:
                refusals += 1
            for key, _ in selector.select():
                if key.fd == from_process:
                    # The pipe's bytes go into memory of the parser, and payloads are views of it.
                    count = os.readv(from_process, [parser.get_buffer()])
                    parser.buffer_updated(count)
                    if not count:
                        parser.feed_eof()
                    answers += [bytes(payload) for payload in parser]
                elif serializer.pending_bytes:
                    serializer.mark_sent(os.writev(to_process, serializer.pending_buffers(64)))
                else:
                    # All is sent.
                    selector.unregister(to_process)
                    process.stdin.close()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert answers == [message.upper() for message in MESSAGES]
    assert refusals > 0
    print(f"{len(answers)} answers over two pipes; {parser.bytes_read:,} bytes received")


def over_memory() -> None:
    """Two sides exchange bytes in pieces of any size, as the records of TLS or messages of another protocol."""
    serializer = FrameSerializer("crc32", describe=True, metadata={"site": "north"})
    parser = FrameParser("crc32")
    received = 0
    for number, message in enumerate(MESSAGES):
        serializer.write_payload(message)
        if number % 7 == 0:
            while record := serializer.take(1_400):
                parser.feed(record)
                received += sum(1 for _ in parser)
    serializer.finish()
    parser.feed(serializer.take())
    parser.feed_eof()
    received += sum(1 for _ in parser)
    assert received == len(MESSAGES)
    assert parser.at_eof
    assert parser.description is not None
    print(f"{received} messages in pieces of 1,400 bytes, from {parser.description.metadata['site']}")


def main() -> None:
    """Runs both."""
    over_pipes()
    over_memory()


if __name__ == "__main__":
    main()

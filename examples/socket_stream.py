"""A stream over a socket: each message arrives when it is flushed.

Sockets are sources and sinks like files. If the connection ends between two frames, the stream ends cleanly; if it ends
inside a frame, reading raises an error.
"""

# ruff: noqa: PT017 - a script has no pytest.raises

from __future__ import annotations

import socket
import threading

from flatstream import ChecksumType, StreamReader, StreamWriter, UnexpectedEofError

CHECKSUM = ChecksumType.CRC32


def send(connection: socket.socket, replies: list[bytes]) -> None:
    """Sends messages one at a time, and waits for the other side to acknowledge each."""
    with connection, StreamWriter(connection, CHECKSUM) as writer:
        for text in ("one", "two", "three"):
            writer.write_payload(text.encode())
            writer.flush()
            replies.append(connection.recv(1))


def main() -> None:
    near, far = socket.socketpair()
    replies: list[bytes] = []
    sender = threading.Thread(target=send, args=(far, replies))
    sender.start()
    received = []
    with near, StreamReader(near, CHECKSUM) as reader:
        for payload in reader:
            received.append(bytes(payload).decode())
            near.sendall(b".")  # a reader that waited for more data first would deadlock
    sender.join()
    assert received == ["one", "two", "three"]
    assert replies == [b"."] * 3
    print(f"received {received}, then a clean end")

    # A connection that breaks inside a frame.
    near, far = socket.socketpair()
    with near, StreamReader(near, CHECKSUM) as reader:
        with far:
            far.sendall(bytes.fromhex("03 00 00 00 c2 41 24 35 61 62"))
        try:
            reader.read_message()
        except UnexpectedEofError as error:
            assert (error.needed, error.got) == (11, 10)
            print(f"broken:  {error}")
        else:
            raise AssertionError("a torn frame was reported as a clean end")


if __name__ == "__main__":
    main()

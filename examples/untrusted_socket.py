"""Reading from an untrusted sender: every message is verified before it is used.

A checksum detects accidents only, because a sender can calculate the checksum of an invalid message too. The code that
flatc generates follows every offset without a check. So three checks protect it: a bound on the size of a frame, before
anything of the frame is read; the checksum; and a verifier that checks the whole message against the schema. A refused
message is consumed, and the next one can be read.
"""

# mypy: allow-untyped-calls
# (the code flatc generates has no annotations)

from __future__ import annotations

import socket
import threading
from pathlib import Path

from telemetry import Event

from flatstream import (
    Builder,
    ChecksumDeframer,
    CompositeValidator,
    Crc32,
    Schema,
    SizeValidator,
    StreamReader,
    StreamWriter,
    TypedValidator,
    ValidationFailedError,
)

SCHEMA = Schema.from_file(Path(__file__).parent / "telemetry.bfbs")
LARGEST = 64 * 1024


def build_event(sequence: int, host: str) -> bytes:
    builder = Builder(256)
    name = builder.CreateString(host)
    Event.Start(builder)
    Event.AddSequence(builder, sequence)
    Event.AddHost(builder, name)
    builder.Finish(Event.End(builder), b"TELE")
    return bytes(builder.Output())


def send(connection: socket.socket) -> None:
    """Sends valid messages and three kinds of invalid ones."""
    good = build_event(1, "alpha")
    wild = bytearray(build_event(2, "beta"))
    # The offset of the host's name now points far beyond the end of the message.
    where = wild.index(b"beta") - 4
    wild[where : where + 4] = (2**31).to_bytes(4, "little")
    with connection, StreamWriter(connection, Crc32()) as writer:
        writer.write_payload(good)
        writer.write_payload(wild)
        writer.write_payload(b"GET / HTTP/1.1\r\n\r\n")
        writer.write_payload(b"")
        writer.write_payload(build_event(3, "gamma"))


def main() -> None:
    validator = CompositeValidator(SizeValidator(8, LARGEST), TypedValidator.for_type(SCHEMA, "telemetry.Event"))
    deframer = ChecksumDeframer(Crc32(), max_frame_len=LARGEST).with_validator(validator)
    near, far = socket.socketpair()
    sender = threading.Thread(target=send, args=(far,))
    sender.start()
    accepted, refused = [], []
    with near, StreamReader(near, deframer) as reader:
        while True:
            try:
                payload = reader.read_message()
            except ValidationFailedError as error:
                refused.append(error)
                print(f"refused: {error}")
                continue
            if payload is None:
                break
            event = Event.Event.GetRootAs(payload)
            accepted.append((event.Sequence(), event.Host()))
    sender.join()
    assert accepted == [(1, b"alpha"), (3, b"gamma")]
    assert [error.frame for error in refused] == [1, 2, 3]
    assert refused[0].path == "event.host"
    print(f"accepted {accepted}")


if __name__ == "__main__":
    main()

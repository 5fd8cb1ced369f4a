"""Objects instead of FlatBuffers: JSON, and a serializer of the application's own.

A serializer makes payloads of objects and objects of payloads. The description of the stream names it. A payload that
cannot be loaded is damage: it is reported with its place, or left out.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import flatstream
from flatstream import Serializer, ValidationFailedError


class Samples(Serializer):
    """A list of numbers as doubles, little-endian."""

    name = "samples-v1"

    def dumps(self, item: list[float]) -> bytes:
        return struct.pack(f"<{len(item)}d", *item)

    def loads(self, payload: memoryview) -> list[float]:
        # The payload comes from a file or a peer: a ValueError says that it is none of ours.
        if len(payload) % 8:
            raise ValueError(f"{len(payload)} bytes are no numbers of 8 bytes")
        return list(struct.unpack(f"<{len(payload) // 8}d", payload))


def run(folder: Path) -> None:
    events: list[dict[str, Any]] = [{"host": f"db-{number}", "load": number / 4} for number in range(5)]

    with flatstream.open(folder / "events.fs", "w", checksum="crc32", serializer="json", describe=True) as writer:
        writer.write_batch(events)
    # Later, by another program, which need not know the serializer.
    with flatstream.open(folder / "events.fs", "a") as writer:
        writer.write({"host": "db-5", "load": None})
    with flatstream.open(folder / "events.fs") as reader:
        assert reader.description is not None
        found = list(reader.objects())
        print(f"{len(found)} objects of {reader.description.serializer}, the last one {found[-1]}")
    assert found == [*events, {"host": "db-5", "load": None}]

    samples = Samples()
    with flatstream.open(folder / "samples.fs", "w", checksum="crc32", serializer=samples, describe=True) as writer:
        writer.write([1.0, 2.5])
        writer.write_payload(b"not of this application")
        writer.write([0.125])
    with flatstream.open(folder / "samples.fs") as reader:
        objects = reader.objects(samples)
        assert next(objects) == [1.0, 2.5]
        try:
            next(objects)
        except ValidationFailedError as error:
            print(f"refused: {error}")
            where = error.frame
        assert where == 1
        assert next(objects) == [0.125]
    with flatstream.open(folder / "samples.fs", on_error="skip") as reader:
        assert list(reader.objects(samples)) == [[1.0, 2.5], [0.125]]
        print(f"left out: {reader.skipped} message, {reader.lost_bytes} bytes")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))


if __name__ == "__main__":
    main()

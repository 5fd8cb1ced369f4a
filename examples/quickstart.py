"""The smallest complete program: write messages to a file and read them back.

In simple mode the writer builds messages with its own builder, from strings and from objects with `serialize`.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from flatbuffers import table

import flatstream


class Temperature:
    """A message with two fields, built by hand; `flatc` generates such code from a schema."""

    def __init__(self, sensor: int, celsius: float) -> None:
        self.sensor = sensor
        self.celsius = celsius

    def serialize(self, builder: Any) -> None:
        builder.StartObject(2)
        builder.PrependUint32Slot(0, self.sensor, 0)
        builder.PrependFloat64Slot(1, self.celsius, 0.0)
        builder.Finish(builder.EndObject())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "events.fs")

        with flatstream.open(path, "w", checksum="xxhash64") as writer:
            writer.write("hello")
            writer.write_batch([Temperature(1, 21.5), Temperature(2, 19.0)])
            assert writer.frames_written == 3

        with flatstream.open(path) as reader:
            assert (reader.checksum, reader.checksum_found_by) == ("xxhash64", "detection")
            # Each payload is a read-only view of one FlatBuffer, which stays valid after the reader is closed.
            payloads = list(reader)
            assert reader.bytes_read == os.path.getsize(path)

    # A message made from a str has the string as its root.
    text = table.Table(payloads[0], 0).String(0).decode()
    assert text == "hello"
    print(f"{len(payloads)} messages of {[len(payload) for payload in payloads]} bytes; the first says {text!r}")


if __name__ == "__main__":
    main()

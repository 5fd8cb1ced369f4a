"""The smallest whole program: some messages go to a file, and come back.

In simple mode the writer has a builder of its own. It takes strings, and objects that know how to build themselves.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from flatbuffers import table

import flatstream


class Temperature:
    """A message with two fields. `flatc` writes such code from a schema; here it is written by hand."""

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

        with flatstream.open(path, checksum="xxhash64") as reader:
            # Read-only views of the bytes of one FlatBuffer each. They may be kept.
            payloads = list(reader)
            assert reader.bytes_read == os.path.getsize(path)

    # The root of a string's message is the string itself.
    text = table.Table(payloads[0], 0).String(0).decode()
    assert text == "hello"
    print(f"{len(payloads)} messages of {[len(payload) for payload in payloads]} bytes; the first says {text!r}")


if __name__ == "__main__":
    main()

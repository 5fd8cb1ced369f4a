"""Reading a memory-mapped file without copying a byte of it.

A reader on a bytes-like object (bytes, mmap, a NumPy array) hands out views of that very object. The object cannot be
closed or resized while a view of it, or the open reader, looks at it.
"""

from __future__ import annotations

import mmap
import os
import tempfile

import flatstream
from flatstream import ChecksumType, StreamReader

COUNT = 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "events.fs")
        with flatstream.open(path, "w", checksum="crc32c") as writer:
            writer.write_payloads(bytes([number % 256]) * 1000 for number in range(COUNT))

        with open(path, "r+b") as file:
            mapping = mmap.mmap(file.fileno(), 0)

        with StreamReader(mapping, ChecksumType.CRC32C) as reader:
            payloads = list(reader)
            assert reader.buffer_capacity == 0  # it has no memory of its own
        assert len(payloads) == COUNT
        assert all(payload.readonly for payload in payloads)
        print(f"{len(payloads)} payloads, {sum(map(len, payloads))} bytes, none of them copied")

        # They are the mapping's own memory: what changes in it changes in them.
        assert payloads[1][0] == 1
        mapping[1008 + 8] = 77
        assert payloads[1][0] == 77

        # The views outlive the reader, and hold the mapping open.
        try:
            mapping.close()
        except BufferError as error:
            print(f"while views are alive: {error}")
        else:
            raise AssertionError("the memory went away under its views")
        del payloads
        mapping.close()
        print("without views, the mapping is closed")


if __name__ == "__main__":
    main()

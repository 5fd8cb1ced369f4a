"""Reading a memory-mapped file without a copy.

A reader of a bytes-like object (bytes, mmap, a NumPy array) hands out views of that object. The object cannot be closed
or resized while a view of it exists or the reader is open.
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
            assert reader.buffer_capacity == 0  # the reader allocates no memory
        assert len(payloads) == COUNT
        assert all(payload.readonly for payload in payloads)
        print(f"{len(payloads)} payloads, {sum(map(len, payloads))} bytes, none of them copied")

        # The payloads are views of the mapping's memory, so they show changes to it.
        assert payloads[1][0] == 1
        mapping[1008 + 8] = 77
        assert payloads[1][0] == 77

        # The views outlive the reader and keep the mapping open.
        try:
            mapping.close()
        except BufferError as error:
            print(f"while views are alive: {error}")
        else:
            raise AssertionError("the mapping was closed although views exist")
        del payloads
        mapping.close()
        print("without views, the mapping is closed")


if __name__ == "__main__":
    main()

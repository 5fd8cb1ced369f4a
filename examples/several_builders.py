"""Expert mode: several builders, each of the right size for its messages.

In simple mode one builder serves all messages, and grows to the largest of them. An application with small messages and
large ones may keep a builder for each kind instead. The writer frames what a builder has finished, straight from
the builder's own memory.
"""

from __future__ import annotations

import io
from collections import Counter

import flatbuffers

from flatstream import ChecksumType, FlatbufferError, StreamReader, StreamWriter


def build_heartbeat(builder: flatbuffers.Builder, sequence: int) -> None:
    builder.StartObject(1)
    builder.PrependUint64Slot(0, sequence, 0)
    builder.Finish(builder.EndObject())


def build_snapshot(builder: flatbuffers.Builder, image: bytes) -> None:
    data = builder.CreateByteVector(image)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(1, data, 0)
    builder.Finish(builder.EndObject())


def main() -> None:
    small, large = flatbuffers.Builder(64), flatbuffers.Builder(128 * 1024)
    sink = io.BytesIO()

    with StreamWriter(sink, ChecksumType.XXHASH64) as writer:
        for sequence in range(1, 101):
            build_heartbeat(small, sequence)
            # write_message() clears the builder when the message is written; write_finished() leaves it as it is.
            writer.write_message(small)
            if sequence % 25 == 0:
                build_snapshot(large, bytes(100_000))
                writer.write_finished(large)
                large.Clear()
        assert writer.frames_written == 104

        # Neither builder has grown, and the writer needed none of its own.
        assert len(small.Bytes) == 64
        assert len(large.Bytes) == 128 * 1024

        # A builder without a finished message is refused, and nothing is written.
        before = writer.bytes_written
        try:
            writer.write_finished(small)
        except FlatbufferError as error:
            print(f"refused: {error}")
        else:
            raise AssertionError("an unfinished message was written")
        assert writer.bytes_written == before

    sizes = Counter(len(payload) for payload in StreamReader(sink.getvalue(), ChecksumType.XXHASH64))
    assert sorted(sizes.values()) == [4, 100]
    for size, count in sorted(sizes.items()):
        print(f"{count} messages of {size} bytes")


if __name__ == "__main__":
    main()

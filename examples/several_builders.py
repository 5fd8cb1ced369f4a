"""Expert mode: a program with three builders, each of the right size for its messages.

In simple mode one builder serves all messages and grows to the largest of them. A program with small and large messages
can keep one builder for each kind instead. The writer frames a finished message directly from the builder's memory. It
accepts `flatbuffers.Builder` as well: writing takes the same time then, building takes longer.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import flatbuffers

from flatstream import Builder, ChecksumType, FlatbufferError, StreamReader, StreamWriter

HEARTBEATS, MESSAGES, SNAPSHOTS = 100, 20, 4


def build_heartbeat(builder: Any, sequence: int) -> None:
    builder.StartObject(1)
    builder.PrependUint64Slot(0, sequence, 0)
    builder.Finish(builder.EndObject())


def build_message(builder: Any, sequence: int) -> None:
    text = builder.CreateString(f"event number {sequence:03}")
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(2, text, 0)
    builder.PrependUint64Slot(0, sequence, 0)
    builder.Finish(builder.EndObject())


def build_snapshot(builder: Any, sequence: int) -> None:
    data = builder.CreateByteVector(bytes(100_000))
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(1, data, 0)
    builder.PrependUint64Slot(0, sequence, 0)
    builder.Finish(builder.EndObject())


def run_agent(make_builder: Callable[[int], Any]) -> tuple[bytes, list[Any]]:
    """Writes all messages, each kind with its own builder; returns the stream and the builders."""
    small, medium, large = make_builder(64), make_builder(256), make_builder(128 * 1024)
    sink = io.BytesIO()
    with StreamWriter(sink, ChecksumType.XXHASH64) as writer:
        for sequence in range(1, HEARTBEATS + 1):
            build_heartbeat(small, sequence)
            # write_message() clears the builder after the message is written; write_finished() does not.
            writer.write_message(small)
            if sequence % (HEARTBEATS // MESSAGES) == 0:
                build_message(medium, sequence)
                writer.write_message(medium)
            if sequence % (HEARTBEATS // SNAPSHOTS) == 0:
                build_snapshot(large, sequence)
                writer.write_finished(large)
                large.Clear()
        assert writer.frames_written == HEARTBEATS + MESSAGES + SNAPSHOTS

        # A builder without a finished message is refused, and nothing is written.
        before = writer.bytes_written
        try:
            writer.write_finished(small)
        except FlatbufferError as error:
            refusal = str(error)
        else:
            raise AssertionError("an unfinished message was written")
        assert writer.bytes_written == before
        assert "not finished" in refusal
    return sink.getvalue(), [small, medium, large]


def main() -> None:
    begin = time.perf_counter()
    stream, builders = run_agent(Builder)
    middle = time.perf_counter()
    # The builder of the flatbuffers package gives the same bytes.
    assert run_agent(flatbuffers.Builder)[0] == stream
    end = time.perf_counter()

    # No builder has grown.
    assert [len(builder.Bytes) for builder in builders] == [64, 256, 128 * 1024]

    sizes = Counter(len(payload) for payload in StreamReader(stream, ChecksumType.XXHASH64))
    assert sorted(sizes.values()) == [SNAPSHOTS, MESSAGES, HEARTBEATS]
    for size, count in sorted(sizes.items()):
        print(f"{count} messages of {size} bytes")
    print(f"{(middle - begin) * 1e3:.1f} ms; with flatbuffers.Builder {(end - middle) * 1e3:.1f} ms")


if __name__ == "__main__":
    main()

"""Bytes in pieces, through FrameParser and FrameSerializer, beside a bytearray, `struct` and slices by hand.

P1 to P4 of the performance goals.
"""

from __future__ import annotations

import io
import struct

import flatstream

from .common import Benchmark, payload_of, repeated_frame

HEADER = struct.Struct("<I")
PIECE = 64 * 1024


class ByHand:
    """Without a library: bytes are appended to a bytearray, and whole frames are cut off its front."""

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self.buffer
        buffer += data
        payloads = []
        position, end = 0, len(buffer)
        while end - position >= 4:
            (length,) = HEADER.unpack_from(buffer, position)
            if end - position - 4 < length:
                break
            position += 4
            payloads.append(bytes(buffer[position : position + length]))
            position += length
        del buffer[:position]
        return payloads


class Pieces(Benchmark):
    """`count` frames of `size` bytes of payload: one in each piece, or in pieces of 64 KiB."""

    param_names = ("pieces", "size", "count")
    params = (["one frame", "64 KiB"], [100, 1024], [200, 100_000])

    def setup(self, pieces: str, size: int, count: int) -> None:
        self.stream = repeated_frame(size, count)
        step = size + 4 if pieces == "one frame" else PIECE
        self.pieces = [self.stream[at : at + step] for at in range(0, len(self.stream), step)]
        self.room = bytearray(PIECE)

    def units(self, pieces: str, size: int, count: int) -> int:
        """The number of frames per sample."""
        return count

    def time_feed(self, pieces: str, size: int, count: int) -> None:
        parser = flatstream.FrameParser()
        found = 0
        for piece in self.pieces:
            parser.feed(piece)
            for _ in parser:
                found += 1
        assert found == count

    def time_feed_batches(self, pieces: str, size: int, count: int) -> None:
        parser = flatstream.FrameParser()
        found = 0
        for piece in self.pieces:
            parser.feed(piece)
            while (batch := parser.read_batch()) is not None:
                found += len(batch)
        assert found == count

    def time_lent_buffers(self, pieces: str, size: int, count: int) -> None:
        parser = flatstream.FrameParser()
        source = io.BytesIO(self.stream)
        step = len(self.pieces[0])
        found = 0
        while True:
            took = source.readinto(parser.get_buffer()[:step])
            if not took:
                break
            parser.buffer_updated(took)
            for _ in parser:
                found += 1
        assert found == count

    def time_by_hand(self, pieces: str, size: int, count: int) -> None:
        """The yardstick for `time_feed`."""
        parser = ByHand()
        found = 0
        for piece in self.pieces:
            for _ in parser.feed(piece):
                found += 1
        assert found == count

    def time_stream_reader(self, pieces: str, size: int, count: int) -> None:
        """The yardstick for many frames in each piece: a reader of a file in memory, with chunks of the same size."""
        found = 0
        for _ in flatstream.StreamReader(io.BytesIO(self.stream), capacity=PIECE):
            found += 1
        assert found == count

    def time_copy(self, pieces: str, size: int, count: int) -> None:
        """The yardstick for `time_feed_batches`: the pieces copied into one place."""
        room = self.room
        for piece in self.pieces:
            room[: len(piece)] = piece
        assert len(room) == PIECE


class Serializing(Benchmark):
    """`count` payloads of `size` bytes: the bytes of each are taken at once, or those of 500 together."""

    param_names = ("together", "size", "count")
    params = ([1, 500], [100, 1024], [200, 100_000])

    def setup(self, together: int, size: int, count: int) -> None:
        self.payload = payload_of(size)
        self.total = count * (size + 4)

    def units(self, together: int, size: int, count: int) -> int:
        """The number of frames per sample."""
        return count

    def time_take(self, together: int, size: int, count: int) -> None:
        serializer = flatstream.FrameSerializer()
        payload, total = self.payload, 0
        for _ in range(count // together):
            for _ in range(together):
                serializer.write_payload(payload)
            total += len(serializer.take())
        for _ in range(count % together):
            serializer.write_payload(payload)
        assert total + serializer.pending_bytes == self.total

    def time_by_hand(self, together: int, size: int, count: int) -> None:
        """The yardstick."""
        payload, total, pack = self.payload, 0, HEADER.pack
        for _ in range(count // together):
            pieces = []
            for _ in range(together):
                pieces.append(pack(len(payload)))
                pieces.append(payload)
            total += len(b"".join(pieces))
        assert total + (count % together) * (size + 4) == self.total

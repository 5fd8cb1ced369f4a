"""Small messages that are compressed one by one, with a dictionary that is trained from a sample of them.

Each message can be read without those before it, so the end of the file, a slice, and what stands behind damage can be
read as in any other stream. The description has the dictionary, so whoever gets the file needs nothing else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import flatstream
from flatstream import (
    ChecksumFramer,
    CompressedDeframer,
    DecompressionError,
    DefaultDeframer,
    RecordWriter,
    Schema,
    StreamReader,
    XxHash64,
    ZstdCompressor,
    train_dictionary,
)

TABLE = Schema.from_file(Path(__file__).parent / "telemetry.bfbs").table("telemetry.Event")
COUNT = 2000


def write(path: Path, framer: flatstream.Framer) -> None:
    """Writes events of a machine, each with about 150 bytes."""
    with flatstream.open(path, "w", framer=framer, describe=TABLE) as writer:
        records = RecordWriter(writer, TABLE)
        for number in range(COUNT):
            records.write(
                sequence=number,
                wall_time_ns=1_735_689_600_000_000_000 + number * 1_000_000,
                host=f"sensor-{number % 16:03}.building-7.example",
                load_1=number % 64 / 64,
                memory_percent=number % 400 / 4,
            )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder, "plain.fs"), Path(folder, "small.fs")
        write(plain, ChecksumFramer(XxHash64()))

        # A sample: here every fourth message. In an agent, those of an earlier run.
        with flatstream.open(plain) as reader:
            messages = [bytes(payload) for payload in reader]
        dictionary = train_dictionary(messages[::4])

        # The compressor is outside, and the checksum inside: it covers what is stored.
        framer = ChecksumFramer(XxHash64()).compressed(ZstdCompressor(level=6, dictionary=dictionary))
        write(small, framer)
        sizes = [path.stat().st_size for path in (plain, small)]
        print(
            f"{COUNT} messages: {sizes[0]:,} bytes, and compressed {sizes[1]:,}, {len(dictionary):,} of them dictionary"
        )
        assert sizes[1] < sizes[0] / 2

        # The file says how to read it, in every way.
        with flatstream.open(small) as reader:
            assert [bytes(payload) for payload in reader] == messages
        with flatstream.open(small) as reader:
            columns = reader.columns(fields=["sequence", "load_1"], where=("load_1", ">=", 0.5))
            assert columns.num_rows == COUNT // 64 * 32 + max(0, COUNT % 64 - 32)

        # Appended messages are compressed in the same way.
        with flatstream.open(small, "a") as writer:
            RecordWriter(writer, TABLE).write(sequence=COUNT, host="sensor-000.building-7.example")
        with flatstream.open(small) as reader:
            assert [record.sequence for record in reader.records()] == list(range(COUNT + 1))

    # From a peer that is not trusted: what a frame becomes has a limit, which is compared before memory is taken.
    bomb = ZstdCompressor().compress(bytes(100 << 20))
    frame = (1 + len(bomb)).to_bytes(4, "little") + b"\x01" + bomb
    print(f"{len(frame):,} bytes of a peer would become {100 << 20:,}", end=": ")
    with StreamReader(frame, CompressedDeframer(DefaultDeframer(), max_payload_len=1 << 20)) as reader:
        try:
            reader.read_message()
        except DecompressionError as error:
            print(error.reason)
        else:
            raise AssertionError("it was not refused")


if __name__ == "__main__":
    main()

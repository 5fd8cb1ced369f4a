"""The files of `scale.py`: what 20 machines report in ten hours, one file for each, and the same rows as Parquet.

    python -m asv_benchmarks.scale_data [FOLDER]

With 760,000 messages of 14 scalars in each file, these are 20 files of 100 MB with XXH3-64. They are made once, because
that takes a minute, and stay in a folder of `tempfile.gettempdir()`; with the twins they need 4 GB.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import flatstream

SCHEMA = Path(__file__).resolve().parent / "schemas" / "machine.bfbs"
FILES = 20
ROWS = 760_000
# Another number for other contents, so that a folder that another version of this file made is not used.
VERSION = 1

BEGIN = 1_790_000_000 * 10**9
SECONDS = 10 * 3600
# The slice: five minutes of the ten hours.
SLICE_BEGIN = BEGIN + 6 * 3600 * 10**9
SLICE_END = SLICE_BEGIN + 5 * 60 * 10**9
# The columns of the slice.
FIELDS = ["time_ns", "cpu", "memory_used"]

# Row groups of the Parquet twins: `None` is what pyarrow chooses, a million rows, which is one for each file here.
ROW_GROUPS: dict[str, int | None] = {"default": None, "32k": 32_768}

ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class DataSet:
    """The files in `folder`: `files` of them with `rows` messages each."""

    folder: Path
    files: int
    rows: int

    def paths(self, kind: str) -> list[str]:
        """The paths of one kind: "fs", "parquet-default", "parquet-32k" or "mcap"."""
        ending = kind.partition("-")[0]
        return [str(self.folder / kind / f"host-{host:02}.{ending}") for host in range(self.files)]

    def streams(self) -> list[str]:
        """The streams, each with its index beside it."""
        return self.paths("fs")

    def parquet(self, row_groups: str) -> list[str]:
        """The Parquet twins, with row groups as `ROW_GROUPS` says."""
        return self.paths(f"parquet-{row_groups}")

    def mcap(self) -> str:
        """The messages of the first stream in an MCAP file."""
        return self.paths("mcap")[0]

    def size(self) -> int:
        """The bytes of all streams."""
        return sum(os.path.getsize(path) for path in self.streams())


def table() -> Any:
    """The table of the messages."""
    root = flatstream.Schema.from_file(SCHEMA).root
    assert root is not None
    return root


def columns_of(host: int, rows: int) -> dict[str, Any]:
    """What one machine reports: numbers that wander, counters that grow, each as precise as a sensor is."""
    rng = np.random.default_rng(host)
    step = SECONDS * 10**9 // rows
    times = BEGIN + np.arange(rows, dtype=np.int64) * step + rng.integers(0, step // 2, rows)

    def wander(low: float, high: float, digits: int) -> Any:
        walk = np.cumsum(rng.normal(0, (high - low) / 200, rows))
        # Reflected at both ends.
        inside = np.abs((walk + (high - low) * rng.random()) % (2 * (high - low)) - (high - low))
        return np.round(low + inside, digits)

    def counter(most: int) -> Any:
        return np.cumsum(rng.integers(0, most, rows, dtype=np.int64)).astype(np.uint64)

    return {
        "time_ns": times.astype(np.uint64),
        "sequence": np.arange(1, rows + 1, dtype=np.uint64),
        "host": np.full(rows, host + 1, dtype=np.uint16),
        "sensor": rng.integers(1, 1000, rows).astype(np.uint32),
        "state": rng.choice(5, rows, p=[0.2, 0.6, 0.1, 0.08, 0.02]).astype(np.uint8),
        "cpu": wander(0, 100, 1).astype(np.float32),
        "temperature": wander(30, 90, 2).astype(np.float32),
        "load": wander(0, 16, 2),
        "power": wander(80, 400, 1),
        "memory_used": (wander(1, 60, 4) * 2**30).astype(np.uint64),
        "disk_read": counter(65_536),
        "disk_written": counter(262_144),
        "received": counter(1_500_000),
        "sent": counter(600_000),
    }


def data_set(files: int = FILES, rows: int = ROWS, folder: str | os.PathLike[str] | None = None) -> DataSet:
    """The files, which are made if they are not there yet; a folder that is there in part is not used."""
    if folder is None:
        folder = Path(tempfile.gettempdir()) / f"flatstream-scale-{VERSION}-{files}x{rows}"
    found = DataSet(Path(folder), files, rows)
    if not found.folder.exists():
        new = Path(f"{found.folder}.new-{os.getpid()}")
        try:
            make(DataSet(new, files, rows))
            try:
                new.rename(found.folder)
            except OSError:
                # Another process was faster.
                if not found.folder.exists():
                    raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return found


def make(made: DataSet) -> None:
    """Writes all files."""
    import pyarrow.parquet

    for kind in ("fs", "mcap", *(f"parquet-{name}" for name in ROW_GROUPS)):
        (made.folder / kind).mkdir(parents=True)
    for host, path in enumerate(made.streams()):
        columns = columns_of(host, made.rows)
        write_stream(path, columns)
        rows = arrow_table(columns)
        for name, size in ROW_GROUPS.items():
            pyarrow.parquet.write_table(rows, made.parquet(name)[host], row_group_size=size)
    write_mcap(made.streams()[0], made.mcap())


def write_stream(path: str, columns: dict[str, Any]) -> None:
    """A described stream with an index for the time."""
    reading = table()
    rows = len(columns["time_ns"])
    with flatstream.open(path, "w", checksum="xxhash64", describe=reading, index=["time_ns"]) as writer:
        records = flatstream.RecordWriter(writer, reading)
        for begin in range(0, rows, ROWS_AT_ONCE):
            records.write_columns({name: column[begin : begin + ROWS_AT_ONCE] for name, column in columns.items()})


def arrow_table(columns: dict[str, Any]) -> Any:
    """The rows with the types that a dataset gives them: the time is a timestamp, the state a dictionary of names."""
    import pyarrow

    reading = table()
    arrays = {name: pyarrow.array(column) for name, column in columns.items()}
    arrays["time_ns"] = arrays["time_ns"].cast(pyarrow.int64()).cast(pyarrow.timestamp("ns", "UTC"))
    states = pyarrow.array([value.name for value in reading.schema.enums["machine.State"].values])
    arrays["state"] = pyarrow.DictionaryArray.from_arrays(arrays["state"].cast(pyarrow.int32()), states)
    return pyarrow.table(arrays)


def write_mcap(stream: str, path: str) -> None:
    """The messages of `stream` with their times, in chunks of 1 MiB with an index, which is mcap's default."""
    import mcap.writer

    reading = table()
    with open(path, "wb") as file, flatstream.open(stream) as reader:
        writer = mcap.writer.Writer(file, compression=mcap.writer.CompressionType.NONE)
        writer.start()
        schema = writer.register_schema("machine.Reading", "flatbuffer", SCHEMA.read_bytes())
        channel = writer.register_channel("reading", "flatbuffer", schema)
        for payload in reader:
            moment = reading.view(payload).time_ns
            writer.add_message(channel, moment, bytes(payload), moment)
        writer.finish()


def forget(paths: Iterable[str]) -> None:
    """Removes the pages of files from the page cache, so that the next read comes from the disk.

    Pages that are not written yet stay, so the files are synced first. The cache of the disk itself, or of the machine
    that hosts this one, stays.
    """
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def with_indexes(paths: Iterable[str]) -> Iterator[str]:
    """The paths, and those of the indexes beside them."""
    for path in paths:
        yield from (name for name in (path, f"{path}.idx") if os.path.exists(name))


if __name__ == "__main__":
    begin = time.perf_counter()
    chosen = data_set(folder=next(itertools.islice(sys.argv, 1, None), None))
    print(f"{chosen.folder}: {chosen.size() / 1e9:.2f} GB of streams; {time.perf_counter() - begin:.0f} s")

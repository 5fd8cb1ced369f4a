"""The goals in one table: each measured value beside its yardstick, and whether the goal is reached.

    python -m asv_benchmarks.goals [--only F1,K2] [--growth] [--json FILE]

Both sides of a goal are methods that asv runs too. They are measured in turn, in one process. A turn is several runs,
so that each side finds the caches as it left them: on a shared machine, 30 ms of other work evict a stream of 14 MB
from all caches. The best run of each side is compared, because other work on the machine can only slow a run down.
`--growth` also prints the cost of a frame over sizes and counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from . import (
    asyncio_streams,
    building,
    checksums,
    columns,
    columns_in,
    command_line,
    compression,
    converting,
    deframing,
    encryption,
    engines,
    following,
    framing,
    imports,
    indexing,
    journal_reading,
    journal_threaded,
    journal_writing,
    json_lines,
    memory,
    over_nats,
    parsing,
    records_in,
    records_out,
    recovery,
    scale,
    sealing,
    serializing,
    stream_io,
    threads,
    verifying,
)
from .chart import cpu_name, os_name
from .common import COUNTS, GOAL_COUNT, GOAL_SIZE, SIZES

KIB = 1024
MIB = 1024 * KIB

# Each side has TURNS turns of SECONDS seconds, with at least LEAST_RUNS runs in each.
TURNS = 4
SECONDS = 0.2
LEAST_RUNS = 2
GROWTH_RUNS = 5

Kind = Literal["times faster", "times slower", "ns more", "at most", "at least"]
FASTER: Kind = "times faster"
SLOWER: Kind = "times slower"


@dataclass(frozen=True)
class Goal:
    """One row: `kind` and `target` state the required relation between `subject` and `yardstick`."""

    name: str
    work: str
    benchmark: type
    subject: str
    # Another method of the same benchmark, or of the same class with other parameters.
    yardstick: str
    params: tuple[Any, ...]
    kind: Kind
    target: float
    # The unit that `units` counts; with "ns more", the time is per unit.
    unit: str = "frame"
    yardstick_params: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Result:
    """The measurement of a goal: seconds per unit, or a value that the benchmark defines."""

    name: str
    work: str
    measured: str
    yardstick: str
    value: float
    kind: str
    target: float
    reached: bool


def goals() -> Iterator[Goal]:
    """All goals, in the order of their names."""
    frame = (GOAL_SIZE, GOAL_COUNT)
    benchmark: type
    target: float
    scan, one, many = deframing.Scan, framing.WriteOneByOne, framing.WriteMany
    yield Goal(
        "F1", "scan by read_batch", scan, "time_read_batch", "time_by_hand", ("none", *frame), "times faster", 60
    )
    yield Goal(
        "F1 floor",
        "scan, beside reading the bytes once",
        scan,
        "time_read_batch",
        "time_reading_the_bytes_once",
        ("none", *frame),
        "times slower",
        1.5,
    )
    yield Goal(
        "F2",
        "for payload in reader",
        deframing.Iterate,
        "time_for_loop",
        "time_by_hand",
        ("none", *frame),
        "times faster",
        3,
    )
    yield Goal(
        "F3",
        "process_all",
        deframing.ProcessAll,
        "time_process_all",
        "time_calls_over_a_list",
        ("none", *frame),
        "times slower",
        2,
    )
    for checksum, target in (("none", 4), ("crc32", 8)):
        yield Goal(
            "F4",
            f"write_payload, {checksum}",
            one,
            "time_write_payload",
            "time_by_hand",
            (checksum, *frame),
            "times faster",
            target,
        )
    for checksum in ("none", "crc16", "crc32", "crc32c", "crc64", "xxhash64"):
        yield Goal(
            "F5",
            f"write_payloads, {checksum}",
            many,
            "time_write_payloads",
            "time_by_hand",
            (checksum, *frame),
            "times faster",
            15 if checksum == "none" else 12,
        )
    for checksum in ("none", "crc32", "xxhash64"):
        for method, name in (("time_batches", "batches"), ("time_for_loop", "for loop")):
            yield Goal(
                "F6",
                f"read 1 GiB from a path by {name}, {checksum}",
                stream_io.ReadFile,
                method,
                "time_readinto",
                (checksum, 1024, stream_io.GIB),
                "times slower",
                1.3 if checksum == "none" else 1.6,
            )
    for size in (4 * KIB, 64 * KIB, 16 * MIB):
        yield Goal(
            "K1",
            f"CRC-32 of {bytes_text(size)}, isal",
            checksums.Crc32,
            "time_flatstream",
            "time_isal",
            (size,),
            "times faster",
            1,
            "byte",
        )
        yield Goal(
            "K1",
            f"CRC-32 of {bytes_text(size)}, zlib",
            checksums.Crc32,
            "time_flatstream",
            "time_zlib",
            (size,),
            "times faster",
            8,
            "byte",
        )
    for size in (4 * KIB, 64 * KIB):
        yield Goal(
            "K2",
            f"CRC-16 of {bytes_text(size)}, crc_hqx",
            checksums.Crc16,
            "time_flatstream",
            "time_crc_hqx",
            (size,),
            "times faster",
            80,
            "byte",
        )
    yield Goal(
        "K3",
        "CRC-64 of 64 KiB, isal's CRC-32",
        checksums.Crc64,
        "time_flatstream",
        "time_isal_crc32",
        (64 * KIB,),
        "times faster",
        0.8,
        "byte",
    )
    yield Goal(
        "K3",
        "CRC-32C of 64 KiB, google-crc32c",
        checksums.Crc32c,
        "time_flatstream",
        "time_google_crc32c",
        (64 * KIB,),
        "times faster",
        1,
        "byte",
    )
    for benchmark, method, name in ((many, "time_write_payloads", "write_payloads"), (scan, "time_read_batch", "scan")):
        yield Goal(
            "K4",
            f"XXH3-64 in {name}",
            benchmark,
            method,
            method,
            ("xxhash64", *frame),
            "ns more",
            8,
            yardstick_params=("none", *frame),
        )
    for checksum in ("crc16", "crc32", "crc32c", "crc64"):
        yield Goal(
            "K5",
            f"{checksum} without special instructions, zlib",
            checksums.Portable,
            "measure",
            "",
            (checksum,),
            "at least",
            0.5,
        )
    yield Goal(
        "B1",
        "build three scalars with generated code, and frame",
        building.BuildAndFrame,
        "time_flatstream",
        "time_flatbuffers",
        ("three scalars", 5000),
        "times faster",
        25,
        "message",
    )
    yield Goal(
        "B2",
        "write a record of three scalars by keywords",
        records_in.WriteRecords,
        "time_records",
        "time_generated_code",
        ("keywords", 5000),
        "times faster",
        40,
        "record",
    )
    for source in ("NumPy", "Arrow"):
        yield Goal(
            "B3",
            f"write 100,000 records of three scalars from {source} columns",
            columns_in.WriteColumns,
            "time_columns",
            "time_generated_code",
            (source, "none", columns_in.GOAL_COUNT),
            "times faster",
            300,
            "record",
            (source, "none", 5000),
        )
    for serializer in ("json", "msgpack"):
        for name, items, subject, yardstick, kind, limit in (
            ("O1", "events", "time_write_batch", "time_write_by_hand", SLOWER, 1.05),
            ("O1", "numbers", "time_write_batch", "time_write_by_hand", FASTER, 1.5),
            ("O2", "events", "time_objects", "time_read_by_hand", SLOWER, 1.05),
            ("O2", "numbers", "time_objects", "time_read_by_hand", FASTER, 2),
        ):
            way = "to" if name == "O1" else "from"
            yield Goal(
                name,
                f"{items} {way} {serializer}, msgspec with frames by hand",
                serializing.Objects,
                subject,
                yardstick,
                (serializer, items, 10_000),
                kind,
                limit,
                "message",
            )
    yield Goal(
        "R1",
        "three fields of each message through a record",
        records_out.ReadThreeFields,
        "time_records",
        "time_generated_code",
        (100_000,),
        "times faster",
        40,
        "message",
    )
    yield Goal(
        "R2",
        "three scalars of each message to NumPy, generated code",
        columns.Numbers,
        "time_columns",
        "time_generated_code",
        (100_000,),
        "times faster",
        500,
        "message",
    )
    yield Goal(
        "R3",
        "three scalars and a string to Arrow, generated code",
        columns.NumbersAndText,
        "time_columns",
        "time_generated_code",
        (100_000,),
        "times faster",
        200,
        "message",
    )
    yield Goal(
        "D2",
        "telemetry events to JSON lines, orjson.dumps(record.to_dict())",
        json_lines.JsonLines,
        "time_json_lines",
        "time_orjson",
        (10_000,),
        "times faster",
        5,
        "message",
    )
    yield Goal(
        "D5",
        "stream of events to Parquet, pyarrow from memory",
        converting.ToParquet,
        "time_convert",
        "time_pyarrow",
        ("events", 200_000),
        "times slower",
        2,
        "message",
    )
    yield Goal(
        "V1",
        "verify the monster of 344 bytes, ns",
        verifying.Verify,
        "time_typed",
        "",
        ("monster", 10_000),
        "at most",
        820,
        "message",
    )
    yield Goal(
        "J1",
        "journal, write_payload, beside a StreamWriter's",
        journal_writing.WriteOneByOne,
        "time_journal",
        "time_stream_writer",
        (GOAL_COUNT,),
        "times slower",
        1.3,
    )
    yield Goal(
        "J2",
        "frames on the disk, 16 producers, times pwrite and fdatasync",
        journal_writing.Acknowledged,
        "track_beside_bare_loop",
        "",
        (16,),
        "at least",
        5,
    )
    for method, work, target in (
        ("track_median_beside_spinning", "follow: median delay, as a multiple of spinning's", 2),
        ("track_slowest_hundredth", "follow: delay of 99 of 100 frames, us", 500),
        ("track_share_of_processor", "follow: share of a processor, percent", 2),
    ):
        yield Goal("J3", work, following.Delivery, method, "", (300,), "at most", target)
        through = work.replace("follow", "follow a journal", 1)
        yield Goal("J3", through, journal_reading.JournalDelivery, method, "", (300,), "at most", target)
    yield Goal(
        "J3",
        "journal, read one by one, beside one file",
        journal_reading.ReadOneByOne,
        "time_journal",
        "time_stream",
        (10_000, 1_000_000),
        "times slower",
        1.3,
    )
    for method, work in (
        ("time_recover_file", "recover_file of 256 MiB, beside reading it by batches"),
        ("time_resync", 'on_error="resync" without damage, beside the same'),
        ("time_salvage", "salvage without damage, beside the same"),
    ):
        yield Goal("J4", work, recovery.Intact, method, "time_read_batches", ("xxhash64",), "times slower", 1.3)
    yield Goal(
        "J4",
        "opening a journal whose segment of 256 MiB is not sealed, beside the same",
        journal_writing.Opening,
        "time_opening",
        "time_read_batches",
        (),
        "times slower",
        1.3,
        "byte",
    )
    yield Goal(
        "J5", "longest wait for a new segment, us", journal_writing.Rotation, "track_longest", "", (), "at most", 5000
    )
    for method, work, limit in (
        ("track_put", "put into a ThreadedWriter, bytes, ns", 1000.0),
        ("track_put_of_builder", "put into a ThreadedWriter, a finished message, ns", 2000.0),
        ("track_put_beside_queue_put", "put into a ThreadedWriter, times queue.Queue.put", 1.0),
    ):
        yield Goal("J6", work, journal_threaded.Put, method, "", ("xxhash64",), "at most", limit)
    if over_nats.PROGRAM is not None:
        yield Goal(
            "N1",
            "forward a journal to NATS JetStream, beside nats-py alone, the same bytes",
            over_nats.Forwarded,
            "time_forward",
            "time_publish_by_nats_py",
            (64, 200_000),
            "times slower",
            2,
        )
    for size in (64 * KIB, MIB):
        yield Goal(
            "M1",
            f"peak MiB of reading 4 GiB, frames of {bytes_text(size)}",
            memory.ReadLargeFile,
            "track_peak_resident_memory",
            "",
            (size,),
            "at most",
            64,
        )
    for checksum in ("none", "xxhash64"):
        for work in memory.SteadyState.params[1]:
            yield Goal(
                "M2",
                f"bytes more for each message, {work}, {checksum}",
                memory.SteadyState,
                "track_growth",
                "",
                (checksum, work),
                "at most",
                0.001,
            )
    yield Goal(
        "M3",
        "import flatstream, asyncio",
        imports.Import,
        "timeraw_flatstream",
        "timeraw_asyncio",
        (),
        "times slower",
        1,
        "import",
    )
    for work, subject, target in (("info of a described file of 10 MB", "time_info", 3), ("--help", "time_help", 2)):
        yield Goal(
            "D1",
            f"{work}, import flatstream",
            command_line.Start,
            subject,
            "time_import",
            (),
            "times slower",
            target,
            "process",
        )
    yield Goal(
        "Z1",
        "ratio of a sealed file, beside Zstandard for the whole file",
        sealing.Sealed,
        "track_ratio_beside_whole_file",
        "",
        (),
        "at least",
        0.98,
    )
    yield Goal(
        "Z1", "two columns of a sealed file, GB/s", sealing.Sealed, "track_columns_speed", "", (), "at least", 1.3
    )
    for subject, work, yardstick, kind, target in (
        ("time_seal", "sealing, beside Zstandard in memory", "time_compress_whole_file", SLOWER, 1.3),
        ("time_columns", "two columns, beside one thread", "time_columns_with_one_thread", FASTER, 1.2),
        ("time_slice", "a slice, beside decompressing", "time_decompressing_up_to_the_slice", FASTER, 20),
    ):
        yield Goal("Z1", work, sealing.Sealed, subject, yardstick, (), kind, target, "byte")
    batch = ("crc32", GOAL_SIZE, 8192)
    yield Goal(
        "W1",
        "write_frames of a batch, beside copying its bytes",
        framing.PassOn,
        "time_write_frames",
        "time_memcpy",
        batch,
        "times slower",
        1.3,
    )
    yield Goal("W1", "write_frames of a batch, ns", framing.PassOn, "time_write_frames", "", batch, "at most", 2.2)
    # Beside the library alone, which has no places, parts or ends.
    for size, count, written, read in ((100, 10_000, 3.5, 4.0), (1024, 10_000, 2.8, 3.3), (64 * KIB, 500, 1.2, 1.6)):
        for name, work, benchmark, subject, target in (
            ("E1", "encrypt", encryption.Write, "time_write_payloads", written),
            ("E2", "decrypt", encryption.Read, "time_for_loop", read),
        ):
            yield Goal(
                name,
                f"{work} messages of {bytes_text(size)}, beside the library alone",
                benchmark,
                subject,
                "time_by_hand",
                ("aes-256-gcm", size, count),
                "times slower",
                target,
                "message",
            )
    # Beside the library alone, which has no frames, checksums or limits.
    for events, method, written, read in (
        ("agent", "zstd+dictionary", 1.8, 2.5),
        ("agent", "lz4", 2.2, 2.5),
        ("small", "zstd+dictionary", 2.2, 3.5),
        ("small", "lz4", 3.2, 5.0),
    ):
        for name, work, subject, yardstick, target in (
            ("Z2", "compress", "time_write_payloads", "time_compress_by_library", written),
            ("Z3", "decompress", "time_for_loop", "time_decompress_by_library", read),
        ):
            yield Goal(
                name,
                f"{work} {events} events, {method}, beside the library alone",
                compression.CompressedFrames,
                subject,
                yardstick,
                (method, events),
                "times slower",
                target,
                "message",
            )
    for events, target in (("agent", 2.5), ("small", 2.0)):
        yield Goal(
            "Z4",
            f"what a dictionary gains for {events} events",
            compression.Sizes,
            "track_gain_of_dictionary",
            "",
            (events,),
            "at least",
            target,
        )
    for work in ("write", "read"):
        for checksum in ("crc32", "xxhash64"):
            yield Goal(
                "S1",
                f"{work} 4 MiB payloads, {checksum}, two threads",
                threads.TwoThreads,
                "time_two_threads",
                "time_one_thread",
                (work, checksum, 4 * MIB),
                "times faster",
                1.8,
                "pass",
            )
    for where in ("all", "half"):
        yield Goal(
            "T1",
            f"two columns of two paths, {where} of the rows, two threads",
            threads.TwoPaths,
            "time_two_threads",
            "time_one_thread",
            (where, "xxhash64", None),
            "times faster",
            1.7,
            "pass",
        )
    yield Goal(
        "X1",
        "async for over a socket, 100 B, readexactly by hand",
        asyncio_streams.OverSocket,
        "time_async_for",
        "time_readexactly",
        ("asyncio", 100, 16 * MIB),
        "times faster",
        10,
        "message",
    )
    for goal, work, subject, yardstick, pieces, kind, target in (
        ("P1", "feed 100 B frames one by one, by hand", "time_feed", "time_by_hand", "one frame", FASTER, 3.0),
        ("P2", "feed 64 KiB of 100 B frames, by hand", "time_feed", "time_by_hand", "64 KiB", FASTER, 6.0),
        ("P2", "feed 64 KiB, StreamReader", "time_feed", "time_stream_reader", "64 KiB", SLOWER, 1.25),
        (
            "P3",
            "feed 64 KiB, batches, copying",
            "time_feed_batches",
            "time_copy",
            "64 KiB",
            SLOWER,
            2.0,
        ),
    ):
        yield Goal(goal, work, parsing.Pieces, subject, yardstick, (pieces, 100, 100_000), kind, target, "message")
    for together, factor in ((1, 1.0), (500, 1.0)):
        yield Goal(
            "P4",
            f"serialize 100 B, {together} at a time, by hand",
            parsing.Serializing,
            "time_take",
            "time_by_hand",
            (together, 100, 100_000),
            "times slower",
            factor,
            "message",
        )
    for size in (100, KIB, 64 * KIB):
        yield Goal(
            "X2",
            f"messages of {bytes_text(size)} over a socket, raw asyncio streams",
            asyncio_streams.OverSocket,
            "time_messages_at_both_ends",
            "time_raw_streams_at_both_ends",
            ("asyncio", size, 16 * MIB),
            "times slower",
            1.25,
            "message",
        )
    yield from many_files()
    yield from many_machines()


def many_files() -> Iterator[Goal]:
    """The goals of `scale.py`: 20 files of 100 MB, with 15 million messages in all."""
    for name, work, subject, yardstick, kind, target in (
        ("Q1", "slice, beside decoding the same bytes", "time_slice", "time_from_memory", SLOWER, 1.5),
        ("Q3", "slice, DuckDB on Parquet, row groups of 32k", "time_slice", "time_duckdb", SLOWER, 1.0),
        ("Q3", "slice, polars on Parquet, row groups of 32k", "time_slice", "time_polars", SLOWER, 1.3),
        ("Q4", "slice, full scan without the index", "time_slice", "time_full_scan", FASTER, 30),
        ("Q4", "slice of one file, mcap's indexed reader", "time_one_file", "time_one_file_by_mcap", FASTER, 80),
        ("Q5", "slice by a lazy scan in polars, beside the direct call", "time_lazy_slice", "time_slice", SLOWER, 1.3),
    ):
        yield Goal(name, work, scale.Slice, subject, yardstick, (), kind, target, "slice")
        if name == "Q1":
            for other in ("polars", "duckdb"):
                yield Goal(
                    "Q2",
                    f"slice, cold, times the speed of {other} on Parquet, row groups of 32k",
                    scale.Slice,
                    f"track_cold_beside_{other}",
                    "",
                    (),
                    "at least",
                    1.0,
                )
    yield Goal("Q6", "first ten rows of 20 files, ms", scale.Head, "track_head", "", (), "at most", 1.0)
    for work, yardstick, kind, target in (
        ("two columns of 2 GB with two threads, polars on Parquet", "time_polars", SLOWER, 5),
        ("two columns of 2 GB with two threads, one thread", "time_one_thread", FASTER, 1.7),
    ):
        yield Goal("Q7", work, scale.FullScan, "time_two_threads", yardstick, (), kind, target, "message")
    yield Goal("Q8", "index of one field, percent of its file", scale.Index, "track_share", "", (), "at most", 0.1)
    yield Goal(
        "Q8",
        "building it, beside reading the column",
        scale.Index,
        "time_build",
        "time_read_the_column",
        (),
        "times slower",
        1.3,
        "byte",
    )
    for work, target in (("records", 1.15), ("payloads", 1.3)):
        yield Goal(
            "Q9",
            f"writing {work} with an index of one field, beside without",
            indexing.Writing,
            f"time_{work}_with_index",
            f"time_{work}",
            (),
            SLOWER,
            target,
            "message",
        )
    yield Goal(
        "Q9",
        "writing records to a journal with an index of one field, beside without",
        indexing.WritingAJournal,
        "time_records_with_index",
        "time_records",
        (),
        SLOWER,
        1.2,
        "message",
    )


def many_machines() -> Iterator[Goal]:
    """The goals of `engines.py`, of the engines that are installed."""
    dask, ray, spark = engines.Dask, engines.Ray, engines.Spark
    sliced = "slice in {}, of Parquet with row groups of a million rows"
    rows = [
        Goal("Y1", "all rows in Dask, two processes beside one", dask, "track_two_processes", "", (), "at least", 1.5),
        Goal("Y2", sliced.format("Dask"), dask, "time_slice", "time_parquet", (), FASTER, 3, "slice"),
        Goal("Y3", sliced.format("Ray"), ray, "time_slice", "time_parquet", (), FASTER, 3, "slice"),
        Goal("Y4", "all rows in Spark, two cores beside one", spark, "track_two_cores", "", (), "at least", 1.5),
        Goal("Y5", sliced.format("Spark"), spark, "track_slice", "", (), "at least", 3),
    ]
    yield from (row for row in rows if any(row.name in engines.GOALS[name] for name in engines.INSTALLED))


def bytes_text(size: int) -> str:
    """`size` with a binary unit."""
    if size >= MIB:
        return f"{size // MIB} MiB"
    return f"{size // KIB} KiB" if size >= KIB else f"{size} B"


def timed(function: Callable[..., Any], params: tuple[Any, ...]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    function(*params)
    return time.perf_counter() - begin


def timed_statement(statement: str) -> float:
    """Seconds of one statement in a new process, without the start of the process."""
    script = f"import time\nbegin = time.perf_counter()\n{statement}\nprint(time.perf_counter() - begin)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(result.stdout)


class Running:
    """One benchmark with its parameters, set up."""

    def __init__(self, benchmark: type, params: tuple[Any, ...]) -> None:
        self.instance = benchmark()
        self.params = params
        if hasattr(self.instance, "setup"):
            self.instance.setup(*params)

    def time(self, method: str) -> float:
        if method.startswith("timeraw_"):
            return timed_statement(getattr(self.instance, method)())
        return timed(getattr(self.instance, method), self.params)

    def units(self) -> int:
        """The divisor of the time of one call."""
        return self.instance.units(*self.params) if hasattr(self.instance, "units") else 1

    def close(self) -> None:
        if hasattr(self.instance, "teardown"):
            self.instance.teardown(*self.params)


def best_in_turn(first: Callable[[], float], second: Callable[[], float]) -> tuple[float, float]:
    """The best result of each function, called in turn."""
    best = [float("inf"), float("inf")]
    for _ in range(TURNS):
        for side, run in enumerate((first, second)):
            # This run is not counted, because it finds the caches as the other side left them.
            run()
            end = time.perf_counter() + SECONDS
            runs = 0
            while runs < LEAST_RUNS or time.perf_counter() < end:
                best[side] = min(best[side], run())
                runs += 1
    return best[0], best[1]


def measure(goal: Goal) -> Result:
    """Measures both sides of a goal."""
    running = Running(goal.benchmark, goal.params)
    other = running
    try:
        if goal.benchmark is checksums.Portable:
            times = running.instance.measure(*goal.params)
            size = checksums.Portable.size
            return judge(
                goal, times["zlib"] / times["portable"], rate(times["portable"] / size), rate(times["zlib"] / size)
            )
        if goal.kind == "at most" and goal.subject.startswith("time_"):
            best, _ = best_in_turn(lambda: running.time(goal.subject), lambda: 0.0)
            value = best / running.units() * 1e9
            return judge(goal, value, duration(value * 1e-9), "")
        if goal.subject.startswith("track_"):
            value = getattr(running.instance, goal.subject)(*goal.params)
            return judge(goal, value, f"{value:.4g}", "")
        if goal.yardstick_params is not None:
            other = Running(goal.benchmark, goal.yardstick_params)
        subject, yardstick = best_in_turn(lambda: running.time(goal.subject), lambda: other.time(goal.yardstick))
        subject /= running.units()
        yardstick /= other.units()
        value = {
            "times faster": yardstick / subject,
            "times slower": subject / yardstick,
            "ns more": (subject - yardstick) * 1e9,
        }[goal.kind]
        text = rate if goal.unit == "byte" else duration
        return judge(goal, value, text(subject), text(yardstick))
    finally:
        running.close()
        if other is not running:
            other.close()


def judge(goal: Goal, value: float, measured: str, yardstick: str) -> Result:
    """The result for `value`, and whether it reaches the goal."""
    reached = value >= goal.target if goal.kind in ("times faster", "at least") else value <= goal.target
    return Result(goal.name, goal.work, measured, yardstick, value, goal.kind, goal.target, reached)


def rate(seconds_per_byte: float) -> str:
    """Bytes per time, as text."""
    return f"{1e-9 / seconds_per_byte:.2f} GB/s"


def duration(seconds: float) -> str:
    """A time with its unit, as text."""
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e9:.1f} ns"


COMPARED = {
    "times faster": ("{:.2f} times faster", "{:g}"),
    "times slower": ("{:.2f} times slower", "at most {:g}"),
    "ns more": ("{:.1f} ns more", "at most {:g}"),
    "at most": ("", "at most {:g}"),
    "at least": ("{:.2f} times its speed", "{:g}"),
}
LINE = "{:<9} {:<58} {:>12} {:>12}  {:<20} {:<12} {}"


def row(result: Result) -> str:
    """A line of the table."""
    compared, target = COMPARED[result.kind]
    return LINE.format(
        result.name,
        result.work,
        result.measured,
        result.yardstick,
        compared.format(result.value),
        target.format(result.target),
        "reached" if result.reached else "NOT REACHED",
    )


def machine() -> str:
    """Processor, cores, system and Python, as far as they can be determined."""
    return f"{cpu_name()}, {os.cpu_count()} cores, {os_name()}, Python {platform.python_version()}"


GROWTH: list[tuple[str, type, str, str]] = [
    ("F1 scan", deframing.Scan, "time_read_batch", "none"),
    ("F1 scan, crc32", deframing.Scan, "time_read_batch", "crc32"),
    ("F2 for loop", deframing.Iterate, "time_for_loop", "none"),
    ("F3 process_all", deframing.ProcessAll, "time_process_all", "none"),
    ("F4 write_payload", framing.WriteOneByOne, "time_write_payload", "none"),
    ("F5 write_payloads", framing.WriteMany, "time_write_payloads", "none"),
    ("F5 write_payloads, crc32", framing.WriteMany, "time_write_payloads", "crc32"),
]


def print_growth() -> None:
    """Prints the cost of a frame by size and count: ns per frame, and GB/s of payload."""
    print(f"\n{'ns a frame (GB/s)':<26}" + "".join(f"{bytes_text(size):>18}" for size in SIZES))
    for name, benchmark, method, checksum in GROWTH:
        for count in COUNTS:
            if count == GOAL_COUNT:
                continue
            cells = []
            for size in SIZES:
                try:
                    running = Running(benchmark, (checksum, size, count))
                except NotImplementedError:
                    cells.append(f"{'':>18}")
                    continue
                running.time(method)
                best = min(running.time(method) for _ in range(GROWTH_RUNS)) / count
                running.close()
                cells.append(f"{best * 1e9:>10.1f} {'(' + format(size / best * 1e-9, '.1f') + ')':>7}")
            print(f"{name + ' x ' + format(count, ','):<36}"[:36].ljust(26) + "".join(cells))
    total = 64 * MIB
    cells = []
    for size in SIZES:
        running = Running(stream_io.ReadFile, ("none", size, total))
        best = min(running.time("time_batches") for _ in range(GROWTH_RUNS)) / running.units()
        running.close()
        cells.append(f"{best * 1e9:>10.1f} {'(' + format(size / best * 1e-9, '.1f') + ')':>7}")
    print(f"{'F6 batches of a 64 MiB file':<26}" + "".join(cells))


def main(arguments: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measure the performance goals.")
    parser.add_argument("--only", help="names of goals, separated by commas")
    parser.add_argument(
        "--growth",
        action="store_true",
        help="also print the cost of a frame over sizes and counts, unless --only is given",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the results to FILE")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else None
    chosen = [goal for goal in goals() if wanted is None or goal.name.split()[0] in wanted]
    if not chosen:
        parser.error(f"no goal has one of these names: {options.only}")
    print(machine())
    print(LINE.format("goal", "work", "measured", "yardstick", "compared", "goal", ""))
    results = []
    for goal in chosen:
        results.append(measure(goal))
        print(row(results[-1]), flush=True)
    print(f"{sum(result.reached for result in results)} of {len(results)} reached")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine(), "results": [asdict(result) for result in results]}, file, indent=1)
            file.write("\n")
    if options.growth and wanted is None:
        print_growth()
    return 0


if __name__ == "__main__":
    sys.exit(main())

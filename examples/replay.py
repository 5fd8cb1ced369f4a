"""Load what telemetry_agent.py recorded into Parquet, summarise it, and draw its CPU and memory series.

    python telemetry_agent.py --rate 1000 --seconds 60 --output machine
    python replay.py machine

Takes the folder of a journal, also while the agent writes it, or a file: a segment of a journal, or what was salvaged.
It is read as columns through the schema in its description (or that of --schema), batch by batch, so it may be larger
than memory.
pyarrow writes the Parquet file, polars or pandas computes the summary from it, and matplotlib draws. On a terminal, a
progress bar is shown for a long one. Needs flatstream[columns], matplotlib and tqdm.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

import flatstream
from flatstream.journal import Gap, JournalReader

PROGRAM = "replay"
HERE = Path(__file__).parent
CHECKSUMS = ("none", "crc16", "crc32", "crc32c", "crc64", "xxhash64")

SECOND_NS = 1_000_000_000
GIB = 2**30
MAX_POINTS = 600
# The kernel counts CPU time in steps of 10 ms, so a rate over a much shorter window would be meaningless.
MIN_WINDOW_NS = SECOND_NS // 4
STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
# The columns for the summary and the picture; the others are not read from the Parquet file.
USED = [
    "sequence",
    "wall_time_ns",
    "monotonic_ns",
    "lateness_ns",
    "deadline_missed",
    "host",
    "logical_cpus",
    "load_1",
    "memory_total",
    "memory_used",
    "memory_cached",
    "swap_used",
    "process_resident",
    *(f"cpu_total.{state}" for state in STATES),
]


# --- Loading ---------------------------------------------------------------------------------------------------------


@dataclass
class Loaded:
    """How much of a stream is in the Parquet file, what is missing, and the error that ended reading, if any."""

    rows: int = 0
    skipped: int = 0
    gaps: list[Gap] = field(default_factory=list)
    error: Exception | None = None


def open_recorded(path: Path, checksum: str | None) -> tuple[flatstream.StreamReader, int]:
    """A reader of a journal or a file, and its size in bytes. A journal knows its checksum; that of a file is found."""
    if path.is_dir():
        return JournalReader(path, checksum), sum(segment.stat().st_size for segment in path.glob("*.fs"))
    return flatstream.open(path, checksum=checksum), path.stat().st_size


def table_of(reader: flatstream.StreamReader, schema: Path | None) -> Any:
    """The table of the events: that of a given schema, otherwise the stream's own; telemetry.bfbs if it says none."""
    description = reader.description if schema is None else None
    if description is not None and description.table is not None:
        return description.table
    return flatstream.Schema.from_file(schema or HERE / "telemetry.bfbs").root


def load(arguments: argparse.Namespace, parquet: Path) -> Loaded:
    """Reads the stream as columns and writes them to a Parquet file.

    A file that was copied while the agent wrote it, or cut off by a power failure, ends inside a frame. The events
    before that frame are loaded. Of a journal everything is loaded that is intact.
    """
    window = None
    if arguments.begin is not None or arguments.end is not None:
        window = ("wall_time_ns", nanoseconds(arguments.begin), nanoseconds(arguments.end))
    loaded = Loaded()
    opened, size = open_recorded(arguments.file, arguments.checksum)
    on_error: Any = "skip" if arguments.skip_damaged else "raise"
    with (
        opened as reader,
        # There is no bar without a terminal, or in the first half second.
        tqdm(total=size, unit="B", unit_scale=True, delay=0.5, disable=None, desc=arguments.file.name) as bar,
    ):
        stream = reader.column_batches(
            table_of(reader, arguments.schema),
            where=window,
            on_error="resync" if isinstance(reader, JournalReader) else on_error,
            progress=lambda _, offset: bar.update(offset - bar.n),
        )
        batches = pa.RecordBatchReader.from_stream(stream)
        with pq.ParquetWriter(parquet, batches.schema, compression="zstd") as writer:
            try:
                for batch in batches:
                    writer.write_batch(batch)
                    loaded.rows += batch.num_rows
            except (OSError, pa.ArrowException) as error:
                loaded.error = error
        loaded.skipped = stream.skipped
        if isinstance(reader, JournalReader):
            loaded.gaps = reader.gaps
    if loaded.error is not None and not loaded.rows:
        parquet.unlink()
    return loaded


def nanoseconds(moment: datetime.datetime | None) -> int | None:
    """A moment in the unit of the events: nanoseconds since the Unix epoch."""
    return None if moment is None else round(moment.timestamp() * 1_000_000) * 1000


# --- Summary ---------------------------------------------------------------------------------------------------------


def used_columns(parquet: Path) -> pa.Table:
    """The columns in USED; a field of a struct is a column with a dotted name (``cpu_total.user``)."""
    with pq.ParquetFile(parquet) as file:
        return file.read(columns=USED).flatten()


def continued(table: pa.Table) -> pa.Table:
    """The same table with the growth of each counter since the first event, in place of the counter.

    A counter that goes down began anew, with its process or its machine. So did the others then, and what each counted
    in between is unknown: it does not count as growth. An event without a value has the one before it.
    """
    counters = ["monotonic_ns", *(f"cpu_total.{state}" for state in STATES)]
    growth = {}
    for name in counters:
        # Signed, so that a counter that goes down has negative growth.
        kind = pa.int64() if pa.types.is_integer(table[name].type) else pa.float64()
        values = pc.fill_null(pc.fill_null_forward(table[name].combine_chunks().cast(kind)), 0).to_numpy()
        growth[name] = np.diff(values, prepend=values[:1])
    begun_anew = np.any([grown < 0 for grown in growth.values()], axis=0)
    for name, grown in growth.items():
        table = table.set_column(
            table.column_names.index(name), name, pa.array(np.cumsum(np.where(begun_anew, 0, grown)))
        )
    return table


def missing_events(sequence: pa.ChunkedArray) -> int:
    """How many numbers are missing. The numbers begin anew when the agent is started again."""
    steps = np.diff(sequence.combine_chunks().cast(pa.int64()).to_numpy())
    return int(np.maximum(steps - 1, 0).sum())


def window_of(table: pa.Table) -> tuple[int, int]:
    """The time of the first event, and the length of a window of the series, in nanoseconds."""
    times = table["monotonic_ns"]
    first, last = times[0].as_py(), times[-1].as_py()
    return first, max((last - first) // MAX_POINTS, MIN_WINDOW_NS)


def series_with_polars(table: pa.Table) -> dict[str, list[Any]]:
    """A row for each window of time, by polars: the last value of each counter, and the maximum of other values."""
    import polars as pl

    first, width = window_of(table)
    windows = (
        pl.DataFrame(table)
        .group_by(((pl.col("monotonic_ns") - first) // width).alias("window"), maintain_order=True)
        .agg(
            pl.col("wall_time_ns", "monotonic_ns").last(),
            pl.col("^cpu_total\\..*$").last(),
            pl.col("memory_used", "memory_cached", "swap_used", "process_resident", "load_1").max(),
            (pl.col("lateness_ns").max() / 1000).alias("lateness_us"),
            pl.col("deadline_missed").sum().alias("missed"),
            pl.len().alias("events"),
        )
    )
    return windows.to_dict(as_series=False)


def series_with_pandas(table: pa.Table) -> dict[str, list[Any]]:
    """The same rows by pandas."""
    first, width = window_of(table)
    frame = table.to_pandas()
    names = ["wall_time_ns", "monotonic_ns", *(f"cpu_total.{state}" for state in STATES)]
    counters = {name: (name, "last") for name in names}
    gauges = {
        name: (name, "max") for name in ("memory_used", "memory_cached", "swap_used", "process_resident", "load_1")
    }
    windows = frame.groupby(((frame["monotonic_ns"] - first) // width).rename("window")).agg(
        **counters,
        **gauges,
        lateness_us=("lateness_ns", "max"),
        missed=("deadline_missed", "sum"),
        events=("sequence", "size"),
    )
    windows["lateness_us"] /= 1000
    return dict(windows.to_dict("list"))


SERIES = {"polars": series_with_polars, "pandas": series_with_pandas}


def shares(table: pa.Table, series: dict[str, list[Any]]) -> dict[str, list[float]]:
    """The share of each CPU state in each window, in percent of the window's time on all processors."""

    def growth(name: str) -> list[float]:
        return [after - before for before, after in itertools.pairwise([table[name][0].as_py(), *series[name]])]

    cpus = table["logical_cpus"][0].as_py()
    times = [spent / SECOND_NS * cpus for spent in growth("monotonic_ns")]
    return {
        state: [
            100 * part / time if time else 0.0 for part, time in zip(growth(f"cpu_total.{state}"), times, strict=True)
        ]
        for state in STATES
    }


def busy(cpu: dict[str, list[float]]) -> list[float]:
    """The sum of all states except idle and iowait."""
    return [
        sum(parts) for parts in zip(*(cpu[state] for state in STATES if state not in ("idle", "iowait")), strict=True)
    ]


def summarise(table: pa.Table, series: dict[str, list[Any]]) -> None:
    """Prints the summary."""
    times = table["monotonic_ns"]
    seconds = (times[-1].as_py() - times[0].as_py()) / SECOND_NS
    host, events = table["host"][0].as_py(), table.num_rows
    begun = datetime.datetime.fromtimestamp(table["wall_time_ns"][0].as_py() / SECOND_NS, datetime.UTC)
    missing = missing_events(table["sequence"])
    print(f"host      {host}, from {begun:%Y-%m-%d %H:%M:%S} UTC for {seconds:.1f} s")
    print(f"events    {events}, {events / seconds if seconds else 0:.1f}/s, {missing} missing")
    print(f"deadlines {sum(series['missed'])} missed, at worst {max(series['lateness_us']):.0f} us late")
    rows = [("memory used GiB", [value / GIB for value in series["memory_used"]])]
    rows.append(("agent MiB", [value / 2**20 for value in series["process_resident"]]))
    rows.append(("load", series["load_1"]))
    if seconds:
        cpu = shares(table, series)
        rows.insert(0, ("cpu busy %", busy(cpu)))
        rows.insert(1, ("cpu iowait %", cpu["iowait"]))
    print(f"{len(series['events'])} windows         least      mean      most")
    for name, values in rows:
        print(f"{name:16} {min(values):10.2f}{sum(values) / len(values):10.2f}{max(values):10.2f}")


# --- Picture ---------------------------------------------------------------------------------------------------------


def draw(table: pa.Table, series: dict[str, list[Any]], path: Path) -> None:
    """Draws the CPU and the memory series, one above the other."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    first = series["wall_time_ns"][0]
    seconds = [(moment - first) / SECOND_NS for moment in series["wall_time_ns"]]
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 6), sharex=True, layout="constrained")
    if len(seconds) > 1:
        cpu = shares(table, series)
        states = {
            "user": [user + nice for user, nice in zip(cpu["user"], cpu["nice"], strict=True)],
            "system": [
                sum(parts) for parts in zip(cpu["system"], cpu["irq"], cpu["softirq"], cpu["steal"], strict=True)
            ],
            "iowait": cpu["iowait"],
        }
        above.stackplot(seconds, *states.values(), labels=states, colors=("#4477aa", "#ee6677", "#ccbb44"))
        above.legend(loc="upper right")
    above.set(ylabel="CPU, % of all cores", ylim=(0, 100), title=f"{table['host'][0].as_py()}: {table.num_rows} events")
    for name, label, color in (
        ("memory_used", "used", "#4477aa"),
        ("memory_cached", "cached", "#228833"),
        ("swap_used", "swap", "#ee6677"),
    ):
        below.plot(seconds, [value / GIB for value in series[name]], label=label, color=color)
    below.axhline(table["memory_total"][0].as_py() / GIB, color="#bbbbbb", linestyle="--", label="total")
    below.set(ylabel="memory, GiB", xlabel="seconds", ylim=(0, None))
    below.legend(loc="upper right")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


# --- Command line ----------------------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="A telemetry file to Parquet, a summary and a picture.")
    parser.add_argument("file", type=Path, help="the folder of telemetry_agent.py --output, or a file of frames")
    parser.add_argument("--schema", type=Path, help="a .bfbs or .fbs file (default: what the stream says of itself)")
    parser.add_argument("--checksum", choices=CHECKSUMS, help="the checksum (default: it is found)")
    parser.add_argument("--parquet", type=Path, help="the Parquet file to write (default: beside the file)")
    parser.add_argument("--png", type=Path, help="the picture to write (default: beside the file)")
    parser.add_argument(
        "--with", dest="engine", choices=sorted(SERIES), default="polars", help="the library that computes the summary"
    )
    moment = datetime.datetime.fromisoformat
    parser.add_argument("--begin", type=moment, help="leave out events before this time (2026-01-31T12:00:00+00:00)")
    parser.add_argument("--end", type=moment, help="leave out events at this time or later")
    parser.add_argument("--skip-damaged", action="store_true", help="count damaged messages instead of stopping at one")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    parquet = arguments.parquet or arguments.file.with_suffix(".parquet")
    png = arguments.png or arguments.file.with_suffix(".png")
    try:
        loaded = load(arguments, parquet)
    except (OSError, flatstream.FlatStreamError) as error:
        print(f"{PROGRAM}: {arguments.file}: {error}", file=sys.stderr)
        return 1
    status = 0
    if loaded.error is not None:
        # Report the error, and summarise the events before it all the same.
        print(f"{PROGRAM}: {arguments.file}: after {loaded.rows} events: {loaded.error}", file=sys.stderr)
        status = 1
        if not loaded.rows:
            return status
    print(f"loaded    {loaded.rows} events into {parquet} ({parquet.stat().st_size} bytes), {loaded.skipped} skipped")
    for gap in loaded.gaps:
        print(f"gap       events {gap.first} to {gap.next - 1}, {gap.lost_bytes} bytes: {gap.segment}")
    if not loaded.rows:
        print("there is nothing to summarise")
        return status
    table = continued(used_columns(parquet))
    series = SERIES[arguments.engine](table)
    summarise(table, series)
    draw(table, series, png)
    print(f"drawn     {png}")
    return status


if __name__ == "__main__":
    sys.exit(main())

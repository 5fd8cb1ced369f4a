"""Sample this machine's own metrics at a fixed rate into a journal, for as long as the machine runs.

    python telemetry_agent.py --output /var/lib/telemetry/journal --rate 1000

Each tick samples the processors, memory, disks, network and the agent's own process, builds one `telemetry.Event`
(telemetry.fbs) with the code flatc generated from it, and puts the event into a queue. The loop never waits for the
disk: a thread takes the events out of the queue and writes them to the journal, which rotates, syncs and removes old
segments by itself. An agent that is killed goes on behind its last whole event when it is started again.

SIGTERM and Ctrl-C end it after everything is on the disk. SIGHUP begins a new segment, so that the ones before can be
copied or removed. telemetry_agent.service runs it under systemd. `flatstream follow /var/lib/telemetry/journal` shows
the events as they come, and `python replay.py /var/lib/telemetry/journal` analyses them; neither needs the schema,
because the journal says of itself what its events are. telemetry_demo.py shows all of it in ten seconds. Needs
flatstream, flatbuffers and psutil, and prometheus_client for --metrics-port.
"""

# mypy: allow-untyped-calls
# (the code flatc generates has no annotations)

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import logging.handlers
import math
import os
import queue
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telemetry_sources import Source, Tick, build_event, make_sources

import flatstream
from flatstream.journal import (
    JournalWriter,
    RetentionPolicy,
    RotationPolicy,
    SyncPolicy,
    ThreadedWriter,
    stop_on_signals,
)

PROGRAM = "telemetry_agent"
CHECKSUMS = ("none", "crc16", "crc32", "crc32c", "crc64", "xxhash64")
FULL_DISK = ("drop_oldest", "drop_newest", "raise")

SECOND_NS = 1_000_000_000
MIB = 1 << 20
CATCH_UP_NS = SECOND_NS  # an agent that is further behind, as after a suspended machine, leaves events out
GRACE_NS = SECOND_NS // 4  # how long an agent that has fallen behind may run past its end to catch up
CLOSE_SECONDS = 30.0  # how long the end waits for a disk that hangs

log = logging.getLogger(PROGRAM)


# --- Sampling --------------------------------------------------------------------------------------------------------


class Times:
    """How often a time came, in nanoseconds, by its size in steps of 9 %: months need no more memory than a minute."""

    STEPS = 8  # for each doubling

    def __init__(self) -> None:
        self.counts = [0] * (64 * self.STEPS)
        self.count = 0
        self.worst = 0

    def add(self, value: int) -> None:
        self.counts[int(math.log2(value) * self.STEPS) if value > 0 else 0] += 1
        self.count += 1
        self.worst = max(self.worst, value)

    def percentile(self, fraction: float) -> int:
        """A value that `fraction` of all times do not exceed, at most 9 % too large."""
        rank = max(1, math.ceil(fraction * self.count))
        for step, total in enumerate(itertools.accumulate(self.counts)):
            if total >= rank:
                return min(round(2 ** ((step + 1) / self.STEPS)), self.worst)
        return 0


@dataclass
class Run:
    """The record of the sampling loop."""

    rate: float
    absent: list[str] = field(default_factory=list)
    events: int = 0
    missed: int = 0
    left_out: int = 0
    elapsed_ns: int = 0
    lateness: Times = field(default_factory=Times)
    sampling: Times = field(default_factory=Times)
    building: Times = field(default_factory=Times)
    putting: Times = field(default_factory=Times)
    total: Times = field(default_factory=Times)

    @property
    def rate_held(self) -> float:
        return self.events * SECOND_NS / self.elapsed_ns if self.elapsed_ns else 0.0


def wait_until(deadline_ns: int, stop: stop_on_signals) -> None:
    left = deadline_ns - time.perf_counter_ns()
    if left > 0:
        stop.wait(left / SECOND_NS)


def put(writer: ThreadedWriter, builder: flatstream.Builder) -> None:
    """Puts the event into the queue. An error of the disk is told to the log by the writer's thread, which goes on
    trying: the event is put all the same. FlatStreamError is final.
    """
    try:
        writer.write_finished(builder)
    except OSError:
        # It is raised once.
        writer.write_finished(builder)


def record(
    writer: ThreadedWriter,
    run: Run,
    first: int,
    seconds: float,
    stop: stop_on_signals,
    sources: Sequence[Source],
) -> None:
    """Puts ``run.rate`` events a second into the queue for `seconds`, or until `stop` is requested.

    The events are numbered from `first`. Deadlines are absolute, so one late event does not delay the next. An agent
    that falls behind samples the overdue events without waiting. If it is more than a second behind, it leaves events
    out. An event that begins after the deadline of the next one counts as missed.
    """
    builder = flatstream.Builder(4096)
    clock = time.perf_counter_ns
    period = SECOND_NS / run.rate
    ticks = max(1, round(run.rate * seconds)) if math.isfinite(seconds) else sys.maxsize
    start = clock()
    previous_event_ns = 0
    number = 0
    while number < ticks and not stop.requested:
        deadline = start + round(number * period)
        wait_until(deadline, stop)
        began = clock()
        if stop.requested or began > start + ticks * period + GRACE_NS:
            break
        lateness = began - deadline
        if lateness > CATCH_UP_NS:
            behind = min(int(lateness / period), ticks - number)
            run.left_out += behind
            number += behind
            continue
        missed = lateness >= period
        tick = Tick(first + run.events, time.time_ns(), began, lateness, missed, previous_event_ns)
        sample = [source.read() for source in sources]
        sampled = clock()
        build_event(builder, tick, sources, sample)
        built = clock()
        put(writer, builder)
        done = clock()
        previous_event_ns = done - began
        number += 1
        run.events += 1
        run.missed += missed
        run.lateness.add(lateness)
        run.sampling.add(sampled - began)
        run.building.add(built - sampled)
        run.putting.add(done - built)
        run.total.add(done - began)
        run.elapsed_ns = done - start
    else:
        # Otherwise the last event would have no period, and the rate would look too high.
        wait_until(start + round(min(ticks, number) * period), stop)
    run.elapsed_ns = clock() - start
    run.absent += [f"{source.name} in {source.failures} events" for source in sources if source.failures]


# --- Keeping house ---------------------------------------------------------------------------------------------------


class Housekeeper:
    """A thread for all that may wait for the disk: begins a segment on SIGHUP, and logs a line now and then."""

    def __init__(self, journal: JournalWriter, writer: ThreadedWriter, run: Run, interval: float) -> None:
        self._journal = journal
        self._writer = writer
        self._run = run
        self._interval = interval
        # A signal handler may not wait for a lock, and putting something into this queue needs none.
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="housekeeper", daemon=True)
        self._previous: Any = None

    def __enter__(self) -> Housekeeper:
        if hasattr(signal, "SIGHUP"):
            self._previous = signal.signal(signal.SIGHUP, lambda *_: self._orders.put("rotate"))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, self._previous)
        self._orders.put("end")
        self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        problems: list[str] = []
        while True:
            try:
                order = self._orders.get(timeout=self._interval)
            except queue.Empty:
                order = "tell"
            if order == "end":
                return
            try:
                if order == "rotate":
                    self._writer.flush(CLOSE_SECONDS)
                    self._journal.rotate()
                    log.info("SIGHUP: began a new segment")
                log.info("%s", status_line(self._run, self._journal, self._writer))
                before, problems = problems, self._journal.health()
                for problem in set(problems) - set(before):
                    log.warning("%s", problem)
            except (OSError, ValueError, flatstream.FlatStreamError) as error:
                log.warning("%s failed: %s", order, error)


def status_line(run: Run, journal: JournalWriter, writer: ThreadedWriter) -> str:
    late, worst = run.lateness.percentile(0.99) // 1000, run.lateness.worst // 1000
    return (
        f"{run.events} events, {run.rate_held:.1f}/s, late by {late} us at p99 and {worst} us at worst, "
        f"{writer.queued} queued, {writer.dropped} dropped, {journal.position - journal.durable_position} not synced"
    )


@contextlib.contextmanager
def served_metrics(port: int | None, journal: JournalWriter, writer: ThreadedWriter, run: Run) -> Iterator[None]:
    """Serves the metrics of the journal, the queue and the sampling loop to Prometheus, while it is entered."""
    if port is None:
        yield
        return
    import prometheus_client

    from flatstream.journal.prometheus import JournalCollector

    registry = prometheus_client.CollectorRegistry()
    collector = JournalCollector()
    collector.add("telemetry", journal, queue=writer)
    registry.register(collector)
    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "events_total": ("Events sampled.", lambda: run.events),
        "missed_total": ("Events that began after the deadline of the next one.", lambda: run.missed),
        "left_out_total": ("Events that were left out because the agent was too far behind.", lambda: run.left_out),
        "lateness_seconds_max": ("How late an event began at worst.", lambda: run.lateness.worst / SECOND_NS),
    }
    for name, (text, function) in gauges.items():
        prometheus_client.Gauge(f"{PROGRAM}_{name}", text, registry=registry).set_function(function)
    server, thread = prometheus_client.start_http_server(port, "127.0.0.1", registry=registry)
    log.info("metrics at http://127.0.0.1:%d/metrics", server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(CLOSE_SECONDS)


# --- Reporting -------------------------------------------------------------------------------------------------------


def opened(journal: JournalWriter) -> Iterator[str]:
    """What opening the journal found and did."""
    for segment in journal.recovery:
        name = os.path.basename(segment.path)
        if segment.action == "cut":
            yield f"recovered  {name}: cut off {segment.bytes_cut} bytes of an unfinished event behind {segment.frames}"
        elif segment.action == "damaged":
            yield f"damaged    {name}: left as it is, {segment.frames} events intact: {segment.error}"
    if journal.position:
        yield f"continued  {len(journal.recovery)} segments, the next event is number {journal.position}"
    else:
        yield "begun      a new journal"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, with the first column aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells)).rstrip()


def report(run: Run, journal: JournalWriter, writer: ThreadedWriter) -> Iterator[str]:
    """The lines of the report on a run, after the journal was closed."""
    yield f"events     {run.events} sampled, {writer.frames_written} written, {writer.dropped + writer.lost} lost"
    yield f"rate       {run.rate:.1f}/s asked, {run.rate_held:.1f}/s held over {run.elapsed_ns / SECOND_NS:.2f} s"
    yield f"deadlines  {run.missed} missed, {run.left_out} events left out"
    metrics = journal.metrics()
    mean = metrics.sync_seconds.sum / metrics.syncs * 1000 if metrics.syncs else 0.0
    yield f"journal    {metrics.segments} segments, {metrics.journal_bytes} bytes; {metrics.rotations} rotations"
    yield f"syncs      {metrics.syncs}, {mean:.1f} ms on average; {metrics.durable_position} events on the disk"
    if run.absent:
        yield f"absent     {', '.join(run.absent)}"
    if run.events:
        yield ""
        yield from table(list(cost_rows(run)))


def cost_rows(run: Run) -> Iterator[Sequence[str]]:
    yield "us per event", "median", "p99", "worst"
    parts = {
        "late by": run.lateness,
        "sample": run.sampling,
        "build": run.building,
        "put": run.putting,
        "total": run.total,
    }
    for label, part in parts.items():
        values = (part.percentile(0.5), part.percentile(0.99), part.worst)
        yield f"  {label}", *(f"{value / 1000:.1f}" for value in values)


# --- Command line ----------------------------------------------------------------------------------------------------


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a finite number greater than 0, found {text!r}")
    return value


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Sample this machine into a flatstream journal.")
    parser.add_argument("--rate", type=positive, default=1000.0, help="events a second (default: 1000)")
    parser.add_argument("--seconds", type=positive, default=math.inf, help="how long to sample (default: for ever)")
    parser.add_argument(
        "--output", type=Path, help="the folder of the journal (default: a temporary one, removed at the end)"
    )
    parser.add_argument(
        "--checksum", choices=CHECKSUMS, default="xxhash64", help="the checksum of each frame (default: xxhash64)"
    )
    parser.add_argument(
        "--sync-seconds",
        type=positive,
        default=0.1,
        help="a power cut takes the events of about twice this time, a kill those of this time (default: 0.1)",
    )
    parser.add_argument("--segment-mib", type=positive, default=64.0, help="the size of a segment (default: 64)")
    parser.add_argument("--keep-mib", type=positive, default=4096.0, help="the size of the journal (default: 4096)")
    parser.add_argument("--keep-days", type=positive, default=30.0, help="the age of an old segment (default: 30)")
    parser.add_argument(
        "--full-disk", choices=FULL_DISK, default="drop_oldest", help="what to do about it (default: drop_oldest)"
    )
    parser.add_argument("--queue", type=int, default=10_000, help="events that can wait for the disk (default: 10000)")
    parser.add_argument("--metrics-port", type=int, help="serve metrics to Prometheus on this port (0: any)")
    parser.add_argument("--status-seconds", type=positive, default=60.0, help="time between two status lines")
    parser.add_argument("--quiet", action="store_true", help="no log")
    return parser.parse_args(argv)


@contextlib.contextmanager
def logging_to_stderr(*, quiet: bool) -> Iterator[None]:
    """Sends the log to stderr by a thread, because whoever reads stderr may be slow, and sampling never waits."""
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    output = logging.StreamHandler()
    output.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    listener = logging.handlers.QueueListener(records, output)
    handler = logging.NullHandler() if quiet else logging.handlers.QueueHandler(records)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    listener.start()
    try:
        yield
    finally:
        listener.stop()


@contextlib.contextmanager
def journal_folder(path: Path | None) -> Iterator[Path]:
    """`path`, or a temporary folder that is removed at the end."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="telemetry-") as folder:
        yield Path(folder) / "journal"


def run_agent(folder: Path, arguments: argparse.Namespace, stop: stop_on_signals) -> Iterator[str]:
    """Opens the journal, samples until the end, and yields the lines of the report."""
    sources, absent = make_sources()
    run = Run(arguments.rate, absent)
    journal = JournalWriter(
        folder,
        arguments.checksum,
        sync=SyncPolicy(seconds=arguments.sync_seconds),
        rotate=RotationPolicy(max_bytes=round(arguments.segment_mib * MIB), max_seconds=86400),
        retain=RetentionPolicy(
            max_bytes=round(arguments.keep_mib * MIB),
            max_seconds=arguments.keep_days * 86400,
            max_reader_bytes=round(arguments.keep_mib * MIB),
        ),
        when_full=arguments.full_disk,
        # Each segment says what its events are: whoever reads them needs no schema.
        describe=flatstream.Schema.from_file(Path(__file__).with_name("telemetry.bfbs")),
    )
    writer = ThreadedWriter(journal, arguments.queue, "drop_oldest", flush_interval=arguments.sync_seconds)
    try:
        yield from opened(journal)
        with (
            served_metrics(arguments.metrics_port, journal, writer, run),
            Housekeeper(journal, writer, run, arguments.status_seconds),
        ):
            record(writer, run, journal.position, arguments.seconds, stop, sources)
    finally:
        writer.close(CLOSE_SECONDS)
    if stop.signal is not None:
        yield f"ended      by {signal.Signals(stop.signal).name}"
    yield from report(run, journal, writer)


def main(argv: list[str] | None = None) -> int:
    """Runs the agent, and returns the exit status: 1 if the journal cannot be written any more."""
    arguments = parse_arguments(argv)
    try:
        with (
            logging_to_stderr(quiet=arguments.quiet),
            stop_on_signals() as stop,
            journal_folder(arguments.output) as folder,
        ):
            for line in run_agent(folder, arguments, stop):
                print(line, flush=True)
    except (flatstream.FlatStreamError, OSError, ValueError, ImportError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

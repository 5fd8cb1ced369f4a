"""Sample this machine's own metrics at a fixed rate into a flatstream file, then replay the file.

    python telemetry_agent.py --rate 1000 --seconds 10

Each tick samples the processors, memory, disks, network and the agent's own process, builds one `telemetry.Event`
(telemetry.fbs) with the code flatc generated from it, and writes the event as one checksummed frame. A file that exists
is continued, so an agent that is started again loses nothing. The replay reads every event of this run back, checks
that none is missing, and prints a report. Needs flatstream, flatbuffers and psutil.
"""

# mypy: allow-untyped-calls
# (the code flatc generates has no annotations)

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telemetry import Event
from telemetry_sources import Tick, build_event, make_sources

import flatstream

PROGRAM = "telemetry_agent"
CHECKSUMS = ("none", "crc16", "crc32", "crc32c", "crc64", "xxhash64")

SECOND_NS = 1_000_000_000
SLEEP_SLICE_NS = SECOND_NS // 10  # how often a wait for a deadline checks for a stop
GRACE_NS = SECOND_NS // 4  # how long an agent that has fallen behind may run past its end to catch up
FLUSH_NS = SECOND_NS  # an agent that is killed loses at most the events of this time
WINDOW_NS = SECOND_NS // 2  # the kernel counts CPU time in steps of 10 ms: a rate over 1 ms would be meaningless


# --- Running ---------------------------------------------------------------------------------------------------------


def times() -> array[int]:
    """An empty array for one time per event, in nanoseconds."""
    return array("q")


@dataclass
class Run:
    """The record of the sampling loop. It keeps the times of every event (32 bytes each), so percentiles are exact."""

    rate: float
    ticks: int
    absent: list[str]
    events: int = 0
    missed: int = 0
    interrupted: bool = False
    elapsed_ns: int = 0
    lateness: array[int] = field(default_factory=times)
    sampling: array[int] = field(default_factory=times)
    building: array[int] = field(default_factory=times)
    writing: array[int] = field(default_factory=times)

    @property
    def total(self) -> array[int]:
        return array("q", map(sum, zip(self.sampling, self.building, self.writing, strict=True)))

    @property
    def never_begun(self) -> int:
        """The number of events that an agent too slow for its rate never started."""
        return 0 if self.interrupted else self.ticks - self.events

    @property
    def rate_held(self) -> float:
        return self.events * SECOND_NS / self.elapsed_ns if self.elapsed_ns else 0.0


class Stop:
    """While entered, Ctrl-C and SIGTERM set `requested` instead of raising in the middle of an event."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: the handler was not set by Python

    def _request(self, *_: object) -> None:
        self.requested = True


class Progress:
    """A progress line on stderr: rewritten in place on a terminal, otherwise printed every two seconds."""

    def __init__(self, seconds: float, *, quiet: bool) -> None:
        self._seconds = seconds
        self._terminal = sys.stderr.isatty()
        self._interval_ns = SECOND_NS // 5 if self._terminal else 2 * SECOND_NS
        self._next_ns = math.inf if quiet else self._interval_ns
        self._shown = False

    def update(self, elapsed_ns: int, run: Run) -> None:
        if elapsed_ns < self._next_ns:
            return
        self._next_ns = elapsed_ns + self._interval_ns
        elapsed = elapsed_ns / SECOND_NS
        line = (
            f"{PROGRAM}: {elapsed:.1f} of {self._seconds:g} s, {run.events} events, "
            f"{run.events / elapsed:.1f}/s, {run.missed} deadlines missed"
        )
        if self._terminal:
            print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)  # and clear the rest of a longer line
        else:
            print(line, file=sys.stderr, flush=True)
        self._shown = True

    def finish(self) -> None:
        if self._terminal and self._shown:
            print(file=sys.stderr)


def wait_until(deadline_ns: int, stop: Stop) -> None:
    while not stop.requested and (left := deadline_ns - time.perf_counter_ns()) > 0:
        time.sleep(min(left, SLEEP_SLICE_NS) / SECOND_NS)


def record(writer: flatstream.StreamWriter, rate: float, seconds: float, progress: Progress, stop: Stop) -> Run:
    """Write `rate` events a second for `seconds`, or until `stop` is requested.

    Deadlines are absolute, so one late event does not delay the next. An agent that falls behind skips no event: it
    samples the overdue ones without waiting. An event that begins after the deadline of the next one counts as missed.
    """
    sources, absent = make_sources()
    builder = flatstream.Builder(4096)
    run = Run(rate, max(1, round(rate * seconds)), absent)
    clock = time.perf_counter_ns
    period = SECOND_NS / rate
    start = flushed = clock()
    end = start + round(run.ticks * period)
    previous_event_ns = 0
    for sequence in range(run.ticks):
        deadline = start + round(sequence * period)
        wait_until(deadline, stop)
        began = clock()
        if stop.requested or began > end + GRACE_NS:
            break
        lateness = began - deadline
        missed = lateness >= period
        tick = Tick(sequence, time.time_ns(), began, lateness, missed, previous_event_ns)
        sample = [source.read() for source in sources]
        sampled = clock()
        build_event(builder, tick, sources, sample)
        built = clock()
        writer.write_finished(builder)
        if built - flushed >= FLUSH_NS:
            writer.flush()
            flushed = built
        written = clock()
        previous_event_ns = written - began
        run.events += 1
        run.missed += missed
        run.lateness.append(lateness)
        run.sampling.append(sampled - began)
        run.building.append(built - sampled)
        run.writing.append(written - built)
        progress.update(written - start, run)
    else:
        wait_until(end, stop)  # otherwise the last event would have no period, and the rate would look too high
    run.interrupted = stop.requested
    run.elapsed_ns = clock() - start
    absent += [f"{source.name} in {source.failures} events" for source in sources if source.failures]
    return run


# --- Replaying -------------------------------------------------------------------------------------------------------


class ReplayError(Exception):
    """The file does not contain the events that were written."""


@dataclass
class Metric:
    """The first, last, least, mean and greatest of one value over all events."""

    label: str
    unit: str
    value: Callable[[Event.Event], float]
    first: float = math.nan
    last: float = math.nan
    least: float = math.inf
    greatest: float = -math.inf
    total: float = 0.0
    weight: float = 0.0

    def see(self, value: float, weight: float = 1.0) -> None:
        if not self.weight:
            self.first = value
        self.last = value
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)
        self.total += value * weight
        self.weight += weight

    @property
    def mean(self) -> float:
        return self.total / self.weight if self.weight else math.nan


@dataclass
class Rate(Metric):
    """The same for the growth of a counter per second, in windows of half a second."""

    counter: float = math.nan

    def open(self, event: Event.Event) -> None:
        self.counter = self.value(event)

    def close(self, event: Event.Event, seconds: float) -> None:
        counter = self.value(event)
        self.see((counter - self.counter) / seconds, weight=seconds)
        self.counter = counter


KIB, MIB = 1 << 10, 1 << 20


def cpu_busy(event: Event.Event) -> float:
    """CPU seconds per core, except idle time and waiting for a disk, as a percentage of one second."""
    total = event.CpuTotal()
    if total is None:
        return 0.0
    busy = total.User() + total.Nice() + total.System() + total.Irq() + total.Softirq() + total.Steal()
    return 100.0 * float(busy) / int(event.LogicalCpus())


def disk_traffic(event: Event.Event) -> float:
    """KiB read from and written to all disks."""
    disks = (event.Disks(i).Counters() for i in range(event.DisksLength()))
    return float(sum(counters.ReadBytes() + counters.WriteBytes() for counters in disks)) / KIB


def network_traffic(event: Event.Event) -> float:
    """KiB sent and received by all interfaces, loopback included."""
    interfaces = (event.Interfaces(i).Counters() for i in range(event.InterfacesLength()))
    return float(sum(counters.BytesSent() + counters.BytesReceived() for counters in interfaces)) / KIB


def own_cpu_time(event: Event.Event) -> float:
    """CPU seconds the agent has used, as a percentage of one second."""
    return 100.0 * float(event.ProcessUserSeconds() + event.ProcessSystemSeconds())


def make_metrics() -> tuple[list[Metric], list[Rate]]:
    gauges = [
        Metric("load, 1 minute", "", lambda event: event.Load1()),
        Metric("memory used", "MiB", lambda event: event.MemoryUsed() / MIB),
        Metric("memory available", "MiB", lambda event: event.MemoryAvailable() / MIB),
        Metric("own memory", "MiB", lambda event: event.ProcessResident() / MIB),
        Metric("own open files", "", lambda event: event.ProcessOpenFiles()),
        Metric("started late by", "us", lambda event: event.LatenessNs() / 1000),
    ]
    rates = [
        Rate("processors busy", "%", cpu_busy),
        Rate("context switches", "/s", lambda event: event.ContextSwitches()),
        Rate("interrupts", "/s", lambda event: event.Interrupts()),
        Rate("disks", "KiB/s", disk_traffic),
        Rate("network", "KiB/s", network_traffic),
        Rate("own processor time", "%", own_cpu_time),
    ]
    return gauges, rates


@dataclass
class Replay:
    """The content of the file, summed up."""

    events: int
    payload_bytes: int
    seconds: float
    title: str
    metrics: list[Metric]


def describe(event: Event.Event) -> str:
    """A line about the machine, from the strings in an event."""
    texts = (event.Host(), event.Kernel(), event.Architecture(), event.ProcessName())
    host, kernel, architecture, process = ((text or b"").decode() for text in texts)
    return f"{host}: {kernel} {architecture}, {event.LogicalCpus()} CPUs, sampled by {process} (pid {event.Pid()})"


def replay(path: Path, checksum: str, begin: int, written: int) -> Replay:
    """Read every event from byte `begin` on; raise ReplayError unless all `written` events are there, in order."""
    gauges, rates = make_metrics()
    events = payload_bytes = window_start = before = 0
    title = ""
    event = None
    began = time.perf_counter_ns()
    with path.open("rb") as file, flatstream.StreamReader(file, checksum) as reader:
        file.seek(begin)  # the reader reads nothing before it is asked for a message
        for payload in reader:
            event = Event.Event.GetRootAs(payload)
            sequence, now = event.Sequence(), event.MonotonicNs()
            if sequence != events:
                raise ReplayError(f"event {events}: expected sequence number {events}, found {sequence}")
            if now < before:
                raise ReplayError(
                    f"event {events}: its time {now} ns is before {before} ns, the time of the previous event"
                )
            if not events:
                title = describe(event)
                window_start = now
                for rate in rates:
                    rate.open(event)
            for gauge in gauges:
                gauge.see(gauge.value(event))
            if now - window_start >= WINDOW_NS:
                for rate in rates:
                    rate.close(event, (now - window_start) / SECOND_NS)
                window_start = now
            events += 1
            payload_bytes += len(payload)
            before = now
    # The rest is too short for a rate if it is under half a window, unless there is no other window.
    left = before - window_start
    if event is not None and (left >= WINDOW_NS // 2 or (left and not rates[0].weight)):
        for rate in rates:
            rate.close(event, left / SECOND_NS)
    if events != written:
        raise ReplayError(f"{written} events were written, but {events} were read")
    return Replay(events, payload_bytes, (time.perf_counter_ns() - began) / SECOND_NS, title, [*rates, *gauges])


# --- Reporting -------------------------------------------------------------------------------------------------------


def percentile(ordered: Sequence[int], fraction: float) -> int:
    """The nearest-rank percentile: the least value that `fraction` of all values do not exceed."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, with the first column aligned to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells)).rstrip()


def cost_rows(run: Run) -> Iterator[Sequence[str]]:
    yield "us per event", "median", "p99", "worst"
    parts = {"sample": run.sampling, "build": run.building, "write": run.writing, "total": run.total}
    for label, part in parts.items():
        ordered = sorted(part)
        values = (percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1])
        yield f"  {label}", *(f"{value / 1000:.1f}" for value in values)


def number(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def metric_rows(metrics: Sequence[Metric]) -> Iterator[Sequence[str]]:
    yield "metric", "unit", "first", "last", "min", "mean", "max"
    for metric in metrics:
        values = (metric.first, metric.last, metric.least, metric.mean, metric.greatest)
        yield metric.label, metric.unit, *map(number, values)


def report(run: Run, found: Replay, file: str, file_bytes: int) -> Iterator[str]:
    """The lines of the report on a run of at least one event, which added `file_bytes` to the file."""
    lateness = sorted(run.lateness)
    late, late_p99, late_worst = (percentile(lateness, fraction) // 1000 for fraction in (0.5, 0.99, 1.0))
    framing = (file_bytes - found.payload_bytes) / found.events
    yield found.title
    yield ""
    yield f"events     {run.events} written, {found.events} read back in {found.seconds:.2f} s, none missing, in order"
    yield f"rate       {run.rate:.1f}/s asked, {run.rate_held:.1f}/s held over {run.elapsed_ns / SECOND_NS:.2f} s"
    yield f"deadlines  {run.missed} missed, {run.never_begun} events never begun"
    yield f"lateness   {late} us at the median, {late_p99} us at p99, {late_worst} us at worst"
    yield f"size       {file_bytes / found.events:.1f} bytes per event, {framing:g} of them for the frame"
    yield f"file       {file}, {file_bytes} bytes of this run"
    if run.interrupted:
        yield "ended      early, on request"
    if run.absent:
        yield f"absent     {', '.join(run.absent)}"
    yield ""
    yield from table(list(cost_rows(run)))
    yield ""
    yield from table(list(metric_rows(found.metrics)))
    yield ""
    yield "Kernels may count CPU time only at timer ticks: work that runs in step with the ticks can escape the count."


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
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Sample this machine into a flatstream file; replay it.")
    parser.add_argument("--rate", type=positive, default=1000.0, help="events a second (default: 1000)")
    parser.add_argument("--seconds", type=positive, default=10.0, help="how long to sample (default: 10)")
    parser.add_argument(
        "--output", type=Path, help="the file to continue (default: a temporary file, removed at the end)"
    )
    parser.add_argument("--keep", action="store_true", help="do not remove the temporary file")
    parser.add_argument(
        "--checksum", choices=CHECKSUMS, default="xxhash64", help="the checksum of each frame (default: xxhash64)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    return parser.parse_args(argv)


@contextlib.contextmanager
def output_file(path: Path | None, *, keep: bool) -> Iterator[Path]:
    """`path`, or a temporary file that is removed at the end unless `keep` is true."""
    if path is not None:
        yield path
        return
    handle, name = tempfile.mkstemp(prefix="telemetry-", suffix=".flatstream")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        if not keep:
            os.unlink(name)


def run_agent(path: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """Sample, then replay; yields the lines of the report."""
    progress = Progress(arguments.seconds, quiet=arguments.quiet)
    try:
        with Stop() as stop, flatstream.open(path, "a", checksum=arguments.checksum, recover=True) as writer:
            begin = path.stat().st_size
            run = record(writer, arguments.rate, arguments.seconds, progress, stop)
    finally:
        progress.finish()
    found = replay(path, arguments.checksum, begin, run.events)
    if not run.events:
        yield "no events: stopped before the first"
        return
    removed = arguments.output is None and not arguments.keep
    file = "temporary, removed" if removed else str(path)
    yield from report(run, found, file, path.stat().st_size - begin)


def main(argv: list[str] | None = None) -> int:
    """Run the agent, and return the exit status: 1 if the file could not be written, or lacks events."""
    arguments = parse_arguments(argv)
    try:
        with output_file(arguments.output, keep=arguments.keep) as path:
            for line in run_agent(path, arguments):
                print(line)
    except (flatstream.FlatStreamError, ReplayError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # during the replay; while sampling, Ctrl-C only ends the sampling
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

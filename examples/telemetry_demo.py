"""What telemetry_agent.py is good for, in ten seconds: record, be killed, go on, and read everything back.

    python telemetry_demo.py --rate 1000 --seconds 10

Runs the agent over a journal in a temporary folder, kills it with SIGKILL in the middle, and starts it again. Then it
reads all events of both runs with a `JournalReader`, and prints what was recovered, which events are missing, the rate,
the lateness, and a table of the metrics. It fails if anything is missing but what the sync policy allows.
"""

# mypy: allow-untyped-calls
# (the code flatc generates has no annotations)

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from telemetry import Event
from telemetry_agent import journal_folder, positive, table

import flatstream
from flatstream.journal import Gap, JournalReader

PROGRAM = "telemetry_demo"
HERE = Path(__file__).parent

SECOND_NS = 1_000_000_000
WINDOW_NS = SECOND_NS // 2  # the kernel counts CPU time in steps of 10 ms: a rate over 1 ms would be meaningless
SYNC_SECONDS = 0.1  # the policy: an agent that is killed loses at most the events of this time
SLACK_SECONDS = 0.4  # on a machine that is busy, the agent's thread may come late


class DemoError(Exception):
    """The journal does not contain the events that must be there."""


# --- Recording -------------------------------------------------------------------------------------------------------


def start_agent(folder: Path, rate: float, seconds: float) -> subprocess.Popen[str]:
    """Starts the agent, and returns when it has opened the journal."""
    command = [
        sys.executable, str(HERE / "telemetry_agent.py"), "--output", str(folder), "--rate", str(rate),
        "--seconds", str(seconds), "--sync-seconds", str(SYNC_SECONDS), "--segment-mib", "2", "--quiet",
    ]  # fmt: skip
    agent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    for line in agent.stdout:
        print(f"  {line}", end="", flush=True)
        if line.startswith(("begun", "continued")):
            return agent
    raise DemoError(f"the agent ended with status {agent.wait()} before it opened the journal")


def run_and_kill(folder: Path, rate: float, seconds: float) -> int:
    """Runs the agent for so long and kills it; returns when that was, in nanoseconds since 1970."""
    print("the first run:")
    with start_agent(folder, rate, 3600) as agent:
        time.sleep(seconds)
        killed = time.time_ns()
        agent.kill()
    print(f"  killed by SIGKILL after {seconds:g} s")
    return killed


def run_to_the_end(folder: Path, rate: float, seconds: float) -> None:
    print("the second run:")
    with start_agent(folder, rate, seconds) as agent:
        assert agent.stdout is not None
        for line in agent.stdout:
            print(f"  {line}", end="", flush=True)
    if agent.returncode:
        raise DemoError(f"the agent ended with status {agent.returncode}")


# --- Replaying -------------------------------------------------------------------------------------------------------


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
class Recorded:
    """The events of one run of the agent."""

    pid: int
    began_ns: int
    ended_ns: int
    monotonic_ns: int
    last_ns: int
    events: int = 0
    missing: int = 0

    @property
    def rate(self) -> float:
        seconds = (self.last_ns - self.monotonic_ns) / SECOND_NS
        return (self.events - 1) / seconds if seconds else math.nan


@dataclass
class Replay:
    """The content of the journal, summed up."""

    metrics: list[Metric]
    title: str = ""
    events: int = 0
    payload_bytes: int = 0
    seconds: float = 0.0
    runs: list[Recorded] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    lateness: list[int] = field(default_factory=list)
    missed: int = 0


def describe(event: Event.Event) -> str:
    """A line about the machine, from the strings in an event."""
    texts = (event.Host(), event.Kernel(), event.Architecture(), event.ProcessName())
    host, kernel, architecture, process = ((text or b"").decode() for text in texts)
    return f"{host}: {kernel} {architecture}, {event.LogicalCpus()} CPUs, sampled by {process} (pid {event.Pid()})"


def replay(folder: Path) -> Replay:
    """Reads every event. Events have the numbers of their frames, as long as none was dropped before it was written."""
    gauges, rates = make_metrics()
    found = Replay([*rates, *gauges])
    window_start = 0
    began = time.perf_counter_ns()
    with JournalReader(folder) as reader:
        for payload in reader:
            event = Event.Event.GetRootAs(payload)
            now, sequence = event.MonotonicNs(), event.Sequence()
            run = found.runs[-1] if found.runs else None
            if run is None or run.pid != event.Pid():
                run = Recorded(event.Pid(), event.WallTimeNs(), 0, now, now)
                found.runs.append(run)
                found.title = found.title or describe(event)
                window_start, expected = now, reader.number
                for rate in rates:
                    rate.open(event)
            if sequence < expected or now < run.last_ns:
                raise DemoError(f"event {reader.number}: number {sequence} after {expected - 1}: not in order")
            run.missing += sequence - expected
            expected = sequence + 1
            run.events += 1
            run.ended_ns, run.last_ns = event.WallTimeNs(), now
            for gauge in gauges:
                gauge.see(gauge.value(event))
            if now - window_start >= WINDOW_NS:
                for rate in rates:
                    rate.close(event, (now - window_start) / SECOND_NS)
                window_start = now
            found.lateness.append(event.LatenessNs())
            found.missed += event.DeadlineMissed()
            found.payload_bytes += len(payload)
        found.events, found.gaps = reader.frames_read, reader.gaps
    found.seconds = (time.perf_counter_ns() - began) / SECOND_NS
    return found


def check(found: Replay, killed_ns: int) -> Iterator[str]:
    """Says what is missing.

    Raises
    ------
    DemoError
        It is more than the sync policy allows.
    """
    if len(found.runs) != 2:
        raise DemoError(f"expected the events of 2 runs, found {len(found.runs)}")
    if found.gaps:
        raise DemoError(f"the journal has gaps: {found.gaps}")
    first, second = found.runs
    if missing := first.missing + second.missing:
        raise DemoError(f"{missing} events are missing between others")
    yield "gaps       none: every event has the number after that of the one before"
    lost = (killed_ns - first.ended_ns) / SECOND_NS
    if lost > SYNC_SECONDS + SLACK_SECONDS:
        raise DemoError(f"the last event before the kill is {lost:.3f} s older than it; {SYNC_SECONDS:g} s are allowed")
    yield (
        f"killed     {lost * 1000:.0f} ms after the last event in the journal: what the agent had in memory is lost, "
        f"the events of {SYNC_SECONDS * 1000:g} ms by the policy"
    )


# --- Reporting -------------------------------------------------------------------------------------------------------


def percentile(ordered: Sequence[int], fraction: float) -> int:
    """The nearest-rank percentile: the least value that `fraction` of all values do not exceed."""
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def number(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}"


def metric_rows(metrics: Sequence[Metric]) -> Iterator[Sequence[str]]:
    yield "metric", "unit", "first", "last", "min", "mean", "max"
    for metric in metrics:
        values = (metric.first, metric.last, metric.least, metric.mean, metric.greatest)
        yield metric.label, metric.unit, *map(number, values)


def report(found: Replay, rate: float, folder: Path, killed_ns: int) -> Iterator[str]:
    """The lines of the report."""
    lateness = sorted(found.lateness)
    late, late_p99, late_worst = (percentile(lateness, fraction) // 1000 for fraction in (0.5, 0.99, 1.0))
    segments = sorted(folder.glob("*.fs"))
    size = sum(path.stat().st_size for path in segments)
    yield found.title
    yield ""
    before, after = (str(run.events) for run in found.runs) if len(found.runs) == 2 else ("?", "?")
    yield (
        f"events     {found.events} read back in {found.seconds:.2f} s, in order: {before} before the kill, "
        f"{after} after it"
    )
    yield from check(found, killed_ns)
    held = " and ".join(f"{run.rate:.1f}/s" for run in found.runs)
    yield f"rate       {rate:.1f}/s asked, {held} held"
    yield f"deadlines  {found.missed} missed"
    yield f"lateness   {late} us at the median, {late_p99} us at p99, {late_worst} us at worst"
    yield f"size       {size / found.events:.1f} bytes per event, {size - found.payload_bytes} in all for the frames"
    yield f"journal    {len(segments)} segments, {size} bytes"
    yield ""
    yield from table(list(metric_rows(found.metrics)))
    yield ""
    yield "Kernels may count CPU time only at timer ticks: work that runs in step with the ticks can escape the count."


def main(argv: list[str] | None = None) -> int:
    """Runs the demo, and returns the exit status: 1 if events are missing."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Record this machine, be killed, go on, and replay.")
    parser.add_argument("--rate", type=positive, default=1000.0, help="events a second (default: 1000)")
    parser.add_argument("--seconds", type=positive, default=10.0, help="how long to sample, in two runs (default: 10)")
    parser.add_argument("--output", type=Path, help="a new folder for the journal (default: a temporary one)")
    arguments = parser.parse_args(argv)
    try:
        with journal_folder(arguments.output) as folder:
            killed_ns = run_and_kill(folder, arguments.rate, arguments.seconds / 2)
            run_to_the_end(folder, arguments.rate, arguments.seconds / 2)
            print()
            for line in report(replay(folder), arguments.rate, folder, killed_ns):
                print(line)
    except (flatstream.FlatStreamError, DemoError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

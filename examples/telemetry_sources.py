"""The metrics that telemetry_agent.py samples, and building a `telemetry.Event` (telemetry.fbs) from a sample.

psutil provides every metric on every platform. On Linux, a few of its calls are too slow for 1,000 events a second;
there the same numbers are read from /proc directly, through a descriptor that stays open.
"""

# mypy: allow-untyped-calls
# (the code flatc generates has no annotations)

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

import psutil
from telemetry import CpuTimes, Disk, DiskCounters, Event, Interface, InterfaceCounters
from telemetry.Platform import Platform
from telemetry.ProcessStatus import ProcessStatus

import flatstream

FILE_IDENTIFIER = b"TELE"

PLATFORMS = {"linux": Platform.Linux, "darwin": Platform.Darwin, "win32": Platform.Windows}
STATUSES = {
    psutil.STATUS_RUNNING: ProcessStatus.Running,
    psutil.STATUS_SLEEPING: ProcessStatus.Sleeping,
    psutil.STATUS_DISK_SLEEP: ProcessStatus.DiskSleep,
    psutil.STATUS_STOPPED: ProcessStatus.Stopped,
    psutil.STATUS_IDLE: ProcessStatus.Idle,
}

# The errors of psutil and the kernel for a metric that a machine, or a container with a restricted /proc, does not
# have.
UNAVAILABLE = (psutil.Error, OSError, NotImplementedError, AttributeError, LookupError, ValueError, RuntimeError)


class Source:
    """One kind of metric: how to sample it, and which fields of an event it sets.

    Where it is not available, its fields are left out of the event, and a reader gets their defaults.
    """

    name: ClassVar[str]
    failures = 0

    def read(self) -> Any:
        """The current values, or None where they are not available."""
        try:
            return self.sample()
        except UNAVAILABLE:
            self.failures += 1
            return None

    def sample(self) -> Any:
        raise NotImplementedError

    def prepare(self, builder: flatstream.Builder, values: Any) -> Any:
        """Build the strings and vectors, which must be complete before their table is started."""
        return None

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        """Add the fields to the event under construction."""
        raise NotImplementedError


class ProcFile:
    """A file of /proc, kept open."""

    _descriptor = -1

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._size = 1 << 16

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self) -> bytes:
        """The current content."""
        while len(text := os.pread(self._descriptor, self._size, 0)) == self._size:
            self._size *= 2  # there may be more
        return text


def number_after(label: bytes, text: bytes) -> int:
    """The integer that follows `label`, on the same line."""
    start = text.index(label) + len(label)
    return int(text[start : text.index(b"\n", start)].split()[0])


class HostSource(Source):
    """Values that do not change while the agent runs; they are not sampled for each event."""

    name = "host"

    def __init__(self) -> None:
        system = platform.uname()
        self._strings = (system.node, system.release, system.machine)
        self._platform = PLATFORMS.get(sys.platform, Platform.Other)
        try:
            self._boot_time = psutil.boot_time()
        except UNAVAILABLE:
            self._boot_time = 0.0

    def sample(self) -> Any:
        return self._strings

    def prepare(self, builder: flatstream.Builder, values: Any) -> Any:
        return [builder.CreateString(text) for text in values]

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        host, kernel, architecture = prepared
        Event.AddHost(builder, host)
        Event.AddKernel(builder, kernel)
        Event.AddArchitecture(builder, architecture)
        Event.AddPlatform(builder, self._platform)
        Event.AddBootTime(builder, self._boot_time)


class CpuSource(Source):
    """The time of each core in each state, context switches and interrupts."""

    name = "processors"

    def sample(self) -> Any:
        stats = psutil.cpu_stats()
        cores = [
            (
                core.user,
                getattr(core, "nice", 0.0),
                core.system,
                core.idle,
                getattr(core, "iowait", 0.0),
                getattr(core, "irq", 0.0),
                getattr(core, "softirq", 0.0),
                getattr(core, "steal", 0.0),
            )
            for core in psutil.cpu_times(percpu=True)
        ]
        return cores, stats.ctx_switches, stats.interrupts, stats.soft_interrupts

    def prepare(self, builder: flatstream.Builder, values: Any) -> Any:
        cores = values[0]
        Event.StartCoresVector(builder, len(cores))
        for core in reversed(cores):  # a FlatBuffer is built from its end to its beginning
            CpuTimes.CreateCpuTimes(builder, *core)
        return builder.EndVector()

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        cores, context_switches, interrupts, soft_interrupts = values
        Event.AddCores(builder, prepared)
        if cores:
            Event.AddCpuTotal(builder, CpuTimes.CreateCpuTimes(builder, *map(sum, zip(*cores, strict=True))))
        Event.AddLogicalCpus(builder, len(cores))
        Event.AddContextSwitches(builder, context_switches)
        Event.AddInterrupts(builder, interrupts)
        Event.AddSoftInterrupts(builder, soft_interrupts)


class LinuxCpuSource(CpuSource):
    """The same from /proc/stat, read once; psutil reads it twice and takes 2.5 times as long."""

    def __init__(self) -> None:
        self._stat = ProcFile("/proc/stat")
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")

    def sample(self) -> Any:
        cores = []
        counts = {}
        for line in self._stat.read().splitlines():
            label, _, rest = line.partition(b" ")
            if label.startswith(b"cpu") and label != b"cpu":
                cores.append([int(ticks) / self._ticks_per_second for ticks in rest.split()[:8]])
            elif label in (b"ctxt", b"intr", b"softirq"):
                counts[label] = int(rest.partition(b" ")[0])  # the sum, followed by the count of each interrupt
        return cores, counts[b"ctxt"], counts[b"intr"], counts[b"softirq"]


class LoadSource(Source):
    name = "load"

    def sample(self) -> Any:
        return psutil.getloadavg()

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        one, five, fifteen = values
        Event.AddLoad1(builder, one)
        Event.AddLoad5(builder, five)
        Event.AddLoad15(builder, fifteen)


class MemorySource(Source):
    name = "memory"

    def sample(self) -> Any:
        return psutil.virtual_memory()

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        Event.AddMemoryTotal(builder, values.total)
        Event.AddMemoryAvailable(builder, values.available)
        Event.AddMemoryUsed(builder, values.used)
        Event.AddMemoryFree(builder, values.free)
        Event.AddMemoryActive(builder, getattr(values, "active", 0))
        Event.AddMemoryInactive(builder, getattr(values, "inactive", 0))
        Event.AddMemoryBuffers(builder, getattr(values, "buffers", 0))
        Event.AddMemoryCached(builder, getattr(values, "cached", 0))
        Event.AddMemoryShared(builder, getattr(values, "shared", 0))
        Event.AddMemorySlab(builder, getattr(values, "slab", 0))
        Event.AddMemoryPercent(builder, values.percent)


class SwapSource(Source):
    name = "swap"

    def sample(self) -> Any:
        return psutil.swap_memory()

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        Event.AddSwapTotal(builder, values.total)
        Event.AddSwapUsed(builder, values.used)
        Event.AddSwapFree(builder, values.free)
        Event.AddSwappedIn(builder, values.sin)
        Event.AddSwappedOut(builder, values.sout)


class LinuxSwapSource(SwapSource):
    """The same in half of psutil's time: psutil also parses the many lines that are not needed here."""

    class Values(NamedTuple):
        total: int
        used: int
        free: int
        sin: int
        sout: int

    def __init__(self) -> None:
        self._meminfo = ProcFile("/proc/meminfo")
        self._vmstat = ProcFile("/proc/vmstat")

    def sample(self) -> Any:
        meminfo, vmstat = self._meminfo.read(), self._vmstat.read()
        total = 1024 * number_after(b"\nSwapTotal:", meminfo)
        free = 1024 * number_after(b"\nSwapFree:", meminfo)
        # As in psutil, a page is 4 KiB.
        swapped_in = 4096 * number_after(b"\npswpin ", vmstat)
        swapped_out = 4096 * number_after(b"\npswpout ", vmstat)
        return self.Values(total, total - free, free, swapped_in, swapped_out)


class FileSystemSource(Source):
    name = "file system"
    path = os.path.abspath(os.sep)

    def sample(self) -> Any:
        return psutil.disk_usage(self.path)

    def prepare(self, builder: flatstream.Builder, values: Any) -> Any:
        return builder.CreateString(self.path)

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        Event.AddFilesystemPath(builder, prepared)
        Event.AddFilesystemTotal(builder, values.total)
        Event.AddFilesystemUsed(builder, values.used)
        Event.AddFilesystemFree(builder, values.free)
        Event.AddFilesystemPercent(builder, values.percent)


@cache
def is_physical_disk(name: str) -> bool:
    """False for partitions, loop devices and the like, whose traffic is already counted for their disk."""
    return not os.path.isdir("/sys/block") or os.path.exists(f"/sys/block/{name.replace('/', '!')}/device")


class DiskSource(Source):
    name = "disks"

    def sample(self) -> Any:
        counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
        # The first six counters are those of the schema, in the same order.
        return [(name, disk[:6]) for name, disk in counters.items() if is_physical_disk(name)]

    def prepare(self, builder: flatstream.Builder, values: Any) -> Any:
        disks = [self._build_disk(builder, name, counters) for name, counters in values]
        Event.StartDisksVector(builder, len(disks))
        for disk in reversed(disks):
            builder.PrependUOffsetTRelative(disk)
        return builder.EndVector()

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        Event.AddDisks(builder, prepared)

    @staticmethod
    def _build_disk(builder: flatstream.Builder, name: str, counters: Any) -> Any:
        text = builder.CreateString(name)
        Disk.Start(builder)
        Disk.AddName(builder, text)
        Disk.AddCounters(builder, DiskCounters.CreateDiskCounters(builder, *counters))
        return Disk.End(builder)


class LinuxDiskSource(DiskSource):
    """The same in a third of psutil's time: psutil also reads devices that are not needed here."""

    SECTOR_SIZE = 512  # the unit of /proc/diskstats, independent of the disk's own sector size

    def __init__(self) -> None:
        self._diskstats = ProcFile("/proc/diskstats")

    def sample(self) -> Any:
        disks = []
        for line in self._diskstats.read().decode().splitlines():
            _, _, name, *fields = line.split()
            if is_physical_disk(name):
                reads, _, sectors_read, read_ms, writes, _, sectors_written, write_ms = map(int, fields[:8])
                bytes_read, bytes_written = sectors_read * self.SECTOR_SIZE, sectors_written * self.SECTOR_SIZE
                disks.append((name, (reads, writes, bytes_read, bytes_written, read_ms, write_ms)))
        return disks


class InterfaceSource(Source):
    name = "network interfaces"

    def sample(self) -> Any:
        return list((psutil.net_io_counters(pernic=True, nowrap=False) or {}).items())

    def prepare(self, builder: flatstream.Builder, values: Any) -> Any:
        interfaces = [self._build_interface(builder, name, counters) for name, counters in values]
        Event.StartInterfacesVector(builder, len(interfaces))
        for interface in reversed(interfaces):
            builder.PrependUOffsetTRelative(interface)
        return builder.EndVector()

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        Event.AddInterfaces(builder, prepared)

    @staticmethod
    def _build_interface(builder: flatstream.Builder, name: str, counters: Any) -> Any:
        text = builder.CreateString(name)
        Interface.Start(builder)
        Interface.AddName(builder, text)
        # The counters have the same order in psutil and in the schema.
        Interface.AddCounters(builder, InterfaceCounters.CreateInterfaceCounters(builder, *counters))
        return Interface.End(builder)


class ProcessSource(Source):
    name = "own process"

    def __init__(self, process: Any) -> None:
        self._process = process

    def sample(self) -> Any:
        process = self._process
        with process.oneshot():  # these calls share their reads of /proc
            return (
                process.pid,
                os.getppid(),  # psutil's ppid() first checks that the process still exists: 30 us
                process.name(),
                process.status(),
                process.nice(),
                process.num_threads(),
                process.cpu_times(),
                process.memory_info(),
                process.num_ctx_switches(),
                process.create_time(),
            )

    def prepare(self, builder: flatstream.Builder, values: Any) -> Any:
        return builder.CreateString(values[2])

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        pid, parent_pid, _, status, nice, threads, cpu, memory, switches, started = values
        Event.AddPid(builder, pid)
        Event.AddParentPid(builder, parent_pid)
        Event.AddProcessName(builder, prepared)
        Event.AddProcessStatus(builder, STATUSES.get(status, ProcessStatus.Other))
        Event.AddProcessNice(builder, int(nice))
        Event.AddProcessThreads(builder, threads)
        Event.AddProcessUserSeconds(builder, cpu.user)
        Event.AddProcessSystemSeconds(builder, cpu.system)
        Event.AddProcessResident(builder, memory.rss)
        Event.AddProcessVirtual(builder, memory.vms)
        Event.AddProcessShared(builder, getattr(memory, "shared", 0))
        Event.AddProcessVoluntarySwitches(builder, switches.voluntary)
        Event.AddProcessInvoluntarySwitches(builder, switches.involuntary)
        Event.AddProcessStarted(builder, started)


class OpenFilesSource(Source):
    name = "own open files"

    def __init__(self, process: Any) -> None:
        self._process = process

    def sample(self) -> Any:
        return self._process.num_handles() if sys.platform == "win32" else self._process.num_fds()

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        Event.AddProcessOpenFiles(builder, values)


class ProcessIoSource(Source):
    name = "own input and output"

    def __init__(self, process: Any) -> None:
        self._process = process

    def sample(self) -> Any:
        return self._process.io_counters()

    def add(self, builder: flatstream.Builder, values: Any, prepared: Any) -> None:
        Event.AddProcessReadBytes(builder, values.read_bytes)
        Event.AddProcessWriteBytes(builder, values.write_bytes)


def own_process() -> Any:
    """This process; or None without access to /proc, so that each use fails with AttributeError (unavailable)."""
    try:
        return psutil.Process()
    except UNAVAILABLE:
        return None


def faster(linux: type[Source], portable: type[Source]) -> Source:
    """The source that reads /proc directly if that works on this machine, else the one that uses psutil."""
    try:
        source = linux()
        source.sample()
    except UNAVAILABLE:
        return portable()
    return source


def make_sources() -> tuple[list[Source], list[str]]:
    """The sources that work on this machine, and the names of the others.

    The others are not tried again, because an exception in psutil takes longer than most samples.
    """
    process = own_process()
    sources = [
        HostSource(),
        faster(LinuxCpuSource, CpuSource),
        LoadSource(),
        MemorySource(),
        faster(LinuxSwapSource, SwapSource),
        FileSystemSource(),
        faster(LinuxDiskSource, DiskSource),
        InterfaceSource(),
        ProcessSource(process),
        OpenFilesSource(process),
        ProcessIoSource(process),
    ]
    working = [source for source in sources if source.read() is not None]
    return working, [source.name for source in sources if source not in working]


class Tick(NamedTuple):
    """Number and times of one event."""

    sequence: int
    wall_time_ns: int
    monotonic_ns: int
    lateness_ns: int
    deadline_missed: bool
    previous_event_ns: int


def build_event(builder: flatstream.Builder, tick: Tick, sources: Sequence[Source], sample: Sequence[Any]) -> None:
    """Build and finish one event in `builder`. `sample` holds the values of each of `sources`."""
    builder.Clear()
    present = [(source, values) for source, values in zip(sources, sample, strict=True) if values is not None]
    prepared = [source.prepare(builder, values) for source, values in present]
    Event.Start(builder)
    Event.AddSequence(builder, tick.sequence)
    Event.AddWallTimeNs(builder, tick.wall_time_ns)
    Event.AddMonotonicNs(builder, tick.monotonic_ns)
    Event.AddLatenessNs(builder, tick.lateness_ns)
    Event.AddDeadlineMissed(builder, tick.deadline_missed)
    Event.AddPreviousEventNs(builder, tick.previous_event_ns)
    for (source, values), offsets in zip(present, prepared, strict=True):
        source.add(builder, values, offsets)
    builder.Finish(Event.End(builder), FILE_IDENTIFIER)

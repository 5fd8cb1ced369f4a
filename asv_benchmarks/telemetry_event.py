"""The telemetry event that `peers` writes and reads: a part of the Event of examples/telemetry.fbs.

It has 16 of the 60 fields, with the same names, types and order: strings, numbers, and a vector of structs (the times
of 4 cores). As a FlatBuffer it has about 500 bytes. The other fields are more numbers of the same kinds, and lists of
names with counters.

The values come from a seed, not from a clock or the machine, so every peer, every run and every machine has the same
events. A float is always a multiple of a power of two, so it fits a 32-bit float where the schema has one, and sums are
exact in any order.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import flatbuffers

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
if str(EXAMPLES) not in sys.path:
    sys.path.append(str(EXAMPLES))  # for the generated code, which imports its parts as `telemetry`

from telemetry import CpuTimes, Event  # noqa: E402 (it is found only now)

FILE_IDENTIFIER = b"TELE"

# The fields and their types in telemetry.fbs. The schemas of all peers are made from these.
CORE_FIELDS = {
    "user": "double",
    "nice": "double",
    "system": "double",
    "idle": "double",
    "iowait": "double",
    "irq": "double",
    "softirq": "double",
    "steal": "double",
}
EVENT_FIELDS = {
    "sequence": "ulong",
    "wall_time_ns": "ulong",
    "monotonic_ns": "ulong",
    "deadline_missed": "bool",
    "host": "string",
    "kernel": "string",
    "cores": "[CpuTimes]",
    "context_switches": "ulong",
    "interrupts": "ulong",
    "load_1": "float",
    "memory_total": "ulong",
    "memory_available": "ulong",
    "memory_percent": "float",
    "pid": "uint",
    "process_name": "string",
    "process_resident": "ulong",
}

SEED = 20_250_101
CORES = 4
TICKS_PER_SECOND = 128
INTERVAL_NS = 1_000_000
START_NS = 1_735_689_600_000_000_000
MEMORY_TOTAL = 16 << 30


def generate_events(count: int) -> Iterator[dict[str, Any]]:
    """The first `count` events of an agent that samples 1,000 times a second: the fields of EVENT_FIELDS, by name.

    All random numbers come from `getrandbits`, whose results for a seed are the same in every version of Python.
    """
    bits = random.Random(SEED).getrandbits
    cores = [{state: bits(20) / TICKS_PER_SECOND for state in CORE_FIELDS} for _ in range(CORES)]
    context_switches, interrupts = bits(32), bits(32)
    for sequence in range(count):
        for core in cores:
            for state in CORE_FIELDS:
                core[state] += bits(2) / TICKS_PER_SECOND
        context_switches += bits(8)
        interrupts += bits(8)
        lateness_ns = bits(16)
        yield {
            "sequence": sequence,
            "wall_time_ns": START_NS + sequence * INTERVAL_NS + lateness_ns,
            "monotonic_ns": sequence * INTERVAL_NS + lateness_ns,
            "deadline_missed": bits(6) == 0,
            "host": f"sensor-{bits(8):03}.example",
            "kernel": "6.1.0-18-amd64",
            "cores": [dict(core) for core in cores],
            "context_switches": context_switches,
            "interrupts": interrupts,
            "load_1": bits(9) / 64,
            "memory_total": MEMORY_TOTAL,
            "memory_available": MEMORY_TOTAL - 4096 * bits(21),
            "memory_percent": bits(9) / 8,
            "pid": 4242,
            "process_name": "telemetry_agent",
            "process_resident": 4096 * bits(14),
        }


def build_event(builder: Any, event: dict[str, Any]) -> None:
    """Build and finish one event in `builder` with generated code, as examples/telemetry_sources.py does."""
    builder.Clear()
    host = builder.CreateString(event["host"])
    kernel = builder.CreateString(event["kernel"])
    process_name = builder.CreateString(event["process_name"])
    cores = event["cores"]
    Event.StartCoresVector(builder, len(cores))
    for core in reversed(cores):  # a FlatBuffer is built from its end to its beginning
        CpuTimes.CreateCpuTimes(
            builder,
            core["user"],
            core["nice"],
            core["system"],
            core["idle"],
            core["iowait"],
            core["irq"],
            core["softirq"],
            core["steal"],
        )
    cores_vector = builder.EndVector()
    Event.Start(builder)
    Event.AddSequence(builder, event["sequence"])
    Event.AddWallTimeNs(builder, event["wall_time_ns"])
    Event.AddMonotonicNs(builder, event["monotonic_ns"])
    Event.AddDeadlineMissed(builder, event["deadline_missed"])
    Event.AddHost(builder, host)
    Event.AddKernel(builder, kernel)
    Event.AddCores(builder, cores_vector)
    Event.AddContextSwitches(builder, event["context_switches"])
    Event.AddInterrupts(builder, event["interrupts"])
    Event.AddLoad1(builder, event["load_1"])
    Event.AddMemoryTotal(builder, event["memory_total"])
    Event.AddMemoryAvailable(builder, event["memory_available"])
    Event.AddMemoryPercent(builder, event["memory_percent"])
    Event.AddPid(builder, event["pid"])
    Event.AddProcessName(builder, process_name)
    Event.AddProcessResident(builder, event["process_resident"])
    builder.Finish(Event.End(builder), FILE_IDENTIFIER)


def build_events(
    events: Iterable[dict[str, Any]], make_builder: Callable[[int], Any] = flatbuffers.Builder
) -> Iterator[memoryview]:
    """Each event as a FlatBuffer in the memory of one builder: valid until the next is built."""
    builder = make_builder(1024)
    for event in events:
        build_event(builder, event)
        yield memoryview(builder.Bytes)[builder.Head() :]


# Inputs of benchmarks are made once per process; results are not kept.


@cache
def make_events(count: int) -> Sequence[dict[str, Any]]:
    """The events of `generate_events`; do not change them."""
    return tuple(generate_events(count))


@cache
def make_payloads(count: int) -> Sequence[bytes]:
    """The same events as FlatBuffers."""
    return tuple(map(bytes, build_events(make_events(count))))


class Totals(NamedTuple):
    """Sums over one field of each kind for all events: the expected result of reading."""

    events: int
    sequence: int
    memory_available: int
    load_1: float
    host_characters: int
    core_user: float


def add_up(events: Iterable[dict[str, Any]]) -> Totals:
    """The totals of events that are dicts."""
    count = sequence = memory_available = host_characters = 0
    load_1 = core_user = 0.0
    for event in events:
        count += 1
        sequence += event["sequence"]
        memory_available += event["memory_available"]
        load_1 += event["load_1"]
        host_characters += len(event["host"])
        for core in event["cores"]:
            core_user += core["user"]
    return Totals(count, sequence, memory_available, load_1, host_characters, core_user)


def add_up_flatbuffers(payloads: Iterable[bytes | memoryview]) -> Totals:
    """The totals of events that are FlatBuffers, read with generated code."""
    count = sequence = memory_available = host_characters = 0
    load_1 = core_user = 0.0
    for payload in payloads:
        event = Event.Event.GetRootAs(payload, 0)
        count += 1
        sequence += event.Sequence()
        memory_available += event.MemoryAvailable()
        load_1 += event.Load1()
        host_characters += len(event.Host().decode())
        for index in range(event.CoresLength()):
            core_user += event.Cores(index).User()
    return Totals(count, sequence, memory_available, load_1, host_characters, core_user)

"""The events that are compressed: those of examples/telemetry_agent.py, sampled from this machine, and small ones.

An event of the agent has about 1,200 bytes, of which few differ from those of the event before it. A small one has 128
bytes: the number, the times and the host. Both are made once for each process, and the first tenth of them is the
sample from which a dictionary is trained; what is measured is the rest.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import flatstream
from flatstream import train_dictionary

from .telemetry_event import EXAMPLES, FILE_IDENTIFIER, INTERVAL_NS, SEED, START_NS

if str(EXAMPLES) not in sys.path:
    sys.path.append(str(EXAMPLES))

from telemetry import Event

KINDS = ("agent", "small")

DICTIONARY_SIZE = 4 << 10


@cache
def agent_events(count: int) -> Sequence[bytes]:
    """Events as the agent builds them, one after the other without a pause."""
    import telemetry_sources

    sources, _ = telemetry_sources.make_sources()
    builder = flatstream.Builder(4096)
    begin = time.perf_counter_ns()
    made = []
    previous = 0
    for number in range(count):
        now = time.perf_counter_ns()
        sample = [source.read() for source in sources]
        # The deadlines of 1,000 events a second, of which this one is late by as much as it took to wake up.
        lateness = (now - begin) % 100_000
        tick = telemetry_sources.Tick(number, time.time_ns(), now, lateness, False, previous)
        telemetry_sources.build_event(builder, tick, sources, sample)
        made.append(bytes(builder.Output()))
        previous = time.perf_counter_ns() - now
    return tuple(made)


@cache
def small_events(count: int) -> Sequence[bytes]:
    """Events of 128 bytes, the same in every run."""
    bits = random.Random(SEED).getrandbits
    builder = flatstream.Builder(256)
    made = []
    for number in range(count):
        lateness = bits(16)
        builder.Clear()
        host = builder.CreateString(f"sensor-{bits(4):03}.building-7.site-124.example")
        Event.Start(builder)
        Event.AddSequence(builder, number)
        Event.AddWallTimeNs(builder, START_NS + number * INTERVAL_NS + lateness)
        Event.AddMonotonicNs(builder, number * INTERVAL_NS + lateness)
        Event.AddLatenessNs(builder, lateness)
        Event.AddDeadlineMissed(builder, bits(6) == 0)
        Event.AddPreviousEventNs(builder, 300_000 + bits(17))
        Event.AddHost(builder, host)
        builder.Finish(Event.End(builder), FILE_IDENTIFIER)
        made.append(bytes(builder.Output()))
    return tuple(made)


def events_of(kind: str, count: int) -> Sequence[bytes]:
    """The events that are measured."""
    made = {"agent": agent_events, "small": small_events}[kind](count + count // 10)
    return made[count // 10 :]


@cache
def dictionary_of(kind: str, count: int) -> bytes:
    """A dictionary from the events before those."""
    made: Any = {"agent": agent_events, "small": small_events}[kind](count + count // 10)
    sample = made[: count // 10]
    # Of few events, as in a test run, a small one.
    return train_dictionary(sample, min(DICTIONARY_SIZE, sum(map(len, sample)) // 2))

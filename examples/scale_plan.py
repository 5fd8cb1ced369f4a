"""A plan for many machines: how many files, bytes, requests and cores it takes, and what breaks first.

    python examples/scale_plan.py
    python examples/scale_plan.py --machines 50 --terabytes 1

Each machine writes a journal, and an hourly `flatstream convert --partition-by hour --closed` puts it into a lake of
Parquet files. Two ways lead to each figure: arithmetic with means, and a simulation of one day, machine by machine, in
which machines differ, load rises and falls, segments end by size and by age, exports begin at the minute that cron
says, and the lake cannot be reached for some hours. The plan is simulated, not the data. docs/scale.md has the result.
"""

from __future__ import annotations

import argparse
import math
import random
from dataclasses import dataclass
from typing import NamedTuple

HOUR = 3600
DAY = 24 * HOUR
MINUTES = DAY // 60


@dataclass(frozen=True)
class Plan:
    """What is planned, what was measured, and what the machines and the store can do. Bytes and seconds."""

    machines: int = 1000
    bytes_per_day: float = 100e12
    # How load differs: the busiest hour against the mean, and the spread (sigma) between machines.
    busiest_hour: float = 1.7
    spread: float = 0.6
    # Journals: RotationPolicy(max_bytes, max_seconds), and for how long segments stay on the machine.
    segment_bytes: float = 1 << 30
    segment_seconds: float = HOUR
    local_days: float = 2
    # The lake: to_parquet(max_file_bytes=...), how long it keeps files, when cron begins, and its random delay.
    parquet_file_bytes: float = 512 << 20
    lake_days: float = 90
    cron_second: float = 300
    cron_delay: float = 2700
    outage_hours: int = 6
    # A query: so much of the day.
    slice_seconds: float = 300
    # Measured with events of some 130 bytes and 14 fields, on one core: shares of the stream's bytes, bytes a second.
    block_bytes: float = 64 << 10
    index_head_bytes: float = 500
    index_block_bytes: float = 30.1
    sealed_share: float = 1 / 2.62
    parquet_share: float = 0.23
    write_rate: float = 1.0e9
    seal_rate: float = 0.32e9
    export_rate: float = 0.26e9
    scan_rate: float = 1.5e9
    index_load_seconds: float = 80e-6
    # To plan a file in a store by its index: status, head and index, each opened and read, and the last frame.
    index_requests: int = 8
    # What is there.
    disk_rate: float = 200e6
    disk_bytes: float = 1e12
    uplink_bits: float = 1e9
    lake_bits: float = 25e9
    keys_per_list: int = 1000
    request_seconds: float = 0.03
    requests_at_once: int = 64
    puts_per_second: float = 3500
    patience_seconds: float = 60

    def index_of(self, size: float) -> float:
        """The size of the index of a segment, for one field."""
        return self.index_head_bytes + self.index_block_bytes * math.ceil(size / self.block_bytes)

    @property
    def rate(self) -> float:
        """The mean of one machine, in bytes a second."""
        return self.bytes_per_day / self.machines / DAY


class Day(NamedTuple):
    """What one simulated day has come to."""

    busiest_rate: float
    segments: int
    most_segments: int
    index_bytes: float
    parquet_files: int
    files_in_slice: int
    ranges_in_slice: int
    bytes_in_slice: float
    busiest_minute: float
    busiest_puts: float
    backlog_bytes: float
    most_local_bytes: float
    catch_up_seconds: float


def loads_of(plan: Plan) -> tuple[list[float], list[float]]:
    """How much each machine, and each hour of the day, has of the mean."""
    chance = random.Random(17)
    machines = [chance.lognormvariate(0, plan.spread) for _ in range(plan.machines)]
    mean = sum(machines) / len(machines)
    swing = plan.busiest_hour - 1
    hours = [1 - swing * math.cos(2 * math.pi * (hour - 2) / 24) for hour in range(24)]
    return [one / mean for one in machines], hours


def segments_of(plan: Plan, rates: list[float], began: float) -> list[tuple[float, float, float]]:
    """The segments of one machine on one day: begin, end, bytes. One is open at midnight, and was begun at `began`."""
    found = []
    begin = began
    now, size = 0.0, rates[0] * -began
    while now < DAY:
        hour = int(now // HOUR)
        rate = rates[hour]
        full = now + (plan.segment_bytes - size) / rate if rate else math.inf
        end = min((hour + 1) * HOUR, full, begin + plan.segment_seconds)
        size += rate * (end - now)
        now = max(end, now)
        if end == full or end == begin + plan.segment_seconds:
            found.append((begin, end, size))
            begin, size = now, 0.0
    found.append((begin, now, size))
    return found


def simulate(plan: Plan, delay: float) -> Day:
    """One day, with a random delay of so many seconds in cron."""
    chance = random.Random(18)
    machines, hours = loads_of(plan)
    noon = hours.index(max(hours)) * HOUR
    segments = parquet_files = files = ranges = most = 0
    sliced = busiest = index = 0.0
    arriving, puts = [0.0] * MINUTES, [0.0] * MINUTES
    most_local = 0.0
    for load in machines:
        rates = [plan.rate * load * hour for hour in hours]
        busiest = max(busiest, *rates)
        found = segments_of(plan, rates, -chance.random() * min(HOUR, plan.segment_bytes / rates[0]))
        segments += len(found) - 1
        index += sum(plan.index_of(size) for _, _, size in found[:-1])
        most = max(most, len(found) - 1)
        # A slice reads whole blocks, and one more at its edge, of each segment that it touches.
        for begin, end, _ in found:
            if begin < noon + plan.slice_seconds and end > noon:
                files += 1
                ranges += 1
                part = min(end, noon + plan.slice_seconds) - max(begin, noon)
                sliced += rates[int(noon // HOUR)] * part + plan.block_bytes
        most_local = max(most_local, sum(rates) * HOUR * plan.sealed_share * plan.local_days)
        # Each hour is exported after it is closed. The last one is that of the day before, which was alike.
        wait = chance.random() * delay
        for hour in range(24):
            stored = rates[hour - 1] * HOUR * plan.parquet_share
            count = math.ceil(stored / plan.parquet_file_bytes)
            parquet_files += count
            begin = hour * HOUR + plan.cron_second + wait
            seconds = max(rates[hour - 1] * HOUR / plan.export_rate, stored * 8 / plan.uplink_bits, 1.0)
            last = begin + seconds
            for minute in range(int(begin // 60), int(last // 60) + 1):
                inside = min(last, minute * 60 + 60) - max(begin, minute * 60)
                arriving[minute % MINUTES] += stored * inside / seconds
                puts[minute % MINUTES] += count * inside / seconds
    backlog, seconds = catch_up(plan, machines, hours)
    return Day(
        busiest, segments, most, index, parquet_files, files, ranges, sliced, max(arriving) * 8 / 60, max(puts) / 60,
        backlog, most_local, seconds,
    )  # fmt: skip


def catch_up(plan: Plan, machines: list[float], hours: list[float]) -> tuple[float, float]:
    """The bytes of Parquet that wait when the lake is there again, in the busiest hour; and for how long some wait."""
    end = hours.index(max(hours))
    missed = sum(hours[end - back] for back in range(plan.outage_hours)) * HOUR
    waiting = [plan.rate * load * missed * plan.parquet_share for load in machines]
    all_waiting = sum(waiting)
    most = min(plan.export_rate * plan.parquet_share, plan.uplink_bits / 8)
    seconds = 0
    while any(waiting):
        # What comes in meanwhile waits too. The store's network is shared by those that have something to send.
        coming = hours[(end + seconds // HOUR) % 24] * plan.rate * plan.parquet_share * 60
        sending = sum(1 for one in waiting if one)
        share = min(most, plan.lake_bits / 8 / sending) * 60
        waiting = [
            max(0.0, one + load * coming - share) if one else 0.0 for one, load in zip(waiting, machines, strict=True)
        ]
        seconds += 60
        if seconds >= 7 * DAY:
            return all_waiting, math.inf
    return all_waiting, float(seconds)


def text_of(value: float, unit: str = "") -> str:
    """A figure with three digits: bytes and bits by thousands, seconds as such, counts with commas."""
    if value == math.inf:
        return "never"
    if unit == "s" and value >= 100:
        return f"{value / 60:.0f} min" if value < 3 * HOUR else f"{value / HOUR:.1f} h"
    if unit in ("", "s"):
        return (
            f"{value:,.0f} {unit}".rstrip() if value >= 100 or value == int(value) else f"{value:.2g} {unit}".rstrip()
        )
    power = 0
    while value >= 999.5 and power < 5:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {['', 'k', 'M', 'G', 'T', 'P'][power]}{unit}"


def requests_time(plan: Plan, count: float) -> float:
    """How long one process takes for so many requests to the store."""
    return count * plan.request_seconds / plan.requests_at_once


def figures(plan: Plan, day: Day, together: Day) -> list[tuple[str, str, str]]:
    """Each figure, by arithmetic and in the simulation."""
    per_machine = plan.rate * DAY
    by_size = per_machine / plan.segment_bytes
    by_age = DAY / plan.segment_seconds
    segments = plan.machines * max(by_size, by_age)
    stored = plan.bytes_per_day * plan.parquet_share
    files = plan.machines * 24 * math.ceil(per_machine / 24 * plan.parquet_share / plan.parquet_file_bytes)
    peak = plan.rate * plan.busiest_hour
    sliced = plan.machines * peak * plan.slice_seconds
    hour_files = files / 24
    lists = math.ceil(hour_files / plan.keys_per_list)
    simulated_lists = math.ceil(day.parquet_files / 24 / plan.keys_per_list)
    waiting = stored / 24 * plan.outage_hours
    index = segments * plan.index_of(plan.bytes_per_day / segments)
    return [
        ("a machine writes, mean; the busiest in its busiest hour", text_of(plan.rate, "B/s"),
         text_of(day.busiest_rate, "B/s")),
        ("segments a day", text_of(segments), text_of(day.segments)),
        ("segments a day, of the busiest machine", text_of(max(by_size, by_age)), text_of(day.most_segments)),
        ("indexes of one field, a day", text_of(index, "B"), text_of(day.index_bytes, "B")),
        ("one index", text_of(index / segments, "B"), text_of(day.index_bytes / day.segments, "B")),
        ("sealed segments on a machine; on the busiest",
         text_of(per_machine * plan.local_days * plan.sealed_share, "B"), text_of(day.most_local_bytes, "B")),
        ("Parquet a day", text_of(stored, "B"), text_of(stored, "B")),
        ("Parquet files a day", text_of(files), text_of(day.parquet_files)),
        (f"Parquet files after {plan.lake_days:.0f} days", text_of(files * plan.lake_days),
         text_of(day.parquet_files * plan.lake_days)),
        ("requests to list one hour; a day", f"{lists}; {text_of(lists * 24)}",
         f"{simulated_lists}; {text_of(simulated_lists * 24)}"),
        ("into the lake, mean; the busiest minute", text_of(stored * 8 / DAY, "bit/s"),
         text_of(day.busiest_minute, "bit/s")),
        ("the same, all exports at one minute", "", text_of(together.busiest_minute, "bit/s")),
        (f"Parquet that waits after {plan.outage_hours} h without the lake", text_of(waiting, "B"),
         text_of(day.backlog_bytes, "B")),
        ("until the last machine has caught up", text_of(waiting * 8 / plan.lake_bits, "s"),
         text_of(day.catch_up_seconds, "s")),
        (f"a slice of {plan.slice_seconds:.0f} s in segments: files; bytes",
         f"{text_of(plan.machines)}; {text_of(sliced, 'B')}",
         f"{text_of(day.files_in_slice)}; {text_of(day.bytes_in_slice, 'B')}"),
        ("the same, on 64 cores", text_of(sliced / plan.scan_rate / 64, "s"),
         text_of(day.bytes_in_slice / plan.scan_rate / 64, "s")),
    ]  # fmt: skip


def limits(plan: Plan, day: Day, together: Day) -> list[tuple[str, float, str, str]]:
    """What is used of each thing, from the fullest to the emptiest: name, share, used, there."""
    one = plan.scan_rate
    busy = day.busiest_rate
    cores = busy * (1 / plan.write_rate + 1 / plan.seal_rate + 1 / plan.export_rate)
    files = day.parquet_files
    all_files = files * plan.lake_days
    everything = requests_time(plan, all_files / plan.keys_per_list + all_files)
    hour = requests_time(plan, math.ceil(files / 24 / plan.keys_per_list) + files / 24)
    indexes = requests_time(plan, day.segments * plan.index_requests) + day.segments * plan.index_load_seconds
    indexes += day.index_bytes * 8 / plan.lake_bits
    patience = plan.patience_seconds
    rows = [
        (f"planning a query of all {plan.lake_days:.0f} days in one process", everything, patience, "s"),
        ("planning a query of one day of segments, by their indexes", indexes, patience, "s"),
        ("planning a query of one hour of Parquet", hour, patience, "s"),
        ("a scan of two fields of one day of segments, on 64 cores", plan.bytes_per_day / one / 64, patience, "s"),
        ("the lake's network, exports spread over the hour", day.busiest_minute, plan.lake_bits, "bit/s"),
        ("the lake's network, all exports at one minute", together.busiest_minute, plan.lake_bits, "bit/s"),
        ("the store's new files a second, all at one minute", together.busiest_puts, plan.puts_per_second, ""),
        (
            "the busiest machine's disk, rate",
            busy * (1 + plan.sealed_share + plan.parquet_share),
            plan.disk_rate,
            "B/s",
        ),
        ("the busiest machine's disk, room", day.most_local_bytes, plan.disk_bytes, "B"),
        ("the busiest machine's uplink", busy * plan.parquet_share * 8, plan.uplink_bits, "bit/s"),
        ("one core of the busiest machine", cores, 1.0, "cores"),
    ]
    found = [
        (name, used / there, text_of(used, unit) if unit != "cores" else f"{used:.2g} cores",
         text_of(there, unit) if unit != "cores" else "1 core")
        for name, used, there, unit in rows
    ]  # fmt: skip
    return sorted(found, key=lambda row: -row[1])


def report(plan: Plan) -> str:
    """The plan's figures as two tables in Markdown."""
    day, together = simulate(plan, plan.cron_delay), simulate(plan, 0)
    lines = ["| what | by arithmetic | in the simulation |", "|---|---|---|"]
    lines += [f"| {name} | {mean} | {simulated} |" for name, mean, simulated in figures(plan, day, together)]
    lines += ["", "| what | used | there is | share |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {used} | {there} | {share:.2g} |" for name, share, used, there in limits(plan, day, together)
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the figures of a plan."""
    parser = argparse.ArgumentParser(description="How many files, bytes and requests a plan takes.")
    parser.add_argument("--machines", type=int, default=Plan.machines)
    parser.add_argument("--terabytes", type=float, default=Plan.bytes_per_day / 1e12, help="a day, of all machines")
    arguments = parser.parse_args()
    if not 1 <= arguments.machines <= 1_000_000 or not 0 < arguments.terabytes <= 10_000:
        # Each segment is simulated.
        parser.error("--machines must be from 1 to 1,000,000, and --terabytes greater than 0 and at most 10,000")
    print(report(Plan(arguments.machines, arguments.terabytes * 1e12)))


if __name__ == "__main__":
    main()

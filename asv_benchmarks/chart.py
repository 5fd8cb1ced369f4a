"""The chart in the README: the cost of a message in this package and in its peers, and of a question to many files.

To make it again, on an otherwise idle machine, from the root of a clone with the `bench` extra installed:

    python asv_benchmarks/chart.py --measure results.json      # some two minutes, and 5 GB of temporary files
    python asv_benchmarks/chart.py results.json docs/benchmarks.svg

The first command runs the benchmarks of `peers` and `scale.Slice` in one process, in turn: one round that is not
counted, then several rounds, and writes the best time of each benchmark. `peers` and `scale` describe the benchmarks
and the limits of the comparison. The second command draws. The same results give the same bytes (with the same version
of matplotlib).

A results file is JSON of this form; other keys are ignored:

    {
      "date": "2025-01-31",
      "machine": {"cpu": "...", "cores": 2, "os": "...", "python": "3.11.7", "versions": {"mcap": "1.6.0", ...}},
      "events": 10000,
      "files": 20,
      "rows": 760000,
      "results": [{"panel": "Write finished messages", "name": "mcap", "nanoseconds": 3890.0}, ...]
    }

`panel` is one of PANELS, and `nanoseconds` the time for one of `events` messages; or it is SLICE_PANEL, with the time
of the whole question to `files` files of `rows` messages each. The results contain no host name, no user name and no
path.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import platform
import sys
import timeit
from collections import defaultdict
from datetime import UTC, date, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Each panel: a class of `peers`, and its benchmark.
PANELS = {
    "Write finished messages": ("Framing", "time_write"),
    "Read finished messages": ("Framing", "time_read"),
    "Serialize and write events": ("Events", "time_write"),
    "Read events and sum 5 fields": ("Events", "time_read"),
}
# Below them one panel of another kind: the bars, and the methods of `scale.Slice`.
SLICE_PANEL = "Read five minutes of ten hours from many files"
SLICES = {
    "flatstream, index": "time_slice",
    "flatstream, all read": "time_full_scan",
    "polars, Parquet": "time_polars_default",
    "polars, Parquet, small groups": "time_polars",
    "DuckDB, Parquet": "time_duckdb_default",
    "DuckDB, Parquet, small groups": "time_duckdb",
    "flatstream, index, first file": "time_one_file",
    "mcap, index, first file": "time_one_file_by_mcap",
}
PACKAGES = ["flatbuffers", "mcap", "protobuf", "msgpack", "fastavro", "pyarrow", "polars", "duckdb"]

# The second colour of each pair is for a dark background.
INK = ("#1f2328", "#e6edf3")
PAPER = ("#ffffff", "#0d1117")
GRID = ("#d0d7de", "#30363d")
OURS, OTHERS = "#1a7f9c", "#8c959f"


# Measuring


def measure(events: int, files: int, rows: int, rounds: int) -> dict[str, Any]:
    """Run every benchmark of `peers` with `events` events, and of slices of `files` files with `rows` messages each.

    Returns the results.
    """
    from asv_benchmarks import peers, scale

    class Slice(scale.Slice):
        pass

    Slice.files, Slice.rows = files, rows

    with contextlib.ExitStack() as stack:

        @cache  # writing and reading share one benchmark
        def set_up(class_name: str, peer: str) -> Any:
            benchmark = getattr(peers, class_name)()
            benchmark.setup(peer, events)
            stack.callback(benchmark.teardown, peer, events)
            return benchmark

        timers = {}
        for panel, (class_name, method) in PANELS.items():
            for peer in getattr(peers, class_name).params[0]:
                # A Timer disables the garbage collector meanwhile, as asv's timer does.
                timers[panel, peer] = timeit.Timer(partial(getattr(set_up(class_name, peer), method), peer, events))
        slices = Slice()
        slices.setup()
        stack.callback(slices.teardown)
        for name, method in SLICES.items():
            timers[SLICE_PANEL, name] = timeit.Timer(getattr(slices, method))
        for timer in timers.values():
            timer.timeit(1)
        best = dict.fromkeys(timers, math.inf)
        for _ in range(rounds):
            for key, timer in timers.items():
                best[key] = min(best[key], timer.timeit(1))
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(),
        "events": events,
        "files": files,
        "rows": rows,
        "results": [
            {
                "panel": panel,
                "name": name,
                "nanoseconds": round(seconds * 1e9 / (1 if panel == SLICE_PANEL else events), 1),
            }
            for (panel, name), seconds in best.items()
        ],
    }


def describe_machine() -> dict[str, Any]:
    """The properties of the machine that the figures depend on, without any that identify it."""
    import flatstream

    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "os": os_name(),
        "python": platform.python_version(),
        "versions": {"flatstream": flatstream.__version__, **{package: version(package) for package in PACKAGES}},
    }


def cpu_name() -> str:
    """The processor's name in Linux; elsewhere, and for processors without a name, the architecture."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            label, _, name = line.partition(":")
            if label.strip() == "model name" and name.strip():
                return name.strip()
    return platform.processor() or platform.machine() or "unknown"


def os_name() -> str:
    """The Linux distribution; elsewhere the system."""
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.system() or "unknown"


# Drawing


def check_results(data: Any) -> None:
    """Check that a results file has the form described above.

    Raises
    ------
    ValueError
        It does not; the message says where, and what was expected.
    """

    def expect(condition: bool, where: str, expected: str, found: Any) -> None:
        if not condition:
            raise ValueError(f"{where}: expected {expected}, found {found!r:.100}")

    def members(holder: Any, where: str, names: dict[str, type]) -> list[Any]:
        expect(isinstance(holder, dict), where, "an object", holder)
        for name, kind in names.items():
            expect(name in holder, where, f"the key {name!r}", sorted(holder))
            is_kind = isinstance(holder[name], kind) and not isinstance(holder[name], bool)
            expect(is_kind, f"{where}.{name}", f"a value of type {kind.__name__}", holder[name])
        return [holder[name] for name in names]

    day, machine, events, files, rows, results = members(
        data,
        "results file",
        {"date": str, "machine": dict, "events": int, "files": int, "rows": int, "results": list},
    )
    try:
        date.fromisoformat(day)
    except ValueError:
        expect(False, "results file.date", "a date like 2025-01-31", day)
    for name, number in (("events", events), ("files", files), ("rows", rows)):
        expect(number > 0, f"results file.{name}", "a positive number", number)
    panels = [*PANELS, SLICE_PANEL]
    *_, versions = members(machine, "machine", {"cpu": str, "cores": int, "os": str, "python": str, "versions": dict})
    members(versions, "machine.versions", dict.fromkeys(versions, str))
    seen = set()
    for index, result in enumerate(results):
        where = f"results[{index}]"
        panel, name = members(result, where, {"panel": str, "name": str})
        expect(panel in panels, f"{where}.panel", f"one of {panels}", panel)
        expect((panel, name) not in seen, where, "each name once in a panel", name)
        seen.add((panel, name))
        nanoseconds = result.get("nanoseconds")
        is_number = isinstance(nanoseconds, (int, float)) and not isinstance(nanoseconds, bool)
        expect(is_number and 0 < nanoseconds < math.inf, f"{where}.nanoseconds", "a positive number", nanoseconds)
    for panel in panels:
        expect(any(panel == with_result for with_result, _ in seen), "results", f"some of panel {panel!r}", "none")


def draw(data: dict[str, Any]) -> str:
    """The chart as SVG: one panel for each of PANELS, and one for slices below them, the fastest on top.

    All axes are logarithmic, and those of PANELS are the same. Text stays text. The chart has its own background, so
    that it is readable on any page; the background is dark for a reader who prefers a dark colour scheme, if the viewer
    supports that.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    check_results(data)
    panels = defaultdict(list)
    for result in data["results"]:
        panels[result["panel"]].append((result["nanoseconds"], result["name"]))
    ink, paper, grid = INK[0], PAPER[0], GRID[0]
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "flatstream",
        "font.size": 9,
        "text.color": ink,
        "axes.labelcolor": ink,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "figure.facecolor": paper,
        "axes.facecolor": "none",
        "figure.constrained_layout.h_pad": 0.1,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # independent of the settings of this machine
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=(10, 9), layout="constrained")
        rows = [max(len(panels[panel]) for panel in list(PANELS)[row : row + 2]) for row in (0, 2)]
        grid_of_panels = figure.add_gridspec(3, 2, height_ratios=[*rows, len(panels[SLICE_PANEL])])
        places = [grid_of_panels[row, column] for row in (0, 1) for column in (0, 1)] + [grid_of_panels[2, :]]
        for panel, place in zip([*PANELS, SLICE_PANEL], places, strict=True):
            axis = figure.add_subplot(place)
            shown = [SLICE_PANEL] if panel == SLICE_PANEL else list(PANELS)
            every_time = [nanoseconds for name in shown for nanoseconds, _ in panels[name]]
            low = 10 ** math.floor(math.log10(min(every_time)) - 0.3)
            high = max(every_time) * (2 if panel == SLICE_PANEL else 6)  # the label of the longest bar needs room
            # Equal times are sorted by name, so that the order is deterministic.
            times, names = zip(*sorted(panels[panel], reverse=True), strict=True)
            colors = [OURS if name.startswith("flatstream") else OTHERS for name in names]
            bars = axis.barh(names, times, color=colors, height=0.7)
            axis.bar_label(bars, [duration(time) for time in times], padding=4)
            title = panel if panel != SLICE_PANEL else f"{panel}: the whole question"
            axis.set_title(title, fontsize=10, fontweight="bold", loc="left")
            axis.set_xscale("log")
            axis.set_xlim(low, high)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda time, _: duration(time)))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.grid(axis="x", color=grid, linewidth=0.8)
            axis.set_axisbelow(True)
            axis.tick_params(length=0, labelbottom=True)
            axis.spines[:].set_visible(False)
        figure.suptitle("Time for one message, on logarithmic axes: shorter is faster", fontsize=12)
        figure.supxlabel(caption(data), fontsize=8)
        file = io.StringIO()
        # Without the date and the version of matplotlib, so that the same results give the same bytes.
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important }} '
        for light, dark in (INK, PAPER, GRID)
        for kind in ("fill", "stroke")
    )
    dark_style = f'<style type="text/css">@media (prefers-color-scheme: dark) {{ {rules}}}</style>'
    before, definitions, after = file.getvalue().partition("<defs>")
    return f"{before}{definitions}\n  {dark_style}{after}"


def duration(nanoseconds: float) -> str:
    """A time with three digits and a unit."""
    if nanoseconds < 1e3:
        return f"{nanoseconds:.3g} ns"
    if nanoseconds < 1e6:
        return f"{nanoseconds / 1e3:.3g} µs"
    if nanoseconds < 1e9:
        return f"{nanoseconds / 1e6:.3g} ms"
    return f"{nanoseconds / 1e9:.3g} s"


def caption(data: dict[str, Any]) -> str:
    """The work that was measured, the date and the machine."""
    machine = data["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"{data['events']:,} telemetry events to a file and back, in the page cache. The peers differ in checksums, "
        "schemas and indexes: see asv_benchmarks/peers.py.\n"
        f"At the bottom, 3 of 14 columns of {data['files']} files with {data['rows']:,} messages each, in the page "
        "cache; small groups have 32,768 rows: see asv_benchmarks/scale.py.\n"
        f"{data['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['os']}, Python {machine['python']}\n"
        f"{versions}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure, or draw, or both."""
    parser = argparse.ArgumentParser(description="Draw the chart of the peers, or measure what it shows.")
    parser.add_argument("results", type=Path, help="the results file, JSON")
    parser.add_argument("chart", type=Path, nargs="?", help="the SVG to draw")
    parser.add_argument("--measure", action="store_true", help="measure, and write the results file")
    parser.add_argument("--events", type=int, default=10_000, help="how many events to measure with (%(default)s)")
    parser.add_argument("--files", type=int, default=20, help="how many files to read a slice of (%(default)s)")
    parser.add_argument("--rows", type=int, default=760_000, help="how many messages each has (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="how many rounds to take the best of (%(default)s)")
    options = parser.parse_args(arguments)
    if not options.measure and options.chart is None:
        parser.error("nothing to do: name the SVG to draw, or give --measure")
    if min(options.events, options.files, options.rows, options.rounds) < 1:
        parser.error("--events, --files, --rows and --rounds must be at least 1")
    if options.measure:
        results = measure(options.events, options.files, options.rows, options.rounds)
        options.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.chart is not None:
        try:
            chart = draw(json.loads(options.results.read_text(encoding="utf-8")))
        except ValueError as error:
            parser.exit(1, f"{options.results}: {error}\n")
        options.chart.write_text(chart, encoding="utf-8")


if __name__ == "__main__":
    # A script can import from its own folder, but not from the root of the clone, where the package is.
    sys.path.append(str(Path(__file__).resolve().parent.parent))
    main()

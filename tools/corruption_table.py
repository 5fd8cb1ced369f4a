"""Damages streams in every way and writes docs/corruption.md: what reading and recovery make of the damage.

    python tools/corruption_table.py --seeds 10000      # as in the document: half an hour on two cores
    python tools/corruption_table.py --seeds 100 --show # to the terminal

The damage of a seed is always the same. tests/support/corruption.py makes it, and judges the outcome.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.corruption import CHECKSUMS, FRAMES, KINDS, Verdict, applies, judge_many, numbers, stream  # noqa: E402

MEASURES = {
    "wrong": "Payloads delivered that no writer wrote",
    "undelivered": "Intact frames that resync did not deliver",
    "inside": "Intact frames that seem to lie in the payload of another frame, like a stream that a payload contains",
    "cut": "Bytes of intact frames that recovery authorised to cut",
    "moved": "Frames delivered twice, or after one that was written later (not wrong: their bytes are intact)",
    "unaccounted": "Streams of which bytes were neither delivered nor told as lost",
    "memory": "Memory at most, in MiB, beyond what the process had before",
}

HEAD = """# Damage, and what becomes of it

`make corruption-table` writes this page. It damages a stream of {frames} frames (FlatBuffers of 40 to 400 bytes, some
of 3,000; {size:.0f} KB) in each of these ways {seeds:,} times with each checksum, and each time reads it with
`on_error="resync"` and calls `recover`. The damage is the same in every run (tests/support/corruption.py).

A frame is intact if all of its bytes are there, one behind the other. With a checksum of 4 bytes or more, a payload
that no writer wrote must never be delivered, each intact frame must be, and recovery must not allow a cut through
intact frames. A checksum of 2 bytes matches wrong bytes by chance once in 65,536 times, and without one, a stream of
FlatBuffers is told from other bytes by the structure of its messages only: for these two, the numbers are what to
expect.
"""


def run(task: tuple[str, str, range]) -> tuple[str, str, Verdict, float]:
    """Judges many seeds of one kind and checksum, and measures the memory that this took."""
    kind, checksum, seeds = task
    for writer in (0, 1):
        stream(checksum, writer)
    numbers(checksum)
    judge_many(kind, checksum, range(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    verdict = judge_many(kind, checksum, seeds)
    return kind, checksum, verdict, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def table(measure: str, found: dict[tuple[str, str], Verdict | float]) -> str:
    """One table of Markdown."""
    lines = [f"## {MEASURES[measure]}", "", "| damage | " + " | ".join(CHECKSUMS) + " |", "|---" * 7 + "|"]
    for kind in KINDS:
        cells = []
        for checksum in CHECKSUMS:
            value = found.get((kind, checksum))
            if isinstance(value, Verdict):
                value = getattr(value, measure)
            cells.append("" if value is None else f"{value:.1f}" if isinstance(value, float) else f"{value:,}")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the arguments, damages, judges, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--checksum", choices=list(CHECKSUMS), action="append")
    parser.add_argument("--show", action="store_true", help="print the tables instead of writing docs/corruption.md")
    arguments = parser.parse_args()
    tasks = [
        (kind, checksum, range(arguments.seeds))
        for kind in arguments.kind or KINDS
        for checksum in arguments.checksum or CHECKSUMS
        if applies(kind, checksum)
    ]
    verdicts: dict[tuple[str, str], Verdict | float] = {}
    memory: dict[tuple[str, str], Verdict | float] = {}
    began = time.monotonic()
    # A process for each task, so that the memory is that of the task.
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        for kind, checksum, verdict, peak in pool.imap_unordered(run, tasks, chunksize=1):
            verdicts[kind, checksum] = verdict
            memory[kind, checksum] = peak
            print(
                f"{time.monotonic() - began:6.0f} s  {kind}, {checksum}: {verdict!s:.200}", file=sys.stderr, flush=True
            )
    data = stream("crc32", 0)[0]
    text = HEAD.format(frames=FRAMES, size=len(data) / 1000, seeds=arguments.seeds) + "\n"
    text += "\n".join(table(name, memory if name == "memory" else verdicts) for name in MEASURES)
    if arguments.show:
        print(text)
    else:
        (ROOT / "docs" / "corruption.md").write_text(text)


if __name__ == "__main__":
    main()

"""Fails if the coverage of the compiled modules is empty or has sunk: it is easily empty without anyone noticing."""

from __future__ import annotations

import sys

import coverage

# Percent of the lines of each .pyx file. What is missing are lines for what tests cannot make happen (memory that runs
# out), and what they run in a process of its own or with threads, where nothing is traced.
LEAST = 80.0


def main() -> int:
    data = coverage.Coverage()
    data.load()
    measured = [name for name in data.get_data().measured_files() if name.endswith(".pyx")]
    if len(measured) < 10:
        print(f"only {len(measured)} .pyx files were measured: line tracing does not work", file=sys.stderr)
        return 1
    failed = 0
    for name in sorted(measured):
        _, statements, _, missing, _ = data.analysis2(name)
        percent = 100.0 * (1 - len(missing) / len(statements)) if statements else 0.0
        if percent < LEAST:
            print(f"{name}: {percent:.1f}% of {len(statements)} lines, at least {LEAST}% expected", file=sys.stderr)
            failed += 1
    print(f"{len(measured)} compiled modules measured, {failed} below {LEAST}%")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Every script in examples/ runs to its end, passes its own assertions and prints what it shows.

Each runs as a process of its own, in an empty folder, with warnings as errors.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.schemas import EXAMPLES

# What each prints, as regular expressions that match in this order; and its arguments, if it takes any.
SHOWN: dict[str, list[str]] = {
    "any_transport": [
        r"2000 answers over two pipes; 628,005 bytes received",
        r"2000 messages in pieces of 1,400 bytes, from north",
    ],
    "async_echo": [r"10000 answers, the last one 'MESSAGE 9999'", r"no answer yet"],
    "bounds": [
        r"writing: a payload of 1001 bytes is longer than the bound of 1000 \(frame 1, stream offset 1004\)",
        r"reading: the header declares a payload of 1001 bytes, more than the limit of 1000",
        r"torn: .*2000000004 bytes of it are needed, 14 are there",
    ],
    "compressed_stream": [
        r"2000 messages: [\d,]+ bytes, and compressed [\d,]+, [\d,]+ of them dictionary",
        r"[\d,]+ bytes of a peer would become 104,857,600: .*more than the limit of 1,048,576",
    ],
    "collector": [
        r"killed the collector\s+killed the agents\s+4,000 samples acknowledged\s+",
        r"collected 10 x 400 samples, each once, in order",
    ],
    "custom_checksum": [r"4 bytes of Adler32", r"detected: .*0x11e60398, its payload gives 0x11dd0397"],
    "custom_framing": [r"read back \[b'abc', b'', b'defg'\]", r"found b'XAGC' \(frame 1, stream offset 15\)"],
    "encrypted_stream": [
        r"read 5 messages of 2 parts",
        r"refused: the encrypted stream does not accept this frame: .* \(frame 3, stream offset \d+\)",
        r"read what is left: 1 message is missing",
        r"the second part has no end",
    ],
    "endurance": [
        r"[1-9]\d* writers killed in ",
        r"[1-9]\d* frames found, ",
        r"[1-9]\d* frames acknowledged, all found, once, in order",
    ],
    "journal_over_nats": [
        # The first without the program.
        r"no nats-server|killed the broker, .*forwarded 20,000 events .*received 20,000, missing: none\s+the mirror",
    ],
    "memory_policies": [
        r"size_threshold: from \d{6} to 4096 bytes",
        r"reading: from 10\d{5} to 4096 bytes",
        r"cooldown: 10 seconds",
    ],
    "mmap_zero_copy": [r"1000 payloads, 1000000 bytes, none of them copied", r"while views are alive: .*export"],
    "numpy_batches": [r"5000 values from \d+ batches: 1\.0 to 2500\.5, mean 1250\.75"],
    "observers": [r"10 messages, 55 bytes; 2 large ones kept", r"damaged last frame, 9 were observed", r"not today"],
    "quickstart": [r"3 messages of \[16, 32, 32\] bytes; the first says 'hello'"],
    "recover_torn_file": [
        r"torn: .*13 bytes of it are needed, 9 are there \(frame 99, stream offset 1287\)",
        r"recovered 99 frames and cut the file to 1287 bytes",
        r"read all 101 frames",
        r"not torn: .*an intact frame begins at stream offset 533",
        r"read 100 frames and lost 13 bytes",
        r"salvaged 100 frames into a new file",
    ],
    "scale_plan": [
        r"\| segments a day \| 93,132 \| 9\d,\d{3} \|",
        r"\| Parquet a day \| 23 TB \| 23 TB \|",
        r"\| planning a query of all 90 days in one process \| \d+ min \| 60 s \| \d+ \|",
    ],
    "several_builders": [r"100 messages of 24 bytes", r"20 messages of 64 bytes", r"4 messages of 100032 bytes"],
    "serializers": [
        r"6 objects of json, the last one \{'host': 'db-5', 'load': None\}",
        r"refused: samples-v1 refused the payload: 23 bytes .*\(frame 1, stream offset \d+\)",
        r"left out: 1 message, 31 bytes",
    ],
    "sized_checksums": [
        r"none +0 bytes +0 of 72",
        r"crc16 +2 bytes +72 of 72",
        r"crc32 +4 bytes +72 of 72",
        r"crc32c +4 bytes +72 of 72",
        r"crc64 +8 bytes +72 of 72",
        r"xxhash64 +8 bytes +72 of 72",
    ],
    "socket_stream": [r"received \['one', 'two', 'three'\], then a clean end", r"broken: .*11 .* needed, 10 are there"],
    "telemetry_agent": [
        r"begun +a new journal",
        r"events +(?P<events>\d+) sampled, (?P=events) written, 0 lost",
        r"rate +200\.0/s asked, ",
        r"syncs +\d+, .* on average; (?P=events) events on the disk",
        r"us per event +median +p99 +worst",
    ],
    "telemetry_demo": [
        r"killed by SIGKILL",
        r"continued +\d+ segments, the next event is number (?P<first>\d+)",
        r"events +(?P<both>\d+) read back in .*, in order: (?P=first) before the kill, \d+ after it",
        r"gaps +none",
        r"killed +\d+ ms after the last event in the journal",
        r"rate +200\.0/s asked, ",
        r"memory used +MiB",
    ],
    "untrusted_socket": [
        r"refused: telemetry\.Event refused the payload: event\.host: .*\(frame 1, stream offset 72\)",
        r"refused: telemetry\.Event refused the payload: event: .*\(frame 2",
        r"refused: SizeValidator refused the payload: 0 bytes are fewer than the 8 required \(frame 3",
        r"accepted \[\(1, b'alpha'\), \(3, b'gamma'\)\]",
    ],
    "typed_reading": [
        r"from_payload: \[\(1, 21\.5\), \(2, 19\.25\)\]",
        r"generated: +\[\(0, 'alpha'\), \(1, 'beta'\), \(2, 'gamma'\)\]",
        r"refused: +a payload of 1 bytes is no Event",
    ],
}
ARGUMENTS = {
    "endurance": ["--seconds", "3"],
    "telemetry_agent": ["--seconds", "1", "--rate", "200"],
    "telemetry_demo": ["--seconds", "2", "--rate", "200"],
}

# What the scripts import, and is none itself; and what needs a file to work on, and has tests of its own.
MODULES = {"telemetry_sources", "replay"}


def test_every_example_is_listed_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SHOWN.keys() | MODULES


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("*.py")) if path.stem not in MODULES])
def test_example_runs_and_shows_what_it_promises(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *ARGUMENTS.get(name, [])],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(".*".join(SHOWN[name]), done.stdout, re.DOTALL), done.stdout
    # It has cleaned up after itself.
    assert not list(tmp_path.iterdir())

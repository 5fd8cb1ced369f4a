"""A stream of 1 GiB is converted in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flatstream import RecordWriter, StreamWriter
from support.cli import environment
from support.schemas import EXAMPLES, TELEMETRY

GIB = 1 << 30

# Prints the report, and the most memory that the process had, in bytes.
CHILD = """
import json, resource, sys
from flatstream import Schema
from flatstream.tools import convert

table = Schema.from_file(sys.argv[3]).root
report = convert(sys.argv[1], sys.argv[2], table=table, fields=json.loads(sys.argv[4]))
print(json.dumps([report.messages, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


def run(source: Path, out: Path, fields: list[str] | None = None) -> tuple[int, int]:
    paths = map(str, (source, out, EXAMPLES / "telemetry.bfbs"))
    arguments = [sys.executable, "-c", CHILD, *paths, json.dumps(fields)]
    done = subprocess.run(arguments, capture_output=True, env=environment(), timeout=1800, check=False)
    assert done.returncode == 0, done.stderr.decode()
    messages, memory = json.loads(done.stdout)
    return messages, memory


@pytest.mark.long
def test_stream_of_1_gib_goes_there_and_back_in_bounded_memory(tmp_path: Path) -> None:
    assert TELEMETRY.root is not None
    source = tmp_path / "in.fs"
    count = 0
    with StreamWriter(source, "crc32") as writer:
        records = RecordWriter(writer, TELEMETRY.root)
        while writer.bytes_written < GIB:
            numbers = list(range(count, count + 100_000))
            records.write_columns(
                {"sequence": numbers, "host": ["a name of some length"] * len(numbers), "load_1": numbers}
            )
            count += len(numbers)
    for ending, fields in ((".parquet", None), (".csv", ["sequence", "host", "load_1"]), (".fb", None)):
        out = tmp_path / f"out{ending}"
        messages, memory = run(source, out, fields)
        assert messages == count
        assert memory < GIB, ending
        messages, memory = run(out, tmp_path / "back.fs")
        assert messages == count
        assert memory < GIB, ending
        out.unlink()
        (tmp_path / "back.fs").unlink()

"""The command line: how long a small command takes as a whole process (D1), and how fast `verify` reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import flatstream

from .common import payload_of
from .stream_io import OnDisk
from .telemetry_event import EXAMPLES, make_payloads

MIB = 1024 * 1024


def run(*arguments: str) -> str:
    """What Python prints in a process of its own, with these arguments."""
    done = subprocess.run([sys.executable, *arguments], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return done.stdout.decode()


class Start(OnDisk):
    """Whole processes, from the start of the interpreter to its end. The file has a description and 10 MB (D1)."""

    warmup_time = 0
    rounds = 1
    repeat = (5, 10, 10.0)
    size = 10_000_000

    def setup(self) -> None:
        self.path = self.make_directory() / "stream.fs"
        schema = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs")
        payloads = make_payloads(1000)
        self.count = 0
        with flatstream.open(self.path, "w", checksum="xxhash64", describe=schema) as writer:
            while writer.bytes_written < self.size:
                writer.write_payloads(payloads)
                self.count += len(payloads)

    def time_import(self) -> None:
        """The yardstick."""
        run("-c", "import flatstream")

    def time_help(self) -> None:
        assert "Exit status" in run("-m", "flatstream", "--help")

    def time_info(self) -> None:
        text = run("-m", "flatstream", "info", str(self.path))
        assert f"{self.count:,}, payloads of" in text
        assert "telemetry.Event" in text


class Verify(OnDisk):
    """A file of `total` bytes in frames of 1 KiB, whose pages the system has in memory."""

    param_names = ("checksum", "total")
    params = (["none", "crc32", "xxhash64"], [256 * MIB])
    rounds = 1
    repeat = (2, 4, 4.0)

    def setup(self, checksum: str, total: int) -> None:
        self.path = self.make_directory() / "stream.fs"
        payloads = [payload_of(1024)] * 1024
        with flatstream.open(self.path, "w", checksum=checksum) as writer:
            for _ in range(total // MIB):
                writer.write_payloads(payloads)

    def units(self, checksum: str, total: int) -> int:
        """The number of bytes per sample."""
        return Path(self.path).stat().st_size

    def time_verify(self, checksum: str, total: int) -> None:
        assert ": intact; " in run("-m", "flatstream", "verify", "--checksum", checksum, str(self.path))

    def time_cat(self, checksum: str, total: int) -> None:
        """The yardstick: the same bytes from a process that does not look at them."""
        with open("/dev/null", "wb") as nowhere:
            subprocess.run(["cat", str(self.path)], check=True, stdout=nowhere)


class Show(OnDisk):
    """A described file of `count` telemetry events as JSON lines, whose pages the system has in memory (D2)."""

    param_names = ("count",)
    params = ([20_000],)
    warmup_time = 0
    rounds = 1
    repeat = (3, 5, 5.0)

    def setup(self, count: int) -> None:
        self.path = self.make_directory() / "stream.fs"
        schema = flatstream.Schema.from_file(EXAMPLES / "telemetry.bfbs")
        with flatstream.open(self.path, "w", checksum="xxhash64", describe=schema) as writer:
            payloads = list(make_payloads(1000))
            writer.write_payloads(payloads * (count // 1000))

    def units(self, count: int) -> int:
        """The number of messages per sample."""
        return count

    def time_cat_jsonl(self, count: int) -> None:
        assert run("-m", "flatstream", "cat", "--format", "jsonl", str(self.path)).count("\n") == count

    def time_orjson_of_dicts(self, count: int) -> None:
        """The yardstick: the same in a program that a user writes."""
        program = (
            "import flatstream, orjson, sys\n"
            "with flatstream.open(sys.argv[1]) as reader:\n"
            "    for record in reader.records(reader.description.table):\n"
            "        sys.stdout.buffer.write(orjson.dumps(record.to_dict()) + b'\\n')\n"
        )
        assert run("-c", program, str(self.path)).count("\n") == count

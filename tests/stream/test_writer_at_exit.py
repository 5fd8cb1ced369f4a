"""Writers that are open when the interpreter exits: their bytes are handed over, or the loss is told."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from reference import framing as reference

DAEMON = """
    import sys, threading, time
    import flatstream

    ready = threading.Event()

    def run():
        writer = make()
        writer.write_payload(b"first")
        {before}
        ready.set()
        while True:
            time.sleep(1)

    threading.Thread(target=run, daemon=True).start()
    ready.wait()
"""


def run_script(make: str, before: str = "pass", *arguments: object, script: str = DAEMON) -> tuple[int, bytes, str]:
    """Exit status, standard output and standard error of a script whose daemon thread has a writer."""
    text = textwrap.dedent(make) + "\n" + textwrap.dedent(script).format(before=before)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", text, *map(str, arguments)],
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert time.monotonic() - began < 15
    return done.returncode, done.stdout, done.stderr.decode()


def test_writer_of_a_daemon_thread_hands_over_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    make = "def make(): return flatstream.StreamWriter(sys.argv[1], 'crc32')"
    status, _, told = run_script(make, "pass", path)
    assert status == 0
    assert "ResourceWarning: <StreamWriter to " in told
    assert "is open at the exit of the interpreter: 13 bytes in its buffer were handed over now" in told
    assert path.read_bytes() == reference.encode([b"first"], "crc32")


@pytest.mark.parametrize("sink", ["open(sys.argv[1], 'wb')", "open(sys.argv[1], 'wb', buffering=0)"])
def test_sink_of_a_daemon_thread_is_flushed(sink: str, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    status, _, told = run_script(f"def make(): return flatstream.StreamWriter({sink})", "pass", path)
    assert status == 0
    assert "9 bytes in its buffer were handed over now" in told
    assert path.read_bytes() == reference.encode([b"first"], "none")


def test_writer_that_has_handed_over_everything_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    make = "def make(): return flatstream.StreamWriter(open(sys.argv[1], 'wb', buffering=0))"
    for before in ("writer.flush()", "writer.close()", "writer.detach()"):
        status, _, told = run_script(make, before, path)
        assert (status, told) == (0, "")
        assert path.read_bytes() == reference.encode([b"first"], "none")


def test_warning_that_is_an_error_loses_no_other_writer(tmp_path: Path) -> None:
    make = """
        import warnings
        warnings.simplefilter("error")
        others = []
        def make():
            others.append(flatstream.StreamWriter(open(sys.argv[1], "wb")))
            others[0].write_payload(b"other")
            return flatstream.StreamWriter(open(sys.argv[2], "wb"))
    """
    paths = [tmp_path / "other", tmp_path / "first"]
    run_script(make, "pass", *paths)
    assert [path.read_bytes() for path in paths] == [
        reference.encode([b"other"], "none"),
        reference.encode([b"first"], "none"),
    ]


def test_writer_that_a_thread_is_in_does_not_hold_up_the_exit() -> None:
    make = """
        class Sink:
            def write(self, data):
                ready.set()
                time.sleep(100)
        def make():
            writer = flatstream.StreamWriter(Sink(), buffer_size=100)
            writer.write_payload(b"kept")
            writer.write_payload(b"x" * 99)
            return writer
    """
    status, _, told = run_script(make)
    assert status == 0
    assert "8 bytes in its buffer are lost, because a thread is in the middle of another operation on it" in told


def test_full_pipe_does_not_hold_up_the_exit() -> None:
    make = """
        import io, os
        ends = os.pipe()
        def make():
            sink = io.FileIO(ends[1], "wb")
            os.set_blocking(ends[1], False)
            while sink.write(b"x" * 1000) or sink.write(b"x"):
                pass
            os.set_blocking(ends[1], True)
            return flatstream.StreamWriter(sink)
    """
    status, _, told = run_script(make)
    assert status == 0
    assert "9 bytes in its buffer were not all handed over, because the sink blocks: 9 are lost" in told


def test_pipe_that_somebody_reads_gets_more_than_it_has_room_for() -> None:
    make = """
        import io
        def make():
            writer = flatstream.StreamWriter(io.FileIO(1, "wb", closefd=False), buffer_size=1 << 20)
            writer.write_payload(b"x" * 900_000)
            return writer
    """
    status, arrived, told = run_script(make)
    assert status == 0
    assert "were handed over now" in told
    assert arrived == reference.encode([b"x" * 900_000, b"first"], "none")


def test_sink_that_fails_at_the_exit_is_told() -> None:
    make = """
        class Sink:
            def write(self, data):
                raise OSError(28, "No space left on device")
        def make():
            return flatstream.StreamWriter(Sink())
    """
    status, _, told = run_script(make)
    assert status == 0
    assert "9 bytes in its buffer may be lost, because handing them over failed: OSError: [Errno 28]" in told


FORKED = """
    import io, os, sys
    import flatstream
    writer = flatstream.StreamWriter(io.FileIO(1, "wb", closefd=False))
    writer.write_payload(b"first")
    pid = os.fork()
    if pid == 0:
        sys.exit()
    os.waitpid(pid, 0)
    writer.write_payload(b"second")
    writer.close()
"""


def test_child_of_a_fork_leaves_the_bytes_to_its_parent() -> None:
    expected = reference.encode([b"first", b"second"], "none")
    assert run_script("", "", script=FORKED) == (0, expected, "")

"""ThreadedWriter at the end of things: the interpreter's exit, a fork, and an object that nobody has any more."""

from __future__ import annotations

import functools
import gc
import io
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from flatstream import StreamReader, StreamWriter
from flatstream.journal import ThreadedWriter
from reference import framing as reference
from support.faults import device_error
from support.gated import GatedWriter, wait_until
from support.processes import forked
from support.sinks import FaultySink
from support.threads import running

PREAMBLE = """
import os, signal, sys, threading, time
import flatstream
from flatstream.journal import ThreadedWriter, stop_on_signals
"""


def run_script(script: str, *arguments: object) -> tuple[int, bytes, str]:
    """Exit status, standard output and standard error of a script. It must not take long."""
    text = PREAMBLE + textwrap.dedent(script)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", text, *map(str, arguments)],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert time.monotonic() - began < 20
    return done.returncode, done.stdout, done.stderr.decode()


# The exit of the interpreter


def test_open_writer_hands_over_its_queue_at_the_exit_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    script = """
        writer = ThreadedWriter(flatstream.StreamWriter(sys.argv[1], "crc32"), 2000, flush_interval=3600)
        for number in range(1000):
            writer.write_payload(b"%d" % number)
    """
    status, _, told = run_script(script, path)
    assert status == 0
    assert path.read_bytes() == reference.encode([b"%d" % number for number in range(1000)], "crc32")
    assert "ResourceWarning: <ThreadedWriter over <StreamWriter to " in told
    assert "is open at the exit of the interpreter: " in told
    assert "were handed over now" in told
    assert "RuntimeWarning" not in told


def test_queue_before_a_journal_is_handed_over_at_the_exit(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    script = """
        from flatstream.journal import JournalWriter, SyncPolicy
        journal = JournalWriter(sys.argv[1], sync=SyncPolicy(seconds=3600), describe=False)
        writer = ThreadedWriter(journal, 2000, flush_interval=3600)
        for number in range(1000):
            writer.write_payload(b"%d" % number)
    """
    status, _, told = run_script(script, path)
    assert status == 0
    (segment,) = path.glob("*.fs")
    assert segment.read_bytes() == reference.encode([b"%d" % number for number in range(1000)], "xxhash64")
    assert "ResourceWarning: <ThreadedWriter over <JournalWriter in " in told
    assert "were handed over now" in told
    assert "RuntimeWarning" not in told


def test_writer_that_has_handed_over_everything_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    for end in ("flush", "close"):
        script = f"""
            sink = open(sys.argv[1], "wb", buffering=0)
            writer = ThreadedWriter(flatstream.StreamWriter(sink), 2000)
            writer.write_payload(b"abc")
            writer.{end}()
            import atexit
            atexit.register(sink.close)
            keep = writer, writer.write_payload
        """
        assert run_script(script, path) == (0, b"", "")
        assert path.read_bytes() == reference.encode([b"abc"], "none")


def test_sink_that_hangs_does_not_hold_up_the_exit_and_the_loss_is_told() -> None:
    script = """
        class Sink:
            def write(self, data):
                entered.set()
                time.sleep(1000)

        entered = threading.Event()
        hanging = ThreadedWriter(flatstream.StreamWriter(Sink(), buffer_size=0), 100, flush_interval=0)
        hanging.write_payload(b"first")
        entered.wait()
        hanging.write_payloads([b"second", b"third"])
        other = ThreadedWriter(flatstream.StreamWriter(open(1, "wb")), 100, flush_interval=3600)
        other.write_payload(b"other")
    """
    status, written, told = run_script(script)
    assert status == 0
    assert "RuntimeWarning" in told
    assert "3 of 3 payloads in its queue are lost, because its thread could not hand them over in time" in told
    # It does not take the time of another one.
    assert written == reference.encode([b"other"], "none")
    assert "handed over now" in told


def test_full_disk_at_the_exit_is_told() -> None:
    script = """
        writer = ThreadedWriter(flatstream.StreamWriter(open("/dev/full", "wb", buffering=0), buffer_size=0), 100)
        writer._mutex.acquire()
        writer.write_payloads([b"first", b"second"])
        writer._mutex.release()
    """
    status, _, told = run_script(script)
    assert status == 0
    assert "2 of 2 payloads in its queue are lost, because OSError: [Errno 28] No space left on device" in told


def test_daemon_thread_cannot_put_what_nobody_would_write(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    script = """
        import atexit
        writer = ThreadedWriter(flatstream.StreamWriter(sys.argv[1]), 1000)
        accepted = 0
        refused = threading.Event()

        def produce():
            global accepted
            try:
                while True:
                    writer.write_payload(b"payload")
                    accepted += 1
            except RuntimeError as error:
                print(error)
            refused.set()

        def end():
            refused.wait(10)
            writer.flush()
            print(accepted, writer.frames_written)

        atexit.unregister(flatstream.journal._writing_thread._hand_over_all)
        atexit.register(end)
        atexit.register(flatstream.journal._writing_thread._hand_over_all)
        threading.Thread(target=produce, daemon=True).start()
        time.sleep(0.05)
    """
    status, printed, _ = run_script(script, path)
    assert status == 0
    why, counts = printed.decode().splitlines()
    assert why == "the interpreter exits: this ThreadedWriter takes nothing more"
    accepted, written = map(int, counts.split())
    assert accepted == written > 0
    with StreamReader(path) as reader:
        assert len(list(reader)) == accepted


def test_warning_that_is_an_error_does_not_keep_others_from_handing_over(tmp_path: Path) -> None:
    script = """
        import warnings
        warnings.simplefilter("error")
        writers = []
        for path in sys.argv[1:]:
            writers.append(ThreadedWriter(flatstream.StreamWriter(path), 100, flush_interval=3600))
            writers[-1].write_payload(b"abc")
    """
    paths = [tmp_path / "one", tmp_path / "two"]
    run_script(script, *paths)
    assert [path.read_bytes() for path in paths] == [reference.encode([b"abc"], "none")] * 2


# Forks


def test_child_of_a_fork_leaves_everything_to_its_parent() -> None:
    writer = GatedWriter()
    threaded = ThreadedWriter(writer, 1, "block", flush_interval=0)
    threaded.write_payload(b"a")
    writer.wait_for_entry()
    threaded.write_payload(b"b")

    def child() -> list[str]:
        told = []
        functions: list[Callable[[], None]] = [lambda: threaded.write_payload(b"c"), threaded.flush, threaded.sync]
        for function in functions:
            try:
                function()
            except RuntimeError as error:
                told.append(str(error))
        threaded.close()
        return [*told, str(threaded.closed), str(threaded.queued)]

    # While another thread is in the middle of a put: the child's copy of its lock is never released.
    with running(lambda: _hold(threaded)):
        wait_until(lambda: HELD)
        told = forked(child)
        HELD.clear()
    assert len(told) == 5
    assert all("belongs to the process that made it" in text for text in told[:3])
    assert told[3:] == ["True", "0"]
    writer.open(10)
    threaded.close()
    assert writer.memory.getvalue() == reference.encode([b"a", b"b"], "none")


HELD: list[bool] = []


def _hold(threaded: ThreadedWriter) -> None:
    with threaded._mutex:
        HELD.append(True)
        wait_until(lambda: not HELD)


def test_child_exits_in_silence_and_the_parent_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    script = """
        writer = ThreadedWriter(flatstream.StreamWriter(sys.argv[1]), 100, flush_interval=3600)
        writer.write_payload(b"first")
        child = os.fork()
        if not child:
            writer.writer.sink.close()
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        writer.write_payload(b"second")
        writer.close()
    """
    assert run_script(script, path) == (0, b"3\n", "")
    assert path.read_bytes() == reference.encode([b"first", b"second"], "none")


# Collection


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_collected_writer_hands_over_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    threaded = ThreadedWriter(StreamWriter(path), 100, flush_interval=3600)
    thread = threaded._thread
    threaded.write_payloads([b"a", b"b"])
    wait_until(functools.partial(getattr, threaded, "_is_asleep"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del threaded
        # The thread may have a reference for a moment.
        wait_until(path.read_bytes)
    assert path.read_bytes() == reference.encode([b"a", b"b"], "none")
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert "unclosed threaded writer <ThreadedWriter over <StreamWriter to " in str(caught[0].message)
    assert thread.join(30)


def test_collected_writer_that_cannot_hand_over_says_so(tmp_path: Path) -> None:
    threaded = ThreadedWriter(StreamWriter(FaultySink(3, device_error(5))), 100, flush_interval=3600)
    wait_until(functools.partial(getattr, threaded, "_is_asleep"))
    threaded._wake_at = 100
    threaded._set_limit()
    threaded.write_payloads([b"a", b"b"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del threaded
        wait_until(lambda: len(caught) >= 2)
    told = [str(warning.message) for warning in caught if warning.category is RuntimeWarning]
    assert len(told) == 1
    assert "was not closed, and 2 payloads in its queue may be lost: [Errno 5] Input/output error" in told[0]


def test_object_that_was_not_made_has_nothing_to_close() -> None:
    with pytest.raises(TypeError):
        ThreadedWriter(io.BytesIO(), 5)  # type: ignore[arg-type]
    gc.collect()


def test_with_statement_closes_and_keeps_the_first_error() -> None:
    def write_and_fail(writer: StreamWriter) -> None:
        with ThreadedWriter(writer, 5) as threaded:
            threaded.write_payload(b"abc")
            raise KeyError

    sink = io.BytesIO()
    writer = StreamWriter(sink)
    with pytest.raises(KeyError):
        write_and_fail(writer)
    assert writer.closed
    assert sink.getvalue() == reference.encode([b"abc"], "none")
    writer = StreamWriter(FaultySink(3, device_error(5)))
    with pytest.raises(KeyError) as caught:
        write_and_fail(writer)
    assert writer.closed
    (note,) = caught.value.__notes__
    assert note.startswith("closing the threaded writer failed too: FlatStreamError: this ThreadedWriter refuses")


# SIGTERM

SAMPLING = """
    def sample(number):
        return b"%d" % number

    with stop_on_signals() as stop, ThreadedWriter(flatstream.StreamWriter(sys.argv[1], "crc32"), 1000) as writer:
        number = 0
        print("ready", flush=True)
        while not stop.wait(0.001):
            writer.write_payload(sample(number))
            number += 1
    print(number, stop.signal)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_that_gets_sigterm_hands_over_everything(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "stream"
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(SAMPLING), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(number)
        count, what = map(int, process.stdout.readline().split())
    assert process.returncode == 0
    assert what == number
    assert path.read_bytes() == reference.encode([b"%d" % sample for sample in range(count)], "crc32")

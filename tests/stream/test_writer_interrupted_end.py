"""An exception at any line of what ends a writer: nothing accepted is lost, and a further close() finishes the work.

A signal handler may raise before any line of Python. Here a trace function does, at each line in turn.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import flatstream.writer
from flatstream import StreamWriter
from reference import framing as reference
from support.extent import in_one_test
from support.faults import device_error
from support.sinks import SINKS, PlainSink

PAYLOADS = [b"%d" % number * 20 for number in range(50)]
STREAM = reference.encode(PAYLOADS, "crc32")


class Stop(BaseException):
    """As KeyboardInterrupt, but only raised here."""


class Strike:
    """Raises Stop at the line event with this number in the code of `files`, once. Counts the events up to it."""

    def __init__(self, number: int, files: set[str]) -> None:
        self.number = number
        self.files = files
        self.struck_at: int | None = None

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        if event == "line" and self.struck_at is None:
            if not self.number:
                self.struck_at = frame.f_lineno
                raise Stop
            self.number -= 1
        return self.trace

    @contextmanager
    def armed(self) -> Iterator[None]:
        before = sys.gettrace()
        # A writer that another test left in a reference cycle would be struck when it is collected.
        gc.disable()
        sys.settrace(self.trace)
        try:
            yield
        finally:
            sys.settrace(before)
            gc.enable()


def leave_with_block(writer: StreamWriter) -> None:
    with writer:
        pass


def leave_with_block_by_error(writer: StreamWriter) -> None:
    try:
        with writer:
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass


ENDINGS: dict[str, Callable[[StreamWriter], object]] = {
    "close": StreamWriter.close,
    "detach": StreamWriter.detach,
    "flush": StreamWriter.flush,
    "with": leave_with_block,
    "with_and_error": leave_with_block_by_error,
}
FILES = {flatstream.writer.__file__}


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of descriptors")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["path", "raw_file", "pipe", "buffered_file", "bytesio", "gzip"])
def test_ending_interrupted_at_any_line_can_be_finished_by_close(kind: str, ending: str, tmp_path: Path) -> None:
    struck = set()
    for number in range(1000):
        strike = Strike(number, FILES)
        before = open_descriptors()
        with SINKS[kind].open(tmp_path) as target:
            writer = StreamWriter(target.sink, "crc32")
            file = writer.sink
            writer.write_payloads(PAYLOADS)
            try:
                with strike.armed():
                    ENDINGS[ending](writer)
            except Stop:
                assert strike.struck_at is not None
                struck.add(strike.struck_at)
            if writer.closed:
                assert writer.pending_bytes == 0
            writer.close()
            assert writer.closed
            assert writer.sink is None
            if kind == "path":
                if ending == "detach" and strike.struck_at is None:
                    file.close()
                assert file.closed
            else:
                assert not file.closed
            assert writer.frames_written == len(PAYLOADS)
            assert target.arrived() == STREAM
            del file
        assert open_descriptors() == before
        if strike.struck_at is None:
            break
    else:
        raise AssertionError("the ending has no end")
    # At least the first line of the method was interrupted.
    assert struck


class FlushingSink(PlainSink):
    """Its flush() has several lines, each of which may be interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = 0

    def flush(self) -> None:
        count = len(self.arrived())
        self.flushed = 0
        self.flushed = count


@in_one_test
@pytest.mark.parametrize("ending", [name for name in ENDINGS if name != "flush"])
def test_ending_interrupted_in_the_flush_of_the_sink_flushes_again(ending: str) -> None:
    for number in range(1000):
        strike = Strike(number, {*FILES, __file__})
        sink = FlushingSink()
        writer = StreamWriter(sink, "crc32")
        writer.write_payloads(PAYLOADS)
        writer._drain_buffer()
        try:
            with strike.armed():
                ENDINGS[ending](writer)
        except Stop:
            pass
        writer.close()
        assert writer.closed
        assert sink.arrived() == STREAM
        assert sink.flushed == len(STREAM)
        if strike.struck_at is None:
            return
    raise AssertionError("the ending has no end")


def test_file_whose_closing_fails_is_closed_once(tmp_path: Path) -> None:
    # close(2) gives the descriptor back even if it fails, so a second one would close the file of somebody else.
    class FailingFile(io.FileIO):
        closings = 0

        def close(self) -> None:
            if not self.closed:
                self.closings += 1
                super().close()
                raise device_error(errno.EIO)

    writer = StreamWriter(tmp_path / "stream", "crc32")
    writer.sink.close()
    file = FailingFile(tmp_path / "stream", "wb")
    endpoint = writer._endpoint
    assert endpoint is not None
    writer._endpoint = endpoint._replace(target=file)
    with pytest.raises(OSError, match="Input/output error"):
        writer.close()
    assert writer.closed
    writer.close()
    assert file.closings == 1


@pytest.mark.parametrize("error", [BlockingIOError(errno.EAGAIN, "full"), TimeoutError("slow"), RuntimeError("x")])
def test_sink_whose_flush_fails_is_flushed_by_a_further_close(error: Exception, tmp_path: Path) -> None:
    errors = [error]

    class Sink(io.FileIO):
        def flush(self) -> None:
            if errors:
                raise errors.pop()

    sink = Sink(tmp_path / "stream", "wb")
    writer = StreamWriter(sink, "crc32")
    writer.write_payloads(PAYLOADS)
    with pytest.raises(type(error)):
        writer.close()
    assert not writer.closed
    assert writer.sink is sink
    with pytest.raises(ValueError, match="closed"):
        writer.write_payload(b"after the last one")
    writer.close()
    assert writer.closed
    assert (tmp_path / "stream").read_bytes() == STREAM
    sink.close()


def test_sink_whose_flush_fails_for_good_ends_the_writer() -> None:
    class Sink(PlainSink):
        def flush(self) -> None:
            raise device_error(errno.EIO)

    writer = StreamWriter(Sink())
    with pytest.raises(OSError, match="Input/output error"):
        writer.close()
    assert writer.closed
    writer.close()


def test_writer_whose_sink_was_closed_by_somebody_else_raises_once_and_is_closed(tmp_path: Path) -> None:
    with open(tmp_path / "stream", "wb", buffering=0) as sink:
        writer = StreamWriter(sink)
        writer.write_payload(b"too late")
    with pytest.raises(ValueError, match="closed file"):
        writer.close()
    assert writer.closed
    writer.close()

"""How a writer ends: flush, close, detach, the with-statement, and being collected without being closed."""

from __future__ import annotations

import errno
import gc
import io
import os
import socket
import sys
import warnings
from typing import Any

import pytest
from flatbuffers import Builder

from flatstream import FlatStreamError, StreamWriter
from support.extent import in_one_test
from support.faults import device_error, file_size_limit
from support.sinks import PlainSink, every_sink
from support.streams import encode

# flush, close, detach


class BlockedSink(PlainSink):
    """Raises `error`, if there is one; its `flush` raises `flush_error`."""

    def __init__(self, error: BaseException | None = None, flush_error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error
        self.flush_error = flush_error
        self.flushes = 0

    def write(self, data: Any) -> Any:
        if self.error is not None:
            raise self.error
        return super().write(data)

    def flush(self) -> None:
        self.flushes += 1
        if self.flush_error is not None:
            raise self.flush_error


def blocked_writer(error: BaseException) -> tuple[BlockedSink, StreamWriter]:
    sink = BlockedSink(error)
    writer = StreamWriter(sink)
    writer.write_payload(b"first")
    return sink, writer


def test_flush_hands_over_and_flushes_the_sink():
    sink = BlockedSink()
    writer = StreamWriter(sink)
    writer.write_payload(b"first")
    assert sink.pieces == []
    writer.flush()
    assert (sink.arrived(), sink.flushes, writer.pending_bytes) == (encode(b"first"), 1, 0)
    writer.close()
    assert sink.flushes == 2


def test_flush_of_a_sink_that_cannot_flush_raises_and_goes_on():
    sink = BlockedSink(flush_error=device_error(errno.EIO))
    writer = StreamWriter(sink)
    writer.write_payload(b"first")
    with pytest.raises(OSError) as caught:
        writer.flush()
    assert caught.value is sink.flush_error
    sink.flush_error = None
    writer.write_payload(b"second")
    writer.close()
    assert sink.arrived() == encode(b"first", b"second")


def test_close_of_a_blocked_sink_can_be_tried_again():
    sink, writer = blocked_writer(BlockingIOError(errno.EAGAIN, "full"))
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            writer.close()
        assert not writer.closed
    sink.error = None
    writer.close()
    assert writer.closed
    assert sink.arrived() == encode(b"first")


@pytest.mark.parametrize("error", [device_error(errno.ENOSPC), ValueError("of its own")], ids=repr)
def test_close_of_a_failed_sink_raises_and_is_final(error):
    sink, writer = blocked_writer(error)
    with pytest.raises(type(error)) as caught:
        writer.close()
    assert caught.value is error
    assert writer.closed
    sink.error = None
    writer.close()
    with pytest.raises((ValueError, FlatStreamError)):
        writer.write_payload(b"later")
    assert sink.pieces == []


def test_close_of_a_refusing_writer_raises_once_and_closes_its_file(tmp_path, monkeypatch):
    path = tmp_path / "stream"
    real = os.writev

    def writev(descriptor: int, pieces: list[Any]) -> int:
        # Somebody else makes the file longer inside the frame: what ends there is not ours to cut.
        with file_size_limit(101):
            taken = real(descriptor, pieces)
        os.truncate(path, 3000)
        return taken

    monkeypatch.setattr(os, "writev", writev)
    writer = StreamWriter(path, buffer_size=64)
    file = writer.sink
    writer.write_payload(b"first")
    writer.flush()
    with file_size_limit(3000), pytest.raises(OSError):
        writer.write_payload(b"x" * 200)
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        writer.close()
    assert file.closed
    writer.close()
    assert path.read_bytes() == (encode(b"first") + encode(b"x" * 200))[:101] + bytes(2899)


def test_detach_of_a_blocked_sink_keeps_it():
    sink, writer = blocked_writer(BlockingIOError(errno.EAGAIN, "full"))
    with pytest.raises(BlockingIOError):
        writer.detach()
    assert not writer.closed
    assert writer.sink is sink
    sink.error = None
    assert writer.detach() is sink
    assert sink.arrived() == encode(b"first")


def test_detach_of_a_failed_sink_keeps_it():
    sink, writer = blocked_writer(device_error(errno.ENOSPC))
    with pytest.raises(OSError):
        writer.detach()
    assert writer.sink is sink
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        writer.detach()
    with pytest.raises(FlatStreamError, match="refuses to go on"):
        writer.close()
    assert writer.closed


@in_one_test
@every_sink
def test_detach_gives_the_sink_back_open_with_everything_in_it(sink_kind, tmp_path):
    with sink_kind.open(tmp_path) as target:
        writer = StreamWriter(target.sink)
        writer.write_payload(b"first")
        sink = writer.detach()
        if sink_kind.name == "path":
            assert isinstance(sink, io.FileIO)
        else:
            assert sink is target.sink
        assert writer.closed
        assert writer.sink is None
        (sink.send if isinstance(sink, socket.socket) else sink.write)(b"behind")
        if sink_kind.name == "path":
            sink.close()
        assert target.arrived() == encode(b"first") + b"behind"


@in_one_test
@every_sink
def test_everything_but_closing_again_is_refused_after_the_end(sink_kind, tmp_path):
    builder = Builder(16)
    builder.Finish(builder.CreateString("x"))
    with sink_kind.open(tmp_path) as target:
        writer = StreamWriter(target.sink)
        writer.write_payload(b"first")
        writer.close()
        writer.close()
        uses = [
            lambda: writer.write("x"),
            lambda: writer.write_batch(["x"]),
            lambda: writer.write_payload(b"x"),
            lambda: writer.write_payload(b"x" * 100_000),
            lambda: writer.write_payloads([b"x"]),
            lambda: writer.write_finished(builder),
            lambda: writer.write_message(builder),
            writer.flush,
            writer.detach,
            writer._drain_buffer,
        ]
        for use in uses:
            with pytest.raises(ValueError, match="this StreamWriter is closed"):
                use()
        assert writer.frames_written == 1
        assert writer.sink is None
        assert "closed" in repr(writer)
        assert target.arrived() == encode(b"first")


# The with-statement


def test_with_statement_closes_and_lets_the_error_of_closing_out():
    sink, writer = blocked_writer(device_error(errno.ENOSPC))
    with pytest.raises(OSError) as caught, writer:
        pass
    assert caught.value is sink.error
    assert writer.closed


def test_with_statement_hands_over_what_was_accepted_before_an_error():
    sink = PlainSink()
    writer = StreamWriter(sink)
    writer.write_payload(b"first")
    with pytest.raises(ZeroDivisionError), writer:
        raise ZeroDivisionError
    assert sink.arrived() == encode(b"first")


@pytest.mark.parametrize(
    "second", [device_error(errno.ENOSPC), BlockingIOError(errno.EAGAIN, "full"), ValueError("x")], ids=repr
)
def test_with_statement_shows_the_first_error_and_notes_that_closing_failed(second):
    sink, writer = blocked_writer(second)
    with pytest.raises(ZeroDivisionError) as caught, writer:
        raise ZeroDivisionError
    assert any(
        f"closing the stream writer failed too: {type(second).__name__}: " in note for note in caught.value.__notes__
    )
    # What the sink may take later is kept for a further close().
    assert writer.closed != isinstance(second, BlockingIOError)
    sink.error = None
    writer.close()
    assert sink.arrived() == (encode(b"first") if isinstance(second, BlockingIOError) else b"")


def test_with_statement_over_a_failed_path_closes_the_file(tmp_path):
    writer = StreamWriter(tmp_path / "stream")
    file = writer.sink
    with file_size_limit(10), pytest.raises(OSError) as caught, writer:
        writer.write_payload(b"x" * 100)
    assert caught.value.errno == errno.EFBIG
    assert file.closed
    assert writer.closed


# Collected without being closed


def write_and_forget(target: Any, *, flush: bool = False, cycle: bool = False) -> Any:
    """Writes a payload with a writer that is collected unclosed; gives its sink."""
    writer = StreamWriter(target)
    sink = writer.sink
    writer.write_payload(b"first")
    if flush:
        writer.flush()
    if cycle:
        writer.myself = writer  # type: ignore[attr-defined]
    del writer
    gc.collect()
    return sink


@pytest.mark.parametrize("cycle", [False, True])
def test_collected_writer_hands_over_and_warns(cycle):
    sink = PlainSink()
    with pytest.warns(ResourceWarning, match="unclosed stream writer <StreamWriter to .*PlainSink.*, 1 frames>"):
        write_and_forget(sink, cycle=cycle)
    assert sink.arrived() == encode(b"first")


@in_one_test
@pytest.mark.parametrize("cycle", [False, True])
@pytest.mark.parametrize("flush", [False, True])
def test_collected_writer_of_a_path_warns_and_closes_the_file(tmp_path, flush, cycle):
    path = tmp_path / "stream"
    with pytest.warns(ResourceWarning, match="unclosed stream writer"):
        file = write_and_forget(path, flush=flush, cycle=cycle)
    assert file.closed
    assert path.read_bytes() == encode(b"first")


def test_collected_writer_that_has_handed_over_everything_is_silent():
    sink = PlainSink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_and_forget(sink, flush=True)
    assert sink.arrived() == encode(b"first")


@pytest.mark.parametrize("cycle", [False, True])
def test_collected_writer_hands_over_even_if_warnings_are_errors(monkeypatch, cycle):
    # As with `python -W error`: io's own files flush and close all the same.
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda caught: unraisable.append(type(caught.exc_value)))
    sink = PlainSink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_and_forget(sink, cycle=cycle)
    assert unraisable == [ResourceWarning]
    assert sink.arrived() == encode(b"first")


@pytest.mark.parametrize(
    "error", [device_error(errno.ENOSPC), BlockingIOError(errno.EAGAIN, "full"), ValueError("x")], ids=repr
)
def test_collected_writer_whose_sink_fails_warns(error):
    sink = BlockedSink(error)
    with pytest.warns(ResourceWarning, match="unclosed stream writer"):
        write_and_forget(sink)
    assert sink.pieces == []
    # The error has been raised, and its traceback refers to the writer.
    error.__traceback__ = None


def test_writer_that_was_never_made_is_collected_in_silence(tmp_path):
    with pytest.raises(ValueError, match="buffer_size"):
        StreamWriter(tmp_path / "stream", buffer_size=-1)
    with pytest.raises(TypeError, match="framer"):
        StreamWriter(tmp_path / "stream", 32)  # type: ignore[arg-type]
    writer = StreamWriter.__new__(StreamWriter)
    with pytest.raises(ValueError, match="closed"):
        writer.write_payload(b"x")
    del writer
    gc.collect()

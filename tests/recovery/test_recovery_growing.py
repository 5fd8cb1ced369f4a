"""Recovery of a file that grows while it is looked at: the report is about the bytes that were there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import flatstream
from flatstream import FlatStreamError, InvalidFrameError, RecoveryEnd, recover_file, recovery
from support.extent import in_one_test
from support.modes import Mode, every_mode
from support.streams import corpus

PAYLOADS = tuple(bytes([number + 1]) * (20 + 7 * number) for number in range(12))


@in_one_test
@every_mode
@pytest.mark.parametrize("size", [30, 200_000])
def test_frame_that_becomes_whole_after_the_tear_was_seen_is_torn(
    mode: Mode, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = corpus(mode, [*PAYLOADS, b"\x07" * size, *PAYLOADS])
    path = tmp_path / "events.fs"
    report_tear = recovery._Recovery.report_tear

    def grow_first(*arguments: Any) -> Any:
        path.write_bytes(stream.data)
        return report_tear(*arguments)

    monkeypatch.setattr(recovery._Recovery, "report_tear", grow_first)
    for cut in (stream.starts[12] + 1, stream.starts[12] + 14, stream.ends[12] - 1):
        for as_file in (False, True):
            path.write_bytes(stream.data[:cut])
            if as_file:
                with path.open("rb") as file:
                    report = recover_file(file, mode.deframer())
                    assert file.tell() == stream.starts[12]
            else:
                report = recover_file(path, mode.deframer())
            assert report == (12, stream.starts[12], RecoveryEnd.TORN_TAIL)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_file_that_another_process_writes_all_the_time_is_never_damaged(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    ready, go = os.pipe()
    child = os.fork()
    if not child:
        try:
            with flatstream.open(path, "w", checksum="crc32") as writer:
                os.write(go, b"!")
                for number in range(20_000):
                    writer.write_payload(bytes([number % 256]) * (number % 7000))
        finally:
            os._exit(0)
    os.close(go)
    with open(ready, "rb") as file:
        file.read(1)
    ends = set()
    while not os.waitpid(child, os.WNOHANG)[0]:
        report = recover_file(path, "crc32")
        ends.add(report.end)
        assert report.end is not RecoveryEnd.TORN_TAIL or report.being_written
    report = recover_file(path, "crc32")
    assert report == (20_000, path.stat().st_size, RecoveryEnd.CLEAN_EOF)


def test_error_about_a_path_says_who_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    with flatstream.open(path, "w", checksum="crc32") as writer:
        writer.write_payloads([b"first", b"second", b"third"])
    damaged = bytearray(path.read_bytes())
    damaged[13 + 1] ^= 0x40
    path.write_bytes(damaged)
    with pytest.raises(InvalidFrameError) as caught:
        recover_file(path, "crc32")
    assert not any("a writer" in note for note in getattr(caught.value, "__notes__", ()))
    path.unlink()
    with flatstream.open(path, "w", checksum="crc32"):
        path.write_bytes(damaged)
        with pytest.raises(FlatStreamError) as caught_while:
            recover_file(path, "crc32")
    assert (
        f"a writer has the file open (this process, {os.getpid()}): its last frame may be half written"
        in caught_while.value.__notes__
    )

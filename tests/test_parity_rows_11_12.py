"""Rows 11 and 12 of PARITY.md's table, each test named after its row: recovery, mmap, vectored writes."""

from __future__ import annotations

import io
import mmap
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import reference
from parity_support import address, corpus, flatbuffer_of_event, flip
from support import MODES

from flatstream import (
    ChecksumDeframer,
    ChecksumMismatchError,
    ChecksumType,
    Crc32,
    InvalidFrameError,
    RecoveryEnd,
    StreamReader,
    StreamWriter,
    recover,
    recover_file,
)

# Row 11: recovery. All of it is in test_parity_recovery.py and test_recovery_guard.py.


def test_row_11_only_a_torn_tail_authorises_truncation() -> None:
    stream = corpus(MODES["crc32"])
    whole = len(stream.payloads)
    assert recover(stream.data, ChecksumType.CRC32) == (whole, len(stream.data), RecoveryEnd.CLEAN_EOF)
    assert recover(stream.data[:-1], ChecksumType.CRC32) == (whole - 1, stream.ends[-2], RecoveryEnd.TORN_TAIL)
    with pytest.raises(ChecksumMismatchError):
        recover(flip(stream.data, 8 * len(stream.data) - 1), ChecksumType.CRC32)


def test_row_11_guards_are_there() -> None:
    stream = corpus(MODES["crc32"], [flatbuffer_of_event(number) for number in range(5)])
    # A length bit of the second frame, so that it reaches beyond the end.
    damaged = flip(stream.data, 8 * stream.starts[1] + 20)
    with pytest.raises(InvalidFrameError, match=f"an intact frame begins at stream offset {stream.starts[2]}"):
        recover(damaged, ChecksumType.CRC32)
    assert recover(damaged, ChecksumType.CRC32, guard=False) == (1, stream.starts[1], RecoveryEnd.TORN_TAIL)
    # Zero bytes, as file systems leave them.
    file = io.BytesIO(stream.data + bytes(100))
    deframer = ChecksumDeframer(Crc32(), allow_empty=False)
    assert recover_file(file, deframer) == (5, len(stream.data), RecoveryEnd.TORN_TAIL)
    assert file.tell() == len(stream.data)


# Row 12: of what is planned there, mmap and vectored writes are here from the start


def test_row_12_mapping_is_read_without_a_copy() -> None:
    stream = corpus(MODES["crc32"], [b"abc", b"defg"])
    with mmap.mmap(-1, len(stream.data)) as mapping:
        mapping[:] = stream.data
        base = address(mapping)
        with StreamReader(mapping, ChecksumType.CRC32) as reader:
            assert reader.buffer_capacity == 0
            payloads = list(reader)
            assert [address(payload) - base for payload in payloads] == [8, 19]
            assert payloads == [b"abc", b"defg"]
        del payloads


def test_row_12_payload_larger_than_the_buffer_goes_out_in_one_vectored_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def writev(descriptor: int, pieces: list[Any]) -> int:
        calls.append([len(piece) for piece in pieces])
        addresses.append(address(pieces[-1]))
        return real_writev(descriptor, pieces)

    addresses: list[int] = []
    real_writev = os.writev
    monkeypatch.setattr(os, "writev", writev)
    payload = bytes(range(256)) * 400
    path = tmp_path / "stream.fs"
    with StreamWriter(path, ChecksumType.XXHASH64, buffer_size=4096) as writer:
        writer.write_payload(b"small")
        writer.write_payload(payload)
    assert calls == [[12, len(payload)]]
    assert addresses == [address(payload)]
    assert path.read_bytes() == reference.encode([b"small", payload], "xxhash64")


def test_row_12_vectored_write_that_is_short_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = bytes(range(256)) * 4
    real_write = os.write
    # As a system call may: the header in part, then the rest of it with a part of the payload.
    limits = iter([5, 100])

    def writev(descriptor: int, pieces: list[Any]) -> int:
        return real_write(descriptor, b"".join(pieces)[: next(limits)])

    monkeypatch.setattr(os, "writev", writev)
    path = tmp_path / "stream.fs"
    with StreamWriter(path, ChecksumType.CRC64, buffer_size=16) as writer:
        writer.write_payload(payload)
    assert path.read_bytes() == reference.encode([payload], "crc64")
    assert list(limits) == []


def test_row_12_payload_larger_than_the_buffer_goes_to_a_socket_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def sendmsg(sink: socket.socket, pieces: list[Any]) -> int:
        calls.append([len(piece) for piece in pieces])
        return real_sendmsg(sink, pieces)

    real_sendmsg = socket.socket.sendmsg
    monkeypatch.setattr(socket.socket, "sendmsg", sendmsg)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with StreamWriter(ours, buffer_size=16) as writer:
            writer.write_payload(b"x" * 1000)
        assert calls == [[4, 1000]]
        assert theirs.recv(4096) == reference.encode([b"x" * 1000], "none")

"""Streams at URLs, through fsspec: in its own memory, and from a server on this computer."""

from __future__ import annotations

import gzip
import http.server
import itertools
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import flatstream
from flatstream import StreamReader, StreamWriter, detect, recover, recover_file, salvage
from flatstream._remote import RemoteFile, is_url
from reference import framing as reference
from support.errors import raised_by
from support.processes import run_python

PAYLOADS = [bytes([number % 250]) * (number * 37 % 900 + 1) for number in range(300)]
STREAM = reference.encode(PAYLOADS, "xxhash64")
NUMBERS = itertools.count()


def url_of(data: bytes) -> str:
    """A URL in fsspec's memory, each time another one."""
    url = f"memory://folder/{next(NUMBERS)}.fs"
    with fsspec.open(url, "wb") as file:
        file.write(data)
    return url


def test_url_is_read_like_a_path() -> None:
    url = url_of(STREAM)
    with flatstream.open(url) as reader:
        assert (reader.checksum, reader.checksum_found_by) == ("xxhash64", "detection")
        assert [bytes(payload) for payload in reader] == PAYLOADS
    several: list[dict[str, Any]] = [{}, {"capacity": 11}, {"on_error": "resync"}]
    for options in several:
        with StreamReader(url, "xxhash64", **options) as reader:
            assert [bytes(payload) for payload in reader] == PAYLOADS
            assert url in repr(reader.source.name)
    assert detect(url) == (flatstream.ChecksumType.XXHASH64, 300, 1.0, None)
    for report in (recover(url, "xxhash64"), recover_file(url, "xxhash64")):
        assert report == (300, len(STREAM), flatstream.RecoveryEnd.CLEAN_EOF)
    with flatstream.open(url_of(gzip.compress(STREAM))) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS
    with flatstream.open(url_of(b"")) as reader:
        assert (reader.checksum_found_by, list(reader)) == ("empty file", [])
    damaged = bytearray(STREAM)
    damaged[len(STREAM) // 2] ^= 1
    with flatstream.open(url_of(bytes(damaged)), on_error="resync") as reader:
        assert len(list(reader)) == 299


def test_url_of_a_local_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "events.fs"
    path.write_bytes(STREAM)
    with flatstream.open(path.as_uri()) as reader:
        assert [bytes(payload) for payload in reader] == PAYLOADS


def test_what_is_a_url() -> None:
    for url in ("s3://bucket/key", "https://host/a.fs", "memory://x", "zip+x://a", "simplecache::s3://b/c"):
        assert is_url(url) == ("::" not in url)
    for path in ("events.fs", "c://windows", "/a://b", "://x", Path("s3://bucket/key"), b"s3://bucket", None, ""):
        assert not is_url(path)


def test_urls_are_not_written() -> None:
    url = "memory://folder/new.fs"
    for mode in ("w", "x", "a"):
        several: list[dict[str, Any]] = [{}, {"checksum": "crc32"}, *([{"recover": True}] if mode == "a" else [])]
        for options in several:
            with pytest.raises(ValueError, match=r"a URL can only be read, not written: got 'memory://folder/new\.fs'"):
                flatstream.open(url, mode, **options)
    with pytest.raises(ValueError, match="a URL can only be read"):
        StreamWriter(url)
    with pytest.raises(ValueError, match="follow=True needs a file of this computer, got 'memory://"):
        flatstream.open(url_of(STREAM), follow=True, checksum="xxhash64")
    with pytest.raises(ValueError, match="only files of this computer can be salvaged"):
        salvage(url_of(STREAM), "out.fs", "xxhash64")
    assert not Path("memory:").exists()


def test_errors_name_the_url() -> None:
    missing = "memory://folder/missing.fs"
    error = raised_by(lambda: flatstream.open(missing))
    assert type(error) is FileNotFoundError
    assert missing in str(error)
    with pytest.raises(ValueError, match="nosuch://host/x: Protocol not known: nosuch"):
        flatstream.open("nosuch://host/x")
    url = url_of(b"root:x:0:0:root:/root:/bin/sh\n" * 9)
    with pytest.raises(flatstream.InvalidFrameError, match=f"'{url}' looks like text, and not like a stream"):
        flatstream.open(url)
    # A port at which nobody listens.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/x.fs"
        assert str(raised_by(lambda: flatstream.open(url))).startswith(f"{url}: ")
    # A package that fsspec needs for this kind of URL, and fsspec itself.
    code = (
        "import sys, flatstream\n"
        "sys.modules['{}'] = None\n"
        "try: flatstream.open('{}')\n"
        "except ImportError as error: print(error)"
    )
    assert "pip install 'flatstream[remote]'" in run_python(code.format("fsspec", missing)).stdout
    assert run_python(code.format("paramiko", "sftp://host/x")).stdout.startswith("sftp://host/x: ")


class FailingFile:
    """A file of a library with errors of its own, which also ends too early."""

    size = 100

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.position = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def read(self, size: int) -> bytes:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.position += len(answer)
        return answer

    def close(self) -> None:
        pass


class LibraryError(Exception):
    """Not an OSError."""


class LibraryTimeoutError(LibraryError, TimeoutError):
    """One of Python's, too."""


def test_errors_while_reading_are_of_pythons_classes_and_name_the_url() -> None:
    url = "s3://bucket/events.fs"
    for raised, kind, text in (
        (LibraryError("no route"), OSError, f"{url}: no route"),
        (LibraryError(), OSError, f"{url}: LibraryError"),
        (LibraryTimeoutError("slow"), TimeoutError, f"{url}: slow"),
        (FileNotFoundError(2, "gone", "key"), FileNotFoundError, f"[Errno 2] gone: '{url}'"),
        (PermissionError(f"denied: {url}"), PermissionError, f"denied: {url}"),
        (b"", OSError, f"{url}: nothing was received from byte 5 on, of 100 bytes"),
    ):
        with RemoteFile(FailingFile(b"12345", raised), url) as file:
            assert file.read(9) == b"12345"
            error = raised_by(lambda source=file: source.read(9))
            assert (type(error), str(error)) == (kind, text)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `files`, in parts if `parts` is true."""

    files: dict[str, bytes]
    parts = True
    served = 0

    def do_GET(self) -> None:
        self.answer(True)

    def do_HEAD(self) -> None:
        self.answer(False)

    def answer(self, has_body: bool) -> None:
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        begin, end = 0, len(data)
        if self.parts and asked:
            first, last = asked.removeprefix("bytes=").split("-")
            begin, end = int(first), min(len(data), int(last or len(data)) + 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        if self.parts:
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if has_body:
            type(self).served += end - begin
            self.wfile.write(data[begin:end])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    pytest.importorskip("aiohttp")

    class Own(Handler):
        files: dict[str, bytes] = {}  # noqa: RUF012

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", Own
        finally:
            running.shutdown()
            thread.join()


@pytest.mark.parametrize("parts", [True, False])
def test_stream_is_read_from_a_server(server: tuple[str, type[Handler]], parts: bool) -> None:
    address, handler = server
    handler.parts = parts
    handler.files |= {"/events.fs": STREAM, "/events.fs.gz": gzip.compress(STREAM)}
    for name in handler.files:
        with flatstream.open(address + name) as reader:
            assert (reader.checksum, reader.checksum_found_by) == ("xxhash64", "detection")
            assert [bytes(payload) for payload in reader] == PAYLOADS
    if parts:
        # No byte is fetched twice, although the stream is looked at before it is read.
        assert handler.served == sum(map(len, handler.files.values()))
    error = raised_by(lambda: flatstream.open(address + "/missing.fs"))
    assert type(error) is FileNotFoundError
    assert f"{address}/missing.fs" in str(error)

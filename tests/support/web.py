"""An HTTP server on this computer, which counts what it is asked for and what it sends."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Literal

__all__ = ["Web", "serve"]


class Web:
    """What a server has, and how it answers.

    Attributes
    ----------
    files : dict of str to bytes
        By their paths.
    tags : dict of str to str
        The ETag of a file, if it is to have one.
    parts : {"yes", "no", "refused"}
        Whether it answers requests for parts of files; "no" answers them with the whole file, as
        ``python -m http.server`` does, and "refused" says so beforehand.
    tells_size : bool
        Whether answers say how long they are.
    cut : int or None
        After so many bytes of an answer, the connection is closed.
    requests : list of (str, str, str or None)
        The method, the path, and which part was asked for.
    """

    def __init__(self) -> None:
        self.address = ""
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.parts: Literal["yes", "no", "refused"] = "yes"
        self.tells_size = True
        self.cut: int | None = None
        self.requests: list[tuple[str, str, str | None]] = []

    def url(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.address}/{name}"


@contextlib.contextmanager
def serve() -> Iterator[Web]:
    """A server, until the end of the block."""
    web = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(has_body=True)

        def do_HEAD(self) -> None:
            self.answer(has_body=False)

        def answer(self, *, has_body: bool) -> None:
            asked = self.headers.get("Range")
            web.requests.append((self.command, self.path.lstrip("/"), asked))
            data = web.files.get(self.path.lstrip("/"))
            if data is None:
                self.send_error(404)
                return
            begin, end = 0, len(data)
            if web.parts == "yes" and asked and has_body:
                first, last = asked.removeprefix("bytes=").split("-")
                begin, end = int(first), min(len(data), int(last or len(data)) + 1)
                if begin >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
            else:
                self.send_response(200)
            if web.parts != "no":
                self.send_header("Accept-Ranges", "bytes" if web.parts == "yes" else "none")
            if web.tells_size:
                self.send_header("Content-Length", str(end - begin))
            if (tag := web.tags.get(self.path.lstrip("/"))) is not None:
                self.send_header("ETag", tag)
            self.end_headers()
            if has_body:
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(data[begin : end if web.cut is None else min(end, begin + web.cut)])

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        web.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield web
        finally:
            running.shutdown()
            thread.join()

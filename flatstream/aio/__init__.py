"""Streams in an event loop of asyncio: connections, servers, pipes, files. See docs/async.md."""

from flatstream.aio.connection import Connection, connect
from flatstream.aio.files import AsyncFileReader, AsyncFileWriter, open_pipe
from flatstream.aio.files import open as open
from flatstream.aio.reader import AsyncStreamReader
from flatstream.aio.server import Server, serve
from flatstream.aio.writer import AsyncRecordWriter, AsyncStreamWriter

# Without `open`, so that a star leaves the built-in function alone.
__all__ = [
    "AsyncFileReader",
    "AsyncFileWriter",
    "AsyncRecordWriter",
    "AsyncStreamReader",
    "AsyncStreamWriter",
    "Connection",
    "Server",
    "connect",
    "open_pipe",
    "serve",
]

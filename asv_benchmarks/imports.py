"""The time to import the package, beside asyncio (M3). Each sample is a separate process."""

from __future__ import annotations

from .common import Benchmark


class Import(Benchmark):
    """The import statement alone, without the start of the interpreter."""

    warmup_time = 0
    repeat = (5, 10, 10.0)

    def timeraw_flatstream(self) -> str:
        return "import flatstream"

    def timeraw_asyncio(self) -> str:
        """The yardstick."""
        return "import asyncio"

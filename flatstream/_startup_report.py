"""StartupReport: what `flatstream.open` with ``recover=True`` found and did."""

from __future__ import annotations

from typing import Literal, NamedTuple

from flatstream.errors import FlatStreamError

__all__ = ["StartupReport"]


class StartupReport(NamedTuple):
    """What `flatstream.open` with ``recover=True`` did to the file before the writer began.

    Attributes
    ----------
    action : {"nothing", "created", "cut", "moved"}
        The file was intact or empty; it did not exist; a torn tail was cut off; the file was damaged or no stream, and
        was moved aside, so that the writer begins with an empty one.
    frames : int
        How many intact frames the file has now.
    offset : int
        The size of the file now, in bytes, which is where the next frame goes.
    bytes_cut : int
        How many bytes were cut off.
    saved_as : str or None
        The path of the file with the bytes that were cut off, or of the file that was moved. None if nothing but zero
        bytes was cut off.
    error : FlatStreamError or None
        The damage, if the file was moved because of it.
    looks_like : str or None
        What a file that was moved seems to be, if it is no stream.
    """

    action: Literal["nothing", "created", "cut", "moved"]
    frames: int
    offset: int
    bytes_cut: int = 0
    saved_as: str | None = None
    error: FlatStreamError | None = None
    looks_like: str | None = None

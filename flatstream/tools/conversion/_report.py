"""The result of a conversion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ConvertReport"]


@dataclass(frozen=True)
class ConvertReport:
    """What `convert` did with one source.

    Attributes
    ----------
    source, out : str or None
        The path that was read, "-" for standard input; and the new file, None if it was a file object.
    from_format, to_format : str
        The formats, as "fs" or "parquet".
    messages : int
        How many messages, or rows, the new file has.
    size : int or None
        The size of the new file in bytes; None for a file object.
    checksum : str or None
        The checksum of the new stream; None for other formats.
    others : int
        How many messages of other tables were left out, because one table was asked for.
    omitted : tuple of str
        The fields that the format cannot carry and that were left out, with ``on_unsupported="omit"``.
    skipped, lost_bytes : int
        How many damaged messages and bytes of the source were left out, if `on_error` is not "raise".
    stop_error : str or None
        The damage at which ``on_error="stop"`` ended.
    """

    source: str
    out: str | None
    from_format: str
    to_format: str
    messages: int
    size: int | None
    checksum: str | None = None
    others: int = 0
    omitted: tuple[str, ...] = ()
    skipped: int = 0
    lost_bytes: int = 0
    stop_error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The attributes as a dict of values that JSON has."""
        return asdict(self) | {"omitted": list(self.omitted)}

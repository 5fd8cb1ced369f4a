"""The result of an export to Parquet."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

__all__ = ["Lost", "ParquetReport"]


class Lost(NamedTuple):
    """Frames of a journal that retention removed before they were exported.

    Attributes
    ----------
    journal : str
        The folder.
    begin, end : int
        The numbers of the first one, and of the one behind the last one.
    """

    journal: str
    begin: int
    end: int


@dataclass
class ParquetReport:
    """What one run of `Dataset.to_parquet` did.

    Attributes
    ----------
    directory : str
        The folder.
    files : list of str
        The paths of the new files in it, as ``date=2026-11-29/hour=13/export-0a1b2c3d-00000007.parquet``.
    rows, size : int
        How many rows they have, and how many bytes.
    sources : int
        How many files, and segments of journals, were read.
    finished : int
        How many files got their names that an earlier run had completed, which was killed before it named them.
    held_back : list of str
        The files, and segments, whose rows of the hour or day that is not over yet are left for the next run.
    removed : list of str
        Files that were removed between the listing and the reading of the dataset.
    lost : list of Lost
        What retention removed too early.
    replaced : list of str
        Files that are others now than those that were exported under their paths. They were exported from their
        beginning; what the old ones got after the last run is not known.
    changed : list of str
        Files whose bytes before the place where the last run ended are others now. They were left out.
    skipped, lost_bytes : int
        How many damaged messages and bytes were left out, if `on_error` is not "raise".
    stopped : list of (str, str)
        The files that ``on_error="stop"`` left at their first damage, and the damage.
    """

    directory: str
    files: list[str] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    sources: int = 0
    finished: int = 0
    held_back: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    skipped: int = 0
    lost_bytes: int = 0
    stopped: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The attributes as a dict of values that JSON has."""
        return asdict(self) | {"lost": [one._asdict() for one in self.lost]}

"""What a JournalWriter does by itself: when it syncs, when it begins a new segment, and which segments it removes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from flatstream._core.base.checks import index_argument
from flatstream._sealing import DEFAULT_LEVEL, check_level

__all__ = ["CompressionPolicy", "RetentionPolicy", "RotationPolicy", "SyncPolicy"]


def _check(policy: SyncPolicy | RotationPolicy | RetentionPolicy | CompressionPolicy) -> None:
    """Raises TypeError or ValueError for a limit that is no positive number, and makes integers of integers."""
    for one in fields(policy):
        value = getattr(policy, one.name)
        label = f"{type(policy).__name__}.{one.name}"
        if value is None:
            continue
        if one.name == "level":
            object.__setattr__(policy, one.name, check_level(value, label))
            continue
        if one.name in ("max_seconds", "seconds", "after_seconds"):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{label} must be a number of seconds or None, got {value!r:.100}")
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{label} must be a finite number of seconds greater than 0, got {value!r}")
            continue
        number = index_argument(label, value)
        least = 0 if one.name == "after_segments" else 1
        if number < least:
            raise ValueError(f"{label} must be at least {least}, got {number}")
        object.__setattr__(policy, one.name, number)


@dataclass(frozen=True)
class SyncPolicy:
    """When a JournalWriter syncs by itself.

    Parameters
    ----------
    frames : int, optional
        At most so many frames are written before the disk has them. The write that would exceed it waits for the disk.
    seconds : float, optional
        A thread syncs after so many seconds if anything was written. No write waits for it.

    Raises
    ------
    TypeError, ValueError
        A limit is no number, or not greater than 0.
    """

    frames: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class RotationPolicy:
    """When a JournalWriter begins a new segment. The first limit that is reached decides.

    Parameters
    ----------
    max_bytes : int, optional
        The size of a segment. Only a frame that is larger makes a larger segment.
    max_seconds : float, optional
        How old a segment with frames becomes. The time while the journal is not open counts, by the system's clock.
    max_frames : int, optional
        How many frames a segment has.

    Raises
    ------
    TypeError, ValueError
        A limit is no number, or not greater than 0.
    """

    max_bytes: int | None = 256 << 20
    max_seconds: float | None = None
    max_frames: int | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class RetentionPolicy:
    """Which segments a JournalWriter removes, oldest first, whenever it has begun a new one, and when it is opened.

    The segment in use is never removed, nor one that a registered reader (`JournalReader` with a name) still needs.

    Parameters
    ----------
    max_segments : int, optional
        How many segments there are, the one in use included.
    max_seconds : float, optional
        How long ago the last frame of a segment was written, by the system's clock: if that is set far forward, all
        segments but the one in use are removed, as far as no registered reader needs them.
    max_bytes : int, optional
        The size of all segments together: the bytes of their files, so those of compressed segments as they are stored.
    max_reader_bytes : int, optional
        The limit on what readers can keep: a segment that a reader still needs is removed all the same while all
        segments together have more bytes than this. By default a reader that is never read again keeps all.

    Raises
    ------
    TypeError, ValueError
        A limit is no number, or not greater than 0.
    """

    max_segments: int | None = None
    max_seconds: float | None = None
    max_bytes: int | None = None
    max_reader_bytes: int | None = None

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class CompressionPolicy:
    """Which segments a JournalWriter compresses: those that are sealed, oldest first. See docs/sealed-files.md.

    Parameters
    ----------
    level : int
        That of Zstandard: higher ones compress better and slower.
    after_segments : int
        How many of the newest sealed segments stay as they are.
    after_seconds : float, optional
        How long ago the last frame of a segment was written, by the system's clock: if that is set far forward, all
        segments but the one in use are removed, as far as no registered reader needs them.

    Raises
    ------
    TypeError, ValueError
        A limit is no number, or too small; Zstandard has no such level.
    ImportError
        There is no package for Zstandard.
    """

    level: int = DEFAULT_LEVEL
    after_segments: int = 0
    after_seconds: float | None = None

    def __post_init__(self) -> None:
        _check(self)

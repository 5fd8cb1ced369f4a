"""`sample`: some of the messages of a stream, as a stream."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flatstream._core.base.checks import int_argument
from flatstream.checksums import Checksum, ChecksumType
from flatstream.tools._outputs import NewStream, has_same_frames
from flatstream.tools._progress import Progress
from flatstream.tools._sources import (
    SourceReport,
    check_single,
    common_checksum,
    common_description,
    common_transforms,
    open_sources,
)

if TYPE_CHECKING:
    from flatstream.reader import _OnError

__all__ = ["SampleReport", "sample"]

# No stream has so many messages.
BEYOND = 2**62


@dataclass(frozen=True)
class SampleReport:
    """The result of `sample`.

    Attributes
    ----------
    path : str
        The new file.
    frames, size : int
        How many messages it has, and its size in bytes.
    source : SourceReport
        What was read.
    """

    path: str
    frames: int
    size: int
    source: SourceReport

    @property
    def lost_bytes(self) -> int:
        """How many bytes of the source could not be read because of damage."""
        return self.source.lost_bytes

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"path": self.path, "frames": self.frames, "size": self.size, "source": self.source.to_dict()}


def sample(
    source: Any,
    out: str | os.PathLike[str],
    *,
    every: int | None = None,
    fraction: float | None = None,
    seed: int | None = None,
    checksum: Checksum | ChecksumType | str | None = None,
    to_checksum: Checksum | ChecksumType | str | None = None,
    on_error: _OnError = "raise",
    progress: Callable[[int, int], object] | None = None,
) -> SampleReport:
    """Writes every n-th message of a stream to a new one, or each with a given probability.

    Parameters
    ----------
    source : path, Input or StreamReader
        The stream; a folder is a journal. A StreamReader is read from where it is, and stays open.
    out : path
        The new file, compressed if its name ends so, as ``.fs.gz``. It must not exist. Until it is complete, it is
        called ``<out>.partial-<number of the process>``.
    every : int, optional
        The first message, and each `every`-th behind it.
    fraction : float, optional
        Instead of `every`: the probability of each message, from 0 to 1, independent of the others.
    seed : int, optional
        With `fraction`: the same seed takes the same messages again, with the same version of Python.
    checksum, to_checksum, on_error, progress
        See `merge`.

    Returns
    -------
    SampleReport

    Raises
    ------
    FileExistsError
        `out` exists.
    TypeError, ValueError
        An argument is wrong; both or none of `every` and `fraction` are given.
    OSError, FlatStreamError
        The source or the new file failed; the source is damaged. There is no new file then.

    Examples
    --------
    >>> import tempfile, os, flatstream
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path, out = os.path.join(folder, "all.fs"), os.path.join(folder, "some.fs")
    ...     with flatstream.open(path, "w", checksum="crc32") as writer:
    ...         writer.write_payloads([bytes([number]) for number in range(10)])
    ...     report = sample(path, out, every=4)
    ...     with flatstream.open(out, checksum="crc32") as reader:
    ...         [payload[0] for payload in reader]
    [0, 4, 8]
    >>> report.frames, report.source.frames
    (3, 10)
    """
    chosen = _chosen(every, fraction, seed)
    with open_sources([source], checksum, on_error) as opened:
        check_single(opened)
        algorithm = common_checksum(opened, to_checksum)
        description = common_description(opened, algorithm, None)
        same = has_same_frames(opened[0], algorithm)
        told = Progress(opened, progress)
        with NewStream(os.fspath(out), algorithm, description, common_transforms(opened)) as new:
            wanted = next(chosen)
            first = 0
            for batch in opened[0].reader.batches():
                behind = first + len(batch)
                if every == 1:
                    new.write(batch, 0, len(batch), as_they_are=same)
                else:
                    payloads = []
                    while wanted < behind:
                        payloads.append(batch[wanted - first])
                        wanted = next(chosen)
                    new.writer.write_payloads(payloads)
                first = behind
                told.tell()
            told.finish()
            new.finish()
        return SampleReport(new.path, new.frames, new.size, opened[0].report())


def _chosen(every: int | None, fraction: float | None, seed: int | None) -> Iterator[int]:
    """The numbers of the messages to take, ascending, and beyond the end of any stream."""
    if (every is None) == (fraction is None):
        raise ValueError("expected either every or fraction, got " + ("none" if every is None else "both"))
    if every is not None:
        if seed is not None:
            raise ValueError("a seed is for a fraction, got every")
        return _multiples(int_argument("every", every, 1, BEYOND))
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)):
        raise TypeError(f"fraction must be a number, got {fraction!r:.100}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be from 0 to 1, got {fraction!r}")
    if seed is not None and not isinstance(seed, int):
        raise TypeError(f"seed must be an int, got {seed!r:.100}")
    return _at_random(float(fraction), random.Random(seed))


def _multiples(step: int) -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += step


def _at_random(fraction: float, source: random.Random) -> Iterator[int]:
    """The gaps between the chosen ones have a geometric distribution: one random number for each chosen message."""
    if fraction == 1:
        yield from _multiples(1)
    number = -1
    while fraction > 0:
        # Not log(0): random() is never 1.
        gap = math.log(1 - source.random()) / math.log1p(-fraction)
        if gap >= BEYOND:
            break
        number += 1 + math.floor(gap)
        yield number
    while True:
        yield BEYOND

"""MirrorWriter: writes the frames of another journal, under the numbers that they have there."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from flatstream._core.base.checks import index_argument
from flatstream._files import sync_folder
from flatstream.checksums import Checksum, ChecksumType, as_checksum
from flatstream.errors import FlatStreamError
from flatstream.journal._layout import IDENTITY, MANIFEST, Manifest, list_segments, read_manifest, write_manifest
from flatstream.journal._parts import UNKNOWN
from flatstream.journal._recovery import SegmentReport
from flatstream.journal.cursor import LIMIT
from flatstream.journal.writer import JournalWriter

__all__ = ["MirrorWriter"]


class MirrorWriter(JournalWriter):
    """Writes the frames of another journal, its source, under the numbers that they have there.

    The mirror is a journal with the identity of its source. So a cursor of the one is a cursor of the other, and its
    `position` is all that must be known to go on: the number of the first frame that it does not have. After a crash it
    is that of the first frame that the disk did not keep, also if a registered reader has read further: the frame that
    is written next is the same one.

    Parameters
    ----------
    directory : str or os.PathLike
        The folder of the mirror. It is created if it does not exist; its parent must exist.
    journal : str
        The identity of the source: `JournalReader.id` and `JournalWriter.id`.
    checksum : Checksum, ChecksumType or its name
        That of the source.
    accepts_damage : bool
        What happens if the last segment is damaged when the mirror is opened. Then the number behind its last frame is
        known only roughly. False: FlatStreamError. True: the mirror goes on at the largest number that is possible, and
        the frames below it that the mirror does not have are a gap, even if the source still has them.
    **options
        As for `JournalWriter`.

    Raises
    ------
    ValueError
        The folder has another journal; `journal` is no identity.
    FlatStreamError
        The last segment is damaged (`accepts_damage`).
    Others
        As `JournalWriter`.

    Examples
    --------
    >>> import os, tempfile
    >>> from flatstream.journal import JournalReader, JournalWriter
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     source, copy = os.path.join(parent, "source"), os.path.join(parent, "copy")
    ...     with JournalWriter(source) as journal:
    ...         journal.write_payloads([b"0", b"1", b"2"])
    ...     with JournalReader(source, start=1) as reader, MirrorWriter(copy, reader.id) as mirror:
    ...         mirror.skip_to(reader.position)
    ...         mirror.write_payloads(reader)
    ...     with JournalReader(copy) as reader:
    ...         print(bytes(reader.read_message()), reader.number)
    b'1' 1
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        journal: str,
        checksum: Checksum | ChecksumType | str | None = "xxhash64",
        *,
        accepts_damage: bool = False,
        **options: Any,
    ) -> None:
        if not isinstance(journal, str):
            raise TypeError(f"journal must be the identity of a journal, a str, got {journal!r:.100}")
        if not IDENTITY.fullmatch(journal) or journal == UNKNOWN:
            raise ValueError(
                f"journal must be an identity of 32 hexadecimal digits, not all zeros, got {journal!r:.100}"
            )
        if not isinstance(accepts_damage, bool):
            raise TypeError(f"accepts_damage must be a bool, got {accepts_damage!r:.100}")
        if not isinstance(directory, (str, os.PathLike)):
            raise TypeError(f"directory must be a str or os.PathLike, got {directory!r:.100}")
        self._accepts_damage = accepts_damage
        _prepare(os.path.abspath(os.fspath(directory)), journal, as_checksum(checksum))
        super().__init__(directory, checksum, **options)
        if self.id != journal:
            self.close()
            raise ValueError(f"{self.directory} has the journal {self.id}, and is to be a mirror of {journal}")

    def _number_behind(self, last: SegmentReport | None) -> int:
        if last is None:
            return 0
        if last.action == "damaged" and not self._accepts_damage:
            raise FlatStreamError(
                f"{last.path} is damaged, so it is not known which frame the mirror goes on with (at most frame "
                f"{last.next}): repair it with 'python -m flatstream.journal salvage --all', or pass "
                "accepts_damage=True, and the frames that are not known count as lost"
            )
        return last.next

    def skip_to(self, number: int) -> None:
        """Leaves numbers free: the next frame is `number`, and a new segment begins with it. Readers tell a gap.

        For frames that the source does not have. If `number` is not above `position`, nothing happens.

        Raises
        ------
        OSError
            The buffer cannot be handed over, or the segment cannot be made. Nothing was skipped.
        TypeError, ValueError
            `number` is no int, or too large or negative.
        """
        number = index_argument("number", number)
        if not 0 <= number < LIMIT:
            raise ValueError(f"number must be at least 0 and below 2**63, got {number}")
        if number <= self.position:
            return
        self._drain_buffer()

        def skip() -> None:
            self._check_open()
            segments = self._segments
            segments.skip_to(number)
            self._base = segments.number - self.frames_written

        self._call_exclusively(skip)
        self._segments.write_log()


def _prepare(directory: str, journal: str, checksum: Checksum) -> None:
    """Gives an empty folder the identity of the journal that it is to mirror."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory)
        sync_folder(directory)
    if read_manifest(directory) is None and not list_segments(directory):
        kind = next((kind.value for kind in ChecksumType if type(kind.checksum()) is type(checksum)), None)
        try:
            write_manifest(directory, Manifest(journal, kind))
        except OSError:
            # Another process that opens the same mirror may write it now.
            if not os.path.exists(os.path.join(directory, MANIFEST)):
                raise

"""Zeros and random bytes behind a cut of a closed journal, as file systems leave them after a power cut."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flatstream.journal import JournalWriter, RotationPolicy
from support.journal_frames import payload_of, read_journal
from support.journal_scenarios import segments_in

FRAMES = 30

# The length, and the checksum.
HEADERS = {"none": 4, "crc16": 6, "crc32": 8, "crc32c": 8, "crc64": 12, "xxhash64": 12}


class CutJournal:
    """A closed journal of three segments, whose last one is cut and gets a tail, again and again.

    Parameters
    ----------
    directory : Path
        The folder, which does not exist.
    checksum : str
        That of the journal.
    """

    def __init__(self, directory: Path, checksum: str, seed: int) -> None:
        self.directory = directory
        self.checksum = checksum
        self.seed = seed
        with JournalWriter(directory, checksum, rotate=RotationPolicy(max_frames=10)) as writer:
            for number in range(FRAMES):
                writer.write_payload(payload_of(seed, 0, 0, number, number % 7 * 10 + 3))
        *self.full, self.last = segments_in(directory)
        self.content = self.last.read_bytes()
        self.manifest = (directory / "journal.json").read_bytes()
        self.ends: list[int] = []
        header = HEADERS[checksum]
        # Behind the description.
        end = header + int.from_bytes(self.content[:4], "little")
        assert self.content[header + 4 : header + 8] == b"FSD1"
        for number in range(int(self.last.stem), FRAMES):
            end += header + len(payload_of(seed, 0, 0, number, number % 7 * 10 + 3))
            self.ends.append(end)
        assert end == len(self.content)

    def restore(self, cut: int, tail: bytes) -> int:
        """Makes the journal anew, with its last segment cut and the tail behind it. Returns how many frames it has."""
        for path in self.directory.iterdir():
            if path.is_file() and path not in self.full:
                path.unlink()
        (self.directory / "journal.json").write_bytes(self.manifest)
        self.last.write_bytes(self.content[:cut] + tail)
        return int(self.last.stem) + sum(end <= cut for end in self.ends)

    def problems_with(self, cut: int, tail: bytes, *, reopens: bool) -> Iterable[str]:
        """What is wrong when the cut journal is read, and after a writer has recovered it and written on."""
        whole = self.restore(cut, tail)
        what = f"{self.checksum}, cut at {cut}, {len(tail)} bytes behind it, {tail[:8].hex()}..."
        # Bytes of the tail can complete the frame that was cut: the same bytes were there.
        completed = self._completed(cut, tail)
        expected = [(number, (0, 0, number)) for number in range(whole + completed)]
        reading = read_journal(self.directory, self.seed)
        yield from (f"{what}: {text}" for text in reading.problems)
        if reading.frames != expected:
            yield f"{what}: {len(reading.frames)} frames were read, expected {len(expected)}"
        if not reopens:
            return
        with JournalWriter(self.directory, self.checksum, rotate=RotationPolicy(max_frames=10)) as writer:
            first = writer.position
            if first < len(expected):
                yield f"{what}: the next writer begins at {first}, although there are {len(expected)} frames"
            for number in range(first, first + 12):
                writer.write_payload(payload_of(self.seed, 1, 0, number, 20))
        reading = read_journal(self.directory, self.seed)
        yield from (f"{what}, reopened: {text}" for text in reading.problems)
        expected += [(number, (1, 0, number)) for number in range(first, first + 12)]
        if reading.frames != expected:
            yield f"{what}, reopened: read {reading.frames}, expected {expected}"
        for path in segments_in(self.directory):
            if path not in self.full and path != self.last:
                path.unlink()

    def _completed(self, cut: int, tail: bytes) -> int:
        """How many of the frames behind the cut the tail happens to restore."""
        end = cut
        for one, two in zip(self.content[cut:], tail, strict=False):
            if one != two:
                break
            end += 1
        return sum(cut < each <= end for each in self.ends)

"""Tails that a file system can leave behind a cut: 1 to 8192 zero or random bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fault_counts import Count
from support.journal_faults import share_of
from support.journal_tails import CutJournal

pytestmark = pytest.mark.faults

LONGEST = 8192

# How many of the journals are also opened by a writer, which takes longer.
REOPENED = 8


def problems_of(
    journal: CutJournal, seed: int, make_tail: Callable[[random.Random, int], bytes]
) -> tuple[int, list[str]]:
    """Tries tails of all lengths behind cuts at any place. Returns how many, and what is wrong."""
    random_ = random.Random(seed)
    problems: list[str] = []
    lengths = range(1, LONGEST + 1)[:: max(1, LONGEST // share_of(LONGEST))]
    for length in lengths:
        cut = random_.randrange(len(journal.content) + 1)
        problems += journal.problems_with(cut, make_tail(random_, length), reopens=length % REOPENED == 1)
    return len(lengths), problems


# Without a checksum, zeros that fill up a frame cannot be told from its payload (docs/recovery.md).
# A reader gives a frame of zeros if the zeros begin behind the first bytes of a header, because the CRC-16 of zeros is
# 0; a writer cuts it off.
CRC16 = pytest.param("crc16", marks=pytest.mark.xfail(strict=True, reason="the CRC-16 of zeros is 0"))


@pytest.mark.parametrize("checksum", [CRC16, "crc32", "crc32c", "crc64", "xxhash64"])
def test_zeros_behind_a_cut_make_no_frame(checksum: str, memory_path: Path, count: Count) -> None:
    journal = CutJournal(memory_path / "journal", checksum, 1)
    cases, problems = problems_of(journal, 1, lambda _, size: bytes(size))
    count("zeros behind a cut of the last segment", cases, problems)


# Two bytes of checksum match by chance in one of 65,536 places, and without a checksum there is nothing to match.
@pytest.mark.parametrize("checksum", ["crc32", "crc64", "xxhash64"])
def test_random_bytes_behind_a_cut_make_no_frame(checksum: str, memory_path: Path, count: Count) -> None:
    journal = CutJournal(memory_path / "journal", checksum, 2)
    cases, problems = problems_of(journal, 2, lambda random_, size: random_.randbytes(size))
    count("random bytes behind a cut of the last segment", cases, problems)

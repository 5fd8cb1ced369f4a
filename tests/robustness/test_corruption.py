"""Seeded damage of every kind: what is delivered, what is lost, and what recovery allows to cut.

`make corruption-table` does the same with 10,000 seeds for each kind, and writes docs/corruption.md.
"""

from __future__ import annotations

import pytest

from support.corruption import CHECKSUMS, KINDS, Verdict, applies, judge_many
from support.extent import EVERYTHING, in_one_test

CASES = [(kind, checksum) for kind in KINDS for checksum in CHECKSUMS if applies(kind, checksum)]


def check(kind: str, checksum: str, verdict: Verdict) -> None:
    assert not verdict.unaccounted, f"seeds {verdict.seeds}"
    if CHECKSUMS[checksum] >= 4:
        assert (verdict.wrong, verdict.undelivered, verdict.cut) == (0, 0, 0), f"seeds {verdict.seeds}"
        # No frame was moved into another.
        assert not (kind.startswith("bit") and verdict.inside), f"seeds {verdict.seeds}"


@in_one_test
@pytest.mark.parametrize(("kind", "checksum"), CASES, ids=lambda value: value.replace(" ", "_"))
def test_damaged_streams_lose_nothing_that_is_intact(kind: str, checksum: str) -> None:
    check(kind, checksum, judge_many(kind, checksum, range(6 if EVERYTHING else 2)))


@pytest.mark.long
@pytest.mark.parametrize(("kind", "checksum"), CASES, ids=lambda value: value.replace(" ", "_"))
def test_many_damaged_streams_lose_nothing_that_is_intact(kind: str, checksum: str) -> None:
    check(kind, checksum, judge_many(kind, checksum, range(6, 1000)))

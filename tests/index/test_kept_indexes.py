"""Parsed indexes are kept, as long as their files stay as they are. Whether one fits is looked at each time."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flatstream
from asv_benchmarks import scale_data
from flatstream._ranges import open_ranges
from flatstream.index import FileIndex, UnusableIndex, load_index, reading

ROWS = 2000


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A stream with an index."""
    made = str(tmp_path / "machine.fs")
    scale_data.write_stream(made, scale_data.columns_of(0, ROWS))
    return made


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is kept, of files of any age."""
    monkeypatch.setattr(reading, "OLD_ENOUGH", -(10**18))
    made = reading._Kept()
    monkeypatch.setattr(reading, "_kept", made)
    return made


def load(path: str) -> FileIndex | UnusableIndex:
    with open_ranges(path) as stream:
        return load_index(path, stream, table=scale_data.table(), checksum="xxhash64")


def usable(path: str) -> FileIndex:
    found = load(path)
    assert isinstance(found, FileIndex)
    return found


def test_index_is_parsed_once(path, kept):
    first, second = usable(path), usable(path)
    assert first.offsets is second.offsets
    assert first.statistics["time_ns"].low is second.statistics["time_ns"].low
    # What a caller may change is his own.
    assert first.notes is not second.notes
    assert first.statistics is not second.statistics
    with pytest.raises(ValueError, match="read-only"):
        first.offsets[0] = 1


def test_index_of_a_file_that_was_changed_lately_is_read_again(path, monkeypatch):
    made = reading._Kept()
    monkeypatch.setattr(reading, "_kept", made)
    assert usable(path).offsets is not usable(path).offsets
    assert not made._found


def test_index_that_has_grown_is_read_again(path, kept):
    first = usable(path)
    with flatstream.open(path, "a", index=["time_ns"]) as writer:
        columns = scale_data.columns_of(0, ROWS)
        flatstream.RecordWriter(writer, scale_data.table()).write_columns(columns)
    second = usable(path)
    assert (len(second) > len(first), int(second.rows.sum())) == (True, 2 * ROWS)
    assert np.array_equal(second.offsets[: len(first) - 1], first.offsets[:-1])


def test_kept_index_of_another_stream_is_not_used(path, kept, tmp_path):
    usable(path)
    other = str(tmp_path / "other.fs")
    scale_data.write_stream(other, scale_data.columns_of(1, ROWS))
    os.replace(other, path)
    found = load(path)
    assert isinstance(found, UnusableIndex)
    assert "of another stream" in found.reason


def test_kept_index_of_a_stream_that_was_cut_back_is_not_used(path, kept):
    whole = usable(path)
    os.truncate(path, int(whole.ends[0]))
    found = load(path)
    assert isinstance(found, UnusableIndex) or len(found) < len(whole)


def test_no_more_blocks_are_kept_than_the_limit(path, kept, monkeypatch, tmp_path):
    usable(path)
    assert len(kept._found) == 1
    monkeypatch.setattr(reading, "KEPT_BLOCKS", 100)
    other = str(tmp_path / "other.fs")
    scale_data.write_stream(other, scale_data.columns_of(1, ROWS))
    usable(other)
    assert len(kept._found) == 1
    monkeypatch.setattr(reading, "KEPT_BLOCKS", 10)
    os.utime(f"{path}.idx")
    usable(path)
    assert (len(kept._found), kept._blocks) == (0, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_does_not_wait_for_a_thread_of_its_parent(path, monkeypatch):
    monkeypatch.setattr(reading, "OLD_ENOUGH", -(10**18))
    usable(path)
    # As if another thread was in it.
    with reading._kept._lock:
        child = os.fork()
        if not child:
            signal.alarm(5)
            os._exit(len(usable(path)) == 0)
    assert os.waitpid(child, 0)[1] == 0

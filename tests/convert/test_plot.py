"""Plots: which points are kept, what is drawn, and what is refused."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flatstream import RecordWriter, StreamWriter
from flatstream.tools import convert, plot
from flatstream.tools.plotting import _points
from flatstream.tools.plotting._result import value_ticks
from support.conversion import events, names_in
from support.extent import in_one_test
from support.schemas import TELEMETRY

assert TELEMETRY.root is not None
EVENT = TELEMETRY.root
OPTIONS: dict[str, Any] = {"table": EVENT, "checksum": "crc32", "time_field": "wall_time_ns"}
BEGIN = 1_700_000_000_000_000_000


def test_line_has_every_value_at_its_time(tmp_path: Path) -> None:
    found = plot(events(tmp_path / "in.fs", EVENT, 300), ["load_1", "load_5"], **OPTIONS)
    assert [line.name for line in found.lines] == ["load_1", "load_5"]
    assert (found.messages, found.is_time, found.axis, found.step, found.is_empty) == (
        300,
        True,
        "wall_time_ns",
        1,
        False,
    )
    assert found.lines[0].x.tolist() == [BEGIN + number * 100_000_000 for number in range(300)]
    assert found.lines[0].y.tolist() == [number / 8 for number in range(300)]
    # Without a field with a time, messages are counted.
    disk = TELEMETRY.table("telemetry.Disk")
    with StreamWriter(tmp_path / "disks.fs", "crc32") as writer:
        counters = dict.fromkeys(TELEMETRY.structs["telemetry.DiskCounters"].fields, 0)
        RecordWriter(writer, disk).write_records([{"counters": counters | {"read_count": number}} for number in (5, 7)])
    found = plot(tmp_path / "disks.fs", "counters.read_count", table=disk, checksum="crc32")
    assert (found.axis, found.is_time, found.lines[0].x.tolist()) == ("message", False, [0, 1])


def test_key_makes_a_line_for_each_of_its_values(tmp_path: Path) -> None:
    found = plot(events(tmp_path / "in.fs", EVENT, 300), "load_1", by="host", **OPTIONS)
    assert {line.name: line.y.tolist() for line in found.lines} == {
        f"host-{key}": [number / 8 for number in range(key, 300, 3)] for key in range(3)
    }
    found = plot(tmp_path / "in.fs", ["load_1", "load_5"], by="platform", where=("sequence", "<", 4), **OPTIONS)
    assert [(line.name, len(line.x)) for line in found.lines] == [
        ("Linux load_1", 2), ("Linux load_5", 2), ("Windows load_1", 2), ("Windows load_5", 2),
    ]  # fmt: skip


def test_percentiles_are_those_of_numpy(tmp_path: Path) -> None:
    source = events(tmp_path / "in.fs", EVENT, 900)
    found = plot(source, "load_1", by="host", percentiles=(50, 99.5), **OPTIONS)
    (bars,) = found.bars
    assert bars.keys == ("host-0", "host-1", "host-2")
    assert bars.ranks == (50.0, 99.5)
    for key, heights in enumerate(bars.heights):
        expected = np.percentile([number / 8 for number in range(key, 900, 3)], (50, 99.5))
        assert heights.tolist() == expected.tolist()
    found = plot(source, "load_1", percentiles=(0, 50, 100), **OPTIONS)
    assert [line.name for line in found.lines] == ["load_1 p0", "load_1 p50", "load_1 p100"]
    low, middle, high = (line.y for line in found.lines)
    assert len(low) == 200
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert (low[0], high[-1]) == (0, 899 / 8)


def test_values_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "in.fs"
    with StreamWriter(path, "crc32") as writer:
        RecordWriter(writer, EVENT).write_columns(
            {
                "wall_time_ns": [BEGIN + number for number in range(5)],
                "load_1": np.array([1, math.nan, 2, math.inf, 3]),
                "cpu_total": [None, None, {"user": 1.5, **dict.fromkeys(cpu_names(), 0.0)}, None, None],
            }
        )
    found = plot(path, ["load_1", "cpu_total.user", "deadline_missed"], **OPTIONS)
    assert [line.y.tolist() for line in found.lines] == [[1, 2, 3], [1.5], [0, 0, 0, 0, 0]]


def cpu_names() -> list[str]:
    return [name for name in TELEMETRY.structs["telemetry.CpuTimes"].fields if name != "user"]


@pytest.mark.parametrize("order", ["ascending", "shuffled"])
def test_many_points_keep_their_extremes_in_bounded_memory(order: str) -> None:
    chance = np.random.default_rng(1)
    count, most = 100_000, 1000
    x = np.arange(count, dtype=np.int64)
    if order == "shuffled":
        chance.shuffle(x)
    y = chance.normal(size=count)
    peaks = chance.choice(count, 5, replace=False)
    y[peaks] = [50, -50, 60, -60, 70]
    kept, sample = _points.Extremes(most), _points.Sample(most)
    for begin in range(0, count, 777):
        kept.add(x[begin : begin + 777], y[begin : begin + 777])
        sample.add(x[begin : begin + 777], y[begin : begin + 777])
        assert kept.count <= 2 * most + 777
        assert sample.count <= most + 777
    line_x, line_y = kept.points()
    assert (line_y.max(), line_y.min()) == (70, -60)
    assert set(zip(line_x.tolist(), line_y.tolist(), strict=True)) <= set(zip(x.tolist(), y.tolist(), strict=True))
    # Each of the sample's points is the n-th.
    assert np.array_equal(sample.points()[0], x[:: sample.step])
    assert sample.step == 128
    drawn_x, drawn_y = _points.extremes_by_column(line_x, line_y, 100)
    assert len(drawn_x) <= 200
    assert (np.diff(drawn_x) >= 0).all()
    assert (drawn_y.max(), drawn_y.min()) == (70, -60)


def test_text_has_the_size_that_was_asked_for_and_no_colours(tmp_path: Path) -> None:
    source = events(tmp_path / "in.fs", EVENT, 300)
    for kind in ({}, {"by": "host"}, {"percentiles": (50,)}, {"by": "host", "percentiles": (50, 90)}):
        options: dict[str, Any] = kind
        found = plot(source, "load_1", **options, **OPTIONS)
        text = found.to_text(70, 15)
        lines = text.split("\n")
        assert len(lines) == 15
        assert max(map(len, lines)) <= 70
        assert "\x1b" not in text
        assert "load_1" in lines[0]
        assert "\x1b[" in found.to_text(70, 15, color=True)
        assert found.to_text(70, 15) == text
    assert "22:13:20" in plot(source, "load_1", **OPTIONS).to_text(70, 15)


@pytest.mark.parametrize(
    ("lowest", "highest", "count", "texts"),
    [
        (0, 12_394.76, 5, ["0", "5,000", "10,000"]),
        (58.2, 45_026, 6, ["10,000", "20,000", "30,000", "40,000"]),
        (-0.3, 0.3, 4, ["-0.2", "0.0", "0.2"]),
        (3.2, 3.3, 4, ["3.20", "3.25", "3.30"]),
        (7, 7, 4, ["7"]),
        (0, 4e12, 3, ["0", "2e+12", "4e+12"]),
        (0, 2e-9, 2, ["0", "2e-09"]),
        (-1e308, 1e308, 4, ["-1e+308"]),
    ],
)
def test_ticks_are_round_numbers(lowest: float, highest: float, count: int, texts: list[str]) -> None:
    places, found = value_ticks(lowest, highest, count)
    assert found == texts
    assert len(places) == len(texts) <= count
    assert lowest <= places[0] <= places[-1] <= highest


def test_text_shows_values_beyond_the_ticks(tmp_path: Path) -> None:
    path = tmp_path / "in.fs"
    with StreamWriter(path, "crc32", describe=EVENT) as writer:
        RecordWriter(writer, EVENT).write_columns(
            {"wall_time_ns": [BEGIN + number for number in range(100)], "load_1": [5.0] * 99 + [45_026.0]}
        )
    for kind in ({}, {"by": "host", "percentiles": (50, 100)}):
        options: dict[str, Any] = kind
        _, _, top, *rest = plot(path, "load_1", **options).to_text(60, 14).split("\n")
        assert set(top.partition("│")[2]) > {" ", "│"}
        assert any(line.startswith("40,000┤") for line in rest)


def test_pictures_are_new_files_of_the_size_that_was_asked_for(tmp_path: Path) -> None:
    source = events(tmp_path / "in.fs", EVENT, 300)
    found = plot(source, ["load_1", "load_5"], **OPTIONS)
    found.save(tmp_path / "out.png", width=500, height=300)
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (500, 300)
        assert len(set(image.convert("RGB").tobytes())) > 10
    plot(source, "load_1", by="host", percentiles=(50, 90), **OPTIONS).save(tmp_path / "out.svg")
    assert ElementTree.parse(tmp_path / "out.svg").getroot().tag.endswith("svg")
    with pytest.raises(FileExistsError):
        found.save(tmp_path / "out.png")
    with pytest.raises(ValueError, match=r"a picture is \.png or \.svg"):
        found.save(tmp_path / "out.jpg")
    assert names_in(tmp_path) == {"in.fs", "out.png", "out.svg"}


def test_files_of_other_formats_and_several_files_are_drawn(tmp_path: Path) -> None:
    source = events(tmp_path / "in.fs", EVENT, 50)
    convert(source, tmp_path / "a.parquet", table=EVENT, checksum="crc32")
    convert(source, tmp_path / "b.mcap", **OPTIONS)
    found = plot([tmp_path / "a.parquet", tmp_path / "b.mcap"], "load_1", time_field="wall_time_ns")
    assert found.messages == 100
    assert found.lines[0].y.tolist() == sorted(2 * [number / 8 for number in range(50)])


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    found = plot(events(tmp_path / "in.fs", EVENT, 0), "load_1", **OPTIONS)
    assert found.is_empty
    assert found.to_text() == "load_1: no values in 0 messages"


@in_one_test
@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ("host", {}, r"the field 'host' of telemetry\.Event has no numbers"),
        ("platform", {}, "has no numbers"),
        ("cores", {}, "has no numbers"),
        ("loads", {}, "has no field 'loads'"),
        ([], {}, "at least one path"),
        ("load_1", {"percentiles": (50, 101)}, "percentiles must be from 0 to 100"),
        ("load_1", {"time_field": "host"}, "is no integer"),
        ("load_1", {"time_field": "sequence"}, "the unit of sequence is not known"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path: Path, fields: Any, options: dict[str, Any], message: str) -> None:
    source = events(tmp_path / "in.fs", EVENT, 3)
    with pytest.raises(ValueError, match=message):
        plot(source, fields, **(OPTIONS | options))


def test_labels_have_no_control_characters(tmp_path: Path) -> None:
    with StreamWriter(tmp_path / "in.fs", "crc32") as writer:
        RecordWriter(writer, EVENT).write_columns({"host": ["\x1b[31mred", "ok"], "load_1": [1, 2]})
    found = plot(tmp_path / "in.fs", "load_1", by="host", **OPTIONS)
    assert sorted(line.name for line in found.lines) == ["\\x1b[31mred", "ok"]
    assert "\x1b" not in found.to_text()

"""JournalInstruments: what the SDK of OpenTelemetry collects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from flatstream.journal import JournalWriter
from flatstream.journal import opentelemetry as exporter
from flatstream.journal.opentelemetry import JournalInstruments
from support.journal_metrics import METRICS, Failing, MadeUp, MadeUpQueue
from support.processes import run_python

# Of METRICS: the value and the unit of each instrument.
EXPECTED = {
    "up": (1, "1"),
    "frames": (10, "{frame}"),
    "written": (1000, "By"),
    "position": (110, "{frame}"),
    "durable_position": (100, "{frame}"),
    "pending": (5, "By"),
    "dropped_frames": (3, "{frame}"),
    "drop_episodes": (2, "{episode}"),
    "last_sync_timestamp": (1_700_000_000.5, "s"),
    "rotations": (4, "{rotation}"),
    "rotation_max": (0.01, "s"),
    "segments": (7, "{segment}"),
    "size": (5000, "By"),
    "removed_segments": (8, "{segment}"),
    "cut_backs": (9, "{cut}"),
    "disk_free": (12_000_000_000, "By"),
    "disk_size": (24_000_000_000, "By"),
    "poisoned": (0, "1"),
    "problems": (0, "{problem}"),
    "sync.time": (1.5, "s"),
}
COUNTERS = {"frames", "written", "dropped_frames", "drop_episodes", "rotations", "removed_segments", "cut_backs"}


class Collected:
    """A provider with one reader, and what it collects."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.meter = self.provider.get_meter("test")

    def collect(self) -> dict[str, Any]:
        """The metrics, by name without its beginning."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        (resource,) = data.resource_metrics
        (scope,) = resource.scope_metrics
        return {metric.name.removeprefix("flatstream.journal."): metric for metric in scope.metrics}

    def values(self, **attributes: str) -> dict[str, float]:
        """The values with exactly these attributes, by name without its beginning."""
        return {
            name: point.value
            for name, metric in self.collect().items()
            for point in metric.data.data_points
            if point.attributes == attributes
        }


@pytest.fixture
def collected() -> Collected:
    return Collected()


def test_collection_has_every_number_with_its_unit(collected: Collected) -> None:
    JournalInstruments({"events": MadeUp()}, collected.meter)
    found = collected.collect()
    assert set(found) == {*EXPECTED, "errors", "sync.count"}
    for name, (value, unit) in EXPECTED.items():
        (point,) = found[name].data.data_points
        assert (name, point.value, dict(point.attributes), found[name].unit) == (
            name,
            value,
            {"journal": "events"},
            unit,
        )
        assert found[name].description.endswith(".")
    sums = {name for name, metric in found.items() if getattr(metric.data, "is_monotonic", False)}
    assert sums == {*COUNTERS, "errors", "sync.count", "sync.time"}
    errors = {point.attributes["kind"]: point.value for point in found["errors"].data.data_points}
    assert errors == {"ENOSPC": 11, "EIO": 1}


def test_latency_is_how_many_syncs_took_at_most_each_bound(collected: Collected) -> None:
    JournalInstruments({"a": MadeUp()}, collected.meter)
    points = collected.collect()["sync.count"].data.data_points
    assert {point.attributes["le"]: point.value for point in points} == {"0.001": 1, "0.25": 3, "10.0": 3, "+Inf": 6}


def test_one_collection_takes_one_snapshot_and_the_next_another(collected: Collected) -> None:
    writer = MadeUp()
    JournalInstruments({"a": writer}, collected.meter)
    assert writer.calls == 0
    collected.collect()
    assert writer.calls == 1
    writer.current = METRICS._replace(frames=50, segments=9)
    found = collected.values(journal="a")
    assert writer.calls == 2
    assert (found["frames"], found["segments"]) == (50, 9)


def test_snapshot_that_is_old_is_not_used_again(collected: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    # A reader that collects only some of the instruments asks none of them a second time before it asks others.
    writer = MadeUp()
    instruments = JournalInstruments({"a": writer}, collected.meter)
    monkeypatch.setattr(exporter, "FRESH", 0.0)
    instruments._current("frames")
    instruments._current("segments")
    assert writer.calls == 2


def test_journals_can_be_added_replaced_and_removed(collected: Collected) -> None:
    instruments = JournalInstruments(meter=collected.meter)
    assert collected.collect() == {}
    instruments.add("a", MadeUp(), queue=MadeUpQueue())
    found = collected.values(journal="a")
    assert (found["queued"], found["queue_dropped"]) == (13, 14)
    instruments.add("a", MadeUp(METRICS._replace(frames=30)))
    assert collected.values(journal="a")["frames"] == 30
    instruments.add("b", MadeUp())
    instruments.remove("a")
    assert collected.values(journal="b")["frames"] == 10
    assert "segments" not in collected.values(journal="a")


def test_journal_that_fails_does_not_hide_the_others(collected: Collected) -> None:
    JournalInstruments({"good": MadeUp(), "bad": Failing()}, collected.meter)
    assert collected.values(journal="bad") == {"up": 0}
    assert collected.values(journal="good")["frames"] == 10


def test_meter_is_that_of_the_global_provider_by_default(monkeypatch: pytest.MonkeyPatch, collected: Collected) -> None:
    from opentelemetry import metrics

    monkeypatch.setattr(metrics, "get_meter", collected.provider.get_meter)
    JournalInstruments({"a": MadeUp()})
    assert collected.values(journal="a")["frames"] == 10


def test_writer_is_measured(tmp_path: Path, collected: Collected) -> None:
    with JournalWriter(tmp_path / "journal", describe=False) as writer:
        JournalInstruments({"events": writer}, collected.meter)
        writer.write_payloads([b"one", b"two"])
        found = collected.values(journal="events")
        assert (found["frames"], found["durable_position"], found["poisoned"]) == (2, 0, 0)
        writer.sync()
        found = collected.values(journal="events")
        assert (found["durable_position"], found["size"]) == (2, 2 * 15)
        assert collected.values(journal="events", le="+Inf") == {"sync.count": 1}


def test_without_the_library_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from flatstream.journal.opentelemetry import JournalInstruments\n"
        "try:\n    JournalInstruments()\nexcept ImportError as error:\n    print(error)"
    )
    done = run_python(code)
    assert "pip install 'flatstream[opentelemetry]'" in done.stdout, done.stderr

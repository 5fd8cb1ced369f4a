"""JournalCollector: what prometheus_client serves, read by its own parser."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from flatstream.journal import JournalWriter
from flatstream.journal.prometheus import JournalCollector
from support.journal_metrics import METRICS, Failing, MadeUp, MadeUpQueue
from support.processes import run_python

# Of METRICS: each sample's name without the beginning that all have.
EXPECTED = {
    "up": 1,
    "frames_total": 10,
    "written_bytes_total": 1000,
    "position": 110,
    "durable_position": 100,
    "pending_bytes": 5,
    "dropped_frames_total": 3,
    "drop_episodes_total": 2,
    "last_sync_timestamp_seconds": 1_700_000_000.5,
    "rotations_total": 4,
    "rotation_max_seconds": 0.01,
    "segments": 7,
    "size_bytes": 5000,
    "removed_segments_total": 8,
    "cut_backs_total": 9,
    "disk_free_bytes": 12_000_000_000,
    "disk_size_bytes": 24_000_000_000,
    "poisoned": 0,
    "problems": 1,
    "sync_seconds_count": 6,
    "sync_seconds_sum": 1.5,
}


def registry_of(collector: JournalCollector) -> prometheus_client.CollectorRegistry:
    registry = prometheus_client.CollectorRegistry()
    registry.register(collector)
    return registry


def scrape(collector: JournalCollector) -> dict[str, Any]:
    """The families of a scrape, by name without its beginning."""
    text = prometheus_client.generate_latest(registry_of(collector)).decode()
    families = list(text_string_to_metric_families(text))
    assert all(family.name.startswith("flatstream_journal_") for family in families)
    found = {family.name.removeprefix("flatstream_journal_"): family for family in families}
    assert len(found) == len(families)
    return found


def samples(families: dict[str, Any], **labels: str) -> dict[str, float]:
    """The values with exactly these labels, by name without its beginning."""
    return {
        sample.name.removeprefix("flatstream_journal_"): sample.value
        for family in families.values()
        for sample in family.samples
        if sample.labels == labels
    }


def test_scrape_has_every_number_under_its_name_with_the_journal_as_label() -> None:
    families = scrape(JournalCollector({"events": MadeUp(health=["the disk is nearly full"])}))
    assert samples(families, journal="events") == EXPECTED
    assert samples(families, journal="events", kind="ENOSPC") == {"errors_total": 11}
    assert samples(families, journal="events", kind="EIO") == {"errors_total": 1}
    for name, family in families.items():
        counts = any(sample.name.endswith("_total") for sample in family.samples)
        assert family.type == ("histogram" if name == "sync_seconds" else "counter" if counts else "gauge") or (
            # Without a queue, nothing was dropped in one.
            name in ("queue_dropped", "queue_refused", "queue_lost")
        )
        assert family.documentation.endswith(".")


def test_every_metric_of_a_journal_is_exported() -> None:
    # One that is added to JournalMetrics must be added here. The histogram counts the syncs.
    names = set(METRICS._fields) - {"syncs", "sync_seconds", "errors"}
    assert len(EXPECTED) == len(names) + len(["up", "problems", "sync_seconds_count", "sync_seconds_sum"])


def test_latency_is_a_histogram_whose_buckets_contain_the_smaller_ones() -> None:
    (family,) = [one for name, one in scrape(JournalCollector({"a": MadeUp()})).items() if name == "sync_seconds"]
    assert family.type == "histogram"
    buckets = {one.labels["le"]: one.value for one in family.samples if one.name.endswith("_bucket")}
    assert buckets == {"0.001": 1, "0.25": 3, "10.0": 3, "+Inf": 6}


def test_text_of_openmetrics_is_valid_too() -> None:
    text = generate_openmetrics(registry_of(JournalCollector({"a": MadeUp()}))).decode()
    families = {family.name: family for family in parse_openmetrics(text)}
    assert families["flatstream_journal_written_bytes"].unit == "bytes"
    assert families["flatstream_journal_sync_seconds"].type == "histogram"


def test_journals_share_one_collector_and_can_be_added_replaced_and_removed() -> None:
    collector = JournalCollector({"a": MadeUp()})
    collector.add("b", MadeUp(METRICS._replace(frames=20)), queue=MadeUpQueue())
    families = scrape(collector)
    assert samples(families, journal="a")["frames_total"] == 10
    assert samples(families, journal="b")["frames_total"] == 20
    found = samples(families, journal="b")
    assert {name: found[name] for name in found if name.startswith("queue")} == {
        "queued": 13,
        "queue_dropped_total": 14,
        "queue_refused_total": 15,
        "queue_lost_total": 16,
    }
    assert "queued" not in samples(families, journal="a")
    collector.add("a", MadeUp(METRICS._replace(frames=30)))
    collector.remove("b")
    collector.remove("b")
    families = scrape(collector)
    assert samples(families, journal="a")["frames_total"] == 30
    assert samples(families, journal="b") == {}


def test_numbers_that_are_not_known_are_left_out() -> None:
    metrics = METRICS._replace(last_sync=None, disk_free=-1, disk_size=-1)
    found = samples(scrape(JournalCollector({"a": MadeUp(metrics)})), journal="a")
    assert set(EXPECTED) - set(found) == {"last_sync_timestamp_seconds", "disk_free_bytes", "disk_size_bytes"}


def test_journal_that_fails_does_not_hide_the_others() -> None:
    families = scrape(JournalCollector({"good": MadeUp(), "bad": Failing()}))
    assert samples(families, journal="bad") == {"up": 0}
    assert samples(families, journal="good")["up"] == 1


def test_second_collector_in_a_registry_is_refused() -> None:
    registry = registry_of(JournalCollector({"a": MadeUp()}))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(JournalCollector({"b": MadeUp()}))


def test_registering_reads_no_metrics_and_a_scrape_reads_them_once() -> None:
    writer = MadeUp()
    registry = registry_of(JournalCollector({"a": writer}))
    assert writer.calls == 0
    prometheus_client.generate_latest(registry)
    assert writer.calls == 1


@pytest.mark.parametrize(("name", "writer"), [(1, MadeUp()), ("a", object()), ("a", None)])
def test_wrong_journals_are_refused(name: Any, writer: Any) -> None:
    with pytest.raises(TypeError, match=r"name of a journal must be a str|must be a JournalWriter"):
        JournalCollector({name: writer})


def test_writer_is_served_by_http(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "journal", sync="each", describe=False) as writer:
        server, thread = prometheus_client.start_http_server(
            0, addr="127.0.0.1", registry=registry_of(JournalCollector({"events": writer}))
        )
        try:
            writer.write_payloads([b"one", b"two"])
            writer.sync()
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=30) as answer:
                families = {
                    family.name.removeprefix("flatstream_journal_"): family
                    for family in text_string_to_metric_families(answer.read().decode())
                }
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        found = samples(families, journal="events")
        assert (found["frames_total"], found["durable_position"], found["poisoned"]) == (2, 2, 0)
        assert found["written_bytes_total"] == found["size_bytes"] == 2 * 15
        assert found["sync_seconds_count"] >= 1


def test_without_the_library_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from flatstream.journal.prometheus import JournalCollector\n"
        "try:\n    JournalCollector()\nexcept ImportError as error:\n    print(error)"
    )
    done = run_python(code)
    assert "pip install 'flatstream[prometheus]'" in done.stdout, done.stderr

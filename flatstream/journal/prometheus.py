"""Metrics of journals for Prometheus, by `prometheus_client` (the extra ``prometheus``)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flatstream.journal._series import ERRORS, SERIES, SYNC_SECONDS, Exporter, Measured

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["JournalCollector"]

PREFIX = "flatstream_journal_"
LABELS = ("journal",)


class JournalCollector(Exporter):
    """A collector of `prometheus_client` that reads the metrics of journals when it is scraped.

    Nothing is counted twice and nothing is done for each frame: a scrape calls ``metrics()`` and ``health()`` of each
    writer. All names begin with ``flatstream_journal_``, and all samples have the label ``journal``.

    Parameters
    ----------
    journals : mapping of str to JournalWriter, optional
        By the value of the label ``journal``. `add` and `remove` change them later. Register one collector for all
        journals of a process, because a registry takes each name of a metric once.

    Raises
    ------
    ImportError
        `prometheus_client` is not installed; the message names the extra.
    TypeError
        A value of `journals` has no metrics.

    Examples
    --------
    Register it, and serve the metrics: ``prometheus_client.REGISTRY.register(JournalCollector({"events": writer}))``,
    ``prometheus_client.start_http_server(9100)``.
    """

    def __init__(self, journals: Mapping[str, Measured] | None = None) -> None:
        self._families = _metrics_core()
        super().__init__(journals)

    def describe(self) -> Iterator[Metric]:
        """The metrics without samples. The registry compares their names with those that it has."""
        for series in SERIES:
            yield self._family(series.kind, series.name, series.text, series.unit)
        yield self._family("counter", *ERRORS, labels=(*LABELS, "kind"))
        yield self._family("histogram", *SYNC_SECONDS, unit="seconds")

    def collect(self) -> Iterator[Metric]:
        """The metrics of now. The registry calls this for each scrape."""
        snapshots = self._snapshots()
        for series in SERIES:
            family = self._family(series.kind, series.name, series.text, series.unit)
            for name, snapshot in snapshots.items():
                if (value := series.read(snapshot)) is not None:
                    family.add_metric((name,), value)
            yield family
        errors = self._family("counter", *ERRORS, labels=(*LABELS, "kind"))
        syncs = self._family("histogram", *SYNC_SECONDS, unit="seconds")
        for name, snapshot in snapshots.items():
            if (metrics := snapshot.metrics) is None:
                continue
            for kind, count in metrics.errors.items():
                errors.add_metric((name, kind), count)
            bounds = [*map(_bound, metrics.sync_seconds.bounds), "+Inf"]
            buckets = list(zip(bounds, itertools.accumulate(metrics.sync_seconds.counts), strict=True))
            syncs.add_metric((name,), buckets, metrics.sync_seconds.sum)
        yield errors
        yield syncs

    def _family(self, kind: str, name: str, text: str, unit: str = "", labels: tuple[str, ...] = LABELS) -> Any:
        full = PREFIX + (f"{name}_{unit}" if unit else name)
        return self._families[kind](full, text, labels=labels, unit=unit)


def _bound(seconds: float) -> str:
    """An upper bound as prometheus_client writes numbers."""
    return repr(float(seconds))


def _metrics_core() -> dict[str, Any]:
    try:
        from prometheus_client import metrics_core as core
    except ImportError as error:
        raise ImportError(
            "JournalCollector needs the package prometheus_client: pip install 'flatstream[prometheus]'"
        ) from error
    return {
        "counter": core.CounterMetricFamily,
        "gauge": core.GaugeMetricFamily,
        "histogram": core.HistogramMetricFamily,
    }

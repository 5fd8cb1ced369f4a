"""Metrics of journals for OpenTelemetry, by `opentelemetry-api` (the extra ``opentelemetry``)."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flatstream.journal._series import ERRORS, SERIES, SYNC_SECONDS, Exporter, Measured, Series, Snapshot

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, Observation

__all__ = ["JournalInstruments"]

PREFIX = "flatstream.journal."
UNITS = {"bytes": "By", "seconds": "s"}

# How old a snapshot becomes, in seconds, that the instruments of one collection share.
FRESH = 1.0


class JournalInstruments(Exporter):
    """Observable instruments of a meter, which read the metrics of journals when a reader collects them.

    All names begin with ``flatstream.journal.``, and all observations have the attribute ``journal``. OpenTelemetry has
    no observable histogram: the latency of syncs is the counter ``flatstream.journal.sync.count`` with the attribute
    ``le`` (how many syncs took at most so many seconds, "+Inf" for all), and ``flatstream.journal.sync.time``, the sum
    in seconds.

    Parameters
    ----------
    journals : mapping of str to JournalWriter, optional
        By the value of the attribute ``journal``. `add` and `remove` change them later. Instruments stay in their meter
        as long as that lives, so make this object once for each meter.
    meter : opentelemetry.metrics.Meter, optional
        That of the global provider with the name "flatstream.journal" by default.

    Raises
    ------
    ImportError
        `opentelemetry-api` is not installed; the message names the extra.
    TypeError
        A value of `journals` has no metrics.
    """

    def __init__(self, journals: Mapping[str, Measured] | None = None, meter: Meter | None = None) -> None:
        api = _api()
        self._observation: type[Observation] = api.Observation
        self._lock = threading.Lock()
        self._shared: dict[str, Snapshot] = {}
        self._shared_at = 0.0
        # The instruments that have read the shared snapshots. A second question is one of the next collection.
        self._asked: set[str] = set()
        super().__init__(journals)
        made = api.get_meter("flatstream.journal") if meter is None else meter
        for series in SERIES:
            create = made.create_observable_counter if series.kind == "counter" else made.create_observable_gauge
            create(
                PREFIX + series.name,
                callbacks=[self._callback(series)],
                unit=UNITS.get(series.unit) or (f"{{{series.things}}}" if series.things else "1"),
                description=series.text,
            )
        made.create_observable_counter(
            PREFIX + ERRORS[0], callbacks=[self._errors], unit="{error}", description=ERRORS[1]
        )
        made.create_observable_counter(
            f"{PREFIX}{SYNC_SECONDS[0]}.count",
            callbacks=[self._sync_counts],
            unit="{sync}",
            description="How many syncs took at most `le` seconds.",
        )
        made.create_observable_counter(
            f"{PREFIX}{SYNC_SECONDS[0]}.time", callbacks=[self._sync_time], unit="s", description=SYNC_SECONDS[1]
        )

    def _callback(self, series: Series) -> Callable[[Any], Iterator[Observation]]:
        def observe(options: Any) -> Iterator[Observation]:
            for name, snapshot in self._current(series.name).items():
                if (value := series.read(snapshot)) is not None:
                    # A bool is no number there.
                    yield self._observation(value + 0, {"journal": name})

        return observe

    def _errors(self, options: Any) -> Iterator[Observation]:
        for name, snapshot in self._current("errors").items():
            if snapshot.metrics is not None:
                for kind, count in snapshot.metrics.errors.items():
                    yield self._observation(count, {"journal": name, "kind": kind})

    def _sync_counts(self, options: Any) -> Iterator[Observation]:
        for name, snapshot in self._current("sync.count").items():
            if snapshot.metrics is not None:
                histogram = snapshot.metrics.sync_seconds
                bounds = [*(repr(float(bound)) for bound in histogram.bounds), "+Inf"]
                for bound, count in zip(bounds, itertools.accumulate(histogram.counts), strict=True):
                    yield self._observation(count, {"journal": name, "le": bound})

    def _sync_time(self, options: Any) -> Iterator[Observation]:
        for name, snapshot in self._current("sync.time").items():
            if snapshot.metrics is not None:
                yield self._observation(snapshot.metrics.sync_seconds.sum, {"journal": name})

    def _current(self, instrument: str) -> dict[str, Snapshot]:
        """The snapshots for the collection that asks `instrument`: all instruments of one show the same moment."""
        with self._lock:
            now = time.monotonic()
            if instrument in self._asked or now - self._shared_at > FRESH:
                self._asked.clear()
            if not self._asked:
                self._shared, self._shared_at = self._snapshots(), now
            self._asked.add(instrument)
            return self._shared


def _api() -> Any:
    try:
        from opentelemetry import metrics
    except ImportError as error:
        raise ImportError(
            "JournalInstruments needs the package opentelemetry-api: pip install 'flatstream[opentelemetry]'"
        ) from error
    return metrics

"""Every series that a process of ours serves, as Prometheus sees it, with its labels."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from consumers.facade.machine_metrics import _Gauges
from pipeline import metrics

_SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

SCRAPED_ELSEWHERE: Final[dict[str, frozenset[str]]] = {"up": frozenset()}
"""What Prometheus itself knows."""


def known_series() -> dict[str, frozenset[str]]:
    """Name to labels."""
    return {**SCRAPED_ELSEWHERE, **dict(_ours()), **dict(_of_machines()), **dict(_of_every_process())}


def _ours() -> Iterator[tuple[str, frozenset[str]]]:
    for value in vars(metrics).values():
        for metric in value.values() if isinstance(value, dict) else (value,):
            if isinstance(metric, MetricWrapperBase):
                yield from _series(metric)


def _series(metric: MetricWrapperBase) -> Iterator[tuple[str, frozenset[str]]]:
    [family] = metric.describe()
    for suffix in _SUFFIXES[family.type]:
        extra = {"le"} if suffix == "_bucket" else set()
        yield family.name + suffix, frozenset({*metric._labelnames, *extra})


def _of_machines() -> Iterator[tuple[str, frozenset[str]]]:
    for family in _Gauges(datetime(2026, 1, 1, tzinfo=UTC)).families:
        yield family.name, frozenset(family._labelnames)


def _of_every_process() -> Iterator[tuple[str, frozenset[str]]]:
    """Python's own: memory, processor, open files."""
    for family in REGISTRY.collect():
        for sample in family.samples:
            if sample.name.startswith(("process_", "python_")):
                yield sample.name, frozenset(sample.labels)

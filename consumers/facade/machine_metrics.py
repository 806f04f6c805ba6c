"""Gauges of every machine, read off the fleet when Prometheus asks: right after a restart, and gone with the machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from consumers.facade.fleet import Fleet
from pipeline import metrics
from pipeline.clock import Clock
from pipeline.processor.tags import TAGS, metric_tags
from schemas.description import Description
from schemas.event import BAD_BATTERY_LEVEL
from schemas.wire import ZERO_TIME

_WITH_BATTERY: Final = frozenset({"android", "ios"})
"""Kinds of device that report one."""


class MachineMetrics(Collector):
    """Collects from the fleet. May be scraped from another thread."""

    def __init__(self, fleet: Fleet, clock: Clock) -> None:
        self._fleet = fleet
        self._clock = clock

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: what there is depends on the machines."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges."""
        gauges = _Gauges(self._clock.now())
        for snapshot in self._fleet.machines():
            gauges.add(snapshot.id, Description.model_validate_json(snapshot.json))
        yield from gauges.families


class _Gauges:
    def __init__(self, now: datetime) -> None:
        self._now = now
        self.families: list[GaugeMetricFamily] = []
        self._battery = self._gauge(
            metrics.MACHINE_BATTERY, "Percent; of devices whose battery can be read.", "machine"
        )
        self._temperature = self._gauge(metrics.MACHINE_TEMPERATURE, "Degrees Celsius.", "machine", "sensor")
        self._quarantine = self._gauge(
            metrics.MACHINE_QUARANTINE_STATE,
            "1 in this state, one of Maintenance, Quarantined and Recovering.",
            *TAGS,
            "state",
        )
        self._recovering = self._gauge(metrics.MACHINE_RECOVERING, "1 while it is recovering.", *TAGS)
        self._recovery = self._gauge(
            metrics.MACHINE_RECOVERY_SECONDS, "Whole seconds since recovery began; 0 outside.", *TAGS
        )
        self._running = self._gauge(metrics.MACHINE_RUNNING_TASK, "1 while a task runs.", *TAGS)
        self._maintenance = self._gauge(
            metrics.MACHINE_MAINTENANCE_MODE, "1 while a person has it in maintenance.", *TAGS
        )
        self._down = self._gauge(metrics.MACHINE_DOWN, "1 while the machine is silent.", *TAGS)

    def _gauge(self, name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
        self.families.append(GaugeMetricFamily(name, documentation, labels=labels))
        return self.families[-1]

    def add(self, machine_id: str, machine: Description) -> None:
        tags = [*metric_tags(machine).values()]
        if machine.device_kind in _WITH_BATTERY and machine.battery != BAD_BATTERY_LEVEL:
            self._battery.add_metric([machine_id], machine.battery)
        for sensor, degrees in (machine.temperature or {}).items():
            self._temperature.add_metric([machine_id, sensor], degrees)
        states = {
            "Maintenance": machine.in_maintenance,
            "Quarantined": machine.is_quarantined,
            "Recovering": machine.is_recovering,
        }
        for state, holds in states.items():
            self._quarantine.add_metric([*tags, state], holds)
        self._recovering.add_metric(tags, machine.is_recovering)
        self._recovery.add_metric(tags, self._seconds_in_recovery(machine))
        self._running.add_metric(tags, machine.running_swarming_task)
        self._maintenance.add_metric(tags, machine.in_maintenance)
        self._down.add_metric(tags, machine.is_down)

    def _seconds_in_recovery(self, machine: Description) -> int:
        if not machine.is_recovering or machine.recovery_start == ZERO_TIME:
            return 0
        return max(0, int((self._now - machine.recovery_start).total_seconds()))

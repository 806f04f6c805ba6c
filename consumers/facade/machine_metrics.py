"""Gauges of every machine, read off the fleet when Prometheus asks: right after a restart, and gone with the machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import orjson
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from consumers.facade.fleet import Fleet
from pipeline.clock import Clock
from schemas.wire import ZERO_TIME, parse_time

_TAGS: Final = ("id", "os", "device_type")


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
            gauges.add(snapshot.id, orjson.loads(snapshot.json))
        yield from gauges.families


class _Gauges:
    def __init__(self, now: datetime) -> None:
        self._now = now
        self._battery = GaugeMetricFamily(
            "machine_processor_device_battery_level",
            "Percent; -99 when it could not be read.",
            labels=["machine"],
        )
        self._temperature = GaugeMetricFamily(
            "machine_processor_device_temperature_c", "Degrees Celsius.", labels=["machine", "sensor"]
        )
        self._quarantine = GaugeMetricFamily(
            "machine_processor_device_quarantine_state",
            "1 in this state, one of Maintenance, Quarantined and Recovering.",
            labels=[*_TAGS, "state"],
        )
        self._maintenance = GaugeMetricFamily(
            "machine_processor_device_maintenance", "1 in maintenance.", labels=_TAGS
        )
        self._recovery = GaugeMetricFamily(
            "machine_processor_device_time_in_recovery_mode_s",
            "Seconds since recovery began; 0 outside.",
            labels=_TAGS,
        )
        self._running = GaugeMetricFamily(
            "machine_processor_running_swarming_task", "1 while a task runs.", labels=_TAGS
        )
        self._down = GaugeMetricFamily(
            "labkeeper_machine_down", "1 while the machine is silent.", labels=_TAGS
        )

    @property
    def families(self) -> list[GaugeMetricFamily]:
        return [
            self._battery,
            self._temperature,
            self._quarantine,
            self._maintenance,
            self._recovery,
            self._running,
            self._down,
        ]

    def add(self, machine_id: str, machine: dict[str, Any]) -> None:
        tags = [_last(machine, tag) for tag in _TAGS]
        self._battery.add_metric([machine_id], machine["Battery"])
        for sensor, degrees in (machine["Temperature"] or {}).items():
            self._temperature.add_metric([machine_id, sensor], degrees)
        states = {
            "Maintenance": bool(machine["MaintenanceMode"]),
            "Quarantined": machine["IsQuarantined"],
            "Recovering": bool(machine["Recovering"]),
        }
        for state, holds in states.items():
            self._quarantine.add_metric([*tags, state], float(holds))
        self._maintenance.add_metric(tags, float(states["Maintenance"]))
        self._recovery.add_metric(
            tags, self._since(machine["RecoveryStart"]) if states["Recovering"] else 0.0
        )
        self._running.add_metric(tags, float(machine["RunningSwarmingTask"]))
        self._down.add_metric(tags, float(parse_time(machine["DownSince"]) != ZERO_TIME))

    def _since(self, start: str) -> float:
        began = parse_time(start)
        return 0.0 if began == ZERO_TIME else max(0.0, (self._now - began).total_seconds())


def _last(machine: dict[str, Any], dimension: str) -> str:
    values = (machine["Dimensions"] or {}).get(dimension) or [""]
    return str(values[-1])

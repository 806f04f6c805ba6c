"""Makes an Event of what the machine or its device answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline import logs
from pipeline.metrics import MONITOR_ERRORS, MONITOR_INTERROGATE_TIMER, MONITOR_INTERROGATIONS
from producers.machine_monitor.probes.protocol import Probe, ProbeFailed
from schemas.description import AttachedDevice, Description
from schemas.event import RAW_STATE, Event, Host


@dataclass(slots=True)
class TaskState:
    """What the Swarming bot is doing. The local server writes it, events report it."""

    running: bool = False
    launched_swarming: bool = False


class Interrogator:
    """Asks with the probe that fits what is attached. No answer, no device part: the event says so by lacking it."""

    def __init__(self, host: Host, probes: Mapping[AttachedDevice, Probe], tasks: TaskState) -> None:
        self._host = host
        self._probes = probes
        self._tasks = tasks

    async def interrogate(self, description: Description) -> Event:
        """An event without sequence and without forced quarantine."""
        event = Event(
            type=RAW_STATE,
            host=self._host,
            running_swarming_task=self._tasks.running,
            launched_swarming=self._tasks.launched_swarming,
        )
        probe = self._probe_for(description.attached_device)
        if probe is None:
            return event
        machine = self._host.name
        MONITOR_INTERROGATIONS.labels(machine, probe.kind).inc()
        started = time.monotonic()
        try:
            part = await probe.interrogate(description)
        except ProbeFailed as error:
            MONITOR_ERRORS.labels(machine).inc()
            logs.get_logger().warning("no device", kind=probe.kind, reason=str(error))
            return event
        finally:
            MONITOR_INTERROGATE_TIMER.labels(machine).observe(time.monotonic() - started)
        return event.model_copy(update={probe.kind: part})

    def _probe_for(self, attached_device: str) -> Probe | None:
        if not attached_device:
            return None
        try:
            return self._probes[AttachedDevice(attached_device)]
        except ValueError:
            MONITOR_ERRORS.labels(self._host.name).inc()
            logs.get_logger().error("unknown kind of attached device", attached_device=attached_device[:100])
            return None

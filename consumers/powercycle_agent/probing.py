"""Whether controllers answer, and how the lab hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from consumers.powercycle_agent.drivers.errors import DriverError
from consumers.powercycle_agent.drivers.protocol import PowerDriver
from consumers.powercycle_agent.inventory import Controller
from consumers.powercycle_agent.plain_text import told
from pipeline import logs, metrics
from pipeline.clock import Clock
from schemas.description import PowerCycleState
from schemas.power import ControllerReport

log = logs.get_logger()


async def trouble_of(driver: PowerDriver, limit_s: float) -> str:
    """Why the controller cannot be used; empty when it answers and lets us in."""
    try:
        async with asyncio.timeout(limit_s):
            await driver.probe()
    except DriverError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {limit_s:.0f} s"
    except Exception as error:  # noqa: BLE001  # of somebody's driver: a bug there is that controller's trouble only
        return f"the driver failed: {type(error).__name__}: {error}"
    return ""


class States:
    """What was last found of each controller."""

    def __init__(self, clock: Clock, agent: str, report: Callable[[ControllerReport], None]) -> None:
        self._clock = clock
        self._agent = agent
        self._report = report
        self._troubles: dict[str, str] = {}
        self._in_passing: set[str] = set()
        """Controllers whose trouble a command ran into, and no probe has found yet."""

    def found(self, controller: Controller, trouble: str) -> None:
        """A controller was looked at: report all its machines, those as well that the lab has never heard of."""
        before = self._troubles.get(controller.name)
        self._troubles[controller.name] = trouble
        self._in_passing.discard(controller.name)
        if trouble and not before:
            log.warning("controller_in_error", controller=controller.name, reason=trouble)
        elif trouble != before:
            event = "controller_still_in_error" if trouble else "controller_available"
            log.info(event, controller=controller.name, **({"reason": trouble} if trouble else {}))
        state = PowerCycleState.IN_ERROR if trouble else PowerCycleState.AVAILABLE
        self._tell(controller, controller.ports, state, trouble)

    def met(self, controller: Controller, trouble: str) -> None:
        """A command's try ended like this: empty, it answered. Reported if it is news; what a probe found, the next one judges."""
        if trouble and not self.is_in_error(controller):
            self.found(controller, trouble)
            self._in_passing.add(controller.name)
        elif not trouble and controller.name in self._in_passing:
            self.found(controller, "")

    def is_in_error(self, controller: Controller) -> bool:
        """As it was found last."""
        return bool(self._troubles.get(controller.name))

    def gone(
        self, controller: Controller, machine_ids: Iterable[str], trouble: str = "", *, is_whole: bool
    ) -> None:
        """These machines do not hang on it any more; `is_whole`: and the controller itself is ours no more.

        `trouble`: what it leaves behind.
        """
        if is_whole:
            self._troubles.pop(controller.name, None)
            self._in_passing.discard(controller.name)
        text = "; ".join(filter(None, ("no longer in the configuration", trouble)))
        self._tell(controller, machine_ids, PowerCycleState.NOT_AVAILABLE, text)

    def forget(self) -> None:
        """Another process looks after them."""
        self._troubles.clear()
        self._in_passing.clear()
        metrics.POWER_CONTROLLERS_IN_ERROR.set(0)

    def _tell(
        self, controller: Controller, machine_ids: Iterable[str], state: PowerCycleState, text: str
    ) -> None:
        metrics.POWER_CONTROLLERS_IN_ERROR.set(sum(map(bool, self._troubles.values())))
        now = self._clock.now()
        for machine_id in machine_ids:
            self._report(
                ControllerReport(
                    machine_id=machine_id,
                    state=state,
                    agent=self._agent,
                    controller=controller.name,
                    port=controller.ports[machine_id],
                    at=now,
                    text=told(text),
                )
            )

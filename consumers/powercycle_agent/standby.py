"""What a process without the lease may do all the same, when the lab has not answered for as long as a lease lasts."""

from __future__ import annotations

from consumers.powercycle_agent.controllers import Crew
from consumers.powercycle_agent.drivers.errors import DriverError
from consumers.powercycle_agent.inventory import Controller, Inventory
from consumers.powercycle_agent.journal import Entry
from consumers.powercycle_agent.lines import OpenDriver
from consumers.powercycle_agent.locks import ControllerBusy
from consumers.powercycle_agent.recovery import Recovery
from consumers.powercycle_agent.registry import close_driver
from consumers.powercycle_agent.succession import home_of
from pipeline import logs

log = logs.get_logger()


async def pay_debts_alone(
    recovery: Recovery, inventory: Inventory, open_driver: OpenDriver, crew: Crew
) -> None:
    """Switch on what our journal says we have left off, and nothing else. Nobody may be there to do it for us.

    The commands stay open: they are ended once we, or whoever has the lease, can talk to the lab again.
    """
    for entry in await recovery.abandoned():
        try:
            controller = home_of(entry, inventory)
            if entry.owes and controller is not None and not controller.problem:
                await _pay(entry, controller, open_driver, crew)
        finally:
            entry.release()


async def _pay(entry: Entry, controller: Controller, open_driver: OpenDriver, crew: Crew) -> None:
    try:
        driver = open_driver(controller)
    except DriverError as error:
        log.error("debt_stays", controller=controller.name, reason=str(error))  # noqa: TRY400  # no bug
        return
    try:
        async with crew.locks.hold(controller.name):
            why = await crew.executor.settle(entry, driver, reads_back=controller.reads_back)
    except ControllerBusy as error:
        why = str(error)
    finally:
        await close_driver(driver)
    if why:
        log.error("debt_stays", controller=controller.name, port=entry.intent.port, reason=why)

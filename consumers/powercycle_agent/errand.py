"""What one call of `powercycle` does, in the order of the old command: read, list, choose, check, cycle, report."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from consumers.powercycle_agent import old_messages as told
from consumers.powercycle_agent.check import ask_all
from consumers.powercycle_agent.configuration import read_inventory
from consumers.powercycle_agent.direct import Direct, Host, Wish
from consumers.powercycle_agent.down_list import choose, fetch_down
from consumers.powercycle_agent.drivers.reasons import plainly
from consumers.powercycle_agent.http_control import Access
from consumers.powercycle_agent.inventory import Inventory
from consumers.powercycle_agent.lab_client import Lab, LabRefused
from consumers.powercycle_agent.old_messages import say, say_ids
from consumers.powercycle_agent.ordering import Orders, Problem
from consumers.powercycle_agent.places import secrets_of, state_directory
from consumers.powercycle_agent.registry import Registry, open_driver
from consumers.powercycle_agent.soft_reboot import ask_to_reboot
from pipeline.clock import SystemClock
from pipeline.command import CommandFailed, ExitCode
from pipeline.errors import LabkeeperError, Misconfigured
from schemas.api import DEVICE_SUFFIX, PowerBody
from schemas.power import PowerAction

_DAEMON_TIME: Final = aiohttp.ClientTimeout(total=10, sock_connect=3)


@dataclass(frozen=True, slots=True)
class Flags:
    """What was typed."""

    ids: Sequence[str]
    conf: Path
    conf_is_optional: bool
    """Nobody has named it: where it is missing, the lab knows the ids."""
    lists: bool
    connect: bool
    auto_fix: bool
    auto_fix_url: str
    pause_s: float
    """Before the cycles that `auto_fix` has chosen."""
    daemon_url: str
    """Empty: none."""
    access: Access | None
    """None: there is no façade."""
    is_direct: bool
    state_dir: Path | None
    name: str
    wish: Wish
    force: bool
    usage: str
    """The help text."""


class Errand:
    """One call."""

    def __init__(self, flags: Flags, session: aiohttp.ClientSession) -> None:
        self._flags = flags
        self._session = session
        self._lab = Lab(session, flags.access) if flags.access is not None else None
        self._inventory: Inventory | None = None
        self._direct: Direct | None = None
        self._is_lab_there = False

    async def run(self) -> int:
        """Its exit code. Raises `LabkeeperError`s: what is wrong, for the person who called."""
        flags = self._flags
        if not (flags.connect or flags.ids or flags.auto_fix):
            say(told.NOT_CONNECTED)
        self._inventory, missing = self._read()
        if flags.lists and self._inventory is not None:
            say_ids(self._configured)
            return ExitCode.OK
        if flags.connect:
            await self._test_connections()
        if not (flags.ids or flags.auto_fix or flags.lists):
            say(told.NO_ID)
            say(flags.usage)
            return ExitCode.FAILED
        past_it = await self._why_past_the_lab()
        self._is_lab_there = not past_it
        if self._inventory is None and past_it:
            raise CommandFailed(told.CONFIG_BROKEN.format(missing))
        if past_it:
            say(f"Driving the switches from here: {past_it}.")
        known = await self._known()
        if flags.lists:
            say_ids(known)
            return ExitCode.OK
        return await self._work(known)

    def _read(self) -> tuple[Inventory | None, str]:
        """The configuration; or none, and why, where that may do."""
        flags = self._flags
        try:
            return read_inventory(flags.conf, Registry.installed()), ""
        except Misconfigured as error:
            if flags.conf_is_optional and not os.access(flags.conf, os.R_OK):
                return None, str(error)
            raise CommandFailed(told.CONFIG_BROKEN.format(error)) from error

    @property
    def _configured(self) -> list[str]:
        return [] if self._inventory is None else [outlet.machine_id for outlet in self._inventory]

    async def _test_connections(self) -> None:
        """What fails is told, and stops nobody: other controllers may be well."""
        if self._inventory is None:
            return
        controllers = self._inventory.controllers
        usable = [controller for controller in controllers if not controller.problem]
        troubles = {controller.name: controller.problem for controller in controllers}
        for name, answer in (await ask_all(usable, secrets_of(os.environ))).items():
            troubles[name] = answer.reason
        for name, trouble in troubles.items():
            if trouble:
                say(f"Unable to connect to {name}. Got error: {trouble}")

    async def _why_past_the_lab(self) -> str:
        """Why cycles cannot be ordered there; empty when they can."""
        if self._lab is None:
            return "there is no lab"
        if self._flags.is_direct:
            return "--direct says so"
        trouble = await self._lab.trouble()
        return f"the lab cannot be reached ({trouble})" if trouble else ""

    async def _known(self) -> set[str]:
        """Ids that can be cycled, by the configuration and by the lab."""
        known = set(self._configured)
        if self._lab is not None and self._is_lab_there:
            try:
                known.update(await self._lab.outlets())
            except LabRefused:
                if not known:
                    raise
        return known

    # --- cycles --------------------------------------------------------------------------------------------------------

    async def _work(self, known: Collection[str]) -> int:
        await self._take_up()
        try:
            code, closing = await self._attempt(known)
        finally:
            if self._direct is not None:
                await self._direct.report(self._lab)
                self._direct.close()
        say(closing)
        return code

    async def _attempt(self, known: Collection[str]) -> tuple[ExitCode, str]:
        """How it went, and what to say of it at last."""
        ids = await self._chosen(known)
        if not ids:
            return ExitCode.OK, told.NOTHING_TO_FIX
        named = {each: _named(each, known) for each in ids}
        if None in named.values() and not self._flags.auto_fix:
            say(told.INVALID_ID)
            say_ids(known)
            missing = ", ".join(given for given, machine in named.items() if machine is None)
            return ExitCode.FAILED, f"Not among them: {missing}"
        return await self._cycle(named)

    async def _take_up(self) -> None:
        """Finish what earlier runs left here; past the lab, this host must have a journal."""
        try:
            journal = self._state_dir() / "journal"
            if self._inventory is None or (self._is_lab_there and not journal.is_dir()):
                return
            direct = self._driving(self._inventory)
            await direct.carry_on(agents_too=not (self._is_lab_there or self._flags.is_direct))
        except (LabkeeperError, PermissionError) as error:
            if not self._is_lab_there:
                raise CommandFailed(f"The switches cannot be driven from here: {error}") from error

    def _driving(self, inventory: Inventory) -> Direct:
        """Raises `Misconfigured` when this user may not."""
        if self._direct is None:
            self._direct = Direct(self._host(inventory, self._state_dir()))
        return self._direct

    def _state_dir(self) -> Path:
        return self._flags.state_dir or state_directory(os.environ)

    def _host(self, inventory: Inventory, state_dir: Path) -> Host:
        secrets = secrets_of(os.environ)
        return Host(
            inventory,
            state_dir,
            self._flags.name,
            SystemClock(),
            lambda controller: open_driver(controller, secrets),
            ask_to_reboot,
        )

    async def _chosen(self, known: Collection[str]) -> Sequence[str]:
        if not self._flags.auto_fix:
            return list(dict.fromkeys(self._flags.ids))
        try:
            down = await fetch_down(self._session, self._lab, self._flags.auto_fix_url)
        except LabkeeperError as error:
            raise CommandFailed(told.NO_LIST.format(error)) from error
        chosen = choose(down, _host_names(self._flags.name), known)
        if chosen:
            say(told.WILL_FIX.format(" ".join(chosen), self._flags.pause_s))
            say(told.CANCEL_IT)
            await asyncio.sleep(self._flags.pause_s)
        return chosen

    async def _cycle(self, named: dict[str, str | None]) -> tuple[ExitCode, str]:
        machines = list(dict.fromkeys(each for each in named.values() if each is not None))
        problems = await self._drive(machines)
        bad = {
            given: told.INVALID_ID if machine is None else problems[machine]
            for given, machine in named.items()
            if machine is None or problems[machine]
        }
        await self._tell_daemon([given for given in named if given not in bad])
        if bad:
            return ExitCode.FAILED, "\n".join(told.NOT_CYCLED.format(*each) for each in bad.items())
        return ExitCode.OK, told.ALL_DONE

    async def _drive(self, machines: Sequence[str]) -> dict[str, Problem]:
        if self._lab is None or not self._is_lab_there:
            return await self._drive_here(machines)
        orders = Orders(self._lab, self._order)
        try:
            problems = await orders.cycle(machines)
        except asyncio.CancelledError:
            say("What was ordered goes on: see `labkeeper power history --pending`.")
            raise
        ours = [each for each in self._configured if each in orders.strangers]
        if ours:
            say(f"The lab has no machine {', '.join(ours)}: driving the switches from here.")
            problems |= await self._drive_here(ours)
        return problems

    @property
    def _order(self) -> PowerBody:
        wish = self._flags.wish
        return PowerBody(
            action=PowerAction.CYCLE, delay_s=wish.delay_s, why=wish.why, force=self._flags.force
        )

    async def _drive_here(self, machines: Sequence[str]) -> dict[str, Problem]:
        assert self._inventory is not None
        try:
            return await self._driving(self._inventory).cycle(machines, self._flags.wish)
        except Misconfigured as error:
            return dict.fromkeys(machines, str(error))

    async def _tell_daemon(self, ids: Sequence[str]) -> None:
        url = self._flags.daemon_url
        if not url or not ids or (self._lab is not None and self._lab.is_ours(url)):
            return  # our façade knows it, step by step
        try:
            async with self._session.post(
                url, json={"powercycled_bots": list(ids)}, timeout=_DAEMON_TIME
            ) as answer:
                answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            say(told.NOT_REPORTED.format(plainly(error)))


def _named(given: str, known: Collection[str]) -> str | None:
    """What the lab or the configuration calls it. None: nobody knows it."""
    stem = given.removesuffix(DEVICE_SUFFIX)
    return next((each for each in (given, stem) if each in known), None)


def _host_names(name: str) -> set[str]:
    host = os.uname().nodename
    return {name, host, host.partition(".")[0]}

"""`labkeeper power check`: is the configuration right, and do the controllers answer?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from consumers.powercycle_agent.configuration import Reading, read_configuration
from consumers.powercycle_agent.drivers.errors import DriverError, NotInstalled
from consumers.powercycle_agent.drivers.secrets import Secrets
from consumers.powercycle_agent.inventory import Controller, Inventory
from consumers.powercycle_agent.journal import Journal
from consumers.powercycle_agent.places import CONFIGURATION, secrets_of, state_directory
from consumers.powercycle_agent.probing import trouble_of
from consumers.powercycle_agent.registry import Registry, close_driver, open_driver
from consumers.powercycle_agent.screen import JSON, output_option, tell, write_columns, write_json
from consumers.powercycle_agent.succession import advice, home_of
from pipeline.command import ExitCode
from pipeline.errors import Misconfigured

_AT_ONCE: Final = 32
_LIMIT_S: Final = 60.0
"""For one controller, whatever its driver thinks."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a controller answered."""

    reason: str
    """Why it cannot be used; empty: all is well."""
    seconds: float


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path), default=CONFIGURATION)
@click.option("--connect", is_flag=True, help="Also ask each controller whether it answers and lets us in.")
@output_option
def check_command(file: Path, *, connect: bool, output: str) -> int:
    """Say what a power configuration holds, and what is wrong with it.

    FILE is /etc/powercycle.json5 by default. Nothing is switched. Exit code 2: the file is wrong; 1: with --connect, a
    controller does not answer.

    \b
      labkeeper power check /etc/powercycle.json5 --connect
    """
    try:
        reading = read_configuration(file, Registry.installed())
    except Misconfigured as error:
        problems = str(error).splitlines()
        if output == JSON:
            write_json({"file": str(file), "controllers": [], "warnings": [], "problems": problems})
        tell("\n".join(problems))
        return ExitCode.USAGE
    usable, secrets = _usable(reading), secrets_of(os.environ)
    answers = asyncio.run(ask_all(usable, secrets)) if connect else {}
    missing = [] if connect else asyncio.run(_not_installed(usable, secrets))
    warnings = [*reading.warnings, *missing, *_left_off(reading.inventory)]
    if output == JSON:
        write_json(_document(file, reading, warnings, answers))
    else:
        _write(reading, answers)
    tell("\n".join([*(f"warning: {text}" for text in warnings), *reading.problems]))
    if reading.problems:
        return ExitCode.USAGE
    return ExitCode.FAILED if any(answer.reason for answer in answers.values()) else ExitCode.OK


def check_file(path: Path) -> None:
    """Raises `Misconfigured` when an agent would not begin with this file."""
    read_configuration(path, Registry.installed())


async def ask_all(
    controllers: Sequence[Controller], secrets: Secrets, *, limit_s: float = _LIMIT_S
) -> dict[str, Answer]:
    """Probe controllers, many at a time; by name, in the order given."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(controller: Controller) -> Answer:
        async with gate:
            began = time.monotonic()
            reason = await _reason(controller, secrets, limit_s)
            return Answer(reason, time.monotonic() - began)

    answers = await asyncio.gather(*map(ask, controllers))
    return {controller.name: answer for controller, answer in zip(controllers, answers, strict=True)}


async def _reason(controller: Controller, secrets: Secrets, limit_s: float) -> str:
    """Why the controller cannot be used; empty: it answers."""
    try:
        driver = open_driver(controller, secrets)
    except DriverError as error:
        return str(error)
    try:
        return await trouble_of(driver, limit_s)
    finally:
        await close_driver(driver)


async def _not_installed(controllers: Sequence[Controller], secrets: Secrets) -> list[str]:
    """Packages that drivers miss on this computer, and who needs them. Asks no device."""
    missing: dict[str, list[str]] = {}
    for controller in controllers:
        try:
            await open_driver(controller, secrets).close()
        except NotInstalled as error:
            missing.setdefault(str(error), []).append(controller.name)
        except DriverError:  # whoever connects is told
            continue
    return [f"{', '.join(names)}: {text}" for text, names in missing.items()]


def _left_off(inventory: Inventory) -> list[str]:
    """Ports that this host's agent has left off, where an agent with this file would not find them."""
    try:
        journal = Journal(state_directory(os.environ) / "journal")
    except Misconfigured:  # another user's
        return []
    return [advice(entry) for entry in journal.owing() if home_of(entry, inventory) is None]


def _usable(reading: Reading) -> list[Controller]:
    return [controller for controller in reading.inventory.controllers if not controller.problem]


def _write(reading: Reading, answers: Mapping[str, Answer]) -> None:
    controllers = reading.inventory.controllers
    if not controllers:
        click.echo("There are no controllers.")
        return
    rows = [row for controller in controllers for row in _rows(controller)]
    write_columns([("CONTROLLER", "MACHINE", "PORT", "OFF FOR", "REBOOTS FIRST"), *rows])
    if answers:
        click.echo()
        write_columns(
            [("CONTROLLER", "ANSWER"), *((name, _said(answer)) for name, answer in answers.items())]
        )


def _rows(controller: Controller) -> list[tuple[str, ...]]:
    off_for, first = f"{controller.off_for.total_seconds():g} s", "yes" if controller.soft_reboot else "no"
    if controller.problem:
        off_for, first = "in error", "-"
    ports = controller.ports.items() or [("-", "-")]
    return [(controller.name, machine_id, port, off_for, first) for machine_id, port in ports]


def _said(answer: Answer) -> str:
    return answer.reason or f"ok ({answer.seconds:.1f} s)"


def _document(
    file: Path, reading: Reading, warnings: Sequence[str], answers: Mapping[str, Answer]
) -> dict[str, Any]:
    return {
        "file": str(file),
        "controllers": [
            {
                "name": controller.name,
                "ports": dict(controller.ports),
                "off_for_s": None if controller.problem else controller.off_for.total_seconds(),
                "reboots_first": controller.soft_reboot is not None,
                "problem": controller.problem,
                "answer": _answer(answers.get(controller.name)),
            }
            for controller in reading.inventory.controllers
        ],
        "warnings": list(warnings),
        "problems": reading.problems,
    }


def _answer(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {"ok": not answer.reason, "reason": answer.reason, "seconds": round(answer.seconds, 3)}

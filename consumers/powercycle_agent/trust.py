"""`labkeeper power trust`: learns the host keys of controllers that are spoken to over SSH. The only way in which any is learnt."""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from consumers.powercycle_agent.configuration import read_configuration
from consumers.powercycle_agent.drivers.errors import DriverError
from consumers.powercycle_agent.drivers.ssh import HostKey, host_key
from consumers.powercycle_agent.drivers.ssh_settings import SshSettings
from consumers.powercycle_agent.inventory import Controller
from consumers.powercycle_agent.known_hosts import Judgement, KnownHosts, Standing
from consumers.powercycle_agent.places import known_hosts
from consumers.powercycle_agent.plain_text import plain, quoted
from consumers.powercycle_agent.registry import Registry
from consumers.powercycle_agent.screen import tell
from pipeline.command import CommandFailed, ExitCode
from pipeline.errors import Misconfigured

_AT_ONCE: Final = 16
_PREFIX: Final = "SHA256:"


@dataclass(frozen=True, slots=True)
class _Device:
    """An SSH server; several controllers may share it."""

    names: str
    settings: SshSettings


@dataclass(frozen=True, slots=True)
class _Consent:
    """What the person has agreed to in advance."""

    yes: bool
    fingerprints: frozenset[str]
    replace: bool


def _fingerprints(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> frozenset[str]:
    for value in values:
        if not value.startswith(_PREFIX):
            raise click.BadParameter(f"{value!r}: expected {_PREFIX} and the digest in base64")
    return frozenset(value.rstrip("=") for value in values)


def _complete(context: click.Context, _argument: click.Parameter, incomplete: str) -> list[str]:
    """Names of the controllers in the file that was typed before."""
    try:
        controllers = _controllers(context.params["file"])
    except CommandFailed:
        return []
    speak_ssh = [one for one in controllers if isinstance(one.settings, SshSettings)]
    return [one.name for one in speak_ssh if one.name.startswith(incomplete)] or [
        one.label for one in speak_ssh if one.label.startswith(incomplete)
    ]


@click.command("trust")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("controllers", nargs=-1, metavar="[CONTROLLER]...", shell_complete=_complete)
@click.option("--yes", "-y", is_flag=True, help="Believe whatever key a device shows.")
@click.option(
    "--fingerprint",
    "fingerprints",
    multiple=True,
    callback=_fingerprints,
    metavar="SHA256:...",
    help="Believe a key that has this fingerprint, and no other; may be repeated. Asks nothing.",
)
@click.option("--replace", is_flag=True, help="Also where another key has been known so far.")
def trust_command(
    file: Path, controllers: tuple[str, ...], *, yes: bool, fingerprints: frozenset[str], replace: bool
) -> int:
    """Learn the SSH host keys of controllers in FILE, all of them unless some are named (as kind/label or label).

    Shows each device's key, and asks: compare the fingerprint with what the device's own console or web page shows.
    Nobody logs in. Exit code 1: a key was not learnt; 5: a device shows another key than the known one, or a revoked one.

    \b
      labkeeper power trust /etc/powercycle.json5 rack4-switch1
    """
    if yes and fingerprints:
        raise click.UsageError("--yes believes any key and --fingerprint only some: give one of them")
    chosen, codes = _choose(_controllers(file), controllers, file)
    devices = _devices(chosen)
    if not chosen and not codes:
        click.echo(f"No controller in {plain(str(file))} is spoken to over SSH: there is nothing to learn.")
    known = KnownHosts(known_hosts(os.environ))
    consent = _Consent(yes, fingerprints, replace)
    for device, shown in zip(devices, asyncio.run(_shown(devices)), strict=True):
        codes.append(_settle(device, shown, known, consent))
    return max(codes, default=ExitCode.OK)


def _controllers(file: Path) -> Sequence[Controller]:
    try:
        return read_configuration(file, Registry.installed()).inventory.controllers
    except Misconfigured as error:
        raise CommandFailed(str(error), ExitCode.USAGE) from error


def _choose(
    controllers: Sequence[Controller], names: Sequence[str], file: Path
) -> tuple[list[Controller], list[ExitCode]]:
    """The controllers whose keys are to be learnt, and a code for each that cannot be used."""
    wanted = [one for name in names for one in _named(controllers, name, file)] if names else controllers
    usable: list[Controller] = []
    codes: list[ExitCode] = []
    for one in {one.name: one for one in wanted}.values():
        if one.problem:
            tell(one.problem)
            codes.append(ExitCode.FAILED)
        elif isinstance(one.settings, SshSettings):
            usable.append(one)
        elif names:
            raise CommandFailed(f"{one.name} is not spoken to over SSH: it has no host key", ExitCode.USAGE)
    return usable, codes


def _named(controllers: Sequence[Controller], name: str, file: Path) -> list[Controller]:
    found = [one for one in controllers if name in {one.name, one.label}]
    if not found:
        close = difflib.get_close_matches(name, [one.name for one in controllers], n=1)
        hint = f": did you mean {close[0]}?" if close else ""
        raise CommandFailed(f"there is no controller {quoted(name)} in {file}{hint}", ExitCode.NOT_FOUND)
    if len(found) > 1 and name not in {one.name for one in found}:
        both = " and ".join(one.name for one in found)
        raise CommandFailed(f"{quoted(name)} may be {both}: say which", ExitCode.USAGE)
    return found


def _devices(controllers: Sequence[Controller]) -> list[_Device]:
    """What is to be asked; entries that pin a key need nothing."""
    devices: dict[tuple[str, int], _Device] = {}
    for one in controllers:
        assert isinstance(one.settings, SshSettings)  # so they were chosen
        if one.settings.host_key is not None:
            click.echo(f"{one.name}: its entry has the key (host_key); there is nothing to learn")
            continue
        place = (one.settings.address, one.settings.ssh_port)
        before = devices.get(place)
        names = f"{before.names}, {one.name}" if before else one.name
        devices[place] = _Device(names, one.settings)
    return list(devices.values())


async def _shown(devices: Sequence[_Device]) -> list[HostKey | DriverError]:
    """What each device shows, or why it does not."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(device: _Device) -> HostKey | DriverError:
        async with gate:
            try:
                return await host_key(device.settings)
            except DriverError as error:
                return error

    return await asyncio.gather(*map(ask, devices))


def _settle(device: _Device, shown: HostKey | DriverError, known: KnownHosts, consent: _Consent) -> ExitCode:
    """Learn one key, or say why not."""
    if isinstance(shown, DriverError):
        tell(f"{device.names}: {shown}")
        return ExitCode.FAILED
    settings = device.settings
    judgement = known.judge(settings.address, settings.ssh_port, shown.fingerprint)
    key = f"{shown.line.split()[1]} {shown.fingerprint}"
    learnt = f"{key} at {settings.place}"
    if judgement.standing is Standing.KNOWN:
        click.echo(f"{device.names}: known already: {learnt}")
        return ExitCode.OK
    if judgement.standing is not Standing.NEW:
        tell(_alarm(device, judgement, key, replacing=consent.replace))
        if judgement.standing is Standing.REVOKED or not consent.replace:
            return ExitCode.CONFLICT
    if not _agreed(device, key, shown.fingerprint, consent):
        return ExitCode.FAILED
    known.learn(settings.address, settings.ssh_port, shown.line, replace=consent.replace)
    click.echo(f"{device.names}: learnt: {learnt}")
    return ExitCode.OK


def _alarm(device: _Device, judgement: Judgement, key: str, *, replacing: bool) -> str:
    who = f"{device.names} ({device.settings.place})"
    if judgement.standing is Standing.REVOKED:
        return (
            f"WARNING: {who} shows a key that is revoked: {key}\nSomebody else may have it. It is not learnt."
        )
    lines = [
        f"WARNING: {who} shows ANOTHER host key than the known one!",
        *(f"  known: {other}" for other in judgement.others),
        f"  shown: {key}",
        "Either the device was reset or exchanged, or somebody stands between you and it and would get its password.",
    ]
    if not replacing:
        lines.append("If you know why, compare the fingerprint with the device's own, and use --replace.")
    return "\n".join(lines)


def _agreed(device: _Device, key: str, fingerprint: str, consent: _Consent) -> bool:
    if consent.fingerprints:
        if fingerprint not in consent.fingerprints:
            tell(f"{device.names}: shows {key}, which is not what --fingerprint says: not learnt")
            return False
        return True
    if consent.yes:
        return True
    try:
        agreed = click.confirm(
            f"{device.names} at {device.settings.place} shows {key}. Is it the device's?", err=True
        )
    except click.Abort as error:
        click.echo(err=True)  # the question's line is still open
        raise CommandFailed(
            f"{device.names}: not learnt: there was no answer (--fingerprint {fingerprint} answers for you)"
        ) from error
    if not agreed:
        tell(f"{device.names}: not learnt")
    return agreed

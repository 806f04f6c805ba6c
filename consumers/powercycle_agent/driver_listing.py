"""`labkeeper power drivers`: which kinds of controllers there are."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click

from consumers.powercycle_agent.registry import BrokenKind, Registry
from consumers.powercycle_agent.screen import JSON, output_option, tell, write_columns, write_json
from pipeline.command import ExitCode


@dataclass(frozen=True, slots=True)
class _Line:
    kind: str
    package: str
    reads_back: bool | None
    """Whether a port's state is asked of the device after switching; None: not known, the driver is broken."""
    off_for_s: float | None
    reboots_first: bool | None
    problem: str


@click.command("drivers")
@output_option
def drivers_command(output: str) -> int:
    """List the kinds of controllers that a power configuration may name, and the packages that bring them.

    READS BACK says whether the device is asked, after switching, what state the port is in. Exit code 1: a driver is broken.
    """
    registry = Registry.installed()
    lines = [_line(registry, name) for name in registry.names]
    if output == JSON:
        write_json([asdict(line) for line in lines])
    else:
        heading = ("KIND", "READS BACK", "OFF FOR", "REBOOTS FIRST", "PACKAGE")
        write_columns([heading, *map(_row, lines)])
    problems = [line.problem for line in lines if line.problem]
    tell("\n".join(problems))
    return ExitCode.FAILED if problems else ExitCode.OK


def _line(registry: Registry, name: str) -> _Line:
    package = registry.origin(name)
    try:
        kind = registry.kind(name)
    except BrokenKind as error:
        return _Line(name, package, None, None, None, str(error))
    return _Line(name, package, kind.reads_back, kind.off_for.total_seconds(), kind.soft_reboot, "")


def _row(line: _Line) -> tuple[str, ...]:
    if line.problem:
        return line.kind, "broken", "-", "-", line.package
    words = {True: "yes", False: "no", None: "-"}
    return line.kind, words[line.reads_back], f"{line.off_for_s:g} s", words[line.reboots_first], line.package

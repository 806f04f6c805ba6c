"""`labkeeper power drivers`: which kinds of controllers there are."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import click
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from consumers.powercycle_agent.configuration import unknown_kind
from consumers.powercycle_agent.drivers.settings import ControllerSettings
from consumers.powercycle_agent.registry import BrokenKind, Registry
from consumers.powercycle_agent.screen import JSON, output_option, tell, write_columns, write_json
from pipeline.command import CommandFailed, ExitCode


@dataclass(frozen=True, slots=True)
class _Line:
    kind: str
    package: str
    reads_back: bool | None
    """Whether a port's state is asked of the device after switching; None: not known, the driver is broken."""
    off_for_s: float | None
    reboots_first: bool | None
    problem: str


def _complete(_context: click.Context, _argument: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in Registry.installed().names if name.startswith(incomplete)]


@click.command("drivers")
@click.argument("kind", required=False, shell_complete=_complete)
@output_option
def drivers_command(kind: str | None, output: str) -> int:
    """List the kinds of controllers that a power configuration may name, and the packages that bring them.

    With KIND, list the keys that an entry of this kind may have. READS BACK says whether the device is asked, after switching,
    what state the port is in. Exit code 1: a driver is broken.

    \b
      labkeeper power drivers edgeswitch
    """
    registry = Registry.installed()
    if kind is not None:
        _write_keys(_settings_of(registry, kind), output)
        return ExitCode.OK
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


def _settings_of(registry: Registry, name: str) -> type[ControllerSettings]:
    if name not in registry.names:
        raise CommandFailed(unknown_kind(name, registry.names), ExitCode.NOT_FOUND)
    try:
        return registry.kind(name).settings
    except BrokenKind as error:
        raise CommandFailed(str(error)) from error


def _write_keys(settings: type[ControllerSettings], output: str) -> None:
    fields = {field.alias or name: field for name, field in settings.model_fields.items()}
    required = [key for key, field in fields.items() if field.is_required() or key in settings.demanded]
    if output == JSON:
        write_json(settings.model_json_schema() | {"required": required})
        return
    keys = sorted(fields, key=lambda key: (key not in required, key))
    rows = [(key, *_described(fields[key], is_required=key in required)) for key in keys]
    write_columns([("KEY", "DEFAULT", "MEANING"), *rows])


def _described(field: FieldInfo, *, is_required: bool) -> tuple[str, str]:
    meaning = " ".join((field.description or "").split())
    if is_required:
        return "required", meaning
    default = field.get_default(call_default_factory=True, validated_data={})
    return "-" if default is None else to_json(default, fallback=str).decode(), meaning

"""How a machine looks to a person: its state in one word, the reason, and everything else in a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, assert_never

from rich.text import Text

from producers.labkeeper.documents import read_as
from producers.labkeeper.output import Cell, Column, Fit
from producers.labkeeper.text import ago, printable, rough_duration, short_duration
from schemas.changes import ChangeKind, HistoryEntry
from schemas.description import Annotation, AttachedDevice, Description, PowerCycleState
from schemas.event import BAD_BATTERY_LEVEL
from schemas.health import Health, states_of
from schemas.wire import ZERO_TIME, format_time

STYLES: Final = {
    Health.AVAILABLE: "green",
    Health.BUSY: "cyan",
    Health.MAINTENANCE: "blue",
    Health.RECOVERING: "yellow",
    Health.QUARANTINED: "magenta",
    Health.DOWN: "red",
}
_NOTHING: Final = "-"
_WITH_BATTERY: Final = ("android", "ios")

COLUMNS: Final = (
    Column("MACHINE"),
    Column("STATE"),
    Column("WHY", Fit.CUT),
    Column("DEVICE"),
    Column("BATT", right=True),
    Column("SEEN", right=True),
)
HISTORY_COLUMNS: Final = (
    Column("WHEN"),
    Column("WHAT"),
    Column("WHO"),
    Column("CHANGE", Fit.WRAP),
)


@dataclass(frozen=True, slots=True)
class State:
    """A machine's state in one word, with the reasons; those of further states too."""

    health: Health
    why: str

    @property
    def style(self) -> str:
        """A rich style."""
        return STYLES[self.health]

    def __str__(self) -> str:
        return f"{self.health}: {self.why}" if self.why else str(self.health)


def read_machine(document: Mapping[str, Any]) -> Description:
    """A Description from the façade's answer; raises `CommandFailed`."""
    return read_as(Description, document, "a machine")


def read_entry(document: Mapping[str, Any]) -> HistoryEntry:
    """A HistoryEntry from the façade's answer; raises `CommandFailed`."""
    return read_as(HistoryEntry, document, "a history")


def id_of(document: Mapping[str, Any]) -> str:
    """The machine's id in the façade's JSON; empty when it has none."""
    values = (document.get("Dimensions") or {}).get("id") or [""]
    return str(values[0])


def state_of(machine: Description, now: datetime) -> State:
    """The worst state, and why; further states are told with it."""
    first, *others = states_of(machine)
    told = [_told(machine, health, now) for health in others]
    return State(first, "; ".join(filter(None, (_reason(machine, first, now), *told))))


def _told(machine: Description, health: Health, now: datetime) -> str:
    why = _reason(machine, health, now)
    return f"{health}: {why}" if why else str(health)


def _reason(machine: Description, health: Health, now: datetime) -> str:
    """Why it is in this state, in the words of the web page."""
    match health:
        case Health.DOWN:
            return f"silent for {short_duration(now - machine.down_since)}"
        case Health.QUARANTINED:
            return "forced by a task"
        case Health.MAINTENANCE:
            return _maintenance(machine.maintenance_mode)
        case Health.RECOVERING:
            return machine.recovering.strip()
        case Health.BUSY:
            return machine.task_request.name if machine.task_request is not None else "Swarming"
        case Health.AVAILABLE:
            return ""
        case _:
            assert_never(health)


def _maintenance(mode: str) -> str:
    """`<user> <time>`, then perhaps a reason: the reason first, the user without the domain."""
    who, _, rest = mode.partition(" ")
    _, _, reason = rest.partition(" ")
    return f"{reason} ({short_user(who)})" if reason else f"by {short_user(who)}"


def row_of(machine: Description, now: datetime) -> Sequence[str | Cell]:
    """The machine in the table of `COLUMNS`."""
    state = state_of(machine, now)
    return (
        _first(machine.dimension("id")),
        Cell(state.health.value, state.style),
        state.why,
        device_of(machine),
        battery_of(machine),
        "never" if machine.last_updated == ZERO_TIME else rough_duration(now - machine.last_updated),
    )


def history_row(entry: HistoryEntry) -> Sequence[str]:
    """An entry in the table of `HISTORY_COLUMNS`."""
    change = f"{in_words(entry.kind, entry.before)} → {in_words(entry.kind, entry.after)}"
    return (
        moment(entry.at),
        entry.kind.value,
        short_user(entry.who),
        change if entry.why in change else f"{change} ({entry.why})",
    )


def in_words(kind: ChangeKind, value: str) -> str:
    """An old or new value of a history entry."""
    if value and kind is ChangeKind.MODE:
        return f"maintenance: {_maintenance(value)}"
    return value or _NOTHING


def short_user(user: str) -> str:
    """An e-mail address without its domain."""
    return user.partition("@")[0] or user


def device_of(machine: Description) -> str:
    """What kind of device is attached."""
    return _NOTHING if machine.attached_device in ("", AttachedDevice.NONE) else machine.attached_device


def battery_of(machine: Description) -> str:
    """The battery in percent; `?` when it could not be read, `-` when the device has none."""
    if machine.device_kind not in _WITH_BATTERY:
        return _NOTHING
    if machine.battery == BAD_BATTERY_LEVEL:
        return "?"
    return f"{machine.battery}%" if machine.battery else _NOTHING


def moment(time: datetime) -> str:
    """A time to the second, in UTC."""
    return _NOTHING if time == ZERO_TIME else format_time(time.replace(microsecond=0))


def _since(time: datetime, now: datetime) -> str:
    return "never" if time == ZERO_TIME else ago(time, now)


def _first(values: Sequence[str]) -> str:
    return values[0] if values else _NOTHING


def details(machine: Description, now: datetime) -> Iterator[Text]:
    """All that is known about a machine, a line each."""
    state = state_of(machine, now)
    yield Text(printable(_first(machine.dimension("id"))), style="bold")
    yield Text.assemble(_label("state"), (printable(str(state)), state.style))
    for name, value in _facts(machine, now):
        yield Text.assemble(_label(name), printable(value))
    yield Text(_label("dimensions").rstrip() if machine.dimensions else _label("dimensions") + _NOTHING)
    for key, values in (machine.dimensions or {}).items():
        yield Text.assemble(f"    {printable(key)} = ", printable(", ".join(values or ())))


def _label(name: str) -> str:
    return f"  {name:<14}"


def _facts(machine: Description, now: datetime) -> Iterator[tuple[str, str]]:
    yield "last seen", f"{moment(machine.last_updated)} ({_since(machine.last_updated, now)})"
    yield "device", _device_in_full(machine)
    yield "battery", battery_of(machine)
    yield "temperature", _temperatures(machine)
    yield "power", _power(machine)
    if machine.in_maintenance:
        yield "maintenance", machine.maintenance_mode
    if machine.is_recovering:
        yield "recovering", f"since {moment(machine.recovery_start)}"
    if machine.task_request is not None:
        yield "task", f"{machine.task_request.name or _NOTHING}, since {moment(machine.task_started)}"
    yield "note", _said(machine.note)
    yield "last action", _said(machine.annotation)
    yield "monitor", machine.version or _NOTHING
    yield "row version", str(machine.row_version)


def _device_in_full(machine: Description) -> str:
    parts = [device_of(machine)]
    if machine.device_kind:
        parts.append(f"seen as {machine.device_kind}")
    if machine.ssh_user_ip:
        parts.append(machine.ssh_user_ip)
    if machine.device_uptime_s > 0:
        parts.append(f"up for {short_duration(timedelta(seconds=machine.device_uptime_s))}")
    return ", ".join(parts)


def _temperatures(machine: Description) -> str:
    readings = [f"{sensor} {degrees:g} °C" for sensor, degrees in (machine.temperature or {}).items()]
    return ", ".join(readings) or _NOTHING


def _power(machine: Description) -> str:
    words = {
        PowerCycleState.AVAILABLE: "can be cycled",
        PowerCycleState.IN_ERROR: "its controller is in error",
    }
    able = (
        words.get(PowerCycleState(machine.power_cycle_state)) if _known(machine.power_cycle_state) else None
    )
    return (able or "cannot be cycled") + (", cycle requested" if machine.power_cycle else "")


def _known(power_cycle_state: str) -> bool:
    return power_cycle_state in set(PowerCycleState)


def _said(annotation: Annotation) -> str:
    if not annotation.message:
        return _NOTHING
    return f"{annotation.message} ({annotation.user or 'unknown'}, {moment(annotation.timestamp)})"

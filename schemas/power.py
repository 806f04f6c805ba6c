"""Power: `PowerCommand`, the value of `power.commands`; `PowerStep` and `ControllerReport`, the values of `power.results`.

A command goes queued → accepted → off → on → done (`off` and `on` as the action needs them), or ends as failed, expired,
refused or cancelled. Applied once per id, by the agent and by the store.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from schemas.description import PowerCycleState
from schemas.ids import MachineId
from schemas.wire import Bool, Float, Time, WireModel

MAX_DELAY_S: Final = 600.0
"""Longest time between off and on that can be asked for."""
MAX_TEXT: Final = 2000
"""Characters of a reason, or of what is told of a command or a controller."""
AGENT_SILENCE: Final = timedelta(minutes=10)
"""An agent tells of its ports every two minutes: one that has not for so long is away."""

_OLDER_AGENT: Final = "older-agent/"

CommandId = Annotated[str, Field(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$")]
_Text = Annotated[str, Field(max_length=MAX_TEXT)]
_Delay = Annotated[Float, Field(gt=0, le=MAX_DELAY_S)]


class PowerAction(StrEnum):
    """What is to be done with a machine's power."""

    CYCLE = "cycle"
    ON = "on"
    OFF = "off"


class PowerStatus(StrEnum):
    """How far a command is."""

    QUEUED = "queued"
    """Nobody has begun."""
    ACCEPTED = "accepted"
    """An agent has written it into its journal and is about to drive the port."""
    OFF = "off"
    """The port is off; confirmed by the device, where it can be asked."""
    ON = "on"
    """The port is on again; confirmed likewise."""
    DONE = "done"
    FAILED = "failed"
    EXPIRED = "expired"
    """It was not begun in time; nothing was switched."""
    REFUSED = "refused"
    """The agent would not begin; nothing was switched."""
    CANCELLED = "cancelled"
    """Withdrawn before it was begun."""

    @property
    def is_pending(self) -> bool:
        """Whether the command has not ended."""
        return self in _PENDING


_PENDING: Final = frozenset({PowerStatus.QUEUED, PowerStatus.ACCEPTED, PowerStatus.OFF, PowerStatus.ON})


class PowerCommand(WireModel):
    """Drive the power of one machine. The agent that has the machine's port carries it out."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: CommandId
    """ULID."""
    machine_id: MachineId
    action: PowerAction
    delay_s: _Delay | None = None
    """Seconds between off and on; null: as the controller's configuration says."""
    who: str
    """Who asked."""
    why: _Text = ""
    """The reason that was given, if any."""
    requested_at: Time
    expires_at: Time
    """Not to be begun from then on."""
    cancelled: Bool = False
    """Withdrawn: whoever has not begun it yet must not."""
    force: Bool = False
    """It was to be queued although a task ran, somebody else maintained the machine, or its controller did not answer."""
    agent: str = ""
    """Who alone may begin it: the agent that reported the machine's outlet last; empty: whichever has the machine."""


class PowerStep(WireModel):
    """What became of a command. Taking one twice, or out of order, is harmless."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: Literal["step"] = "step"
    command_id: CommandId
    machine_id: MachineId
    status: PowerStatus
    """Where the command is now; never `queued`."""
    at: Time
    """The agent's clock when it was so."""
    agent: str
    """Who says so."""
    text: _Text = ""
    """Why, or what the device said."""
    command: PowerCommand | None = None
    """The command itself, when it did not come through the store (a person drove the switch while we were away)."""


class ControllerReport(WireModel):
    """Whether the controller of a machine's port answers. Repeated every few minutes."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: Literal["report"] = "report"
    machine_id: MachineId
    state: PowerCycleState
    agent: str
    controller: str
    """`<kind>/<label>`, such as `edgeswitch/rack4-switch1`; of an agent of the older system `older-agent/<its name>`."""
    port: str
    at: Time
    text: _Text = ""
    """What is wrong with the controller; empty when it is available."""


PowerResult = PowerStep | ControllerReport


class _Kind(WireModel):
    type: Literal["step", "report"]


class PowerMoment(WireModel):
    """When a command reached a status."""

    status: PowerStatus
    at: Time
    text: str = ""


class PowerRecord(WireModel):
    """A command and what became of it: one row of `power_commands`."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    command: PowerCommand
    status: PowerStatus
    steps: list[PowerMoment]
    """Every status it has reached, in time's order, with `queued` first."""
    agent: str = ""
    """Who carries it out; empty while it is queued."""
    text: str = ""
    """Why it ended as it did; while it is pending, why it takes so long."""


class PowerOutlet(WireModel):
    """Where a machine's power comes from, as its agent said last."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    machine_id: MachineId
    agent: str
    controller: str
    """`<kind>/<label>`; `older-agent/<its name>`: an agent of the older system, which does not tell."""
    port: str
    """Empty where an agent of the older system has the machine."""
    state: PowerCycleState
    text: str = ""
    reported_at: Time

    @property
    def is_of_older_agent(self) -> bool:
        """Whether an agent of the older system has the machine: one that says so when it starts, and never again."""
        return self.controller.startswith(_OLDER_AGENT)

    def agent_silence(self, now: datetime) -> timedelta | None:
        """For how long nothing was heard of the agent; None: it is there, or is one that is not heard of."""
        silence = now - self.reported_at
        return silence if silence > AGENT_SILENCE and not self.is_of_older_agent else None


def older_agents_report(
    machine_id: str, state: PowerCycleState, *, agent: str, at: datetime
) -> ControllerReport:
    """What an agent of the older system means when it tells a machine's state: no more than that it has the machine."""
    return ControllerReport(
        machine_id=machine_id, state=state, agent=agent, controller=_OLDER_AGENT + agent, port="", at=at
    )


def agent_lease(agent: str) -> str:
    """The lease that one process at a time holds to be the agent of this name."""
    return f"powercycle-agent:{agent}"


def read_result(value: bytes) -> PowerResult:
    """Read a message of `power.results`. Raises `pydantic.ValidationError`, which names the field."""
    is_step = _Kind.model_validate_json(value).type == "step"
    return PowerStep.model_validate_json(value) if is_step else ControllerReport.model_validate_json(value)

"""What a Swarming server says of a bot, and what the old power site made of it.

The server's side is `swarming.v2.BotInfo` of luci-go, as pRPC writes it in JSON.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from schemas import event
from schemas.wire import ZERO_TIME, Time

_MAX_TEXT: Final = 500
_MAX_DIMENSIONS: Final = 100
_MAX_VALUES: Final = 100


class DimensionOfBot(BaseModel):
    """A dimension and its values."""

    model_config = ConfigDict(frozen=True)

    key: str = ""
    value: list[str] = Field(default_factory=list)


class Bot(BaseModel):
    """A bot, as far as we look at it."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(alias="botId")
    task_id: str = Field(default="", alias="taskId")
    is_dead: bool = Field(default=False, alias="isDead")
    last_seen: Time = Field(default=ZERO_TIME, alias="lastSeenTs")
    quarantined: bool = False
    maintenance: str = Field(default="", alias="maintenanceMsg")
    deleted: bool = False
    dimensions: list[DimensionOfBot] = Field(default_factory=list)
    state: str = ""
    """JSON that the bot writes; anything may be in there."""

    def report(self, server: str) -> event.SwarmingBot:
        """What the lab is told of it."""
        state = _state(self.state)
        return event.SwarmingBot(
            server=server,
            is_dead=self.is_dead,
            last_seen=self.last_seen,
            quarantine=_why_quarantined(state) if self.quarantined else "",
            maintenance=_short(self.maintenance),
            device_missing=self.quarantined and not self.is_dead and is_device_missing(state),
            task_id=_short(self.task_id),
            dimensions={
                _short(each.key): [_short(value) for value in each.value[:_MAX_VALUES]]
                for each in self.dimensions[:_MAX_DIMENSIONS]
                if each.key
            },
        )


def deleted_bot(bot_id: str) -> Bot:
    """What is told of a bot that its server does not have any more: nobody need bring it back."""
    return Bot.model_validate({"botId": bot_id, "maintenanceMsg": "deleted there"})


class BotPage(BaseModel):
    """`swarming.v2.BotInfoListResponse`."""

    model_config = ConfigDict(frozen=True)

    items: list[Bot] = Field(default_factory=list)
    cursor: str = ""
    """Empty: this was the last page."""


def is_device_missing(state: dict[str, Any] | None) -> bool:
    """The old power site's rule for a quarantined bot: would cycling its device help?

    No when the state cannot be read, yes when it knows no devices. Otherwise one device is looked at: too hot, no; a USB
    failure, or stuck while booting, yes; anything else, no. `state` is None when it cannot be read.
    """
    if state is None:
        return False
    devices = state.get("devices")
    if not isinstance(devices, dict) or not devices:
        return True
    device = devices[min(devices)]
    said = str(device.get("state", "")) if isinstance(device, dict) else ""
    if said == "too_hot":
        return False
    return said == "usb_failure" or "booting" in said


def _state(text: str) -> dict[str, Any] | None:
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


def _why_quarantined(state: dict[str, Any] | None) -> str:
    """A bot says it in its state; when the server did it by itself, nobody says."""
    why = (state or {}).get("quarantined")
    return _short(why) if isinstance(why, str) and why else "no reason given"


def _short(text: str) -> str:
    """Of a foreign text as much as a person reads, and nothing that a database cannot keep."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode().replace("\0", "")

"""What self-healing decided about a machine, as `Description.healing` says it: `<state>: <reason>`."""

from __future__ import annotations

from enum import StrEnum


class HealingState(StrEnum):
    """Where self-healing is with a machine that is in trouble."""

    WAITING = "waiting"
    """It would cycle the machine, but not yet: not in trouble for long enough, or a pause after the last try."""
    HELD = "held"
    """It would cycle the machine, but something forbids it: maintenance, a task, a bound of the pool or the rack, a dry run."""
    CYCLING = "cycling"
    """A power cycle was ordered, and has not helped yet."""
    GAVE_UP = "gave up"
    """Tried as often as it may: a person must look."""
    HEALED = "healed"
    """The machine is well again after a power cycle of ours."""


def healing_text(state: HealingState, reason: str) -> str:
    """The text for `Description.healing`."""
    return f"{state.value}: {reason}"


def healing_state(text: str) -> HealingState | None:
    """The state that such a text tells of; None when there is none."""
    word, colon, _ = text.partition(":")
    return next((state for state in HealingState if colon and state.value == word), None)

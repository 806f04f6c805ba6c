"""What self-healing decided about a machine, as `Description.healing` says it: `<state>: <reason>`."""

from __future__ import annotations

from enum import StrEnum

from schemas.api import Answer


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


class HealingCheck(Answer):
    """One condition for a power cycle."""

    name: str
    passed: bool
    text: str
    """Why it holds, or what stands against it."""


class HealingExplanation(Answer):
    """What self-healing would do with a machine now, and why."""

    machine_id: str
    state: HealingState | None
    """Null: there is nothing to do, or self-healing is off for its pool."""
    reason: str
    """Why: the first check that failed."""
    would_cycle: bool
    """Whether a power cycle would be ordered now."""
    checks: list[HealingCheck]
    """In the order in which they count. Of a machine that is well, or that self-healing leaves alone, the later ones are left out."""

"""Errors, named for the reaction they ask for. Anything else that is raised ends the process.

Client libraries' exceptions are translated into these once, in the adapter that talks to the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final


class LabkeeperError(Exception):
    """Base of all errors that Labkeeper raises on purpose. The text says what to do about it."""


class Retryable(LabkeeperError):
    """The fault lies with the surroundings (database, broker, network): back off and try the same again."""


class StoreUnavailable(Retryable):
    """The database cannot be reached, or asked us to come back later."""


class BrokerUnavailable(Retryable):
    """The broker cannot be reached, or asked us to come back later."""


class LeaseLost(Retryable):
    """Another member of the group owns the partition by now: its messages will be, or were, read there as well."""


class Overloaded(Retryable):
    """The receiver is busy: slow down."""


class Rejected(LabkeeperError):
    """This one message can never be processed: park it with the reason and go on."""


class VersionMismatch(Rejected):
    """The machine is in another version than the caller knew: look again, then decide again."""

    def __init__(self, machine_id: str, version: int) -> None:
        super().__init__(
            f"machine {machine_id!r} has changed meanwhile and is in version {version}: look at it again"
        )


class PowerRefused(Rejected):
    """The power of this machine must not be driven now. The text says why, and what to do."""

    def __init__(self, reason: str, text: str) -> None:
        """`reason`: one word for programs, such as `task_running`."""
        super().__init__(text)
        self.reason = reason


class KeyReused(Rejected):
    """An idempotency key has come with another request before. The text says what is different, and what to do."""

    reason: Final = "idempotency_key_reused"
    """For programs."""

    def __init__(self, machine_id: str, different: Sequence[str]) -> None:
        super().__init__(
            f"this Idempotency-Key has made a power command for {machine_id!r} already, from another request (different: "
            f"{', '.join(different)}): repeat that request as it was, or give a new one a new key"
        )


class TooManyRejects(LabkeeperError):
    """Nearly everything is being rejected: something upstream is broken, so stop before the topic drains away."""


class MachineNotFound(LabkeeperError):
    """No machine has this id."""

    def __init__(self, machine_id: str) -> None:
        super().__init__(f"there is no machine {machine_id!r}")
        self.machine_id = machine_id


class Misconfigured(LabkeeperError):
    """A setting, file or environment is wrong. The text names it and says what to change."""


class TurnedAway(Misconfigured):
    """A server does not take our name, password or certificate."""

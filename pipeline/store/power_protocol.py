"""What every store promises about power commands, outlets and silences. Held by `tests/contract/test_power_store.py`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from pipeline.store.protocol import Updated
from schemas.description import Description
from schemas.power import PowerCommand, PowerOutlet, PowerRecord, PowerResult
from schemas.silence import Silence

SILENCES_KEPT: Final = timedelta(days=90)
"""How long one that has ended can still be looked up."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What came of asking for a command."""

    record: PowerRecord
    machine: Description
    """As it is now, with `row_version`."""
    is_new: bool
    """False: the record was there already, pending for this machine or under the same idempotency key."""


class PowerStore(Protocol):
    """Commands and what becomes of them. Every write is one retried transaction, as in `protocol.Store`.

    A command's row, its machine's Description and the messages about both change together. All raise `StoreUnavailable`.

    When a machine is deleted its queued commands are cancelled with it; those begun end by themselves. What the
    Description tells of is the pending command, or with none the newest.
    """

    async def order_power(
        self,
        command: PowerCommand,
        *,
        now: datetime,
        idempotency_key: str = "",
        versions: Collection[int] | None = None,
    ) -> Ordered:
        """Queue a command: its row, the Description (`processor.power.ordered`), history with the command's `why`, and two
        messages in the outbox, the MachineChange and the PowerCommand. It is for the agent that reported the outlet last.

        A command that the same idempotency key made for this machine is returned as it is now; if that was of another
        wish (action, delay, reason, force, time to expire) this raises `KeyReused`. A key counts as long as its command is
        kept. One that is pending for the machine is returned, too, whatever it asks for. Then nothing is written.

        A queued command of the machine that has expired is not pending: it is ended as `expire_power` would end it, in the
        same transaction, before the new one is made (or it is returned, where it bears the key). Raises `PowerRefused` when
        `processor.power.refusal` says so, `MachineNotFound`, and with `versions` `VersionMismatch`; then nothing is written.
        """
        ...

    async def cancel_power(
        self,
        machine_id: str,
        *,
        now: datetime,
        who: str,
        why: str = "",
        versions: Collection[int] | None = None,
    ) -> Ordered | None:
        """Withdraw the pending command of a machine that nobody has begun: its row, the Description (annotation
        `Cancelled powercycle for "<id>"`), and two messages, the command's with `cancelled`. Row and history say why.

        None: no command is pending; a `PowerCycle` flag that stands without one is taken down all the same. Raises
        `PowerRefused` when an agent has begun, `MachineNotFound`, `VersionMismatch`.
        """
        ...

    async def apply_power(
        self, results: Sequence[PowerResult], *, now: datetime, announce: bool = False
    ) -> Sequence[Updated]:
        """Take steps and reports into account, in order, all in one transaction; return the machines that changed, and
        with empty `kinds` those of which nothing new was said: perhaps nobody was told the first time.

        A step moves its command's row forward (accepted < off < on < the ends), never backward, and is kept with its time
        even when it comes late; a repeated one changes nothing. An end said by an agent is final; what the store said by
        itself (`cancelled`, `expired`, `failed` after long silence) gives way to an agent that had begun, and so does an
        agent's word that nothing was switched: the port may be in the configurations of two agents. The latest command's state shows in the Description
        (`processor.power.advanced`). A step of a command that the store has never seen makes its row, if it brings the
        command along, and is otherwise ignored with a line in the log. A report is kept as the machine's outlet, and sets
        `power_cycle_state`, if there is such a machine; reports older than the outlet's are ignored.

        Without `announce` the caller publishes the changes and then acknowledges its input; with it they go to the outbox.
        """
        ...

    async def expire_power(
        self, *, now: datetime, grace: timedelta, stalled: timedelta
    ) -> Sequence[PowerRecord]:
        """End commands that nobody ends, and return them: queued ones that have expired for `grace` become `expired`,
        begun ones of which nothing was heard for `stalled` become `failed`. Messages about the machines go to the outbox.
        Each is counted, and told to the log.
        """
        ...

    async def power_command(self, command_id: str) -> PowerRecord | None:
        """One command."""
        ...

    async def power_commands(
        self,
        *,
        machine_id: str | None = None,
        pending: bool | None = None,
        since: datetime | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Sequence[PowerRecord]:
        """Newest first; `before` is the id of a command to continue behind; `since`: requested then or later."""
        ...

    async def power_outlets(self, machine_ids: Collection[str] | None = None) -> Sequence[PowerOutlet]:
        """Where machines' power comes from, sorted by machine id; all of them with None."""
        ...

    async def forget_power(self, *, before: datetime) -> int:
        """Drop ended commands requested before then; return how many went."""
        ...


class Silences(Protocol):
    """Who wants to hear nothing, and until when."""

    async def add_silence(self, silence: Silence) -> None:
        """Keep it. One with the same id is replaced."""
        ...

    async def end_silence(self, silence_id: str, *, now: datetime) -> bool:
        """Let it end now. False: there is none that lasts."""
        ...

    async def silences(self, *, now: datetime | None = None) -> Sequence[Silence]:
        """Those that have not ended, by id; with `now` None also the ended ones of the last 90 days."""
        ...

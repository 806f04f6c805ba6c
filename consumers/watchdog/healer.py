"""Self-healing at work: every few seconds look at what is in trouble, decide, order power cycles, and say so on the machine."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from consumers.watchdog.policy_source import PolicySource
from pipeline import logs, metrics
from pipeline.clock import is_due
from pipeline.errors import KeyReused, MachineNotFound, PowerRefused, VersionMismatch
from pipeline.healing.decision import Decision, Order, decide
from pipeline.healing.view import HEALER, trouble_of
from pipeline.processor.recovery import AUTOMATIC_USER
from pipeline.store.healing import (
    CHECKPOINT,
    NO_RULES,
    HealingStore,
    PowerLedger,
    Rules,
    read_view,
    take_census,
)
from pipeline.store.protocol import Checkpoint
from schemas.api import POWER_EXPIRY_S
from schemas.description import Annotation, Description
from schemas.healing import HealingState, healing_state, healing_text
from schemas.ids import new_ulid
from schemas.power import PowerAction, PowerCommand

_CENSUS_EVERY: Final = timedelta(minutes=10)
_MOST_TEXTS: Final = 100
"""Written in one round, so that a round ends within the watchdog's lease; the others follow in the next."""

log = logs.get_logger()


class Healer:
    """Decides for all machines. One at a time: the watchdog's lease."""

    def __init__(self, store: HealingStore, source: PolicySource, owner: str) -> None:
        self._store = store
        self._source = source
        self._owner = owner
        self._rules = NO_RULES
        self._ledger = PowerLedger()
        self._told: set[str] = set()
        """Machines that may bear a text of ours."""
        self._counted_at: datetime | None = None

    async def round(self, now: datetime) -> list[Decision]:
        """Decide about every machine in trouble, and act; return the decisions. Call it only while silence means something."""
        self._source.refresh()
        if self._source.policies.is_off and not await self._was_on():
            return []
        await self._count(now)
        view = await read_view(self._store, self._ledger, self._rules, now=now, also=self._told)
        decisions = decide(view, self._rules.policies, now)
        texts = 0
        for decision in decisions:
            text = decision.text
            if decision.order is not None:
                text = (
                    await self._order(decision, decision.order, now) or decision.machine.description.healing
                )
            if text != decision.machine.description.healing and texts < _MOST_TEXTS:
                texts += 1
                await self._say(decision, text, now)
        watched = {each.machine.id for each in decisions if _stays_watched(each)}
        self._told = watched | (self._told - {each.machine.id for each in decisions})
        _count_states(decisions)
        return decisions

    async def _was_on(self) -> bool:
        """Whether there may be texts to take back, and rules to replace."""
        if self._counted_at is not None:
            return bool(self._told)
        return await self._store.checkpoint(CHECKPOINT) is not None

    # --- what is known -------------------------------------------------------------------------------------------------

    async def _count(self, now: datetime) -> None:
        """Count the machines anew every now and then, and save the rules when they have changed."""
        totals = self._rules.totals
        if is_due(self._counted_at, _CENSUS_EVERY, now=now):
            census = await take_census(self._store)
            totals = census.totals
            self._told = set(census.told)
            self._ledger = PowerLedger()
            self._counted_at = now
        rules = Rules(self._source.policies, totals)
        if rules != self._rules:
            await self._save(rules)
            self._rules = rules

    async def _save(self, rules: Rules) -> None:
        """For those who explain."""
        content = rules.to_json()
        saved = await self._store.checkpoint(CHECKPOINT)
        if saved is not None and saved.content == content:
            return
        revision = 1 if saved is None else saved.revision + 1
        if not await self._store.save_checkpoint(
            CHECKPOINT, Checkpoint(revision, content), owner=self._owner
        ):
            log.warning("heal_policy_not_saved", reason="another watchdog has saved its own")

    # --- what is done --------------------------------------------------------------------------------------------------

    async def _order(self, decision: Decision, order: Order, now: datetime) -> str | None:
        """Order a power cycle of the machine as it was seen; return what to say of it, None for nothing new."""
        machine = decision.machine
        command = PowerCommand(
            id=new_ulid(),
            machine_id=machine.id,
            action=PowerAction.CYCLE,
            who=HEALER,
            why=order.why,
            requested_at=now,
            expires_at=now + timedelta(seconds=POWER_EXPIRY_S),
            force=order.force,
        )
        try:
            ordered = await self._store.order_power(
                command,
                now=now,
                idempotency_key=order.idempotency_key,
                versions=[machine.description.row_version],
            )
        except PowerRefused as refused:
            metrics.HEALING_ORDERS.labels("refused").inc()
            return healing_text(HealingState.HELD, str(refused))
        except (VersionMismatch, MachineNotFound):
            return None  # it has changed since we looked: the next round looks again
        except KeyReused:
            return None  # another watchdog has ordered this very try, in the words of its own policy
        if not ordered.is_new:
            return None
        metrics.HEALING_ORDERS.labels("ordered").inc()
        log.info("power_cycle_ordered", machine=machine.id, command=command.id, why=order.why)
        return decision.text

    async def _say(self, decision: Decision, text: str, now: datetime) -> None:
        """Write the text, unless the machine's trouble has become another one since."""
        seen = decision.machine.description

        def change(current: Description) -> Description:
            if current.healing != seen.healing or trouble_of(current) != decision.machine.trouble:
                return current
            fields: dict[str, object] = {"healing": text}
            if healing_state(text) is HealingState.GAVE_UP:
                message = f"Self-healing {text}"
                fields["annotation"] = Annotation(message=message, user=AUTOMATIC_USER, timestamp=now)
            return current.model_copy(update=fields)

        try:
            updated = await self._store.update(decision.machine.id, change, now=now)
        except MachineNotFound:
            return
        if updated.kinds:
            log.info("healing", machine=decision.machine.id, decision=text)
            if healing_state(text) is HealingState.GAVE_UP:
                metrics.HEALING_GAVE_UP.inc()


def _stays_watched(decision: Decision) -> bool:
    """Those healed that say so already are looked at with the next census: that is when their text is taken away."""
    is_said = decision.text == decision.machine.description.healing
    return not is_said or decision.state not in {None, HealingState.HEALED}


def _count_states(decisions: list[Decision]) -> None:
    numbers = Counter(decision.state for decision in decisions)
    for state in HealingState:
        metrics.HEALING_MACHINES.labels(state.value).set(numbers[state])

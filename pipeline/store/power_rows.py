"""How power commands and outlets lie in their rows, and what is said in a transaction to read and write them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pipeline import logs, metrics
from pipeline.store import power_entries
from pipeline.store import power_queries as queries
from pipeline.store.literals import json_array, plain_array, text_array
from pipeline.store.messages import command_message
from pipeline.store.power_entries import Entry
from pipeline.store.power_fold import Outcome
from pipeline.store.transaction import Session
from pipeline.store.writing import announce
from schemas.description import PowerCycleState
from schemas.power import PowerOutlet, PowerRecord, PowerStep

log = logs.get_logger()


def entry_from(row: Sequence[Any]) -> Entry:
    """The command that was written into the columns of `power_queries.ENTRY`."""
    heard_at, is_final, idempotency_key, command, steps, status, agent, text = row
    record = PowerRecord.model_validate(
        {"command": command, "steps": steps, "status": status, "agent": agent, "text": text}
    )
    return Entry(record, heard_at, is_final, idempotency_key)


def outlet_from(row: Sequence[Any]) -> PowerOutlet:
    """The outlet that was written into its row."""
    machine_id, agent, controller, port, state, text, reported_at = row
    return PowerOutlet(
        machine_id=machine_id,
        agent=agent,
        controller=controller,
        port=port,
        state=state,
        text=text,
        reported_at=reported_at,
    )


def lock_entries(
    session: Session,
    machine_ids: Sequence[str],
    *,
    command_ids: Sequence[str] = (),
    idempotency_key: str = "",
) -> list[Entry]:
    """The commands that decide about these machines, and those with these ids, locked. The machines' rows are already."""
    machines = text_array(machine_ids)
    parameters = (text_array(command_ids), machines, idempotency_key, machines)
    return [entry_from(row) for row in session.fetch(queries.LOCK_COMMANDS, parameters)]


def lock_outlets(session: Session, machine_ids: Sequence[str]) -> dict[str, PowerOutlet]:
    """The machines' outlets, locked."""
    rows = session.fetch(queries.LOCK_OUTLETS, (text_array(machine_ids),)) if machine_ids else []
    return {outlet.machine_id: outlet for outlet in map(outlet_from, rows)}


def reported_states(session: Session, machine_ids: Sequence[str]) -> dict[str, PowerCycleState]:
    """What agents said last of these machines' controllers, perhaps before there was such a machine."""
    rows = session.fetch(queries.READ_OUTLETS, (text_array(machine_ids),)) if machine_ids else []
    return {outlet.machine_id: outlet.state for outlet in map(outlet_from, rows)}


def write_entries(session: Session, entries: Sequence[Entry]) -> None:
    """Write commands. Raises `Rejected` for text that no database takes."""
    if not entries:
        return
    documents = [each.record.model_dump(mode="json") for each in entries]
    columns = (
        text_array(each.machine_id for each in entries),
        text_array(each.id for each in entries),
        text_array(each.record.status.value for each in entries),
        plain_array([each.is_pending for each in entries]),
        plain_array([each.is_final for each in entries]),
        plain_array([each.record.command.requested_at for each in entries]),
        plain_array([each.record.command.expires_at for each in entries]),
        plain_array([each.heard_at for each in entries]),
        text_array(each.idempotency_key for each in entries),
        text_array(each.record.agent for each in entries),
        text_array(each.record.text for each in entries),
        json_array(each["command"] for each in documents),
        json_array(each["steps"] for each in documents),
    )
    session.execute(queries.WRITE_COMMANDS, columns)


def write_outlets(session: Session, outlets: Sequence[PowerOutlet]) -> None:
    """Write outlets. Raises like `write_entries`."""
    if not outlets:
        return
    columns = (
        text_array(each.machine_id for each in outlets),
        text_array(each.agent for each in outlets),
        text_array(each.controller for each in outlets),
        text_array(each.port for each in outlets),
        text_array(each.state.value for each in outlets),
        text_array(each.text for each in outlets),
        plain_array([each.reported_at for each in outlets]),
    )
    session.execute(queries.WRITE_OUTLETS, columns)


def write_outcome(session: Session, outcome: Outcome) -> None:
    """Write all that an outcome has to say but the machines; in one order, so that nobody waits crosswise."""
    write_entries(session, sorted(outcome.entries.values(), key=lambda each: (each.machine_id, each.id)))
    write_outlets(session, [outlet for _, outlet in sorted(outcome.outlets.items())])


def withdraw_of_deleted(session: Session, machine_id: str, version: int, now: datetime, who: str) -> None:
    """End what nobody has begun for a machine that is no more, and tell of it."""
    entries = lock_entries(session, [machine_id])
    text = f"{who} deleted the machine"
    withdrawn = [
        power_entries.withdrawn(each, now=now, text=text) for each in power_entries.queued_ones(entries)
    ]
    write_entries(session, withdrawn)
    for each in withdrawn:
        announce(session, command_message(each.record.command), version, now)


def log_strangers(steps: Sequence[PowerStep]) -> None:
    """Tell of steps that were ignored."""
    for step in steps:
        log.warning(
            "power_step_ignored",
            machine=step.machine_id,
            command=step.command_id,
            status=step.status.value,
            agent=step.agent,
            reason="no such command of this machine is known",
        )


def log_given_up(records: Sequence[PowerRecord]) -> None:
    """Tell of commands that the store has ended because nobody else did."""
    for record in records:
        metrics.POWER_GIVEN_UP.labels(record.status.value).inc()
        log.warning(
            "power_given_up",
            machine=record.command.machine_id,
            command=record.command.id,
            status=record.status.value,
            reason=record.text,
        )


def log_claims(claims: Sequence[tuple[PowerOutlet, PowerOutlet]]) -> None:
    """Tell of machines whose port two agents seem to have. Once is a machine that has moved; again and again is a mistake."""
    for before, after in claims:
        metrics.POWER_OUTLETS_CLAIMED_TWICE.labels(after.agent).inc()
        log.warning(
            "outlet_claimed_twice",
            machine=after.machine_id,
            agent=after.agent,
            controller=after.controller,
            agent_before=before.agent,
            controller_before=before.controller,
        )

"""What the SQL store writes in a transaction: rows, history, messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Final

import psycopg2

from pipeline.broker.protocol import Outgoing
from pipeline.store import queries
from pipeline.store.columns import heartbeat_arrays, search_text, whole_arrays
from pipeline.store.edits import Edit
from pipeline.store.history import Line, lines
from pipeline.store.literals import plain_array, text_array, to_json
from pipeline.store.protocol import Change
from pipeline.store.transaction import Session
from schemas.ids import new_ulid


@dataclass(frozen=True, slots=True)
class Order:
    """Changes to carry out."""

    changes: Mapping[str, Sequence[Change]]
    now: datetime
    who: str
    why: str = ""


class Outdated(Exception):
    """A row is no longer in the version that the edit was made for."""


_machine_id: Final = attrgetter("machine_id")


def check_versions(session: Session, edits: Sequence[Edit]) -> None:
    """Lock the rows of edits that are not checked when they are written. Raises `Outdated`."""
    if not edits:
        return
    machine_ids = plain_array([each.machine_id for each in edits])
    versions = dict(session.fetch(queries.LOCK_VERSIONS, (machine_ids,)))
    if any(each.before is None or versions.get(each.machine_id) != each.before.row_version for each in edits):
        raise Outdated


def write(session: Session, order: Order, edits: Sequence[Edit]) -> None:
    """Write the rows and the history. Raises `Outdated` when the row of a heartbeat is in another version."""
    _write_rows(session, [each for each in edits if each.kinds])
    write_history(
        session,
        [
            line
            for each in edits
            if each.differences
            for line in lines(
                each.machine_id, each.differences, now=order.now, version=each.after.row_version
            )
        ],
        order,
    )


def _write_rows(session: Session, edits: Sequence[Edit]) -> None:
    heartbeats = sorted((each for each in edits if each.is_heartbeat), key=_machine_id)
    others = [each for each in edits if not each.is_heartbeat]
    if heartbeats:
        _write_heartbeats(session, heartbeats)
    if others:
        others.sort(key=_machine_id)  # new rows, too, are locked in one order
        machine_ids = plain_array([each.machine_id for each in others])
        texts = text_array(search_text(each.machine_id, each.after) for each in others)
        arrays = whole_arrays(each.after for each in others)
        session.execute(queries.WRITE_MACHINES, (machine_ids, texts, *arrays))


def _write_heartbeats(session: Session, edits: Sequence[Edit]) -> None:
    machine_ids = plain_array([each.machine_id for each in edits])
    arrays = heartbeat_arrays(each.after for each in edits)
    if session.execute(queries.WRITE_HEARTBEATS, (machine_ids, *arrays)) < len(edits):
        raise Outdated


def write_history(session: Session, history: Sequence[Line], order: Order) -> None:
    """Add the lines."""
    if not history:
        return
    session.execute(
        queries.WRITE_HISTORY,
        (
            order.now,
            order.who,
            order.why,
            plain_array([line.machine_id for line in history]),
            plain_array([line.id for line in history]),
            plain_array([line.difference.kind.value for line in history]),
            text_array(line.difference.before for line in history),
            text_array(line.difference.after for line in history),
        ),
    )


def announce(session: Session, message: Outgoing, version: int, now: datetime) -> None:
    """Put a message about a row in this version into the outbox."""
    session.execute(
        queries.WRITE_OUTBOX,
        (
            message.key,
            version,
            new_ulid(),
            message.topic,
            psycopg2.Binary(message.value),
            to_json(message.headers),
            now,
        ),
    )

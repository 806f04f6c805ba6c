"""Every statement of the store but the listing's (see `listing.py`), each with what it is for.

PostgreSQL and CockroachDB take them all. Batches travel as one array a column, and documents as text, because CockroachDB
has no arrays of JSONB.
"""

# ruff: noqa: S608  # only literals are put together; every value is a parameter

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, LiteralString

from pipeline.store.columns import ALL, HEARTBEAT, Column


def _names(columns: Sequence[Column]) -> LiteralString:
    return ", ".join([column.name for column in columns])


def _arrays(columns: Sequence[Column]) -> LiteralString:
    return ", ".join(["%s::" + column.array for column in columns])


def _element(column: Column) -> LiteralString:
    return "new." + column.name + ("::" + column.value if column.value else "")


WHOLE_ROW: Final = _names(ALL)
"""The columns of a Description, as `columns.description_from` takes them."""

# --- machines ----------------------------------------------------------------------------------------------------------

READ_MACHINE: Final = "SELECT " + WHOLE_ROW + " FROM descriptions WHERE machine_id = %s"
"""One machine, as it is."""

LOCK_VERSIONS: Final = (
    "SELECT machine_id, row_version FROM descriptions WHERE machine_id = ANY(%s::TEXT[])"
    " ORDER BY machine_id FOR UPDATE"
)
"""Lock a batch of machines, always in the same order so that two batches cannot wait for one another."""

READ_MACHINES: Final = (
    "SELECT machine_id, " + WHOLE_ROW + " FROM descriptions WHERE machine_id = ANY(%s::TEXT[])"
)
"""The locked machines that are not remembered."""

LAST_VERSIONS: Final = (
    "SELECT machine_id, row_version FROM deleted_machines WHERE machine_id = ANY(%s::TEXT[])"
)
"""How far machines that come back had counted."""

WRITE_HEARTBEATS: Final = (
    "UPDATE descriptions SET "
    + ", ".join([column.name + " = " + _element(column) for column in HEARTBEAT])
    + " FROM unnest(%s::TEXT[], "
    + _arrays(HEARTBEAT)
    + ") AS new(machine_id, "
    + _names(HEARTBEAT)
    + ") WHERE descriptions.machine_id = new.machine_id AND descriptions.row_version = new.row_version - 1"
)
"""Write what heartbeats change, in rows that are still in the version they were in; the indexes stay as they are."""

WRITE_MACHINES: Final = (
    "INSERT INTO descriptions (machine_id, search_text, "
    + WHOLE_ROW
    + ") SELECT new.machine_id, new.search_text, "
    + ", ".join([_element(column) for column in ALL])
    + " FROM unnest(%s::TEXT[], %s::TEXT[], "
    + _arrays(ALL)
    + ") AS new(machine_id, search_text, "
    + WHOLE_ROW
    + ") ON CONFLICT (machine_id) DO UPDATE SET search_text = excluded.search_text, "
    + ", ".join([column.name + " = excluded." + column.name for column in ALL])
)
"""Write whole rows, old and new ones."""

DELETE_MACHINE: Final = "DELETE FROM descriptions WHERE machine_id = %s RETURNING row_version"
"""Delete a machine; no row: there was none."""

REMEMBER_VERSION: Final = (
    "INSERT INTO deleted_machines (machine_id, row_version) VALUES (%s, %s)"
    " ON CONFLICT (machine_id) DO UPDATE SET row_version = excluded.row_version"
)
"""Keep what a deleted machine had counted up to."""

POWER_CYCLES: Final = "SELECT machine_id FROM descriptions WHERE power_cycle ORDER BY machine_id"
"""Machines whose power cycle is wanted, from an index that holds no others."""

AVAILABLE: Final = (
    "maintenance_mode = '' AND NOT is_quarantined AND recovering = '' AND down_since < '1970-01-01T00:00:00Z'"
)
"""Condition of machines that can be lent."""

FREE_MACHINES: Final = (
    "SELECT " + WHOLE_ROW + " FROM descriptions WHERE dimensions @> %s::JSONB AND task_request IS NULL AND "
    "NOT running_swarming_task AND " + AVAILABLE + " ORDER BY machine_id"
)
"""Available machines of a pool without work, through the inverted index."""

SILENT_MACHINES: Final = (
    "SELECT " + WHOLE_ROW + " FROM descriptions"
    " WHERE last_updated < %s AND down_since < '1970-01-01T00:00:00Z' ORDER BY machine_id"
)
"""Machines that are up as far as we know, but silent. Reads the whole table: an index on a time that each heartbeat
changes would cost more."""

PING: Final = "SELECT 1 FROM descriptions LIMIT 1"
"""Whether the database answers and knows our tables."""

# --- history -----------------------------------------------------------------------------------------------------------

WRITE_HISTORY: Final = (
    "INSERT INTO machine_history (machine_id, id, kind, before, after, at, who, why)"
    " SELECT new.machine_id, new.id, new.kind, new.before, new.after, %s, %s, %s"
    " FROM unnest(%s::TEXT[], %s::TEXT[], %s::TEXT[], %s::TEXT[], %s::TEXT[])"
    " AS new(machine_id, id, kind, before, after)"
)
"""Add lines of history that one person wrote at one time."""

READ_HISTORY: Final = (
    "SELECT id, machine_id, at, kind, who, before, after, why FROM machine_history"
    " WHERE machine_id = %s AND (%s::TEXT IS NULL OR id < %s::TEXT) ORDER BY id DESC LIMIT %s"
)
"""A machine's history, newest first."""

NEXT_MACHINES: Final = (
    "SELECT machine_id FROM descriptions WHERE machine_id > %s ORDER BY machine_id LIMIT %s"
)
"""Ids behind one, for walks through all machines."""

NEXT_DELETED_MACHINES: Final = (
    "SELECT machine_id FROM deleted_machines WHERE machine_id > %s ORDER BY machine_id LIMIT %s"
)
"""The same for those that were deleted, some of which have come back."""

FORGET_HISTORY: Final = (
    "DELETE FROM machine_history WHERE (machine_id, id) IN (SELECT machine_id, id FROM machine_history"
    " WHERE machine_id = ANY(%s::TEXT[]) AND id < %s AND at < %s LIMIT %s)"
)
"""Drop some old lines of these machines, through the primary key: the id's beginning is the time."""

# --- outbox ------------------------------------------------------------------------------------------------------------

WRITE_OUTBOX: Final = (
    "INSERT INTO outbox (key, version, id, topic, value, headers, written_at)"
    " VALUES (%s, %s, %s, %s, %s, %s::JSONB, %s)"
)
"""Add a message to the transaction that makes it true."""

TAKE_OUTBOX: Final = "SELECT id, version, topic, key, value, headers, written_at FROM outbox ORDER BY key, version, id LIMIT %s"
"""Messages that wait, in order for each key."""

REMOVE_OUTBOX: Final = "DELETE FROM outbox WHERE key = ANY(%s::TEXT[]) AND id = ANY(%s::TEXT[])"
"""Forget published messages. The key leads to them, the id tells them from newer ones."""

# --- progress ----------------------------------------------------------------------------------------------------------

RECORD_PROGRESS: Final = (
    "INSERT INTO progress (service, instance, alive_since, seen_at, caught_up_to)"
    " SELECT %s, new.instance, %s, %s, new.caught_up_to"
    " FROM unnest(%s::TEXT[], %s::TIMESTAMPTZ[]) AS new(instance, caught_up_to)"
    " ON CONFLICT (service, instance) DO UPDATE SET alive_since ="
    " CASE WHEN excluded.seen_at - progress.seen_at > %s::INTERVAL THEN excluded.alive_since"
    " ELSE progress.alive_since END,"
    " seen_at = excluded.seen_at, caught_up_to = excluded.caught_up_to"
)
"""Say how far instances of a service are; after a gap they count as alive anew."""

READ_PROGRESS: Final = (
    "SELECT service, instance, alive_since, seen_at, caught_up_to FROM progress ORDER BY service, instance"
)
"""What every service said last."""

# --- leases ------------------------------------------------------------------------------------------------------------

ACQUIRE_LEASE: Final = (
    "INSERT INTO leases (name, owner, expires_at) VALUES (%s, %s, now() + %s::INTERVAL)"
    " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at"
    " WHERE leases.owner = excluded.owner OR leases.expires_at <= now() RETURNING owner"
)
"""Take or renew a lease, unless another owner's still runs: then no row comes back."""

RELEASE_LEASE: Final = "DELETE FROM leases WHERE name = %s AND owner = %s"
"""Give a lease up."""


# --- checkpoints -------------------------------------------------------------------------------------------------------

READ_CHECKPOINT: Final = "SELECT revision, content FROM checkpoints WHERE name = %s"
"""What was saved last under this name."""

SAVE_CHECKPOINT: Final = (
    "INSERT INTO checkpoints (name, revision, owner, content, saved_at) VALUES (%s, %s, %s, %s, now())"
    " ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, owner = excluded.owner,"
    " content = excluded.content, saved_at = excluded.saved_at"
    " WHERE checkpoints.revision = excluded.revision - 1"
    " OR (checkpoints.revision = excluded.revision AND checkpoints.owner = excluded.owner) RETURNING revision"
)
"""Replace the revision before this one; no row comes back when somebody else has. Again by the same owner: the same."""

"""Every statement about power commands, outlets and silences, each with what it is for. See `queries.py`."""

# ruff: noqa: S608  # only literals are put together; every value is a parameter

from __future__ import annotations

from typing import Final

ENTRY: Final = "heard_at, is_final, idempotency_key, command, steps, status, agent, text"
"""The columns of a command, as `power_rows.entry_from` takes them."""

LOCK_COMMANDS: Final = (
    "SELECT " + ENTRY + " FROM power_commands WHERE id = ANY(%s::TEXT[])"
    " OR (machine_id = ANY(%s::TEXT[]) AND (is_pending OR (idempotency_key <> '' AND idempotency_key = %s)"
    " OR id IN (SELECT max(id) FROM power_commands WHERE machine_id = ANY(%s::TEXT[]) GROUP BY machine_id)))"
    " ORDER BY machine_id, id FOR UPDATE"
)
"""Lock the commands with these ids and, of these machines, the pending ones, the newest, and that of a certain wish.

The rows of the machines are locked before, so that nobody adds a command meanwhile."""

WRITE_COMMANDS: Final = (
    "INSERT INTO power_commands (machine_id, id, status, is_pending, is_final, requested_at, expires_at, heard_at,"
    " idempotency_key, agent, text, command, steps)"
    " SELECT new.machine_id, new.id, new.status, new.is_pending, new.is_final, new.requested_at, new.expires_at,"
    " new.heard_at, new.idempotency_key, new.agent, new.text, new.command::JSONB, new.steps::JSONB"
    " FROM unnest(%s::TEXT[], %s::TEXT[], %s::TEXT[], %s::BOOLEAN[], %s::BOOLEAN[], %s::TIMESTAMPTZ[],"
    " %s::TIMESTAMPTZ[], %s::TIMESTAMPTZ[], %s::TEXT[], %s::TEXT[], %s::TEXT[], %s::TEXT[], %s::TEXT[])"
    " AS new(machine_id, id, status, is_pending, is_final, requested_at, expires_at, heard_at, idempotency_key, agent,"
    " text, command, steps)"
    " ON CONFLICT (machine_id, id) DO UPDATE SET status = excluded.status, is_pending = excluded.is_pending,"
    " is_final = excluded.is_final, heard_at = excluded.heard_at, agent = excluded.agent, text = excluded.text,"
    " command = excluded.command, steps = excluded.steps"
)
"""Write commands, new and old ones."""

TOUCH_MACHINES: Final = "UPDATE descriptions SET power_cycle = power_cycle WHERE machine_id = ANY(%s::TEXT[])"
"""Write rows as they are. Whoever waits for one with a snapshot in which their commands are older has to begin anew."""

READ_COMMAND: Final = "SELECT " + ENTRY + " FROM power_commands WHERE id = %s"
"""One command, as it is."""

READ_COMMANDS: Final = (
    "SELECT " + ENTRY + " FROM power_commands WHERE (%s::TEXT IS NULL OR machine_id = %s::TEXT)"
    " AND (%s::BOOLEAN IS NULL OR is_pending = %s::BOOLEAN)"
    " AND (%s::TIMESTAMPTZ IS NULL OR requested_at >= %s::TIMESTAMPTZ)"
    " AND (%s::TEXT IS NULL OR id < %s::TEXT) ORDER BY id DESC LIMIT %s"
)
"""A page of commands, newest first."""

OVERDUE_COMMANDS: Final = (
    "SELECT machine_id FROM power_commands WHERE is_pending AND ((status = 'queued' AND expires_at <= %s)"
    " OR (status <> 'queued' AND heard_at <= %s)) ORDER BY machine_id LIMIT %s"
)
"""Machines with commands that nobody ends, from an index that holds only the pending ones."""

FORGET_COMMANDS: Final = (
    "DELETE FROM power_commands WHERE (machine_id, id) IN (SELECT machine_id, id FROM power_commands"
    " WHERE NOT is_pending AND requested_at < %s LIMIT %s)"
)
"""Drop some old commands. Reads the whole table, once in a while: it is small."""

# --- outlets -----------------------------------------------------------------------------------------------------------

_OUTLET: Final = "machine_id, agent, controller, port, state, text, reported_at"

LOCK_OUTLETS: Final = (
    "SELECT "
    + _OUTLET
    + " FROM power_outlets WHERE machine_id = ANY(%s::TEXT[]) ORDER BY machine_id FOR UPDATE"
)
"""Lock the outlets of a batch of machines."""

READ_OUTLETS: Final = (
    "SELECT " + _OUTLET + " FROM power_outlets WHERE machine_id = ANY(%s::TEXT[]) ORDER BY machine_id"
)
"""Those of some machines."""

READ_ALL_OUTLETS: Final = "SELECT " + _OUTLET + " FROM power_outlets ORDER BY machine_id"
"""All there are."""

WRITE_OUTLETS: Final = (
    "INSERT INTO power_outlets (" + _OUTLET + ")"
    " SELECT new.machine_id, new.agent, new.controller, new.port, new.state, new.text, new.reported_at"
    " FROM unnest(%s::TEXT[], %s::TEXT[], %s::TEXT[], %s::TEXT[], %s::TEXT[], %s::TEXT[], %s::TIMESTAMPTZ[])"
    " AS new(" + _OUTLET + ")"
    " ON CONFLICT (machine_id) DO UPDATE SET agent = excluded.agent, controller = excluded.controller,"
    " port = excluded.port, state = excluded.state, text = excluded.text, reported_at = excluded.reported_at"
)
"""Write outlets, new and old ones."""

# --- silences ----------------------------------------------------------------------------------------------------------

_SILENCE: Final = "id, owner, reason, machine, pool, starts_at, ends_at"

WRITE_SILENCE: Final = (
    "INSERT INTO silences (" + _SILENCE + ") VALUES (%s, %s, %s, %s, %s, %s, %s)"
    " ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, reason = excluded.reason, machine = excluded.machine,"
    " pool = excluded.pool, starts_at = excluded.starts_at, ends_at = excluded.ends_at"
)
"""Keep a silence."""

END_SILENCE: Final = "UPDATE silences SET ends_at = %s WHERE id = %s AND ends_at > %s"
"""Let a silence end; no row: it had ended, or there is none."""

READ_SILENCES: Final = "SELECT " + _SILENCE + " FROM silences WHERE ends_at > %s ORDER BY id"
"""Silences that have not ended by then."""

READ_KEPT_SILENCES: Final = (
    "SELECT " + _SILENCE + " FROM silences WHERE ends_at > now() - %s::INTERVAL ORDER BY id"
)
"""The same, and those that ended lately."""

FORGET_SILENCES: Final = "DELETE FROM silences WHERE ends_at <= now() - %s::INTERVAL"
"""Drop those that nobody looks up any more."""

-- Power commands and what became of them, where machines' power comes from, and who wants to hear nothing for a while.

-- Ids are ULIDs: in the order of time. `command` and `steps` are documents (schemas/power.py); the columns are what is
-- looked for. The machine comes first in the key, so that CockroachDB spreads the load.
CREATE TABLE IF NOT EXISTS power_commands (
    machine_id TEXT NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL,
    is_pending BOOLEAN NOT NULL,
    is_final BOOLEAN NOT NULL,
    requested_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    heard_at TIMESTAMPTZ NOT NULL,
    idempotency_key TEXT NOT NULL,
    agent TEXT NOT NULL,
    text TEXT NOT NULL,
    command JSONB NOT NULL,
    steps JSONB NOT NULL,
    PRIMARY KEY (machine_id, id)
);

CREATE UNIQUE INDEX IF NOT EXISTS power_commands_id ON power_commands (id);

-- The few that have not ended.
CREATE INDEX IF NOT EXISTS power_commands_pending ON power_commands (machine_id, id) WHERE is_pending;

CREATE TABLE IF NOT EXISTS power_outlets (
    machine_id TEXT NOT NULL PRIMARY KEY,
    agent TEXT NOT NULL,
    controller TEXT NOT NULL,
    port TEXT NOT NULL,
    state TEXT NOT NULL,
    text TEXT NOT NULL,
    reported_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS silences (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    reason TEXT NOT NULL,
    machine TEXT NOT NULL,
    pool TEXT NOT NULL,
    starts_at TIMESTAMPTZ NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL
);

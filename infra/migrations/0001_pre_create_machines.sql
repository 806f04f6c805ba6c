-- What is believed about each machine, what was changed in it, and how far the versions of deleted ones had counted.
--
-- Migrations are plain SQL that PostgreSQL and CockroachDB both take, and every statement may run twice: CockroachDB does
-- not undo statements that change the schema together with a failed transaction.

-- The columns from row_version to temperature are what a plain heartbeat changes. They stand together and in front, so
-- that PostgreSQL's log holds little more than them, and no index may mention one: only then does a heartbeat leave the
-- indexes alone (a heap-only update). Half of each page is kept free for the new row versions (CockroachDB takes the
-- parameter and ignores it, having no such pages).
CREATE TABLE IF NOT EXISTS descriptions (
    machine_id TEXT NOT NULL PRIMARY KEY,
    row_version BIGINT NOT NULL,
    last_updated TIMESTAMPTZ NOT NULL,
    battery BIGINT NOT NULL,
    device_uptime BIGINT NOT NULL,
    running_swarming_task BOOLEAN NOT NULL,
    launched_swarming BOOLEAN NOT NULL,
    monitor_start TIMESTAMPTZ NOT NULL,
    monitor_sequence BIGINT NOT NULL,
    temperature JSONB,
    version TEXT NOT NULL,
    maintenance_mode TEXT NOT NULL,
    is_quarantined BOOLEAN NOT NULL,
    recovering TEXT NOT NULL,
    recovery_start TIMESTAMPTZ NOT NULL,
    down_since TIMESTAMPTZ NOT NULL,
    attached_device TEXT NOT NULL,
    device_kind TEXT NOT NULL,
    ssh_user_ip TEXT NOT NULL,
    power_cycle BOOLEAN NOT NULL,
    power_cycle_state TEXT NOT NULL,
    task_started TIMESTAMPTZ NOT NULL,
    annotation JSONB NOT NULL,
    note JSONB NOT NULL,
    supplied_dimensions JSONB,
    task_request JSONB,
    dimensions JSONB NOT NULL,
    search_text TEXT NOT NULL
) WITH (fillfactor = 50);

-- Machines by dimension values.
CREATE INDEX IF NOT EXISTS descriptions_dimensions ON descriptions USING GIN (dimensions);

-- The few machines whose power cycle is wanted.
CREATE INDEX IF NOT EXISTS descriptions_power_cycle ON descriptions (machine_id) WHERE power_cycle;

-- Ids are ULIDs: within a machine, in the order of time.
CREATE TABLE IF NOT EXISTS machine_history (
    machine_id TEXT NOT NULL,
    id TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    kind TEXT NOT NULL,
    who TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (machine_id, id)
);

-- For dropping what is too old.
CREATE INDEX IF NOT EXISTS machine_history_at ON machine_history (at);

-- A machine that comes back goes on counting: of two states of one id the higher version is newer, also across deletion.
CREATE TABLE IF NOT EXISTS deleted_machines (
    machine_id TEXT NOT NULL PRIMARY KEY,
    row_version BIGINT NOT NULL
);

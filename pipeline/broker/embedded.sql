-- The embedded broker's log. Run by every process when it starts; safe to run again and from several processes at once.
-- Needs PostgreSQL 16. It belongs to PostgreSQL alone and to this broker alone, so it lives beside the migrations, not among them.

SELECT pg_advisory_xact_lock(hashtextextended('labkeeper_broker', 0));

CREATE SCHEMA IF NOT EXISTS labkeeper_broker;

CREATE TABLE IF NOT EXISTS labkeeper_broker.log_partitions (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,                                         -- with prefix
    partition int NOT NULL,
    log_start bigint NOT NULL DEFAULT 0,                         -- the first offset that is kept
    next_offset bigint NOT NULL DEFAULT 0,                       -- what the next message gets
    last_published_at timestamptz NOT NULL DEFAULT '-infinity',  -- so that times never run backwards
    UNIQUE (topic, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What was published together: all messages of one partition in one publish, as one block (record_batch.py).
CREATE TABLE IF NOT EXISTS labkeeper_broker.log_segments (
    partition_id int NOT NULL,
    base_offset bigint NOT NULL,
    count int NOT NULL,
    size int NOT NULL,                                           -- bytes before compression
    published_at timestamptz NOT NULL,
    payload bytea STORAGE EXTERNAL NOT NULL,                     -- it is compressed already
    PRIMARY KEY (partition_id, base_offset)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.5);

CREATE TABLE IF NOT EXISTS labkeeper_broker.group_members (
    group_name text NOT NULL,
    topic text NOT NULL,
    member text NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (group_name, topic, member)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE IF NOT EXISTS labkeeper_broker.group_partitions (
    group_name text NOT NULL,
    topic text NOT NULL,
    partition int NOT NULL,
    committed_offset bigint NOT NULL,                            -- the first that has not been acknowledged
    owner text,
    epoch bigint NOT NULL DEFAULT 0,                             -- counts the changes of owner
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (group_name, topic, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

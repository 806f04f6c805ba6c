-- What the services share among themselves: messages on their way out, their progress, and names one process holds.

-- The key comes first, so that the load is spread over CockroachDB's ranges, and a key's messages lie in their order.
CREATE TABLE IF NOT EXISTS outbox (
    key TEXT NOT NULL,
    version BIGINT NOT NULL,
    id TEXT NOT NULL,
    topic TEXT NOT NULL,
    value BYTEA NOT NULL,
    headers JSONB NOT NULL,
    written_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (key, version, id)
);

CREATE TABLE IF NOT EXISTS progress (
    service TEXT NOT NULL,
    instance TEXT NOT NULL,
    alive_since TIMESTAMPTZ NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    caught_up_to TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (service, instance)
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS leases (
    name TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

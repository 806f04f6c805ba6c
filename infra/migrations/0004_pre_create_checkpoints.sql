-- What a service was in the middle of, for it to go on from after a crash. The revision tells whether somebody else has
-- taken over since.
CREATE TABLE IF NOT EXISTS checkpoints (
    name TEXT NOT NULL PRIMARY KEY,
    revision BIGINT NOT NULL,
    owner TEXT NOT NULL,
    content BYTEA NOT NULL,
    saved_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

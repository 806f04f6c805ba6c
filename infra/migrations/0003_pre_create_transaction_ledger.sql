-- Which transaction each worker thread committed last. When a connection is lost while COMMIT is under way, the answer to
-- whether it took effect stands here, written by the transaction itself.
CREATE TABLE IF NOT EXISTS transaction_ledger (
    worker TEXT NOT NULL PRIMARY KEY,
    attempt TEXT NOT NULL,
    signed_at TIMESTAMPTZ NOT NULL
) WITH (fillfactor = 50);

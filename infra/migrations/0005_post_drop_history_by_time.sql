-- Every new line of history was an entry at the same end of this index: on CockroachDB one node took them all. Old lines
-- are now found machine by machine, through the primary key. `post`, because the previous release still looks for them here.
DROP INDEX IF EXISTS machine_history_at;

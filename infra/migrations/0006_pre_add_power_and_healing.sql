-- How far a machine's latest power command is, and what self-healing decided. The defaults are for the previous release,
-- which writes rows without these columns.
ALTER TABLE descriptions ADD COLUMN IF NOT EXISTS power_action TEXT NOT NULL DEFAULT '';
ALTER TABLE descriptions ADD COLUMN IF NOT EXISTS power_status TEXT NOT NULL DEFAULT '';
ALTER TABLE descriptions ADD COLUMN IF NOT EXISTS healing TEXT NOT NULL DEFAULT '';

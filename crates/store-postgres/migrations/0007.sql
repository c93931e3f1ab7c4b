-- Schema version 7: how a server knows the database again that it works with.

-- How often a server has beaten. A primary that was replaced and comes back knows fewer beats than were answered.
ALTER TABLE region_nodes ADD COLUMN IF NOT EXISTS beats BIGINT NOT NULL DEFAULT 0;

-- Another number after each restore. Who has it open from before is not to write what it knows of what was there.
ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS filled BIGINT NOT NULL DEFAULT 0;

-- Schema version 8: where servers reach each other, and which of them carries a session.

-- Empty: nowhere.
ALTER TABLE region_nodes ADD COLUMN IF NOT EXISTS address TEXT NOT NULL DEFAULT '';

-- The node. Empty: of a program that did not say.
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS carrier TEXT NOT NULL DEFAULT '';

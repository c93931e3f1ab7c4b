-- Schema version 16: where servers reach each other, and which of them carries a session.

-- Empty: nowhere.
ALTER TABLE region_nodes ADD COLUMN address TEXT NOT NULL DEFAULT '';

-- The node; empty: of a program that did not say.
ALTER TABLE sessions ADD COLUMN carrier TEXT NOT NULL DEFAULT '';

-- Schema version 14: epochs follow each other, and each server says which it verifies with.

-- The first moment of issue that it seals; none: of the first epoch, or not known yet.
ALTER TABLE epochs ADD COLUMN seals_from INTEGER;
ALTER TABLE epochs ADD COLUMN ended_at INTEGER;
ALTER TABLE epochs ADD COLUMN revoked INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1));

-- The highest epoch; 0: none yet.
ALTER TABLE region_nodes ADD COLUMN verifies INTEGER NOT NULL DEFAULT 0;

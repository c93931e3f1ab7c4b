-- Schema version 5: epochs follow each other, and each server says which it verifies with.

-- The first moment of issue that it seals. None: of the first epoch, or not known yet.
ALTER TABLE epochs ADD COLUMN IF NOT EXISTS seals_from BIGINT;
ALTER TABLE epochs ADD COLUMN IF NOT EXISTS ended_at BIGINT;
ALTER TABLE epochs ADD COLUMN IF NOT EXISTS revoked BOOLEAN NOT NULL DEFAULT FALSE;

-- The highest epoch, or 0: none yet.
ALTER TABLE region_nodes ADD COLUMN IF NOT EXISTS verifies BIGINT NOT NULL DEFAULT 0;

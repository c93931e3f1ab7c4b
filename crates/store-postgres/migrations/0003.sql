-- Schema version 3: hosts apart from their region, and which of them a machine is on.

-- A computer that joined and runs machines.
CREATE TABLE IF NOT EXISTS hosts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    -- With commas between them.
    accounts TEXT NOT NULL,
    joined_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

-- What lets one host join, once. Of the secret there is only the digest.
CREATE TABLE IF NOT EXISTS join_tokens (
    digest BYTEA NOT NULL PRIMARY KEY,
    accounts TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- The host that a machine is on. Empty: the one in the region's own process.
ALTER TABLE instances ADD COLUMN IF NOT EXISTS host_id TEXT NOT NULL DEFAULT '';

-- A connection tells which instance is asking: no two of one host may share an attachment.
DROP INDEX IF EXISTS instances_by_attachment;
CREATE UNIQUE INDEX IF NOT EXISTS instances_by_attachment ON instances (host_id, attachment_kind, attachment_value)
    WHERE attachment_kind IS NOT NULL;

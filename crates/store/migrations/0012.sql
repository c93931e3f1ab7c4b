-- Schema version 12: hosts apart from their region, and which of them a machine is on.

-- A computer that joined and runs machines.
CREATE TABLE hosts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    public_key BLOB NOT NULL,
    -- With commas between them.
    accounts TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT;

-- What lets one host join, once. Of the secret there is only the digest.
CREATE TABLE join_tokens (
    digest BLOB NOT NULL PRIMARY KEY,
    accounts TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- The host that a machine is on; empty: the one in the region's own process.
ALTER TABLE instances ADD COLUMN host_id TEXT NOT NULL DEFAULT '';

-- A connection tells which instance is asking: no two of one host may share an attachment.
DROP INDEX instances_by_attachment;
CREATE UNIQUE INDEX instances_by_attachment ON instances (host_id, attachment_kind, attachment_value)
    WHERE attachment_kind IS NOT NULL;

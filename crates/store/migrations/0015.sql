-- Schema version 15: several accounts. Documents and commands are an account's; operators can be switched off.

-- The region's own account is here too, once a region has opened the store.
CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- None: it is open. It never opens again.
    closed_at INTEGER
) STRICT;

ALTER TABLE operators ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1));

-- What there was before is the region's own.
CREATE TABLE account_documents (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    display_name TEXT NOT NULL,
    version_name TEXT NOT NULL,
    target_type TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (account, name)
) STRICT;
INSERT INTO account_documents (account, name, created_at, display_name, version_name, target_type, content)
    SELECT COALESCE((SELECT json_extract(CAST(value AS TEXT), '$.account') FROM settings
        WHERE name = 'region' AND json_valid(CAST(value AS TEXT))), '000000000000'), name, created_at, display_name, version_name, target_type, content FROM documents;
DROP TABLE documents;

ALTER TABLE commands ADD COLUMN account TEXT NOT NULL DEFAULT '';
UPDATE commands SET account = COALESCE(
    (SELECT json_extract(CAST(value AS TEXT), '$.account') FROM settings
        WHERE name = 'region' AND json_valid(CAST(value AS TEXT))), '000000000000');
CREATE INDEX commands_by_account ON commands (account, requested_at DESC, id);

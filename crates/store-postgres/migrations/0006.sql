-- Schema version 6: several accounts. Documents and commands are an account's, operators can be switched off.
-- Version 15 of the SQLite store.

-- The region's own account is here too, once a region has opened the store.
CREATE TABLE IF NOT EXISTS accounts (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- None: it is open. It never opens again.
    closed_at BIGINT
);

ALTER TABLE operators ADD COLUMN IF NOT EXISTS disabled BOOLEAN NOT NULL DEFAULT FALSE;

-- What there was before is the region's own. The old table stays, and nothing reads it: another program may be about to copy it.
CREATE TABLE IF NOT EXISTS account_documents (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    display_name TEXT NOT NULL,
    version_name TEXT NOT NULL,
    target_type TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (account, name)
);
INSERT INTO account_documents (account, name, created_at, display_name, version_name, target_type, content)
    SELECT COALESCE((SELECT SUBSTRING(CONVERT_FROM(value, 'UTF8') FROM '"account":"([0-9]+)"') FROM settings
        WHERE name = 'region'), '000000000000'), name, created_at, display_name, version_name, target_type, content
    FROM documents ON CONFLICT (account, name) DO NOTHING;

ALTER TABLE commands ADD COLUMN IF NOT EXISTS account TEXT NOT NULL DEFAULT '';
UPDATE commands SET account = COALESCE((SELECT SUBSTRING(CONVERT_FROM(value, 'UTF8') FROM '"account":"([0-9]+)"')
    FROM settings WHERE name = 'region'), '000000000000') WHERE account = '';
CREATE INDEX IF NOT EXISTS commands_by_account ON commands (account, requested_at DESC, id);

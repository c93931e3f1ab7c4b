-- Schema version 4: quarantine.

-- The subject is an instance, a host, an account, or * for all.
CREATE TABLE IF NOT EXISTS quarantines (
    subject TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    made_by TEXT NOT NULL,
    since BIGINT NOT NULL
);

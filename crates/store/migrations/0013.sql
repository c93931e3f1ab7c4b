-- Schema version 13: quarantine.

-- The subject is an instance, a host, an account, or * for all.
CREATE TABLE quarantines (
    subject TEXT NOT NULL PRIMARY KEY,
    reason TEXT NOT NULL,
    made_by TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT;

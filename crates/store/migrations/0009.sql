-- A session on a machine. It outlives the machine; it is open while it has not ended.
CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    document_name TEXT NOT NULL,
    reason TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    status TEXT NOT NULL,
    details TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_open ON sessions (started_at DESC, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_ended ON sessions (started_at DESC, id) WHERE ended_at IS NOT NULL;

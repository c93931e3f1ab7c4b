-- Schema version 10: detectors, what is set up at them, what was found, and the agents that sent telemetry.

-- What watches an account. The document has its settings and tags.
CREATE TABLE detectors (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;

-- Filters, and the sets of addresses that are trusted or threaten.
CREATE TABLE detector_parts (
    detector_id TEXT NOT NULL REFERENCES detectors (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (detector_id, kind, id)
) STRICT;

-- What was found. Of findings that are the same thing over and over (of one key) the latest one counts on.
CREATE TABLE findings (
    id TEXT NOT NULL PRIMARY KEY,
    detector_id TEXT NOT NULL REFERENCES detectors (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    type TEXT NOT NULL,
    -- Tenths.
    severity INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    is_archived INTEGER NOT NULL,
    -- The machine. A finding outlives it.
    instance_id TEXT,
    count INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX findings_by_time ON findings (detector_id, updated_at DESC, id);
CREATE INDEX findings_by_key ON findings (detector_id, key, updated_at DESC, id);

-- Which agent of a machine has sent telemetry, and when.
CREATE TABLE agent_reports (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    agent_name TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL
) STRICT;

-- Schema version 1. Times are whole seconds since 1970, ids the texts of the wire, flags 0 or 1.
-- Only STRICT and the type BLOB are SQLite's own; integers are 64 bits wide (BIGINT elsewhere).

CREATE TABLE instances (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    zone TEXT NOT NULL,
    image_id TEXT NOT NULL,
    instance_type TEXT NOT NULL,
    private_address TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'stopped', 'terminated')),
    launch_time INTEGER NOT NULL,
    boot_time INTEGER NOT NULL,
    boot_generation INTEGER NOT NULL CHECK (boot_generation BETWEEN 0 AND 4294967295),
    terminated_at INTEGER CHECK ((terminated_at IS NOT NULL) = (state = 'terminated')),
    reason_code TEXT,
    reason_message TEXT CHECK ((reason_message IS NULL) = (reason_code IS NULL)),
    http_tokens TEXT NOT NULL,
    http_endpoint TEXT NOT NULL,
    hop_limit INTEGER NOT NULL,
    metadata_ipv6 INTEGER NOT NULL CHECK (metadata_ipv6 IN (0, 1)),
    metadata_tags INTEGER NOT NULL CHECK (metadata_tags IN (0, 1)),
    key_name TEXT,
    ami_launch_index INTEGER NOT NULL,
    reservation_id TEXT NOT NULL,
    client_token TEXT,
    lease INTEGER NOT NULL CHECK (lease IN (0, 1)),
    attachment_kind TEXT,
    attachment_value TEXT CHECK ((attachment_value IS NULL) = (attachment_kind IS NULL))
) STRICT;

CREATE INDEX instances_by_account ON instances (account, id);
CREATE INDEX instances_by_reservation ON instances (reservation_id);
CREATE INDEX instances_by_end ON instances (terminated_at) WHERE terminated_at IS NOT NULL;
-- A connection tells which instance is asking: no two may share an attachment.
CREATE UNIQUE INDEX instances_by_attachment ON instances (attachment_kind, attachment_value)
    WHERE attachment_kind IS NOT NULL;

CREATE TABLE instance_tags (
    instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (instance_id, tag_key)
) STRICT;

-- Apart, so that a change of an instance does not write its user data again (and needs no room on a full disk).
CREATE TABLE instance_user_data (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    user_data BLOB NOT NULL
) STRICT;

-- Launches that came with a client token.
CREATE TABLE launches (
    account TEXT NOT NULL,
    client_token TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    reservation_id TEXT NOT NULL,
    PRIMARY KEY (account, client_token)
) STRICT;

CREATE INDEX launches_by_reservation ON launches (reservation_id);

CREATE TABLE operators (
    access_key_id TEXT NOT NULL PRIMARY KEY,
    sealed_secret BLOB NOT NULL,
    name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    account TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE epochs (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id BETWEEN 0 AND 4294967295),
    sealed_root BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('published', 'acknowledged', 'sealing', 'retired'))
) STRICT;

-- kind is dead, older-boot, or issued-before; the subject an instance, an account, or * for all;
-- the threshold a boot generation, a time, or 0.
CREATE TABLE cut_offs (
    kind TEXT NOT NULL CHECK (kind IN ('dead', 'older-boot', 'issued-before')),
    subject TEXT NOT NULL,
    threshold INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT;

CREATE INDEX cut_offs_by_age ON cut_offs (made_at);

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

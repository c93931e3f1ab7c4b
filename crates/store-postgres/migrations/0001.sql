-- Schema version 1: what version 10 of the SQLite store has. Times are whole seconds since 1970, ids the texts of the wire.
-- Every statement may be run again after it was done: a migration that broke off is begun again from its first line.
-- Texts hold U+0000 and U+0001 as two characters each, see src/value.rs.

CREATE TABLE IF NOT EXISTS instances (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    zone TEXT NOT NULL,
    image_id TEXT NOT NULL,
    instance_type TEXT NOT NULL,
    private_address TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'stopped', 'terminated')),
    launch_time BIGINT NOT NULL,
    boot_time BIGINT NOT NULL,
    boot_generation BIGINT NOT NULL CHECK (boot_generation BETWEEN 0 AND 4294967295),
    terminated_at BIGINT CHECK ((terminated_at IS NOT NULL) = (state = 'terminated')),
    reason_code TEXT,
    reason_message TEXT CHECK ((reason_message IS NULL) = (reason_code IS NULL)),
    http_tokens TEXT NOT NULL,
    http_endpoint TEXT NOT NULL,
    hop_limit BIGINT NOT NULL,
    metadata_ipv6 BOOLEAN NOT NULL,
    metadata_tags BOOLEAN NOT NULL,
    key_name TEXT,
    ami_launch_index BIGINT NOT NULL,
    reservation_id TEXT NOT NULL,
    client_token TEXT,
    lease BOOLEAN NOT NULL,
    attachment_kind TEXT,
    attachment_value TEXT CHECK ((attachment_value IS NULL) = (attachment_kind IS NULL)),
    public_key TEXT,
    ipv6_address TEXT,
    placement_group TEXT,
    placement_partition BIGINT CHECK (placement_partition BETWEEN 1 AND 4294967295),
    attachment_mac TEXT CHECK (attachment_mac IS NULL OR attachment_kind IS NOT NULL)
);

CREATE INDEX IF NOT EXISTS instances_by_account ON instances (account, id);
CREATE INDEX IF NOT EXISTS instances_by_reservation ON instances (reservation_id);
CREATE INDEX IF NOT EXISTS instances_by_end ON instances (terminated_at) WHERE terminated_at IS NOT NULL;
-- A connection tells which instance is asking: no two may share an attachment.
CREATE UNIQUE INDEX IF NOT EXISTS instances_by_attachment ON instances (attachment_kind, attachment_value)
    WHERE attachment_kind IS NOT NULL;

CREATE TABLE IF NOT EXISTS instance_tags (
    instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (instance_id, tag_key)
);

-- Apart, so that a change of an instance does not write its user data again (and needs no room on a full disk).
CREATE TABLE IF NOT EXISTS instance_user_data (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    user_data BYTEA NOT NULL
);

-- Launches that came with a client token.
CREATE TABLE IF NOT EXISTS launches (
    account TEXT NOT NULL,
    client_token TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    reservation_id TEXT NOT NULL,
    PRIMARY KEY (account, client_token)
);

CREATE INDEX IF NOT EXISTS launches_by_reservation ON launches (reservation_id);

CREATE TABLE IF NOT EXISTS operators (
    access_key_id TEXT NOT NULL PRIMARY KEY,
    sealed_secret BYTEA NOT NULL,
    name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    account TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS epochs (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id BETWEEN 0 AND 4294967295),
    sealed_root BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('published', 'acknowledged', 'sealing', 'retired'))
);

-- kind is dead, older-boot, or issued-before; the subject an instance, an account, or * for all;
-- the threshold a boot generation, a time, or 0.
CREATE TABLE IF NOT EXISTS cut_offs (
    kind TEXT NOT NULL CHECK (kind IN ('dead', 'older-boot', 'issued-before')),
    subject TEXT NOT NULL,
    threshold BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    PRIMARY KEY (kind, subject)
);

CREATE INDEX IF NOT EXISTS cut_offs_by_age ON cut_offs (made_at);

CREATE TABLE IF NOT EXISTS settings (
    name TEXT NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

-- The revision grows with each write, so that two who decide at once cannot both win. `proofs_until` is the latest moment
-- at which an old key signed a change that was taken: no earlier proof counts again.
CREATE TABLE IF NOT EXISTS host_key_records (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    proofs_until BIGINT NOT NULL
);

-- place is 0 for the set that is served, 1 for the one that waits for a decision, 2 and on for those that were served
-- before, the latest first. Keys are the lines of `.pub` files, with a line feed between them.
CREATE TABLE IF NOT EXISTS host_key_sets (
    instance_id TEXT NOT NULL REFERENCES host_key_records (instance_id) ON DELETE CASCADE,
    place BIGINT NOT NULL CHECK (place BETWEEN 0 AND 31),
    key_lines TEXT NOT NULL,
    basis TEXT NOT NULL CHECK (basis IN ('offered', 'first', 'old-key', 'fresh-boot', 'approved')),
    proven BOOLEAN NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    boot_generation BIGINT NOT NULL CHECK (boot_generation BETWEEN 0 AND 4294967295),
    access_key_id TEXT NOT NULL,
    source_address TEXT NOT NULL,
    PRIMARY KEY (instance_id, place)
);

-- The public half of each. The private half is never here.
CREATE TABLE IF NOT EXISTS key_pairs (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    key_type TEXT NOT NULL CHECK (key_type IN ('rsa', 'ed25519')),
    fingerprint TEXT NOT NULL,
    public_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);

CREATE TABLE IF NOT EXISTS key_pair_tags (
    key_pair_id TEXT NOT NULL REFERENCES key_pairs (id) ON DELETE CASCADE,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (key_pair_id, tag_key)
);

-- Roles that can be passed to machines.
CREATE TABLE IF NOT EXISTS roles (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    role_id TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);

-- The public keys with which agents prove, beside their machine's credential, that they are the ones that registered.
CREATE TABLE IF NOT EXISTS registrations (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    public_key BYTEA NOT NULL,
    registered_at BIGINT NOT NULL,
    key_changed_at BIGINT NOT NULL
);

-- What agents said of themselves last.
CREATE TABLE IF NOT EXISTS nodes (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    pinged_at BIGINT NOT NULL,
    agent_name TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    agent_status TEXT NOT NULL,
    platform_type TEXT NOT NULL,
    platform_name TEXT NOT NULL,
    platform_version TEXT NOT NULL,
    computer_name TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    availability_zone TEXT NOT NULL,
    availability_zone_id TEXT NOT NULL,
    connection_channel TEXT NOT NULL
);

-- What operators wrote for commands to run.
CREATE TABLE IF NOT EXISTS documents (
    name TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    display_name TEXT NOT NULL,
    version_name TEXT NOT NULL,
    target_type TEXT NOT NULL,
    content TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS commands (
    id TEXT NOT NULL PRIMARY KEY,
    requested_at BIGINT NOT NULL,
    document_name TEXT NOT NULL,
    -- The document as it was when the command was sent; empty once nothing more becomes of the command.
    content TEXT NOT NULL,
    parameters TEXT NOT NULL,
    targets TEXT NOT NULL,
    comment TEXT NOT NULL,
    delivery_seconds BIGINT NOT NULL,
    execution_seconds BIGINT NOT NULL,
    concurrency_max TEXT NOT NULL,
    errors_max TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Whether something may still become of it.
    is_open BOOLEAN NOT NULL,
    target_count BIGINT NOT NULL,
    completed_count BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    delivery_timed_out_count BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS commands_by_time ON commands (requested_at DESC, id);
CREATE INDEX IF NOT EXISTS commands_open ON commands (id) WHERE is_open;

-- A command on one machine. It outlives the machine.
CREATE TABLE IF NOT EXISTS invocations (
    command_id TEXT NOT NULL REFERENCES commands (id) ON DELETE CASCADE,
    instance_id TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    instance_name TEXT NOT NULL,
    state TEXT NOT NULL,
    acknowledged_at BIGINT,
    trace TEXT NOT NULL,
    PRIMARY KEY (command_id, instance_id)
);
CREATE INDEX IF NOT EXISTS invocations_by_time ON invocations (requested_at DESC, command_id, instance_id);
CREATE INDEX IF NOT EXISTS invocations_by_instance ON invocations (instance_id, requested_at DESC, command_id);

-- The steps of a command on one machine, as its agent tells of them.
CREATE TABLE IF NOT EXISTS invocation_steps (
    command_id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    place BIGINT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    code BIGINT NOT NULL,
    started TEXT NOT NULL,
    finished TEXT NOT NULL,
    output TEXT NOT NULL,
    standard_output TEXT NOT NULL,
    standard_error TEXT NOT NULL,
    PRIMARY KEY (command_id, instance_id, place),
    FOREIGN KEY (command_id, instance_id) REFERENCES invocations (command_id, instance_id) ON DELETE CASCADE
);

-- What was collected of machines. kind is item, for what is on them, or compliance; context and content are JSON.
CREATE TABLE IF NOT EXISTS inventory (
    instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('item', 'compliance')),
    type_name TEXT NOT NULL,
    schema_version TEXT NOT NULL,
    captured_at TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    context TEXT NOT NULL,
    content TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (instance_id, kind, type_name)
);

CREATE INDEX IF NOT EXISTS inventory_by_age ON inventory (received_at);

-- A session on a machine. It outlives the machine; it is open while it has not ended.
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    document_name TEXT NOT NULL,
    reason TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    status TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_open ON sessions (started_at DESC, id) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS sessions_ended ON sessions (started_at DESC, id) WHERE ended_at IS NOT NULL;

-- What watches an account. The document has its settings and tags.
CREATE TABLE IF NOT EXISTS detectors (
    id TEXT NOT NULL PRIMARY KEY,
    account TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    document TEXT NOT NULL
);

-- Filters, and the sets of addresses that are trusted or threaten.
CREATE TABLE IF NOT EXISTS detector_parts (
    detector_id TEXT NOT NULL REFERENCES detectors (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (detector_id, kind, id)
);

-- What was found. Of findings that are the same thing over and over (of one key) the latest one counts on.
CREATE TABLE IF NOT EXISTS findings (
    id TEXT NOT NULL PRIMARY KEY,
    detector_id TEXT NOT NULL REFERENCES detectors (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    type TEXT NOT NULL,
    -- Tenths.
    severity BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    is_archived BOOLEAN NOT NULL,
    -- The machine. A finding outlives it.
    instance_id TEXT,
    count BIGINT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS findings_by_time ON findings (detector_id, updated_at DESC, id);
CREATE INDEX IF NOT EXISTS findings_by_key ON findings (detector_id, key, updated_at DESC, id);

-- Which agent of a machine has sent telemetry, and when.
CREATE TABLE IF NOT EXISTS agent_reports (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    agent_name TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);

-- Schema version 7: documents, commands and what became of them.

-- What operators wrote for commands to run.
CREATE TABLE documents (
    name TEXT NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL,
    display_name TEXT NOT NULL,
    version_name TEXT NOT NULL,
    target_type TEXT NOT NULL,
    content TEXT NOT NULL
) STRICT;

CREATE TABLE commands (
    id TEXT NOT NULL PRIMARY KEY,
    requested_at INTEGER NOT NULL,
    document_name TEXT NOT NULL,
    -- The document as it was when the command was sent; empty once nothing more becomes of the command.
    content TEXT NOT NULL,
    parameters TEXT NOT NULL,
    targets TEXT NOT NULL,
    comment TEXT NOT NULL,
    delivery_seconds INTEGER NOT NULL,
    execution_seconds INTEGER NOT NULL,
    concurrency_max TEXT NOT NULL,
    errors_max TEXT NOT NULL,
    state TEXT NOT NULL,
    -- Whether something may still become of it.
    is_open INTEGER NOT NULL,
    target_count INTEGER NOT NULL,
    completed_count INTEGER NOT NULL,
    error_count INTEGER NOT NULL,
    delivery_timed_out_count INTEGER NOT NULL
) STRICT;
CREATE INDEX commands_by_time ON commands (requested_at DESC, id);
CREATE INDEX commands_open ON commands (id) WHERE is_open = 1;

-- A command on one machine. It outlives the machine.
CREATE TABLE invocations (
    command_id TEXT NOT NULL REFERENCES commands (id) ON DELETE CASCADE,
    instance_id TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    instance_name TEXT NOT NULL,
    state TEXT NOT NULL,
    acknowledged_at INTEGER,
    trace TEXT NOT NULL,
    PRIMARY KEY (command_id, instance_id)
) STRICT;
CREATE INDEX invocations_by_time ON invocations (requested_at DESC, command_id, instance_id);
CREATE INDEX invocations_by_instance ON invocations (instance_id, requested_at DESC, command_id);

-- The steps of a command on one machine, as its agent tells of them.
CREATE TABLE invocation_steps (
    command_id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    code INTEGER NOT NULL,
    started TEXT NOT NULL,
    finished TEXT NOT NULL,
    output TEXT NOT NULL,
    standard_output TEXT NOT NULL,
    standard_error TEXT NOT NULL,
    PRIMARY KEY (command_id, instance_id, place),
    FOREIGN KEY (command_id, instance_id) REFERENCES invocations (command_id, instance_id) ON DELETE CASCADE
) STRICT;

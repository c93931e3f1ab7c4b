-- Schema version 4: what Default Host Management needs.

-- Roles that can be passed to machines.
CREATE TABLE roles (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    role_id TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT;

-- The public keys with which agents prove, beside their machine's credential, that they are the ones that registered.
CREATE TABLE registrations (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    public_key BLOB NOT NULL,
    registered_at INTEGER NOT NULL,
    key_changed_at INTEGER NOT NULL
) STRICT;

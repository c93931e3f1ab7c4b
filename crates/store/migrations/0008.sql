-- Schema version 8: inventory.

-- What was collected of machines. kind is item, for what is on them, or compliance; context and content are JSON.
CREATE TABLE inventory (
    instance_id TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('item', 'compliance')),
    type_name TEXT NOT NULL,
    schema_version TEXT NOT NULL,
    captured_at TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    context TEXT NOT NULL,
    content TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (instance_id, kind, type_name)
) STRICT;

CREATE INDEX inventory_by_age ON inventory (received_at);

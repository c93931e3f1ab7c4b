-- Schema version 5: nodes.

-- What agents said of themselves last.
CREATE TABLE nodes (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    pinged_at INTEGER NOT NULL,
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
) STRICT;

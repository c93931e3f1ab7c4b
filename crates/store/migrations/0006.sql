-- Schema version 6: interfaces that machines have themselves.

-- The MAC address of the machine's own interface, after whether its host found it or was told it; as long as it is attached.
ALTER TABLE instances ADD COLUMN attachment_mac TEXT CHECK (attachment_mac IS NULL OR attachment_kind IS NOT NULL);

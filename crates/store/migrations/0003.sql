-- Schema version 3: key pairs; and of an instance its public key, IPv6 address and placement.

ALTER TABLE instances ADD COLUMN public_key TEXT;
ALTER TABLE instances ADD COLUMN ipv6_address TEXT;
ALTER TABLE instances ADD COLUMN placement_group TEXT;
ALTER TABLE instances ADD COLUMN placement_partition INTEGER
    CHECK (placement_partition BETWEEN 1 AND 4294967295);

-- The public half of each. The private half is never here.
CREATE TABLE key_pairs (
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    key_type TEXT NOT NULL CHECK (key_type IN ('rsa', 'ed25519')),
    fingerprint TEXT NOT NULL,
    public_key TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account, name)
) STRICT;

CREATE TABLE key_pair_tags (
    key_pair_id TEXT NOT NULL REFERENCES key_pairs (id) ON DELETE CASCADE,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (key_pair_id, tag_key)
) STRICT;

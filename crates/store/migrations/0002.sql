-- Schema version 2: the SSH host keys of machines.

-- The revision grows with each write, so that two who decide at once cannot both win. `proofs_until` is the latest moment
-- at which an old key signed a change that was taken: no earlier proof counts again.
CREATE TABLE host_key_records (
    instance_id TEXT NOT NULL PRIMARY KEY REFERENCES instances (id) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    proofs_until INTEGER NOT NULL
) STRICT;

-- place is 0 for the set that is served, 1 for the one that waits for a decision, 2 and on for those that were served
-- before, the latest first. Keys are the lines of `.pub` files, with a line feed between them.
CREATE TABLE host_key_sets (
    instance_id TEXT NOT NULL REFERENCES host_key_records (instance_id) ON DELETE CASCADE,
    place INTEGER NOT NULL CHECK (place BETWEEN 0 AND 31),
    key_lines TEXT NOT NULL,
    basis TEXT NOT NULL CHECK (basis IN ('offered', 'first', 'old-key', 'fresh-boot', 'approved')),
    proven INTEGER NOT NULL CHECK (proven IN (0, 1)),
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    boot_generation INTEGER NOT NULL CHECK (boot_generation BETWEEN 0 AND 4294967295),
    access_key_id TEXT NOT NULL,
    source_address TEXT NOT NULL,
    PRIMARY KEY (instance_id, place)
) STRICT;

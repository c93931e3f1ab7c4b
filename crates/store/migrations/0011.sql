-- Schema version 11: the programs that have the store open, and what they tell each other.

-- One row for each opening. No entry of a number up to `settled` is still to come; up to `forgotten` some are gone.
CREATE TABLE region_nodes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    beaten_at INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    forgotten INTEGER NOT NULL
) STRICT;

-- What was changed, entered in the transaction that changed it. A number is never used twice.
CREATE TABLE feed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    writer TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    topic TEXT NOT NULL,
    subject TEXT NOT NULL
) STRICT;
CREATE INDEX feed_by_writer ON feed (writer, number);

-- Schema version 2: the programs that have the store open, and what they tell each other. Version 11 of the SQLite store.
-- A program of version 1 enters nothing, so it may not work beside those of version 2.

-- One row for each opening. No entry of a number up to `settled` is still to come, up to `forgotten` some are gone.
CREATE TABLE IF NOT EXISTS region_nodes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    beaten_at BIGINT NOT NULL,
    settled BIGINT NOT NULL,
    forgotten BIGINT NOT NULL
);

-- What was changed, entered in the transaction that changed it. Numbers are the writer's own.
CREATE TABLE IF NOT EXISTS feed (
    writer TEXT NOT NULL,
    number BIGINT NOT NULL,
    place BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    topic TEXT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (writer, number, place)
);
CREATE INDEX IF NOT EXISTS feed_by_age ON feed (made_at);

-- Schema version 17: what was launched with a token is found by the token alone, so that a launch changes two pages less.

CREATE TABLE launches_by_token (
    account TEXT NOT NULL,
    client_token TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    reservation_id TEXT NOT NULL,
    PRIMARY KEY (account, client_token)
) STRICT, WITHOUT ROWID;
INSERT INTO launches_by_token (account, client_token, fingerprint, reservation_id)
    SELECT account, client_token, fingerprint, reservation_id FROM launches;
DROP TABLE launches;
ALTER TABLE launches_by_token RENAME TO launches;

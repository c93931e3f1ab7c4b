//! Hosts and the tokens that let them join, as rows.

use inborn_identity::{HostId, UnixTime};
use rusqlite::{Connection, OptionalExtension, Row};

use super::fault::{self, Outcome};
use super::records::{self, column, moment, parsed, time};
use crate::{Conflict, Host, HostChange, HostJoin, JoinToken, StoreError, accounts_from_column, accounts_to_column};

/// See [`crate::Store::hosts`].
pub(super) fn all(connection: &Connection) -> Outcome<Vec<Host>> {
    records::all(connection, "SELECT * FROM hosts ORDER BY id", read)
}

/// The host of this id.
pub(super) fn one(connection: &Connection, id: HostId) -> Outcome<Option<Host>> {
    let mut statement = connection.prepare_cached("SELECT * FROM hosts WHERE id = ?1").map_err(fault::from_sqlite)?;
    let mut rows = statement.query((id.to_string(),)).map_err(fault::from_sqlite)?;
    rows.next().map_err(fault::from_sqlite)?.map(read).transpose()
}

fn read(row: &Row<'_>) -> Outcome<Host> {
    let accounts: String = column(row, "accounts")?;
    Ok(Host {
        id: parsed(row, "id")?,
        name: column(row, "name")?,
        state: parsed(row, "state")?,
        public_key: column(row, "public_key")?,
        accounts: accounts_from_column(&accounts).ok_or_else(|| fault::corrupt("hosts.accounts is no list of them"))?,
        joined_at: moment(row, "joined_at")?,
        seen_at: moment(row, "seen_at")?,
    })
}

/// See [`crate::Store::put_join_token`].
pub(super) fn put_token(connection: &Connection, token: &JoinToken) -> Outcome<()> {
    let sql = "INSERT INTO join_tokens (digest, accounts, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)";
    let row =
        (token.digest.as_slice(), accounts_to_column(&token.accounts), time(token.created_at), time(token.expires_at));
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map(drop).map_err(|error| fault::from_insertion(error, "a join token"))
}

/// See [`crate::Store::join_host`].
pub(super) fn join(connection: &Connection, join: &HostJoin) -> Outcome<Host> {
    let refused = || StoreError::from(Conflict::JoinTokenRefused);
    let found: Option<(String, i64, i64)> = connection
        .prepare_cached("SELECT accounts, created_at, expires_at FROM join_tokens WHERE digest = ?1")
        .and_then(|mut sql| {
            let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            sql.query_row((join.digest.as_slice(),), read).optional()
        })
        .map_err(fault::from_sqlite)?;
    let (accounts, created_at, expires_at) = found.ok_or_else(refused)?;
    if time(join.at) >= expires_at {
        return Err(refused());
    }
    let accounts = accounts_from_column(&accounts).ok_or_else(|| fault::corrupt("join_tokens.accounts is no list"))?;
    let moment = |seconds: i64| UnixTime::from_secs(u64::try_from(seconds).unwrap_or_default());
    let token =
        JoinToken { digest: join.digest, accounts, created_at: moment(created_at), expires_at: moment(expires_at) };
    let host = join.host(&token);
    insert(connection, &host)?;
    connection
        .prepare_cached("DELETE FROM join_tokens WHERE digest = ?1")
        .and_then(|mut sql| sql.execute((join.digest.as_slice(),)))
        .map_err(fault::from_sqlite)?;
    Ok(host)
}

fn insert(connection: &Connection, host: &Host) -> Outcome<()> {
    let sql = "INSERT INTO hosts (id, name, state, public_key, accounts, joined_at, seen_at) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row = (
        host.id.to_string(),
        &host.name,
        host.state.as_str(),
        &host.public_key,
        accounts_to_column(&host.accounts),
        time(host.joined_at),
        time(host.seen_at),
    );
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map(drop).map_err(|error| fault::from_insertion(error, "a host"))
}

/// See [`crate::Store::change_host`].
pub(super) fn change(connection: &Connection, id: HostId, change: HostChange) -> Outcome<Option<Host>> {
    let Some(before) = one(connection, id)? else { return Ok(None) };
    let after = change.apply(&before);
    if after != before {
        let sql = "UPDATE hosts SET state = ?2, seen_at = ?3 WHERE id = ?1";
        let row = (id.to_string(), after.state.as_str(), time(after.seen_at));
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    }
    Ok(Some(after))
}

/// See [`crate::Store::forget_join_tokens`].
pub(super) fn forget_tokens(connection: &Connection, ended_before: UnixTime) -> Outcome<u64> {
    let deleted = connection
        .prepare_cached("DELETE FROM join_tokens WHERE expires_at < ?1")
        .and_then(|mut sql| sql.execute((time(ended_before),)));
    deleted.map(|rows| rows as u64).map_err(fault::from_sqlite)
}

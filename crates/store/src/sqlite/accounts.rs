//! Accounts as rows.

use inborn_identity::{AccountId, UnixTime};
use rusqlite::Connection;

use super::fault::{self, Outcome};
use super::records::{all, column, moment, optional_moment, parsed, time};
use crate::Account;

/// See [`crate::Store::accounts`].
pub(super) fn accounts(connection: &Connection) -> Outcome<Vec<Account>> {
    all(connection, "SELECT * FROM accounts ORDER BY id", |row| {
        Ok(Account {
            id: parsed(row, "id")?,
            name: column(row, "name")?,
            created_at: moment(row, "created_at")?,
            closed_at: optional_moment(row, "closed_at")?,
        })
    })
}

/// See [`crate::Store::put_account`].
pub(super) fn put(connection: &Connection, account: &Account) -> Outcome<()> {
    let sql = "INSERT INTO accounts (id, name, created_at, closed_at) VALUES (?1, ?2, ?3, ?4)";
    let row = (account.id.to_string(), &account.name, time(account.created_at), account.closed_at.map(time));
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map(drop).map_err(|error| fault::from_insertion(error, "an account"))
}

/// See [`crate::Store::close_account`].
pub(super) fn close(connection: &Connection, id: AccountId, at: UnixTime) -> Outcome<bool> {
    let sql = "UPDATE accounts SET closed_at = ?2 WHERE id = ?1 AND closed_at IS NULL";
    let row = (id.to_string(), time(at));
    let changed = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    changed.map(|rows| rows > 0).map_err(fault::from_sqlite)
}

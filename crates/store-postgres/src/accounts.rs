//! Accounts as rows.

use inborn_identity::{AccountId, UnixTime};
use inborn_store::Account;

use crate::fault::Outcome;
use crate::transaction::Session;
use crate::value::{Row, values};

/// See [`inborn_store::Store::accounts`].
pub(crate) async fn accounts(session: &Session<'_>) -> Outcome<Vec<Account>> {
    let read = |row: &Row| {
        Ok(Account {
            id: row.parsed("id")?,
            name: row.text("name")?,
            created_at: row.moment("created_at")?,
            closed_at: row.moment_if_any("closed_at")?,
        })
    };
    let sql = "SELECT id, name, created_at, closed_at FROM accounts ORDER BY id";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::put_account`].
pub(crate) async fn put(session: &Session<'_>, account: &Account) -> Outcome<()> {
    let sql = "INSERT INTO accounts (id, name, created_at, closed_at) VALUES ($1, $2, $3, $4)";
    let row = values![account.id.to_string(), &account.name, account.created_at, account.closed_at];
    session.put(sql, row, "an account").await
}

/// See [`inborn_store::Store::close_account`].
pub(crate) async fn close(session: &Session<'_>, (id, at): &(AccountId, UnixTime)) -> Outcome<bool> {
    let sql = "UPDATE accounts SET closed_at = $2 WHERE id = $1 AND closed_at IS NULL";
    Ok(session.run(sql, values![id.to_string(), *at]).await? > 0)
}

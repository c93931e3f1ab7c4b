//! Documents as rows.

use inborn_identity::AccountId;
use rusqlite::Connection;

use super::fault::{self, Outcome};
use super::records::{all, column, moment, parsed, time};
use crate::Document;

/// See [`crate::Store::documents`].
pub(super) fn documents(connection: &Connection) -> Outcome<Vec<Document>> {
    all(connection, "SELECT * FROM account_documents ORDER BY account, name", |row| {
        Ok(Document {
            account: parsed(row, "account")?,
            name: column(row, "name")?,
            created_at: moment(row, "created_at")?,
            display_name: column(row, "display_name")?,
            version_name: column(row, "version_name")?,
            target_type: column(row, "target_type")?,
            content: column(row, "content")?,
        })
    })
}

/// See [`crate::Store::put_document`].
pub(super) fn put(connection: &Connection, document: &Document) -> Outcome<()> {
    let sql = "INSERT INTO account_documents (account, name, created_at, display_name, version_name, target_type, \
        content) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row = (
        document.account.to_string(),
        &document.name,
        time(document.created_at),
        &document.display_name,
        &document.version_name,
        &document.target_type,
        &document.content,
    );
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map(drop).map_err(|error| fault::from_insertion(error, "a document"))
}

/// See [`crate::Store::delete_document`].
pub(super) fn delete(connection: &Connection, account: AccountId, name: &str) -> Outcome<bool> {
    let deleted = connection
        .prepare_cached("DELETE FROM account_documents WHERE account = ?1 AND name = ?2")
        .and_then(|mut sql| sql.execute((account.to_string(), name)));
    deleted.map(|rows| rows > 0).map_err(fault::from_sqlite)
}

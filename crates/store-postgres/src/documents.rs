//! Documents as rows.

use inborn_identity::AccountId;
use inborn_store::Document;

use crate::fault::Outcome;
use crate::transaction::Session;
use crate::value::{Row, values};

/// See [`inborn_store::Store::documents`].
pub(crate) async fn documents(session: &Session<'_>) -> Outcome<Vec<Document>> {
    let read = |row: &Row| {
        Ok(Document {
            account: row.parsed("account")?,
            name: row.text("name")?,
            created_at: row.moment("created_at")?,
            display_name: row.text("display_name")?,
            version_name: row.text("version_name")?,
            target_type: row.text("target_type")?,
            content: row.text("content")?,
        })
    };
    let sql = "SELECT account, name, created_at, display_name, version_name, target_type, content \
        FROM account_documents ORDER BY account, name";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::put_document`].
pub(crate) async fn put(session: &Session<'_>, document: &Document) -> Outcome<()> {
    let sql = "INSERT INTO account_documents (account, name, created_at, display_name, version_name, target_type, \
        content) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let row = values![
        document.account.to_string(),
        &document.name,
        document.created_at,
        &document.display_name,
        &document.version_name,
        &document.target_type,
        &document.content,
    ];
    session.put(sql, row, "a document").await
}

/// See [`inborn_store::Store::delete_document`].
pub(crate) async fn delete(session: &Session<'_>, (account, name): &(AccountId, String)) -> Outcome<bool> {
    let sql = "DELETE FROM account_documents WHERE account = $1 AND name = $2";
    Ok(session.run(sql, values![account.to_string(), name]).await? > 0)
}

//! Documents as rows.

use inborn_store::Document;

use crate::fault::Outcome;
use crate::transaction::Session;
use crate::value::{Row, values};

/// See [`inborn_store::Store::documents`].
pub(crate) async fn documents(session: &Session<'_>) -> Outcome<Vec<Document>> {
    let read = |row: &Row| {
        Ok(Document {
            name: row.text("name")?,
            created_at: row.moment("created_at")?,
            display_name: row.text("display_name")?,
            version_name: row.text("version_name")?,
            target_type: row.text("target_type")?,
            content: row.text("content")?,
        })
    };
    let sql = "SELECT name, created_at, display_name, version_name, target_type, content FROM documents ORDER BY name";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::put_document`].
pub(crate) async fn put(session: &Session<'_>, document: &Document) -> Outcome<()> {
    let sql = "INSERT INTO documents (name, created_at, display_name, version_name, target_type, content) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    let row = values![
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
pub(crate) async fn delete(session: &Session<'_>, name: &String) -> Outcome<bool> {
    Ok(session.run("DELETE FROM documents WHERE name = $1", values![name]).await? > 0)
}

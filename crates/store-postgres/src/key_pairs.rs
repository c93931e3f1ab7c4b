//! Key pairs as rows.

use std::collections::BTreeMap;

use inborn_identity::AccountId;
use inborn_store::KeyPair;

use crate::fault::Outcome;
use crate::transaction::Session;
use crate::value::{Value, values};

/// See [`inborn_store::Store::key_pairs`].
pub(crate) async fn all(session: &Session<'_>, account: &AccountId) -> Outcome<Vec<KeyPair>> {
    let sql = "SELECT name, id, key_type, fingerprint, public_key, created_at FROM key_pairs WHERE account = $1 \
        ORDER BY name";
    let mut found = Vec::new();
    for row in session.rows(sql, &[Value::shown(account)]).await? {
        found.push(KeyPair {
            account: *account,
            name: row.text("name")?,
            key_type: row.parsed("key_type")?,
            fingerprint: row.text("fingerprint")?,
            public_key: row.text("public_key")?,
            created_at: row.moment("created_at")?,
            tags: BTreeMap::new(),
            id: row.text("id")?,
        });
    }
    let ids = Value::all(found.iter().map(|pair| &pair.id));
    let sql = "SELECT key_pair_id, tag_key, tag_value FROM key_pair_tags WHERE key_pair_id = ANY($1)";
    let mut tags: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for row in session.rows(sql, &[ids]).await? {
        tags.entry(row.text("key_pair_id")?).or_default().insert(row.text("tag_key")?, row.text("tag_value")?);
    }
    for pair in &mut found {
        pair.tags = tags.remove(&pair.id).unwrap_or_default();
    }
    Ok(found)
}

/// See [`inborn_store::Store::put_key_pair`].
pub(crate) async fn put(session: &Session<'_>, pair: &KeyPair) -> Outcome<()> {
    let sql = "INSERT INTO key_pairs (account, name, id, key_type, fingerprint, public_key, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let row = values![
        pair.account.to_string(),
        &pair.name,
        &pair.id,
        pair.key_type.as_str(),
        &pair.fingerprint,
        &pair.public_key,
        pair.created_at,
    ];
    session.put(sql, row, "a key pair").await?;
    let sql = "INSERT INTO key_pair_tags (key_pair_id, tag_key, tag_value) VALUES ($1, $2, $3)";
    for (key, value) in &pair.tags {
        session.run(sql, values![&pair.id, key, value]).await?;
    }
    Ok(())
}

/// See [`inborn_store::Store::remove_key_pair`].
pub(crate) async fn remove(session: &Session<'_>, (account, name): &(AccountId, String)) -> Outcome<bool> {
    let sql = "DELETE FROM key_pairs WHERE account = $1 AND name = $2";
    Ok(session.run(sql, values![account.to_string(), name]).await? > 0)
}

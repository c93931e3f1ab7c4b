//! Key pairs as rows.

use std::collections::BTreeMap;

use inborn_identity::AccountId;
use rusqlite::Connection;

use super::fault::{self, Outcome};
use super::records;
use crate::KeyPair;

const KEY_PAIR: &str = "a key pair";

/// See [`crate::Store::key_pairs`].
pub(super) fn all(connection: &Connection, account: AccountId) -> Outcome<Vec<KeyPair>> {
    let sql = "SELECT * FROM key_pairs WHERE account = ?1 ORDER BY name";
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query((account.to_string(),)).map_err(fault::from_sqlite)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        let id: String = records::column(row, "id")?;
        found.push(KeyPair {
            account,
            name: records::column(row, "name")?,
            key_type: records::parsed(row, "key_type")?,
            fingerprint: records::column(row, "fingerprint")?,
            public_key: records::column(row, "public_key")?,
            created_at: records::moment(row, "created_at")?,
            tags: tags(connection, &id)?,
            id,
        });
    }
    Ok(found)
}

fn tags(connection: &Connection, id: &str) -> Outcome<BTreeMap<String, String>> {
    connection
        .prepare_cached("SELECT tag_key, tag_value FROM key_pair_tags WHERE key_pair_id = ?1")
        .and_then(|mut sql| sql.query_map((id,), |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
        .map_err(fault::from_sqlite)
}

/// See [`crate::Store::put_key_pair`].
pub(super) fn put(connection: &Connection, pair: &KeyPair) -> Outcome<()> {
    let sql = "INSERT INTO key_pairs (account, name, id, key_type, fingerprint, public_key, created_at) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let row = (
        pair.account.to_string(),
        &pair.name,
        &pair.id,
        pair.key_type.as_str(),
        &pair.fingerprint,
        &pair.public_key,
        records::time(pair.created_at),
    );
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map_err(|error| fault::from_insertion(error, KEY_PAIR))?;
    let sql = "INSERT INTO key_pair_tags (key_pair_id, tag_key, tag_value) VALUES (?1, ?2, ?3)";
    for (key, value) in &pair.tags {
        let row = (&pair.id, key, value);
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    }
    Ok(())
}

/// See [`crate::Store::remove_key_pair`].
pub(super) fn remove(connection: &Connection, account: AccountId, name: &str) -> Outcome<bool> {
    let sql = "DELETE FROM key_pairs WHERE account = ?1 AND name = ?2";
    let row = (account.to_string(), name);
    let removed = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    Ok(removed > 0)
}

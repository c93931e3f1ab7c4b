//! Inventory as rows.

use inborn_identity::{InstanceId, UnixTime};
use rusqlite::{Connection, OptionalExtension, Row};

use super::fault::{self, Outcome};
use super::records::{column, moment, parsed, time};
use crate::{Conflict, InventoryChange, InventoryKind, InventoryQuery, InventoryRecord, StoreError};

/// See [`crate::Store::inventory`].
pub(super) fn inventory(connection: &Connection, query: &InventoryQuery) -> Outcome<Vec<InventoryRecord>> {
    let sql = "SELECT kind, type_name, schema_version, captured_at, content_hash, context, received_at, \
               CASE WHEN ?4 THEN content ELSE '' END AS content FROM inventory WHERE instance_id = ?1 AND kind = ?2 AND (?3 IS NULL OR type_name = ?3) \
               ORDER BY type_name";
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let asked = (query.instance.to_string(), query.kind.to_string(), &query.type_name, query.with_content);
    let mut rows = statement.query(asked).map_err(fault::from_sqlite)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        records.push(read(row)?);
    }
    Ok(records)
}

fn read(row: &Row<'_>) -> Outcome<InventoryRecord> {
    Ok(InventoryRecord {
        kind: parsed(row, "kind")?,
        type_name: column(row, "type_name")?,
        schema_version: column(row, "schema_version")?,
        captured_at: column(row, "captured_at")?,
        content_hash: column(row, "content_hash")?,
        context: column(row, "context")?,
        content: column(row, "content")?,
        received_at: moment(row, "received_at")?,
    })
}

/// See [`crate::Store::put_inventory`].
pub(super) fn put_inventory(connection: &Connection, change: &InventoryChange) -> Outcome<()> {
    let state: Option<String> = connection
        .prepare_cached("SELECT state FROM instances WHERE id = ?1")
        .and_then(|mut sql| sql.query_row((change.instance.to_string(),), |row| row.get(0)).optional())
        .map_err(fault::from_sqlite)?;
    if state.is_none_or(|state| state == "terminated") {
        return Err(StoreError::NotFound(vec![change.instance]));
    }
    change.records.iter().try_for_each(|record| put(connection, change.instance, record))?;
    change.unchanged.iter().try_for_each(|record| touch(connection, change.instance, record))?;
    [InventoryKind::Item, InventoryKind::Compliance]
        .into_iter()
        .filter(|kind| change.records.iter().any(|record| record.kind == *kind))
        .try_for_each(|kind| check_size(connection, change.instance, kind))
}

fn put(connection: &Connection, instance: InstanceId, record: &InventoryRecord) -> Outcome<()> {
    let sql = "INSERT OR REPLACE INTO inventory (instance_id, kind, type_name, schema_version, captured_at, content_hash, \
               context, content, received_at, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let row = (
        instance.to_string(),
        record.kind.to_string(),
        &record.type_name,
        &record.schema_version,
        &record.captured_at,
        &record.content_hash,
        &record.context,
        &record.content,
        time(record.received_at),
        i64::try_from(record.bytes()).unwrap_or(i64::MAX),
    );
    let done = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    done.map(drop).map_err(fault::from_sqlite)
}

/// The content is as it was: the hash says so.
fn touch(connection: &Connection, instance: InstanceId, record: &InventoryRecord) -> Outcome<()> {
    let sql = "UPDATE inventory SET captured_at = ?1, received_at = ?2 \
               WHERE instance_id = ?3 AND kind = ?4 AND type_name = ?5 AND content_hash = ?6 AND content_hash != ''";
    let row = (
        &record.captured_at,
        time(record.received_at),
        instance.to_string(),
        record.kind.to_string(),
        &record.type_name,
        &record.content_hash,
    );
    let done = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    if done == 0 { Err(Conflict::ContentAbsent(record.type_name.clone()).into()) } else { Ok(()) }
}

fn check_size(connection: &Connection, instance: InstanceId, kind: InventoryKind) -> Outcome<()> {
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM inventory WHERE instance_id = ?1 AND kind = ?2";
    let (types, bytes): (u32, i64) = connection
        .prepare_cached(sql)
        .and_then(|mut sql| {
            sql.query_row((instance.to_string(), kind.to_string()), |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .map_err(fault::from_sqlite)?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if types as usize > InventoryChange::TYPES_MAX || bytes > InventoryChange::BYTES_MAX {
        return Err(Conflict::InventoryFull(instance).into());
    }
    Ok(())
}

/// See [`crate::Store::forget_inventory`].
pub(super) fn forget_inventory(connection: &Connection, before: UnixTime) -> Outcome<u64> {
    let deleted = connection
        .prepare_cached("DELETE FROM inventory WHERE received_at < ?1")
        .and_then(|mut sql| sql.execute((time(before),)));
    deleted.map(|rows| rows as u64).map_err(fault::from_sqlite)
}

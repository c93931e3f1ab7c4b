//! Inventory as rows.

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{Conflict, InventoryChange, InventoryKind, InventoryQuery, InventoryRecord};

use crate::fault::Outcome;
use crate::instances;
use crate::transaction::{Query, Session};
use crate::value::{Row, values};

/// See [`inborn_store::Store::inventory`].
pub(crate) async fn inventory(session: &Session<'_>, asked: &InventoryQuery) -> Outcome<Vec<InventoryRecord>> {
    let content = if asked.with_content { "content" } else { "'' AS content" };
    let mut query = Query::new(
        &format!(
            "SELECT kind, type_name, schema_version, captured_at, content_hash, context, received_at, {content} \
             FROM inventory WHERE instance_id = $1 AND kind = $2"
        ),
        values![asked.instance.to_string(), asked.kind.to_string()],
    );
    if let Some(name) = &asked.type_name {
        let name = query.value(name);
        query.push(&format!(" AND type_name = {name}"));
    }
    query.push(" ORDER BY type_name");
    query.rows(session).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Outcome<InventoryRecord> {
    Ok(InventoryRecord {
        kind: row.parsed("kind")?,
        type_name: row.text("type_name")?,
        schema_version: row.text("schema_version")?,
        captured_at: row.text("captured_at")?,
        content_hash: row.text("content_hash")?,
        context: row.text("context")?,
        content: row.text("content")?,
        received_at: row.moment("received_at")?,
    })
}

/// See [`inborn_store::Store::put_inventory`].
pub(crate) async fn put_inventory(session: &Session<'_>, change: &InventoryChange) -> Outcome<()> {
    instances::expect_alive(session, change.instance).await?;
    for record in &change.records {
        put(session, change.instance, record).await?;
    }
    for record in &change.unchanged {
        touch(session, change.instance, record).await?;
    }
    for kind in [InventoryKind::Item, InventoryKind::Compliance] {
        if change.records.iter().any(|record| record.kind == kind) {
            check_size(session, change.instance, kind).await?;
        }
    }
    Ok(())
}

async fn put(session: &Session<'_>, instance: InstanceId, record: &InventoryRecord) -> Outcome<()> {
    let sql = "INSERT INTO inventory (instance_id, kind, type_name, schema_version, captured_at, content_hash, \
        context, content, received_at, bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
        ON CONFLICT (instance_id, kind, type_name) DO UPDATE SET schema_version = excluded.schema_version, \
        captured_at = excluded.captured_at, content_hash = excluded.content_hash, context = excluded.context, \
        content = excluded.content, received_at = excluded.received_at, bytes = excluded.bytes";
    let row = values![
        instance.to_string(),
        record.kind.to_string(),
        &record.type_name,
        &record.schema_version,
        &record.captured_at,
        &record.content_hash,
        &record.context,
        &record.content,
        record.received_at,
        i64::try_from(record.bytes()).unwrap_or(i64::MAX),
    ];
    session.run(sql, row).await.map(drop)
}

/// The content is as it was: the hash says so.
async fn touch(session: &Session<'_>, instance: InstanceId, record: &InventoryRecord) -> Outcome<()> {
    let sql = "UPDATE inventory SET captured_at = $1, received_at = $2 \
        WHERE instance_id = $3 AND kind = $4 AND type_name = $5 AND content_hash = $6 AND content_hash <> ''";
    let row = values![
        &record.captured_at,
        record.received_at,
        instance.to_string(),
        record.kind.to_string(),
        &record.type_name,
        &record.content_hash,
    ];
    match session.run(sql, row).await? {
        0 => Err(Conflict::ContentAbsent(record.type_name.clone()).into()),
        _ => Ok(()),
    }
}

async fn check_size(session: &Session<'_>, instance: InstanceId, kind: InventoryKind) -> Outcome<()> {
    let sql = "SELECT COUNT(*) AS types, CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM inventory \
        WHERE instance_id = $1 AND kind = $2";
    let (mut types, mut bytes) = (0, 0);
    if let Some(row) = session.row(sql, values![instance.to_string(), kind.to_string()]).await? {
        (types, bytes) = (row.number::<usize>("types")?, row.number::<usize>("bytes")?);
    }
    if types > InventoryChange::TYPES_MAX || bytes > InventoryChange::BYTES_MAX {
        return Err(Conflict::InventoryFull(instance).into());
    }
    Ok(())
}

/// See [`inborn_store::Store::forget_inventory`].
pub(crate) async fn forget_inventory(session: &Session<'_>, before: &UnixTime) -> Outcome<u64> {
    session.run("DELETE FROM inventory WHERE received_at < $1", values![*before]).await
}

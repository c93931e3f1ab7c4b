//! Findings as rows.

use rusqlite::{Connection, Row, ToSql, params};

use super::detectors;
use super::fault::{self, Outcome};
use super::records::{column, moment, parsed, time};
use crate::{Finding, FindingQuery, FindingRetention};

/// The most findings that one [`crate::Store::forget_findings`] forgets, so that it does not hold up other writes for long.
const FORGOTTEN_MAX: u32 = 1000;

/// See [`crate::Store::put_findings`].
pub(super) fn put(connection: &Connection, findings: &[Finding]) -> Outcome<()> {
    let sql = "INSERT INTO findings (id, detector_id, key, type, severity, created_at, updated_at, is_archived, \
        instance_id, count, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
        ON CONFLICT (id) DO UPDATE SET detector_id = excluded.detector_id, key = excluded.key, type = excluded.type, \
        severity = excluded.severity, created_at = excluded.created_at, updated_at = excluded.updated_at, \
        is_archived = excluded.is_archived, instance_id = excluded.instance_id, count = excluded.count, \
        document = excluded.document";
    for finding in findings {
        detectors::expect(connection, &finding.detector)?;
        let row = params![
            finding.id,
            finding.detector,
            finding.key,
            finding.kind,
            finding.severity_tenths,
            time(finding.created_at),
            time(finding.updated_at),
            finding.is_archived,
            finding.instance.map(|instance| instance.to_string()),
            i64::try_from(finding.count).unwrap_or(i64::MAX),
            finding.document,
        ];
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
    }
    Ok(())
}

/// See [`crate::Store::findings`].
pub(super) fn page(connection: &Connection, query: &FindingQuery) -> Outcome<Vec<Finding>> {
    let of_key = if query.key.is_some() { "AND key = ?2" } else { "AND ?2 IS NULL" };
    let sql = format!(
        "SELECT * FROM findings WHERE detector_id = ?1 {of_key} \
         AND (?3 IS NULL OR updated_at < ?3 OR (updated_at = ?3 AND id > ?4)) ORDER BY updated_at DESC, id LIMIT ?5"
    );
    let after = query.after.as_ref();
    let (at, id) = (after.map(|place| time(place.updated_at)), after.map(|place| &place.id));
    select(connection, &sql, &[&query.detector, &query.key, &at, &id, &query.limit])
}

/// See [`crate::Store::findings_by_id`].
pub(super) fn by_id(connection: &Connection, detector: &str, ids: &[String]) -> Outcome<Vec<Finding>> {
    let sql = "SELECT * FROM findings WHERE id = ?1 AND detector_id = ?2";
    let mut found = Vec::new();
    for id in ids {
        found.append(&mut select(connection, sql, &[id, &detector])?);
    }
    Ok(found)
}

/// See [`crate::Store::forget_findings`].
pub(super) fn forget(connection: &Connection, retention: FindingRetention) -> Outcome<u64> {
    let sql = "DELETE FROM findings WHERE id IN (SELECT id FROM (SELECT id, updated_at, \
        ROW_NUMBER() OVER (PARTITION BY detector_id ORDER BY round, updated_at DESC, id) AS place FROM \
        (SELECT id, detector_id, updated_at, ROW_NUMBER() OVER (PARTITION BY detector_id, instance_id, type \
        ORDER BY updated_at DESC, id) AS round FROM findings)) \
        WHERE updated_at < ?1 OR place > ?2 ORDER BY updated_at, id DESC LIMIT ?3)";
    let row = params![time(retention.updated_since), retention.findings_max, FORGOTTEN_MAX];
    let forgotten = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    forgotten.map(|rows| rows as u64).map_err(fault::from_sqlite)
}

fn select(connection: &Connection, sql: &str, values: &[&dyn ToSql]) -> Outcome<Vec<Finding>> {
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query(values).map_err(fault::from_sqlite)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Outcome<Finding> {
    let instance: Option<String> = column(row, "instance_id")?;
    let count: i64 = column(row, "count")?;
    Ok(Finding {
        id: column(row, "id")?,
        detector: column(row, "detector_id")?,
        key: column(row, "key")?,
        kind: column(row, "type")?,
        severity_tenths: column(row, "severity")?,
        created_at: moment(row, "created_at")?,
        updated_at: moment(row, "updated_at")?,
        is_archived: column(row, "is_archived")?,
        instance: instance.map(|_| parsed(row, "instance_id")).transpose()?,
        count: u64::try_from(count).map_err(|_| fault::corrupt("a count is below nought"))?,
        document: column(row, "document")?,
    })
}

//! Findings as rows.

use std::collections::BTreeMap;

use inborn_store::{Finding, FindingQuery, FindingRetention};

use crate::detectors;
use crate::fault::Outcome;
use crate::transaction::{Query, Session};
use crate::value::{Row, Value, values};

/// The most findings that one [`inborn_store::Store::forget_findings`] forgets, so that it does not hold up other writes
/// for long.
const FORGOTTEN_MAX: u32 = 1000;

const SELECT: &str = "SELECT id, detector_id, key, type, severity, created_at, updated_at, is_archived, instance_id, \
    count, document FROM findings";

/// See [`inborn_store::Store::put_findings`].
pub(crate) async fn put(session: &Session<'_>, findings: &Vec<Finding>) -> Outcome<()> {
    let sql = "INSERT INTO findings (id, detector_id, key, type, severity, created_at, updated_at, is_archived, \
        instance_id, count, document) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
        ON CONFLICT (id) DO UPDATE SET detector_id = excluded.detector_id, key = excluded.key, type = excluded.type, \
        severity = excluded.severity, created_at = excluded.created_at, updated_at = excluded.updated_at, \
        is_archived = excluded.is_archived, instance_id = excluded.instance_id, count = excluded.count, \
        document = excluded.document";
    for finding in findings {
        detectors::expect(session, &finding.detector).await?;
        let row = values![
            &finding.id,
            &finding.detector,
            &finding.key,
            &finding.kind,
            finding.severity_tenths,
            finding.created_at,
            finding.updated_at,
            finding.is_archived,
            finding.instance.map(|instance| instance.to_string()),
            i64::try_from(finding.count).unwrap_or(i64::MAX),
            &finding.document,
        ];
        session.run(sql, row).await?;
    }
    Ok(())
}

/// See [`inborn_store::Store::findings`].
pub(crate) async fn page(session: &Session<'_>, asked: &FindingQuery) -> Outcome<Vec<Finding>> {
    let mut query = Query::new(&format!("{SELECT} WHERE detector_id = $1"), values![&asked.detector]);
    if let Some(key) = &asked.key {
        let key = query.value(key);
        query.push(&format!(" AND key = {key}"));
    }
    if let Some(place) = &asked.after {
        let (at, id) = (query.value(place.updated_at), query.value(&place.id));
        query.push(&format!(" AND (updated_at < {at} OR (updated_at = {at} AND id > {id}))"));
    }
    let limit = query.value(asked.limit);
    query.push(&format!(" ORDER BY updated_at DESC, id LIMIT {limit}"));
    query.rows(session).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::findings_by_id`].
pub(crate) async fn by_id(session: &Session<'_>, (detector, ids): &(String, Vec<String>)) -> Outcome<Vec<Finding>> {
    let sql = format!("{SELECT} WHERE detector_id = $1 AND id = ANY($2)");
    let mut found = BTreeMap::new();
    for row in session.rows(&sql, &[detector.into(), Value::all(ids)]).await? {
        let finding = read(&row)?;
        found.insert(finding.id.clone(), finding);
    }
    Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
}

/// See [`inborn_store::Store::forget_findings`].
pub(crate) async fn forget(session: &Session<'_>, retention: &FindingRetention) -> Outcome<u64> {
    let sql = "DELETE FROM findings WHERE id IN (SELECT id FROM (SELECT id, updated_at, \
        ROW_NUMBER() OVER (PARTITION BY detector_id ORDER BY round, updated_at DESC, id) AS place FROM \
        (SELECT id, detector_id, updated_at, ROW_NUMBER() OVER (PARTITION BY detector_id, instance_id, type \
        ORDER BY updated_at DESC, id) AS round FROM findings) AS rounds) AS ranked \
        WHERE updated_at < $1 OR place > $2 ORDER BY updated_at, id DESC LIMIT $3)";
    session.run(sql, values![retention.updated_since, retention.findings_max, FORGOTTEN_MAX]).await
}

fn read(row: &Row) -> Outcome<Finding> {
    Ok(Finding {
        id: row.text("id")?,
        detector: row.text("detector_id")?,
        key: row.text("key")?,
        kind: row.text("type")?,
        severity_tenths: row.number("severity")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
        is_archived: row.flag("is_archived")?,
        instance: row.parsed_if_any("instance_id")?,
        count: row.number("count")?,
        document: row.text("document")?,
    })
}

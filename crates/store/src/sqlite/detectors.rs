//! Detectors, their parts and the agents that send them telemetry, as rows.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::{self, Outcome};
use super::records::{all, column, moment, parsed, time};
use crate::{AgentReport, Conflict, Detector, DetectorPart, PartKind};

/// See [`crate::Store::detectors`].
pub(super) fn detectors(connection: &Connection) -> Outcome<Vec<Detector>> {
    all(connection, "SELECT * FROM detectors ORDER BY id", |row| {
        Ok(Detector {
            id: column(row, "id")?,
            account: parsed(row, "account")?,
            created_at: moment(row, "created_at")?,
            updated_at: moment(row, "updated_at")?,
            document: column(row, "document")?,
        })
    })
}

/// See [`crate::Store::put_detector`].
pub(super) fn put(connection: &Connection, detector: &Detector) -> Outcome<()> {
    let sql = "INSERT INTO detectors (id, account, created_at, updated_at, document) VALUES (?1, ?2, ?3, ?4, ?5) \
        ON CONFLICT (id) DO UPDATE SET account = excluded.account, created_at = excluded.created_at, \
        updated_at = excluded.updated_at, document = excluded.document";
    let row = params![
        detector.id,
        detector.account.to_string(),
        time(detector.created_at),
        time(detector.updated_at),
        detector.document,
    ];
    let done = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    done.map(drop).map_err(|error| fault::from_insertion(error, "a detector"))
}

/// See [`crate::Store::delete_detector`].
pub(super) fn delete(connection: &Connection, id: &str) -> Outcome<bool> {
    let done = connection.prepare_cached("DELETE FROM detectors WHERE id = ?1").and_then(|mut sql| sql.execute((id,)));
    done.map(|rows| rows > 0).map_err(fault::from_sqlite)
}

/// Whether there is a detector of this id.
pub(super) fn expect(connection: &Connection, id: &str) -> Outcome<()> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT 1 FROM detectors WHERE id = ?1")
        .and_then(|mut sql| sql.query_row((id,), |row| row.get(0)).optional())
        .map_err(fault::from_sqlite)?;
    found.map(drop).ok_or_else(|| Conflict::Absent("a detector").into())
}

/// See [`crate::Store::detector_parts`].
pub(super) fn parts(connection: &Connection) -> Outcome<Vec<DetectorPart>> {
    all(connection, "SELECT * FROM detector_parts ORDER BY detector_id, kind, id", |row| {
        Ok(DetectorPart {
            detector: column(row, "detector_id")?,
            kind: parsed(row, "kind")?,
            id: column(row, "id")?,
            document: column(row, "document")?,
        })
    })
}

/// See [`crate::Store::put_detector_part`].
pub(super) fn put_part(connection: &Connection, part: &DetectorPart) -> Outcome<()> {
    expect(connection, &part.detector)?;
    let sql = "INSERT INTO detector_parts (detector_id, kind, id, document) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (detector_id, kind, id) DO UPDATE SET document = excluded.document";
    let row = params![part.detector, part.kind.to_string(), part.id, part.document];
    connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map(drop).map_err(fault::from_sqlite)
}

/// See [`crate::Store::delete_detector_part`].
pub(super) fn delete_part(connection: &Connection, detector: &str, kind: PartKind, id: &str) -> Outcome<bool> {
    let done = connection
        .prepare_cached("DELETE FROM detector_parts WHERE detector_id = ?1 AND kind = ?2 AND id = ?3")
        .and_then(|mut sql| sql.execute(params![detector, kind.to_string(), id]));
    done.map(|rows| rows > 0).map_err(fault::from_sqlite)
}

/// See [`crate::Store::agent_reports`].
pub(super) fn agent_reports(connection: &Connection) -> Outcome<Vec<AgentReport>> {
    all(connection, "SELECT * FROM agent_reports ORDER BY instance_id", |row| {
        Ok(AgentReport {
            instance: parsed(row, "instance_id")?,
            agent_name: column(row, "agent_name")?,
            agent_version: column(row, "agent_version")?,
            first_at: moment(row, "first_at")?,
            last_at: moment(row, "last_at")?,
        })
    })
}

/// See [`crate::Store::put_agent_reports`].
pub(super) fn put_agent_reports(connection: &Connection, reports: &[AgentReport]) -> Outcome<()> {
    let sql = "INSERT INTO agent_reports (instance_id, agent_name, agent_version, first_at, last_at) \
        SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM instances WHERE id = ?1) \
        ON CONFLICT (instance_id) DO UPDATE SET agent_name = excluded.agent_name, \
        agent_version = excluded.agent_version, first_at = excluded.first_at, last_at = excluded.last_at";
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    for report in reports {
        let row = params![
            report.instance.to_string(),
            report.agent_name,
            report.agent_version,
            time(report.first_at),
            time(report.last_at),
        ];
        statement.execute(row).map_err(fault::from_sqlite)?;
    }
    Ok(())
}

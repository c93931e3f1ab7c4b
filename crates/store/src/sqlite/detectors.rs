//! Detectors, their parts and the agents that send them telemetry, as rows.

use inborn_identity::AccountId;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::fault::{self, Outcome};
use super::records::{all, column, moment, parsed, time};
use crate::{AgentReport, Conflict, Detector, DetectorChange, DetectorPart};

/// See [`crate::Store::detectors`].
pub(super) fn detectors(connection: &Connection) -> Outcome<Vec<Detector>> {
    all(connection, "SELECT * FROM detectors ORDER BY id", read)
}

fn read(row: &Row<'_>) -> Outcome<Detector> {
    Ok(Detector {
        id: column(row, "id")?,
        account: parsed(row, "account")?,
        created_at: moment(row, "created_at")?,
        updated_at: moment(row, "updated_at")?,
        document: column(row, "document")?,
    })
}

/// See [`crate::Store::detector_of`]. The detector first: whoever decides by parts that are newer than it is told to read again, and whoever
/// decides by older ones would not be.
pub(super) fn of(connection: &Connection, account: AccountId) -> Outcome<Option<(Detector, Vec<DetectorPart>)>> {
    let Some(detector) =
        select(connection, "SELECT * FROM detectors WHERE account = ?1", &account.to_string(), read)?.pop()
    else {
        return Ok(None);
    };
    let sql = "SELECT * FROM detector_parts WHERE detector_id = ?1 ORDER BY kind, id";
    let parts = select(connection, sql, &detector.id, read_part)?;
    Ok(Some((detector, parts)))
}

fn select<T>(
    connection: &Connection,
    sql: &str,
    value: &str,
    read: impl Fn(&Row<'_>) -> Outcome<T>,
) -> Outcome<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query((value,)).map_err(fault::from_sqlite)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// See [`crate::Store::put_detector`].
pub(super) fn put(connection: &Connection, change: &DetectorChange) -> Outcome<()> {
    let DetectorChange { expected, detector, part } = change;
    let run = |sql: &str, row: &[&dyn ToSql]| connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    let (account, created_at, updated_at) =
        (detector.account.to_string(), time(detector.created_at), time(detector.updated_at));
    match expected {
        None => {
            let sql =
                "INSERT INTO detectors (id, account, created_at, updated_at, document) VALUES (?1, ?2, ?3, ?4, ?5)";
            run(sql, &[&detector.id, &account, &created_at, &updated_at, &detector.document])
                .map_err(|error| fault::from_insertion(error, "a detector"))?;
        }
        Some(expected) => {
            expect(connection, &detector.id)?;
            let sql = "UPDATE detectors SET updated_at = ?3, document = ?4, created_at = ?5 \
                WHERE id = ?1 AND account = ?2 AND document = ?6";
            let row: [&dyn ToSql; 6] =
                [&detector.id, &account, &updated_at, &detector.document, &created_at, &expected];
            if run(sql, &row).map_err(fault::from_sqlite)? == 0 {
                return Err(Conflict::DetectorChanged(detector.id.clone()).into());
            }
        }
    }
    let Some(part) = part else { return Ok(()) };
    let (kind, document) = (part.kind.to_string(), &part.document);
    let done = match document {
        Some(document) => {
            let sql = "INSERT INTO detector_parts (detector_id, kind, id, document) VALUES (?1, ?2, ?3, ?4) \
                ON CONFLICT (detector_id, kind, id) DO UPDATE SET document = excluded.document";
            run(sql, &[&detector.id, &kind, &part.id, document])
        }
        None => {
            let sql = "DELETE FROM detector_parts WHERE detector_id = ?1 AND kind = ?2 AND id = ?3";
            run(sql, &[&detector.id, &kind, &part.id])
        }
    };
    done.map(drop).map_err(fault::from_sqlite)
}

/// See [`crate::Store::delete_detector`].
pub(super) fn delete(connection: &Connection, account: AccountId, id: &str) -> Outcome<bool> {
    let sql = "DELETE FROM detectors WHERE id = ?1 AND account = ?2";
    let done = connection.prepare_cached(sql).and_then(|mut sql| sql.execute((id, account.to_string())));
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
    all(connection, "SELECT * FROM detector_parts ORDER BY detector_id, kind, id", read_part)
}

fn read_part(row: &Row<'_>) -> Outcome<DetectorPart> {
    Ok(DetectorPart {
        detector: column(row, "detector_id")?,
        kind: parsed(row, "kind")?,
        id: column(row, "id")?,
        document: column(row, "document")?,
    })
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

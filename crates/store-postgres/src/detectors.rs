//! Detectors, their parts and the agents that send them telemetry, as rows.

use inborn_identity::AccountId;
use inborn_store::{AgentReport, Conflict, Detector, DetectorChange, DetectorPart};

use crate::fault::Outcome;
use crate::transaction::Session;
use crate::value::{Row, values};

/// See [`inborn_store::Store::detectors`].
pub(crate) async fn detectors(session: &Session<'_>) -> Outcome<Vec<Detector>> {
    let sql = "SELECT id, account, created_at, updated_at, document FROM detectors ORDER BY id";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Outcome<Detector> {
    Ok(Detector {
        id: row.text("id")?,
        account: row.parsed("account")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
        document: row.text("document")?,
    })
}

/// See [`inborn_store::Store::detector_of`].
pub(crate) async fn of(session: &Session<'_>, account: &AccountId) -> Outcome<Option<(Detector, Vec<DetectorPart>)>> {
    let sql = "SELECT id, account, created_at, updated_at, document FROM detectors WHERE account = $1";
    let Some(detector) = session.row(sql, values![account.to_string()]).await?.as_ref().map(read).transpose()? else {
        return Ok(None);
    };
    let sql = "SELECT detector_id, kind, id, document FROM detector_parts WHERE detector_id = $1 ORDER BY kind, id";
    let parts: Vec<_> =
        session.rows(sql, values![&detector.id]).await?.iter().map(read_part).collect::<Outcome<_>>()?;
    Ok(Some((detector, parts)))
}

/// See [`inborn_store::Store::put_detector`].
pub(crate) async fn put(session: &Session<'_>, change: &DetectorChange) -> Outcome<()> {
    let DetectorChange { expected, detector, part } = change;
    let (id, account) = (&detector.id, detector.account.to_string());
    match expected {
        None => {
            let sql =
                "INSERT INTO detectors (id, account, created_at, updated_at, document) VALUES ($1, $2, $3, $4, $5)";
            let row = values![id, account, detector.created_at, detector.updated_at, &detector.document];
            session.put(sql, row, "a detector").await?;
        }
        Some(expected) => {
            expect(session, id).await?;
            let sql = "UPDATE detectors SET created_at = $3, updated_at = $4, document = $5 \
                WHERE id = $1 AND account = $2 AND document = $6";
            let row = values![id, account, detector.created_at, detector.updated_at, &detector.document, expected];
            if session.run(sql, row).await? == 0 {
                return Err(Conflict::DetectorChanged(id.clone()).into());
            }
        }
    }
    let Some(part) = part else { return Ok(()) };
    let kind = part.kind.to_string();
    match &part.document {
        Some(document) => {
            let sql = "INSERT INTO detector_parts (detector_id, kind, id, document) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (detector_id, kind, id) DO UPDATE SET document = excluded.document";
            session.run(sql, values![id, kind, &part.id, document]).await
        }
        None => {
            let sql = "DELETE FROM detector_parts WHERE detector_id = $1 AND kind = $2 AND id = $3";
            session.run(sql, values![id, kind, &part.id]).await
        }
    }
    .map(drop)
}

/// See [`inborn_store::Store::delete_detector`].
pub(crate) async fn delete(session: &Session<'_>, (account, id): &(AccountId, String)) -> Outcome<bool> {
    let sql = "DELETE FROM detectors WHERE id = $1 AND account = $2";
    Ok(session.run(sql, values![id, account.to_string()]).await? > 0)
}

/// Whether there is a detector of this id.
pub(crate) async fn expect(session: &Session<'_>, id: &str) -> Outcome<()> {
    let found = session.row("SELECT id FROM detectors WHERE id = $1", values![id]).await?;
    found.map(drop).ok_or_else(|| Conflict::Absent("a detector").into())
}

/// See [`inborn_store::Store::detector_parts`].
pub(crate) async fn parts(session: &Session<'_>) -> Outcome<Vec<DetectorPart>> {
    let sql = "SELECT detector_id, kind, id, document FROM detector_parts ORDER BY detector_id, kind, id";
    session.rows(sql, &[]).await?.iter().map(read_part).collect()
}

fn read_part(row: &Row) -> Outcome<DetectorPart> {
    Ok(DetectorPart {
        detector: row.text("detector_id")?,
        kind: row.parsed("kind")?,
        id: row.text("id")?,
        document: row.text("document")?,
    })
}

/// See [`inborn_store::Store::agent_reports`].
pub(crate) async fn agent_reports(session: &Session<'_>) -> Outcome<Vec<AgentReport>> {
    let read = |row: &Row| {
        Ok(AgentReport {
            instance: row.parsed("instance_id")?,
            agent_name: row.text("agent_name")?,
            agent_version: row.text("agent_version")?,
            first_at: row.moment("first_at")?,
            last_at: row.moment("last_at")?,
        })
    };
    let sql =
        "SELECT instance_id, agent_name, agent_version, first_at, last_at FROM agent_reports ORDER BY instance_id";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::put_agent_reports`].
pub(crate) async fn put_agent_reports(session: &Session<'_>, reports: &Vec<AgentReport>) -> Outcome<()> {
    let sql = "INSERT INTO agent_reports (instance_id, agent_name, agent_version, first_at, last_at) \
        SELECT id, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), CAST($5 AS BIGINT) \
        FROM instances WHERE id = $1 \
        ON CONFLICT (instance_id) DO UPDATE SET agent_name = excluded.agent_name, \
        agent_version = excluded.agent_version, first_at = excluded.first_at, last_at = excluded.last_at";
    for report in reports {
        let row = values![
            report.instance.to_string(),
            &report.agent_name,
            &report.agent_version,
            report.first_at,
            report.last_at,
        ];
        session.run(sql, row).await?;
    }
    Ok(())
}

//! Quarantines as rows.

use inborn_store::{Quarantine, QuarantineScope, RecordedCutOff};

use crate::fault::Outcome;
use crate::records::put_cut_off;
use crate::transaction::Session;
use crate::value::{Row, Value, values};

/// See [`inborn_store::Store::quarantines`].
pub(crate) async fn all(session: &Session<'_>) -> Outcome<Vec<Quarantine>> {
    let read = |row: &Row| {
        Ok(Quarantine {
            scope: row.parsed("subject")?,
            reason: row.text("reason")?,
            by: row.text("made_by")?,
            since: row.moment("since")?,
        })
    };
    let sql = "SELECT subject, reason, made_by, since FROM quarantines ORDER BY subject";
    session.rows(sql, &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::put_quarantine`].
pub(crate) async fn put(session: &Session<'_>, quarantine: &Quarantine) -> Outcome<()> {
    let sql = "INSERT INTO quarantines (subject, reason, made_by, since) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (subject) DO UPDATE SET reason = excluded.reason, made_by = excluded.made_by";
    let row = values![Value::shown(quarantine.scope), &quarantine.reason, &quarantine.by, quarantine.since];
    session.run(sql, row).await.map(drop)
}

/// See [`inborn_store::Store::end_quarantine`].
pub(crate) async fn end(
    session: &Session<'_>,
    (scope, cut_offs): &(QuarantineScope, Vec<RecordedCutOff>),
) -> Outcome<bool> {
    let deleted = session.run("DELETE FROM quarantines WHERE subject = $1", values![Value::shown(scope)]).await?;
    if deleted == 0 {
        return Ok(false);
    }
    for cut_off in cut_offs {
        put_cut_off(session, cut_off).await?;
    }
    Ok(true)
}

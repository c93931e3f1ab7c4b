//! Quarantines as rows.

use inborn_store::{Conflict, Quarantine, QuarantineBasis, RecordedCutOff};

use crate::fault::Outcome;
use crate::records::put_stronger_cut_off;
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
pub(crate) async fn put(session: &Session<'_>, (quarantine, basis): &(Quarantine, QuarantineBasis)) -> Outcome<()> {
    let Quarantine { scope, reason, by, since } = quarantine;
    let written = match basis {
        QuarantineBasis::Any => {
            let sql = "INSERT INTO quarantines (subject, reason, made_by, since) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (subject) DO UPDATE SET reason = excluded.reason, made_by = excluded.made_by";
            session.run(sql, values![Value::shown(scope), reason, by, *since]).await?
        }
        QuarantineBasis::Absent => {
            let sql = "INSERT INTO quarantines (subject, reason, made_by, since) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (subject) DO NOTHING";
            session.run(sql, values![Value::shown(scope), reason, by, *since]).await?
        }
        QuarantineBasis::Found(found) => {
            let sql = "UPDATE quarantines SET reason = $2, made_by = $3 \
                WHERE subject = $1 AND reason = $4 AND made_by = $5 AND since = $6";
            let row = values![Value::shown(scope), reason, by, &found.reason, &found.by, found.since];
            session.run(sql, row).await?
        }
    };
    if written == 0 { Err(Conflict::QuarantineChanged(*scope).into()) } else { Ok(()) }
}

/// See [`inborn_store::Store::end_quarantine`].
pub(crate) async fn end(session: &Session<'_>, (found, cut_offs): &(Quarantine, Vec<RecordedCutOff>)) -> Outcome<bool> {
    let changed = || Conflict::QuarantineChanged(found.scope).into();
    let sql = "DELETE FROM quarantines WHERE subject = $1 AND reason = $2 AND made_by = $3 AND since = $4";
    let row = values![Value::shown(found.scope), &found.reason, &found.by, found.since];
    if session.run(sql, row).await? == 0 {
        let sql = "SELECT subject FROM quarantines WHERE subject = $1";
        let another = session.row(sql, values![Value::shown(found.scope)]).await?;
        return if another.is_some() { Err(changed()) } else { Ok(false) };
    }
    for cut_off in cut_offs {
        if !put_stronger_cut_off(session, cut_off).await? {
            return Err(changed());
        }
    }
    Ok(true)
}

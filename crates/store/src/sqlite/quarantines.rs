//! Quarantines as rows.

use rusqlite::{Connection, ToSql};

use super::fault::{self, Outcome};
use super::records::{all as rows, column, moment, parsed, put_stronger_cut_off, time};
use crate::{Conflict, Quarantine, QuarantineBasis, RecordedCutOff};

/// See [`crate::Store::quarantines`].
pub(super) fn all(connection: &Connection) -> Outcome<Vec<Quarantine>> {
    rows(connection, "SELECT * FROM quarantines ORDER BY subject", |row| {
        Ok(Quarantine {
            scope: parsed(row, "subject")?,
            reason: column(row, "reason")?,
            by: column(row, "made_by")?,
            since: moment(row, "since")?,
        })
    })
}

/// See [`crate::Store::put_quarantine`].
pub(super) fn put(connection: &Connection, quarantine: &Quarantine, basis: &QuarantineBasis) -> Outcome<()> {
    let run = |sql: &str, row: &[&dyn ToSql]| {
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)
    };
    let Quarantine { scope, reason, by, since } = quarantine;
    let (subject, since) = (scope.to_string(), time(*since));
    let written = match basis {
        QuarantineBasis::Any => {
            let sql = "INSERT INTO quarantines (subject, reason, made_by, since) VALUES (?1, ?2, ?3, ?4) \
                ON CONFLICT (subject) DO UPDATE SET reason = excluded.reason, made_by = excluded.made_by";
            run(sql, &[&subject, reason, by, &since])?
        }
        QuarantineBasis::Absent => {
            let sql = "INSERT INTO quarantines (subject, reason, made_by, since) VALUES (?1, ?2, ?3, ?4) \
                ON CONFLICT (subject) DO NOTHING";
            run(sql, &[&subject, reason, by, &since])?
        }
        QuarantineBasis::Found(found) => {
            let sql = "UPDATE quarantines SET reason = ?2, made_by = ?3 \
                WHERE subject = ?1 AND reason = ?4 AND made_by = ?5 AND since = ?6";
            run(sql, &[&subject, reason, by, &found.reason, &found.by, &time(found.since)])?
        }
    };
    if written == 0 { Err(Conflict::QuarantineChanged(*scope).into()) } else { Ok(()) }
}

/// See [`crate::Store::end_quarantine`].
pub(super) fn end(connection: &Connection, found: &Quarantine, cut_offs: &[RecordedCutOff]) -> Outcome<bool> {
    let changed = || Conflict::QuarantineChanged(found.scope).into();
    let subject = found.scope.to_string();
    let sql = "DELETE FROM quarantines WHERE subject = ?1 AND reason = ?2 AND made_by = ?3 AND since = ?4";
    let deleted = connection
        .prepare_cached(sql)
        .and_then(|mut sql| sql.execute((&subject, &found.reason, &found.by, time(found.since))))
        .map_err(fault::from_sqlite)?;
    if deleted == 0 {
        let is_another = connection
            .prepare_cached("SELECT 1 FROM quarantines WHERE subject = ?1")
            .and_then(|mut sql| sql.exists((&subject,)))
            .map_err(fault::from_sqlite)?;
        return if is_another { Err(changed()) } else { Ok(false) };
    }
    for cut_off in cut_offs {
        if !put_stronger_cut_off(connection, *cut_off)? {
            return Err(changed());
        }
    }
    Ok(true)
}

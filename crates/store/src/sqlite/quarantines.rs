//! Quarantines as rows.

use rusqlite::Connection;

use super::fault::{self, Outcome};
use super::records::{all as rows, column, moment, parsed, put_cut_off, time};
use crate::{Quarantine, QuarantineScope, RecordedCutOff};

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
pub(super) fn put(connection: &Connection, quarantine: &Quarantine) -> Outcome<()> {
    let sql = "INSERT INTO quarantines (subject, reason, made_by, since) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (subject) DO UPDATE SET reason = excluded.reason, made_by = excluded.made_by";
    let row = (quarantine.scope.to_string(), &quarantine.reason, &quarantine.by, time(quarantine.since));
    connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map(drop).map_err(fault::from_sqlite)
}

/// See [`crate::Store::end_quarantine`].
pub(super) fn end(connection: &Connection, scope: QuarantineScope, cut_offs: &[RecordedCutOff]) -> Outcome<bool> {
    let deleted = connection
        .prepare_cached("DELETE FROM quarantines WHERE subject = ?1")
        .and_then(|mut sql| sql.execute((scope.to_string(),)))
        .map_err(fault::from_sqlite)?;
    if deleted == 0 {
        return Ok(false);
    }
    cut_offs.iter().try_for_each(|cut_off| put_cut_off(connection, *cut_off))?;
    Ok(true)
}

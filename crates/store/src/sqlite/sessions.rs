//! Sessions as rows.

use rusqlite::{Connection, Row, ToSql, params};

use super::fault::{self, Outcome};
use super::records::{column, moment, parsed, time};
use crate::{NodeId, Session, SessionEnd, SessionPlace, SessionQuery, SessionRetention};

/// The most sessions that one [`crate::Store::forget_sessions`] forgets, so that it does not hold up other writes for long.
const FORGOTTEN_MAX: u32 = 1000;

/// See [`crate::Store::put_session`].
pub(super) fn put(connection: &Connection, session: &Session) -> Outcome<()> {
    let sql = "INSERT INTO sessions (id, account, instance_id, owner, document_name, reason, started_at, ended_at, \
        status, details, carrier) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let end = session.end.as_ref();
    let row = params![
        session.id,
        session.account.to_string(),
        session.instance.to_string(),
        session.owner,
        session.document_name,
        session.reason,
        time(session.started_at),
        end.map(|end| time(end.at)),
        end.map_or("", |end| &end.status),
        end.map_or("", |end| &end.details),
        shown(session.carrier),
    ];
    let inserted = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    inserted.map(drop).map_err(|error| fault::from_insertion(error, "a session"))
}

/// See [`crate::Store::end_session`].
pub(super) fn end(connection: &Connection, id: &str, end: &SessionEnd, by: Option<NodeId>) -> Outcome<bool> {
    let sql = "UPDATE sessions SET ended_at = ?2, status = ?3, details = ?4 WHERE id = ?1 AND ended_at IS NULL \
        AND (?5 = '' OR carrier = ?5)";
    let row = params![id, time(end.at), end.status, end.details, shown(by)];
    let ended = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    ended.map(|rows| rows > 0).map_err(fault::from_sqlite)
}

/// See [`crate::Store::session`].
pub(super) fn one(connection: &Connection, id: &str) -> Outcome<Option<Session>> {
    let mut statement =
        connection.prepare_cached("SELECT * FROM sessions WHERE id = ?1").map_err(fault::from_sqlite)?;
    let mut rows = statement.query([id]).map_err(fault::from_sqlite)?;
    rows.next().map_err(fault::from_sqlite)?.map(read).transpose()
}

/// See [`crate::Store::carry_session`].
pub(super) fn carry(connection: &Connection, id: &str, from: Option<NodeId>, to: NodeId) -> Outcome<bool> {
    let sql = "UPDATE sessions SET carrier = ?3 WHERE id = ?1 AND ended_at IS NULL AND carrier = ?2";
    let carried = connection.prepare_cached(sql).and_then(|mut sql| sql.execute((id, shown(from), to.to_string())));
    carried.map(|rows| rows > 0).map_err(fault::from_sqlite)
}

/// Who carries a session, as it is written.
fn shown(carrier: Option<NodeId>) -> String {
    carrier.map(|node| node.to_string()).unwrap_or_default()
}

/// See [`crate::Store::sessions`].
pub(super) fn sessions(connection: &Connection, query: &SessionQuery) -> Outcome<Vec<Session>> {
    page(connection, "*", query, read)
}

/// See [`crate::Store::session_places`].
pub(super) fn places(connection: &Connection, query: &SessionQuery) -> Outcome<Vec<SessionPlace>> {
    page(connection, "id, started_at", query, |row| {
        Ok(SessionPlace { started_at: moment(row, "started_at")?, id: column(row, "id")? })
    })
}

fn page<T>(
    connection: &Connection,
    columns: &str,
    query: &SessionQuery,
    read: fn(&Row<'_>) -> Outcome<T>,
) -> Outcome<Vec<T>> {
    let is_ended = if query.has_ended { "NOT NULL" } else { "NULL" };
    let sql = format!(
        "SELECT {columns} FROM sessions WHERE ended_at IS {is_ended} AND (?1 IS NULL OR account = ?1) \
         AND (?2 IS NULL OR started_at < ?2 OR (started_at = ?2 AND id > ?3)) ORDER BY started_at DESC, id LIMIT ?4"
    );
    let account = query.account.map(|account| account.to_string());
    let after = query.after.as_ref();
    let (at, id) = (after.map(|place| time(place.started_at)), after.map(|place| &place.id));
    let values: [&dyn ToSql; 4] = [&account, &at, &id, &query.limit];
    let mut statement = connection.prepare_cached(&sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query(values).map_err(fault::from_sqlite)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// See [`crate::Store::forget_sessions`].
pub(super) fn forget(connection: &Connection, retention: SessionRetention) -> Outcome<u64> {
    let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM (SELECT id, started_at, \
        ROW_NUMBER() OVER (ORDER BY started_at DESC, id) AS place FROM sessions WHERE ended_at IS NOT NULL) \
        WHERE started_at < ?1 OR place > ?2 ORDER BY started_at, id DESC LIMIT ?3)";
    let row = params![time(retention.started_since), retention.sessions_max, FORGOTTEN_MAX];
    let forgotten = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row));
    forgotten.map(|rows| rows as u64).map_err(fault::from_sqlite)
}

fn read(row: &Row<'_>) -> Outcome<Session> {
    let ended: Option<i64> = column(row, "ended_at")?;
    let end = match ended {
        None => None,
        Some(_) => Some(SessionEnd {
            at: moment(row, "ended_at")?,
            status: column(row, "status")?,
            details: column(row, "details")?,
        }),
    };
    let carrier: String = column(row, "carrier")?;
    Ok(Session {
        id: column(row, "id")?,
        account: parsed(row, "account")?,
        instance: parsed(row, "instance_id")?,
        owner: column(row, "owner")?,
        document_name: column(row, "document_name")?,
        reason: column(row, "reason")?,
        started_at: moment(row, "started_at")?,
        end,
        carrier: if carrier.is_empty() { None } else { Some(parsed(row, "carrier")?) },
    })
}

//! Sessions as rows.

use inborn_store::{NodeId, Session as Record, SessionEnd, SessionPlace, SessionQuery, SessionRetention};

use crate::fault::Outcome;
use crate::transaction::{Query, Session};
use crate::value::{Row, values};

/// The most sessions that one [`inborn_store::Store::forget_sessions`] forgets, so that it does not hold up other writes
/// for long.
const FORGOTTEN_MAX: u32 = 1000;

/// See [`inborn_store::Store::put_session`].
pub(crate) async fn put(session: &Session<'_>, record: &Record) -> Outcome<()> {
    let sql = "INSERT INTO sessions (id, account, instance_id, owner, document_name, reason, started_at, ended_at, \
        status, details, carrier) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let end = record.end.as_ref();
    let row = values![
        &record.id,
        record.account.to_string(),
        record.instance.to_string(),
        &record.owner,
        &record.document_name,
        &record.reason,
        record.started_at,
        end.map(|end| end.at),
        end.map_or("", |end| end.status.as_str()),
        end.map_or("", |end| end.details.as_str()),
        shown(record.carrier),
    ];
    session.put(sql, row, "a session").await
}

/// See [`inborn_store::Store::end_session`].
pub(crate) async fn end(session: &Session<'_>, (id, end, by): &(String, SessionEnd, Option<NodeId>)) -> Outcome<bool> {
    let sql = "UPDATE sessions SET ended_at = $2, status = $3, details = $4 WHERE id = $1 AND ended_at IS NULL";
    let Some(by) = by else {
        return Ok(session.run(sql, values![id, end.at, &end.status, &end.details]).await? > 0);
    };
    let sql = "UPDATE sessions SET ended_at = $2, status = $3, details = $4 WHERE id = $1 AND ended_at IS NULL \
        AND carrier = $5";
    Ok(session.run(sql, values![id, end.at, &end.status, &end.details, by.to_string()]).await? > 0)
}

/// See [`inborn_store::Store::session`].
pub(crate) async fn one(session: &Session<'_>, id: &str) -> Outcome<Option<Record>> {
    let sql = "SELECT id, account, instance_id, owner, document_name, reason, started_at, ended_at, status, details, \
        carrier FROM sessions WHERE id = $1";
    session.row(sql, values![id]).await?.as_ref().map(read).transpose()
}

/// See [`inborn_store::Store::carry_session`].
pub(crate) async fn carry(session: &Session<'_>, (id, from, to): &(String, Option<NodeId>, NodeId)) -> Outcome<bool> {
    let sql = "UPDATE sessions SET carrier = $3 WHERE id = $1 AND ended_at IS NULL AND carrier = $2";
    Ok(session.run(sql, values![id, shown(*from), to.to_string()]).await? > 0)
}

/// Who carries a session, as it is written.
fn shown(carrier: Option<NodeId>) -> String {
    carrier.map(|node| node.to_string()).unwrap_or_default()
}

/// See [`inborn_store::Store::sessions`].
pub(crate) async fn sessions(session: &Session<'_>, asked: &SessionQuery) -> Outcome<Vec<Record>> {
    let sql = "SELECT id, account, instance_id, owner, document_name, reason, started_at, ended_at, status, details, \
        carrier FROM sessions";
    page(session, sql, asked).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::session_places`].
pub(crate) async fn places(session: &Session<'_>, asked: &SessionQuery) -> Outcome<Vec<SessionPlace>> {
    let place = |row: &Row| Ok(SessionPlace { started_at: row.moment("started_at")?, id: row.text("id")? });
    page(session, "SELECT id, started_at FROM sessions", asked).await?.iter().map(place).collect()
}

async fn page(session: &Session<'_>, sql: &str, asked: &SessionQuery) -> Outcome<Vec<Row>> {
    let is_ended = if asked.has_ended { "IS NOT NULL" } else { "IS NULL" };
    let mut query = Query::new(&format!("{sql} WHERE ended_at {is_ended}"), &[]);
    if let Some(account) = asked.account {
        let account = query.value(account.to_string());
        query.push(&format!(" AND account = {account}"));
    }
    if let Some(place) = &asked.after {
        let (at, id) = (query.value(place.started_at), query.value(&place.id));
        query.push(&format!(" AND (started_at < {at} OR (started_at = {at} AND id > {id}))"));
    }
    let limit = query.value(asked.limit);
    query.push(&format!(" ORDER BY started_at DESC, id LIMIT {limit}"));
    query.rows(session).await
}

/// See [`inborn_store::Store::forget_sessions`].
pub(crate) async fn forget(session: &Session<'_>, retention: &SessionRetention) -> Outcome<u64> {
    let sql = "DELETE FROM sessions WHERE id IN (SELECT id FROM (SELECT id, started_at, \
        ROW_NUMBER() OVER (ORDER BY started_at DESC, id) AS place FROM sessions WHERE ended_at IS NOT NULL) AS ranked \
        WHERE started_at < $1 OR place > $2 ORDER BY started_at, id DESC LIMIT $3)";
    session.run(sql, values![retention.started_since, retention.sessions_max, FORGOTTEN_MAX]).await
}

fn read(row: &Row) -> Outcome<Record> {
    let end = match row.moment_if_any("ended_at")? {
        None => None,
        Some(at) => Some(SessionEnd { at, status: row.text("status")?, details: row.text("details")? }),
    };
    let carrier = row.text("carrier")?;
    Ok(Record {
        id: row.text("id")?,
        account: row.parsed("account")?,
        instance: row.parsed("instance_id")?,
        owner: row.text("owner")?,
        document_name: row.text("document_name")?,
        reason: row.text("reason")?,
        started_at: row.moment("started_at")?,
        end,
        carrier: if carrier.is_empty() { None } else { Some(row.parsed("carrier")?) },
    })
}

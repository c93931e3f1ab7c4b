//! The change feed as rows. One thread writes, so that numbers are committed in their order.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use inborn_identity::UnixTime;
use rusqlite::{Connection, Row};

use super::fault::{self, Outcome};
use super::records::{all, column, moment, parsed, time};
use crate::{Beat, Heard, News, NodeId, RegionNode, Topic};

/// This opening of the store among its nodes.
pub(super) struct Node {
    pub(super) id: NodeId,
    /// Whether it has beaten: before that nobody listens.
    is_known: AtomicBool,
    /// When it beat last, in seconds since 1970: the time that entries are given.
    beaten_at: AtomicU64,
}

impl Default for Node {
    fn default() -> Self {
        Self { id: NodeId::random(), is_known: AtomicBool::new(false), beaten_at: AtomicU64::new(0) }
    }
}

impl Node {
    /// Enters what was changed, in the transaction that changes it.
    pub(super) fn enter(&self, connection: &Connection, topics: Vec<Topic>) -> Outcome<()> {
        if !self.is_known.load(Ordering::Relaxed) {
            return Ok(());
        }
        let at = time(UnixTime::from_secs(self.beaten_at.load(Ordering::Relaxed)));
        for topic in topics {
            let (topic, subject) = topic.to_columns();
            let sql = "INSERT INTO feed (writer, made_at, topic, subject) VALUES (?1, ?2, ?3, ?4)";
            let row = (self.id.to_string(), at, topic, subject);
            connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
        }
        Ok(())
    }

    /// See [`crate::Store::beat`].
    pub(super) fn beat(&self, connection: &Connection, beat: &Beat) -> Outcome<()> {
        let sql = "INSERT INTO region_nodes (id, name, started_at, beaten_at, verifies, settled, forgotten, address) \
            VALUES (?1, ?2, ?3, ?3, ?4, (SELECT COALESCE(MAX(number), 0) FROM feed WHERE writer = ?1), 0, ?5) \
            ON CONFLICT (id) DO UPDATE SET name = excluded.name, beaten_at = excluded.beaten_at, verifies = excluded.verifies, \
            address = excluded.address, settled = MAX(region_nodes.settled, excluded.settled)";
        let row = (self.id.to_string(), &beat.name, time(beat.at), beat.verifies, &beat.address);
        connection.prepare_cached(sql).and_then(|mut sql| sql.execute(row)).map_err(fault::from_sqlite)?;
        // Writes come to this thread one by one: what it does from here on is entered.
        self.beaten_at.store(beat.at.as_secs(), Ordering::Relaxed);
        self.is_known.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn nodes(connection: &Connection) -> Outcome<Vec<RegionNode>> {
    all(connection, "SELECT * FROM region_nodes ORDER BY id", |row| {
        Ok(RegionNode {
            id: parsed(row, "id")?,
            name: column(row, "name")?,
            started_at: moment(row, "started_at")?,
            beaten_at: moment(row, "beaten_at")?,
            verifies: column(row, "verifies")?,
            settled: number(row, "settled")?,
            forgotten: number(row, "forgotten")?,
            address: column(row, "address")?,
        })
    })
}

fn number(row: &Row<'_>, name: &str) -> Outcome<u64> {
    let number: i64 = column(row, name)?;
    u64::try_from(number).map_err(fault::corrupt)
}

/// See [`crate::Store::news`].
pub(super) fn news(connection: &Connection, heard: &Heard) -> Outcome<News> {
    let nodes = nodes(connection)?;
    let mut rows = Vec::new();
    for node in nodes.iter().filter(|node| Some(node.id) != heard.except) {
        let behind = heard.positions.get(&node.id).copied().unwrap_or_default();
        let limit = (News::ENTRIES_MAX + 1).saturating_sub(rows.len());
        let sql = "SELECT number, topic, subject FROM feed WHERE writer = ?1 AND number > ?2 ORDER BY number LIMIT ?3";
        let behind = i64::try_from(behind).unwrap_or(i64::MAX);
        let values = (node.id.to_string(), behind, i64::try_from(limit).unwrap_or(i64::MAX));
        let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
        let mut found = statement.query(values).map_err(fault::from_sqlite)?;
        while let Some(row) = found.next().map_err(fault::from_sqlite)? {
            rows.push((node.id, number(row, "number")?, column(row, "topic")?, column(row, "subject")?));
        }
    }
    Ok(News::of(heard, nodes, rows))
}

/// See [`crate::Store::forget_news`].
pub(super) fn forget(connection: &Connection, entries_before: UnixTime, nodes_before: UnixTime) -> Outcome<u64> {
    let run = |sql: &str, at: UnixTime| {
        let done = connection.prepare_cached(sql).and_then(|mut sql| sql.execute((time(at),)));
        done.map_err(fault::from_sqlite)
    };
    let note = "UPDATE region_nodes SET forgotten = MAX(forgotten, COALESCE( \
        (SELECT MAX(number) FROM feed WHERE writer = region_nodes.id AND made_at < ?1), 0))";
    run(note, entries_before)?;
    let forgotten = run("DELETE FROM feed WHERE made_at < ?1", entries_before)?;
    let gone = "DELETE FROM region_nodes WHERE beaten_at < ?1 \
        AND NOT EXISTS (SELECT 1 FROM feed WHERE feed.writer = region_nodes.id)";
    run(gone, nodes_before)?;
    Ok(forgotten as u64)
}

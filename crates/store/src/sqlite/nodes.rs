//! Nodes as rows. What agents say of themselves are columns, so that operators can ask with `sqlite3`.

use std::collections::BTreeSet;

use inborn_identity::InstanceId;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::fault::{self, Outcome};
use super::records::{all, column, moment, parsed, time};
use crate::{Node, StoreError};

/// The columns of [`Node::FACTS`], in their order.
const COLUMNS: [&str; Node::FACTS.len()] = [
    "agent_name",
    "agent_version",
    "agent_status",
    "platform_type",
    "platform_name",
    "platform_version",
    "computer_name",
    "ip_address",
    "availability_zone",
    "availability_zone_id",
    "connection_channel",
];

/// See [`crate::Store::nodes`].
pub(super) fn nodes(connection: &Connection) -> Outcome<Vec<Node>> {
    all(connection, "SELECT * FROM nodes ORDER BY instance_id", read)
}

/// See [`crate::Store::nodes_by_id`].
pub(super) fn by_id(connection: &Connection, ids: Vec<InstanceId>) -> Outcome<Vec<Node>> {
    let ids: BTreeSet<InstanceId> = ids.into_iter().collect();
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        let sql = "SELECT * FROM nodes WHERE instance_id = ?1";
        let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
        let mut rows = statement.query((id.to_string(),)).map_err(fault::from_sqlite)?;
        if let Some(row) = rows.next().map_err(fault::from_sqlite)? {
            found.push(read(row)?);
        }
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Outcome<Node> {
    let mut facts = [const { String::new() }; Node::FACTS.len()];
    for (fact, name) in facts.iter_mut().zip(COLUMNS) {
        *fact = column(row, name)?;
    }
    Ok(Node { instance: parsed(row, "instance_id")?, pinged_at: moment(row, "pinged_at")?, facts })
}

/// See [`crate::Store::put_node`]; whether it says something else than before.
pub(super) fn put_node(connection: &Connection, node: &Node) -> Outcome<bool> {
    let id = node.instance.to_string();
    let state: Option<String> = connection
        .prepare_cached("SELECT state FROM instances WHERE id = ?1")
        .and_then(|mut sql| sql.query_row((&id,), |row| row.get(0)).optional())
        .map_err(fault::from_sqlite)?;
    if state.is_none_or(|state| state == "terminated") {
        return Err(StoreError::NotFound(vec![node.instance]));
    }
    // What agents say every few minutes is most often what they said before.
    let sql = "UPDATE nodes SET pinged_at = CAST(?1 AS INTEGER) WHERE instance_id = ?2 AND agent_name = ?3 \
               AND agent_version = ?4 AND agent_status = ?5 AND platform_type = ?6 AND platform_name = ?7 \
               AND platform_version = ?8 AND computer_name = ?9 AND ip_address = ?10 AND availability_zone = ?11 \
               AND availability_zone_id = ?12 AND connection_channel = ?13";
    let row = || [time(node.pinged_at).to_string(), id.clone()].into_iter().chain(node.facts.iter().cloned());
    let same = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(params_from_iter(row())));
    if same.map_err(fault::from_sqlite)? > 0 {
        return Ok(false);
    }
    connection
        .prepare_cached("DELETE FROM nodes WHERE instance_id = ?1")
        .and_then(|mut sql| sql.execute((&id,)))
        .map_err(fault::from_sqlite)?;
    let sql = "INSERT INTO nodes (pinged_at, instance_id, agent_name, agent_version, agent_status, platform_type, \
               platform_name, platform_version, computer_name, ip_address, availability_zone, availability_zone_id, \
               connection_channel) VALUES (CAST(?1 AS INTEGER), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let done = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(params_from_iter(row())));
    done.map(|_| true).map_err(fault::from_sqlite)
}

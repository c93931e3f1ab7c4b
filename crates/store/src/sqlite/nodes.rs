//! Nodes as rows. What agents say of themselves are columns, so that operators can ask with `sqlite3`.

use rusqlite::{Connection, OptionalExtension, params_from_iter};

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
    all(connection, "SELECT * FROM nodes ORDER BY instance_id", |row| {
        let mut facts = [const { String::new() }; Node::FACTS.len()];
        for (fact, name) in facts.iter_mut().zip(COLUMNS) {
            *fact = column(row, name)?;
        }
        Ok(Node { instance: parsed(row, "instance_id")?, pinged_at: moment(row, "pinged_at")?, facts })
    })
}

/// See [`crate::Store::put_node`].
pub(super) fn put_node(connection: &Connection, node: &Node) -> Outcome<()> {
    let id = node.instance.to_string();
    let state: Option<String> = connection
        .prepare_cached("SELECT state FROM instances WHERE id = ?1")
        .and_then(|mut sql| sql.query_row((&id,), |row| row.get(0)).optional())
        .map_err(fault::from_sqlite)?;
    if state.is_none_or(|state| state == "terminated") {
        return Err(StoreError::NotFound(vec![node.instance]));
    }
    connection
        .prepare_cached("DELETE FROM nodes WHERE instance_id = ?1")
        .and_then(|mut sql| sql.execute((&id,)))
        .map_err(fault::from_sqlite)?;
    let sql = "INSERT INTO nodes (pinged_at, instance_id, agent_name, agent_version, agent_status, platform_type, \
               platform_name, platform_version, computer_name, ip_address, availability_zone, availability_zone_id, \
               connection_channel) VALUES (CAST(?1 AS INTEGER), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let row = [time(node.pinged_at).to_string(), id].into_iter().chain(node.facts.iter().cloned());
    let done = connection.prepare_cached(sql).and_then(|mut sql| sql.execute(params_from_iter(row)));
    done.map(drop).map_err(fault::from_sqlite)
}

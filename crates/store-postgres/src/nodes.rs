//! Nodes as rows. What agents say of themselves are columns, so that operators can ask with `psql`.

use inborn_identity::InstanceId;
use inborn_store::Node;

use crate::fault::Outcome;
use crate::instances;
use crate::transaction::Session;
use crate::value::{Row, Value, values};

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

const NODES: &str = "SELECT instance_id, pinged_at, agent_name, agent_version, agent_status, platform_type, platform_name, \
    platform_version, computer_name, ip_address, availability_zone, availability_zone_id, connection_channel \
    FROM nodes";

/// See [`inborn_store::Store::nodes`].
pub(crate) async fn nodes(session: &Session<'_>) -> Outcome<Vec<Node>> {
    session.rows(&format!("{NODES} ORDER BY instance_id"), &[]).await?.iter().map(read).collect()
}

/// See [`inborn_store::Store::nodes_by_id`].
pub(crate) async fn by_id(session: &Session<'_>, ids: &Vec<InstanceId>) -> Outcome<Vec<Node>> {
    let sql = format!("{NODES} WHERE instance_id = ANY($1) ORDER BY instance_id");
    session.rows(&sql, &[Value::all(ids)]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Outcome<Node> {
    let mut facts = [const { String::new() }; Node::FACTS.len()];
    for (fact, name) in facts.iter_mut().zip(COLUMNS) {
        *fact = row.text(name)?;
    }
    Ok(Node { instance: row.parsed("instance_id")?, pinged_at: row.moment("pinged_at")?, facts })
}

/// See [`inborn_store::Store::put_node`]; whether it says something else than before.
pub(crate) async fn put_node(session: &Session<'_>, node: &Node) -> Outcome<bool> {
    instances::expect_alive(session, node.instance).await?;
    let mut row: Vec<Value> = values![node.instance.to_string(), node.pinged_at].to_vec();
    row.extend(node.facts.iter().map(Value::from));
    // What agents say every few minutes is most often what they said before.
    let sql = "UPDATE nodes SET pinged_at = $2 WHERE instance_id = $1 AND agent_name = $3 AND agent_version = $4 \
        AND agent_status = $5 AND platform_type = $6 AND platform_name = $7 AND platform_version = $8 \
        AND computer_name = $9 AND ip_address = $10 AND availability_zone = $11 AND availability_zone_id = $12 \
        AND connection_channel = $13";
    if session.run(sql, &row).await? > 0 {
        return Ok(false);
    }
    let sql = "INSERT INTO nodes (instance_id, pinged_at, agent_name, agent_version, agent_status, platform_type, \
        platform_name, platform_version, computer_name, ip_address, availability_zone, availability_zone_id, \
        connection_channel) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
        ON CONFLICT (instance_id) DO UPDATE SET pinged_at = excluded.pinged_at, agent_name = excluded.agent_name, \
        agent_version = excluded.agent_version, agent_status = excluded.agent_status, \
        platform_type = excluded.platform_type, platform_name = excluded.platform_name, \
        platform_version = excluded.platform_version, computer_name = excluded.computer_name, \
        ip_address = excluded.ip_address, availability_zone = excluded.availability_zone, \
        availability_zone_id = excluded.availability_zone_id, connection_channel = excluded.connection_channel";
    session.run(sql, &row).await?;
    Ok(true)
}

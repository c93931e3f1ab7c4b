//! The machines whose agents have spoken, and what they said.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{InstanceQuery, Node, Store, StoreError};
use tokio::sync::Mutex;

/// How long a node is online after its agent spoke: agents speak every five minutes, and one word may get lost.
pub(crate) const ONLINE_SECONDS: u64 = 11 * 60;
/// How often agents speak.
const REPORT_SECONDS: u64 = 5 * 60;
/// How many changes to different nodes may go on side by side.
const LANES: usize = 16;

/// Nodes: the store's truth, mirrored in memory for those who list them.
pub(crate) struct Nodes {
    store: Arc<dyn Store>,
    known: RwLock<BTreeMap<InstanceId, Arc<Node>>>,
    /// What an agent says builds on what it said before: one machine's words take turns.
    lanes: [Mutex<()>; LANES],
}

impl Nodes {
    pub(crate) async fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let known = store.nodes().await?.into_iter().map(|node| (node.instance, Arc::new(node))).collect();
        Ok(Self { store, known: RwLock::new(known), lanes: [const { Mutex::const_new(()) }; LANES] })
    }

    /// Takes down what an agent says of itself. What it leaves out this time, it said before.
    pub(crate) async fn heard(
        &self,
        instance: InstanceId,
        said: [Option<&str>; Node::FACTS.len()],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let lane = instance.to_bytes().last().map_or(0, |byte| usize::from(*byte) % LANES);
        let _turn = match self.lanes.get(lane) {
            Some(lane) => lane.lock().await,
            None => return Err(StoreError::Busy),
        };
        let before = self.get(instance);
        let mut node = Node { instance, pinged_at: now, facts: [const { String::new() }; Node::FACTS.len()] };
        for (index, (fact, said)) in node.facts.iter_mut().zip(said).enumerate() {
            let before = || before.as_ref().and_then(|node| node.facts.get(index).cloned()).unwrap_or_default();
            *fact = said.map_or_else(before, str::to_owned);
        }
        self.store.put_node(node.clone()).await?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(instance, Arc::new(node));
        Ok(())
    }

    /// Other servers have heard something new of these machines: memory follows the store.
    pub(crate) async fn hear(&self, instances: Vec<InstanceId>) -> Result<(), StoreError> {
        let found = self.store.nodes_by_id(instances).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for node in found {
            // What an agent has said here meanwhile is newer than what was read.
            let is_newer = known.get(&node.instance).is_none_or(|known| known.pinged_at <= node.pinged_at);
            if is_newer {
                known.insert(node.instance, Arc::new(node));
            }
        }
        Ok(())
    }

    /// Reads all nodes again.
    pub(crate) async fn read_again(&self) -> Result<(), StoreError> {
        let found = self.store.nodes().await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(found.into_iter().map(|node| (node.instance, Arc::new(node))));
        Ok(())
    }

    /// Reads of these nodes again when their agents spoke last, if they should have spoken since: agents that say what they said
    /// before, to another server, are not told of.
    pub(crate) async fn refresh(&self, nodes: &[Arc<Node>], now: UnixTime) -> Result<(), StoreError> {
        let is_old = |node: &&Arc<Node>| now.since(node.pinged_at) >= REPORT_SECONDS;
        let old: Vec<InstanceId> = nodes.iter().filter(is_old).map(|node| node.instance).collect();
        for ids in old.chunks(InstanceQuery::LIMIT_MAX as usize) {
            self.hear(ids.to_vec()).await?;
        }
        Ok(())
    }

    /// What the agent of a machine said last.
    pub(crate) fn get(&self, instance: InstanceId) -> Option<Arc<Node>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&instance).cloned()
    }

    /// All nodes behind this one, by id.
    pub(crate) fn after(&self, instance: Option<InstanceId>) -> Vec<Arc<Node>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|node| instance.is_none_or(|after| node.instance > after)).cloned().collect()
    }

    /// Drops what is known of machines that are gone.
    pub(crate) fn keep(&self, is_alive: impl Fn(InstanceId) -> bool) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).retain(|instance, _| is_alive(*instance));
    }
}

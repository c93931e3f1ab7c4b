//! The machines whose agents have spoken, and what they said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{InstanceQuery, Node, Store, StoreError};
use tokio::sync::{Mutex, MutexGuard};

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

    /// Takes down what an agent says of itself. What it leaves out this time, it said before: perhaps to another server, a moment
    /// ago.
    pub(crate) async fn heard(
        &self,
        instance: InstanceId,
        said: [Option<&str>; Node::FACTS.len()],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let _turn = self.turn([instance].into_iter()).await;
        let mut before = self.get(instance);
        if said.contains(&None) {
            before = self.store.nodes_by_id(vec![instance]).await?.pop().map(Arc::new);
        }
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
        let _turn = self.turn(instances.iter().copied()).await;
        let found = self.store.nodes_by_id(instances).await?;
        self.take_over(found);
        Ok(())
    }

    /// Reads all nodes again.
    pub(crate) async fn read_again(&self) -> Result<(), StoreError> {
        let _turn = self.turn_of(0..LANES).await;
        let found = self.store.nodes().await?;
        self.take_over(found);
        Ok(())
    }

    /// Takes over what the store has. Nobody has spoken here while it was read, so its facts are the last ones. Of the times at which
    /// an agent spoke the last one counts, by whichever clock.
    fn take_over(&self, found: Vec<Node>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for mut node in found {
            if let Some(known) = known.get(&node.instance) {
                node.pinged_at = node.pinged_at.max(known.pinged_at);
            }
            known.insert(node.instance, Arc::new(node));
        }
    }

    /// Waits until nobody else changes these nodes, and keeps others from it.
    async fn turn(&self, instances: impl Iterator<Item = InstanceId>) -> Vec<MutexGuard<'_, ()>> {
        let lane = |instance: InstanceId| instance.to_bytes().last().map_or(0, |byte| usize::from(*byte) % LANES);
        self.turn_of(instances.map(lane).collect::<BTreeSet<_>>().into_iter()).await
    }

    /// The same by lanes, which all take in this order: so nobody waits for whom they keep waiting.
    async fn turn_of(&self, lanes: impl Iterator<Item = usize>) -> Vec<MutexGuard<'_, ()>> {
        let mut turn = Vec::new();
        for lane in lanes.filter_map(|lane| self.lanes.get(lane)) {
            turn.push(lane.lock().await);
        }
        turn
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

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_store::SqliteStore;
    use inborn_store::conformance::samples::{bare, id, launch};

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    /// What the agent says: of the first facts these, of the others nothing.
    fn said<'a>(facts: &[&'a str]) -> [Option<&'a str>; Node::FACTS.len()] {
        core::array::from_fn(|index| facts.get(index).copied())
    }

    async fn two() -> [Nodes; 2] {
        let store = SqliteStore::in_memory().unwrap();
        store.launch(launch(vec![bare(1)])).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        [Nodes::load(Arc::clone(&store)).await.unwrap(), Nodes::load(store).await.unwrap()]
    }

    fn known(nodes: &Nodes) -> (u64, Vec<String>) {
        let node = nodes.get(id(1)).unwrap();
        (node.pinged_at.since(NOW), node.facts.iter().take(2).cloned().collect())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[tokio::test]
    async fn what_an_agent_leaves_out_it_said_before_wherever_that_was() {
        let [a, b] = two().await;
        b.heard(id(1), said(&["b", "2"]), NOW).await.unwrap();
        a.heard(id(1), said(&["a", "3"]), NOW.plus(1)).await.unwrap();
        // Of that the other has not heard.
        b.heard(id(1), said(&["b"]), NOW).await.unwrap();
        assert_eq!(known(&b).1, texts(&["b", "3"]));
        a.hear(vec![id(1)]).await.unwrap();
        assert_eq!(known(&a), (1, texts(&["b", "3"])), "the last facts, and the last time");
        b.read_again().await.unwrap();
        assert_eq!(known(&b).1, texts(&["b", "3"]));
    }

    #[tokio::test]
    async fn the_last_time_an_agent_spoke_is_not_set_back() {
        let [a, b] = two().await;
        b.heard(id(1), said(&["b"]), NOW.plus(9)).await.unwrap();
        a.heard(id(1), said(&["a"]), NOW).await.unwrap();
        b.read_again().await.unwrap();
        assert_eq!(known(&b), (9, texts(&["a", ""])));
    }
}

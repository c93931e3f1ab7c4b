//! The machines whose agents have spoken, and what they said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};

use inborn_identity::{InstanceId, UnixTime};
use inborn_store::{InstanceQuery, Node, Store, StoreError};
use tokio::sync::{Mutex, MutexGuard};

use crate::unreadable::pass_over;

/// How long a node is online after its agent spoke: agents speak every five minutes, and one word may get lost.
pub(crate) const ONLINE_SECONDS: u64 = 11 * 60;
/// How often agents speak.
const REPORT_SECONDS: u64 = 5 * 60;
/// How often within [`TOLD_SECONDS`] other servers are told that one machine's agent has said something else: an agent that says
/// another thing each time is not to fill the feed. Of what it says beyond that they are told the last, once that time is over.
const TOLD_MAX: u32 = 8;
/// How long telling of one machine is counted.
const TOLD_SECONDS: u64 = REPORT_SECONDS;
/// How many changes to different nodes may go on side by side.
const LANES: usize = 16;

/// Nodes: the store's truth, mirrored in memory for those who list them.
pub(crate) struct Nodes {
    store: Arc<dyn Store>,
    known: RwLock<BTreeMap<InstanceId, Arc<Node>>>,
    /// What others were told of, by machine.
    told: StdMutex<HashMap<InstanceId, Told>>,
    /// What an agent says builds on what it said before: one machine's words take turns.
    lanes: [Mutex<()>; LANES],
}

/// How often others were told of one machine lately.
#[derive(Clone, Copy, Debug)]
struct Told {
    since: UnixTime,
    times: u32,
    /// The last word they were not told.
    is_owed: bool,
}

impl Told {
    /// Whether its time is over; where time has been set back it is.
    fn is_over(&self, now: UnixTime) -> bool {
        now < self.since || now.since(self.since) >= TOLD_SECONDS
    }

    fn may_tell(&self, now: UnixTime) -> bool {
        self.times < TOLD_MAX || self.is_over(now)
    }
}

impl Nodes {
    /// Those of the `living` machines. What cannot be read keeps none of the others.
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        living: impl Iterator<Item = InstanceId>,
    ) -> Result<Self, StoreError> {
        let (known, told) = (RwLock::default(), StdMutex::default());
        let nodes = Self { store, known, told, lanes: [const { Mutex::const_new(()) }; LANES] };
        match nodes.store.nodes().await {
            Err(StoreError::Corrupt(_)) => {
                let living: Vec<InstanceId> = living.collect();
                for ids in living.chunks(InstanceQuery::LIMIT_MAX as usize) {
                    nodes.follow(ids.to_vec()).await?;
                }
            }
            found => nodes.take_over(found?),
        }
        Ok(nodes)
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
        let (may_tell, is_owed) =
            self.told_of(instance).map_or((true, false), |told| (told.may_tell(now), told.is_owed));
        let is_new = self.store.put_node(node.clone(), may_tell).await?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(instance, Arc::new(node));
        if is_new {
            self.note(instance, may_tell, now);
        } else if is_owed && may_tell {
            self.tell(instance, now).await;
        }
        Ok(())
    }

    fn told_of(&self, instance: InstanceId) -> Option<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&instance).copied()
    }

    /// Notes that others were told of what an agent has said, or that they were not.
    fn note(&self, instance: InstanceId, is_told: bool, now: UnixTime) {
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = all.entry(instance).or_insert(Told { since: now, times: 0, is_owed: false });
        if is_told && told.is_over(now) {
            (told.since, told.times) = (now, 0);
        }
        told.times += u32::from(is_told);
        told.is_owed = !is_told;
    }

    /// Tells others what they were not told; whether that was done. If not, it is owed still: who lists nodes reads them again all the
    /// same.
    async fn tell(&self, instance: InstanceId, now: UnixTime) -> bool {
        let told = self.store.tell_of_node(instance).await;
        match &told {
            Ok(()) => self.note(instance, true, now),
            Err(error) => tracing::debug!(%instance, %error, "what an agent said is told later"),
        }
        told.is_ok()
    }

    /// Tells others what they were not told because an agent has said too much, and its time is over.
    pub(crate) async fn tell_owed(&self, now: UnixTime) {
        let owed: BTreeSet<InstanceId> = {
            let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, told| told.is_owed || !told.is_over(now));
            all.iter().filter(|(_, told)| told.is_owed && told.may_tell(now)).map(|(instance, _)| *instance).collect()
        };
        for instance in owed {
            let _turn = self.turn([instance].into_iter()).await;
            let is_owed = self.told_of(instance).is_some_and(|told| told.is_owed && told.may_tell(now));
            // A store that is away may take its time with each.
            if is_owed && !self.tell(instance, now).await {
                return;
            }
        }
    }

    /// Other servers have heard something new of these machines: memory follows the store.
    pub(crate) async fn hear(&self, instances: Vec<InstanceId>) -> Result<(), StoreError> {
        let _turn = self.turn(instances.iter().copied()).await;
        self.follow(instances).await
    }

    /// Takes these over, while nobody else changes them. One that cannot be read keeps none of the others: its agent says it again.
    async fn follow(&self, instances: Vec<InstanceId>) -> Result<(), StoreError> {
        let found = match self.store.nodes_by_id(instances.clone()).await {
            Err(StoreError::Corrupt(_)) => {
                let mut found = Vec::new();
                for instance in instances {
                    let read = self.store.nodes_by_id(vec![instance]).await;
                    found.extend(pass_over("what an agent said", instance, read)?.into_iter().flatten());
                }
                found
            }
            found => found?,
        };
        self.take_over(found);
        Ok(())
    }

    /// Reads all nodes again.
    pub(crate) async fn read_again(&self) -> Result<(), StoreError> {
        let _turn = self.turn_of(0..LANES).await;
        match self.store.nodes().await {
            // Of those that are not known here, others tell when their agents speak.
            Err(StoreError::Corrupt(_)) => {
                let known: Vec<InstanceId> = self.after(None).iter().map(|node| node.instance).collect();
                for ids in known.chunks(InstanceQuery::LIMIT_MAX as usize) {
                    self.follow(ids.to_vec()).await?;
                }
            }
            found => self.take_over(found?),
        }
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
        self.told.lock().unwrap_or_else(PoisonError::into_inner).retain(|instance, _| is_alive(*instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_store::conformance::samples::{bare, id, launch};
    use inborn_store::{Beat, Heard, SqliteStore, Topic};

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    /// What the agent says: of the first facts these, of the others nothing.
    fn said<'a>(facts: &[&'a str]) -> [Option<&'a str>; Node::FACTS.len()] {
        core::array::from_fn(|index| facts.get(index).copied())
    }

    async fn two() -> [Nodes; 2] {
        let store = SqliteStore::in_memory().unwrap();
        store.launch(launch(vec![bare(1)])).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        [
            Nodes::load(Arc::clone(&store), [].into_iter()).await.unwrap(),
            Nodes::load(store, [].into_iter()).await.unwrap(),
        ]
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

    /// What others were told of since it was asked last.
    async fn told(store: &SqliteStore, heard: &mut Heard) -> usize {
        // All is settled that came before a beat.
        store.beat(Beat { name: "a".into(), at: NOW, verifies: 0, address: String::new() }).await.unwrap();
        let news = store.news(heard.clone()).await.unwrap();
        *heard = news.heard(None);
        news.entries.iter().filter(|entry| entry.topic == Topic::Node(id(1))).count()
    }

    #[tokio::test]
    async fn others_are_told_below_at_and_above_the_most_and_of_the_last_word() {
        let store = Arc::new(SqliteStore::in_memory().unwrap());
        store.beat(Beat { name: "a".into(), at: NOW, verifies: 0, address: String::new() }).await.unwrap();
        store.launch(launch(vec![bare(1)])).await.unwrap();
        let load = || Nodes::load(Arc::clone(&store) as Arc<dyn Store>, [].into_iter());
        let nodes = load().await.unwrap();
        let mut heard = Heard::default();
        let mut words = 0;
        let mut say = async |nodes: &Nodes, times: u32, now| {
            for _ in 0..times {
                words += 1;
                nodes.heard(id(1), said(&[&words.to_string(), "2"]), now).await.unwrap();
            }
            words
        };
        told(&store, &mut heard).await;
        for (times, expected) in [(TOLD_MAX - 1, 7), (TOLD_MAX, 8), (TOLD_MAX + 1, 8)] {
            let nodes = load().await.unwrap();
            say(&nodes, times, NOW).await;
            assert_eq!(told(&store, &mut heard).await, expected, "{times}");
        }
        // Much more, for as long as it counts; nothing of it is lost, and the last word is told when the time is over.
        let last = say(&nodes, 100, NOW).await;
        assert_eq!(told(&store, &mut heard).await, 8);
        for seconds in [0, TOLD_SECONDS - 1] {
            nodes.tell_owed(NOW.plus(seconds)).await;
            assert_eq!(told(&store, &mut heard).await, 0, "{seconds}");
        }
        assert_eq!(store.nodes().await.unwrap()[0].facts[0], last.to_string());
        for expected in [1, 0] {
            nodes.tell_owed(NOW.plus(TOLD_SECONDS)).await;
            assert_eq!(told(&store, &mut heard).await, expected);
        }
        // Or with its next word, also if that is the same.
        let now = NOW.plus(TOLD_SECONDS);
        let last = say(&nodes, TOLD_MAX, now).await.to_string();
        assert_eq!(told(&store, &mut heard).await, 7);
        for (seconds, expected) in [(TOLD_SECONDS - 1, 0), (TOLD_SECONDS, 1), (TOLD_SECONDS, 0)] {
            nodes.heard(id(1), said(&[&last, "2"]), now.plus(seconds)).await.unwrap();
            assert_eq!(told(&store, &mut heard).await, expected, "{seconds}");
        }
        // Nothing is counted for ever.
        nodes.tell_owed(now.plus(2 * TOLD_SECONDS)).await;
        assert!(nodes.told.lock().unwrap().is_empty());
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

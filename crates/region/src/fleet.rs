//! Several region servers over one store: each keeps machines and cut-offs in memory, and hears what the others change.
//!
//! Twice a second a server beats, so that others know how far its changes are settled, and asks the store's change feed for
//! what is new. Whoever has not heard for [`STALE_AFTER`], or was acknowledged no beat (`lease.rs`), may not know of a termination: it
//! says so, and does what the policy of each service allows.

mod follow;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use inborn_identity::{CallerKind, UnixTime};
use inborn_store::{Beat, Heard, News, NodeId, RegionNode, Store, StoreError};
use inborn_wire::error::Problem;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::doubt::{Again, Doubt};
use crate::forwarding::{Forwarding, Other};
use crate::lease::{self, Lease, Moment};
use crate::metrics::SilenceLabels;
use crate::said::Said;
use crate::signal::Signal;
use crate::{Effect, RegionServer, sessions};

/// How often a server beats, and how often it asks what is new.
pub(crate) const ROUND: Duration = Duration::from_millis(500);
/// The shortest time between two rounds, however often somebody asks for one.
pub(crate) const ROUND_MIN: Duration = Duration::from_millis(50);
/// How long the store may take for one round before it is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Who has not heard for longer is stale.
pub const STALE_AFTER: Duration = Duration::from_secs(5);
/// Who has not heard for longer verifies no session at all: it may not know of the epochs that seal now.
pub(crate) const LAPSED_AFTER: Duration = Duration::from_secs(15);
/// Whose own beats have failed for longer carries no session any more: others take it for gone after [`GONE_AFTER`].
const UNBEATEN_AFTER: Duration = Duration::from_secs(15);
/// How exact the seconds of two programs on one computer are.
const CLOCK_SECONDS: u64 = 2;
/// Of whom no beat was heard for longer nobody waits for: by its own clock it has lapsed long ago.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// How far the clocks of two servers may be apart while epochs go from stage to stage: what is waited for between two stages has that to spare.
const CLOCKS_APART_MAX_SECONDS: u64 = 900;
/// How long a call waits to hear of a machine that is not known here: it may have been launched at another server just now.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);
/// The service whose policy says what becomes of open channels.
const MESSAGE_GATEWAY: &str = "ssmmessages";
/// How long entries of the feed are kept.
pub(crate) const ENTRIES_KEPT_SECONDS: u64 = 3600;
/// How long a server that beats no more is kept among the nodes.
const NODES_KEPT_SECONDS: u64 = 7 * 24 * 3600;

/// What a server does for the callers of a service while it is stale.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StalePolicy {
    /// Operators read, and machines are told who they are, by what was heard last. All else is refused: changes and data,
    /// and what would give a machine something (credentials, channels, commands) that may be no more.
    #[default]
    RefuseChanges,
    /// Everything is refused.
    RefuseAll,
    /// Everything is done.
    Serve,
}

impl StalePolicy {
    fn refuses(self, service: &str, effect: Effect, caller: CallerKind) -> bool {
        match self {
            Self::RefuseChanges => effect != Effect::ReadOnly || (caller != CallerKind::Operator && service != "sts"),
            Self::RefuseAll => true,
            Self::Serve => false,
        }
    }
}

impl core::str::FromStr for StalePolicy {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "refuse-changes" => Ok(Self::RefuseChanges),
            "refuse-all" => Ok(Self::RefuseAll),
            "serve" => Ok(Self::Serve),
            _ => Err("it is refuse-changes, refuse-all or serve"),
        }
    }
}

/// How a server takes part.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FleetSettings {
    /// What people call it; at most [`Beat::NAME_MAX`] bytes.
    pub name: String,
    /// Policies of services, by the names of [`crate::SERVICES`]; the others have the default.
    pub stale: BTreeMap<String, StalePolicy>,
}

/// What this server knows of the others.
pub(crate) struct Fleet {
    name: String,
    /// Where it says that it is reached.
    address: ArcSwap<String>,
    /// Policies of services; the others have the default.
    stale: ArcSwap<BTreeMap<String, StalePolicy>>,
    lease: Lease,
    /// Whether sessions may have been left by whom nobody sees to go.
    has_lost: AtomicBool,
    /// Rounds that were begun.
    begun: AtomicU64,
    /// The last round that came to its end.
    done: Signal,
    asked: Notify,
    /// The servers that beat, and when each was seen to do so last.
    nodes: Mutex<HashMap<NodeId, Seen>>,
}

/// What is known of a server. Its beats are counted by the clock of whoever sees them: other clocks may be wrong.
struct Seen {
    name: String,
    beaten_at: UnixTime,
    verifies: u32,
    at: Instant,
    address: String,
    /// Since when its beats would have been seen.
    watched_since: Instant,
    /// Whether it was found to be gone.
    is_gone: bool,
    /// Whether it was seen to beat, not only found: most that are found at a start and do not beat ended long ago.
    has_beaten: bool,
    started_at: UnixTime,
}

impl Seen {
    fn is_alive(&self, now: Instant) -> bool {
        let patience = if self.has_beaten { GONE_AFTER } else { STALE_AFTER };
        now.saturating_duration_since(self.at.max(self.watched_since)) <= patience
    }

    /// Whether it lives, and its clock is further from `now` than it may be.
    fn is_apart(&self, now: UnixTime, at: Instant) -> bool {
        let (first, last) = (self.beaten_at.min(now), self.beaten_at.max(now));
        self.is_alive(at) && last.since(first) > CLOCKS_APART_MAX_SECONDS
    }
}

/// What the clocks of servers are to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clocks {
    Together,
    /// One that was found at the start beat at another time: whether it still does is seen in a moment.
    Unknown,
    Apart,
}

/// Whether a server was started after this one where this one was reached, and this one has not beaten since: then it has ended. If it
/// has, both say the same of themselves.
fn is_succeeded(nodes: &HashMap<NodeId, Seen>, seen: &Seen) -> bool {
    let mut there = nodes.values().filter(|other| !seen.address.is_empty() && other.address == seen.address);
    there.any(|other| other.started_at > seen.started_at && seen.beaten_at <= other.started_at.plus(CLOCK_SECONDS))
}

/// How far a server has heard.
pub(crate) struct Reader {
    heard: Heard,
    /// What it has acted upon behind that: it is told again until it is settled.
    ahead: BTreeSet<(NodeId, u64)>,
}

impl Fleet {
    /// Becomes a node of the store. What is loaded after this, and what is heard from here on, is everything.
    pub(crate) async fn join(
        store: &dyn Store,
        settings: FleetSettings,
        now: UnixTime,
    ) -> Result<(Self, Reader), StoreError> {
        // It verifies with nothing yet: until it does nobody seals with what is new.
        let beaten = Moment::now(now);
        store.beat(Beat { name: settings.name.clone(), at: now, verifies: 0, address: String::new() }).await?;
        let (at, heard) = (Instant::now(), Moment::now(now));
        let node = store.node();
        // The first time everything is missed that anybody ever did: it is loaded.
        let news = store.news(Heard { except: Some(node), ..Heard::default() }).await?;
        let fleet = Self {
            name: settings.name,
            address: ArcSwap::default(),
            stale: ArcSwap::from_pointee(settings.stale),
            lease: Lease::new(beaten, heard),
            has_lost: AtomicBool::new(true),
            begun: AtomicU64::new(0),
            done: Signal::default(),
            asked: Notify::new(),
            nodes: Mutex::default(),
        };
        fleet.see(&news.nodes, at, true);
        Ok((fleet, Reader { heard: news.heard(Some(node)), ahead: BTreeSet::new() }))
    }

    /// How long nothing was heard, or none of its beats acknowledged, if that is too long.
    pub(crate) fn stale_for(&self, now: UnixTime) -> Option<Duration> {
        Some(self.lease.silence(now)).filter(|silence| *silence > STALE_AFTER)
    }

    pub(crate) const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether the others know that this server lives, as far as it knows.
    pub(crate) fn beats(&self) -> bool {
        self.lease.unbeaten() <= UNBEATEN_AFTER
    }

    /// Notes who has beaten. If nothing was heard for a while (`was_deaf`), nobody is taken for gone because of that.
    fn see(&self, found: &[RegionNode], at: Instant, was_deaf: bool) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = nodes.is_empty();
        nodes.retain(|id, _| found.iter().any(|node| node.id == *id));
        for node in found {
            let new = || Seen {
                name: node.name.clone(),
                beaten_at: node.beaten_at,
                verifies: node.verifies,
                at,
                address: node.address.clone(),
                watched_since: at,
                is_gone: false,
                has_beaten: true,
                started_at: node.started_at,
            };
            let seen = nodes.entry(node.id).or_insert_with(|| Seen { has_beaten: !is_first, ..new() });
            if was_deaf && !seen.is_gone {
                seen.watched_since = at;
            }
            if seen.beaten_at != node.beaten_at || seen.verifies != node.verifies || seen.address != node.address {
                *seen = new();
            }
        }
    }

    /// Sessions may have been left by this server itself.
    pub(crate) fn lose(&self) {
        self.has_lost.store(true, Ordering::SeqCst);
    }

    /// Whether sessions may have been left since this was asked last: a server has been found to be gone. At the start too: of a server that
    /// was gone before this one came, or whose sessions came with a backup, nobody sees that it is lost.
    fn has_lost_one(&self) -> bool {
        let has_lost = self.has_lost.swap(false, Ordering::SeqCst);
        let now = Instant::now();
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = nodes.values_mut().filter(|seen| !seen.is_gone && !seen.is_alive(now));
        lost.map(|seen| seen.is_gone = true).count() > 0 || has_lost
    }

    /// Whether a server beats, as far as is known here.
    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&node).is_some_and(|seen| seen.is_alive(Instant::now()) && !is_succeeded(&nodes, seen))
    }

    /// Whether a server is taken for gone since so long; also one of which nobody knows any more.
    pub(crate) fn is_gone_for(&self, node: NodeId, long: Duration) -> bool {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        // As if it were earlier.
        let then = Instant::now().checked_sub(long);
        nodes.get(&node).is_none_or(|seen| then.is_some_and(|then| !seen.is_alive(then)))
    }

    /// Where the others reach this server, if it says so.
    pub(crate) fn own_address(&self) -> Arc<String> {
        self.address.load_full()
    }

    /// The servers that beat and can be reached, but for this one.
    pub(crate) fn others(&self, own: NodeId) -> Vec<Other> {
        let now = Instant::now();
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = nodes.iter().filter(|(id, seen)| {
            **id != own && seen.is_alive(now) && !seen.address.is_empty() && !is_succeeded(&nodes, seen)
        });
        let other = |(node, seen): (&NodeId, &Seen)| Other {
            node: *node,
            name: seen.name.clone(),
            address: seen.address.clone(),
        };
        reached.map(other).collect()
    }

    /// Such a server.
    pub(crate) fn other(&self, node: NodeId) -> Option<Other> {
        self.others(NodeId::NOBODY).into_iter().find(|other| other.node == node)
    }

    /// The names of the servers that beat and have not said that they verify with an epoch.
    pub(crate) fn who_does_not_verify(&self, epoch: u32) -> Vec<String> {
        let now = Instant::now();
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let waited_for = |seen: &&Seen| seen.verifies < epoch && now.saturating_duration_since(seen.at) <= GONE_AFTER;
        let mut names: Vec<String> = nodes.values().filter(waited_for).map(|seen| seen.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// What time it is by the clock of this server, `now`, or of the living one whose clock is furthest behind.
    pub(crate) fn slowest_clock(&self, now: UnixTime) -> UnixTime {
        let at = Instant::now();
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.values().filter(|seen| seen.is_alive(at)).map(|seen| seen.beaten_at).fold(now, UnixTime::min)
    }

    /// Whether the clocks of this server, `now`, and of living others are further apart than they may be.
    pub(crate) fn clocks(&self, now: UnixTime) -> Clocks {
        let at = Instant::now();
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut apart = nodes.values().filter(|seen| seen.is_apart(now, at)).peekable();
        match (apart.peek().is_some(), apart.any(|seen| seen.has_beaten)) {
            (false, _) => Clocks::Together,
            (true, false) => Clocks::Unknown,
            (true, true) => Clocks::Apart,
        }
    }

    /// The servers for which clocks are [`Clocks::Apart`].
    pub(crate) fn whose_clocks_are_apart(&self, now: UnixTime) -> Vec<String> {
        let at = Instant::now();
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let apart = nodes.values().filter(|seen| seen.has_beaten && seen.is_apart(now, at));
        let mut names: Vec<String> = apart.map(|seen| seen.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// What is done for the callers of a service while this server is stale.
    fn policy(&self, service: &str) -> StalePolicy {
        self.stale.load().get(service).copied().unwrap_or_default()
    }

    /// From now on these are the policies.
    pub(crate) fn change_policies(&self, stale: BTreeMap<String, StalePolicy>) {
        self.stale.store(Arc::new(stale));
    }

    /// Whether a call of this effect, by such a caller, to a service is refused while this server is stale.
    pub(crate) fn refuses(&self, service: &str, effect: Effect, caller: CallerKind) -> bool {
        self.policy(service).refuses(service, effect, caller)
    }

    /// Waits until all is heard that had been changed when this was called, or for a second; says whether it is. Not if what was read may
    /// be of a primary that was replaced.
    pub(crate) async fn catch_up(&self) -> bool {
        let awaited = self.begun.load(Ordering::SeqCst) + 1;
        self.asked.notify_one();
        tokio::time::timeout(CATCH_UP_MAX, self.done.reaches(awaited)).await.is_ok() && self.lease.is_of_the_primary()
    }

    fn note(&self, round: u64, begun: Moment) {
        self.lease.note_round(begun);
        self.done.raise_to(round);
    }
}

impl RegionServer {
    /// Hears what others have changed, if something is missing here: they may have made it a moment ago.
    ///
    /// # Errors
    /// It is missing still, and who cannot tell says nobody that it is not there.
    pub(crate) async fn hear_of_missing(&self, is_missing: impl Fn() -> bool) -> Result<(), Problem> {
        let caught_up = match self.fleet() {
            Some(fleet) if is_missing() => fleet.catch_up().await,
            _ => true,
        };
        if !caught_up && is_missing() { Err(Problem::Unavailable) } else { Ok(()) }
    }
}

/// Begins to beat and to hear, for as long as the region is there.
pub(crate) fn start(region: &Arc<RegionServer>, reader: Reader) {
    tokio::spawn(lease::beat(Arc::downgrade(region)));
    tokio::spawn(hear(Arc::downgrade(region), reader));
}

async fn hear(region: Weak<RegionServer>, mut reader: Reader) {
    let failed = Said::default();
    loop {
        {
            let Some(region) = region.upgrade() else { return };
            let Some(fleet) = region.fleet() else { return };
            // Whoever asks from here on is not content with this round.
            let round = fleet.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let begun = Moment::now(region.now());
            match reader.round(&region).await {
                Ok(()) => {
                    fleet.note(round, begun);
                    if fleet.has_lost_one() {
                        tokio::spawn(sessions::end_those_left(Arc::downgrade(&region)));
                    }
                }
                Err(StoreError::Closed) => return,
                Err(error) if failed.is_due() => {
                    tracing::warn!(%error, "this server does not hear what others change");
                }
                Err(_) => {}
            }
            if !fleet.beats() && fleet.policy(MESSAGE_GATEWAY) != StalePolicy::Serve && region.sessions().leave_all() {
                tracing::warn!("the other servers may take this one for gone: it carries no session any more");
                fleet.lose();
            }
            if region.has_lapsed() {
                region.end_what_no_longer_stands();
            }
        }
        tokio::time::sleep(ROUND_MIN).await;
        let Some(region) = region.upgrade() else { return };
        let Some(fleet) = region.fleet() else { return };
        let _ = tokio::time::timeout(ROUND.saturating_sub(ROUND_MIN), fleet.asked.notified()).await;
    }
}

impl Reader {
    /// Asks what is new, and acts upon it. After an error the same is told again.
    async fn round(&mut self, region: &RegionServer) -> Result<(), StoreError> {
        let asked = tokio::time::timeout(PATIENCE, region.store().news(self.heard.clone())).await;
        let news = asked.map_err(|_| StoreError::Unavailable("it did not answer in time".to_owned()))??;
        if let Some(fleet) = region.fleet() {
            let was_deaf = fleet.stale_for(region.now()).is_some();
            fleet.see(&news.nodes, Instant::now(), was_deaf);
        }
        let doubt = region.take_doubt();
        if news.missed || doubt == Doubt::All {
            let why = if news.missed { "it was away for too long" } else { "it is not known what became of changes" };
            tracing::warn!("this server reads everything again: {why}");
            region.read_again(Again::Everything).await.inspect_err(|_| region.doubt_of(Doubt::All))?;
        } else {
            let is_new = |entry: &&inborn_store::Entry| !self.ahead.contains(&(entry.writer, entry.serial));
            let followed = region.follow(news.entries.iter().filter(is_new).map(|entry| &entry.topic)).await;
            followed.inspect_err(|_| region.doubt_of(doubt))?;
            if doubt == Doubt::Some {
                tracing::info!(
                    "this server reads again what was changed lately: it is not known what became of a change"
                );
                region.read_again(Again::Lately).await.inspect_err(|_| region.doubt_of(doubt))?;
            }
        }
        self.advance(&news);
        Ok(())
    }

    fn advance(&mut self, news: &News) {
        self.heard = news.heard(self.heard.except);
        let settled = |writer: NodeId| self.heard.positions.get(&writer).copied().unwrap_or_default();
        let ahead = news.entries.iter().filter(|entry| entry.serial > settled(entry.writer));
        self.ahead = ahead.map(|entry| (entry.writer, entry.serial)).collect();
    }
}

impl RegionServer {
    /// What this server knows of the others; `None` if it is alone with its store.
    pub(crate) const fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// From now on this is where other servers reach this one, as [`crate::check_address`] has it; empty: nowhere. They hear of it with its
    /// next beat.
    pub fn advertise(&self, address: &str) {
        if let Some(fleet) = self.fleet() {
            fleet.address.store(Arc::new(address.to_owned()));
        }
    }

    /// What is passed on to other servers.
    pub(crate) const fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }

    /// What this server tells the others of itself; `None` if it is alone with its store.
    pub(crate) fn next_beat(&self) -> Option<Beat> {
        let fleet = self.fleet()?;
        let (name, address) = (fleet.name.clone(), String::clone(&fleet.address.load()));
        Some(Beat { name, at: self.now(), verifies: self.epochs().verifies(), address })
    }

    /// Leaves the fleet, before the end of the process: other servers send nothing any more, and take up the sessions that this one
    /// carries when their two sides come back.
    pub async fn leave(&self) {
        self.advertise("");
        let Some(beat) = self.next_beat() else { return };
        let leaving = async {
            if let Err(error) = self.store().beat(beat).await {
                tracing::warn!(%error, "the other servers do not hear that this one ends");
            }
            sessions::release(self).await;
        };
        let _ = tokio::time::timeout(PATIENCE, leaving).await;
    }

    /// Whether this server has not heard for too long what others change.
    pub(crate) fn is_stale(&self) -> bool {
        self.high_water.went_back() || self.fleet().is_some_and(|fleet| fleet.stale_for(self.now()).is_some())
    }

    /// Whether it has not heard for so long that it may not know of the epochs that seal now.
    pub(crate) fn has_lapsed(&self) -> bool {
        self.high_water.went_back() || self.fleet().is_some_and(|fleet| fleet.lease.silence(self.now()) > LAPSED_AFTER)
    }

    /// Brings the gauge of what this server has not heard up to date.
    pub(crate) fn measure_silence(&self) {
        let Some(fleet) = self.fleet() else { return };
        for (of, silence) in [("feed", fleet.lease.unread(self.now())), ("beat", fleet.lease.unbeaten())] {
            let seconds = i64::try_from(silence.as_secs()).unwrap_or(i64::MAX);
            self.metrics.silence.get_or_create(&SilenceLabels { of }).set(seconds);
        }
    }

    /// Whether channels and sessions that are open stay so: not at a server that has lapsed, since nobody tells it of an end,
    /// unless the policy of the message gateway is to serve.
    pub(crate) fn keeps_channels(&self) -> bool {
        !self.high_water.went_back()
            && (!self.has_lapsed()
                || self.fleet().is_some_and(|fleet| fleet.policy(MESSAGE_GATEWAY) == StalePolicy::Serve))
    }

    /// Forgets what every server has heard long ago, to be called now and then.
    pub(crate) async fn tidy_news(&self, now: UnixTime) -> Result<(), StoreError> {
        if self.fleet.is_some() {
            self.store.forget_news(now.minus(ENTRIES_KEPT_SECONDS), now.minus(NODES_KEPT_SECONDS)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beaten(id: u64, at: u64, address: &str) -> RegionNode {
        RegionNode {
            id: NodeId::new(id),
            name: id.to_string(),
            started_at: UnixTime::from_secs(id),
            beaten_at: UnixTime::from_secs(at),
            verifies: 0,
            settled: 0,
            forgotten: 0,
            address: address.to_owned(),
        }
    }

    fn fleet() -> Fleet {
        let begun = Moment::now(UnixTime::from_secs(1));
        Fleet {
            name: String::new(),
            address: ArcSwap::default(),
            stale: ArcSwap::default(),
            lease: Lease::new(begun, begun),
            has_lost: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            done: Signal::default(),
            asked: Notify::new(),
            nodes: Mutex::default(),
        }
    }

    /// Who was found at the start and does not beat is taken for gone soon, who has beaten not so soon, and nobody because this server was
    /// deaf.
    #[tokio::test(start_paused = true)]
    async fn servers_are_gone_after_so_long_and_no_sooner() {
        let fleet = fleet();
        let [old, other] = [1, 2].map(NodeId::new);
        let alive = |fleet: &Fleet| [old, other].map(|node| fleet.is_alive(node));
        fleet.see(&[beaten(1, 1, "")], Instant::now(), true);
        fleet.see(&[beaten(1, 1, ""), beaten(2, 1, "")], Instant::now(), false);
        assert_eq!(alive(&fleet), [true, true]);
        assert!(!fleet.is_alive(NodeId::NOBODY) && !fleet.has_lost_one());
        tokio::time::advance(STALE_AFTER).await;
        assert_eq!(alive(&fleet), [true, true]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(alive(&fleet), [false, true]);
        assert_eq!([fleet.has_lost_one(), fleet.has_lost_one()], [true, false], "it is told once");
        tokio::time::advance(GONE_AFTER - STALE_AFTER - Duration::from_millis(1)).await;
        assert_eq!(alive(&fleet), [false, true]);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(alive(&fleet), [false, false]);
        // The other may not have been able to beat either.
        fleet.see(&[beaten(1, 1, ""), beaten(2, 1, "")], Instant::now(), true);
        assert_eq!(alive(&fleet), [false, true]);
        assert!(!fleet.has_lost_one());
        fleet.see(&[beaten(1, 9, ""), beaten(2, 1, "")], Instant::now(), false);
        assert_eq!(alive(&fleet), [true, true], "it was not gone");
        tokio::time::advance(GONE_AFTER + Duration::from_millis(1)).await;
        assert!(fleet.has_lost_one());
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_clock_is_one_of_a_server_that_lives() {
        let (fleet, now) = (fleet(), UnixTime::from_secs(1_000_000));
        assert_eq!(fleet.slowest_clock(now), now, "it is alone");
        fleet.see(&[beaten(1, 1_000_009, "")], Instant::now(), false);
        assert_eq!(fleet.slowest_clock(now), now, "the other's is further ahead");
        fleet.see(&[beaten(1, 1_000_009, ""), beaten(2, 900_000, "")], Instant::now(), false);
        assert_eq!(fleet.slowest_clock(now), UnixTime::from_secs(900_000));
        tokio::time::advance(GONE_AFTER).await;
        fleet.see(&[beaten(1, 1_000_019, ""), beaten(2, 900_000, "")], Instant::now(), false);
        assert_eq!(fleet.slowest_clock(now), UnixTime::from_secs(900_000));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(fleet.slowest_clock(now), now, "what a server that is gone said last is no clock");
    }

    /// In either direction: which of two is wrong nobody knows.
    #[tokio::test(start_paused = true)]
    async fn clocks_are_apart_below_at_and_above_the_most() {
        use Clocks::{Apart, Together, Unknown};
        let (fleet, now) = (fleet(), UnixTime::from_secs(1_000_000));
        let mut told = vec![fleet.clocks(now)];
        // One that is found at the start has ended, perhaps.
        let mut at = vec![900_000];
        at.extend([899, 900, 901].map(|behind| 1_000_000 - behind));
        at.extend([899, 900, 901].map(|ahead| 1_000_000 + ahead));
        for at in at {
            fleet.see(&[beaten(1, at, "")], Instant::now(), false);
            told.push(fleet.clocks(now));
            let named = fleet.whose_clocks_are_apart(now);
            assert_eq!(named.is_empty(), *told.last().unwrap() != Apart, "{named:?}");
        }
        assert_eq!(told, [Together, Unknown, Together, Together, Apart, Together, Together, Apart]);
        tokio::time::advance(GONE_AFTER + Duration::from_millis(1)).await;
        assert_eq!(fleet.clocks(now), Together, "what a server that is gone said last is no clock");
    }

    /// Sooner than others take it for gone, so that no session is carried by two.
    #[tokio::test(start_paused = true)]
    async fn who_cannot_beat_knows_below_at_and_above_the_time() {
        let fleet = fleet();
        let mut told = Vec::new();
        for advance in [UNBEATEN_AFTER - Duration::from_millis(1), Duration::from_millis(1), Duration::from_millis(1)] {
            tokio::time::advance(advance).await;
            told.push(fleet.beats());
        }
        assert_eq!((told, UNBEATEN_AFTER < GONE_AFTER), (vec![true, true, false], true));
    }

    #[tokio::test]
    async fn servers_are_reached_where_they_say_and_by_their_successors() {
        let fleet = fleet();
        let reached = |fleet: &Fleet| {
            let mut nodes: Vec<_> = fleet.others(NodeId::new(4)).into_iter().map(|other| other.node).collect();
            nodes.sort_unstable();
            nodes
        };
        let found = [beaten(1, 1, "http://a:1"), beaten(2, 1, ""), beaten(3, 1, ""), beaten(4, 1, "http://d:1")];
        fleet.see(&found, Instant::now(), false);
        assert_eq!(reached(&fleet), [NodeId::new(1)]);
        // One that was started later is there where another was.
        let found = found.into_iter().chain([beaten(5, 1, "http://a:1")]).collect::<Vec<_>>();
        fleet.see(&found, Instant::now(), false);
        assert_eq!(reached(&fleet), [NodeId::new(5)]);
        assert_eq!([1, 2, 3, 5].map(|node| fleet.is_alive(NodeId::new(node))), [false, true, true, true]);
        assert!(fleet.other(NodeId::new(2)).is_none() && fleet.other(NodeId::new(5)).is_some());
    }

    #[test]
    fn policies() {
        use Effect::{Data, Mutating, ReadOnly};
        for (text, service, caller, refused) in [
            ("refuse-changes", "ssm", CallerKind::Operator, [false, true, true]),
            ("refuse-changes", "sts", CallerKind::IdentityRole, [false, true, true]),
            ("refuse-changes", "ssm", CallerKind::IdentityRole, [true, true, true]),
            ("refuse-changes", "ec2messages", CallerKind::ManagementRole, [true, true, true]),
            ("refuse-all", "sts", CallerKind::IdentityRole, [true, true, true]),
            ("serve", "ssm", CallerKind::IdentityRole, [false, false, false]),
        ] {
            let policy: StalePolicy = text.parse().unwrap();
            let told = [ReadOnly, Mutating, Data].map(|effect| policy.refuses(service, effect, caller));
            assert_eq!(told, refused, "{text} {service}");
        }
        assert_eq!(StalePolicy::default(), StalePolicy::RefuseChanges);
        assert!("yes".parse::<StalePolicy>().is_err());
    }
}

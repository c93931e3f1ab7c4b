//! The change feed as rows, and the numbers under which this program enters what it changes.
//!
//! Each attempt of a transaction takes a number before it begins, so that no two of them wait for each other. What a beat
//! calls settled is everything below the lowest number whose attempt is not over.
//!
//! An attempt of which nobody knows how it ended may still commit, at any time: a commit that waits for a synchronous standby
//! is ended by no timeout. So its number is entered by another transaction ([`settle`]), which waits for it: either the attempt
//! has committed by then, or it never will, since its entry is there already. Until then nothing behind it is settled, and what
//! it did is told to the node itself like news of others.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inborn_identity::UnixTime;
use inborn_store::{Beat, Fence, Heard, News, NodeId, RegionNode, Topic};
use tokio::time::Instant;

use crate::fault::Outcome;
use crate::transaction::{Query, Session};
use crate::value::{Row, Value, columns, values};

/// The most attempts of unknown end that are settled by one statement, the oldest first.
const SETTLED_AT_ONCE: usize = 1000;
/// The most of a node's own changes that are asked for by their numbers. If there are more it is told of all behind the first.
const OWN_MAX: usize = 1000;
/// What an entry says that stands for an attempt which has come to nothing: a setting of nobody's, for which no program, new or
/// old, reads anything.
const NOTHING: &str = "nothing changed";

/// How many of a server's last beats a database may have forgotten: a standby that is promoted without the last commits of its primary,
/// where the primary did not wait for it, is no other database for that. Ten seconds, at two beats a second.
const BEATS_LOST_MAX: i64 = 20;
/// After so long without a beat others may have removed the node: that it is not known says nothing then. They wait a week.
const REMEMBERED_FOR: Duration = Duration::from_secs(6 * 24 * 3600);
/// How often it is said that a database is not known again.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// This opening of the store among its nodes.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    numbers: Mutex<Numbers>,
    /// When it beat last, in seconds since 1970: the time that entries are given.
    beaten_at: AtomicU64,
    beats: Mutex<Beats>,
    is_settling: AtomicBool,
}

/// Beats, numbered from 1. One that was not answered counts for nothing: its number is the next one's, so that an outage, however long,
/// does not use up what a database may have forgotten.
#[derive(Default)]
struct Beats {
    /// The last one that was answered, and when.
    answered: Option<(i64, Instant)>,
    /// When it was last said that a database does not know them.
    said: Option<Instant>,
}

#[derive(Default)]
struct Numbers {
    /// Whether it has beaten: before that nobody listens.
    is_known: bool,
    last: u64,
    /// Attempts that are not over.
    under_way: BTreeMap<u64, Ending>,
    /// Those of an ending that was unknown, until the node itself has heard of all behind them.
    untold: BTreeSet<u64>,
}

impl Numbers {
    fn settled(&self) -> u64 {
        self.under_way.keys().next().map_or(self.last, |lowest| lowest.saturating_sub(1))
    }
}

/// What a node does not know of its own changes, at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Untold {
    /// Their numbers.
    numbers: Vec<u64>,
    /// Of what was settled behind this number it was not known yet whether it has to be told.
    settled: u64,
}

/// How an attempt that is not over will have ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As it will say.
    Awaited,
    /// As nobody will say.
    Unknown,
}

/// What an attempt enters its changes under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    writer: NodeId,
    number: u64,
    made_at: UnixTime,
}

/// An attempt that is under way. Dropped before it is over, nobody knows whether it has committed or still will.
pub(crate) struct Running<'a> {
    node: &'a Node,
    pub(crate) turn: Turn,
    is_over: bool,
}

impl Running<'_> {
    /// It has committed, or certainly never will.
    pub(crate) fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut numbers = self.node.numbers();
        if self.is_over {
            numbers.under_way.remove(&self.turn.number);
        } else {
            numbers.under_way.insert(self.turn.number, Ending::Unknown);
            numbers.untold.insert(self.turn.number);
        }
    }
}

/// Somebody finds out how attempts have ended. One is enough.
pub(crate) struct Settling {
    node: Arc<Node>,
    pub(crate) numbers: Vec<u64>,
}

impl Settling {
    /// They have committed and are seen, or never will be.
    pub(crate) fn settled(&self) {
        let mut numbers = self.node.numbers();
        for number in &self.numbers {
            numbers.under_way.remove(number);
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.node.is_settling.store(false, Ordering::SeqCst);
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            id: NodeId::random(),
            numbers: Mutex::default(),
            beaten_at: AtomicU64::new(0),
            beats: Mutex::default(),
            is_settling: AtomicBool::new(false),
        }
    }
}

impl Node {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn for an attempt that may change something; `None` before the first beat.
    pub(crate) fn begin(&self) -> Option<Running<'_>> {
        let mut numbers = self.numbers();
        if !numbers.is_known {
            return None;
        }
        numbers.last += 1;
        let number = numbers.last;
        numbers.under_way.insert(number, Ending::Awaited);
        let made_at = UnixTime::from_secs(self.beaten_at.load(Ordering::Relaxed));
        Some(Running { node: self, turn: Turn { writer: self.id, number, made_at }, is_over: false })
    }

    /// The highest number up to which every attempt is over.
    pub(crate) fn settled(&self) -> u64 {
        self.numbers().settled()
    }

    /// The attempts of which nobody knows how they ended, for one who finds out; `None`: there are none, or somebody does.
    pub(crate) fn settling(self: &Arc<Self>) -> Option<Settling> {
        let unknown = |(number, ending): (&u64, &Ending)| (*ending == Ending::Unknown).then_some(*number);
        let numbers: Vec<u64> = self.numbers().under_way.iter().filter_map(unknown).take(SETTLED_AT_ONCE).collect();
        if numbers.is_empty() || self.is_settling.swap(true, Ordering::SeqCst) {
            return None;
        }
        Some(Settling { node: Arc::clone(self), numbers })
    }

    /// What the node has to be told of its own, once it has heard of all up to `heard`.
    pub(crate) fn untold(&self, heard: u64) -> Untold {
        let mut numbers = self.numbers();
        numbers.untold = numbers.untold.split_off(&heard.saturating_add(1));
        Untold { numbers: numbers.untold.iter().copied().collect(), settled: numbers.settled() }
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a beat that is about to be made: the same until one of that number is answered.
    pub(crate) fn next_beat(&self) -> i64 {
        self.beats().answered.map_or(1, |(answered, _)| answered.saturating_add(1))
    }

    /// A beat was answered.
    pub(crate) fn beat_answered(&self, number: i64, now: Instant) {
        let mut beats = self.beats();
        if beats.answered.is_none_or(|(answered, _)| answered < number) {
            beats.answered = Some((number, now));
        }
    }

    /// How many beats were answered, if any were.
    pub(crate) fn beats_answered(&self) -> Option<u64> {
        let (answered, _) = self.beats().answered?;
        u64::try_from(answered).ok()
    }

    /// How many beats a database must know to be the one that has answered them; `None`: whatever it knows.
    pub(crate) fn beats_to_be_known(&self, now: Instant) -> Option<i64> {
        let (answered, at) = self.beats().answered?;
        (now.saturating_duration_since(at) < REMEMBERED_FOR).then(|| least_known(answered))
    }

    /// Whether it is time to say again that a database does not know them.
    pub(crate) fn says_unknown(&self, now: Instant) -> bool {
        let mut beats = self.beats();
        let is_due = beats.said.is_none_or(|said| now.saturating_duration_since(said) >= SAID_EVERY);
        if is_due {
            beats.said = Some(now);
        }
        is_due
    }

    /// The database knows this node: from now on its changes are entered.
    pub(crate) fn known(&self, at: UnixTime) {
        self.beaten_at.store(at.as_secs(), Ordering::Relaxed);
        self.numbers().is_known = true;
    }
}

/// How many beats of a node a database knows at least that has answered so many.
fn least_known(answered: i64) -> i64 {
    answered.saturating_sub(BEATS_LOST_MAX).max(1)
}

/// Enters what was changed, in the transaction that changes it.
pub(crate) async fn enter(session: &Session<'_>, turn: Turn, topics: &[Topic]) -> Outcome<()> {
    for (place, topic) in (0_i64..).zip(topics) {
        session.run(INSERT, &row(turn, place, topic)).await?;
    }
    Ok(())
}

/// One entry, of which it takes the [`row`].
pub(crate) const INSERT: &str =
    "INSERT INTO feed (writer, number, place, made_at, topic, subject) VALUES ($1, $2, $3, $4, $5, $6)";

/// The values of [`INSERT`] of what is entered at a place under the number of a turn.
pub(crate) fn row(turn: Turn, place: i64, topic: &Topic) -> Vec<Value> {
    let (topic, subject) = topic.to_columns();
    values![turn.writer.to_string(), bounded(turn.number), place, turn.made_at, topic, subject].to_vec()
}

/// Enters these numbers of a node, so that no attempt under them can commit any more; waits for those that are about to.
pub(crate) async fn settle(session: &Session<'_>, (node, numbers, at): &(NodeId, Vec<u64>, UnixTime)) -> Outcome<()> {
    let sql = "INSERT INTO feed (writer, number, place, made_at, topic, subject) SELECT CAST($1 AS TEXT), number, 0, \
        CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS TEXT) FROM UNNEST(CAST($5 AS BIGINT[])) AS unknown (number) \
        ON CONFLICT (writer, number, place) DO NOTHING";
    let (topic, subject) = Topic::Setting(NOTHING.to_owned()).to_columns();
    let mut row = values![node.to_string(), *at, topic, subject].to_vec();
    row.extend(columns(numbers.iter().map(|number| vec![bounded(*number).into()]))?);
    session.run(sql, &row).await.map(drop)
}

/// A beat, by whom, its number, and up to where all was settled before its transaction began.
pub(crate) type Beating = (Beat, NodeId, i64, u64);

/// See [`inborn_store::Store::beat`].
pub(crate) async fn beat(session: &Session<'_>, (beat, id, number, settled): &Beating) -> Outcome<()> {
    let sql = "INSERT INTO region_nodes (id, name, started_at, beaten_at, verifies, settled, forgotten, beats, address) \
        VALUES ($1, $2, $3, $3, $5, $4, 0, $6, $7) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
        address = excluded.address, beaten_at = excluded.beaten_at, verifies = excluded.verifies, settled = \
        CASE WHEN excluded.settled > region_nodes.settled THEN excluded.settled ELSE region_nodes.settled END, beats = \
        CASE WHEN excluded.beats > region_nodes.beats THEN excluded.beats ELSE region_nodes.beats END";
    let row = values![id.to_string(), &beat.name, beat.at, bounded(*settled), beat.verifies, *number, &beat.address];
    session.run(sql, row).await.map(drop)
}

/// See [`inborn_store::Store::has_forgotten`].
pub(crate) async fn has_forgotten(session: &Session<'_>, fence: &Fence) -> Outcome<bool> {
    let row = session.row("SELECT beats FROM region_nodes WHERE id = $1", values![fence.node.to_string()]).await?;
    let found: Option<i64> = row.map(|row| row.number("beats")).transpose()?;
    Ok(found.is_none_or(|found| found < least_known(bounded(fence.beats))))
}

/// See [`inborn_store::Store::news`]. All of one moment: an entry up to a settled number is seen with that number. `own` is what the
/// reader has to be told of its own, if it has a node.
pub(crate) async fn news(session: &Session<'_>, (heard, own): &(Heard, Option<Untold>)) -> Outcome<News> {
    let read = |row: &Row| {
        Ok(RegionNode {
            id: row.parsed("id")?,
            name: row.text("name")?,
            started_at: row.moment("started_at")?,
            beaten_at: row.moment("beaten_at")?,
            verifies: row.number("verifies")?,
            settled: row.number("settled")?,
            forgotten: row.number("forgotten")?,
            address: row.text("address")?,
        })
    };
    let sql =
        "SELECT id, name, started_at, beaten_at, verifies, settled, forgotten, address FROM region_nodes ORDER BY id";
    let mut nodes: Vec<RegionNode> = session.rows(sql, &[]).await?.iter().map(read).collect::<Outcome<_>>()?;
    // Its own may have been settled behind that since it was asked what has to be told.
    if let Some(own) = own
        && let Some(node) = nodes.iter_mut().find(|node| Some(node.id) == heard.except)
    {
        node.settled = node.settled.min(own.settled);
    }
    let mut writers = Vec::new();
    for node in &nodes {
        if Some(node.id) != heard.except {
            writers.push((node.id, heard.positions.get(&node.id).copied().unwrap_or_default()));
        }
    }
    let own = own.as_ref().map(|own| own.numbers.as_slice()).unwrap_or_default();
    if writers.is_empty() && own.is_empty() {
        return Ok(News::of(heard, nodes, Vec::new()));
    }
    let mut query = Query::new("SELECT writer, number, topic, subject FROM feed WHERE 1 = 0", &[]);
    for (writer, behind) in writers {
        let (writer, behind) = (query.value(writer.to_string()), query.value(bounded(behind)));
        query.push(&format!(" OR (writer = {writer} AND number > {behind})"));
    }
    if let (Some(id), Some(first)) = (heard.except, own.first()) {
        let id = query.value(id.to_string());
        query.push(&format!(" OR (writer = {id}"));
        if own.len() > OWN_MAX {
            let first = query.value(bounded(*first));
            query.push(&format!(" AND number >= {first}"));
        } else {
            let numbers = columns(own.iter().map(|number| vec![bounded(*number).into()]))?;
            query.push_part(" AND ", "number = ANY(CAST($1 AS BIGINT[]))", numbers, "");
        }
        query.push(")");
    }
    let limit = query.value(i64::try_from(News::ENTRIES_MAX).unwrap_or(i64::MAX).saturating_add(1));
    query.push(&format!(" ORDER BY writer, number, place LIMIT {limit}"));
    let read = |row: &Row| Ok((row.parsed("writer")?, row.number("number")?, row.text("topic")?, row.text("subject")?));
    let rows = query.rows(session).await?.iter().map(read).collect::<Outcome<_>>()?;
    Ok(News::of(heard, nodes, rows))
}

/// See [`inborn_store::Store::forget_news`].
pub(crate) async fn forget(
    session: &Session<'_>,
    (entries_before, nodes_before): &(UnixTime, UnixTime),
) -> Outcome<u64> {
    // What is not settled stays, while its node lives: readers have not heard all up to there, and what is still to come has an
    // old time.
    let doomed = "SELECT writer, MAX(number) AS number FROM feed WHERE made_at < $1 AND NOT EXISTS (SELECT 1 FROM region_nodes \
        WHERE region_nodes.id = feed.writer AND feed.number > region_nodes.settled AND region_nodes.beaten_at >= $2) GROUP BY writer";
    for row in session.rows(doomed, values![*entries_before, *nodes_before]).await? {
        let number: Value = row.number::<i64>("number")?.into();
        let sql = "UPDATE region_nodes SET forgotten = $2 WHERE id = $1 AND forgotten < $2";
        session.run(sql, &[row.text("writer")?.into(), number]).await?;
    }
    let old = "DELETE FROM feed WHERE made_at < $1 AND NOT EXISTS (SELECT 1 FROM region_nodes \
        WHERE region_nodes.id = feed.writer AND feed.number > region_nodes.settled AND region_nodes.beaten_at >= $2)";
    let forgotten = session.run(old, values![*entries_before, *nodes_before]).await?;
    let gone = "DELETE FROM region_nodes WHERE beaten_at < $1 \
        AND NOT EXISTS (SELECT 1 FROM feed WHERE feed.writer = region_nodes.id)";
    session.run(gone, values![*nodes_before]).await?;
    Ok(forgotten)
}

fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_may_have_forgotten_so_many_beats_and_no_more() {
        let node = Node::default();
        let begun = Instant::now();
        assert_eq!(node.beats_to_be_known(begun), None, "nothing was answered yet");
        assert_eq!([(); 30].map(|()| node.next_beat()), [1; 30], "one that is not answered counts for nothing");
        assert_eq!(node.beats_to_be_known(begun), None, "nor is it known whether it was");
        node.beat_answered(1, begun);
        assert_eq!(node.beats_to_be_known(begun), Some(1), "it must be known at all");
        assert_eq!((node.next_beat(), node.next_beat(), node.beats_answered()), (2, 2, Some(1)));
        node.beat_answered(BEATS_LOST_MAX + 1, begun);
        assert_eq!(node.beats_to_be_known(begun), Some(1));
        node.beat_answered(BEATS_LOST_MAX + 2, begun);
        assert_eq!(node.beats_to_be_known(begun), Some(2));
        node.beat_answered(BEATS_LOST_MAX, begun + Duration::from_secs(1));
        assert_eq!(node.beats_to_be_known(begun), Some(2), "answers come in any order");
        assert_eq!(node.beats_to_be_known(begun + REMEMBERED_FOR - Duration::from_millis(1)), Some(2));
        assert_eq!(node.beats_to_be_known(begun + REMEMBERED_FOR), None, "others may have removed the node");
        let later = begun + SAID_EVERY;
        let said = [begun, later - Duration::from_millis(1), later, later].map(|at| node.says_unknown(at));
        assert_eq!(said, [true, false, true, false]);
    }

    #[test]
    fn what_is_settled_ends_below_the_first_that_is_under_way() {
        let node = Arc::new(Node::default());
        assert!(node.begin().is_none(), "before the first beat");
        node.known(UnixTime::from_secs(1));
        assert_eq!(node.settled(), 0);
        let [first, second, third, fourth] = [(); 4].map(|()| node.begin().unwrap());
        assert_eq!(node.settled(), 0);
        second.over();
        assert_eq!(node.settled(), 0, "the first may still commit");
        first.over();
        assert_eq!(node.settled(), 2);
        assert!(node.settling().is_none(), "all others will say how they end");
        drop(third);
        fourth.over();
        assert_eq!(node.untold(2), Untold { numbers: vec![3], settled: 2 }, "however long it takes");
        let settling = node.settling().unwrap();
        assert_eq!(settling.numbers, [3]);
        assert!(node.settling().is_none(), "one is enough");
        drop(settling);
        assert_eq!(node.settled(), 2, "whoever did not find out has settled nothing");
        node.settling().unwrap().settled();
        assert_eq!(node.untold(2), Untold { numbers: vec![3], settled: 4 });
        assert_eq!(node.untold(3), Untold { numbers: vec![], settled: 4 });
        assert!(node.settling().is_none());
    }

    #[test]
    fn what_is_settled_at_once_below_at_and_above_the_most() {
        for (count, settled) in [(SETTLED_AT_ONCE - 1, 999), (SETTLED_AT_ONCE, 1000), (SETTLED_AT_ONCE + 1, 1000)] {
            let node = Arc::new(Node::default());
            node.known(UnixTime::from_secs(1));
            (0..count).for_each(|_| drop(node.begin().unwrap()));
            let settling = node.settling().unwrap();
            assert_eq!(settling.numbers, (1..=settled).collect::<Vec<u64>>());
            settling.settled();
            assert_eq!(node.settled(), settled);
            assert_eq!(node.untold(0).numbers.len(), count);
        }
    }
}

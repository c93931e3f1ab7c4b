//! Launches that wait at the same time are made durable together: one statement for all, and one wait for the disk.
//!
//! A launch that comes while others are under way waits until these are over, and goes with all that wait by then; one that finds
//! nobody under way goes at once. What is out of the ordinary (a token or an id that was used before, a host that takes nobody)
//! is refused by the statement as a whole. Then each half of them is tried, and so on; the one that is refused all by itself goes
//! by a transaction that finds out what to answer ([`instances::launch`]).

use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool_postgres::{ClientWrapper, Object, Pool};
use inborn_identity::{AccountId, HostId};
use inborn_store::{LaunchRequest, StoreError, Topic};
use tokio::sync::oneshot;
use tokio_postgres::Error;

use crate::fault::{self, Fault, Outcome};
use crate::feed::{self, Node, Turn};
use crate::hosts::FoundHost;
use crate::instances;
use crate::schema;
use crate::transaction::Query;
use crate::value::{Row, Value, columns, values};

/// Instances that are launched by one statement, unless a single launch has more: as many as one launch may have.
const INSTANCES_MAX: usize = LaunchRequest::INSTANCES_MAX;

/// Tokens, each of an account, a digest, and the reservation it stands for.
const NAME: &str = "INSERT INTO launches (account, client_token, fingerprint, reservation_id) \
    SELECT account, client_token, fingerprint, reservation_id FROM UNNEST(CAST($1 AS TEXT[]), CAST($2 AS TEXT[]), \
    CAST($3 AS BYTEA[]), CAST($4 AS TEXT[])) AS named (account, client_token, fingerprint, reservation_id)";

/// What is left to do for those who waited.
#[derive(Clone, Debug)]
pub(crate) enum Joined {
    /// It is launched.
    Launched,
    /// Nothing has happened: it has to go alone.
    Alone,
    /// There is no more to be had.
    Failed(StoreError),
}

/// The launches of one store.
pub(crate) struct Launches {
    pool: Pool,
    node: Arc<Node>,
    patience: Duration,
    /// What the database said of its last restore, as the store has it.
    filled: Arc<AtomicI64>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Whether somebody takes them out.
    is_served: bool,
}

struct Waiting {
    request: Arc<LaunchRequest>,
    told: oneshot::Sender<Joined>,
}

/// The turn of one who found nobody under way. Its end is the next turn, of those who have come meanwhile.
struct FirstTurn<'a>(&'a Arc<Launches>);

impl Drop for FirstTurn<'_> {
    fn drop(&mut self) {
        if self.0.is_waited_for() {
            // Apart from all callers, any of whom may go away while others wait for the same statement.
            tokio::spawn(Serving(Arc::clone(self.0)).serve());
        }
    }
}

/// Takes launches out for as long as there are any. Gone before that, it leaves nobody waiting.
struct Serving(Arc<Launches>);

impl Drop for Serving {
    fn drop(&mut self) {
        *self.0.queue() = Queue::default();
    }
}

/// Why a statement for several launches came to nothing.
enum Failure {
    /// Nothing of it has happened, by what one of the launches is.
    Refused,
    /// Nothing of it has happened, by what the database is.
    Failed(StoreError),
    /// Nobody knows what has happened.
    Unknown(StoreError),
}

impl Launches {
    pub(crate) fn new(pool: Pool, node: Arc<Node>, patience: Duration, filled: Arc<AtomicI64>) -> Arc<Self> {
        Arc::new(Self { pool, node, patience, filled, queue: Mutex::default() })
    }

    /// Waits for others who are under way, then for the launch.
    pub(crate) async fn join(self: &Arc<Self>, request: Arc<LaunchRequest>) -> Joined {
        let Some(answer) = self.enter(&request) else {
            let _turn = FirstTurn(self);
            return match self.make(&[&request]).await {
                Ok(()) => Joined::Launched,
                Err(Failure::Refused) => Joined::Alone,
                Err(Failure::Failed(error) | Failure::Unknown(error)) => Joined::Failed(error),
            };
        };
        let broken_off = || StoreError::Io("the launch was broken off; it may have taken effect".to_owned());
        answer.await.unwrap_or_else(|_| Joined::Failed(broken_off()))
    }

    /// A place among those who wait; `None` if there is nobody to wait for.
    fn enter(&self, request: &Arc<LaunchRequest>) -> Option<oneshot::Receiver<Joined>> {
        let mut queue = self.queue();
        if !core::mem::replace(&mut queue.is_served, true) {
            return None;
        }
        let (told, answer) = oneshot::channel();
        queue.waiting.push_back(Waiting { request: Arc::clone(request), told });
        Some(answer)
    }

    /// Whether somebody waits; if not, the next one finds nobody under way.
    fn is_waited_for(&self) -> bool {
        let mut queue = self.queue();
        queue.is_served = !queue.waiting.is_empty();
        queue.is_served
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who goes next; nobody, and from now on nobody takes them out.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        let together = together(&mut queue.waiting);
        queue.is_served = !together.is_empty();
        queue.is_served.then_some(together)
    }

    /// Launches all of them, or tells each what it has to do.
    async fn launch(&self, group: Vec<Waiting>) {
        let mut parts = vec![group];
        while let Some(mut part) = parts.pop() {
            let requests: Vec<&LaunchRequest> = part.iter().map(|waiting| &*waiting.request).collect();
            match self.make(&requests).await {
                Ok(()) => tell(part, &Joined::Launched),
                Err(Failure::Failed(error) | Failure::Unknown(error)) => tell(part, &Joined::Failed(error)),
                Err(Failure::Refused) if part.len() > 1 => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Err(Failure::Refused) => tell(part, &Joined::Alone),
            }
        }
    }

    /// Launches all of them or none.
    async fn make(&self, requests: &[&LaunchRequest]) -> Result<(), Failure> {
        let client = self.pool.get().await.map_err(|error| Failure::Failed(fault::from_pool(&error)))?;
        let running = self.node.begin(self.patience);
        let turn = running.as_ref().map(|running| running.turn);
        let making = make(&client, requests, turn, self.filled.load(Ordering::SeqCst));
        let made = tokio::time::timeout(self.patience, making).await.unwrap_or_else(|_| {
            let why = "the database did not answer in time; the write may have taken effect";
            Err(Failure::Unknown(StoreError::Io(why.to_owned())))
        });
        if matches!(made, Err(Failure::Unknown(_))) {
            // Nor what is still on its way on this connection.
            drop(Object::take(client));
        } else if let Some(running) = running {
            running.over();
        }
        made
    }
}

impl Serving {
    async fn serve(self) {
        while let Some(group) = self.0.next() {
            self.0.launch(group).await;
        }
    }
}

/// Who has gone away need not be told.
fn tell(group: Vec<Waiting>, what: &Joined) {
    for waiting in group {
        let _ = waiting.told.send(what.clone());
    }
}

/// Takes out those that go together: in their order, no two with one token, and no more than fit. Who has gone away before its
/// turn goes with nobody.
fn together(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    waiting.retain(|waiting| !waiting.told.is_closed());
    let mut group: Vec<Waiting> = Vec::new();
    let mut instances = 0;
    let mut tokens: HashSet<(AccountId, String)> = HashSet::new();
    while let Some(next) = waiting.front() {
        let request = &next.request;
        instances += request.instances.len();
        let token = request.client_token.as_ref().map(|token| (request.account, token.clone()));
        let fits = group.is_empty() || instances <= INSTANCES_MAX;
        if !fits || !token.is_none_or(|token| tokens.insert(token)) {
            break;
        }
        group.extend(waiting.pop_front());
    }
    group
}

/// Launches all of them or none.
async fn make(
    client: &ClientWrapper,
    requests: &[&LaunchRequest],
    turn: Option<Turn>,
    filled: i64,
) -> Result<(), Failure> {
    let hosts = hosts_of(client, requests).await.map_err(nothing_happened)?;
    let takes = |id: HostId, account| hosts.iter().any(|found| found.host.id == id && found.host.takes(account));
    if !requests.iter().all(|request| named(request).all(|id| takes(id, request.account))) {
        return Err(Failure::Refused);
    }
    let (sql, values) = statement(requests, &hosts, turn, filled).map_err(nothing_happened)?.into_parts();
    let prepared = client.prepare_cached(&sql).await;
    let prepared = prepared.map_err(|error| nothing_happened(fault::from_statement(&error)))?;
    let values: Vec<_> = values.iter().map(Value::as_sql).collect();
    client.query(&prepared, &values).await.map(drop).map_err(|error| why(&error))
}

/// What would be tried again is: by each of them, on another connection.
fn nothing_happened(fault: Fault) -> Failure {
    match fault {
        Fault::Again(_) => Failure::Refused,
        Fault::Final(error) => Failure::Failed(error),
    }
}

/// Why the statement did not come to its end. It is its own transaction: beyond a refusal that says so, nobody knows whether that
/// was committed.
fn why(error: &Error) -> Failure {
    let Some(code) = error.code().filter(|code| !fault::is_interruption(code)) else {
        return Failure::Unknown(StoreError::Io(format!("{}; the launch may have taken effect", fault::says(error))));
    };
    match code.code().as_bytes() {
        // A value that it cannot take (as the nought by which it divides if the database is another), a constraint, another
        // transaction in the way, a text that is too long for an index.
        [b'2', b'2' | b'3', ..] | [b'4', b'0', ..] | [b'5', b'4', ..] => Failure::Refused,
        _ => nothing_happened(fault::from_statement(error)),
    }
}

/// The hosts that a launch names.
fn named(request: &LaunchRequest) -> impl Iterator<Item = HostId> {
    request.instances.iter().filter_map(|instance| instance.host)
}

/// The hosts that the launches name, as they are. The statement finds out by itself if one is another by then.
async fn hosts_of(client: &ClientWrapper, requests: &[&LaunchRequest]) -> Outcome<Vec<FoundHost>> {
    let ids: BTreeSet<HostId> = requests.iter().flat_map(|request| named(request)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let prepared = client.prepare_cached(FoundHost::SELECT).await.map_err(|error| fault::from_statement(&error))?;
    let ids = Value::all(ids);
    let rows = client.query(&prepared, &[ids.as_sql()]).await.map_err(|error| fault::from_statement(&error))?;
    rows.into_iter().map(|row| FoundHost::read(&Row(row))).collect()
}

/// All that is written of these launches, in one statement, which fails as a whole if the database is not the one that was
/// opened (see [`schema::must_be_as_opened`]) or a host is no longer what was found.
fn statement(requests: &[&LaunchRequest], hosts: &[FoundHost], turn: Option<Turn>, filled: i64) -> Outcome<Query> {
    let instances = || requests.iter().flat_map(|request| &request.instances);
    let mut query = Query::new("", &[]);
    let launched = columns(instances().map(instances::row))?;
    query.push_part("WITH launched AS (", instances::INSERT, launched, " RETURNING id)");
    let named = columns(requests.iter().filter_map(|request| name(request)))?;
    query.push_part(", named AS (", NAME, named, " RETURNING reservation_id)");
    let user_data = columns(instances().filter_map(instances::user_data))?;
    query.push_part(", filled_in AS (", instances::INSERT_USER_DATA, user_data, " RETURNING instance_id)");
    let tags = columns(instances().flat_map(instances::tags))?;
    query.push_part(", tagged AS (", instances::INSERT_TAGS, tags, " RETURNING instance_id)");
    if let Some(turn) = turn {
        let topic = Topic::Instances(instances().map(|instance| instance.id).collect());
        query.push_part(", entered AS (", feed::INSERT, feed::row(turn, 0, &topic), " RETURNING number)");
    }
    let claimed = columns(hosts.iter().map(FoundHost::row))?;
    query.push_part(", claimed AS (", FoundHost::CLAIM, claimed, " RETURNING hosts.id)");
    // There is no other way to end a statement by a condition that all three databases have.
    query.push_part(
        "",
        " SELECT 1 / COUNT(1) FROM schema_version WHERE one = 1 AND filled = $1 AND usable_from <= $2",
        values![filled, schema::known()].to_vec(),
        "",
    );
    if !hosts.is_empty() {
        let sql = " AND (SELECT COUNT(1) FROM claimed) = $1";
        query.push_part("", sql, values![i64::try_from(hosts.len()).unwrap_or(i64::MAX)].to_vec(), "");
    }
    Ok(query)
}

/// The values of [`NAME`].
fn name(request: &LaunchRequest) -> Option<Vec<Value>> {
    let token = request.client_token.as_ref()?;
    let fingerprint = request.fingerprint.as_slice();
    Some(values![request.account.to_string(), token, fingerprint, &request.reservation_id].to_vec())
}

#[cfg(test)]
mod tests {
    use inborn_store::conformance::samples::{bare, launch, launch_with_token};

    use super::*;

    type Answer = oneshot::Receiver<Joined>;

    fn waiting(request: LaunchRequest) -> (Waiting, Answer) {
        let (told, answer) = oneshot::channel();
        (Waiting { request: Arc::new(request), told }, answer)
    }

    /// How many launches go in each turn.
    fn turns(requests: Vec<LaunchRequest>) -> Vec<usize> {
        let (mut queue, _answers): (VecDeque<_>, Vec<_>) = requests.into_iter().map(waiting).unzip();
        let mut turns = Vec::new();
        while !queue.is_empty() {
            turns.push(together(&mut queue).len());
        }
        turns
    }

    #[test]
    fn those_go_together_that_fit() {
        let of = |count: usize| launch((0..).take(count).map(bare).collect());
        assert_eq!(turns(vec![of(1); 3]), [3]);
        assert_eq!(turns(vec![of(INSTANCES_MAX - 2), of(1)]), [2], "below");
        assert_eq!(turns(vec![of(INSTANCES_MAX - 1), of(1)]), [2], "at");
        assert_eq!(turns(vec![of(INSTANCES_MAX), of(1)]), [1, 1], "above");
        assert_eq!(turns(vec![of(1); INSTANCES_MAX + 1]), [INSTANCES_MAX, 1]);
    }

    #[test]
    fn no_two_with_one_token_go_together() {
        let named = |number, token| launch_with_token(vec![bare(number)], token, 1);
        assert_eq!(turns(vec![named(1, "a"), named(2, "b"), named(3, "a"), named(4, "b")]), [2, 2]);
        let other = {
            let mut other = named(3, "a");
            other.account = inborn_store::conformance::samples::other_account();
            other
        };
        assert_eq!(turns(vec![named(1, "a"), other]), [2], "a token is its account's own");
    }

    #[test]
    fn who_has_gone_away_is_not_launched() {
        let named = |number| waiting(launch_with_token(vec![bare(number)], "token", 1));
        let ((first, gone), (second, _answer), (third, gone_too)) = (named(1), named(2), named(3));
        drop((gone, gone_too));
        let mut queue = VecDeque::from([first, second, third]);
        let ids: Vec<_> = together(&mut queue).iter().map(|next| next.request.instances[0].id).collect();
        assert_eq!(ids, [bare(2).id], "nor does its token count");
        assert!(queue.is_empty());
    }

    /// A store whose database is not there.
    fn without_database() -> Arc<Launches> {
        let address = crate::address::Address::parse("postgres://nobody@127.0.0.1:1/none").unwrap();
        let pool = crate::pool::new(address, &crate::PostgresOptions::default()).unwrap();
        Launches::new(pool, Arc::default(), Duration::from_secs(1), Arc::default())
    }

    #[tokio::test]
    async fn who_goes_away_leaves_its_turn_to_those_who_wait() {
        let launches = without_database();
        let request = || Arc::new(launch(vec![bare(1)]));
        let mut first = Box::pin(launches.join(request()));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(launches.join(request()));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let joined = second.await;
        assert!(matches!(joined, Joined::Failed(StoreError::Unavailable(_))), "{joined:?}");
        // The one that served the second goes after it has told it.
        while launches.queue().is_served {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_waits_for_nobody_is_told() {
        let launches = without_database();
        let (one, answer) = waiting(launch(vec![bare(1)]));
        *launches.queue() = Queue { waiting: [one].into(), is_served: true };
        drop(Serving(Arc::clone(&launches)));
        answer.await.unwrap_err();
        assert!(!launches.queue().is_served, "the next one is served again");
        let joined = launches.join(Arc::new(launch(vec![bare(1)]))).await;
        assert!(matches!(joined, Joined::Failed(StoreError::Unavailable(_))), "{joined:?}");
    }

    #[test]
    fn a_statement_says_what_there_is_to_say() {
        let sql = |request: &LaunchRequest| statement(&[request], &[], None, 7).unwrap().into_parts();
        let (plain, values) = sql(&launch(vec![bare(1)]));
        assert_eq!(values.len(), 33, "31 columns, and what the database has to be");
        assert!(plain.ends_with("WHERE one = 1 AND filled = $32 AND usable_from <= $33"), "{plain}");
        let full = launch_with_token(vec![inborn_store::conformance::samples::full(1)], "token", 1);
        let (all, values) = sql(&full);
        assert_eq!(values.len(), 33 + 4 + 2 + 3);
        for table in ["instances (", "launches (", "instance_user_data (", "instance_tags ("] {
            assert!(all.contains(&format!("INSERT INTO {table}")), "{table}");
            assert_eq!(plain.contains(&format!("INSERT INTO {table}")), table == "instances (");
        }
    }
}

//! Launches that wait at the same time are made durable together: one statement for all, and one wait for the disk.
//!
//! A launch that comes while others on the same hosts are under way waits until these are over, and goes with all that wait by then;
//! one that finds nobody under way goes at once. What is out of the ordinary (a token or an id that was used before, a host that takes
//! nobody) is refused by the statement as a whole. Then each half is tried, and so on; who is refused all by itself, or after so
//! many tries, goes by a transaction that finds out what to answer ([`instances::launch`]).

use core::sync::atomic::{AtomicI64, Ordering};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool_postgres::{ClientWrapper, Object, Pool};
use inborn_identity::{AccountId, HostId};
use inborn_store::{LaunchRequest, StoreError, Topic};
use tokio::runtime::Handle;
use tokio::sync::{OwnedRwLockReadGuard, oneshot};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::fault::{self, Fault, Outcome};
use crate::feed::{self, Node, Turn};
use crate::hosts::FoundHost;
use crate::instances;
use crate::pool::PostgresOptions;
use crate::schema;
use crate::transaction::Query;
use crate::value::{Row, Value, columns, values};

/// Instances that are launched by one statement, unless a single launch has more: as many as one launch may have.
const INSTANCES_MAX: usize = LaunchRequest::INSTANCES_MAX;
/// Statements of one turn. Enough to find one or two that are out of the ordinary among a thousand; with more of them there is
/// nothing to be won.
const STATEMENTS_MAX: usize = 24;

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
    options: PostgresOptions,
    /// What the database said of its last restore, as the store has it.
    filled: Arc<AtomicI64>,
    /// Of each set of hosts on which something is under way, who waits for it: a host that cannot be had keeps out its own machines
    /// alone.
    queues: Mutex<HashMap<Hosts, VecDeque<Waiting>>>,
}

/// The hosts that a launch names.
type Hosts = BTreeSet<HostId>;

/// What keeps the store from being closed.
pub(crate) type OnTheWay = OwnedRwLockReadGuard<()>;

struct Waiting {
    request: Arc<LaunchRequest>,
    told: oneshot::Sender<Joined>,
    /// Also of a caller who has gone away.
    _on_the_way: OnTheWay,
}

/// The turn of one who found nobody under way. Its end is the next turn, of those who have come meanwhile.
struct FirstTurn<'a> {
    launches: &'a Arc<Launches>,
    hosts: Option<Hosts>,
}

impl Drop for FirstTurn<'_> {
    fn drop(&mut self) {
        let Some(hosts) = self.hosts.take().filter(|hosts| self.launches.is_waited_for(hosts)) else { return };
        let serving = Serving { launches: Arc::clone(self.launches), hosts: Some(hosts) };
        // Apart from all callers, any of whom may go away while others wait for the same statement. Without a runtime there is nobody
        // who could wait.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(serving.serve());
        }
    }
}

/// Takes launches out for as long as there are any. Gone before that, it leaves nobody waiting.
struct Serving {
    launches: Arc<Launches>,
    /// `None` once there are none: what comes then is not its own.
    hosts: Option<Hosts>,
}

impl Serving {
    async fn serve(mut self) {
        while let Some(group) = self.next() {
            self.launches.launch(group).await;
        }
    }

    /// Who goes next.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let group = self.launches.next(self.hosts.as_ref()?);
        if group.is_none() {
            self.hosts = None;
        }
        group
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(hosts) = self.hosts.take() {
            self.launches.queues().remove(&hosts);
        }
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
    pub(crate) fn new(pool: Pool, node: Arc<Node>, options: PostgresOptions, filled: Arc<AtomicI64>) -> Arc<Self> {
        Arc::new(Self { pool, node, options, filled, queues: Mutex::default() })
    }

    /// Waits for others who are under way on the same hosts, then for the launch.
    pub(crate) async fn join(self: &Arc<Self>, request: Arc<LaunchRequest>, on_the_way: OnTheWay) -> Joined {
        let hosts: Hosts = named(&request).collect();
        let mut answer = match self.enter(&hosts, &request, on_the_way) {
            Ok(answer) => answer,
            Err(_on_the_way) => {
                let _turn = FirstTurn { launches: self, hosts: Some(hosts) };
                return match self.make(&[&request]).await {
                    Ok(()) => Joined::Launched,
                    Err(Failure::Refused) => Joined::Alone,
                    Err(Failure::Failed(error) | Failure::Unknown(error)) => Joined::Failed(error),
                };
            }
        };
        let in_time = tokio::time::timeout(self.options.wait, &mut answer).await;
        let answered = match in_time {
            Err(_) if self.leave(&hosts, &request) => return Joined::Failed(StoreError::Busy),
            Err(_) => answer.await,
            Ok(answered) => answered,
        };
        let broken_off = || StoreError::Io("the launch was broken off; it may have taken effect".to_owned());
        answered.unwrap_or_else(|_| Joined::Failed(broken_off()))
    }

    /// A place among those who wait.
    ///
    /// # Errors
    /// There is nobody to wait for.
    fn enter(
        &self,
        hosts: &Hosts,
        request: &Arc<LaunchRequest>,
        on_the_way: OnTheWay,
    ) -> Result<oneshot::Receiver<Joined>, OnTheWay> {
        let mut queues = self.queues();
        let Some(waiting) = queues.get_mut(hosts) else {
            queues.insert(hosts.clone(), VecDeque::new());
            return Err(on_the_way);
        };
        let (told, answer) = oneshot::channel();
        waiting.push_back(Waiting { request: Arc::clone(request), told, _on_the_way: on_the_way });
        Ok(answer)
    }

    /// Takes a launch back that waits; `false`: it is under way.
    fn leave(&self, hosts: &Hosts, request: &Arc<LaunchRequest>) -> bool {
        let mut queues = self.queues();
        let Some(waiting) = queues.get_mut(hosts) else { return false };
        let place = waiting.iter().position(|waiting| Arc::ptr_eq(&waiting.request, request));
        place.and_then(|place| waiting.remove(place)).is_some()
    }

    /// Whether somebody waits; if not, the next one finds nobody under way.
    fn is_waited_for(&self, hosts: &Hosts) -> bool {
        let mut queues = self.queues();
        let is_waited_for = queues.get(hosts).is_some_and(|waiting| !waiting.is_empty());
        if !is_waited_for {
            queues.remove(hosts);
        }
        is_waited_for
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<Hosts, VecDeque<Waiting>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who goes next; nobody, and from now on nobody takes them out.
    fn next(&self, hosts: &Hosts) -> Option<Vec<Waiting>> {
        let mut queues = self.queues();
        let group = together(queues.get_mut(hosts)?);
        if group.is_empty() {
            queues.remove(hosts);
            return None;
        }
        Some(group)
    }

    /// Launches all of them, or tells each what it has to do.
    async fn launch(&self, group: Vec<Waiting>) {
        let mut statements = 0;
        let mut parts = vec![group];
        while let Some(mut part) = parts.pop() {
            statements += 1;
            let requests: Vec<&LaunchRequest> = part.iter().map(|waiting| &*waiting.request).collect();
            match self.make(&requests).await {
                Ok(()) => tell(part, &Joined::Launched),
                Err(Failure::Unknown(error)) => tell(part, &Joined::Failed(error)),
                Err(Failure::Failed(error)) if part.len() == 1 => tell(part, &Joined::Failed(error)),
                Err(Failure::Refused) if part.len() > 1 && statements < STATEMENTS_MAX => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                // What fails for all may be one's own: its user data have no room, its host cannot be read.
                Err(Failure::Refused | Failure::Failed(_)) => tell(part, &Joined::Alone),
            }
        }
    }

    /// Launches all of them or none.
    async fn make(&self, requests: &[&LaunchRequest]) -> Result<(), Failure> {
        let client = self.pool.get().await.map_err(|error| Failure::Failed(fault::from_pool(&error)))?;
        let running = self.node.begin();
        let turn = running.as_ref().map(|running| running.turn);
        let making = make(&client, requests, turn, self.filled.load(Ordering::SeqCst));
        let made = tokio::time::timeout(self.options.patience(), making).await.unwrap_or_else(|_| {
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

/// Who has gone away need not be told.
fn tell(group: Vec<Waiting>, what: &Joined) {
    for waiting in group {
        let _ = waiting.told.send(what.clone());
    }
}

/// Takes out those that go together: in their order, and no more than fit. Of several with one token the first goes, and the
/// others wait for its end. Who has gone away before its turn goes with nobody.
fn together(waiting: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    waiting.retain(|waiting| !waiting.told.is_closed());
    let mut group: Vec<Waiting> = Vec::new();
    let mut later = VecDeque::new();
    let mut instances = 0;
    let mut tokens: HashSet<(AccountId, String)> = HashSet::new();
    while let Some(next) = waiting.pop_front() {
        let request = &next.request;
        let token = request.client_token.as_ref().map(|token| (request.account, token.clone()));
        if !group.is_empty() && instances + request.instances.len() > INSTANCES_MAX {
            later.push_back(next);
            break;
        }
        if token.is_none_or(|token| tokens.insert(token)) {
            instances += request.instances.len();
            group.push(next);
        } else {
            later.push_back(next);
        }
    }
    later.append(waiting);
    *waiting = later;
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

/// Why the statement did not come to its end.
fn why(error: &Error) -> Failure {
    match error.code().map(meaning) {
        Some(Meaning::Refusal) => Failure::Refused,
        Some(Meaning::Lack) => nothing_happened(fault::from_statement(error)),
        Some(Meaning::None) | None => {
            Failure::Unknown(StoreError::Io(format!("{}; the launch may have taken effect", fault::says(error))))
        }
    }
}

/// What a code says of a statement that is its own transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    /// It was rolled back by what is in it, or by another transaction in its way.
    Refusal,
    /// It was rolled back, and the database lacks something.
    Lack,
    /// Nothing: an end may have been under way. Of a statement that took too long, too: not every one of the three databases knows then
    /// whether it had ended.
    None,
}

fn meaning(code: &SqlState) -> Meaning {
    match code {
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => Meaning::Refusal,
        &SqlState::READ_ONLY_SQL_TRANSACTION | &SqlState::DISK_FULL => Meaning::Lack,
        // A value that it cannot take (as the nought by which it divides if the database is another), a constraint, a text that is too
        // long for an index.
        code if ["22", "23", "54"].iter().any(|class| code.code().starts_with(class)) => Meaning::Refusal,
        _ => Meaning::None,
    }
}

/// The hosts that a launch names.
fn named(request: &LaunchRequest) -> impl Iterator<Item = HostId> {
    request.instances.iter().filter_map(|instance| instance.host)
}

/// The hosts that the launches name, as they are. The statement finds out by itself if one is another by then.
async fn hosts_of(client: &ClientWrapper, requests: &[&LaunchRequest]) -> Outcome<Vec<FoundHost>> {
    let ids: Hosts = requests.iter().flat_map(|request| named(request)).collect();
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
    use core::time::Duration;

    use inborn_store::conformance::samples::{bare, full, host_id, launch, launch_with_token, other_account};
    use tokio::sync::RwLock;

    use super::*;

    type Answer = oneshot::Receiver<Joined>;

    fn on_the_way() -> OnTheWay {
        Arc::new(RwLock::new(())).try_read_owned().unwrap()
    }

    fn waiting(request: LaunchRequest) -> (Waiting, Answer) {
        let (told, answer) = oneshot::channel();
        (Waiting { request: Arc::new(request), told, _on_the_way: on_the_way() }, answer)
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
        assert_eq!(turns(vec![named(1, "a"), named(2, "a"), named(3, "b"), named(4, "a")]), [2, 1, 1]);
        let mut others = named(3, "a");
        others.account = other_account();
        assert_eq!(turns(vec![named(1, "a"), others]), [2], "a token is its account's own");
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
    fn without_database(wait: Duration) -> Arc<Launches> {
        let address = crate::address::Address::parse("postgres://nobody@127.0.0.1:1/none").unwrap();
        let options = PostgresOptions { wait, ..PostgresOptions::default() };
        let pool = crate::pool::new(address, &options).unwrap();
        Launches::new(pool, Arc::default(), options, Arc::default())
    }

    fn request() -> Arc<LaunchRequest> {
        Arc::new(launch(vec![bare(1)]))
    }

    #[tokio::test]
    async fn who_goes_away_leaves_its_turn_to_those_who_wait() {
        let launches = without_database(Duration::from_secs(60));
        let mut first = Box::pin(launches.join(request(), on_the_way()));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(launches.join(request(), on_the_way()));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let joined = second.await;
        assert!(matches!(joined, Joined::Failed(StoreError::Unavailable(_))), "{joined:?}");
        // The one that served the second goes after it has told it.
        while !launches.queues().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_long_enough_is_not_launched() {
        let launches = without_database(Duration::from_secs(5));
        let hosts = Hosts::new();
        launches.queues().insert(hosts.clone(), VecDeque::new());
        let joined = launches.join(request(), on_the_way()).await;
        assert!(matches!(joined, Joined::Failed(StoreError::Busy)), "{joined:?}");
        assert_eq!(launches.queues().get(&hosts).map(VecDeque::len), Some(0), "it is not to be taken out later");
    }

    #[tokio::test]
    async fn machines_of_one_host_do_not_wait_for_those_of_another() {
        let launches = without_database(Duration::from_secs(60));
        launches.queues().insert(Hosts::from([host_id(1)]), VecDeque::new());
        let on_host = |number| {
            let instance = inborn_store::Instance { host: Some(host_id(number)), ..bare(1) };
            Arc::new(launch(vec![instance]))
        };
        let mut waits = Box::pin(launches.join(on_host(1), on_the_way()));
        assert!(futures_util::poll!(&mut waits).is_pending());
        let joined = launches.join(on_host(2), on_the_way()).await;
        assert!(matches!(joined, Joined::Failed(StoreError::Unavailable(_))), "{joined:?}");
        assert!(futures_util::poll!(&mut waits).is_pending());
    }

    #[tokio::test]
    async fn who_serves_leaves_nobody_waiting_and_nobody_elses_alone() {
        let launches = without_database(Duration::from_secs(60));
        let hosts = Hosts::new();
        let serving = || Serving { launches: Arc::clone(&launches), hosts: Some(hosts.clone()) };
        let (one, answer) = waiting(launch(vec![bare(1)]));
        launches.queues().insert(hosts.clone(), [one].into());
        drop(serving());
        answer.await.unwrap_err();
        assert!(launches.queues().is_empty(), "the next one finds nobody under way");

        launches.queues().insert(hosts.clone(), VecDeque::new());
        let mut done = serving();
        assert!(done.next().is_none());
        let (one, _answer) = waiting(launch(vec![bare(1)]));
        launches.queues().insert(hosts.clone(), [one].into());
        drop(done);
        assert_eq!(launches.queues().get(&hosts).map(VecDeque::len), Some(1), "it came after its end");
    }

    #[test]
    fn what_codes_say_of_a_statement() {
        let refused = ["22012", "23505", "23503", "23514", "40001", "40P01", "54000"];
        let lacking = ["25006", "53100"];
        let nothing = ["40003", "57014", "57P01", "08006", "XX000", "53300", "55P03", "42601"];
        for (codes, expected) in
            [(&refused[..], Meaning::Refusal), (&lacking[..], Meaning::Lack), (&nothing[..], Meaning::None)]
        {
            for code in codes {
                assert_eq!(meaning(&SqlState::from_code(code)), expected, "{code}");
            }
        }
    }

    #[test]
    fn a_statement_says_what_there_is_to_say() {
        let sql = |request: &LaunchRequest| statement(&[request], &[], None, 7).unwrap().into_parts();
        let (plain, values) = sql(&launch(vec![bare(1)]));
        assert_eq!(values.len(), 33, "31 columns, and what the database has to be");
        assert!(plain.ends_with("WHERE one = 1 AND filled = $32 AND usable_from <= $33"), "{plain}");
        let (all, values) = sql(&launch_with_token(vec![full(1)], "token", 1));
        assert_eq!(values.len(), 33 + 4 + 2 + 3);
        for table in ["instances (", "launches (", "instance_user_data (", "instance_tags ("] {
            assert!(all.contains(&format!("INSERT INTO {table}")), "{table}");
            assert_eq!(plain.contains(&format!("INSERT INTO {table}")), table == "instances (");
        }
    }
}

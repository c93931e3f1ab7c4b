//! Launches that wait at the same time are made durable together: one statement for all, and one wait for the disk.
//!
//! A launch that comes while others on the same hosts are under way waits until these are over, and goes with all that wait by then;
//! one that finds nobody under way goes at once. What is out of the ordinary (a token or an id that was used before, a host that takes
//! nobody) is refused by the statement as a whole. Then one transaction reads what there is against each of them, answers those
//! (`answers`), and the others go again. If nothing is found, each half is tried, and so on; who is refused all by itself, or after so
//! many tries, goes by a transaction that finds out what to answer ([`crate::instances::launch`]).
//!
//! Of a connection that ended before it answered nobody knows what has happened. A launch's ids are its own and used once, so it may be
//! tried again by a transaction, over another connection: [`crate::instances::launch_again`].

mod answers;
mod statement;

use core::sync::atomic::{AtomicI64, Ordering};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deadpool_postgres::{Object, Pool};
use inborn_identity::{AccountId, HostId};
use inborn_store::{LaunchOutcome, LaunchRequest, StoreError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedRwLockReadGuard, oneshot};

use self::answers::Asked;
pub(crate) use self::answers::is_taken_by_another;
use self::statement::{Failure, make};
use crate::fault;
use crate::feed::Node;
use crate::pool::PostgresOptions;
use crate::transaction::{self, Access, Task};

/// Instances that are launched by one statement, unless a single launch has more: as many as one launch may have.
const INSTANCES_MAX: usize = LaunchRequest::INSTANCES_MAX;
/// Statements of one turn. Enough to find one or two among a thousand that are refused for what could not be read (two that want one
/// attachment at the same time, say); with more of them there is nothing to be won.
const STATEMENTS_MAX: usize = 24;

/// What is left to do for those who waited.
#[derive(Clone, Debug)]
pub(crate) enum Joined {
    /// It is launched.
    Launched,
    /// It was answered without being launched.
    Answered(LaunchOutcome),
    /// Nothing has happened: it has to go alone.
    Alone,
    /// The connection has ended, and it may be launched: it has to go alone, as one that was tried before.
    Again,
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
                    Err(Failure::Broken) => Joined::Again,
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
        let (mut statements, mut is_read) = (0, false);
        let mut parts = vec![group];
        while let Some(part) = parts.pop() {
            statements += 1;
            let requests: Vec<&LaunchRequest> = part.iter().map(|waiting| &*waiting.request).collect();
            match self.make(&requests).await {
                Ok(()) => tell(part, &Joined::Launched),
                Err(Failure::Unknown(error)) => tell(part, &Joined::Failed(error)),
                Err(Failure::Broken) => tell(part, &Joined::Again),
                Err(Failure::Failed(error)) if part.len() == 1 => tell(part, &Joined::Failed(error)),
                Err(Failure::Refused) if part.len() > 1 && !is_read => {
                    is_read = true;
                    let all = part.len();
                    let left = self.answer(part).await;
                    match left.len() {
                        0 => {}
                        some if some < all => parts.push(left),
                        _ => parts.extend(halves(left)),
                    }
                }
                Err(Failure::Refused) if part.len() > 1 && statements < STATEMENTS_MAX => parts.extend(halves(part)),
                // What fails for all may be one's own: its user data have no room, its host cannot be read.
                Err(Failure::Refused | Failure::Failed(_)) => tell(part, &Joined::Alone),
            }
        }
    }

    /// Answers those who are out of the ordinary by what one transaction reads; gives the others.
    async fn answer(&self, part: Vec<Waiting>) -> Vec<Waiting> {
        let requests = part.iter().map(|waiting| Arc::clone(&waiting.request)).collect();
        let filled = self.filled.load(Ordering::SeqCst);
        let asked = Asked { requests, filled };
        let task = Task {
            access: Access::Read,
            request: &asked,
            work: |session, asked| Box::pin(answers::read(session, asked)),
            told: None,
            filled,
        };
        // What could not be read was not answered: each of them finds out by itself.
        let Ok(answers) = transaction::transact(&self.pool, self.options.patience(), &task).await else { return part };
        let mut left = Vec::new();
        for (waiting, answer) in part.into_iter().zip(answers) {
            match answer {
                None => left.push(waiting),
                Some(Ok(outcome)) => tell(vec![waiting], &Joined::Answered(outcome)),
                Some(Err(conflict)) => tell(vec![waiting], &Joined::Failed(conflict.into())),
            }
        }
        left
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
        if matches!(made, Err(Failure::Unknown(_) | Failure::Broken)) {
            // Nor what is still on its way on this connection.
            drop(Object::take(client));
        } else if let Some(running) = running {
            running.over();
        }
        made
    }
}

/// The first half goes first: it is the last one.
fn halves(mut part: Vec<Waiting>) -> [Vec<Waiting>; 2] {
    let second = part.split_off(part.len() / 2);
    [second, part]
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

/// The hosts that a launch names.
fn named(request: &LaunchRequest) -> impl Iterator<Item = HostId> {
    request.instances.iter().filter_map(|instance| instance.host)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use inborn_store::conformance::samples::{bare, host_id, launch, launch_with_token, other_account};
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
}

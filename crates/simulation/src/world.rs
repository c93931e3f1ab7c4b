//! One simulation: what there is, how it begins and how it ends.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;

use inborn_host_agent::Dice;
use inborn_identity::{Clock, HostId, UnixTime};
use inborn_region::StalePolicy;
use inborn_store::{HostState, Instance, InstanceQuery, QuarantineScope, SealedEpoch, SqliteStore, Store as _};
use inborn_testkit::{Fate as StoreFate, FaultyStore, LateChanges, Link, Passage};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::call::{Reply, Signer, call};
use crate::clock::{Clocks, SimulatedClock};
use crate::disk::{Disks, part_of};
use crate::host::{Host, Seeded};
use crate::line::{CALLERS, Fate, Losses, Messages};
use crate::oracle::{Oracle, Summary};
use crate::quarantine::Hands;
use crate::server::{Running, Server};
use crate::{epochs, host, late, machine, operator, trouble};

/// The accounts that machines are of: the region's own, and another.
pub(crate) const ACCOUNTS: [&str; 2] = ["123456789012", "210987654321"];
/// The place of the region's own.
pub(crate) const REGION_ACCOUNT: usize = 0;

const SERVERS: usize = 3;
const OPERATORS: usize = 3;
const HOSTS: usize = 2;
/// When every host has to be back, with credentials for its machines, once nothing goes wrong any more: as long as it waits for an
/// answer that will not come, its widest pause, and two questions.
const BACK_AFTER: Duration = Duration::from_secs(125);
/// How long things go wrong, and how long all is well after that.
const TROUBLED: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(30);
/// The longest that a request or an answer is on its way.
const WAY_MAX_MILLIS: u64 = 30;
/// How long who calls a server waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much more seldom everybody does everything while a long time passes.
const SLOW: u32 = 60;

/// What is simulated.
pub(crate) struct World {
    pub(crate) servers: Vec<Server>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) oracle: RefCell<Oracle>,
    /// Whether a server that has not heard says who anybody is.
    pub(crate) whoami: StalePolicy,
    pub(crate) clocks: Clocks,
    pub(crate) hands: Hands,
    /// The operator of the account that is not the region's own.
    other_operator: Option<Signer>,
    /// The store as it is: nothing lies between.
    store: FaultyStore,
    /// Of all servers, what takes effect late.
    pub(crate) late: Arc<LateChanges>,
    /// Of hosts, and of all others.
    pub(crate) messages: [RefCell<Messages>; 2],
    /// How often the data directory of a server was not there.
    pub(crate) bare: Cell<usize>,
    /// How long things go wrong.
    troubled: Cell<Duration>,
    slow_until: Cell<Option<Instant>>,
    begun: Instant,
    true_clock: SimulatedClock,
    runs: Cell<usize>,
    random: RefCell<fastrand::Rng>,
    trace: RefCell<Vec<String>>,
}

/// What has happened in a simulation in which nothing did that never may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// How much.
    pub summary: Summary,
    /// What, in its order.
    pub trace: Vec<String>,
    /// What the seed's dice show in the end: another number, if anything went another way.
    pub last_draw: u64,
}

/// What a seed has brought to light.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was never to happen, in the order it did.
    pub violations: Vec<String>,
    /// What had happened until then.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        writeln!(f, "seed {}:", self.seed)?;
        self.violations.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Runs one simulation. The same seed brings about the same, down to the order of everything.
///
/// # Errors
/// What was never to happen and did.
///
/// # Panics
/// If the simulation cannot be set up.
pub fn run(seed: u64) -> Result<Report, Failure> {
    let _seeded = inborn_chance::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, simulate(seed))
}

async fn simulate(seed: u64) -> Result<Report, Failure> {
    let mut random = fastrand::Rng::with_seed(seed);
    let begun = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::in_memory().unwrap();
    let late_changes = Arc::new(LateChanges::default());
    let whoami = if random.bool() { StalePolicy::RefuseAll } else { StalePolicy::RefuseChanges };
    let server = |number| {
        let clock = SimulatedClock::new(begun);
        let store = (store.another_node(), Arc::clone(&late_changes));
        Server::new(number, clock, random.fork(), whoami, store, directory.path().to_owned())
    };
    let servers: Vec<Server> = (0..SERVERS).map(server).collect();
    let mut world = World {
        servers,
        hosts: Vec::new(),
        oracle: RefCell::default(),
        whoami,
        clocks: epochs::clocks(seed),
        hands: Hands::default(),
        other_operator: None,
        store: FaultyStore::behind(Arc::new(store.another_node()), Arc::new(Straight(Arc::clone(&late_changes)))),
        late: Arc::clone(&late_changes),
        messages: <[RefCell<Messages>; 2]>::default(),
        bare: Cell::default(),
        troubled: Cell::new(TROUBLED),
        slow_until: Cell::default(),
        begun,
        true_clock: SimulatedClock::new(begun),
        runs: Cell::new(0),
        random: RefCell::new(random.fork()),
        trace: RefCell::default(),
    };
    for number in 0..SERVERS {
        world.start(number).await;
    }
    world.other_operator = Some(world.make_account(ACCOUNTS[1]).await);
    for number in 0..HOSTS {
        let host = world.join(number, random.fork()).await;
        world.hosts.push(host);
        world.start_host(number, &mut Seeded(random.fork()));
    }
    let world = Rc::new(world);
    for number in 0..HOSTS {
        tokio::task::spawn_local(host::serve(Rc::clone(&world), number, Seeded(random.fork())));
    }
    let operators = (0..OPERATORS).map(|_| tokio::task::spawn_local(operator::work(Rc::clone(&world), random.fork())));
    let operators: Vec<_> = operators.collect();
    let agreement = tokio::task::spawn_local(machine::compare(Rc::clone(&world), random.fork()));
    let watch = tokio::task::spawn_local(epochs::watch(Rc::clone(&world)));
    tokio::task::spawn_local(late::watch(Rc::clone(&world)));
    tokio::task::spawn_local(epochs::let_hours_pass(Rc::clone(&world), seed, random.fork()));
    tokio::task::spawn_local(trouble::make_small(Rc::clone(&world), random.fork()));
    trouble::make(Rc::clone(&world), random.fork()).await;
    for one in operators {
        one.await.unwrap();
    }
    world.is_quiet().await;
    host::all_are_back(&world, BACK_AFTER - QUIET).await;
    world.oracle.borrow_mut().end();
    agreement.abort();
    watch.abort();
    epochs::all_are_onward(&world).await;
    machine::all_are_known(&world).await;
    machine::all_are_as_stored(&world).await;
    let (mut summary, violations) = world.oracle.borrow().verdict();
    summary.late[1] = late_changes.held_up();
    summary.messages = [0, 1].map(|whose| *world.messages[whose].borrow());
    summary.disks = world.hosts.iter().fold(Disks::default(), |sum, host| sum.and(host.disk.borrow().counts));
    summary.bare = world.bare.get();
    let trace = world.trace.take();
    if !violations.is_empty() {
        return Err(Failure { seed, violations, trace });
    }
    let last_draw = world.random.borrow_mut().u64(..);
    Ok(Report { summary, trace, last_draw })
}

impl World {
    /// Whether things still go wrong.
    pub(crate) fn is_troubled(&self) -> bool {
        self.begun.elapsed() < self.troubled.get()
    }

    /// For how long they still go wrong.
    pub(crate) fn trouble_left(&self) -> Duration {
        self.troubled.get().saturating_sub(self.begun.elapsed())
    }

    /// From now on, for so long, everybody does everything more seldom; as much comes after it as would have without.
    pub(crate) fn slow_down(&self, lasts: Duration) {
        self.troubled.set(self.troubled.get() + lasts);
        self.slow_until.set(Some(Instant::now() + lasts));
    }

    /// For how long that is still so.
    pub(crate) fn slow_for(&self) -> Duration {
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.slow_until.get().map(left).unwrap_or_default()
    }

    /// Waits until somebody does the next thing.
    pub(crate) async fn rest(&self, usual: Duration) {
        sleep(usual.max((usual * SLOW).min(self.slow_for()))).await;
    }

    /// Waits until all has been well for long enough, and nothing was still to take effect.
    async fn is_quiet(&self) {
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            sleep(Duration::from_secs(1)).await;
            if self.late.are_to_come() {
                since = Instant::now();
            }
        }
    }

    /// All machines as the store has them.
    pub(crate) async fn stored_machines(&self) -> Vec<Instance> {
        let query = InstanceQuery { account: None, after: None, limit: InstanceQuery::LIMIT_MAX };
        let page = self.store.instances(query).await.unwrap();
        assert_eq!(page.next, None, "more machines than a simulation has");
        page.instances
    }

    /// What is in quarantine as the store has it, and the hosts that are evicted.
    pub(crate) async fn stored_ends(&self) -> (Vec<QuarantineScope>, Vec<HostId>) {
        let quarantines = self.store.quarantines().await.unwrap().into_iter().map(|quarantine| quarantine.scope);
        let hosts = self.store.hosts().await.unwrap();
        let evicted = hosts.into_iter().filter(|host| host.state == HostState::Evicted).map(|host| host.id);
        (quarantines.collect(), evicted.collect())
    }

    /// The epochs as the store has them.
    pub(crate) async fn stored_epochs(&self) -> Vec<SealedEpoch> {
        self.store.epochs().await.unwrap()
    }

    /// When that was, since the beginning.
    pub(crate) fn since_beginning(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.begun)
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// By a clock that is never off.
    pub(crate) fn now(&self) -> UnixTime {
        self.true_clock.now()
    }

    /// For whoever reads what led to a failure.
    pub(crate) fn note(&self, line: String) {
        self.trace.borrow_mut().push(format!("{:8.3} {line}", self.elapsed().as_secs_f64()));
    }

    /// Starts a server, again and again until it comes up.
    pub(crate) async fn start(&self, number: usize) {
        let server = &self.servers[number];
        while server.running().is_none() {
            let run = self.runs.get();
            self.runs.set(run + 1);
            match server.start(run).await {
                Ok(()) => self.note(format!("server {number} runs")),
                Err(error) => {
                    self.note(format!("server {number} does not come up: {error}"));
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Starts a host.
    pub(crate) fn start_host(&self, number: usize, dice: &mut dyn Dice) {
        if let Some(wrong) = self.hosts[number].start(self.servers.len(), dice) {
            self.oracle.borrow_mut().violation(self.elapsed(), wrong);
        }
    }

    /// Asks the first server as an operator of the region's own account, while all is well.
    async fn set_up(&self, body: &str) -> Reply {
        let server = self.servers[0].running().unwrap();
        let operator = self.operator_of(REGION_ACCOUNT, &server);
        let reply = self.call(&server, "ec2", &format!("{body}&Version=2016-11-15"), &operator).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply
    }

    /// Makes an account; gives an operator of it.
    async fn make_account(&self, id: &str) -> Signer {
        self.set_up(&format!("Action=Inborn.CreateAccount&AccountId={id}")).await;
        let made = self.set_up(&format!("Action=Inborn.CreateOperator&Name=other&AccountId={id}")).await;
        let text = |tag: &str| made.all(tag).next().unwrap().to_owned();
        Signer::of_operator(text("accessKeyId"), text("secretAccessKey"))
    }

    /// Who may do everything in an account.
    pub(crate) fn operator_of(&self, account: usize, server: &Running) -> Signer {
        let other = self.other_operator.clone().filter(|_| account != REGION_ACCOUNT);
        other.unwrap_or_else(|| Signer::from(server.region.operator_key().unwrap()))
    }

    /// Lets a computer join while all is well.
    async fn join(&self, number: usize, random: fastrand::Rng) -> Host {
        let server = self.servers[0].running().unwrap();
        let [own, other] = ACCOUNTS;
        let ask = format!("Action=Inborn.CreateJoinToken&AccountId.1={own}&AccountId.2={other}");
        let reply = self.set_up(&ask).await;
        let token = reply.all("joinToken").next().unwrap().parse().unwrap();
        Host::join(number, &server, &token, SimulatedClock::new(self.begun), random).await
    }

    /// A server that runs, if the one that is asked does.
    pub(crate) fn any_server(&self) -> Option<Running> {
        let number = self.random.borrow_mut().usize(0..self.servers.len());
        self.servers[number].running()
    }

    /// Calls a server; nothing, if question or answer are lost or come too late, or the server crashes meanwhile. What was asked for may
    /// be done then, and at any time.
    pub(crate) async fn call(&self, server: &Running, service: &str, body: &str, signer: &Signer) -> Option<Reply> {
        let patience = Instant::now() + PATIENCE;
        let losses = self.servers[server.number].losses.get();
        let (question, answer) = (self.fate_of(losses), self.fate_of(losses));
        self.messages[CALLERS].borrow_mut().count_question(question);
        self.way().await;
        if !server.is_there() || question == Fate::Broken {
            return None;
        }
        if question == Fate::Silent {
            sleep_until(patience).await;
            return None;
        }
        // Clients that are told of the time go by it, as SDKs do.
        let now = if self.clocks.is_far() { server.region.now() } else { self.now() };
        let asking = {
            let (server, service, body, signer) = (server.clone(), service.to_owned(), body.to_owned(), signer.clone());
            async move {
                if let Fate::Late(by) = question {
                    sleep(by).await;
                }
                if server.is_there() { call(&server.region, &service, &body, &signer, now).await } else { None }
            }
        };
        let reply = if (question, answer) == (Fate::Arrives, Fate::Arrives) {
            timeout_at(patience, asking).await.ok()?
        } else {
            // It goes on when nobody waits for it any more.
            timeout_at(patience, tokio::task::spawn_local(asking)).await.ok()?.ok()?
        };
        let reply = reply.filter(|_| server.is_there())?;
        self.messages[CALLERS].borrow_mut().count_answer(answer);
        self.way().await;
        match answer {
            Fate::Arrives => Some(reply),
            Fate::Broken => None,
            Fate::Silent => {
                sleep_until(patience).await;
                None
            }
            Fate::Late(by) => match timeout_at(patience, sleep(by)).await {
                Ok(()) => Some(reply),
                Err(_) => {
                    self.messages[CALLERS].borrow_mut().given_up += 1;
                    None
                }
            },
        }
    }

    pub(crate) async fn way(&self) {
        let millis = self.random.borrow_mut().u64(0..=WAY_MAX_MILLIS);
        sleep(Duration::from_millis(millis)).await;
    }

    /// What becomes of a message. When all is well it arrives.
    pub(crate) fn fate_of(&self, losses: Losses) -> Fate {
        if self.is_troubled() { losses.draw(&mut self.random.borrow_mut()) } else { Fate::Arrives }
    }

    /// A number up to one.
    pub(crate) fn chance(&self) -> f64 {
        self.random.borrow_mut().f64()
    }

    /// Less than all of so many bytes.
    pub(crate) fn part_of(&self, length: usize) -> usize {
        part_of(length, &mut self.random.borrow_mut())
    }
}

/// A way on which nothing is lost.
struct Straight(Arc<LateChanges>);

impl Link for Straight {
    fn late(&self) -> Arc<LateChanges> {
        Arc::clone(&self.0)
    }

    fn passage(&self) -> Passage {
        Passage { there: Duration::ZERO, back: Duration::ZERO, fate: StoreFate::Arrives }
    }
}

//! Hosts: computers that serve machines which the region has placed on them, crash, start again, and reach the region servers
//! over connections that are cut, break, and lose what is sent. What they have kept is on a disk of each.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine;
use inborn_credential::{Credential, Delivery};
use inborn_fleet::{Join, JoinToken, Joined};
use inborn_host_agent::{Address, Agent, Answer, Ask, Dice, Event, Failure, Lane, Lanes, Now, Snapshot};
use inborn_identity::{Clock, HostId, InstanceId, UnixTime};
use inborn_listener::TlsFacts;
use inborn_pki::{HostCertificate, HostKey};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::call::{Signer, join_host, serve_host};
use crate::clock::SimulatedClock;
use crate::disk::{self, Disk};
use crate::line::{self, Fate, Losses, connect};
use crate::server::Running;
use crate::world::World;

/// The longest rest between two looks.
const REST_MAX: Duration = Duration::from_secs(1);
/// How often who waits looks whether it still has to.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long after it has ended with an error a program is started again.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// How far ahead of its time hosts are given a credential. Source: docs/hosts.md.
pub(crate) const GIVEN_AHEAD_SECONDS: u64 = 360;

/// One host.
pub(crate) struct Host {
    pub(crate) number: usize,
    pub(crate) id: HostId,
    pub(crate) clock: SimulatedClock,
    tls: TlsFacts,
    ends: UnixTime,
    begun: Instant,
    /// What becomes of its messages.
    pub(crate) losses: Cell<Losses>,
    pub(crate) disk: RefCell<Disk>,
    pub(crate) state: RefCell<State>,
}

/// How a host is now.
#[derive(Default)]
pub(crate) struct State {
    /// Nothing while the computer is off.
    agent: Option<Agent>,
    /// The connections of this start.
    lanes: Rc<Lanes>,
    /// When the last answer left a server, by lanes, and how many have, and which of them has come.
    pub(crate) departed_at: [Duration; 2],
    pub(crate) departed: u64,
    pub(crate) arrived: u64,
    /// Whether nothing is kept any more, since it has heard that it is cut off.
    is_closed: bool,
    /// Which of its starts this is.
    run: usize,
    /// Whether no region server can be reached.
    pub(crate) is_cut: bool,
    /// Launches that are on their way to it.
    pub(crate) launching: usize,
    /// Whether nothing is to be placed on it any more.
    pub(crate) is_ending: bool,
    /// Whether an operator was told that it is cut off.
    pub(crate) is_cut_off: bool,
    /// Whether it has heard that.
    is_evicted: bool,
    /// When it asked for a credential first, and when the answer left, by the name of its key.
    given: BTreeMap<String, (Duration, Duration)>,
}

/// A credential as a guest finds it.
pub(crate) struct Held {
    pub(crate) signer: Signer,
    /// When its host asked for it, and when the answer left: it was issued in between.
    pub(crate) issued: (Duration, Duration),
    /// For how many seconds it is good, by the clock of who has it.
    pub(crate) left: u64,
}

impl Held {
    pub(crate) fn new(credential: &Credential, now: UnixTime, issued: (Duration, Duration)) -> Self {
        Self { signer: Signer::from(credential), issued, left: credential.expires_at.since(now) }
    }
}

pub(crate) struct Seeded(pub(crate) fastrand::Rng);

impl Dice for Seeded {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0.u64(0..=most)
    }
}

struct Heard {
    run: usize,
    /// When it was asked, and when the answer left.
    at: (Duration, Duration),
    ask: Ask,
    outcome: Result<Answer, Failure>,
}

impl Host {
    /// Lets a computer join by this server.
    pub(crate) async fn join(
        number: usize,
        server: &Running,
        token: &JoinToken,
        clock: SimulatedClock,
        random: fastrand::Rng,
    ) -> Self {
        let key = HostKey::generate().unwrap();
        let join = Join {
            secret: token.secret().to_vec(),
            name: format!("host-{number}"),
            public_key: key.public_key().to_vec(),
        };
        let body = serde_json::to_vec(&join).unwrap();
        let joined: Joined = serde_json::from_slice(&join_host(&server.hosts, body).await).unwrap();
        let certificate = HostCertificate::from_pem(&joined.certificate).unwrap();
        Self {
            number,
            id: joined.host,
            clock,
            tls: TlsFacts {
                version: "TLSv1.3",
                cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
                client_certificate: Some(der_of(&joined.certificate)),
            },
            ends: certificate.not_after,
            begun: Instant::now(),
            losses: Cell::default(),
            disk: RefCell::new(Disk::new(joined.host, random)),
            state: RefCell::default(),
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), up: self.begun.elapsed() }
    }

    /// Starts it, with what it has kept; gives what is wrong with that.
    pub(crate) fn start(&self, servers: usize, dice: &mut dyn Dice) -> Option<String> {
        // Who is started while it runs has ended before.
        self.crash();
        let mut state = self.state.borrow_mut();
        let mut agent = Agent::new(servers, self.ends, dice);
        let (kept, wrong) = self.disk.borrow_mut().read();
        if let Some(kept) = kept {
            agent.restore(kept, self.now(), dice);
        }
        (state.run, state.is_closed, state.lanes) = (state.run + 1, false, Rc::default());
        state.agent = Some(agent).filter(|_| !state.is_evicted);
        wrong.map(|wrong| format!("host {} {wrong}", self.number))
    }

    /// Ends it as a loss of power does: servers are not told.
    pub(crate) fn crash(&self) {
        self.state.borrow_mut().agent = None;
        self.disk.borrow_mut().crash();
    }

    /// What is to be kept now, of which start, and its revision.
    pub(crate) fn to_keep(&self, is_due: impl FnOnce(usize, u64) -> bool) -> Option<(usize, u64, Snapshot)> {
        let state = self.state.borrow();
        let agent = state.agent.as_ref().filter(|_| !state.is_closed)?;
        let (run, revision) = (state.run, agent.revision());
        if is_due(run, revision) { Some((run, revision, agent.snapshot()?)) } else { None }
    }

    /// Which of its starts this is, if it runs.
    pub(crate) fn run(&self) -> Option<usize> {
        let state = self.state.borrow();
        state.agent.as_ref().map(|_| state.run)
    }

    /// What a guest finds in its metadata.
    pub(crate) fn credential(&self, id: InstanceId) -> Option<Held> {
        self.credential_in(id, 0)
    }

    /// What a guest will find in so many seconds, if nothing is heard until then.
    fn credential_in(&self, id: InstanceId, seconds: u64) -> Option<Held> {
        let state = self.state.borrow();
        let known = state.agent.as_ref()?.mirror().get(id)?;
        let now = self.clock.now().plus(seconds);
        let (credential, _) = known.credential(Delivery::V2, now)?;
        let issued = state.given.get(credential.access_key_id.as_str()).copied().unwrap_or_default();
        Some(Held::new(&credential, now, issued))
    }

    /// When it was heard of the region last, by its clock.
    pub(crate) fn heard_at(&self) -> Option<UnixTime> {
        self.state.borrow().agent.as_ref()?.heard_at()
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.state.borrow().is_evicted
    }

    /// The machines it knows.
    pub(crate) fn machines(&self) -> Vec<InstanceId> {
        let state = self.state.borrow();
        let known = |agent: &Agent| agent.mirror().all().map(|known| known.record().instance).collect();
        state.agent.as_ref().map(known).unwrap_or_default()
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.state.borrow().is_cut
    }

    /// What it lacks of what it has to have when all has been well for long enough.
    fn lacks(&self, world: &World, since: UnixTime) -> Option<String> {
        let number = self.number;
        if self.is_evicted() {
            return None;
        }
        if self.state.borrow().is_cut_off {
            return Some(format!("host {number} has not heard that it was evicted"));
        }
        if self.heard_at().is_none_or(|at| at <= since) {
            return Some(format!("host {number} has not come back to its region"));
        }
        let is_good = |held: &Held| !world.oracle.borrow().lineage.is_revoked(held.signer.epoch);
        let has = |id, seconds| self.credential_in(id, seconds).filter(is_good).is_some();
        let lacks = |id: &InstanceId| !has(*id, 0) || !has(*id, GIVEN_AHEAD_SECONDS);
        let lacking = world.oracle.borrow().living_on(number).into_iter().find(lacks)?;
        let machine = world.oracle.borrow().place(lacking).map(|(machine, _)| machine);
        Some(format!("machine {machine:?} has got no credential that is good at host {number}"))
    }

    /// A server answers what comes over this connection.
    pub(crate) fn is_served_at(&self, server: &Running, connection: DuplexStream) {
        serve_host(&server.hosts, self.tls.clone(), connection);
    }

    /// A connection to a server, sooner or later.
    async fn connect(&self, world: &Rc<World>, lane: Lane, address: usize) -> Result<DuplexStream, Failure> {
        let fate = world.fate_of(self.losses.get());
        world.messages[line::HOSTS].borrow_mut().questions_lost += usize::from(fate.is_lost());
        world.way().await;
        match fate {
            Fate::Silent => core::future::pending().await,
            Fate::Broken => return Err(Failure::Unreachable("the connection broke".to_owned())),
            Fate::Late(by) => sleep(by).await,
            Fate::Arrives => {}
        }
        while self.is_cut() {
            sleep(LOOK_EVERY).await;
        }
        let server = world.servers[address].running();
        let server = server.ok_or_else(|| Failure::Unreachable("nobody is there".to_owned()))?;
        Ok(connect(world, self.number, lane, server))
    }

    /// Asks a server, as a host does it over TLS.
    async fn ask(&self, world: &Rc<World>, run: usize, ask: &Ask, address: usize) -> Result<Answer, Failure> {
        let lanes = Rc::clone(&self.state.borrow().lanes);
        let connecting = self.connect(world, ask.lane(), address);
        let connected = || {
            let State { run: now, agent, .. } = &mut *self.state.borrow_mut();
            if let Some(agent) = agent.as_mut().filter(|_| *now == run) {
                agent.connected();
            }
        };
        lanes.ask(&address_of(address), ask, 0, connecting, connected).await
    }

    /// Takes in what became of a question; gives whether the region has cut the host off.
    fn heard(&self, heard: Heard, dice: &mut dyn Dice) -> bool {
        let mut state = self.state.borrow_mut();
        if heard.run != state.run {
            return false;
        }
        if let Ok(Answer::Credentials(given)) = &heard.outcome {
            for one in &given.generations {
                let name = one.v2.access_key_id.to_string();
                state.given.entry(name).or_insert(heard.at);
            }
        }
        let now = self.now();
        let Some(agent) = &mut state.agent else { return false };
        let events = agent.heard(heard.ask, heard.outcome, now, dice);
        events.contains(&Event::Evicted)
    }

    /// Forgets all that it was given, once nothing is being written any more; whether it could, and did not crash before. What could not
    /// be removed is served by the next start, until that hears of its end.
    async fn is_forgotten(&self, world: &World, dice: &mut dyn Dice) -> bool {
        let run = {
            let mut state = self.state.borrow_mut();
            state.is_closed = true;
            state.run
        };
        while self.disk.borrow().is_writing() && self.run() == Some(run) {
            sleep(LOOK_EVERY).await;
        }
        if self.run() != Some(run) {
            return false;
        }
        if !self.disk.borrow_mut().remove(world.is_troubled()) {
            world.note(format!("host {} cannot remove what it was given", self.number));
            self.state.borrow_mut().agent = None;
            sleep(RESTART_AFTER).await;
            if self.run().is_none() && self.state.borrow().run == run {
                world.start_host(self.number, dice);
            }
            return false;
        }
        let mut state = self.state.borrow_mut();
        let is_cut_off = state.is_cut_off;
        *state = State { is_evicted: true, is_ending: true, is_cut_off, run, ..State::default() };
        true
    }
}

/// A host's life: it talks with its region whenever it runs.
pub(crate) async fn serve(world: Rc<World>, number: usize, mut dice: Seeded) {
    let (tell, mut told) = mpsc::channel(8);
    tokio::task::spawn_local(disk::keep(Rc::clone(&world), number));
    loop {
        let host = &world.hosts[number];
        let (asks, rest) = {
            let (now, mut state) = (host.now(), host.state.borrow_mut());
            let run = state.run;
            match &mut state.agent {
                None => (Vec::new(), REST_MAX),
                Some(agent) => {
                    agent.look_at_the_time(now);
                    let asks: Vec<_> = agent.next(now).into_iter().map(|ask| (run, ask, agent.address())).collect();
                    (asks, agent.rests_for(now).clamp(Duration::from_millis(1), REST_MAX))
                }
            }
        };
        for (run, ask, address) in asks {
            let (world, tell) = (Rc::clone(&world), tell.clone());
            tokio::task::spawn_local(async move {
                let (asked, host) = (world.elapsed(), &world.hosts[number]);
                let outcome = host.ask(&world, run, &ask, address).await;
                let departed = host.state.borrow().departed_at[line::index(ask.lane())];
                let _ = tell.send(Heard { run, at: (asked, departed.max(asked)), ask, outcome }).await;
            });
        }
        let heard = timeout(rest, told.recv()).await.ok().flatten();
        if heard.is_some_and(|heard| host.heard(heard, &mut dice)) {
            world.note(format!("host {number} hears that it was evicted"));
            if host.is_forgotten(&world, &mut dice).await {
                return;
            }
        }
        let misplaced = world.oracle.borrow().misplaced(number, &host.machines());
        if let Some(line) = misplaced {
            world.oracle.borrow_mut().violation(world.elapsed(), line);
        }
    }
}

/// Waits until every host that was not cut off has heard of its region again and has credentials for the machines that live on
/// it, or long enough.
pub(crate) async fn all_are_back(world: &Rc<World>, at_most: Duration) {
    let begun = Instant::now();
    // By the clock of each, which may be off.
    let since: Vec<UnixTime> = world.hosts.iter().map(|host| host.clock.now()).collect();
    let late = || world.hosts.iter().zip(&since).find_map(|(host, since)| host.lacks(world, *since));
    while let Some(line) = late() {
        if begun.elapsed() >= at_most {
            let line = format!("{line} within {at_most:?}");
            return world.oracle.borrow_mut().violation(world.elapsed(), line);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// By what name a host knows a server.
fn address_of(server: usize) -> Address {
    format!("server-{server}.example:4544").parse().unwrap()
}

fn der_of(pem: &str) -> Arc<[u8]> {
    let inner: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(inner).unwrap().into()
}

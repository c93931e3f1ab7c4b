//! Hosts: computers that serve machines which the region has placed on them, crash, start again, and reach the region servers
//! over links that are cut.

use core::cell::RefCell;
use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine;
use inborn_credential::{Credential, Delivery};
use inborn_fleet::{JOIN, Join, JoinToken, Joined};
use inborn_host_agent::{Agent, Answer, Ask, Dice, Event, Failure, Now, Snapshot, decode};
use inborn_identity::{Clock, HostId, InstanceId, UnixTime};
use inborn_listener::TlsFacts;
use inborn_pki::{HostCertificate, HostKey};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::call::{HostReply, Signer, host_call};
use crate::clock::SimulatedClock;
use crate::server::Running;
use crate::world::World;

/// How often a host keeps what it would need after a restart.
const KEPT_EVERY: Duration = Duration::from_secs(2);
/// The longest rest between two looks.
const REST_MAX: Duration = Duration::from_secs(1);
/// How often who waits for an answer looks whether the other side is there.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
    pub(crate) state: RefCell<State>,
}

/// How a host is now.
#[derive(Default)]
pub(crate) struct State {
    /// Nothing while the computer is off.
    agent: Option<Agent>,
    /// What it has kept for its next start.
    kept: Option<Snapshot>,
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
    /// When it asked for a credential first, by the name of its key.
    asked: BTreeMap<String, Duration>,
}

/// A credential as a guest finds it.
pub(crate) struct Held {
    pub(crate) signer: Signer,
    /// When its host asked for it.
    pub(crate) issued: Duration,
    /// For how many seconds it is good, by the clock of who has it.
    pub(crate) left: u64,
}

impl Held {
    pub(crate) fn new(credential: &Credential, now: UnixTime, issued: Duration) -> Self {
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
    asked: Duration,
    ask: Ask,
    outcome: Result<Answer, Failure>,
}

impl Host {
    /// Lets a computer join by this server.
    pub(crate) async fn join(number: usize, server: &Running, token: &JoinToken, clock: SimulatedClock) -> Self {
        let key = HostKey::generate().unwrap();
        let join = Join {
            secret: token.secret().to_vec(),
            name: format!("host-{number}"),
            public_key: key.public_key().to_vec(),
        };
        let body = serde_json::to_vec(&join).unwrap();
        let reply = host_call(&server.hosts, JOIN, body, None).await.unwrap();
        let joined: Joined = serde_json::from_slice(&reply.body).unwrap();
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
            state: RefCell::default(),
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), up: self.begun.elapsed() }
    }

    /// Starts it, with what it has kept.
    pub(crate) fn start(&self, servers: usize, dice: &mut dyn Dice) {
        let mut state = self.state.borrow_mut();
        let mut agent = Agent::new(servers, self.ends, dice);
        if let Some(kept) = state.kept.take() {
            agent.restore(kept, self.now(), dice);
            state.kept = agent.snapshot();
        }
        state.run += 1;
        state.agent = Some(agent).filter(|_| !state.is_evicted);
    }

    /// Ends it as a loss of power does.
    pub(crate) fn crash(&self) {
        self.state.borrow_mut().agent = None;
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
        let issued = state.asked.get(credential.access_key_id.as_str()).copied().unwrap_or_default();
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

    fn is_cut(&self) -> bool {
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

    /// Asks a server; a failure, if question or answer are lost.
    async fn ask(&self, world: &World, ask: &Ask, address: usize) -> Result<Answer, Failure> {
        let lost = |what: &str| Failure::Unreachable(what.to_owned());
        world.way().await;
        if self.is_cut() {
            sleep(Duration::from_secs(10)).await;
            return Err(lost("no connection in time"));
        }
        let server = world.servers[address].running().ok_or_else(|| lost("nobody is there"))?;
        if let Some(agent) = &mut self.state.borrow_mut().agent {
            agent.connected();
        }
        let asked = host_call(&server.hosts, ask.path(), ask.body(), Some(self.tls.clone()));
        let answered = async {
            tokio::pin!(asked);
            loop {
                match timeout(LOOK_EVERY, &mut asked).await {
                    Ok(reply) => return reply,
                    Err(_) if !server.is_there() => return None,
                    Err(_) => {}
                }
            }
        };
        let reply = timeout(ask.patience(), answered).await.map_err(|_| lost("no answer in time"))?;
        world.way().await;
        if self.is_cut() || !server.is_there() {
            return Err(lost("the connection broke"));
        }
        let HostReply { status, retry_after, body } = reply.ok_or_else(|| lost("the connection broke"))?;
        decode(ask, status, retry_after, &body)
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
                state.asked.entry(name).or_insert(heard.asked);
            }
        }
        let now = self.now();
        let Some(agent) = &mut state.agent else { return false };
        let events = agent.heard(heard.ask, heard.outcome, now, dice);
        if events.contains(&Event::Evicted) {
            let (run, is_cut_off) = (state.run, state.is_cut_off);
            *state = State { is_evicted: true, is_ending: true, is_cut_off, run, ..State::default() };
            return true;
        }
        false
    }
}

/// A host's life: it talks with its region whenever it runs.
pub(crate) async fn serve(world: Rc<World>, number: usize, mut dice: Seeded) {
    let (tell, mut told) = mpsc::channel(8);
    let mut kept = Instant::now();
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
                let asked = world.elapsed();
                let outcome = world.hosts[number].ask(&world, &ask, address).await;
                let _ = tell.send(Heard { run, asked, ask, outcome }).await;
            });
        }
        let heard = timeout(rest, told.recv()).await.ok().flatten();
        if heard.is_some_and(|heard| host.heard(heard, &mut dice)) {
            world.note(format!("host {number} hears that it was evicted"));
            return;
        }
        let misplaced = world.oracle.borrow().misplaced(number, &host.machines());
        if let Some(line) = misplaced {
            world.oracle.borrow_mut().violation(world.elapsed(), line);
        }
        if kept.elapsed() >= KEPT_EVERY {
            kept = Instant::now();
            let mut state = host.state.borrow_mut();
            if let Some(snapshot) = state.agent.as_ref().and_then(Agent::snapshot) {
                state.kept = Some(snapshot);
            }
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

fn der_of(pem: &str) -> Arc<[u8]> {
    let inner: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(inner).unwrap().into()
}

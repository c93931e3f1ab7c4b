//! Ten thousand hosts in simulated time: what a region is asked, second by second, when all of them lost it at one moment and
//! find it back. No socket, no clock: the same state machine that runs in every host.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::time::Duration;

use inborn_credential::{Delivery, Kek};
use inborn_fleet::{
    CredentialsGiven, DocumentSigned, Generation, GivenCredential, GivenMachine, MachineRecord, MachinesChanged,
    MetadataOptions, Renewed,
};
use inborn_host_agent::{Agent, Answer, Ask, Dice, Failure, Lane, Now, document_of, open, seal};
use inborn_identity::{HostId, HttpEndpoint, HttpTokens, InstanceId, Partition, UnixTime, Zone};
use zeroize::Zeroizing;

const HOSTS: usize = 10_000;
/// What the region tells so many hosts: `region/src/hosts` has two hundred a second.
const SPREAD_SECONDS: u64 = 50;
/// Returns in any one second. Two hundred are meant; a sum of so many dice is seven of its deviations away from this.
const RETURNS_MAX: u64 = 300;
/// Questions of any kind in any one second: whoever is back asks for changes, and for credentials that came due meanwhile.
const QUESTIONS_MAX: u64 = 1000;
/// How long until all are back: the widest window.
const BACK_SECONDS_MAX: u64 = 2 * SPREAD_SECONDS + 1;
const BEGIN: u64 = 1_800_000_000;
const HOUR: u64 = 3600;

/// Chance that is the same in every run.
struct Seeded(u64);

impl Dice for Seeded {
    fn up_to(&mut self, most: u64) -> u64 {
        // xorshift64*: George Marsaglia, "Xorshift RNGs", 2003.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        drawn % most.saturating_add(1).max(1)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// It looks what to ask.
    Look,
    /// The answer to what it asked comes, or the connection breaks.
    Hear(u8),
}

/// How long an answer takes that waits for nothing, in milliseconds.
const ANSWER_MS: u64 = 10;
/// How long one takes that waits for a change.
const WAIT_MS: u64 = 25_000;

struct Fleet {
    agents: Vec<Agent>,
    /// What each has asked, and whether it gets there.
    asked: Vec<[Option<(Ask, bool)>; 2]>,
    /// When each looks again; any other look is one that something came before.
    looks: Vec<u64>,
    dice: Seeded,
    /// By milliseconds.
    queue: BinaryHeap<Reverse<(u64, usize, What)>>,
    /// When the region is away.
    away: Range<u64>,
    /// What came to the region, by seconds: hosts that were without it, and questions.
    returns: BTreeMap<u64, u64>,
    questions: BTreeMap<u64, u64>,
}

const fn now(ms: u64) -> Now {
    Now { wall: UnixTime::from_secs(BEGIN + ms / 1000), up: Duration::from_millis(ms) }
}

fn instance(host: usize) -> InstanceId {
    let mut bytes = [0; 9];
    bytes[1..].copy_from_slice(&u64::try_from(host).unwrap().to_be_bytes());
    InstanceId::from_bytes(bytes)
}

fn record(host: usize) -> MachineRecord {
    let region: inborn_identity::Region = "us-east-1".parse().unwrap();
    MachineRecord {
        instance: instance(host),
        account: "123456789012".parse().unwrap(),
        is_running: true,
        boot_generation: 1,
        options: MetadataOptions {
            http_tokens: HttpTokens::Required,
            http_endpoint: HttpEndpoint::Enabled,
            hop_limit: 1,
            ipv6: false,
            tags: false,
        },
        tags: [].into(),
        partition: Partition::Aws,
        zone: Zone::new(&region, 'a').unwrap(),
        region,
        zone_id: String::new(),
        domain: String::new(),
        image_id: String::new(),
        instance_type: String::new(),
        architecture: String::new(),
        launch_index: 0,
        reservation_id: String::new(),
        local_hostname: String::new(),
        private_ip: None,
        interface: None,
        security_groups: Vec::new(),
        key_pair: None,
        user_data: None,
        root_device: String::new(),
        placement_group: None,
        placement_partition: None,
        launch_time: BEGIN - HOUR,
        is_withheld: false,
        credentials_since: 0,
    }
}

fn credential() -> GivenCredential {
    GivenCredential {
        access_key_id: "ASIARZPUZDIKL7X6FZCX".parse().unwrap(),
        secret_access_key: Zeroizing::new("a".repeat(40)),
        session_token: Zeroizing::new("t".to_owned()),
    }
}

fn generation(instance: InstanceId, at: UnixTime) -> Generation {
    let held = inborn_credential::generation(instance, UnixTime::from_secs(BEGIN - HOUR), at);
    Generation {
        instance,
        boot_generation: 1,
        issued_at: held.issued_at.as_secs(),
        expires_at: held.expires_at.as_secs(),
        next_at: held.next_at.as_secs(),
        v1: credential(),
        v2: credential(),
    }
}

impl Fleet {
    /// Hosts that are started from the moment `begin` on: `ms_apart` one after the other.
    fn new(begin: u64, ms_apart: u64, away: Range<u64>) -> Self {
        let mut dice = Seeded(0x1234_5678_9abc_def1);
        let ends = UnixTime::from_secs(BEGIN + 7 * 24 * HOUR);
        let agents: Vec<Agent> = (0..HOSTS).map(|_| Agent::new(1, ends, &mut dice)).collect();
        let looks: Vec<u64> = (0..HOSTS).map(|host| begin + u64::try_from(host).unwrap() * ms_apart).collect();
        let queue = looks.iter().enumerate().map(|(host, ms)| Reverse((*ms, host, What::Look))).collect();
        let asked = (0..HOSTS).map(|_| [None, None]).collect();
        Self { agents, asked, looks, dice, queue, away, returns: BTreeMap::new(), questions: BTreeMap::new() }
    }

    fn run_until(&mut self, end: u64) {
        while let Some(Reverse((ms, host, what))) = self.queue.pop() {
            if ms > end {
                self.queue.push(Reverse((ms, host, what)));
                return;
            }
            if what == What::Look && self.looks[host] != ms {
                continue;
            }
            if let What::Hear(lane) = what
                && let Some((ask, arrives)) = self.asked[host][usize::from(lane)].take()
            {
                let outcome =
                    if !arrives { Err(Failure::Unreachable("away".to_owned())) } else { Ok(answer(host, ms, &ask)) };
                self.agents[host].heard(ask, outcome, now(ms), &mut self.dice);
            }
            self.look(host, ms);
        }
    }

    fn look(&mut self, host: usize, ms: u64) {
        let agent = &mut self.agents[host];
        let _ = agent.look_at_the_time(now(ms));
        for ask in agent.next(now(ms)) {
            let lane = u8::from(ask.lane() == Lane::Work);
            let waits = matches!(&ask, Ask::Machines(asked) if !asked.known.is_empty());
            let answered = ms + if waits { WAIT_MS } else { ANSWER_MS };
            let (heard, arrives) = if self.away.contains(&ms) {
                (ms + ANSWER_MS, false)
            } else {
                if !agent.is_connected() {
                    *self.returns.entry(ms / 1000).or_default() += 1;
                    agent.connected();
                }
                *self.questions.entry(ms / 1000).or_default() += 1;
                // What waits when the region goes away breaks at that moment, everywhere.
                if (ms..=answered).contains(&self.away.start) { (self.away.start, false) } else { (answered, true) }
            };
            self.asked[host][usize::from(lane)] = Some((ask, arrives));
            self.queue.push(Reverse((heard, host, What::Hear(lane))));
        }
        let rest = u64::try_from(agent.rests_for(now(ms)).as_millis()).unwrap().max(1);
        self.looks[host] = ms + rest;
        self.queue.push(Reverse((ms + rest, host, What::Look)));
    }

    fn peak(counts: &BTreeMap<u64, u64>, from: u64) -> u64 {
        counts.range(from / 1000..).map(|(_, count)| *count).max().unwrap_or(0)
    }

    /// Checks what came to the region from a moment on, when all were without it.
    fn check(&self, what: &str, from: u64) {
        let returns: u64 = self.returns.range(from / 1000..).map(|(_, count)| count).sum();
        let (peak, questions) = (Self::peak(&self.returns, from), Self::peak(&self.questions, from));
        let last = self.returns.keys().next_back().unwrap() - from / 1000;
        eprintln!("{what}: {returns} came back within {last} s; at most {peak} a second, and {questions} questions");
        assert_eq!(returns, u64::try_from(HOSTS).unwrap(), "each of them once");
        assert!(peak <= RETURNS_MAX && questions <= QUESTIONS_MAX);
        assert!(last <= BACK_SECONDS_MAX, "{last}");
        assert!(self.agents.iter().all(Agent::is_connected));
        for (host, agent) in self.agents.iter().enumerate() {
            let at = now(from + BACK_SECONDS_MAX * 1000).wall;
            let known = agent.mirror().get(instance(host)).unwrap();
            let (credential, next_at) = known.credential(Delivery::V2, at).unwrap();
            assert!(credential.issued_at <= at && at < next_at, "each machine holds the present generation");
        }
    }
}

fn has_an_hour_left(agent: &Agent, host: usize, at: Now) {
    let known = agent.mirror().get(instance(host)).unwrap();
    let (credential, _) = known.credential(Delivery::V2, at.wall).unwrap();
    let left = credential.expires_at.since(at.wall);
    assert!(left > HOUR, "{left} s of host {host}");
}

fn answer(host: usize, ms: u64, ask: &Ask) -> Answer {
    let wall = now(ms).wall;
    match ask {
        Ask::Machines(asked) => {
            let is_new = asked.known.is_empty();
            let given = || GivenMachine { version: "v".to_owned(), machine: record(host) };
            let changed = is_new.then(given).into_iter().collect();
            Answer::Machines(MachinesChanged { changed, spread_seconds: SPREAD_SECONDS, ..MachinesChanged::default() })
        }
        Ask::Credentials(asked) => {
            let given = |instance: &InstanceId| {
                let present = generation(*instance, wall);
                let next_at = UnixTime::from_secs(present.next_at);
                let next = (wall.plus(360) >= next_at).then(|| generation(*instance, next_at));
                core::iter::once(present).chain(next).collect::<Vec<_>>()
            };
            Answer::Credentials(CredentialsGiven { generations: asked.instances.iter().flat_map(given).collect() })
        }
        Ask::Document(_) => {
            let document = String::from_utf8(document_of(&record(host)).to_vec()).unwrap();
            Answer::Document(DocumentSigned { document, signature: String::new(), pkcs7: String::new() })
        }
        Ask::Renew => Answer::Renewed(Renewed { certificate: String::new() }),
    }
}

/// Ten minutes after the hosts have begun.
const LOST: u64 = 600_000;

#[test]
fn a_region_that_restarts_is_found_again_by_all_without_a_rush() {
    let mut fleet = Fleet::new(0, 30, LOST..LOST + 500);
    fleet.run_until(LOST + 200_000);
    fleet.check("after half a second", LOST + 500);
}

#[test]
fn a_region_that_was_away_for_four_hours_is_found_again_by_all_without_a_rush() {
    let back = LOST + 4 * HOUR * 1000;
    let mut fleet = Fleet::new(0, 30, LOST..back);
    // To the last moment each machine holds what is good for another hour, and still does after a start of its host from what it kept.
    fleet.run_until(back - 1000);
    let (last, key, mut dice) = (now(back - 1000), Kek::from_bytes(&[7; 32]).unwrap(), Seeded(7));
    for host in 0..HOSTS {
        has_an_hour_left(&fleet.agents[host], host, last);
        let kept = fleet.agents[host].snapshot().unwrap();
        let id = HostId::from_bytes(instance(host).to_bytes());
        let kept = open(&seal(&kept, &key, id).unwrap(), &key, id).unwrap();
        let mut started = Agent::new(1, UnixTime::from_secs(BEGIN + 7 * 24 * HOUR), &mut dice);
        started.restore(kept, last, &mut dice);
        has_an_hour_left(&started, host, last);
    }
    fleet.run_until(back + 200_000);
    fleet.check("after four hours", back);
}

/// The power fails: all hosts start again at one moment, from what they kept.
#[test]
fn hosts_that_are_started_at_one_moment_come_one_after_the_other() {
    let mut before = Fleet::new(0, 30, u64::MAX..u64::MAX);
    before.run_until(LOST);
    let mut fleet = Fleet::new(LOST, 0, u64::MAX..u64::MAX);
    for (agent, before) in fleet.agents.iter_mut().zip(&before.agents) {
        agent.restore(before.snapshot().unwrap(), now(LOST), &mut fleet.dice);
    }
    fleet.run_until(LOST + 200_000);
    fleet.check("after a start of all", LOST);
}

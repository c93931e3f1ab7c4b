//! What a host asks next, given the time and what it was answered. Pure: no socket, no clock, no file.

use std::time::Duration;

use inborn_fleet::{CREDENTIALS_MAX, Credentials, Document, Machines, MachinesChanged, RefusalCode};
use inborn_identity::{InstanceId, UnixTime};
use inborn_pki::HOST_RENEW_SECONDS;

use crate::ask::{Answer, Ask, Failure, Lane};
use crate::backoff::{Backoff, Dice, SPREAD_SECONDS_MAX, WINDOW_SECONDS_MIN};
use crate::cache::Snapshot;
use crate::mirror::Mirror;

/// How long a host serves what it has without having heard of its region: the longest life of a credential. What was given at
/// the last contact has ended by then, and who its machines are is not the host's to say for ever.
pub const SERVE_ALONE_SECONDS: u64 = inborn_credential::LIFE_MAX_SECONDS;
/// The next certificate is asked for up to this long after half of the life of the present one: hosts that joined together
/// do not renew together.
const RENEW_JITTER_SECONDS: u64 = HOST_RENEW_SECONDS / 4;
/// How long until a renewal that was refused is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(3600);
/// How far apart questions for changes are where the answers say nothing: an answer that has nothing to say takes its time.
const WATCH_ROUND: Duration = Duration::from_secs(1);

/// A moment by both clocks: by the wall's credentials are good, and by the one that nobody sets is waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// The wall clock.
    pub wall: UnixTime,
    /// Since any moment before the agent was made.
    pub up: Duration,
}

/// What has become different.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A machine is new, or its record is another.
    Changed(InstanceId),
    /// A machine is the host's no more.
    Gone(InstanceId),
    /// A machine is not served any more, since nothing was heard of it for too long.
    Forgotten(InstanceId),
    /// There are credentials that were not there before.
    Credentials(InstanceId),
    /// There is a signed document that was not there before.
    Document(InstanceId),
    /// The host's next certificate, PEM.
    Renewed(String),
    /// The region has cut the host off: nothing of it may be served or kept.
    Evicted,
}

#[derive(Debug, Default)]
struct Queue {
    is_asking: bool,
    asked_at: Duration,
    not_before: Duration,
    backoff: Backoff,
}

impl Queue {
    const fn is_free(&self, now: Now) -> bool {
        !self.is_asking && now.up.as_nanos() >= self.not_before.as_nanos()
    }
}

/// A host's part of the talk with its region.
#[derive(Debug)]
pub struct Agent {
    mirror: Mirror,
    watch: Queue,
    work: Queue,
    /// Which of the region's addresses is asked.
    address: usize,
    addresses: usize,
    /// Whether the last thing that was seen of the region is that it is there.
    is_connected: bool,
    heard_at: Option<UnixTime>,
    /// Until when it serves alone by the clock that nobody sets: setting the other one back must not make that longer.
    alone_until: Duration,
    spread: u64,
    renew_at: UnixTime,
    renew_again: Duration,
    is_evicted: bool,
    /// Grows with all that a snapshot holds.
    revision: u64,
}

impl Agent {
    /// An agent that knows nothing but where its region may be asked (at `addresses` addresses), and when its certificate ends.
    #[must_use]
    pub fn new(addresses: usize, certificate_ends: UnixTime, dice: &mut dyn Dice) -> Self {
        let last = u64::try_from(addresses.saturating_sub(1)).unwrap_or(0);
        Self {
            mirror: Mirror::default(),
            watch: Queue::default(),
            work: Queue::default(),
            address: usize::try_from(dice.up_to(last)).unwrap_or(0),
            addresses: addresses.max(1),
            is_connected: false,
            heard_at: None,
            alone_until: Duration::ZERO,
            spread: WINDOW_SECONDS_MIN,
            renew_at: renew_at(certificate_ends, dice),
            renew_again: Duration::ZERO,
            is_evicted: false,
            revision: 0,
        }
    }

    /// Takes up what was kept before a restart. Hosts may all have been restarted at once: what is there is served at once, and
    /// the region is asked when it is this host's turn.
    pub fn restore(&mut self, snapshot: Snapshot, now: Now, dice: &mut dyn Dice) {
        self.spread = snapshot.spread_seconds.clamp(WINDOW_SECONDS_MIN, SPREAD_SECONDS_MAX);
        // Of the time that it was off only the wall clock knows.
        let heard_at = UnixTime::from_secs(snapshot.heard_at).min(now.wall);
        let left = SERVE_ALONE_SECONDS.saturating_sub(now.wall.since(heard_at));
        self.heard_at = Some(heard_at);
        self.alone_until = now.up.saturating_add(Duration::from_secs(left));
        for known in snapshot.into_machines() {
            self.mirror.restore(known, now.wall);
        }
        if self.is_too_long_ago(now) {
            self.mirror.clear();
        }
        if self.mirror.count() > 0 {
            self.watch.not_before = now.up + Duration::from_millis(dice.up_to(self.spread.saturating_mul(1000)));
        }
    }

    /// What to keep over a restart; `None` before the region was ever heard.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.heard_at.map(|heard_at| Snapshot::of(&self.mirror, heard_at, self.spread))
    }

    /// Another number for another snapshot. That nothing but the time of the last contact is another does not count.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// What is known of machines.
    #[must_use]
    pub const fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// When the region last said which machines are the host's.
    #[must_use]
    pub const fn heard_at(&self) -> Option<UnixTime> {
        self.heard_at
    }

    /// Whether the region is there, as far as the host has seen.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Which address to ask.
    #[must_use]
    pub const fn address(&self) -> usize {
        self.address
    }

    /// What to ask now. It counts as asked: [`Agent::heard`] has to follow.
    pub fn next(&mut self, now: Now) -> Vec<Ask> {
        if self.is_evicted {
            return Vec::new();
        }
        let mut asks = Vec::new();
        if self.watch.is_free(now) {
            self.watch.is_asking = true;
            self.watch.asked_at = now.up;
            asks.push(Ask::Machines(Machines { known: self.mirror.versions() }));
        }
        // While the region is away, one question a time is enough to find that it is back.
        if self.is_connected
            && self.work.is_free(now)
            && let Some(ask) = self.next_work(now)
        {
            self.work.is_asking = true;
            asks.push(ask);
        }
        asks
    }

    fn next_work(&self, now: Now) -> Option<Ask> {
        let due = self.mirror.due(CREDENTIALS_MAX, now.wall, now.up);
        if !due.is_empty() {
            return Some(Ask::Credentials(Credentials { instances: due }));
        }
        if now.wall >= self.renew_at && now.up >= self.renew_again {
            return Some(Ask::Renew);
        }
        self.mirror.unsigned(now.up).map(|instance| Ask::Document(Document { instance }))
    }

    /// How long [`Agent::next`] and [`Agent::look_at_the_time`] have nothing to say, if nothing is heard.
    #[must_use]
    pub fn rests_for(&self, now: Now) -> Duration {
        let mut rest = Duration::from_secs(SERVE_ALONE_SECONDS);
        if self.is_evicted {
            return rest;
        }
        if let Some(silence) = self.silence(now).filter(|_| self.mirror.count() > 0) {
            let left = SERVE_ALONE_SECONDS.saturating_add(1).saturating_sub(silence);
            rest = rest.min(Duration::from_secs(left));
        }
        if !self.watch.is_asking {
            rest = rest.min(self.watch.not_before.saturating_sub(now.up));
        }
        if self.is_connected && !self.work.is_asking {
            let renewal =
                Duration::from_secs(self.renew_at.since(now.wall)).max(self.renew_again.saturating_sub(now.up));
            let due = self.mirror.due_in(now.wall, now.up).map_or(renewal, |due| due.min(renewal));
            rest = rest.min(due.max(self.work.not_before.saturating_sub(now.up)));
        }
        rest
    }

    /// Looks whether too long nothing was heard.
    pub fn look_at_the_time(&mut self, now: Now) -> Vec<Event> {
        // By a clock that was set back it was heard as long ago as it was: that is also what a restart goes on from.
        self.heard_at = self.silence(now).map(|silence| now.wall.minus(silence));
        if self.mirror.count() == 0 || !self.is_too_long_ago(now) {
            return Vec::new();
        }
        self.revision += 1;
        self.mirror.clear().into_iter().map(Event::Forgotten).collect()
    }

    fn is_too_long_ago(&self, now: Now) -> bool {
        self.silence(now).is_none_or(|silence| silence > SERVE_ALONE_SECONDS)
    }

    /// For how many seconds nothing was heard, by the clock that says longer; `None` if nothing ever was.
    fn silence(&self, now: Now) -> Option<u64> {
        let up = now.up.saturating_add(Duration::from_secs(SERVE_ALONE_SECONDS)).saturating_sub(self.alone_until);
        self.heard_at.map(|heard_at| now.wall.since(heard_at).max(up.as_secs()))
    }

    /// A connection has come about: the region is there.
    pub const fn connected(&mut self) {
        self.is_connected = true;
    }

    /// What has become of a question.
    pub fn heard(&mut self, ask: Ask, outcome: Result<Answer, Failure>, now: Now, dice: &mut dyn Dice) -> Vec<Event> {
        if self.is_evicted {
            return Vec::new();
        }
        let lane = ask.lane();
        self.queue(lane).is_asking = false;
        match outcome {
            Ok(answer) => {
                self.is_connected = true;
                // Only this one says whose the machines are: credentials that come through do not stand for it.
                if lane == Lane::Watch {
                    self.heard_at = Some(now.wall);
                    self.alone_until = now.up.saturating_add(Duration::from_secs(SERVE_ALONE_SECONDS));
                }
                let queue = self.queue(lane);
                queue.backoff.succeed();
                queue.not_before = Duration::ZERO;
                self.answered(ask, answer, now)
            }
            Err(failure) => self.failed(&ask, &failure, now, dice),
        }
    }

    fn answered(&mut self, ask: Ask, answer: Answer, now: Now) -> Vec<Event> {
        match (ask, answer) {
            (Ask::Machines(_), Answer::Machines(changed)) => self.machines_changed(changed),
            (Ask::Credentials(asked), Answer::Credentials(given)) => {
                let new = self.mirror.take(&asked.instances, given.generations, now.wall, now.up);
                self.revision += u64::from(!new.is_empty());
                new.into_iter().map(Event::Credentials).collect()
            }
            (Ask::Document(asked), Answer::Document(signed)) => {
                let is_it = self.mirror.take_document(asked.instance, signed, now.up);
                self.revision += u64::from(is_it);
                is_it.then_some(Event::Document(asked.instance)).into_iter().collect()
            }
            (Ask::Renew, Answer::Renewed(renewed)) => {
                // Whoever keeps the certificate says so; if it cannot be kept, another is asked for.
                self.renew_again = now.up + RENEW_AGAIN;
                vec![Event::Renewed(renewed.certificate)]
            }
            // The client reads answers by their questions.
            _ => Vec::new(),
        }
    }

    /// The next certificate was kept, and shown from now on: when that one ends.
    pub fn renewed(&mut self, certificate_ends: UnixTime, dice: &mut dyn Dice) {
        self.renew_at = renew_at(certificate_ends, dice);
    }

    fn machines_changed(&mut self, changed: MachinesChanged) -> Vec<Event> {
        let mut events = Vec::new();
        let spread = changed.spread_seconds.clamp(WINDOW_SECONDS_MIN, SPREAD_SECONDS_MAX);
        if spread != self.spread {
            self.spread = spread;
            self.revision += 1;
        }
        for instance in changed.gone {
            if self.mirror.remove(instance) {
                events.push(Event::Gone(instance));
            }
        }
        for given in changed.changed {
            let instance = given.machine.instance;
            if self.mirror.change(given) {
                events.push(Event::Changed(instance));
            }
        }
        self.revision += u64::from(!events.is_empty());
        if events.is_empty() {
            self.watch.not_before = self.watch.asked_at + WATCH_ROUND;
        }
        events
    }

    fn failed(&mut self, ask: &Ask, failure: &Failure, now: Now, dice: &mut dyn Dice) -> Vec<Event> {
        let lane = ask.lane();
        let (retry_after, is_elsewhere) = match failure {
            Failure::Unreachable(_) => (None, true),
            Failure::Refused { code: RefusalCode::Evicted, .. } => return self.evicted(),
            // Another server may be able, or know the host already.
            Failure::Refused { code: RefusalCode::Unavailable | RefusalCode::NotJoined, retry_after, .. } => {
                (*retry_after, true)
            }
            Failure::Refused { retry_after, .. } => (*retry_after, false),
        };
        if matches!(failure, Failure::Refused { .. }) {
            self.is_connected = true;
        }
        if lane == Lane::Watch && is_elsewhere {
            self.is_connected = matches!(failure, Failure::Refused { .. });
            self.address = (self.address + 1) % self.addresses;
        }
        match (ask, failure) {
            // One of them has gone: the wait for changes says which, and the others are asked for again without it.
            (Ask::Credentials(asked), Failure::Refused { code: RefusalCode::NotPlaced, .. }) => {
                let first = asked.instances.get(..1).unwrap_or_default();
                self.mirror.put_off(first, now.wall, now.up);
            }
            (Ask::Document(asked), Failure::Refused { .. }) => self.mirror.put_off(&[asked.instance], now.wall, now.up),
            (Ask::Renew, Failure::Refused { .. }) => self.renew_again = now.up + RENEW_AGAIN,
            _ => {}
        }
        let spread = self.spread;
        let queue = self.queue(lane);
        queue.not_before = now.up + queue.backoff.fail(spread, retry_after, dice);
        Vec::new()
    }

    fn evicted(&mut self) -> Vec<Event> {
        self.is_evicted = true;
        self.is_connected = false;
        self.revision += 1;
        let mut events: Vec<Event> = self.mirror.clear().into_iter().map(Event::Gone).collect();
        events.push(Event::Evicted);
        events
    }

    const fn queue(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Watch => &mut self.watch,
            Lane::Work => &mut self.work,
        }
    }
}

/// A moment in the second half of a certificate's life.
fn renew_at(ends: UnixTime, dice: &mut dyn Dice) -> UnixTime {
    ends.minus(HOST_RENEW_SECONDS).plus(dice.up_to(RENEW_JITTER_SECONDS))
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;

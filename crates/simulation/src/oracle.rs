//! What operators were told, what machines were answered, and what may never be: the invariants.
//!
//! - A launch that was acknowledged is never lost.
//! - Whatever has ended is let in nowhere later than the bound after the end was acknowledged, or took effect late without anybody
//!   being told, and at the server that acknowledged it not at all; credentials of before stay ended when the machine begins again.
//! - Who is known and has not ended is never refused, only put off.
//! - Servers never disagree about a byte of a credential, also of one of the next minutes, whichever epoch seals it: that is the one
//!   that the store says.
//! - In the end every server has what the store has, also of what nobody was told the end of, and all have the same.
//! - A host has nothing of a machine that is not on it, and what it has of one that lives stays there whatever the region does.
//! - A host that starts takes what it has kept, whole, or nothing: never what a crash has left of it (`disk.rs`).
//! - Whatever credential a machine finds is good for another five hours, by the clock of who gives it.
//! - Epochs only go forward, at each server and in the store; no server is ahead of the store; the number of the one that seals never
//!   falls; a rotation comes to its end. What was sealed by one that was revoked, or by one before it, is let in nowhere later than the
//!   bound after that was acknowledged, and every machine is given another (`lineage.rs`).

use core::time::Duration;
use std::collections::BTreeMap;

use inborn_credential::{LIFE_SECONDS, WINDOW_SECONDS};
use inborn_identity::{InstanceId, UnixTime};
use inborn_region::{STALE_AFTER, StalePolicy};

use crate::disk::Disks;
use crate::line::Messages;
use crate::lineage::Lineage;

/// How long a server that hears nothing lets sessions in, where its policy allows it. Source: docs/stores.md.
const LAPSED_AFTER: Duration = Duration::from_secs(15);
/// Clocks have whole seconds, and a round of hearing takes its time.
const SLACK: Duration = Duration::from_secs(2);
/// After this, and the longest trouble, everybody has heard.
const SETTLED_AFTER: Duration = Duration::from_secs(20);

/// What was asked for so long before an end that took effect late was given before it.
const GIVEN_WITHIN: Duration = Duration::from_secs(15);

/// For how long a credential is good that a machine is given, at the least: windows follow each other hourly, and the next one is there
/// ahead of its time. Source: docs/hosts.md.
const LEFT_SECONDS_MIN: u64 = LIFE_SECONDS - WINDOW_SECONDS;

/// How a machine has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Terminated,
    Stopped,
    Quarantined,
}

/// A question of a machine.
pub(crate) struct Asked {
    pub(crate) id: InstanceId,
    /// Which epoch has sealed the credential that it signed with.
    pub(crate) epoch: u32,
    /// Not before the first of these it was issued, and not after the second.
    pub(crate) issued: (Duration, Duration),
    pub(crate) sent: Duration,
    pub(crate) answered: Duration,
    /// Which run of a server answered.
    pub(crate) server: usize,
}

/// Nobody's: who has acknowledged an end that came with something else.
const NO_SERVER: usize = usize::MAX;

/// Whose machines are in quarantine together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    Host(usize),
    Account(usize),
    All,
}

impl Scope {
    fn covers(self, machine: &Machine) -> bool {
        match self {
            Self::Host(host) => machine.host == Some(host),
            Self::Account(account) => machine.account == account,
            Self::All => true,
        }
    }
}

/// A quarantine of many, from when somebody asks for it until its end was acknowledged.
struct Wide {
    scope: Scope,
    /// The machines that are in it, and whether they are an operator's that does nothing more with them.
    members: Vec<(InstanceId, bool)>,
    /// Whether it was acknowledged, and nobody has asked for its end.
    is_certain: bool,
}

struct End {
    ending: Ending,
    /// When somebody asked for it first.
    asked: Duration,
    acknowledged: Duration,
    /// Which run of a server has acknowledged it.
    server: usize,
}

struct Machine {
    number: usize,
    /// Which of the accounts it is of.
    account: usize,
    /// Which host it was placed on.
    host: Option<usize>,
    /// Whether an operator has it in hand.
    is_taken: bool,
    /// Whether it is not known what became of the last change.
    is_uncertain: bool,
    /// What somebody has asked for that ends it, and was not told yet that it has.
    ending: Option<Ending>,
    /// Whether the last end is not followed by a beginning, not even one that may have been.
    is_ended: bool,
    changed: Duration,
    ends: Vec<End>,
}

/// How much has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Machines that were launched.
    pub launched: usize,
    /// Ends that were acknowledged.
    pub ended: usize,
    /// Questions that were answered: let in, refused, put off.
    pub answers: [usize; 3],
    /// Machines that were let in with what their hosts had for them.
    pub by_hosts: usize,
    /// Hosts that were cut off.
    pub evicted: usize,
    /// Quarantines that were acknowledged: of a host, of an account, of all.
    pub quarantined: [usize; 3],
    /// Changes that took effect after somebody was told that nobody knows what became of them, and others that had to wait for one.
    pub late: [usize; 2],
    /// How often servers were compared.
    pub compared: usize,
    /// What became of messages between hosts and servers, and between all others and servers.
    pub messages: [Messages; 2],
    /// What became of what hosts have kept.
    pub disks: Disks,
    /// How often the data directory of a server was not there.
    pub bare: usize,
    /// Rotations that were acknowledged, revocations that were, and epochs that came to seal because others had grown old.
    pub epochs: [usize; 3],
}

/// What is known, and what was seen that may not be.
#[derive(Default)]
pub(crate) struct Oracle {
    machines: BTreeMap<InstanceId, Machine>,
    pub(crate) lineage: Lineage,
    wide: Option<Wide>,
    violations: Vec<String>,
    summary: Summary,
    is_over: bool,
}

impl Oracle {
    /// Machines that can be changed, in the order of their launch.
    pub(crate) fn free(&self) -> impl Iterator<Item = InstanceId> {
        let is_free = |machine: &Machine| !machine.is_taken && !machine.is_uncertain && !machine.is_ended;
        self.in_order(is_free)
    }

    /// Machines that everybody has to know by now.
    pub(crate) fn settled(&self, now: Duration) -> impl Iterator<Item = InstanceId> {
        let everyone = self.lineage.changed();
        self.in_order(move |machine| machine.is_settled(now, everyone))
    }

    fn in_order(&self, which: impl Fn(&Machine) -> bool) -> impl Iterator<Item = InstanceId> {
        let mut found: Vec<(usize, InstanceId)> = self
            .machines
            .iter()
            .filter(|(_, machine)| which(machine))
            .map(|(id, machine)| (machine.number, *id))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, id)| id)
    }

    pub(crate) fn take(&mut self, id: InstanceId) {
        self.machine(id).is_taken = true;
    }

    pub(crate) fn give_back(&mut self, id: InstanceId) {
        self.machine(id).is_taken = false;
    }

    /// A launch was acknowledged.
    pub(crate) fn launched(&mut self, id: InstanceId, account: usize, host: Option<usize>, now: Duration) -> usize {
        let number = self.machines.len();
        self.summary.launched += 1;
        let machine = Machine {
            number,
            account,
            host,
            is_taken: false,
            is_uncertain: false,
            ending: None,
            is_ended: false,
            changed: now,
            ends: Vec::new(),
        };
        if self.machines.insert(id, machine).is_some() {
            self.violation(now, format!("machine {number} has the id of another"));
        }
        self.launched_into_quarantine(id, now);
        number
    }

    /// A machine that is launched where all are in quarantine is in it, too.
    fn launched_into_quarantine(&mut self, id: InstanceId, now: Duration) {
        let machine = &self.machines[&id];
        let Some(wide) = self.wide.as_mut().filter(|wide| wide.scope.covers(machine)) else { return };
        wide.members.push((id, false));
        let is_certain = wide.is_certain;
        self.take(id);
        self.may_end(id, Ending::Quarantined, now);
        if is_certain {
            self.ended(id, Ending::Quarantined, NO_SERVER, now);
        }
    }

    /// Somebody asks for a quarantine of many, while nobody does anything with a machine. What is left with an operator that does
    /// nothing more with it stays so.
    pub(crate) fn wide_may_begin(&mut self, scope: Scope, now: Duration) {
        let lives = |machine: &Machine| scope.covers(machine) && !machine.is_uncertain && !machine.is_ended;
        let ids: Vec<InstanceId> = self.in_order(lives).collect();
        let members = ids.into_iter().map(|id| (id, core::mem::replace(&mut self.machine(id).is_taken, true)));
        let members: Vec<_> = members.collect();
        members.iter().for_each(|(id, _)| self.may_end(*id, Ending::Quarantined, now));
        self.wide = Some(Wide { scope, members, is_certain: false });
    }

    /// It was acknowledged.
    pub(crate) fn wide_began(&mut self, server: usize, now: Duration) {
        let Some(mut wide) = self.wide.take() else { return };
        wide.is_certain = true;
        wide.members.iter().for_each(|(id, _)| _ = self.ended(*id, Ending::Quarantined, server, now));
        let kind = match wide.scope {
            Scope::Host(_) => 0,
            Scope::Account(_) => 1,
            Scope::All => 2,
        };
        self.summary.quarantined[kind] += 1;
        self.wide = Some(wide);
    }

    /// Somebody asks for its end.
    pub(crate) fn wide_may_end(&mut self, now: Duration) {
        let Some(mut wide) = self.wide.take() else { return };
        wide.is_certain = false;
        wide.members.iter().for_each(|(id, _)| self.may_begin(*id, now));
        self.wide = Some(wide);
    }

    /// Its end was acknowledged.
    pub(crate) fn wide_ended(&mut self, now: Duration) {
        for (id, was_taken) in self.wide.take().map(|wide| wide.members).unwrap_or_default() {
            self.begun(id, now);
            self.machine(id).is_taken = was_taken;
        }
    }

    /// How many machines are in a quarantine of many.
    pub(crate) fn in_wide(&self) -> usize {
        self.wide.as_ref().map_or(0, |wide| wide.members.len())
    }

    /// Which of the accounts a machine is of.
    pub(crate) fn account_of(&self, id: InstanceId) -> usize {
        self.machines[&id].account
    }

    /// Somebody asks for a reboot, or was answered: it ends nothing, and what is issued after it is not what was before.
    pub(crate) fn rebooted(&mut self, id: InstanceId, now: Duration) {
        self.machine(id).changed = now;
    }

    /// Somebody asks for an end.
    pub(crate) fn may_end(&mut self, id: InstanceId, ending: Ending, now: Duration) {
        let machine = self.machine(id);
        (machine.is_uncertain, machine.ending, machine.changed) = (true, Some(ending), now);
    }

    /// A change of this has taken effect, and nobody was told so. Where it ends a machine, what that one was given until then has ended.
    pub(crate) fn took_effect(&mut self, what: &[String], at: Duration) {
        self.summary.late[0] += 1;
        let wide: Vec<InstanceId> = self.wide.iter().flat_map(|wide| wide.members.iter().map(|(id, _)| *id)).collect();
        for (id, machine) in &mut self.machines {
            let Some(ending) = machine.ending else { continue };
            let is_of_it = |one: &String| match ending {
                Ending::Terminated | Ending::Stopped => *one == format!("instance {id}"),
                // There is one of many at a time, and all others are of one machine.
                Ending::Quarantined if wide.contains(id) => {
                    one.starts_with("quarantine ") && !one.starts_with("quarantine i-")
                }
                Ending::Quarantined => *one == format!("quarantine {id}"),
            };
            if what.iter().any(is_of_it) {
                let asked = machine.changed.max(at.saturating_sub(GIVEN_WITHIN));
                machine.ends.push(End { ending, asked, acknowledged: at, server: NO_SERVER });
            }
        }
    }

    /// An end was acknowledged.
    pub(crate) fn ended(&mut self, id: InstanceId, ending: Ending, server: usize, now: Duration) -> usize {
        self.summary.ended += 1;
        let machine = self.machine(id);
        machine.ends.push(End { ending, asked: machine.changed, acknowledged: now, server });
        (machine.is_uncertain, machine.ending, machine.is_ended, machine.changed) = (false, None, true, now);
        machine.number
    }

    /// Somebody asks for a beginning. Of an end that was not acknowledged nothing is known.
    pub(crate) fn may_begin(&mut self, id: InstanceId, now: Duration) {
        let machine = self.machine(id);
        (machine.is_uncertain, machine.ending, machine.is_ended, machine.changed) = (true, None, false, now);
    }

    /// A beginning was acknowledged.
    pub(crate) fn begun(&mut self, id: InstanceId, now: Duration) -> usize {
        let machine = self.machine(id);
        (machine.is_uncertain, machine.changed) = (false, now);
        machine.number
    }

    /// A machine was answered; gives what is worth a note.
    pub(crate) fn answered(&mut self, asked: Asked, status: u16, code: &str, whoami: StalePolicy) -> Option<String> {
        let bound = SLACK + if whoami == StalePolicy::RefuseAll { STALE_AFTER } else { LAPSED_AFTER };
        let kind = match status {
            200 => 0,
            500.. => 2,
            _ => 1,
        };
        self.summary.answers[kind] += 1;
        let everyone = self.lineage.changed();
        let revoked = self.lineage.wrongly_let_in(&asked, bound);
        let machine = self.machine(asked.id);
        let (number, is_on_host) = (machine.number, machine.host.is_some());
        let wrong = match kind {
            0 => machine.wrongly_let_in(&asked, bound).or(revoked),
            1 => machine.wrongly_refused(&asked, everyone).then(|| format!("it has not ended, and is refused: {code}")),
            _ => None,
        };
        self.summary.by_hosts += usize::from(kind == 0 && is_on_host);
        if let Some(wrong) = wrong {
            let Asked { issued, sent, server, .. } = asked;
            let line = format!("machine {number} at run {server}: {wrong} (issued {issued:?}, sent {sent:?})");
            self.violation(asked.answered, line.clone());
            return Some(line);
        }
        None
    }

    /// A host was cut off.
    pub(crate) fn evicted(&mut self) {
        self.summary.evicted += 1;
    }

    /// What is wrong with the machines that a host knows. One whose launch nobody has heard of yet is nobody's.
    pub(crate) fn misplaced(&self, host: usize, machines: &[InstanceId]) -> Option<String> {
        let elsewhere = |id: &&InstanceId| self.machines.get(*id).is_some_and(|machine| machine.host != Some(host));
        let machine = machines.iter().find(elsewhere).and_then(|id| self.machines.get(id))?;
        Some(format!("host {host} has machine {}, which is not on it", machine.number))
    }

    /// Machines of a host that are not certain to have ended for good, if an operator can have all of them.
    pub(crate) fn free_on(&self, host: usize) -> Option<Vec<InstanceId>> {
        let on_it = || self.machines.iter().filter(|(_, machine)| machine.host == Some(host));
        let is_free = on_it().all(|(_, machine)| !machine.is_taken && !machine.is_uncertain);
        is_free.then(|| on_it().filter(|(_, machine)| !machine.is_ended).map(|(id, _)| *id).collect())
    }

    /// Machines of a host that are certain to live.
    pub(crate) fn living_on(&self, host: usize) -> Vec<InstanceId> {
        let is_living = |machine: &Machine| machine.host == Some(host) && !machine.is_uncertain && !machine.is_ended;
        self.in_order(is_living).collect()
    }

    /// When a machine was changed last, by itself or with all others, if it is certain that it lives.
    pub(crate) fn lives_since(&self, id: InstanceId) -> Option<Duration> {
        self.machines.get(&id)?.lives_since(self.lineage.changed())
    }

    /// A machine has found a credential that is good for so many seconds.
    pub(crate) fn found(&mut self, id: InstanceId, left: u64, now: Duration) {
        if left < LEFT_SECONDS_MIN {
            let number = self.machine(id).number;
            self.violation(now, format!("machine {number} finds a credential that is good for {left} s"));
        }
    }

    /// Its number, and which host it was placed on.
    pub(crate) fn place(&self, id: InstanceId) -> Option<(usize, Option<usize>)> {
        self.machines.get(&id).map(|machine| (machine.number, machine.host))
    }

    /// Servers were asked for the same credential.
    pub(crate) fn compared(&mut self, now: Duration, is_same: bool, sealed: Option<(u32, UnixTime)>) {
        self.summary.compared += 1;
        if !is_same {
            self.violation(now, "servers disagree about a credential".to_owned());
        }
        let wrong = sealed.and_then(|(epoch, issued_at)| self.lineage.wrongly_sealed(epoch, issued_at));
        if let Some(wrong) = wrong {
            self.violation(now, wrong);
        }
    }

    pub(crate) fn violation(&mut self, now: Duration, what: String) {
        if !self.is_over || self.violations.len() < 100 {
            self.violations.push(format!("{:8.3} {what}", now.as_secs_f64()));
        }
    }

    /// All is well from here on.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
    }

    /// Those of which it is known that they live, and that they do not, with their numbers.
    #[allow(clippy::type_complexity, reason = "two of the same")]
    pub(crate) fn living_and_ended(&self) -> (Vec<(InstanceId, usize)>, Vec<(InstanceId, usize)>) {
        let certain = self.machines.iter().filter(|(_, machine)| !machine.is_uncertain);
        let (ended, living): (Vec<_>, Vec<_>) = certain.partition(|(_, machine)| machine.is_ended);
        let named = |machines: Vec<(&InstanceId, &Machine)>| {
            machines.into_iter().map(|(id, machine)| (*id, machine.number)).collect()
        };
        (named(living), named(ended))
    }

    pub(crate) fn verdict(&self) -> (Summary, Vec<String>) {
        (Summary { epochs: self.lineage.counts(), ..self.summary }, self.violations.clone())
    }

    fn machine(&mut self, id: InstanceId) -> &mut Machine {
        self.machines.get_mut(&id).unwrap()
    }
}

impl Machine {
    /// Since when nothing has changed, if that is certain. `everyone`: since when nothing has for all.
    fn lives_since(&self, everyone: Option<Duration>) -> Option<Duration> {
        let is_certain = !self.is_taken && !self.is_uncertain && !self.is_ended;
        everyone.filter(|_| is_certain).map(|changed| changed.max(self.changed))
    }

    fn is_settled(&self, now: Duration, everyone: Option<Duration>) -> bool {
        self.lives_since(everyone).is_some_and(|since| now > since + SETTLED_AFTER)
    }

    fn wrongly_let_in(&self, asked: &Asked, bound: Duration) -> Option<String> {
        let late = |end: &End| {
            let is_of_before = asked.issued.1 < end.asked;
            let is_at_once = end.server == asked.server && asked.sent > end.acknowledged;
            is_of_before && (is_at_once || asked.sent > end.acknowledged + bound)
        };
        if let Some(end) = self.ends.iter().find(|end| late(end)) {
            let (ending, at) = (end.ending, end.acknowledged);
            return Some(format!("{ending:?} since {at:?}, and let in with a credential of before"));
        }
        let last = self.ends.last().filter(|_| self.is_ended)?;
        let (ending, at) = (last.ending, last.acknowledged);
        (asked.sent > at + bound).then(|| format!("{ending:?} since {at:?}, and let in"))
    }

    fn wrongly_refused(&self, asked: &Asked, everyone: Option<Duration>) -> bool {
        let since = self.lives_since(everyone);
        since.is_some_and(|since| asked.sent.min(asked.issued.0) > since + SETTLED_AFTER)
    }
}

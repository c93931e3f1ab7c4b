//! What a host knows of its machines: what the region told, and what it was given for them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use inborn_credential::{Credential, Delivery, SecretAccessKey, SessionToken};
use inborn_fleet::{DocumentSigned, Generation, GivenCredential, GivenMachine, MACHINES_MAX, MachineRecord};
use inborn_identity::{InstanceId, UnixTime};

use crate::facts::document_of;

/// The next generation is asked for this long before its time: what a wallet of the host prepares ahead.
pub(crate) const AHEAD_SECONDS: u64 = 300;
/// What is due within this is asked for together with what is due now. The region gives no more than a minute beyond
/// [`AHEAD_SECONDS`].
const TOGETHER_SECONDS: u64 = 50;
/// How long until the same thing is asked for again where the answer had nothing new: the region's clock may be behind.
const AGAIN: Duration = Duration::from_secs(30);
/// As [`AGAIN`], for a machine that holds nothing that is good: whoever answered may not have heard of its last start, which takes
/// a region server seconds at most.
const AGAIN_BARE: Duration = Duration::from_secs(3);
/// How much later than now what a machine holds may begin, and be all there is to be had: what takes the place of what was cut off is dated
/// up to seven minutes ahead, and what belongs to a start or a reboot by the clock of the server that was asked for that. It is handed out
/// and let in at once. Much later than that, it is the clock of whoever has given it that is wrong, or this host's.
const BEGINS_WITHIN_SECONDS: u64 = 600;
/// Generations kept of a machine: the present one, the next, and the one before, for a clock that is set back.
const GENERATIONS_MAX: usize = 3;

/// A machine, as far as it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    pub(crate) version: String,
    pub(crate) record: MachineRecord,
    /// From the earliest to the latest; of the record's boot alone, as soon as there is one of it.
    pub(crate) generations: Vec<Generation>,
    pub(crate) document: Option<DocumentSigned>,
    /// The text that its document has to have.
    text: Bytes,
    /// Not before these are they asked for again.
    credentials_again: Duration,
    document_again: Duration,
}

impl Known {
    pub(crate) fn new(version: String, record: MachineRecord) -> Self {
        let text = document_of(&record);
        Self {
            version,
            record,
            generations: Vec::new(),
            document: None,
            text,
            credentials_again: Duration::ZERO,
            document_again: Duration::ZERO,
        }
    }

    /// What the region told of it.
    #[must_use]
    pub const fn record(&self) -> &MachineRecord {
        &self.record
    }

    /// Its signed document, if it is signed as it is now.
    #[must_use]
    pub fn document(&self) -> Option<&DocumentSigned> {
        self.document.as_ref().filter(|signed| signed.document.as_bytes() == self.text)
    }

    /// The credential that it holds at the moment `at`, and when the next one takes its place: the latest that has begun and
    /// not ended. If the region is away, the last that could be had.
    #[must_use]
    pub fn credential(&self, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)> {
        let now = at.as_secs();
        let is_good = |given: &&Generation| given.issued_at <= now && now < given.expires_at;
        // A cut-off may lie a moment ahead, by the fastest clock there is: what begins then is to be had before.
        let to_come = || self.generations.iter().find(|given| given.issued_at > now);
        let generation = self.generations.iter().rev().find(is_good).or_else(to_come)?;
        let given = match delivery {
            Delivery::V1 => &generation.v1,
            Delivery::V2 => &generation.v2,
        };
        let credential = Credential {
            access_key_id: given.access_key_id,
            secret_access_key: SecretAccessKey::new(&given.secret_access_key).ok()?,
            session_token: SessionToken::new(&given.session_token).ok()?,
            issued_at: UnixTime::from_secs(generation.issued_at),
            expires_at: UnixTime::from_secs(generation.expires_at),
        };
        Some((credential, UnixTime::from_secs(generation.next_at)))
    }

    const fn has_credentials(&self) -> bool {
        self.record.is_running && !self.record.is_withheld
    }

    /// When credentials are to be asked for, by the wall clock; `None`: there are none to be had.
    fn credentials_due(&self) -> Option<UnixTime> {
        if !self.has_credentials() {
            return None;
        }
        let latest = self.latest();
        Some(latest.map_or(UnixTime::default(), |latest| UnixTime::from_secs(latest.next_at).minus(AHEAD_SECONDS)))
    }

    fn wants_document(&self) -> bool {
        self.record.is_running && self.document().is_none()
    }

    /// Whether the clock was set so that what there is, is not for now.
    fn has_none_for(&self, now: UnixTime) -> bool {
        let now = now.as_secs();
        let boot = self.record.boot_generation;
        let is_for_now = |one: &Generation| {
            let begins_by = if one.boot_generation == boot { now.saturating_add(BEGINS_WITHIN_SECONDS) } else { now };
            one.issued_at <= begins_by && now < one.expires_at
        };
        self.has_credentials() && !self.generations.iter().any(is_for_now)
    }

    /// Takes over what still holds of what was given before, under an older record.
    fn keep_of(&mut self, before: Self) {
        if self.text == before.text {
            self.document = before.document;
        }
        self.generations = before.generations;
        self.drop_ended();
    }

    /// Drops what the record says to have ended. An answer may have been on its way when the record changed.
    pub(crate) fn drop_ended(&mut self) {
        if !self.has_credentials() {
            self.generations.clear();
        }
        // A start moves the launch and ends what was before it. A reboot does not: until there is something of the new boot, and
        // the region may go away just now, the machine goes on with what it has.
        let since = self.record.credentials_since.max(self.record.launch_time);
        self.generations.retain(|given| given.issued_at >= since);
        let boot = self.record.boot_generation;
        if self.latest().is_some() {
            self.generations.retain(|given| given.boot_generation == boot);
        }
    }

    /// The latest generation of this boot.
    fn latest(&self) -> Option<&Generation> {
        self.generations.iter().rev().find(|given| given.boot_generation == self.record.boot_generation)
    }

    /// Takes generations in; says whether one of them is new.
    pub(crate) fn take(&mut self, given: Vec<Generation>) -> bool {
        let which = |one: &Generation| (one.issued_at, one.boot_generation);
        let before: Vec<_> = self.generations.iter().map(which).collect();
        for one in given.into_iter().filter(is_sound) {
            self.generations.retain(|kept| kept.issued_at != one.issued_at);
            self.generations.push(one);
        }
        self.drop_ended();
        self.generations.sort_by_key(|one| one.issued_at);
        let beyond = self.generations.len().saturating_sub(GENERATIONS_MAX);
        self.generations.drain(..beyond);
        self.generations.iter().any(|one| !before.contains(&which(one)))
    }
}

/// Whether a generation is one: what is not would be handed out, and refused where it is used.
fn is_sound(given: &Generation) -> bool {
    let is_credential = |given: &GivenCredential| {
        SecretAccessKey::new(&given.secret_access_key).is_ok() && SessionToken::new(&given.session_token).is_ok()
    };
    given.issued_at < given.expires_at
        && given.issued_at < given.next_at
        && given.expires_at <= UnixTime::MAX.as_secs()
        && given.next_at <= UnixTime::MAX.as_secs()
        && is_credential(&given.v1)
        && is_credential(&given.v2)
}

/// The machines of a host.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Mirror {
    machines: BTreeMap<InstanceId, Known>,
}

impl Mirror {
    /// A machine.
    #[must_use]
    pub fn get(&self, instance: InstanceId) -> Option<&Known> {
        self.machines.get(&instance)
    }

    /// All machines, ordered by id.
    pub fn all(&self) -> impl Iterator<Item = &Known> {
        self.machines.values()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.machines.len()
    }

    pub(crate) fn versions(&self) -> BTreeMap<InstanceId, String> {
        self.machines.iter().map(|(id, known)| (*id, known.version.clone())).collect()
    }

    /// Takes a record in; says whether there was room.
    pub(crate) fn change(&mut self, given: GivenMachine) -> bool {
        let instance = given.machine.instance;
        if self.machines.len() >= MACHINES_MAX && !self.machines.contains_key(&instance) {
            return false;
        }
        let mut known = Known::new(given.version, given.machine);
        if let Some(before) = self.machines.remove(&instance) {
            known.keep_of(before);
        }
        self.machines.insert(instance, known);
        true
    }

    /// As it was when it was kept.
    pub(crate) fn restore(&mut self, mut known: Known, now: UnixTime) {
        known.drop_ended();
        known.generations.retain(|given| given.expires_at > now.as_secs() && is_sound(given));
        if self.machines.len() < MACHINES_MAX {
            self.machines.insert(known.record.instance, known);
        }
    }

    pub(crate) fn remove(&mut self, instance: InstanceId) -> bool {
        self.machines.remove(&instance).is_some()
    }

    /// Forgets all; gives which there were.
    pub(crate) fn clear(&mut self) -> Vec<InstanceId> {
        std::mem::take(&mut self.machines).into_keys().collect()
    }

    /// Takes generations in, each for the machine it names; gives the machines that have something new.
    pub(crate) fn take(
        &mut self,
        asked: &[InstanceId],
        given: Vec<Generation>,
        now: UnixTime,
        up: Duration,
    ) -> Vec<InstanceId> {
        let mut by_machine: BTreeMap<InstanceId, Vec<Generation>> = BTreeMap::new();
        for one in given {
            by_machine.entry(one.instance).or_default().push(one);
        }
        let mut new = Vec::new();
        for instance in asked {
            let Some(known) = self.machines.get_mut(instance) else { continue };
            let is_new = by_machine.remove(instance).is_some_and(|given| known.take(given));
            let is_due = known.credentials_due().is_some_and(|due| due <= now);
            known.credentials_again = match (known.has_none_for(now), is_due) {
                (true, _) => up + AGAIN_BARE,
                (false, true) => up + AGAIN,
                (false, false) => Duration::ZERO,
            };
            if is_new {
                new.push(*instance);
            }
        }
        new
    }

    pub(crate) fn take_document(&mut self, instance: InstanceId, signed: DocumentSigned, up: Duration) -> bool {
        let Some(known) = self.machines.get_mut(&instance) else { return false };
        known.document = Some(signed);
        let is_it = known.document().is_some();
        // The region signs what it knows: the record of a change that is on its way, or the text of another version.
        known.document_again = if is_it { Duration::ZERO } else { up + AGAIN };
        is_it
    }

    /// Not to be asked for again at once: the answer was a refusal.
    pub(crate) fn put_off(&mut self, instances: &[InstanceId], now: UnixTime, up: Duration) {
        for instance in instances {
            if let Some(known) = self.machines.get_mut(instance) {
                known.credentials_again = up + if known.has_none_for(now) { AGAIN_BARE } else { AGAIN };
                known.document_again = up + AGAIN;
            }
        }
    }

    /// Machines whose credentials are due, and those that are nearly, if any is.
    pub(crate) fn due(&self, most: usize, now: UnixTime, up: Duration) -> Vec<InstanceId> {
        let within = |seconds: u64| {
            let is_due = move |known: &&Known| {
                let is_due = known.credentials_due().is_some_and(|due| due <= now.plus(seconds));
                up >= known.credentials_again && (is_due || known.has_none_for(now))
            };
            self.machines.values().filter(is_due).map(|known| known.record.instance)
        };
        let mut due: Vec<InstanceId> = within(0).take(most).collect();
        if !due.is_empty() && due.len() < most {
            let soon: Vec<InstanceId> = within(TOGETHER_SECONDS).filter(|id| !due.contains(id)).collect();
            due.extend(soon.into_iter().take(most - due.len()));
        }
        due
    }

    /// A machine whose document is not signed.
    pub(crate) fn unsigned(&self, up: Duration) -> Option<InstanceId> {
        let wants = |known: &&Known| known.wants_document() && up >= known.document_again;
        self.machines.values().find(wants).map(|known| known.record.instance)
    }

    /// How long until something is due, at the latest.
    pub(crate) fn due_in(&self, now: UnixTime, up: Duration) -> Option<Duration> {
        let of_machine = |known: &Known| {
            let again = known.credentials_again.saturating_sub(up);
            let credentials = if known.has_none_for(now) {
                Some(again)
            } else {
                known.credentials_due().map(|due| again.max(Duration::from_secs(due.since(now))))
            };
            let document = known.wants_document().then(|| known.document_again.saturating_sub(up));
            credentials.into_iter().chain(document).min()
        };
        self.machines.values().filter_map(of_machine).min()
    }
}

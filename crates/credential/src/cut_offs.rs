//! Credentials that ended before their time.
//!
//! The list is short because it forgets: once everything a cut-off could hit has expired by itself, it is dropped.

use std::collections::{BTreeMap, HashMap};

use inborn_identity::{AccountId, InstanceId, UnixTime};

use crate::{Claims, LIFE_MAX_SECONDS};

/// Whose credentials a cut-off by time ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One instance's.
    Instance(InstanceId),
    /// Those of all instances of an account.
    Account(AccountId),
    /// Everybody's.
    All,
}

/// A decision that ends credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CutOff {
    /// The instance is gone, and with it everything issued to it, ever.
    Dead {
        /// The instance.
        instance: InstanceId,
    },
    /// The instance was started again: what belongs to earlier starts has ended.
    OlderBoot {
        /// The instance.
        instance: InstanceId,
        /// The first boot generation that is still good.
        below: u32,
    },
    /// What was issued before a moment has ended. The instances live on and fetch anew; issuers must respect
    /// [`CutOffs::issue_not_before`], or the same bytes would be issued again.
    IssuedBefore {
        /// Whose.
        scope: Scope,
        /// The first moment of issue that is still good; at most a quarter of an hour after the decision counts.
        before: UnixTime,
    },
}

/// What the cut-offs say about a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing.
    Alive,
    /// Its instance is gone: to the world it never existed.
    Dead,
    /// Its instance lives but this credential has ended: fetch a new one.
    Expired,
}

/// How far an issuer's clock may be ahead of the one that made a cut-off, in seconds.
const CLOCK_SLACK_SECONDS: u64 = CutOffs::AHEAD_SECONDS_MAX;

/// What is known about one instance.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Ended {
    dead: bool,
    boots_below: u32,
    issued_before: UnixTime,
    forget_at: UnixTime,
}

/// The same in as few bytes as it takes, since there may be a million.
#[derive(Clone, Copy, Debug)]
struct Packed {
    dead: bool,
    boots_below: [u8; 4],
    issued_before: Moment,
    forget_at: Moment,
}

/// Seconds since 1970 in 40 bits: thirty thousand years. What is later counts as the last of them.
#[derive(Clone, Copy, Debug)]
struct Moment([u8; 5]);

impl Moment {
    const MAX_SECONDS: u64 = (1 << 40) - 1;
}

impl From<UnixTime> for Moment {
    fn from(time: UnixTime) -> Self {
        let [a, b, c, d, e, ..] = time.as_secs().min(Self::MAX_SECONDS).to_le_bytes();
        Self([a, b, c, d, e])
    }
}

impl From<Moment> for UnixTime {
    fn from(Moment([a, b, c, d, e]): Moment) -> Self {
        Self::from_secs(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]))
    }
}

impl From<Ended> for Packed {
    fn from(Ended { dead, boots_below, issued_before, forget_at }: Ended) -> Self {
        let boots_below = boots_below.to_le_bytes();
        Self { dead, boots_below, issued_before: issued_before.into(), forget_at: forget_at.into() }
    }
}

impl From<Packed> for Ended {
    fn from(Packed { dead, boots_below, issued_before, forget_at }: Packed) -> Self {
        let boots_below = u32::from_le_bytes(boots_below);
        Self { dead, boots_below, issued_before: issued_before.into(), forget_at: forget_at.into() }
    }
}

/// The cut-offs a verifier holds in memory. Bounded; nothing that was cut off comes back to life when it is full.
#[derive(Clone, Default, Debug)]
pub struct CutOffs {
    /// A tree: a hash table of so many would take twice the memory, and all of it again whenever it grows.
    instances: BTreeMap<[u8; InstanceId::BYTES], Packed>,
    accounts: HashMap<AccountId, Ended>,
    all: Ended,
    /// How often there was no room, and all was replaced by one for everybody.
    collapses: u64,
}

impl CutOffs {
    /// Most instances and accounts remembered at once: almost four million terminations a day, about 40 MB.
    ///
    /// One more, and all are replaced by a single cut-off for everybody up to that moment: every instance fetches
    /// anew, which is a nuisance, but none of the dead is let in.
    pub const ENTRIES_MAX: usize = 1_048_576;

    /// How far ahead of its decision a cut-off by time may reach, in seconds; beyond that it counts as so far.
    pub const AHEAD_SECONDS_MAX: u64 = 900;

    /// No cut-offs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instances.len() + self.accounts.len()
    }

    /// Whether nothing is cut off.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.all == Ended::default()
    }

    /// Adds a cut-off decided at the moment `at`, and says whether it was not known. Cut-offs only add up: none takes back another.
    pub fn insert(&mut self, cut_off: CutOff, at: UnixTime) -> bool {
        let (instance, account) = match cut_off {
            CutOff::Dead { instance } | CutOff::OlderBoot { instance, .. } => (Some(instance), None),
            CutOff::IssuedBefore { scope: Scope::Instance(instance), .. } => (Some(instance), None),
            CutOff::IssuedBefore { scope: Scope::Account(account), .. } => (None, Some(account)),
            CutOff::IssuedBefore { scope: Scope::All, .. } => (None, None),
        };
        let is_new = instance.is_some_and(|instance| !self.instances.contains_key(&instance.to_bytes()))
            || account.is_some_and(|account| !self.accounts.contains_key(&account));
        if is_new && self.len() >= Self::ENTRIES_MAX {
            self.forget(at);
            if self.len() >= Self::ENTRIES_MAX {
                self.collapse(at);
            }
        }
        let changed = |ended: &mut Ended| {
            let before = *ended;
            ended.add(cut_off, at);
            *ended != before
        };
        match (instance, account) {
            (Some(instance), _) => {
                let mut ended = self.of(instance).unwrap_or_default();
                let is_changed = changed(&mut ended);
                self.instances.insert(instance.to_bytes(), ended.into());
                is_changed
            }
            (None, Some(account)) => changed(self.accounts.entry(account).or_default()),
            (None, None) => changed(&mut self.all),
        }
    }

    fn of(&self, instance: InstanceId) -> Option<Ended> {
        self.instances.get(&instance.to_bytes()).copied().map(Ended::from)
    }

    /// How often there was no room for one more, so that everybody's credentials have ended: who issues tells their holders.
    #[must_use]
    pub const fn collapses(&self) -> u64 {
        self.collapses
    }

    /// What the cut-offs say about a credential with these claims. A dead instance is dead whatever else was said.
    #[must_use]
    pub fn verdict(&self, claims: &Claims) -> Verdict {
        let instance = self.of(claims.instance);
        if instance.as_ref().is_some_and(|ended| ended.dead) {
            return Verdict::Dead;
        }
        let account = self.accounts.get(&claims.account);
        let ended =
            |ended: &Ended| claims.issued_at < ended.issued_before || claims.boot_generation < ended.boots_below;
        let is_over = ended(&self.all) || account.is_some_and(ended) || instance.as_ref().is_some_and(ended);
        if is_over { Verdict::Expired } else { Verdict::Alive }
    }

    /// The earliest moment of issue that is still good for an instance: what an issuer must treat as its boot time,
    /// where that is later. The epoch if nothing was cut off.
    #[must_use]
    pub fn issue_not_before(&self, account: AccountId, instance: InstanceId) -> UnixTime {
        let of_instance = self.of(instance).map(|ended| ended.issued_before).unwrap_or_default();
        let of_account = self.accounts.get(&account).map(|ended| ended.issued_before).unwrap_or_default();
        self.all.issued_before.max(of_account).max(of_instance)
    }

    /// Drops what can no longer matter: everything it ends has expired by now.
    pub fn forget(&mut self, now: UnixTime) {
        self.instances.retain(|_, ended| UnixTime::from(ended.forget_at) > now);
        self.accounts.retain(|_, ended| ended.forget_at > now);
        if self.all.forget_at <= now {
            self.all = Ended::default();
        }
    }

    /// Replaces every entry by one that ends at least as much. Cut-offs come in any order (a store gives them by
    /// subject), so the moment that counts is the last of any entry, not that of the one that found no room.
    fn collapse(&mut self, at: UnixTime) {
        let entries = || self.instances.values().copied().map(Ended::from).chain(self.accounts.values().copied());
        let at = entries().map(|ended| ended.last_issue()).fold(at, UnixTime::max);
        let before = entries().map(|ended| ended.issued_before).fold(at.plus(1), UnixTime::max);
        self.instances = BTreeMap::new();
        self.accounts = HashMap::new();
        self.collapses += 1;
        self.all.add(CutOff::IssuedBefore { scope: Scope::All, before }, at);
    }
}

impl Ended {
    fn add(&mut self, cut_off: CutOff, at: UnixTime) {
        let last_issue = match cut_off {
            CutOff::Dead { .. } => {
                self.dead = true;
                at
            }
            CutOff::OlderBoot { below, .. } => {
                self.boots_below = self.boots_below.max(below);
                at
            }
            CutOff::IssuedBefore { before, .. } => {
                // A moment far ahead would lock its instances out until then: no issuer could satisfy it.
                let before = before.min(at.plus(CLOCK_SLACK_SECONDS));
                self.issued_before = self.issued_before.max(before);
                at.max(before)
            }
        };
        self.forget_at = self.forget_at.max(last_issue.plus(LIFE_MAX_SECONDS + CLOCK_SLACK_SECONDS));
    }

    /// The last moment at which something that is ended here can have been issued.
    const fn last_issue(&self) -> UnixTime {
        self.forget_at.minus(LIFE_MAX_SECONDS + CLOCK_SLACK_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::tests::sample;

    const AT: UnixTime = UnixTime::from_secs(1_790_001_000);

    fn instance(number: u64) -> InstanceId {
        let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
        InstanceId::from_bytes([0, a, b, c, d, e, f, g, h])
    }

    fn with(cut_off: CutOff) -> CutOffs {
        let mut cut_offs = CutOffs::new();
        cut_offs.insert(cut_off, AT);
        cut_offs
    }

    #[test]
    fn a_dead_instance_is_dead_and_others_live() {
        let cut_offs = with(CutOff::Dead { instance: sample().instance });
        assert_eq!(cut_offs.verdict(&sample()), Verdict::Dead);
        assert_eq!(cut_offs.verdict(&Claims { instance: instance(1), ..sample() }), Verdict::Alive);
        let from_the_future = Claims { issued_at: AT.plus(100), boot_generation: u32::MAX, ..sample() };
        assert_eq!(cut_offs.verdict(&from_the_future), Verdict::Dead);
    }

    #[test]
    fn older_boots_are_expired() {
        let cut_offs = with(CutOff::OlderBoot { instance: sample().instance, below: 3 });
        for (boot_generation, verdict) in [(2, Verdict::Expired), (3, Verdict::Alive), (4, Verdict::Alive)] {
            assert_eq!(cut_offs.verdict(&Claims { boot_generation, ..sample() }), verdict, "{boot_generation}");
        }
        assert_eq!(cut_offs.verdict(&Claims { boot_generation: 2, instance: instance(1), ..sample() }), Verdict::Alive);
    }

    #[test]
    fn issued_before_hits_its_scope_to_the_second() {
        let other_instance = Claims { instance: instance(1), ..sample() };
        let other_account = Claims { account: AccountId::new(1).unwrap(), ..other_instance.clone() };
        let claims = [sample(), other_instance, other_account];
        let cases = [
            (Scope::Instance(sample().instance), [true, false, false]),
            (Scope::Account(sample().account), [true, true, false]),
            (Scope::All, [true, true, true]),
        ];
        for (scope, is_hit) in cases {
            let cut_offs = with(CutOff::IssuedBefore { scope, before: AT });
            for (claims, is_hit) in claims.iter().zip(is_hit) {
                let verdict = |issued_at| cut_offs.verdict(&Claims { issued_at, ..claims.clone() });
                let expected = if is_hit { Verdict::Expired } else { Verdict::Alive };
                assert_eq!(verdict(AT.minus(1)), expected, "{scope:?}");
                assert_eq!(verdict(AT), Verdict::Alive, "{scope:?}");
                let not_before = if is_hit { AT } else { UnixTime::from_secs(0) };
                assert_eq!(cut_offs.issue_not_before(claims.account, claims.instance), not_before, "{scope:?}");
            }
        }
    }

    #[test]
    fn dead_wins_whatever_the_order() {
        let mut cut_offs = with(CutOff::IssuedBefore { scope: Scope::All, before: AT });
        cut_offs.insert(CutOff::Dead { instance: sample().instance }, AT);
        cut_offs.insert(CutOff::OlderBoot { instance: sample().instance, below: 9 }, AT);
        cut_offs.insert(CutOff::IssuedBefore { scope: Scope::Instance(sample().instance), before: AT }, AT);
        assert_eq!(cut_offs.verdict(&sample()), Verdict::Dead);
    }

    #[test]
    fn cut_offs_only_add_up() {
        let scope = Scope::Instance(sample().instance);
        let mut cut_offs = with(CutOff::IssuedBefore { scope, before: AT });
        cut_offs.insert(CutOff::IssuedBefore { scope, before: AT.minus(500) }, AT);
        cut_offs.insert(CutOff::OlderBoot { instance: sample().instance, below: 3 }, AT);
        cut_offs.insert(CutOff::OlderBoot { instance: sample().instance, below: 1 }, AT);
        assert_eq!(cut_offs.verdict(&Claims { issued_at: AT.minus(1), ..sample() }), Verdict::Expired);
        assert_eq!(cut_offs.verdict(&Claims { issued_at: AT, boot_generation: 2, ..sample() }), Verdict::Expired);
        assert_eq!(cut_offs.verdict(&Claims { issued_at: AT, ..sample() }), Verdict::Alive);
    }

    #[test]
    fn a_moment_far_ahead_counts_as_a_quarter_of_an_hour() {
        let cut_offs = with(CutOff::IssuedBefore { scope: Scope::All, before: UnixTime::MAX });
        assert_eq!(cut_offs.issue_not_before(sample().account, sample().instance), AT.plus(CLOCK_SLACK_SECONDS));
    }

    #[test]
    fn forgets_only_after_the_longest_life() {
        let last = AT.plus(LIFE_MAX_SECONDS + CLOCK_SLACK_SECONDS);
        let all = [
            CutOff::Dead { instance: sample().instance },
            CutOff::OlderBoot { instance: sample().instance, below: 4 },
            CutOff::IssuedBefore { scope: Scope::Account(sample().account), before: AT },
            CutOff::IssuedBefore { scope: Scope::All, before: AT },
        ];
        for cut_off in all {
            let mut cut_offs = with(cut_off);
            cut_offs.forget(last.minus(1));
            assert_ne!(cut_offs.verdict(&sample()), Verdict::Alive, "{cut_off:?}");
            cut_offs.forget(last);
            assert!(cut_offs.is_empty(), "{cut_off:?}");
            assert_eq!(cut_offs.verdict(&sample()), Verdict::Alive, "{cut_off:?}");
        }
    }

    #[test]
    fn what_is_packed_comes_back() {
        let last = UnixTime::from_secs(Moment::MAX_SECONDS);
        for (time, kept) in [(AT, AT), (last.minus(1), last.minus(1)), (last, last), (last.plus(1), last)] {
            let ended = Ended { dead: true, boots_below: u32::MAX - 1, issued_before: AT, forget_at: time };
            assert_eq!(Ended::from(Packed::from(ended)), Ended { forget_at: kept, ..ended });
        }
        assert_eq!(Ended::from(Packed::from(Ended::default())), Ended::default());
        assert_eq!(size_of::<([u8; InstanceId::BYTES], Packed)>(), 24);
    }

    #[test]
    fn below_at_and_above_the_bound() {
        let mut cut_offs = CutOffs::new();
        for number in 0..CutOffs::ENTRIES_MAX as u64 {
            cut_offs.insert(CutOff::Dead { instance: instance(number) }, AT);
        }
        assert_eq!(cut_offs.len(), CutOffs::ENTRIES_MAX);
        cut_offs.insert(CutOff::Dead { instance: instance(0) }, AT);
        assert_eq!(cut_offs.len(), CutOffs::ENTRIES_MAX);

        let mut later = cut_offs.clone();
        let after_all = AT.plus(LIFE_MAX_SECONDS + CLOCK_SLACK_SECONDS);
        later.insert(CutOff::Dead { instance: sample().instance }, after_all);
        assert_eq!((later.len(), later.collapses()), (1, 0), "all others could be forgotten");
        assert_eq!(later.issue_not_before(sample().account, instance(5)), UnixTime::from_secs(0));

        assert_eq!(cut_offs.collapses(), 0);
        cut_offs.insert(CutOff::Dead { instance: sample().instance }, AT);
        assert_eq!((cut_offs.len(), cut_offs.collapses()), (1, 1));
        assert_eq!(cut_offs.verdict(&sample()), Verdict::Dead);
        let of_a_dead_one = Claims { instance: instance(5), issued_at: AT, ..sample() };
        assert_eq!(cut_offs.verdict(&of_a_dead_one), Verdict::Expired);
        assert_eq!(cut_offs.issue_not_before(sample().account, instance(5)), AT.plus(1));
    }

    /// A store gives cut-offs by subject: the one that finds no room may be older than others that are held.
    #[test]
    fn above_the_bound_in_any_order_none_of_the_dead_is_let_in() {
        let mut cut_offs = CutOffs::new();
        let late = AT.plus(3600);
        cut_offs.insert(CutOff::Dead { instance: sample().instance }, late);
        for number in 0..CutOffs::ENTRIES_MAX as u64 {
            cut_offs.insert(CutOff::Dead { instance: instance(number) }, AT);
        }
        assert_eq!(cut_offs.len(), 1, "the last one only");
        for issued_at in [AT, AT.plus(1), late] {
            assert_ne!(cut_offs.verdict(&Claims { issued_at, ..sample() }), Verdict::Alive, "{issued_at:?}");
        }
    }

    /// What an issuer gives after a cut-off by time is good: no instance is locked out until its next window.
    #[test]
    fn an_issuer_that_respects_the_cut_off_gives_what_is_alive() {
        let cut_offs = with(CutOff::IssuedBefore { scope: Scope::All, before: AT });
        let boot = AT.minus(10_000);
        let not_before = cut_offs.issue_not_before(sample().account, sample().instance);
        for (boot_time, verdict) in [(boot, Verdict::Expired), (boot.max(not_before), Verdict::Alive)] {
            let held = crate::generation(sample().instance, boot_time, AT.plus(1));
            let claims = Claims { issued_at: held.issued_at, expires_at: held.expires_at, ..sample() };
            assert_eq!(cut_offs.verdict(&claims), verdict);
        }
    }
}

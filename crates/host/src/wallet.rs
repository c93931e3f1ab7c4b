//! The credentials of a machine, prepared ahead of every request.

use std::sync::Arc;

use inborn_credential::{CutOffs, Delivery};
use inborn_identity::UnixTime;
use inborn_imds::{PreparedCredential, PreparedCredentials};

use crate::{Issuer, Machine};

/// The next generation is prepared this long before its time: longer than two rounds of the rotation.
pub const PREPARE_AHEAD_SECONDS: u64 = 300;

/// How much later than now what is handed out may begin, where nothing else is good: what takes the place of what was cut off is dated
/// behind the cut-off, which may lie so far ahead, and the region lets it in at once. What begins later is a forgery to it.
pub const BEGINS_WITHIN_SECONDS: u64 = CutOffs::AHEAD_SECONDS_MAX;

/// Generations kept: the present one, the next one when it is near, and the one before, for a clock that is set back.
const GENERATIONS_MAX: usize = 3;

/// The credentials of a machine, ready to be handed out.
///
/// Nothing on the request path waits for a key: [`Wallet::at`] only looks which generation is due.
#[derive(Clone, Debug, Default)]
pub struct Wallet {
    boot_generation: u32,
    /// Whether there is nothing in it because somebody said so.
    is_withheld: bool,
    /// From the earliest to the latest.
    generations: Vec<Generation>,
}

#[derive(Clone, Debug)]
struct Generation {
    credentials: Arc<PreparedCredentials>,
    /// When the next one takes its place.
    next_at: UnixTime,
}

impl Generation {
    fn issued_at(&self) -> UnixTime {
        self.credentials.issued_at()
    }

    fn is_good(&self, now: UnixTime) -> bool {
        self.issued_at() <= now && now < self.credentials.expires_at()
    }

    /// Whether it has not begun, and is let in all the same.
    fn begins_soon(&self, now: UnixTime) -> bool {
        now < self.issued_at() && self.issued_at() <= now.plus(BEGINS_WITHIN_SECONDS)
    }
}

impl Wallet {
    /// Which boot of its machine it was filled for.
    #[must_use]
    pub const fn boot_generation(&self) -> u32 {
        self.boot_generation
    }

    /// Whether its machine is given no credentials, for as long as somebody says so.
    #[must_use]
    pub const fn is_withheld(&self) -> bool {
        self.is_withheld
    }

    /// The credentials to hand out at the moment `now`: the latest that have begun and not ended, or the first that begin soon. If the
    /// region is away, the last that could be had.
    #[must_use]
    pub fn at(&self, now: UnixTime) -> Option<&PreparedCredentials> {
        self.present(now).map(|generation| &*generation.credentials)
    }

    fn present(&self, now: UnixTime) -> Option<&Generation> {
        let begin_soon = || self.generations.iter().find(|generation| generation.begins_soon(now));
        self.generations.iter().rev().find(|generation| generation.is_good(now)).or_else(begin_soon)
    }

    /// This wallet with what `issuer` has to add at the moment `now`; `None` when nothing is due.
    #[must_use]
    pub fn refilled(&self, machine: &Machine, issuer: &dyn Issuer, now: UnixTime) -> Option<Self> {
        let boot_generation = machine.boot_generation();
        if issuer.withholds(machine.id()) {
            let is_known = self.is_withheld && self.boot_generation == boot_generation;
            return (!is_known).then_some(Self { boot_generation, is_withheld: true, generations: Vec::new() });
        }
        let is_anew = self.is_withheld || self.boot_generation != boot_generation;
        let mut wallet = if is_anew { Self::default() } else { self.clone() };
        wallet.boot_generation = boot_generation;
        let mut changed = is_anew;
        let is_due = wallet.present(now).is_none_or(|present| now >= present.next_at || !present.is_good(now));
        if is_due {
            // What is there already, and begins soon, is no news.
            let is_there = |new: &Generation| wallet.generations.iter().any(|kept| kept.issued_at() == new.issued_at());
            let prepared = prepare(machine, issuer, now).filter(|new| new.is_good(now) || !is_there(new));
            changed |= wallet.add(prepared, now);
        }
        if let Some(next_at) = wallet.present(now).map(|present| present.next_at)
            && now < next_at
            && now.plus(PREPARE_AHEAD_SECONDS) >= next_at
            && !wallet.generations.iter().any(|generation| generation.issued_at() == next_at)
        {
            changed |= wallet.add(prepare(machine, issuer, next_at), now);
        }
        changed.then_some(wallet)
    }

    /// Adds a generation, if it was to be had. Those furthest from now make room; not those that are of no use now, for the
    /// clock may be on its way to where they are.
    fn add(&mut self, generation: Option<Generation>, now: UnixTime) -> bool {
        let Some(generation) = generation else { return false };
        self.generations.retain(|kept| kept.issued_at() != generation.issued_at());
        self.generations.push(generation);
        self.generations.sort_by_key(Generation::issued_at);
        while self.generations.len() > GENERATIONS_MAX {
            let distance = |at: UnixTime| at.since(now).max(now.since(at));
            let first = self.generations.first().map_or(0, |first| distance(first.issued_at()));
            let last = self.generations.last().map_or(0, |last| distance(last.issued_at()));
            if last > first {
                self.generations.pop();
            } else {
                self.generations.remove(0);
            }
        }
        true
    }
}

fn prepare(machine: &Machine, issuer: &dyn Issuer, at: UnixTime) -> Option<Generation> {
    let (v1, next_at) = issuer.issue(machine.id(), Delivery::V1, at)?;
    let (v2, _) = issuer.issue(machine.id(), Delivery::V2, at)?;
    let (v1, v2) = (PreparedCredential::from(&v1), PreparedCredential::from(&v2));
    let credentials = Arc::new(PreparedCredentials::new(machine.account(), v1, v2));
    Some(Generation { credentials, next_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::{NOW, machine_with, region};
    use inborn_credential::Credential;
    use inborn_identity::{InstanceId, MetadataOptions};

    const HOUR: u64 = 3600;

    struct Away;

    impl Issuer for Away {
        fn issue(&self, _: InstanceId, _: Delivery, _: UnixTime) -> Option<(Credential, UnixTime)> {
            None
        }
    }

    fn machine(boot_generation: u32) -> Machine {
        machine_with(boot_generation, MetadataOptions::default())
    }

    /// A wallet as it is after some hours of rotation until `now`, a minute at a time.
    fn filled(now: UnixTime) -> Wallet {
        let begin = now.minus(5 * HOUR);
        let moments = (0..=5 * 60).map(|minute| begin.plus(minute * 60));
        moments.fold(Wallet::default(), |wallet, at| wallet.refilled(&machine(1), &region(), at).unwrap_or(wallet))
    }

    fn present(wallet: &Wallet, now: UnixTime) -> Option<UnixTime> {
        wallet.at(now).map(PreparedCredentials::issued_at)
    }

    #[test]
    fn a_wallet_is_of_one_boot() {
        let wallet = Wallet::default().refilled(&machine(1), &region(), NOW).unwrap();
        assert!(wallet.refilled(&machine(1), &region(), NOW).is_none(), "nothing is due");
        assert_eq!(wallet.refilled(&machine(2), &region(), NOW).unwrap().boot_generation(), 2);
        let rebooted_alone = wallet.refilled(&machine(2), &Away, NOW).unwrap();
        assert!(rebooted_alone.at(NOW).is_none(), "those of an earlier boot are not the machine's any more");
    }

    /// Gives nothing, and says so.
    struct Withholding;

    impl Issuer for Withholding {
        fn issue(&self, _: InstanceId, _: Delivery, _: UnixTime) -> Option<(Credential, UnixTime)> {
            None
        }

        fn withholds(&self, _: InstanceId) -> bool {
            true
        }
    }

    #[test]
    fn what_is_withheld_is_gone_at_once_and_comes_back_anew() {
        let withheld = filled(NOW).refilled(&machine(1), &Withholding, NOW).unwrap();
        assert!(withheld.is_withheld() && withheld.at(NOW).is_none() && withheld.generations.is_empty());
        assert!(withheld.refilled(&machine(1), &Withholding, NOW).is_none(), "it is known");
        let waiting = withheld.refilled(&machine(1), &Away, NOW).unwrap();
        assert!(!waiting.is_withheld() && waiting.at(NOW).is_none(), "it is to come");
        assert!(withheld.refilled(&machine(1), &region(), NOW).unwrap().at(NOW).is_some());
        assert_eq!(withheld.refilled(&machine(2), &Withholding, NOW).unwrap().boot_generation(), 2);
    }

    #[test]
    fn what_is_from_the_future_is_never_handed_out() {
        let ahead = NOW.plus(86_400);
        let wallet = Wallet::default().refilled(&machine(1), &region(), ahead).unwrap();
        assert!(wallet.at(NOW).is_none());
        let wallet = wallet.refilled(&machine(1), &region(), NOW).unwrap();
        assert!(present(&wallet, NOW).unwrap() <= NOW);
        assert!(present(&wallet, ahead).unwrap() > NOW, "the clock may be set right again");
    }

    /// Gives what is dated behind a cut-off.
    struct Behind(UnixTime);

    impl Issuer for Behind {
        fn issue(&self, id: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)> {
            region().issue(id, delivery, at.max(self.0))
        }
    }

    /// After a release, or a revocation: the machine does not wait until what it is given has begun.
    #[test]
    fn what_begins_soon_is_handed_out_where_nothing_else_is() {
        let begin = present(&filled(NOW), NOW).unwrap();
        let wallet = Wallet::default().refilled(&machine(1), &region(), begin).unwrap();
        for (before, is_handed_out) in [(1, true), (899, true), (900, true), (901, false)] {
            let now = begin.minus(before);
            assert_eq!(present(&wallet, now), is_handed_out.then_some(begin), "{before} s before");
        }
        assert!(wallet.refilled(&machine(1), &Away, begin.minus(900)).is_none(), "nobody gives anything else");
        let other = wallet.refilled(&machine(1), &region(), begin.minus(900)).unwrap();
        assert!(present(&other, begin.minus(900)).unwrap() < begin, "what has begun is there: it goes first");
        let behind = Wallet::default().refilled(&machine(1), &Behind(begin), begin.minus(430)).unwrap();
        assert_eq!(present(&behind, begin.minus(430)), Some(begin), "at once");
        assert!(behind.refilled(&machine(1), &Behind(begin), begin.minus(429)).is_none(), "nothing is new");
        assert_eq!(
            present(&filled(NOW), begin.minus(1)).map(|other| other < begin),
            Some(true),
            "what has begun goes first"
        );
    }

    /// A step of a second over the start of a generation, while the region is away, must not lose all there is.
    #[test]
    fn a_clock_that_is_set_back_a_little_falls_back_on_the_generation_before() {
        let wallet = filled(NOW);
        let begin = present(&wallet, NOW).unwrap();
        let wallet = wallet.refilled(&machine(1), &Away, begin.minus(1)).unwrap_or(wallet);
        let before = present(&wallet, begin.minus(1)).unwrap();
        assert_eq!(begin.since(before), HOUR);
        assert_eq!(present(&wallet, begin), Some(begin), "and comes back to it");
    }

    #[test]
    fn wherever_the_clock_goes_one_refill_is_enough() {
        let mut wallet = filled(NOW);
        for jump in [1, 300, HOUR, 3 * HOUR, 7 * HOUR, 30 * 24 * HOUR, 20 * 365 * 24 * HOUR] {
            for now in [NOW.plus(jump), NOW.minus(jump), NOW] {
                wallet = wallet.refilled(&machine(1), &region(), now).unwrap_or(wallet);
                let credentials = wallet.at(now).unwrap();
                assert!(credentials.expires_at().since(now) > 5 * HOUR, "{jump}");
                assert!(wallet.generations.len() <= GENERATIONS_MAX);
                assert!(wallet.generations.is_sorted_by_key(Generation::issued_at));
            }
        }
    }
}

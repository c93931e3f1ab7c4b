//! Which generation of its credentials an instance holds at a given moment.

use aws_lc_rs::digest;
use inborn_identity::{InstanceId, UnixTime};

/// Seconds in a window: each hour an instance gets new credentials.
pub const WINDOW_SECONDS: u64 = 3600;

/// Seconds that every credential lives at least. Source: public captures of identity credentials, 6 h 01 min to
/// 6 h 26 min.
pub const LIFE_SECONDS: u64 = 6 * 3600;

/// Seconds that an instance's credentials may live beyond [`LIFE_SECONDS`]; how many is the instance's own.
const JITTER_MAX_SECONDS: u64 = 35 * 60;

/// Seconds that no credential outlives.
pub const LIFE_MAX_SECONDS: u64 = LIFE_SECONDS + JITTER_MAX_SECONDS;

/// One generation of an instance's credentials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Generation {
    /// When it begins: the start of its window, or the boot if that was later.
    pub issued_at: UnixTime,
    /// When it ends: `Expiration` in the metadata. Good before this second, refused from it on.
    pub expires_at: UnixTime,
    /// When the next generation begins.
    pub next_at: UnixTime,
}

/// The generation that `instance`, booted at `boot_time`, holds at the moment `at`.
///
/// A function of its arguments: every issuer gives the same answer. Windows start at another second of the hour for
/// each instance, so that a fleet does not renew at once. A moment before the boot counts as the boot. To end what an
/// instance holds without rebooting it, pass the later of its boot and
/// [`CutOffs::issue_not_before`](crate::CutOffs::issue_not_before).
#[must_use]
pub fn generation(instance: InstanceId, boot_time: UnixTime, at: UnixTime) -> Generation {
    let (phase, jitter) = offsets(instance);
    let at = at.max(boot_time);
    let into_window = (at.as_secs() + WINDOW_SECONDS - phase) % WINDOW_SECONDS;
    let window_start = at.minus(into_window);
    let issued_at = window_start.max(boot_time);
    Generation {
        issued_at,
        expires_at: issued_at.plus(LIFE_SECONDS + jitter),
        next_at: at.plus(WINDOW_SECONDS - into_window),
    }
}

/// The second of the hour at which an instance's windows start, and the seconds its credentials live beyond six hours.
fn offsets(instance: InstanceId) -> (u64, u64) {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"inborn schedule 1");
    context.update(&instance.to_bytes());
    let digest = context.finish();
    let mut words = digest.as_ref().chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_be_bytes));
    let mut below = |bound: u64| words.next().unwrap_or(0) % bound;
    (below(WINDOW_SECONDS), below(JITTER_MAX_SECONDS + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIVE_HOURS: u64 = 5 * 3600;

    fn instances() -> impl Strategy<Value = InstanceId> {
        any::<[u8; 9]>().prop_map(InstanceId::from_bytes)
    }

    /// Values pinned: a change here changes every credential in every fleet at the moment of an upgrade.
    #[test]
    fn the_schedule_never_changes() {
        let instance = "i-0123456789abcdef0".parse().unwrap();
        let (boot, at) = (UnixTime::from_secs(1_790_000_000), UnixTime::from_secs(1_790_010_000));
        let held = generation(instance, boot, at);
        assert_eq!(offsets(instance), (2679, 1887));
        let times = [held.issued_at, held.expires_at, held.next_at].map(UnixTime::as_secs);
        assert_eq!(times, [1_790_009_079, 1_790_032_566, 1_790_012_679]);
    }

    #[test]
    fn the_first_generation_begins_at_the_boot() {
        let instance = "i-0123456789abcdef0".parse().unwrap();
        let boot = UnixTime::from_secs(1_790_000_000);
        let held = generation(instance, boot, boot);
        assert_eq!(held.issued_at, boot);
        assert!(held.next_at > boot && held.next_at.since(boot) <= WINDOW_SECONDS);
        assert_eq!(generation(instance, boot, UnixTime::from_secs(5)), held);
    }

    #[test]
    fn the_ends_of_time_do_not_panic() {
        let instance = "i-fffffffffffffffff".parse().unwrap();
        for boot in [UnixTime::from_secs(0), UnixTime::MAX] {
            for at in [UnixTime::from_secs(0), UnixTime::from_secs(1), UnixTime::MAX] {
                assert!(generation(instance, boot, at).issued_at >= boot);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_held_has_more_than_five_hours_left(instance in instances(), boot in 0..4_000_000_000u64, later in 0..10_000_000u64) {
            let (boot, at) = (UnixTime::from_secs(boot), UnixTime::from_secs(boot + later));
            let held = generation(instance, boot, at);
            prop_assert!(held.issued_at <= at && held.issued_at >= boot && at < held.next_at);
            prop_assert!(held.expires_at.since(at) > FIVE_HOURS);
            let life = held.expires_at.since(held.issued_at);
            prop_assert!((LIFE_SECONDS..=LIFE_MAX_SECONDS).contains(&life));
        }

        #[test]
        fn generations_follow_each_other_hourly(instance in instances(), boot in 0..4_000_000_000u64, later in 0..10_000_000u64) {
            let boot = UnixTime::from_secs(boot);
            let held = generation(instance, boot, boot.plus(later));
            prop_assert_eq!(generation(instance, boot, held.issued_at), held);
            prop_assert_eq!(generation(instance, boot, held.next_at.minus(1)), held);
            let next = generation(instance, boot, held.next_at);
            prop_assert_eq!(next.issued_at, held.next_at);
            prop_assert_eq!(next.next_at.since(held.next_at), WINDOW_SECONDS);
            prop_assert_eq!(next.expires_at.since(next.issued_at), held.expires_at.since(held.issued_at));
        }
    }
}

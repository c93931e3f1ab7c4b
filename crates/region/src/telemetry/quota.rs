//! How much one machine may bring: a bucket of bytes for each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use inborn_identity::{InstanceId, UnixTime};

/// Seconds' worth that may come at once after a pause: a machine that was cut off brings what it has kept.
const BURST_SECONDS: u64 = 8;
/// The longest time for which a client is told to wait.
const WAIT_SECONDS_MAX: u64 = 60;

/// The buckets. A request is let in while there is anything in its machine's bucket, and what it brings is taken out when
/// that is known, if need be below nothing: so a request may be larger than what is left, and the next one waits for it.
#[derive(Debug)]
pub(crate) struct Quota {
    per_second: u32,
    of: Mutex<HashMap<InstanceId, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: i64,
    filled: UnixTime,
}

impl Quota {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, of: Mutex::default() }
    }

    fn burst(&self) -> i64 {
        i64::from(self.per_second).saturating_mul(BURST_SECONDS.cast_signed())
    }

    /// Whether a machine may bring something now.
    ///
    /// # Errors
    /// The seconds after which it may.
    pub(crate) fn admit(&self, instance: InstanceId, now: UnixTime) -> Result<(), u64> {
        if self.per_second == 0 {
            return Ok(());
        }
        let left = self.at(instance, now, |bucket| bucket.left);
        if left > 0 {
            return Ok(());
        }
        let seconds = left.unsigned_abs() / u64::from(self.per_second) + 1;
        Err(seconds.min(WAIT_SECONDS_MAX))
    }

    /// It has brought so much.
    pub(crate) fn charge(&self, instance: InstanceId, bytes: usize, now: UnixTime) {
        if self.per_second > 0 {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.at(instance, now, |bucket| bucket.left = bucket.left.saturating_sub(bytes));
        }
    }

    /// Fills up a bucket for the time that has passed; a clock that goes back fills nothing.
    fn at<T>(&self, instance: InstanceId, now: UnixTime, then: impl FnOnce(&mut Bucket) -> T) -> T {
        let burst = self.burst();
        let mut buckets = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(instance).or_insert(Bucket { left: burst, filled: now });
        let seconds = i64::try_from(now.since(bucket.filled)).unwrap_or(i64::MAX);
        let filled = bucket.left.saturating_add(i64::from(self.per_second).saturating_mul(seconds));
        (bucket.left, bucket.filled) = (filled.min(burst), bucket.filled.max(now));
        then(bucket)
    }

    pub(super) fn keep(&self, is_there: impl Fn(InstanceId) -> bool) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).retain(|instance, _| is_there(*instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    #[test]
    fn a_burst_then_the_rate() {
        let (quota, id) = (Quota::new(100), "i-0123456789abcdef0".parse().unwrap());
        quota.charge(id, 799, NOW);
        assert_eq!(quota.admit(id, NOW), Ok(()), "below");
        quota.charge(id, 1, NOW);
        assert_eq!(quota.admit(id, NOW), Err(1), "at");
        quota.charge(id, 250, NOW);
        assert_eq!(quota.admit(id, NOW), Err(3), "above");
        assert_eq!(quota.admit("i-0123456789abcdef1".parse().unwrap(), NOW), Ok(()), "each has its own");
        assert_eq!(quota.admit(id, NOW.plus(2)), Err(1));
        assert_eq!(quota.admit(id, NOW.plus(3)), Ok(()));
        assert_eq!(quota.admit(id, NOW.minus(60)), Ok(()), "a clock that goes back takes nothing away");
        quota.charge(id, usize::MAX, NOW.plus(1_000_000));
        assert_eq!(quota.admit(id, NOW.plus(1_000_000)), Err(WAIT_SECONDS_MAX));
    }

    #[test]
    fn zero_is_no_limit() {
        let (quota, id) = (Quota::new(0), "i-0123456789abcdef0".parse().unwrap());
        quota.charge(id, usize::MAX, NOW);
        assert_eq!(quota.admit(id, NOW), Ok(()));
    }
}

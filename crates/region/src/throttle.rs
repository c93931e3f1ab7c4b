//! Rate limits: a bucket of calls for each source and for each principal.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use inborn_credential::Caller;
use inborn_identity::{AccessKeyId, CallerKind, InstanceId, UnixTime};

use crate::RequestOrigin;

/// How many calls may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Calls a second that may go on for ever; 0 for no limit.
    pub per_second: u32,
    /// Calls that may come at once after a pause.
    pub burst: u32,
}

impl Rate {
    /// For one source address: more than one core verifies, so that only a flood meets it.
    pub const SOURCE: Rate = Rate { per_second: 20_000, burst: 40_000 };
    /// For one principal: no agent asks who it is as often as this.
    pub const PRINCIPAL: Rate = Rate { per_second: 5_000, burst: 10_000 };
}

/// The limits of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// For each source, before anything is looked at: an IPv4 address, an IPv6 network of 64 bits, or a machine with a
    /// network of its own.
    pub source: Rate,
    /// For each verified principal, whatever keys it signs with.
    pub principal: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self { source: Rate::SOURCE, principal: Rate::PRINCIPAL }
    }
}

/// What one client has only one of: an IPv4 address, or the 64 bits of an IPv6 network (RFC 6177), in which a host takes as
/// many addresses as it likes. A machine with a network of its own is one by itself, whatever address it shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Source {
    Address(IpAddr),
    Machine(InstanceId),
}

impl From<&RequestOrigin> for Source {
    fn from(origin: &RequestOrigin) -> Self {
        origin.machine.map_or_else(|| origin.peer.address.ip().into(), Self::Machine)
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 64)),
            address => address,
        })
    }
}

/// Who is limited as one. A machine holds several keys at a time, a new one each hour, and is one principal with all of
/// them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Limited {
    Session(CallerKind, InstanceId),
    Key(AccessKeyId),
}

impl From<&Caller> for Limited {
    fn from(caller: &Caller) -> Self {
        match caller.claims.as_deref() {
            Some(claims) => Self::Session(caller.principal.kind(), claims.instance),
            None => Self::Key(caller.access_key_id),
        }
    }
}

/// Most keys remembered. Those that have been quiet are forgotten first; if all are busy, new ones are not limited:
/// a limit is there for fairness, and refusing strangers because others are busy would not be fair.
const KEYS_MAX: usize = 65_536;

/// Buckets, one for each key.
#[derive(Debug)]
pub(crate) struct Throttle<K> {
    rate: ArcSwap<Rate>,
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    of: HashMap<K, Bucket>,
    /// The second in which quiet keys were looked for last, for want of room: a second look in it would find none.
    swept: Option<UnixTime>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    /// The second in which it was last filled up.
    filled: UnixTime,
}

impl<K: Eq + Hash> Throttle<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate: ArcSwap::from_pointee(rate), buckets: Mutex::new(Buckets { of: HashMap::new(), swept: None }) }
    }

    /// From now on this is the rate. What a key has left of its burst it keeps, as far as the new one goes.
    pub(crate) fn change(&self, rate: Rate) {
        self.rate.store(Arc::new(rate));
    }

    /// Whether `key` could make a call now, if it made one. It counts as none.
    pub(crate) fn would_admit(&self, key: K, now: UnixTime) -> bool {
        let rate = **self.rate.load();
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        rate.per_second == 0 || buckets.of.get(&key).is_none_or(|bucket| bucket.level(rate, now) > 0)
    }

    /// Whether `key` may make a call now. Filling up goes by whole seconds, which is the resolution of time here; a clock
    /// that goes back fills nothing.
    pub(crate) fn admits(&self, key: K, now: UnixTime) -> bool {
        let rate = **self.rate.load();
        let Rate { per_second, burst } = rate;
        if per_second == 0 {
            return true;
        }
        // Counters: consistent between any two statements that can panic.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.of.len() >= KEYS_MAX && !buckets.of.contains_key(&key) {
            if buckets.swept != Some(now) {
                buckets.of.retain(|_, bucket| bucket.level(rate, now) < burst);
                buckets.swept = Some(now);
            }
            if buckets.of.len() >= KEYS_MAX {
                return true;
            }
        }
        let bucket = buckets.of.entry(key).or_insert(Bucket { left: burst, filled: now });
        bucket.left = bucket.level(rate, now);
        bucket.filled = bucket.filled.max(now);
        match bucket.left.checked_sub(1) {
            Some(left) => {
                bucket.left = left;
                true
            }
            None => false,
        }
    }
}

impl Bucket {
    /// What is in it at the moment `now`.
    fn level(&self, rate: Rate, now: UnixTime) -> u32 {
        let seconds = u32::try_from(now.since(self.filled)).unwrap_or(u32::MAX);
        self.left.saturating_add(rate.per_second.saturating_mul(seconds)).min(rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_listener::Peer;
    use std::collections::HashSet;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn admitted(throttle: &Throttle<u32>, key: u32, now: UnixTime, calls: u32) -> u32 {
        (0..calls).map(|_| u32::from(throttle.admits(key, now))).sum()
    }

    #[test]
    fn who_only_asks_makes_no_call() {
        let throttle = Throttle::new(Rate { per_second: 1, burst: 2 });
        let would = |now| (0..9).map(|_| throttle.would_admit(1, now)).collect::<HashSet<bool>>();
        assert_eq!(would(NOW), [true].into());
        assert_eq!(admitted(&throttle, 1, NOW, 1), 1);
        assert_eq!(would(NOW), [true].into());
        assert_eq!(admitted(&throttle, 1, NOW, 1), 1);
        assert_eq!(would(NOW), [false].into());
        assert_eq!(would(NOW.plus(1)), [true].into());
        assert_eq!(admitted(&throttle, 1, NOW.plus(1), 2), 1);
    }

    #[test]
    fn a_rate_that_is_changed_counts_from_then_on() {
        let throttle = Throttle::new(Rate { per_second: 10, burst: 20 });
        assert_eq!(admitted(&throttle, 1, NOW, 5), 5);
        throttle.change(Rate { per_second: 1, burst: 3 });
        assert_eq!(admitted(&throttle, 1, NOW, 20), 3, "no more than a burst of now");
        assert_eq!(admitted(&throttle, 1, NOW.plus(1), 20), 1);
        throttle.change(Rate { per_second: 0, burst: 0 });
        assert_eq!(admitted(&throttle, 1, NOW.plus(1), 1000), 1000, "no limit any more");
        throttle.change(Rate { per_second: 10, burst: 20 });
        assert_eq!(admitted(&throttle, 1, NOW.plus(2), 30), 10);
    }

    #[test]
    fn a_burst_then_the_rate() {
        let throttle = Throttle::new(Rate { per_second: 10, burst: 25 });
        assert_eq!(admitted(&throttle, 1, NOW, 24), 24);
        assert_eq!(admitted(&throttle, 1, NOW, 3), 1, "the 25th and no more");
        assert_eq!(admitted(&throttle, 2, NOW, 30), 25, "each key has its own");
        assert_eq!(admitted(&throttle, 1, NOW.plus(1), 30), 10);
        assert_eq!(admitted(&throttle, 1, NOW.plus(3), 30), 20);
        assert_eq!(admitted(&throttle, 1, NOW.plus(1_000_000), 30), 25, "never more than a burst");
    }

    #[test]
    fn a_clock_that_goes_back_fills_nothing() {
        let throttle = Throttle::new(Rate { per_second: 10, burst: 10 });
        assert_eq!(admitted(&throttle, 1, NOW, 20), 10);
        assert_eq!(admitted(&throttle, 1, NOW.minus(3600), 20), 0);
        assert_eq!(admitted(&throttle, 1, NOW, 20), 0);
        assert_eq!(admitted(&throttle, 1, NOW.plus(1), 20), 10);
    }

    #[test]
    fn zero_is_no_limit() {
        let throttle = Throttle::new(Rate { per_second: 0, burst: 0 });
        assert_eq!(admitted(&throttle, 1, NOW, 1000), 1000);
    }

    #[test]
    fn addresses_of_one_client_are_one_source() {
        let source = |address: &str| Source::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:ffff:ffff:ffff"), "the last of the network");
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"), "the next network");
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.1"), "the same by a socket of both kinds");
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_ne!(source("::ffff:192.0.2.1"), source("::ffff:192.0.2.2"));
    }

    #[test]
    fn a_machine_with_a_network_of_its_own_is_a_source_by_itself() {
        let peer = std::sync::Arc::new(Peer { address: ([169, 254, 169, 252], 1).into(), tls: None });
        let source = |machine: Option<&str>| {
            let machine = machine.map(|id| id.parse().unwrap());
            Source::from(&RequestOrigin { peer: std::sync::Arc::clone(&peer), machine })
        };
        let (one, other) = (source(Some("i-0123456789abcdef0")), source(Some("i-0123456789abcdef1")));
        assert_eq!(one, source(Some("i-0123456789abcdef0")));
        assert!(one != other && one != source(None) && source(None) == peer.address.ip().into());
    }

    #[test]
    fn quiet_keys_make_room_for_new_ones() {
        let throttle = Throttle::new(Rate { per_second: 1, burst: 2 });
        for key in 0..u32::try_from(KEYS_MAX).unwrap() {
            assert!(throttle.admits(key, NOW));
        }
        let state = || {
            let buckets = throttle.buckets.lock().unwrap();
            (buckets.of.len(), buckets.swept)
        };
        assert_eq!(state(), (KEYS_MAX, None), "room for all");
        assert_eq!(admitted(&throttle, 1_000_000, NOW, 5), 5, "all are busy");
        assert_eq!(state(), (KEYS_MAX, Some(NOW)));
        assert_eq!(admitted(&throttle, 1_000_000, NOW.plus(1), 5), 2, "all were quiet");
        assert_eq!(state(), (1, Some(NOW.plus(1))));
    }
}

//! The one real clock.

use std::time::{SystemTime, UNIX_EPOCH};

use inborn_identity::{Clock, UnixTime};

/// The operating system's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place where time comes from")]
    fn now(&self) -> UnixTime {
        // A clock before 1970 is broken; everything signed would be refused at time 0, which is the safe side.
        UnixTime::from_secs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }
}

/// The present moment in nanoseconds since 1970: for traces.
#[cfg(feature = "otel")]
#[allow(clippy::disallowed_methods, reason = "as above")]
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    since.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// The present moment in milliseconds since 1970: for what happened, not for who may do what.
#[allow(clippy::disallowed_methods, reason = "as above")]
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

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

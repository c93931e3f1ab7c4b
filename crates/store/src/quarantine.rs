//! Quarantine: machines that live on and are let in nowhere until an operator releases them.

use core::fmt;
use core::str::FromStr;

use inborn_identity::{AccountId, HostId, InstanceId, UnixTime};

use crate::StoreError;

/// Whose machines are in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum QuarantineScope {
    /// One instance.
    Instance(InstanceId),
    /// All that are placed on a host.
    Host(HostId),
    /// All of an account.
    Account(AccountId),
    /// All.
    All,
}

const ALL: &str = "*";

impl fmt::Display for QuarantineScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => id.fmt(f),
            Self::Host(id) => id.fmt(f),
            Self::Account(id) => id.fmt(f),
            Self::All => f.write_str(ALL),
        }
    }
}

impl FromStr for QuarantineScope {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            ALL => Ok(Self::All),
            text if text.starts_with('i') => text.parse().map(Self::Instance).map_err(drop),
            text if text.starts_with('h') => text.parse().map(Self::Host).map_err(drop),
            text => text.parse().map(Self::Account).map_err(drop),
        }
    }
}

/// A quarantine, as long as it lasts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantine {
    /// Whose machines.
    pub scope: QuarantineScope,
    /// Why, in an operator's words: at most [`Quarantine::REASON_BYTES_MAX`] bytes.
    pub reason: String,
    /// Who said so, by ARN: at most [`Quarantine::BY_BYTES_MAX`] bytes.
    pub by: String,
    /// When it began.
    pub since: UnixTime,
}

impl Quarantine {
    /// The longest reason, in bytes.
    pub const REASON_BYTES_MAX: usize = 512;
    /// The longest ARN, in bytes. Source: IAM, "ARN length".
    pub const BY_BYTES_MAX: usize = 2048;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.reason.len() > Self::REASON_BYTES_MAX || self.by.len() > Self::BY_BYTES_MAX {
            return Err(StoreError::Invalid(
                "a quarantine has a reason of at most 512 bytes, by an ARN of at most 2048",
            ));
        }
        Ok(())
    }
}
/// What there has to be of a scope still, for its quarantine to begin or to change: what the writer has read, and decided by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QuarantineBasis {
    /// Whatever there is.
    Any,
    /// No quarantine.
    Absent,
    /// This one, whole.
    Found(Quarantine),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_come_back() {
        for scope in [
            QuarantineScope::Instance("i-0123456789abcdef0".parse().unwrap()),
            QuarantineScope::Host("h-0123456789abcdef0".parse().unwrap()),
            QuarantineScope::Account("123456789012".parse().unwrap()),
            QuarantineScope::All,
        ] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        for text in ["", "**", "i-", "h-1", "12345678901", "all", "i", "h"] {
            assert_eq!(text.parse::<QuarantineScope>(), Err(()), "{text}");
        }
    }

    #[test]
    fn reasons_below_at_and_above_the_longest() {
        for (reason, by, is_good) in [(511, 2047, true), (512, 2048, true), (513, 0, false), (0, 2049, false)] {
            let quarantine = Quarantine {
                scope: QuarantineScope::All,
                reason: "r".repeat(reason),
                by: "b".repeat(by),
                since: UnixTime::from_secs(1),
            };
            assert_eq!(quarantine.check().is_ok(), is_good, "{reason} {by}");
        }
    }
}

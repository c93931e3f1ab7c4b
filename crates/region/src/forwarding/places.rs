//! Places for what is passed on, and for what is asked because of it: so many of all, and no one account, nor whoever asks without a
//! signature from one source, has more than its share. Those who signed and those who did not keep each other out of nothing.

use inborn_identity::AccountId;
use inborn_wire::error::Problem;

use super::Asking;
use crate::channels::{Openings, Place};
use crate::throttle::Source;

/// Calls of those who signed that are passed on, and questions that are asked because of one, at a time. Each takes two connections at most.
const CALLS_MAX: usize = 512;
/// Of these, calls of one account.
const CALLS_OF_ACCOUNT_MAX: usize = 128;
/// Look-ups, at a time, of sessions whose data channels are opened without a signature.
const LOOK_UPS_MAX: usize = 128;
/// Of these, those that one source asks for.
const LOOK_UPS_OF_SOURCE_MAX: usize = 16;
/// WebSockets that are passed on at a time, of those who signed and of those who did not: each takes two descriptors and two buffers.
const SOCKETS_MAX: usize = 2_000;
/// Of these, those of the sessions of one account.
const SOCKETS_OF_ACCOUNT_MAX: usize = 1_000;

/// In whose name something is asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Asker {
    /// An account, one of whose principals has signed.
    Account(AccountId),
    /// Nobody who is known.
    Source(Source),
}

#[derive(Debug)]
pub(super) struct Places {
    calls: Openings<AccountId>,
    look_ups: Openings<Source>,
    signed: Sockets,
    unsigned: Sockets,
}

#[derive(Debug)]
struct Sockets {
    of_sessions: Openings<String>,
    of_accounts: Openings<AccountId>,
}

/// A place for a call, until it is dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    _call: Option<Place<'a, AccountId>>,
    _look_up: Option<Place<'a, Source>>,
}

impl Sockets {
    fn new() -> Self {
        let of_accounts = Openings::sharing(SOCKETS_MAX, SOCKETS_OF_ACCOUNT_MAX);
        Self { of_sessions: Openings::new(SOCKETS_MAX), of_accounts }
    }
}

impl Default for Places {
    fn default() -> Self {
        Self {
            calls: Openings::sharing(CALLS_MAX, CALLS_OF_ACCOUNT_MAX),
            look_ups: Openings::sharing(LOOK_UPS_MAX, LOOK_UPS_OF_SOURCE_MAX),
            signed: Sockets::new(),
            unsigned: Sockets::new(),
        }
    }
}

impl Places {
    /// A place for a call, if there is one.
    pub(super) fn call(&self, asker: Asker) -> Result<Held<'_>, Problem> {
        let held = match asker {
            Asker::Account(account) => {
                Held { _call: Some(self.calls.take(account).ok_or(Problem::Throttled)?), _look_up: None }
            }
            Asker::Source(source) => {
                Held { _call: None, _look_up: Some(self.look_ups.take(source).ok_or(Problem::Throttled)?) }
            }
        };
        Ok(held)
    }

    /// A place for a WebSocket, if there is one.
    pub(super) fn socket(&self, asking: &Asking) -> Option<(Place<'_, AccountId>, Place<'_, String>)> {
        let sockets = if asking.is_signed { &self.signed } else { &self.unsigned };
        Some((sockets.of_accounts.take(asking.account)?, sockets.of_sessions.take(asking.session.clone())?))
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use std::net::IpAddr;

    use super::*;

    fn account(number: usize) -> AccountId {
        AccountId::new(number as u64 + 1).unwrap()
    }

    #[test]
    fn calls_of_one_account_and_of_all_below_at_and_above_the_most() {
        let places = Places::default();
        let call = |number| places.call(Asker::Account(account(number)));
        let mut held: Vec<_> = (0..CALLS_OF_ACCOUNT_MAX).map(|_| call(0).unwrap()).collect();
        assert_eq!(call(0).err(), Some(Problem::Throttled));
        held.extend((CALLS_OF_ACCOUNT_MAX..CALLS_MAX).map(|at| call(at / CALLS_OF_ACCOUNT_MAX).unwrap()));
        assert_eq!(call(CALLS_MAX).err(), Some(Problem::Throttled));
        let source = Source::from(IpAddr::from(Ipv4Addr::LOCALHOST));
        assert!(places.call(Asker::Source(source)).is_ok(), "who does not sign has places of its own");
        held.pop();
        assert!(call(CALLS_MAX).is_ok());
    }

    #[test]
    fn look_ups_of_one_source_and_of_all_below_at_and_above_the_most() {
        let places = Places::default();
        let look_up = |number: usize| {
            let address = Ipv4Addr::from_bits(u32::try_from(number).unwrap());
            places.call(Asker::Source(Source::from(IpAddr::from(address))))
        };
        let mut held: Vec<_> = (0..LOOK_UPS_OF_SOURCE_MAX).map(|_| look_up(0).unwrap()).collect();
        assert_eq!(look_up(0).err(), Some(Problem::Throttled));
        held.extend((LOOK_UPS_OF_SOURCE_MAX..LOOK_UPS_MAX).map(|at| look_up(at).unwrap()));
        assert_eq!(look_up(0xffff).err(), Some(Problem::Throttled));
        assert!(places.call(Asker::Account(account(0))).is_ok(), "and keeps nobody out who does");
        held.pop();
        assert!(look_up(0xffff).is_ok());
    }

    fn asking(account_number: usize, session: usize, is_signed: bool) -> Asking {
        let mut request = http::Request::new(());
        let client = hyper::upgrade::on(&mut request);
        Asking { session: session.to_string(), account: account(account_number), is_signed, client }
    }

    #[test]
    fn sockets_of_one_account_and_of_all_below_at_and_above_the_most() {
        let places = Places::default();
        let take = |account, session, is_signed| places.socket(&asking(account, session, is_signed));
        let mut held: Vec<_> = (0..SOCKETS_OF_ACCOUNT_MAX).map(|session| take(0, session, false).unwrap()).collect();
        assert!(take(0, SOCKETS_MAX, false).is_none());
        held.extend((SOCKETS_OF_ACCOUNT_MAX..SOCKETS_MAX).map(|session| take(1, session, false).unwrap()));
        assert!(take(2, SOCKETS_MAX, false).is_none());
        assert!(take(0, SOCKETS_MAX, true).is_some(), "who does not sign keeps nobody out who does");
        held.pop();
        assert!(take(2, SOCKETS_MAX, false).is_some());
    }
}

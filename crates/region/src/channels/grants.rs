//! Grants: tokens with which a channel is opened once, soon, by whom it was granted to.

use core::hash::Hash;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use inborn_identity::UnixTime;
use inborn_sigv4::sha256;
use zeroize::Zeroizing;

/// How long a grant may wait to be used.
pub(super) const GRANT_SECONDS: u64 = 60;
/// Grants that wait at a time.
const GRANTS_MAX: usize = 65_536;
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// As many grants wait as there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GrantsFull;

/// What was granted and not used yet, one grant for each channel. Of a token its digest is kept.
#[derive(Debug)]
pub(crate) struct Grants<K> {
    waiting: Mutex<HashMap<K, Grant>>,
}

#[derive(Debug)]
struct Grant {
    digest: [u8; 32],
    expires_at: UnixTime,
}

impl<K> Default for Grants<K> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<K: Eq + Hash> Grants<K> {
    /// Grants a channel. The token is good once; an earlier one for the same channel no longer is.
    pub(crate) fn grant(&self, channel: K, now: UnixTime) -> Result<Zeroizing<String>, GrantsFull> {
        let mut random = Zeroizing::new([0; TOKEN_BYTES]);
        aws_lc_rs::rand::fill(random.as_mut()).map_err(|_| GrantsFull)?;
        let token = Zeroizing::new(BASE64.encode(random.as_ref()));
        let grant = Grant { digest: sha256(token.as_bytes()), expires_at: now.plus(GRANT_SECONDS) };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= GRANTS_MAX && !waiting.contains_key(&channel) {
            waiting.retain(|_, grant| now < grant.expires_at);
            if waiting.len() >= GRANTS_MAX {
                return Err(GrantsFull);
            }
        }
        waiting.insert(channel, grant);
        Ok(token)
    }

    /// Whether this is the token of the channel, which is used up by that. A wrong one uses nothing up: whoever guesses must
    /// not be able to keep out who knows.
    pub(crate) fn redeem(&self, channel: &K, token: &str, now: UnixTime) -> bool {
        let digest = sha256(token.as_bytes());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_good = waiting
            .get(channel)
            .is_some_and(|grant| now < grant.expires_at && verify_slices_are_equal(&grant.digest, &digest).is_ok());
        if is_good {
            waiting.remove(channel);
        }
        is_good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    #[test]
    fn a_token_is_good_once_soon_and_for_its_channel() {
        let grants = Grants::default();
        let token = grants.grant(1, NOW).unwrap();
        assert!(!grants.redeem(&2, &token, NOW), "another channel");
        assert!(!grants.redeem(&1, "guess", NOW));
        assert!(grants.redeem(&1, &token, NOW), "a guess before does not use it up");
        assert!(!grants.redeem(&1, &token, NOW), "once");
        for (later, is_good) in [(GRANT_SECONDS - 1, true), (GRANT_SECONDS, false), (GRANT_SECONDS + 1, false)] {
            let token = grants.grant(1, NOW).unwrap();
            assert_eq!(grants.redeem(&1, &token, NOW.plus(later)), is_good, "{later}");
        }
    }

    #[test]
    fn the_newest_token_is_the_one() {
        let grants = Grants::default();
        let (first, second) = (grants.grant(1, NOW).unwrap(), grants.grant(1, NOW).unwrap());
        assert_ne!(*first, *second);
        assert!(!grants.redeem(&1, &first, NOW));
        assert!(grants.redeem(&1, &second, NOW));
    }

    #[test]
    fn grants_below_at_and_above_the_most() {
        let grants = Grants::default();
        for channel in 0..GRANTS_MAX {
            assert!(grants.grant(channel, NOW).is_ok(), "{channel}");
        }
        assert_eq!(grants.grant(GRANTS_MAX, NOW).err(), Some(GrantsFull));
        assert!(grants.grant(0, NOW).is_ok(), "one that waits already takes no more room");
        assert!(grants.grant(GRANTS_MAX, NOW.plus(GRANT_SECONDS)).is_ok(), "what has expired makes room");
    }
}

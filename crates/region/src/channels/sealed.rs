//! The tokens of control channels in a fleet.
//!
//! An agent asks for a token over one connection and opens its channel over another, which may lead to another server. So a token says
//! by itself until when it is good, under the secret of the session that has asked for it: every server can compute that, and
//! nobody else but the agent has it. It is not used up; the request that opens a channel is signed as well, and a channel ends the
//! one before.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use inborn_credential::Claims;
use inborn_identity::{InstanceId, UnixTime};
use zeroize::Zeroizing;

use super::grants::{GRANT_SECONDS, GrantsFull};
use crate::RegionServer;

/// What a secret is used for here, and nowhere else.
const PURPOSE: &[u8] = b"inborn control channel 1";
/// Bytes of the end of a token's time, which come first.
const TIME_BYTES: usize = 8;

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

fn message(instance: InstanceId, end: [u8; TIME_BYTES]) -> Vec<u8> {
    [PURPOSE, &instance.to_bytes(), &end].concat()
}

fn seal(secret: &str, instance: InstanceId, now: UnixTime) -> Zeroizing<String> {
    let end = now.plus(GRANT_SECONDS).as_secs().to_be_bytes();
    let tag = hmac::sign(&key(secret), &message(instance, end));
    Zeroizing::new(BASE64.encode([end.as_slice(), tag.as_ref()].concat()))
}

fn is_good(secret: &str, instance: InstanceId, token: &str, now: UnixTime) -> bool {
    let Ok(bytes) = BASE64.decode(token) else { return false };
    let Some((end, tag)) = bytes.split_first_chunk::<TIME_BYTES>() else { return false };
    hmac::verify(&key(secret), &message(instance, *end), tag).is_ok()
        && now < UnixTime::from_secs(u64::from_be_bytes(*end))
}

impl RegionServer {
    /// Grants a control channel to the machine of a session.
    pub(crate) fn grant_control_channel(
        &self,
        claims: &Claims,
        now: UnixTime,
    ) -> Result<Zeroizing<String>, GrantsFull> {
        if self.fleet().is_none() {
            return self.channels.grants.grant(claims.instance, now);
        }
        let credential = self.authenticator.keyring().mint(claims).map_err(|_| GrantsFull)?;
        Ok(seal(credential.secret_access_key.expose(), claims.instance, now))
    }

    /// Whether this is a token with which the machine of a session may open its control channel.
    pub(crate) fn redeem_control_channel(&self, claims: &Claims, token: &str, now: UnixTime) -> bool {
        if self.fleet().is_none() {
            return self.channels.grants.redeem(&claims.instance, token, now);
        }
        let minted = self.authenticator.keyring().mint(claims);
        minted.is_ok_and(|credential| is_good(credential.secret_access_key.expose(), claims.instance, token, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    #[test]
    fn a_token_is_good_soon_for_its_machine_and_under_its_secret() {
        let (own, other) = (InstanceId::from_bytes([1; 9]), InstanceId::from_bytes([2; 9]));
        let token = seal(SECRET, own, NOW);
        for (later, expected) in
            [(0, true), (GRANT_SECONDS - 1, true), (GRANT_SECONDS, false), (GRANT_SECONDS + 1, false)]
        {
            assert_eq!(is_good(SECRET, own, &token, NOW.plus(later)), expected, "{later}");
        }
        assert!(!is_good(SECRET, other, &token, NOW));
        assert!(!is_good("another", own, &token, NOW));
        let mut bytes = BASE64.decode(token.as_bytes()).unwrap();
        for place in 0..bytes.len() {
            bytes[place] ^= 1;
            assert!(!is_good(SECRET, own, &BASE64.encode(&bytes), NOW), "{place}");
            bytes[place] ^= 1;
        }
        for wrong in ["", "x", "%", &token[..10], &BASE64.encode(&bytes[..TIME_BYTES])] {
            assert!(!is_good(SECRET, own, wrong, NOW), "{wrong}");
        }
    }
}

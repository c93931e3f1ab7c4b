//! What a server says to another one of a request that it passes on: where that came from, sealed so that nobody else can say so.
//!
//! Servers of a region share the key that its secrets are sealed under. It seals this too, under a label that names the region, the node
//! that it is for, and what tells the request from others: what was sealed for one request is good for no other, at no other server,
//! for half a minute, and once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::header::{AUTHORIZATION, HOST, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};
use inborn_credential::Kek;
use inborn_identity::{AccountId, UnixTime};
use inborn_listener::{Peer, TlsFacts};
use inborn_sigv4::sha256;
use inborn_store::NodeId;
use serde::{Deserialize, Serialize};

use super::OWN;
use crate::RegionServer;

/// The header that says so. No client of AWS sends it, and none signs it.
pub(super) const HEADER: HeaderName = HeaderName::from_static("inborn-forwarded");
/// How far the clocks of two servers may be apart, and how long the request may be on its way.
const SECONDS_MAX: u64 = 30;
/// Requests that are remembered so that none is taken twice.
const REMEMBERED_MAX: usize = 65_536;
/// Of these, requests of one account, and of all who have not signed.
const REMEMBERED_OF_EACH_MAX: usize = 16_384;
/// The longest value of the header.
const VALUE_BYTES_MAX: usize = 1024;
/// The longest name of a cipher suite that is passed on.
const CIPHER_BYTES_MAX: usize = 64;

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Said {
    at: u64,
    source: SocketAddr,
    tls: Option<(String, String)>,
    /// The account whose principal has signed; servers of before do not say it.
    #[serde(default)]
    whose: Option<u64>,
}

/// The header is there, and not from a server of this region for this request. It is never as if it were not there: a server whose clock
/// is wrong would pass the request on again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotAuthentic;

/// Of which region's server a request is that was passed on, and who sent it.
pub(crate) type PassedOn = (Arc<RegionServer>, Arc<Peer>);

/// The requests that were taken a moment ago.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    /// Until when each is remembered, and whose it is.
    until: HashMap<[u8; 32], (UnixTime, Option<AccountId>)>,
    of: HashMap<Option<AccountId>, usize>,
    /// When it was last looked for what is over.
    looked_at: UnixTime,
}

impl Remembered {
    fn has_room(&self, whose: Option<AccountId>) -> bool {
        let own = self.of.get(&whose).copied().unwrap_or_default();
        self.until.len() < REMEMBERED_MAX && own < REMEMBERED_OF_EACH_MAX
    }

    fn forget(&mut self, now: UnixTime) {
        let Self { until, of, looked_at } = self;
        // Seconds are as exact as anything here.
        if *looked_at == now {
            return;
        }
        *looked_at = now;
        until.retain(|_, (until, whose)| {
            let is_kept = now <= *until;
            if let (false, Some(own)) = (is_kept, of.get_mut(whose)) {
                *own = own.saturating_sub(1);
            }
            is_kept
        });
        of.retain(|_, own| *own > 0);
    }
}

impl Taken {
    /// Notes a request; `false` if it was taken before, or if so many were, or so many of the same account, that nobody can tell.
    fn take(&self, digest: [u8; 32], whose: Option<AccountId>, now: UnixTime) -> bool {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.until.contains_key(&digest) {
            return false;
        }
        if !taken.has_room(whose) {
            taken.forget(now);
        }
        let is_room = taken.has_room(whose);
        if is_room {
            // As long as it could be taken again, by whichever clock.
            taken.until.insert(digest, (now.plus(2 * SECONDS_MAX), whose));
            *taken.of.entry(whose).or_default() += 1;
        }
        is_room
    }
}

/// What it is sealed for. No header holds a line's end.
fn label(region: &str, node: NodeId, parts: &Parts) -> String {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let mut told = format!("{}\n{target}", parts.method).into_bytes();
    for name in [HOST, AUTHORIZATION, SEC_WEBSOCKET_KEY] {
        told.push(b'\n');
        for value in parts.headers.get_all(name) {
            told.extend_from_slice(value.as_bytes());
            told.push(b'\r');
        }
    }
    format!("forwarded request 1 {region} {node} {}", BASE64.encode(sha256(&told)))
}

/// The header for a request that came from `peer` and goes on to `node`.
pub(super) fn seal(
    kek: &Kek,
    region: &str,
    node: NodeId,
    parts: &Parts,
    (peer, whose): (&Peer, Option<AccountId>),
    now: UnixTime,
) -> Option<HeaderValue> {
    let tls = peer.tls.as_ref().map(|tls| (tls.version.to_owned(), cut(&tls.cipher_suite)));
    let said =
        serde_json::to_vec(&Said { at: now.as_secs(), source: peer.address, tls, whose: whose.map(AccountId::number) })
            .ok()?;
    let sealed = kek.seal(&label(region, node, parts), &said).ok()?;
    HeaderValue::from_str(&format!("{region}.{}", BASE64.encode(sealed))).ok()
}

fn cut(text: &str) -> String {
    text.chars().filter(char::is_ascii).take(CIPHER_BYTES_MAX).collect()
}

/// Who sent a request, by its header.
fn open(
    kek: &Kek,
    region: &str,
    node: NodeId,
    parts: &Parts,
    sealed: &[u8],
    taken: &Taken,
    now: UnixTime,
) -> Option<Peer> {
    let said = kek.open(&label(region, node, parts), sealed).ok()?;
    let said: Said = serde_json::from_slice(&said).ok()?;
    let at = UnixTime::from_secs(said.at);
    if now.since(at) > SECONDS_MAX || at.since(now) > SECONDS_MAX {
        return None;
    }
    // What is only asked may be asked again: that changes nothing.
    let whose = said.whose.and_then(|number| AccountId::new(number).ok());
    let is_question = parts.method == Method::GET && parts.uri.path().starts_with(OWN);
    if !is_question && !taken.take(sha256(sealed), whose, now) {
        return None;
    }
    let tls = said.tls.map(|(version, cipher_suite)| TlsFacts {
        version: ["TLSv1.2", "TLSv1.3"].into_iter().find(|known| *known == version).unwrap_or("unknown"),
        cipher_suite,
        client_certificate: None,
    });
    Some(Peer { address: said.source, tls })
}

impl RegionServer {
    /// Takes the header of another server off a request, and tells of which region's server it is and who sent the request, if another
    /// server has passed it on.
    ///
    /// # Errors
    /// The header is there, and not authentic.
    pub(crate) fn take_forwarded(&self, parts: &mut Parts) -> Result<Option<PassedOn>, NotAuthentic> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let (first, more) = (values.next().cloned(), values.next().is_some());
        let Some(value) = first else { return Ok(None) };
        if more || value.len() > VALUE_BYTES_MAX {
            return Err(NotAuthentic);
        }
        parts.headers.remove(HEADER);
        let (name, text) = value.to_str().ok().and_then(|value| value.split_once('.')).ok_or(NotAuthentic)?;
        let sealed = BASE64.decode(text).map_err(|_| NotAuthentic)?;
        let regions = self.regions();
        let region = regions.iter().find(|region| region.identity().region.as_str() == name).ok_or(NotAuthentic)?;
        if region.fleet().is_none() {
            return Err(NotAuthentic);
        }
        let (kek, node) = (region.epochs().kek(), region.store().node());
        let peer = open(kek, name, node, parts, &sealed, &region.forwarding().taken, region.now());
        peer.map(|peer| Some((Arc::clone(region), Arc::new(peer)))).ok_or(NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
    const NODE: NodeId = NodeId::new(7);

    fn kek(byte: u8) -> Kek {
        Kek::from_bytes(&[byte; Kek::BYTES]).unwrap()
    }

    fn parts(target: &str, authorization: &str) -> Parts {
        let request = Request::get(target).header(HOST, "ssm.lab").header(AUTHORIZATION, authorization);
        request.body(()).unwrap().into_parts().0
    }

    fn peer() -> Peer {
        let tls = TlsFacts { version: "TLSv1.3", cipher_suite: "TLS_X".into(), client_certificate: None };
        Peer { address: "192.0.2.1:99".parse().unwrap(), tls: Some(tls) }
    }

    fn sealed(parts: &Parts) -> Vec<u8> {
        let value = seal(&kek(1), "lab", NODE, parts, (&peer(), AccountId::new(7).ok()), NOW).unwrap();
        assert!(value.len() <= VALUE_BYTES_MAX);
        BASE64.decode(value.to_str().unwrap().strip_prefix("lab.").unwrap()).unwrap()
    }

    #[test]
    fn it_is_good_for_one_request_at_one_server_soon_and_once() {
        let request = parts("/v1/x?role=a", "AWS4 a");
        let sealed = sealed(&request);
        let opens = |key: u8, region: &str, node, parts: &Parts, sealed: &[u8], now| {
            open(&kek(key), region, node, parts, sealed, &Taken::default(), now)
        };
        let good = opens(1, "lab", NODE, &request, &sealed, NOW).unwrap();
        assert_eq!((good.address, good.tls), (peer().address, peer().tls));
        assert!(opens(2, "lab", NODE, &request, &sealed, NOW).is_none(), "another key");
        assert!(opens(1, "other", NODE, &request, &sealed, NOW).is_none());
        assert!(opens(1, "lab", NodeId::new(8), &request, &sealed, NOW).is_none());
        for other in [parts("/v1/y?role=a", "AWS4 a"), parts("/v1/x?role=b", "AWS4 a"), parts("/v1/x?role=a", "AWS4 b")]
        {
            assert!(opens(1, "lab", NODE, &other, &sealed, NOW).is_none());
        }
        for (now, is_good) in [
            (NOW.plus(SECONDS_MAX), true),
            (NOW.plus(SECONDS_MAX + 1), false),
            (NOW.minus(SECONDS_MAX), true),
            (NOW.minus(SECONDS_MAX + 1), false),
        ] {
            assert_eq!(opens(1, "lab", NODE, &request, &sealed, now).is_some(), is_good, "{now:?}");
        }
        for place in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[place] ^= 1;
            assert!(opens(1, "lab", NODE, &request, &forged, NOW).is_none(), "{place}");
        }
        let taken = Taken::default();
        let twice = [(); 2].map(|()| open(&kek(1), "lab", NODE, &request, &sealed, &taken, NOW).is_some());
        assert_eq!(twice, [true, false]);
    }

    #[test]
    fn questions_take_no_room() {
        let (taken, question) = (Taken::default(), parts("/inborn/agent/i-1", ""));
        let sealed = sealed(&question);
        let twice = [(); 2].map(|()| open(&kek(1), "lab", NODE, &question, &sealed, &taken, NOW).is_some());
        assert_eq!((twice, taken.0.lock().unwrap().until.len()), ([true, true], 0));
    }

    /// An account's, by its number.
    fn whose(number: usize) -> Option<AccountId> {
        AccountId::new(number as u64 + 1).ok()
    }

    #[test]
    fn requests_that_are_remembered_below_at_and_above_the_most() {
        let taken = Taken::default();
        let digest = |number: usize| sha256(&number.to_be_bytes());
        for number in 0..REMEMBERED_MAX {
            assert!(taken.take(digest(number), whose(number / REMEMBERED_OF_EACH_MAX), NOW), "{number}");
        }
        let other = whose(REMEMBERED_MAX);
        assert!(!taken.take(digest(0), other, NOW), "it was taken");
        assert!(!taken.take(digest(REMEMBERED_MAX), other, NOW), "nobody could tell the next time");
        assert!(!taken.take(digest(REMEMBERED_MAX), other, NOW.plus(2 * SECONDS_MAX)));
        assert!(taken.take(digest(REMEMBERED_MAX), other, NOW.plus(2 * SECONDS_MAX + 1)), "what is over makes room");
    }

    #[test]
    fn requests_of_one_account_below_at_and_above_the_most() {
        for own in [whose(0), None] {
            let taken = Taken::default();
            let digest = |number: usize| sha256(&number.to_be_bytes());
            for number in 0..REMEMBERED_OF_EACH_MAX {
                assert!(taken.take(digest(number), own, NOW), "{number}");
            }
            assert!(!taken.take(digest(REMEMBERED_MAX), own, NOW));
            assert!(taken.take(digest(REMEMBERED_MAX), whose(1), NOW), "it is room for others");
            assert!(
                taken.take(digest(REMEMBERED_MAX + 1), own, NOW.plus(2 * SECONDS_MAX + 1)),
                "what is over makes room"
            );
        }
    }
}

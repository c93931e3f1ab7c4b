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
use super::places::Asker;
use crate::RegionServer;

/// The header that says so. No client of AWS sends it, and none signs it.
pub(super) const HEADER: HeaderName = HeaderName::from_static("inborn-forwarded");
/// How far the clocks of two servers may be apart, and how long the request may be on its way.
const SECONDS_MAX: u64 = 30;
/// Requests of those who signed that are remembered so that none is taken twice. With [`UNSIGNED`] it is what hash tables have room for
/// before they grow (seven eighths of a power of two): with what is counted, at most 24 MB in each region where both are full.
const SIGNED: Shares = Shares { all: 114_688, of_each: 16_384 };
/// The same of those who did not: they keep nobody out who did.
const UNSIGNED: Shares = Shares { all: 57_344, of_each: 4_096 };
/// Bytes that are kept of a request.
const REMEMBERED_BYTES: usize = size_of::<([u8; 32], (UnixTime, Asker))>();
const _: () = assert!(REMEMBERED_BYTES <= 96);
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

/// How many requests are remembered, and how many of them are of one account or source.
#[derive(Clone, Copy, Debug)]
struct Shares {
    all: usize,
    of_each: usize,
}

/// The requests that were taken a moment ago: of those who signed, and of those who did not.
///
/// What there is no room for is refused, and so never done: one that is not remembered could be taken a second time, and nobody would know.
/// The server that has passed it on answers that it did not reach this one, and whoever asked asks again. So whoever fills the room keeps
/// others out, and nobody may do that alone or with a few: nobody has more than their share, or than what is still free. The more there
/// are who take all they may, the less each has, and there is room left for one more.
#[derive(Debug)]
pub(super) struct Taken {
    signed: Mutex<Remembered>,
    unsigned: Mutex<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    shares: Shares,
    /// Until when each is remembered, and whose it is.
    until: HashMap<[u8; 32], (UnixTime, Asker)>,
    of: HashMap<Asker, usize>,
    /// When it was last looked for what is over.
    looked_at: UnixTime,
}

impl Default for Taken {
    fn default() -> Self {
        Self { signed: Mutex::new(Remembered::new(SIGNED)), unsigned: Mutex::new(Remembered::new(UNSIGNED)) }
    }
}

impl Remembered {
    fn new(shares: Shares) -> Self {
        Self { shares, until: HashMap::new(), of: HashMap::new(), looked_at: UnixTime::default() }
    }

    fn has_room(&self, whose: Asker) -> bool {
        let own = self.of.get(&whose).copied().unwrap_or_default();
        let free = self.shares.all.saturating_sub(self.until.len());
        own < self.shares.of_each.min(free)
    }

    fn forget(&mut self, now: UnixTime) {
        let Self { until, of, looked_at, .. } = self;
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
    /// Notes a request; `false` if it was taken before, or if so many were, or so many of the same account or source, that nobody can tell.
    fn take(&self, digest: [u8; 32], whose: Asker, now: UnixTime) -> bool {
        // The account is sealed with the request: none is looked for among those of others.
        let taken = match whose {
            Asker::Account(_) => &self.signed,
            Asker::Source(_) => &self.unsigned,
        };
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
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
    let account = said.whose.and_then(|number| AccountId::new(number).ok());
    let whose = account.map_or_else(|| Asker::Source(said.source.ip().into()), Asker::Account);
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
    use core::net::{IpAddr, Ipv4Addr};

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
        let remembered = [&taken.signed, &taken.unsigned].map(|taken| taken.lock().unwrap().until.len());
        assert_eq!((twice, remembered), ([true, true], [0, 0]));
    }

    fn account(number: usize) -> Asker {
        Asker::Account(AccountId::new(number as u64 + 1).unwrap())
    }

    fn source(number: usize) -> Asker {
        Asker::Source(IpAddr::from(Ipv4Addr::from_bits(u32::try_from(number).unwrap())).into())
    }

    fn digest(number: usize) -> [u8; 32] {
        sha256(&number.to_be_bytes())
    }

    type Kind = (Shares, fn(usize) -> Asker);
    const KINDS: [Kind; 2] = [(SIGNED, account), (UNSIGNED, source)];

    #[test]
    fn requests_that_are_remembered_below_at_and_above_the_most() {
        for (shares, whose) in KINDS {
            let taken = Taken::default();
            for number in 0..shares.all {
                assert!(taken.take(digest(number), whose(number), NOW), "{number}");
            }
            let (other, after) = (whose(shares.all), NOW.plus(2 * SECONDS_MAX));
            assert!(!taken.take(digest(0), other, NOW), "it was taken");
            assert!(!taken.take(digest(shares.all), other, NOW), "nobody could tell the next time");
            assert!(!taken.take(digest(shares.all), other, after));
            assert!(taken.take(digest(shares.all), other, after.plus(1)), "what is over makes room");
        }
    }

    #[test]
    fn requests_of_one_account_or_source_below_at_and_above_the_most() {
        for (shares, whose) in KINDS {
            let taken = Taken::default();
            for number in 0..shares.of_each {
                assert!(taken.take(digest(number), whose(0), NOW), "{number}");
            }
            assert!(!taken.take(digest(shares.all), whose(0), NOW));
            assert!(taken.take(digest(shares.all), whose(1), NOW), "it is room for others");
            let after = NOW.plus(2 * SECONDS_MAX + 1);
            assert!(taken.take(digest(shares.all + 1), whose(0), after), "what is over makes room");
        }
    }

    /// However much each of a handful asks for, and whatever those do who do not sign.
    #[test]
    fn a_few_do_not_keep_others_out() {
        for (shares, whose) in KINDS {
            let taken = Taken::default();
            let mut number = 0;
            for one in 0..12 {
                while taken.take(digest(number), whose(one), NOW) {
                    number += 1;
                }
                number += 1;
            }
            assert!(number < shares.all, "{number}");
            assert!(taken.take(digest(number), whose(12), NOW));
        }
        let taken = Taken::default();
        for number in 0..UNSIGNED.all {
            assert!(taken.take(digest(number), source(number), NOW), "{number}");
        }
        assert!(!taken.take(digest(UNSIGNED.all), source(UNSIGNED.all), NOW));
        assert!(taken.take(digest(UNSIGNED.all), account(0), NOW), "who signs is not kept out");
    }

    /// A network of IPv6 is one source (RFC 6177), and an account is its own, wherever its principals are.
    #[test]
    fn whose_a_request_is() {
        let opened = |address: &str, whose: Option<u64>| {
            let (request, taken) = (parts("/v1/x", address), Taken::default());
            let peer = Peer { address: SocketAddr::new(address.parse().unwrap(), 9), tls: None };
            let whose = whose.map(|number| AccountId::new(number).unwrap());
            let value = seal(&kek(1), "lab", NODE, &request, (&peer, whose), NOW).unwrap();
            let sealed = BASE64.decode(value.to_str().unwrap().strip_prefix("lab.").unwrap()).unwrap();
            assert!(open(&kek(1), "lab", NODE, &request, &sealed, &taken, NOW).is_some());
            let [signed, unsigned] = [&taken.signed, &taken.unsigned].map(|taken| taken.lock().unwrap().of.clone());
            signed.into_keys().chain(unsigned.into_keys()).collect::<Vec<_>>()
        };
        let network = opened("2001:db8:0:1::1", None);
        assert_eq!(opened("2001:db8:0:1:ffff::2", None), network);
        assert_ne!(opened("2001:db8:0:2::1", None), network);
        assert_eq!(opened("::ffff:192.0.2.1", None), opened("192.0.2.1", None));
        assert_eq!(opened("192.0.2.1", Some(7)), [Asker::Account(AccountId::new(7).unwrap())]);
        assert_eq!(opened("192.0.2.2", Some(7)), opened("192.0.2.1", Some(7)));
    }
}

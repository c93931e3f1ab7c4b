//! Where hosts ask: `/host/v1/…`, JSON over TLS with certificates of both sides. Only `join` is open to who has none.
//!
//! Each call looks anew whether the host is still one, and whether the machine is on it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use inborn_credential::Delivery;
use inborn_fleet::{
    ANSWER_BYTES_MAX, CREDENTIALS, CREDENTIALS_MAX, Credentials, CredentialsGiven, DOCUMENT, Document, DocumentSigned,
    Generation, GivenCredential, GivenMachine, JOIN, Join, Joined, MACHINES, MachineRecord, Machines, MachinesChanged,
    RECORDS_MAX, RENEW, REQUEST_BYTES_MAX, RefusalCode, Refused, Renewed, WAIT_SECONDS,
};
use inborn_identity::{HostId, InstanceId, UnixTime};
use inborn_listener::{BodyError, Peer, read_body};
use inborn_pki::HostCertificate;
use inborn_store::{Host, HostState};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use super::{JoinError, Version, is_refused};
use crate::RegionServer;
use crate::metrics::HostRefusedLabels;
use crate::signers::aside;
use crate::throttle::{Rate, Source, Throttle};

/// Strangers that are being let in at a time: each costs a look into the store.
const JOINS_MAX: usize = 4;
/// Secrets of no token that one address may come with, so that who guesses keeps nobody else out: each costs a look into the store.
const GUESSES: Rate = Rate { per_second: 2, burst: 60 };
/// Calls of hosts that are being answered at a time, without those that only wait: what the bodies of all of them may take
/// of memory is bounded by it. Who comes beyond is told to come again a little later.
const CALLS_MAX: usize = 256;
/// How much later, in seconds: each is told something else, so that those who came together do not come together again.
const RETRY_AFTER_SECONDS: core::ops::RangeInclusive<u64> = 1..=10;
/// Documents that are being signed at a time: each takes some milliseconds of a processor.
const SIGNATURES_MAX: usize = 2;
/// How long a host waits here for a signature.
const SIGNATURE_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request that says little.
const SMALL_BYTES_MAX: usize = 4 * 1024;
/// How long the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The next generation is given this long before its time: longer than a host prepares it ahead, and no longer, since what
/// was given and has not begun is out of reach of what ends credentials by their moment of issue.
const AHEAD_SECONDS: u64 = 360;
/// Bytes of records in one answer.
const RECORD_BYTES_MAX: usize = ANSWER_BYTES_MAX / 2;

/// The endpoint for hosts.
pub struct HostsEndpoint {
    region: Arc<RegionServer>,
    joins: Semaphore,
    guesses: Throttle<Source>,
    calls: Semaphore,
    signatures: Semaphore,
}

impl core::fmt::Debug for HostsEndpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HostsEndpoint").finish_non_exhaustive()
    }
}

type Answer<T> = Result<T, Refused>;

fn refuse(code: RefusalCode, message: impl Into<String>) -> Refused {
    Refused { code, message: message.into() }
}

impl HostsEndpoint {
    /// The endpoint of `region`.
    #[must_use]
    pub fn new(region: Arc<RegionServer>) -> Arc<Self> {
        Arc::new(Self {
            region,
            joins: Semaphore::new(JOINS_MAX),
            guesses: Throttle::new(GUESSES),
            calls: Semaphore::new(CALLS_MAX),
            signatures: Semaphore::new(SIGNATURES_MAX),
        })
    }

    /// Answers one request.
    pub async fn respond(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response<Full<Bytes>> {
        let answer = match (request.method(), request.uri().path()) {
            (&Method::POST, JOIN) => to_json(self.join(request.into_body(), &peer).await),
            (&Method::POST, path) if [RENEW, MACHINES, CREDENTIALS, DOCUMENT].contains(&path) => {
                let path = path.to_owned();
                self.of_host(&path, request.into_body(), &peer).await
            }
            _ => Err(refuse(RefusalCode::Malformed, "there is no such call here: see /host/v1 of this version")),
        };
        match answer {
            Ok(body) => response(200, body),
            Err(refused) => {
                tracing::debug!(address = %peer.address, code = ?refused.code, "a host was refused");
                self.region
                    .metrics
                    .hosts_refused
                    .get_or_create(&HostRefusedLabels { code: refused.code.as_str() })
                    .inc();
                let mut response = response(refused.code.status(), serde_json::to_vec(&refused).unwrap_or_default());
                if matches!(refused.code, RefusalCode::Busy | RefusalCode::Unavailable) {
                    response.headers_mut().insert(header::RETRY_AFTER, retry_after().into());
                }
                response
            }
        }
    }

    async fn of_host(&self, path: &str, body: Incoming, peer: &Peer) -> Answer<Vec<u8>> {
        let host = self.caller_soon(peer).await?;
        // Of a server that may not know of an eviction, no host gets anything.
        let now = self.region.now();
        self.check_heard()?;
        let Ok(_turn) = self.region.hosts.turns(host.id).try_acquire_owned() else {
            return Err(refuse(RefusalCode::Busy, "this host asks too much at once: again a little later"));
        };
        let Ok(call) = self.calls.try_acquire() else {
            return Err(refuse(RefusalCode::Busy, "many hosts ask at once: again a little later"));
        };
        self.region.hosts.heard(&host, now).await;
        match path {
            RENEW => {
                let _: serde_json::Map<String, serde_json::Value> = read(body, SMALL_BYTES_MAX).await?;
                // A body may take its time, and what was heard before it counts no more.
                self.check_heard()?;
                to_json(self.renew(peer))
            }
            MACHINES => {
                let asked = read(body, REQUEST_BYTES_MAX).await?;
                to_json(self.machines(&asked, peer, call).await)
            }
            CREDENTIALS => {
                let asked = read(body, REQUEST_BYTES_MAX).await?;
                self.check_heard()?;
                to_json(self.credentials(&asked, peer).await)
            }
            _ => {
                let asked = read(body, SMALL_BYTES_MAX).await?;
                to_json(self.document(&asked, peer).await)
            }
        }
    }

    /// As [`HostsEndpoint::caller`]; a host that is not known here may have joined at another server a moment ago.
    async fn caller_soon(&self, peer: &Peer) -> Answer<Arc<Host>> {
        let is_known = || certificate_of(peer).is_none_or(|shown| self.region.hosts.get(shown.host).is_some());
        if !is_known() {
            let caught_up = self.catch_up().await;
            if !is_known() {
                caught_up?;
            }
        }
        self.caller(peer)
    }

    /// The host whose certificate the connection was made with, as it is now. TLS has found the certificate to be good when
    /// the connection began; connections last.
    fn caller(&self, peer: &Peer) -> Answer<Arc<Host>> {
        let stranger = || refuse(RefusalCode::NotJoined, "this is no host of the region: join with `inborn host join`");
        let certificate = certificate_of(peer).ok_or_else(stranger)?;
        let host = self.region.hosts.get(certificate.host).ok_or_else(stranger)?;
        if host.public_key != certificate.public_key {
            return Err(stranger());
        }
        if self.region.now() > certificate.not_after {
            return Err(refuse(RefusalCode::NotJoined, "the certificate of this host has ended"));
        }
        match host.state {
            HostState::Evicted => Err(refuse(RefusalCode::Evicted, "this host was evicted: it can join anew")),
            HostState::Active | HostState::Draining => Ok(host),
        }
    }

    /// Neither from one that does not hear the others, nor from one whose store was put back. Asked before something is judged by what was
    /// heard, not after: what is heard in between says nothing of that.
    fn check_heard(&self) -> Answer<()> {
        if self.region.is_stale() { Err(unavailable()) } else { Ok(()) }
    }

    /// What a host knows otherwise it may have from another server, of a moment ago: nothing is said to be gone, or not to be
    /// placed on it, by a server that has not heard everything up to now.
    async fn catch_up(&self) -> Answer<()> {
        match self.region.fleet() {
            Some(fleet) if !fleet.catch_up().await => Err(unavailable()),
            _ => Ok(()),
        }
    }

    async fn join(&self, body: Incoming, peer: &Peer) -> Answer<Joined> {
        self.check_heard()?;
        // A host is not let in where nobody would read of it.
        if !self.region.audit.accepts_mutations() {
            return Err(unavailable());
        }
        let source = Source::from(peer.address.ip());
        let may_guess = || {
            let message = "too many came from this address with a token that is not good: again a little later";
            let may = self.guesses.would_admit(source, self.region.now());
            if may { Ok(()) } else { Err(refuse(RefusalCode::Busy, message)) }
        };
        may_guess()?;
        // Read before it has a place: who sends it slowly keeps nobody out.
        let Join { secret, name, public_key } = read(body, SMALL_BYTES_MAX).await?;
        let Ok(_place) = self.joins.try_acquire() else {
            return Err(refuse(RefusalCode::Busy, "other hosts are joining: again a little later"));
        };
        // Others from there may have guessed since.
        may_guess()?;
        let secret = Zeroizing::new(secret);
        let region = &self.region;
        match region.join_host(&secret, name, public_key, region.now()).await {
            Ok((host, certificate)) => {
                region.record_joined_host(&host, peer.address.ip(), region.now());
                let identity = region.identity();
                Ok(Joined {
                    host: host.id,
                    certificate,
                    region: identity.region.clone(),
                    domain: identity.domain.clone(),
                })
            }
            Err(error) if is_refused(&error) => {
                self.guesses.admits(source, region.now());
                let message = "the join token is not good (any more): make another with `inborn host token`";
                Err(refuse(RefusalCode::JoinTokenRefused, message))
            }
            Err(JoinError::Invalid(why)) => Err(refuse(RefusalCode::Malformed, why)),
            Err(error) => {
                tracing::error!(%error, "a host could not be let in");
                Err(unavailable())
            }
        }
    }

    fn renew(&self, peer: &Peer) -> Answer<Renewed> {
        let host = self.caller(peer)?;
        match self.region.hosts_authority().certify(host.id, &host.public_key, self.region.now()) {
            Ok(certificate) => Ok(Renewed { certificate }),
            Err(error) => {
                tracing::error!(host = %host.id, %error, "no certificate could be made");
                Err(unavailable())
            }
        }
    }

    /// Answers once something differs from what the host knows, at the latest when its wait is over.
    async fn machines(&self, asked: &Machines, peer: &Peer, call: SemaphorePermit<'_>) -> Answer<MachinesChanged> {
        let mut call = Some(call);
        let end = tokio::time::sleep(Duration::from_secs(WAIT_SECONDS));
        tokio::pin!(end);
        let host = self.caller(peer)?;
        let changes = self.region.hosts.changes_on(host.id);
        if !self.difference(&host, asked).is_empty() {
            self.catch_up().await?;
        }
        loop {
            self.check_heard()?;
            let host = self.caller(peer)?;
            let seen = changes.get();
            let difference = self.difference(&host, asked);
            if !difference.is_empty() {
                return Ok(difference);
            }
            // Who waits is in nobody's way.
            drop(call.take());
            // In this order: a simulation is to go the same way each time.
            tokio::select! {
                biased;
                () = changes.reaches(seen + 1) => {}
                () = end.as_mut() => {
                    self.caller(peer)?;
                    self.check_heard()?;
                    return Ok(difference);
                }
            }
        }
    }

    fn difference(&self, host: &Host, Machines { known }: &Machines) -> MachinesChanged {
        let there = self.region.hosts.machines_on(host.id);
        let spread_seconds = self.region.hosts.spread_seconds();
        let mut difference = MachinesChanged { spread_seconds, ..MachinesChanged::default() };
        let mut bytes = 0;
        for (id, placed) in &there {
            let found = match placed.version {
                Some(version) => Some((version, None)),
                None => self.found_version(host.id, *id, placed.revision),
            };
            // One that is gone by now is told of with the next difference.
            let Some((version, record)) = found else { continue };
            let text = version.text();
            if known.get(id).is_some_and(|known| *known == text) {
                continue;
            }
            let record = record.or_else(|| Some(self.region.machine_record(&*self.region.machines().get(*id)?)));
            let Some(machine) = record else { continue };
            bytes += version.bytes as usize;
            if difference.changed.len() >= RECORDS_MAX || bytes > RECORD_BYTES_MAX && !difference.changed.is_empty() {
                difference.more = true;
                break;
            }
            difference.changed.push(GivenMachine { version: text, machine });
        }
        // Both are in the order of their ids.
        let is_there = |id: &&InstanceId| there.binary_search_by_key(*id, |(id, _)| *id).is_ok();
        difference.gone = known.keys().filter(|id| !is_there(id)).copied().collect();
        difference
    }

    /// The version of what is told of a machine, and that.
    fn found_version(&self, host: HostId, id: InstanceId, revision: u32) -> Option<(Version, Option<MachineRecord>)> {
        let record = self.region.machine_record(&*self.region.machines().get(id)?);
        let version = Version::of(&record);
        self.region.hosts.note_version(host, id, revision, version);
        Some((version, Some(record)))
    }

    /// Finished credentials of machines that are on the host: of all that it asks for, or of none.
    async fn credentials(&self, asked: &Credentials, peer: &Peer) -> Answer<CredentialsGiven> {
        let host = self.caller(peer)?;
        if !(1..=CREDENTIALS_MAX).contains(&asked.instances.len()) {
            return Err(refuse(RefusalCode::Malformed, format!("a request is for 1 to {CREDENTIALS_MAX} machines")));
        }
        for instance in &asked.instances {
            self.check_placed(&host, *instance).await?;
        }
        self.check_heard()?;
        self.caller(peer)?;
        let now = self.region.now();
        let generations = asked.instances.iter().flat_map(|instance| self.generations(*instance, now)).collect();
        Ok(CredentialsGiven { generations })
    }

    async fn check_placed(&self, host: &Host, instance: InstanceId) -> Answer<()> {
        let is_placed = || self.region.hosts.is_on(host.id, instance);
        if is_placed() {
            return Ok(());
        }
        self.catch_up().await?;
        if is_placed() {
            return Ok(());
        }
        tracing::warn!(host = %host.id, %instance, "a host asked for a machine that is not on it");
        Err(refuse(RefusalCode::NotPlaced, format!("machine {instance} is not on this host")))
    }

    fn generations(&self, instance: InstanceId, now: UnixTime) -> Vec<Generation> {
        let Some(present) = self.generation(instance, now) else { return Vec::new() };
        let next_at = UnixTime::from_secs(present.next_at);
        let is_near = now.plus(AHEAD_SECONDS) >= next_at;
        let next = if is_near { self.generation(instance, next_at) } else { None };
        core::iter::once(present).chain(next).collect()
    }

    fn generation(&self, instance: InstanceId, at: UnixTime) -> Option<Generation> {
        let machine = self.region.machines().packed(instance).filter(|one| one.is_running())?;
        let v1 = self.region.issue(instance, Delivery::V1, at)?;
        let v2 = self.region.issue(instance, Delivery::V2, at)?;
        let given = |credential: &inborn_credential::Credential| GivenCredential {
            access_key_id: credential.access_key_id,
            secret_access_key: Zeroizing::new(credential.secret_access_key.expose().to_owned()),
            session_token: Zeroizing::new(credential.session_token.expose().to_owned()),
        };
        Some(Generation {
            instance,
            boot_generation: machine.boot_generation(),
            issued_at: v2.credential.issued_at.as_secs(),
            expires_at: v2.credential.expires_at.as_secs(),
            next_at: v2.next_at.as_secs(),
            v1: given(&v1.credential),
            v2: given(&v2.credential),
        })
    }

    async fn document(&self, asked: &Document, peer: &Peer) -> Answer<DocumentSigned> {
        let host = self.caller(peer)?;
        self.check_placed(&host, asked.instance).await?;
        self.caller(peer)?;
        let machine = self.region.machines().get(asked.instance).ok_or_else(unavailable)?;
        let signer = self.region.document_signer().ok_or_else(unavailable)?;
        let Ok(Ok(_place)) = tokio::time::timeout(SIGNATURE_PATIENCE, self.signatures.acquire()).await else {
            return Err(unavailable());
        };
        let document = inborn_imds::identity_document(machine.id, &self.region.facts(&machine));
        let (text, now) = (document.clone(), self.region.now());
        let signed = aside(move || signer.sign(&text, now)).await.map_err(|error| {
            tracing::error!(%error, "cannot sign an identity document");
            unavailable()
        })?;
        // It may have been evicted while that was done.
        self.check_heard()?;
        self.caller(peer)?;
        let document = String::from_utf8(document.to_vec()).map_err(|_| unavailable())?;
        Ok(DocumentSigned { document, signature: signed.signature, pkcs7: signed.pkcs7 })
    }
}

/// The certificate that the connection was made with.
fn certificate_of(peer: &Peer) -> Option<HostCertificate> {
    HostCertificate::from_der(peer.tls.as_ref()?.client_certificate.as_deref()?).ok()
}

fn retry_after() -> u64 {
    let mut byte = [0];
    let _ = inborn_chance::fill(&mut byte);
    let (least, most) = (RETRY_AFTER_SECONDS.start(), RETRY_AFTER_SECONDS.end());
    least + u64::from(byte[0]) % (most - least + 1)
}

fn unavailable() -> Refused {
    refuse(RefusalCode::Unavailable, "the region cannot do this now: again a little later")
}

async fn read<T: DeserializeOwned>(body: Incoming, bytes_max: usize) -> Answer<T> {
    let bytes = read_body(body, bytes_max, BODY_TIMEOUT).await;
    let bytes = bytes.map_err(|error| match error {
        BodyError::TooLarge => refuse(RefusalCode::Malformed, format!("the body has more than {bytes_max} bytes")),
        // The line is slow, or gone: the same call may do better.
        BodyError::TooSlow | BodyError::Broken => refuse(RefusalCode::Busy, "the body did not come in time"),
    })?;
    serde_json::from_slice(&bytes).map_err(|_| refuse(RefusalCode::Malformed, "the body is not what this call takes"))
}

fn to_json<T: Serialize>(answer: Answer<T>) -> Answer<Vec<u8>> {
    serde_json::to_vec(&answer?).map_err(|_| unavailable())
}

fn response(status: u16, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

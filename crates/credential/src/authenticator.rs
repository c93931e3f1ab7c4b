//! Who is calling: a signed request and a moment go in, a caller or a fault comes out.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::cell::RefCell;
use std::sync::{Arc, RwLock};

use arc_swap::ArcSwap;
use inborn_identity::{AccessKeyId, AccountId, InstanceId, Partition, Principal, Region, UnixTime};
use inborn_sigv4::{Endpoint, Fault, Presented, Request, Scratch};

use crate::operators::Operators;
use crate::session::{ScopedKeys, Session, Sessions, read, write};
use crate::{Claims, CutOff, CutOffs, Keyring, KeyringError, Operator, OperatorError, Verdict};

/// A request whose signature was verified, by whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    /// What the session token said; operators have none.
    pub claims: Option<Arc<Claims>>,
    /// The key it signed with.
    pub access_key_id: AccessKeyId,
    /// What it signed.
    pub signed: SignedHeaders,
}

/// The names of the headers that a signature covers. Nothing else in the header section may be acted on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedHeaders(Arc<[u8]>);

impl SignedHeaders {
    /// Of a list of names, with semicolons between them.
    pub(crate) fn new(list: &[u8]) -> Self {
        Self(list.into())
    }

    /// The names, with semicolons between them.
    pub(crate) fn list(&self) -> &[u8] {
        &self.0
    }

    /// Whether the signature covers the header of this name, in lower case.
    #[must_use]
    pub fn covers(&self, name: &[u8]) -> bool {
        self.0.split(|byte| *byte == b';').any(|signed| signed == name)
    }
}

/// Why a request has no caller, in the order in which the checks are made.
///
/// Numbers are the steps of AWS's observed order of checks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthFault {
    /// 5–13 and 16: the form, the time, the scope, or the signature itself.
    #[error(transparent)]
    Sig(#[from] Fault),
    /// 14b: the token is not one of this region's for this access key id.
    #[error("the session token is not valid")]
    TokenInvalid,
    /// 14c: the token has expired, or was cut off while its instance lives on.
    #[error("the session token has expired")]
    TokenExpired,
    /// 15: the access key id is unknown, came without its token, or belongs to an instance that is gone.
    #[error("the access key id is not known")]
    UnknownKey,
}

/// The epochs that verify, and what was opened with them: one is never used with the other's leftovers.
struct Verifier {
    keyring: Arc<Keyring>,
    sessions: Sessions,
}

/// Decides who a caller is.
///
/// Shared by all threads; epochs, operators and cut-offs change underneath it, each at once and for all. What was
/// verified before is remembered (see [`Authenticator::CACHE_BYTES_MAX`]), but expiry and cut-offs are judged on every
/// request.
pub struct Authenticator {
    partition: Partition,
    region: Region,
    verifier: ArcSwap<Verifier>,
    /// Of all regions of a deployment: whoever is taken out is out everywhere at once.
    operators: Arc<ArcSwap<Operators>>,
    cut_offs: RwLock<CutOffs>,
    /// How many were made.
    made: AtomicU64,
}

thread_local! {
    /// Buffers that verification reuses, so that a warm request allocates nothing for them.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

impl Authenticator {
    /// Most bytes that remembered sessions take: 4096 of them, each with four signing keys and every text at its longest.
    /// A machine that talks to one service takes about half of its share.
    pub const CACHE_BYTES_MAX: usize = 12 * 1024 * 1024;

    /// An authenticator for one region, without operators and cut-offs.
    ///
    /// # Errors
    /// A keyring of another partition.
    pub fn new(partition: Partition, region: Region, keyring: Arc<Keyring>) -> Result<Self, KeyringError> {
        Ok(Self {
            partition,
            region,
            verifier: ArcSwap::from_pointee(Verifier::new(partition, keyring)?),
            operators: Arc::new(ArcSwap::from_pointee(Operators::default())),
            cut_offs: RwLock::new(CutOffs::new()),
            made: AtomicU64::new(0),
        })
    }

    /// An authenticator for another region of the same deployment: its epochs and cut-offs are its own, its operators are the
    /// same ones, now and later, whichever of the two they are changed by.
    ///
    /// # Errors
    /// A keyring of another partition.
    pub fn beside(&self, region: Region, keyring: Arc<Keyring>) -> Result<Self, KeyringError> {
        Ok(Self { operators: Arc::clone(&self.operators), ..Self::new(self.partition, region, keyring)? })
    }

    /// Whether this region has made a token, for this access key id. Whether it is still good is not asked.
    #[must_use]
    pub fn has_issued(&self, access_key_id: &str, token: &[u8]) -> bool {
        let verifier = self.verifier.load();
        if let Some(session) = verifier.sessions.get(token) {
            return session.access_key_id.as_str() == access_key_id;
        }
        // The name is looked at as well: two regions may, by mistake, have been given the same epochs.
        let opened = verifier.keyring.open(access_key_id, token);
        opened.is_ok_and(|opened| opened.claims.region == self.region)
    }

    /// Replaces the epochs. Tokens of epochs that are gone are refused from now on.
    ///
    /// # Errors
    /// A keyring of another partition.
    pub fn set_keyring(&self, keyring: Arc<Keyring>) -> Result<(), KeyringError> {
        self.verifier.store(Arc::new(Verifier::new(self.partition, keyring)?));
        Ok(())
    }

    /// The epochs in use.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.verifier.load().keyring)
    }

    /// Replaces the operators.
    ///
    /// # Errors
    /// Principals that are no operators of this partition, or one access key id twice; nothing changes then.
    pub fn set_operators(&self, operators: Vec<Operator>) -> Result<(), OperatorError> {
        self.operators.store(Arc::new(Operators::new(operators, self.partition)?));
        Ok(())
    }

    /// Ends credentials, from this call's return on. `at` is the moment of the decision. Says whether there was no room for it, so that
    /// everybody's have ended: their holders are to be told, who would go on with them else.
    pub fn cut_off(&self, cut_off: CutOff, at: UnixTime) -> bool {
        let mut cut_offs = write(&self.cut_offs);
        let before = cut_offs.collapses();
        // What is told again is none more.
        if cut_offs.insert(cut_off, at) {
            self.made.fetch_add(1, Ordering::SeqCst);
        }
        cut_offs.collapses() > before
    }

    /// What the cut-offs say now about a session that was let in before. Whether it has expired by itself is not asked.
    #[must_use]
    pub fn verdict(&self, claims: &Claims) -> Verdict {
        read(&self.cut_offs).verdict(claims)
    }

    /// How many cut-offs were made since it was made itself: grows with each.
    #[must_use]
    pub fn cut_offs_made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    /// Forgets cut-offs that can no longer matter. To be called now and then, once a minute or so.
    pub fn forget(&self, now: UnixTime) {
        write(&self.cut_offs).forget(now);
    }

    /// The earliest moment of issue that is still good for an instance; see [`CutOffs::issue_not_before`].
    #[must_use]
    pub fn issue_not_before(&self, account: AccountId, instance: InstanceId) -> UnixTime {
        read(&self.cut_offs).issue_not_before(account, instance)
    }

    /// Decides who sent `request`, whose body has the hash `body_sha256`, to `endpoint`.
    ///
    /// # Errors
    /// The first check that fails, in AWS's order; see [`AuthFault`].
    pub fn authenticate(
        &self,
        request: &Request<'_>,
        body_sha256: &[u8; 32],
        endpoint: &Endpoint<'_>,
        now: UnixTime,
    ) -> Result<Caller, AuthFault> {
        match Presented::accept(request, endpoint, now) {
            // By reference: it is large, and stays where it was made.
            Ok(ref presented) => self.judge_signature(presented, request, body_sha256, endpoint, now),
            Err(fault) => Err(fault.into()),
        }
    }

    /// As [`authenticate`](Self::authenticate), for a request that was read before, while its body was still to come: it is
    /// not parsed again. `presented` is of `request`; that it is of now and for `endpoint` is checked once more, which costs
    /// next to nothing.
    ///
    /// # Errors
    /// As of [`authenticate`](Self::authenticate), but for what [`Presented::accept`] found already.
    pub fn authenticate_presented(
        &self,
        presented: &Presented<'_>,
        request: &Request<'_>,
        body_sha256: &[u8; 32],
        endpoint: &Endpoint<'_>,
        now: UnixTime,
    ) -> Result<Caller, AuthFault> {
        presented.check(endpoint, now)?;
        self.judge_signature(presented, request, body_sha256, endpoint, now)
    }

    /// Steps 14 to 16.
    fn judge_signature(
        &self,
        presented: &Presented<'_>,
        request: &Request<'_>,
        body_sha256: &[u8; 32],
        endpoint: &Endpoint<'_>,
        now: UnixTime,
    ) -> Result<Caller, AuthFault> {
        let signature = Signature { request, body_sha256, endpoint, presented };
        match presented.token() {
            Some(token) => self.session(token, &signature, now),
            None => self.operator(&signature),
        }
    }

    /// Steps 14 to 16 for a caller with a session token.
    fn session(&self, token: &[u8], signature: &Signature<'_>, now: UnixTime) -> Result<Caller, AuthFault> {
        let verifier = self.verifier.load();
        let access_key_id = signature.presented.access_key_id();
        let remembered = verifier.sessions.get(token);
        let is_new = remembered.is_none();
        let session = match remembered {
            // A token that is remembered with another key id was sealed for that other one.
            Some(session) if session.access_key_id.as_str() != access_key_id => return Err(AuthFault::TokenInvalid),
            Some(session) => session,
            None => {
                let opened = verifier.keyring.open(access_key_id, token).map_err(|_| {
                    // Whoever holds one of an epoch that has ended is to fetch anew, as where it was cut off.
                    let has_ended = verifier.keyring.has_ended(token);
                    if has_ended { AuthFault::TokenExpired } else { AuthFault::TokenInvalid }
                })?;
                Arc::new(Session::new(self.partition, token, opened))
            }
        };
        self.judge(&session.claims, signature.endpoint.skew_seconds, now)?;
        signature.verify(&session.keys)?;
        if is_new {
            verifier.sessions.insert(Arc::clone(&session));
        }
        Ok(Caller {
            principal: session.principal.clone(),
            claims: Some(Arc::clone(&session.claims)),
            access_key_id: session.access_key_id,
            signed: session.signed(signature.presented.signed_headers()),
        })
    }

    /// Steps 15 and 16 for a caller without a session token: only operators have keys that need none.
    fn operator(&self, signature: &Signature<'_>) -> Result<Caller, AuthFault> {
        let operators = self.operators.load();
        let operator = operators.get(signature.presented.access_key_id()).ok_or(AuthFault::UnknownKey)?;
        signature.verify(&operator.keys)?;
        Ok(Caller {
            principal: operator.principal.clone(),
            claims: None,
            access_key_id: operator.access_key_id,
            signed: SignedHeaders::new(signature.presented.signed_headers()),
        })
    }

    /// Whether an intact token is good here and now.
    fn judge(&self, claims: &Claims, skew_seconds: u64, now: UnixTime) -> Result<(), AuthFault> {
        if claims.region != self.region || claims.issued_at > now.plus(skew_seconds) {
            return Err(AuthFault::TokenInvalid);
        }
        if now >= claims.expires_at {
            return Err(AuthFault::TokenExpired);
        }
        match self.verdict(claims) {
            Verdict::Alive => Ok(()),
            Verdict::Expired => Err(AuthFault::TokenExpired),
            Verdict::Dead => Err(AuthFault::UnknownKey),
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("partition", &self.partition)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    fn new(partition: Partition, keyring: Arc<Keyring>) -> Result<Self, KeyringError> {
        if keyring.partition() != Some(partition) {
            return Err(KeyringError::Partition);
        }
        Ok(Self { keyring, sessions: Sessions::default() })
    }
}

/// A request and everything that its signature is judged by, but the key.
struct Signature<'a> {
    request: &'a Request<'a>,
    body_sha256: &'a [u8; 32],
    endpoint: &'a Endpoint<'a>,
    presented: &'a Presented<'a>,
}

impl Signature<'_> {
    /// Step 16 with the key that `keys` has for the scope.
    fn verify(&self, keys: &ScopedKeys) -> Result<(), AuthFault> {
        let path_mode = self.endpoint.path_mode;
        let verify = |key: &_| {
            SCRATCH.with_borrow_mut(|scratch| {
                self.presented.verify(self.request, self.body_sha256, path_mode, key, scratch)
            })
        };
        keys.judge(&self.presented.scope(), verify).map_err(AuthFault::from)
    }
}

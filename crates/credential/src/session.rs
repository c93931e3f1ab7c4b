//! What a verifier remembers between requests: opened tokens, and signing keys by scope.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use inborn_identity::{AccessKeyId, Partition, Principal};
use inborn_sigv4::{Scope, SigningKey};

use crate::{Claims, Kind, Opened, SecretAccessKey, SignedHeaders};

/// Most signing keys kept per secret: the services of one day, and of two at midnight.
pub(crate) const SCOPES_MAX: usize = 4;

/// A lock that a panic elsewhere cannot poison for good: what it guards is whole between any two statements.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`read`], for changing.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// A secret and the signing keys derived from it lately.
pub(crate) struct ScopedKeys {
    secret: SecretAccessKey,
    keys: RwLock<Vec<ScopedKey>>,
}

struct ScopedKey {
    /// The whole scope, `20261123/us-east-1/sts/aws4_request`.
    scope: Box<str>,
    /// In a place of its own: moved with the others, it would leave a copy behind that is not wiped.
    key: Box<SigningKey>,
}

impl ScopedKey {
    fn is_for(&self, scope: &Scope<'_>) -> bool {
        *self.scope == *scope.text
    }
}

impl ScopedKeys {
    pub(crate) fn new(secret: SecretAccessKey) -> Self {
        Self { secret, keys: RwLock::new(Vec::new()) }
    }

    /// Asks `judge` about the key for `scope`, remembered or derived now. A derived one is remembered only if `judge`
    /// finds that it made the signature: its owner asked for it.
    pub(crate) fn judge<E>(
        &self,
        scope: &Scope<'_>,
        judge: impl FnOnce(&SigningKey) -> Result<(), E>,
    ) -> Result<(), E> {
        // The lock is held meanwhile: whoever writes has a key for another scope, once a day or so.
        if let Some(known) = read(&self.keys).iter().find(|key| key.is_for(scope)) {
            return judge(&known.key);
        }
        let secret = self.secret.expose().as_bytes();
        let key = Box::new(SigningKey::derive(secret, scope.date.as_bytes(), scope.region, scope.service));
        judge(&key)?;
        self.remember(scope, key);
        Ok(())
    }

    /// Keeps a derived key, in the place of the oldest if there are [`SCOPES_MAX`].
    fn remember(&self, scope: &Scope<'_>, key: Box<SigningKey>) {
        let mut keys = write(&self.keys);
        if keys.iter().any(|key| key.is_for(scope)) {
            return;
        }
        if keys.len() >= SCOPES_MAX {
            keys.remove(0);
        }
        keys.push(ScopedKey { scope: scope.text.into(), key });
    }
}

/// An opened token, ready to verify signatures with.
pub(crate) struct Session {
    token: Box<[u8]>,
    pub(crate) access_key_id: AccessKeyId,
    pub(crate) claims: Arc<Claims>,
    pub(crate) principal: Principal,
    pub(crate) keys: ScopedKeys,
    /// The first list of signed headers: a client signs the same ones each time.
    signed: OnceLock<SignedHeaders>,
}

impl Session {
    /// Longest list of signed headers that is remembered, in bytes; SDKs send less than half of it.
    const SIGNED_MAX: usize = 256;

    pub(crate) fn new(partition: Partition, token: &[u8], opened: Opened) -> Self {
        let Opened { claims, access_key_id, secret } = opened;
        let (account, instance) = (claims.account, claims.instance);
        let principal = match &claims.kind {
            Kind::Identity => Principal::IdentityRole { partition, account, instance },
            Kind::Management { role, role_id } => {
                Principal::ManagementRole { partition, account, instance, role: role.clone(), role_id: role_id.clone() }
            }
        };
        let keys = ScopedKeys::new(secret);
        let (token, claims, signed) = (token.into(), Arc::new(claims), OnceLock::new());
        Self { token, access_key_id, claims, principal, keys, signed }
    }

    /// The list of signed headers of a request that was verified, allocated only if it is another than the first one.
    pub(crate) fn signed(&self, list: &[u8]) -> SignedHeaders {
        if list.len() > Self::SIGNED_MAX {
            return SignedHeaders::new(list);
        }
        let first = self.signed.get_or_init(|| SignedHeaders::new(list));
        if first.list() == list { first.clone() } else { SignedHeaders::new(list) }
    }
}

/// The end of a token, characters of the tag of its seal: cheap to hash, and as good as the whole for finding it.
type Tail = [u8; 16];

/// Sessions by their tokens, in two generations: when the young one is full it becomes the old one, and the old one is
/// dropped. What is used moves back to the young. No clock and no list to keep in order.
#[derive(Default)]
pub(crate) struct Sessions {
    generations: RwLock<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Tail, Arc<Session>>,
    old: HashMap<Tail, Arc<Session>>,
}

impl Sessions {
    /// Most sessions in one of the two generations.
    pub(crate) const GENERATION_MAX: usize = 2048;

    /// The session of `token`, if it is remembered. The whole token is compared: its end only finds it.
    pub(crate) fn get(&self, token: &[u8]) -> Option<Arc<Session>> {
        let tail = token.last_chunk()?;
        let generations = read(&self.generations);
        let is_whole = |session: &&Arc<Session>| *session.token == *token;
        if let Some(session) = generations.young.get(tail).filter(is_whole) {
            return Some(Arc::clone(session));
        }
        let session = Arc::clone(generations.old.get(tail).filter(is_whole)?);
        drop(generations);
        self.insert(Arc::clone(&session));
        Some(session)
    }

    /// Remembers a session.
    pub(crate) fn insert(&self, session: Arc<Session>) {
        let Some(tail) = session.token.last_chunk().copied() else { return };
        let mut dropped = None;
        let mut generations = write(&self.generations);
        if generations.young.len() >= Self::GENERATION_MAX && !generations.young.contains_key(&tail) {
            let young = core::mem::take(&mut generations.young);
            dropped = Some(core::mem::replace(&mut generations.old, young));
        }
        generations.young.insert(tail, session);
        // Thousands of sessions are wiped after the lock is free again.
        drop(generations);
        drop(dropped);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let generations = read(&self.generations);
        generations.young.len() + generations.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::tests::{longest, sample};
    use crate::{Authenticator, Epoch, EpochId, EpochRoot, Keyring};

    /// A session of `claims`, as if it had come with `token`, or with its own.
    fn session(claims: &Claims, token: Option<&[u8]>) -> Arc<Session> {
        let epoch = Epoch::new(EpochId(1), &EpochRoot::from_bytes([1; 32]), Partition::Aws).unwrap();
        let keyring = Keyring::new(vec![epoch], EpochId(1)).unwrap();
        let credential = keyring.mint(claims).unwrap();
        let own = credential.session_token.expose().as_bytes();
        let opened = keyring.open(credential.access_key_id.as_str(), own).unwrap();
        Arc::new(Session::new(Partition::Aws, token.unwrap_or(own), opened))
    }

    fn scope(text: &str) -> Scope<'_> {
        let parts: Vec<_> = text.split('/').collect();
        Scope { text, date: parts[0], region: parts[1], service: parts[2], terminator: parts[3] }
    }

    fn token(number: usize) -> Vec<u8> {
        format!("token {number:020}").into_bytes()
    }

    #[test]
    fn remembers_at_most_two_generations() {
        let sessions = Sessions::default();
        let max = Sessions::GENERATION_MAX;
        for number in 0..2 * max + 1 {
            let session = session(&sample(), Some(&token(number)));
            sessions.insert(Arc::clone(&session));
            sessions.insert(session);
            assert_eq!(sessions.len(), if number < 2 * max { number + 1 } else { max + 1 });
        }
        assert!(sessions.get(&token(2 * max)).is_some());
        assert!(sessions.get(&token(max)).is_some());
        assert!(sessions.get(&token(max - 1)).is_none());
    }

    #[test]
    fn what_is_used_stays() {
        let sessions = Sessions::default();
        sessions.insert(session(&sample(), Some(b"the one that is used")));
        for number in 0..3 * Sessions::GENERATION_MAX {
            sessions.insert(session(&sample(), Some(&token(number))));
            assert!(sessions.get(b"the one that is used").is_some(), "{number}");
        }
    }

    #[test]
    fn a_hit_is_the_whole_token() {
        let sessions = Sessions::default();
        sessions.insert(session(&sample(), Some(&token(1))));
        let mut changed = token(1);
        changed[0] ^= 1;
        for (token, is_hit) in [(token(1).as_slice(), true), (&changed, false), (&token(1)[1..], false), (b"", false)] {
            assert_eq!(sessions.get(token).is_some(), is_hit);
        }
    }

    #[test]
    fn signing_keys_below_at_and_above_the_limit() {
        let session = session(&sample(), None);
        let days: Vec<_> = (1..=SCOPES_MAX + 1).map(|day| format!("2026010{day}/us-east-1/sts/aws4_request")).collect();
        let knows = |text: &str| read(&session.keys.keys).iter().any(|key| key.is_for(&scope(text)));
        let judge = |text: &str, is_good| session.keys.judge(&scope(text), |_| if is_good { Ok(()) } else { Err(()) });
        for day in &days {
            assert_eq!((judge(day, false), knows(day)), (Err(()), false), "a key that verified nothing");
            assert_eq!((judge(day, true), knows(day)), (Ok(()), true));
            assert_eq!((judge(day, true), judge(day, false)), (Ok(()), Err(())), "a key that is remembered");
            assert!(!knows(&day.replace("sts", "ssm")));
        }
        assert_eq!(days.iter().map(|day| knows(day)).collect::<Vec<_>>(), [false, true, true, true, true]);
    }

    #[test]
    fn the_first_list_of_signed_headers_is_shared_if_it_is_short() {
        let max = Session::SIGNED_MAX;
        for (length, is_shared) in [(max - 1, true), (max, true), (max + 1, false)] {
            let (session, list) = (session(&sample(), None), vec![b'a'; length]);
            let (one, two, other) = (session.signed(&list), session.signed(&list), session.signed(b"host"));
            assert_eq!(one.list().as_ptr() == two.list().as_ptr(), is_shared, "{length}");
            assert_eq!((one.list(), two.list(), other.list()), (&*list, &*list, b"host".as_slice()));
        }
    }

    /// Adds up everything that a full cache holds, every text at its longest, with 16 bytes of overhead for each
    /// allocation. Service names are at most as long as region names, and a scope has 23 bytes more.
    #[test]
    fn a_full_cache_keeps_to_its_bound() {
        const ALLOCATION: usize = 16;
        const NAME: usize = 32 + ALLOCATION;
        let session = session(&longest(), None);
        let scoped_key = size_of::<ScopedKey>() + 2 * NAME + 23 + size_of::<SigningKey>() + 2 * ALLOCATION;
        let role = 64 + 32 + 2 * ALLOCATION;
        let claims = size_of::<Claims>() + 2 * ALLOCATION + NAME + role;
        let signed = Session::SIGNED_MAX + 2 * ALLOCATION;
        let one = size_of_val(&*session) + 2 * ALLOCATION + role + claims + SCOPES_MAX * scoped_key + signed;
        // A hash table is at least 7/16 full after it grew; a slot is the key, the value and a byte.
        let slot = (size_of::<(Tail, Arc<Session>)>() + 1) * 16 / 7;
        let all = 2 * Sessions::GENERATION_MAX * (one + slot + session.token.len() + ALLOCATION);
        assert!(all <= Authenticator::CACHE_BYTES_MAX, "{all}");
        assert!(all > Authenticator::CACHE_BYTES_MAX / 2, "{all}: the bound says nothing");
    }
}

//! What a region keeps sealed: epochs, operators' secrets, the authority's key. Made at first start, read at each.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use inborn_credential::{
    CryptoError, CutOff, Epoch, EpochId, EpochRoot, Kek, KekError, Keyring, Operator, Scope, SecretAccessKey,
    generate_long_lived,
};
use inborn_identity::{AccessKeyId, AccountId, Partition, Principal, Region, UnixTime};
use inborn_pki::{Authority, HostsAuthority, SealableKey};
use inborn_ssh::{AUTHORITY_SEED_BYTES, HostAuthority};
use inborn_store::{Conflict, EpochState, Sealed, SealedEpoch, SettingChange, Store, StoreError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::deployment;
use crate::epochs::new_epoch;
use crate::high_water::{Compared, HighWater};
use crate::key_command;
use crate::key_file::{self, KeyFileError};
use crate::signers::Signers;
use crate::{OpenError, RegionIdentity};

/// The first epoch's number.
const FIRST_EPOCH: EpochId = EpochId(1);
const OPERATOR_NAME: &str = "operator";
const SETTING_REGION: &str = "region";
const SETTING_AUTHORITY: &str = "authority";
const SETTING_HOSTS_AUTHORITY: &str = "hosts-authority";
const SETTING_SSH_AUTHORITY: &str = "ssh-host-authority";

/// Where the key-encryption key comes from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A file with mode 0600; made at first start.
    File(PathBuf),
    /// What the service manager gives the process; never made here.
    Credential {
        /// The file in its directory of credentials.
        path: PathBuf,
        /// Where this server keeps what it has to remember.
        state: PathBuf,
    },
    /// What a program prints; never made here.
    Command {
        /// The program and its arguments, as they are: there is no shell.
        argv: Vec<String>,
        /// Where this server keeps what it has to remember.
        state: PathBuf,
    },
    /// Nowhere: a new one for a region that lives as long as its process.
    Ephemeral,
}

/// The secrets of a region, opened.
pub(crate) struct Secrets {
    pub(crate) high_water: HighWater,
    pub(crate) kek: Arc<Kek>,
    pub(crate) epochs: Vec<SealedEpoch>,
    pub(crate) keyring: Keyring,
    pub(crate) operators: Vec<Operator>,
    pub(crate) authority: Authority,
    pub(crate) ssh_authority: HostAuthority,
    pub(crate) hosts_authority: HostsAuthority,
    pub(crate) signers: Signers,
}

/// What `DATA/operator.env` is made of.
pub struct OperatorKey {
    /// `AKIA…`.
    pub access_key_id: String,
    /// Its secret.
    pub secret: SecretAccessKey,
}

/// The stored form of [`RegionIdentity`].
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct StoredIdentity {
    partition: String,
    region: String,
    account: String,
}

impl Secrets {
    /// Reads what is sealed, or makes it if the store is new; `compared` is the store with what was seen here.
    pub(crate) async fn open(
        store: &Arc<dyn Store>,
        source: &KeySource,
        identity: &RegionIdentity,
        home: Option<&Region>,
        now: UnixTime,
        compared: Compared,
    ) -> Result<Self, OpenError> {
        check_identity(store, identity).await?;
        deployment::check_home(&**store, identity, home).await?;
        let sealed = store.epochs().await?;
        let kek = Arc::new(key_encryption_key(source, sealed.is_empty()).await?);
        let mut epochs = if sealed.is_empty() { first_epoch(store, &kek, now).await? } else { sealed };
        let mut keyring = open_epochs(&kek, source, identity.partition, &epochs)?;
        // Not before it is certain that the key is the right one: where the store is older, epochs are made and ended here.
        let high_water = HighWater::begin(compared, store, &kek, now).await?;
        let found = store.epochs().await?;
        if found != epochs {
            keyring = open_epochs(&kek, source, identity.partition, &found)?;
            epochs = found;
        }
        let operators = match home {
            None => operators(store, &kek, source, identity, now).await?,
            // The home has them.
            Some(_) => Vec::new(),
        };
        let authority = authority(store, &kek, source, identity, now).await?;
        let ssh_authority = ssh_authority(store, &kek, source).await?;
        let hosts_authority = hosts_authority(store, &kek, source, identity, now).await?;
        let signers = Signers::open(store, Arc::clone(&kek), source, identity).await?;
        Ok(Self { high_water, kek, epochs, keyring, operators, authority, ssh_authority, hosts_authority, signers })
    }
}

/// A store belongs to one region for ever: credentials, audit and host keys in it say so.
async fn check_identity(store: &Arc<dyn Store>, identity: &RegionIdentity) -> Result<(), OpenError> {
    let wanted = StoredIdentity {
        partition: identity.partition.to_string(),
        region: identity.region.to_string(),
        account: identity.account.to_string(),
    };
    match store.setting(SETTING_REGION).await? {
        None => {
            let value = serde_json::to_vec(&wanted).map_err(|_| OpenError::Damaged(SETTING_REGION))?;
            let change = SettingChange { name: SETTING_REGION.to_owned(), expected: None, value };
            Ok(store.put_setting(change).await?)
        }
        Some(bytes) => {
            let found: StoredIdentity =
                serde_json::from_slice(&bytes).map_err(|_| OpenError::Damaged(SETTING_REGION))?;
            if found == wanted {
                return Ok(());
            }
            Err(OpenError::OtherRegion { partition: found.partition, region: found.region, account: found.account })
        }
    }
}

pub(crate) async fn key_encryption_key(source: &KeySource, is_first_start: bool) -> Result<Kek, OpenError> {
    let bytes = match source {
        KeySource::Credential { path, .. } => key_file::read_credential(path)?,
        KeySource::Command { argv, .. } => {
            let argv = argv.clone();
            let reading = tokio::task::spawn_blocking(move || key_command::read(&argv, key_command::TIMEOUT));
            reading.await.map_err(|_| CryptoError)??
        }
        KeySource::Ephemeral => Kek::generate_bytes()?,
        KeySource::File(path) => match key_file::read(path) {
            // Only where nothing is sealed yet may a key be made.
            Err(KeyFileError::Missing(_)) if is_first_start => key_file::create(path)?,
            other => other?,
        },
    };
    Ok(Kek::from_bytes(&bytes)?)
}

/// The first epoch of a new store, which seals from the beginning.
async fn first_epoch(store: &Arc<dyn Store>, kek: &Kek, now: UnixTime) -> Result<Vec<SealedEpoch>, OpenError> {
    let epoch = SealedEpoch { state: EpochState::Sealing, ..new_epoch(kek, FIRST_EPOCH.0, now)? };
    store.put_epoch(epoch).await?;
    Ok(store.epochs().await?)
}

/// The keyring of these epochs: those that are not retired verify, and seal from when it was said on.
pub(crate) fn open_epochs(
    kek: &Kek,
    source: &KeySource,
    partition: Partition,
    sealed: &[SealedEpoch],
) -> Result<Keyring, OpenError> {
    let (mut epochs, mut schedule) = (Vec::new(), Vec::new());
    for epoch in sealed.iter().filter(|epoch| epoch.state != EpochState::Retired) {
        let id = EpochId(epoch.id);
        let root = unseal(kek, source, &epoch_label(id), &epoch.blob)?;
        let root: [u8; EpochRoot::BYTES] = root.as_slice().try_into().map_err(|_| OpenError::Damaged("an epoch"))?;
        epochs.push(Epoch::new(id, &EpochRoot::from_bytes(root), partition)?);
        if epoch.state == EpochState::Sealing {
            schedule.push((id, epoch.seals_from.unwrap_or_default()));
        }
    }
    Ok(Keyring::scheduled(epochs, &schedule)?)
}

pub(crate) fn epoch_label(id: EpochId) -> String {
    format!("epoch {}", id.0)
}

pub(crate) fn unseal(
    kek: &Kek,
    source: &KeySource,
    label: &str,
    blob: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    kek.open(label, blob.as_bytes()).map_err(|error| match (error, source) {
        (KekError::Refused, KeySource::File(path)) => KeyFileError::Wrong(path.clone()).into(),
        (KekError::Refused, KeySource::Credential { path, .. }) => {
            KeyFileError::WrongGiven(format!("the credential {}", path.display())).into()
        }
        (KekError::Refused, KeySource::Command { argv, .. }) => {
            let program = argv.first().map_or("", String::as_str);
            KeyFileError::WrongGiven(format!("the key command {program}")).into()
        }
        (error, _) => error.into(),
    })
}

async fn operators(
    store: &Arc<dyn Store>,
    kek: &Kek,
    source: &KeySource,
    identity: &RegionIdentity,
    now: UnixTime,
) -> Result<Vec<Operator>, OpenError> {
    let mut stored = store.operators().await?;
    // Where nobody could sign for the region's own account any more, whoever can start it is given a key.
    let may_sign = |one: &inborn_store::Operator| one.account == identity.account && !one.disabled;
    while !stored.iter().any(may_sign) {
        let (access_key_id, secret) = generate_long_lived(identity.account)?;
        let blob = seal_operator(kek, access_key_id, &secret)?;
        let name = free_operator_name(&stored, identity.account);
        let operator = operator_record(access_key_id, blob, &name, identity.account, now);
        match store.put_operator(operator).await {
            // Another server came first: it has made one, for this one too.
            Ok(()) | Err(StoreError::Conflict(Conflict::OperatorName(_))) => stored = store.operators().await?,
            Err(error) => return Err(error.into()),
        }
    }
    let closed: BTreeSet<AccountId> =
        store.accounts().await?.into_iter().filter(|one| one.closed_at.is_some()).map(|one| one.id).collect();
    let may_sign = |one: &inborn_store::Operator| {
        !one.disabled && (one.account == identity.account || !closed.contains(&one.account))
    };
    // The one of the first start before those that were made since: its key is in `operator.env`.
    stored.sort_by_key(|one| (!is_of_a_start(&one.name), one.created_at, one.access_key_id.to_string()));
    stored.into_iter().filter(may_sign).map(|one| open_operator(kek, source, identity.partition, one)).collect()
}

/// The name of the operator that a start makes: `operator`, or `operator-2` and so on where those before it are disabled.
fn free_operator_name(stored: &[inborn_store::Operator], account: AccountId) -> String {
    let is_free = |name: &String| {
        let mut own = stored.iter().filter(|operator| operator.account == account);
        own.all(|operator| !operator.name.eq_ignore_ascii_case(name))
    };
    let first = core::iter::once(OPERATOR_NAME.to_owned());
    let next = (2_u32..).map(|number| format!("{OPERATOR_NAME}-{number}"));
    first.chain(next).find(is_free).unwrap_or_default()
}

/// Whether a start gives such a name.
fn is_of_a_start(name: &str) -> bool {
    let number = name.strip_prefix(OPERATOR_NAME).and_then(|rest| rest.strip_prefix('-'));
    name == OPERATOR_NAME || number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// A new operator as it is stored.
pub(crate) fn operator_record(
    access_key_id: AccessKeyId,
    secret: Sealed,
    name: &str,
    account: AccountId,
    now: UnixTime,
) -> inborn_store::Operator {
    inborn_store::Operator {
        access_key_id,
        secret,
        name: name.to_owned(),
        user_id: format!("AIDA{}", access_key_id.as_str().get(4..).unwrap_or_default()),
        account,
        created_at: now,
        disabled: false,
    }
}

pub(crate) fn seal_operator(kek: &Kek, id: AccessKeyId, secret: &SecretAccessKey) -> Result<Sealed, OpenError> {
    Ok(Sealed::new(kek.seal(&operator_label(&id.to_string()), secret.expose().as_bytes())?))
}

/// An operator as the authenticator needs it.
pub(crate) fn open_operator(
    kek: &Kek,
    source: &KeySource,
    partition: Partition,
    stored: inborn_store::Operator,
) -> Result<Operator, OpenError> {
    let label = operator_label(&stored.access_key_id.to_string());
    let text = unseal(kek, source, &label, &stored.secret)?;
    let text = core::str::from_utf8(&text).map_err(|_| OpenError::Damaged("an operator's key"))?;
    let secret = SecretAccessKey::new(text).map_err(|_| OpenError::Damaged("an operator's key"))?;
    let principal = Principal::Operator {
        partition,
        account: stored.account,
        name: stored.name.into(),
        user_id: stored.user_id.into(),
        access_key_id: stored.access_key_id,
    };
    Ok(Operator { principal, secret })
}

pub(crate) fn operator_label(access_key_id: &str) -> String {
    format!("operator {access_key_id}")
}

/// Whether the setting of this name is sealed, as far as it is one of these.
pub(crate) fn is_sealed_setting(name: &str) -> bool {
    name == SETTING_SSH_AUTHORITY
        || name == SETTING_HOSTS_AUTHORITY
        || name.strip_prefix(SETTING_AUTHORITY).is_some_and(|rest| rest.starts_with(' '))
}

/// The authority of this domain. One for each, since it is constrained to the domain's names.
async fn authority(
    store: &Arc<dyn Store>,
    kek: &Kek,
    source: &KeySource,
    identity: &RegionIdentity,
    now: UnixTime,
) -> Result<Authority, OpenError> {
    let name = format!("{SETTING_AUTHORITY} {}", identity.domain);
    if let Some(blob) = store.setting(&name).await? {
        let text = unseal(kek, source, &name, &Sealed::new(blob))?;
        let [certificate, key] = decode_parts(&text).ok_or(OpenError::Damaged("the certificate authority"))?;
        let stored = sealable_key(certificate, key).ok_or(OpenError::Damaged("the certificate authority"))?;
        return Ok(Authority::restore(&identity.region, &identity.domain, &stored)?);
    }
    let (authority, sealable) = Authority::create(&identity.region, &identity.domain, now)?;
    let value = kek.seal(&name, &encode_parts(&[sealable.certificate_pem.as_bytes(), &sealable.private_key]))?;
    store.put_setting(SettingChange { name, expected: None, value }).await?;
    Ok(authority)
}

/// Who signs the certificates by which hosts and region know each other.
async fn hosts_authority(
    store: &Arc<dyn Store>,
    kek: &Kek,
    source: &KeySource,
    identity: &RegionIdentity,
    now: UnixTime,
) -> Result<HostsAuthority, OpenError> {
    const DAMAGED: OpenError = OpenError::Damaged("the authority of hosts");
    let name = SETTING_HOSTS_AUTHORITY;
    if let Some(blob) = store.setting(name).await? {
        let text = unseal(kek, source, name, &Sealed::new(blob))?;
        let [certificate, key] = decode_parts(&text).ok_or(DAMAGED)?;
        let stored = sealable_key(certificate, key).ok_or(DAMAGED)?;
        return Ok(HostsAuthority::restore(&identity.region, &stored)?);
    }
    let (authority, sealable) = HostsAuthority::create(&identity.region, now)?;
    let value = kek.seal(name, &encode_parts(&[sealable.certificate_pem.as_bytes(), &sealable.private_key]))?;
    store.put_setting(SettingChange { name: name.to_owned(), expected: None, value }).await?;
    Ok(authority)
}

/// Who signs SSH host certificates: the seed of its key is sealed.
async fn ssh_authority(store: &Arc<dyn Store>, kek: &Kek, source: &KeySource) -> Result<HostAuthority, OpenError> {
    const DAMAGED: OpenError = OpenError::Damaged("the SSH host authority");
    let name = SETTING_SSH_AUTHORITY;
    if let Some(blob) = store.setting(name).await? {
        let seed = unseal(kek, source, name, &Sealed::new(blob))?;
        let seed = seed.as_slice().try_into().map_err(|_| DAMAGED)?;
        return HostAuthority::from_seed(seed).map_err(|_| DAMAGED);
    }
    let mut seed = Zeroizing::new([0; AUTHORITY_SEED_BYTES]);
    aws_lc_rs::rand::fill(&mut *seed).map_err(|_| CryptoError)?;
    let authority = HostAuthority::from_seed(&seed).map_err(|_| DAMAGED)?;
    let value = kek.seal(name, &*seed)?;
    store.put_setting(SettingChange { name: name.to_owned(), expected: None, value }).await?;
    Ok(authority)
}

/// Texts one after the other, each but the last behind its length in 4 bytes.
pub(crate) fn encode_parts(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().map(|part| 4 + part.len()).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    for (at, part) in parts.iter().enumerate() {
        if at + 1 < parts.len() {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
        bytes.extend_from_slice(part);
    }
    bytes
}

/// `N` texts that [`encode_parts`] has put together.
pub(crate) fn decode_parts<const N: usize>(bytes: &[u8]) -> Option<[&[u8]; N]> {
    let mut rest = bytes;
    let mut parts = [bytes; N];
    let (last, others) = parts.split_last_mut()?;
    for part in others {
        let (length, after) = rest.split_first_chunk::<4>()?;
        (*part, rest) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    }
    *last = rest;
    Some(parts)
}

pub(crate) fn sealable_key(certificate: &[u8], key: &[u8]) -> Option<SealableKey> {
    Some(SealableKey {
        certificate_pem: String::from_utf8(certificate.to_vec()).ok()?,
        private_key: Zeroizing::new(key.to_vec()),
    })
}

/// The verifier's form of a stored cut-off.
pub(crate) fn cut_off(stored: inborn_store::CutOff) -> CutOff {
    use inborn_store::CutOffScope;
    match stored {
        inborn_store::CutOff::Dead { instance } => CutOff::Dead { instance },
        inborn_store::CutOff::OlderBoot { instance, below } => CutOff::OlderBoot { instance, below },
        inborn_store::CutOff::IssuedBefore { scope, before } => {
            let scope = match scope {
                CutOffScope::Instance(instance) => Scope::Instance(instance),
                CutOffScope::Account(account) => Scope::Account(account),
                CutOffScope::All => Scope::All,
            };
            CutOff::IssuedBefore { scope, before }
        }
    }
}

/// The account of `operator`, and its key as `DATA/operator.env` needs it.
pub(crate) fn operator_key(operators: &[Operator], account: AccountId) -> Option<OperatorKey> {
    operators.iter().find_map(|operator| match &operator.principal {
        Principal::Operator { account: its, access_key_id, .. } if *its == account => {
            Some(OperatorKey { access_key_id: access_key_id.to_string(), secret: operator.secret.clone() })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_come_apart_as_they_were_put_together(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
            let bytes = encode_parts(&[&a, &b, &c]);
            prop_assert_eq!(decode_parts(&bytes), Some([&a[..], &b[..], &c[..]]));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            decode_parts::<1>(&bytes).unwrap();
            let _ = decode_parts::<4>(&bytes);
        }
    }

    #[test]
    fn a_start_gives_the_first_name_that_is_free() {
        let account = AccountId::new(123_456_789_012).unwrap();
        let other = AccountId::new(210_987_654_321).unwrap();
        let named = |name: &str, account| {
            let key = AccessKeyId::new(inborn_identity::AccessKeyKind::LongLived, account, 1);
            operator_record(key, Sealed::new(vec![]), name, account, UnixTime::from_secs(1))
        };
        let mut stored = vec![named("operator", other), named("alice", account)];
        for expected in ["operator", "operator-2", "operator-3"] {
            let name = free_operator_name(&stored, account);
            assert_eq!(name, expected);
            stored.push(named(&name.to_uppercase(), account));
        }
        for (name, expected) in [
            ("operator", true),
            ("operator-2", true),
            ("operator-x", false),
            ("operator-", false),
            ("operators", false),
        ] {
            assert_eq!(is_of_a_start(name), expected, "{name}");
        }
    }

    /// The form that stores hold already.
    #[test]
    fn a_certificate_and_its_key() {
        assert_eq!(*encode_parts(&[b"PEM", b"KEY"]), *b"\0\0\0\x03PEMKEY");
        assert!(decode_parts::<2>(b"\0\0\0\x07PEMKEY").is_none());
    }
}

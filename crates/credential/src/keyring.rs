//! The epochs a process knows: one that seals, all that verify.

use aws_lc_rs::hmac;
use inborn_identity::{AccessKeyId, AccessKeyKind, Partition, UnixTime};
use zeroize::Zeroize;

use crate::secret::SECRET_BYTES;
use crate::token::{self, Sealed};
use crate::{Claims, ClaimsError, CryptoError, Epoch, EpochId, SecretAccessKey, SessionToken};

/// A set of epochs that is not a keyring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyringError {
    /// More epochs than rotation ever needs.
    #[error("a keyring holds at most {} epochs", Keyring::EPOCHS_MAX)]
    TooMany,
    /// One number twice.
    #[error("epoch {} occurs twice", .0.0)]
    Twice(EpochId),
    /// The epoch to seal with is not there.
    #[error("epoch {}, to seal with, is not in the keyring", .0.0)]
    NoSealing(EpochId),
    /// Epochs of different partitions, or of another than the one they are to serve.
    #[error("the epochs of a keyring belong to one partition")]
    Partition,
}

/// Why a credential was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MintError {
    /// Claims that cannot be.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// The epoch that sealed what was issued then has ended before its time.
    #[error("the epoch of that moment has ended")]
    NoEpoch,
    /// The crypto library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A token that no known epoch sealed for this access key id. No reason is given, to nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the token is not valid")]
pub struct InvalidToken;

/// A credential as metadata hands it out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// `AccessKeyId`.
    pub access_key_id: AccessKeyId,
    /// `SecretAccessKey`.
    pub secret_access_key: SecretAccessKey,
    /// `Token`.
    pub session_token: SessionToken,
    /// When it begins.
    pub issued_at: UnixTime,
    /// `Expiration`.
    pub expires_at: UnixTime,
}

/// A token that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// What it says. Times, region and cut-offs are not judged yet.
    pub claims: Claims,
    /// The access key id it was sealed for.
    pub access_key_id: AccessKeyId,
    /// The secret that belongs to both.
    pub secret: SecretAccessKey,
}

/// Up to 16 epochs of one partition. New credentials are sealed with one of them; tokens of all are opened.
#[derive(Debug)]
pub struct Keyring {
    epochs: Vec<Epoch>,
    /// From which moment of issue on which of them seals, by its place; the latest first.
    schedule: Vec<(UnixTime, usize)>,
}

impl Keyring {
    /// Most epochs. Rotation once an hour for the longest life of a credential needs fewer than ten.
    pub const EPOCHS_MAX: usize = 16;

    /// How many epochs a server may be behind another that has just made them.
    pub const AHEAD_MAX: u32 = 4;

    /// Fewest and most characters of a token made here.
    pub const TOKEN_LENGTH: core::ops::RangeInclusive<usize> = token::LENGTH_MIN..=token::LENGTH_MAX;

    /// A keyring that seals with epoch `sealing`.
    ///
    /// # Errors
    /// Too many epochs, one twice, several partitions, or none numbered `sealing`.
    pub fn new(epochs: Vec<Epoch>, sealing: EpochId) -> Result<Self, KeyringError> {
        Self::scheduled(epochs, &[(sealing, UnixTime::default())])
    }

    /// A keyring whose epochs follow each other: what is issued at a moment is sealed with the one whose own moment was the
    /// last before, or at, it. Where two have the same, the higher number counts.
    ///
    /// # Errors
    /// As of [`Keyring::new`]; an empty schedule.
    pub fn scheduled(epochs: Vec<Epoch>, seals_from: &[(EpochId, UnixTime)]) -> Result<Self, KeyringError> {
        if epochs.len() > Self::EPOCHS_MAX {
            return Err(KeyringError::TooMany);
        }
        for (index, epoch) in epochs.iter().enumerate() {
            if epochs.iter().skip(index + 1).any(|other| other.id == epoch.id) {
                return Err(KeyringError::Twice(epoch.id));
            }
        }
        let mut schedule = Vec::with_capacity(seals_from.len());
        for (id, from) in seals_from {
            let place = epochs.iter().position(|epoch| epoch.id == *id).ok_or(KeyringError::NoSealing(*id))?;
            schedule.push((*from, *id, place));
        }
        schedule.sort_by_key(|(from, id, _)| core::cmp::Reverse((*from, *id)));
        if schedule.is_empty() {
            return Err(KeyringError::NoSealing(EpochId(0)));
        }
        let schedule = schedule.into_iter().map(|(from, _, place)| (from, place)).collect();
        let keyring = Self { epochs, schedule };
        if keyring.epochs.iter().any(|epoch| Some(epoch.partition) != keyring.partition()) {
            return Err(KeyringError::Partition);
        }
        Ok(keyring)
    }

    /// The partition of its epochs.
    #[must_use]
    pub fn partition(&self) -> Option<Partition> {
        self.epochs.first().map(Epoch::partition)
    }

    /// The epoch that seals what is issued at this moment; `None`: it has ended before its time.
    #[must_use]
    pub fn sealing_at(&self, issued_at: UnixTime) -> Option<EpochId> {
        self.sealing(issued_at).map(Epoch::id)
    }

    fn sealing(&self, issued_at: UnixTime) -> Option<&Epoch> {
        let (_, place) = self.schedule.iter().find(|(from, _)| *from <= issued_at)?;
        self.epochs.get(*place)
    }

    /// Whether a token was sealed with an epoch that has ended: by its number, which nobody has to have sealed. Numbers are used
    /// once, in their order.
    #[must_use]
    pub fn has_ended(&self, token: &[u8]) -> bool {
        Self::epoch_of(token).is_some_and(|id| {
            let is_known = self.epochs.iter().any(|epoch| epoch.id == id);
            !is_known && self.epochs.iter().any(|epoch| epoch.id > id)
        })
    }

    /// Whether a token says that an epoch has sealed it that comes after all that are known here, soon enough to be one.
    #[must_use]
    pub fn is_ahead(&self, token: &[u8]) -> bool {
        let newest = self.epochs.iter().map(|epoch| epoch.id.0).max().unwrap_or(0);
        Self::epoch_of(token).is_some_and(|id| id.0 > newest && id.0 - newest <= Self::AHEAD_MAX)
    }

    fn epoch_of(token: &[u8]) -> Option<EpochId> {
        Sealed::read(token).map(|sealed| sealed.epoch)
    }

    /// The credential that these claims are. The same claims and sealing epoch always give the same bytes.
    ///
    /// # Errors
    /// Claims that cannot be, or a failing crypto library.
    pub fn mint(&self, claims: &Claims) -> Result<Credential, MintError> {
        let epoch = self.sealing(claims.issued_at).ok_or(MintError::NoEpoch)?;
        let encoded = claims.encode()?;
        let access_key_id = key_id(epoch, claims, &encoded)?;
        Ok(Credential {
            access_key_id,
            secret_access_key: secret(epoch, &access_key_id, &encoded)?,
            session_token: token::seal(epoch, &access_key_id, &encoded)?,
            issued_at: claims.issued_at,
            expires_at: claims.expires_at,
        })
    }

    /// Opens a token that came with an access key id. Nothing is proven by it but that the two belong together: the
    /// caller must still know the secret.
    ///
    /// # Errors
    /// Everything that [`Keyring::mint`] with one of these epochs does not give.
    pub fn open(&self, access_key_id: &str, token: &[u8]) -> Result<Opened, InvalidToken> {
        let access_key_id: AccessKeyId = access_key_id.parse().map_err(|_| InvalidToken)?;
        let mut sealed = Sealed::read(token).ok_or(InvalidToken)?;
        let epoch = self.epochs.iter().find(|epoch| epoch.id == sealed.epoch).ok_or(InvalidToken)?;
        // The access key id is part of what the seal covers: a token swapped between two ids does not open.
        let encoded = sealed.open(epoch, &access_key_id).ok_or(InvalidToken)?;
        let claims = Claims::decode(encoded).ok_or(InvalidToken)?;
        if access_key_id.kind() != AccessKeyKind::Temporary || access_key_id.account() != Some(claims.account) {
            return Err(InvalidToken);
        }
        let secret = secret(epoch, &access_key_id, encoded).map_err(|_| InvalidToken)?;
        Ok(Opened { claims, access_key_id, secret })
    }
}

fn key_id(epoch: &Epoch, claims: &Claims, encoded: &[u8]) -> Result<AccessKeyId, CryptoError> {
    let tag = hmac::sign(&epoch.key_id, encoded);
    let free = tag.as_ref().first_chunk().copied().map(u64::from_be_bytes).ok_or(CryptoError)?;
    Ok(AccessKeyId::new(AccessKeyKind::Temporary, claims.account, free))
}

fn secret(epoch: &Epoch, key_id: &AccessKeyId, encoded: &[u8]) -> Result<SecretAccessKey, CryptoError> {
    let mut context = hmac::Context::with_key(&epoch.secret);
    context.update(key_id.as_bytes());
    context.update(encoded);
    let tag = context.sign();
    let mut bytes: [u8; SECRET_BYTES] = tag.as_ref().first_chunk().copied().ok_or(CryptoError)?;
    let secret = SecretAccessKey::from_bytes(&bytes);
    bytes.zeroize();
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::tests::{any_claims, longest, sample};
    use crate::{EpochRoot, Kind};
    use proptest::prelude::*;

    fn epoch(id: u32) -> Epoch {
        let root = EpochRoot::from_bytes([u8::try_from(id).unwrap(); 32]);
        Epoch::new(EpochId(id), &root, Partition::Aws).unwrap()
    }

    fn keyring(ids: &[u32], sealing: u32) -> Keyring {
        Keyring::new(ids.iter().copied().map(epoch).collect(), EpochId(sealing)).unwrap()
    }

    /// The bytes of a credential from a fixed root. They may never change: tokens in use would stop working, and
    /// issuers of two versions would disagree. The values were computed by a second implementation, in Python.
    #[test]
    fn the_format_never_changes() {
        let credential = keyring(&[1], 1).mint(&sample()).unwrap();
        assert_eq!(credential.access_key_id.as_str(), "ASIARZPUZDIKL7X6FZCX");
        assert_eq!(credential.secret_access_key.expose(), "GPp2agjSK3jh0IymJW25N2UCU6xv59AhMVWr3U0h");
        let token = concat!(
            "inb1AAAAAV8vqbAZ2nKAbg3n4kFz42eu6wf5yABU-ss13C_5N9YX1KWVF9izQuf4",
            "r72Pqvetaz8AJYcSSegI7ymOrD8GYC5R6WT6a1jG5aH6kBHoce30XXByPYoUMiKe8t1Z",
        );
        assert_eq!(credential.session_token.expose(), token);
    }

    #[test]
    fn two_issuers_give_the_same_bytes() {
        let (one, two) = (keyring(&[1, 2], 2), keyring(&[2, 3], 2));
        assert_eq!(one.mint(&sample()), two.mint(&sample()));
        assert_ne!(one.mint(&sample()), keyring(&[1, 2], 1).mint(&sample()));
    }

    #[test]
    fn other_claims_are_other_credentials() {
        let keyring = keyring(&[1], 1);
        let base = keyring.mint(&sample()).unwrap();
        let others = [
            Claims { boot_generation: 4, ..sample() },
            Claims { delivery: crate::Delivery::V1, ..sample() },
            Claims { issued_at: sample().issued_at.plus(1), ..sample() },
            Claims { private_address: None, ..sample() },
            Claims { kind: Kind::Management { role: "role".parse().unwrap(), role_id: "AROA1".into() }, ..sample() },
        ];
        for other in others.map(|claims| keyring.mint(&claims).unwrap()) {
            assert_ne!(base.access_key_id, other.access_key_id);
            assert_ne!(base.secret_access_key, other.secret_access_key);
            assert_ne!(base.session_token, other.session_token);
        }
    }

    #[test]
    fn texts_have_the_promised_forms() {
        for (claims, length) in [(sample(), 132), (longest(), 286)] {
            let credential = keyring(&[1], 1).mint(&claims).unwrap();
            let token = credential.session_token.expose();
            assert_eq!(token.len(), length);
            assert!(token.starts_with("inb1"));
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            assert!((130..=300).contains(&token.len()) && Keyring::TOKEN_LENGTH.contains(&token.len()));
            assert_eq!(credential.access_key_id.kind(), AccessKeyKind::Temporary);
            assert_eq!(credential.access_key_id.account(), Some(claims.account));
            assert!(SecretAccessKey::new(credential.secret_access_key.expose()).is_ok());
        }
    }

    /// The public algorithm, written out: base32, first six bytes, `(z & 0x7fffffffff80) >> 7`.
    #[test]
    fn the_key_id_decodes_to_the_account_with_the_public_algorithm() {
        let id = keyring(&[1], 1).mint(&sample()).unwrap().access_key_id;
        let bits = id.as_str()[4..].bytes().fold(0u128, |bits, character| {
            let value = if character.is_ascii_uppercase() { character - b'A' } else { character - b'2' + 26 };
            bits << 5 | u128::from(value)
        });
        let first_six_bytes = bits >> 32;
        assert_eq!((first_six_bytes & 0x7fff_ffff_ff80) >> 7, 123_456_789_012);
    }

    #[test]
    fn every_flipped_bit_of_a_token_is_refused() {
        let keyring = keyring(&[1, 2], 1);
        for claims in [sample(), longest()] {
            let credential = keyring.mint(&claims).unwrap();
            let (id, token) = (credential.access_key_id.as_str(), credential.session_token.expose().as_bytes());
            assert!(keyring.open(id, token).is_ok());
            for bit in 0..token.len() * 8 {
                let mut changed = token.to_vec();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(keyring.open(id, &changed), Err(InvalidToken), "bit {bit}");
            }
            for length in 0..token.len() {
                assert_eq!(keyring.open(id, &token[..length]), Err(InvalidToken), "length {length}");
            }
            assert_eq!(keyring.open(id, &[token, b"A"].concat()), Err(InvalidToken));
        }
    }

    #[test]
    fn a_token_belongs_to_its_key_id() {
        let keyring = keyring(&[1], 1);
        let one = keyring.mint(&sample()).unwrap();
        let two = keyring.mint(&Claims { boot_generation: 4, ..sample() }).unwrap();
        let token = one.session_token.expose().as_bytes();
        let akia = one.access_key_id.as_str().replace("ASIA", "AKIA");
        for id in [two.access_key_id.as_str(), &akia, "", "ASIA", &one.access_key_id.as_str().to_lowercase()] {
            assert_eq!(keyring.open(id, token), Err(InvalidToken), "{id}");
        }
    }

    /// A token says in clear which epoch sealed it; with another number there it opens under no epoch.
    #[test]
    fn a_tampered_or_unknown_epoch_is_refused() {
        let (both, first, second) = (keyring(&[1, 2], 1), keyring(&[1], 1), keyring(&[2], 2));
        let credential = first.mint(&sample()).unwrap();
        let (id, token) = (credential.access_key_id.as_str(), credential.session_token.expose());
        assert!(both.open(id, token.as_bytes()).is_ok());
        assert_eq!(second.open(id, token.as_bytes()), Err(InvalidToken));
        assert_eq!(&token[4..9], "AAAAA");
        let other = second.mint(&sample()).unwrap();
        let moved = format!("{}{}", &other.session_token.expose()[..10], &token[10..]);
        assert_ne!(moved, token);
        assert_eq!(both.open(id, moved.as_bytes()), Err(InvalidToken));
    }

    /// Two epochs that, by mistake, have one root: the number is part of what the seal covers.
    #[test]
    fn the_number_of_an_epoch_is_sealed_in() {
        let twin = |id| Epoch::new(EpochId(id), &EpochRoot::from_bytes([1; 32]), Partition::Aws).unwrap();
        let keyring = Keyring::new(vec![twin(1), twin(2)], EpochId(1)).unwrap();
        let other = Keyring::new(vec![twin(1), twin(2)], EpochId(2)).unwrap();
        let (one, two) = (keyring.mint(&sample()).unwrap(), other.mint(&sample()).unwrap());
        let moved = format!("{}{}", &two.session_token.expose()[..10], &one.session_token.expose()[10..]);
        assert_eq!(keyring.open(one.access_key_id.as_str(), moved.as_bytes()), Err(InvalidToken));
    }

    /// Which epoch seals is a function of the moment of issue: so all issuers give the same bytes, before and after a rotation.
    #[test]
    fn the_moment_of_issue_says_which_epoch_seals() {
        let at = |seconds| sample().issued_at.plus(seconds);
        let seals = [(EpochId(1), at(0)), (EpochId(3), at(100)), (EpochId(2), at(50)), (EpochId(4), at(100))];
        let keyring = Keyring::scheduled((1..=5).map(epoch).collect(), &seals).unwrap();
        for (seconds, id) in [(0, 1), (49, 1), (50, 2), (99, 2), (100, 4), (1_000_000, 4)] {
            let claims = Claims { issued_at: at(seconds), expires_at: at(seconds + 100), ..sample() };
            assert_eq!(keyring.sealing_at(at(seconds)), Some(EpochId(id)), "{seconds}");
            let alone = Keyring::new(vec![epoch(id)], EpochId(id)).unwrap();
            assert_eq!(keyring.mint(&claims), alone.mint(&claims), "{seconds}");
        }
        let before = Claims { issued_at: sample().issued_at.minus(1), ..sample() };
        assert_eq!(keyring.mint(&before), Err(MintError::NoEpoch), "its epoch has ended");
        let error = Keyring::scheduled(vec![epoch(1)], &[]).unwrap_err();
        assert_eq!(error, KeyringError::NoSealing(EpochId(0)));
    }

    #[test]
    fn a_token_tells_whether_its_epoch_has_ended() {
        let token = |id: u32| {
            let minted = Keyring::new(vec![epoch(id)], EpochId(id)).unwrap().mint(&sample()).unwrap();
            minted.session_token.expose().as_bytes().to_vec()
        };
        let keyring = keyring(&[2, 4], 4);
        for (id, has_ended, is_ahead) in [
            (1, true, false),
            (2, false, false),
            (3, true, false),
            (4, false, false),
            (5, false, true),
            (8, false, true),
            (9, false, false),
        ] {
            assert_eq!((keyring.has_ended(&token(id)), keyring.is_ahead(&token(id))), (has_ended, is_ahead), "{id}");
        }
        assert!(!keyring.has_ended(b"") && !keyring.is_ahead(b"inb1AAAAA"));
    }

    #[test]
    fn another_partition_does_not_open_it() {
        let here = keyring(&[1], 1).mint(&sample()).unwrap();
        let there = Epoch::new(EpochId(1), &EpochRoot::from_bytes([1; 32]), Partition::AwsCn).unwrap();
        let there = Keyring::new(vec![there], EpochId(1)).unwrap();
        let opened = there.open(here.access_key_id.as_str(), here.session_token.expose().as_bytes());
        assert_eq!(opened, Err(InvalidToken));
    }

    #[test]
    fn keyrings_that_cannot_be() {
        let epochs = |count: u32| (1..=count).map(epoch).collect::<Vec<_>>();
        for (count, is_valid) in [(0, false), (1, true), (15, true), (16, true), (17, false)] {
            assert_eq!(Keyring::new(epochs(count), EpochId(1)).is_ok(), is_valid, "{count}");
        }
        let error = |epochs, sealing| Keyring::new(epochs, EpochId(sealing)).unwrap_err();
        assert_eq!(error(epochs(17), 1), KeyringError::TooMany);
        assert_eq!(error(epochs(2), 3), KeyringError::NoSealing(EpochId(3)));
        assert_eq!(error(vec![epoch(1), epoch(2), epoch(1)], 1), KeyringError::Twice(EpochId(1)));
        let foreign = Epoch::new(EpochId(2), &EpochRoot::from_bytes([1; 32]), Partition::AwsCn).unwrap();
        assert_eq!(error(vec![epoch(1), foreign], 1), KeyringError::Partition);
    }

    #[test]
    fn debug_shows_no_secret() {
        let keyring = keyring(&[1], 1);
        let credential = keyring.mint(&sample()).unwrap();
        let id = credential.access_key_id.as_str();
        let opened = keyring.open(id, credential.session_token.expose().as_bytes()).unwrap();
        let shown = format!("{keyring:?} {credential:?} {opened:?}");
        assert!(!shown.contains(credential.secret_access_key.expose()));
        assert!(!shown.contains(credential.session_token.expose()));
        assert!(shown.contains(id));
    }

    proptest! {
        #[test]
        fn open_is_the_inverse_of_mint(claims in any_claims()) {
            let keyring = keyring(&[1, 2, 3], 2);
            let minted = keyring.mint(&claims).unwrap();
            let token = minted.session_token.expose();
            prop_assert!(Keyring::TOKEN_LENGTH.contains(&token.len()));
            let opened = keyring.open(minted.access_key_id.as_str(), token.as_bytes()).unwrap();
            prop_assert_eq!(opened.claims, claims);
            prop_assert_eq!(opened.secret, minted.secret_access_key);
        }

        #[test]
        fn no_token_panics(id in "\\PC{0,24}", mut token: Vec<u8>, long: bool) {
            if long {
                token = [b"inb1AAAAA".as_slice(), &token].concat();
                token.resize(132, b'A');
            }
            prop_assert_eq!(keyring(&[1], 1).open(&id, &token), Err(InvalidToken));
        }
    }
}

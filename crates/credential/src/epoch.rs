//! Epochs: generations of the root key material, and the four keys that come from each.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use inborn_identity::Partition;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::CryptoError;

/// The number of an epoch, as it stands in every token sealed with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EpochId(pub u32);

/// The root of an epoch: 32 random bytes from which every credential of its time follows.
///
/// Whoever holds it can be any machine. Wiped on drop, hidden from `Debug`; at rest it is sealed under a
/// [`Kek`](crate::Kek).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EpochRoot([u8; Self::BYTES]);

impl EpochRoot {
    /// Bytes in a root.
    pub const BYTES: usize = 32;

    /// A new root.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut root = Self([0; Self::BYTES]);
        rand::fill(&mut root.0)?;
        Ok(root)
    }

    /// A root made before.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, for sealing them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for EpochRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochRoot(redacted)")
    }
}

const SALT: &[u8] = b"inborn credential 1";

/// The keys of one epoch in one partition.
pub struct Epoch {
    pub(crate) id: EpochId,
    pub(crate) partition: Partition,
    /// Seals claims into tokens.
    pub(crate) token: LessSafeKey,
    /// Chooses the nonce of a token.
    pub(crate) nonce: hmac::Key,
    /// Chooses the free bits of an access key id.
    pub(crate) key_id: hmac::Key,
    /// Derives the secrets.
    pub(crate) secret: hmac::Key,
}

impl Epoch {
    /// Derives the keys of epoch `id` from its root. The same root gives unrelated keys in another partition.
    ///
    /// # Errors
    /// The crypto library failed.
    pub fn new(id: EpochId, root: &EpochRoot, partition: Partition) -> Result<Self, CryptoError> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(root.expose());
        let key = |label: &[u8]| -> Result<[u8; 32], CryptoError> {
            let mut bytes = [0; 32];
            let info = [label, b"\0", partition.id().as_bytes()];
            prk.expand(&info, hkdf::HKDF_SHA256)?.fill(&mut bytes)?;
            Ok(bytes)
        };
        let hmac_key = |label: &[u8]| -> Result<hmac::Key, CryptoError> {
            let mut bytes = key(label)?;
            let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
            bytes.zeroize();
            Ok(key)
        };
        let mut token = key(b"token")?;
        let unbound = UnboundKey::new(&AES_256_GCM_SIV, &token);
        token.zeroize();
        Ok(Self {
            id,
            partition,
            token: LessSafeKey::new(unbound?),
            nonce: hmac_key(b"nonce")?,
            key_id: hmac_key(b"id")?,
            secret: hmac_key(b"secret")?,
        })
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> EpochId {
        self.id
    }

    /// The partition its keys belong to.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch").field("id", &self.id).field("partition", &self.partition).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_the_root_and_the_partition() {
        let tag = |root: u8, partition| {
            let epoch = Epoch::new(EpochId(1), &EpochRoot::from_bytes([root; 32]), partition).unwrap();
            [&epoch.nonce, &epoch.key_id, &epoch.secret].map(|key| hmac::sign(key, b"x").as_ref().to_vec())
        };
        let here = tag(1, Partition::Aws);
        assert_eq!(here, tag(1, Partition::Aws));
        let all = [here, tag(2, Partition::Aws), tag(1, Partition::AwsCn)].concat();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 9);
    }

    #[test]
    fn roots_are_random_and_hidden() {
        let (one, two) = (EpochRoot::generate().unwrap(), EpochRoot::generate().unwrap());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(format!("{one:?}"), "EpochRoot(redacted)");
        let epoch = Epoch::new(EpochId(7), &one, Partition::Aws).unwrap();
        assert_eq!(format!("{epoch:?}"), "Epoch { id: EpochId(7), partition: Aws, .. }");
    }
}

//! RSA keys, where what is spoken demands RSA: AWS's identity documents and Instance Connect know nothing else.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use crate::AuthorityError;

/// An RSA-2048 key.
pub(crate) struct RsaKey(RsaKeyPair);

impl RsaKey {
    /// A new one: some tenths of a second of work.
    pub(crate) fn generate() -> Result<Self, AuthorityError> {
        RsaKeyPair::generate(KeySize::Rsa2048).map(Self).map_err(|_| AuthorityError::Crypto)
    }

    pub(crate) fn from_pkcs8(bytes: &[u8]) -> Result<Self, AuthorityError> {
        RsaKeyPair::from_pkcs8(bytes).map(Self).map_err(|_| AuthorityError::Stored)
    }

    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, AuthorityError> {
        let der: Pkcs8V1Der<'static> = self.0.as_der().map_err(|_| AuthorityError::Crypto)?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256.
    pub(crate) fn sign_pkcs1(&self, message: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        self.sign_with(&RSA_PKCS1_SHA256, message)
    }

    /// RSASSA-PSS with SHA-256 and a salt of 32 bytes.
    pub(crate) fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        self.sign_with(&RSA_PSS_SHA256, message)
    }

    fn sign_with(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Result<Vec<u8>, AuthorityError> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(encoding, &SystemRandom::new(), message, &mut signature).map_err(|_| AuthorityError::Crypto)?;
        Ok(signature)
    }
}

impl PublicKeyData for RsaKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl SigningKey for RsaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.sign_pkcs1(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

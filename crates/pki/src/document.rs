//! The signatures of instance identity documents.

use inborn_identity::{Region, UnixTime};
use rcgen::{CertificateParams, IsCa, KeyUsagePurpose, PublicKeyData};

use crate::certificate::{Certificate, SealableKey, distinguished_name, serial_number, validity};
use crate::rsa::RsaKey;
use crate::{AuthorityError, base64, cms};

/// How long the certificate is good. People paste it into their verifiers and forget it: as long as an authority's.
const LIFE_SECONDS: u64 = 10 * 365 * 86_400;

/// Signs the identity documents of one region, as EC2 does with a key of each region whose certificate is published.
///
/// There is one key, RSA-2048, and one certificate, signed by itself, for all forms. EC2 has three: RSA-1024 for
/// `signature`, DSA for `pkcs7`, RSA-2048 for `rsa2048`.
pub struct DocumentSigner {
    key: RsaKey,
    certificate: Certificate,
    certificate_pem: String,
}

/// A document's signatures, base64 in lines of 76 characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedDocument {
    /// RSASSA-PKCS1-v1_5 with SHA-256 over the document.
    pub signature: String,
    /// PKCS#7 SignedData with the document inside, without armour.
    pub pkcs7: String,
}

impl core::fmt::Debug for DocumentSigner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DocumentSigner").finish_non_exhaustive()
    }
}

impl DocumentSigner {
    /// A new one, whose certificate is good for ten years from `now`. Takes some tenths of a second.
    ///
    /// # Errors
    /// When the crypto library cannot make the key or the certificate.
    pub fn create(region: &Region, now: UnixTime) -> Result<(Self, SealableKey), AuthorityError> {
        let key = RsaKey::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&format!("Inborn identity documents {region}"));
        params.serial_number = Some(serial_number()?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = validity(now, LIFE_SECONDS);
        let certificate_pem = params.self_signed(&key)?.pem();
        let sealable = SealableKey { certificate_pem, private_key: key.to_pkcs8()? };
        Ok((Self::restore(&sealable)?, sealable))
    }

    /// The one that `stored` was made from.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`] when it is none.
    pub fn restore(stored: &SealableKey) -> Result<Self, AuthorityError> {
        let key = RsaKey::from_pkcs8(&stored.private_key)?;
        let certificate = Certificate::from_pem(&stored.certificate_pem)?;
        if certificate.public_key != key.der_bytes() {
            return Err(AuthorityError::Stored);
        }
        Ok(Self { key, certificate, certificate_pem: stored.certificate_pem.clone() })
    }

    /// What verifiers need, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The last second its certificate is good.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.certificate.not_after
    }

    /// Signs a document: about two milliseconds of work.
    ///
    /// # Errors
    /// [`AuthorityError::Crypto`].
    pub fn sign(&self, document: &[u8], now: UnixTime) -> Result<SignedDocument, AuthorityError> {
        let signature = self.key.sign_pkcs1(document)?;
        let pkcs7 = cms::sign(document, &self.key, &self.certificate, now)?;
        Ok(SignedDocument { signature: base64::in_lines(&signature), pkcs7: base64::in_lines(&pkcs7) })
    }
}

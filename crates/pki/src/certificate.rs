//! What all our certificates have in common, and what other structures have to say of a certificate.

use aws_lc_rs::digest;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use inborn_identity::UnixTime;
use rcgen::{DistinguishedName, DnType, SerialNumber};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Result, BERReaderSeq, Tag};
use zeroize::Zeroizing;

use crate::AuthorityError;

/// Certificates begin a little in the past: guests' clocks run late.
pub(crate) const BACKDATE_SECONDS: u64 = 86_400;
/// Bytes of a serial number. RFC 5280 allows 20.
const SERIAL_BYTES: usize = 16;
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];

/// A certificate (PEM) and its private key (PKCS#8 DER): what is sealed and kept, since a new one at each start would have
/// to be trusted anew by everyone.
pub struct SealableKey {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS#8 DER.
    pub private_key: Zeroizing<Vec<u8>>,
}

impl core::fmt::Debug for SealableKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SealableKey").field("private_key", &"[redacted]").finish_non_exhaustive()
    }
}

/// What a person wants to know of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateSummary {
    /// The subject's common name.
    pub name: String,
    /// SHA-256, upper-case hex digits with colons, as `openssl x509 -fingerprint -sha256` prints it.
    pub fingerprint: String,
    /// The last second it is good.
    pub not_after: UnixTime,
}

impl CertificateSummary {
    /// Of each certificate in `pem`, which are ours.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`] when one is not.
    pub fn of(pem: &str) -> Result<Vec<Self>, AuthorityError> {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(|der| {
                let certificate = Certificate::from_der(der.map_err(|_| AuthorityError::Stored)?)?;
                Ok(Self {
                    name: certificate.common_name()?,
                    fingerprint: certificate.sha256_fingerprint(),
                    not_after: certificate.not_after,
                })
            })
            .collect()
    }
}

/// The subject `O=Inborn, CN=…` of all our certificates.
pub(crate) fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Inborn");
    name.push(DnType::CommonName, common_name);
    name
}

/// From a little before `now` to `life_seconds` after it.
pub(crate) fn validity(now: UnixTime, life_seconds: u64) -> (OffsetDateTime, OffsetDateTime) {
    (date_time(now.minus(BACKDATE_SECONDS)), date_time(now.plus(life_seconds)))
}

pub(crate) fn date_time(time: UnixTime) -> OffsetDateTime {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// A random serial number: that of a certificate renewed for the same key must differ from the old one's.
pub(crate) fn serial_number() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; SERIAL_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Crypto)?;
    // Positive, and not shortened by a leading zero.
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

/// A certificate, taken apart as far as others refer to it.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    /// The INTEGER, DER.
    pub(crate) serial: Vec<u8>,
    /// The issuer's Name, DER.
    pub(crate) issuer: Vec<u8>,
    /// The subject's Name, DER.
    pub(crate) subject: Vec<u8>,
    /// The last second it is good.
    pub(crate) not_after: UnixTime,
    /// The AlgorithmIdentifier of the key, DER.
    pub(crate) key_algorithm: Vec<u8>,
    /// The key itself, without its algorithm.
    pub(crate) public_key: Vec<u8>,
}

impl Certificate {
    pub(crate) fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| AuthorityError::Stored)?;
        Self::from_der(der)
    }

    /// Takes a certificate apart. RFC 5280 section 4.1 for the order of its parts.
    pub(crate) fn from_der(der: CertificateDer<'static>) -> Result<Self, AuthorityError> {
        let parts = yasna::parse_der(&der, |reader| {
            reader.read_sequence(|certificate| {
                let parts = certificate.next().read_sequence(read_body)?;
                certificate.next().read_der()?;
                certificate.next().read_der()?;
                Ok(parts)
            })
        });
        let parts = parts.map_err(|_| AuthorityError::Stored)?;
        let Parts { serial, issuer, subject, not_after, key_algorithm, public_key } = parts;
        Ok(Self { der, serial, issuer, subject, not_after, key_algorithm, public_key })
    }

    /// The subject's common name.
    pub(crate) fn common_name(&self) -> Result<String, AuthorityError> {
        common_name(&self.subject).ok().flatten().ok_or(AuthorityError::Stored)
    }

    /// The SHA-256 fingerprint as OpenSSL prints it.
    fn sha256_fingerprint(&self) -> String {
        let hash = digest::digest(&digest::SHA256, &self.der);
        hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// The SHA-1 fingerprint as OpenSSL prints it, without its colons. Instance Connect names staples by it.
    pub(crate) fn sha1_fingerprint(&self) -> String {
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.der)
            .as_ref()
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect()
    }
}

struct Parts {
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    not_after: UnixTime,
    key_algorithm: Vec<u8>,
    public_key: Vec<u8>,
}

fn read_body(body: &mut BERReaderSeq<'_, '_>) -> ASN1Result<Parts> {
    body.read_optional(|version| version.read_tagged(Tag::context(0), |version| version.read_der()))?;
    let serial = body.next().read_der()?;
    body.next().read_der()?;
    let issuer = body.next().read_der()?;
    let not_after = body.next().read_sequence(|validity| {
        validity.next().read_der()?;
        let end = validity.next();
        let end = match end.lookahead_tag()? {
            yasna::tags::TAG_UTCTIME => *end.read_utctime()?.datetime(),
            _ => *end.read_generalized_time()?.datetime(),
        };
        Ok(UnixTime::from_secs(u64::try_from(end.unix_timestamp()).unwrap_or_default()))
    })?;
    let subject = body.next().read_der()?;
    let (key_algorithm, public_key) = body.next().read_sequence(|info| {
        let algorithm = info.next().read_der()?;
        Ok((algorithm, info.next().read_bitvec_bytes()?.0))
    })?;
    // Unique identifiers, which nobody has, and extensions.
    while body.read_optional(|rest| rest.read_der())?.is_some() {}
    Ok(Parts { serial, issuer, subject, not_after, key_algorithm, public_key })
}

fn common_name(name: &[u8]) -> ASN1Result<Option<String>> {
    let mut found = None;
    yasna::parse_der(name, |reader| {
        reader.read_sequence_of(|set| {
            set.read_set_of(|attribute| {
                attribute.read_sequence(|attribute| {
                    let is_common_name = attribute.next().read_oid()? == ObjectIdentifier::from_slice(COMMON_NAME);
                    let value = attribute.next();
                    if is_common_name {
                        found = Some(value.read_utf8string()?);
                    } else {
                        value.read_der()?;
                    }
                    Ok(())
                })
            })
        })
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn a_certificate_is_taken_apart() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let now = UnixTime::from_secs(1_800_000_000);
        for life in [86_400, 40 * 365 * 86_400] {
            let mut params = CertificateParams::default();
            params.distinguished_name = distinguished_name("A name");
            params.serial_number = Some(serial_number().unwrap());
            (params.not_before, params.not_after) = validity(now, life);
            let made = params.self_signed(&key).unwrap();
            let parts = Certificate::from_pem(&made.pem()).unwrap();
            assert_eq!(&parts.der, made.der());
            assert_eq!(parts.common_name().unwrap(), "A name");
            assert_eq!(parts.issuer, parts.subject);
            assert_eq!(parts.public_key, rcgen::PublicKeyData::der_bytes(&key));
            assert_eq!(parts.not_after, now.plus(life), "before and after 2050 times have another form");
            assert_eq!(parts.serial[..2], [2, 16], "an INTEGER of 16 bytes");
            assert_eq!(parts.sha1_fingerprint().len(), 40);
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(Certificate::from_pem(text), Err(AuthorityError::Stored)), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let key = SealableKey { certificate_pem: "PEM".into(), private_key: Zeroizing::new(b"KEY".to_vec()) };
        assert_eq!(format!("{key:?}"), "SealableKey { private_key: \"[redacted]\", .. }");
    }
}

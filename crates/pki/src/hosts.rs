//! The authority of hosts: what region and hosts know each other by, and nobody else.
//!
//! It is not the authority that clients of the region trust: who trusts that one must not thereby take a host for the
//! region, and no certificate of that one lets anybody be a host.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use inborn_identity::{HostId, Region, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::AuthorityError;
use crate::certificate::{Certificate, SealableKey, distinguished_name, serial_number, validity};

/// How long the authority's own certificate is good: ten years.
const AUTHORITY_LIFE_SECONDS: u64 = 10 * 365 * 86_400;
/// How long the certificate of a host is good: a week, so that one that was forgotten ends by itself, and a host that was off
/// over some days comes back. What ends a host at once is its eviction, which is looked at with every call.
pub const HOST_LIFE_SECONDS: u64 = 7 * 86_400;
/// A host asks for its next certificate when no more than this is left of the present one: half of its life.
pub const HOST_RENEW_SECONDS: u64 = HOST_LIFE_SECONDS / 2;
/// How long a certificate of the region's endpoint for hosts is good.
const ENDPOINT_LIFE_SECONDS: u64 = 30 * 86_400;
/// It is replaced when less than this is left.
const ENDPOINT_RENEW_SECONDS: u64 = 15 * 86_400;

/// The one name that the endpoint for hosts has, whatever address it is reached at. Names below `internal` are nobody's.
pub const HOSTS_ENDPOINT_NAME: &str = "hosts.inborn.internal";

/// The longest public key of a host: a point of P-256, not compressed.
pub const HOST_PUBLIC_KEY_BYTES: usize = 65;

/// Signs the certificates of a region's hosts, and of the endpoint where they ask.
pub struct HostsAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl core::fmt::Debug for HostsAuthority {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HostsAuthority").finish_non_exhaustive()
    }
}

impl HostsAuthority {
    /// A new authority with a P-256 key, good for ten years from `now`.
    ///
    /// # Errors
    /// [`AuthorityError::Make`] when the crypto library cannot make the key or the certificate.
    pub fn create(region: &Region, now: UnixTime) -> Result<(Self, SealableKey), AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let private_key = Zeroizing::new(key.serialize_der());
        let params = authority_params(region, now);
        let made = params.self_signed(&key)?;
        let sealable = SealableKey { certificate_pem: made.pem(), private_key };
        let certificate = made.der().clone();
        Ok((Self { issuer: Issuer::new(params, key), certificate }, sealable))
    }

    /// The authority that `stored` was made from.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`] when it is not one.
    pub fn restore(region: &Region, stored: &SealableKey) -> Result<Self, AuthorityError> {
        let der = PrivateKeyDer::try_from(stored.private_key.to_vec()).map_err(|_| AuthorityError::Stored)?;
        let key = KeyPair::from_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|_| AuthorityError::Stored)?;
        let certificate = Certificate::from_pem(&stored.certificate_pem)?;
        if certificate.public_key != key.der_bytes() {
            return Err(AuthorityError::Stored);
        }
        let params = authority_params(region, UnixTime::from_secs(0));
        Ok(Self { issuer: Issuer::new(params, key), certificate: certificate.der })
    }

    /// The authority's certificate, DER.
    pub(crate) const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the authority's certificate: what a join token says, and a host keeps, of the region it trusts.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    /// A certificate (PEM) for a host and its key, good for [`HOST_LIFE_SECONDS`].
    ///
    /// # Errors
    /// [`AuthorityError::Stored`] for what is no key; the crypto library's.
    pub fn certify(&self, host: HostId, public_key: &[u8], now: UnixTime) -> Result<String, AuthorityError> {
        let key = HostPublicKey::check(public_key).ok_or(AuthorityError::Stored)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&host.to_string());
        let name = format!("inborn:host:{host}").try_into()?;
        params.subject_alt_names = vec![SanType::URI(name)];
        params.serial_number = Some(serial_number()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = validity(now, HOST_LIFE_SECONDS);
        Ok(params.signed_by(&key, &self.issuer)?.pem())
    }

    /// A key and certificate for the endpoint of hosts.
    pub(crate) fn issue_endpoint(&self, now: UnixTime) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec![HOSTS_ENDPOINT_NAME.to_owned()])?;
        params.distinguished_name = distinguished_name(HOSTS_ENDPOINT_NAME);
        params.serial_number = Some(serial_number()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = validity(now, ENDPOINT_LIFE_SECONDS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| AuthorityError::Stored)?;
        let key = crate::tls::provider().key_provider.load_private_key(key)?;
        // With the authority behind it: a host knows only its fingerprint.
        Ok(CertifiedKey::new(vec![certificate.der().clone(), self.certificate.clone()], key))
    }

    /// When a certificate of the endpoint that was issued at `issued` is to be replaced.
    pub(crate) const fn renew_endpoint_at(issued: UnixTime) -> UnixTime {
        issued.plus(ENDPOINT_LIFE_SECONDS - ENDPOINT_RENEW_SECONDS)
    }
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    digest::digest(&digest::SHA256, certificate).as_ref().try_into().unwrap_or_default()
}

/// The domain may change from one start to the next, so it is not in the name.
fn authority_params(region: &Region, now: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&format!("Inborn hosts {region}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = validity(now, AUTHORITY_LIFE_SECONDS);
    params
}

/// The public key of a host: a point of P-256.
struct HostPublicKey(Vec<u8>);

impl HostPublicKey {
    /// The key, if it is one: the crypto library finds whether the point is on the curve.
    fn check(bytes: &[u8]) -> Option<Self> {
        let is_whole = bytes.len() == HOST_PUBLIC_KEY_BYTES && bytes.first() == Some(&4);
        let is_point = is_whole && ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, bytes).is_ok();
        is_point.then(|| Self(bytes.to_vec()))
    }
}

impl PublicKeyData for HostPublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// What the certificate of a host says. Whether it is good is for the TLS library to find.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostCertificate {
    /// Whose it is.
    pub host: HostId,
    /// For which key.
    pub public_key: Vec<u8>,
    /// The last second it is good.
    pub not_after: UnixTime,
}

impl HostCertificate {
    /// From DER.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`] when it is no certificate of a host.
    pub fn from_der(der: &[u8]) -> Result<Self, AuthorityError> {
        let certificate = Certificate::from_der(CertificateDer::from(der.to_vec()))?;
        let host = certificate.common_name()?.parse().map_err(|_| AuthorityError::Stored)?;
        Ok(Self { host, public_key: certificate.public_key, not_after: certificate.not_after })
    }

    /// From PEM.
    ///
    /// # Errors
    /// As [`HostCertificate::from_der`].
    pub fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| AuthorityError::Stored)?;
        Self::from_der(&der)
    }
}

/// The key pair of a host, made on the host and never leaving it.
pub struct HostKey(KeyPair);

impl core::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HostKey(redacted)")
    }
}

impl HostKey {
    /// A new P-256 key.
    ///
    /// # Errors
    /// The crypto library's.
    pub fn generate() -> Result<Self, AuthorityError> {
        Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// From what [`HostKey::to_pkcs8`] gave.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`] when it is none.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, AuthorityError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.to_vec()));
        let key = KeyPair::from_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256);
        key.map(Self).map_err(|_| AuthorityError::Stored)
    }

    /// PKCS#8 DER, for the file that it lives in.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// Its public half: [`HOST_PUBLIC_KEY_BYTES`] bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.0.der_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn authority() -> (HostsAuthority, SealableKey) {
        HostsAuthority::create(&"us-east-1".parse().unwrap(), NOW).unwrap()
    }

    #[test]
    fn restores_to_the_same_authority() {
        let (made, sealable) = authority();
        let restored = HostsAuthority::restore(&"us-east-1".parse().unwrap(), &sealable).unwrap();
        assert_eq!(made.fingerprint(), restored.fingerprint());
        let (_, other) = authority();
        let mixed = SealableKey { private_key: other.private_key.clone(), ..sealable };
        let refused = HostsAuthority::restore(&"us-east-1".parse().unwrap(), &mixed);
        assert!(matches!(refused, Err(AuthorityError::Stored)));
    }

    #[test]
    fn a_certificate_names_its_host_and_key() {
        let (authority, _) = authority();
        let (key, host) = (HostKey::generate().unwrap(), "h-0123456789abcdef0".parse().unwrap());
        let pem = authority.certify(host, key.public_key(), NOW).unwrap();
        let certificate = HostCertificate::from_pem(&pem).unwrap();
        assert_eq!(certificate.host, host);
        assert_eq!(certificate.public_key, key.public_key());
        assert_eq!(certificate.not_after, NOW.plus(HOST_LIFE_SECONDS));
        let restored = HostKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        assert_eq!(restored.public_key(), key.public_key());
        assert_eq!(format!("{key:?}"), "HostKey(redacted)");
    }

    #[test]
    fn what_is_no_point_is_no_key() {
        let (authority, _) = authority();
        let host = "h-0123456789abcdef0".parse().unwrap();
        let good = HostKey::generate().unwrap().public_key().to_vec();
        let mut off_the_curve = good.clone();
        off_the_curve[64] ^= 1;
        for bytes in [&[][..], &good[..64], &[good.as_slice(), &[0]].concat(), &off_the_curve, &[4; 65]] {
            assert!(authority.certify(host, bytes, NOW).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_authoritys_own_certificate_is_no_hosts() {
        let (authority, _) = authority();
        assert!(HostCertificate::from_der(authority.certificate()).is_err());
        assert!(HostCertificate::from_der(b"").is_err());
        assert!(HostCertificate::from_pem("").is_err());
    }
}

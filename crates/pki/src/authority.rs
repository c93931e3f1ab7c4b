//! The region's certificate authority.

use std::net::IpAddr;

use inborn_identity::{Region, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, PublicKeyData, SanType,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::certificate::{Certificate, SealableKey, distinguished_name, validity};

/// How long the authority's own certificate is good: ten years.
const AUTHORITY_LIFE_SECONDS: u64 = 10 * 365 * 86_400;
/// How long a server certificate is good. Some clients refuse more than 398 days.
const SERVER_LIFE_SECONDS: u64 = 397 * 86_400;
/// A server certificate is replaced when less than this is left of it.
const SERVER_RENEW_SECONDS: u64 = 200 * 86_400;

/// What can go wrong in the authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Making a key or a certificate failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The stored form is not one.
    #[error("the stored certificate authority cannot be read: restore the data directory from a backup")]
    Stored,
    /// The crypto library failed.
    #[error("the crypto library could not make a key or a signature: is the machine out of memory or of randomness?")]
    Crypto,
    /// The TLS library refused the certificate.
    #[error("the TLS library refused the region's certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// Names and addresses that a server certificate is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerNames {
    /// DNS names; a leading `*.` stands for one label.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

impl ServerNames {
    /// Every name a client may use for the services of `region`: `SERVICE.REGION.DOMAIN`, the global `SERVICE.DOMAIN`,
    /// virtual-hosted buckets (so that a refused S3 call gets its refusal, not a TLS error), and this machine's own:
    /// `localhost`, and those of `addresses` that are loopback or link-local. Others the authority cannot speak for.
    #[must_use]
    pub fn of_region(region: &Region, domain: &str, addresses: &[IpAddr]) -> Self {
        let dns = vec![
            format!("*.{region}.{domain}"),
            format!("*.{domain}"),
            format!("*.s3.{region}.{domain}"),
            format!("*.s3.{domain}"),
            "localhost".to_owned(),
        ];
        // One address outside the authority's constraints would make clients refuse the certificate for every name.
        let addresses = addresses.iter().copied().filter(is_permitted).collect();
        Self { dns, addresses }
    }
}

/// A certificate authority for one region, name-constrained to that region's domain, `localhost`, loopback and
/// link-local addresses: a guest that trusts it trusts it for nothing else.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl core::fmt::Debug for Authority {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority with a P-256 key, good for ten years from `now`.
    ///
    /// # Errors
    /// [`AuthorityError::Make`] when the crypto library cannot make the key or the certificate.
    pub fn create(region: &Region, domain: &str, now: UnixTime) -> Result<(Self, SealableKey), AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let private_key = Zeroizing::new(key.serialize_der());
        let params = authority_params(region, domain, now);
        let certificate_pem = params.self_signed(&key)?.pem();
        let sealable = SealableKey { certificate_pem: certificate_pem.clone(), private_key };
        Ok((Self { issuer: Issuer::new(params, key), certificate_pem }, sealable))
    }

    /// The authority that `stored` was made from.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`] when it is not an authority of this region.
    pub fn restore(region: &Region, domain: &str, stored: &SealableKey) -> Result<Self, AuthorityError> {
        let der = PrivateKeyDer::try_from(stored.private_key.to_vec()).map_err(|_| AuthorityError::Stored)?;
        let key = KeyPair::from_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|_| AuthorityError::Stored)?;
        if Certificate::from_pem(&stored.certificate_pem)?.public_key != key.der_bytes() {
            return Err(AuthorityError::Stored);
        }
        // Only the name and the key of the issuer enter what it issues; the dates of its own certificate do not.
        let params = authority_params(region, domain, UnixTime::from_secs(0));
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem: stored.certificate_pem.clone() })
    }

    /// The authority's certificate, PEM: what clients have to trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A key and certificate for a server of these names.
    pub(crate) fn issue_server(&self, names: &ServerNames, now: UnixTime) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names.dns.clone())?;
        params.subject_alt_names.extend(names.addresses.iter().map(|address| SanType::IpAddress(*address)));
        let name = names.dns.first().map_or("inborn", String::as_str);
        params.distinguished_name = distinguished_name(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(now, SERVER_LIFE_SECONDS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| AuthorityError::Stored)?;
        let key = crate::tls::provider().key_provider.load_private_key(key)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
    }

    /// When a server certificate issued at `issued` is to be replaced.
    #[must_use]
    pub(crate) const fn renew_at(issued: UnixTime) -> UnixTime {
        issued.plus(SERVER_LIFE_SECONDS - SERVER_RENEW_SECONDS)
    }
}

/// Whether the authority may speak for an address: those of `permitted_subtrees` below.
fn is_permitted(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback(),
    }
}

fn authority_params(region: &Region, domain: &str, now: UnixTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&format!("Inborn {region} {domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName(domain.to_owned()),
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0])),
            GeneralSubtree::IpAddress(CidrSubnet::V4([169, 254, 0, 0], [255, 255, 0, 0])),
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(IpAddr::V6(core::net::Ipv6Addr::LOCALHOST), 128)),
        ],
        excluded_subtrees: Vec::new(),
    });
    (params.not_before, params.not_after) = validity(now, AUTHORITY_LIFE_SECONDS);
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region() -> Region {
        "us-east-1".parse().unwrap()
    }

    #[test]
    fn restores_to_the_same_authority() {
        let now = UnixTime::from_secs(1_800_000_000);
        let (made, sealable) = Authority::create(&region(), "amazonaws.com", now).unwrap();
        let restored = Authority::restore(&region(), "amazonaws.com", &sealable).unwrap();
        assert_eq!(made.certificate_pem(), restored.certificate_pem());
        assert!(!format!("{sealable:?} {made:?}").contains("BEGIN"));
    }

    #[test]
    fn refuses_a_damaged_key() {
        let (_, mut sealable) = Authority::create(&region(), "amazonaws.com", UnixTime::from_secs(0)).unwrap();
        sealable.private_key.truncate(20);
        assert!(matches!(Authority::restore(&region(), "amazonaws.com", &sealable), Err(AuthorityError::Stored)));
    }

    #[test]
    fn refuses_the_key_of_another() {
        let now = UnixTime::from_secs(0);
        let (_, mut sealable) = Authority::create(&region(), "amazonaws.com", now).unwrap();
        sealable.private_key = Authority::create(&region(), "amazonaws.com", now).unwrap().1.private_key;
        assert!(matches!(Authority::restore(&region(), "amazonaws.com", &sealable), Err(AuthorityError::Stored)));
    }

    #[test]
    fn server_certificates_are_renewed_well_before_they_end() {
        let issued = UnixTime::from_secs(1_000);
        assert_eq!(Authority::renew_at(issued), issued.plus(197 * 86_400));
    }
}

//! Who signs the SSH keys that EC2 Instance Connect puts into metadata: `managed-ssh-keys/`.
//!
//! The guest's script checks, with the `openssl` program: the chain of `signer-cert` up to a root it trusts
//! (`verify -x509_strict`), a staple for every certificate but the last (`ocsp -respin`), the leaf's name, and each block of
//! keys (`dgst -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32`). Source: scripts 1.1.12 to 1.1.19 of
//! aws/aws-ec2-instance-connect-config.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws_lc_rs::digest;
use inborn_identity::{Region, UnixTime};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, PublicKeyData,
};
use rustls::pki_types::PrivateKeyDer;

use crate::certificate::{Certificate, SealableKey, distinguished_name, serial_number, validity};
use crate::rsa::RsaKey;
use crate::{AuthorityError, base64, ocsp};

/// How long the root is good: ten years. It has to be put into guests, so it should not have to be often.
const ROOT_LIFE_SECONDS: u64 = 10 * 365 * 86_400;
/// How long the signer's certificate is good.
const SIGNER_LIFE_SECONDS: u64 = 90 * 86_400;
/// The signer's certificate is replaced when less than this is left of it.
const SIGNER_RENEW_SECONDS: u64 = 45 * 86_400;
/// id-kp-secureShellClient (RFC 6187). That the root names a purpose, and which is not TLS, makes it worthless for TLS even
/// under the one name it may speak for.
const SECURE_SHELL_CLIENT: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 21];

/// Signs blocks of SSH keys, and proves that it may.
///
/// The root is name-constrained to `managed-ssh-signer.REGION.DOMAIN` and to no address at all: a guest that trusts it has
/// given away nothing else. It issues the signer's certificate itself: each certificate between them would cost the guest
/// one more request, of which it has a second each.
pub struct InstanceConnectSigner {
    name: String,
    root_key: KeyPair,
    root: Certificate,
    root_pem: String,
    key: RsaKey,
    certificate: Certificate,
    chain_pem: String,
}

/// What is sealed and kept of an [`InstanceConnectSigner`].
#[derive(Debug)]
pub struct SealableSigner {
    /// The root.
    pub root: SealableKey,
    /// The signer.
    pub signer: SealableKey,
}

/// A proof that a certificate of the chain is good, made ahead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Staple {
    /// Its name in `signer-ocsp/`: the certificate's SHA-1 fingerprint, upper-case hex digits.
    pub fingerprint: String,
    /// What is served under that name: the OCSP response, base64 of DER in one line.
    pub response: String,
}

impl core::fmt::Debug for InstanceConnectSigner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("InstanceConnectSigner").field("name", &self.name).finish_non_exhaustive()
    }
}

impl InstanceConnectSigner {
    /// A new root and a signer of its. Takes some tenths of a second, for the signer's RSA key.
    ///
    /// # Errors
    /// When the crypto library cannot make keys or certificates.
    pub fn create(region: &Region, domain: &str, now: UnixTime) -> Result<(Self, SealableSigner), AuthorityError> {
        let name = signer_name(region, domain);
        let root_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = root_params(&name, &root_name(region, domain, &root_key));
        params.serial_number = Some(serial_number()?);
        (params.not_before, params.not_after) = validity(now, ROOT_LIFE_SECONDS);
        let root = SealableKey {
            certificate_pem: params.self_signed(&root_key)?.pem(),
            private_key: root_key.serialize_der().into(),
        };
        let key = RsaKey::generate()?;
        let issuer = Issuer::from_params(&params, &root_key);
        let signer = SealableKey { certificate_pem: issue(&name, &key, &issuer, now)?, private_key: key.to_pkcs8()? };
        let sealable = SealableSigner { root, signer };
        Ok((Self::restore(region, domain, &sealable)?, sealable))
    }

    /// The one that `stored` was made from.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`] when it is none of this region and domain.
    pub fn restore(region: &Region, domain: &str, stored: &SealableSigner) -> Result<Self, AuthorityError> {
        let der = PrivateKeyDer::try_from(stored.root.private_key.to_vec()).map_err(|_| AuthorityError::Stored)?;
        let root_key = KeyPair::from_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|_| AuthorityError::Stored)?;
        let key = RsaKey::from_pkcs8(&stored.signer.private_key)?;
        let root = Certificate::from_pem(&stored.root.certificate_pem)?;
        let certificate = Certificate::from_pem(&stored.signer.certificate_pem)?;
        let name = signer_name(region, domain);
        let fits = root.public_key == root_key.der_bytes()
            && certificate.public_key == key.der_bytes()
            && certificate.issuer == root.subject
            && certificate.common_name()? == name;
        if !fits {
            return Err(AuthorityError::Stored);
        }
        let chain_pem = format!("{}{}", stored.signer.certificate_pem, stored.root.certificate_pem);
        Ok(Self { name, root_key, root, root_pem: stored.root.certificate_pem.clone(), key, certificate, chain_pem })
    }

    /// The same with a new certificate of the signer, if it is time for one; `None` if it is not. Root and keys stay.
    ///
    /// # Errors
    /// When the crypto library cannot make it.
    pub fn renewed(
        &self,
        region: &Region,
        domain: &str,
        now: UnixTime,
    ) -> Result<Option<(Self, SealableSigner)>, AuthorityError> {
        if now.plus(SIGNER_RENEW_SECONDS) < self.certificate.not_after {
            return Ok(None);
        }
        let params = root_params(&self.name, &self.root.common_name()?);
        let issuer = Issuer::from_params(&params, &self.root_key);
        let certificate_pem = issue(&self.name, &self.key, &issuer, now)?;
        let root =
            SealableKey { certificate_pem: self.root_pem.clone(), private_key: self.root_key.serialize_der().into() };
        let signer = SealableKey { certificate_pem, private_key: self.key.to_pkcs8()? };
        let sealable = SealableSigner { root, signer };
        Ok(Some((Self::restore(region, domain, &sealable)?, sealable)))
    }

    /// What guests have to trust, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The name under which the root has to be in the guest's directory of certificates: its common name, with `_` for
    /// blanks, and `.pem`. The script looks for it there.
    ///
    /// # Errors
    /// [`AuthorityError::Stored`], when the root has no name.
    pub fn root_file_name(&self) -> Result<String, AuthorityError> {
        Ok(format!("{}.pem", self.root.common_name()?.replace(' ', "_")))
    }

    /// `signer-cert`: PEM, the signer's certificate first, the root last.
    #[must_use]
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// `signer-ocsp`: one for every certificate of the chain but the root, good for a week from `now`.
    ///
    /// # Errors
    /// [`AuthorityError::Crypto`].
    pub fn staples(&self, now: UnixTime) -> Result<Vec<Staple>, AuthorityError> {
        let response = ocsp::good(&self.certificate, &self.root, &self.root_key, now)?;
        let fingerprint = self.certificate.sha1_fingerprint();
        Ok(vec![Staple { fingerprint, response: base64::in_one_line(&response) }])
    }

    /// The signature of a block of keys, base64 in one line: RSASSA-PSS with SHA-256 and a salt of 32 bytes over all the
    /// lines of the block, each with its `\n`. About a millisecond of work.
    ///
    /// # Errors
    /// [`AuthorityError::Crypto`].
    pub fn sign(&self, lines: &str) -> Result<String, AuthorityError> {
        Ok(base64::in_one_line(&self.key.sign_pss(lines.as_bytes())?))
    }
}

/// What the script demands of the leaf's common name.
fn signer_name(region: &Region, domain: &str) -> String {
    format!("managed-ssh-signer.{region}.{domain}")
}

/// Guests keep roots in files named after them, so that two of one region need two names.
fn root_name(region: &Region, domain: &str, key: &KeyPair) -> String {
    let hash = digest::digest(&digest::SHA256, key.der_bytes());
    let short: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("Inborn Instance Connect {region} {domain} {short}")
}

fn root_params(signer_name: &str, common_name: &str) -> CertificateParams {
    let everything = |address: IpAddr| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 0));
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(SECURE_SHELL_CLIENT.to_vec())];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(signer_name.to_owned())],
        // What is permitted of names says nothing of addresses.
        excluded_subtrees: vec![everything(Ipv4Addr::UNSPECIFIED.into()), everything(Ipv6Addr::UNSPECIFIED.into())],
    });
    params
}

/// A certificate for the signer's key, PEM.
fn issue(name: &str, key: &RsaKey, issuer: &Issuer<'_, &KeyPair>, now: UnixTime) -> Result<String, AuthorityError> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = distinguished_name(name);
    params.serial_number = Some(serial_number()?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(SECURE_SHELL_CLIENT.to_vec())];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(now, SIGNER_LIFE_SECONDS);
    Ok(params.signed_by(key, issuer)?.pem())
}

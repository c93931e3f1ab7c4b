//! The other side of [`crate::InstanceConnectSigner`]: a guest that checks who signed the SSH keys in its metadata, with
//! nothing but a root that somebody has put there.
//!
//! What AWS's scripts do with the `openssl` program: the chain, a staple for every certificate of it but the root, and the
//! signature of each block of keys. Staples are signed by the issuer of the certificate itself, as AWS's are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use inborn_identity::UnixTime;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, UnixTime as PkiTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs as algorithms};
use yasna::Tag;

use crate::certificate::Certificate;
use crate::ocsp;

/// The longest chain, the root not counted. AWS's has two.
const CHAIN_MAX: usize = 4;
/// id-kp-secureShellClient (RFC 6187), the content of its OBJECT IDENTIFIER.
const SECURE_SHELL_CLIENT: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 21];
/// With what certificates and staples may be signed.
static ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 5] = [
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
];

/// Why keys are not believed.
#[derive(Debug, thiserror::Error)]
pub enum LoginKeysError {
    /// The file of the root.
    #[error(
        "the root is no certificate of an authority, PEM: put the region's there (`inborn ca show instance-connect`)"
    )]
    Root,
    /// A root that may speak for any name makes everybody a signer that it has ever certified.
    #[error("the root is not constrained to the name of a signer, so that the signer has to be named (--signer)")]
    NoName,
    /// The chain cannot be read.
    #[error("the signer's chain of certificates cannot be read")]
    Chain,
    /// It leads elsewhere, or is over.
    #[error("the signer's certificate does not lead to the root that is trusted here: {0}")]
    Untrusted(webpki::Error),
    /// No name.
    #[error("the signer's certificate says no name")]
    Nameless,
    /// Another name.
    #[error("the signer's certificate is not that of {0}")]
    OtherName(String),
    /// A staple is missing, is none, is over, or says something else than "good".
    #[error("nothing proves that the signer's certificate is still good: {0}")]
    Staple(&'static str),
    /// The signature of a block.
    #[error("the signature does not hold")]
    Signature,
}

/// What a guest trusts for keys.
pub struct LoginKeysRoot {
    der: CertificateDer<'static>,
    certificate: Certificate,
    is_constrained: bool,
}

impl core::fmt::Debug for LoginKeysRoot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("LoginKeysRoot").field("is_constrained", &self.is_constrained).finish_non_exhaustive()
    }
}

impl LoginKeysRoot {
    /// Reads one certificate.
    ///
    /// # Errors
    /// [`LoginKeysError::Root`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, LoginKeysError> {
        let root = |_| LoginKeysError::Root;
        let der = CertificateDer::from_pem_slice(pem).map_err(|_| LoginKeysError::Root)?;
        let certificate = Certificate::from_der(der.clone()).map_err(root)?;
        let anchor = anchor_from_trusted_cert(&der).map_err(|_| LoginKeysError::Root)?;
        let is_constrained = anchor.name_constraints.is_some_and(|constraints| names_signers(constraints.as_ref()));
        Ok(Self { der, certificate, is_constrained })
    }

    /// Follows `chain_pem`, as metadata has it in `signer-cert`, to this root. The leaf has to be that of `signer`; without
    /// one, the root has to be constrained, and then says itself whose it can be.
    ///
    /// # Errors
    /// All but [`LoginKeysError::Signature`] and [`LoginKeysError::Staple`].
    pub fn follow(
        &self,
        chain_pem: &str,
        signer: Option<&str>,
        now: UnixTime,
    ) -> Result<SignerChain<'_>, LoginKeysError> {
        if signer.is_none() && !self.is_constrained {
            return Err(LoginKeysError::NoName);
        }
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).take(CHAIN_MAX + 2);
        let mut chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(|_| LoginKeysError::Chain)?;
        chain.retain(|certificate| *certificate != self.der);
        if chain.len() > CHAIN_MAX {
            return Err(LoginKeysError::Chain);
        }
        let (leaf, between) = chain.split_first().ok_or(LoginKeysError::Chain)?;
        let anchors = [anchor_from_trusted_cert(&self.der).map_err(|_| LoginKeysError::Root)?];
        let end = EndEntityCert::try_from(leaf).map_err(|_| LoginKeysError::Chain)?;
        let time = PkiTime::since_unix_epoch(core::time::Duration::from_secs(now.as_secs()));
        let follow = |usage| end.verify_for_usage(&ALGORITHMS, &anchors, between, time, usage, None, None);
        // Ours is good for nothing but this. AWS's is a server certificate.
        let path = follow(KeyUsage::required_if_present(SECURE_SHELL_CLIENT))
            .or_else(|error| follow(KeyUsage::server_auth()).map_err(|_| error))
            .map_err(LoginKeysError::Untrusted)?;
        // A constraint of names says nothing of a certificate that has none.
        if end.valid_dns_names().next().is_none() {
            return Err(LoginKeysError::Nameless);
        }
        if let Some(signer) = signer {
            let other = || LoginKeysError::OtherName(signer.to_owned());
            let name = ServerName::try_from(signer).map_err(|_| other())?;
            end.verify_is_valid_for_subject_name(&name).map_err(|_| other())?;
        }
        let mut links = vec![leaf.clone()];
        links.extend(path.intermediate_certificates().map(|certificate| certificate.der().into_owned()));
        let links = links.into_iter().map(Certificate::from_der).collect::<Result<_, _>>();
        Ok(SignerChain { root: self, links: links.map_err(|_| LoginKeysError::Chain)? })
    }
}

/// A chain that leads to the root, of which it is not known yet whether it is still good.
pub struct SignerChain<'a> {
    root: &'a LoginKeysRoot,
    /// The leaf first.
    links: Vec<Certificate>,
}

impl core::fmt::Debug for SignerChain<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SignerChain").field("links", &self.links.len()).finish_non_exhaustive()
    }
}

impl SignerChain<'_> {
    /// The names of the staples that it needs in `signer-ocsp/`: at least one.
    #[must_use]
    pub fn staple_names(&self) -> Vec<String> {
        self.links.iter().map(Certificate::sha1_fingerprint).collect()
    }

    /// Checks its `staples`, base64 of DER, in the order of their names.
    ///
    /// # Errors
    /// [`LoginKeysError::Staple`].
    pub fn proven_by(self, staples: &[String], now: UnixTime) -> Result<LoginKeysSigner, LoginKeysError> {
        if staples.len() != self.links.len() {
            return Err(LoginKeysError::Staple("there is no staple"));
        }
        let issuers = self.links.iter().skip(1).chain([&self.root.certificate]);
        for ((certificate, issuer), staple) in self.links.iter().zip(issuers).zip(staples) {
            let der = decode(staple).ok_or(LoginKeysError::Staple("the staple is not base64"))?;
            ocsp::check(&der, certificate, issuer, &ALGORITHMS, now).map_err(LoginKeysError::Staple)?;
        }
        let leaf = self.links.into_iter().next().ok_or(LoginKeysError::Chain)?;
        Ok(LoginKeysSigner(leaf.der))
    }
}

/// A signer that is trusted now.
#[derive(Debug)]
pub struct LoginKeysSigner(CertificateDer<'static>);

impl LoginKeysSigner {
    /// Checks the signature of a block: `lines` are all of it, each with its `\n`, `signature` is base64. RSASSA-PSS with
    /// SHA-256 and a salt of 32 bytes.
    ///
    /// # Errors
    /// [`LoginKeysError::Signature`].
    pub fn verify(&self, lines: &str, signature: &str) -> Result<(), LoginKeysError> {
        let signature = decode(signature).ok_or(LoginKeysError::Signature)?;
        let leaf = EndEntityCert::try_from(&self.0).map_err(|_| LoginKeysError::Chain)?;
        leaf.verify_signature(algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY, lines.as_bytes(), &signature)
            .map_err(|_| LoginKeysError::Signature)
    }
}

/// Whether name constraints, without their outermost tag, permit some names of hosts and not all: what is excluded, and what is
/// permitted of addresses or mail, leaves every name to whoever has a certificate. RFC 5280, section 4.2.1.10.
fn names_signers(constraints: &[u8]) -> bool {
    /// `dNSName`, as the base of a subtree.
    const DNS_NAME: u8 = 0x82;
    let whole = yasna::construct_der(|writer| writer.write_sequence(|parts| parts.next().write_der(constraints)));
    let permitted = yasna::parse_der(&whole, |reader| {
        reader.read_sequence(|parts| {
            let mut bases = Vec::new();
            parts.read_optional(|permitted| {
                permitted.read_tagged_implicit(Tag::context(0), |trees| {
                    trees.read_sequence_of(|tree| {
                        tree.read_sequence(|tree| {
                            bases.push(tree.next().read_der()?);
                            ocsp::skip_the_rest(tree)
                        })
                    })
                })
            })?;
            ocsp::skip_the_rest(parts)?;
            Ok(bases)
        })
    });
    let mut names = permitted.iter().flatten().filter_map(|base| base.strip_prefix(&[DNS_NAME])).peekable();
    // What follows the tag is the length. An empty name stands for all.
    names.peek().is_some() && names.all(|name| name.len() > 1)
}

/// Base64, perhaps in lines.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()
}

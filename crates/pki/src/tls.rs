//! TLS, configured once: aws-lc-rs, TLS 1.2 and 1.3, and http/1.1 only.
//!
//! `h2` is not offered: SDK retries rely on the order of header fields, and one HTTP stack is one parser less.

mod hosts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use inborn_identity::UnixTime;
use rustls::client::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, crypto};

use crate::{Authority, AuthorityError, ServerNames};

pub use hosts::{HostsEndpointCertificate, host_client_config, hosts_endpoint_name, hosts_server_config};

/// The only protocol offered.
const ALPN: &[u8] = b"http/1.1";

/// What can go wrong when a client's trust is set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A bundle that was named cannot be read.
    #[error("cannot read the CA bundle {}: {reason}; check the path in AWS_CA_BUNDLE or SSL_CERT_FILE", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is nothing to trust.
    #[error("this machine has no CA certificates: install the package ca-certificates, or set AWS_CA_BUNDLE")]
    Nothing,
    /// The TLS library refused.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

#[allow(clippy::disallowed_types, reason = "this is the one place where TLS is configured")]
pub(crate) fn provider() -> Arc<crypto::CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

/// A server's certificate that is replaced while connections go on.
pub struct Certificate {
    names: ServerNames,
    current: ArcSwap<Issued>,
}

struct Issued {
    key: Arc<CertifiedKey>,
    renew_at: UnixTime,
}

impl core::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Certificate {
    /// A certificate for `names` from `authority`.
    ///
    /// # Errors
    /// When the authority cannot issue it.
    pub fn new(authority: &Authority, names: ServerNames, now: UnixTime) -> Result<Arc<Self>, AuthorityError> {
        let issued = Issued::by(authority, &names, now)?;
        Ok(Arc::new(Self { names, current: ArcSwap::from_pointee(issued) }))
    }

    /// Replaces the certificate if it is time to; says whether it did. Call it about daily.
    ///
    /// # Errors
    /// When the authority cannot issue it; the old one stays.
    pub fn renew(&self, authority: &Authority, now: UnixTime) -> Result<bool, AuthorityError> {
        let due = now >= self.current.load().renew_at;
        if due {
            self.current.store(Arc::new(Issued::by(authority, &self.names, now)?));
        }
        Ok(due)
    }
}

impl Issued {
    fn by(authority: &Authority, names: &ServerNames, now: UnixTime) -> Result<Self, AuthorityError> {
        Ok(Self { key: Arc::new(authority.issue_server(names, now)?), renew_at: Authority::renew_at(now) })
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

/// The configuration of a server that shows `certificate`.
///
/// # Errors
/// When the TLS library refuses its own defaults.
pub fn server_config(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The configuration of a client that trusts `bundle` if one is given (and then nothing else, as the SDKs do with
/// `AWS_CA_BUNDLE`), else the system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
///
/// # Errors
/// A bundle that cannot be read, or nothing to trust.
pub fn client_config(bundle: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let mut roots = RootCertStore::empty();
    match bundle {
        Some(path) => {
            let fail = |reason: String| TrustError::Bundle { path: path.to_owned(), reason };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))? {
                let certificate = certificate.map_err(|error| fail(error.to_string()))?;
                roots.add(certificate).map_err(|error| fail(error.to_string()))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(TrustError::Nothing);
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The configuration of a client that trusts this authority, and nobody else.
///
/// # Errors
/// When the TLS library refuses the authority or its own defaults.
pub fn client_of(authority: &Authority) -> Result<Arc<ClientConfig>, AuthorityError> {
    let mut roots = RootCertStore::empty();
    let pem = authority.certificate_pem().as_bytes();
    roots.add(CertificateDer::from_pem_slice(pem).map_err(|_| AuthorityError::Stored)?)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The certificates of this machine's bundle file, PEM, or nothing where there is none: what a bundle for guests is
/// made of, together with the region's own authority.
#[must_use]
pub fn system_bundle_pem() -> String {
    SYSTEM_BUNDLES.iter().find_map(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
}

/// Where distributions keep the bundle: Debian, Fedora, openSUSE, Alpine.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustls::client::ClientConnection;
    use rustls::server::ServerConnection;

    /// Carries a handshake between two connections in memory.
    pub(crate) fn shake_hands(
        client: &mut ClientConnection,
        server: &mut ServerConnection,
    ) -> Result<(), rustls::Error> {
        for _ in 0..8 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    /// The chain's dates are checked against the machine's clock, so the certificates are made around it.
    #[allow(clippy::disallowed_methods, reason = "the TLS library's own clock is what is being met here")]
    pub(crate) fn today() -> UnixTime {
        UnixTime::from_secs(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs())
    }

    fn connect(issued_for: &str, asked_for: &str) -> Result<(), rustls::Error> {
        let region = "us-east-1".parse().unwrap();
        let (authority, _) = Authority::create(&region, "amazonaws.com", today()).unwrap();
        let names = match issued_for {
            "region" => {
                let addresses = ["0.0.0.0", "127.0.0.1", "192.0.2.1", "169.254.169.252", "::1", "2001:db8::1"];
                ServerNames::of_region(&region, "amazonaws.com", &addresses.map(|address| address.parse().unwrap()))
            }
            other => ServerNames { dns: vec![other.to_owned()], addresses: Vec::new() },
        };
        let certificate = Certificate::new(&authority, names, today()).unwrap();
        let mut server = ServerConnection::new(server_config(certificate).unwrap()).unwrap();
        let directory =
            std::env::temp_dir().join(format!("inborn-pki-{}-{issued_for}-{asked_for}", std::process::id()));
        std::fs::write(&directory, authority.certificate_pem()).unwrap();
        let config = client_config(Some(&directory)).unwrap();
        std::fs::remove_file(&directory).unwrap();
        let mut client = ClientConnection::new(config, asked_for.to_owned().try_into().unwrap()).unwrap();
        shake_hands(&mut client, &mut server)?;
        assert_eq!(client.alpn_protocol(), Some(ALPN));
        Ok(())
    }

    #[test]
    fn clients_reach_the_region_by_all_its_names() {
        for name in [
            "sts.us-east-1.amazonaws.com",
            "sts.amazonaws.com",
            "b.s3.us-east-1.amazonaws.com",
            "localhost",
            "127.0.0.1",
            "169.254.169.252",
            "::1",
        ] {
            assert_eq!(connect("region", name), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_authority_is_worth_nothing_for_other_names() {
        assert!(connect("region", "sts.eu-west-1.amazonaws.com").is_err(), "not in the certificate");
        assert!(connect("example.com", "example.com").is_err(), "outside the authority's name constraints");
    }

    #[test]
    fn a_bundle_that_is_not_there_is_named() {
        let error = client_config(Some(Path::new("/nonexistent/bundle.pem"))).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/bundle.pem") && error.contains("AWS_CA_BUNDLE"), "{error}");
    }

    #[test]
    fn a_certificate_is_replaced_when_it_is_time() {
        let region = "us-east-1".parse().unwrap();
        let now = UnixTime::from_secs(1_800_000_000);
        let (authority, _) = Authority::create(&region, "amazonaws.com", now).unwrap();
        let names = ServerNames::of_region(&region, "amazonaws.com", &[]);
        let certificate = Certificate::new(&authority, names, now).unwrap();
        let due = Authority::renew_at(now);
        assert!(!certificate.renew(&authority, due.minus(1)).unwrap());
        assert!(certificate.renew(&authority, due).unwrap());
        assert!(!certificate.renew(&authority, due.plus(1)).unwrap());
    }
}

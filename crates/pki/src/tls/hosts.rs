//! TLS between a region and its hosts: both show certificates of [`HostsAuthority`], and trust nothing else.

use std::sync::Arc;

use arc_swap::ArcSwap;
use inborn_identity::UnixTime;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime as TlsTime};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{ALPN, provider};
use crate::AuthorityError;
use crate::hosts::{HOSTS_ENDPOINT_NAME, HostKey, HostsAuthority, fingerprint};

/// The certificate of the endpoint for hosts, replaced while connections go on.
pub struct HostsEndpointCertificate {
    current: ArcSwap<(Arc<CertifiedKey>, UnixTime)>,
}

impl core::fmt::Debug for HostsEndpointCertificate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HostsEndpointCertificate").finish_non_exhaustive()
    }
}

impl HostsEndpointCertificate {
    /// A certificate from `authority`.
    ///
    /// # Errors
    /// When the authority cannot issue it.
    pub fn new(authority: &HostsAuthority, now: UnixTime) -> Result<Arc<Self>, AuthorityError> {
        let issued = Self::issue(authority, now)?;
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(issued) }))
    }

    /// Replaces the certificate if it is time to; says whether it did. Call it about daily.
    ///
    /// # Errors
    /// When the authority cannot issue it; the old one stays.
    pub fn renew(&self, authority: &HostsAuthority, now: UnixTime) -> Result<bool, AuthorityError> {
        let is_due = now >= self.current.load().1;
        if is_due {
            self.current.store(Arc::new(Self::issue(authority, now)?));
        }
        Ok(is_due)
    }

    fn issue(authority: &HostsAuthority, now: UnixTime) -> Result<(Arc<CertifiedKey>, UnixTime), AuthorityError> {
        Ok((Arc::new(authority.issue_endpoint(now)?), HostsAuthority::renew_endpoint_at(now)))
    }
}

impl ResolvesServerCert for HostsEndpointCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().0))
    }
}

/// The configuration of the endpoint for hosts. A client shows a certificate of `authority`, or none: what may be done
/// without one is the endpoint's to say. Any other certificate ends the handshake.
///
/// # Errors
/// When the TLS library refuses the authority or its own defaults.
pub fn hosts_server_config(
    authority: &HostsAuthority,
    certificate: Arc<HostsEndpointCertificate>,
) -> Result<Arc<ServerConfig>, AuthorityError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// How a host looks at the endpoint of the region whose authority has this fingerprint: with its certificate (PEM) and key,
/// or, before it has joined, with none.
///
/// # Errors
/// When the TLS library refuses the certificate or its own defaults.
pub fn host_client_config(
    authority: [u8; 32],
    identity: Option<(&str, &HostKey)>,
) -> Result<Arc<ClientConfig>, AuthorityError> {
    let algorithms = provider().signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority { fingerprint: authority, algorithms }));
    let mut config = match identity {
        Some((pem, key)) => {
            let certificate =
                CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| AuthorityError::Stored)?.into_owned();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec()));
            builder.with_client_auth_cert(vec![certificate], key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The name to ask the endpoint for hosts by, whatever its address.
///
/// # Errors
/// Never: it is a constant.
pub fn hosts_endpoint_name() -> Result<ServerName<'static>, AuthorityError> {
    ServerName::try_from(HOSTS_ENDPOINT_NAME).map_err(|_| AuthorityError::Stored)
}

/// Verifies as always, from the one authority whose fingerprint is known: the endpoint shows it behind its own certificate.
#[derive(Debug)]
struct PinnedAuthority {
    fingerprint: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: TlsTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|certificate| fingerprint(certificate) == self.fingerprint);
        let authority = authority.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::{shake_hands, today};
    use crate::{Authority, HostCertificate, ServerNames, tls};
    use inborn_identity::Region;
    use rustls::client::ClientConnection;
    use rustls::server::ServerConnection;

    fn region() -> Region {
        "us-east-1".parse().unwrap()
    }

    fn authority() -> HostsAuthority {
        HostsAuthority::create(&region(), today()).unwrap().0
    }

    /// What the endpoint of `authority` knows of a client, if the handshake comes to its end.
    fn connect(authority: &HostsAuthority, client: Arc<ClientConfig>) -> Result<Option<HostCertificate>, Error> {
        let certificate = HostsEndpointCertificate::new(authority, today()).unwrap();
        let mut server = ServerConnection::new(hosts_server_config(authority, certificate).unwrap()).unwrap();
        let mut client = ClientConnection::new(client, hosts_endpoint_name().unwrap()).unwrap();
        shake_hands(&mut client, &mut server)?;
        let shown = server.peer_certificates().and_then(|chain| chain.first());
        Ok(shown.map(|der| HostCertificate::from_der(der).unwrap()))
    }

    fn identity(authority: &HostsAuthority, now: UnixTime) -> (String, HostKey) {
        let key = HostKey::generate().unwrap();
        (authority.certify("h-0123456789abcdef0".parse().unwrap(), key.public_key(), now).unwrap(), key)
    }

    #[test]
    fn a_host_and_its_region_know_each_other() {
        let authority = authority();
        let (pem, key) = identity(&authority, today());
        let config = host_client_config(authority.fingerprint(), Some((&pem, &key))).unwrap();
        let shown = connect(&authority, config).unwrap().unwrap();
        assert_eq!(shown, HostCertificate::from_pem(&pem).unwrap());
        let stranger = host_client_config(authority.fingerprint(), None).unwrap();
        assert_eq!(connect(&authority, stranger), Ok(None), "who has not joined yet");
    }

    #[test]
    fn certificates_of_others_end_the_handshake() {
        let (authority, other) = (authority(), authority());
        let (pem, key) = identity(&other, today());
        let foreign = host_client_config(authority.fingerprint(), Some((&pem, &key))).unwrap();
        assert!(connect(&authority, foreign).is_err(), "a host of another region");
        let (pem, key) = identity(&authority, today().minus(2 * crate::HOST_LIFE_SECONDS));
        let late = host_client_config(authority.fingerprint(), Some((&pem, &key))).unwrap();
        assert!(connect(&authority, late).is_err(), "a certificate that has ended");
        let unknown = host_client_config(other.fingerprint(), None).unwrap();
        assert!(connect(&authority, unknown).is_err(), "a region that the host does not mean");
    }

    /// A host cannot take the place of the endpoint, nor can who has a certificate for the region's services.
    #[test]
    fn a_host_is_no_region() {
        let authority = authority();
        let (pem, key) = identity(&authority, today());
        let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap(), authority.certificate().clone()];
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .unwrap();
        let trusting = || host_client_config(authority.fingerprint(), None).unwrap();
        let attempt = |config: Arc<ServerConfig>| {
            let mut server = ServerConnection::new(config).unwrap();
            let mut client = ClientConnection::new(trusting(), hosts_endpoint_name().unwrap()).unwrap();
            shake_hands(&mut client, &mut server)
        };
        assert!(attempt(Arc::new(config)).is_err(), "the certificate of a host");
        let (public, _) = Authority::create(&region(), "amazonaws.com", today()).unwrap();
        let names = ServerNames { dns: vec![HOSTS_ENDPOINT_NAME.to_owned()], addresses: Vec::new() };
        let certificate = tls::Certificate::new(&public, names, today()).unwrap();
        assert!(attempt(tls::server_config(certificate).unwrap()).is_err(), "the authority of the region's services");
    }

    #[test]
    fn the_endpoints_certificate_is_replaced_when_it_is_time() {
        let (authority, now) = (authority(), today());
        let certificate = HostsEndpointCertificate::new(&authority, now).unwrap();
        let due = HostsAuthority::renew_endpoint_at(now);
        assert_eq!(certificate.renew(&authority, due.minus(1)).ok(), Some(false));
        assert_eq!(certificate.renew(&authority, due).ok(), Some(true));
    }
}

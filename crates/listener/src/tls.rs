//! What an encrypted connection negotiated, in the words of the audit record.

use std::sync::Arc;

/// The facts of `tlsDetails` in a CloudTrail record, and whom the client proved to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFacts {
    /// As in `TLSv1.3`.
    pub version: &'static str,
    /// As in `TLS_AES_128_GCM_SHA256`.
    pub cipher_suite: String,
    /// The certificate (DER) that the client showed, where it was asked for one and it was found good.
    pub client_certificate: Option<Arc<[u8]>>,
}

impl TlsFacts {
    pub(crate) fn of(connection: &rustls::ServerConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "unknown",
        };
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        // rustls names the suites of TLS 1.3 TLS13_…; the registry, and so CloudTrail, says TLS_….
        let cipher_suite = suite.unwrap_or("unknown").replacen("TLS13_", "TLS_", 1);
        let shown = connection.peer_certificates().and_then(|chain| chain.first());
        Self { version, cipher_suite, client_certificate: shown.map(|certificate| Arc::from(certificate.as_ref())) }
    }
}

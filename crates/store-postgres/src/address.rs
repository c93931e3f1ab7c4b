//! Where the database is: a `postgres://` URL, and whom to trust there.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inborn_store::StoreError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a connection may take to come about, where the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was sent may stay unacknowledged before the other side counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// A database, and how to speak with it. Holds the password, which is not shown.
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}

impl Address {
    /// Reads a URL. Beside the parameters of the driver it takes `sslrootcert`, a file of certificates to trust instead of
    /// the system's, and the modes `verify-ca` and `verify-full`. Every TLS connection is to a server that proves its name.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(unfit("its address is a URL, postgres://USER:PASSWORD@HOST/DATABASE"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut kept, mut mode, mut roots) = (Vec::new(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(value),
                _ => kept.push(pair),
            }
        }
        let rest = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        // The driver's error may quote the URL with the password.
        let mut config =
            Config::from_str(&rest).map_err(|_| unfit("its URL cannot be read: see docs/stores.md for its form"))?;
        if config.get_hosts().is_empty() {
            return Err(unfit("its URL names no host"));
        }
        if config.get_dbname().is_none() {
            return Err(unfit("its URL names no database"));
        }
        let is_here =
            config.get_hosts().iter().all(is_here) && config.get_hostaddrs().iter().all(|ip| ip.is_loopback());
        config.ssl_mode(match mode {
            Some("disable") => SslMode::Disable,
            Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
            None | Some("prefer") if is_here => SslMode::Disable,
            // A connection that falls back to plain text is one that anybody on the way can make fall back.
            None | Some("prefer") => SslMode::Require,
            Some(_) => return Err(unfit("sslmode is disable, require, verify-ca or verify-full")),
        });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.tcp_user_timeout(SILENCE_MAX).keepalives_idle(SILENCE_MAX).keepalives_interval(SILENCE_MAX / 3);
        // Of several hosts, the one that takes writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("inborn");
        }
        let is_plain = config.get_ssl_mode() == SslMode::Disable;
        let roots = match roots {
            _ if is_plain => RootCertStore::empty(),
            Some(path) => from_file(&path_of(path))?,
            None => of_the_system()?,
        };
        Ok(Self { config, tls: MakeRustlsConnect::new(trusting(roots)?) })
    }
}

impl Address {
    /// The same, of which a host that takes no writes will do: a standby.
    pub(crate) fn for_reading(mut self) -> Self {
        self.config.target_session_attrs(TargetSessionAttrs::Any);
        self
    }
}

/// What no network is between.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
    }
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| StoreError::Unfit(format!("TLS cannot be set up: {error}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn from_file(path: &Path) -> Result<RootCertStore, StoreError> {
    let unread = |why: &dyn fmt::Display| {
        StoreError::Unfit(format!("{} is not a file of certificates ({why}): mend sslrootcert", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unread(&error))? {
        let certificate = certificate.map_err(|error| unread(&error))?;
        roots.add(certificate).map_err(|error| unread(&error))?;
    }
    if roots.is_empty() { Err(unread(&"it has none")) } else { Ok(roots) }
}

fn of_the_system() -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(unfit("this system trusts no certificate: name a file with sslrootcert=PATH"));
    }
    Ok(roots)
}

/// A path as a URL has it: `%20` is a space.
fn path_of(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let hex = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let decoded = hex(0).zip(hex(1)).and_then(|(high, low)| u8::try_from(16 * high + low).ok());
        match (first, decoded) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

fn unfit(what: &str) -> StoreError {
    StoreError::Unfit(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<SslMode, StoreError> {
        Address::parse(url).map(|address| address.config.get_ssl_mode())
    }

    #[test]
    fn no_network_is_crossed_in_plain_text_unless_told() {
        for (url, expected) in [
            ("postgres://inborn@127.0.0.1/inborn", SslMode::Disable),
            ("postgres://inborn@localhost/inborn", SslMode::Disable),
            ("postgresql://inborn@%2Frun%2Fpostgresql/inborn", SslMode::Disable),
            ("postgres://inborn@localhost/inborn?sslmode=prefer", SslMode::Disable),
            ("postgres://inborn@db.test/inborn?sslmode=disable", SslMode::Disable),
        ] {
            assert_eq!(mode(url), Ok(expected), "{url}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["db.test".to_owned()]).unwrap();
        std::fs::write(file.path(), made.cert.pem()).unwrap();
        let roots = format!("sslrootcert={}", file.path().display());
        for url in [
            format!("postgres://inborn@db.test/inborn?{roots}"),
            format!("postgres://inborn@db.test/inborn?sslmode=prefer&{roots}"),
            format!("postgres://inborn@db.test/inborn?{roots}&sslmode=verify-full&application_name=x"),
            format!("postgres://inborn@127.0.0.1,db.test/inborn?{roots}"),
            format!("postgres://inborn@127.0.0.1/inborn?hostaddr=192.0.2.1&{roots}"),
            format!("postgres://inborn@127.0.0.1/inborn?sslmode=require&{roots}"),
        ] {
            assert_eq!(mode(&url), Ok(SslMode::Require), "{url}");
        }
    }

    #[test]
    fn paths_are_read_as_urls_have_them() {
        for (text, path) in [
            ("/etc/ca.pem", "/etc/ca.pem"),
            ("%2Fetc%2fca%20of%26us.pem", "/etc/ca of&us.pem"),
            ("/100%", "/100%"),
            ("/%4", "/%4"),
            ("/%zz%+1", "/%zz%+1"),
            ("%C3%A4", "ä"),
        ] {
            assert_eq!(path_of(text), Path::new(path), "{text}");
        }
    }

    #[test]
    fn urls_that_make_no_sense_are_refused_and_not_quoted() {
        for url in [
            "",
            "host=db dbname=x",
            "mysql://inborn:secret@db/inborn",
            "postgres://inborn:secret@/inborn",
            "postgres://inborn:secret@127.0.0.1",
            "postgres://inborn:secret@127.0.0.1/inborn?sslmode=allow",
            "postgres://inborn:secret@127.0.0.1/inborn?color=red",
            "postgres://inborn:secret@127.0.0.1:port/inborn",
            "postgres://inborn:secret@db.test/inborn?sslrootcert=/nowhere",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(matches!(error, StoreError::Unfit(_)), "{url}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let address = Address::parse("postgres://inborn:secret@127.0.0.1/inborn").unwrap();
        assert!(!format!("{address:?}").contains("secret"));
    }
}

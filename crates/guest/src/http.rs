//! One request, one answer, over a connection of its own: plain or TLS, with limits, without proxies or redirects.

use core::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::http::header::{CONNECTION, HOST, HeaderValue};
use ::http::uri::Scheme;
use ::http::{HeaderMap, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use inborn_pki::tls::{TrustError, client_config};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long an answer may take and how long it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// For the connection, a TLS handshake included.
    pub connect_timeout: Duration,
    /// For everything from then on.
    pub answer_timeout: Duration,
    /// Bytes of the body.
    pub body_bytes_max: usize,
}

impl Limits {
    /// For the metadata service, which answers from memory next door, on a computer that may be busy.
    pub const METADATA: Limits = Limits {
        connect_timeout: Duration::from_secs(1),
        answer_timeout: Duration::from_secs(5),
        body_bytes_max: 64 * 1024,
    };
    /// For its token, whose answer is lost behind one network hop too many: nobody is kept waiting for that as long.
    pub const METADATA_TOKEN: Limits = Limits { answer_timeout: Duration::from_secs(1), ..Limits::METADATA };
    /// For a region.
    pub const REGION: Limits = Limits {
        connect_timeout: Duration::from_secs(5),
        answer_timeout: Duration::from_secs(30),
        body_bytes_max: 16 * 1024 * 1024,
    };
}

/// An answer. Its `Debug` leaves the body out: it may hold credentials.
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no answer. `at` is the address that was asked, as in `127.0.0.1:4580`.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not a URL that can be asked.
    #[error("{url} is not an http or https URL with a host")]
    Url {
        /// What it is.
        url: String,
    },
    /// Nobody there, or no way to them.
    #[error("cannot connect to {at}: {source}; is it running, and is the address right?")]
    Connect {
        /// The address.
        at: String,
        /// Why not.
        source: io::Error,
    },
    /// No connection in time.
    #[error("cannot connect to {at} in time; is it reachable from here?")]
    ConnectTimeout {
        /// The address.
        at: String,
    },
    /// The other side is not who it should be, or speaks no TLS.
    #[error("cannot make a TLS connection to {at}: {source}; is its CA certificate in AWS_CA_BUNDLE or SSL_CERT_FILE?")]
    Tls {
        /// The address.
        at: String,
        /// Why not.
        source: io::Error,
    },
    /// Nothing to check certificates with.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Connected, but no answer in time.
    #[error("{at} did not answer in time; try again")]
    AnswerTimeout {
        /// The address.
        at: String,
    },
    /// The answer is longer than allowed.
    #[error("{at} answered more than {bytes_max} bytes")]
    TooLarge {
        /// The address.
        at: String,
        /// The limit.
        bytes_max: usize,
    },
    /// Not HTTP, or cut off.
    #[error("{at} broke off or does not speak HTTP: {source}")]
    Protocol {
        /// The address.
        at: String,
        /// What the HTTP library says.
        source: hyper::Error,
    },
}

/// Makes requests. Certificates are read when the first TLS connection needs them.
#[derive(Clone)]
pub struct Client {
    limits: Limits,
    ca_bundle: Option<PathBuf>,
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("limits", &self.limits)
            .field("ca_bundle", &self.ca_bundle)
            .finish_non_exhaustive()
    }
}

/// Where a URL leads.
struct Destination {
    tls: bool,
    host: String,
    port: u16,
    /// As in the URL: with the port if the URL has one, since it is part of what a signature covers.
    authority: HeaderValue,
}

impl Destination {
    fn of(url: &Uri) -> Option<Self> {
        let tls = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return None,
        };
        let authority = url.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || authority.as_str().contains('@') {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self { tls, host, port, authority: HeaderValue::from_str(authority.as_str()).ok()? })
    }

    fn at(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Client {
    /// A client that trusts `ca_bundle`, or the system's certificates without one.
    #[must_use]
    pub fn new(limits: Limits, ca_bundle: Option<PathBuf>) -> Self {
        Self { limits, ca_bundle, tls: Arc::default() }
    }

    /// Sends `request`, whose URI is a whole URL, and reads the answer to its end. `Host` is set from the URL unless the
    /// request has one; the path and the query go out byte for byte.
    ///
    /// # Errors
    /// See [`HttpError`]. A status that means failure is not an error here.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Reply, HttpError> {
        match self.send(request).await? {
            Sent::Answered(reply) => Ok(reply),
            // Who did not ask for another protocol is not given one: hyper takes that for a fault.
            Sent::Switched(_, at) => Err(HttpError::AnswerTimeout { at }),
        }
    }

    /// Sends a request for another protocol (`Upgrade`), which the caller has written into its headers: the connection, once
    /// the server has switched, or its answer if it has not.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn switch(&self, request: Request<Bytes>) -> Result<Result<Switched, Reply>, HttpError> {
        match self.send(request).await? {
            Sent::Answered(reply) => Ok(Err(reply)),
            Sent::Switched(stream, _) => Ok(Ok(stream)),
        }
    }

    async fn send(&self, mut request: Request<Bytes>) -> Result<Sent, HttpError> {
        let url = request.uri().clone();
        let Some(destination) = Destination::of(&url) else {
            // Without what may follow the host: a query can hold more than is fit to print.
            let authority = url.authority().map_or("", |authority| authority.as_str().rsplit('@').next().unwrap_or(""));
            return Err(HttpError::Url { url: format!("{}://{authority}", url.scheme_str().unwrap_or("")) });
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| HttpError::Url { url: destination.at() })?;
        request.headers_mut().entry(HOST).or_insert(destination.authority.clone());
        request.headers_mut().entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
        let request = request.map(Full::new);
        let at = destination.at();
        let connecting = timeout(self.limits.connect_timeout, self.connect(&destination));
        match connecting.await.map_err(|_| HttpError::ConnectTimeout { at: at.clone() })?? {
            Connection::Plain(stream) => self.exchange(*stream, request, &at).await,
            Connection::Tls(stream) => self.exchange(*stream, request, &at).await,
        }
    }

    async fn connect(&self, to: &Destination) -> Result<Connection, HttpError> {
        let stream = TcpStream::connect((to.host.as_str(), to.port)).await;
        let stream = stream.map_err(|source| HttpError::Connect { at: to.at(), source })?;
        if !to.tls {
            return Ok(Connection::Plain(Box::new(stream)));
        }
        let name = ServerName::try_from(to.host.clone()).map_err(|_| HttpError::Url { url: to.at() })?;
        let handshake = TlsConnector::from(self.tls_config()?).connect(name, stream).await;
        Ok(Connection::Tls(Box::new(handshake.map_err(|source| HttpError::Tls { at: to.at(), source })?)))
    }

    fn tls_config(&self) -> Result<Arc<ClientConfig>, TrustError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let config = client_config(self.ca_bundle.as_deref())?;
        Ok(Arc::clone(self.tls.get_or_init(|| config)))
    }

    async fn exchange<S>(&self, stream: S, request: Request<Full<Bytes>>, at: &str) -> Result<Sent, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |source: hyper::Error| HttpError::Protocol { at: at.to_owned(), source };
        let exchanging = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
            let driver = AbortOnDrop(tokio::spawn(connection.with_upgrades()));
            let mut response = sender.send_request(request).await.map_err(broken)?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let upgraded = hyper::upgrade::on(&mut response).await.map_err(broken)?;
                return Ok(Sent::Switched(TokioIo::new(upgraded), at.to_owned()));
            }
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.limits.body_bytes_max).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    return HttpError::TooLarge { at: at.to_owned(), bytes_max: self.limits.body_bytes_max };
                }
                match error.downcast::<hyper::Error>() {
                    Ok(source) => broken(*source),
                    // The body has no other errors.
                    Err(_) => HttpError::AnswerTimeout { at: at.to_owned() },
                }
            })?;
            drop(driver);
            Ok(Sent::Answered(Reply { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() }))
        };
        let answered = timeout(self.limits.answer_timeout, exchanging).await;
        answered.map_err(|_| HttpError::AnswerTimeout { at: at.to_owned() })?
    }
}

/// A connection that speaks another protocol now.
pub type Switched = TokioIo<Upgraded>;

enum Sent {
    Answered(Reply),
    Switched(Switched, String),
}

enum Connection {
    Plain(Box<TcpStream>),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// The connection is driven beside the request and ends with it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::{Script, answer};

    const QUICK: Limits = Limits {
        connect_timeout: Duration::from_millis(500),
        answer_timeout: Duration::from_millis(300),
        body_bytes_max: 16,
    };

    async fn call(limits: Limits, url: &str) -> Result<Reply, HttpError> {
        let request = Request::get(url).header("x-test", "1").body(Bytes::new()).unwrap();
        Client::new(limits, None).call(request).await
    }

    #[tokio::test]
    async fn the_request_goes_out_as_it_was_written() {
        let server = Script::start(vec![answer(200, "", "hello")]).await;
        let reply = call(QUICK, &format!("{}/a//b/../c?x=%2f&y", server.url())).await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"hello"[..]));
        let seen = server.seen();
        assert!(seen[0].starts_with("GET /a//b/../c?x=%2f&y HTTP/1.1\r\n"), "{}", seen[0]);
        let authority = server.url().trim_start_matches("http://").to_owned();
        assert!(seen[0].contains(&format!("host: {authority}\r\n")), "the port is part of Host: {}", seen[0]);
        assert_eq!(format!("{reply:?}"), "Reply { status: 200, body_bytes: 5, .. }");
    }

    #[tokio::test]
    async fn bodies_below_at_and_above_the_limit() {
        for (length, fits) in [(15, true), (16, true), (17, false)] {
            let server = Script::start(vec![answer(200, "", &"b".repeat(length))]).await;
            match call(QUICK, &server.url()).await {
                Ok(reply) => assert!(fits && reply.body.len() == length),
                Err(error) => assert!(!fits && matches!(error, HttpError::TooLarge { bytes_max: 16, .. }), "{error}"),
            }
        }
    }

    #[tokio::test]
    async fn servers_that_do_not_answer() {
        let silent = Script::start(vec![String::new()]).await;
        assert!(matches!(call(QUICK, &silent.url()).await, Err(HttpError::AnswerTimeout { .. })));
        let nonsense = Script::start(vec!["SSH-2.0-x\r\n\r\n".into()]).await;
        assert!(matches!(call(QUICK, &nonsense.url()).await, Err(HttpError::Protocol { .. })));
        let gone = Script::start(vec![]).await.url();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let unused = listener.local_addr().unwrap();
        drop(listener);
        let error = call(QUICK, &format!("http://{unused}")).await.unwrap_err();
        assert!(error.to_string().contains("is it running"), "{error}");
        drop(gone);
    }

    #[tokio::test]
    async fn urls_that_lead_nowhere_are_not_repeated_in_full() {
        for url in ["ftp://host/x?secret", "/x?secret", "http://user:secret@host/"] {
            let error = call(QUICK, url).await.unwrap_err();
            assert!(matches!(error, HttpError::Url { .. }), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn tls_to_a_server_that_speaks_none() {
        let server = Script::start(vec![answer(200, "", "")]).await;
        let request = Request::get(server.url().replace("http:", "https:")).body(Bytes::new()).unwrap();
        let error = Client::new(QUICK, Some("/nonexistent/ca.pem".into())).call(request).await.unwrap_err();
        assert!(matches!(error, HttpError::Trust(TrustError::Bundle { .. })), "{error}");
    }
}

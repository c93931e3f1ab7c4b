//! A connection for each lane of questions, kept while it lasts: all of the talk that is the same over whatever the bytes go.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use inborn_fleet::ANSWER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::ask::{self, Answer, Ask, Failure, Lane};
use crate::client::Address;

/// How long a connection may take, its handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is used again after its last answer: less than the region keeps an idle one.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// A connection to a region server.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    address: Address,
    /// As whom it was made: after a renewal that is another number.
    known_as: u64,
    driver: JoinHandle<()>,
    used: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What came over the wire.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Bytes,
}

/// The connections of a host.
#[derive(Default)]
pub struct Lanes {
    watch: Mutex<Option<Connection>>,
    work: Mutex<Option<Connection>>,
}

impl core::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

impl Lanes {
    /// Asks the server at `address`, over the connection of the question's lane if that is to the same and was made as `known_as`,
    /// else over what `connecting` gives. `connected` is called once there is a new one.
    ///
    /// A connection whose answer did not come in time, or not whole, is used no more: what comes over it later is nobody's answer.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn ask<S>(
        &self,
        address: &Address,
        ask: &Ask,
        known_as: u64,
        connecting: impl Future<Output = Result<S, Failure>>,
        connected: impl Fn(),
    ) -> Result<Answer, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let lane = match ask.lane() {
            Lane::Watch => &self.watch,
            Lane::Work => &self.work,
        };
        let mut lane = lane.lock().await;
        let is_good = |kept: &Connection| {
            let is_the_same = kept.address == *address && kept.known_as == known_as;
            is_the_same && kept.used.elapsed() < IDLE_MAX && !kept.sender.is_closed()
        };
        // One that breaks is not made anew here: where a server goes away, every host finds that at the same moment.
        let mut connection = match lane.take().filter(is_good) {
            Some(kept) => kept,
            None => {
                let fresh = Connection::open(address, known_as, connecting).await?;
                connected();
                fresh
            }
        };
        let reply = connection.exchange(ask.path(), ask.body(), ask.patience()).await?;
        *lane = Some(connection);
        ask::decode(ask, reply.status, reply.retry_after, &reply.body)
    }
}

impl Connection {
    /// Over what `connecting` gives.
    pub(crate) async fn open<S>(
        address: &Address,
        known_as: u64,
        connecting: impl Future<Output = Result<S, Failure>>,
    ) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opening = async {
            let stream = connecting.await?;
            let (sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(address, error))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            Ok(Self { sender, address: address.clone(), known_as, driver, used: Instant::now() })
        };
        timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| unreachable(address, "no connection in time"))?
    }

    /// Sends a question, and waits for its answer.
    pub(crate) async fn exchange(&mut self, path: &str, body: Vec<u8>, patience: Duration) -> Result<Reply, Failure> {
        let Self { sender, address, used, .. } = self;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, inborn_pki::HOSTS_ENDPOINT_NAME)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unreachable(address, error))?;
        let exchanging = async {
            sender.ready().await.map_err(|error| unreachable(address, error))?;
            let response = sender.send_request(request).await.map_err(|error| unreachable(address, error))?;
            let (head, body) = response.into_parts();
            let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body =
                body.map_err(|error| unreachable(address, format!("the answer was not read: {error}")))?.to_bytes();
            Ok(Reply { status: head.status.as_u16(), retry_after, body })
        };
        let reply = timeout(patience, exchanging).await.map_err(|_| unreachable(address, "no answer in time"))?;
        *used = Instant::now();
        reply
    }
}

/// Of what cannot be reached at an address.
pub(crate) fn unreachable(address: &Address, what: impl core::fmt::Display) -> Failure {
    Failure::Unreachable(format!("{address}: {what}"))
}

//! The metadata service of one machine, on the listening sockets of its attachment.

mod answer;

use std::sync::Arc;
use std::time::Duration;

use inborn_identity::Clock;
use inborn_imds::TokenKey;
use inborn_listener::Limits;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::attachment::Attached;

/// Connections to one machine's metadata at a time.
const CONNECTIONS_MAX: usize = 512;
/// How long a guest may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

const LIMITS: Limits = Limits {
    connections_max: CONNECTIONS_MAX,
    header_count_max: 64,
    head_bytes_max: 16 * 1024,
    head_timeout: HEAD_TIMEOUT,
    handshake_timeout: HEAD_TIMEOUT,
    write_timeout: HEAD_TIMEOUT,
};

/// What the machines of a host have in common.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) token_key: Arc<TokenKey>,
}

/// Serves one listening socket of an attachment until `stopping` turns true or its sender is gone. An attachment may have
/// several, one for each address family; what is counted for a machine is counted in its [`Attached`], for all of them.
pub(crate) async fn serve(
    listener: TcpListener,
    attached: Arc<Attached>,
    service: Service,
    stopping: watch::Receiver<bool>,
) {
    inborn_listener::serve(listener, None, LIMITS, stopping, move |request, _peer| {
        let answer = answer::answer(&request, &attached, &service.token_key, service.clock.now());
        async move { answer }
    })
    .await;
}

//! Bodies of requests: how much of them is read, how long, and where the memory for that comes from.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use inborn_listener::{BodyError, discard_body, read_body};
use inborn_wire::error::Problem;
use tokio::sync::SemaphorePermit;

use super::Exchange;
use crate::telemetry::Share;
use crate::throttle::Source;
use crate::{RegionServer, services};

/// How long a client may take to send a body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a body is listened to that there is no memory for.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest body of a request to a service that is not served: enough to tell who asked.
const FOREIGN_BODY_BYTES_MAX: usize = 64 * 1024;

/// Memory that a body takes, if it is counted; free again when this is dropped, after the answer.
#[derive(Default)]
pub(super) struct BodyRoom<'a> {
    _large: Option<SemaphorePermit<'a>>,
    _telemetry: Option<Share<Source>>,
}

impl RegionServer {
    /// Reads the body, within the limits of its service and of all services together.
    pub(super) async fn read(
        &self,
        exchange: &mut Exchange<'_>,
        body: Incoming,
    ) -> Result<(Bytes, BodyRoom<'_>), Unread> {
        let bytes_max = exchange.service.map_or(FOREIGN_BODY_BYTES_MAX, |service| service.body_bytes_max);
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(Unread::Body(BodyError::TooLarge));
        }
        let declared = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = declared.unwrap_or(bytes_max).min(bytes_max);
        // Telemetry comes by itself and again: it has a room of its own, so that however much of it comes, nobody else waits.
        let room = if exchange.service.is_some_and(|service| service.name == services::TELEMETRY) {
            match self.telemetry.room_for_body(exchange.origin.into(), bytes) {
                Some(share) => BodyRoom { _telemetry: Some(share), ..BodyRoom::default() },
                None => {
                    self.metrics.telemetry.put_off("bodies");
                    // Whoever has sent it already is still to hear the answer, and to go on over the same connection.
                    exchange.is_body_unread = !discard_body(body, bytes_max, DISCARD_TIMEOUT).await;
                    return Err(Unread::NoRoom);
                }
            }
        } else {
            BodyRoom { _large: self.bounds.room_for(bytes).await.map_err(Unread::Body)?, ..BodyRoom::default() }
        };
        let bytes = read_body(body, bytes_max, BODY_TIMEOUT).await.map_err(Unread::Body)?;
        exchange.is_body_unread = false;
        Ok((bytes, room))
    }
}

/// Why there is no body.
pub(super) enum Unread {
    Body(BodyError),
    /// There is no memory for it.
    NoRoom,
}

pub(super) fn body_problem(unread: Unread) -> Problem {
    let error = match unread {
        Unread::Body(error) => error,
        Unread::NoRoom => {
            let message = "More telemetry is coming than there is memory for.".to_owned();
            return Problem::Service { status: 503, code: "ServiceUnavailableException", message };
        }
    };
    let (status, code, message) = match error {
        BodyError::TooLarge => (413, "RequestEntityTooLarge", "Request body is larger than this service takes."),
        BodyError::TooSlow => (408, "RequestTimeout", "The request body did not arrive in time."),
        BodyError::Broken => (400, "IncompleteBody", "The request body could not be read to its end."),
    };
    Problem::Service { status, code, message: message.to_owned() }
}

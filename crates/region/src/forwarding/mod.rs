//! Calls that belong to another server of the fleet: those for an agent whose control channel that one has, and those of a session that it
//! carries. They go there as they came, and the answer comes back as it is.
//!
//! Who passes a request on decides nothing: the other server verifies it as if it had come by itself, from where it came first, which
//! it is told in a header that is sealed (`seal`). A request that was passed on is never passed on again. Which server has an
//! agent is asked of all of them at once; nothing of it is stored that could be out of date. Which one carries a session is in its record.

mod address;
mod link;
mod seal;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use inborn_identity::InstanceId;
use inborn_listener::Peer;
use inborn_store::{NodeId, Session as Record};
use inborn_wire::error::Problem;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::timeout;

use crate::channels::Openings;
use crate::{RegionServer, sessions};
use link::Answered;

pub use address::{AddressError, check_address};

/// Calls that are passed on, and questions that are asked because of one, at a time. Each takes two connections at most.
const CALLS_MAX: usize = 256;
/// WebSockets that are passed on at a time, of those who signed and of those who did not: each takes two descriptors and two buffers.
const SOCKETS_MAX: usize = 2_000;
/// How often it is said that a header was not believed.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// How long other servers have to say whether they have an agent.
const ASK_TIMEOUT: Duration = Duration::from_secs(4);
/// What servers ask each other begins with this. Nobody is answered whom no server's seal comes with.
const OWN: &str = "/inborn/";
const AGENT: &str = "/inborn/agent/";
const SESSIONS: &str = "/inborn/sessions";

pub(crate) use seal::NotAuthentic;

/// Another server of the fleet, as it beats.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) address: String,
}

/// Which sessions are taken up that somebody asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TakesUp {
    /// None: whoever asks has proved nothing, or comes too early.
    Nothing,
    /// Those that are this server's by the store's word: a claim was lost, or it could not beat for a while.
    Own,
    /// These, and those whose server has gone.
    Left,
}

/// What is passed on, and what was.
#[derive(Debug)]
pub(crate) struct Forwarding {
    taken: seal::Taken,
    calls: Semaphore,
    signed: Openings<String>,
    unsigned: Openings<String>,
    /// When it was last said that a header was not believed.
    said_at: Mutex<Option<Instant>>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            taken: seal::Taken::default(),
            calls: Semaphore::new(CALLS_MAX),
            signed: Openings::new(SOCKETS_MAX),
            unsigned: Openings::new(SOCKETS_MAX),
            said_at: Mutex::default(),
        }
    }
}

impl Forwarding {
    /// Whether it is time to say again that a header was not believed: anybody may send one.
    pub(crate) fn says_unbelieved(&self, now: Instant) -> bool {
        let mut said_at = self.said_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said_at.is_none_or(|at| now.saturating_duration_since(at) >= SAID_EVERY);
        if is_due {
            *said_at = Some(now);
        }
        is_due
    }

    /// A place for a call that may go on to another server, if there is one; it is free again when it is dropped.
    fn place(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.calls.try_acquire().map_err(|_| Problem::Throttled)
    }
}

/// A WebSocket that is asked for: of which session, and whether whoever asks has signed.
pub(crate) struct Asking {
    pub(crate) session: String,
    pub(crate) is_signed: bool,
    pub(crate) client: OnUpgrade,
}

impl RegionServer {
    /// The other server that has the agent of a machine, if one has.
    pub(crate) async fn who_has_agent(&self, instance: InstanceId) -> Result<Option<Other>, Problem> {
        let Some(fleet) = self.fleet().filter(|_| !self.channels().is_connected(instance)) else { return Ok(None) };
        let others = fleet.others(self.store().node());
        if others.is_empty() {
            return Ok(None);
        }
        let _place = self.forwarding().place()?;
        let path = format!("{AGENT}{instance}");
        let path = path.as_str();
        let mut asked: FuturesUnordered<_> =
            others.into_iter().map(|other| async move { link::ask(self, &other, path).await.map(|_| other) }).collect();
        let first = async {
            while let Some(answer) = asked.next().await {
                if answer.is_some() {
                    return answer;
                }
            }
            None
        };
        Ok(timeout(ASK_TIMEOUT, first).await.unwrap_or_default())
    }

    /// The other server that carries a session, if one does and the caller may know of it. A session whose server has gone, or that
    /// only the store knows to be this one's, is taken up here as far as `takes_up` allows: then it is none's.
    pub(crate) async fn who_carries(
        self: &Arc<Self>,
        id: &str,
        takes_up: TakesUp,
        is_own: impl Fn(&Record) -> bool,
    ) -> Result<Option<Other>, Problem> {
        let Some(fleet) = self.fleet().filter(|_| self.sessions().get(id).is_none()) else { return Ok(None) };
        if id.is_empty() || id.len() > Record::ID_MAX {
            return Ok(None);
        }
        let _place = self.forwarding().place()?;
        // Where another server takes it up at the same moment, it is that one's.
        for _ in 0..2 {
            let found = self.store().session(id.to_owned()).await.map_err(|_| Problem::Unavailable)?;
            let Some(record) = found.filter(|record| record.end.is_none() && is_own(record)) else { return Ok(None) };
            let Some(carrier) = record.carrier else { return Ok(None) };
            let is_own = carrier == self.store().node();
            if !is_own && fleet.is_alive(carrier) {
                return Ok(fleet.other(carrier).filter(|_| takes_up != TakesUp::Own));
            }
            let takes_up = takes_up == TakesUp::Left || (takes_up == TakesUp::Own && is_own);
            if !takes_up || sessions::claim(self, record).await.map_err(|_| Problem::Unavailable)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The states of the sessions that other servers carry, by session, as far as they are reached in time.
    pub(crate) async fn sessions_elsewhere(&self) -> Result<BTreeMap<String, String>, Problem> {
        let Some(fleet) = self.fleet() else { return Ok(BTreeMap::new()) };
        let others = fleet.others(self.store().node());
        let _place = self.forwarding().place()?;
        let asked = others.iter().map(|other| timeout(ASK_TIMEOUT, link::ask(self, other, SESSIONS)));
        let answers = join_all(asked).await.into_iter().filter_map(Result::ok).flatten();
        let read = |answer: Bytes| serde_json::from_slice::<BTreeMap<String, String>>(&answer).ok();
        Ok(answers.filter_map(read).flatten().collect())
    }

    /// Answers what another server asks of its own; `None` if it asks nothing of the kind.
    pub(crate) fn answer_other(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        path.starts_with(OWN).then(|| {
            let body = if let Some(instance) = path.strip_prefix(AGENT) {
                let instance: Option<InstanceId> = instance.parse().ok();
                instance.filter(|instance| self.channels().is_connected(*instance)).map(|_| Vec::new())
            } else {
                let all = self.sessions().all();
                let states: BTreeMap<_, _> = all.iter().map(|it| (it.record.id.as_str(), it.status())).collect();
                serde_json::to_vec(&states).ok().filter(|_| path == SESSIONS)
            };
            let status = if body.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
            let mut response = Response::new(Full::new(Bytes::from(body.unwrap_or_default())));
            *response.status_mut() = status;
            response
        })
    }

    /// Passes a request on as it came, and gives the answer as it comes.
    pub(crate) async fn pass_on(
        self: &Arc<Self>,
        other: Other,
        parts: &Parts,
        body: Bytes,
        peer: &Peer,
        asking: Option<Asking>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let Some(asking) = asking else {
            let _place = self.forwarding().place()?;
            return match link::send(self, &other, parts, body, peer).await {
                Ok(Answered::Whole(response)) => Ok(response),
                Ok(Answered::Switched(..)) => Err(Problem::Internal),
                Err(error) => Err(missed(&other, &error)),
            };
        };
        let (region, parts, peer) = (Arc::clone(self), copy_of(parts), peer.clone());
        let (tell, told) = oneshot::channel();
        // It has its place until both ends have gone.
        tokio::spawn(async move {
            let places = if asking.is_signed { &region.forwarding().signed } else { &region.forwarding().unsigned };
            let Some(_place) = places.take(asking.session) else { return drop(tell.send(Err(Problem::Throttled))) };
            match link::send(&region, &other, &parts, body, &peer).await {
                Ok(Answered::Whole(response)) => drop(tell.send(Ok(response))),
                Ok(Answered::Switched(response, server)) => {
                    if tell.send(Ok(response)).is_ok() {
                        link::carry(Arc::clone(&region), other, asking.client, server).await;
                    }
                }
                Err(error) => drop(tell.send(Err(missed(&other, &error)))),
            }
        });
        told.await.unwrap_or(Err(Problem::Internal))
    }
}

/// What the caller is told, who is to try again.
fn missed(other: &Other, error: &link::Unreachable) -> Problem {
    tracing::warn!(server = %other.name, address = %other.address, %error, "a call for another server is not passed on");
    Problem::Unavailable
}

/// Of a head all that is sent.
fn copy_of(parts: &Parts) -> Parts {
    let (mut copy, ()) = http::Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.headers = parts.headers.clone();
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_are_passed_on_below_at_and_above_the_most() {
        let forwarding = Forwarding::default();
        let mut places: Vec<_> = (0..CALLS_MAX).map(|_| forwarding.place().unwrap()).collect();
        assert_eq!(forwarding.place().err(), Some(Problem::Throttled));
        places.pop();
        assert!(forwarding.place().is_ok());
    }

    #[test]
    fn what_anybody_can_cause_is_said_once_a_minute() {
        let (forwarding, begun) = (Forwarding::default(), Instant::now());
        let later = begun + SAID_EVERY;
        let said = [begun, later - Duration::from_millis(1), later, later].map(|now| forwarding.says_unbelieved(now));
        assert_eq!(said, [true, false, true, false]);
    }

    #[test]
    fn sockets_that_are_passed_on_below_at_and_above_the_most() {
        let forwarding = Forwarding::default();
        let mut places: Vec<_> =
            (0..SOCKETS_MAX).map(|number| forwarding.unsigned.take(number.to_string()).unwrap()).collect();
        assert!(forwarding.unsigned.take("more".to_owned()).is_none());
        assert!(forwarding.signed.take("more".to_owned()).is_some(), "who does not sign keeps nobody out who does");
        places.pop();
        assert!(forwarding.unsigned.take("more".to_owned()).is_some());
    }
}

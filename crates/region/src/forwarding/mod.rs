//! Calls that belong to another server of the fleet: those for an agent whose control channel that one has, and those of a session that it
//! carries. They go there as they came, and the answer comes back as it is.
//!
//! Who passes a request on decides nothing: the other server verifies it as if it had come by itself, from where it came first, which
//! it is told in a header that is sealed (`seal`). A request that was passed on is never passed on again. Which server has an
//! agent is asked of all of them at once; nothing of it is stored that could be out of date. Which one carries a session is in its record.

mod address;
mod in_flight;
mod link;
mod places;
mod seal;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use inborn_identity::{AccountId, InstanceId};
use inborn_listener::Peer;
use inborn_store::{NodeId, Session as Record};
use inborn_wire::error::Problem;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::said::Said;
use crate::{RegionServer, sessions};
use in_flight::InFlight;
use link::Answered;
use places::Places;

pub use address::{AddressError, check_address};

/// How long other servers have to say whether they have an agent.
const ASK_TIMEOUT: Duration = Duration::from_secs(4);
/// What servers ask each other begins with this. Nobody is answered whom no server's seal comes with.
const OWN: &str = "/inborn/";
const AGENT: &str = "/inborn/agent/";
const SESSIONS: &str = "/inborn/sessions";

pub(crate) use places::Asker;
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
#[derive(Debug, Default)]
pub(crate) struct Forwarding {
    taken: seal::Taken,
    places: Places,
    agents: InFlight<InstanceId, Result<Option<Other>, Problem>>,
    sessions: InFlight<(), Arc<BTreeMap<String, String>>>,
    /// Whether it was said that a header was not believed: anybody may send one.
    pub(crate) unbelieved: Said,
}

/// A WebSocket that is asked for: of which session, whose that is, and whether whoever asks has signed.
pub(crate) struct Asking {
    pub(crate) session: String,
    pub(crate) account: AccountId,
    pub(crate) is_signed: bool,
    pub(crate) client: OnUpgrade,
}

impl RegionServer {
    /// The other server that has the agent of a machine of an account, if one has.
    pub(crate) async fn who_has_agent(
        self: &Arc<Self>,
        account: AccountId,
        instance: InstanceId,
    ) -> Result<Option<Other>, Problem> {
        let Some(fleet) = self.fleet().filter(|_| !self.channels().is_connected(instance)) else { return Ok(None) };
        if fleet.others(self.store().node()).is_empty() {
            return Ok(None);
        }
        let region = Arc::clone(self);
        let asking = async move {
            let _place = region.forwarding().places.call(Asker::Account(account))?;
            Ok(region.ask_for_agent(instance).await)
        };
        self.forwarding().agents.ask(instance, asking).await.unwrap_or(Err(Problem::Internal))
    }

    async fn ask_for_agent(&self, instance: InstanceId) -> Option<Other> {
        let others = self.fleet()?.others(self.store().node());
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
        timeout(ASK_TIMEOUT, first).await.unwrap_or_default()
    }

    /// The other server that carries a session, if one does and the caller may know of it. A session whose server has gone, or that
    /// only the store knows to be this one's, is taken up here as far as `takes_up` allows: then it is none's. Gives whose session it is, too.
    pub(crate) async fn who_carries(
        self: &Arc<Self>,
        id: &str,
        (asker, takes_up): (Asker, TakesUp),
        is_own: impl Fn(&Record) -> bool,
    ) -> Result<Option<(Other, AccountId)>, Problem> {
        let Some(fleet) = self.fleet().filter(|_| self.sessions().get(id).is_none()) else { return Ok(None) };
        if id.is_empty() || id.len() > Record::ID_MAX {
            return Ok(None);
        }
        let _place = self.forwarding().places.call(asker)?;
        // Where another server takes it up at the same moment, it is that one's.
        for _ in 0..2 {
            let found = self.store().session(id.to_owned()).await.map_err(|_| Problem::Unavailable)?;
            let Some(record) = found.filter(|record| record.end.is_none() && is_own(record)) else { return Ok(None) };
            let Some(carrier) = record.carrier else { return Ok(None) };
            let is_own = carrier == self.store().node();
            if !is_own && fleet.is_alive(carrier) {
                let other = fleet.other(carrier).filter(|_| takes_up != TakesUp::Own);
                return Ok(other.map(|other| (other, record.account)));
            }
            let takes_up = takes_up == TakesUp::Left || (takes_up == TakesUp::Own && is_own);
            if !takes_up || sessions::claim(self, record).await.map_err(|_| Problem::Unavailable)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The states of the sessions that other servers carry, by session, as far as they are reached in time.
    pub(crate) async fn sessions_elsewhere(
        self: &Arc<Self>,
        account: AccountId,
    ) -> Result<Arc<BTreeMap<String, String>>, Problem> {
        if self.fleet().is_none() {
            return Ok(Arc::default());
        }
        let _place = self.forwarding().places.call(Asker::Account(account))?;
        let region = Arc::clone(self);
        // Of all accounts at once: whoever asks is shown its own.
        let asking = async move { Arc::new(region.ask_for_sessions().await) };
        self.forwarding().sessions.ask((), asking).await.ok_or(Problem::Internal)
    }

    async fn ask_for_sessions(&self) -> BTreeMap<String, String> {
        let others = self.fleet().map(|fleet| fleet.others(self.store().node())).unwrap_or_default();
        let asked = others.iter().map(|other| timeout(ASK_TIMEOUT, link::ask(self, other, SESSIONS)));
        let answers = join_all(asked).await.into_iter().filter_map(Result::ok).flatten();
        let read = |answer: Bytes| serde_json::from_slice::<BTreeMap<String, String>>(&answer).ok();
        answers.filter_map(read).flatten().collect()
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

    /// Passes a request on as it came, of an account's principal or of a session of it, and gives the answer as it comes.
    pub(crate) async fn pass_on(
        self: &Arc<Self>,
        other: Other,
        parts: &Parts,
        body: Bytes,
        (peer, account): (&Peer, AccountId),
        asking: Option<Asking>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let Some(asking) = asking else {
            let _place = self.forwarding().places.call(Asker::Account(account))?;
            return match link::send(self, &other, parts, body, (peer, Some(account))).await {
                Ok(Answered::Whole(response)) => Ok(response),
                Ok(Answered::Switched(..)) => Err(Problem::Internal),
                Err(error) => Err(missed(&other, &error)),
            };
        };
        let (region, parts, peer) = (Arc::clone(self), copy_of(parts), peer.clone());
        let (tell, told) = oneshot::channel();
        // It has its place until both ends have gone.
        tokio::spawn(async move {
            let Some(_place) = region.forwarding().places.socket(&asking) else {
                return drop(tell.send(Err(Problem::Throttled)));
            };
            // Of who has not signed nobody knows that the session is theirs.
            let whose = asking.is_signed.then_some(asking.account);
            match link::send(&region, &other, &parts, body, (&peer, whose)).await {
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

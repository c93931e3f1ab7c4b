//! Requests that another server of the fleet answers, and those that it has passed on to this one: see [`crate::forwarding`].

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use inborn_credential::Caller;
use inborn_identity::AccountId;
use inborn_store::Session as Record;
use inborn_wire::error::Problem;
use inborn_wire::json::Object;

use super::{Exchange, Handshake, RequestOrigin, trace};
use crate::forwarding::{Asker, Asking, NotAuthentic, Other, TakesUp};
use crate::metrics::CallLabels;
use crate::operation::{Input, Reply};
use crate::{Machines, Operation, RegionServer};

/// What became of a call that was not refused.
pub(super) enum Done {
    /// It was done here.
    Here(Reply),
    /// Another server has answered it, and recorded that.
    Elsewhere(Response<Full<Bytes>>),
}

/// How a request has come.
pub(super) enum Arrival {
    /// From there; and of which region's server, if another one has passed it on.
    From(RequestOrigin, Option<Arc<RegionServer>>),
    /// It is a question of another server, or says so of itself and is none: this is the answer.
    Own(Response<Full<Bytes>>),
}

/// Whether a call is about one machine that is not known here.
fn names_an_unknown(machines: &Machines, members: &Object) -> bool {
    let named = ["Target", "InstanceId"].into_iter().filter_map(|name| members.text(name).ok().flatten());
    named.filter_map(|id| id.parse().ok()).any(|id| !machines.contains(id))
}

impl RegionServer {
    /// Where a request comes from, as far as that can be believed.
    pub(super) fn arrival(&self, parts: &mut Parts, origin: RequestOrigin) -> Arrival {
        match self.take_forwarded(parts) {
            Ok(None) => Arrival::From(origin, None),
            Ok(Some((region, peer))) => match region.answer_other(parts.uri.path()) {
                Some(answer) => Arrival::Own(answer),
                None => Arrival::From(RequestOrigin { peer, machine: None }, Some(region)),
            },
            Err(NotAuthentic) => Arrival::Own(self.not_believed(&origin)),
        }
    }

    /// What is answered to who says that it has passed a request on, and has not, or none for this region.
    pub(super) fn not_believed(&self, origin: &RequestOrigin) -> Response<Full<Bytes>> {
        if self.forwarding().unbelieved.is_due() {
            tracing::warn!(source = %origin.peer.address, "a request that says it was passed on by another server is not believed: if it was, look at that one's clock and epoch.key");
        }
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
        response
    }

    /// The answer of the other server whose call this is, if it is another one's: of a caller who may ask for it.
    pub(super) async fn pass_if_elsewhere(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
        operation: &Operation,
        caller: &Caller,
        input: &Input,
        body: Bytes,
    ) -> Result<Option<Response<Full<Bytes>>>, Problem> {
        let Input::Json(members) = input else { return Ok(None) };
        if self.fleet().is_none() {
            return Ok(None);
        }
        // Whatever is said of a machine, also which server has its agent: it may have been launched at another one a moment ago.
        self.hear_of_missing(|| names_an_unknown(self.machines(), members)).await?;
        let account = caller.principal.account();
        let is_own = |record: &Record| match caller.principal.instance() {
            Some(own) => record.instance == own,
            None => record.account == account,
        };
        let text = |name: &str| members.text(name).ok().flatten().unwrap_or_default();
        let (session, asker) = (text("SessionId"), Asker::Account(account));
        if exchange.is_forwarded {
            // By the store's word it is this server's.
            if operation.name == "ResumeSession" || operation.name == "CreateDataChannel" {
                self.who_carries(session, (asker, TakesUp::Own), is_own).await?;
            }
            return Ok(None);
        }
        let other = match (exchange.service.map_or("", |service| service.name), operation.name) {
            ("ssm", "StartSession" | "GetConnectionStatus") => {
                let runs =
                    |id: &_| self.machines().packed(*id).is_some_and(|it| it.account() == account && it.is_running());
                match text("Target").parse().ok().filter(runs) {
                    Some(machine) => self.who_has_agent(account, machine).await?,
                    None => None,
                }
            }
            ("ssm", "ResumeSession") | ("ssmmessages", "CreateDataChannel") => {
                self.who_carries(session, (asker, TakesUp::Left), is_own).await?.map(|(other, _)| other)
            }
            ("ssmmessages", "OpenDataChannel") => {
                let carrier = self.who_carries(session, (asker, TakesUp::Nothing), is_own).await?;
                let Some(carrier) = carrier else { return Ok(None) };
                return self.pass_socket(exchange, carrier, session, true).await;
            }
            _ => None,
        };
        let Some(other) = other else { return Ok(None) };
        self.pass_on(other, exchange.parts, body, (&exchange.origin.peer, account), None).await.map(Some)
    }

    /// The same for a data channel that is opened without a signature. It is known who asks once the other server has heard the token.
    pub(super) async fn pass_unsigned(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
    ) -> Result<Option<Response<Full<Bytes>>>, Problem> {
        let session = exchange.target.path.rsplit('/').next().unwrap_or_default();
        if exchange.is_forwarded || Handshake::of(exchange.parts).is_none() {
            return Ok(None);
        }
        let asker = Asker::Source(exchange.origin.into());
        let carrier = self.who_carries(session, (asker, TakesUp::Nothing), |_| true).await?;
        let Some(carrier) = carrier else { return Ok(None) };
        self.pass_socket(exchange, carrier, session, false).await
    }

    async fn pass_socket(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
        (other, account): (Other, AccountId),
        session: &str,
        is_signed: bool,
    ) -> Result<Option<Response<Full<Bytes>>>, Problem> {
        let Some(client) = exchange.parts.extensions.get::<OnUpgrade>().cloned() else { return Ok(None) };
        let asking = Asking { session: session.to_owned(), account, is_signed, client };
        self.pass_on(other, exchange.parts, Bytes::new(), (&exchange.origin.peer, account), Some(asking))
            .await
            .map(Some)
    }

    /// Counts a call that another server has answered.
    pub(super) fn passed_on(&self, exchange: &Exchange<'_>, response: &Response<Full<Bytes>>) {
        let labels = CallLabels {
            service: exchange.service.map_or("other", |service| service.name),
            action: exchange.operation.map_or("other", |operation| operation.name),
            result: "passed on",
            reason: "",
        };
        self.metrics.calls.get_or_create(&labels).inc();
        trace::end(&exchange.span, &labels, response.status().as_u16(), exchange.caller.as_ref());
        tracing::debug!(request_id = %exchange.request_id, action = labels.action, "a call was passed on");
    }
}

//! What is answered to launches that are out of the ordinary, found out by reading for all of them at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::try_join4;
use inborn_identity::AccountId;
use inborn_store::{Attachment, Conflict, Instance, LaunchOutcome, LaunchRequest};

use super::{Hosts, named};
use crate::fault::Outcome;
use crate::hosts::FoundHost;
use crate::instances::{self, INSTANCE};
use crate::schema;
use crate::transaction::Session;
use crate::value::{Row, Value, columns};

/// Which of some pairs were tokens of a launch.
const TOKENS: &str = "SELECT launches.account, launches.client_token, launches.fingerprint, launches.reservation_id FROM launches \
    JOIN UNNEST(CAST($1 AS TEXT[]), CAST($2 AS TEXT[])) AS asked (account, client_token) \
    ON launches.account = asked.account AND launches.client_token = asked.client_token";

/// Which of some attachments are taken, and by whom.
const ATTACHMENTS: &str = "SELECT instances.id, instances.host_id, instances.attachment_kind, instances.attachment_value FROM instances \
    JOIN UNNEST(CAST($1 AS TEXT[]), CAST($2 AS TEXT[]), CAST($3 AS TEXT[])) AS asked (host_id, kind, place) \
    ON instances.host_id = asked.host_id AND instances.attachment_kind = asked.kind \
    AND instances.attachment_value = asked.place";

/// Launches, and what the database said of its last restore when it was opened.
pub(super) struct Asked {
    pub(super) requests: Vec<Arc<LaunchRequest>>,
    pub(super) filled: i64,
}

/// What a launch is answered without being tried; `None`: nothing was found against it.
pub(super) type Answer = Option<Result<LaunchOutcome, Conflict>>;

/// A token, and whose.
type Token = (AccountId, String);
/// A launch's digest and reservation.
type Earlier = ([u8; 32], String);
/// A host, a kind and a place, as they are in the row.
type Place = (String, String, String);

/// What there is of one moment against launches, in the order of [`instances::launch`].
struct Found {
    tokens: HashMap<Token, Earlier>,
    replayed: HashMap<(AccountId, String), Vec<Instance>>,
    hosts: Vec<FoundHost>,
    ids: HashSet<String>,
    places: HashSet<Place>,
}

/// Answers launches, in their order.
pub(super) async fn read(session: &Session<'_>, asked: &Asked) -> Outcome<Vec<Answer>> {
    schema::must_be_as_opened(session, asked.filled).await?;
    let found = find(session, &asked.requests).await?;
    Ok(asked.requests.iter().map(|request| found.answer(request)).collect())
}

async fn find(session: &Session<'_>, requests: &[Arc<LaunchRequest>]) -> Outcome<Found> {
    let (tokens, hosts, ids, places) = try_join4(
        tokens(session, requests),
        hosts(session, requests),
        ids(session, requests),
        places(session, requests),
    )
    .await?;
    let mut reservations: HashMap<AccountId, Vec<&str>> = HashMap::new();
    for request in requests {
        if let Some((fingerprint, reservation)) = token(request).and_then(|token| tokens.get(&token))
            && *fingerprint == request.fingerprint
        {
            reservations.entry(request.account).or_default().push(reservation);
        }
    }
    let mut replayed: HashMap<_, Vec<Instance>> = HashMap::new();
    for (account, reservations) in reservations {
        for instance in instances::reserved(session, Value::shown(account), Value::all(reservations)).await? {
            replayed.entry((account, instance.reservation_id.clone())).or_default().push(instance);
        }
    }
    Ok(Found { tokens, replayed, hosts, ids, places })
}

impl Found {
    fn answer(&self, request: &LaunchRequest) -> Answer {
        if let Some((fingerprint, reservation)) = token(request).and_then(|token| self.tokens.get(&token)) {
            if *fingerprint != request.fingerprint {
                return Some(Ok(LaunchOutcome::Mismatch));
            }
            let replayed = self.replayed.get(&(request.account, reservation.clone()));
            return Some(Ok(LaunchOutcome::Replayed(replayed.cloned().unwrap_or_default())));
        }
        let takes = |id| self.hosts.iter().any(|found| found.host.id == id && found.host.takes(request.account));
        let named: Hosts = named(request).collect();
        if let Some(refused) = named.into_iter().find(|id| !takes(*id)) {
            return Some(Err(Conflict::HostRefused(refused)));
        }
        if request.instances.iter().any(|instance| self.ids.contains(&instance.id.to_string())) {
            return Some(Err(Conflict::Exists(INSTANCE)));
        }
        let is_taken = |instance| place(instance).is_some_and(|place| self.places.contains(&place));
        request.instances.iter().any(is_taken).then_some(Err(Conflict::AttachmentTaken))
    }
}

fn token(request: &LaunchRequest) -> Option<Token> {
    Some((request.account, request.client_token.clone()?))
}

async fn tokens(session: &Session<'_>, requests: &[Arc<LaunchRequest>]) -> Outcome<HashMap<Token, Earlier>> {
    let asked = requests.iter().filter_map(|request| token(request));
    let asked = columns(asked.map(|(account, token)| vec![Value::shown(account), token.into()]))?;
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = session.rows(TOKENS, &asked).await?;
    let read = rows.iter().map(|row| {
        let token = (row.parsed("account")?, row.text("client_token")?);
        Ok((token, (instances::fingerprint(row)?, row.text("reservation_id")?)))
    });
    read.collect()
}

async fn hosts(session: &Session<'_>, requests: &[Arc<LaunchRequest>]) -> Outcome<Vec<FoundHost>> {
    let ids: Hosts = requests.iter().flat_map(|request| named(request)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    session.rows(FoundHost::SELECT, &[Value::all(ids)]).await?.iter().map(FoundHost::read).collect()
}

async fn ids(session: &Session<'_>, requests: &[Arc<LaunchRequest>]) -> Outcome<HashSet<String>> {
    let asked = Value::all(requests.iter().flat_map(|request| &request.instances).map(|instance| instance.id));
    let rows = session.rows("SELECT id FROM instances WHERE id = ANY($1)", &[asked]).await?;
    rows.iter().map(|row| row.text("id")).collect()
}

/// Where an instance is attached, as it is in the row.
fn place(instance: &Instance) -> Option<Place> {
    let (kind, value) = instance.attachment.as_ref().map(Attachment::to_columns)?;
    Some((instance.host.map(|host| host.to_string()).unwrap_or_default(), kind.to_owned(), value))
}

/// Whether another instance than those of a launch has the place of one of them.
pub(crate) async fn is_taken_by_another(session: &Session<'_>, request: &LaunchRequest) -> Outcome<bool> {
    let own: HashSet<String> = request.instances.iter().map(|instance| instance.id.to_string()).collect();
    let holders = holders(session, &request.instances).await?;
    let ids: Vec<String> = holders.iter().map(|row| row.text("id")).collect::<Outcome<_>>()?;
    Ok(ids.iter().any(|id| !own.contains(id)))
}

/// The rows of [`ATTACHMENTS`] for some instances.
async fn holders(session: &Session<'_>, instances: impl IntoIterator<Item = &Instance>) -> Outcome<Vec<Row>> {
    let asked = instances.into_iter().filter_map(place);
    let asked = columns(asked.map(|(host, kind, place)| vec![host.into(), kind.into(), place.into()]))?;
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    session.rows(ATTACHMENTS, &asked).await
}

async fn places(session: &Session<'_>, requests: &[Arc<LaunchRequest>]) -> Outcome<HashSet<Place>> {
    let rows = holders(session, requests.iter().flat_map(|request| &request.instances)).await?;
    rows.iter()
        .map(|row| Ok((row.text("host_id")?, row.text("attachment_kind")?, row.text("attachment_value")?)))
        .collect()
}

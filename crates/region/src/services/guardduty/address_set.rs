//! Sets of addresses: those that are trusted, and those that threaten. They are set up, shown and changed alike.

use std::collections::BTreeMap;

use inborn_store::PartKind;
use inborn_wire::error::Problem;
use serde_json::{Value, json};

use super::page::Page;
use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::guardduty::settings::AddressSet;
use crate::guardduty::{ReadSet, SetChange};
use crate::operation::{JsonCall, Reply};

/// The only format that is read: an entry a line.
const FORMAT: &str = "TXT";
/// Most sets of trusted addresses, and of threats. Source: user guide, "Quotas".
const IP_SETS_MAX: usize = 1;
/// See [`IP_SETS_MAX`].
const THREAT_SETS_MAX: usize = 6;

/// One of the two kinds: how it is named.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) part: PartKind,
    /// The member that has an id.
    pub(super) id: &'static str,
    /// The member that has ids.
    pub(super) ids: &'static str,
}

pub(super) const IP_SET: Kind = Kind { part: PartKind::IpSet, id: "ipSetId", ids: "ipSetIds" };
pub(super) const THREAT_INTEL_SET: Kind =
    Kind { part: PartKind::ThreatIntelSet, id: "threatIntelSetId", ids: "threatIntelSetIds" };

pub(super) async fn create(call: JsonCall<'_>, kind: Kind) -> Result<Reply, Problem> {
    let known = [DETECTOR, "name", "format", "location", "activate", "clientToken", "tags", "expectedBucketOwner"];
    let input = Input::of(&call, &known)?;
    let watched = request::detector(&call, &input)?;
    let set = AddressSet {
        name: input.name("name", 1..=300)?.to_owned(),
        format: match input.name("format", 1..=300)? {
            FORMAT => FORMAT.to_owned(),
            _ => return Err(refusal::invalid("format")),
        },
        location: input.name("location", 1..=300)?.to_owned(),
        is_active: input.boolean("activate")?.ok_or_else(|| refusal::missing("activate"))?,
        bucket_owner: bucket_owner(&input)?,
        tags: input.tags()?.unwrap_or_default(),
        client_token: input.client_token()?,
    };
    let change = |_: Option<&AddressSet>, all: &BTreeMap<String, ReadSet>| {
        let is_same = |read: &ReadSet| set.client_token.is_some() && read.set.client_token == set.client_token;
        // The answer to the same request may have been lost.
        if let Some((id, _)) = all.iter().find(|(_, read)| is_same(read)) {
            return Ok(SetChange::Done(id.clone()));
        }
        let (what, most) = match kind.part {
            PartKind::IpSet => ("IP sets", IP_SETS_MAX),
            _ => ("threat intel sets", THREAT_SETS_MAX),
        };
        if all.len() >= most {
            return Err(refusal::too_many(what, most));
        }
        if all.values().any(|read| read.set.name == set.name) {
            return Err(refusal::rejected("because a set with this name already exists"));
        }
        Ok(SetChange::To(set.clone()))
    };
    let put = call.region.guardduty().put_set((watched.account, &watched.id, kind.part), None, change).await;
    let id = put.map_err(refusal::of_change)?;
    Ok(request::answer(&call, &json!({kind.id: id})))
}

pub(super) fn get(call: &JsonCall<'_>, kind: Kind) -> Result<Reply, Problem> {
    let input = Input::of(call, &[DETECTOR, kind.id])?;
    let watched = request::detector(call, &input)?;
    let read = watched.sets(kind.part).get(input.name(kind.id, 1..=300)?).ok_or_else(refusal::not_found)?;
    let status = match (read.set.is_active, &read.entries) {
        (false, _) => "INACTIVE",
        (true, Some(_)) => "ACTIVE",
        (true, None) => "ERROR",
    };
    let AddressSet { name, format, location, bucket_owner, tags, .. } = &read.set;
    let mut output = json!({"name": name, "format": format, "location": location, "status": status, "tags": tags});
    if let (Some(owner), Some(members)) = (bucket_owner, output.as_object_mut()) {
        members.insert("expectedBucketOwner".to_owned(), Value::from(owner.as_str()));
    }
    Ok(request::answer(call, &output))
}

pub(super) fn list(call: &JsonCall<'_>, kind: Kind) -> Result<Reply, Problem> {
    let input = Input::of(call, &[DETECTOR, "maxResults", "nextToken"])?;
    let watched = request::detector(call, &input)?;
    let (ids, next) = Page::read(&input, &[kind.ids, &watched.id])?.of_names(watched.sets(kind.part).keys());
    Ok(request::answer(call, &json!({kind.ids: ids, "nextToken": next})))
}

/// Changes a set. Its file is read again, if it is active.
pub(super) async fn update(call: JsonCall<'_>, kind: Kind) -> Result<Reply, Problem> {
    let known = [DETECTOR, kind.id, "name", "location", "activate", "expectedBucketOwner"];
    let input = Input::of(&call, &known)?;
    let watched = request::detector(&call, &input)?;
    let id = input.name(kind.id, 1..=300)?;
    let change = |before: Option<&AddressSet>, _: &BTreeMap<String, ReadSet>| {
        let mut set = before.ok_or_else(refusal::not_found)?.clone();
        for (member, own) in [("name", &mut set.name), ("location", &mut set.location)] {
            if input.has(member) {
                input.name(member, 1..=300)?.clone_into(own);
            }
        }
        set.is_active = input.boolean("activate")?.unwrap_or(set.is_active);
        set.bucket_owner = bucket_owner(&input)?.or(set.bucket_owner);
        Ok(SetChange::To(set))
    };
    let put = call.region.guardduty().put_set((watched.account, &watched.id, kind.part), Some(id), change).await;
    put.map_err(refusal::of_change)?;
    Ok(request::done(&call))
}

fn bucket_owner(input: &Input) -> Result<Option<String>, Problem> {
    const NAME: &str = "expectedBucketOwner";
    let owner = input.text(NAME)?;
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if owner.is_none_or(is_account) { Ok(owner.map(str::to_owned)) } else { Err(refusal::invalid(NAME)) }
}

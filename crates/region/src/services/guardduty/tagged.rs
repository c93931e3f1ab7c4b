//! What has tags: a detector, or a filter or set of it, named by its ARN.

use inborn_wire::error::Problem;

use super::refusal;
use super::request::{self, Input};
use crate::guardduty::criteria::Criteria;
use crate::guardduty::settings::Tags;
use crate::guardduty::{SetChange, Watched};
use crate::operation::JsonCall;
use inborn_store::PartKind;
use std::sync::Arc;

/// The member with the ARN.
pub(super) const ARN: &str = "resourceArn";

/// Something with tags.
pub(super) struct Tagged {
    watched: Arc<Watched>,
    /// `None`: the detector itself.
    part: Option<(PartKind, String)>,
}

impl Tagged {
    /// What a call names.
    pub(super) fn of(call: &JsonCall<'_>, input: &Input) -> Result<Self, Problem> {
        let identity = call.region.identity();
        let account = request::account(call);
        let arn = input.name(ARN, 1..=1024)?;
        let front = format!("arn:{}:guardduty:{}:{account}:detector/", identity.partition.id(), identity.region);
        let rest = arn.strip_prefix(&front).ok_or_else(|| refusal::invalid(ARN))?;
        let mut names = rest.split('/');
        let id = names.next().unwrap_or_default();
        let watched = call.region.guardduty().get(account, id).ok_or_else(refusal::not_owned)?;
        let part = match (names.next(), names.next(), names.next()) {
            (None, None, None) => None,
            (Some("filter"), Some(name), None) => Some((PartKind::Filter, name.to_owned())),
            (Some("ipset"), Some(id), None) => Some((PartKind::IpSet, id.to_owned())),
            (Some("threatintelset"), Some(id), None) => Some((PartKind::ThreatIntelSet, id.to_owned())),
            _ => return Err(refusal::invalid(ARN)),
        };
        let tagged = Self { watched, part };
        tagged.tags().map(drop).ok_or_else(refusal::not_found)?;
        Ok(tagged)
    }

    /// Its tags; `None` if it is not there.
    pub(super) fn tags(&self) -> Option<&Tags> {
        match &self.part {
            None => Some(&self.watched.settings.tags),
            Some((PartKind::Filter, name)) => self.watched.filters.get(name).map(|(filter, _)| &filter.tags),
            Some((kind, id)) => self.watched.sets(*kind).get(id).map(|read| &read.set.tags),
        }
    }

    /// Changes its tags.
    pub(super) async fn change(&self, call: &JsonCall<'_>, change: impl Fn(&mut Tags)) -> Result<(), Problem> {
        let (guardduty, account, detector) = (call.region.guardduty(), self.watched.account, self.watched.id.as_str());
        let change = |tags: &mut Tags| {
            change(tags);
            if request::are_tags(tags) { Ok(()) } else { Err(refusal::invalid("tags")) }
        };
        let changed = match &self.part {
            None => guardduty.change(account, detector, call.now, |settings| change(&mut settings.tags)).await,
            Some((PartKind::Filter, name)) => {
                let put = guardduty.put_filter(account, detector, name, |before, _| {
                    let mut filter = before.ok_or_else(refusal::not_found)?.clone();
                    change(&mut filter.tags)?;
                    let criteria =
                        Criteria::parse(&filter.criteria).map_err(|_| refusal::invalid("findingCriteria"))?;
                    Ok((filter, criteria))
                });
                put.await
            }
            Some((kind, id)) => {
                let put = guardduty.put_set((account, detector, *kind), Some(id), |before, _| {
                    let mut set = before.ok_or_else(refusal::not_found)?.clone();
                    change(&mut set.tags)?;
                    Ok(SetChange::To(set))
                });
                put.await.map(drop)
            }
        };
        changed.map_err(refusal::of_change)
    }
}

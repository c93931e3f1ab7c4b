//! Findings, as requests name and order them.

use inborn_wire::error::Problem;
use serde_json::Value;

use super::page::SortKey;
use super::refusal;
use super::request::Input;
use crate::guardduty::criteria;

/// Most findings that a request names. Source: botocore's model, `FindingIds`.
pub(super) const IDS_MAX: usize = 50;
/// The member that names findings.
pub(super) const IDS: &str = "findingIds";
/// The member that says in which order.
pub(super) const SORT: &str = "sortCriteria";

/// In which order findings are listed.
pub(super) struct Order {
    pub(super) place: String,
    pub(super) descends: bool,
}

impl Order {
    /// What `sortCriteria` says; the latest first if it says nothing.
    pub(super) fn read(input: &Input) -> Result<Self, Problem> {
        let latest_first = || Self { place: "updatedAt".to_owned(), descends: true };
        let Some(sort) = input.object(SORT, &["attributeName", "orderBy"])? else { return Ok(latest_first()) };
        let descends = sort.one_of("orderBy", &["ASC", "DESC"])? == Some("DESC");
        match sort.text("attributeName")? {
            Some(place) if criteria::is_place(place) => Ok(Self { place: place.to_owned(), descends }),
            Some(_) => Err(refusal::invalid(SORT)),
            None => Ok(Self { descends, ..latest_first() }),
        }
    }

    pub(super) fn key(&self, finding: &Value) -> SortKey {
        SortKey::of(&criteria::at(finding, &self.place))
    }
}

/// The ids that a request names: each once.
pub(super) fn ids(input: &Input) -> Result<Vec<String>, Problem> {
    let ids = input.texts(IDS, IDS_MAX)?.ok_or_else(|| refusal::missing(IDS))?;
    let mut named: Vec<String> = Vec::with_capacity(ids.len());
    for id in ids {
        if !(1..=300).contains(&id.chars().count()) {
            return Err(refusal::invalid(IDS));
        }
        if !named.iter().any(|known| known == id) {
            named.push(id.to_owned());
        }
    }
    Ok(named)
}

/// A text of a finding.
pub(super) fn text<'a>(finding: &'a Value, name: &str) -> &'a str {
    finding.get(name).and_then(Value::as_str).unwrap_or_default()
}

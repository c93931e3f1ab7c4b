//! Filters, as requests set them up.

use inborn_wire::error::Problem;

use super::refusal;
use super::request::Input;
use crate::guardduty::criteria::Criteria;
use crate::guardduty::settings::Filter;

/// Most filters of a detector. Source: user guide, "Quotas": one hundred.
pub(super) const FILTERS_MAX: usize = 100;
/// Longest description, in characters. Source: botocore's model, `FilterDescription`.
const DESCRIPTION_MAX: usize = 512;
const ARCHIVE: &str = "ARCHIVE";
const NOOP: &str = "NOOP";

/// The name of a filter. Source: API reference, `CreateFilter`: letters, digits, `_`, `-`, `.`; 3 to 64.
pub(super) fn name<'a>(input: &'a Input, member: &str) -> Result<&'a str, Problem> {
    let name = input.name(member, 3..=64)?;
    let is_good = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if is_good { Ok(name) } else { Err(refusal::invalid(member)) }
}

/// What an action is called.
pub(super) const fn action(filter: &Filter) -> &'static str {
    if filter.archives { ARCHIVE } else { NOOP }
}

/// Sets what a request says of a filter; gives what its criteria mean.
pub(super) fn set(filter: &mut Filter, input: &Input) -> Result<Criteria, Problem> {
    if let Some(text) = input.text("description")? {
        if text.chars().count() > DESCRIPTION_MAX {
            return Err(refusal::invalid("description"));
        }
        text.clone_into(&mut filter.description);
    }
    if let Some(action) = input.one_of("action", &[NOOP, ARCHIVE])? {
        filter.archives = action == ARCHIVE;
    }
    if let Some(rank) = input.number("rank", 1..=100)? {
        filter.rank = rank;
    }
    if let Some((given, _)) = input.criteria()? {
        filter.criteria = given;
    }
    let criteria = Criteria::parse(&filter.criteria).map_err(|_| refusal::invalid("findingCriteria"))?;
    // It would be met by everything, and an ARCHIVE of everything hides everything.
    if criteria.is_empty() { Err(refusal::invalid("findingCriteria")) } else { Ok(criteria) }
}

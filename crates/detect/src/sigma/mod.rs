//! Rules in Sigma, compiled by rsigma.
//!
//! Rules are sorted by `logsource` when they are read: an event is compared only with those that are about its kind. A rule
//! that is about something that events here do not have (Windows' logs by `service`, web servers) is counted as one that
//! cannot match, which is no error.

mod document;
mod needs;
mod read;

pub use read::Loaded;

use crate::category::{Category, Product};
use crate::event::Event;
use crate::rules::{RuleFacts, Rules};
use needs::Group;
use rsigma_eval::{CompiledRule, evaluate_rule};
use std::sync::Arc;

/// The most rules at once.
pub const RULES_MAX: usize = 5000;

/// The longest file of rules, in bytes.
pub const FILE_BYTES_MAX: usize = 512 * 1024;

/// The most values that one rule compares with.
pub const VALUES_MAX: usize = 5000;

/// The longest regular expression, in bytes. They are linear in time, and what they may need of memory is bounded by `regex`.
pub const REGEX_BYTES_MAX: usize = 1024;

/// The most regular expressions of all rules.
pub const REGEXES_MAX: usize = 4000;

/// Rules of Sigma.
///
/// Of those that are about an event, the ones are compared whose texts stand in it (`needs.rs`). The engine has an index of exact
/// values, which passes over an event that holds a list where a rule names one value (the answers of DNS): what it saves is not
/// worth a finding.
pub struct SigmaRules {
    /// For each category, what is about it.
    categories: Vec<Group>,
    /// What is about every category.
    everywhere: Group,
    facts: Vec<Arc<RuleFacts>>,
}

/// A rule that can be compared with events.
struct Compiled {
    /// In `facts`.
    number: usize,
    /// The one product that it is about, if it is not about all.
    product: Option<Product>,
    rule: CompiledRule,
}

impl Compiled {
    fn matches(&self, event: &Event<'_>) -> bool {
        self.product.is_none_or(|product| product == event.product()) && evaluate_rule(&self.rule, event).is_some()
    }
}

impl Rules for SigmaRules {
    fn wants(&self, category: Category) -> bool {
        !self.everywhere.is_empty() || self.categories.get(category as usize).is_some_and(|rules| !rules.is_empty())
    }

    fn matches(&self, event: &Event<'_>) -> Vec<Arc<RuleFacts>> {
        let mut found = Vec::new();
        let of = |category: &Category| self.categories.get(*category as usize);
        for group in event.categories().iter().filter_map(of).chain([&self.everywhere]) {
            group.matches(event, &mut found);
        }
        found.sort_unstable();
        found.into_iter().filter_map(|number| self.facts.get(number).cloned()).collect()
    }

    fn len(&self) -> usize {
        self.facts.len()
    }
}

#[cfg(test)]
mod tests;

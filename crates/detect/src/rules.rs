//! Rules, whatever language they are in: an event goes in, what matched comes out.

use crate::category::Category;
use crate::event::Event;
use crate::finding::{FindingType, Severity};
use core::fmt;
use std::sync::Arc;

/// Rules that were read and can be asked. Neutral of the language: nothing behind this knows that it is Sigma.
pub trait Rules: Send + Sync {
    /// Whether some rule is about events of this category. Who has many events asks before parsing one.
    fn wants(&self, category: Category) -> bool;

    /// The rules that an event matches, each once, in the order in which they were read.
    fn matches(&self, event: &Event<'_>) -> Vec<Arc<RuleFacts>>;

    /// How many rules can match at all.
    fn len(&self) -> usize;

    /// Whether there is no rule.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a finding says of the rule that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFacts {
    /// Its `id`, else its title.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its description.
    pub description: String,
    /// The type of its findings.
    pub kind: FindingType,
    /// How bad they are.
    pub severity: Severity,
    /// Where it is written.
    pub place: Place,
}

/// A place in a file of rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as it was given.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A rule that cannot be used, and why. The others can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct RuleError {
    /// Where.
    pub place: Place,
    /// Why.
    pub what: String,
}

/// One file of rules: its name, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFile {
    /// How it is called in errors.
    pub name: Arc<str>,
    /// Its text.
    pub text: String,
}

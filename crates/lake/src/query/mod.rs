//! Questions: which events, in which order, how many.

pub(crate) mod best;
mod filter;
mod follow;
pub(crate) mod scan;
mod tree;

use std::io;

use inborn_identity::{AccountId, InstanceId};
use inborn_telemetry::{ClassUid, Record, Source};

pub use filter::{Filter, FilterError, Test};
pub use follow::{Follow, Followed};

/// The most events of one answer.
pub const QUERY_EVENTS_MAX: usize = 1000;

/// The most JSON of one answer. The first event is given whatever its length.
pub const QUERY_BYTES_MAX: usize = 4 << 20;

/// The most filters of one question, and the longest text of one.
pub const QUERY_FILTERS_MAX: usize = 16;

/// So many files that cannot be read are named in an answer.
pub const UNREADABLE_NAMED_MAX: usize = 16;

/// Which events are wanted. The default wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The earliest `time`, in milliseconds.
    pub since_ms: Option<i64>,
    /// The first `time` that is too late.
    pub until_ms: Option<i64>,
    /// Classes; none is all.
    pub classes: Vec<ClassUid>,
    /// Accounts; none is all.
    pub accounts: Vec<AccountId>,
    /// Machines; none is all.
    pub instances: Vec<InstanceId>,
    /// What attributes must be. All of them must.
    pub filters: Vec<Filter>,
    /// A text that some attribute must contain, whatever its case.
    pub text: Option<Box<str>>,
    /// Which come first.
    pub order: Order,
    /// How many, at most [`QUERY_EVENTS_MAX`]; 0 is as many as that.
    pub limit: usize,
    /// Only what comes after this, in the order.
    pub after: Option<Cursor>,
}

/// Which events come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Those of the latest `time`.
    #[default]
    NewestFirst,
    /// Those of the earliest.
    OldestFirst,
}

/// Where an event stands among all: by time, then by what makes it that event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// `time`.
    pub time_ms: i64,
    /// The machine.
    pub instance: InstanceId,
    /// `metadata.uid`.
    pub uid: Box<str>,
}

/// An event, and who told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The verified caller.
    pub source: Source,
    /// The event.
    pub record: Record,
}

impl Event {
    /// Where it stands.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let (time_ms, uid) = (self.record.time_ms, self.record.uid.clone());
        Cursor { time_ms, instance: self.source.instance, uid }
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The events, in the order that was asked for.
    pub events: Vec<Event>,
    /// Where the next answer goes on, if there are more.
    pub next: Option<Cursor>,
    /// Files of which not everything could be read: what was in them is missing here. The log says why.
    pub unreadable: usize,
    /// The first [`UNREADABLE_NAMED_MAX`] of them, by their paths within the lake.
    pub unreadable_files: Vec<Box<str>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// More filters than are looked at.
    #[error("more than {QUERY_FILTERS_MAX} filters")]
    TooManyFilters,
    /// The disk does not do what it is asked for.
    #[error("telemetry cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl Query {
    /// The first and last time that are wanted; the last may be before the first.
    pub(crate) fn times(&self) -> (i64, i64) {
        let last = self.until_ms.map_or(i64::MAX, |until| until.saturating_sub(1));
        (self.since_ms.unwrap_or(i64::MIN), last)
    }

    pub(crate) fn wants_source(&self, source: &Source) -> bool {
        let account = self.accounts.is_empty() || self.accounts.contains(&source.account);
        account && (self.instances.is_empty() || self.instances.contains(&source.instance))
    }

    /// Everything that is known of an event without reading its JSON.
    pub(crate) fn wants_head(&self, class: ClassUid, time_ms: i64) -> bool {
        let (first, last) = self.times();
        (first..=last).contains(&time_ms) && (self.classes.is_empty() || self.classes.contains(&class))
    }

    /// Whether its JSON has to be read.
    pub(crate) fn looks_inside(&self) -> bool {
        !self.filters.is_empty() || self.text.is_some()
    }

    pub(crate) fn wants_json(&self, event: &serde_json::Value) -> bool {
        self.filters.iter().all(|filter| filter.admits(event))
            && self.text.as_ref().is_none_or(|text| filter::contains(event, &text.to_lowercase()))
    }
}

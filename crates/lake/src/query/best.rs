//! The first events of an order, of all that are offered, in bounded memory.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Cursor, Event, Events, Order, QUERY_BYTES_MAX, QUERY_EVENTS_MAX, Query, UNREADABLE_NAMED_MAX};

/// What is kept so far.
pub(crate) struct Best {
    order: Order,
    limit: usize,
    after: Option<Cursor>,
    events: BTreeMap<Cursor, Event>,
    bytes: usize,
    /// The first event that had to go: what comes behind it is not taken any more, so that the answer has no holes.
    bound: Option<Cursor>,
}

/// Files of which not everything could be read.
#[derive(Default)]
pub(crate) struct Unreadable {
    pub(crate) count: usize,
    names: Vec<Box<str>>,
}

impl Unreadable {
    pub(crate) fn add(&mut self, lake: &Path, file: &Path) {
        self.count += 1;
        if self.names.len() < UNREADABLE_NAMED_MAX {
            self.names.push(file.strip_prefix(lake).unwrap_or(file).to_string_lossy().into());
        }
    }
}

impl Best {
    pub(crate) fn new(query: &Query) -> Self {
        let limit = if query.limit == 0 { QUERY_EVENTS_MAX } else { query.limit.min(QUERY_EVENTS_MAX) };
        let (order, after) = (query.order, query.after.clone());
        Self { order, limit, after, events: BTreeMap::new(), bytes: 0, bound: None }
    }

    /// Whether an event that stands here could be part of the answer.
    pub(crate) fn admits(&self, cursor: &Cursor) -> bool {
        let behind = self.after.as_ref().is_none_or(|after| self.before(after, cursor));
        behind && self.bound.as_ref().is_none_or(|bound| self.before(cursor, bound))
    }

    /// Whether any event of these times could.
    pub(crate) fn admits_times(&self, first_ms: i64, last_ms: i64) -> bool {
        let behind = |after: &Cursor| match self.order {
            Order::NewestFirst => first_ms <= after.time_ms,
            Order::OldestFirst => last_ms >= after.time_ms,
        };
        let within = |bound: &Cursor| match self.order {
            Order::NewestFirst => last_ms >= bound.time_ms,
            Order::OldestFirst => first_ms <= bound.time_ms,
        };
        self.after.as_ref().is_none_or(behind) && self.bound.as_ref().is_none_or(within)
    }

    /// Takes an event, if it is among the first.
    pub(crate) fn offer(&mut self, event: Event) {
        let cursor = event.cursor();
        if !self.admits(&cursor) {
            return;
        }
        self.bytes += event.record.json.len();
        if let Some(same) = self.events.insert(cursor, event) {
            self.bytes -= same.record.json.len();
        }
        while self.events.len() > self.limit || (self.bytes > QUERY_BYTES_MAX && self.events.len() > 1) {
            let last = match self.order {
                Order::NewestFirst => self.events.pop_first(),
                Order::OldestFirst => self.events.pop_last(),
            };
            let Some((cursor, event)) = last else { break };
            self.bytes -= event.record.json.len();
            self.bound = Some(cursor);
        }
    }

    /// The answer.
    pub(crate) fn finish(self, unreadable: Unreadable) -> Events {
        let events: Vec<Event> = match self.order {
            Order::NewestFirst => self.events.into_values().rev().collect(),
            Order::OldestFirst => self.events.into_values().collect(),
        };
        let next = if self.bound.is_some() { events.last().map(Event::cursor) } else { None };
        Events { events, next, unreadable: unreadable.count, unreadable_files: unreadable.names }
    }

    fn before(&self, one: &Cursor, other: &Cursor) -> bool {
        match self.order {
            Order::NewestFirst => one > other,
            Order::OldestFirst => one < other,
        }
    }
}

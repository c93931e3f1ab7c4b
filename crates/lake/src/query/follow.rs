//! Events as they come.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::scan::matches;
use super::{Event, QUERY_BYTES_MAX, QUERY_EVENTS_MAX, Query, QueryError};
use crate::log::frame::Step;
use crate::log::payload::Decoder;
use crate::log::segment::{HEADER_BYTES, Segment};
use crate::shelf::Shelf;

/// Reads the log behind whoever writes it. It holds no events: whoever is slow reads later, and what became Parquet
/// meanwhile is missed, and said.
pub struct Follow {
    shelf: Arc<Shelf>,
    query: Query,
    appended: watch::Receiver<()>,
    /// The first segment to which this process may write.
    live_from: u64,
    /// The segment that is read, and up to where.
    at: Option<(Arc<Segment>, u64)>,
    /// Events of the frame that was read last, which did not fit into the answer before.
    rest: std::collections::VecDeque<Event>,
}

/// What came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The events, in the order in which they came.
    pub events: Vec<Event>,
    /// Some came and went unseen: ask for them by a query.
    pub missed: bool,
}

impl Follow {
    /// From what is appended now on.
    pub(crate) fn new(shelf: &Arc<Shelf>, live_from: u64, query: Query) -> Result<Self, QueryError> {
        if query.filters.len() > super::QUERY_FILTERS_MAX {
            return Err(QueryError::TooManyFilters);
        }
        let mut appended = shelf.subscribe();
        appended.mark_unchanged();
        let at = shelf.snapshot().segments.into_iter().next_back().map(|segment| {
            let end = segment.end();
            (segment, end)
        });
        Ok(Self { shelf: Arc::clone(shelf), live_from, query, appended, at, rest: std::collections::VecDeque::new() })
    }

    /// Waits until something is appended. `false`: the lake is gone, and nothing more will be. Then [`Follow::read`].
    pub async fn wait(&mut self) -> bool {
        !self.rest.is_empty() || self.appended.changed().await.is_ok()
    }

    /// What came since the last time, as much as an answer may have; the next call goes on. Reads files: not for a thread
    /// that must not wait.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read(&mut self) -> Result<Followed, QueryError> {
        self.appended.borrow_and_update();
        let mut followed = Followed::default();
        let mut bytes = 0;
        let mut decoder = Decoder::new()?;
        loop {
            while let Some(event) = self.rest.pop_front() {
                let length = event.record.json.len();
                let full = followed.events.len() >= QUERY_EVENTS_MAX || bytes + length > QUERY_BYTES_MAX;
                if full && !followed.events.is_empty() {
                    self.rest.push_front(event);
                    return Ok(followed);
                }
                bytes += length;
                followed.events.push(event);
            }
            if !self.next_frame(&mut decoder, &mut followed.missed)? {
                return Ok(followed);
            }
        }
    }

    /// Reads one frame. `false`: there is none.
    fn next_frame(&mut self, decoder: &mut Decoder, missed: &mut bool) -> io::Result<bool> {
        loop {
            if let Some((segment, position)) = &mut self.at {
                let mut frames = segment.frames(*position);
                let (first, last) = self.query.times();
                let step = frames.next(|head| head.first_ms <= last && head.last_ms >= first)?;
                *position = frames.position();
                match step {
                    Some(Step::Frame { head, .. }) => {
                        let batch =
                            if frames.payload().is_empty() { None } else { decoder.decode(frames.payload(), head.raw) };
                        let Some(batch) = batch.filter(|batch| self.query.wants_source(&batch.source)) else {
                            continue;
                        };
                        let wanted = batch.records.into_iter().filter(|record| matches(&self.query, record));
                        self.rest.extend(wanted.map(|record| Event { source: batch.source.clone(), record }));
                        return Ok(true);
                    }
                    Some(Step::Damage { .. }) => continue,
                    None => {}
                }
            }
            if !self.next_segment(missed) {
                return Ok(false);
            }
        }
    }

    /// Goes on to the next segment, if there is one.
    fn next_segment(&mut self, missed: &mut bool) -> bool {
        let segments = self.shelf.snapshot().segments;
        let current = self.at.as_ref().map(|(segment, _)| segment.number);
        let Some(next) = segments.into_iter().find(|segment| current.is_none_or(|current| segment.number > current))
        else {
            return false;
        };
        // A process gives numbers without gaps: one that is not there any more was compacted unread.
        *missed |= current.is_some_and(|current| next.number > self.live_from.max(current + 1));
        self.at = Some((next, HEADER_BYTES));
        true
    }
}

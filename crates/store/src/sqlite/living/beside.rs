//! The tags of instances that are read: those who were launched one after the other have theirs one after the other, too. So
//! most come with their instances, and need not be brought together with them later.

use inborn_identity::InstanceId;
use rusqlite::{Connection, OptionalExtension};

use super::super::fault::{self, Outcome};
use super::{Columns, Range};
use crate::{PackedInstance, PackedTags};

const FROM: &str = "SELECT rowid, instance_id, tag_key, tag_value FROM instance_tags WHERE rowid >= ?1 ORDER BY rowid";
const FIRST_OF: &str = "SELECT min(rowid) FROM instance_tags WHERE instance_id = ?1";

/// Of so many instances is asked where their tags begin, when that is not known.
const SOUGHT_MAX: usize = 16;
/// So many instances further is looked for the one that has a tag.
const AHEAD_MAX: usize = 64;
/// After so many in a row that are no instance's here, the rest lies elsewhere.
const STRANGERS_MAX: usize = 64;
/// Fewer tags than this that were taken are read again, rather than that what is around them is read in two.
const WORTH_LEAVING_OUT: i64 = 32;

/// Where tags lie beside the instances that are read now.
#[derive(Default)]
pub(super) struct TagsBeside {
    /// Behind the one that was taken last.
    next: Option<i64>,
    /// Which were taken, in order. Nobody else is between the bounds of one range.
    taken: Vec<Range>,
}

impl TagsBeside {
    /// Gives instances the tags that lie in their order.
    pub(super) fn take(&mut self, connection: &Connection, found: &mut [PackedInstance]) -> Outcome<()> {
        let (start, mut is_next) = match self.next {
            Some(next) => (Some(next), true),
            None => (first_of(connection, found)?, false),
        };
        self.next = None;
        let Some(start) = start else { return Ok(()) };
        let mut statement = connection.prepare_cached(FROM).map_err(fault::from_sqlite)?;
        let mut rows = statement.query((start,)).map_err(fault::from_sqlite)?;
        let (mut of, mut place, mut after, mut strangers) = (String::new(), None, 0, 0);
        let mut tags = PackedTags::new();
        while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
            let mut columns = Columns { row, next: 0 };
            let number = columns.value()?;
            let id = columns.text()?;
            if id != of {
                give(found, place, &mut tags);
                id.clone_into(&mut of);
                // Never the same again: what it was given would be lost.
                place = place_of(found, after, columns.parse(id)?);
                after = place.map_or(after, |place| place + 1);
                strangers = if place.is_some() { 0 } else { strangers + 1 };
                if strangers > STRANGERS_MAX {
                    break;
                }
            }
            if place.is_some() {
                tags.insert(columns.text()?, columns.text()?);
                self.note(number, is_next);
            }
            is_next = place.is_some();
        }
        give(found, place, &mut tags);
        Ok(())
    }

    fn note(&mut self, number: i64, is_next: bool) {
        self.next = Some(number.saturating_add(1));
        match self.taken.last_mut().filter(|_| is_next) {
            Some((_, last)) => *last = number,
            None => self.taken.push((number, number)),
        }
    }

    /// What of `bounds` neither of the two has taken.
    pub(super) fn left_of(&self, other: &Self, (first, last): Range) -> Vec<Range> {
        let is_worth = |(begin, end): &&Range| end - begin >= WORTH_LEAVING_OUT;
        let mut taken: Vec<Range> = self.taken.iter().chain(&other.taken).filter(is_worth).copied().collect();
        taken.sort_unstable();
        let mut left = Vec::new();
        let mut from = first;
        for (begin, end) in taken {
            if begin > from {
                left.push((from, begin - 1));
            }
            from = from.max(end.saturating_add(1));
        }
        if from <= last {
            left.push((from, last));
        }
        left
    }
}

/// Where the tags begin of the first instance that has any.
fn first_of(connection: &Connection, found: &[PackedInstance]) -> Outcome<Option<i64>> {
    let mut statement = connection.prepare_cached(FIRST_OF).map_err(fault::from_sqlite)?;
    for instance in found.iter().take(SOUGHT_MAX) {
        let first = statement.query_row((instance.id().to_string(),), |row| row.get(0)).optional();
        if let Some(first) = first.map_err(fault::from_sqlite)?.flatten() {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

/// Where an instance is, not far behind `from`.
fn place_of(found: &[PackedInstance], from: usize, id: InstanceId) -> Option<usize> {
    let id = id.to_bytes();
    let ahead = found.get(from..)?.iter().take(AHEAD_MAX).position(|instance| *instance.id_bytes() == id)?;
    Some(from + ahead)
}

/// Gives an instance the tags that were gathered for it.
fn give(found: &mut [PackedInstance], place: Option<usize>, tags: &mut PackedTags) {
    if let Some(instance) = place.and_then(|place| found.get_mut(place)) {
        instance.set_tags(tags);
        tags.clear();
    }
}

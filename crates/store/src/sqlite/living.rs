//! All instances at once, for a mirror in memory: each table is read in the order in which it lies in the file, by column
//! number, and what is read is packed where it lies.

mod beside;
mod kinds;

use core::str::FromStr;
use std::sync::Arc;

use inborn_identity::{InstanceId, UnixTime};
use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Connection, Row};
use tokio::sync::mpsc;

use self::beside::TagsBeside;
use self::kinds::KindBefore;
use super::fault::{self, Outcome};
use super::{SqliteStore, instances};
use crate::packed::{Kind, OwnRow};
use crate::{Living, PackedInstance, PackedTags, Packer, StateReason, UserData};

/// In the order in which [`KindBefore::of`] and [`packed`] take them.
const INSTANCES: &str = "SELECT rowid, account, zone, image_id, instance_type, placement_group, placement_partition, \
    http_tokens, http_endpoint, hop_limit, metadata_ipv6, metadata_tags, key_name, public_key, lease, \
    id, private_address, ipv6_address, state, launch_time, boot_time, boot_generation, reason_code, reason_message, \
    ami_launch_index, reservation_id, client_token, host_id, attachment_kind, attachment_value, attachment_mac \
    FROM instances WHERE rowid BETWEEN ?1 AND ?2 AND state <> 'terminated' ORDER BY rowid LIMIT ?3";

const TAGS: &str = "SELECT rowid, instance_id, tag_key, tag_value FROM instance_tags \
    WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid LIMIT ?3";

const USER_DATA: &str = "SELECT rowid, instance_id, user_data FROM instance_user_data \
    WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid LIMIT ?3";

/// Each bound by itself: of both in one question SQLite reads the whole table.
const INSTANCES_BOUNDS: &str = "SELECT (SELECT min(rowid) FROM instances), (SELECT max(rowid) FROM instances)";
const TAGS_BOUNDS: &str = "SELECT (SELECT min(rowid) FROM instance_tags), (SELECT max(rowid) FROM instance_tags)";
const USER_DATA_BOUNDS: &str =
    "SELECT (SELECT min(rowid) FROM instance_user_data), (SELECT max(rowid) FROM instance_user_data)";

/// Rows of a part: what was read of so many is still in a processor's cache when it is put in its place.
const TOGETHER: u32 = 4096;
const _: () = assert!(TOGETHER <= Living::PART_MAX);
/// User data is long: so many are a part.
const USER_DATA_TOGETHER: u32 = 256;

/// Rows from one number to another.
type Range = (i64, i64);
const NOTHING: Range = (1, 0);
/// What is shorter is read in one.
const HALVED_MIN: u64 = 1024;
/// What reads some rows, and gives the number of the last one; `None`: there are no more.
type ReadPart = fn(&Connection, Range) -> Outcome<(Living, Option<i64>)>;

impl SqliteStore {
    /// See [`crate::Store::living`].
    pub(super) async fn send_living(&self, packer: Arc<Packer>, parts: mpsc::Sender<Living>) -> Outcome<()> {
        let Some(instances) = self.bounds_of(INSTANCES_BOUNDS).await? else { return Ok(()) };
        // As many at a time as there are readers, by default.
        let [one, other] = halves(instances);
        let (beside, of_other) =
            tokio::try_join!(self.send_instances(one, &packer, &parts), self.send_instances(other, &packer, &parts))?;
        // What belongs to an instance and did not come with it comes after all instances.
        if let Some(bounds) = self.bounds_of(TAGS_BOUNDS).await? {
            self.send_rows(tags, beside.left_of(&of_other, bounds), &parts).await?;
        }
        if let Some(bounds) = self.bounds_of(USER_DATA_BOUNDS).await? {
            self.send_rows(user_data, vec![bounds], &parts).await?;
        }
        Ok(())
    }

    async fn bounds_of(&self, sql: &'static str) -> Outcome<Option<Range>> {
        self.read(move |connection| bounds(connection, sql)).await
    }

    /// Instances, with the tags that lie as they do.
    async fn send_instances(
        &self,
        (mut from, to): Range,
        packer: &Arc<Packer>,
        parts: &mpsc::Sender<Living>,
    ) -> Outcome<TagsBeside> {
        let (mut tags, mut before, mut is_begun) = (TagsBeside::default(), KindBefore::default(), false);
        while from <= to {
            let packer = Arc::clone(packer);
            // A transaction for each part: others want to read too, and the log must not grow without end.
            let read = move |connection: &Connection| {
                let mut found = Vec::with_capacity(if is_begun { TOGETHER as usize } else { 0 });
                let last = each(connection, INSTANCES, (from, to), TOGETHER, |columns| {
                    let kind = before.of(columns, &packer)?;
                    found.push(packed(columns, kind)?);
                    Ok(())
                })?;
                tags.take(connection, &mut found)?;
                Ok((found, last, tags, before))
            };
            let (found, last, of_tags, of_kind) = self.read(read).await?;
            (tags, before) = (of_tags, of_kind);
            let Some(last) = last else { break };
            let expected = (!is_begun).then(|| expected(found.len(), (from, to), last));
            is_begun = true;
            for part in expected.map(Living::Expected).into_iter().chain([Living::Instances(found)]) {
                if parts.send(part).await.is_err() {
                    return Ok(tags);
                }
            }
            from = last.saturating_add(1);
        }
        Ok(tags)
    }

    /// What belongs to instances.
    async fn send_rows(&self, read: ReadPart, ranges: Vec<Range>, parts: &mpsc::Sender<Living>) -> Outcome<()> {
        let halved =
            |range: Range| if range.1.abs_diff(range.0) < HALVED_MIN { [range, NOTHING] } else { halves(range) };
        let (one, other): (Vec<_>, Vec<_>) = ranges.into_iter().map(halved).map(Into::into).unzip();
        tokio::try_join!(self.send_half(read, one, parts), self.send_half(read, other, parts)).map(drop)
    }

    async fn send_half(&self, read: ReadPart, ranges: Vec<Range>, parts: &mpsc::Sender<Living>) -> Outcome<()> {
        for (mut from, to) in ranges {
            while from <= to {
                let (part, last) = self.read(move |connection| read(connection, (from, to))).await?;
                let Some(last) = last else { break };
                if parts.send(part).await.is_err() {
                    return Ok(());
                }
                from = last.saturating_add(1);
            }
        }
        Ok(())
    }
}

/// How many rows there may be in a range, if they lie everywhere as close as in its beginning.
fn expected(found: usize, (from, to): Range, last: i64) -> usize {
    let (all, seen) = (to.abs_diff(from).saturating_add(1), last.abs_diff(from).saturating_add(1));
    let expected = found as u128 * u128::from(all) / u128::from(seen);
    usize::try_from(expected).unwrap_or(usize::MAX)
}

const fn halves((first, last): Range) -> [Range; 2] {
    let middle = first.midpoint(last);
    [(first, middle), (middle.saturating_add(1), last)]
}

fn bounds(connection: &Connection, sql: &'static str) -> Outcome<Option<Range>> {
    let bounds: (Option<i64>, Option<i64>) = connection
        .prepare_cached(sql)
        .and_then(|mut sql| sql.query_row((), |row| Ok((row.get(0)?, row.get(1)?))))
        .map_err(fault::from_sqlite)?;
    Ok(bounds.0.zip(bounds.1))
}

fn tags(connection: &Connection, range: Range) -> Outcome<(Living, Option<i64>)> {
    let mut found: Vec<(InstanceId, PackedTags)> = Vec::new();
    // Those of one instance are written one after the other.
    let mut of = String::new();
    let last = each(connection, TAGS, range, TOGETHER, |columns| {
        let id = columns.text()?;
        if found.is_empty() || id != of {
            id.clone_into(&mut of);
            found.push((columns.parse(id)?, PackedTags::new()));
        }
        let (key, value) = (columns.text()?, columns.text()?);
        if let Some((_, tags)) = found.last_mut() {
            tags.insert(key, value);
        }
        Ok(())
    })?;
    Ok((Living::Tags(found), last))
}

fn user_data(connection: &Connection, range: Range) -> Outcome<(Living, Option<i64>)> {
    let mut found = Vec::new();
    let last = each(connection, USER_DATA, range, USER_DATA_TOGETHER, |columns| {
        let id = columns.parsed()?;
        found.push((id, UserData::new(columns.value()?).map_err(fault::corrupt)?));
        Ok(())
    })?;
    Ok((Living::UserData(found), last))
}

/// Takes the first rows of a range, and gives the number of the last.
fn each(
    connection: &Connection,
    sql: &'static str,
    (from, to): Range,
    together: u32,
    mut take: impl FnMut(&mut Columns<'_, '_>) -> Outcome<()>,
) -> Outcome<Option<i64>> {
    let mut statement = connection.prepare_cached(sql).map_err(fault::from_sqlite)?;
    let mut rows = statement.query((from, to, together)).map_err(fault::from_sqlite)?;
    let mut last = None;
    while let Some(row) = rows.next().map_err(fault::from_sqlite)? {
        let mut columns = Columns { row, next: 0 };
        last = Some(columns.value()?);
        take(&mut columns)?;
    }
    Ok(last)
}

fn packed(columns: &mut Columns<'_, '_>, kind: Arc<Kind>) -> Outcome<PackedInstance> {
    // Fields are evaluated as they stand here: in the order of the columns.
    let row = OwnRow {
        id: columns.parsed()?,
        private_address: columns.parsed()?,
        ipv6_address: columns.parsed_if_any()?,
        state: columns.parsed()?,
        launch_time: columns.moment()?,
        boot_time: columns.moment()?,
        boot_generation: columns.value()?,
        terminated_at: None,
        state_reason: match (columns.text_if_any()?, columns.text_if_any()?) {
            (Some(code), Some(message)) => Some(StateReason { code: code.to_owned(), message: message.to_owned() }),
            _ => None,
        },
        ami_launch_index: columns.value()?,
        reservation_id: columns.text()?,
        client_token: columns.text_if_any()?,
        tags: PackedTags::new(),
        host: instances::host(columns.text()?)?,
        attachment: instances::attachment(columns.text_if_any()?, columns.text_if_any()?)?,
        mac: columns.text_if_any()?.map(instances::own_mac).transpose()?,
    };
    Ok(PackedInstance::new(kind, row))
}

/// The columns of a row, one after the other.
struct Columns<'a, 's> {
    row: &'a Row<'s>,
    next: usize,
}

impl<'a> Columns<'a, '_> {
    fn step(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn value<T: FromSql>(&mut self) -> Outcome<T> {
        let column = self.step();
        self.row.get(column).map_err(fault::from_sqlite)
    }

    /// Steps over the next columns if they hold these values.
    fn skip_same(&mut self, values: &[Value]) -> Outcome<bool> {
        for (column, value) in (self.next..).zip(values) {
            if self.row.get_ref(column).map_err(fault::from_sqlite)? != ValueRef::from(value) {
                return Ok(false);
            }
        }
        self.next += values.len();
        Ok(true)
    }

    fn text_if_any(&mut self) -> Outcome<Option<&'a str>> {
        let column = self.step();
        let value = self.row.get_ref(column).map_err(fault::from_sqlite)?;
        value.as_str_or_null().map_err(|_| self.strange())
    }

    fn text(&mut self) -> Outcome<&'a str> {
        self.text_if_any()?.ok_or_else(|| self.strange())
    }

    fn parse<T: FromStr>(&self, text: &str) -> Outcome<T> {
        text.parse().map_err(|_| self.strange())
    }

    fn parsed<T: FromStr>(&mut self) -> Outcome<T> {
        let text = self.text()?;
        self.parse(text)
    }

    fn parsed_if_any<T: FromStr>(&mut self) -> Outcome<Option<T>> {
        let text = self.text_if_any()?;
        text.map(|text| self.parse(text)).transpose()
    }

    fn moment(&mut self) -> Outcome<UnixTime> {
        let seconds: i64 = self.value()?;
        u64::try_from(seconds).map(UnixTime::from_secs).map_err(|_| self.strange())
    }

    /// The column that was taken last holds something else than we write.
    fn strange(&self) -> crate::StoreError {
        let name = self.row.as_ref().column_name(self.next.saturating_sub(1)).unwrap_or("?");
        fault::corrupt(format_args!("column {name} holds what was never written there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_is_as_close_as_the_beginning() {
        assert_eq!(expected(10, (1, 10), 10), 10);
        assert_eq!(expected(10, (1, 100), 10), 100);
        assert_eq!(expected(1, (1, 100), 10), 10);
        assert_eq!(expected(0, (1, 100), 10), 0);
        assert_eq!(expected(usize::MAX, (i64::MIN, i64::MAX), i64::MIN), usize::MAX);
        assert_eq!(halves((1, 1)), [(1, 1), (2, 1)]);
        assert_eq!(halves((i64::MIN, i64::MAX)), [(i64::MIN, 0), (1, i64::MAX)]);
    }
}

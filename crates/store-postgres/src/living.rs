//! All instances at once, for a mirror in memory: several connections, each of which reads the instances of a range of ids, then their
//! tags and their user data, in the order in which they lie there, row after row as they arrive. The server sends no more than are taken.
//!
//! What one connection reads is of one moment: an instance comes with the tags that it had with what its row says. Two ranges may be of
//! two moments. An id is in one range for ever, so none is missed because it moved, and none comes twice; what was changed after the
//! first of these moments is in the feed behind where a server began to hear it, before it read anything, and it reads that again.

mod rows;

use core::pin::{Pin, pin};
use core::time::Duration;
use std::sync::Arc;

use deadpool_postgres::{Object, Pool, Transaction};
use futures_util::{FutureExt as _, TryStreamExt as _};
use inborn_identity::InstanceId;
use inborn_store::{Living, PackedTags, Packer, StoreError, UserData};
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio_postgres::{IsolationLevel, Row, RowStream};

use self::rows::{Columns, Packing};
use crate::fault::{self, Fault, Outcome};
use crate::store::{self, PostgresStore};

/// Rows of a part.
const TOGETHER: u32 = 4096;
const _: () = assert!(TOGETHER <= Living::PART_MAX);
/// User data is long: so many are a part.
const USER_DATA_TOGETHER: u32 = 256;

/// How many connections read, if there are as many again for all else and a processor here for each: each of them goes through all rows in
/// the database, and takes those of its range.
const READERS_MAX: usize = 4;
/// Where ids are parted for so many: their digits are drawn at random.
const BOUNDS: [&str; READERS_MAX - 1] = ["i-4", "i-8", "i-c"];

/// Those of one instance were written one after the other, as a rule.
const TAGS: &str = "SELECT instance_id, tag_key, tag_value FROM instance_tags WHERE TRUE";
const USER_DATA: &str = "SELECT instance_id, user_data FROM instance_user_data WHERE TRUE";

/// A statement has a time, and this one takes as long as there are machines. What is waited for is bounded row by row.
const AS_LONG_AS_IT_TAKES: &str = "SET LOCAL statement_timeout = 0";

/// Why there are no more rows.
enum Stop {
    Fault(Fault),
    /// Nobody listens any more.
    Unheard,
}

impl<F: Into<Fault>> From<F> for Stop {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

impl PostgresStore {
    /// See [`inborn_store::Store::living`].
    pub(crate) async fn send_living(&self, packer: Arc<Packer>, parts: Sender<Living>) -> Result<(), StoreError> {
        let _on_the_way = self.under_way().await;
        // Dropped before its end it ends them all.
        let mut readers = JoinSet::new();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for range in ranges(processors.min(self.options().connections / 2)) {
            let pool = self.pool().clone();
            let sending = Sending {
                range,
                packer: Arc::clone(&packer),
                parts: parts.clone(),
                patience: self.options().patience(),
                is_begun: false,
            };
            readers.spawn(sending.send_with(pool, self.options().connections));
        }
        while let Some(read) = readers.join_next().await {
            read.map_err(|error| StoreError::Io(error.to_string()))??;
        }
        Ok(())
    }
}

/// Ids from one to another: no text is in none or in two of those that [`ranges`] gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    from: Option<&'static str>,
    below: Option<&'static str>,
}

impl Range {
    /// A statement that reads what of a column is in it.
    fn of(self, sql: &str, column: &str) -> String {
        let from = self.from.map_or_else(String::new, |from| format!(" AND {column} >= '{from}'"));
        let below = self.below.map_or_else(String::new, |below| format!(" AND {column} < '{below}'"));
        format!("{sql}{from}{below}")
    }
}

/// As many ranges as there may be readers: one, two or four.
fn ranges(readers: usize) -> Vec<Range> {
    let [_, half, _] = BOUNDS;
    let bounds = match readers {
        0 | 1 => vec![],
        2 | 3 => vec![half],
        READERS_MAX.. => BOUNDS.to_vec(),
    };
    let ends = |bound: &&'static str| Some(*bound);
    let from = core::iter::once(None).chain(bounds.iter().map(ends));
    let below = bounds.iter().map(ends).chain([None]);
    from.zip(below).map(|(from, below)| Range { from, below }).collect()
}

/// A connection that is given back only when nothing is on its way on it any more.
struct Taken(Option<Object>);

impl Taken {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// What is read, where it goes, and how long is waited for a row.
struct Sending {
    range: Range,
    packer: Arc<Packer>,
    parts: Sender<Living>,
    patience: Duration,
    /// Whether anything was sent.
    is_begun: bool,
}

impl Sending {
    async fn send_with(mut self, pool: Pool, connections: usize) -> Result<(), StoreError> {
        let mut attempt = 1;
        loop {
            let mut client = Taken(Some(store::connection(&pool).await?));
            let Some(connected) = client.0.as_mut() else { return Ok(()) };
            match self.send(connected).await {
                Ok(()) => {
                    client.give_back();
                    return Ok(());
                }
                Err(Stop::Unheard) => return Ok(()),
                Err(Stop::Fault(Fault::Final(error))) => return Err(error),
                // A connection that was ended while it lay idle. Where something was sent, it would come twice.
                Err(Stop::Fault(Fault::Again(_))) if !self.is_begun && attempt <= connections => attempt += 1,
                Err(Stop::Fault(Fault::Again(error))) => return Err(error),
            }
        }
    }

    async fn send(&mut self, client: &mut Object) -> Result<(), Stop> {
        let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let transaction = builder.start().await.map_err(told)?;
        transaction.batch_execute(AS_LONG_AS_IT_TAKES).await.map_err(told)?;
        self.send_instances(&transaction).await?;
        self.send_tags(&transaction).await?;
        self.send_user_data(&transaction).await?;
        transaction.commit().await.map_err(told)?;
        Ok(())
    }

    async fn part(&mut self, part: Living) -> Result<(), Stop> {
        self.is_begun = true;
        self.parts.send(part).await.map_err(|_| Stop::Unheard)
    }

    async fn send_instances(&mut self, transaction: &Transaction<'_>) -> Result<(), Stop> {
        let mut rows = pin!(stream(transaction, &self.range.of(rows::INSTANCES, "id")).await?);
        let mut packing = Packing::new(Arc::clone(&self.packer));
        let mut found = Vec::new();
        while let Some(row) = self.next(rows.as_mut()).await? {
            found.push(packing.pack(row)?);
            if found.len() >= TOGETHER as usize {
                self.part(Living::Instances(core::mem::take(&mut found))).await?;
            }
        }
        if found.is_empty() { Ok(()) } else { self.part(Living::Instances(found)).await }
    }

    async fn send_tags(&mut self, transaction: &Transaction<'_>) -> Result<(), Stop> {
        let mut rows = pin!(stream(transaction, &self.range.of(TAGS, "instance_id")).await?);
        let mut found: Vec<(InstanceId, PackedTags)> = Vec::new();
        let mut count = 0;
        while let Some(row) = self.next(rows.as_mut()).await? {
            let mut columns = Columns::of(&row);
            let id = columns.parsed()?;
            if found.last().is_none_or(|(last, _)| *last != id) {
                found.push((id, PackedTags::new()));
            }
            let (key, value) = (columns.text()?, columns.text()?);
            if let Some((_, tags)) = found.last_mut() {
                tags.insert(&key, &value);
            }
            count += 1;
            if count >= TOGETHER {
                count = 0;
                self.part(Living::Tags(core::mem::take(&mut found))).await?;
            }
        }
        if found.is_empty() { Ok(()) } else { self.part(Living::Tags(found)).await }
    }

    async fn send_user_data(&mut self, transaction: &Transaction<'_>) -> Result<(), Stop> {
        let mut rows = pin!(stream(transaction, &self.range.of(USER_DATA, "instance_id")).await?);
        let mut found = Vec::new();
        while let Some(row) = self.next(rows.as_mut()).await? {
            let mut columns = Columns::of(&row);
            let id = columns.parsed()?;
            found.push((id, UserData::new(columns.value()?).map_err(fault::corrupt)?));
            if found.len() >= USER_DATA_TOGETHER as usize {
                self.part(Living::UserData(core::mem::take(&mut found))).await?;
            }
        }
        if found.is_empty() { Ok(()) } else { self.part(Living::UserData(found)).await }
    }

    /// The next row, waited for only if it is not there.
    async fn next(&self, mut rows: Pin<&mut RowStream>) -> Result<Option<Row>, Stop> {
        if let Some(next) = rows.try_next().now_or_never() {
            return next.map_err(|error| told(error).into());
        }
        match tokio::time::timeout(self.patience, rows.try_next()).await {
            Ok(next) => next.map_err(|error| told(error).into()),
            Err(_) => Err(StoreError::Unavailable("it did not answer in time".to_owned()).into()),
        }
    }
}

async fn stream(transaction: &Transaction<'_>, sql: &str) -> Outcome<RowStream> {
    let statement = transaction.prepare_cached(sql).await.map_err(told)?;
    transaction.query_raw(&statement, core::iter::empty::<i64>()).await.map_err(told)
}

fn told(error: tokio_postgres::Error) -> Fault {
    fault::from_statement(&error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever an id looks like, it is read once.
    #[test]
    fn every_text_is_in_one_range() {
        for (connections, expected) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (5, 4), (64, 4)] {
            let ranges = ranges(connections);
            assert_eq!(ranges.len(), expected, "{connections}");
            for text in ["", "\u{1}", "a", "h-f", "i", "i-", "i-0", "i-3fff", "i-4", "i-40", "i-7ffff", "i-8", "i-bf"]
                .into_iter()
                .chain(["i-c", "i-c0", "i-ffffffffffffffffff", "i-g", "j", "~", "\u{10ffff}"])
            {
                let is_in = |range: &&Range| {
                    range.from.is_none_or(|from| text >= from) && range.below.is_none_or(|below| text < below)
                };
                assert_eq!(ranges.iter().filter(is_in).count(), 1, "{text:?} for {connections}");
            }
        }
        let [first, second, ..] = ranges(4)[..] else { panic!("there are four") };
        assert_eq!(first.of("x", "id"), "x AND id < 'i-4'");
        assert_eq!(second.of("x", "id"), "x AND id >= 'i-4' AND id < 'i-8'");
        assert_eq!(ranges(1)[0].of("x", "id"), "x");
    }

    /// As even as their digits are.
    #[test]
    fn ranges_are_of_one_size() {
        let id = |digit: u8| InstanceId::from_bytes([digit; InstanceId::BYTES]).to_string();
        for readers in [2, 4] {
            for range in ranges(readers) {
                let is_in = |id: &String| {
                    range.from.is_none_or(|from| id.as_str() >= from)
                        && range.below.is_none_or(|below| id.as_str() < below)
                };
                assert_eq!((0..16).map(id).filter(is_in).count(), 16 / readers, "{range:?}");
            }
        }
    }
}

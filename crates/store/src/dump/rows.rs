//! Rows on their way: out of one moment of a store, into an empty one.

use std::io::Read;

use aws_lc_rs::digest::{Context, SHA256};

use super::catalogue::TABLES;
use super::cell::{Cell, Row, encode_row};
use super::error::DumpError;
use super::frames::{FrameReader, Part};
use super::table::Table;
use super::{About, Origin};
use crate::{Conflict, Future, StoreError};

/// How many bytes of rows are gathered before they are put.
const PUT_BYTES: usize = 1024 * 1024;

/// One moment of a store.
pub trait Snapshot: Send {
    /// What kind of store it is.
    fn origin(&self) -> Origin;

    /// The rows of a table in the order of its key, from behind `after` on, as many as a [`super::Page`] takes; none: that was all.
    fn page<'a>(&'a mut self, table: &'static Table, after: Option<Row>) -> Future<'a, Vec<Row>>;

    /// What [`Table::count`] or [`Table::count_orphans`] gives.
    fn count<'a>(&'a mut self, sql: String) -> Future<'a, u64>;
}

/// An empty store that is being filled: all of it or nothing. Until it is committed nobody opens it; dropped before, it stays
/// as it was, or refuses to be opened.
pub trait Loading: Snapshot {
    /// Adds rows of a table.
    fn put<'a>(&'a mut self, table: &'static Table, rows: Vec<Row>) -> Future<'a, ()>;

    /// Makes it a store.
    fn commit(self: Box<Self>) -> Future<'static, ()>;
}

/// How much of a table there is, and its digest: SHA-256 over its rows in the order of the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableSummary {
    /// Its name.
    pub table: &'static str,
    /// How many rows.
    pub rows: u64,
    /// Their digest.
    pub digest: [u8; 32],
}

/// What was written or read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// What it says of itself.
    pub about: About,
    /// Its tables.
    pub tables: Vec<TableSummary>,
}

impl Summary {
    /// How many rows there are in all.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// Counts rows and sums them up.
struct Tally {
    table: &'static Table,
    rows: u64,
    digest: Context,
    buffer: Vec<u8>,
}

impl Tally {
    fn new(table: &'static Table) -> Self {
        Self { table, rows: 0, digest: Context::new(&SHA256), buffer: Vec::new() }
    }

    fn add(&mut self, row: &[Cell]) {
        self.buffer.clear();
        encode_row(row, &mut self.buffer);
        self.digest.update(&self.buffer);
        self.rows = self.rows.saturating_add(1);
    }

    fn end(self) -> TableSummary {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.digest.finish().as_ref());
        TableSummary { table: self.table.name, rows: self.rows, digest }
    }
}

/// The rows of a table, a page at a time.
pub(super) struct Pages {
    table: &'static Table,
    after: Option<Row>,
    is_over: bool,
}

impl Pages {
    pub(super) const fn of(table: &'static Table) -> Self {
        Self { table, after: None, is_over: false }
    }

    /// The next page; `None` after the last.
    pub(super) async fn next(&mut self, from: &mut dyn Snapshot) -> Result<Option<Vec<Row>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let rows = from.page(self.table, self.after.take()).await?;
        if !rows.iter().all(|row| self.table.takes(row)) {
            return Err(StoreError::Corrupt(format!("a row of the table {}", self.table.name)));
        }
        self.after = rows.last().map(|row| self.table.key_of(row).to_vec());
        // A page may be short of rows because they are long.
        self.is_over = self.after.is_none();
        Ok(Some(rows).filter(|rows| !rows.is_empty()))
    }
}

/// The digests of all tables.
///
/// # Errors
/// The store's; `Corrupt`: a row that no store writes.
pub async fn digests(from: &mut dyn Snapshot) -> Result<Vec<TableSummary>, StoreError> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push(summary(from, table).await?);
    }
    Ok(all)
}

async fn summary(from: &mut dyn Snapshot, table: &'static Table) -> Result<TableSummary, StoreError> {
    let (mut tally, mut pages) = (Tally::new(table), Pages::of(table));
    while let Some(rows) = pages.next(from).await? {
        rows.iter().for_each(|row| tally.add(row));
    }
    Ok(tally.end())
}

/// Refuses a store that holds anything.
///
/// # Errors
/// The store's; `Conflict`: it is not empty.
pub async fn must_be_empty(to: &mut dyn Loading) -> Result<(), StoreError> {
    for table in TABLES {
        if to.count(table.count()).await? > 0 {
            return Err(Conflict::NotEmpty(table.name).into());
        }
    }
    Ok(())
}

/// Copies one moment of a store into an empty one. What has arrived is read again and compared before it is committed.
///
/// # Errors
/// Either store's; `Conflict`: the other one is not empty; `Differs`.
pub async fn copy(from: &mut dyn Snapshot, to: Box<dyn Loading>) -> Result<Vec<TableSummary>, DumpError> {
    copy_if(from, to, core::future::ready(Ok(()))).await
}

/// As [`copy`], and asks before the commit whether it may be; where not, nobody opens the other store.
///
/// # Errors
/// As [`copy`]; that of `may_commit`.
pub async fn copy_if<E: From<DumpError>>(
    from: &mut dyn Snapshot,
    mut to: Box<dyn Loading>,
    may_commit: impl core::future::Future<Output = Result<(), E>>,
) -> Result<Vec<TableSummary>, E> {
    let sent = send(from, &mut *to).await?;
    may_commit.await?;
    to.commit().await.map_err(DumpError::from)?;
    Ok(sent)
}

async fn send(from: &mut dyn Snapshot, to: &mut dyn Loading) -> Result<Vec<TableSummary>, DumpError> {
    must_be_empty(to).await?;
    let mut sent = Vec::new();
    for table in TABLES {
        let (mut tally, mut pages) = (Tally::new(table), Pages::of(table));
        while let Some(rows) = pages.next(from).await? {
            rows.iter().for_each(|row| tally.add(row));
            to.put(table, rows).await?;
        }
        sent.push(tally.end());
    }
    compare(to, &sent).await?;
    Ok(sent)
}

/// Puts what a file holds into an empty store. What has arrived is read again and compared before it is committed.
///
/// # Errors
/// The file's, the store's; `Conflict`: the store is not empty; `Differs`.
pub async fn load<R: Read + Send>(
    file: &mut FrameReader<R>,
    mut to: Box<dyn Loading>,
) -> Result<Vec<TableSummary>, DumpError> {
    must_be_empty(&mut *to).await?;
    let mut tallies: Vec<Tally> = TABLES.iter().map(Tally::new).collect();
    let mut at = 0;
    let (mut gathered, mut bytes) = (Vec::new(), 0);
    while let Some(part) = file.next_part()? {
        match part {
            Part::Table(table) => {
                put(&mut *to, tallies.get(at), &mut gathered).await?;
                bytes = 0;
                at = TABLES.iter().position(|known| known.name == table.name).unwrap_or(at);
            }
            Part::Row(row) => {
                let tally = tallies.get_mut(at).ok_or(DumpError::Malformed("a row without a table"))?;
                tally.add(&row);
                bytes += tally.buffer.len();
                gathered.push(row);
                if bytes >= PUT_BYTES || gathered.len() >= tally.table.page_rows() {
                    put(&mut *to, tallies.get(at), &mut gathered).await?;
                    bytes = 0;
                }
            }
        }
    }
    put(&mut *to, tallies.get(at), &mut gathered).await?;
    let sent: Vec<TableSummary> = tallies.into_iter().map(Tally::end).collect();
    compare(&mut *to, &sent).await?;
    to.commit().await?;
    Ok(sent)
}

async fn put(to: &mut dyn Loading, tally: Option<&Tally>, gathered: &mut Vec<Row>) -> Result<(), StoreError> {
    match tally {
        Some(tally) if !gathered.is_empty() => to.put(tally.table, core::mem::take(gathered)).await,
        _ => Ok(()),
    }
}

/// Reads what has arrived, and compares.
async fn compare(to: &mut dyn Loading, sent: &[TableSummary]) -> Result<(), DumpError> {
    for (table, sent) in TABLES.iter().zip(sent) {
        if summary(to, table).await? != *sent {
            return Err(DumpError::Differs(table.name));
        }
    }
    Ok(())
}

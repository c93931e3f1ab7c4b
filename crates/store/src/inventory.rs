//! What was collected of machines: inventory, and how far they comply.

use core::fmt;
use core::str::FromStr;

use inborn_identity::{InstanceId, UnixTime};

use crate::StoreError;

/// Which of the two collections something belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum InventoryKind {
    /// What is on a machine.
    Item,
    /// How far it complies.
    Compliance,
}

impl InventoryKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Compliance => "compliance",
        }
    }
}

impl fmt::Display for InventoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for InventoryKind {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        [Self::Item, Self::Compliance]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(StoreError::Invalid("a kind of inventory is item or compliance"))
    }
}

/// All of one type that was collected of a machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InventoryRecord {
    /// The collection.
    pub kind: InventoryKind,
    /// The type's name, as in `AWS:Application`: 1 to [`InventoryRecord::NAME_BYTES_MAX`] bytes, one record of each.
    pub type_name: String,
    /// The version of the type's schema.
    pub schema_version: String,
    /// When it was collected, as the collector wrote it.
    pub captured_at: String,
    /// The collector's hash of the content; empty: none.
    pub content_hash: String,
    /// What the collector said beside it, JSON.
    pub context: String,
    /// What was collected, JSON.
    pub content: String,
    /// When it was received last.
    pub received_at: UnixTime,
}

impl InventoryRecord {
    /// The longest name of a type.
    pub const NAME_BYTES_MAX: usize = 512;
    /// The longest record: all its texts together.
    pub const BYTES_MAX: usize = 2 * 1024 * 1024;

    /// How much it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        [&self.type_name, &self.schema_version, &self.captured_at, &self.content_hash, &self.context, &self.content]
            .into_iter()
            .map(String::len)
            .sum()
    }
}

/// Records of a machine that take the place of those of their kinds and types.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InventoryChange {
    /// The machine.
    pub instance: InstanceId,
    /// Those that are new.
    pub records: Vec<InventoryRecord>,
    /// Those whose hash says that the content is as it was: of them only the times count.
    pub unchanged: Vec<InventoryRecord>,
}

impl InventoryChange {
    /// The most records of one change.
    pub const RECORDS_MAX: usize = 30;
    /// The most types of one kind that a machine has.
    pub const TYPES_MAX: usize = 40;
    /// The most bytes that a machine has of one kind.
    pub const BYTES_MAX: usize = 5 * 1024 * 1024;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        let records = || self.records.iter().chain(&self.unchanged);
        if !(1..=Self::RECORDS_MAX).contains(&records().count()) {
            return Err(StoreError::Invalid("a change of inventory has 1 to 30 records"));
        }
        if !records().all(|record| (1..=InventoryRecord::NAME_BYTES_MAX).contains(&record.type_name.len())) {
            return Err(StoreError::Invalid("the name of an inventory type has 1 to 512 bytes"));
        }
        if !records().all(|record| record.bytes() <= InventoryRecord::BYTES_MAX) {
            return Err(StoreError::Invalid("a record of inventory has at most 2 MiB"));
        }
        Ok(())
    }
}

/// Which records of a machine to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InventoryQuery {
    /// The machine.
    pub instance: InstanceId,
    /// The collection.
    pub kind: InventoryKind,
    /// Those of this type alone.
    pub type_name: Option<String>,
    /// Whether the content is wanted, too; else it is empty.
    pub with_content: bool,
}

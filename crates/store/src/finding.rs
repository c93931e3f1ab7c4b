//! Findings: what telemetry tells of an attack.

use inborn_identity::{InstanceId, UnixTime};

use crate::StoreError;

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its id: 1 to [`Finding::NAME_MAX`] bytes.
    pub id: String,
    /// The detector that it belongs to.
    pub detector: String,
    /// What makes two findings the same thing seen twice.
    pub key: String,
    /// Its type, as in `Execution:Runtime/ReverseShell`.
    pub kind: String,
    /// How bad it is, in tenths.
    pub severity_tenths: u16,
    /// When it was first made.
    pub created_at: UnixTime,
    /// When it was last changed.
    pub updated_at: UnixTime,
    /// Whether it was put aside.
    pub is_archived: bool,
    /// The machine. A finding outlives it.
    pub instance: Option<InstanceId>,
    /// How often it was seen.
    pub count: u64,
    /// The finding itself, JSON.
    pub document: String,
}

impl Finding {
    /// The longest id or type, in bytes. Source: botocore's model, `FindingId`.
    pub const NAME_MAX: usize = 300;
    /// The longest key, in bytes.
    pub const KEY_MAX: usize = 1024;
    /// The longest document, in bytes.
    pub const DOCUMENT_MAX: usize = 64 * 1024;
    /// The most findings that are written together.
    pub const WRITTEN_MAX: usize = 200;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        let is_name = |text: &String| (1..=Self::NAME_MAX).contains(&text.len());
        if !is_name(&self.id) || !is_name(&self.kind) {
            return Err(StoreError::Invalid("the id and the type of a finding have 1 to 300 bytes"));
        }
        if !(1..=Self::KEY_MAX).contains(&self.key.len()) {
            return Err(StoreError::Invalid("the key of a finding has 1 to 1024 bytes"));
        }
        if self.document.len() > Self::DOCUMENT_MAX {
            return Err(StoreError::Invalid("a finding has at most 65536 bytes"));
        }
        if i64::try_from(self.count).is_err() {
            return Err(StoreError::Invalid("a finding was not seen that often"));
        }
        Ok(())
    }

    /// Whether all of them together make sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check_all(findings: &[Self]) -> Result<(), StoreError> {
        if findings.len() > Self::WRITTEN_MAX {
            return Err(StoreError::Invalid("at most 200 findings are written together"));
        }
        findings.iter().try_for_each(Self::check)
    }
}

/// A place in the order of findings: the latest first, then by id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FindingPlace {
    /// When the finding was last changed.
    pub updated_at: UnixTime,
    /// Its id.
    pub id: String,
}

/// Which findings to list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FindingQuery {
    /// The detector.
    pub detector: String,
    /// Only those of this key.
    pub key: Option<String>,
    /// Only what comes behind this place.
    pub after: Option<FindingPlace>,
    /// How many at most: 1 to [`FindingQuery::LIMIT_MAX`].
    pub limit: u32,
}

impl FindingQuery {
    /// The most on one page.
    pub const LIMIT_MAX: u32 = 500;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        match self.limit {
            1..=Self::LIMIT_MAX => Ok(()),
            _ => Err(StoreError::Invalid("a page has 1 to 500 findings")),
        }
    }
}

/// Which findings to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FindingRetention {
    /// Those that were changed since then,
    pub updated_since: UnixTime,
    /// and of them so many of each detector: first the latest of each machine and type, then the second of each, and so on, so
    /// that no machine pushes out what others have.
    pub findings_max: u32,
}

//! Detectors, what is set up at them, and the agents that send them telemetry.

use core::fmt;
use core::str::FromStr;

use inborn_identity::{AccountId, InstanceId, UnixTime};

use crate::StoreError;

/// What watches an account: one of each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Detector {
    /// Its id: 1 to [`Detector::ID_MAX`] bytes.
    pub id: String,
    /// Whose machines it watches.
    pub account: AccountId,
    /// When it was made.
    pub created_at: UnixTime,
    /// When it was last changed.
    pub updated_at: UnixTime,
    /// Its settings and tags, JSON.
    pub document: String,
}

impl Detector {
    /// The longest id, of its parts too, in bytes. Source: botocore's model, `DetectorId`.
    pub const ID_MAX: usize = 300;
    /// The longest document, of its parts too, in bytes: two hundred tags with four bytes to each character fit.
    pub const DOCUMENT_MAX: usize = 512 * 1024;
}

fn fits(id: &str, document: &str) -> Result<(), StoreError> {
    if id.is_empty() || id.len() > Detector::ID_MAX {
        return Err(StoreError::Invalid("the id of a detector or its part has 1 to 300 bytes"));
    }
    if document.len() > Detector::DOCUMENT_MAX {
        return Err(StoreError::Invalid("a detector or its part has at most 524288 bytes"));
    }
    Ok(())
}

/// What is set up at a detector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PartKind {
    /// Says which findings are put aside, or only shown together.
    Filter,
    /// Addresses that are trusted.
    IpSet,
    /// Addresses that threaten.
    ThreatIntelSet,
}

impl PartKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Filter, Self::IpSet, Self::ThreatIntelSet];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::IpSet => "ip-set",
            Self::ThreatIntelSet => "threat-intel-set",
        }
    }
}

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PartKind {
    type Err = StoreError;
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or(StoreError::Invalid("a part of a detector is of no known kind"))
    }
}

/// One thing that is set up at a detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetectorPart {
    /// The detector.
    pub detector: String,
    /// What it is.
    pub kind: PartKind,
    /// Its id, or its name if that is its id: one of each kind.
    pub id: String,
    /// What it says, JSON.
    pub document: String,
}

/// A change of a detector, or of one thing that is set up at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetectorChange {
    /// The document that the writer decided by; `None`: there was no detector.
    pub expected: Option<String>,
    /// The detector, as it is to be. Its document is another one than before with each change, of its parts too: so nobody decides by
    /// parts that are no more.
    pub detector: Detector,
    /// The part that changes with it.
    pub part: Option<PartChange>,
}

/// What becomes of a part of a detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartChange {
    /// What it is.
    pub kind: PartKind,
    /// Its id, or its name if that is its id.
    pub id: String,
    /// What it is to say, JSON; `None`: it is deleted.
    pub document: Option<String>,
}

impl DetectorChange {
    /// A detector for an account that has none.
    #[must_use]
    pub const fn new(detector: Detector) -> Self {
        Self { expected: None, detector, part: None }
    }

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        fits(&self.detector.id, &self.detector.document)?;
        self.part.as_ref().map_or(Ok(()), |part| fits(&part.id, part.document.as_deref().unwrap_or_default()))
    }
}

/// The agent of a machine that has sent telemetry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentReport {
    /// The machine.
    pub instance: InstanceId,
    /// The agent's name; empty if it said none. As long as [`AgentReport::TEXT_MAX`].
    pub agent_name: String,
    /// Its version, likewise.
    pub agent_version: String,
    /// When it was heard first.
    pub first_at: UnixTime,
    /// When it was heard last.
    pub last_at: UnixTime,
}

impl AgentReport {
    /// The longest text, in bytes.
    pub const TEXT_MAX: usize = 256;
    /// The most reports that are written together.
    pub const WRITTEN_MAX: usize = 1000;

    /// Whether all of them together make sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check_all(reports: &[Self]) -> Result<(), StoreError> {
        if reports.len() > Self::WRITTEN_MAX {
            return Err(StoreError::Invalid("at most 1000 reports are written together"));
        }
        let is_short = |text: &String| text.len() <= Self::TEXT_MAX;
        if reports.iter().all(|report| is_short(&report.agent_name) && is_short(&report.agent_version)) {
            Ok(())
        } else {
            Err(StoreError::Invalid("a text about an agent has at most 256 bytes"))
        }
    }
}

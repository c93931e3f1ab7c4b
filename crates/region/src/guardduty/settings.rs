//! What detectors, filters and sets say: the documents that the store keeps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Tags, by key.
pub(crate) type Tags = BTreeMap<String, String>;

/// The only feature that a region can switch: what machines tell of themselves.
pub(crate) const RUNTIME_MONITORING: &str = "RUNTIME_MONITORING";

/// The settings of a detector.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Whether it finds anything.
    pub(crate) is_enabled: bool,
    /// How often changes of findings are published. Kept for those who ask: here they are, at once.
    pub(crate) frequency: String,
    /// Whether nobody asked for it: made by the first telemetry, it is taken over by the first `CreateDetector`.
    pub(crate) is_automatic: bool,
    /// Features, by name.
    pub(crate) features: BTreeMap<String, Feature>,
    /// Tags.
    pub(crate) tags: Tags,
    /// What the request said that made it, so that it can be repeated.
    #[serde(default)]
    pub(crate) client_token: Option<String>,
    /// Counts the changes of the detector and of what is set up at it: whoever decides by an earlier one is told.
    #[serde(default)]
    pub(crate) revision: u64,
}

/// A feature of a detector.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Feature {
    /// Whether it is on.
    pub(crate) is_enabled: bool,
    /// When that was said, in seconds since 1970.
    pub(crate) updated_at: u64,
    /// What belongs to it, likewise, by name.
    #[serde(default)]
    pub(crate) additional: BTreeMap<String, Additional>,
}

/// What belongs to a feature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Additional {
    /// Whether it is on.
    pub(crate) is_enabled: bool,
    /// When that was said, in seconds since 1970.
    pub(crate) updated_at: u64,
}

impl Settings {
    /// As a detector begins: enabled, and looking at what machines tell. At AWS that feature is off until it is asked for,
    /// among many sources; here it is the one that a detector has.
    pub(crate) fn new(now: u64) -> Self {
        let feature = Feature { is_enabled: true, updated_at: now, additional: BTreeMap::new() };
        Self {
            is_enabled: true,
            // Source: API reference, `FindingPublishingFrequency`: the default.
            frequency: "SIX_HOURS".to_owned(),
            is_automatic: false,
            features: BTreeMap::from([(RUNTIME_MONITORING.to_owned(), feature)]),
            tags: Tags::new(),
            client_token: None,
            revision: 0,
        }
    }

    /// Whether findings of this type are to be kept.
    pub(crate) fn watches(&self, kind: &str) -> bool {
        let is_on = || self.features.get(RUNTIME_MONITORING).is_some_and(|feature| feature.is_enabled);
        self.is_enabled && (!kind.contains(":Runtime/") || is_on())
    }
}

/// A filter.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// What it is for.
    pub(crate) description: String,
    /// Whether findings that meet it are put aside.
    pub(crate) archives: bool,
    /// Its place among the filters, from 1.
    pub(crate) rank: i64,
    /// `findingCriteria`, as it was given.
    pub(crate) criteria: Map<String, Value>,
    /// When it was made, in seconds since 1970.
    pub(crate) created_at: u64,
    /// When it was changed, likewise.
    pub(crate) updated_at: u64,
    /// Which change of it this is, from 1.
    pub(crate) version: u64,
    /// Tags.
    pub(crate) tags: Tags,
    /// What the request said that made it, so that it can be repeated.
    #[serde(default)]
    pub(crate) client_token: Option<String>,
}

/// A set of addresses, as it was set up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct AddressSet {
    /// Its name.
    pub(crate) name: String,
    /// The format of its file.
    pub(crate) format: String,
    /// Where the file is.
    pub(crate) location: String,
    /// Whether it is to be used.
    pub(crate) is_active: bool,
    /// The account that was said to own the bucket: said again, and never looked at.
    pub(crate) bucket_owner: Option<String>,
    /// Tags.
    pub(crate) tags: Tags,
    /// What the request said that made it, so that it can be repeated.
    #[serde(default)]
    pub(crate) client_token: Option<String>,
}

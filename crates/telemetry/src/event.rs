//! Events after they were decoded and stamped: what everything behind the endpoint works with.

use inborn_identity::{AccountId, InstanceId, Region, UnixTime};

/// The `class_uid` of OCSF: 1007 is Process Activity, 2004 is Detection Finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassUid(pub u32);

/// Who told it: the verified caller, never what a request claims.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The account of the machine.
    pub account: AccountId,
    /// The machine.
    pub instance: InstanceId,
    /// The region that verified it.
    pub region: Region,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// `metadata.uid`: what makes two deliveries of the same event one. Unique to its machine only.
    pub uid: Box<str>,
    /// `time`: milliseconds since 1970, UTC.
    pub time_ms: i64,
    /// `class_uid`.
    pub class: ClassUid,
    /// The whole OCSF object, stamped: one line of JSON without a line feed.
    pub json: Box<str>,
}

/// The events of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Who told them.
    pub source: Source,
    /// When they came.
    pub received_at: UnixTime,
    /// The events, in the order of the request.
    pub records: Vec<Record>,
}

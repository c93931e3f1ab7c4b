//! What one request may be. Each limit has a test below, at and above it.

/// The longest body on the wire. Source: the limits that collectors have by default are near it.
pub const WIRE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The longest body after it was inflated.
pub const INFLATED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many bytes may come of one byte. Events that repeat themselves become a fiftieth.
pub const RATIO_MAX: usize = 200;
/// So many bytes may come of any body: a short one has no telling ratio.
pub const RATIO_FREE_BYTES: usize = 1024 * 1024;
/// Most events of one request.
pub const RECORDS_MAX: usize = 10_000;
/// The longest event, as it comes and as it is kept: the longest that the lake takes.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// The most memory that the events of one request take, stamped: each has its JSON, its uid, and [`RECORD_OVERHEAD_BYTES`].
/// Many short events become far longer by what they are stamped with, and by what their resource claims.
pub const STAMPED_BYTES_MAX: usize = 24 * 1024 * 1024;
/// What an event takes beside its texts, in lists that grow, and where events are told from each other.
pub const RECORD_OVERHEAD_BYTES: usize = 256;
/// Most levels of objects and arrays in an event, the outermost counted.
pub const DEPTH_MAX: usize = 32;
/// Most levels in a body of OTLP/JSON, which takes several to say one.
pub const DOCUMENT_DEPTH_MAX: usize = 120;
/// Most attributes of a log record, and of a resource. Source: the SDKs' own limit is 128.
pub const ATTRIBUTES_MAX: usize = 1024;
/// The longest uid that is kept as it is; of a longer one the digest.
pub const UID_BYTES_MAX: usize = 128;
/// The longest name or version of an agent; the rest is cut off.
pub const AGENT_BYTES_MAX: usize = 128;
/// How old an event may be when it comes: a machine that was cut off brings what it has kept.
pub const AGE_SECONDS_MAX: u64 = 7 * 24 * 3600;
/// How far ahead an event may be: as far as a signature may.
pub const AHEAD_SECONDS_MAX: u64 = 15 * 60;

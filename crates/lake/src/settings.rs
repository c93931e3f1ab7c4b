//! Limits: what an operator sets, and what is fixed.

/// The most JSON, in bytes, that waits to be written or is being written. What comes beyond is [`Busy`].
///
/// With the window of uids (28 MiB), compaction (24 MiB) and queries (16 MiB) this keeps the lake below 96 MiB.
///
/// [`Busy`]: crate::AppendError::Busy
pub const BYTES_IN_FLIGHT_MAX: usize = 24 << 20;

/// The most batches that wait.
pub const BATCHES_IN_FLIGHT_MAX: usize = 1024;

/// The longest JSON or uid of one event.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// The most JSON that one sync makes durable: bounds how long the first batch of a group waits for the last. A batch that
/// is longer is a group of its own.
pub const GROUP_BYTES_MAX: usize = 8 << 20;

/// Where one segment of the log ends and the next begins. So much disk is set aside at once.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Numbers of segments that each second has: those of a start begin with its time.
pub const SEGMENTS_A_SECOND: u64 = 1000;

/// What is set aside when the disk has no room for a whole segment.
pub const SEGMENT_BYTES_SMALLER: [u64; 3] = [16 << 20, 4 << 20, 1 << 20];

/// How long a uid is remembered.
pub const WINDOW_SECONDS: u64 = 24 * 3600;

/// How many uids are remembered, at 24 bytes each. Beyond, each machine has its share: the oldest of one that has more is
/// forgotten for the newest of one that has less. Memory is taken as it is needed: with what is known of the machines
/// themselves, of at most 65,536, it comes to 28 MiB and no more.
pub const WINDOW_ENTRIES: usize = 1 << 20;

/// How old the log may get before it becomes Parquet: Security Lake wants no files more often than every five minutes,
pub const COMPACT_SECONDS: u64 = 300;

/// unless there is so much of it.
pub const COMPACT_BYTES: u64 = 256 << 20;

/// How many bytes of JSON one job of compaction sorts, and one segment holds: what needs memory for each run of 12 MiB.
pub const JOB_RAW_BYTES_MAX: u64 = 512 << 20;

/// How many jobs of compaction are done in one round. After a pause, as when the bucket was away, the log may be as long as it gets:
/// between rounds what is made can be delivered, and what is too much be removed.
pub const JOBS_OF_A_ROUND_MAX: usize = 2;

/// What nobody has read yet, of what has to be read, keeps the log from becoming Parquet until it takes this share of the room that
/// the log has: a half. Then it does nevertheless, lest telemetry be refused.
pub const UNREAD_SHARE: u64 = 2;

/// How long delivery waits at most, after the bucket has failed, before it is tried again: from a second, twice as long each
/// time.
pub const DELIVERY_RETRY_SECONDS_MAX: u64 = 60;

/// What an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long events are kept, by the day they are of. Whole days go at once.
    pub retention_seconds: u64,
    /// How many bytes Parquet may take, in the bucket if there is one. Beyond, the oldest files go first.
    pub parquet_bytes_max: u64,
    /// Where there is a bucket: how many bytes of Parquet may be on the local disk as well. When more than that
    /// waits to be delivered, no more is made, and the log grows.
    pub local_bytes_max: u64,
    /// How many bytes the log may take while it is not Parquet yet. Beyond, batches are refused as on a full disk.
    pub log_bytes_max: u64,
    /// How many bytes of the disk stay free: batches are refused before the disk is full for everybody else.
    pub free_bytes_min: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retention_seconds: 30 * 24 * 3600,
            parquet_bytes_max: 20 << 30,
            local_bytes_max: 2 << 30,
            log_bytes_max: 2 << 30,
            free_bytes_min: 64 << 20,
        }
    }
}

//! Where files are: the tree that Amazon Security Lake asks of custom sources.
//!
//! ```text
//! ext/{source}/region={region}/accountId={account}/eventDay={YYYYMMDD}/{uuid}.parquet
//! ```
//!
//! A file's name is a UUID of version 8 (RFC 9562) that begins with the number of the job that made it, so that whoever
//! reads the tree while a job is being done can tell its files from the others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use inborn_identity::{AccountId, Region, UnixTime};
use inborn_telemetry::{ClassUid, Source};

use crate::parquet::classes;
use crate::recent::{self, Key};

/// The directory above all sources.
pub(crate) const ROOT: &str = "ext";

/// Jobs have 48 bits of a UUID.
pub(crate) const JOB_MAX: u64 = (1 << 48) - 1;

const MS_PER_DAY: i64 = 86_400_000;

/// A day of UTC, by its number since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(u32);

impl Day {
    /// The day of an event. What is before 1970 or after 9999 is on the first or last day.
    pub(crate) fn of(time_ms: i64) -> Self {
        let last = i64::try_from(UnixTime::MAX.as_secs() / 86_400).unwrap_or(0);
        Self(u32::try_from(time_ms.div_euclid(MS_PER_DAY).clamp(0, last)).unwrap_or(0))
    }

    /// The first moment of the next one.
    pub(crate) fn end(self) -> UnixTime {
        UnixTime::from_secs((u64::from(self.0) + 1) * 86_400)
    }

    /// The times that its events have.
    pub(crate) fn times(self) -> (i64, i64) {
        let first = i64::from(self.0) * MS_PER_DAY;
        let before_all = if self.0 == 0 { i64::MIN } else { first };
        let last =
            if (u64::from(self.0) + 1) * 86_400 > UnixTime::MAX.as_secs() { i64::MAX } else { first + MS_PER_DAY - 1 };
        (before_all, last)
    }

    /// `20261123`.
    pub(crate) fn name(self) -> String {
        UnixTime::from_secs(u64::from(self.0) * 86_400).basic().chars().take(8).collect()
    }

    fn parse(name: &str) -> Option<Self> {
        let midnight = UnixTime::parse_basic(format!("{name}T000000Z").as_bytes()).ok()?;
        let day = Self(u32::try_from(midnight.as_secs() / 86_400).ok()?);
        (day.name() == name).then_some(day)
    }
}

/// Events that are in the same files. In the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Partition {
    pub(crate) class: ClassUid,
    pub(crate) region: Region,
    pub(crate) account: AccountId,
    pub(crate) day: Day,
}

impl Partition {
    pub(crate) fn of(source: &Source, class: ClassUid, time_ms: i64) -> Self {
        let (class, day) = (classes::group(class), Day::of(time_ms));
        Self { class, region: source.region.clone(), account: source.account, day }
    }

    /// Its directory, below the lake's.
    pub(crate) fn directory(&self, lake: &Path) -> PathBuf {
        lake.join(ROOT)
            .join(classes::source(self.class))
            .join(format!("region={}", self.region))
            .join(format!("accountId={}", self.account))
            .join(format!("eventDay={}", self.day.name()))
    }
}

/// The name of a file: which job made it, and as its how many-eth. `attempt` is chosen anew each time that a job is begun: in a
/// bucket no file is ever put over another, though a lake be restored that does not know of the jobs it had done since.
pub(crate) fn file_name(key: &Key, job: u64, part: u32, attempt: u64) -> String {
    let nothing = inborn_identity::InstanceId::from_bytes([0; 9]);
    let free = recent::keyed(key, nothing, &format!("{job} {part} {attempt}"));
    let [a, b, c, d, e, f, g, h, ..] = free.to_le_bytes();
    let variant = (a & 0x3f) | 0x80;
    let (high, low) = (job >> 16, job & 0xffff);
    let rest = [c, d, e, f, g, h].map(|byte| format!("{byte:02x}")).concat();
    format!("{high:08x}-{low:04x}-8{:03x}-{variant:02x}{b:02x}-{rest}.parquet", part & 0xfff)
}

/// The job that made a file.
pub(crate) fn job_of(name: &str) -> Option<u64> {
    let uuid = name.strip_suffix(".parquet")?;
    let (high, rest) = uuid.split_once('-')?;
    let (low, rest) = rest.split_once('-')?;
    let ours = high.len() == 8 && low.len() == 4 && rest.starts_with('8') && uuid.len() == 36;
    let (high, low) = (u64::from_str_radix(high, 16).ok()?, u64::from_str_radix(low, 16).ok()?);
    ours.then_some((high << 16) | low)
}

/// A directory of one partition.
pub(crate) struct DayDirectory {
    pub(crate) region: Region,
    pub(crate) account: AccountId,
    pub(crate) day: Day,
    pub(crate) path: PathBuf,
}

/// The partitions whose source and account are wanted, in no order. What is none of ours is passed over.
pub(crate) fn directories(
    lake: &Path,
    source_wanted: &dyn Fn(&str) -> bool,
    account_wanted: &dyn Fn(AccountId) -> bool,
) -> io::Result<Vec<DayDirectory>> {
    let mut found = Vec::new();
    for (source, path) in children(&lake.join(ROOT), "")? {
        if !source_wanted(&source) {
            continue;
        }
        for (region, path) in children(&path, "region=")? {
            let Ok(region) = region.parse::<Region>() else { continue };
            for (account, path) in children(&path, "accountId=")? {
                let Ok(account) = account.parse::<AccountId>() else { continue };
                if !account_wanted(account) {
                    continue;
                }
                for (day, path) in children(&path, "eventDay=")? {
                    let Some(day) = Day::parse(&day) else { continue };
                    found.push(DayDirectory { region: region.clone(), account, day, path });
                }
            }
        }
    }
    Ok(found)
}

/// The files of a partition by the jobs that made them, the oldest first.
pub(crate) fn files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let names = children(directory, "")?;
    let mut found: Vec<_> = names.into_iter().filter_map(|(name, path)| Some((job_of(&name)?, path))).collect();
    found.sort();
    Ok(found)
}

/// What is in a directory, and named with `prefix`, without it. A directory that is not there has nothing in it: others
/// may be tidying up.
fn children(directory: &Path, prefix: &str) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_prefix(prefix)) {
            found.push((name.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_are_those_of_utc() {
        let day = Day::of(1_800_000_000_000);
        assert_eq!(day.name(), "20270115");
        assert_eq!(Day::parse("20270115"), Some(day));
        assert_eq!(Day::of(1_799_971_199_999).name(), "20270114");
        assert_eq!(Day::of(1_799_971_200_000), day);
        assert_eq!(day.end(), UnixTime::from_secs(1_800_057_600));
        assert_eq!(day.times(), (1_799_971_200_000, 1_800_057_599_999));
        for name in ["2027011", "20270132", "2027-01-15", "", "202701155"] {
            assert_eq!(Day::parse(name), None, "{name}");
        }
    }

    #[test]
    fn times_without_a_day_are_on_the_first_or_last() {
        assert_eq!((Day::of(i64::MIN).name(), Day::of(-1).name()), ("19700101".into(), "19700101".into()));
        assert_eq!(Day::of(i64::MAX).name(), "99991231");
        assert_eq!(Day::of(-5).times().0, i64::MIN);
        assert_eq!(Day::of(i64::MAX).times().1, i64::MAX);
    }

    proptest! {
        #[test]
        fn a_time_is_among_those_of_its_day(time in any::<i64>()) {
            let (first, last) = Day::of(time).times();
            prop_assert!(first <= time && time <= last);
        }

        #[test]
        fn a_name_tells_its_job_and_is_a_uuid(job in 0..=JOB_MAX, part in any::<u32>(), attempt in any::<u64>()) {
            let name = file_name(&[1; 32], job, part, attempt);
            prop_assert_eq!(job_of(&name), Some(job));
            prop_assert_ne!(&name, &file_name(&[1; 32], job, part, attempt ^ 1));
            let uuid = name.strip_suffix(".parquet").unwrap();
            let groups: Vec<_> = uuid.split('-').map(str::len).collect();
            prop_assert_eq!(groups, [8, 4, 4, 4, 12]);
            prop_assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        }
    }
}

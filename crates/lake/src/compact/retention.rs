//! What is kept no longer: by the age of its day, and beyond what may be taken of the disk.

use std::fs;
use std::io;
use std::path::Path;

use inborn_identity::UnixTime;

use super::seen::age;
use crate::files;
use crate::layout::{self, DayDirectory};
use crate::log::recover::{DAMAGED, named};
use crate::settings::Settings;

/// Removes what is to go. `bytes`: what the tree takes, counted here if it is not known.
pub(super) fn retire(lake: &Path, settings: &Settings, now: UnixTime, bytes: &mut Option<u64>) -> io::Result<()> {
    let mut days = layout::directories(lake, &|_| true, &|_| true)?;
    days.sort_by(|one, other| (one.day, &one.path).cmp(&(other.day, &other.path)));
    let mut total = match *bytes {
        Some(bytes) => bytes,
        None => count(&days)?,
    };
    for day in &days {
        let old = is_old(day, settings, now);
        if !old && total <= settings.parquet_bytes_max {
            continue;
        }
        for (_, path) in layout::files(&day.path)? {
            if !old && total <= settings.parquet_bytes_max {
                break;
            }
            let size = fs::metadata(&path).map_or(0, |file| file.len());
            files::remove(&path)?;
            total = total.saturating_sub(size);
        }
        // Fails while something is in it, which is then not ours or not old.
        let _ = fs::remove_dir(&day.path);
    }
    *bytes = Some(total);
    Ok(())
}

/// Removes the directories of old days out of which everything was removed. Only while nothing is written there.
pub(super) fn remove_old_days(lake: &Path, settings: &Settings, now: UnixTime) -> io::Result<()> {
    for day in layout::directories(lake, &|_| true, &|_| true)? {
        if is_old(&day, settings, now) {
            let _ = fs::remove_dir(&day.path);
        }
    }
    Ok(())
}

fn is_old(day: &DayDirectory, settings: &Settings, now: UnixTime) -> bool {
    now.since(day.day.end()) >= settings.retention_seconds && now >= day.day.end()
}

/// Removes damaged segments that were kept for long enough.
pub(super) fn retire_damaged(lake: &Path, settings: &Settings, now: UnixTime) -> io::Result<()> {
    for (_, path) in named(&lake.join("log"), DAMAGED)? {
        if fs::metadata(&path).is_ok_and(|file| age(&file, now) > settings.retention_seconds) {
            files::remove(&path)?;
        }
    }
    Ok(())
}

fn count(days: &[DayDirectory]) -> io::Result<u64> {
    let mut total = 0;
    for day in days {
        for (_, path) in layout::files(&day.path)? {
            total += fs::metadata(&path).map_or(0, |file| file.len());
        }
    }
    Ok(total)
}

//! Answers questions from Parquet: of the local tree, and of the bucket where that has what the tree has not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inborn_identity::InstanceId;
use inborn_telemetry::{Record, Source};
use serde_json::Value;

use super::best::{Best, Unreadable};
use super::{Event, Order, Query};
use crate::bucket::{Bucket, RemoteFile};
use crate::delivery::index;
use crate::layout::{self, DayDirectory};
use crate::log::frame::ReadAt;
use crate::parquet::classes;
use crate::parquet::read::{self, Found, Wanted};
use crate::parquet::sealed::{Seal, Sealed};
use crate::recent::Key;

/// What a bucket answers when it has not got an object: one that may not be listed does not tell that from a forbidden one.
const MISSING: [io::ErrorKind; 2] = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied];

/// A file of a day, wherever it is.
struct Candidate {
    path: PathBuf,
    is_local: bool,
    /// How many bytes the bucket has of it, if it has it.
    delivered: Option<u64>,
    /// Of its events.
    times: (i64, i64),
}

struct Scan<'a, 'b> {
    lake: &'a Path,
    key: &'a Key,
    /// `None`: there is none, or it is away and is not asked again.
    bucket: Option<Arc<dyn Bucket>>,
    query: &'a Query,
    best: &'a mut Best,
    unreadable: &'b mut Unreadable,
}

/// Day by day, in the order that is asked for, until nothing better can come.
pub(super) fn scan(
    (lake, key): (&Path, &Key),
    bucket: Option<&Arc<dyn Bucket>>,
    job: u64,
    query: &Query,
    (best, unreadable): (&mut Best, &mut Unreadable),
) -> io::Result<()> {
    let sources: Vec<String> = query.classes.iter().map(|class| classes::source(classes::group(*class))).collect();
    let source_wanted = |source: &str| sources.is_empty() || sources.iter().any(|wanted| wanted == source);
    let account_wanted = |account| query.accounts.is_empty() || query.accounts.contains(&account);
    let mut directories = layout::directories(lake, &source_wanted, &account_wanted)?;
    directories.sort_by(|one, other| (one.day, &one.path).cmp(&(other.day, &other.path)));
    if query.order == Order::NewestFirst {
        directories.reverse();
    }
    let (first, last) = query.times();
    let mut scan = Scan { lake, key, bucket: bucket.map(Arc::clone), query, best, unreadable };
    for directory in directories {
        let overlaps = |(from, to): (i64, i64)| from <= last && to >= first;
        let (day_first, day_last) = directory.day.times();
        if !overlaps((day_first, day_last)) || !scan.best.admits_times(day_first, day_last) {
            continue;
        }
        for file in scan.candidates(&directory, job)? {
            if overlaps(file.times) && scan.best.admits_times(file.times.0, file.times.1) {
                scan.file(&file, &directory);
            }
        }
    }
    Ok(())
}

impl Scan<'_, '_> {
    /// The files of a day, those first that are likely to have what is asked for.
    fn candidates(&mut self, directory: &DayDirectory, job: u64) -> io::Result<Vec<Candidate>> {
        // In this order: a file that is removed from the local disk meanwhile is on the list.
        let local = layout::files(&directory.path)?.into_iter().filter(|(made_by, _)| *made_by <= job);
        let times = directory.day.times();
        let mut found: BTreeMap<PathBuf, Candidate> =
            local.map(|(_, path)| (path.clone(), Candidate { path, is_local: true, delivered: None, times })).collect();
        match index::read(&directory.path) {
            Ok(entries) => {
                for entry in entries.into_iter().filter(|entry| !entry.is_going) {
                    let path = directory.path.join(&*entry.name);
                    let times = (entry.first_ms, entry.last_ms);
                    let known = found.entry(path.clone());
                    let file = known.or_insert(Candidate { path, is_local: false, delivered: None, times });
                    (file.delivered, file.times) = (Some(entry.length), times);
                }
            }
            Err(error) => {
                tracing::error!(%error, "what of a day is in the bucket cannot be told");
                self.unreadable.add(self.lake, &directory.path);
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        match self.query.order {
            Order::NewestFirst => found.sort_by_key(|file| core::cmp::Reverse(file.times.1)),
            Order::OldestFirst => found.sort_by_key(|file| file.times.0),
        }
        Ok(found)
    }

    fn file(&mut self, file: &Candidate, directory: &DayDirectory) {
        if file.is_local {
            match self.local(&file.path, directory) {
                // Retention may have been faster; or it was delivered, and there was no more room for it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => return self.note(&file.path, outcome),
            }
        }
        let delivered = match file.delivered {
            Some(length) => Ok(Some(length)),
            None => listed(&file.path),
        };
        let outcome = match delivered {
            Ok(None) => return,
            Ok(Some(length)) => self.remote(&file.path, length, directory),
            Err(error) => Err(error),
        };
        // And in the bucket as well.
        let is_missing = outcome.as_ref().is_err_and(|error| MISSING.contains(&error.kind()));
        if !is_missing || !matches!(listed(&file.path), Ok(None)) {
            self.note(&file.path, outcome);
        }
    }

    fn note(&mut self, path: &Path, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            tracing::error!(file = %path.display(), %error, "a file of telemetry cannot be read");
            self.unreadable.add(self.lake, path);
        }
    }

    fn local(&mut self, path: &Path, directory: &DayDirectory) -> io::Result<()> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        self.read(Box::new(file), length, path, directory)
    }

    fn remote(&mut self, path: &Path, length: u64, directory: &DayDirectory) -> io::Result<()> {
        let away = || io::Error::other("it is in a bucket that is away, or not set");
        let bucket = self.bucket.clone().ok_or_else(away)?;
        let key = path.strip_prefix(self.lake).unwrap_or(path).to_string_lossy();
        let outcome = self.read(Box::new(RemoteFile::new(bucket, &key, length)), length, path, directory);
        // What is missing or damaged says nothing of the others; else nobody waits for each of them.
        let damaged = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
        let is_its_own = |kind| MISSING.contains(&kind) || damaged.contains(&kind);
        if outcome.as_ref().is_err_and(|error| !is_its_own(error.kind())) {
            self.bucket = None;
        }
        outcome
    }

    fn read(
        &mut self,
        file: Box<dyn ReadAt + Send + Sync>,
        length: u64,
        path: &Path,
        directory: &DayDirectory,
    ) -> io::Result<()> {
        let query = self.query;
        let (first_ms, last_ms) = query.times();
        let wanted = Wanted { first_ms, last_ms, instances: &query.instances };
        let best = core::cell::RefCell::new(&mut *self.best);
        let mut more = |first_ms, last_ms| best.borrow().admits_times(first_ms, last_ms);
        let mut take = |found: Found| {
            if let Some(event) = event(found, directory, query) {
                best.borrow_mut().offer(event);
            }
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file = Sealed::open(file, length, Seal::new(self.key, &name))?;
        read::read(file, &wanted, query.order == Order::NewestFirst, &mut more, &mut take)
    }
}

/// How many bytes the bucket has of a file, if it has it now.
fn listed(path: &Path) -> io::Result<Option<u64>> {
    let name = path.file_name().unwrap_or_default();
    let entries = index::read(path.parent().unwrap_or(path))?;
    let entry = entries.into_iter().find(|entry| *entry.name == *name && !entry.is_going);
    Ok(entry.map(|entry| entry.length))
}

/// An event of a file, if it is wanted.
fn event(found: Found, directory: &DayDirectory, query: &Query) -> Option<Event> {
    if !query.wants_head(found.class, found.time_ms) {
        return None;
    }
    let event = Value::Object(found.event);
    if query.looks_inside() && !query.wants_json(&event) {
        return None;
    }
    let instance: InstanceId = found.instance.parse().ok()?;
    let source = Source { account: directory.account, instance, region: directory.region.clone() };
    let json = event.to_string().into();
    Some(Event { source, record: Record { uid: found.uid, time_ms: found.time_ms, class: found.class, json } })
}

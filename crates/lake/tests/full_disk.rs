//! A disk that fills up, on a small file system of its own: what does not fit is refused whole, what was acknowledged
//! stays, and when there is room again everything goes on. Only root may mount; others skip it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and so does what it calls; what is skipped is said"
)]

mod support;

use std::path::Path;
use std::process::Command;

use inborn_lake::{AppendError, Appended};
use inborn_telemetry::Batch;
use support::{batch, open};

/// A file system of a few MiB in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: usize) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(place.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(place));
        }
        assert!(std::env::var_os("CI").is_none(), "on CI nobody reads that this was skipped");
        eprintln!("!! SKIPPED, not tested: mounting a small disk needs root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// An event of about so many bytes that zstd makes half as long.
fn noise(name: &str, bytes: usize) -> Batch {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ name.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
    let mut batch = batch(1, [format!("{name}-1"), format!("{name}-2")]);
    let hex: String = (0..bytes / 32)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{state:016x}")
        })
        .collect();
    for record in &mut batch.records {
        record.json = format!(r#"{{"class_uid":1007,"message":"{hex}"}}"#).into();
    }
    batch
}

fn fill(path: &Path, megabytes: usize) {
    std::fs::write(path, vec![1; megabytes << 20]).unwrap();
}

const KEPT: Result<Appended, AppendError> = Ok(Appended { kept: 2, duplicates: 0 });
const KNOWN: Result<Appended, AppendError> = Ok(Appended { kept: 0, duplicates: 2 });

#[tokio::test]
async fn what_does_not_fit_is_refused_whole_and_nothing_else_is() {
    let Some(disk) = SmallDisk::mount(8) else { return };
    let place = disk.0.path().join("lake");
    let filler = disk.0.path().join("filler");
    fill(&filler, 4);
    let lake = open(&place);
    assert_eq!(lake.append(noise("first", 1 << 20)).await, KEPT);

    // In one group: the large ones do not fit, in the middle of which the disk is full, and the small one does.
    let (before, large, small, another) = tokio::join!(
        lake.append(noise("before", 64 << 10)),
        lake.append(noise("large", 7 << 20)),
        lake.append(noise("small", 64 << 10)),
        lake.append(noise("another", 7 << 20)),
    );
    assert_eq!((before, large, small, another), (KEPT, Err(AppendError::Full), KEPT, Err(AppendError::Full)));

    let mut taken = vec!["first".to_owned(), "before".to_owned(), "small".to_owned()];
    let mut refused = None;
    for number in 0..100 {
        let name = format!("more-{number}");
        match lake.append(noise(&name, 256 << 10)).await {
            KEPT => taken.push(name),
            error => {
                assert_eq!(error, Err(AppendError::Full));
                refused = Some(name);
                break;
            }
        }
    }
    let refused = refused.unwrap();
    assert_eq!(lake.append(noise("first", 1 << 20)).await, KNOWN, "what is there is known even so");

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(lake.append(noise(&refused, 256 << 10)).await, KEPT, "nothing of it was kept or remembered");
    taken.push(refused);
    lake.close().await;

    let lake = open(&place);
    for name in &taken {
        assert_eq!(lake.append(noise(name, 64 << 10)).await, KNOWN, "{name} is lost");
    }
    assert_eq!(lake.query(&inborn_lake::Query::default()).unwrap().unreadable, 0);
}

#[tokio::test]
async fn a_lake_that_cannot_become_parquet_keeps_its_log_until_there_is_room() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let place = disk.0.path().join("lake");
    let lake = open(&place);
    assert_eq!(lake.append(noise("first", 7 << 20)).await, KEPT);
    let filler = disk.0.path().join("filler");
    let free = rustix::fs::statvfs(disk.0.path()).unwrap();
    fill(&filler, usize::try_from(free.f_bavail * free.f_frsize).unwrap() >> 20);
    assert!(lake.compact().is_err(), "there is no room for both");
    assert_eq!(support::files(&place), Vec::<std::path::PathBuf>::new());
    assert_eq!(lake.query(&inborn_lake::Query::default()).unwrap().events.len(), 1, "4 MB is an answer by itself");

    std::fs::remove_file(&filler).unwrap();
    lake.compact().unwrap();
    assert_eq!(support::files(&place).len(), 1);
    assert_eq!(lake.append(noise("first", 7 << 20)).await, KNOWN);
}

//! The end of a host that its region has cut off: what it was given goes, and the exit code says so.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::identity::HostIdentity;
use super::{EXIT_EVICTED, attachments, cache};

/// Removes all that a host was given, and writes down that it is one no more. What cannot be done is said; the exit is that of
/// an evicted host once it has nothing left to serve or to speak with.
pub(super) fn end(identity: &mut HostIdentity, data: &Path) -> anyhow::Result<ExitCode> {
    // Removing comes first: it needs no room, and makes some on a full disk.
    let secrets = [identity.forget_key(data), cache::remove_from(data)];
    let others = [attachments::remove_from(data), identity.be_evicted(data)];
    let say = |results: &[anyhow::Result<()>]| {
        results.iter().filter_map(|result| result.as_ref().err()).map(|error| format!("{error:#}")).collect::<Vec<_>>()
    };
    let (kept, undone) = (say(&secrets), say(&others));
    if !kept.is_empty() {
        anyhow::bail!(
            "host {} was evicted by region {}, and not all that it was given is gone: {}. Remove it by hand, or start again",
            identity.host,
            identity.region,
            [kept, undone].concat().join("; ")
        );
    }
    for error in undone {
        tracing::error!("the eviction: {error}");
    }
    let _ = writeln!(
        std::io::stderr(),
        "inborn: host {} was evicted by region {}: it serves nothing any more. It can join anew with another token (`inborn host join`)",
        identity.host,
        identity.region
    );
    Ok(ExitCode::from(EXIT_EVICTED))
}

#[cfg(test)]
mod tests {
    use super::super::identity::tests::joined;
    use super::*;
    use crate::beside;

    const GIVEN: [&str; 4] = ["host.key", "cache.sealed", "cache.key", "attachments.json"];

    fn given(data: &Path) -> HostIdentity {
        let (_, identity) = joined(data);
        for file in GIVEN.into_iter().skip(1) {
            std::fs::write(data.join(file), "x").unwrap();
        }
        identity
    }

    fn left(data: &Path) -> Vec<&'static str> {
        GIVEN.into_iter().filter(|file| data.join(file).exists()).collect()
    }

    #[test]
    fn all_that_was_given_goes_also_at_a_later_start() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let mut identity = given(data);
        assert_eq!(left(data), GIVEN);
        assert_eq!(end(&mut identity, data).unwrap(), ExitCode::from(EXIT_EVICTED));
        assert!(left(data).is_empty());
        let mut read = HostIdentity::read(data).unwrap().unwrap();
        assert!(read.is_evicted);
        for file in GIVEN {
            std::fs::write(data.join(file), "x").unwrap();
        }
        assert_eq!(end(&mut read, data).unwrap(), ExitCode::from(EXIT_EVICTED));
        assert!(left(data).is_empty());
    }

    /// As on a full disk: nothing can be written. The host has ended nevertheless, and a start says what to do.
    #[test]
    fn what_cannot_be_written_down_keeps_nothing_from_going() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let mut identity = given(data);
        beside::tests::IS_DISK_FULL.set(true);
        assert_eq!(end(&mut identity, data).unwrap(), ExitCode::from(EXIT_EVICTED));
        beside::tests::IS_DISK_FULL.set(false);
        assert!(left(data).is_empty());
        let error = HostIdentity::read(data).err().unwrap().to_string();
        assert!(error.contains("is lost") && error.contains("join anew"), "{error}");
    }

    #[test]
    fn what_cannot_be_removed_is_said_and_removed_by_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path();
        let mut identity = given(data);
        std::fs::remove_file(data.join("cache.sealed")).unwrap();
        std::fs::create_dir(data.join("cache.sealed")).unwrap();
        let error = end(&mut identity, data).unwrap_err().to_string();
        assert!(error.contains("cache.sealed"), "{error}");
        assert_eq!(left(data), ["cache.sealed"], "all else has gone");
        let mut read = HostIdentity::read(data).unwrap().unwrap();
        assert!(end(&mut read, data).is_err(), "and again");
        std::fs::remove_dir(data.join("cache.sealed")).unwrap();
        assert_eq!(end(&mut read, data).unwrap(), ExitCode::from(EXIT_EVICTED));
    }
}

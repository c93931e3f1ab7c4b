//! The store of a region: is it there, is it of this program's version, is it the one that was served last, does the key open it.

use std::sync::Arc;
use std::time::Duration;

use inborn_identity::{Clock, UnixTime};
use inborn_region::{compare_store, open_all_sealed};
use inborn_store::{EpochState, SealedEpoch, Store, StoreError};

use super::{Finding, Kind, Patient, servers};
use crate::clock::SystemClock;
use crate::serving::{DATABASE, KEY_FILE};
use crate::settings::{Key, Settings};
use crate::store_url::StoreUrl;

/// How long all that is asked of a store may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// An epoch that was published so long ago and does not seal waits for somebody: the least is some twenty minutes.
const EPOCH_WAITS_SECONDS: u64 = 3600;

const STORE: &str = "store";
const SEALED: &str = "key and store";
const EPOCHS: &str = "epochs";

/// What was found, and whether something is sealed in it.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) findings: Vec<Finding>,
    pub(super) is_sealed: bool,
}

/// Nothing where there is no store that is known of, which others tell.
pub(super) async fn look(patient: &Patient, settings: &Settings) -> Looked {
    let url = match (&settings.store, patient.kind) {
        (Some(url), _) => url.clone(),
        (None, Kind::Up) if patient.data.join(DATABASE).exists() => StoreUrl::Sqlite(patient.data.join(DATABASE)),
        _ => return Looked::default(),
    };
    match tokio::time::timeout(PATIENCE, examine(patient, settings, &url)).await {
        Ok(looked) => looked,
        Err(_) => {
            let found = format!("{}: it does not answer within {} s", url.shown(), PATIENCE.as_secs());
            Looked {
                findings: vec![Finding::problem(STORE, found, "look at the database, and at its disk")],
                is_sealed: false,
            }
        }
    }
}

async fn examine(patient: &Patient, settings: &Settings, url: &StoreUrl) -> Looked {
    let store = match url.open_to_read().await {
        Ok(store) => store,
        Err(error) => return Looked { findings: vec![cannot_be_read(&error, url, patient.kind)], is_sealed: false },
    };
    let mut looked = Looked::default();
    let now = SystemClock.now();
    looked.findings.push(match version(url).await {
        Err(error) => Finding::problem(
            STORE,
            format!("{} can be read, and not be written: {error}", url.shown()),
            "name the primary in the URL, or let the database take writes: servers refuse changes meanwhile",
        ),
        Ok(version) => match compare_store(&*store, &patient.data, now).await {
            Ok(report) => match report.older {
                None => Finding::fine(STORE, format!("{}, schema {version}", url.shown())),
                Some(older) => Finding::problem(
                    STORE,
                    format!("{} is older than what a server has seen with this data directory: {older}", url.shown()),
                    "docs/operations.md, *Back up and restore*: find the newer one, or start once with --accept-older-store",
                ),
            },
            Err(error) => Finding::problem(STORE, error.to_string(), "docs/operations.md, *Back up and restore*"),
        },
    });
    match store.epochs().await {
        Ok(epochs) => {
            looked.is_sealed = !epochs.is_empty();
            looked.findings.push(verdict_on_epochs(&epochs, now));
        }
        Err(error) => looked.findings.push(Finding::problem(EPOCHS, error.to_string(), "inborn store check")),
    }
    if looked.is_sealed {
        looked.findings.extend(key(patient, &settings.key, &store).await);
    }
    if patient.kind == Kind::Region {
        looked.findings.extend(servers::look(patient, settings, &*store).await);
    }
    let _ = store.close().await;
    looked
}

/// Whoever serves it writes: the version of its schema, of a database by a connection that takes writes.
async fn version(url: &StoreUrl) -> Result<u32, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => {
            rustix::fs::access(path, rustix::fs::Access::WRITE_OK)
                .map_err(|error| StoreError::Io(format!("{}: {error}", path.display())))?;
            Ok(inborn_store::SqliteSnapshot::open(path)?.schema())
        }
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(url) => Ok(inborn_store_postgres::PostgresStore::check(url).await?.0.version),
        #[cfg(not(feature = "postgres"))]
        StoreUrl::Postgres(_) => Err(crate::store_url::without_postgres()),
    }
}

fn cannot_be_read(error: &StoreError, url: &StoreUrl, kind: Kind) -> Finding {
    let (found, command) = (format!("{}: {error}", url.shown()), kind.command());
    match error {
        StoreError::Absent(_) => Finding::hint(STORE, found, format!("`{command}` makes it at its first start")),
        StoreError::Older { found: 0, .. } => Finding::hint(
            STORE,
            format!("{} is empty", url.shown()),
            format!("`{command}` fills it at its first start"),
        ),
        StoreError::Older { .. } => Finding::hint(
            STORE,
            found,
            format!("after a backup: start `{command}`, which brings it to its own version, or `inborn store migrate`"),
        ),
        // Their texts say what to do.
        _ => Finding::problem(STORE, found, "see above; `inborn store check` looks at all of it"),
    }
}

fn verdict_on_epochs(epochs: &[SealedEpoch], now: UnixTime) -> Finding {
    let is = |state: EpochState| move |epoch: &&SealedEpoch| epoch.state == state;
    let Some(sealing) = epochs.iter().rfind(is(EpochState::Sealing)) else {
        return if epochs.is_empty() {
            Finding::hint(EPOCHS, "there is none yet", "the first server that starts makes one")
        } else {
            Finding::problem(
                EPOCHS,
                "none of them seals: no credential can be made",
                "start a server, and look at its log: it makes one. If it does not, restore the last backup",
            )
        };
    };
    let waits = |epoch: &&SealedEpoch| {
        matches!(epoch.state, EpochState::Published | EpochState::Acknowledged)
            && epoch.created_at.plus(EPOCH_WAITS_SECONDS) < now
    };
    match epochs.iter().find(waits) {
        Some(epoch) => Finding::hint(
            EPOCHS,
            format!("epoch {} seals; epoch {} waits since {}", sealing.id, epoch.id, epoch.created_at.rfc3339()),
            "`inborn epoch list` says for which server",
        ),
        None => Finding::fine(EPOCHS, format!("epoch {} seals, of {}", sealing.id, epochs.len())),
    }
}

/// Whether the key is the one that the secrets in the store are sealed with. One that cannot be read is told of elsewhere.
async fn key(patient: &Patient, source: &Key, store: &Arc<dyn Store>) -> Option<Finding> {
    let file = patient.data.join(KEY_FILE);
    let is_there = match source {
        Key::File => inborn_region::check_key_file(&file).is_ok(),
        Key::Credential(path) => path.exists(),
        // It may ask somebody, or count who asks: a doctor does not run it.
        Key::Command(_) => false,
    };
    if !is_there {
        return None;
    }
    Some(match open_all_sealed(store, &source.source(&patient.data, file, false)).await {
        Ok((count, closed)) => match closed.first() {
            None => Finding::fine(SEALED, format!("it opens all {count} secrets")),
            Some(first) => Finding::problem(
                SEALED,
                format!(
                    "it does not open {} of {count} secrets, as {first}: another region's, or an old one",
                    closed.len()
                ),
                "copy epoch.key from a server that runs, or put it back from your backup",
            ),
        },
        Err(error) => Finding::problem(SEALED, error.to_string(), "see above"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use inborn_store::Sealed;

    fn epoch(id: u32, state: EpochState, created_at: u64) -> SealedEpoch {
        SealedEpoch {
            id,
            blob: Sealed::new(vec![1]),
            created_at: UnixTime::from_secs(created_at),
            state,
            seals_from: None,
            ended_at: None,
            revoked: false,
        }
    }

    #[test]
    fn epochs_of_which_one_seals_or_waits_or_none_does() {
        use EpochState::{Acknowledged, Published, Retired, Sealing};
        let now = UnixTime::from_secs(1_000_000 + EPOCH_WAITS_SECONDS);
        let ask = |epochs: &[SealedEpoch]| verdict_on_epochs(epochs, now);
        assert_eq!(ask(&[]).verdict, Verdict::Hint);
        assert_eq!(ask(&[epoch(1, Retired, 0), epoch(2, Published, 0)]).verdict, Verdict::Problem);
        assert_eq!(ask(&[epoch(1, Sealing, 0)]).verdict, Verdict::Fine);
        for state in [Published, Acknowledged] {
            for (created_at, verdict) in
                [(999_999, Verdict::Hint), (1_000_000, Verdict::Fine), (1_000_001, Verdict::Fine)]
            {
                assert_eq!(ask(&[epoch(1, Sealing, 0), epoch(2, state, created_at)]).verdict, verdict, "{created_at}");
            }
        }
    }

    #[test]
    fn a_store_that_is_not_there_is_made_and_one_of_the_past_is_migrated() {
        let url = "postgres://u:secret@h/d".parse().unwrap();
        for (error, verdict, word) in [
            (StoreError::Absent("x".to_owned()), Verdict::Hint, "first start"),
            (StoreError::Older { found: 0, known: 3 }, Verdict::Hint, "first start"),
            (StoreError::Older { found: 2, known: 3 }, Verdict::Hint, "store migrate"),
            (StoreError::Newer { found: 4, known: 3 }, Verdict::Problem, "newer program"),
            (StoreError::HalfRestored, Verdict::Problem, "begin it again"),
            (StoreError::Unavailable("nobody".to_owned()), Verdict::Problem, "see that it runs"),
        ] {
            let finding = cannot_be_read(&error, &url, Kind::Region);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            let said = format!("{} {}", finding.found, finding.next);
            assert!(said.contains(word) && !said.contains("secret"), "{said}");
        }
    }
}

//! Where the key-encryption key comes from: a file, a credential of the service manager, or a program. It is the same key.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use common::*;
use inborn_credential::Delivery;
use inborn_identity::Clock;
use inborn_region::{EpochSettings, KeySource, OpenError, Opening, Rates, RegionServer, TelemetrySettings};
use inborn_store::{SqliteStore, Store};
use inborn_testkit::ManualClock;

fn command(words: &[&str], state: &Path) -> KeySource {
    KeySource::Command { argv: words.iter().map(|&word| word.to_owned()).collect(), state: state.to_owned() }
}

fn opening(directory: &Path, key_source: KeySource) -> Opening {
    Opening {
        identity: identity(),
        key_source,
        audit_file: directory.join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: None,
    }
}

async fn refusal(store: &Arc<dyn Store>, directory: &Path, source: KeySource) -> String {
    let clock = Arc::new(ManualClock::new(NOW)) as Arc<dyn Clock>;
    match RegionServer::open(Arc::clone(store), opening(directory, source), clock).await {
        Err(OpenError::KeyFile(error)) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
}

#[tokio::test]
async fn the_same_key_by_other_ways_opens_the_same_store() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let key = directory.join("epoch.key");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_on(Arc::clone(&store), KeySource::File(key.clone())).await;
    let id = running.launch().await;
    let expected = running.region.issue(id, Delivery::V2, NOW).unwrap().credential;
    drop(running);
    // A credential is its service manager's, whatever its mode.
    let credential = directory.join("credential");
    std::fs::copy(&key, &credential).unwrap();
    std::fs::set_permissions(&credential, std::fs::Permissions::from_mode(0o440)).unwrap();
    let text = key.to_str().unwrap();
    for source in [
        KeySource::Credential { path: credential, state: directory.to_owned() },
        command(&["cat", text], directory),
        KeySource::File(key.clone()),
    ] {
        let again = start_on(Arc::clone(&store), source.clone()).await;
        let issued = again.region.issue(id, Delivery::V2, NOW).unwrap().credential;
        assert_eq!(issued, expected, "{source:?}");
    }
    let wrong = "inborn-key-1 0202020202020202020202020202020202020202020202020202020202020202";
    let before = store.epochs().await.unwrap();
    let said = refusal(&store, directory, command(&["echo", wrong], directory)).await;
    assert!(said.contains("the key command echo gives is not the one") && !said.contains("0202"), "{said}");
    let said = refusal(&store, directory, command(&["false"], directory)).await;
    assert!(said.contains("has failed"), "{said}");
    let missing = KeySource::Credential { path: directory.join("none"), state: directory.to_owned() };
    let said = refusal(&store, directory, missing).await;
    assert!(said.contains("LoadCredentialEncrypted"), "{said}");
    assert_eq!(store.epochs().await.unwrap(), before);
}

/// A new region begins with the key that it is given, and makes none.
#[tokio::test]
async fn a_new_region_takes_the_key_that_it_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let line = "inborn-key-1 0303030303030303030303030303030303030303030303030303030303030303";
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    let source = || command(&["echo", line], directory.path());
    let id = start_on(Arc::clone(&store), source()).await.launch().await;
    assert!(!directory.path().join("epoch.key").exists());
    assert!(directory.path().join("high-water.json").exists());
    let again = start_on(store, source()).await;
    assert!(again.region.issue(id, Delivery::V2, NOW).is_some());
}

//! Several regions in one process, each with siblings elsewhere: who has the key of one region says nothing in the name of another.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use common::*;
use inborn_credential::Kek;
use inborn_identity::Clock;
use inborn_region::{
    EpochSettings, FleetSettings, KeySource, Opening, Rates, RegionIdentity, RegionServer, TelemetrySettings,
    read_key_file,
};
use inborn_store::{NodeId, SqliteStore, Store};
use serde_json::json as value;

const HOME: &str = "eu-central-1";
const OTHER: &str = "eu-west-1";

fn opening(region: &str, directory: &Path) -> Opening {
    Opening {
        identity: RegionIdentity { region: region.parse().unwrap(), ..identity() },
        key_source: KeySource::File(directory.join(region).join("epoch.key")),
        audit_file: directory.join(format!("{region}.jsonl")),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: Some(FleetSettings::default()),
    }
}

/// A request as a server of `region` passes it on to `node`, which has the region's key in `directory`.
fn passed_on(text: &str, region: &str, node: NodeId, directory: &Path) -> String {
    let kek = Kek::from_bytes(&read_key_file(&directory.join(region).join("epoch.key")).unwrap()).unwrap();
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    let value_of = |name: &str| {
        head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name))).unwrap().1
    };
    let target = head.split(' ').nth(1).unwrap();
    let told = format!("POST\n{target}\n{}\r\n{}\r\n", value_of("host"), value_of("authorization"));
    let label = format!("forwarded request 1 {region} {node} {}", BASE64.encode(inborn_sigv4::sha256(told.as_bytes())));
    let said = value!({"at": NOW.as_secs(), "source": "192.0.2.1:99", "tls": null}).to_string();
    let sealed = BASE64.encode(kek.seal(&label, said.as_bytes()).unwrap());
    let (line, rest) = text.split_once("\r\n").unwrap();
    format!("{line}\r\ninborn-forwarded: {region}.{sealed}\r\n{rest}")
}

#[tokio::test]
async fn a_seal_is_good_for_calls_of_its_own_region_alone() {
    let keys = tempfile::tempdir().unwrap();
    for region in [HOME, OTHER] {
        std::fs::create_dir(keys.path().join(region)).unwrap();
    }
    let store = || Arc::new(SqliteStore::in_memory().unwrap()) as Arc<dyn Store>;
    let home = start_opening(tempfile::tempdir().unwrap(), store(), opening(HOME, keys.path())).await;
    let clock = Arc::clone(&home.clock) as Arc<dyn Clock>;
    let other = RegionServer::open_beside(&home.region, store(), opening(OTHER, keys.path()), clock).await.unwrap();
    let node = |region: &str| if region == HOME { home.region.store().node() } else { other.store().node() };
    let describe = |region: &str| {
        let call = json("ssm", "AmazonSSM.DescribeSessions", &value!({"State": "Active"}).to_string());
        let call = Call { host: format!("ssm.{region}.amazonaws.com"), region: region.to_owned(), ..call };
        home.signed(&home.operator(), &call)
    };
    for (of, by, status) in [(HOME, HOME, 200), (OTHER, OTHER, 200), (OTHER, HOME, 421), (HOME, OTHER, 421)] {
        let text = passed_on(&describe(of), by, node(by), keys.path());
        assert_eq!(exchange(home.address, &text).await.status, status, "a call of {of}, passed on by a server of {by}");
    }
}

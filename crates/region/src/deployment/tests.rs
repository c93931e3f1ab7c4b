use core::time::Duration;
use std::sync::Arc;

use futures_util::FutureExt as _;
use inborn_credential::{Claims, Delivery, Epoch, EpochId, EpochRoot, Keyring, Kind};
use inborn_identity::{AccountId, Clock, Partition, UnixTime};
use inborn_store::SqliteStore;
use inborn_testkit::ManualClock;

use super::Asked;
use crate::{EpochSettings, FleetSettings, KeySource, Opening, Rates, RegionIdentity, RegionServer, TelemetrySettings};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

fn opening(region: &str, directory: &tempfile::TempDir) -> Opening {
    Opening {
        identity: RegionIdentity {
            partition: Partition::Aws,
            region: region.parse().unwrap(),
            account: AccountId::new(123_456_789_012).unwrap(),
            domain: "amazonaws.com".to_owned(),
        },
        key_source: KeySource::Ephemeral,
        audit_file: directory.path().join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: Some(FleetSettings::default()),
    }
}

#[tokio::test]
async fn who_finds_no_place_to_wait_in_is_told_so_at_once() {
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW));
    let store = || Arc::new(SqliteStore::in_memory().unwrap());
    let home = RegionServer::open(store(), opening("eu-central-1", &directories[0]), Arc::clone(&clock)).await.unwrap();
    let beside = opening("eu-west-1", &directories[1]);
    let _other = RegionServer::open_beside(&home, store(), beside, clock).await.unwrap();
    // Of an epoch that comes after those of both, and is none of theirs.
    let epoch = Epoch::new(EpochId(2), &EpochRoot::from_bytes([9; 32]), Partition::Aws).unwrap();
    let claims = Claims {
        kind: Kind::Identity,
        account: AccountId::new(123_456_789_012).unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        region: "eu-west-1".parse().unwrap(),
        issued_at: NOW,
        expires_at: NOW.plus(3600),
        delivery: Delivery::V2,
        boot_generation: 1,
        private_address: None,
    };
    let credential = Keyring::new(vec![epoch], EpochId(2)).unwrap().mint(&claims).unwrap();
    let session = Some((credential.access_key_id.as_str(), credential.session_token.expose().as_bytes()));
    let asked = Asked { service: Some("sts"), session, ..Asked::default() };

    // A round may take longer than anybody waits.
    let heard = async {
        loop {
            if let Some(route) = home.route_when_heard(&asked, |_| true).await {
                return route;
            }
        }
    };
    let route = tokio::time::timeout(PATIENCE, heard).await.unwrap();
    assert!(route.is_unclaimed && route.has_waited, "that it is no one's is known, and need not be waited for again");
    let places: Vec<_> = core::iter::from_fn(|| home.bounds.place_to_wait()).collect();
    assert!(matches!(home.route_when_heard(&asked, |_| true).now_or_never(), Some(None)), "nobody can tell");
    let without = Asked { session: None, ..asked };
    assert!(
        home.route_when_heard(&without, |_| true).await.is_some_and(|route| !route.has_waited),
        "others need no place"
    );
    let unfit = home.route_when_heard(&asked, |_| false).await;
    assert!(unfit.is_some_and(|route| !route.has_waited), "nor does what is refused anyhow");
    drop(places);
    assert!(home.route_when_heard(&asked, |_| true).now_or_never().is_none(), "it waits");
}

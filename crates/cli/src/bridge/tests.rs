//! What becomes of attachments that are given up while they are being made.

use inborn_identity::{AccountId, Clock, Partition};
use inborn_pki::tls;
use inborn_region::{EpochSettings, KeySource, Opening, Rates, RegionIdentity, TelemetrySettings};
use inborn_store::conformance::samples;
use inborn_store::{SqliteStore, Store};
use inborn_testkit::ManualClock;

use super::*;

async fn region_with(instance: &Instance, directory: &tempfile::TempDir, clock: &Arc<dyn Clock>) -> Arc<RegionServer> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    store.launch(samples::launch(vec![instance.clone()])).await.unwrap();
    let identity = RegionIdentity {
        partition: Partition::Aws,
        region: "eu-central-1".parse().unwrap(),
        account: AccountId::new(123_456_789_012).unwrap(),
        domain: "amazonaws.com".to_owned(),
    };
    let opening = Opening {
        identity,
        key_source: KeySource::Ephemeral,
        audit_file: directory.path().join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: None,
    };
    RegionServer::open(store, opening, Arc::clone(clock)).await.unwrap()
}

/// The end of a machine that is being attached finds nothing to detach, and nobody who has it: whoever attached it does so then.
#[tokio::test]
async fn a_machine_that_was_given_up_while_it_was_attached_is_detached() {
    let (instance, directory) = (samples::bare(1), tempfile::tempdir().unwrap());
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(UnixTime::from_secs(1_800_000_000)));
    let region = region_with(&instance, &directory, &clock).await;
    let residents = Residents::default();
    let issuer = Arc::new(LocalIssuer { regions: region.regions(), residents: residents.clone() });
    let record = directory.path().join("network.json");
    let metrics = inborn_host::Metrics::default();
    let host = Host::open(Arc::clone(&clock), issuer, metrics, inborn_host::MetadataLimits::DEFAULT, record);
    let host = host.await.unwrap();
    let names = serving::server_names(&region, &[]);
    let certificate = tls::Certificate::new(region.authority(), names, clock.now()).unwrap();
    let (_stop, stopping) = watch::channel(false);
    let config = tls::server_config(certificate).unwrap();
    let handler = ControlHandler::new(Arc::clone(&region), Arc::clone(&host), residents.clone(), config, stopping);

    for (holder, is_attached) in [(None, false), (Some("eu-central-1"), false), (Some("eu-west-1"), true)] {
        host.attach_loopback(machine(&region, &instance), None).await.unwrap();
        if let Some(holder) = holder {
            assert!(residents.take(instance.id, &holder.parse().unwrap()));
        }
        handler.let_go(instance.id);
        assert_eq!(host.attachment(instance.id).is_some(), is_attached, "{holder:?}");
        assert_eq!(residents.region(instance.id).is_some(), is_attached, "another region's stays: {holder:?}");
    }
}

//! A host's next certificate: from the question to the connections that are made with it.

use core::sync::atomic::{AtomicUsize, Ordering};

use inborn_fleet::RefusalCode;
use inborn_host_agent::{Address, Answer, Ask, Failure};
use inborn_identity::{AccountId, HostId, Partition};
use inborn_pki::{HOST_LIFE_SECONDS, HostKey, tls};
use inborn_region::{
    EpochSettings, HostsEndpoint, KeySource, Opening, Rates, RegionIdentity, RegionServer, TelemetrySettings,
};
use inborn_store::conformance::samples;
use inborn_store::{HostJoin, SqliteStore, Store};
use inborn_testkit::ManualClock;

use super::super::identity::Membership;
use super::*;

/// What the host's certificate still has when it is met: so little that it asks for the next at once, and more than a slow machine
/// takes for the test, since TLS has a clock of its own.
const LEFT_SECONDS: u64 = 3600;
/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(120);

/// A region that knows a host by its key, and where it listens to hosts.
async fn region_of(host: HostId, key: &HostKey, data: &Path, clock: &Arc<ManualClock>) -> (Arc<RegionServer>, Address) {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    store.put_join_token(samples::join_token(1, 100)).await.unwrap();
    let joins = HostJoin { id: host, public_key: key.public_key().to_vec(), ..samples::host_join(1, 1, 1) };
    store.join_host(joins).await.unwrap();
    let opening = Opening {
        identity: RegionIdentity {
            partition: Partition::Aws,
            region: "eu-central-1".parse().unwrap(),
            account: AccountId::new(123_456_789_012).unwrap(),
            domain: "amazonaws.com".to_owned(),
        },
        key_source: KeySource::Ephemeral,
        audit_file: data.join("audit.jsonl"),
        rates: Rates::default(),
        telemetry: TelemetrySettings::default(),
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: None,
    };
    let region = RegionServer::open(store, opening, Arc::clone(clock) as Arc<dyn Clock>).await.unwrap();
    let authority = region.hosts_authority();
    let certificate = tls::HostsEndpointCertificate::new(authority, clock.now()).unwrap();
    let config = tls::hosts_server_config(authority, certificate).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let endpoint = HostsEndpoint::new(Arc::clone(&region));
    let respond = move |request, peer| Arc::clone(&endpoint).respond(request, peer);
    tokio::spawn(async move {
        // It is stopped with the test.
        let (_stop, stopping) = watch::channel(false);
        inborn_listener::serve(listener, Some(config), Limits::DEFAULT, stopping, respond).await;
    });
    (region, address)
}

/// A host asks for its next certificate by itself, goes on with it after the end of the one before, also after a restart, and the one
/// before opens nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_goes_on_after_the_end_of_its_certificate() {
    let (of_region, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = directory.path().join("host");
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let (host, key) = (samples::host_id(1), HostKey::generate().unwrap());
    let (region, address) = region_of(host, &key, of_region.path(), &clock).await;
    let authority = region.hosts_authority();
    let made_at = clock.now().minus(HOST_LIFE_SECONDS - LEFT_SECONDS);
    let old = authority.certify(host, key.public_key(), made_at).unwrap();
    let with_old = tls::host_client_config(authority.fingerprint(), Some((&old, &key))).unwrap();
    let membership = Membership {
        host,
        name: "kvm-1".to_owned(),
        region: "eu-central-1".parse().unwrap(),
        domain: "amazonaws.com".to_owned(),
        addresses: vec![address.clone()],
        authority: authority.fingerprint(),
        certificate: old,
        key,
    };
    let held = DataDirectory::hold(&data, false).unwrap();
    let identity = HostIdentity::create(held.path(), membership).unwrap();
    let ended = identity.certificate_ends();
    let arguments = Serve {
        data: None,
        key_credential: None,
        metadata_rate: None,
        operations_port: None,
        ready_file: None,
        log_format: LogFormat::Text,
    };
    let serving = Arc::new(Serving::open(&arguments, held, identity).await.unwrap());
    let old_client = Client::new(Arc::clone(&with_old));
    let asked = old_client.ask(&address, &Ask::Renew, || ()).await;
    assert!(matches!(asked, Ok(Answer::Renewed(_))), "the old one is good until its end: {asked:?}");

    let (stop, stopped) = watch::channel(false);
    let talking = Arc::clone(&serving.talk).go_on(stopped, async |event| serving.follow(event).await);
    let renewed = async {
        let begun = std::time::Instant::now();
        while serving.identity().certificate_ends() == ended {
            assert!(begun.elapsed() < PATIENCE, "it does not renew its certificate");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.send(true).unwrap();
    };
    let (over, ()) = tokio::join!(talking, renewed);
    assert_eq!(over, Ended::Stopped);

    clock.advance(LEFT_SECONDS + 1);
    assert!(clock.now() > ended);
    let connections = AtomicUsize::new(0);
    let connected = || {
        connections.fetch_add(1, Ordering::SeqCst);
    };
    let answer = serving.talk.client().ask(&address, &Ask::Renew, connected).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 1, "that of before is known by the certificate of before");
    // On the connection that is open as on a new one.
    for client in [old_client, Client::new(with_old)] {
        let refused = client.ask(&address, &Ask::Renew, || ()).await;
        let is_refused = |failure: &Failure| matches!(failure, Failure::Refused { code: RefusalCode::NotJoined, .. });
        assert!(refused.as_ref().err().is_some_and(is_refused), "{refused:?}");
    }
    let read = HostIdentity::read(&data).unwrap().unwrap();
    assert!(read.certificate_ends() > ended.plus(HOST_LIFE_SECONDS / 2) && !read.has_ended(clock.now()));
    let answer = Client::new(read.tls().unwrap()).ask(&address, &Ask::Renew, || ()).await;
    assert!(answer.is_ok(), "{answer:?}");
}

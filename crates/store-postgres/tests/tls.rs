//! TLS: a server that proves its name is worked with, any other is refused with what to do about it, and nothing is sent in plain text
//! where TLS was asked for, although this server would take it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::Cluster;
use inborn_store::conformance::samples::{bare, id, launch};
use inborn_store::{Store, StoreError};
use inborn_store_postgres::PostgresStore;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const NAME: &str = "db.test";
/// What to say in every refusal of one kind.
const OF_NAME: &str = "name the host in the URL as its certificate does";
const OF_ROOT: &str = "sslrootcert=PATH";
const OF_DATES: &str = "renew the server's certificate";
const OF_TLS: &str = "switch TLS on there";

/// Whoever comes over the network needs a password over TLS, and none over plain text: who falls back is let in.
const WHO_MAY: &str = "local all all trust\n\
    hostssl all region 127.0.0.0/8 scram-sha-256\n\
    hostnossl all region 127.0.0.0/8 trust\n";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// A database that may be asked over the network.
struct Asked {
    cluster: Cluster,
    port: u16,
    /// The database of the socket's URL, and its name.
    database: String,
    name: String,
    /// Where certificates are that a URL may name.
    roots: tempfile::TempDir,
}

impl Asked {
    fn start() -> Self {
        // Free a moment ago. Where another takes it meanwhile the start fails, and says why.
        let port = TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port();
        let cluster = Cluster::listening(&common::programs().unwrap(), HERE, port, "-c log_connections=on");
        cluster.put("pg_hba.conf", WHO_MAY);
        let whole = cluster.url("postgres");
        cluster.sql(&whole, "SET password_encryption = 'scram-sha-256'; CREATE ROLE region LOGIN PASSWORD 'secret'");
        let database = cluster.database_with("OWNER region");
        let name = database.rsplit_once('/').unwrap().1.to_owned();
        let asked = Self { cluster, port, database, name, roots: tempfile::tempdir().unwrap() };
        asked.reload();
        asked
    }

    /// What is in its files counts from now on, or a moment later.
    fn reload(&self) {
        self.cluster.sql(&self.database, "SELECT pg_reload_conf()");
    }

    /// It proves its name by this.
    fn certify(&self, authority: &Authority, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new([NAME.to_owned(), HERE.to_string()]).unwrap();
        change(&mut parameters);
        self.cluster.put("server.key", &key.serialize_pem());
        self.cluster.put("server.crt", &parameters.signed_by(&key, authority).unwrap().pem());
        self.cluster.sql(&self.database, "ALTER SYSTEM SET ssl = on");
        self.reload();
    }

    /// A file with the certificate of an authority.
    fn root(&self, name: &str, authority: &Authority) -> PathBuf {
        let path = self.roots.path().join(name);
        std::fs::write(&path, authority.pem()).unwrap();
        path
    }

    fn url(&self, host: &str, parameters: &str) -> String {
        format!("postgres://region:secret@{host}:{}/{}?hostaddr={HERE}&{parameters}", self.port, self.name)
    }

    async fn refused(&self, url: &str, what_to_do: &str) {
        let error = PostgresStore::open(url).await.err().unwrap_or_else(|| panic!("{url} was opened"));
        assert!(is_refused(&error, what_to_do), "{url}: {error}");
    }

    /// Connections over the network that were let in, of those over TLS and of others.
    fn let_in(&self) -> (usize, usize) {
        let log = self.cluster.log();
        let lines = log.lines().filter(|line| line.contains("connection authorized: user=region"));
        let (over_tls, plain): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.contains("SSL enabled"));
        (over_tls.len(), plain.len())
    }
}

fn is_refused(error: &StoreError, what_to_do: &str) -> bool {
    let is_told = error.to_string().contains(what_to_do) && !error.to_string().contains("secret");
    matches!(error, StoreError::Unavailable(_)) && is_told
}

fn trusting(mode: &str, root: &Path) -> String {
    format!("sslmode={mode}&sslrootcert={}", root.display())
}

/// Until it has read its files anew.
async fn opened(url: &str) -> PostgresStore {
    let begun = Instant::now();
    loop {
        match PostgresStore::open(url).await {
            Ok(store) => return store,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_spoken_to_who_does_not_prove_its_name() {
    if common::cluster().is_none() {
        return;
    }
    let asked = Asked::start();
    let (ours, strangers) = (authority("ours"), authority("strangers"));
    // A path of a URL.
    let (root, other) = (asked.root("our%20own.pem", &ours), asked.root("strangers.pem", &strangers));
    std::fs::rename(&root, asked.roots.path().join("our own.pem")).unwrap();
    let modes = ["require", "verify-ca", "verify-full"];

    // It has no TLS. Nobody tells it so much as a name, though it lets in whoever does.
    for mode in modes.into_iter().chain(["prefer"]) {
        asked.refused(&asked.url(NAME, &trusting(mode, &root)), OF_TLS).await;
    }
    asked.refused(&asked.url(NAME, &format!("sslrootcert={}", root.display())), OF_TLS).await;
    assert_eq!(asked.let_in(), (0, 0));
    drop(PostgresStore::open(&asked.url(NAME, "sslmode=disable")).await.unwrap());
    let (over_tls, plain) = asked.let_in();
    assert!(over_tls == 0 && plain > 0, "it would have taken plain text");

    asked.certify(&ours, |_| {});
    let store = opened(&asked.url(NAME, &trusting("verify-full", &root))).await;
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let sql = "SELECT COUNT(1) > 0, COUNT(1) FILTER (WHERE NOT ssl) \
        FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'region'";
    assert_eq!(asked.cluster.sql(&asked.database, sql), "t|0");
    let good = modes.map(|mode| asked.url(NAME, &trusting(mode, &root))).into_iter().chain([
        asked.url(NAME, &format!("sslrootcert={}", root.display())),
        asked.url(NAME, &trusting("prefer", &root)),
        // By an address that the certificate names.
        asked.url(&HERE.to_string(), &trusting("require", &root)),
        // The password is bound to this very connection.
        asked.url(NAME, &format!("{}&channel_binding=require", trusting("require", &root))),
    ]);
    for url in good {
        let store = PostgresStore::open(&url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert!(store.instance(id(1)).await.unwrap().is_some());
        store.close().await.unwrap();
    }
    for mode in modes {
        asked.refused(&asked.url("other.test", &trusting(mode, &root)), OF_NAME).await;
        asked.refused(&asked.url(NAME, &trusting(mode, &other)), OF_ROOT).await;
        // Whether this system trusts some authorities or none.
        let error = PostgresStore::open(&asked.url(NAME, &format!("sslmode={mode}"))).await.err();
        assert!(error.as_ref().is_some_and(|error| error.to_string().contains(OF_ROOT)), "{error:?}");
    }

    // A certificate whose time is over: who is connected goes on, nobody connects, and a new one mends it.
    let url = asked.url(NAME, &trusting("require", &root));
    asked.certify(&ours, |parameters| {
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let begun = Instant::now();
    while PostgresStore::open(&url).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it is trusted");
    }
    asked.refused(&url, OF_DATES).await;
    assert!(store.instance(id(1)).await.unwrap().is_some());
    asked.certify(&ours, |_| {});
    opened(&url).await.launch(launch(vec![bare(2)])).await.unwrap();
    assert!(store.instance(id(2)).await.unwrap().is_some());

    // Nobody who was refused, and nobody who was not, has come in plain text.
    let (over_tls, plain_after) = asked.let_in();
    assert!(over_tls > 0);
    assert_eq!(plain_after, plain);
}

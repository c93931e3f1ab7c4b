//! Databases that an earlier schema version has filled: they open with all they hold, also after a migration that broke off between
//! any two of its statements. `fixtures/schema-N.sql` is a `pg_dump` of what the migrations up to N have made, with rows in it; it is never edited.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and so does what it calls"
)]

mod common;

use std::path::Path;

use inborn_store::conformance::samples::{
    LAUNCHED_AT, account, agent_report, bare, detector, detector_part, document, finding, host_id, host_join,
    inventory_record, join_token, launch_with_token, operator, other_account, part_change, session,
};
use inborn_store::dump::{TableSummary, digests};
use inborn_store::{
    Account, DetectorChange, Document, Instance, InventoryChange, InventoryKind, LaunchOutcome, OperatorChange,
    PartKind, Quarantine, QuarantineBasis, QuarantineScope, Session, SessionQuery, SqliteSnapshot, SqliteStore, Store,
    StoreError,
};
use inborn_store_postgres::{PostgresSnapshot, PostgresStore};

/// A database as an earlier version left it.
struct Fixture {
    version: u32,
    sql: &'static str,
    /// Whether it holds what [`more_of_6`] puts there, too.
    has_accounts: bool,
}

const FIXTURES: [Fixture; 4] = [
    Fixture { version: 2, sql: include_str!("fixtures/schema-2.sql"), has_accounts: false },
    Fixture { version: 5, sql: include_str!("fixtures/schema-5.sql"), has_accounts: false },
    Fixture { version: 6, sql: include_str!("fixtures/schema-6.sql"), has_accounts: true },
    Fixture { version: 7, sql: include_str!("fixtures/schema-7.sql"), has_accounts: true },
];

/// A SQLite file of version 14, which its own fixture's test looks into: the rows that all fixtures here have.
const SAME_ROWS: &str = include_str!("../../store/tests/fixtures/schema-14.sql");

/// What version 6 could hold beyond those rows.
async fn more_of_6(store: &dyn Store) {
    for (id, name) in [(account(), "'Räume' ☃"), (other_account(), "")] {
        store.put_account(Account { id, name: name.into(), created_at: LAUNCHED_AT, closed_at: None }).await.unwrap();
    }
    store.close_account(other_account(), LAUNCHED_AT.plus(9)).await.unwrap();
    assert_eq!(store.change_operator(operator(1).access_key_id, OperatorChange::Disable).await, Ok(true));
    // A name that the other account has, too.
    store.put_document(Document { account: other_account(), ..document("d", 2) }).await.unwrap();
    store.put_join_token(join_token(1, 100)).await.unwrap();
    store.join_host(host_join(1, 1, 1)).await.unwrap();
    store.put_join_token(join_token(2, 100)).await.unwrap();
    let placed = Instance { host: Some(host_id(1)), ..bare(5) };
    store.launch(launch_with_token(vec![placed], "another", 9)).await.unwrap();
    let quarantine = Quarantine {
        scope: QuarantineScope::Host(host_id(1)),
        reason: "'because' ☃".into(),
        by: "arn:aws:iam::123456789012:user/operator".into(),
        since: LAUNCHED_AT,
    };
    store.put_quarantine(quarantine, QuarantineBasis::Any).await.unwrap();
    let records = vec![inventory_record(InventoryKind::Item, 1, 1), inventory_record(InventoryKind::Compliance, 1, 2)];
    store.put_inventory(InventoryChange { instance: bare(1).id, records, unchanged: vec![] }).await.unwrap();
    store.put_detector(DetectorChange::new(detector(1, account()))).await.unwrap();
    let part = part_change(detector(1, account()), detector_part(1, PartKind::Filter, 1, 1));
    store.put_detector(part).await.unwrap();
    store.put_findings(vec![finding(1, 1, 1), finding(1, 2, 3)]).await.unwrap();
    store.put_agent_reports(vec![agent_report(1, 1)]).await.unwrap();
}

async fn digests_of(url: &str) -> Vec<TableSummary> {
    digests(&mut PostgresSnapshot::open(url).await.unwrap()).await.unwrap()
}

/// What a SQLite store says that holds the same rows.
async fn expected(path: &Path, has_accounts: bool) -> Vec<TableSummary> {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(SAME_ROWS).unwrap();
    connection.close().unwrap();
    let store = SqliteStore::open(path).unwrap();
    if has_accounts {
        more_of_6(&store).await;
    }
    store.close().await.unwrap();
    digests(&mut SqliteSnapshot::open(path).unwrap()).await.unwrap()
}

fn name_of(url: &str) -> &str {
    url.rsplit_once('/').unwrap().1
}

fn restored(cluster: &common::Cluster, fixture: &Fixture) -> String {
    let url = cluster.database();
    cluster.sql(&url, fixture.sql);
    url
}

#[tokio::test]
async fn earlier_versions_open_with_all_they_hold() {
    let Some(cluster) = common::cluster() else { return };
    for fixture in &FIXTURES {
        let (version, url) = (fixture.version, restored(cluster, fixture));
        let directory = tempfile::tempdir().unwrap();
        let expected = expected(&directory.path().join("same.db"), fixture.has_accounts).await;
        let rows = |name: &str| expected.iter().find(|table| table.table == name).unwrap().rows;
        assert!(rows("instances") > 1 && rows("account_documents") > 0 && rows("commands") > 0 && rows("sessions") > 0);
        for name in ["accounts", "hosts", "quarantines", "inventory", "detectors", "findings", "agent_reports"] {
            assert_eq!(rows(name) > 0, fixture.has_accounts, "{name}");
        }

        // Who only looks changes nothing.
        let known = PostgresSnapshot::known_schema();
        let older = Some(StoreError::Older { found: version, known });
        assert_eq!(PostgresStore::open_to_read(&url).await.err(), older);
        let (found, to) = PostgresStore::check(&url).await.unwrap();
        assert_eq!((found.version, to), (version, known));
        assert_eq!(cluster.sql(&url, "SELECT version FROM schema_version"), version.to_string());

        let store = PostgresStore::open(&url).await.unwrap();
        assert_eq!(digests_of(&url).await, expected, "{version}");
        let found = PostgresStore::check(&url).await.unwrap().0;
        assert_eq!(found.version, known);

        // And it takes writes that build on what it holds.
        let open = SessionQuery { account: None, has_ended: false, after: None, limit: 10 };
        let of_before = Session { carrier: None, ..session(1, 0) };
        assert_eq!(store.sessions(open).await, Ok(vec![of_before]), "{version}");
        assert!(store.documents().await.unwrap().contains(&document("d", 1)), "{version}");
        let again = store.launch(launch_with_token(vec![bare(3)], "token", 7)).await;
        assert!(matches!(again, Ok(LaunchOutcome::Replayed(instances)) if instances.len() == 2), "{version}");
        store.put_session(session(2, 1)).await.unwrap();
        store.close().await.unwrap();
        let mut snapshot = PostgresSnapshot::open(&url).await.unwrap();
        let loading = Box::new(inborn_store::SqliteLoading::begin(&directory.path().join("copy.db")).unwrap());
        inborn_store::dump::copy(&mut snapshot, loading).await.unwrap();
    }
}

/// The server ends the connection at the first, the second, … change of the schema, as if the program had died there. Nobody takes
/// what is there for the new version, and the next program comes to the same end as one that was not disturbed.
#[tokio::test]
async fn a_migration_that_breaks_off_is_gone_on_with() {
    let Some(cluster) = common::cluster() else { return };
    for fixture in [&FIXTURES[0], &FIXTURES[2]] {
        let (version, known) = (fixture.version, PostgresSnapshot::known_schema());
        let undisturbed = restored(cluster, fixture);
        PostgresStore::open(&undisturbed).await.unwrap().close().await.unwrap();
        let expected = digests_of(&undisturbed).await;
        let begun = restored(cluster, fixture);
        let breaks = "CREATE SEQUENCE changes; \
            CREATE FUNCTION break_off() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
                IF nextval('public.changes') = current_setting('inborn.break_at')::BIGINT THEN \
                    PERFORM pg_terminate_backend(pg_backend_pid()); \
                END IF; END $$; \
            CREATE EVENT TRIGGER break_off ON ddl_command_end EXECUTE FUNCTION break_off()";
        cluster.sql(&begun, breaks);
        let mut versions = Vec::new();
        for at in 1.. {
            let url = cluster.database_with(&format!("TEMPLATE {}", name_of(&begun)));
            let break_at = format!("ALTER DATABASE {} SET inborn.break_at = '{at}'", name_of(&url));
            cluster.sql(&begun, &break_at);
            match PostgresStore::open(&url).await {
                Ok(_) => break,
                Err(StoreError::Unavailable(_)) => (),
                Err(error) => panic!("{version}, {at}: {error}"),
            }
            let found = PostgresStore::check(&url).await.unwrap().0;
            assert!((version..known).contains(&found.version), "{version}, {at}: {found:?}");
            // What is done is a step as a whole, or not there: a program of that version goes on with it.
            versions.push(found.version);
            cluster.sql(&url, "DROP EVENT TRIGGER break_off");
            let store = PostgresStore::open(&url).await.unwrap();
            assert_eq!(digests_of(&url).await, expected, "{version}, {at}");
            store.close().await.unwrap();
        }
        assert!(versions.is_sorted(), "{versions:?}");
        // Before each of the steps, and within one.
        assert!(versions.windows(2).any(|two| two[0] == two[1]), "{versions:?}");
        assert!((version..known).all(|found| versions.contains(&found)), "{versions:?}");
    }
}

/// A fixture is of the version that its name says.
#[test]
fn fixtures_are_what_they_say() {
    for fixture in &FIXTURES {
        let says =
            format!("schema_version (one, version, usable_from{}", if fixture.version < 7 { ")" } else { ", filled)" });
        assert!(fixture.sql.contains(&says), "{}", fixture.version);
        assert!(fixture.sql.contains(&format!("VALUES (1, {}, ", fixture.version)), "{}", fixture.version);
    }
}

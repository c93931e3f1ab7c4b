//! Databases as rows: between SQLite and PostgreSQL and back nothing is lost, and what broke off is opened by nobody.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and so does what it calls"
)]

mod common;

use std::io::Cursor;
use std::path::Path;

use inborn_store::conformance::fill;
use inborn_store::conformance::samples::{LAUNCHED_AT, bare, id, launch};
use inborn_store::dump::{
    CellKind, DumpError, DumpFile, Loading, NOT_DUMPED, Snapshot, TABLES, TableSummary, copy, digests, dump, load,
};
use inborn_store::{Beat, Conflict, SqliteLoading, SqliteSnapshot, SqliteStore, Store, StoreError, check};
use inborn_store_postgres::{PostgresLoading, PostgresSnapshot, PostgresStore};

async fn digests_of(url: &str) -> Vec<TableSummary> {
    digests(&mut PostgresSnapshot::open(url).await.unwrap()).await.unwrap()
}

async fn filled_file(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    fill(&store).await;
    store.close().await.unwrap();
}

/// The list of tables is what is in the database: whoever adds a table or a column is told.
#[tokio::test]
async fn the_catalogue_is_the_schema() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    PostgresStore::open(&url).await.unwrap().close().await.unwrap();
    let there = cluster.sql(&url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename");
    let mut known: Vec<&str> = TABLES.iter().map(|table| table.name).chain(NOT_DUMPED).collect();
    // What a migration has left there, and nobody reads.
    known.push("documents");
    known.sort_unstable();
    assert_eq!(there.lines().collect::<Vec<_>>(), known);
    for table in TABLES {
        let columns = format!(
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
             WHERE table_name = '{}' ORDER BY column_name",
            table.name
        );
        let mut expected: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                let kind = match column.kind {
                    CellKind::Flag => "boolean",
                    CellKind::Number => "bigint",
                    CellKind::Text => "text",
                    CellKind::Bytes => "bytea",
                };
                format!("{}|{kind}|{}", column.name, if column.is_optional { "YES" } else { "NO" })
            })
            .collect();
        expected.sort_unstable();
        let mut found: Vec<String> = cluster.sql(&url, &columns).lines().map(str::to_owned).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{}", table.name);
        let key = format!(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) \
             WHERE indrelid = '{}'::regclass AND indisprimary ORDER BY array_position(indkey, attnum)",
            table.name
        );
        let expected: Vec<&str> = table.columns[..table.key].iter().map(|column| column.name).collect();
        assert_eq!(cluster.sql(&url, &key).lines().collect::<Vec<_>>(), expected, "{}", table.name);
    }
}

/// SQLite → file → PostgreSQL → file → SQLite, and copied both ways: the same digests all along.
#[tokio::test]
async fn nothing_is_lost_between_databases() {
    let Some(cluster) = common::cluster() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    filled_file(&path("a.db")).await;
    let mut original = SqliteSnapshot::open(&path("a.db")).unwrap();
    let expected = digests(&mut original).await.unwrap();
    assert!(expected.iter().all(|table| table.rows > 0));

    let mut file = Vec::new();
    dump(&mut original, "0", LAUNCHED_AT, &mut file).await.unwrap();
    let url = cluster.database();
    let loading = Box::new(PostgresLoading::begin(&url).await.unwrap());
    load(DumpFile::open(Cursor::new(file)).unwrap().frames(), loading).await.unwrap();
    assert_eq!(digests_of(&url).await, expected);

    let mut file = Vec::new();
    let mut snapshot = PostgresSnapshot::open(&url).await.unwrap();
    snapshot.must_be_current().unwrap();
    dump(&mut snapshot, "0", LAUNCHED_AT, &mut file).await.unwrap();
    let loading = Box::new(SqliteLoading::begin(&path("b.db")).unwrap());
    let mut file = DumpFile::open(Cursor::new(file)).unwrap();
    assert_eq!(file.about().origin.kind, "postgres");
    load(file.frames(), loading).await.unwrap();
    assert_eq!(digests(&mut SqliteSnapshot::open(&path("b.db")).unwrap()).await.unwrap(), expected);

    let other = cluster.database();
    copy(&mut original, Box::new(PostgresLoading::begin(&other).await.unwrap())).await.unwrap();
    assert_eq!(digests_of(&other).await, expected);
    let loading = Box::new(SqliteLoading::begin(&path("c.db")).unwrap());
    copy(&mut snapshot, loading).await.unwrap();
    assert_eq!(digests(&mut SqliteSnapshot::open(&path("c.db")).unwrap()).await.unwrap(), expected);

    // They are stores as any other, and say the same.
    let (postgres, sqlite) = (PostgresStore::open(&other).await.unwrap(), SqliteStore::open(&path("c.db")).unwrap());
    for number in 1..5 {
        assert_eq!(postgres.instance(id(number)).await.unwrap(), sqlite.instance(id(number)).await.unwrap());
    }
    assert_eq!(postgres.open_commands().await, sqlite.open_commands().await);
    postgres.launch(launch(vec![bare(9)])).await.unwrap();
    let reader = PostgresStore::open_to_read(&other).await.unwrap();
    let mut snapshot = PostgresSnapshot::open(&other).await.unwrap();
    let checked = check(&mut snapshot, &reader, LAUNCHED_AT).await.unwrap();
    assert_eq!(checked.faults, Vec::<String>::new());
    assert_eq!(checked.rows.iter().find(|(name, _)| *name == "instances"), Some(&("instances", 5)));
    assert!(reader.launch(launch(vec![bare(10)])).await.is_err(), "it only reads");
    assert_eq!(postgres.instance(id(10)).await, Ok(None));
}

/// However long rows are, a page of them takes some megabytes, and all of them come; the connection is as good as before.
#[tokio::test]
async fn a_page_of_long_rows_is_short() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    PostgresStore::open(&url).await.unwrap().close().await.unwrap();
    let settings = TABLES.iter().find(|table| table.name == "settings").unwrap();
    let long = "INSERT INTO settings (name, value) SELECT 'zz-' || one, decode(repeat('00', 3145728), 'hex') \
                FROM generate_series(1, 7) AS one";
    cluster.sql(&url, long);
    let mut snapshot = PostgresSnapshot::open(&url).await.unwrap();
    let (mut after, mut lengths) = (None, Vec::new());
    loop {
        let rows = snapshot.page(settings, after.take()).await.unwrap();
        lengths.push(rows.len());
        let Some(last) = rows.last() else { break };
        after = Some(settings.key_of(last).to_vec());
    }
    assert_eq!(lengths, [2, 2, 2, 1, 0]);
}

/// A snapshot is of one moment, whatever is written meanwhile.
#[tokio::test]
async fn a_snapshot_is_one_moment() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    let store = PostgresStore::open(&url).await.unwrap();
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let mut snapshot = PostgresSnapshot::open(&url).await.unwrap();
    let before = digests(&mut snapshot).await.unwrap();
    store.launch(launch(vec![bare(2)])).await.unwrap();
    assert_eq!(digests(&mut snapshot).await.unwrap(), before);
    assert_ne!(digests_of(&url).await, before);
}

/// A standby is asked in place of its primary: a backup and a check of what it has heard. It takes no writes, and no server opens it.
#[tokio::test]
async fn a_standby_will_do_to_look() {
    let (Some(_), Some(programs)) = (common::cluster(), common::programs()) else { return };
    let primary = common::Cluster::start(&programs, "");
    let url = primary.database();
    let name = url.rsplit_once('/').unwrap().1;
    let store = PostgresStore::open(&url).await.unwrap();
    fill(&store).await;
    let standby = primary.standby();
    let of_standby = standby.url(name);
    // Written since the copy was made: it has to come over the wire.
    store.launch(launch(vec![bare(9)])).await.unwrap();
    let expected = digests_of(&url).await;
    let begun = std::time::Instant::now();
    while digests_of(&of_standby).await != expected {
        assert!(begun.elapsed().as_secs() < 60, "the standby does not follow");
        tokio::time::sleep(core::time::Duration::from_millis(50)).await;
    }
    assert_eq!(standby.sql(&of_standby, "SELECT pg_is_in_recovery()"), "t");

    let mut snapshot = PostgresSnapshot::open(&of_standby).await.unwrap();
    snapshot.must_be_current().unwrap();
    // Its moment is that of the first look at a table.
    assert_eq!(digests(&mut snapshot).await.unwrap(), expected);
    store.launch(launch(vec![bare(10)])).await.unwrap();
    let mut file = Vec::new();
    dump(&mut snapshot, "0", LAUNCHED_AT, &mut file).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let loading = Box::new(SqliteLoading::begin(&path).unwrap());
    load(DumpFile::open(Cursor::new(file)).unwrap().frames(), loading).await.unwrap();
    assert_eq!(digests(&mut SqliteSnapshot::open(&path).unwrap()).await.unwrap(), expected, "one moment of it");
    let reader = PostgresStore::open_to_read(&of_standby).await.unwrap();
    let checked = check(&mut snapshot, &reader, LAUNCHED_AT).await.unwrap();
    assert!(checked.rows.contains(&("instances", 5)), "{:?}", checked.rows);
    assert!(reader.launch(launch(vec![bare(11)])).await.is_err());
    assert!(PostgresStore::open(&of_standby).await.is_err(), "a server needs one that takes writes");
    assert!(PostgresLoading::begin(&of_standby).await.is_err());
}

/// A restore that breaks off leaves a database that nobody opens, until one comes to its end.
#[tokio::test]
async fn what_broke_off_is_opened_by_nobody() {
    let Some(cluster) = common::cluster() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    filled_file(&path).await;
    let mut from = SqliteSnapshot::open(&path).unwrap();
    let url = cluster.database();
    let mut loading = PostgresLoading::begin(&url).await.unwrap();
    let rows = from.page(&TABLES[0], None).await.unwrap();
    loading.put(&TABLES[0], rows).await.unwrap();
    assert_eq!(PostgresStore::open(&url).await.err(), Some(StoreError::HalfRestored), "while it is under way");
    drop(loading);
    for refused in [
        PostgresStore::open(&url).await.err(),
        PostgresStore::open_to_read(&url).await.err(),
        PostgresSnapshot::open(&url).await.err(),
    ] {
        assert_eq!(refused, Some(StoreError::HalfRestored));
    }
    assert_eq!(cluster.sql(&url, "SELECT COUNT(*) FROM instances"), "0");
    copy(&mut from, Box::new(PostgresLoading::begin(&url).await.unwrap())).await.unwrap();
    let store = PostgresStore::open(&url).await.unwrap();
    assert!(store.instance(id(1)).await.unwrap().is_some());

    // What is in use stays so.
    let full = Some(Conflict::NotEmpty("instances").into());
    assert_eq!(PostgresLoading::begin(&url).await.err(), full);
    store.launch(launch(vec![bare(9)])).await.unwrap();
    PostgresStore::open(&url).await.unwrap();
    // Neither is one of a later program touched.
    cluster.sql(&url, "UPDATE schema_version SET version = 9, usable_from = 9");
    assert!(matches!(PostgresLoading::begin(&url).await.err(), Some(StoreError::Newer { .. })));
    cluster.sql(&url, "UPDATE schema_version SET usable_from = 6");
    let ahead = PostgresSnapshot::open(&url).await.unwrap();
    assert!(matches!(ahead.must_be_current(), Err(StoreError::Newer { found: 9, known: 8 })));
    cluster.sql(&url, "UPDATE schema_version SET version = 5");
    let behind = PostgresStore::open_to_read(&url).await.err();
    assert_eq!(behind, Some(StoreError::Older { found: 5, known: 8 }));
    assert!(matches!(PostgresSnapshot::open(&cluster.database()).await.err(), Some(StoreError::Absent(_))));
}

/// A server has the empty database open while something is restored into it: it writes nothing there, neither then nor afterwards.
#[tokio::test]
async fn who_has_it_open_from_before_writes_nothing() {
    let Some(cluster) = common::cluster() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    filled_file(&path).await;
    let mut from = SqliteSnapshot::open(&path).unwrap();
    let expected = digests(&mut from).await.unwrap();
    let url = cluster.database();
    let before = PostgresStore::open(&url).await.unwrap();
    let beat = |at: u64| Beat { name: "one".into(), at: LAUNCHED_AT.plus(at), verifies: 0, address: String::new() };
    before.beat(beat(0)).await.unwrap();
    let loading = PostgresLoading::begin(&url).await.unwrap();
    let refused = before.launch(launch(vec![bare(9)])).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    copy(&mut from, Box::new(loading)).await.unwrap();
    assert_eq!(before.launch(launch(vec![bare(9)])).await, Err(StoreError::Replaced));
    assert_eq!(before.beat(beat(1)).await, Err(StoreError::Replaced));
    assert_eq!(before.purge(LAUNCHED_AT.plus(1 << 30)).await, Err(StoreError::Replaced));
    assert_eq!(digests_of(&url).await, expected);
    let opened_since = PostgresStore::open(&url).await.unwrap();
    opened_since.launch(launch(vec![bare(9)])).await.unwrap();
}

/// Somebody begins to use the database after it was found empty and before it is marked: refused, and that one goes on.
#[tokio::test]
async fn who_came_first_goes_on() {
    let Some(cluster) = common::cluster() else { return };
    let url = cluster.database();
    PostgresStore::open(&url).await.unwrap().close().await.unwrap();
    let usable_from = || cluster.sql(&url, "SELECT usable_from FROM schema_version");
    let before = usable_from();
    cluster.sql(
        &url,
        "CREATE FUNCTION come_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO settings (name, value) VALUES ('first', 'x'); RETURN NEW; END $$",
    );
    cluster.sql(
        &url,
        "CREATE TRIGGER come_first BEFORE UPDATE ON schema_version FOR EACH ROW \
         WHEN (NEW.usable_from = 4000000000) EXECUTE FUNCTION come_first()",
    );
    assert_eq!(PostgresLoading::begin(&url).await.err(), Some(Conflict::NotEmpty("settings").into()));
    assert_eq!(cluster.sql(&url, "SELECT name FROM settings"), "first", "it came in between");
    assert_eq!(usable_from(), before);
    PostgresStore::open(&url).await.unwrap();
}

/// Two that restore into one database at once: one of them comes to its end, and all that is there is its own.
#[tokio::test]
async fn one_of_two_restores_wins() {
    let Some(cluster) = common::cluster() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    filled_file(&path).await;
    let url = cluster.database();
    let restore = || async {
        let mut from = SqliteSnapshot::open(&path)?;
        copy(&mut from, Box::new(PostgresLoading::begin(&url).await?)).await
    };
    let outcomes: [Result<_, DumpError>; 2] = futures_util::future::join(restore(), restore()).await.into();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert_eq!(digests_of(&url).await, digests(&mut SqliteSnapshot::open(&path).unwrap()).await.unwrap());
    PostgresStore::open(&url).await.unwrap();
}

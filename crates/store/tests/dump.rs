//! Stores as rows: files that come back whole, files that are refused, and what a check finds.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and so does what it calls"
)]

use std::io::Cursor;
use std::path::{Path, PathBuf};

use inborn_identity::UnixTime;
use inborn_store::conformance::fill;
use inborn_store::conformance::samples::{LAUNCHED_AT, bare, change, id, launch, terminate};
use inborn_store::dump::{
    Cell, CellKind, DumpError, DumpFile, FrameReader, FrameWriter, Loading, MAGIC, NOT_DUMPED, Part, ROW_BYTES_MAX,
    Snapshot, TABLES, TableSummary, copy, copy_if, digests, dump, load,
};
use inborn_store::{Conflict, SqliteLoading, SqliteSnapshot, SqliteStore, Store, StoreError, check};
use rusqlite::Connection;

/// A store with something of everything, closed.
async fn filled(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    fill(&store).await;
    store.close().await.unwrap();
}

async fn dumped(path: &Path) -> Vec<u8> {
    let mut file = Vec::new();
    dump(&mut SqliteSnapshot::open(path).unwrap(), "1.2.3", LAUNCHED_AT, &mut file).await.unwrap();
    file
}

async fn restored(file: &[u8], path: &Path) -> Result<Vec<TableSummary>, DumpError> {
    let mut file = DumpFile::open(Cursor::new(file))?;
    load(file.frames(), Box::new(SqliteLoading::begin(path)?)).await
}

async fn digests_of(path: &Path) -> Vec<TableSummary> {
    digests(&mut SqliteSnapshot::open(path).unwrap()).await.unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The list of tables is what is in the file: whoever adds a table or a column is told.
#[test]
fn the_catalogue_is_the_schema() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    drop(SqliteStore::open(&path).unwrap());
    let connection = Connection::open(&path).unwrap();
    let list = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let there = list("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name");
    let mut known: Vec<&str> = TABLES.iter().map(|table| table.name).chain(NOT_DUMPED).collect();
    known.sort_unstable();
    assert_eq!(there, known);
    for table in TABLES {
        let mut statement =
            connection.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)").unwrap();
        let there: Vec<(String, String, bool, u32)> = statement
            .query_map((table.name,), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(there.len(), table.columns.len(), "{}", table.name);
        for (at, column) in table.columns.iter().enumerate() {
            let (_, kind, is_required, key) =
                there.iter().find(|(name, ..)| name == column.name).unwrap_or_else(|| panic!("{}", column.name));
            let expected = match column.kind {
                CellKind::Flag | CellKind::Number => "INTEGER",
                CellKind::Text => "TEXT",
                CellKind::Bytes => "BLOB",
            };
            assert_eq!((kind.as_str(), *is_required), (expected, !column.is_optional), "{}", column.name);
            assert_eq!(
                *key,
                if at < table.key { u32::try_from(at).unwrap() + 1 } else { 0 },
                "{}.{}",
                table.name,
                column.name
            );
        }
    }
}

#[tokio::test]
async fn all_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["a.db", "b.db"].map(|name| directory.path().join(name));
    filled(&first).await;
    let file = dumped(&first).await;
    let about = DumpFile::open(Cursor::new(&file)).unwrap().about().clone();
    assert_eq!((about.program.as_str(), about.made_at), ("1.2.3", LAUNCHED_AT));
    assert_eq!((about.origin.kind.as_str(), about.origin.schema), ("sqlite", SqliteSnapshot::known_schema()));
    let mut count = 0;
    let origin = DumpFile::open(Cursor::new(&file)).unwrap().look_through(|_, _| count += 1).unwrap();
    assert_eq!(origin, about.origin);
    let summary = restored(&file, &second).await.unwrap();
    assert_eq!(count, summary.iter().map(|table| table.rows).sum::<u64>());
    assert!(summary.iter().all(|table| table.rows > 0), "something of everything: {summary:?}");
    assert_eq!(digests_of(&first).await, digests_of(&second).await);
    assert_eq!(summary, digests_of(&second).await);
    assert_eq!(dumped(&second).await, file, "the same rows are the same bytes");
    // It is a store as any other.
    let store = SqliteStore::open(&second).unwrap();
    let original = SqliteStore::open(&first).unwrap();
    for number in 1..5 {
        assert_eq!(store.instance(id(number)).await, original.instance(id(number)).await);
    }
    store.launch(launch(vec![bare(9)])).await.unwrap();
    store.close().await.unwrap();
    original.close().await.unwrap();
    assert_eq!(names(directory.path()), ["a.db", "a.db.lock", "b.db", "b.db.lock"]);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&second).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_store_is_copied_and_only_into_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["a.db", "b.db"].map(|name| directory.path().join(name));
    filled(&first).await;
    // Empty, but there.
    SqliteStore::open(&second).unwrap().close().await.unwrap();
    let mut from = SqliteSnapshot::open_alone(&first).unwrap();
    assert!(matches!(SqliteStore::open(&first), Err(StoreError::InUse(_))), "nobody writes meanwhile");
    let sent = copy(&mut from, Box::new(SqliteLoading::begin(&second).unwrap())).await.unwrap();
    assert_eq!(sent, digests_of(&second).await);
    let full = SqliteLoading::begin(&second).err();
    assert_eq!(full, Some(Conflict::NotEmpty("instances").into()));
    drop(from);
    let store = SqliteStore::open(&first).unwrap();
    assert!(matches!(SqliteSnapshot::open_alone(&first), Err(StoreError::InUse(_))));
    assert!(matches!(SqliteLoading::begin(&first), Err(StoreError::InUse(_))));
    store.close().await.unwrap();
}

/// A backup is of one moment, and neither waits for a store that is in use nor holds it up.
#[tokio::test]
async fn a_snapshot_is_one_moment_of_a_store_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    store.launch(launch(vec![bare(1)])).await.unwrap();
    let mut snapshot = SqliteSnapshot::open(&path).unwrap();
    let before = digests(&mut snapshot).await.unwrap();
    store.launch(launch(vec![bare(2)])).await.unwrap();
    assert_eq!(digests(&mut snapshot).await.unwrap(), before);
    assert_eq!(before[0].rows, 1);
    assert_eq!(digests_of(&path).await[0].rows, 2);
    let reader = SqliteStore::open_to_read(&path).unwrap();
    assert_eq!(reader.instance(id(2)).await.unwrap().unwrap(), bare(2));
    assert!(reader.launch(launch(vec![bare(3)])).await.is_err(), "it only reads");
    reader.close().await.unwrap();
    store.close().await.unwrap();
    let absent = directory.path().join("none.db");
    for refused in [SqliteSnapshot::open(&absent).err(), SqliteStore::open_to_read(&absent).err()] {
        assert_eq!(refused, Some(StoreError::Absent(absent.display().to_string())));
    }
    assert!(!absent.exists());
}

/// Every cut and every flipped bit is found before a row is believed, and nothing is left behind.
#[tokio::test]
async fn damaged_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["a.db", "b.db"].map(|name| directory.path().join(name));
    filled(&first).await;
    let file = dumped(&first).await;
    for length in (0..file.len()).step_by(97).chain([file.len() - 1]) {
        let refused = DumpFile::open(Cursor::new(&file[..length])).err().unwrap();
        let expected = if length < MAGIC.len() { "NotADump" } else { "Cut" };
        assert!(format!("{refused:?}").starts_with(expected), "{length}: {refused:?}");
    }
    for at in (MAGIC.len()..file.len()).step_by(61) {
        let mut damaged = file.clone();
        damaged[at] ^= 1 << (at % 8);
        let refused = DumpFile::open(Cursor::new(&damaged)).err().unwrap();
        assert!(matches!(refused, DumpError::Damaged | DumpError::Cut), "{at}: {refused:?}");
    }
    let mut longer = file.clone();
    longer.push(0);
    assert!(matches!(restored(&longer, &second).await, Err(DumpError::Damaged)));
    for foreign in [&b"SQLite format 3\0 and so on, and so on, and so on"[..], b"", b"x"] {
        assert!(matches!(restored(foreign, &second).await, Err(DumpError::NotADump)));
    }
    let later = b"inborn-store-backup 2\nwhat it may be";
    assert!(matches!(restored(later, &second).await, Err(DumpError::Newer { found: 2, known: 1 })));
    assert!(!names(directory.path()).iter().any(|name| name.starts_with("b.db")), "nothing is begun for them");
}

/// The inside of a file: what no program writes is refused, whatever the checksum says.
#[tokio::test]
async fn files_that_no_program_writes_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    filled(&path).await;
    let about = DumpFile::open(Cursor::new(dumped(&path).await)).unwrap().about().clone();
    let table = |name: &str| TABLES.iter().find(|table| table.name == name).unwrap();
    let read = |frames: &[u8]| -> Result<usize, String> {
        let mut reader = FrameReader::open(frames).map_err(|error| error.to_string())?;
        let mut count = 0;
        while reader.next_part().map_err(|error| error.to_string())?.is_some() {
            count += 1;
        }
        Ok(count)
    };
    let begin = || FrameWriter::begin(Vec::new(), about.clone()).unwrap();
    let whole = {
        let mut frames = begin();
        TABLES.iter().for_each(|table| frames.table(table).unwrap());
        frames.end().unwrap().0
    };
    assert_eq!(read(&whole), Ok(TABLES.len()));
    for length in 0..whole.len() {
        assert!(read(&whole[..length]).is_err(), "{length}");
    }
    let mut frames = begin();
    frames.table(table("instances")).unwrap();
    assert!(read(&frames.end().unwrap().0).is_err(), "the other tables are missing");
    let mut frames = begin();
    frames.table(table("settings")).unwrap();
    frames.table(table("instances")).unwrap();
    assert!(read(&frames.end().unwrap().0).is_err(), "out of order");
    assert!(begin().row(&[]).is_err(), "a row without a table");

    let setting = |name: &str| vec![Cell::Text(name.to_owned()), Cell::Bytes(vec![1])];
    let with = |rows: &[Vec<Cell>]| {
        let mut frames = begin();
        for table in TABLES {
            frames.table(table).unwrap();
            if table.name == "settings" {
                rows.iter().for_each(|row| frames.row(row).unwrap());
            }
        }
        frames.end().unwrap().0
    };
    assert_eq!(read(&with(&[setting("a"), setting("b")])), Ok(TABLES.len() + 2));
    for rows in [
        vec![setting("b"), setting("a")],
        vec![setting("a"), setting("a")],
        vec![vec![Cell::Text("a".into())]],
        vec![vec![Cell::Text("a".into()), Cell::Text("b".into())]],
        vec![vec![Cell::Text("a".into()), Cell::Null]],
        vec![[setting("a"), vec![Cell::Null]].concat()],
    ] {
        assert!(read(&with(&rows)).is_err(), "{rows:?}");
    }
    let later = inborn_store::dump::About { catalogue: 1000, ..about.clone() };
    let frames = FrameWriter::begin(Vec::new(), later).unwrap().end().unwrap().0;
    assert!(matches!(FrameReader::open(&*frames), Err(DumpError::Newer { found: 1000, .. })));
}

/// As long as a row may be, and one byte more. (The name, and five bytes each before name and value.)
#[test]
fn rows_have_a_longest() {
    let about = inborn_store::dump::About {
        catalogue: 1,
        program: "0".into(),
        origin: inborn_store::dump::Origin { kind: "sqlite".into(), schema: 1 },
        made_at: UnixTime::from_secs(0),
    };
    let settings = TABLES.iter().find(|table| table.name == "settings").unwrap();
    for (length, fits) in [(ROW_BYTES_MAX - 12, true), (ROW_BYTES_MAX - 11, true), (ROW_BYTES_MAX - 10, false)] {
        let mut frames = FrameWriter::begin(Vec::new(), about.clone()).unwrap();
        frames.table(settings).unwrap();
        let row = [Cell::Text("a".into()), Cell::Bytes(vec![7; length])];
        assert_eq!(frames.row(&row).is_ok(), fits, "{length}");
        if fits {
            let mut out = FrameWriter::begin(Vec::new(), about.clone()).unwrap();
            for table in TABLES {
                out.table(table).unwrap();
                if table.name == "settings" {
                    out.row(&row).unwrap();
                }
            }
            let bytes = out.end().unwrap().0;
            let mut reader = FrameReader::open(&*bytes).unwrap();
            let mut rows = 0;
            while let Some(part) = reader.next_part().unwrap() {
                rows += usize::from(matches!(part, Part::Row(found) if found == row));
            }
            assert_eq!(rows, 1);
        }
    }
    let mut long = u32::try_from(ROW_BYTES_MAX + 1).unwrap().to_be_bytes().to_vec();
    long.push(b'A');
    assert!(matches!(FrameReader::open(&*long), Err(DumpError::Malformed(_))), "no memory is taken for a claim");
}

/// What is dropped before its commit was never there.
#[tokio::test]
async fn what_is_not_committed_was_never_there() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["a.db", "b.db"].map(|name| directory.path().join(name));
    filled(&first).await;
    let mut from = SqliteSnapshot::open(&first).unwrap();
    let mut to = SqliteLoading::begin(&second).unwrap();
    let rows = from.page(&TABLES[0], None).await.unwrap();
    to.put(&TABLES[0], rows).await.unwrap();
    drop(to);
    assert_eq!(names(directory.path()).iter().filter(|name| name.starts_with("b.db")).count(), 1, "the lock");
    assert!(!second.exists());
    // What a killed one leaves is in nobody's way.
    std::fs::write(directory.path().join("b.db.restoring"), "half of it").unwrap();
    std::fs::write(directory.path().join("b.db.restoring-journal"), "half of it").unwrap();
    copy(&mut from, Box::new(SqliteLoading::begin(&second).unwrap())).await.unwrap();
    assert!(!directory.path().join("b.db.restoring").exists());
    assert_eq!(digests_of(&second).await, digests_of(&first).await);
}

/// Who may not commit has changed nothing; asked once all has arrived.
#[tokio::test]
async fn a_copy_is_made_only_if_it_may_be() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["a.db", "b.db"].map(|name| directory.path().join(name));
    filled(&first).await;
    let mut from = SqliteSnapshot::open(&first).unwrap();
    let begin = || Box::new(SqliteLoading::begin(&second).unwrap());
    let unfinished = directory.path().join("b.db.restoring");
    let no = async {
        assert!(unfinished.exists() && !second.exists());
        Err(DumpError::Damaged)
    };
    assert!(matches!(copy_if(&mut from, begin(), no).await, Err(DumpError::Damaged)));
    assert!(!unfinished.exists() && !second.exists());
    copy_if(&mut from, begin(), async { Ok::<_, DumpError>(()) }).await.unwrap();
    assert_eq!(digests_of(&second).await, digests_of(&first).await);
}

/// A link to a store is that store, and nothing is made through one.
#[tokio::test]
async fn a_link_is_what_it_leads_to() {
    let directory = tempfile::tempdir().unwrap();
    let [store, link, none, dangling] =
        ["a.db", "link.db", "none.db", "dangling.db"].map(|name| directory.path().join(name));
    std::os::unix::fs::symlink(&store, &link).unwrap();
    std::os::unix::fs::symlink(&none, &dangling).unwrap();
    let opened = SqliteStore::open(&store).unwrap();
    assert!(matches!(SqliteStore::open(&link), Err(StoreError::InUse(_))));
    assert!(matches!(SqliteSnapshot::open_alone(&link), Err(StoreError::InUse(_))));
    opened.close().await.unwrap();
    SqliteStore::open(&link).unwrap().close().await.unwrap();
    for link in [&link, &dangling] {
        let refused = SqliteLoading::begin(link).err().unwrap();
        assert!(refused.to_string().contains("is a symbolic link"), "{refused}");
    }
    assert!(SqliteStore::open(&dangling).is_err());
    assert_eq!(names(directory.path()), ["a.db", "a.db.lock", "dangling.db", "link.db"]);
}

async fn faults(path: &Path) -> Vec<String> {
    let mut snapshot = SqliteSnapshot::open(path).unwrap();
    let mut faults = snapshot.faults().unwrap();
    let store = SqliteStore::open_to_read(path).unwrap();
    faults.extend(check(&mut snapshot, &store, LAUNCHED_AT).await.unwrap().faults);
    store.close().await.unwrap();
    faults
}

/// What ends while it is looked at is no fault.
#[tokio::test(flavor = "multi_thread")]
async fn machines_that_are_terminated_meanwhile_are_no_fault() {
    const MACHINES: u32 = 600;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    let store = SqliteStore::open(&path).unwrap();
    fill(&store).await;
    store.launch(launch((1000..1000 + MACHINES).map(bare).collect())).await.unwrap();
    let ending = tokio::spawn(async move {
        for number in 1000..1000 + MACHINES {
            store.change(change(&[number], terminate(1))).await.unwrap();
        }
    });
    let mut rounds = 0;
    while !ending.is_finished() || rounds == 0 {
        assert_eq!(faults(&path).await, Vec::<String>::new());
        rounds += 1;
    }
    ending.await.unwrap();
    assert_eq!(faults(&path).await, Vec::<String>::new());
}

/// However long rows are, a page of them takes some megabytes, and all of them come.
#[tokio::test]
async fn a_page_of_long_rows_is_short() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    filled(&path).await;
    let connection = Connection::open(&path).unwrap();
    let before: i64 = connection.query_row("SELECT COUNT(*) FROM settings", (), |row| row.get(0)).unwrap();
    for number in 0..7 {
        let sql = "INSERT INTO settings (name, value) VALUES (?1, ZEROBLOB(?2))";
        connection.execute(sql, (format!("zz-{number}"), 3 << 20)).unwrap();
    }
    drop(connection);
    let settings = TABLES.iter().find(|table| table.name == "settings").unwrap();
    let mut snapshot = SqliteSnapshot::open(&path).unwrap();
    let (mut after, mut count) = (None, 0);
    loop {
        let rows = snapshot.page(settings, after.take()).await.unwrap();
        let long = rows.iter().filter(|row| matches!(&row[1], Cell::Bytes(value) if value.len() == 3 << 20)).count();
        assert!(long <= 2, "{long}");
        count += rows.len() as u64;
        let Some(last) = rows.last() else { break };
        after = Some(settings.key_of(last).to_vec());
    }
    assert_eq!(count, u64::try_from(before).unwrap() + 7);
    let file = dumped(&path).await;
    let copy = directory.path().join("b.db");
    restored(&file, &copy).await.unwrap();
    assert_eq!(digests_of(&copy).await, digests_of(&path).await);
}

/// A copy of a store in which somebody has done something.
fn spoilt(original: &Path, sql: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    std::fs::copy(original, &path).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;").unwrap();
    connection.execute_batch(sql).unwrap();
    (directory, path)
}

#[tokio::test]
async fn a_check_finds_what_no_store_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.db");
    filled(&path).await;
    assert_eq!(faults(&path).await, Vec::<String>::new());
    for (sql, expected) in [
        ("DELETE FROM instances WHERE id = 'i-0fe00000000010001'", "belong to none of instances"),
        ("INSERT INTO instance_tags VALUES ('i-0fe00000000990001', 'a', 'b')", "belong to none of instances"),
        ("DELETE FROM launches", "client token which is not kept"),
        ("INSERT INTO launches VALUES ('123456789012', 'x', X'00', 'r-1')", "no machine is left"),
        ("DELETE FROM hosts", "host that never joined"),
        ("UPDATE epochs SET id = 4 WHERE id = 2", "missing"),
        ("UPDATE epochs SET state = 'published'", "no epoch to seal with"),
        ("DELETE FROM cut_offs WHERE kind = 'dead'", "not cut off"),
        ("UPDATE instances SET account = 'nobody'", "account"),
        ("UPDATE commands SET state = 'Odd'", "state"),
        ("UPDATE sessions SET instance_id = 'odd'", "instance_id"),
        ("UPDATE findings SET instance_id = 'odd'", "instance_id"),
        ("UPDATE host_key_sets SET basis = 'odd'", "basis"),
    ] {
        let (_directory, spoilt) = spoilt(&path, sql);
        let found = faults(&spoilt).await;
        assert!(found.iter().any(|fault| fault.contains(expected)), "{sql}: {found:?}");
    }
    // Pages of the file that are something else, wherever they are: but for the first, by which it is a database.
    let bytes = std::fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    for page in (1..pages).step_by(pages / 10) {
        let mut bytes = bytes.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0x5a);
        let broken = directory.path().join("broken.db");
        std::fs::write(&broken, bytes).unwrap();
        match SqliteSnapshot::open(&broken) {
            Ok(snapshot) => assert!(!snapshot.faults().unwrap().is_empty(), "{page}"),
            Err(error) => assert!(matches!(error, StoreError::Corrupt(_)), "{page}: {error}"),
        }
    }
}

/// Other versions of the schema are not read as this one.
#[test]
fn other_versions_are_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.db");
    Connection::open(&path).unwrap().execute_batch(include_str!("fixtures/schema-9.sql")).unwrap();
    let known = SqliteSnapshot::known_schema();
    let snapshot = SqliteSnapshot::open(&path).unwrap();
    assert_eq!((snapshot.schema(), snapshot.faults().unwrap()), (9, vec![]));
    assert_eq!(snapshot.must_be_current(), Err(StoreError::Older { found: 9, known }));
    assert_eq!(SqliteStore::open_to_read(&path).err(), Some(StoreError::Older { found: 9, known }));
    let full = SqliteLoading::begin(&path).err();
    assert_eq!(full, Some(Conflict::NotEmpty("instances").into()), "also of an older version");
    drop(snapshot);
    Connection::open(&path).unwrap().execute_batch("UPDATE schema_version SET version = 1000").unwrap();
    assert_eq!(SqliteSnapshot::open(&path).err(), Some(StoreError::Newer { found: 1000, known }));
}

/// The inside of a backup as the first programs wrote it, with two rows of every table; also where the fuzzer begins. Never edited.
#[test]
fn the_first_form_is_read_for_ever() {
    let bytes = include_bytes!("../../../fuzz/corpus/store_dump/all");
    let mut reader = FrameReader::open(&bytes[..]).unwrap();
    let mut rows = 0;
    while let Some(part) = reader.next_part().unwrap() {
        rows += usize::from(matches!(part, Part::Row(_)));
    }
    assert_eq!(rows, 2 * 29, "as many tables as there were then");
}

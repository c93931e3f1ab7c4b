//! The files together: what is written is read, through rotations, crashes and full disks.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use inborn_identity::Clock;
use inborn_testkit::ManualClock;
use serde_json::Value;

use super::record::line;
use super::*;

/// 2027-01-15T08:00:00Z
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const DAY: u64 = 86_400;
const UNBOUNDED: Rotation = Rotation { file_bytes_max: u64::MAX, keep_seconds: u64::MAX, keep_bytes: u64::MAX };

fn record(time: UnixTime, id: &str) -> Record<'_> {
    Record {
        time,
        caller: None,
        claimed_access_key_id: None,
        event_source: "sts.amazonaws.com",
        event_name: "GetCallerIdentity",
        region: "eu-central-1",
        account: "123456789012",
        source: "127.0.0.1",
        user_agent: "test",
        error: None,
        request_parameters: Value::Null,
        response_elements: Value::Null,
        request_id: id,
        event_id: id,
        read_only: true,
        tls: None,
    }
}

/// The bytes of the line of a record whose id has four characters.
fn line_bytes() -> u64 {
    line(&record(NOW, "0000")).len() as u64
}

struct Rig {
    directory: tempfile::TempDir,
    clock: ManualClock,
}

impl Rig {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: ManualClock::new(NOW) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("audit.jsonl")
    }

    fn open(&self, rotation: Rotation) -> Audit {
        Audit::open(&self.path(), rotation, self.clock.now()).unwrap()
    }

    fn write(&self, audit: &Audit, ids: std::ops::Range<u32>) {
        for id in ids {
            audit.append(&record(self.clock.now(), &format!("{id:04}"))).unwrap();
        }
    }

    /// The names of all files, once the archivist has nothing left to do.
    fn names(&self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let entries = fs::read_dir(self.directory.path()).unwrap();
            let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            let is_busy =
                names.iter().any(|name| name.ends_with(".new") || (name.contains('-') && !name.ends_with(".gz")));
            if !is_busy {
                return names;
            }
            assert!(Instant::now() < deadline, "{names:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn plant(&self, name: &str, ids: std::ops::Range<u32>) {
        let lines: Vec<u8> = ids.flat_map(|id| line(&record(NOW, &format!("{id:04}")))).collect();
        fs::write(self.directory.path().join(name), lines).unwrap();
    }

    /// The ids of all lines as a reader finds them, and how much it passed over.
    fn read(&self) -> (Vec<u32>, Vec<String>) {
        drain(&mut AuditReader::open(&self.path(), UnixTime::from_secs(0), false).unwrap())
    }
}

fn drain(reader: &mut AuditReader) -> (Vec<u32>, Vec<String>) {
    let (mut ids, mut skipped, mut line) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match reader.next(&mut line).unwrap() {
            Entry::Line => match serde_json::from_slice::<Value>(&line) {
                Ok(event) => ids.push(event["requestID"].as_str().unwrap().parse().unwrap()),
                Err(_) => skipped.push(format!("no JSON: {}", line.len())),
            },
            Entry::Skipped { reason, .. } => skipped.push(reason),
            Entry::End => return (ids, skipped),
        }
    }
}

fn ids(range: std::ops::Range<u32>) -> (Vec<u32>, Vec<String>) {
    (range.collect(), Vec::new())
}

fn tidy(path: &Path, rotation: Rotation, now: UnixTime) {
    archive::tidy(path, rotation, now, &AtomicBool::new(false)).unwrap();
}

#[test]
fn a_file_is_full_when_a_line_would_make_it_too_long() {
    let three = 3 * line_bytes();
    for (bytes_max, files) in [(three - 1, 2), (three, 1), (three + 1, 1)] {
        let rig = Rig::new();
        let audit = rig.open(Rotation { file_bytes_max: bytes_max, ..UNBOUNDED });
        rig.write(&audit, 0..3);
        assert_eq!(rig.names().len(), files, "{bytes_max}");
        rig.write(&audit, 3..4);
        assert_eq!(
            rig.names(),
            ["audit-20270115T080000Z-1.jsonl.gz", "audit.jsonl"],
            "one rotation, whether before the third line or the fourth"
        );
        assert_eq!(rig.read(), ids(0..4));
        let mode = fs::metadata(rig.directory.path().join("audit-20270115T080000Z-1.jsonl.gz")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_line_longer_than_a_file_has_a_file_of_its_own() {
    let rig = Rig::new();
    let audit = rig.open(Rotation { file_bytes_max: 1, ..UNBOUNDED });
    rig.write(&audit, 0..3);
    assert_eq!(rig.names().len(), 3);
    assert_eq!(rig.read(), ids(0..3));
}

#[test]
fn a_new_day_begins_a_new_file_with_or_without_a_call() {
    let rig = Rig::new();
    let audit = rig.open(UNBOUNDED);
    rig.clock.set(UnixTime::from_secs(NOW.as_secs() / DAY * DAY + DAY - 1));
    rig.write(&audit, 0..1);
    audit.tidy(rig.clock.now());
    assert_eq!(rig.names(), ["audit.jsonl"], "23:59:59");
    rig.clock.advance(1);
    rig.write(&audit, 1..2);
    assert_eq!(rig.names(), ["audit-20270115T235959Z-1.jsonl.gz", "audit.jsonl"]);
    // A call that came before midnight and was answered after it does not begin a day.
    audit.append(&record(rig.clock.now().minus(1), "0002")).unwrap();
    assert_eq!(rig.names().len(), 2);
    rig.clock.advance(DAY);
    audit.tidy(rig.clock.now());
    assert_eq!(rig.names().len(), 3);
    assert_eq!(fs::metadata(rig.path()).unwrap().len(), 0);
    audit.tidy(rig.clock.advance(DAY));
    assert_eq!(rig.names().len(), 3, "an empty file has no day");
    rig.clock.set(NOW);
    rig.write(&audit, 3..5);
    assert_eq!(rig.names().len(), 3, "nor does a clock that is set back begin one");
    assert_eq!(rig.read(), ids(0..5));
}

#[test]
fn a_restart_knows_the_day_and_the_number() {
    let rig = Rig::new();
    rig.write(&rig.open(UNBOUNDED), 0..2);
    rig.clock.advance(DAY);
    let audit = rig.open(UNBOUNDED);
    assert_eq!(rig.names(), ["audit.jsonl"]);
    rig.write(&audit, 2..3);
    drop(audit);
    rig.clock.advance(DAY);
    rig.write(&rig.open(UNBOUNDED), 3..4);
    tidy(&rig.path(), UNBOUNDED, NOW);
    assert_eq!(rig.names(), ["audit-20270115T080000Z-1.jsonl.gz", "audit-20270116T080000Z-2.jsonl.gz", "audit.jsonl"]);
    assert_eq!(rig.read(), ids(0..4));
}

/// Each state of the directory that a crash can leave, and that nothing is lost or doubled, before and after the mending.
#[test]
fn every_crash_of_a_rotation_is_mended() {
    let [plain, compressed] = ["audit-20270115T080000Z-2.jsonl", "audit-20270115T080000Z-2.jsonl.gz"];
    let unfinished = "audit-20270115T080000Z-2.jsonl.gz.new";
    for crash in ["before the first rename", "between the renames", "while compressing", "before the plain one goes"] {
        let rig = Rig::new();
        rig.plant("audit-20270115T070000Z-1.jsonl", 0..2);
        rig.plant(plain, 2..4);
        rig.plant("audit.jsonl", 4..6);
        tidy(&rig.path(), UNBOUNDED, NOW);
        let file = |name: &str| rig.directory.path().join(name);
        match crash {
            "before the first rename" => fs::write(file("audit.jsonl.new"), "").unwrap(),
            "between the renames" => {
                fs::rename(rig.path(), file("audit-20270115T090000Z-3.jsonl")).unwrap();
                fs::write(file("audit.jsonl.new"), "").unwrap();
            }
            "while compressing" => {
                let half = fs::read(file(compressed)).unwrap();
                fs::write(file(unfinished), &half[..half.len() / 2]).unwrap();
                fs::remove_file(file(compressed)).unwrap();
                rig.plant(plain, 2..4);
            }
            _ => rig.plant(plain, 2..4),
        }
        assert_eq!(rig.read(), ids(0..6), "{crash}");
        let audit = rig.open(UNBOUNDED);
        rig.write(&audit, 6..7);
        let names = rig.names();
        assert!(names.iter().all(|name| name == "audit.jsonl" || name.ends_with(".gz")), "{crash}: {names:?}");
        assert_eq!(rig.read(), ids(0..7), "{crash}");
    }
}

#[test]
fn a_line_that_a_crash_cut_off_is_a_line_of_its_own() {
    let rig = Rig::new();
    rig.write(&rig.open(UNBOUNDED), 0..2);
    let file = fs::OpenOptions::new().write(true).open(rig.path()).unwrap();
    file.set_len(2 * line_bytes() - 10).unwrap();
    let torn = usize::try_from(line_bytes()).unwrap() - 10;
    assert_eq!(rig.read(), (vec![0], vec![format!("no JSON: {torn}")]));
    let audit = rig.open(UNBOUNDED);
    rig.write(&audit, 2..3);
    assert_eq!(rig.read(), (vec![0, 2], vec![format!("no JSON: {torn}")]));
    // What some file systems leave after a power cut: zeros, and many of them.
    let zeros = vec![0; 5 * LINE_BYTES_MAX];
    file.write_all_at(&zeros, fs::metadata(rig.path()).unwrap().len()).unwrap();
    drop(audit);
    let audit = rig.open(UNBOUNDED);
    rig.write(&audit, 3..4);
    assert_eq!(rig.read().0, [0, 2, 3]);
    assert_eq!(rig.read().1.len(), 2);
}

#[test]
fn what_is_past_its_time_or_too_much_goes_oldest_first() {
    let rig = Rig::new();
    let day = |days: u64| NOW.minus(days * DAY).basic();
    for (number, days) in [(1, 3), (2, 2), (3, 1)] {
        rig.plant(&format!("audit-{}-{number}.jsonl", day(days)), number * 10..number * 10 + 2);
    }
    rig.plant("audit.jsonl", 90..91);
    tidy(&rig.path(), UNBOUNDED, NOW);
    let size = |number: u32, days| {
        fs::metadata(rig.directory.path().join(format!("audit-{}-{number}.jsonl.gz", day(days)))).unwrap().len()
    };
    let (second, third) = (size(2, 2), size(3, 1));
    tidy(&rig.path(), Rotation { keep_seconds: 3 * DAY, keep_bytes: u64::MAX, ..UNBOUNDED }, NOW);
    assert_eq!(rig.read().0, [10, 11, 20, 21, 30, 31, 90]);
    tidy(&rig.path(), Rotation { keep_seconds: 3 * DAY - 1, ..UNBOUNDED }, NOW);
    assert_eq!(rig.read().0, [20, 21, 30, 31, 90]);
    tidy(&rig.path(), Rotation { keep_bytes: second + third, ..UNBOUNDED }, NOW);
    assert_eq!(rig.read().0, [20, 21, 30, 31, 90]);
    tidy(&rig.path(), Rotation { keep_bytes: second + third - 1, ..UNBOUNDED }, NOW);
    assert_eq!(rig.read().0, [30, 31, 90]);
    tidy(&rig.path(), Rotation { keep_bytes: 0, keep_seconds: 0, ..UNBOUNDED }, NOW);
    assert_eq!(rig.read().0, [90], "the current file is never removed");
}

#[test]
fn files_of_other_names_are_left_alone() {
    let rig = Rig::new();
    let names = [
        "audit-20270115T080000Z-01.jsonl",
        "audit-20270115T080000Z-0.jsonl",
        "audit-20270115T080000Z-1.json",
        "audit-x-1.jsonl",
        "other.jsonl.gz",
    ];
    for name in names {
        fs::write(rig.directory.path().join(name), "kept").unwrap();
    }
    tidy(&rig.path(), Rotation { keep_bytes: 0, keep_seconds: 0, ..UNBOUNDED }, UnixTime::MAX);
    assert!(names.iter().all(|name| fs::read(rig.directory.path().join(name)).unwrap() == b"kept"));
}

#[test]
fn the_order_is_that_of_the_numbers() {
    let rig = Rig::new();
    for number in [9, 10, 11] {
        rig.plant(&format!("audit-20270115T080000Z-{number}.jsonl"), number..number + 1);
    }
    // The clock was set back.
    rig.plant("audit-20200101T000000Z-12.jsonl", 12..13);
    assert_eq!(rig.read(), ids(9..13));
}

#[test]
fn archives_that_are_too_old_are_not_opened() {
    let rig = Rig::new();
    fs::write(rig.directory.path().join("audit-20270115T080000Z-1.jsonl.gz"), "not gzip").unwrap();
    rig.plant("audit.jsonl", 7..8);
    let skipped = |since| drain(&mut AuditReader::open(&rig.path(), since, false).unwrap()).1.len();
    assert_eq!((skipped(NOW.plus(60)), skipped(NOW.plus(61))), (1, 0));
    assert_eq!(rig.read().0, [7], "what is damaged does not hide what follows");
}

#[test]
fn lines_are_read_up_to_the_longest_that_is_written() {
    for (length, is_read) in [(LINE_BYTES_MAX - 1, true), (LINE_BYTES_MAX, true), (LINE_BYTES_MAX + 1, false)] {
        let rig = Rig::new();
        let mut text = line(&record(NOW, "0001"));
        text.extend(format!("{}\n", "x".repeat(length - 1)).bytes());
        text.extend(line(&record(NOW, "0002")));
        fs::write(rig.path(), text).unwrap();
        let (ids, skipped) = rig.read();
        assert_eq!((ids, skipped.len()), (vec![1, 2], 1));
        assert_eq!(skipped[0] == format!("no JSON: {}", length - 1), is_read, "{length}: {skipped:?}");
    }
}

#[test]
fn one_who_follows_sees_each_line_once_through_any_rotations() {
    let rig = Rig::new();
    let audit = rig.open(Rotation { file_bytes_max: 3 * line_bytes(), ..UNBOUNDED });
    rig.write(&audit, 0..5);
    let mut reader = AuditReader::open(&rig.path(), UnixTime::from_secs(0), true).unwrap();
    assert_eq!(drain(&mut reader), ids(0..5));
    assert_eq!(drain(&mut reader), ids(0..0));
    rig.write(&audit, 5..6);
    assert_eq!(drain(&mut reader), ids(5..6), "in the same file");
    rig.write(&audit, 6..8);
    assert_eq!(drain(&mut reader), ids(6..8), "one rotation");
    rig.write(&audit, 8..30);
    rig.names();
    assert_eq!(drain(&mut reader), ids(8..30), "many");
    drop(audit);
    rig.clock.advance(DAY);
    let audit = rig.open(Rotation { file_bytes_max: 3 * line_bytes(), ..UNBOUNDED });
    rig.write(&audit, 30..31);
    assert_eq!(drain(&mut reader), ids(30..31), "a restart");
    // Half a line is not a line yet.
    let next = line(&record(NOW, "0031"));
    let file = fs::OpenOptions::new().append(true).open(rig.path()).unwrap();
    io_write(&file, &next[..100]);
    assert_eq!(drain(&mut reader), ids(0..0));
    io_write(&file, &next[100..]);
    assert_eq!(drain(&mut reader), ids(31..32));
}

fn io_write(mut file: &fs::File, bytes: &[u8]) {
    std::io::Write::write_all(&mut file, bytes).unwrap();
}

#[test]
fn one_who_follows_while_another_thread_writes_loses_nothing() {
    let rig = Rig::new();
    let audit = rig.open(Rotation { file_bytes_max: 7 * line_bytes(), ..UNBOUNDED });
    let mut reader = AuditReader::open(&rig.path(), UnixTime::from_secs(0), true).unwrap();
    let mut found = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| rig.write(&audit, 0..2000));
        let deadline = Instant::now() + Duration::from_secs(60);
        while found.len() < 2000 && Instant::now() < deadline {
            let (ids, skipped) = drain(&mut reader);
            assert_eq!(skipped, [] as [String; 0]);
            found.extend(ids);
        }
        writer.join().unwrap();
    });
    assert_eq!(found, (0..2000).collect::<Vec<u32>>());
}

/// A device that takes nothing stands for a disk that fails.
#[test]
fn while_no_line_can_be_written_mutations_are_refused() {
    let rig = Rig::new();
    std::os::unix::fs::symlink("/dev/full", rig.path()).unwrap();
    let audit = rig.open(UNBOUNDED);
    assert!(!audit.accepts_mutations(), "nothing could be reserved");
    let error = audit.append(&record(NOW, "0000")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(!audit.accepts_mutations());
}

#[test]
fn a_rotation_that_fails_is_postponed_and_nothing_is_lost() {
    let rig = Rig::new();
    let audit = rig.open(Rotation { file_bytes_max: 2 * line_bytes(), ..UNBOUNDED });
    rig.write(&audit, 0..2);
    // In the way of the new file.
    let obstacle = rig.directory.path().join("audit.jsonl.new");
    fs::create_dir(&obstacle).unwrap();
    rig.write(&audit, 2..4);
    assert!(audit.accepts_mutations());
    fs::remove_dir(&obstacle).unwrap();
    rig.clock.advance(59);
    rig.write(&audit, 4..5);
    assert_eq!(rig.names(), ["audit.jsonl"], "not before a minute is over");
    rig.clock.advance(1);
    rig.write(&audit, 5..6);
    assert_eq!(rig.names(), ["audit-20270115T080059Z-1.jsonl.gz", "audit.jsonl"]);
    assert_eq!(rig.read(), ids(0..6));
}

#[test]
fn the_reserve_goes_with_the_file_that_is_written() {
    use std::os::unix::fs::MetadataExt;
    let rig = Rig::new();
    let audit = rig.open(Rotation { file_bytes_max: 2 * line_bytes(), ..UNBOUNDED });
    let reserved = || fs::metadata(rig.path()).unwrap().blocks() * 512;
    if reserved() == 0 {
        eprintln!("SKIPPED: this file system cannot reserve space");
        return;
    }
    assert!(reserved() >= 1 << 20);
    let first = fs::File::open(rig.path()).unwrap();
    rig.write(&audit, 0..3);
    assert!(reserved() >= 1 << 20, "in the new file");
    assert!(first.metadata().unwrap().blocks() * 512 < 64 << 10, "no more in the old one");
    assert_eq!(rig.names().len(), 2);
}

/// A line that is to be written with others.
type Waiting<'a> = std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + 'a>>;

impl Rig {
    /// The lines of calls that are ready to be answered at the same time: each is polled once, in its order.
    fn together<'a>(&self, audit: &'a Audit, records: &'a [Record<'a>]) -> Vec<Waiting<'a>> {
        let mut all: Vec<Waiting<'a>> =
            records.iter().map(|record| Box::pin(audit.append_together(record)) as Waiting<'a>).collect();
        for waiting in &mut all {
            assert!(poll(waiting).is_none(), "it lets the others go ahead");
        }
        all
    }

    fn length(&self) -> u64 {
        fs::metadata(self.path()).unwrap().len()
    }
}

fn poll(waiting: &mut Waiting<'_>) -> Option<std::io::Result<()>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match waiting.as_mut().poll(&mut context) {
        std::task::Poll::Ready(outcome) => Some(outcome),
        std::task::Poll::Pending => None,
    }
}

fn records(range: std::ops::Range<u32>, time: UnixTime) -> Vec<Record<'static>> {
    range.map(|id| record(time, Box::leak(format!("{id:04}").into_boxed_str()))).collect()
}

#[test]
fn whoever_comes_first_writes_for_all_and_nobody_is_answered_before() {
    let rig = Rig::new();
    let audit = rig.open(UNBOUNDED);
    let records = records(0..4, NOW);
    let mut all = rig.together(&audit, &records);
    assert!(poll(&mut all[2]).is_none() && poll(&mut all[3]).is_none());
    assert_eq!(rig.length(), 0, "nothing is written, and nobody is told that it is");
    assert!(poll(&mut all[0]).unwrap().is_ok());
    assert_eq!(rig.length(), 4 * line_bytes());
    for waiting in &mut all[1..] {
        assert!(poll(waiting).unwrap().is_ok());
    }
    assert_eq!(rig.read(), ids(0..4));
}

#[test]
fn who_goes_away_leaves_nobody_waiting_and_no_line_out() {
    let rig = Rig::new();
    let audit = rig.open(UNBOUNDED);
    let records = records(0..4, NOW);
    let mut all = rig.together(&audit, &records);
    drop(all.remove(1));
    drop(all.remove(0));
    for waiting in &mut all {
        assert!(poll(waiting).unwrap().is_ok());
    }
    assert_eq!(rig.read(), ids(0..4));
}

#[test]
fn a_line_that_does_not_wait_comes_behind_those_that_do() {
    let rig = Rig::new();
    let audit = rig.open(UNBOUNDED);
    let records = records(0..2, NOW);
    let mut all = rig.together(&audit, &records);
    rig.write(&audit, 2..3);
    for waiting in &mut all {
        assert!(poll(waiting).unwrap().is_ok());
    }
    assert_eq!(rig.read(), ids(0..3));
}

#[test]
fn lines_that_are_written_together_go_into_the_files_that_they_belong_to() {
    let rig = Rig::new();
    let audit = rig.open(Rotation { file_bytes_max: 3 * line_bytes(), ..UNBOUNDED });
    let midnight = UnixTime::from_secs(NOW.as_secs() / DAY * DAY + DAY);
    let mut both = records(0..5, midnight.minus(1));
    both.extend(records(5..7, midnight));
    let mut all = rig.together(&audit, &both);
    for waiting in &mut all {
        assert!(poll(waiting).unwrap().is_ok());
    }
    // Three, then two of the old day, then two of the new one.
    let named = ["audit-20270115T235959Z-1.jsonl.gz", "audit-20270115T235959Z-2.jsonl.gz", "audit.jsonl"];
    assert_eq!(rig.names(), named);
    assert_eq!(rig.length(), 2 * line_bytes());
    assert_eq!(rig.read(), ids(0..7));
}

#[test]
fn a_failure_reaches_everybody_whose_line_was_in_it() {
    let rig = Rig::new();
    std::os::unix::fs::symlink("/dev/full", rig.path()).unwrap();
    let audit = rig.open(UNBOUNDED);
    let records = records(0..3, NOW);
    for waiting in &mut rig.together(&audit, &records) {
        assert_eq!(poll(waiting).unwrap().unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }
    assert!(!audit.accepts_mutations());
}

/// A file system of 16 KiB in memory, of which one page is free. Only root may mount: others skip what needs it.
struct FullDisk(tempfile::TempDir);

impl FullDisk {
    fn mount() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(place.path()).status();
        if !status.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "on CI nobody reads that this was skipped");
            eprintln!("!! SKIPPED, not tested: mounting a small disk needs root");
            return None;
        }
        let disk = Self(place);
        fs::write(disk.0.path().join("filler"), vec![1; 12 << 10]).unwrap();
        Some(disk)
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_line_that_has_no_room_keeps_none_behind_it_from_being_written() {
    let Some(disk) = FullDisk::mount() else { return };
    let rig = Rig::new();
    std::os::unix::fs::symlink(disk.0.path().join("audit"), rig.path()).unwrap();
    let audit = rig.open(UNBOUNDED);
    let mut records = records(0..4, NOW);
    // More than what is left of the page.
    records[1].request_parameters = Value::from("x".repeat(5000));
    let mut waiting = rig.together(&audit, &records);
    let outcomes: Vec<bool> = waiting.iter_mut().map(|waiting| poll(waiting).unwrap().is_ok()).collect();
    assert_eq!(outcomes, [true, false, true, true]);
    drop(waiting);
    assert!(!audit.accepts_mutations(), "one could not be written");
    assert_eq!(rig.read(), (vec![0, 2, 3], Vec::new()));
}

#[test]
fn many_at_once_lose_nothing_and_each_finds_its_line_when_it_is_answered() {
    let rig = Rig::new();
    let audit = rig.open(Rotation { file_bytes_max: 1 << 20, ..UNBOUNDED });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let path = rig.path();
    let (audit, path) = (std::sync::Arc::new(audit), std::sync::Arc::new(path));
    let tasks: Vec<_> = (0..8_u32)
        .map(|task| {
            let (audit, path) = (std::sync::Arc::clone(&audit), std::sync::Arc::clone(&path));
            runtime.spawn(async move {
                for nth in 0..50 {
                    let id = format!("{:04}", task * 50 + nth);
                    audit.append_together(&record(NOW, &id)).await.unwrap();
                    let text = fs::read_to_string(&*path).unwrap();
                    assert!(text.contains(&format!("\"requestID\":\"{id}\"")), "{id}");
                    assert!(text.ends_with('\n'));
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    let (mut found, skipped) = rig.read();
    found.sort_unstable();
    assert_eq!((found, skipped), ids(0..400));
}

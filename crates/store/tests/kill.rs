//! A process that launches as fast as it can is killed with SIGKILL at moments nobody chose, many times, on one store.
//! What it had acknowledged is there afterwards, whole, and the file is sound.
//!
//! SIGKILL takes the process, not the kernel: this proves the order of commit and answer and the recovery of the log.
//! That the commit has reached the medium rests on `synchronous=FULL`, which a unit test of the connections checks.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and so does what it calls"
)]

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use inborn_identity::InstanceId;
use inborn_store::conformance::samples::{bare, full, id, launch_with_token};
use inborn_store::{Instance, LaunchOutcome, SqliteStore, Store};
use rusqlite::Connection;

const PLACE: &str = "INBORN_KILL_TEST_STORE";
const FIRST: &str = "INBORN_KILL_TEST_FIRST";
const ROUNDS: u32 = 25;
/// At most so many, where a slow machine is seldom busy before it is killed.
const ROUNDS_MAX: u32 = 200;
const WRITERS: u32 = 8;
/// Numbers set aside for one round: more than a round can launch.
const ROUND: u32 = 1_000_000;

/// Two instances: a launch that is there must be there whole.
fn request(number: u32) -> inborn_store::LaunchRequest {
    let first = Instance { attachment: None, mac: None, ..full(number * 2) };
    launch_with_token(vec![first, bare(number * 2 + 1)], &format!("token-{number}"), 1)
}

/// The child: launches from several tasks, and writes a line once a launch was acknowledged. Never returns.
fn launch_until_killed(path: &Path, first: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(SqliteStore::open(path).unwrap());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for number in (first + writer..).step_by(WRITERS as usize) {
                        assert!(matches!(store.launch(request(number)).await, Ok(LaunchOutcome::New(_))));
                        let line = format!("launched {number}\n");
                        // One write per line: a torn line would be a launch that was not acknowledged.
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                        std::io::stdout().flush().unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// Runs the child for a while, kills it, and gives what it had acknowledged.
fn run_and_kill(path: &Path, first: u32, lifetime: Duration) -> Vec<u32> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "no_acknowledged_launch_is_lost", "--nocapture"])
        .env(PLACE, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix("launched ")?.parse().ok()).collect::<Vec<u32>>()
    });
    std::thread::sleep(lifetime);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the child ended by itself: {status}");
    reading.join().unwrap()
}

#[test]
fn no_acknowledged_launch_is_lost() {
    if let (Some(path), Ok(first)) = (env::var_os(PLACE), env::var(FIRST)) {
        return launch_until_killed(Path::new(&path), first.parse().unwrap());
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region.db");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut acknowledged: BTreeSet<u32> = BTreeSet::new();
    let mut busy_rounds = 0;
    let is_enough = |busy_rounds, acknowledged: &BTreeSet<u32>| busy_rounds >= 20 || acknowledged.len() > 1000;
    let (mut idle_rounds, mut round) = (0, 0);
    while round < ROUNDS || round < ROUNDS_MAX && !is_enough(busy_rounds, &acknowledged) {
        // Spread over starting, recovering and being busy; the scheduler adds its own chance. Longer where the machine is slow.
        let lifetime = Duration::from_millis(u64::from(20 + round * 61 % 180 + 5 * idle_rounds));
        let launched = run_and_kill(&path, round * ROUND, lifetime);
        busy_rounds += u32::from(!launched.is_empty());
        idle_rounds += u32::from(launched.is_empty());
        round += 1;
        acknowledged.extend(launched);
        runtime.block_on(check(&path, &acknowledged));
    }
    assert!(is_enough(busy_rounds, &acknowledged), "{busy_rounds} rounds, {} launches", acknowledged.len());
}

/// Every acknowledged launch is there as it was asked for, and no launch is there by half.
async fn check(path: &Path, acknowledged: &BTreeSet<u32>) {
    let store = SqliteStore::open(path).unwrap();
    let sample = acknowledged.iter().rev().take(64).chain(acknowledged.iter().step_by(97));
    for number in sample {
        for expected in request(*number).instances {
            assert_eq!(store.instance(expected.id).await.as_ref(), Ok(&Some(expected.clone())), "launch {number}");
        }
    }
    store.close().await.unwrap();

    let connection = Connection::open(path).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let mut ids = connection.prepare("SELECT id FROM instances").unwrap();
    let ids: BTreeSet<InstanceId> =
        ids.query_map((), |row| row.get::<_, String>(0)).unwrap().map(|id| id.unwrap().parse().unwrap()).collect();
    for number in acknowledged {
        assert!(ids.contains(&id(number * 2)) && ids.contains(&id(number * 2 + 1)), "launch {number} is lost");
    }
    let halves: i64 = connection
        .query_row(
            "SELECT COUNT(*) FROM (SELECT 1 FROM instances GROUP BY reservation_id HAVING COUNT(*) <> 2)",
            (),
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(halves, 0, "launches are there by half");
}

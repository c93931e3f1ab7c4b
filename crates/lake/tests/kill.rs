//! A process that appends as fast as it can is killed with SIGKILL at moments nobody chose, many times, on one lake. What
//! it had acknowledged is there afterwards, once.
//!
//! SIGKILL takes the process, not the kernel: this proves the order of write, sync and answer, and the recovery. That a
//! sync reaches the medium rests on the kernel.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and so does what it calls")]

mod support;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use inborn_lake::Appended;
use support::{batch, open};

const PLACE: &str = "INBORN_KILL_TEST_LAKE";
const FIRST: &str = "INBORN_KILL_TEST_FIRST";
const ROUNDS: u32 = 12;
/// At most so many, where a slow machine is seldom busy before it is killed.
const ROUNDS_MAX: u32 = 100;
const WRITERS: u32 = 4;
const EVENTS: u32 = 3;
/// Numbers set aside for one round: more than a round can append.
const ROUND: u32 = 1_000_000;

fn uids(number: u32) -> impl Iterator<Item = String> {
    (0..EVENTS).map(move |event| format!("{number}-{event}"))
}

/// The child: appends from several tasks, and writes a line once a batch was acknowledged. Never returns.
fn append_until_killed(path: &Path, first: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let lake = open(path);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let lake = lake.clone();
                tokio::spawn(async move {
                    for number in (first + writer..).step_by(WRITERS as usize) {
                        assert_eq!(lake.append(batch(1, uids(number))).await, Ok(Appended { kept: 3, duplicates: 0 }));
                        // One write per line: a torn line would be a batch that was not acknowledged.
                        std::io::stdout().write_all(format!("appended {number}\n").as_bytes()).unwrap();
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
        .args(["--exact", "no_acknowledged_event_is_lost", "--nocapture"])
        .env(PLACE, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.filter_map(|line| line.strip_prefix("appended ")?.parse().ok()).collect::<Vec<u32>>()
    });
    std::thread::sleep(lifetime);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "the child ended by itself: {status}");
    reading.join().unwrap()
}

#[test]
fn no_acknowledged_event_is_lost() {
    if let (Some(path), Ok(first)) = (env::var_os(PLACE), env::var(FIRST)) {
        return append_until_killed(Path::new(&path), first.parse().unwrap());
    }
    let place = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut acknowledged: Vec<u32> = Vec::new();
    let mut busy_rounds = 0;
    let is_enough = |busy_rounds, acknowledged: &[u32]| busy_rounds >= 6 || acknowledged.len() > 500;
    let (mut idle_rounds, mut round) = (0, 0);
    while round < ROUNDS || round < ROUNDS_MAX && !is_enough(busy_rounds, &acknowledged) {
        // Spread over starting, recovering and being busy; the scheduler adds its own chance. Longer where the machine is slow.
        let lifetime = Duration::from_millis(u64::from(30 + round * 61 % 180 + 5 * idle_rounds));
        let appended = run_and_kill(place.path(), round * ROUND, lifetime);
        busy_rounds += u32::from(!appended.is_empty());
        idle_rounds += u32::from(appended.is_empty());
        round += 1;
        acknowledged.extend(appended);
        runtime.block_on(async {
            let lake = open(place.path());
            for number in acknowledged.iter().rev().take(60) {
                let again = lake.append(batch(1, uids(*number))).await;
                assert_eq!(again, Ok(Appended { kept: 0, duplicates: 3 }), "batch {number} is lost");
            }
            lake.close().await;
        });
    }
    assert!(is_enough(busy_rounds, &acknowledged), "{busy_rounds} rounds, {} batches", acknowledged.len());
}

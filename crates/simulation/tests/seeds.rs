//! Many seeds, and those that have failed once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use inborn_simulation::{Failure, Summary, run};

/// Of every run of the tests (`cargo xtask test` runs most of them beside the others); `cargo xtask simulate` runs more.
const SEEDS: u64 = 1000;
/// Seeds that have failed once: what they found stays found.
const KEPT: &str = include_str!("seeds.txt");

fn kept() -> impl Iterator<Item = u64> {
    KEPT.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok())
}

/// Runs seeds on every core; gives what all of them did, and what failed.
fn run_all(seeds: &[u64]) -> (Vec<Summary>, Vec<Failure>) {
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new((Vec::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(usize::try_from(next.fetch_add(1, Ordering::SeqCst)).unwrap()) {
                    let outcome = run(*seed);
                    let mut outcomes = outcomes.lock().unwrap();
                    match outcome {
                        Ok(report) => outcomes.0.push(report.summary),
                        Err(failure) => outcomes.1.push(failure),
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

/// `INBORN_SEEDS=FROM..TO` runs others.
#[test]
fn nothing_happens_that_never_may() {
    let (from, to) = match std::env::var("INBORN_SEEDS") {
        Ok(range) => {
            let (from, to) = range.split_once("..").expect("INBORN_SEEDS is FROM..TO");
            (from.parse().unwrap(), to.parse().unwrap())
        }
        Err(_) => (0, SEEDS),
    };
    let seeds: Vec<u64> = kept().chain(from..to).collect();
    let (summaries, failures) = run_all(&seeds);
    for failure in failures.iter().take(3) {
        println!("{failure}");
    }
    let failed: Vec<u64> = failures.iter().map(|failure| failure.seed).collect();
    assert!(
        failed.is_empty(),
        "{} of {} seeds failed: {failed:?}; keep them in tests/seeds.txt",
        failed.len(),
        seeds.len()
    );

    // A simulation in which nothing happens would hold, too.
    let of = |count: fn(&Summary) -> usize| summaries.iter().map(count).sum::<usize>() / summaries.len();
    let means = [
        of(|s| s.launched),
        of(|s| s.ended),
        of(|s| s.answers[0]),
        of(|s| s.answers[1]),
        of(|s| s.by_hosts),
        of(|s| s.compared),
    ];
    let evicted: usize = summaries.iter().map(|summary| summary.evicted).sum();
    println!(
        "{} seeds; on average launched, ended, let in, refused, let in by hosts, compared: {means:?}",
        seeds.len()
    );
    println!("{evicted} hosts were evicted");
    let least = [5, 5, 80, 20, 10, 10];
    assert!(means.iter().zip(least).all(|(mean, least)| *mean >= least), "{means:?}");
    assert!(evicted > 0, "no host was ever evicted");
    assert!(summaries.iter().any(|summary| summary.answers[2] > 0), "nobody was ever put off");
}

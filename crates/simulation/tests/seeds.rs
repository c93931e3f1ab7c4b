//! Many seeds, and those that have failed once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use inborn_simulation::{Failure, Report, Summary, run};

/// Of every run of the tests (`cargo xtask test` runs most of them beside the others); `cargo xtask simulate` runs more.
const SEEDS: u64 = 1000;
/// So many seeds are run twice.
const TWICE: usize = 4;
/// Of so few seeds it cannot be said how much happens in them.
const FEW: usize = 20;
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

/// `INBORN_SEEDS=FROM..TO` says others.
fn chosen(usual: u64) -> Range<u64> {
    let Ok(range) = std::env::var("INBORN_SEEDS") else { return 0..usual };
    let (from, to) = range.split_once("..").expect("INBORN_SEEDS is FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn nothing_happens_that_never_may() {
    let seeds: Vec<u64> = kept().chain(chosen(SEEDS)).collect();
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

    if seeds.len() < FEW {
        return;
    }
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

/// Without this a seed that fails could not be looked into.
#[test]
fn a_seed_brings_about_the_same_again() {
    for seed in chosen(SEEDS).take(TWICE) {
        let traced = |outcome: Result<Report, Failure>| match outcome {
            Ok(Report { trace, summary, last_draw }) => (trace, format!("{summary:?}, and then {last_draw}")),
            Err(Failure { trace, violations, .. }) => (trace, violations.join("\n")),
        };
        let [(first, end), (again, other_end)] = [run(seed), run(seed)].map(traced);
        let differs = first.iter().zip(&again).find(|(first, again)| first != again);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(end, other_end, "seed {seed}");
    }
}

//! `cargo xtask test`: everything, and one line at the end that says how much.

use crate::shell::{Background, Step, target_directory};
use crate::tally::Tally;
use crate::{compat, tidy};
use anyhow::Result;
use std::path::Path;
use std::time::Instant;

/// Which seeds the simulation of a fleet runs.
const SEEDS: &str = "INBORN_SEEDS";
/// Those that run among the other tests, and those that run beside them: tests that wait leave much of the processors idle.
const FIRST_SEEDS: &str = "0..20";
const OTHER_SEEDS: &str = "20..1000";

pub(crate) struct Options {
    /// Also the real clients of `compat/`.
    pub(crate) compat: bool,
    /// The binary that the real clients meet is the optimised one.
    pub(crate) release: bool,
}

pub(crate) fn run(root: &Path, options: Options) -> Result<()> {
    let started = Instant::now();
    tidy::run(root)?;

    cargo_test(root).arg("--no-run").run()?;
    // Doc tests are part of `cargo test` as long as no target is named.
    let mut tests = cargo_test(root).arg("--no-fail-fast");
    let runs_beside = options.compat && std::env::var_os(SEEDS).is_none();
    let simulation = if runs_beside { Some(Simulation::start(root)?) } else { None };
    if runs_beside {
        tests = tests.env(SEEDS, FIRST_SEEDS);
    }
    let mut total = tests.run_counting()?;
    println!("cargo: {total} ({} s so far)", started.elapsed().as_secs());

    if options.compat {
        let clients = compat::run(root, options.release, &[]);
        let simulated = simulation.map(Simulation::end).transpose()?;
        let clients = clients?;
        println!("compat: {clients} ({} s so far)", started.elapsed().as_secs());
        total.merge(clients);
        if let Some(simulated) = simulated {
            println!("simulation: {simulated} ({} s so far)", started.elapsed().as_secs());
            total.merge(simulated);
        }
    } else {
        println!("compat: left out, as asked with --no-compat");
    }

    let verdict = total.verdict();
    println!("\ntotal: {total}");
    verdict
}

fn cargo_test(root: &Path) -> Step {
    Step::cargo(root).args(CARGO_TEST)
}

/// What every run of cargo's tests has in common: with anything else it would build all of it again.
const CARGO_TEST: [&str; 5] = ["test", "--workspace", "--features", "inborn/s3,inborn/otel", "--locked"];

/// The simulation of a fleet beside other tests. Its clock is not theirs, so that it may be slow.
struct Simulation(Background);

impl Simulation {
    fn start(root: &Path) -> Result<Self> {
        let step = cargo_test(root).args(["--test", "seeds", "--", "--nocapture"]).env(SEEDS, OTHER_SEEDS);
        let output = target_directory(root).join("simulation.log");
        Ok(Self(step.start_aside(&output)?))
    }

    /// Waits for its end; what it printed is printed.
    fn end(self) -> Result<Tally> {
        self.0.end()
    }
}

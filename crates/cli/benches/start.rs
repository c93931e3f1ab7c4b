//! How much longer a command takes to start in a machine than without: `inborn run -- true` beside `true`, with an `up`
//! that runs. Both are started in turns, so that what else this computer does meets both alike.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "a benchmark with its own main")]

#[path = "support/mod.rs"]
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::{INBORN, Spread, Up, is_only_asked, millis};

const ROUNDS: usize = 40;
const WARM_UP_ROUNDS: usize = 3;
/// What is promised: this much over the bare command.
const GOAL: Duration = Duration::from_millis(150);

fn main() {
    if is_only_asked() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let up = Up::start(&data);
    let mut bare = Command::new("true");
    let mut machine = Command::new(INBORN);
    machine.args(["run", "--", "true"]).env("INBORN_DATA", &data);
    let mut alone = Command::new(INBORN);
    alone.args(["run", "--", "true"]).env_remove("INBORN_DATA").env("HOME", home.path()).env_remove("XDG_STATE_HOME");
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        for (command, times) in [&mut bare, &mut machine, &mut alone].into_iter().zip(&mut times) {
            let begun = Instant::now();
            assert!(command.status().unwrap().success());
            if round >= WARM_UP_ROUNDS {
                times.push(begun.elapsed());
            }
        }
    }
    drop(up);
    let [bare, machine, alone] = times.map(Spread::of);
    println!("start of a command, {ROUNDS} rounds in turns: fastest / median / 90 % within");
    println!("  true                              {bare}");
    println!("  inborn run -- true, with an `up`  {machine}");
    println!("  inborn run -- true, alone         {alone}");
    let over = machine.median.saturating_sub(bare.median);
    let verdict = if over <= GOAL { "kept" } else { "missed" };
    println!("  over the bare command: {:.1} ms; the goal of {} ms is {verdict}", millis(over), GOAL.as_millis());
}

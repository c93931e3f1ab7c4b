//! How much longer a command takes to start in a machine than without: `inborn run -- true` beside `true`, with an `up`
//! that runs. Both are started in turns, so that what else this computer does meets both alike.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "a benchmark with its own main")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const INBORN: &str = env!("CARGO_BIN_EXE_inborn");
const ROUNDS: usize = 40;
const WARM_UP_ROUNDS: usize = 3;
/// What is promised: this much over the bare command.
const GOAL: Duration = Duration::from_millis(150);
const READY_TIMEOUT: Duration = Duration::from_secs(30);

fn main() {
    // `cargo test --benches` and other runners only ask whether it starts.
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
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

struct Spread {
    fastest: Duration,
    median: Duration,
    most: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |tenths: usize| *times.get((times.len() - 1) * tenths / 10).unwrap();
        Self { fastest: at(0), median: at(5), most: at(9) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} / {:.1} / {:.1} ms", millis(self.fastest), millis(self.median), millis(self.most))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A region that runs beside the benchmark; killed at the end.
struct Up(Child);

impl Up {
    fn start(data: &Path) -> Self {
        let ready = data.with_file_name("ready.json");
        let mut up = Command::new(INBORN);
        up.arg("up").arg("--data").arg(data).arg("--ready-file").arg(&ready);
        up.args(["--port", "0", "--tls-port", "0", "--operations-port", "0"]);
        let up = Self(up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let begun = Instant::now();
        while !ready.exists() {
            assert!(begun.elapsed() < READY_TIMEOUT, "`inborn up` is not ready");
            std::thread::sleep(Duration::from_millis(10));
        }
        up
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! What the benchmarks of commands share: a region beside them, and what a person wants to know of many times.
#![allow(dead_code, unreachable_pub, reason = "shared by several benchmarks")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const INBORN: &str = env!("CARGO_BIN_EXE_inborn");
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether `cargo test --benches` or another runner only asks if it starts.
pub fn is_only_asked() -> bool {
    std::env::args().any(|argument| argument == "--test" || argument == "--list")
}

pub struct Spread {
    pub fastest: Duration,
    pub median: Duration,
    pub most: Duration,
}

impl Spread {
    pub fn of(mut times: Vec<Duration>) -> Self {
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

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A region that runs beside the benchmark; killed at the end.
pub struct Up(Child);

impl Up {
    pub fn start(data: &Path) -> Self {
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

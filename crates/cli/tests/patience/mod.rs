//! Waiting for what another process does.
#![allow(unreachable_pub, reason = "a module of several test files")]

use std::time::{Duration, Instant};

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

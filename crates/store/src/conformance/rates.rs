//! What benchmarks of launches have in common: clients that launch, and two rates that were measured in turn.

use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Instant;

use super::samples::{bare, launch_with_token};
use crate::Store;

/// Numbers are never used twice.
static NUMBERS: AtomicU32 = AtomicU32::new(0);

/// A number that was not used before in this process.
#[must_use]
pub fn new_number() -> u32 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// Launches a second: so many in all, by so many clients who wait for each of theirs. Each has a client token and one instance.
pub async fn launches_a_second<S: Store>(store: &Arc<S>, clients: u32, all: u32) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for _ in 0..all / clients {
                    let number = new_number();
                    store.launch(launch_with_token(vec![bare(number)], &number.to_string(), 1)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    f64::from(all) / begun.elapsed().as_secs_f64()
}

/// The medians of rounds, each of which has measured bare inserts and launches, and how far what one is of the other lies apart.
#[must_use]
pub fn compared(clients: u32, rounds: &[(f64, f64)]) -> String {
    let sorted = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (inserts, launches) = (sorted(|rates| rates.0), sorted(|rates| rates.1));
    let (shares, middle) = (sorted(|rates| 100.0 * rates.1 / rates.0), rounds.len() / 2);
    format!(
        "{clients:>3} clients: {:>6.0} launches a second, {:>6.0} bare inserts: {:.0} % ({:.0} to {:.0})",
        launches[middle],
        inserts[middle],
        shares[middle],
        shares[0],
        shares[rounds.len() - 1],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_the_median_of_rounds() {
        let said = compared(7, &[(100.0, 90.0), (200.0, 100.0), (50.0, 60.0)]);
        assert_eq!(said, "  7 clients:     90 launches a second,    100 bare inserts: 90 % (50 to 120)");
    }
}

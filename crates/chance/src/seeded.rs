//! A seed for all that a thread draws.

use core::cell::RefCell;
use core::marker::PhantomData;

thread_local! {
    static DRAWN: RefCell<Option<fastrand::Rng>> = const { RefCell::new(None) };
}

/// While it is there, its thread draws from a seed.
#[derive(Debug)]
pub struct Seeded {
    /// It belongs to its thread.
    not_send: PhantomData<*const ()>,
}

/// Lets this thread draw from `seed`, until what is given back is dropped.
///
/// # Panics
/// The thread draws from a seed already: each of the two would change what the other draws.
#[must_use]
pub fn seed(seed: u64) -> Seeded {
    let before = DRAWN.replace(Some(fastrand::Rng::with_seed(seed)));
    assert!(before.is_none(), "one simulation at a time runs on a thread");
    Seeded { not_send: PhantomData }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        DRAWN.set(None);
    }
}

/// Whether the bytes were drawn.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    DRAWN.with_borrow_mut(|drawn| drawn.as_mut().map(|random| random.fill(bytes)).is_some())
}

pub(crate) fn is_running() -> bool {
    DRAWN.with_borrow(Option::is_some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn() -> [u8; 16] {
        let mut bytes = [0; 16];
        crate::fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_seed_draws_the_same_again_on_its_thread_alone() {
        let first = {
            let _seeded = seed(7);
            assert!(crate::is_seeded());
            assert!(!std::thread::spawn(crate::is_seeded).join().unwrap());
            [drawn(), drawn()]
        };
        assert_ne!(first[0], first[1]);
        assert!(!crate::is_seeded());
        assert_ne!(drawn(), first[0]);
        let _seeded = seed(7);
        assert_eq!([drawn(), drawn()], first);
    }

    #[test]
    #[should_panic(expected = "one simulation at a time")]
    fn two_seeds_at_a_time_are_refused() {
        let _one = seed(1);
        let _other = seed(1);
    }
}

//! What goes wrong in a test, and at which steps of a job.

use std::io;

/// Nothing, the power, or the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    steps: Vec<usize>,
    is_powerless: bool,
}

impl Faults {
    /// The power goes after a step: nothing more is done, neither mended.
    pub(crate) fn power(step: usize) -> Self {
        Self { steps: vec![step], is_powerless: true }
    }

    /// The disk fails at each of these steps.
    pub(crate) fn disk(steps: &[usize]) -> Self {
        Self { steps: steps.to_vec(), is_powerless: false }
    }

    pub(super) fn at(&self, step: usize) -> io::Result<()> {
        if self.steps.contains(&step) { Err(io::Error::other("stopped by a test")) } else { Ok(()) }
    }

    pub(super) const fn is_powerless(&self) -> bool {
        self.is_powerless
    }
}

//! Buffers that outlive a request.

use core::fmt;

use zeroize::Zeroize as _;

/// Buffers that verification writes to. Reused, they are not allocated again; one per thread is enough.
///
/// They hold what the last request signed, its session token included, and are wiped when they go.
#[derive(Default)]
pub struct Scratch {
    pub(crate) canonical: Vec<u8>,
    pub(crate) string_to_sign: Vec<u8>,
    /// The names and values of the query, encoded, in the order of the wire.
    pub(crate) encoded: Vec<u8>,
    /// Where they are in `encoded`.
    pub(crate) pairs: Vec<Pair>,
}

/// A name and a value: the bytes `start..middle` and `middle..end`.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) start: usize,
    pub(crate) middle: usize,
    pub(crate) end: usize,
}

impl Scratch {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The canonical request that was computed last, for a person who debugs a client. It holds the session token.
    #[must_use]
    pub fn canonical_request(&self) -> &[u8] {
        &self.canonical
    }

    /// The string to sign that was computed last.
    #[must_use]
    pub fn string_to_sign(&self) -> &[u8] {
        &self.string_to_sign
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.canonical.zeroize();
        self.encoded.zeroize();
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("capacity", &self.canonical.capacity()).finish_non_exhaustive()
    }
}

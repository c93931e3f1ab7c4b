//! What a region remembers: the Store trait, its conformance suite and the SQLite store.

//! The binary `inborn`.

fn main() {}

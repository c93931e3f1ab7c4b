//! `cargo xtask test`: everything, and one line at the end that says how much.

use crate::shell::Step;
use crate::{compat, tidy};
use anyhow::Result;
use std::path::Path;
use std::time::Instant;

pub(crate) struct Options {
    /// Also the real clients of `compat/`.
    pub(crate) compat: bool,
    /// The binary that the real clients meet is the optimised one.
    pub(crate) release: bool,
}

pub(crate) fn run(root: &Path, options: Options) -> Result<()> {
    let started = Instant::now();
    tidy::run(root)?;

    // Doc tests are part of `cargo test` as long as no target is named.
    let mut total = Step::cargo(root)
        .args(["test", "--workspace", "--features", "inborn/s3", "--locked", "--no-fail-fast"])
        .run_counting()?;
    println!("cargo: {total} ({} s so far)", started.elapsed().as_secs());

    if options.compat {
        let clients = compat::run(root, options.release, &[])?;
        println!("compat: {clients} ({} s so far)", started.elapsed().as_secs());
        total.merge(clients);
    } else {
        println!("compat: left out, as asked with --no-compat");
    }

    let verdict = total.verdict();
    println!("\ntotal: {total}");
    verdict
}

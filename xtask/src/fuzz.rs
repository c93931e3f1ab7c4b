//! `cargo xtask fuzz`: libFuzzer with nothing but the pinned toolchain and crates.io.
//!
//! `cargo fuzz` wants a nightly compiler because it turns a sanitizer on. Coverage feedback, which is what makes
//! libFuzzer find things, needs only LLVM passes that the stable compiler can be told to run; and memory errors are
//! not what is looked for in crates that forbid `unsafe`: a panic, a hang or a failed assertion is.

use crate::shell::Step;
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::sync::Mutex;

pub(crate) const DEFAULT_SECONDS: u64 = 60;

/// Edge coverage with counters that libFuzzer reads, and comparisons traced so that it learns magic values.
/// One codegen unit, and dead code kept: else the linker may drop half of a pair of coverage sections.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Clink-dead-code \
     -Cdebug-assertions -Coverflow-checks";

/// Builds the targets of `fuzz/` and runs each (or those named) for so many seconds, from the seeds in
/// `fuzz/corpus/TARGET`. What it learns goes to `fuzz/target/corpus/TARGET`, outside of version control, and is used
/// the next time; an input that crashes goes to `fuzz/artifacts/TARGET`.
pub(crate) fn run(root: &Path, seconds: u64, wanted: &[String]) -> Result<()> {
    let directory = root.join("fuzz");
    let targets = chosen(&directory, wanted)?;
    let host = host_triple(root)?;

    let built = directory.join("target");
    // With --target, build scripts and macros stay without instrumentation.
    let mut build = Step::cargo(&directory)
        .args(["build", "--locked", "--release", "--target", &host, "--target-dir"])
        .arg(&built)
        .env("RUSTFLAGS", COVERAGE)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for target in &targets {
        build = build.args(["--bin", target.as_str()]);
    }
    build.run()?;

    let waiting = Mutex::new(targets.iter());
    let next = || waiting.lock().ok()?.next();
    let runner = Runner { directory: &directory, built: &built, host: &host, seconds };
    let found: Vec<Result<()>> = std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(targets.len());
        let all: Vec<_> = (0..workers)
            .map(|_| scope.spawn(|| std::iter::from_fn(next).try_for_each(|target| runner.run(target))))
            .collect();
        all.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a fuzz worker ended"))).collect()
    });
    found.into_iter().collect::<Result<()>>()?;
    println!("\nfuzz: {} targets, {seconds} s each, nothing found", targets.len());
    Ok(())
}

/// Runs one target after another; as many runners as there are processors.
struct Runner<'a> {
    directory: &'a Path,
    built: &'a Path,
    host: &'a str,
    seconds: u64,
}

impl Runner<'_> {
    fn run(&self, target: &str) -> Result<()> {
        let seeds = self.directory.join("corpus").join(target);
        let corpus = self.built.join("corpus").join(target);
        let artifacts = self.directory.join("artifacts").join(target);
        std::fs::create_dir_all(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
        std::fs::create_dir_all(&artifacts).with_context(|| format!("creating {}", artifacts.display()))?;
        Step::new(self.built.join(self.host).join("release").join(target), self.directory)
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"])
            // libFuzzer writes to the first directory and only reads the others.
            .arg(&corpus)
            .args(seeds.is_dir().then_some(&seeds))
            .run()
            .with_context(|| format!("{target} found something; the input is in {}", artifacts.display()))
    }
}

/// The convention of `cargo fuzz`: a target per file of `fuzz/fuzz_targets`.
fn chosen(directory: &Path, wanted: &[String]) -> Result<Vec<String>> {
    let folder = directory.join("fuzz_targets");
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(path.file_stem().and_then(|stem| stem.to_str()).map(String::from));
        }
    }
    targets.sort();
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        bail!("no fuzz target `{unknown}`; there are: {}", targets.join(", "));
    }
    if !wanted.is_empty() {
        targets.retain(|target| wanted.contains(target));
    }
    ensure!(!targets.is_empty(), "no fuzz target in {}", folder.display());
    Ok(targets)
}

fn host_triple(root: &Path) -> Result<String> {
    let version = Step::new("rustc", root).arg("-vV").output()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(String::from).context("`rustc -vV` names no host")
}

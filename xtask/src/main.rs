//! Set-up, tests and checks, in the language of the project: `cargo xtask COMMAND`.
//!
//! A step prints the command it runs, so that any of them can be repeated by hand.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a build tool talks to the person at the terminal")]

mod bench;
mod clients;
mod compat;
mod fuzz;
mod older;
mod package;
mod python;
mod shell;
mod suite;
mod tally;
mod tidy;

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test [--no-compat] [--release]   every test: unit, property, doc, and the real clients of compat/ (set-up included)
  compat [--release] [-- ARGS]     only the real clients; ARGS go to pytest (`-- -k pocket`)
  setup                            what compat/ needs: its Python environment, and the clients of other languages
  older                            a program of an older version, built of the history, for the test of upgrades
  bench [-- ARGS]                  the benchmarks
  fuzz [--seconds N] [TARGET…]     each fuzz target for N seconds (default 60), with the pinned toolchain alone
  simulate [--seeds FROM..TO]      servers, store and machines under faults, a run for each seed (default 0..10000), after those
                                   that failed before: target/simulation/failed-SEED.txt says how, until they pass
  manual DIR                       man pages and shell completions, into DIR
  package [--binary FILE] [--out DIR]  the Debian packages, of a new release build or of FILE
  tidy                             rules that no compiler checks: file sizes, leftovers, machine paths
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<()> {
    let root = workspace_root()?;
    let mut arguments = Arguments::new(arguments);
    match arguments.command().as_deref() {
        Some("test") => {
            let options =
                suite::Options { compat: !arguments.flag("--no-compat"), release: arguments.flag("--release") };
            arguments.finish()?;
            suite::run(&root, options)
        }
        Some("compat") => {
            let release = arguments.flag("--release");
            let extra = arguments.after_dashes();
            arguments.finish()?;
            compat::run(&root, release, &extra)?.verdict()
        }
        Some("setup") => {
            arguments.finish()?;
            python::environment(&root)?;
            clients::prepare(&root)
        }
        Some("older") => {
            arguments.finish()?;
            older::program(&root).map(|_| ())
        }
        Some("bench") => {
            let extra = arguments.after_dashes();
            arguments.finish()?;
            bench::run(&root, &extra)
        }
        Some("fuzz") => {
            let seconds = match arguments.value("--seconds")? {
                Some(text) => text.parse().with_context(|| format!("--seconds wants a whole number, not `{text}`"))?,
                None => fuzz::DEFAULT_SECONDS,
            };
            fuzz::run(&root, seconds, &arguments.rest()?)
        }
        Some("simulate") => {
            let seeds = arguments.value("--seeds")?.unwrap_or_else(|| "0..10000".to_owned());
            arguments.finish()?;
            shell::Step::cargo(&root)
                .args(["test", "--locked", "-p", "inborn-simulation", "--", "--nocapture"])
                .env("INBORN_SEEDS", &seeds)
                .run()
        }
        Some("manual") => {
            let directories = arguments.rest()?;
            match directories.as_slice() {
                [directory] => package::manual(&root, Path::new(directory)),
                _ => bail!("manual wants one directory\n\n{USAGE}"),
            }
        }
        Some("package") => {
            let binary = arguments.value("--binary")?.map(PathBuf::from);
            let out = arguments.value("--out")?.map(PathBuf::from);
            arguments.finish()?;
            package::run(&root, &package::Options { binary, out })
        }
        Some("tidy") => {
            arguments.finish()?;
            tidy::run(&root)
        }
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        Some(other) => bail!("no command `{other}`\n\n{USAGE}"),
        None => bail!("which command?\n\n{USAGE}"),
    }
}

/// Cargo sets the manifest directory for `cargo run`; the workspace is its parent.
fn workspace_root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").context("run me as `cargo xtask`")?;
    Path::new(&manifest).parent().map(Path::to_path_buf).context("xtask/ has no parent directory")
}

/// What is left of the command line. Ten commands do not pay for an argument parser's build time.
struct Arguments(Vec<String>);

impl Arguments {
    fn new(arguments: Vec<String>) -> Self {
        Self(arguments)
    }

    fn command(&mut self) -> Option<String> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }

    fn flag(&mut self, name: &str) -> bool {
        let before_dashes = self.0.iter().position(|a| a == "--").unwrap_or(self.0.len());
        match self.0.iter().take(before_dashes).position(|a| a == name) {
            Some(at) => {
                self.0.remove(at);
                true
            }
            None => false,
        }
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|a| a == name) else { return Ok(None) };
        if at + 1 >= self.0.len() {
            bail!("{name} wants a value");
        }
        self.0.remove(at);
        Ok(Some(self.0.remove(at)))
    }

    fn after_dashes(&mut self) -> Vec<String> {
        match self.0.iter().position(|a| a == "--") {
            Some(at) => self.0.drain(at..).skip(1).collect(),
            None => Vec::new(),
        }
    }

    fn rest(&mut self) -> Result<Vec<String>> {
        if let Some(unknown) = self.0.iter().find(|a| a.starts_with('-')) {
            bail!("no option `{unknown}`\n\n{USAGE}");
        }
        Ok(std::mem::take(&mut self.0))
    }

    fn finish(&mut self) -> Result<()> {
        match self.0.first() {
            Some(unknown) => bail!("no argument `{unknown}`\n\n{USAGE}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split_whitespace().map(String::from).collect())
    }

    #[test]
    fn a_flag_after_the_dashes_belongs_to_someone_else() {
        let mut given = arguments("compat -- --release -k pocket");
        assert_eq!(given.command().as_deref(), Some("compat"));
        assert!(!given.flag("--release"));
        assert_eq!(given.after_dashes(), ["--release", "-k", "pocket"]);
        assert!(given.finish().is_ok());
    }

    #[test]
    fn a_value_is_taken_with_its_name() {
        let mut given = arguments("--seconds 5 parse");
        assert_eq!(given.value("--seconds").unwrap().as_deref(), Some("5"));
        assert_eq!(given.rest().unwrap(), ["parse"]);
        assert!(arguments("--seconds").value("--seconds").is_err());
    }

    #[test]
    fn leftovers_are_refused() {
        assert!(arguments("--quick").finish().is_err());
        assert!(arguments("--quick").rest().is_err());
    }
}

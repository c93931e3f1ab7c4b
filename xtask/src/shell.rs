//! Running other programs, in the open.

use crate::tally::Tally;
use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program to run, printed before it runs.
pub(crate) struct Step(Command);

impl Step {
    pub(crate) fn new(program: impl AsRef<OsStr>, directory: &Path) -> Self {
        let mut command = Command::new(program);
        command.current_dir(directory).stdin(Stdio::null());
        Self(command)
    }

    /// The cargo that started us, so that a toolchain chosen with `+` stays chosen.
    pub(crate) fn cargo(directory: &Path) -> Self {
        Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), directory)
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Runs it with our own output; an exit other than 0 is an error.
    pub(crate) fn run(mut self) -> Result<()> {
        let line = self.announce();
        let status = self.0.status().with_context(|| format!("cannot start `{line}`"))?;
        if !status.success() {
            bail!("`{line}` failed: {status}");
        }
        Ok(())
    }

    /// Runs it, passes its standard output on line by line, and counts the tests that it reports.
    pub(crate) fn run_counting(mut self) -> Result<Tally> {
        let line = self.announce();
        let mut child = self.0.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
        let mut tally = Tally::default();
        if let Some(output) = child.stdout.take() {
            let mut stdout = std::io::stdout().lock();
            for read in BufReader::new(output).split(b'\n') {
                let bytes = read.with_context(|| format!("reading what `{line}` prints"))?;
                stdout.write_all(&bytes)?;
                stdout.write_all(b"\n")?;
                tally.read_line(&String::from_utf8_lossy(&bytes));
            }
            stdout.flush()?;
        }
        let status = child.wait()?;
        if !status.success() {
            tally.problem(format!("`{line}` failed: {status}"));
        }
        Ok(tally)
    }

    /// Starts it with the lowest priority, its output kept in a file until its end.
    pub(crate) fn start_aside(self, output: &Path) -> Result<Background> {
        let line = self.announce();
        let kept = std::fs::File::create(output).with_context(|| format!("creating {}", output.display()))?;
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(self.0.get_program()).args(self.0.get_args());
        for (name, value) in self.0.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = self.0.get_current_dir() {
            command.current_dir(directory);
        }
        let child = command
            .stdin(Stdio::null())
            .stderr(kept.try_clone()?)
            .stdout(kept)
            .spawn()
            .with_context(|| format!("cannot start `{line}`"))?;
        Ok(Background { child, line, output: output.to_owned() })
    }

    /// Runs it quietly and answers whether it exited with 0; a program that is not there answers no.
    pub(crate) fn succeeds(mut self) -> bool {
        self.0.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Runs it quietly and returns its standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let line = self.line();
        let output = self.0.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start `{line}`"))?;
        if !output.status.success() {
            bail!("`{line}` failed: {}", output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed something that is not UTF-8"))
    }

    fn announce(&self) -> String {
        let line = self.line();
        println!("\n$ {line}");
        line
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// A program that runs beside others.
pub(crate) struct Background {
    child: Child,
    line: String,
    output: PathBuf,
}

impl Background {
    /// Waits for its end, prints what it printed, and counts the tests that it reports.
    pub(crate) fn end(mut self) -> Result<Tally> {
        let status = self.child.wait()?;
        let mut tally = Tally::default();
        println!("\n$ {} (ran beside)", self.line);
        let printed = std::fs::read(&self.output).with_context(|| format!("reading {}", self.output.display()))?;
        for line in String::from_utf8_lossy(&printed).lines() {
            println!("{line}");
            tally.read_line(line);
        }
        if !status.success() {
            tally.problem(format!("`{}` failed: {status}", self.line));
        }
        Ok(tally)
    }
}

/// Where cargo puts what it builds.
pub(crate) fn target_directory(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root.join(directory),
        None => root.join("target"),
    }
}

/// Does this machine say that it is CI?
pub(crate) fn on_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false")
}

/// Installs Debian packages. What is fetched from elsewhere is tried three times: a mirror has its bad minutes.
pub(crate) fn install_packages(root: &Path, packages: &[&str]) -> Result<()> {
    let apt = |words: &[&str]| {
        let patience = ["-o", "DPkg::Lock::Timeout=300"];
        Step::new("apt-get", root).args(patience).args(words).env("DEBIAN_FRONTEND", "noninteractive")
    };
    let thrice = |words: &[&str]| {
        apt(words).run().or_else(|_| apt(words).run()).or_else(|_| {
            std::thread::sleep(std::time::Duration::from_secs(60));
            apt(words).run()
        })
    };
    // Without `--error-on` a list that could not be fetched is no error, and what it names cannot be found. Where one is never there,
    // what is to be installed may be in the others.
    if let Err(error) = thrice(&["update", "-qq", "--error-on=any"]) {
        println!("{error:#}: going on with the lists that are there");
    }
    thrice(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

/// May this process install Debian packages unasked? Only as root on a machine that says it is CI.
pub(crate) fn may_install_packages(root: &Path) -> bool {
    on_ci() && Step::new("id", root).arg("-u").output().is_ok_and(|id| id.trim() == "0")
}

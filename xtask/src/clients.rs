//! The clients of other languages in `compat/`: each is installed by its own package manager and built once.
//!
//! What they need is not what a Rust project usually has, so a missing toolchain is said aloud and its tests are skipped
//! (pytest counts them); on CI it is an error, because there nobody reads that they were skipped.

use crate::shell::{Step, install_packages, may_install_packages, on_ci, target_directory};
use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// One language: the programs it takes, and how its client gets from source to something that runs.
struct Client {
    name: &'static str,
    needs: &'static [&'static str],
    /// Debian's packages of `needs`.
    packages: &'static [&'static str],
    build: fn(&Path, &Path) -> Result<()>,
}

const CLIENTS: [Client; 4] = [
    Client { name: "JavaScript", needs: &["node", "npm"], packages: &["nodejs", "npm"], build: javascript },
    Client { name: "Go", needs: &["go"], packages: &["golang-go"], build: go },
    Client {
        name: "Java",
        needs: &["mvn", "javac", "java"],
        packages: &["maven", "default-jdk-headless"],
        build: java,
    },
    Client { name: "Rust", needs: &["cargo"], packages: &["cargo"], build: rust },
];

/// Gives one process another time, for the tests of clocks that disagree. A library: where Debian puts it, below `/usr/lib`.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// Programs of the system that tests run as they are: what for, the program, Debian's package.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("--net host-egress", "passt", "passt"),
    ("cloud-init", "cloud-init", "cloud-init"),
    ("ec2-metadata", "ec2-metadata", "amazon-ec2-utils"),
    ("terminals", "ps", "procps"),
];

/// Builds every client whose toolchain is here, into `target/compat` and `compat/js/node_modules`.
///
/// # Errors
/// A build fails, or on CI a toolchain is missing and could not be installed.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    install(root)?;
    let target = target_directory(root).join("compat");
    std::fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
    let mut missing = Vec::new();
    for client in &CLIENTS {
        match client.absent() {
            Some(program) => missing.push(format!(
                "{}: no `{program}` here (on Debian: apt-get install {})",
                client.name,
                client.packages.join(" ")
            )),
            None => (client.build)(root, &target).with_context(|| format!("the {} client", client.name))?,
        }
    }
    if !has_faketime() {
        missing.push("wrong clocks: no libfaketime here (on Debian: apt-get install libfaketime)".to_owned());
    }
    missing.extend(
        absent_programs().map(|(what, program, package)| {
            format!("{what}: no `{program}` here (on Debian: apt-get install {package})")
        }),
    );
    for line in &missing {
        println!("\n!! SKIPPED, not tested: {line}");
    }
    if on_ci() && !missing.is_empty() {
        bail!("on CI everything is tested; missing: {}", missing.join("; "));
    }
    Ok(())
}

/// What is missing, in one go, where that is ours to do.
fn install(root: &Path) -> Result<()> {
    let absent = CLIENTS.iter().filter(|client| client.absent().is_some());
    let mut packages: Vec<_> = absent.flat_map(|client| client.packages).copied().collect();
    if !has_faketime() {
        packages.push("libfaketime");
    }
    packages.extend(absent_programs().map(|(_, _, package)| package));
    if packages.is_empty() || !may_install_packages(root) {
        return Ok(());
    }
    install_packages(root, &packages)
}

impl Client {
    /// The first program that it needs and that is not here.
    fn absent(&self) -> Option<&'static str> {
        self.needs.iter().copied().find(|program| !on_path(program))
    }
}

fn absent_programs() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    PROGRAMS.into_iter().filter(|(_, program, _)| !on_path(program))
}

fn has_faketime() -> bool {
    let Ok(directories) = std::fs::read_dir("/usr/lib") else { return false };
    directories.flatten().any(|directory| directory.path().join(FAKETIME).is_file())
}

fn on_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn javascript(root: &Path, target: &Path) -> Result<()> {
    let directory = root.join("compat/js");
    let installed = directory.join("node_modules");
    once_for(&directory.join("package-lock.json"), &target.join("js-stamp"), &installed, || {
        Step::new("npm", &directory).args(["ci", "--ignore-scripts", "--loglevel=error"]).run()
    })
}

/// The clients of the SDKs, the doubles of the SSM agent and of the Session Manager plugin, that plugin itself, and the
/// OpenTelemetry Collector.
fn go(root: &Path, target: &Path) -> Result<()> {
    go_programs(&root.join("compat/go"), target, &["./gov1", "./gov2"])?;
    go_programs(&root.join("compat/agent"), target, &["./agent", "./plugin"])?;
    go_programs(&root.join("compat/collector"), target, &["."])?;
    go_programs(&root.join("compat/session-manager-plugin"), target, &[SESSION_MANAGER_PLUGIN])
}

/// As AWS publishes it, unmodified.
const SESSION_MANAGER_PLUGIN: &str = "github.com/aws/session-manager-plugin/src/sessionmanagerplugin-main";

/// Without C, which none of them calls, and the SDKs without optimisation: a quarter less to compile.
fn go_programs(module: &Path, target: &Path, programs: &[&str]) -> Result<()> {
    Step::new("go", module)
        .args(["build", "-mod=readonly", "-trimpath", "-gcflags=github.com/aws/...=-N -l", "-o"])
        .arg(target)
        .args(programs)
        .env("CGO_ENABLED", "0")
        .run()
}

/// Maven fetches, the compiler compiles: its own plugins for that would be another 10 MB.
fn java(root: &Path, target: &Path) -> Result<()> {
    let directory = root.join("compat/java");
    let classes = target.join("java");
    let jars = classes.join("lib");
    once_for(&directory.join("pom.xml"), &target.join("java-stamp"), &jars, || {
        if jars.exists() {
            std::fs::remove_dir_all(&jars).with_context(|| format!("emptying {}", jars.display()))?;
        }
        Step::new("mvn", &directory)
            .args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", jars.display()))
            .run()
    })?;
    Step::new("javac", &directory)
        .args(["--release", "17", "-d"])
        .arg(&classes)
        .arg("-cp")
        .arg(jars.join("*"))
        .arg("src/main/java/Client.java")
        .run()
}

/// In the product's own target directory: it shares the cryptography, which is most of the work.
fn rust(root: &Path, target: &Path) -> Result<()> {
    let shared = target_directory(root);
    Step::cargo(&root.join("compat/rust")).args(["build", "--locked"]).env("CARGO_TARGET_DIR", &shared).run()?;
    let built = shared.join("debug/inborn-compat-rust");
    std::fs::copy(&built, target.join("rust")).with_context(|| format!("copying {}", built.display()))?;
    Ok(())
}

/// Runs `install` unless `result` is there and was made for this very `manifest`.
fn once_for(manifest: &Path, stamp: &Path, result: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = std::fs::read_to_string(manifest).with_context(|| format!("reading {}", manifest.display()))?;
    if result.exists() && std::fs::read_to_string(stamp).is_ok_and(|found| found == wanted) {
        println!("{} is up to date", result.display());
        return Ok(());
    }
    install()?;
    std::fs::write(stamp, wanted).with_context(|| format!("writing {}", stamp.display()))
}

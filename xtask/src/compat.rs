//! The real clients of `compat/` against the real binary.

use crate::older::Older;
use crate::shell::{Step, target_directory};
use crate::tally::Tally;
use crate::{clients, older, python};
use anyhow::Result;
use std::path::Path;

/// Builds the binary and the clients, prepares the Python environment and runs pytest; `extra` goes to pytest as it is.
pub(crate) fn run(root: &Path, release: bool, extra: &[String]) -> Result<Tally> {
    let python = python::environment(root)?;
    // With what is off by default, since it is tested as well.
    let mut build = Step::cargo(root).args(["build", "--locked", "--package", "inborn", "--features", "s3,otel"]);
    if release {
        build = build.arg("--release");
    }
    build.run()?;
    clients::prepare(root)?;
    // It takes minutes, once: who asks for some of the tests alone is not kept waiting for it.
    let older = if extra.is_empty() { older::program(root)? } else { older::found(root)? };
    let binary = target_directory(root).join(if release { "release" } else { "debug" }).join("inborn");

    let directory = root.join("compat");
    Step::new(&python, &directory).args(["-m", "ruff", "check", "--quiet", "."]).run()?;
    let mut tests = Step::new(&python, &directory)
        .args(["-m", "pytest", "--color=no"])
        .args(extra)
        .env("INBORN_BIN", &binary)
        .env("INBORN_CLIENTS", target_directory(root).join("compat"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    // What somebody has named goes first.
    if std::env::var_os("INBORN_OLD_BIN").is_none() {
        tests = match &older {
            Older::Program(program) => tests.env("INBORN_OLD_BIN", program),
            Older::Missing(why) => tests.env("INBORN_OLD_BIN_MISSING", why),
        };
    }
    // A developer's own AWS settings must not reach a test: they could point it at a real account. Nor a proxy, which does not reach
    // what is asked here.
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if name.starts_with("AWS_") || name == "INBORN_DATA" || name.to_lowercase().ends_with("_proxy") {
            tests = tests.env_remove(name);
        }
    }
    tests.run_counting()
}

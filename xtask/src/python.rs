//! The Python environment of `compat/`: made once, made again when `requirements.txt` or the interpreter changes.

use crate::shell::{Step, install_packages, may_install_packages};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// The system's interpreter comes first: tests run clients as an unprivileged user too, who cannot reach an
/// interpreter that lives in somebody's home directory.
const INTERPRETERS: [&str; 2] = ["/usr/bin/python3", "python3"];

/// The oldest Python that the pinned clients run on.
const OLDEST: (u32, u32) = (3, 11);

/// Returns the interpreter of a ready environment in `compat/.venv`.
///
/// # Errors
/// No suitable Python, no `venv` module (the message says what to install), or the package index cannot be reached.
pub(crate) fn environment(root: &Path) -> Result<PathBuf> {
    let base = interpreter(root)?;
    let directory = root.join("compat/.venv");
    let python = directory.join("bin/python");
    let requirements = root.join("compat/requirements.txt");
    let stamp = directory.join("inborn-stamp");

    let wanted = format!(
        "{}{}",
        Step::new(base, root).arg("--version").output()?,
        std::fs::read_to_string(&requirements).with_context(|| format!("reading {}", requirements.display()))?
    );
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        println!("compat/.venv is up to date");
        return Ok(python);
    }

    Step::new(base, root).args(["-m", "venv", "--clear"]).arg(&directory).run()?;
    Step::new(&python, root)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements)
        .run()?;
    std::fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(python)
}

fn interpreter(root: &Path) -> Result<&'static str> {
    if let Some(found) = INTERPRETERS.into_iter().find(|python| suits(root, python)) {
        return Ok(found);
    }
    if may_install_packages(root) {
        install_packages(root, &["python3", "python3-venv"])?;
        if let Some(found) = INTERPRETERS.into_iter().find(|python| suits(root, python)) {
            return Ok(found);
        }
    }
    let (major, minor) = OLDEST;
    bail!(
        "the tests in compat/ need Python {major}.{minor} or newer with its venv module; on Debian and Ubuntu: \
         apt-get install python3 python3-venv (or leave these tests out: cargo xtask test --no-compat)"
    )
}

/// Debian packs `ensurepip` apart from Python: without it `venv` starts and then fails.
fn suits(root: &Path, python: &str) -> bool {
    let (major, minor) = OLDEST;
    let probe = format!("import ensurepip, sys, venv; sys.exit(sys.version_info < ({major}, {minor}))");
    Step::new(python, root).args(["-c", &probe]).succeeds()
}

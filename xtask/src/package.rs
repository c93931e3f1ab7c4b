//! `cargo xtask package`: the Debian packages, by `dpkg-deb`.
//!
//! A package is a list of files and a handful of fields. `dpkg-deb` is on every Debian machine and needs nothing else, while
//! cargo-deb would be a tool more to install and a second place where features and profiles are chosen. Two builds of one
//! commit with one binary give the same bytes: times are the commit's, owners are root.

mod debian;

use crate::shell::{Step, target_directory};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use debian::{Content, PACKAGES, Package};

/// What to package and where to.
pub(crate) struct Options {
    /// This binary instead of a new one.
    pub(crate) binary: Option<PathBuf>,
    /// Where the packages go.
    pub(crate) out: Option<PathBuf>,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let work = target_directory(root).join("package");
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            Step::cargo(root).args(["build", "--locked", "--release", "--package", "inborn"]).run()?;
            target_directory(root).join("release/inborn")
        }
    };
    let out = options.out.clone().unwrap_or_else(|| work.join("debian"));
    let made = work.join("manual");
    manual(root, &made)?;
    fs::create_dir_all(&out)?;
    let build = Build {
        root,
        manual: &made,
        binary: &binary,
        time: Step::new("git", root).args(["log", "-1", "--format=%ct"]).output()?.trim().to_owned(),
        architecture: Step::new("dpkg", root).arg("--print-architecture").output()?.trim().to_owned(),
    };
    for package in PACKAGES {
        let stage = work.join(package.name);
        if stage.exists() {
            fs::remove_dir_all(&stage).with_context(|| format!("removing {}", stage.display()))?;
        }
        build.stage(package, &stage)?;
        let file = out.join(format!("{}_{}_{}.deb", package.name, VERSION, build.architecture_of(package)));
        Step::new("dpkg-deb", root)
            .args(["--root-owner-group", "-Zxz", "--build"])
            .arg(&stage)
            .arg(&file)
            .env("SOURCE_DATE_EPOCH", &build.time)
            .run()?;
        fs::remove_dir_all(&stage)?;
    }
    Ok(())
}

/// Upstream's version, and the first packaging of it.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");

/// Has the program's own test write man pages and completions into `directory`, which is emptied first.
pub(crate) fn manual(root: &Path, directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory)?;
    Step::cargo(root)
        .args(["test", "--quiet", "--workspace", "--locked", "--bin", "inborn", "manual::every_command_has_a_page"])
        .env("INBORN_MANUAL", fs::canonicalize(directory)?)
        .run()?;
    if !directory.join("inborn.1").exists() {
        bail!("the test of the manual has written none");
    }
    Ok(())
}

struct Build<'a> {
    root: &'a Path,
    manual: &'a Path,
    binary: &'a Path,
    /// Seconds since 1970.
    time: String,
    architecture: String,
}

impl Build<'_> {
    fn architecture_of(&self, package: &Package) -> &str {
        if package.has_binary() { &self.architecture } else { "all" }
    }

    /// Lays the package out as it will be installed, its fields and scripts beside that in `DEBIAN`.
    fn stage(&self, package: &Package, stage: &Path) -> Result<()> {
        for file in package.files {
            let to = stage.join(file.to);
            match file.content {
                Content::Source(from) => put(&self.root.join(from), &to, file.mode)?,
                Content::Binary => put(self.binary, &to, file.mode)?,
                Content::Manual(from) => put(&self.manual.join(from), &to, file.mode)?,
                Content::ManPages => self.man_pages(&to)?,
            }
            if file.is_compressed {
                compress(&to)?;
            }
        }
        let control = stage.join("DEBIAN");
        fs::create_dir_all(&control)?;
        for script in ["postinst", "prerm", "postrm"] {
            let from = self.root.join(format!("contrib/debian/{}.{script}", package.name));
            if from.exists() {
                put(&from, &control.join(script), 0o755)?;
            }
        }
        let conffiles: String = package.conffiles().map(|file| format!("/{}\n", file.to)).collect();
        if !conffiles.is_empty() {
            fs::write(control.join("conffiles"), conffiles)?;
        }
        let needs =
            if package.has_binary() { needs(&fs::read(self.binary)?)? } else { format!("inborn (= {VERSION})") };
        let size = kibibytes(stage)?;
        fs::write(control.join("control"), package.control(VERSION, self.architecture_of(package), &needs, size))?;
        Ok(())
    }

    fn man_pages(&self, to: &Path) -> Result<()> {
        for entry in fs::read_dir(self.manual)? {
            let from = entry?.path();
            if from.extension().is_some_and(|extension| extension == "1") {
                let page = to.join(from.file_name().context("a page without a name")?);
                put(&from, &page, 0o644)?;
                compress(&page)?;
            }
        }
        Ok(())
    }
}

/// Copies a file, with all directories above it at the mode that packages have.
fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let above = to.parent().context("a file without a directory")?;
    fs::create_dir_all(above)?;
    fs::copy(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Without name and time, so that the same text gives the same bytes.
fn compress(file: &Path) -> Result<()> {
    let directory = file.parent().context("a file without a directory")?;
    if Step::new("gzip", directory).args(["--no-name", "--best", "--force"]).arg(file).succeeds() {
        return Ok(());
    }
    bail!("gzip cannot compress {}", file.display())
}

/// What the dynamic linker needs for `binary`: the newest version of the C library that a symbol of it asks for.
fn needs(binary: &[u8]) -> Result<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let newest = binary
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK)
        .filter_map(|(at, _)| {
            let digits = binary.get(at + MARK.len()..)?.iter().take_while(|byte| byte.is_ascii_digit());
            digits.map(|digit| char::from(*digit)).collect::<String>().parse::<u32>().ok()
        })
        .max();
    let mut needs = match newest {
        Some(minor) => format!("libc6 (>= 2.{minor})"),
        None => bail!("the binary is linked to no C library that Debian has: package a build for *-linux-gnu"),
    };
    if binary.windows(11).any(|window| window == b"libgcc_s.so") {
        needs.push_str(", libgcc-s1");
    }
    Ok(needs)
}

fn kibibytes(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { kibibytes(&entry.path())? } else { metadata.len().div_ceil(1024) };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_c_library_counts() {
        assert_eq!(needs(b"x GLIBC_2.9 GLIBC_2.34\0GLIBC_2.2.5").unwrap(), "libc6 (>= 2.34)");
        assert_eq!(needs(b"GLIBC_2.17\0libgcc_s.so.1\0").unwrap(), "libc6 (>= 2.17), libgcc-s1");
        assert!(needs(b"GLIBC_PRIVATE").is_err());
    }

    #[test]
    fn every_file_that_is_packaged_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for package in PACKAGES {
            for file in package.files {
                if let Content::Source(from) = file.content {
                    assert!(root.join(from).is_file(), "{from}");
                }
            }
        }
    }

    #[test]
    fn every_unit_and_script_is_packaged() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for entry in fs::read_dir(root.join("contrib/systemd")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let from = format!("contrib/systemd/{name}");
            let is_packaged = PACKAGES
                .iter()
                .flat_map(|package| package.files)
                .any(|file| matches!(file.content, Content::Source(source) if source == from));
            assert!(is_packaged, "{from}");
        }
    }
}

//! A program of an older version, for the test of a fleet in the middle of an upgrade (`compat/test_upgrade.py`): built once of the
//! repository's own history.

use crate::shell::{Step, target_directory};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// Where migrations are, a file for each version of the schema, and where it is said which of them programs can do with.
const MIGRATIONS: &str = "crates/store-postgres/migrations";
const SCHEMA: &str = "crates/store-postgres/src/schema.rs";
const USABLE_FROM: &str = "usable_from: ";

/// The older program, or why there is none.
pub(crate) enum Older {
    Program(PathBuf),
    Missing(String),
}

/// A commit, or why it is not in this clone.
enum Commit {
    Found(String),
    Missing(String),
}

/// The older program, if it was built already.
///
/// # Errors
/// As [`program`].
pub(crate) fn found(root: &Path) -> Result<Older> {
    Ok(match commit(root)? {
        Commit::Found(commit) if place(root, &commit).is_file() => Older::Program(place(root, &commit)),
        Commit::Found(_) => Older::Missing("it is not built: cargo xtask older".to_owned()),
        Commit::Missing(why) => Older::Missing(why),
    })
}

fn place(root: &Path, commit: &str) -> PathBuf {
    target_directory(root).join("older").join(format!("inborn-{commit}"))
}

/// Builds the older program, if it is not there yet.
///
/// # Errors
/// It does not build.
pub(crate) fn program(root: &Path) -> Result<Older> {
    let commit = match commit(root)? {
        Commit::Found(commit) => commit,
        Commit::Missing(why) => {
            println!("\n!! SKIPPED, not tested: an older server beside one of this version: {why}");
            return Ok(Older::Missing(why));
        }
    };
    let program = place(root, &commit);
    if program.is_file() {
        println!("{} is up to date", program.display());
        return Ok(Older::Program(program));
    }
    let place = target_directory(root).join("older");
    let (source, target, archive) = (place.join("source"), place.join("target"), place.join("source.tar"));
    remove(&place)?;
    std::fs::create_dir_all(&source).with_context(|| format!("making {}", source.display()))?;
    Step::new("git", root).args(["archive", "--output"]).arg(&archive).arg(&commit).run()?;
    Step::new("tar", &source).args(["--extract", "--file"]).arg(&archive).run()?;
    share(&target_directory(root).join("debug"), &target.join("debug"))?;
    Step::cargo(&source)
        .args(["build", "--locked", "--package", "inborn", "--features", "s3"])
        .env("CARGO_TARGET_DIR", &target)
        .run()?;
    let built = target.join("debug/inborn");
    std::fs::rename(&built, &program).with_context(|| format!("moving {}", built.display()))?;
    // What it was built of and with is not needed again, and is large.
    remove(&source)?;
    remove(&target)?;
    std::fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
    Ok(Older::Program(program))
}

/// The last commit of the oldest schema of PostgreSQL that programs of today work beside: what is promised to whoever upgrades a fleet
/// (docs/stores.md, *Upgrades*). Its number is what `usable_from` says, and the commit the one before the next schema came; it is looked
/// for, and not named here, so that it is another one as soon as `usable_from` is raised.
fn commit(root: &Path) -> Result<Commit> {
    let path = root.join(SCHEMA);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let oldest = usable_from(&text).with_context(|| format!("no `{USABLE_FROM}` in {SCHEMA}"))?;
    let git = |words: &[&str]| Step::new("git", root).args(words);
    let began = |schema: u32| -> Result<Option<String>> {
        let file = format!("{MIGRATIONS}/{schema:04}.sql");
        let added = git(&["log", "--diff-filter=A", "--format=%H", "--", &file]).output()?;
        Ok(added.lines().next_back().map(str::to_owned))
    };
    let named = match (began(oldest + 1)?, began(oldest)?) {
        (Some(next), _) => format!("{next}^"),
        // There is none that is newer: a program of when this one began.
        (None, Some(first)) => first,
        (None, None) => format!("{MIGRATIONS}/{oldest:04}.sql"),
    };
    if let Ok(found) = git(&["rev-parse", "--verify", "--quiet", &format!("{named}^{{commit}}")]).output() {
        return Ok(Commit::Found(found.trim().to_owned()));
    }
    let is_shallow = git(&["rev-parse", "--is-shallow-repository"]).output()?.trim() == "true";
    let history =
        if is_shallow { "this is a shallow clone, which" } else { "the history of this clone is another one, and" };
    Ok(Commit::Missing(format!("{history} has no commit of schema {oldest} ({named})")))
}

/// The oldest version whose programs can work with what the last migration leads to.
fn usable_from(schema: &str) -> Option<u32> {
    let mut migrations = schema.lines().filter(|line| line.trim_start().starts_with("Migration {"));
    let (_, number) = migrations.next_back()?.split_once(USABLE_FROM)?;
    let end = number.find(|c: char| !c.is_ascii_digit())?;
    number.get(..end)?.parse().ok()
}

/// Lets another target directory have what was built here of other people's packages: most of it is of the same versions and features, and
/// cargo tells by itself. Of our own packages nothing: cargo would take one version's for the other's and build it anew each time.
///
/// What cargo may write over is copied, the rest is linked.
fn share(from: &Path, to: &Path) -> Result<()> {
    let (known, built) = (from.join(".fingerprint"), from.join("deps"));
    if !known.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    Step::new("cp", from).args(["--archive", ".fingerprint", "build", "--target-directory"]).arg(to).run()?;
    for entry in read_dir(&to.join(".fingerprint"))? {
        if is_ours(&entry) {
            remove(&entry)?;
        }
    }
    let deps = to.join("deps");
    std::fs::create_dir_all(&deps).with_context(|| format!("making {}", deps.display()))?;
    for entry in read_dir(&built)? {
        let is_library =
            entry.extension().is_some_and(|kind| ["rlib", "rmeta", "so", "d"].iter().any(|one| kind == *one));
        if let (true, false, Some(name)) = (is_library, is_ours(&entry), entry.file_name()) {
            std::fs::hard_link(&entry, deps.join(name)).with_context(|| format!("linking {}", entry.display()))?;
        }
    }
    Ok(())
}

fn read_dir(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Whether what cargo has built is of a package of this repository, by its name.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    ["inborn", "xtask"].iter().any(|ours| name.trim_start_matches("lib").starts_with(ours))
}

/// Removes a directory, if it is there.
fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_ours, usable_from};
    use std::path::Path;

    #[test]
    fn the_last_migration_says_who_works_beside_it() {
        let line = |file: u32, from: u32| {
            format!("    Migration {{ sql: include_str!(\"{file}.sql\"), usable_from: {from} }},\n")
        };
        let schema = format!(
            "struct X {{ usable_from: u32 }}\n{}{}{}// usable_from: 9 is none",
            line(5, 5),
            line(6, 6),
            line(7, 6)
        );
        assert_eq!(usable_from(&schema), Some(6));
        assert_eq!(usable_from("fn none() {}"), None);
    }

    #[test]
    fn what_is_ours_is_told_by_its_name() {
        for ours in ["deps/libinborn_region-0123.rlib", "deps/inborn-0123.d", ".fingerprint/xtask-0123"] {
            assert!(is_ours(Path::new(ours)), "{ours}");
        }
        for other in ["deps/libtokio-0123.rlib", "deps/liblibc-0123.rmeta", ".fingerprint/aws-lc-sys-0123"] {
            assert!(!is_ours(Path::new(other)), "{other}");
        }
    }
}

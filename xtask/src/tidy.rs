//! `cargo xtask tidy`: rules that no compiler checks, over the files that git tracks.

use crate::shell::Step;
use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// A file is one noun; past this many lines it is two.
const MOST_LINES: usize = 800;

/// Generated or legal text, and data: length is no sign of anything there.
const ANY_LENGTH: [&str; 4] = ["LICENSE", ".lock", ".json", ".txt"];

/// The one crate that may hold `unsafe`, each use allowed by name.
const UNSAFE_CRATE: &str = "crates/host/";

/// What lets ids be drawn from a seed, and who may ask for it: what is shipped must not.
const SEEDED: &str = "\"seeded\"";
const SEEDED_MANIFEST: &str = "crates/simulation/Cargo.toml";

const FORBID_UNSAFE: &str = "#![forbid(unsafe_code)]";

pub(crate) fn run(root: &Path) -> Result<()> {
    let tracked = Step::new("git", root).args(["ls-files", "-z"]).output()?;
    let mut checked = 0_usize;
    let mut found = Vec::new();
    for name in tracked.split('\0').filter(|name| !name.is_empty()) {
        let path = root.join(name);
        // Removed but not yet committed, or a link: nothing to read.
        if !std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let bytes = std::fs::read(&path).with_context(|| format!("reading {name}"))?;
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        checked += 1;
        found.extend(problems(name, text));
    }
    for problem in &found {
        println!("{problem}");
    }
    println!("tidy: {checked} files, {} problems", found.len());
    if !found.is_empty() {
        bail!("tidy found {} problems", found.len());
    }
    Ok(())
}

/// Everything wrong with one file, as `name:line: what`.
fn problems(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES && !ANY_LENGTH.iter().any(|suffix| name.ends_with(suffix)) {
        found.push(format!("{name}: {lines} lines; the most is {MOST_LINES}: split it"));
    }
    if is_crate_root(name) && !name.starts_with(UNSAFE_CRATE) && !text.contains(FORBID_UNSAFE) {
        found.push(format!("{name}: a crate root without {FORBID_UNSAFE}"));
    }
    if name.ends_with("package-lock.json") && text.contains("\"resolved\"") {
        found.push(format!("{name}: names the registry it was made with; remove its \"resolved\" keys"));
    }
    if name.ends_with("Cargo.toml") && name != SEEDED_MANIFEST && text.contains(SEEDED) {
        found.push(format!("{name}: only {SEEDED_MANIFEST} may ask for {SEEDED}"));
    }
    // This file has to spell what it looks for.
    if name != "xtask/src/tidy.rs" {
        for (number, line) in text.lines().enumerate() {
            found.extend(line_problem(name, line).map(|what| format!("{name}:{}: {what}", number + 1)));
        }
    }
    found
}

/// `crates/x/src/lib.rs`, `crates/x/src/main.rs`, and the same of `xtask`.
fn is_crate_root(name: &str) -> bool {
    name.ends_with("src/lib.rs") || name.ends_with("src/main.rs")
}

/// Where checkouts and people's files are on one machine and not on another.
const PLACES: [&str; 4] = ["work", "root", "home", "Users"];

fn line_problem(name: &str, line: &str) -> Option<String> {
    for place in PLACES.map(|place| format!("/{place}/")) {
        if names_machine_path(line, &place) {
            return Some(format!("names a path of one machine ({place}…)"));
        }
    }
    for word in ["TODO", "FIXME", "XXX:", "HACK:"] {
        if line.contains(word) {
            return Some(format!("{word}: do it, or file an issue"));
        }
    }
    for (call, why) in
        [("todo!(", "unfinished code"), ("unimplemented!(", "unfinished code"), ("#[ignore", "a test that never runs")]
    {
        if name.ends_with(".rs") && line.contains(call) {
            return Some(format!("{call}…: {why}"));
        }
    }
    (name.ends_with(".py") && (line.contains("mark.skip(") || line.contains("mark.xfail")))
        .then(|| "a test that never runs".to_owned())
}

/// A path that *starts* so: `/home/` in `${XDG_STATE_HOME:-$HOME}/home/x` or in a URL's path is somebody else's.
fn names_machine_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_ascii_alphanumeric() || "._-}/>…*".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::PLACES;
    use super::{MOST_LINES, problems};

    #[test]
    fn a_file_may_have_the_most_lines_and_no_more() {
        assert!(problems("a.md", &"x\n".repeat(MOST_LINES - 1)).is_empty());
        assert!(problems("a.md", &"x\n".repeat(MOST_LINES)).is_empty());
        assert_eq!(problems("a.md", &"x\n".repeat(MOST_LINES + 1)).len(), 1);
        assert!(problems("Cargo.lock", &"x\n".repeat(MOST_LINES + 1)).is_empty());
    }

    #[test]
    fn crate_roots_forbid_unsafe_but_one() {
        assert_eq!(problems("crates/wire/src/lib.rs", "//! Hello.\n").len(), 1);
        assert_eq!(problems("xtask/src/main.rs", "//! Hello.\n").len(), 1);
        assert!(problems("crates/wire/src/lib.rs", "#![forbid(unsafe_code)]\n").is_empty());
        assert!(problems("crates/host/src/lib.rs", "//! Hello.\n").is_empty());
        assert!(problems("crates/wire/src/xml.rs", "//! Hello.\n").is_empty());
    }

    #[test]
    fn nobody_but_the_simulation_draws_from_a_seed() {
        let asking = "inborn-chance = { workspace = true, features = [\"seeded\"] }\n";
        assert_eq!(problems("crates/region/Cargo.toml", asking).len(), 1);
        assert_eq!(problems("Cargo.toml", asking).len(), 1);
        assert!(problems("crates/simulation/Cargo.toml", asking).is_empty());
        assert!(problems("crates/chance/Cargo.toml", "[features]\nseeded = [\"dep:fastrand\"]\n").is_empty());
    }

    #[test]
    fn machine_paths_are_found_with_their_line() {
        for place in PLACES {
            let expected = format!("a.sh:2: names a path of one machine (/{place}/…)");
            assert_eq!(problems("a.sh", &format!("true\ncd /{place}/main\n")), [expected]);
        }
        assert!(problems("a.md", "https://example.org/home/item and crates/home/src and /homework").is_empty());
    }

    #[test]
    fn leftovers_are_found() {
        assert_eq!(problems("a.rs", "// TODO: later").len(), 1);
        assert_eq!(problems("a.rs", "    #[ignore]").len(), 1);
        assert_eq!(problems("a.rs", "    todo!()").len(), 1);
        assert_eq!(problems("a.py", "@pytest.mark.skip(reason='x')").len(), 1);
        assert!(problems("a.py", "@pytest.mark.skipif(not ROOT, reason='needs root')").is_empty());
        assert!(problems("a.md", "todo!() is banned").is_empty());
    }

    #[test]
    fn a_lock_file_names_no_registry() {
        assert_eq!(problems("js/package-lock.json", "{\"resolved\": \"x\"}").len(), 1);
        assert!(problems("js/package-lock.json", "{\"integrity\": \"x\"}").is_empty());
    }
}

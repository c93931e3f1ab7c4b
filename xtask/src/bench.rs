//! `cargo xtask bench`: the benchmarks, with what is needed to judge their numbers.

use crate::shell::Step;
use anyhow::Result;
use std::path::Path;

/// Runs the benchmarks of every crate that has some; `extra` goes to the benchmark programs.
pub(crate) fn run(root: &Path, extra: &[String]) -> Result<()> {
    println!("processor: {}", processor());
    println!("load before: {}", first_line("/proc/loadavg"));
    let crates = with_benches(root)?;
    let packages = crates.iter().flat_map(|name| ["--package", name.as_str()]);
    Step::cargo(root).args(["bench", "--locked", "--benches"]).args(packages).arg("--").args(extra).run()?;
    println!("load after: {}", first_line("/proc/loadavg"));
    Ok(())
}

/// Only crates with a `benches` directory: elsewhere `cargo bench` would build and run the unit tests.
fn with_benches(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let path = entry?.path();
        if let (true, Some(folder)) = (path.join("benches").is_dir(), path.file_name().and_then(|name| name.to_str())) {
            found.push(if folder == "cli" { "inborn".to_owned() } else { format!("inborn-{folder}") });
        }
    }
    found.sort();
    anyhow::ensure!(!found.is_empty(), "no crate has a benches directory");
    Ok(found)
}

fn first_line(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

/// The model, and whether it has the SHA instructions that the goals are stated for.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim()).unwrap_or_default()
    };
    let flags = format!("{} {}", field("flags"), field("Features"));
    let sha = flags.split_whitespace().any(|flag| flag == "sha_ni" || flag == "sha2");
    format!("{}, {}", field("model name"), if sha { "SHA instructions" } else { "no SHA instructions" })
}

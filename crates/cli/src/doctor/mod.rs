//! `inborn doctor`: what on this computer is not as it should be, and what to do about it. It changes nothing.

mod computer;
mod files;
mod network;
mod telemetry;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::arguments::{Arguments, Command, Doctor, Output};
use crate::deployment;
use crate::directory::{self, Ready};
use crate::output;
use crate::settings::Settings;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Fine,
    /// It works; somebody may miss something.
    Hint,
    /// Something does not work, or is not safe.
    Problem,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Hint => "hint",
            Self::Problem => "PROBLEM",
        }
    }
}

/// What one look has found.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; nothing where all is well.
    next: String,
}

impl Finding {
    fn fine(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fine, found: found.into(), next: String::new() }
    }

    fn hint(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Hint, found: found.into(), next: next.into() }
    }

    fn problem(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Problem, found: found.into(), next: next.into() }
    }
}

/// Where to look.
struct Patient {
    data: PathBuf,
    /// What runs on it, if something does.
    running: Option<Ready>,
}

/// Exits with 0 if there is no problem.
pub(crate) async fn doctor(arguments: &Doctor) -> anyhow::Result<ExitCode> {
    let data = deployment::named_directory(&arguments.region)?;
    let findings = examine(data.as_deref()).await;
    let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count();
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", output::Json(&document(&findings, problems)))?,
        Output::Table => print(&mut out, &findings, problems)?,
    }
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(data: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match directory::find(data) {
        Ok(running) => {
            let place = match (&running, data) {
                (Some(ready), _) => Ok(ready.data.clone()),
                (None, Some(data)) => Ok(data.to_owned()),
                (None, None) => directory::default_path(),
            };
            match place {
                Ok(data) => {
                    let patient = Patient { data, running };
                    let settings = settings(&patient);
                    findings.extend(files::look(&patient, settings.as_ref().ok().map(|settings| &settings.key)));
                    let store = settings.as_ref().ok().and_then(|settings| settings.telemetry_store.clone());
                    findings.extend(network::look(&patient, settings).await);
                    findings.extend(telemetry::look(store).await);
                }
                Err(error) => findings.push(Finding::problem("data directory", format!("{error:#}"), "name it")),
            }
        }
        Err(error) => findings.push(Finding::problem(
            "data directory",
            format!("{error:#}"),
            "run this as the user whose `up` it is, or as root",
        )),
    }
    findings.extend(computer::look());
    findings
}

/// Those that an `up` of this environment would have on this directory.
fn settings(patient: &Patient) -> anyhow::Result<Settings> {
    let words = ["inborn".as_ref(), "up".as_ref(), "--data".as_ref(), patient.data.as_os_str()];
    match Arguments::try_parse_from(words)?.command {
        Command::Up(up) => Settings::gather(&up),
        _ => anyhow::bail!("the settings cannot be read"),
    }
}

fn document(findings: &[Finding], problems: usize) -> serde_json::Value {
    let checks: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check,
                "verdict": finding.verdict.word().to_lowercase(),
                "found": finding.found,
                "next": finding.next,
            })
        })
        .collect();
    json!({ "problems": problems, "checks": checks })
}

fn print(out: &mut impl Write, findings: &[Finding], problems: usize) -> std::io::Result<()> {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for Finding { check, verdict, found, next } in findings {
        writeln!(out, "{:7}  {check:width$}  {}", verdict.word(), output::printable(found))?;
        if !next.is_empty() {
            writeln!(out, "{:7}  {:width$}  → {}", "", "", output::printable(next))?;
        }
    }
    match problems {
        0 => writeln!(out, "\nNo problem was found."),
        1 => writeln!(out, "\nOne problem was found."),
        more => writeln!(out, "\n{more} problems were found."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_to_do_and_a_name_cannot_drive_the_terminal() {
        let findings = [
            Finding::fine("disk", "3 GiB free"),
            Finding::problem("key file", "\u{1b}[2Jmode 0644", "chmod 600 epoch.key"),
        ];
        let mut out = Vec::new();
        print(&mut out, &findings, 1).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "ok       disk      3 GiB free\nPROBLEM  key file  \u{fffd}[2Jmode 0644\n                   → chmod 600 \
             epoch.key\n\nOne problem was found.\n"
        );
        let document = document(&findings, 1);
        assert_eq!(document["checks"][1]["verdict"], "problem");
        assert_eq!(document["problems"], 1);
    }
}

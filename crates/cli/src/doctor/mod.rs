//! `inborn doctor`: what on this computer is not as it should be, and what to do about it. It changes nothing.

mod computer;
mod files;
mod host;
mod kind;
mod network;
mod servers;
mod store;
mod telemetry;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::arguments::{Doctor, Output};
use crate::deployment;
use crate::directory::{self, Ready};
use crate::output;
use kind::{Kind, Said};

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
    kind: Kind,
    /// What runs on it, if something does.
    running: Option<Ready>,
}

/// Exits with 0 if there is no problem.
pub(crate) async fn doctor(arguments: &Doctor) -> anyhow::Result<ExitCode> {
    let data = deployment::named_directory(&arguments.region)?;
    let findings = examine(arguments, data.as_deref()).await;
    let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count();
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => writeln!(out, "{:#}", output::Json(&document(&findings, problems)))?,
        Output::Table => print(&mut out, &findings, problems)?,
    }
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(arguments: &Doctor, data: Option<&Path>) -> Vec<Finding> {
    let running = match directory::find(data) {
        Ok(running) => running,
        Err(error) => {
            let next = "run this as the user whose directory it is, or as root";
            return vec![Finding::problem("data directory", format!("{error:#}"), next)];
        }
    };
    let place = match (&running, data) {
        (Some(ready), _) => Ok(ready.data.clone()),
        (None, Some(data)) => Ok(data.to_owned()),
        (None, None) => directory::default_path(),
    };
    let data = match place {
        Ok(data) => data,
        Err(error) => return vec![Finding::problem("data directory", format!("{error:#}"), "name it")],
    };
    let (said, trouble) = Said::gather(arguments, &data);
    let kind = kind::recognise(&data, running.as_ref(), &said);
    let patient = Patient { data, kind, running };
    let mut findings = Vec::new();
    if kind == Kind::Host {
        findings.extend(files::look(&patient, None, false));
        findings.extend(host::look(&patient).await);
    } else {
        let settings = said.settings(kind, &patient.data);
        let looked = match &settings {
            Ok(settings) => store::look(&patient, settings).await,
            Err(_) => store::Looked::default(),
        };
        let known = settings.as_ref().ok();
        findings.extend(files::look(&patient, known.map(|settings| &settings.key), looked.is_sealed));
        findings.extend(looked.findings);
        findings.extend(network::look(&patient, &settings).await);
        findings.extend(trouble);
        findings.extend(telemetry::look(known.and_then(|settings| settings.telemetry_store.clone())).await);
    }
    findings.extend(computer::look(kind));
    findings
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

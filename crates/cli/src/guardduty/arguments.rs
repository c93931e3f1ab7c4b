//! What can be written after `findings`, `coverage` and `events`.

use clap::{Args, Subcommand};

use crate::arguments::{Output, Region, Since, since};

pub(crate) const FINDINGS_HELP: &str = "\
A finding is what telemetry of machines tells of an attack. The same thing seen again is counted, and shown with the time at \
which it was seen last. Texts of findings come from machines, which an attacker may write: what could drive a terminal is \
replaced.

Examples:
  inborn findings --follow
  inborn findings --instance web-1 --since 1d --severity high
  inborn findings show 8ac0…         all of it, as JSON
  inborn findings archive 8ac0…      it was dealt with; if it happens again, that is a new finding";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Findings {
    #[command(subcommand)]
    pub(crate) command: Option<FindingsCommand>,
    #[command(flatten)]
    pub(crate) region: Region,
    /// Go on with findings as they come, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only what was seen since then: an age, as in 90s, 10m, 2h, 7d, or a time, as in 2026-11-23T05:29:00Z
    #[arg(long, value_name = "AGE|TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Only those of this machine
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) instance: Option<String>,
    /// Only those of this type; * stands for anything
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Only those that are at least so bad
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) severity: Option<Level>,
    /// Those that were archived, too
    #[arg(long)]
    pub(crate) archived: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Level {
    /// 1.0 and more
    Low,
    /// 4.0 and more
    Medium,
    /// 7.0 and more
    High,
    /// 9.0 and more
    Critical,
}

impl Level {
    /// Where it begins. Source: user guide of GuardDuty, "Severity levels of GuardDuty findings".
    pub(crate) const fn from(self) -> i64 {
        match self {
            Self::Low => 1,
            Self::Medium => 4,
            Self::High => 7,
            Self::Critical => 9,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum FindingsCommand {
    /// Print all there is to know about findings, as JSON
    Show(Named),
    /// Put findings aside that were dealt with
    Archive(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    pub(crate) region: Region,
    /// The findings, by their ids or the beginnings of these
    #[arg(value_name = "ID", required = true, num_args = 1..=50)]
    pub(crate) ids: Vec<String>,
}

pub(crate) const COVERAGE_HELP: &str = "\
A machine is covered (HEALTHY) while it has sent telemetry, or a sign of life, under its own identity in the last ten minutes.";

#[derive(Debug, Args)]
pub(crate) struct Coverage {
    #[command(flatten)]
    pub(crate) region: Region,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

pub(crate) const EVENTS_HELP: &str = "\
An event is what a machine told of itself, stamped with the identity that signed it. Texts of events are written by machines: what could \
drive a terminal is replaced.

Examples:
  inborn events --follow
  inborn events --instance web-1 --since 10m --class 1007
  inborn events --where process.file.path=/usr/bin/curl --where severity_id!=1
  inborn events --since 1d --output json | jq .process.cmd_line";

#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) region: Region,
    /// Go on with events as they come, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only events since then: an age, as in 90s, 10m, 2h, 7d, or a time, as in 2026-11-23T05:29:00Z
    #[arg(long, value_name = "AGE|TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Only events before then
    #[arg(long, value_name = "AGE|TIME", value_parser = since, conflicts_with = "follow")]
    pub(crate) until: Option<Since>,
    /// Only events of this class of OCSF, as in 1007; may be repeated
    #[arg(long, value_name = "NUMBER")]
    pub(crate) class: Vec<u32>,
    /// Only events of this machine
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) instance: Option<String>,
    /// Only events of which this is true: PATH=VALUE, PATH!=VALUE, or PATH~TEXT, which looks for a part; may be repeated
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filters: Vec<String>,
    /// Only events that have this text anywhere
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

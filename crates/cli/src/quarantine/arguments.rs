//! What can be written after `quarantine` and `release`.

use clap::{ArgGroup, Args};

use crate::arguments::{Output, Region};

pub(crate) const QUARANTINE_HELP: &str = "\
A machine in quarantine runs on. It is given no credentials, every service refuses what it signs, and what it had open is \
closed: control channels, sessions, tunnels. All region servers know it within five seconds. It lasts until `inborn release`.

Examples:
  inborn quarantine web-1 --reason \"ticket 4711: mining\"
  inborn quarantine --host h-0123456789abcdef0
  inborn quarantine --list";

/// Whom to put into quarantine.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").required(true).multiple(true).args(["machines", "host", "account", "all", "list"]))]
pub(crate) struct Quarantine {
    #[command(flatten)]
    pub(crate) region: Region,
    #[command(flatten)]
    pub(crate) subjects: Subjects,
    /// Why, in a line: it is shown with the machine
    #[arg(long, value_name = "TEXT", conflicts_with = "list")]
    pub(crate) reason: Option<String>,
    /// Show who is in quarantine, since when and why
    #[arg(long, conflicts_with_all = ["machines", "host", "account", "all"])]
    pub(crate) list: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

pub(crate) const RELEASE_HELP: &str = "\
All that the machines were given before their release stays refused: whoever has stolen it is not let in again. They get \
new credentials at once.

Whoever was named by `inborn quarantine` is named here: a machine in the quarantine of its host is released with the host.

Examples:
  inborn release web-1
  inborn release --host h-0123456789abcdef0,h-0123456789abcdef1
  inborn release --all      ends the quarantine of all, and leaves those of single machines";

/// Whom to release.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").required(true).multiple(true).args(["machines", "host", "account", "all"]))]
pub(crate) struct Release {
    #[command(flatten)]
    pub(crate) region: Region,
    #[command(flatten)]
    pub(crate) subjects: Subjects,
}

#[derive(Debug, Args)]
pub(crate) struct Subjects {
    /// Names or ids of machines
    #[arg(value_name = "NAME|ID")]
    pub(crate) machines: Vec<String>,
    /// All machines that are placed on these hosts
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub(crate) host: Vec<String>,
    /// All machines of this account
    #[arg(long, value_name = "ID")]
    pub(crate) account: Vec<String>,
    /// All machines of the region
    #[arg(long)]
    pub(crate) all: bool,
}

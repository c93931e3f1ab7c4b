//! What can be written after `inborn exec`.

use clap::{ArgGroup, Args};

use super::{Output, Region};

pub(crate) const EXEC_HELP: &str = "\
The machine's SSM agent runs the command, as root on most machines. Words reach it as they are; for a shell's syntax, name a \
shell. A machine that is away has a minute to come back. SIGINT and SIGTERM cancel the command on the machines too.

Examples:
  inborn exec web-1 -- systemctl restart nginx
  inborn exec web-1 -- sh -c 'df -h | sort'
  inborn exec --tag role=web --timeout 60 --output json -- uptime

Exit status: for one machine, the command's own; for several, 0 if the command succeeded on all of them and 1 if not; 125 if \
it could not be sent, was not taken or did not come to its end.";

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("whom").required(true).args(["machine", "tag"])))]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) region: Region,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: Option<String>,
    /// Instead of one machine: all with this tag; given more than once, those that have all of them
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    pub(crate) tag: Vec<(String, String)>,
    /// How many seconds the command may take
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = clap::value_parser!(u32).range(1..=172_800))]
    pub(crate) timeout: u32,
    /// How to print what has become of it
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a tag is KEY=VALUE".to_owned()),
    }
}

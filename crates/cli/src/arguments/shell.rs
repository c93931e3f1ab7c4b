//! What can be written after `inborn shell`.

use clap::Args;

use super::Region;

pub(crate) const SHELL_HELP: &str = "\
The machine's SSM agent runs the shell, or the command on a terminal of its own; no network to the machine is needed, and no SSH. \
Every key is the machine's, Ctrl-C too. Without a terminal here, standard input is what is typed.

Examples:
  inborn shell web-1
  inborn shell web-1 -- top
  echo 'df -h; exit' | inborn shell web-1

Exit status: what the command exited with, if the agent tells it, else 0; 1 if the session could not be started or broke off.";

#[derive(Debug, Args)]
pub(crate) struct Shell {
    #[command(flatten)]
    pub(crate) region: Region,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: String,
    /// Why, for the list of sessions and the audit
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Instead of a shell: a command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

//! What can be written after `inborn sensor` and `inborn credentials`: what runs inside machines.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(crate) const SENSOR_HELP: &str = "\
Events are OCSF 1.3, signed with this machine's identity; docs/telemetry.md has their form. Where the region is: from this machine's \
metadata, or AWS_ENDPOINT_URL_GUARDDUTY_DATA.

Examples:
  inborn sensor --check                          what can be seen here, and why not the rest
  inborn sensor                                  watch /proc, and what else the kernel tells this process
  inborn sensor --from audit --from proc         the kernel's audit too
  laurel … | inborn sensor --from laurel         what laurel makes of audit
  inborn sensor --print                          write events as lines instead of sending them";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SensorSource {
    /// /proc, with the proc connector and fanotify where they are allowed
    Proc,
    /// The kernel's audit
    Audit,
    /// Lines of laurel on standard input
    Laurel,
    /// Lines of Falco (json_output) on standard input
    Falco,
}

#[derive(Debug, Args)]
pub(crate) struct Sensor {
    /// Where events come from; may be repeated [default: proc]
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub(crate) from: Vec<SensorSource>,
    /// A log that auditd writes, followed from its end
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Where events wait while the region is away
    /// [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/inborn-sensor, else ~/.local/state/inborn-sensor]
    #[arg(long, env = "INBORN_SENSOR_SPOOL", value_name = "DIR")]
    pub(crate) spool: Option<PathBuf>,
    /// How many MiB of them; the oldest go first
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1024 * 1024))]
    pub(crate) spool_size: u64,
    /// Write events to standard output instead of sending them
    #[arg(long)]
    pub(crate) print: bool,
    /// Say what can be seen here and why not the rest, and end
    #[arg(long, conflicts_with = "print")]
    pub(crate) check: bool,
}

pub(crate) const CREDENTIALS_HELP: &str = "\
With --serve, SDKs that know only container credentials get this machine's: the lines that are printed point them there.

  inborn credentials --serve > env & sleep 1; . ./env

Whoever can read the token file and reach the address can act as this machine.";

#[derive(Debug, Args)]
pub(crate) struct Credentials {
    /// Answer SDKs as a container's credentials endpoint does, at this address of the loopback interface, until stopped
    /// [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    pub(crate) serve: Option<SocketAddr>,
    /// The file with the token that SDKs must show; made if it is not there
    /// [default: a file of this run's in $XDG_RUNTIME_DIR, else in the temporary directory]
    #[arg(long, value_name = "FILE", requires = "serve")]
    pub(crate) token_file: Option<PathBuf>,
}

//! What can be written after `host-keys`, `known-hosts`, `ssh-config` and `authorized-keys`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::arguments::{Output, Region};

#[derive(Debug, Args)]
pub(crate) struct HostKeys {
    #[command(subcommand)]
    pub(crate) command: HostKeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostKeysCommand {
    /// Inside a machine, as root: publish its SSH host keys, with proof that it holds them
    #[command(after_help = PUSH_HELP)]
    Push(Push),
    /// Show the host keys of a machine: those served, those that wait for a decision, those of the past
    Show(Show),
    /// Let the set that waits take the place of the one that is served
    #[command(after_help = APPROVE_HELP)]
    Approve(Decide),
    /// Throw away the set that waits
    Reject(Decide),
    /// Show or set what the account demands of host keys
    #[command(after_help = POLICY_HELP)]
    Policy(PolicyArguments),
}

const PUSH_HELP: &str = "\
A set that differs from the one that is served is taken if one of the old keys has signed it (the ones that stay do; for \
those that go, see --old-key) or if the machine has booted in the last ten minutes. Else it waits until an operator \
approves it, and the old set is served meanwhile.

Tries again for some four minutes while the network or the region is not there yet; never run it before sshd.

With --certificates, where the operator allows them (`inborn host-keys policy --certificates enabled`), sshd is given a \
certificate for each key, good for three days, and made to read it: run it a few times a day (contrib/systemd has a timer). \
Who trusts the region's authority (`inborn known-hosts --authority`) then needs to know no key of the machine.";

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Where the files ssh_host_*_key.pub are
    #[arg(long, value_name = "DIR", default_value = "/etc/ssh")]
    pub(crate) directory: PathBuf,
    /// A private host key that is being replaced: it signs the new set; may be repeated
    #[arg(long = "old-key", value_name = "FILE")]
    pub(crate) old_keys: Vec<PathBuf>,
    /// Try once
    #[arg(long)]
    pub(crate) once: bool,
    /// Ask for host certificates, and let sshd show them
    #[arg(long)]
    pub(crate) certificates: bool,
    /// Where certificates and the file that names them to sshd go
    #[arg(long, value_name = "DIR", default_value = "/etc/ssh/sshd_config.d")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) region: Region,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: String,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

const APPROVE_HELP: &str = "\
Compare the fingerprints that `host-keys show` prints with those on the machine's console first: whoever holds the machine's \
credentials can offer keys.";

#[derive(Debug, Args)]
pub(crate) struct Decide {
    #[command(flatten)]
    pub(crate) region: Region,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: String,
    /// The set that is meant, as `host-keys show` prints it: another that came meanwhile is left alone
    #[arg(value_name = "DIGEST")]
    pub(crate) digest: String,
}

const POLICY_HELP: &str = "\
accept-unproven: the first set, and one after a boot, are taken although nobody has shown that the machine holds the \
private keys. The scripts of AWS's package can do no more.
require-proof: a set is served only if each of its keys has signed it, or an operator has approved it. Holds for the sets \
that are there, too. A boot replaces none that is proven or approved.

--certificates enabled: machines that ask for host certificates get them for keys that they have proven. Whoever trusts the \
region's authority believes a certificate until it ends, for three days at most, also if its machine is terminated or its \
keys are replaced.";

#[derive(Debug, Args)]
pub(crate) struct PolicyArguments {
    #[command(flatten)]
    pub(crate) region: Region,
    /// The new policy
    #[arg(value_name = "accept-unproven|require-proof", value_parser = ["accept-unproven", "require-proof"])]
    pub(crate) policy: Option<String>,
    /// Whether machines are given host certificates [default of an account: disabled]
    #[arg(long, value_name = "enabled|disabled", value_parser = ["enabled", "disabled"])]
    pub(crate) certificates: Option<String>,
}

pub(crate) const KNOWN_HOSTS_HELP: &str = "\
For ssh: `inborn ssh-config` prints the lines for ~/.ssh/config that call this as a KnownHostsCommand. ssh then neither asks \
\"are you sure\" nor trusts blindly. It calls twice for a connection, so what was learned is kept for ten seconds; while the \
region cannot be reached, what was learned in the last day still counts. A machine that is gone or has no keys is refused.";

#[derive(Debug, Args)]
pub(crate) struct KnownHosts {
    #[command(flatten)]
    pub(crate) region: Region,
    /// What ssh wants to know (%I): for ADDRESS there is no answer, since machines are known by their names
    #[arg(long, value_name = "ADDRESS|HOSTNAME|ORDER")]
    pub(crate) invocation: Option<String>,
    /// The name to print, where ssh looks for another (%H) than that of the machine
    #[arg(long = "as", value_name = "HOST")]
    pub(crate) shown: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "known-hosts")]
    pub(crate) format: Format,
    /// All machines that run, for a file that is handed around
    #[arg(long, conflicts_with_all = ["host", "shown"])]
    pub(crate) all: bool,
    /// The one line with which every host certificate of the region is believed, for machines that are called by their ids
    #[arg(long, conflicts_with_all = ["host", "shown", "all", "format", "invocation"])]
    pub(crate) authority: bool,
    /// A machine's id or name: what ssh was called with, or the HostKeyAlias (%k)
    #[arg(value_name = "NAME|ID", required_unless_present_any = ["all", "authority"])]
    pub(crate) host: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines of a known_hosts file
    KnownHosts,
    /// DNS records
    Sshfp,
}

pub(crate) const SSH_HELP: &str = "\
A new key is made for this login and sent to the machine (SendSSHPublicKey), where it is good for a minute: the machine's sshd \
must have `inborn authorized-keys`, or AWS's package, as its AuthorizedKeysCommand. With --identity a key of yours is used, \
and none is sent. The host key is the one that the region knows (`inborn host-keys push` in the machine); any other is refused.

The connection goes through the machine's host, which needs the machine to be attached to a network namespace or an \
interface; with --address it goes there directly. Your ssh configuration counts, but for what this command sets itself. \
Exits with the status of the command, or 255 if there was no connection.

  inborn ssh admin@web-1
  inborn ssh web-1 -- uname -a
  inborn ssh --address 127.0.0.1 --port 2222 -o LogLevel=VERBOSE web-1";

pub(crate) const SCP_HELP: &str = "\
The machine is named as in NAME:PATH or USER@NAME:PATH, and only one in a command. What is needed in the machine is told by \
`inborn ssh --help`.

  inborn scp -r ./site admin@web-1:/srv
  inborn scp web-1:/var/log/syslog .";

pub(crate) const OPEN_TUNNEL_HELP: &str = "\
Leads to port 22 or 3389 of a machine that is attached to a network namespace or an interface, for an hour at most. In an ssh \
configuration: ProxyCommand inborn open-tunnel --port %p %n";

/// How a login is made.
#[derive(Debug, Args)]
pub(crate) struct Way {
    #[command(flatten)]
    pub(crate) region: Region,
    /// Connect to this address, and not through the machine's host
    #[arg(long)]
    pub(crate) address: Option<String>,
    /// The port of the machine's sshd
    #[arg(long, default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Log in with this private key; none is made and sent
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// An option of ssh, as in its configuration; may be repeated
    #[arg(short = 'o', value_name = "OPTION")]
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ssh {
    #[command(flatten)]
    pub(crate) way: Way,
    /// The user in the machine [default: your own name]
    #[arg(short, long)]
    pub(crate) login: Option<String>,
    /// Force a terminal for the command (twice: also without one here)
    #[arg(short, action = clap::ArgAction::Count)]
    pub(crate) terminal: u8,
    /// A machine's name or id, and perhaps a user
    #[arg(value_name = "[USER@]NAME|ID")]
    pub(crate) machine: String,
    /// What to run there instead of a shell
    #[arg(value_name = "COMMAND", last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Scp {
    #[command(flatten)]
    pub(crate) way: Way,
    /// Copy directories, with all in them
    #[arg(short)]
    pub(crate) recursive: bool,
    /// Keep times and modes
    #[arg(short)]
    pub(crate) preserve: bool,
    // Not a doc comment: to rustdoc, what is in brackets is a link.
    #[arg(
        help = "What to copy, and where to: files here, or [USER@]NAME:PATH",
        value_name = "FROM… TO",
        required = true,
        num_args = 2..
    )]
    pub(crate) files: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OpenTunnel {
    #[command(flatten)]
    pub(crate) region: Region,
    /// The port of the machine: 22 or 3389
    #[arg(long, default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: String,
}

#[derive(Debug, Args)]
pub(crate) struct SshConfig {
    #[command(flatten)]
    pub(crate) region: Region,
}

pub(crate) const AUTHORIZED_KEYS_HELP: &str = "\
For sshd, as its AuthorizedKeysCommand: `inborn authorized-keys --install` writes the lines, and asks a command that is there \
already as well. Prints the keys that were sent to the user in the last minute (SendSSHPublicKey), if they were signed for this \
instance and this user by a signer that leads to the root. Nothing is printed, and nothing said, where there are none. What is \
refused is said to syslog.

The root is the region's: `inborn ca show instance-connect` prints it. It has to be in a file that root alone can write.

Examples:
  inborn authorized-keys --install
  inborn authorized-keys ec2-user SHA256:…";

#[derive(Debug, Args)]
pub(crate) struct AuthorizedKeys {
    /// The certificate that a signer has to lead to
    #[arg(long, value_name = "FILE", default_value = "/etc/inborn/instance-connect.pem")]
    pub(crate) root: PathBuf,
    /// The name of the signer, where the root may speak for any name
    #[arg(long, value_name = "NAME")]
    pub(crate) signer: Option<String>,
    /// Take keys that do not say for which user they are, as those of AWS
    #[arg(long)]
    pub(crate) any_user: bool,
    /// Which instance this is, for machines whose firmware does not say so in the asset tag of the board
    #[arg(long, value_name = "ID")]
    pub(crate) instance: Option<String>,
    /// Where the metadata service is, if not at 169.254.169.254: sshd passes no variables on
    #[arg(long, value_name = "URL")]
    pub(crate) metadata: Option<String>,
    /// Write the lines for sshd instead
    #[arg(long, conflicts_with_all = ["user", "next"])]
    pub(crate) install: bool,
    /// With --install: where sshd's drop-ins are
    #[arg(long, value_name = "DIR", default_value = "/etc/ssh/sshd_config.d")]
    pub(crate) directory: PathBuf,
    /// With --install: sshd's configuration, if not its usual one
    #[arg(long, value_name = "FILE", requires = "install")]
    pub(crate) sshd_config: Option<PathBuf>,
    /// Who wants to log in (%u)
    #[arg(required_unless_present = "install")]
    pub(crate) user: Option<String>,
    /// The fingerprint of the key that is offered (%f); without one, all keys are printed
    pub(crate) fingerprint: Option<String>,
    /// What to run afterwards: the command that sshd asked before
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) next: Vec<OsString>,
}

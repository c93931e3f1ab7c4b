//! What can be written on the command line. Help texts are for someone who has never seen the product.

pub(crate) mod exec;
pub(crate) mod hook;
pub(crate) mod inside;
mod machine;
mod region;
pub(crate) mod shell;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use inborn_host::place::VSOCK_CID_MIN;
use inborn_identity::{MacAddress, UnixTime};

use crate::accounts;
use crate::certificates::Published;
use crate::epoch;
use crate::guardduty;
use crate::hosts;
use crate::management;
use crate::quarantine;
use crate::ssh::arguments as ssh;
use crate::store;

pub(crate) use machine::Machine;
pub(crate) use region::{LogFormat, ServeRegion, Up};

const ABOUT: &str = "Every machine is born with an identity.";
const LONG_ABOUT: &str = "\
Every machine is born with an identity.

Inborn is a self-hosted implementation of EC2 instance identity roles: launch a machine, and inside it the metadata \
service has credentials for the role aws:ec2-instance that rotate by themselves and that AWS's own tools can use.";
const EXAMPLES: &str = "\
Try it:
  inborn run -- aws sts get-caller-identity    a machine that lives as long as the command
  inborn up                                    a region and a host, until you stop it
  inborn launch --name web-1 --tag role=web    a machine with a metadata endpoint of its own";

/// The program.
#[derive(Debug, Parser)]
#[command(name = "inborn", version, about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a region and a host, and serve until stopped
    #[command(after_help = region::UP_HELP)]
    Up(Up),
    /// Start a region server without a host, over a store that several servers share
    #[command(after_help = region::REGION_HELP)]
    Region(Box<ServeRegion>),
    /// Run a command inside a new machine that lives as long as the command
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Launch a machine with a metadata endpoint of its own on this computer
    #[command(after_help = LAUNCH_HELP)]
    Launch(Launch),
    /// Let a machine be heard where it is: in a network namespace, behind an interface, …
    #[command(after_help = ATTACH_HELP)]
    Attach(Attach),
    /// Let nobody ask in a machine's name any more
    Detach(Detach),
    /// For hypervisors and container runtimes: a machine has started or stopped
    Hook(hook::Hook),
    /// List machines
    Ps(Ps),
    /// Show all there is to know about a machine
    Describe(Describe),
    /// Terminate machines: from then on their credentials are refused
    Terminate(Targets),
    /// Stop machines: their metadata falls silent, their credentials end
    Stop(Targets),
    /// Start machines that were stopped
    Start(Targets),
    /// Reboot machines: they get new credentials
    Reboot(Targets),
    /// Let machines in nowhere and give them nothing, until they are released
    #[command(after_help = quarantine::QUARANTINE_HELP)]
    Quarantine(quarantine::Quarantine),
    /// Release machines from quarantine: what they had before stays refused, and they get new credentials
    #[command(after_help = quarantine::RELEASE_HELP)]
    Release(quarantine::Release),
    /// The generations of the keys that credentials are made with: list, replace, cut off
    #[command(after_help = epoch::EPOCH_HELP)]
    Epoch(epoch::Epoch),
    /// Accounts: whose machines the region runs
    #[command(after_help = accounts::ACCOUNT_HELP)]
    Account(accounts::Account),
    /// Operators: who may sign for an account
    #[command(after_help = accounts::OPERATOR_HELP)]
    Operator(accounts::Operators),
    /// What a region remembers: check it, back it up, put it back, move it to another database
    #[command(after_help = store::STORE_HELP)]
    Store(store::StoreArguments),
    /// List the hosts that have joined the region
    Hosts(hosts::Hosts),
    /// Hosts apart from their region: let one join, drain one, cut one off
    #[command(after_help = hosts::HOST_HELP)]
    Host(hosts::Host),
    /// Run a command on machines, by their SSM agents
    #[command(after_help = exec::EXEC_HELP)]
    Exec(exec::Exec),
    /// Roles that Default Host Management can pass to machines: make, list and delete them
    #[command(after_help = management::ROLE_HELP)]
    Role(management::Role),
    /// List the machines whose SSM agent has spoken, and forget the key of one
    #[command(after_help = management::NODES_HELP)]
    Nodes(management::Nodes),
    /// Open a shell on a machine, by its SSM agent
    #[command(after_help = shell::SHELL_HELP)]
    Shell(shell::Shell),
    /// Show who called what: the region's audit
    #[command(after_help = AUDIT_HELP)]
    Audit(Audit),
    /// Show what telemetry of machines tells of attacks
    #[command(after_help = guardduty::FINDINGS_HELP)]
    Findings(guardduty::Findings),
    /// Show what machines told of themselves
    #[command(after_help = guardduty::EVENTS_HELP)]
    Events(guardduty::Events),
    /// Show which machines send telemetry
    #[command(after_help = guardduty::COVERAGE_HELP)]
    Coverage(guardduty::Coverage),
    /// Show the region's certificates, for those who verify what it signs
    #[command(after_help = CA_HELP)]
    Ca(Ca),
    /// SSH host keys of machines: publish them, look at them, decide about them
    HostKeys(ssh::HostKeys),
    /// Print the SSH host keys of a machine as its region knows them, for ssh
    #[command(after_help = ssh::KNOWN_HOSTS_HELP)]
    KnownHosts(ssh::KnownHosts),
    /// Print the lines of an ssh configuration with which ssh asks the region for host keys
    SshConfig(ssh::SshConfig),
    /// Log in to a machine: with a key of a minute's life, to a host whose key its region knows
    #[command(after_help = ssh::SSH_HELP)]
    Ssh(ssh::Ssh),
    /// Copy files to or from a machine, as `inborn ssh` logs in
    #[command(after_help = ssh::SCP_HELP)]
    Scp(ssh::Scp),
    /// Carry a TCP connection to a machine over standard input and output, through its host: a ProxyCommand for ssh
    #[command(after_help = ssh::OPEN_TUNNEL_HELP)]
    OpenTunnel(ssh::OpenTunnel),
    /// Inside a machine, for sshd: print the keys that were sent to a user in the last minute
    #[command(after_help = ssh::AUTHORIZED_KEYS_HELP)]
    AuthorizedKeys(ssh::AuthorizedKeys),
    /// Inside a machine: print its credentials, as an AWS `credential_process` does, or serve them to SDKs
    #[command(after_help = inside::CREDENTIALS_HELP)]
    Credentials(inside::Credentials),
    /// Inside a machine: tell its region what happens there
    #[command(after_help = inside::SENSOR_HELP)]
    Sensor(inside::Sensor),
    /// Inside a machine: ask the region who this machine is
    Whoami(WhoAmI),
    /// Look for what is not as it should be on this computer, and say what to do about it
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Doctor),
    /// Print what completes inborn's commands in a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(Completions),
    /// What puts a terminal's settings back when `run -t` is killed
    #[command(name = "__terminal", hide = true)]
    Terminal,
    /// The inside of `run`, before the command
    #[command(name = "__pocket", hide = true)]
    Pocket {
        /// The descriptor of the socket to the parent
        descriptor: i32,
    },
}

/// Which region is meant, by who serves it or has served it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Region {
    /// The data directory of the `inborn up`, `inborn region` or `inborn host` that is meant
    #[arg(long, env = "INBORN_DATA", value_name = "DIR", value_parser = path())]
    pub(crate) data: Option<PathBuf>,
    /// Which of its regions, where it has several [default: the home]
    #[arg(long = "region", value_name = "NAME")]
    pub(crate) region_name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

const RUN_HELP: &str = "\
Inside, 169.254.169.254 is the machine's metadata service, *.REGION.DOMAIN is the region with TLS that the usual \
clients trust, and there is no other network. Needs no root. Uses a running `inborn up`; without one, a region of its \
own in memory, of the name that --region says.

With --net host-egress there is the network of this computer too, for outgoing connections; this computer itself and \
the metadata service of its own stay out of reach.

Examples:
  inborn run -- aws sts get-caller-identity
  inborn run -it bash
  inborn run --net host-egress --user-data setup.sh -- ./agent

Exit status: the command's own; 125 if the machine could not be made, 126 if the command cannot be executed, 127 if \
it was not found.";

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) region: Region,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// What the command can reach beside its machine: nothing, or what this computer reaches by the program passt
    #[arg(long, value_name = "none|host-egress", value_enum, default_value = "none", hide_possible_values = true)]
    pub(crate) net: Net,
    /// Keep standard input open, as it always is; goes with -t, as in -it
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Give the command a terminal of its own, for shells and full-screen programs
    #[arg(long, short)]
    pub(crate) tty: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Where a machine is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Place {
    /// It is in this network namespace: a name of `ip netns`, or a path
    #[arg(long, value_name = "NAME|PATH", group = "place")]
    pub(crate) netns: Option<String>,
    /// It is in the network namespace of this process, until the process ends
    #[arg(long, value_name = "PID", group = "place")]
    pub(crate) pid: Option<u32>,
    /// It is behind this network interface of this computer
    #[arg(long, value_name = "IF", group = "place")]
    pub(crate) interface: Option<String>,
    /// It is the virtual machine with this vsock context id
    #[arg(long, value_name = "CID", group = "place", value_parser = clap::value_parser!(u32).range(i64::from(VSOCK_CID_MIN)..))]
    pub(crate) vsock: Option<u32>,
    /// Until that very namespace or interface goes away, not for the next one of its name
    #[arg(long, requires = "place")]
    pub(crate) once: bool,
    /// The MAC address of the machine's own network interface, for its metadata; looked for in a namespace
    #[arg(long, value_name = "MAC", requires = "place")]
    pub(crate) mac: Option<MacAddress>,
}

const ATTACH_HELP: &str = "\
A machine has one attachment; this one takes the place of any other. It is made again when `inborn up` or `inborn host` is started again, \
and when a namespace or interface of the same name comes back (but see --once). `inborn describe` says what it is worth.

All but --loopback need capabilities of the running `inborn up` or `inborn host`, which root has; what is missing is said.

Examples:
  inborn attach web-1 --netns web
  inborn attach web-1 --pid \"$(podman inspect -f '{{.State.Pid}}' web)\"
  inborn attach web-1 --interface tap0
  inborn attach web-1 --loopback 8080";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("where").required(true).args(["netns", "pid", "interface", "vsock", "loopback"]))]
pub(crate) struct Attach {
    #[command(flatten)]
    pub(crate) region: Region,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: String,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Any process of this computer may be it, at this port of 127.0.0.1 or any free one: for development
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "0", conflicts_with = "place")]
    pub(crate) loopback: Option<u16>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Detach {
    #[command(flatten)]
    pub(crate) region: Region,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: String,
}

/// What a command can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Net {
    None,
    HostEgress,
}

const LAUNCH_HELP: &str = "\
Without a place (--netns, --pid, --interface, --vsock) the machine is a free port of 127.0.0.1, for development.

With --export, prints `export` lines that point the AWS SDKs of this shell at the machine and its region:
  eval \"$(inborn launch --export)\"";

#[derive(Debug, Args)]
pub(crate) struct Launch {
    #[command(flatten)]
    pub(crate) region: Region,
    #[command(flatten)]
    pub(crate) machine: Machine,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print shell `export` lines instead
    #[arg(long, conflicts_with_all = ["output", "place"])]
    pub(crate) export: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    #[command(flatten)]
    pub(crate) region: Region,
    /// Terminated ones too
    #[arg(long, short)]
    pub(crate) all: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    pub(crate) region: Region,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: String,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Targets {
    #[command(flatten)]
    pub(crate) region: Region,
    /// Names or ids of machines
    #[arg(required = true, value_name = "NAME|ID")]
    pub(crate) machines: Vec<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

const AUDIT_HELP: &str = "\
Reads the audit files in the data directory, compressed ones too; nothing need be running there. Times are UTC. With \
--output json, each line is a record in CloudTrail's form, as it was written.

Examples:
  inborn audit --since 1h
  inborn audit --follow --instance web-1
  inborn audit --output json | jq -r 'select(.errorCode) | .userIdentity.arn'";

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// The data directory of an `inborn up` or `inborn region`, running or not
    #[arg(long, env = "INBORN_DATA", value_name = "DIR", value_parser = path())]
    pub(crate) data: Option<PathBuf>,
    /// Only calls by this machine, or that name it
    #[arg(long, value_name = "NAME|ID")]
    pub(crate) instance: Option<String>,
    /// Only calls since then: an age, as in 90s, 10m, 2h, 7d, or a time, as in 2026-11-23T05:29:00Z
    #[arg(long, value_name = "AGE|TIME", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Go on with calls as they come, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

const CA_HELP: &str = "\
Reads the certificates in the data directory; nothing need be running there.

Examples:
  inborn ca                                   names, fingerprints, ends, files
  inborn ca show tls > region.pem             for AWS_CA_BUNDLE
  inborn ca show identity > identity.pem      for those who verify identity documents";

#[derive(Debug, Args)]
pub(crate) struct Ca {
    #[command(subcommand)]
    pub(crate) command: Option<CaCommand>,
    /// The data directory of an `inborn up` or `inborn region`, running or not
    #[arg(long, env = "INBORN_DATA", value_name = "DIR", value_parser = path(), global = true)]
    pub(crate) data: Option<PathBuf>,
    /// How to print the list
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Print a certificate as PEM: first the one in use
    Show {
        /// Which
        #[arg(value_enum)]
        certificate: Published,
    },
}

/// A point in time, as a person says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// So many seconds ago.
    Ago(u64),
    /// At this time.
    At(UnixTime),
}

#[derive(Debug, Args)]
pub(crate) struct WhoAmI {
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

const DOCTOR_HELP: &str = "\
Looks at the data directory of an `inborn up`, `inborn region` or `inborn host`, which it tells apart by what is in it and by the \
settings: modes, key, disk, audit, clock; the running process, or else the ports that it would take; names and trust of the endpoints; \
and at what the kernel and other programs give to `inborn run` and `inborn ssh`. Of a region also at its store: can it be read and \
written, schema, age, epochs, does the key open it; of a region server at the others: who beats, clocks, addresses; of a host at its \
certificate, what it has kept, and whether its region knows it. Changes nothing.

Settings are those that the environment says, and for /var/lib/inborn-region those of its unit: /etc/inborn/region.toml and \
/etc/inborn/region.env.

Exit status: 0 if there is no problem, hints aside; else 1.

Examples:
  inborn doctor
  sudo inborn doctor --data /var/lib/inborn-region
  sudo inborn doctor --data /var/lib/inborn-host --output json";

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) region: Region,
    /// The settings that the region is served with [default: what its unit names]
    #[arg(long, env = "INBORN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Variables that it is served with, as systemd reads them from a file; those of the environment win over them [default: what its
    /// unit names]
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<PathBuf>,
    /// The store of a region server: postgres://… or sqlite:PATH; others see a command line, so a password is better said by the
    /// variable
    #[arg(long, env = "INBORN_STORE", value_name = "URL", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

const COMPLETIONS_HELP: &str = "\
The Debian package has them in place. Elsewhere:
  inborn completions bash > ~/.local/share/bash-completion/completions/inborn
  inborn completions zsh  > ~/.zfunc/_inborn      (a directory of fpath)
  inborn completions fish > ~/.config/fish/completions/inborn.fish";

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(crate) shell: CompletedShell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompletedShell {
    Bash,
    Zsh,
    Fish,
}

pub(crate) fn since(text: &str) -> Result<Since, String> {
    let age = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(seconds).map(Since::Ago)
    };
    let time = || UnixTime::parse_rfc3339(text.as_bytes()).ok().map(Since::At);
    age().or_else(time).ok_or_else(|| "an age is like 90s, 10m, 2h or 7d, a time like 2026-11-23T05:29:00Z".to_owned())
}

/// A path that may be empty: a variable that is set to nothing is one that is not set.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// The directory that was named, if one was.
pub(crate) fn named(directory: Option<&PathBuf>) -> Option<&Path> {
    directory.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_machine_is_at_one_place() {
        let parse = |line: &str| Arguments::try_parse_from(format!("inborn {line}").split(' '));
        for line in [
            "attach web --netns web",
            "attach web --pid 7 --once",
            "attach web --interface tap0",
            "attach web --vsock 3",
            "attach web --interface tap0 --mac 02:00:5e:00:53:01",
            "launch --netns web --mac BC:24:11:2E:9A:0F",
            "attach web --loopback",
            "attach web --loopback 8080",
            "launch --interface tap0 --once",
            "launch",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
        for line in [
            "attach web",
            "attach --netns web",
            "attach web --netns web --interface tap0",
            "attach web --loopback --pid 7",
            "attach web --loopback --once",
            "attach web --vsock 2",
            "attach web --interface tap0 --mac 01:00:5e:00:53:01",
            "attach web --loopback --mac 02:00:5e:00:53:01",
            "launch --mac 02:00:5e:00:53:01",
            "launch --once",
            "launch --netns web --export",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let arguments = Arguments::try_parse_from(["inborn", "run", "--name", "a", "--", "aws", "--version"]).unwrap();
        let Command::Run(run) = arguments.command else { panic!() };
        assert_eq!(run.command, ["aws", "--version"]);
        let arguments = Arguments::try_parse_from(["inborn", "run", "aws", "sts", "--debug"]).unwrap();
        let Command::Run(run) = arguments.command else { panic!() };
        assert_eq!(run.command, ["aws", "sts", "--debug"]);
        assert!(Arguments::try_parse_from(["inborn", "run"]).is_err());
        let words = ["inborn", "run", "-it", "--net", "host-egress", "--region", "eu-west-1", "bash", "-it"];
        let Command::Run(run) = Arguments::try_parse_from(words).unwrap().command else { panic!() };
        assert!(run.interactive && run.tty && run.net == Net::HostEgress);
        assert_eq!(
            (run.region.region_name.as_deref(), run.command),
            (Some("eu-west-1"), vec!["bash".into(), "-it".into()])
        );
        assert!(Arguments::try_parse_from(["inborn", "run", "--net", "bridge", "true"]).is_err());
    }

    #[test]
    fn since_is_an_age_or_a_time() {
        for (text, expected) in [
            ("0s", Some(Since::Ago(0))),
            ("10m", Some(Since::Ago(600))),
            ("2h", Some(Since::Ago(7200))),
            ("7d", Some(Since::Ago(604_800))),
            ("1970-01-02T00:00:00Z", Some(Since::At(UnixTime::from_secs(86_400)))),
            ("", None),
            ("m", None),
            ("+1m", None),
            ("1", None),
            ("1w", None),
            ("1é", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
            ("2026-11-23", None),
        ] {
            assert_eq!(since(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_directory_without_a_name_is_none() {
        let arguments = Arguments::try_parse_from(["inborn", "ps", "--data", ""]).unwrap();
        let Command::Ps(ps) = arguments.command else { panic!() };
        assert_eq!(named(ps.region.data.as_ref()), None);
        assert_eq!(named(Some(&"d".into())), Some(Path::new("d")));
    }
}

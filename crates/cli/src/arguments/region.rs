//! What serves a region: `up` and `region`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::path;

pub(super) const UP_HELP: &str = "\
Where the state is kept: --data, else INBORN_DATA, else $STATE_DIRECTORY, else $XDG_STATE_HOME/inborn, else \
~/.local/state/inborn. The operator's key is in operator.env there: `. DATA/operator.env` makes the AWS CLI its client.";

/// What the person asks `up` for. All of it can also stand in the file that --config names. Of a flag given twice, the
/// last one counts, so that scripts can add to a command.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct Up {
    /// Read settings from this TOML file; flags and INBORN_… variables win over it
    #[arg(long, env = "INBORN_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Keep state in this directory
    #[arg(long, env = "INBORN_DATA", value_name = "DIR", value_parser = path())]
    pub(crate) data: Option<PathBuf>,
    /// Keep nothing: state in memory, any free ports, all gone at the end
    #[arg(long, env = "INBORN_EPHEMERAL")]
    pub(crate) ephemeral: bool,
    /// The region's name [default: us-east-1]
    #[arg(long, env = "INBORN_REGION", value_name = "NAME")]
    pub(crate) region: Option<String>,
    /// Regions to serve beside it, with commas between them; accounts and operators are the first one's, which is their home
    #[arg(long, env = "INBORN_MORE_REGIONS", value_name = "NAME", value_delimiter = ',')]
    pub(crate) more_regions: Vec<String>,
    /// The account, 12 digits [default: 123456789012]
    #[arg(long, env = "INBORN_ACCOUNT", value_name = "ID")]
    pub(crate) account: Option<String>,
    /// The partition [default: the one the region's name belongs to, else aws]
    #[arg(long, env = "INBORN_PARTITION", value_name = "NAME")]
    pub(crate) partition: Option<String>,
    /// What follows SERVICE.REGION. in endpoint names [default: the partition's, as in amazonaws.com]
    #[arg(long, env = "INBORN_DOMAIN", value_name = "NAME")]
    pub(crate) domain: Option<String>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, env = "INBORN_BIND", value_name = "ADDRESS")]
    pub(crate) bind: Option<IpAddr>,
    /// The port for plain HTTP, 0 for any free one [default: 4580; 0 with --ephemeral]
    #[arg(long, env = "INBORN_PORT", value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The port for HTTPS, 0 for any free one [default: 4543; 0 with --ephemeral]
    #[arg(long, env = "INBORN_TLS_PORT", value_name = "PORT")]
    pub(crate) tls_port: Option<u16>,
    /// The port for /livez, /readyz and /metrics, 0 for any free one [default: 4590; 0 with --ephemeral]
    #[arg(long, env = "INBORN_OPERATIONS_PORT", value_name = "PORT")]
    pub(crate) operations_port: Option<u16>,
    /// Calls a second that one address (IPv6: one /64) or pocket may make, 0 for any number [default: 20000]
    #[arg(long, env = "INBORN_SOURCE_RATE", value_name = "NUMBER")]
    pub(crate) source_rate: Option<u32>,
    /// Calls a second that one machine or operator may make, 0 for any number [default: 5000]
    #[arg(long, env = "INBORN_PRINCIPAL_RATE", value_name = "NUMBER")]
    pub(crate) principal_rate: Option<u32>,
    /// Days after which the keys that credentials are made with are replaced, 0 for never [default: 90]
    #[arg(long, env = "INBORN_EPOCH_DAYS", value_name = "NUMBER")]
    pub(crate) epoch_days: Option<u32>,
    /// The program and its arguments, told apart by spaces, that prints the key that secrets in the store are sealed with, as
    /// epoch.key holds it; it is started without a shell [default: the file epoch.key in the data directory]
    #[arg(long, env = "INBORN_KEY_COMMAND", value_name = "PROGRAM ARGS")]
    pub(crate) key_command: Option<String>,
    /// The name of the systemd credential that is that key
    #[arg(long, env = "INBORN_KEY_CREDENTIAL", value_name = "NAME", conflicts_with = "key_command")]
    pub(crate) key_credential: Option<String>,
    /// The port where hosts ask, 0 for any free one [default: none is listened at]
    #[arg(long, env = "INBORN_HOSTS_PORT", value_name = "PORT")]
    pub(crate) hosts_port: Option<u16>,
    /// The port where hosts of another region than the home ask, with commas between several [default: none is listened at]
    #[arg(
        long = "region-hosts-port",
        env = "INBORN_REGION_HOSTS_PORTS",
        value_name = "REGION=PORT",
        value_delimiter = ','
    )]
    pub(crate) region_hosts_ports: Vec<String>,
    /// Balancers that say in a header (PROXY protocol, version 2) where a connection comes from: addresses or networks, with
    /// commas between several; who is there must send it, and nobody else's is read [default: none]
    #[arg(long, env = "INBORN_PROXY_PROTOCOL_FROM", value_name = "NETWORK", value_delimiter = ',')]
    pub(crate) proxy_protocol_from: Vec<String>,
    /// Once, after a backup was put back: take a store that is older than what was seen, and refuse all that was issued so far
    #[arg(long, env = "INBORN_ACCEPT_OLDER_STORE")]
    pub(crate) accept_older_store: bool,
    /// Requests a second that one machine may make of its metadata, 0 for any number [default: 500]
    #[arg(long, env = "INBORN_METADATA_RATE", value_name = "NUMBER")]
    pub(crate) metadata_rate: Option<u32>,
    /// When told to stop, first serve on for so many seconds while /readyz says 503, and then give calls under way as
    /// long to end [default: 0]
    #[arg(long, env = "INBORN_DRAIN", value_name = "SECONDS")]
    pub(crate) drain: Option<u32>,
    /// Days for which telemetry of machines is kept, 0 to take none [default: 30]
    #[arg(long, env = "INBORN_TELEMETRY_DAYS", value_name = "NUMBER")]
    pub(crate) telemetry_days: Option<u32>,
    /// Gibibytes that telemetry may take on disk, or in its bucket; beyond, the oldest goes first [default: 20]
    #[arg(long, env = "INBORN_TELEMETRY_GIB", value_name = "NUMBER")]
    pub(crate) telemetry_gib: Option<u32>,
    /// A bucket where telemetry is kept: s3://BUCKET/PREFIX?region=NAME, with endpoint=URL, style=path|virtual, ca=FILE and
    /// credentials=FILE as needed; without the last, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are used [default: none]
    #[arg(long, env = "INBORN_TELEMETRY_STORE", value_name = "URL")]
    pub(crate) telemetry_store: Option<String>,
    /// Where there is such a bucket: gibibytes of telemetry that wait to be put there, or are kept on disk as well
    /// [default: 2]
    #[arg(long, env = "INBORN_TELEMETRY_LOCAL_GIB", value_name = "NUMBER")]
    pub(crate) telemetry_local_gib: Option<u32>,
    /// Bytes a second of telemetry that one machine may send, uncompressed, 0 for any number [default: 8388608]
    #[arg(long, env = "INBORN_TELEMETRY_RATE", value_name = "NUMBER")]
    pub(crate) telemetry_rate: Option<u32>,
    /// Accounts whose machines may send telemetry, with commas between them [default: all]
    #[arg(long, env = "INBORN_TELEMETRY_ACCOUNTS", value_name = "ACCOUNT", value_delimiter = ',')]
    pub(crate) telemetry_accounts: Vec<String>,
    /// The service that telemetry is signed for [default: guardduty]
    #[arg(long, env = "INBORN_TELEMETRY_SIGNING_NAME", value_name = "NAME")]
    pub(crate) telemetry_signing_name: Option<String>,
    /// What becomes of events that name another machine as theirs: `accept` (what they claim is kept as a claim) or `reject`
    /// [default: accept]
    #[arg(long, env = "INBORN_TELEMETRY_FOREIGN_HOST", value_name = "WHAT")]
    pub(crate) telemetry_foreign_host: Option<String>,
    /// Let sessions of the management role send telemetry, too, of the machine they were passed to
    #[arg(long, env = "INBORN_TELEMETRY_MANAGEMENT_ROLE")]
    pub(crate) telemetry_management_role: bool,
    /// Write an audit line for each request with telemetry, not only for those that are refused
    #[arg(long, env = "INBORN_TELEMETRY_AUDIT")]
    pub(crate) telemetry_audit: bool,
    /// Where traces of requests go: a collector of OpenTelemetry, http(s)://HOST:PORT/v1/traces; "" for nowhere [default: what
    /// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT says]
    #[arg(long, env = "INBORN_OTLP_TRACES_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_traces_endpoint: Option<String>,
    /// Write a JSON file with the endpoints once all is ready
    #[arg(long, env = "INBORN_READY_FILE", value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
    /// How log lines look on standard error
    #[arg(long, env = "INBORN_LOG_FORMAT", value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

pub(super) const REGION_HELP: &str = "\
Any number of servers work side by side over one PostgreSQL, behind anything that balances TCP. Each has a data directory of \
its own, for its audit, and a copy of the file epoch.key that the first one has made: put it there before the start.

Examples:
  INBORN_STORE=postgres://inborn:PASSWORD@db.example/inborn inborn region --node a
  inborn region --store sqlite:/var/lib/inborn/inborn.db";

/// What the person asks `region` for.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct ServeRegion {
    /// The store: postgres://USER:PASSWORD@HOST/DATABASE or sqlite:PATH; others see a command line, so a password is better
    /// said by the variable
    #[arg(long, env = "INBORN_STORE", value_name = "URL", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// The store of another region that is served beside the home; in the variable with spaces between several
    #[arg(
        long = "region-store",
        env = "INBORN_REGION_STORES",
        value_name = "REGION=URL",
        value_delimiter = ' ',
        hide_env_values = true
    )]
    pub(crate) region_stores: Vec<String>,
    /// What this server is called among the others [default: the computer's name]
    #[arg(long, env = "INBORN_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Where the other servers reach this one, so that sessions work whichever server a call comes to: HOST, which is asked by
    /// TLS at --tls-port, or https://HOST:PORT or http://HOST:PORT
    #[arg(long, env = "INBORN_ADVERTISE", value_name = "ADDRESS")]
    pub(crate) advertise: Option<String>,
    /// What is done for callers of a service while nothing is heard of the other servers: refuse-changes, refuse-all or serve
    /// [default: refuse-changes]
    #[arg(long, env = "INBORN_STALE", value_name = "SERVICE=POLICY", value_delimiter = ',')]
    pub(crate) stale: Vec<String>,
    #[command(flatten)]
    pub(crate) up: Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

//! What `up` is asked for, from flags, environment and file, checked as a whole: all mistakes are told at once.

mod advertise;
mod balancers;
mod more;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use inborn_host::MetadataLimits;
use inborn_identity::{Partition, Region};
use inborn_region::{
    EpochSettings, FleetSettings, Foreign, KeySource, Rate, Rates, RegionIdentity, SERVICES, TelemetrySettings,
};
use ipnet::IpNet;
use serde::Deserialize;

use crate::arguments::{ServeRegion, Up, named};
use crate::detection::{Detection, FileDetection};
use crate::directory;
use crate::store_url::StoreUrl;
use crate::telemetry_store::TelemetryStore;
use advertise::Advertise;
use more::More;

pub(crate) use more::MoreRegion;

/// The account of a region whose operator chose none.
pub(crate) const DEFAULT_ACCOUNT: &str = "123456789012";
/// The region's name if the operator chose none.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";
const DEFAULT_PORT: u16 = 4580;
const DEFAULT_TLS_PORT: u16 = 4543;
const DEFAULT_OPERATIONS_PORT: u16 = 4590;
/// Read when no file is named, and may be absent.
const DEFAULT_FILE: &str = "/etc/inborn/inborn.toml";
const DOMAIN_LENGTH_MAX: usize = 120;
/// The longest time to serve on after a stop was asked for.
const DRAIN_SECONDS_MAX: u32 = 300;
const SIGNING_NAME_LENGTH_MAX: usize = 64;

/// The settings of `up`, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) ephemeral: bool,
    pub(crate) identity: RegionIdentity,
    pub(crate) bind: IpAddr,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    pub(crate) operations_port: u16,
    /// Where hosts ask; `None`: nowhere.
    pub(crate) hosts_port: Option<u16>,
    /// The balancers that are believed about where their connections come from.
    pub(crate) balancers: Vec<IpNet>,
    pub(crate) drain: Duration,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) rates: Rates,
    pub(crate) metadata: MetadataLimits,
    pub(crate) key: Key,
    pub(crate) epochs: EpochSettings,
    /// Whether a store that is older than what was seen is taken.
    pub(crate) accept_older_store: bool,
    pub(crate) detection: Detection,
    pub(crate) telemetry: TelemetrySettings,
    /// How telemetry is kept; `None` if none is.
    pub(crate) lake: Option<inborn_lake::Settings>,
    /// The bucket where it is kept; `None`: on the local disk alone.
    pub(crate) telemetry_store: Option<TelemetryStore>,
    /// The store; `None`: the one in the data directory, or in memory.
    pub(crate) store: Option<StoreUrl>,
    /// How this server takes part in a fleet; `None`: it is alone.
    pub(crate) fleet: Option<FleetSettings>,
    /// Where the others of it reach this one.
    pub(crate) advertise: Option<Advertise>,
    /// The regions that are served beside this one, their home.
    pub(crate) more: Vec<MoreRegion>,
}

/// Which region this is, checked.
pub(crate) struct Choice;

impl Choice {
    /// The one of this name, or the one that nobody chose.
    pub(crate) fn named(region: Option<&str>) -> anyhow::Result<RegionIdentity> {
        Self::check(region, None, None, None).map_err(anyhow::Error::msg)
    }

    fn check(
        region: Option<&str>,
        account: Option<&str>,
        partition: Option<&str>,
        domain: Option<&str>,
    ) -> Result<RegionIdentity, String> {
        let mut mistakes = Vec::new();
        let region: Option<Region> = keep(region.unwrap_or(DEFAULT_REGION), "region", &mut mistakes);
        let account = keep(account.unwrap_or(DEFAULT_ACCOUNT), "account", &mut mistakes);
        let guess = region.as_ref().and_then(Partition::of_region).unwrap_or(Partition::Aws);
        let partition: Option<Partition> = match partition {
            Some(text) => keep(text, "partition", &mut mistakes),
            None => Some(guess),
        };
        let domain = domain.unwrap_or(partition.unwrap_or(guess).dns_suffix());
        if !is_domain(domain) {
            mistakes.push(format!("domain `{domain}`: not a DNS name in lower case, as in amazonaws.com"));
        }
        match (region, account, partition, mistakes.as_slice()) {
            (Some(region), Some(account), Some(partition), []) => {
                Ok(RegionIdentity { region, account, partition, domain: domain.to_owned() })
            }
            _ => Err(mistakes.join("\n")),
        }
    }
}

/// A chosen rate, with a burst of two seconds' worth.
fn rate(per_second: Option<u32>, default: Rate) -> Rate {
    per_second.map_or(default, |per_second| Rate { per_second, burst: per_second.saturating_mul(2) })
}

/// Reads a value; what is wrong with it joins the list.
fn keep<T: FromStr<Err: Display>>(text: &str, what: &str, mistakes: &mut Vec<String>) -> Option<T> {
    text.parse().map_err(|error| mistakes.push(format!("{what} `{text}`: {error}"))).ok()
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= DOMAIN_LENGTH_MAX && text.contains('.') && text.split('.').all(is_label)
}

/// The file's keys: the flags' names, with `_` for `-`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    data: Option<PathBuf>,
    ephemeral: Option<bool>,
    region: Option<String>,
    account: Option<String>,
    partition: Option<String>,
    domain: Option<String>,
    bind: Option<IpAddr>,
    port: Option<u16>,
    tls_port: Option<u16>,
    operations_port: Option<u16>,
    hosts_port: Option<u16>,
    proxy_protocol_from: Option<Vec<String>>,
    drain: Option<u32>,
    ready_file: Option<PathBuf>,
    source_rate: Option<u32>,
    principal_rate: Option<u32>,
    epoch_days: Option<u32>,
    key_command: Option<Vec<String>>,
    key_credential: Option<String>,
    metadata_rate: Option<u32>,
    detection: Option<FileDetection>,
    telemetry_days: Option<u32>,
    telemetry_gib: Option<u32>,
    telemetry_store: Option<String>,
    telemetry_local_gib: Option<u32>,
    telemetry_rate: Option<u32>,
    telemetry_accounts: Option<Vec<String>>,
    telemetry_signing_name: Option<String>,
    telemetry_foreign_host: Option<String>,
    telemetry_management_role: Option<bool>,
    telemetry_audit: Option<bool>,
    store: Option<String>,
    node: Option<String>,
    advertise: Option<String>,
    stale: Option<BTreeMap<String, String>>,
    more_regions: Option<Vec<String>>,
    region_hosts_ports: Option<BTreeMap<String, u16>>,
    region_stores: Option<BTreeMap<String, String>>,
}

impl FileSettings {
    const fn is_of_a_server(&self) -> bool {
        self.store.is_some()
            || self.node.is_some()
            || self.stale.is_some()
            || self.advertise.is_some()
            || self.region_stores.is_some()
    }

    fn read(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        match crate::settled::read(path) {
            // toml's message shows the line and what is wrong in it.
            Ok(text) => toml::from_str(&text).with_context(|| format!("in {}", path.display())),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read the settings in {}", path.display())),
        }
    }
}

/// Whether a file of settings says something that only a region server is told. One that cannot be read says nothing.
pub(crate) fn are_of_a_server(named: Option<&Path>) -> bool {
    let variable = std::env::var_os("INBORN_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    FileSettings::read(named.or(variable.as_deref())).is_ok_and(|file| file.is_of_a_server())
}

impl Settings {
    /// From flags and environment (`up`), then the file, then the defaults.
    pub(crate) fn gather(up: &Up) -> anyhow::Result<Self> {
        let mut file = FileSettings::read(up.config.as_deref())?;
        if file.region_stores.is_some() {
            bail!(
                "region_stores in the settings is for `inborn region`: `inborn up` has a store for each region of its own"
            );
        }
        if file.store.is_some() || file.node.is_some() || file.stale.is_some() || file.advertise.is_some() {
            bail!(
                "store, node, advertise and stale in the settings are for `inborn region`: `inborn up` has a store of its own"
            );
        }
        let mut mistakes = Vec::new();
        let more = More::gather(up, &mut file, &mut mistakes);
        Self::merge_with(up, file, more, mistakes)
    }

    /// As [`Settings::gather`], of a region server over a store.
    pub(crate) fn gather_region(arguments: &ServeRegion) -> anyhow::Result<Self> {
        let file = FileSettings::read(arguments.up.config.as_deref())?;
        Self::merge_region(arguments, file)
    }

    fn merge_region(arguments: &ServeRegion, mut file: FileSettings) -> anyhow::Result<Self> {
        let mut mistakes = Vec::new();
        let store = match arguments.store.clone().or(file.store.take()) {
            Some(text) => text.parse().map_err(|error: &str| mistakes.push(format!("store: {error}"))).ok(),
            None => {
                mistakes.push(
                    "store: none is named: say which with --store, INBORN_STORE or `store` in the settings".to_owned(),
                );
                None
            }
        };
        let name = arguments.node.clone().or(file.node.take()).unwrap_or_else(computer_name);
        if name.is_empty() || name.len() > inborn_store::Beat::NAME_MAX {
            mistakes.push(format!("node: its name has 1 to {} bytes", inborn_store::Beat::NAME_MAX));
        }
        let advertise = arguments.advertise.clone().or(file.advertise.take());
        let advertise = advertise.and_then(|text| keep(&text, "advertise", &mut mistakes));
        let mut more = More::gather(&arguments.up, &mut file, &mut mistakes);
        more.gather_stores(&arguments.region_stores, file.region_stores.take(), &mut mistakes);
        let mut stale = BTreeMap::new();
        let of_flags = arguments.stale.iter().map(|pair| match pair.split_once('=') {
            Some((service, policy)) => (service.to_owned(), policy.to_owned()),
            None => (pair.clone(), String::new()),
        });
        // The flags come last, and win.
        for (service, policy) in file.stale.take().unwrap_or_default().into_iter().chain(of_flags) {
            if !SERVICES.iter().any(|known| known.name == service) {
                mistakes.push(format!("stale `{service}`: there is no such service here"));
            }
            match policy.parse() {
                Ok(policy) => _ = stale.insert(service, policy),
                Err(error) => mistakes.push(format!("stale `{service}`, policy `{policy}`: {error}")),
            }
        }
        if arguments.up.ephemeral || file.ephemeral == Some(true) {
            mistakes
                .push("ephemeral: a region over a store keeps what it is told; `inborn up` can do without".to_owned());
        }
        if !mistakes.is_empty() {
            bail!("{}", mistakes.join("\n"));
        }
        let merged = Self::merge_with(&arguments.up, file, more, Vec::new())?;
        if let Some(mistake) = balancers::check_advertised(&merged.balancers, advertise.as_ref()) {
            bail!("{mistake}");
        }
        let merged = Self { store, advertise, fleet: Some(FleetSettings { name, stale }), ..merged };
        more::check_stores(merged.store.as_ref(), &merged.more)?;
        Ok(merged)
    }

    /// Those of a region that lives as long as its process.
    pub(crate) fn in_memory(region: Option<&str>) -> anyhow::Result<Self> {
        let identity = Choice::named(region)?;
        Ok(Self {
            data: directory::temporary()?,
            ephemeral: true,
            identity,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            tls_port: 0,
            operations_port: 0,
            hosts_port: None,
            balancers: Vec::new(),
            drain: Duration::ZERO,
            ready_file: None,
            rates: Rates::default(),
            metadata: MetadataLimits::DEFAULT,
            key: Key::File,
            epochs: EpochSettings::DEFAULT,
            accept_older_store: false,
            detection: Detection::default(),
            telemetry: TelemetrySettings::default(),
            lake: Some(inborn_lake::Settings::default()),
            telemetry_store: None,
            store: None,
            fleet: None,
            advertise: None,
            more: Vec::new(),
        })
    }

    #[cfg(test)]
    fn merge(up: &Up, mut file: FileSettings) -> anyhow::Result<Self> {
        let mut mistakes = Vec::new();
        let more = More::gather(up, &mut file, &mut mistakes);
        Self::merge_with(up, file, more, mistakes)
    }

    fn merge_with(up: &Up, file: FileSettings, more: More, mut mistakes: Vec<String>) -> anyhow::Result<Self> {
        let text = |flag: &Option<String>, file: Option<String>| flag.clone().or(file);
        let identity = Choice::check(
            text(&up.region, file.region.clone()).as_deref(),
            text(&up.account, file.account.clone()).as_deref(),
            text(&up.partition, file.partition.clone()).as_deref(),
            text(&up.domain, file.domain.clone()).as_deref(),
        );
        let key = Key::choose(up, &file)?;
        let telemetry = telemetry(up, &file);
        let lake = lake(up, &file);
        let is_partition_chosen = up.partition.is_some() || file.partition.is_some();
        let more = match &identity {
            Ok(identity) => more.check(identity, is_partition_chosen, &mut mistakes),
            Err(_) => Vec::new(),
        };
        let telemetry_store = up.telemetry_store.as_ref().or(file.telemetry_store.as_ref());
        let telemetry_store = telemetry_store.filter(|url| !url.is_empty()).and_then(|url| {
            url.parse().map_err(|error: String| mistakes.push(format!("telemetry store: {error}"))).ok()
        });
        if telemetry_store.is_some() && !more.is_empty() {
            mistakes.push(
                "telemetry store: a bucket is one region's: leave it out, or serve the regions by deployments of their own"
                    .to_owned(),
            );
        }
        let balancers = balancers::networks(&up.proxy_protocol_from, file.proxy_protocol_from, &mut mistakes);
        let detection = file.detection.unwrap_or_default().check(&mut mistakes);
        let (identity, telemetry) = match (identity, telemetry) {
            (Ok(identity), Ok(telemetry)) if mistakes.is_empty() => (identity, telemetry),
            (identity, telemetry) => {
                let firsts = identity.err().into_iter().chain(telemetry.err());
                bail!("{}", firsts.chain(mistakes).collect::<Vec<String>>().join("\n"))
            }
        };
        let drain = up.drain.or(file.drain).unwrap_or(0);
        if drain > DRAIN_SECONDS_MAX {
            bail!("drain `{drain}`: at most {DRAIN_SECONDS_MAX} seconds");
        }
        let ephemeral = up.ephemeral || file.ephemeral.unwrap_or(false);
        if ephemeral && telemetry_store.is_some() {
            bail!("a region that keeps nothing has no telemetry store: leave it out, or --ephemeral");
        }
        if ephemeral && key != Key::File {
            bail!("a region that keeps nothing has a key of its own: leave the key command and the key credential out");
        }
        let port = |flag: Option<u16>, file: Option<u16>, default| {
            flag.or(file).unwrap_or(if ephemeral { 0 } else { default })
        };
        let data = match (named(up.data.as_ref()).map(Path::to_owned).or(file.data), ephemeral) {
            (Some(data), _) => data,
            (None, false) => directory::default_path()?,
            (None, true) => directory::temporary()?,
        };
        Ok(Self {
            data,
            ephemeral,
            identity,
            bind: up.bind.or(file.bind).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: port(up.port, file.port, DEFAULT_PORT),
            tls_port: port(up.tls_port, file.tls_port, DEFAULT_TLS_PORT),
            operations_port: port(up.operations_port, file.operations_port, DEFAULT_OPERATIONS_PORT),
            hosts_port: up.hosts_port.or(file.hosts_port),
            balancers,
            drain: Duration::from_secs(u64::from(drain)),
            ready_file: up.ready_file.clone().or(file.ready_file),
            rates: Rates {
                source: rate(up.source_rate.or(file.source_rate), Rate::SOURCE),
                principal: rate(up.principal_rate.or(file.principal_rate), Rate::PRINCIPAL),
            },
            metadata: up.metadata_rate.or(file.metadata_rate).map_or(MetadataLimits::DEFAULT, MetadataLimits::of_rate),
            key,
            accept_older_store: up.accept_older_store,
            epochs: up.epoch_days.or(file.epoch_days).map_or(EpochSettings::DEFAULT, epochs),
            detection,
            telemetry,
            lake,
            telemetry_store,
            store: None,
            fleet: None,
            advertise: None,
            more,
        })
    }
}

/// Where the key comes from that the secrets in the store are sealed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// `epoch.key` in the data directory.
    File,
    /// A credential of the service manager.
    Credential(PathBuf),
    /// What a program prints.
    Command(Vec<String>),
}

impl Key {
    /// Of a flag or variable the words are told apart by spaces; in the file they are a list.
    fn choose(up: &Up, file: &FileSettings) -> anyhow::Result<Self> {
        let words = |text: &String| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let command = up.key_command.as_ref().map(words).or_else(|| file.key_command.clone());
        let credential = up.key_credential.clone().or_else(|| file.key_credential.clone());
        match (command.filter(|argv| !argv.is_empty()), credential.filter(|name| !name.is_empty())) {
            (Some(_), Some(_)) => bail!("the key comes from a command or from a credential: say one of the two"),
            (Some(argv), None) => Ok(Self::Command(argv)),
            (None, Some(name)) => {
                if name.contains('/') || name == ".." || name == "." {
                    bail!("key_credential `{name}`: it is the name of a credential, without a directory");
                }
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
                let directory = directory.with_context(|| {
                    format!(
                        "the key is to be the credential {name}, and there are none: have the unit load it \
                         (LoadCredentialEncrypted={name}:FILE)"
                    )
                })?;
                Ok(Self::Credential(Path::new(&directory).join(name)))
            }
            (None, None) => Ok(Self::File),
        }
    }

    /// What a region opens its secrets with; `state` is its data directory.
    pub(crate) fn source(&self, state: &Path, file: PathBuf, is_ephemeral: bool) -> KeySource {
        let state = state.to_owned();
        match self {
            _ if is_ephemeral => KeySource::Ephemeral,
            Self::File => KeySource::File(file),
            Self::Credential(path) => KeySource::Credential { path: path.clone(), state },
            Self::Command(argv) => KeySource::Command { argv: argv.clone(), state },
        }
    }
}

/// How epochs follow each other; 0: only when an operator says so.
fn epochs(days: u32) -> EpochSettings {
    EpochSettings { rotate_after_seconds: (days > 0).then(|| u64::from(days) * 24 * 3600) }
}

/// What the kernel calls this computer.
pub(crate) fn computer_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What is taken of telemetry.
fn telemetry(up: &Up, file: &FileSettings) -> Result<TelemetrySettings, String> {
    let default = TelemetrySettings::default();
    let mut mistakes = Vec::new();
    let named = if up.telemetry_accounts.is_empty() { file.telemetry_accounts.as_deref() } else { None };
    let named = named.unwrap_or(&up.telemetry_accounts);
    let accounts = named.iter().filter_map(|text| keep(text, "telemetry account", &mut mistakes)).collect();
    let name = up.telemetry_signing_name.as_ref().or(file.telemetry_signing_name.as_ref());
    let signing_name = name.cloned().unwrap_or(default.signing_name);
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=SIGNING_NAME_LENGTH_MAX).contains(&signing_name.len()) || !signing_name.bytes().all(is_name) {
        mistakes.push(format!("telemetry signing name `{signing_name}`: not a name of a service, as in guardduty"));
    }
    let quota = up.telemetry_rate.or(file.telemetry_rate).unwrap_or(default.quota);
    let is_audited = up.telemetry_audit || file.telemetry_audit.unwrap_or(false);
    let management_role = up.telemetry_management_role || file.telemetry_management_role.unwrap_or(false);
    let foreign = match up.telemetry_foreign_host.as_ref().or(file.telemetry_foreign_host.as_ref()).map(String::as_str)
    {
        None => default.foreign,
        Some("accept") => Foreign::Accept,
        Some("reject") => Foreign::Reject,
        Some(other) => {
            mistakes.push(format!("telemetry foreign host `{other}`: neither accept nor reject"));
            default.foreign
        }
    };
    let settings = TelemetrySettings { signing_name, accounts, quota, foreign, management_role, is_audited };
    if mistakes.is_empty() { Ok(settings) } else { Err(mistakes.join("\n")) }
}

/// How telemetry is kept.
fn lake(up: &Up, file: &FileSettings) -> Option<inborn_lake::Settings> {
    let default = inborn_lake::Settings::default();
    let days = up.telemetry_days.or(file.telemetry_days);
    let gib = up.telemetry_gib.or(file.telemetry_gib);
    let local = up.telemetry_local_gib.or(file.telemetry_local_gib);
    (days != Some(0)).then_some(inborn_lake::Settings {
        retention_seconds: days.map_or(default.retention_seconds, |days| u64::from(days) * 24 * 3600),
        parquet_bytes_max: gib.map_or(default.parquet_bytes_max, |gib| u64::from(gib) << 30),
        local_bytes_max: local.map_or(default.local_bytes_max, |gib| u64::from(gib) << 30),
        ..default
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    pub(in crate::settings) fn up(arguments: &[&str]) -> Up {
        let all = ["inborn", "up"].iter().chain(arguments);
        match Arguments::try_parse_from(all).unwrap().command {
            Command::Up(up) => up,
            _ => panic!(),
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = r#"region = "cn-north-1"
port = 1
data = "/file""#;
        let settings = Settings::merge(&up(&["--port", "2"]), toml::from_str(file).unwrap()).unwrap();
        assert_eq!((settings.port, settings.tls_port), (2, DEFAULT_TLS_PORT));
        assert_eq!(settings.data, Path::new("/file"));
        assert_eq!(settings.identity.partition, Partition::AwsCn);
        assert_eq!(settings.identity.domain, "amazonaws.com.cn");
    }

    #[test]
    fn the_key_comes_from_one_place() {
        let key = |arguments: &[&str], file: &str| {
            Settings::merge(&up(arguments), toml::from_str(file).unwrap()).map(|settings| settings.key)
        };
        let command = |words: &[&str]| Key::Command(words.iter().map(|&word| word.to_owned()).collect());
        assert_eq!(key(&[], "").unwrap(), Key::File);
        assert_eq!(key(&["--key-command", "age -d  key"], "").unwrap(), command(&["age", "-d", "key"]));
        assert_eq!(key(&[], r#"key_command = ["a b", "c"]"#).unwrap(), command(&["a b", "c"]));
        assert_eq!(key(&["--key-command", "x"], r#"key_command = ["a b", "c"]"#).unwrap(), command(&["x"]));
        let both = "key_credential = \"name\"\nkey_command = [\"a\"]";
        for (arguments, file) in
            [(&[][..], both), (&["--key-credential", "../name"], ""), (&["--ephemeral", "--key-command", "x"], "")]
        {
            assert!(key(arguments, file).is_err(), "{arguments:?} {file}");
        }
    }

    #[test]
    fn epochs_are_replaced_by_age_or_not_at_all() {
        for (days, expected) in [("0", None), ("1", Some(86_400)), ("90", Some(7_776_000))] {
            let settings = Settings::merge(&up(&["--epoch-days", days]), toml::from_str("").unwrap()).unwrap();
            assert_eq!(settings.epochs.rotate_after_seconds, expected, "{days}");
        }
    }

    pub(in crate::settings) fn serve(arguments: &[&str]) -> ServeRegion {
        let all = ["inborn", "region", "--data", "/d"].iter().chain(arguments);
        match Arguments::try_parse_from(all).unwrap().command {
            Command::Region(region) => *region,
            _ => panic!(),
        }
    }

    #[test]
    fn a_region_is_told_of_its_store_and_its_policies() {
        let file = "store = \"sqlite:/file.db\"\nnode = \"a\"\n[stale]\nsts = \"refuse-all\"\nec2 = \"serve\"";
        let merge = |arguments: &[&str]| Settings::merge_region(&serve(arguments), toml::from_str(file).unwrap());
        let settings = merge(&["--stale", "ec2=refuse-all,ssm=serve"]).unwrap();
        assert_eq!(settings.store, Some(StoreUrl::Sqlite("/file.db".into())));
        let fleet = settings.fleet.unwrap();
        let policies: Vec<_> = fleet.stale.iter().map(|(name, policy)| (name.as_str(), *policy)).collect();
        use inborn_region::StalePolicy::{RefuseAll, Serve};
        assert_eq!(
            (fleet.name.as_str(), policies),
            ("a", vec![("ec2", RefuseAll), ("ssm", Serve), ("sts", RefuseAll)])
        );
        let settings = merge(&["--store", "postgres://u:secret@db/d", "--node", "b"]).unwrap();
        assert!(matches!(settings.store, Some(StoreUrl::Postgres(_))));
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn all_mistakes_about_a_store_are_told_at_once() {
        let arguments = serve(&[
            "--store",
            "mysql://u:secret@db",
            "--node",
            "",
            "--advertise",
            "x y",
            "--stale",
            "s3=serve,ec2",
            "--ephemeral",
        ]);
        let text = Settings::merge_region(&arguments, FileSettings::default()).unwrap_err().to_string();
        for word in ["store:", "node:", "advertise `x y`", "stale `s3`", "stale `ec2`", "ephemeral:"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert!(!text.contains("secret"));
        let text = Settings::merge_region(&serve(&[]), FileSettings::default()).unwrap_err().to_string();
        assert!(text.contains("INBORN_STORE"), "{text}");
        for (length, is_good) in [(254, true), (255, true), (256, false)] {
            let arguments = serve(&["--store", "sqlite:/x", "--node", &"n".repeat(length)]);
            assert_eq!(Settings::merge_region(&arguments, FileSettings::default()).is_ok(), is_good, "{length}");
        }
    }

    #[test]
    fn who_may_tell_what_of_whom_is_as_narrow_as_it_is_asked_for() {
        let telemetry = |arguments: &[&str], file: &str| {
            Settings::merge(&up(arguments), toml::from_str(file).unwrap()).map(|settings| settings.telemetry)
        };
        let default = telemetry(&[], "").unwrap();
        assert_eq!((default.foreign, default.management_role), (Foreign::Accept, false));
        let file = "telemetry_foreign_host = \"reject\"\ntelemetry_management_role = true";
        let set = telemetry(&[], file).unwrap();
        assert_eq!((set.foreign, set.management_role), (Foreign::Reject, true));
        assert_eq!(telemetry(&["--telemetry-foreign-host", "accept"], file).unwrap().foreign, Foreign::Accept);
        assert!(telemetry(&["--telemetry-management-role"], "").unwrap().management_role);
        let mistake = telemetry(&["--telemetry-foreign-host", "Reject"], "").unwrap_err().to_string();
        assert_eq!(mistake, "telemetry foreign host `Reject`: neither accept nor reject");
    }

    #[test]
    fn a_telemetry_store_that_is_none_is_a_mistake_and_one_that_keeps_nothing_has_none() {
        let settings = |arguments: &[&str], file: &str| {
            Settings::merge(&up(arguments), toml::from_str(file).unwrap()).map_err(|error| error.to_string())
        };
        let mistake = settings(&["--telemetry-store", "s4://SECRET"], "").unwrap_err();
        assert!(mistake.starts_with("telemetry store: ") && !mistake.contains("SECRET"), "{mistake}");
        let file = "telemetry_store = \"s3://bucket/p?region=eu-west-1\"\ntelemetry_local_gib = 3";
        let found = settings(&[], file);
        if cfg!(feature = "s3") {
            let found = found.unwrap();
            assert_eq!(format!("{:?}", found.telemetry_store), "Some(s3://bucket/p)");
            assert_eq!(found.lake.unwrap().local_bytes_max, 3 << 30);
            let mistake = settings(&["--ephemeral"], file).unwrap_err();
            assert!(mistake.contains("--ephemeral"), "{mistake}");
        } else {
            assert!(found.unwrap_err().contains("feature `s3`"));
        }
        assert_eq!(settings(&["--telemetry-store", ""], file).unwrap().telemetry_store, None, "a flag takes it away");
    }

    #[test]
    fn telemetry_is_kept_unless_it_is_for_no_day() {
        let file = r#"telemetry_accounts = ["111122223333"]
telemetry_days = 7
telemetry_rate = 5"#;
        let settings = Settings::merge(&up(&["--telemetry-rate", "6"]), toml::from_str(file).unwrap()).unwrap();
        assert_eq!(settings.telemetry.quota, 6);
        assert_eq!(settings.telemetry.accounts, ["111122223333".parse().unwrap()]);
        assert_eq!(settings.lake.unwrap().retention_seconds, 7 * 24 * 3600);
        let settings = Settings::merge(&up(&["--telemetry-days", "0"]), toml::from_str(file).unwrap()).unwrap();
        assert_eq!(settings.lake, None);
        let arguments = up(&["--telemetry-accounts", "1,111122223333", "--telemetry-signing-name", "Guard Duty"]);
        let text = Settings::merge(&arguments, FileSettings::default()).unwrap_err().to_string();
        assert!(text.contains("telemetry account `1`:") && text.contains("`Guard Duty`:"), "{text}");
    }

    #[test]
    fn an_ephemeral_region_takes_any_free_ports() {
        let settings =
            Settings::merge(&up(&["--ephemeral", "--data", "/d", "--port", "7"]), FileSettings::default()).unwrap();
        assert_eq!((settings.port, settings.tls_port, settings.operations_port), (7, 0, 0));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let arguments = up(&["--region", "US", "--account", "1", "--partition", "mars", "--domain", "x"]);
        let text = Settings::merge(&arguments, FileSettings::default()).unwrap_err().to_string();
        for word in ["region `US`:", "account `1`:", "partition `mars`:", "domain `x`:"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn a_drain_below_at_and_above_the_longest() {
        let ask = |seconds: &str| Settings::merge(&up(&["--data", "/d", "--drain", seconds]), FileSettings::default());
        assert_eq!(ask("299").unwrap().drain, Duration::from_secs(299));
        assert_eq!(ask("300").unwrap().drain, Duration::from_secs(u64::from(DRAIN_SECONDS_MAX)));
        assert!(ask("301").unwrap_err().to_string().contains("at most 300 seconds"));
        let file = toml::from_str("data = \"/d\"\ndrain = 7").unwrap();
        assert_eq!(Settings::merge(&up(&[]), file).unwrap().drain, Duration::from_secs(7));
    }

    #[test]
    fn a_region_in_memory_may_be_named() {
        assert_eq!(Choice::named(None).unwrap().region.to_string(), DEFAULT_REGION);
        let china = Choice::named(Some("cn-north-1")).unwrap();
        assert_eq!((china.partition, china.domain.as_str()), (Partition::AwsCn, "amazonaws.com.cn"));
        assert!(Settings::in_memory(Some("U S")).unwrap_err().to_string().contains("region `U S`:"));
    }

    #[test]
    fn a_wrong_line_of_the_file_is_shown() {
        let error = toml::from_str::<FileSettings>("port = 1\nprot = 2\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("prot"), "{error}");
    }

    #[test]
    fn domains() {
        for (text, is_valid) in [
            ("amazonaws.com", true),
            ("lab.internal", true),
            ("com", false),
            ("A.com", false),
            ("-a.com", false),
            ("a..b", false),
            ("", false),
        ] {
            assert_eq!(is_domain(text), is_valid, "{text}");
        }
        let at = format!("{}.com", vec!["abc"; 29].join("."));
        assert_eq!(at.len(), DOMAIN_LENGTH_MAX - 1);
        assert!(is_domain(&format!("x{at}")) && !is_domain(&format!("xx{at}")));
    }
}

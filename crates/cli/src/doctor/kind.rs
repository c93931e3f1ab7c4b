//! Whose directory it is, and with which settings it is served: as the units of the packages do it, unless somebody says otherwise.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{CommandFactory, Parser};
use zeroize::Zeroizing;

use super::Finding;
use crate::arguments::{Arguments, Command, Doctor};
use crate::directory::Ready;
use crate::host_agent::HostIdentity;
use crate::serving::{AUDIT_DIRECTORY, DATABASE, KEY_FILE};
use crate::settings::{self, Settings};

/// A unit of the packages that names files of its own: its data directory, its settings, its variables. Source: `contrib/systemd`.
const UNITS: [(&str, &str, &str); 1] =
    [("/var/lib/inborn-region", "/etc/inborn/region.toml", "/etc/inborn/region.env")];
/// Bytes of a file of variables: what is longer is none.
const VARIABLES_BYTES_MAX: u64 = 64 * 1024;

/// Who serves from a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A region and the host of this computer.
    Up,
    /// A region server over a store.
    Region,
    /// A host apart from its region.
    Host,
}

impl Kind {
    /// The command that serves.
    pub(super) const fn command(self) -> &'static str {
        match self {
            Self::Up => "inborn up",
            Self::Region => "inborn region",
            Self::Host => "inborn host",
        }
    }

    /// The unit of the packages.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Up => "inborn",
            Self::Region => "inborn-region",
            Self::Host => "inborn-host",
        }
    }
}

/// What was said of the settings, by whom it was said.
pub(super) struct Said {
    config: Option<PathBuf>,
    /// Of the file of variables.
    variables: Vec<(String, Zeroizing<String>)>,
    store: Option<Zeroizing<String>>,
}

impl Said {
    /// By flags, else by this environment, else as the unit does whose directory it is. What could not be read is told.
    pub(super) fn gather(arguments: &Doctor, data: &Path) -> (Self, Option<Finding>) {
        let unit = UNITS.iter().find(|(directory, ..)| Path::new(directory) == data);
        let is_there = |path: &&str| Path::new(path).exists();
        let of_unit = |path: &'static str| Some(path).filter(is_there).map(PathBuf::from);
        let config = arguments.config.clone().or_else(|| of_unit(unit?.1));
        let file = arguments.env_file.clone().or_else(|| of_unit(unit?.2));
        let (variables, trouble) = match file.as_deref().map(read_variables) {
            None => (Vec::new(), None),
            Some(Ok(variables)) => (variables, None),
            Some(Err(error)) => {
                let next = "run this as root, or with the variables that are in it";
                (Vec::new(), Some(Finding::problem("variables", format!("{error:#}"), next)))
            }
        };
        (Self { config, variables, store: arguments.store.clone().map(Zeroizing::new) }, trouble)
    }

    /// Whether a store was named beside the settings.
    fn names_a_store(&self) -> bool {
        self.store.is_some() || self.variables.iter().any(|(name, value)| name == "INBORN_STORE" && !value.is_empty())
    }

    /// The settings of who serves from `data`.
    pub(super) fn settings(&self, kind: Kind, data: &Path) -> anyhow::Result<Settings> {
        let name = if kind == Kind::Region { "region" } else { "up" };
        let mut words: Vec<OsString> = vec!["inborn".into(), name.into(), "--data".into(), data.into()];
        if let Some(config) = &self.config {
            words.extend(["--config".into(), config.into()]);
        }
        words.extend(flags(name, &self.variables, |name| std::env::var_os(name).is_some()));
        if let Some(store) = self.store.as_ref().filter(|_| kind == Kind::Region) {
            words.push(format!("--store={}", **store).into());
        }
        match Arguments::try_parse_from(words)?.command {
            Command::Up(up) => Settings::gather(&up),
            Command::Region(region) => Settings::gather_region(&region),
            _ => anyhow::bail!("the settings cannot be read"),
        }
    }
}

/// Whose directory it is. What runs there says it; else the files do, and the settings.
pub(super) fn recognise(data: &Path, running: Option<&Ready>, said: &Said) -> Kind {
    if HostIdentity::is_in(data) {
        return Kind::Host;
    }
    if running.is_some_and(|ready| ready.node.is_some()) || settings::are_of_a_server(said.config.as_deref()) {
        return Kind::Region;
    }
    let is_there = |name: &str| data.join(name).exists();
    let is_a_units = UNITS.iter().any(|(directory, ..)| Path::new(directory) == data);
    // A server has its store elsewhere, most of the time.
    let has_no_store = !is_there(DATABASE) && (is_there(KEY_FILE) || is_there(AUDIT_DIRECTORY));
    if running.is_none() && (said.names_a_store() || is_a_units || has_no_store) { Kind::Region } else { Kind::Up }
}

/// The variables of a file as systemd reads it (`EnvironmentFile=`), but for lines that go on in the next one.
fn read_variables(path: &Path) -> anyhow::Result<Vec<(String, Zeroizing<String>)>> {
    let told = || format!("cannot read the variables in {}", path.display());
    let length = std::fs::metadata(path).with_context(told)?.len();
    if length > VARIABLES_BYTES_MAX {
        anyhow::bail!("{} is longer than any file of variables", path.display());
    }
    match std::fs::read_to_string(path).map(Zeroizing::new) {
        Ok(text) => Ok(text.lines().filter_map(variable).collect()),
        Err(error) if error.kind() == ErrorKind::InvalidData => anyhow::bail!("{} is no text", path.display()),
        Err(error) => Err(error).with_context(told),
    }
}

fn variable(line: &str) -> Option<(String, Zeroizing<String>)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let value = value.trim();
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    let value = match (inner('\''), inner('"')) {
        (Some(inner), _) => inner.to_owned(),
        (None, Some(inner)) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        (None, None) => value.to_owned(),
    };
    Some((name.trim().to_owned(), Zeroizing::new(value)))
}

/// Variables as flags of a command, but for those that are `set` in the environment, which the command reads itself.
fn flags(command: &str, variables: &[(String, Zeroizing<String>)], set: impl Fn(&str) -> bool) -> Vec<OsString> {
    let all = Arguments::command();
    let Some(command) = all.find_subcommand(command) else { return Vec::new() };
    let mut words = Vec::new();
    for argument in command.get_arguments().filter(|argument| argument.get_id() != "data") {
        let names = argument.get_env().and_then(|name| name.to_str()).zip(argument.get_long());
        let Some((variable, flag)) = names.filter(|(variable, _)| !set(variable)) else { continue };
        // The last one counts.
        let value = variables.iter().rev().find(|(name, _)| name == variable).map(|(_, value)| value);
        match value {
            Some(value) if argument.get_action().takes_values() => words.push(format!("--{flag}={}", **value).into()),
            Some(value) if is_true(value) => words.push(format!("--{flag}").into()),
            _ => {}
        }
    }
    words
}

/// As clap reads the variable of a flag without a value.
fn is_true(text: &str) -> bool {
    !["", "0", "n", "no", "f", "false", "off"].contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variables: &[(&str, &str)]) -> Said {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned()))).collect();
        Said { config: None, variables, store: None }
    }

    #[test]
    fn variables_as_systemd_reads_them() {
        for (line, expected) in [
            ("INBORN_STORE=sqlite:/a b", Some(("INBORN_STORE", "sqlite:/a b"))),
            ("  INBORN_NODE = a ", Some(("INBORN_NODE", "a"))),
            ("A=\"b \\\"c\\\" \\\\\"", Some(("A", "b \"c\" \\"))),
            ("A='b \"c'", Some(("A", "b \"c"))),
            ("A=", Some(("A", ""))),
            ("A=\"", Some(("A", "\""))),
            ("# A=b", None),
            ("; A=b", None),
            ("", None),
            ("export", None),
        ] {
            let found = variable(line);
            assert_eq!(found.as_ref().map(|(name, value)| (name.as_str(), value.as_str())), expected, "{line}");
        }
    }

    #[test]
    fn variables_are_flags_unless_the_environment_says_otherwise() {
        let variables = said(&[
            ("INBORN_NODE", "a"),
            ("INBORN_NODE", "b"),
            ("INBORN_DATA", "/elsewhere"),
            ("INBORN_TELEMETRY_AUDIT", "1"),
            ("INBORN_EPHEMERAL", "false"),
            ("INBORN_STALE", "sts=serve"),
            ("PATH", "/bin"),
        ])
        .variables;
        let mut words = flags("region", &variables, |name| name == "INBORN_STALE");
        words.sort();
        assert_eq!(words, ["--node=b", "--telemetry-audit"].map(OsString::from));
        assert!(flags("none", &variables, |_| false).is_empty());
    }

    #[test]
    fn a_directory_is_recognised_by_what_is_in_it_and_by_the_settings() {
        let base = tempfile::tempdir().unwrap();
        let data = base.path();
        let kind = |said: &Said| recognise(data, None, said);
        assert_eq!(kind(&said(&[])), Kind::Up, "there is nothing yet");
        assert_eq!(kind(&said(&[("INBORN_STORE", "postgres://h/d")])), Kind::Region);
        assert_eq!(kind(&said(&[("INBORN_STORE", "")])), Kind::Up);
        std::fs::write(data.join(KEY_FILE), "").unwrap();
        assert_eq!(kind(&said(&[])), Kind::Region, "a copied key, and no store");
        std::fs::write(data.join(DATABASE), "").unwrap();
        assert_eq!(kind(&said(&[])), Kind::Up);
        let config = base.path().join("region.toml");
        std::fs::write(&config, "node = \"a\"\n").unwrap();
        assert_eq!(kind(&Said { config: Some(config), ..said(&[]) }), Kind::Region);
        std::fs::write(data.join("host.json"), "").unwrap();
        assert_eq!(kind(&said(&[("INBORN_STORE", "postgres://h/d")])), Kind::Host);
    }

    #[test]
    fn a_servers_settings_come_from_its_units_files_too() {
        let base = tempfile::tempdir().unwrap();
        let config = base.path().join("region.toml");
        std::fs::write(&config, "node = \"a\"\n[stale]\nsts = \"serve\"\n").unwrap();
        let variables = said(&[("INBORN_STORE", "postgres://u:secret@h/d")]);
        let said = Said { config: Some(config), ..variables };
        let settings = said.settings(Kind::Region, base.path()).unwrap();
        assert_eq!(settings.fleet.as_ref().unwrap().name, "a");
        assert!(settings.store.is_some() && !format!("{settings:?}").contains("secret"));
        let by_flag = Said { store: Some(Zeroizing::new("sqlite:/b.db".to_owned())), ..said };
        let settings = by_flag.settings(Kind::Region, base.path()).unwrap();
        assert_eq!(settings.store, Some(crate::store_url::StoreUrl::Sqlite("/b.db".into())));
        let error = by_flag.settings(Kind::Up, base.path()).unwrap_err().to_string();
        assert!(error.contains("inborn region"), "{error}");
    }
}

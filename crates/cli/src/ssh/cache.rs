//! What was learned of host keys: for the next seconds, so that ssh's second question costs nothing, and for the time when
//! the region cannot be reached.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use inborn_identity::UnixTime;

use crate::directory;

/// For so long nobody is asked again: as long as it takes to make a connection.
pub(super) const FRESH_SECONDS: u64 = 10;
/// For so long it counts while nobody can be asked. Longer, and a machine that is gone could be played by another.
pub(super) const AWAY_SECONDS_MAX: u64 = 24 * 3600;
const HEADING: &str = "inborn known hosts 1";

/// One file for each machine, by the name that it was asked for.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    /// Which region is meant: a name may be another machine's in another.
    region: String,
}

/// The keys of a machine, and how old that knowledge is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) age: u64,
    pub(super) lines: Vec<String>,
}

impl Cache {
    /// The cache of this user: `$XDG_CACHE_HOME/inborn/known-hosts`, else below `~/.cache`. Whoever can write there can
    /// name host keys, so the directory is nobody else's.
    pub(super) fn of_user(data: Option<&Path>) -> anyhow::Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        let base = base.context("there is no home directory to keep host keys in: set HOME or XDG_CACHE_HOME")?;
        Self::at(base.join("inborn/known-hosts"), data)
    }

    fn at(directory: PathBuf, data: Option<&Path>) -> anyhow::Result<Self> {
        directory::make_private(&directory)?;
        if !directory::is_own(&directory) {
            bail!("{} belongs to another user, or others may write there: remove it", directory.display());
        }
        Ok(Self { directory, region: data.map(|data| data.display().to_string()).unwrap_or_default() })
    }

    pub(super) fn read(&self, host: &str, now: UnixTime) -> Option<Learned> {
        let text = std::fs::read_to_string(self.directory.join(host)).ok()?;
        let mut lines = text.lines();
        let rest = lines.next()?.strip_prefix(HEADING)?.strip_prefix(' ')?;
        let (time, region) = rest.split_once(' ')?;
        let learned = UnixTime::from_secs(time.parse().ok()?);
        // What was learned in the future was learned by another clock.
        if region != self.region || learned > now {
            return None;
        }
        Some(Learned { age: now.since(learned), lines: lines.map(str::to_owned).collect() })
    }

    pub(super) fn write(&self, host: &str, lines: &[String], now: UnixTime) -> anyhow::Result<()> {
        let text = format!("{HEADING} {} {}\n{}\n", now.as_secs(), self.region, lines.join("\n"));
        directory::replace_private(&self.directory.join(host), text.as_bytes())
    }

    pub(super) fn forget(&self, host: &str) {
        let _ = std::fs::remove_file(self.directory.join(host));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_is_found_with_its_age() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::at(place.path().join("x/known-hosts"), None).unwrap();
        let at = UnixTime::from_secs(1_800_000_000);
        assert_eq!(cache.read("i-1", at), None);
        cache.write("i-1", &["ssh-rsa A".into(), "ssh-rsa B".into()], at).unwrap();
        let learned = cache.read("i-1", at.plus(7)).unwrap();
        assert_eq!(learned, Learned { age: 7, lines: vec!["ssh-rsa A".into(), "ssh-rsa B".into()] });
        assert_eq!(cache.read("i-1", at.minus(1)), None);
        let other = Cache::at(place.path().join("x/known-hosts"), Some(Path::new("/other"))).unwrap();
        assert_eq!(other.read("i-1", at), None);
        cache.forget("i-1");
        assert_eq!(cache.read("i-1", at), None);
        std::fs::write(place.path().join("x/known-hosts/i-2"), "ssh-rsa A\n").unwrap();
        assert_eq!(cache.read("i-2", at), None);
    }

    #[test]
    fn a_directory_where_others_may_write_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("known-hosts");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::at(directory, None).is_err());
    }
}

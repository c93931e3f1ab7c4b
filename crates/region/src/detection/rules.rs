//! Reading rules, and reading them again when their files change.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use inborn_detect::sigma::{FILE_BYTES_MAX, SigmaRules};
use inborn_detect::{RuleFile, Rules as _, own_rules};

use tokio::sync::watch;

use super::DetectionMetrics;
use crate::RegionServer;

/// How often it is looked whether files have changed.
const LOOK: Duration = Duration::from_secs(5);
/// The most files of rules.
const FILES_MAX: usize = 5000;
/// How deep directories are looked into.
const DEPTH_MAX: usize = 8;
/// The most bytes of all files together.
const TOTAL_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The most mistakes in rules that are said one by one.
const SAID_MAX: usize = 100;

/// What tells that files are others: names, sizes, and when they were changed.
type Print = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// Reads the rules that an operator has chosen.
#[derive(Clone)]
pub(super) struct Reader {
    own_rules: bool,
    directory: Option<PathBuf>,
    disabled: BTreeSet<String>,
    /// `None`: the directory could not be read.
    seen: Option<Print>,
}

impl Reader {
    pub(super) fn new(own_rules: bool, directory: Option<PathBuf>, disabled: BTreeSet<String>) -> Self {
        Self { own_rules, directory, disabled, seen: Some(Print::new()) }
    }

    /// Reads all of them that can be read, and says what is wrong with which.
    pub(super) fn read(&mut self, metrics: &DetectionMetrics) -> SigmaRules {
        let (print, outcome) = self.look();
        self.seen = outcome.map_err(|error| self.say(&error)).is_ok().then(|| print.clone());
        self.read_files(&print, metrics)
    }

    /// Reads them while others are in use: all of them, or `None` where the directory cannot be read. Those in use stay then.
    fn read_again(&mut self, metrics: &DetectionMetrics) -> Option<SigmaRules> {
        match self.look() {
            (print, Ok(())) => {
                let rules = self.read_files(&print, metrics);
                self.seen = Some(print);
                Some(rules)
            }
            (_, Err(error)) => {
                self.say(&error);
                tracing::error!("the rules that are in use stay until it can be read");
                self.seen = None;
                None
            }
        }
    }

    fn say(&self, error: &io::Error) {
        let directory = self.directory.as_deref().unwrap_or(Path::new(""));
        tracing::error!("the directory of rules cannot be read: {}: {error}", directory.display());
    }

    fn look(&self) -> (Print, io::Result<()>) {
        self.directory.as_deref().map_or((Print::new(), Ok(())), print_of)
    }

    fn read_files(&self, print: &Print, metrics: &DetectionMetrics) -> SigmaRules {
        let mut files = if self.own_rules { own_rules() } else { Vec::new() };
        let mut unread = 0;
        let mut left = TOTAL_BYTES_MAX;
        for (path, bytes, _) in print {
            match text(path, *bytes, &mut left) {
                Ok(text) => files.push(RuleFile { name: path.display().to_string().into(), text }),
                Err(error) => {
                    tracing::error!("a file of rules cannot be read: {}: {error}", path.display());
                    unread += 1;
                }
            }
        }
        let loaded = SigmaRules::read(&files, &self.disabled);
        for error in loaded.errors.iter().take(SAID_MAX) {
            tracing::error!("a rule cannot be used: {error}");
        }
        let (rules, errors) = (loaded.rules.len(), loaded.errors.len() + unread);
        if loaded.errors.len() > SAID_MAX {
            tracing::error!(errors, "more rules cannot be used than are said here");
        }
        tracing::info!(
            rules,
            errors,
            about_nothing_here = loaded.unreachable,
            disabled = loaded.disabled,
            "rules are in use"
        );
        metrics.rules.set(i64::try_from(rules).unwrap_or(i64::MAX));
        metrics.rule_errors.set(i64::try_from(errors).unwrap_or(i64::MAX));
        loaded.rules
    }

    /// Whether the files are others than when they were read. A directory that cannot be read is so once.
    fn has_changed(&self) -> bool {
        let (print, outcome) = self.look();
        outcome.is_ok().then_some(print) != self.seen
    }
}

/// Reads the rules again whenever their files have changed, or others are chosen, until the region is gone.
pub(super) async fn watch(mut reader: Reader, mut chosen: watch::Receiver<Option<Reader>>, region: Weak<RegionServer>) {
    loop {
        let is_other = match tokio::time::timeout(LOOK, chosen.changed()).await {
            Ok(Ok(())) => chosen.borrow_and_update().clone(),
            // Nobody chooses any more: the region is gone.
            Ok(Err(_)) => return,
            Err(_) => None,
        };
        let is_chosen = is_other.is_some();
        reader = is_other.unwrap_or(reader);
        let Some(region) = region.upgrade() else { return };
        let metrics = Arc::clone(&region.detection.metrics);
        let looked = tokio::task::spawn_blocking(move || {
            let rules = (is_chosen || reader.has_changed()).then(|| reader.read_again(&metrics)).flatten();
            (reader, rules)
        });
        let Ok((back, rules)) = looked.await else { return };
        reader = back;
        if let (Some(rules), Some(running)) = (rules, region.detection.running.get()) {
            running.shared.rules.store(Arc::new(rules));
        }
    }
}

fn text(path: &Path, bytes: u64, left: &mut u64) -> Result<String, String> {
    if bytes > FILE_BYTES_MAX as u64 {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    *left =
        left.checked_sub(bytes).ok_or_else(|| format!("all files together are longer than {TOTAL_BYTES_MAX} bytes"))?;
    let text = fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())
}

/// The files of rules below a directory, in order of their names, and whether they are all.
fn print_of(directory: &Path) -> (Print, io::Result<()>) {
    let mut found = Print::new();
    let outcome = look_into(directory, DEPTH_MAX, &mut found);
    found.sort();
    (found, outcome)
}

fn look_into(directory: &Path, depth: usize, found: &mut Print) -> io::Result<()> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // Hidden: `.git`, and where the mounts of Kubernetes keep their files a second time.
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        let Ok(facts) = fs::metadata(&path) else { continue };
        let is_rule = path.extension().is_some_and(|end| end == "yml" || end == "yaml");
        if facts.is_dir() {
            look_into(&path, depth, found)?;
        } else if facts.is_file() && is_rule {
            if found.len() >= FILES_MAX {
                return Err(io::Error::other(format!("there are more than {FILES_MAX} files")));
            }
            found.push((path, facts.len(), facts.modified().ok()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{FILES_MAX, Reader, print_of};
    use crate::detection::DetectionMetrics;
    use inborn_detect::Rules as _;
    use std::collections::BTreeSet;
    use std::fs;

    fn rule(id: &str) -> String {
        format!(
            "title: R\nid: {id}\nlogsource:\n  category: process_creation\ndetection:\n  s:\n    Image: /x\n  condition: s\n"
        )
    }

    #[test]
    fn files_are_read_again_when_they_change_and_a_wrong_one_stops_no_other() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("linux")).unwrap();
        fs::create_dir(directory.path().join(".git")).unwrap();
        fs::write(directory.path().join("linux/a.yml"), rule("a")).unwrap();
        fs::write(directory.path().join("b.yaml"), "title: [").unwrap();
        fs::write(directory.path().join(".git/c.yml"), rule("c")).unwrap();
        fs::write(directory.path().join("d.txt"), rule("d")).unwrap();
        let mut reader = Reader::new(false, Some(directory.path().to_owned()), BTreeSet::new());
        let metrics = DetectionMetrics::default();
        assert_eq!(reader.read(&metrics).len(), 1);
        assert_eq!((metrics.rules.get(), metrics.rule_errors.get()), (1, 1));
        assert!(!reader.has_changed());
        fs::write(directory.path().join("b.yaml"), rule("b")).unwrap();
        assert!(reader.has_changed());
        assert_eq!(reader.read(&metrics).len(), 2);
        assert_eq!((metrics.rules.get(), metrics.rule_errors.get()), (2, 0));
        fs::remove_file(directory.path().join("b.yaml")).unwrap();
        assert!(reader.has_changed());
    }

    #[test]
    fn a_directory_that_is_not_there_leaves_the_own_rules() {
        let directory = tempfile::tempdir().unwrap();
        let mut reader = Reader::new(true, Some(directory.path().join("none")), BTreeSet::new());
        assert!(reader.read(&DetectionMetrics::default()).len() > 12);
    }

    #[test]
    fn rules_in_use_stay_while_their_directory_cannot_be_read() {
        let base = tempfile::tempdir().unwrap();
        let [directory, away] = ["rules", "away"].map(|name| base.path().join(name));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("a.yml"), rule("a")).unwrap();
        let metrics = DetectionMetrics::default();
        let mut reader = Reader::new(false, Some(directory.clone()), BTreeSet::new());
        assert_eq!(reader.read(&metrics).len(), 1);
        fs::rename(&directory, &away).unwrap();
        assert!(reader.has_changed() && reader.read_again(&metrics).is_none());
        assert_eq!(metrics.rules.get(), 1);
        assert!(!reader.has_changed(), "said once");
        fs::rename(&away, &directory).unwrap();
        assert!(reader.has_changed(), "the same files, and yet they were not read since");
        assert_eq!(reader.read_again(&metrics).unwrap().len(), 1);
        // One that was mistyped, and then is there.
        let mut mistyped = Reader::new(false, Some(away.clone()), BTreeSet::new());
        assert!(mistyped.read_again(&metrics).is_none() && !mistyped.has_changed());
        fs::create_dir(&away).unwrap();
        assert!(mistyped.has_changed() && mistyped.read_again(&metrics).unwrap().is_empty());
    }

    #[test]
    fn files_below_at_and_above_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..FILES_MAX - 1 {
            fs::write(directory.path().join(format!("{number}.yml")), "").unwrap();
        }
        let found = || {
            let (print, outcome) = print_of(directory.path());
            (print.len(), outcome.is_ok())
        };
        assert_eq!(found(), (FILES_MAX - 1, true));
        fs::write(directory.path().join("x.yml"), "").unwrap();
        assert_eq!(found(), (FILES_MAX, true));
        fs::write(directory.path().join("y.yml"), "").unwrap();
        assert_eq!(found(), (FILES_MAX, false));
    }
}

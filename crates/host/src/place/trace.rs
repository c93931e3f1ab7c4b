//! Traces: what was put into the kernel's network state for an attachment. Each is written down before it is made, so
//! that the next start can take away what a killed process has left.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use inborn_identity::InstanceId;
use serde::{Deserialize, Serialize};

use super::text::{InterfaceName, NamespacePath};
use super::{Mark, Place, PlaceError, interface, namespace};

/// Bytes of a record that is read back: a few traces for each of thousands of machines.
const RECORD_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One thing that was added or changed.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "trace", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Trace {
    /// The address of the metadata service on the loopback interface inside a namespace.
    Inside { namespace: NamespacePath, mark: Mark, address: IpAddr },
    /// That address on an interface of this computer: the loopback one, or the machine's own.
    Address { interface: InterfaceName, index: u32, address: IpAddr },
    /// A rule by which answers to guests over IPv6 leave through the interface they came by.
    Rule { interface: InterfaceName, index: u32 },
    /// A setting below `/proc/sys/net`.
    Setting { path: PathBuf, before: String, after: String },
}

/// For whose attachment a trace was made.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Holder {
    #[serde(with = "crate::control::text")]
    pub(crate) instance: InstanceId,
    pub(crate) place: Place,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
struct Entry {
    holder: Holder,
    what: Trace,
}

#[derive(Serialize, Deserialize)]
struct Record {
    /// After another boot of this computer nothing of it is left.
    boot: String,
    entries: Vec<Entry>,
}

/// The record of all traces; clones write the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {
    file: Option<Arc<PathBuf>>,
    entries: Arc<Mutex<Vec<Entry>>>,
    /// The namespaces that have traces: one may have lost its name, and be alive in another process.
    namespaces: Arc<Mutex<HashMap<Mark, Arc<fs::File>>>>,
}

/// The id of this boot of this computer.
pub(super) fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    })
}

impl Traces {
    /// The record in `file`, with whatever an earlier process has left there.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a record.
    pub(crate) fn open(file: PathBuf) -> io::Result<Self> {
        let entries = match fs::File::open(&file) {
            Ok(opened) => read(opened)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { file: Some(Arc::new(file)), entries: Arc::new(Mutex::new(entries)), namespaces: Arc::default() })
    }

    /// Writes `trace` down for `holder`. If this succeeds, the trace may be made.
    pub(super) fn note(&self, holder: &Holder, trace: Trace) -> io::Result<()> {
        let mut entries = self.lock();
        let entry = Entry { holder: holder.clone(), what: trace };
        if entries.contains(&entry) {
            return Ok(());
        }
        entries.push(entry);
        self.write(&entries).inspect_err(|_| _ = entries.pop())
    }

    /// Keeps a namespace open for as long as it has traces, if it has any.
    pub(super) fn keep(&self, mark: Mark, namespace: fs::File) {
        self.namespaces().insert(mark, Arc::new(namespace));
        self.let_go(&self.lock());
    }

    /// Closes namespaces without traces: an open one outlives everything in it.
    fn let_go(&self, entries: &[Entry]) {
        let is_in = |mark: &Mark, entry: &Entry| matches!(&entry.what, Trace::Inside { mark: of, .. } if of == mark);
        self.namespaces().retain(|mark, _| entries.iter().any(|entry| is_in(mark, entry)));
    }

    /// Whether anybody's `trace` is written down: what is there then is ours.
    pub(super) fn is_noted(&self, trace: &Trace) -> bool {
        self.lock().iter().any(|entry| entry.what == *trace)
    }

    /// Forgets a trace that did not come to be.
    pub(super) fn forget(&self, holder: &Holder, trace: &Trace) {
        let mut entries = self.lock();
        entries.retain(|entry| entry.holder != *holder || entry.what != *trace);
        self.write_soon(&entries);
        self.let_go(&entries);
    }

    /// Takes away what was made for `holder` and no other machine needs, the last first.
    pub(crate) async fn undo(&self, holder: &Holder) {
        while let Some(entry) = self.last_of(|entry| entry.holder == *holder) {
            self.undo_one(&entry).await;
        }
    }

    /// Takes away everything: an earlier process has left it.
    pub(crate) async fn undo_all(&self) {
        while let Some(entry) = self.last_of(|_| true) {
            self.undo_one(&entry).await;
        }
    }

    fn last_of(&self, wanted: impl Fn(&Entry) -> bool) -> Option<Entry> {
        self.lock().iter().rfind(|entry| wanted(entry)).cloned()
    }

    async fn undo_one(&self, entry: &Entry) {
        let is_shared = self.lock().iter().any(|other| other.holder != entry.holder && other.what == entry.what);
        if !is_shared && let Err(error) = self.take_away(&entry.what).await {
            tracing::warn!(instance = %entry.holder.instance, trace = ?entry.what, %error, "a trace of an attachment stays");
        }
        self.forget(&entry.holder, &entry.what);
    }

    /// Takes one trace away, if what it was made on is still the same thing.
    async fn take_away(&self, trace: &Trace) -> Result<(), PlaceError> {
        match trace {
            Trace::Inside { namespace, mark, address } => {
                let kept = self.namespaces().get(mark).cloned();
                namespace::remove_address(namespace, mark, kept, *address).await
            }
            Trace::Address { interface, index, address } => {
                interface::remove_address(interface, *index, *address).await
            }
            Trace::Rule { interface, index } => interface::remove_rule(interface, *index).await,
            Trace::Setting { path, before, after } => restore(path, before, after)
                .map_err(|source| PlaceError::Io { what: format!("cannot restore {}", path.display()), source }),
        }
    }

    fn write_soon(&self, entries: &[Entry]) {
        if let Err(error) = self.write(entries) {
            // What is still written down is looked for and not found at the next start.
            tracing::warn!(%error, "the record of network traces could not be written");
        }
    }

    /// Replaces the file. Not synchronised: what it tells of does not survive a loss of power either.
    fn write(&self, entries: &[Entry]) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if entries.is_empty() {
            return match fs::remove_file(file.as_path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let record = Record { boot: boot().to_owned(), entries: entries.to_vec() };
        let text = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
        let fresh = file.with_extension("new");
        let mut opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        opened.write_all(&text)?;
        fs::rename(&fresh, file.as_path())
    }

    fn namespaces(&self) -> MutexGuard<'_, HashMap<Mark, Arc<fs::File>>> {
        // A map of handles, as below.
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A list of values: consistent between any two statements that can panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(opened: fs::File) -> io::Result<Vec<Entry>> {
    if opened.metadata()?.len() > RECORD_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long to be ours"));
    }
    let record: Record = serde_json::from_reader(io::BufReader::new(opened))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(if record.boot == boot() { record.entries } else { Vec::new() })
}

/// Puts a setting back, unless somebody has changed it since or its interface is gone.
fn restore(path: &Path, before: &str, after: &str) -> io::Result<()> {
    match fs::read_to_string(path) {
        Ok(now) if now.trim() == after => fs::write(path, before),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(n: u8) -> Holder {
        let instance = InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, n]);
        Holder { instance, place: Place::Process { pid: 1 } }
    }

    fn setting(path: &Path) -> Trace {
        Trace::Setting { path: path.to_owned(), before: "1".into(), after: "0".into() }
    }

    #[tokio::test]
    async fn what_is_written_down_is_taken_away_by_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let (file, sysctl) = (directory.path().join("network.json"), directory.path().join("rp_filter"));
        let traces = Traces::open(file.clone()).unwrap();
        traces.note(&holder(1), setting(&sysctl)).unwrap();
        assert!(file.exists(), "before it is made");
        fs::write(&sysctl, "0\n").unwrap();
        drop(traces);
        let next = Traces::open(file.clone()).unwrap();
        assert!(next.is_noted(&setting(&sysctl)));
        next.undo_all().await;
        assert_eq!(fs::read_to_string(&sysctl).unwrap(), "1");
        assert!(!file.exists(), "nothing is left to record");
    }

    #[tokio::test]
    async fn what_two_machines_need_stays_until_both_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let sysctl = directory.path().join("rp_filter");
        fs::write(&sysctl, "0").unwrap();
        let traces = Traces::default();
        for n in [1, 2] {
            traces.note(&holder(n), setting(&sysctl)).unwrap();
        }
        traces.undo(&holder(1)).await;
        assert_eq!(fs::read_to_string(&sysctl).unwrap(), "0");
        traces.undo(&holder(2)).await;
        assert_eq!(fs::read_to_string(&sysctl).unwrap(), "1");
    }

    #[tokio::test]
    async fn a_setting_that_somebody_else_has_changed_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let sysctl = directory.path().join("rp_filter");
        fs::write(&sysctl, "2").unwrap();
        let traces = Traces::default();
        traces.note(&holder(1), setting(&sysctl)).unwrap();
        traces.undo(&holder(1)).await;
        assert_eq!(fs::read_to_string(&sysctl).unwrap(), "2");
    }

    #[test]
    fn a_record_of_another_boot_tells_of_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("network.json");
        let traces = Traces::open(file.clone()).unwrap();
        traces.note(&holder(1), setting(Path::new("/nowhere"))).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(boot(), "another")).unwrap();
        assert!(!Traces::open(file).unwrap().is_noted(&setting(Path::new("/nowhere"))));
    }

    #[test]
    fn records_below_at_and_above_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("network.json");
        for (length, fits) in [(RECORD_BYTES_MAX - 1, true), (RECORD_BYTES_MAX, true), (RECORD_BYTES_MAX + 1, false)] {
            fs::File::create(&file).unwrap().set_len(length).unwrap();
            let error = Traces::open(file.clone()).unwrap_err().to_string();
            assert_eq!(!error.contains("too long"), fits, "{length}: {error}");
        }
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("network.json");
        for text in ["", "{}", "[]", r#"{"boot":"x","entries":[{"holder":"i-1"}]}"#] {
            fs::write(&file, text).unwrap();
            assert_eq!(Traces::open(file.clone()).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text}");
        }
    }
}

//! Where the machines of this host are, as its operator has said, over a restart.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use inborn_host::AttachmentKind;
use inborn_host::place::Mark;
use inborn_identity::{InstanceId, MacAddress};
use serde::{Deserialize, Serialize};

use crate::directory;

const FILE: &str = "attachments.json";

/// One attachment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Remembered {
    pub(super) kind: AttachmentKind,
    /// Which very thing it is, if it is over once that has gone.
    pub(super) mark: Option<Mark>,
    /// The machine's own interface, if it was told.
    pub(super) told: Option<MacAddress>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    instance: String,
    #[serde(flatten)]
    kind: AttachmentKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<Mark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
}

/// All of them, in memory and in a file of the data directory.
#[derive(Debug)]
pub(super) struct Attachments {
    path: PathBuf,
    known: Mutex<BTreeMap<InstanceId, Remembered>>,
}

impl Attachments {
    pub(super) fn open(data: &std::path::Path) -> anyhow::Result<Self> {
        let path = data.join(FILE);
        let known = match std::fs::read(&path) {
            Ok(text) => parse(&text).with_context(|| {
                format!("{} is damaged: restore it, or remove it and attach the machines again", path.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self { path, known: Mutex::new(known) })
    }

    pub(super) fn get(&self, instance: InstanceId) -> Option<Remembered> {
        self.lock().get(&instance).cloned()
    }

    pub(super) fn all(&self) -> BTreeMap<InstanceId, Remembered> {
        self.lock().clone()
    }

    /// Remembers an attachment, or with `None` that there is none. It is on disk when this has returned.
    pub(super) fn set(&self, instance: InstanceId, remembered: Option<Remembered>) -> anyhow::Result<()> {
        let mut known = self.lock();
        let mut next = known.clone();
        match remembered {
            Some(remembered) => next.insert(instance, remembered),
            None => next.remove(&instance),
        };
        if next != *known {
            directory::replace_private(&self.path, &print(&next)?)?;
            *known = next;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Remembered>> {
        // A map that is replaced as a whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the file of them from a data directory.
pub(super) fn remove_from(data: &std::path::Path) -> anyhow::Result<()> {
    super::identity::remove(&data.join(FILE))
}

fn print(known: &BTreeMap<InstanceId, Remembered>) -> anyhow::Result<Vec<u8>> {
    let write = |(instance, remembered): (&InstanceId, &Remembered)| Written {
        instance: instance.to_string(),
        kind: remembered.kind.clone(),
        mark: remembered.mark.clone(),
        mac: remembered.told.map(|mac| mac.to_string()),
    };
    Ok(serde_json::to_vec_pretty(&known.iter().map(write).collect::<Vec<_>>())?)
}

fn parse(text: &[u8]) -> anyhow::Result<BTreeMap<InstanceId, Remembered>> {
    let read = |written: Written| -> anyhow::Result<(InstanceId, Remembered)> {
        let told = written.mac.map(|mac| mac.parse()).transpose()?;
        Ok((written.instance.parse()?, Remembered { kind: written.kind, mark: written.mark, told }))
    };
    serde_json::from_slice::<Vec<Written>>(text)?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_host::place::Place;

    #[test]
    fn what_was_said_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let attachments = Attachments::open(directory.path()).unwrap();
        let ids: [InstanceId; 3] = [1, 2, 3].map(|n| InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, n]));
        let loopback = Remembered { kind: AttachmentKind::Loopback { port: 80 }, mark: None, told: None };
        let at = Place::Interface { name: "tap0".parse().unwrap() };
        let interface = Remembered {
            kind: AttachmentKind::At(at),
            mark: Some(Mark::from_stored("boot/if3".to_owned())),
            told: Some("02:00:5e:00:53:01".parse().unwrap()),
        };
        for (id, one) in ids.iter().zip([&loopback, &interface, &loopback]) {
            attachments.set(*id, Some(one.clone())).unwrap();
        }
        attachments.set(ids[2], None).unwrap();
        let again = Attachments::open(directory.path()).unwrap();
        assert_eq!(again.all(), BTreeMap::from([(ids[0], loopback.clone()), (ids[1], interface)]));
        assert_eq!((again.get(ids[0]), again.get(ids[2])), (Some(loopback), None));
        remove_from(directory.path()).unwrap();
        assert!(Attachments::open(directory.path()).unwrap().all().is_empty());
        std::fs::write(directory.path().join(FILE), "[{}]").unwrap();
        let error = Attachments::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("attach the machines again"), "{error}");
    }
}

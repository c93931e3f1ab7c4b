//! The change feed: how the programs that have one store open hear of each other's changes.
//!
//! Each program that has a store open is a *node* from its first beat on. What it changes is entered in the feed in the same
//! transaction, under its own name with a *serial* of its own, so that no two nodes wait for each other. Transactions of one
//! node may commit in another order than they were begun; so each beat says up to which serial all is *settled*: committed,
//! or certain never to be. A reader takes what it sees, remembers for each node the settled serial, and begins behind it the
//! next time. Nothing can be missed, whatever the order of commits and whatever anybody's clock says.

use core::fmt;
use core::hash::{BuildHasher, Hasher};
use core::str::FromStr;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;

use inborn_identity::{AccountId, InstanceId, UnixTime};

use crate::{
    Change, Changed, CommandChange, CommandOutcome, CutOff, CutOffScope, LaunchOutcome, RecordedCutOff, SentCommand,
    StoreError,
};

/// One opening of a store by one program: another one each time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(u64);

impl NodeId {
    /// A new one. It has to be nobody else's, but not hard to guess.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 8];
        match inborn_chance::fill(&mut bytes) {
            Ok(()) => Self(u64::from_be_bytes(bytes)),
            Err(_) => Self(RandomState::new().build_hasher().finish()),
        }
    }

    /// Nobody: a node of this name there never was.
    pub const NOBODY: Self = Self(0);

    /// One that is chosen, for tests.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let is_ours = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_ours { u64::from_str_radix(text, 16).map(Self).map_err(drop) } else { Err(()) }
    }
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beat {
    /// What people call it: at most [`Beat::NAME_MAX`] bytes.
    pub name: String,
    /// When it says so.
    pub at: UnixTime,
    /// The highest epoch that it verifies with; 0: none yet.
    pub verifies: u32,
    /// Where other nodes reach it: at most [`Beat::ADDRESS_MAX`] bytes, empty for nowhere.
    pub address: String,
}

impl Beat {
    /// The longest name, in bytes.
    pub const NAME_MAX: usize = 255;
    /// The longest address, in bytes.
    pub const ADDRESS_MAX: usize = 512;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.name.len() > Self::NAME_MAX {
            return Err(StoreError::Invalid("the name of a node has at most 255 bytes"));
        }
        if self.address.len() > Self::ADDRESS_MAX {
            return Err(StoreError::Invalid("the address of a node has at most 512 bytes"));
        }
        Ok(())
    }
}

/// A node as it last said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionNode {
    /// Which.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// When it beat first, by its own clock.
    pub started_at: UnixTime,
    /// When it beat last, by its own clock.
    pub beaten_at: UnixTime,
    /// The highest epoch that it verifies with, as it said last.
    pub verifies: u32,
    /// No entry of this serial or a lower one is still to come.
    pub settled: u64,
    /// The highest serial of which an entry was forgotten.
    pub forgotten: u64,
    /// Where other nodes reach it, as it said last; empty: nowhere.
    pub address: String,
}

/// What was answered to an opening of the store: by it a later one tells whether the database that it finds is one that has answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fence {
    /// The opening.
    pub node: NodeId,
    /// How many of its beats were answered.
    pub beats: u64,
    /// Which filling of the database that was: another one after each restore.
    pub filled: i64,
}

/// What a change was about. Who hears of it reads how things are now.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Topic {
    /// These instances were launched or changed.
    Instances(Vec<InstanceId>),
    /// This was cut off. That of a terminated instance goes without saying.
    CutOff(RecordedCutOff),
    /// An epoch was added or changed.
    Epochs,
    /// An operator was added, changed or forgotten.
    Operators,
    /// An account was added or closed.
    Accounts,
    /// A role was made or deleted.
    Roles,
    /// The agent of this instance has registered, or its key was changed or forgotten.
    Registration(InstanceId),
    /// The setting of this name was set.
    Setting(String),
    /// A document was made or deleted.
    Documents,
    /// A quarantine has begun or ended.
    Quarantines,
    /// A host has joined, or takes no more machines, or was evicted.
    Hosts,
    /// A command was sent, or has changed on these machines, or on any if none is named.
    Command {
        /// Its id.
        id: String,
        /// The machines.
        instances: Vec<InstanceId>,
    },
    /// The agent of this instance has said of itself what it had not said before.
    Node(InstanceId),
    /// The session of this id has ended.
    SessionEnded(String),
    /// The session of this id is carried by another node than before.
    SessionCarried(String),
    /// The detector of this account was made, changed or deleted, or what is set up at it.
    Detector(AccountId),
}

const ALL: &str = "*";
/// What the subjects of [`Topic::Command`], [`Topic::Node`], [`Topic::SessionEnded`], [`Topic::SessionCarried`] and [`Topic::Detector`] begin with. Their word is that of a
/// setting: programs that know none of them read everything again for a word that they do not know, and nothing for a setting that is none
/// of theirs.
const COMMAND: &str = "run-command";
const NODE: &str = "agent-node";
const SESSION_END: &str = "session-end";
const SESSION_CARRIER: &str = "session-carrier";
const DETECTOR: &str = "detector";
/// The most machines that an entry names: of more it names none.
const NAMED_MAX: usize = 100;

impl Topic {
    /// What a launch is told of as.
    #[must_use]
    pub fn of_launch(outcome: &LaunchOutcome) -> Vec<Self> {
        match outcome {
            LaunchOutcome::New(launched) => {
                vec![Self::Instances(launched.iter().map(|instance| instance.id).collect())]
            }
            LaunchOutcome::Replayed(_) | LaunchOutcome::Mismatch => vec![],
        }
    }

    /// What a change of instances is told of as.
    #[must_use]
    pub fn of_change(change: &Change, changes: &[Changed]) -> Vec<Self> {
        let changed = changes.iter().filter(|changed| changed.before != changed.after);
        let ids: Vec<InstanceId> = changed.map(|changed| changed.after.id).collect();
        let cut_offs = changes.iter().filter_map(|changed| match changed.cut_off(change)? {
            (CutOff::Dead { .. }, _) => None,
            (cut_off, at) => Some(Self::CutOff(RecordedCutOff { cut_off, at })),
        });
        let instances = (!ids.is_empty()).then_some(Self::Instances(ids));
        instances.into_iter().chain(cut_offs).collect()
    }

    /// What a change of epochs is told of as. The cut-offs first: whoever has heard of the change has heard of them.
    #[must_use]
    pub fn of_epochs(cut_offs: &[RecordedCutOff]) -> Vec<Self> {
        cut_offs.iter().copied().map(Self::CutOff).chain([Self::Epochs]).collect()
    }

    /// What the end of a quarantine is told of as.
    #[must_use]
    pub fn of_release(cut_offs: &[RecordedCutOff], was_there: bool) -> Vec<Self> {
        let cut_offs = cut_offs.iter().filter(|_| was_there).copied().map(Self::CutOff);
        cut_offs.chain(was_there.then_some(Self::Quarantines)).collect()
    }

    /// What a command that is sent is told of as. One that is over from the beginning nobody has to hear of.
    #[must_use]
    pub fn of_sent(sent: &SentCommand) -> Vec<Self> {
        let is_over = sent.command.progress.state.is_terminal();
        if is_over { vec![] } else { vec![Self::Command { id: sent.command.id.clone(), instances: Vec::new() }] }
    }

    /// The command, and the machines on which a change would make something else of it.
    #[must_use]
    pub fn of_command_change(change: &CommandChange) -> (String, Vec<InstanceId>) {
        let new = change.invocations.iter().filter(|change| change.is_new());
        (change.command.clone(), new.map(|change| change.after.instance).collect())
    }

    /// What changes of commands are told of as, by what [`Topic::of_command_change`] says of each: what took effect, and was not
    /// so before.
    #[must_use]
    pub fn of_command_changes(changes: &[(String, Vec<InstanceId>)], outcomes: &[CommandOutcome]) -> Vec<Self> {
        let mut told = Vec::new();
        for ((id, instances), outcome) in changes.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_written) {
            let refused: BTreeSet<_> = outcome.refused.iter().collect();
            let mut taken: Vec<_> = instances.iter().filter(|id| !refused.contains(id)).copied().collect();
            if taken.len() > NAMED_MAX {
                taken.clear();
            }
            told.push(Self::Command { id: id.clone(), instances: taken });
        }
        told
    }

    /// As stores write it: a word, and what it is about.
    #[must_use]
    pub fn to_columns(&self) -> (&'static str, String) {
        match self {
            Self::Instances(ids) => ("instances", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            Self::CutOff(RecordedCutOff { cut_off, at }) => {
                let at = at.as_secs();
                let subject = match cut_off {
                    CutOff::Dead { instance } => format!("dead {instance} 0 {at}"),
                    CutOff::OlderBoot { instance, below } => format!("older-boot {instance} {below} {at}"),
                    CutOff::IssuedBefore { scope, before } => {
                        let before = before.as_secs();
                        match scope {
                            CutOffScope::Instance(instance) => format!("issued-before {instance} {before} {at}"),
                            CutOffScope::Account(account) => format!("issued-before {account} {before} {at}"),
                            CutOffScope::All => format!("issued-before {ALL} {before} {at}"),
                        }
                    }
                };
                ("cut-off", subject)
            }
            Self::Epochs => ("epochs", String::new()),
            Self::Operators => ("operators", String::new()),
            Self::Accounts => ("accounts", String::new()),
            Self::Roles => ("roles", String::new()),
            Self::Registration(instance) => ("registration", instance.to_string()),
            Self::Setting(name) => ("setting", name.clone()),
            Self::Documents => ("documents", String::new()),
            Self::Quarantines => ("quarantines", String::new()),
            Self::Hosts => ("hosts", String::new()),
            Self::Command { id, instances } => {
                let instances = instances.iter().map(|instance| format!(" {instance}")).collect::<String>();
                ("setting", format!("{COMMAND} {id}{instances}"))
            }
            Self::Node(instance) => ("setting", format!("{NODE} {instance}")),
            Self::SessionEnded(id) => ("setting", format!("{SESSION_END} {id}")),
            Self::SessionCarried(id) => ("setting", format!("{SESSION_CARRIER} {id}")),
            Self::Detector(account) => ("setting", format!("{DETECTOR} {account}")),
        }
    }

    /// What [`Topic::to_columns`] has written; `None` for what a later program wrote.
    #[must_use]
    pub fn from_columns(topic: &str, subject: &str) -> Option<Self> {
        Some(match topic {
            "instances" => Self::Instances(subject.split(' ').map(|id| id.parse().ok()).collect::<Option<_>>()?),
            "cut-off" => Self::CutOff(cut_off(subject)?),
            "epochs" => Self::Epochs,
            "operators" => Self::Operators,
            "accounts" => Self::Accounts,
            "roles" => Self::Roles,
            "registration" => Self::Registration(subject.parse().ok()?),
            "setting" => match subject.split_once(' ') {
                Some((COMMAND, rest)) => command(rest)?,
                Some((NODE, instance)) => Self::Node(instance.parse().ok()?),
                Some((SESSION_END, id)) => Self::SessionEnded(id.to_owned()),
                Some((SESSION_CARRIER, id)) => Self::SessionCarried(id.to_owned()),
                Some((DETECTOR, account)) => Self::Detector(account.parse().ok()?),
                _ => Self::Setting(subject.to_owned()),
            },
            "documents" => Self::Documents,
            "quarantines" => Self::Quarantines,
            "hosts" => Self::Hosts,
            _ => return None,
        })
    }
}

fn command(subject: &str) -> Option<Topic> {
    let mut words = subject.split(' ');
    let id = words.next().filter(|id| !id.is_empty())?.to_owned();
    Some(Topic::Command { id, instances: words.map(|instance| instance.parse().ok()).collect::<Option<_>>()? })
}

fn cut_off(subject: &str) -> Option<RecordedCutOff> {
    let mut words = subject.split(' ');
    let (kind, whom, threshold, at) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let time = |text: &str| text.parse().ok().map(UnixTime::from_secs);
    let cut_off = match kind {
        "dead" => CutOff::Dead { instance: whom.parse().ok()? },
        "older-boot" => CutOff::OlderBoot { instance: whom.parse().ok()?, below: threshold.parse().ok()? },
        "issued-before" => {
            // An id of an instance begins with a letter, one of an account with a digit.
            let scope = match whom {
                ALL => CutOffScope::All,
                id if id.starts_with('i') => CutOffScope::Instance(id.parse().ok()?),
                id => CutOffScope::Account(id.parse().ok()?),
            };
            CutOff::IssuedBefore { scope, before: time(threshold)? }
        }
        _ => return None,
    };
    Some(RecordedCutOff { cut_off, at: time(at)? })
}

/// How far a reader has heard of whom.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// Of each node, the serial behind which it has not heard everything. Of a node that is not named here it has heard nothing.
    pub positions: BTreeMap<NodeId, u64>,
    /// Of each node, up to where it knows that entries were forgotten: it has read everything since.
    pub forgotten: BTreeMap<NodeId, u64>,
    /// Whose changes it does not have to be told: its own.
    pub except: Option<NodeId>,
}

/// An entry of the feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Who made the change.
    pub writer: NodeId,
    /// Its place among that node's. Several entries of one transaction may have the same.
    pub serial: u64,
    /// What it was about.
    pub topic: Topic,
}

/// What there is to hear.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// All nodes, ordered by id, whoever asks.
    pub nodes: Vec<RegionNode>,
    /// What stands behind the positions, ordered by writer and serial. Entries that are not settled are told again next time.
    pub entries: Vec<Entry>,
    /// Something that the reader has not heard is gone, is more than [`News::ENTRIES_MAX`], or is not understood: it has to
    /// read everything again.
    pub missed: bool,
}

impl News {
    /// The most entries that are told at once.
    pub const ENTRIES_MAX: usize = 10_000;

    /// How far a reader of this has heard, once it has acted upon it.
    #[must_use]
    pub fn heard(&self, except: Option<NodeId>) -> Heard {
        Heard {
            positions: self.nodes.iter().map(|node| (node.id, node.settled)).collect(),
            forgotten: self.nodes.iter().map(|node| (node.id, node.forgotten)).collect(),
            except,
        }
    }

    /// Puts together what a store has read: its nodes, and the entries behind the positions, as columns.
    #[must_use]
    pub fn of(heard: &Heard, nodes: Vec<RegionNode>, rows: Vec<(NodeId, u64, String, String)>) -> Self {
        let is_gone = |id: &NodeId| nodes.binary_search_by_key(id, |node| node.id).is_err();
        let at = |positions: &BTreeMap<NodeId, u64>, id| positions.get(&id).copied().unwrap_or_default();
        let is_forgotten = |node: &RegionNode| {
            let known = at(&heard.positions, node.id).max(at(&heard.forgotten, node.id));
            // Of its own it has to know only what is told to it, which is behind a position.
            let is_told = Some(node.id) != heard.except || heard.positions.contains_key(&node.id);
            is_told && node.forgotten > known
        };
        let mut missed = heard.positions.keys().any(is_gone) || nodes.iter().any(is_forgotten);
        missed |= rows.len() > Self::ENTRIES_MAX;
        let mut entries = Vec::with_capacity(rows.len().min(Self::ENTRIES_MAX));
        for (writer, serial, topic, subject) in rows.into_iter().take(Self::ENTRIES_MAX) {
            match Topic::from_columns(&topic, &subject) {
                Some(topic) => entries.push(Entry { writer, serial, topic }),
                None => missed = true,
            }
        }
        Self { nodes, entries, missed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CommandProgress, InvocationCounts};

    fn id(number: u64) -> InstanceId {
        let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
        InstanceId::from_bytes([0, a, b, c, d, e, f, g, h])
    }

    #[test]
    fn topics_come_back() {
        let at = UnixTime::from_secs(1_800_000_000);
        let cut_off = |cut_off| Topic::CutOff(RecordedCutOff { cut_off, at });
        let before = at.minus(5);
        let scope = |scope| cut_off(CutOff::IssuedBefore { scope, before });
        for topic in [
            Topic::Instances(vec![id(1)]),
            Topic::Instances(vec![id(2), id(1)]),
            cut_off(CutOff::Dead { instance: id(1) }),
            cut_off(CutOff::OlderBoot { instance: id(1), below: u32::MAX }),
            scope(CutOffScope::Instance(id(3))),
            scope(CutOffScope::Account("123456789012".parse().unwrap())),
            scope(CutOffScope::All),
            Topic::Epochs,
            Topic::Operators,
            Topic::Accounts,
            Topic::Roles,
            Topic::Registration(id(7)),
            Topic::Setting("a setting ☃".into()),
            Topic::Documents,
            Topic::Quarantines,
            Topic::Hosts,
            Topic::Command { id: "c-1".into(), instances: vec![] },
            Topic::Command { id: "c-1".into(), instances: vec![id(2), id(1)] },
            Topic::Node(id(4)),
            Topic::SessionEnded("operator-0123".into()),
            Topic::SessionCarried("operator-0123".into()),
            Topic::Detector("123456789012".parse().unwrap()),
        ] {
            let (word, subject) = topic.to_columns();
            assert_eq!(Topic::from_columns(word, &subject), Some(topic));
        }
    }

    /// A program that does not know a word reads everything again: of what is new it is told as of settings that are none of its own.
    #[test]
    fn older_programs_pass_over_what_is_new() {
        let command = Topic::Command { id: "c-1".into(), instances: vec![id(1)] };
        let detector = Topic::Detector("123456789012".parse().unwrap());
        let carried = Topic::SessionCarried("s-1".into());
        for topic in [command, Topic::Node(id(1)), Topic::SessionEnded("s-1".into()), carried, detector] {
            let (word, subject) = topic.to_columns();
            assert!(word == "setting" && subject.contains(' '), "{word} {subject}");
        }
    }

    #[test]
    fn what_is_not_understood_is_nothing() {
        for (topic, subject) in [
            ("weather", ""),
            ("instances", ""),
            ("instances", "i-0"),
            ("registration", "x"),
            ("setting", "run-command "),
            ("setting", "run-command c-1 i-0"),
            ("setting", "agent-node x"),
            ("setting", "detector x"),
            ("cut-off", "dead"),
            ("cut-off", "alive i-00000000000000001 0 1"),
            ("cut-off", "dead i-00000000000000001 0 1 2"),
            ("cut-off", "issued-before 12 0 1"),
        ] {
            assert_eq!(Topic::from_columns(topic, subject), None, "{topic} {subject}");
        }
    }

    #[test]
    fn machines_of_a_command_below_at_and_above_the_most_that_are_named() {
        for (count, named) in [(NAMED_MAX - 1, NAMED_MAX - 1), (NAMED_MAX, NAMED_MAX), (NAMED_MAX + 1, 0)] {
            let instances = (0..count as u64).map(id).collect();
            let progress = CommandProgress::of(&InvocationCounts::default(), 0, false);
            let outcome = CommandOutcome { progress: Some(progress), refused: vec![], is_written: true };
            let told = Topic::of_command_changes(&[("c".into(), instances)], &[outcome]);
            let [Topic::Command { instances, .. }] = told.as_slice() else { panic!("{told:?}") };
            assert_eq!(instances.len(), named, "{count}");
        }
    }

    #[test]
    fn names_of_nodes() {
        for node in [NodeId::new(0), NodeId::new(u64::MAX), NodeId::random()] {
            assert_eq!(node.to_string().parse(), Ok(node));
        }
        for text in ["", "0", "+000000000000001", "000000000000000G", "00000000000000001"] {
            assert_eq!(text.parse::<NodeId>(), Err(()), "{text}");
        }
        assert_ne!(NodeId::random(), NodeId::random());
    }

    #[test]
    fn names_below_at_and_above_the_longest() {
        for (length, is_good) in [(254, true), (255, true), (256, false)] {
            let beat =
                Beat { name: "n".repeat(length), at: UnixTime::from_secs(1), verifies: 0, address: String::new() };
            assert_eq!(beat.check().is_ok(), is_good, "{length}");
        }
        for (length, is_good) in [(511, true), (512, true), (513, false)] {
            let beat =
                Beat { name: String::new(), at: UnixTime::from_secs(1), verifies: 0, address: "n".repeat(length) };
            assert_eq!(beat.check().is_ok(), is_good, "{length}");
        }
    }

    fn node(id: u64, settled: u64, forgotten: u64) -> RegionNode {
        let at = UnixTime::from_secs(1);
        let name = String::new();
        let address = String::new();
        RegionNode {
            id: NodeId::new(id),
            name,
            started_at: at,
            beaten_at: at,
            verifies: 0,
            settled,
            forgotten,
            address,
        }
    }

    fn rows(count: usize) -> Vec<(NodeId, u64, String, String)> {
        (0..count).map(|number| (NodeId::new(1), number as u64, "roles".to_owned(), String::new())).collect()
    }

    #[test]
    fn a_reader_knows_when_it_has_missed_something() {
        let heard = |positions: &[(u64, u64)]| Heard {
            positions: positions.iter().map(|(node, serial)| (NodeId::new(*node), *serial)).collect(),
            except: Some(NodeId::new(9)),
            ..Heard::default()
        };
        let missed = |heard: &Heard, nodes: &[RegionNode]| News::of(heard, nodes.to_vec(), vec![]).missed;
        assert!(!missed(&heard(&[]), &[node(1, 0, 0), node(9, 8, 8)]), "its own are its own");
        assert!(!missed(&heard(&[(9, 8)]), &[node(9, 9, 8)]));
        assert!(missed(&heard(&[(9, 8)]), &[node(9, 9, 9)]), "one of its own of which it did not know how it ended");
        assert!(missed(&heard(&[]), &[node(1, 5, 1)]), "a node of which nothing was heard");
        for (position, is_missed) in [(3, true), (4, false), (5, false)] {
            assert_eq!(missed(&heard(&[(1, position)]), &[node(1, 5, 4)]), is_missed, "{position}");
        }
        assert!(missed(&heard(&[(1, 5), (2, 7)]), &[node(1, 5, 0)]), "a node is gone");
        // A node that died before it could say how its last change ended: that is missed once.
        let died = [node(1, 3, 4)];
        assert!(missed(&heard(&[(1, 3)]), &died));
        let read = News::of(&heard(&[(1, 3)]), died.to_vec(), vec![]).heard(None);
        assert_eq!(read.positions[&NodeId::new(1)], 3, "what may still come is heard");
        assert!(!missed(&read, &died));
    }

    #[test]
    fn entries_below_at_and_above_the_most() {
        let max = News::ENTRIES_MAX;
        for (count, told, missed) in [(max - 1, max - 1, false), (max, max, false), (max + 1, max, true)] {
            let news = News::of(&Heard::default(), vec![node(1, 0, 0)], rows(count));
            assert_eq!((news.entries.len(), news.missed), (told, missed), "{count}");
        }
    }
}

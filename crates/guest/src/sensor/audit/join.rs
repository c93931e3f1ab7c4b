//! Records that belong together: those of one event have one serial number, and come one after the other, mostly.

use std::collections::BTreeMap;

use super::record::{Address, Kind, Record, parse_saddr};
use crate::sensor::proc::COMMAND_LINE_BYTES_MAX;
use crate::sensor::text::cut;

/// Events whose records are still awaited; with more, the oldest counts as complete.
pub(crate) const GROUPS_MAX: usize = 256;
/// Paths of one event.
pub(crate) const PATHS_MAX: usize = 16;
/// How far behind the newest record an event may be and still be awaited.
const WAIT_MS: i64 = 2000;

/// A SYSCALL record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Syscall {
    /// In hexadecimal digits, as in `c000003e`.
    pub(crate) arch: String,
    pub(crate) number: Option<i64>,
    /// By name, where somebody has looked it up already.
    pub(crate) name: Option<String>,
    pub(crate) success: Option<bool>,
    pub(crate) exit: Option<i64>,
    pub(crate) arguments: [Option<u64>; 4],
    pub(crate) pid: Option<u32>,
    pub(crate) ppid: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) euid: Option<u32>,
    pub(crate) comm: Option<String>,
    pub(crate) exe: Option<String>,
}

/// A PATH record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct PathName {
    pub(crate) name: String,
    /// `NORMAL`, `CREATE`, `DELETE`, `PARENT`, …
    pub(crate) kind: String,
    pub(crate) mode: Option<String>,
}

/// All records of one event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Group {
    pub(crate) time_ms: i64,
    pub(crate) syscall: Option<Syscall>,
    /// The command line by EXECVE, and by PROCTITLE.
    pub(crate) command_line: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) directory: Option<String>,
    pub(crate) paths: Vec<PathName>,
    pub(crate) address: Option<Address>,
    pub(crate) module: Option<String>,
    /// The process that the call is about: number and name.
    pub(crate) target: Option<(u32, Option<String>)>,
    /// Name and command line of the parent, where the source tells them.
    pub(crate) parent: Option<(Option<String>, Option<String>)>,
}

/// Gathers records.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    open: BTreeMap<u64, Group>,
}

impl Joiner {
    /// Takes a record; gives the events that are complete now.
    pub(crate) fn take(&mut self, record: Record) -> Vec<Group> {
        let (serial, now_ms) = (record.serial, record.time_ms);
        let mut done = Vec::new();
        if record.kind == Kind::End {
            done.extend(self.open.remove(&serial));
        } else {
            let group = self.open.entry(serial).or_insert_with(|| Group { time_ms: now_ms, ..Group::default() });
            group.add(&record);
        }
        done.extend(self.overdue(now_ms));
        while self.open.len() > GROUPS_MAX {
            done.extend(self.open.pop_first().map(|(_, group)| group));
        }
        done
    }

    /// The events of which no more records will come, seen from `now_ms`.
    pub(crate) fn overdue(&mut self, now_ms: i64) -> Vec<Group> {
        let old: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, group)| now_ms.saturating_sub(group.time_ms) > WAIT_MS)
            .map(|(serial, _)| *serial)
            .collect();
        old.into_iter().filter_map(|serial| self.open.remove(&serial)).collect()
    }

    /// All that is left.
    pub(crate) fn finish(&mut self) -> Vec<Group> {
        std::mem::take(&mut self.open).into_values().collect()
    }
}

impl Group {
    fn add(&mut self, record: &Record) {
        match record.kind {
            Kind::Syscall => self.syscall = Some(syscall(record)),
            Kind::Path if self.paths.len() < PATHS_MAX => self.paths.extend(record.text("name").map(|name| PathName {
                name,
                kind: record.raw("nametype").unwrap_or_default().to_owned(),
                mode: record.raw("mode").map(str::to_owned),
            })),
            Kind::SocketAddress => self.address = record.raw("saddr").and_then(parse_saddr),
            Kind::Directory => self.directory = record.text("cwd"),
            Kind::Arguments => self.add_arguments(record),
            Kind::Title => self.title = record.text("proctitle"),
            Kind::Module => self.module = record.text("name"),
            Kind::Target => {
                self.target = record.id("opid").map(|pid| (pid, record.text("ocomm")));
            }
            Kind::Path | Kind::End => {}
        }
    }

    /// `a0=… a1=…`, or `a1[0]=… a1[1]=…` for long ones, in one record or several.
    fn add_arguments(&mut self, record: &Record) {
        let mut line = self.command_line.take().unwrap_or_default();
        for name in record.names() {
            let is_piece = name.contains('[');
            let digits = name.strip_prefix('a').map(|name| name.split('[').next().unwrap_or_default());
            if digits.is_none_or(|digits| digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit())) {
                continue;
            }
            let Some(text) = record.text(name) else { continue };
            if !(line.is_empty() || (is_piece && !name.ends_with("[0]"))) {
                line.push(' ');
            }
            line.push_str(&text);
            if line.len() > COMMAND_LINE_BYTES_MAX {
                break;
            }
        }
        self.command_line = Some(cut(&line, COMMAND_LINE_BYTES_MAX));
    }
}

fn syscall(record: &Record) -> Syscall {
    Syscall {
        arch: record.raw("arch").unwrap_or_default().to_owned(),
        number: record.number("syscall"),
        name: None,
        success: record.raw("success").map(|word| word == "yes"),
        exit: record.number("exit"),
        arguments: [record.hex("a0"), record.hex("a1"), record.hex("a2"), record.hex("a3")],
        pid: record.id("pid"),
        ppid: record.id("ppid"),
        uid: record.id("uid"),
        euid: record.id("euid"),
        comm: record.text("comm"),
        exe: record.text("exe"),
    }
}

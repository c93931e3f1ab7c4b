//! Where records come from: the kernel's own multicast of them, or a log that auditd writes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_AUDIT;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::time::{MissedTickBehavior, interval};

use super::{Group, Joiner, LINE_BYTES_MAX, Record, events_of, parse_kernel, parse_line};
use crate::sensor::enrich::Enrich;
use crate::sensor::event::Provider;
use crate::sensor::outlet::{Counts, Outlet};
use crate::sensor::source::{Now, Running, Source};

/// `AUDIT_NLGRP_READLOG` of `linux/audit.h`, as a bit.
const READ_LOG: u32 = 1;
/// Of a netlink message: its head, where the kind is at 4.
const NETLINK_HEAD: usize = 16;
/// Bytes for what the kernel says while the sensor is busy.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// How often a log is looked at, and groups that wait for their end.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Bytes of a log that are read at a time.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// The kernel's multicast.
pub(crate) struct Kernel {
    socket: TokioSocket,
    enrich: Enrich,
    now: Now,
}

impl Kernel {
    /// Asks to hear.
    ///
    /// # Errors
    /// The kernel has no audit, or not for this process.
    pub(crate) fn open(enrich: Enrich, now: Now) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_AUDIT)?;
        socket.socket_mut().bind(&SocketAddr::new(0, READ_LOG))?;
        let _ = socket.socket_mut().set_rx_buf_sz(BUFFER_BYTES);
        Ok(Self { socket, enrich, now })
    }

    async fn hear(mut self, outlet: Outlet) -> io::Result<()> {
        let mut joiner = Joiner::default();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let groups = tokio::select! {
                message = self.socket.recv_from_full() => match message {
                    Ok((message, from)) if from.port_number() == 0 => record_of(&message).map(|record| joiner.take(record)),
                    Ok(_) => None,
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                        Counts::add(&outlet.counts().lost, 1);
                        None
                    }
                    Err(error) => return Err(error),
                },
                _ = ticks.tick() => Some(joiner.overdue((self.now)())),
            };
            tell(groups.unwrap_or_default(), Provider::Audit, &mut self.enrich, &outlet);
        }
    }
}

impl Source for Kernel {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Running {
        Box::pin(self.hear(outlet))
    }
}

fn record_of(message: &[u8]) -> Option<Record> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    // The length in the head does not count the head here; what was received is what there is.
    parse_kernel(kind, message.get(NETLINK_HEAD..)?)
}

fn tell(groups: Vec<Group>, provider: Provider, enrich: &mut Enrich, outlet: &Outlet) {
    for mut event in groups.iter().flat_map(|group| events_of(group, provider)) {
        if enrich.complete(&mut event) {
            outlet.offer(&event);
        }
    }
}

/// A log, followed from its end, also over rotations.
pub(crate) struct Log {
    pub(crate) path: PathBuf,
    pub(crate) enrich: Enrich,
    pub(crate) now: Now,
}

impl Source for Log {
    fn name(&self) -> &'static str {
        "audit-log"
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Running {
        Box::pin(self.follow(outlet))
    }
}

impl Log {
    async fn follow(mut self, outlet: Outlet) -> io::Result<()> {
        let mut tail = Tail::open_at_end(self.path.clone())?;
        let mut joiner = Joiner::default();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut groups = Vec::new();
            for line in tail.lines()? {
                groups.extend(parse_line(&line).map(|record| joiner.take(record)).unwrap_or_default());
            }
            groups.extend(joiner.overdue((self.now)()));
            tell(groups, Provider::Audit, &mut self.enrich, &outlet);
        }
    }
}

/// A file that grows, and is replaced by another of its name now and then.
struct Tail {
    path: PathBuf,
    file: File,
    inode: u64,
    at: u64,
    /// A line without its end.
    rest: Vec<u8>,
}

impl Tail {
    fn open_at_end(path: PathBuf) -> io::Result<Self> {
        let mut file = File::open(&path)?;
        let at = file.seek(SeekFrom::End(0))?;
        let inode = file.metadata()?.ino();
        Ok(Self { path, file, inode, at, rest: Vec::new() })
    }

    /// The whole lines that were written since the last time, at most a chunk of them.
    fn lines(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut bytes = std::mem::take(&mut self.rest);
        let count = (&mut self.file).take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        self.at = self.at.saturating_add(count.try_into().unwrap_or(u64::MAX));
        if count == 0 {
            self.follow_rotation()?;
        }
        let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        self.rest = lines.pop().unwrap_or_default();
        if self.rest.len() > LINE_BYTES_MAX {
            // No line of audit is that long.
            self.rest.clear();
        }
        Ok(lines)
    }

    fn follow_rotation(&mut self) -> io::Result<()> {
        // Between its renaming and the making of the new one there is none.
        let Ok(there) = std::fs::metadata(&self.path) else { return Ok(()) };
        if there.ino() != self.inode {
            self.file = File::open(&self.path)?;
            self.inode = self.file.metadata()?.ino();
            self.at = 0;
        } else if there.len() < self.at {
            self.at = self.file.seek(SeekFrom::Start(0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_is_followed_over_rotation_and_truncation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        std::fs::write(&path, "old\n").unwrap();
        let append = |text: &str| {
            File::options().append(true).create(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap()
        };
        let mut tail = Tail::open_at_end(path.clone()).unwrap();
        let mut lines =
            || tail.lines().unwrap().into_iter().map(|line| String::from_utf8(line).unwrap()).collect::<Vec<_>>();
        assert!(lines().is_empty(), "what was there before is not told again");
        append("one\ntw");
        assert_eq!(lines(), ["one"]);
        append("o\n");
        assert_eq!(lines(), ["two"]);
        std::fs::rename(&path, directory.path().join("audit.log.1")).unwrap();
        append("three\n");
        assert!(lines().is_empty());
        assert_eq!(lines(), ["three"]);
        std::fs::write(&path, "4\n").unwrap();
        assert!(lines().is_empty());
        assert_eq!(lines(), ["4"]);
    }
}

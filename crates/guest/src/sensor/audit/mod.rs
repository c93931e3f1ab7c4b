//! Linux audit: its records, as the kernel or auditd writes them, joined to events, and what these mean.

mod join;
mod meaning;
mod record;
pub(crate) mod source;
mod syscalls;

use std::io;

use super::event::Provider;
use super::ocsf::{Stamp, render};

pub(crate) use join::{Group, Joiner, PathName, Syscall};
pub(crate) use meaning::events_of;
pub(crate) use record::{Address, Record, parse_kernel, parse_line, parse_saddr};

/// Bytes of one line of a log or message of the kernel; audit's own limit is 8970.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// Reads a whole audit log and writes the events in it as lines of OCSF. For tools and tests: nothing is looked up in /proc.
///
/// # Errors
/// Those of `out`.
pub fn convert(log: &[u8], out: &mut impl io::Write) -> io::Result<()> {
    let stamp = Stamp { run: "0".into(), hostname: None };
    let mut joiner = Joiner::default();
    let mut number = 0;
    let mut write = |groups: Vec<Group>| -> io::Result<()> {
        for event in groups.iter().flat_map(|group| events_of(group, Provider::Audit)) {
            number += 1;
            writeln!(out, "{}", render(&event, &stamp, number))?;
        }
        Ok(())
    };
    for line in log.split(|byte| *byte == b'\n') {
        if let Some(record) = parse_line(line) {
            write(joiner.take(record))?;
        }
    }
    write(joiner.finish())
}

#[cfg(test)]
mod tests;

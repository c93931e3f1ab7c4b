//! User and group ids inside a pocket: each id is itself.

use std::fmt::Write;
use std::fs;
use std::io;

/// Tells the kernel which ids exist in the user namespace of the process `child`.
///
/// A parent with root's powers maps every id that it knows, so that root inside is root over the same files. Any other can
/// map its own two ids only, and must give up changing groups for it.
pub(super) fn map(child: u32) -> io::Result<()> {
    let root = rustix::process::geteuid().is_root();
    if !(root && map_all(child, "uid").is_ok()) {
        let uid = rustix::process::geteuid().as_raw();
        write(child, "uid_map", &format!("{uid} {uid} 1\n"))?;
    }
    if !(root && map_all(child, "gid").is_ok()) {
        let gid = rustix::process::getegid().as_raw();
        write(child, "setgroups", "deny")?;
        write(child, "gid_map", &format!("{gid} {gid} 1\n"))?;
    }
    Ok(())
}

fn map_all(child: u32, kind: &str) -> io::Result<()> {
    let own = fs::read_to_string(format!("/proc/self/{kind}_map"))?;
    let all = identity_of(&own).ok_or(io::ErrorKind::InvalidData)?;
    write(child, &format!("{kind}_map"), &all)
}

/// The map that leaves each id of `own` (lines of: first id here, first id outside, how many) as it is here.
fn identity_of(own: &str) -> Option<String> {
    let mut all = String::new();
    for line in own.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (first, _, count) = (fields.next()?, fields.next()?, fields.next()?);
        writeln!(all, "{first} {first} {count}").ok()?;
    }
    (!all.is_empty()).then_some(all)
}

/// The kernel takes a map in one write only.
fn write(child: u32, file: &str, text: &str) -> io::Result<()> {
    fs::write(format!("/proc/{child}/{file}"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_that_exists_here_is_itself_inside() {
        let whole = "         0          0 4294967295\n";
        assert_eq!(identity_of(whole).unwrap(), "0 0 4294967295\n");
        let container = "0 100000 65536\n65536 1000 1\n";
        assert_eq!(identity_of(container).unwrap(), "0 0 65536\n65536 65536 1\n");
        assert_eq!(identity_of(""), None);
        assert_eq!(identity_of("0 0"), None);
    }
}

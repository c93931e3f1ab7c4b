//! What laurel writes: one event of audit as one line of JSON, its records as members.

use std::net::IpAddr;

use serde_json::Value;

use super::audit::{Address, Group, PathName, Syscall, parse_saddr};
use super::event::Endpoint;
use super::proc::COMMAND_LINE_BYTES_MAX;
use super::text::{command_line, cut};

/// Paths that one event has.
const PATHS_MAX: usize = 16;

/// Reads a line; nothing if it is none of laurel's.
pub(crate) fn parse(line: &[u8]) -> Option<Group> {
    let event: Value = serde_json::from_slice(line).ok()?;
    let id = event.get("ID")?.as_str()?;
    let (seconds, rest) = id.split_once('.')?;
    let milliseconds = rest.split(':').next()?.get(..3)?;
    let time_ms = seconds.parse::<i64>().ok()?.checked_mul(1000)?.checked_add(milliseconds.parse().ok()?)?;
    let member = |name: &str| event.get(name);
    Some(Group {
        time_ms,
        syscall: member("SYSCALL").map(syscall),
        command_line: member("EXECVE").and_then(arguments),
        title: member("PROCTITLE").and_then(arguments),
        directory: member("CWD").and_then(|record| text(record, "cwd")),
        paths: many(member("PATH")).filter_map(path).take(PATHS_MAX).collect(),
        address: many(member("SOCKADDR")).find_map(address),
        module: member("KERN_MODULE").and_then(|record| text(record, "name")),
        target: many(member("OBJ_PID"))
            .find_map(|record| Some((number(record, "opid")?.try_into().ok()?, text(record, "ocomm")))),
        parent: member("PARENT_INFO").map(|record| {
            let name =
                text(record, "comm").or_else(|| text(record, "exe").map(|exe| super::text::base_name(&exe).to_owned()));
            (name, arguments(record))
        }),
    })
}

/// A record, or a list of them.
fn many(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let list = value.and_then(Value::as_array);
    let single = if list.is_none() { value } else { None };
    list.into_iter().flatten().chain(single)
}

fn text(record: &Value, name: &str) -> Option<String> {
    record.get(name)?.as_str().map(|text| cut(text, COMMAND_LINE_BYTES_MAX))
}

/// A number, or the text of one; in hexadecimal with `0x`, as laurel writes arguments of calls.
fn number(record: &Value, name: &str) -> Option<i64> {
    match record.get(name)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => match text.strip_prefix("0x") {
            // An address is wider than a signed number; the bits are what counts.
            Some(digits) => u64::from_str_radix(digits, 16).ok().map(u64::cast_signed),
            None => text.parse().ok(),
        },
        _ => None,
    }
}

/// `ARGV`: a list of texts; or `ARGV_STR`, where laurel joined it already.
fn arguments(record: &Value) -> Option<String> {
    if let Some(joined) = text(record, "ARGV_STR") {
        return Some(joined);
    }
    let list = record.get("ARGV")?.as_array()?;
    Some(command_line(list.iter().map(|argument| argument.as_str().unwrap_or("?")), COMMAND_LINE_BYTES_MAX))
}

fn syscall(record: &Value) -> Syscall {
    let id = |name| number(record, name).and_then(|number| u32::try_from(number).ok());
    let argument = |name| number(record, name).map(i64::cast_unsigned);
    let success = match record.get("success") {
        Some(Value::String(word)) => Some(word == "yes"),
        Some(Value::Bool(success)) => Some(*success),
        _ => None,
    };
    Syscall {
        arch: text(record, "arch").unwrap_or_default(),
        number: number(record, "syscall"),
        name: text(record, "SYSCALL"),
        success,
        exit: number(record, "exit"),
        arguments: [argument("a0"), argument("a1"), argument("a2"), argument("a3")],
        pid: id("pid"),
        ppid: id("ppid"),
        uid: id("uid"),
        euid: id("euid"),
        comm: text(record, "comm"),
        exe: text(record, "exe"),
    }
}

fn path(record: &Value) -> Option<PathName> {
    let name = text(record, "name")?;
    Some(PathName { name, kind: text(record, "nametype").unwrap_or_default(), mode: text(record, "mode") })
}

/// Translated (`SADDR`), or as the kernel has it (`saddr`).
fn address(record: &Value) -> Option<Address> {
    if let Some(digits) = record.get("saddr").and_then(Value::as_str) {
        return parse_saddr(digits);
    }
    let translated = record.get("SADDR")?;
    if let Some(path) = text(translated, "path") {
        return Some(Address::Unix(path));
    }
    let ip: IpAddr = translated.get("addr")?.as_str()?.parse().ok()?;
    Some(Address::Inet(Endpoint { ip, port: number(translated, "port")?.try_into().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::super::audit::events_of;
    use super::super::event::{Provider, What};
    use super::*;

    #[test]
    fn a_program_is_started() {
        let line = br#"{"ID":"1615114232.375:15558","SYSCALL":{"arch":"0xc000003e","syscall":59,"success":"yes","exit":0,"a0":"0x63b29337fd18","items":2,"ppid":10000,"pid":15637,"auid":1000,"uid":0,"euid":0,"comm":"whoami","exe":"/usr/bin/whoami","ARCH":"x86_64","SYSCALL":"execve"},"EXECVE":{"argc":2,"ARGV":["whoami","--x y"]},"CWD":{"cwd":"/srv/user"},"PATH":[{"item":0,"name":"/usr/bin/whoami","nametype":"NORMAL"}],"PARENT_INFO":{"ARGV":["bash","-l"],"exe":"/usr/bin/bash"}}"#;
        let group = parse(line).unwrap();
        let events = events_of(&group, Provider::Laurel);
        assert_eq!(events[0].time_ms, 1_615_114_232_375);
        let What::Launched { process, .. } = &events[0].what else { panic!("{events:?}") };
        assert_eq!((process.pid, process.command_line.as_deref()), (15637, Some("whoami --x y")));
        assert_eq!(
            (process.path.as_deref(), process.directory.as_deref()),
            (Some("/usr/bin/whoami"), Some("/srv/user"))
        );
        let parent = process.parent.as_ref().unwrap();
        assert_eq!(
            (parent.pid, parent.name.as_deref(), parent.command_line.as_deref()),
            (10000, Some("bash"), Some("bash -l"))
        );
    }

    #[test]
    fn a_connection_in_both_forms() {
        for saddr in [
            r#"{"saddr":"0200115C7F0000010000000000000000"}"#,
            r#"{"SADDR":{"family":"inet","addr":"127.0.0.1","port":4444}}"#,
        ] {
            let line = format!(
                r#"{{"ID":"1615114232.375:1","SYSCALL":{{"arch":"0xc000003e","syscall":42,"success":"no","exit":-115,"pid":7,"ppid":1,"uid":0,"euid":0}},"SOCKADDR":[{saddr}]}}"#
            );
            let events = events_of(&parse(line.as_bytes()).unwrap(), Provider::Laurel);
            let What::Connected { remote: Some(remote), failed, .. } = &events[0].what else { panic!("{events:?}") };
            assert_eq!((remote.port, *failed), (4444, false));
        }
    }

    #[test]
    fn lines_that_are_none() {
        for bad in
            ["", "{}", "[]", r#"{"ID":1}"#, r#"{"ID":"x"}"#, r#"{"ID":"1.2:3"}"#, r#"{"ID":"99999999999999999.000:1"}"#]
        {
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

//! One record of audit: its kind, the event it belongs to, and its fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LINE_BYTES_MAX;
use crate::sensor::event::Endpoint;
use crate::sensor::text::{cut, lossy};

/// Fields of one record that are kept: an EXECVE has one for each argument.
pub(crate) const FIELDS_MAX: usize = 1024;
/// Bytes of the value of a field.
pub(crate) const VALUE_BYTES_MAX: usize = 4096;

/// The kinds of records that mean something here; all others are passed over. The numbers are those of `linux/audit.h`.
const KINDS: [(u16, &str, Kind); 9] = [
    (1300, "SYSCALL", Kind::Syscall),
    (1302, "PATH", Kind::Path),
    (1306, "SOCKADDR", Kind::SocketAddress),
    (1307, "CWD", Kind::Directory),
    (1309, "EXECVE", Kind::Arguments),
    (1320, "EOE", Kind::End),
    (1327, "PROCTITLE", Kind::Title),
    (1330, "KERN_MODULE", Kind::Module),
    (1318, "OBJ_PID", Kind::Target),
];

/// What a record tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Syscall,
    Path,
    SocketAddress,
    Directory,
    Arguments,
    Title,
    Module,
    /// The process that a call is about.
    Target,
    /// There are no more records of this event.
    End,
}

/// A record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) time_ms: i64,
    pub(crate) serial: u64,
    fields: Vec<(String, String)>,
}

/// What a socket is connected or bound to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Inet(Endpoint),
    Unix(String),
}

impl Record {
    /// A field as it stands, without its quotes.
    pub(crate) fn raw(&self, name: &str) -> Option<&str> {
        let value = self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())?;
        let value = value.strip_prefix('"').map_or(value, |value| value.strip_suffix('"').unwrap_or(value));
        (value != "(null)" && value != "(none)").then_some(value)
    }

    /// A field that a process chose: in quotes if it is harmless, else in hexadecimal digits.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let value = self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())?;
        if value.starts_with('"') || value == "(null)" || value == "(none)" {
            return self.raw(name).map(str::to_owned);
        }
        match unhex(value) {
            // Arguments of a command line have a NUL between them.
            Some(bytes) => Some(lossy(&spaced(bytes), VALUE_BYTES_MAX)),
            None => Some(value.to_owned()),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.raw(name)?.parse().ok()
    }

    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.raw(name)?.parse().ok()
    }

    /// A number in hexadecimal digits, as `a0` to `a3` of a SYSCALL are.
    pub(crate) fn hex(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.raw(name)?, 16).ok()
    }

    /// The names of the fields, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

fn spaced(mut bytes: Vec<u8>) -> Vec<u8> {
    for byte in &mut bytes {
        if *byte == 0 {
            *byte = b' ';
        }
    }
    bytes
}

/// Reads a line of a log: `type=SYSCALL msg=audit(1364481363.243:24287): arch=…`, with or without `node=…` before it.
pub(crate) fn parse_line(line: &[u8]) -> Option<Record> {
    let text = String::from_utf8_lossy(line.get(..LINE_BYTES_MAX.min(line.len()))?);
    let mut text = text.trim();
    if text.starts_with("node=") {
        text = text.split_once(' ')?.1;
    }
    let (name, rest) = text.strip_prefix("type=")?.split_once(' ')?;
    let kind = KINDS.iter().find(|(_, own, _)| *own == name)?.2;
    parse(kind, rest.strip_prefix("msg=")?)
}

/// Reads a message of the kernel: the kind is a number, the text begins with `audit(`.
pub(crate) fn parse_kernel(number: u16, text: &[u8]) -> Option<Record> {
    let kind = KINDS.iter().find(|(own, _, _)| *own == number)?.2;
    let text = String::from_utf8_lossy(text.get(..LINE_BYTES_MAX.min(text.len()))?);
    parse(kind, text.trim_end_matches(['\0', '\n']))
}

fn parse(kind: Kind, text: &str) -> Option<Record> {
    let (stamp, rest) = text.strip_prefix("audit(")?.split_once(')')?;
    let (time, serial) = stamp.split_once(':')?;
    let (seconds, fraction) = time.split_once('.')?;
    let seconds: i64 = seconds.parse().ok()?;
    let milliseconds: i64 = fraction.get(..3)?.parse().ok()?;
    let time_ms = seconds.checked_mul(1000)?.checked_add(milliseconds)?;
    // auditd writes names of users and the like behind this byte; they are the names of the computer that reads.
    let fields = rest.strip_prefix(':').unwrap_or(rest).split('\u{1d}').next().unwrap_or_default();
    Some(Record { kind, time_ms, serial: serial.parse().ok()?, fields: split_fields(fields) })
}

/// `name=value` with spaces between; a value in double quotes holds spaces, and no quotes.
fn split_fields(mut text: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    while fields.len() < FIELDS_MAX {
        text = text.trim_start();
        let Some((name, rest)) = text.split_once('=') else { break };
        let name = name.rsplit(' ').next().unwrap_or_default();
        let end = match rest.strip_prefix('"') {
            Some(inner) => inner.find('"').map_or(rest.len(), |at| at + 2),
            None => rest.find(' ').unwrap_or(rest.len()),
        };
        let (value, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
        fields.push((cut(name, 64), cut(value, VALUE_BYTES_MAX.saturating_mul(2))));
        text = behind;
    }
    fields
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// A `struct sockaddr` in hexadecimal digits, as the processor has it in memory.
pub(crate) fn parse_saddr(digits: &str) -> Option<Address> {
    let bytes = unhex(digits)?;
    let family = u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]);
    let port = || Some(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
    match family {
        1 => {
            let path = bytes.get(2..)?;
            // A name that begins with NUL is in no file system; tools write an @ for it.
            let is_abstract = path.first() == Some(&0);
            let name = if is_abstract { path.get(1..)? } else { path };
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = lossy(name, 108);
            Some(Address::Unix(if is_abstract { format!("@{name}") } else { name }))
        }
        2 => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(Address::Inet(Endpoint { ip: IpAddr::V4(Ipv4Addr::from(octets)), port: port()? }))
        }
        10 => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(Address::Inet(Endpoint { ip: Ipv6Addr::from(octets).to_canonical(), port: port()? }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_a_message_are_the_same() {
        let text = r#"audit(1364481363.243:24287): arch=c000003e syscall=59 success=yes exit=0 a0=7f a1=0 items=2 pid=3538 uid=1000 comm="cat x" exe="/bin/cat" key=(null)"#;
        let line =
            parse_line(format!("node=web type=SYSCALL msg={text}\u{1d}ARCH=x86_64 UID=\"anna\"").as_bytes()).unwrap();
        assert_eq!(parse_kernel(1300, format!("{text}\0").as_bytes()).unwrap(), line);
        assert_eq!((line.kind, line.time_ms, line.serial), (Kind::Syscall, 1_364_481_363_243, 24287));
        assert_eq!(
            (line.text("comm").as_deref(), line.number("pid"), line.hex("a0")),
            (Some("cat x"), Some(3538), Some(0x7f))
        );
        assert_eq!((line.raw("key"), line.raw("UID"), line.number("exe")), (None, None, None));
    }

    #[test]
    fn what_a_process_chose_is_hexadecimal() {
        let record = parse_kernel(1327, b"audit(1.000:2): proctitle=62617368002D6300612062").unwrap();
        assert_eq!(record.text("proctitle").as_deref(), Some("bash -c a b"));
        let record = parse_kernel(1302, "audit(1.000:2): name=2F746D702FC3A9 other=\"E9E9\"".as_bytes()).unwrap();
        assert_eq!((record.text("name").as_deref(), record.text("other").as_deref()), (Some("/tmp/é"), Some("E9E9")));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn addresses() {
        let at = |text: &str, port| Some(Address::Inet(Endpoint { ip: text.parse().unwrap(), port }));
        assert_eq!(parse_saddr("0200115C7F0000010000000000000000"), at("127.0.0.1", 4444));
        assert_eq!(parse_saddr("0A0001BB0000000000000000000000000000000000000001"), at("::1", 443));
        let unix = |text: &str| Some(Address::Unix(text.to_owned()));
        assert_eq!(parse_saddr("01002F72756E2F782E736F636B0000"), unix("/run/x.sock"));
        assert_eq!(parse_saddr("0100006162"), unix("@ab"));
        for bad in ["", "02", "0200", "0200115C7F", "1000AABB", "zz", "0"] {
            assert_eq!(parse_saddr(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_that_are_none() {
        for bad in [
            "",
            "type=",
            "type=SYSCALL msg=audit(x",
            "type=LOGIN msg=audit(1.000:2): a=b",
            "type=SYSCALL msg=audit(1.0:2):",
            "type=SYSCALL msg=audit(99999999999999999.000:1):",
        ] {
            assert!(parse_line(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn fields_below_at_and_above_the_limit() {
        for count in [FIELDS_MAX - 1, FIELDS_MAX, FIELDS_MAX + 1] {
            assert_eq!(split_fields(&"a=b ".repeat(count)).len(), count.min(FIELDS_MAX));
        }
    }
}

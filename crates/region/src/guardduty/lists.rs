//! The files of sets of addresses. A region reads none but those that somebody with access to its own files has put into
//! one directory: who may only call it must not make it open paths or connections of their choice.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use inborn_detect::AddressList;

/// How a location of such a file begins. The rest is its name in the directory.
pub(crate) const SCHEME: &str = "file:";
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Largest file, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most entries of a file.
pub(crate) const ENTRIES_MAX: usize = 50_000;
/// Longest entry: the longest name in DNS.
const ENTRY_BYTES_MAX: usize = 253;

/// What a file has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entries {
    /// Networks, as their first address and the bits that count. Sorted.
    networks: Vec<(IpAddr, u8)>,
    /// Names of hosts, in small letters. Sorted.
    names: Vec<String>,
}

/// Why a file is no list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The location names none.
    #[error("a location is file:NAME, the name of a file in the directory lists of the region's data directory")]
    Location,
    /// The file system says no.
    #[error("the file cannot be read ({0})")]
    Io(#[from] io::Error),
    /// Too large.
    #[error("the file has more than {FILE_BYTES_MAX} bytes or {ENTRIES_MAX} entries")]
    TooLarge,
    /// A line that is no entry. Its text is not told: it may be of another file than was meant.
    #[error("line {0} is neither an address, nor a network, nor a name")]
    Line(usize),
}

/// The name of the file at a location.
pub(crate) fn name(location: &str) -> Result<&str, ListError> {
    let name = location.strip_prefix(SCHEME).ok_or(ListError::Location)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_good =
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.chars().all(is_plain);
    if is_good { Ok(name) } else { Err(ListError::Location) }
}

/// Reads the file at a location.
pub(crate) fn read(directory: &Path, location: &str) -> Result<Entries, ListError> {
    let path = directory.join(name(location)?);
    if !path.symlink_metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file").into());
    }
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ListError::TooLarge);
    }
    parse(&String::from_utf8(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?)
}

/// One entry a line; what begins with `#` is not one.
fn parse(text: &str) -> Result<Entries, ListError> {
    let mut entries = Entries::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if entries.networks.len() + entries.names.len() >= ENTRIES_MAX {
            return Err(ListError::TooLarge);
        }
        match (network(line), host(line)) {
            (Some(network), _) => entries.networks.push(network),
            (None, Some(host)) => entries.names.push(host),
            (None, None) => return Err(ListError::Line(index + 1)),
        }
    }
    entries.networks.sort_unstable();
    entries.networks.dedup();
    entries.names.sort_unstable();
    entries.names.dedup();
    Ok(entries)
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok()).filter(|bits| *bits <= most)?;
    Some((first(address, bits), bits))
}

/// The first address of a network.
fn first(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

fn host(text: &str) -> Option<String> {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // What ends in a number would be an address, and is a broken one.
    let ends_well = text.rsplit('.').next()?.bytes().any(|byte| byte.is_ascii_alphabetic());
    let is_host = text.len() <= ENTRY_BYTES_MAX && text.contains('.') && text.split('.').all(is_label) && ends_well;
    is_host.then(|| text.to_ascii_lowercase())
}

impl AddressList for Entries {
    /// Whether an address is in one of the networks.
    fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let most = if address.is_ipv4() { 32 } else { 128 };
        (0..=most).any(|bits| self.networks.binary_search(&(first(address, bits), bits)).is_ok())
    }

    /// Whether a name, or one that it is below, is among the names.
    fn has_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut rest = name.as_str();
        loop {
            if self.names.binary_search_by(|own| own.as_str().cmp(rest)).is_ok() {
                return true;
            }
            match rest.split_once('.') {
                Some((_, below)) => rest = below,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_addresses_networks_and_names() {
        let list = parse("# ours\n\n 192.0.2.1 \n198.51.100.77/24\n2001:db8::/32\nEvil.Example.com\n").unwrap();
        for (address, is_there) in [
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("198.51.100.1", true),
            ("198.51.101.1", false),
            ("::ffff:192.0.2.1", true),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(list.has_address(address.parse().unwrap()), is_there, "{address}");
        }
        for (name, is_there) in [
            ("evil.example.com", true),
            ("a.EVIL.example.com.", true),
            ("example.com", false),
            ("notevil.example.com", false),
        ] {
            assert_eq!(list.has_name(name), is_there, "{name}");
        }
        assert!(parse("0.0.0.0/0").unwrap().has_address("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn what_is_no_list() {
        for bad in ["192.0.2.1/33", "192.0.2", "nodots", "a..b", "a b.example", "2001:db8::/129", "192.0.2.1/-1"] {
            assert!(matches!(parse(&format!("1.2.3.4\n{bad}")), Err(ListError::Line(2))), "{bad}");
        }
    }

    #[test]
    fn entries_below_at_and_above_the_limit() {
        let list = |count: usize| parse(&"192.0.2.1\n".repeat(count));
        assert!(list(ENTRIES_MAX - 1).is_ok());
        assert!(list(ENTRIES_MAX).is_ok());
        assert!(matches!(list(ENTRIES_MAX + 1), Err(ListError::TooLarge)));
    }

    #[test]
    fn files_below_at_and_above_the_limit_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let size = usize::try_from(FILE_BYTES_MAX).unwrap();
        for (bytes, is_good) in [(size - 1, true), (size, true), (size + 1, false)] {
            std::fs::write(directory.path().join("list.txt"), " ".repeat(bytes)).unwrap();
            assert_eq!(read(directory.path(), "file:list.txt").is_ok(), is_good, "{bytes}");
        }
        std::os::unix::fs::symlink("/etc/hosts", directory.path().join("link")).unwrap();
        for bad in [
            "file:link",
            "file:absent",
            "file:",
            "file:../x",
            "file:.x",
            "file:/etc/hosts",
            "file:///etc/hosts",
            "https://s3.amazonaws.com/bucket/list.txt",
            "s3://bucket/list.txt",
            "list.txt",
        ] {
            assert!(read(directory.path(), bad).is_err(), "{bad}");
        }
        let long = |length: usize| format!("file:{}", "x".repeat(length));
        assert!(name(&long(NAME_BYTES_MAX)).is_ok());
        assert!(name(&long(NAME_BYTES_MAX + 1)).is_err());
    }
}

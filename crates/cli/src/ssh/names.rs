//! Names by which ssh may look a machine up.

use inborn_identity::InstanceId;

/// The longest name: that of a DNS label is shorter, that of a tag longer.
const NAME_BYTES_MAX: usize = 128;

/// Whether a name can stand in a line of `known_hosts` and in the name of a file, and means only itself there.
pub(super) fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with(['.', '-'])
}

/// Whether a name that somebody gave a machine may stand for it in a file that is handed around: it must not be what other
/// machines or the world are known by.
pub(super) fn is_own(name: &str) -> bool {
    is_plain(name) && !name.contains('.') && name.parse::<InstanceId>().is_err()
}

/// Whether this is what ssh calls a host (%H): a name or an address, perhaps in brackets and with a port.
pub(super) fn is_host(host: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-[]:%".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&host.len()) && host.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_more_than_themselves_are_none() {
        for name in ["i-0123456789abcdef0", "web-1", "a.b_c", "10.0.0.7", &"n".repeat(NAME_BYTES_MAX)] {
            assert!(is_plain(name), "{name}");
        }
        for name in [
            "",
            "*",
            "a*",
            "!a",
            "a b",
            "a,b",
            "@a",
            "a/b",
            "..",
            ".a",
            "-o",
            "é",
            "a\n",
            &"n".repeat(NAME_BYTES_MAX + 1),
        ] {
            assert!(!is_plain(name), "{name}");
        }
    }

    #[test]
    fn names_of_others_are_not_ones_own() {
        assert!(is_own("web-1") && is_own("i-web"));
        for name in ["i-0123456789abcdef0", "10.0.0.7", "example.com", "a b"] {
            assert!(!is_own(name), "{name}");
        }
    }

    #[test]
    fn hosts_of_ssh_are_names_addresses_and_ports() {
        for host in ["web-1", "[web-1]:2222", "127.0.0.1", "[fe80::1%eth0]:22"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "a b", "a\n@cert-authority", "*", "a,b", "!a", &"n".repeat(NAME_BYTES_MAX + 1)] {
            assert!(!is_host(host), "{host}");
        }
    }
}

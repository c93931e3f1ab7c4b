//! Where a server is reached: `http://HOST:PORT` or `https://HOST:PORT`.

use core::str::FromStr;

use inborn_store::Beat;

/// Where a server is reached by its siblings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    pub(super) is_tls: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// It is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is HOST alone, https://HOST:PORT or http://HOST:PORT")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(AddressError)?;
        let is_tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(AddressError),
        };
        let (host, port) = rest.rsplit_once(':').ok_or(AddressError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(AddressError)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<core::net::Ipv6Addr>().map_err(|_| AddressError)?.to_string(),
            None => {
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                if host.is_empty() || !host.bytes().all(is_name) {
                    return Err(AddressError);
                }
                host.to_owned()
            }
        };
        if text.len() > Beat::ADDRESS_MAX {
            return Err(AddressError);
        }
        Ok(Self { is_tls, host, port })
    }
}

/// Whether servers could be reached there.
///
/// # Errors
/// What it should be.
pub fn check_address(text: &str) -> Result<(), AddressError> {
    text.parse::<Address>().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, is_tls, host, port) in [
            ("https://region-1.lab:4581", true, "region-1.lab", 4581),
            ("http://127.0.0.1:1", false, "127.0.0.1", 1),
            ("https://[fd00::1]:65535", true, "fd00::1", 65535),
        ] {
            assert_eq!(text.parse(), Ok(Address { is_tls, host: host.to_owned(), port }), "{text}");
        }
        let longest = format!("http://{}:1", "n".repeat(Beat::ADDRESS_MAX - 9));
        assert!(check_address(&longest).is_ok() && check_address(&longest.replace("n:", "nn:")).is_err());
        for text in [
            "",
            "region:1",
            "ftp://region:1",
            "http://region",
            "http://region:0",
            "http://region:65536",
            "http://:1",
            "http://a b:1",
            "http://a/b:1",
            "http://a:1/",
            "http://fd00::1:1",
            "http://[x]:1",
            "http://u@a:1",
        ] {
            assert_eq!(check_address(text), Err(AddressError), "{text}");
        }
    }
}

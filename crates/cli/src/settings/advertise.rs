//! Where other region servers reach this one.

use core::str::FromStr;
use std::net::{IpAddr, Ipv6Addr};

use inborn_region::{AddressError, check_address};

/// What `--advertise` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Advertise {
    /// The whole of it.
    Address(String),
    /// The host, as it stands in an address. It is asked by TLS, where this server serves that.
    Host(String),
}

impl FromStr for Advertise {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.contains("://") {
            return check_address(text).map(|()| Self::Address(text.to_owned()));
        }
        let host = match text.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => text.to_owned(),
        };
        check_address(&format!("https://{host}:65535")).map(|()| Self::Host(host))
    }
}

impl Advertise {
    /// The address, where TLS is served at this port.
    pub(crate) fn address(&self, tls_port: u16) -> String {
        match self {
            Self::Address(address) => address.clone(),
            Self::Host(host) => format!("https://{host}:{tls_port}"),
        }
    }

    /// The host, if it is an address and not a name.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        let host = match self {
            Self::Address(address) => address.split_once("://")?.1.rsplit_once(':')?.0,
            Self::Host(host) => host,
        };
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_addresses() {
        for (text, expected) in [
            ("10.0.0.7", "https://10.0.0.7:4581"),
            ("a.region.lab", "https://a.region.lab:4581"),
            ("fd00::1", "https://[fd00::1]:4581"),
            ("[fd00::1]", "https://[fd00::1]:4581"),
            ("https://a:1", "https://a:1"),
            ("http://[fd00::1]:4580", "http://[fd00::1]:4580"),
        ] {
            assert_eq!(text.parse::<Advertise>().map(|it| it.address(4581)), Ok(expected.to_owned()), "{text}");
        }
        for (text, expected) in [
            ("10.0.0.7", Some("10.0.0.7")),
            ("http://10.0.0.7:80", Some("10.0.0.7")),
            ("fd00::1", Some("fd00::1")),
            ("https://[fd00::1]:1", Some("fd00::1")),
            ("a.region.lab", None),
            ("https://a:1", None),
        ] {
            let address = text.parse::<Advertise>().unwrap().ip();
            assert_eq!(address, expected.map(|address| address.parse().unwrap()), "{text}");
        }
        for text in ["", "a b", "a:1", "ftp://a:1", "http://a", "http://a:0", "https://a:1/path"] {
            assert_eq!(text.parse::<Advertise>(), Err(AddressError), "{text}");
        }
    }
}

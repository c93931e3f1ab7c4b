//! The address of a network interface on its link.

use core::fmt;
use core::str::FromStr;

/// A text or octets that are no interface's own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a MAC address is six hex pairs joined by colons, not all zero and not a group's, as in 02:00:5e:00:53:01")]
pub struct MacError;

/// A MAC address that one interface can have: 48 bits, unicast, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// The bit of the first octet that a group's address has. Source: IEEE 802, 8.2.
    const GROUP: u8 = 1;
    /// The first octet of an address that is unicast and locally administered, as EC2's are.
    const LOCAL: u8 = 2;

    /// From its octets.
    ///
    /// # Errors
    /// They are a group's address, or all zero.
    pub const fn new(octets: [u8; 6]) -> Result<Self, MacError> {
        let [first, ..] = octets;
        if first & Self::GROUP != 0 || matches!(octets, [0, 0, 0, 0, 0, 0]) {
            return Err(MacError);
        }
        Ok(Self(octets))
    }

    /// A locally administered one that begins with `02`.
    #[must_use]
    pub const fn local([a, b, c, d, e]: [u8; 5]) -> Self {
        Self([Self::LOCAL, a, b, c, d, e])
    }
}

impl FromStr for MacAddress {
    type Err = MacError;
    /// Of digits in either case: Proxmox writes capitals.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(pair.ok_or(MacError)?, 16).map_err(|_| MacError)?;
        }
        if pairs.next().is_some() {
            return Err(MacError);
        }
        Self::new(octets)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_in_lower_case() {
        for text in ["02:00:5e:00:53:01", "BC:24:11:2e:9A:0f", "00:00:00:00:00:01", "fe:ff:ff:ff:ff:ff"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), text.to_ascii_lowercase());
        }
        assert_eq!(MacAddress::local([1, 2, 3, 4, 0xff]).to_string(), "02:01:02:03:04:ff");
        assert_eq!(MacAddress::new([2, 1, 2, 3, 4, 0xff]), Ok(MacAddress::local([1, 2, 3, 4, 0xff])));
    }

    #[test]
    fn what_no_interface_has() {
        for text in [
            "",
            ":::::",
            "02:00:5e:00:53",
            "02:00:5e:00:53:01:02",
            "02:00:5e:00:53:01:",
            "02-00-5e-00-53-01",
            "2:0:5e:0:53:1",
            "02:00:5e:00:53:+1",
            "02:00:5e:00:53:0g",
            " 02:00:5e:00:53:01",
            "02:00:5e:00:53:☃",
            "00:00:00:00:00:00",
            "01:00:5e:00:53:01",
            "ff:ff:ff:ff:ff:ff",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(MacError), "{text}");
        }
    }
}

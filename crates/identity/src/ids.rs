//! Account, instance, region, zone: texts that were checked once and are trusted ever after.

use core::fmt;
use core::str::FromStr;

/// A text that is not the id it should be. The text itself is not repeated: it may be anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{expected}")]
pub struct IdError {
    expected: &'static str,
}

impl IdError {
    pub(crate) const PARTITION: IdError = IdError {
        expected: "a partition is one of aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-iso-e, aws-iso-f, aws-eusc",
    };
}

const ACCOUNT: IdError = IdError { expected: "an account id is 12 digits, as in 123456789012" };
const INSTANCE: IdError =
    IdError { expected: "an instance id is i- and 17 lower-case hex digits, as in i-0123456789abcdef0" };
const HOST: IdError = IdError { expected: "a host id is h- and 17 lower-case hex digits, as in h-0123456789abcdef0" };
const REGION: IdError = IdError {
    expected: "a region name is 3 to 32 lower-case letters, digits and inner single hyphens, starting with a letter, as in us-east-1",
};
const ZONE: IdError = IdError { expected: "a zone is a region name and one lower-case letter, as in us-east-1a" };

/// A 12-digit account number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u64);

impl AccountId {
    /// The highest account number there can be. It fits the 40 bits that an access key id has for it.
    pub const MAX: u64 = 999_999_999_999;

    /// From a number.
    ///
    /// # Errors
    /// More than 12 digits.
    pub const fn new(number: u64) -> Result<Self, IdError> {
        if number <= Self::MAX { Ok(Self(number)) } else { Err(ACCOUNT) }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl FromStr for AccountId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 12 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ACCOUNT);
        }
        text.parse().map(Self).map_err(|_| ACCOUNT)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// 17 lower-case hex digits. A server that starts reads millions of them.
fn seventeen_digits(text: &str) -> Option<u128> {
    let digits: &[u8; 17] = text.as_bytes().try_into().ok()?;
    let [first, rest @ ..] = digits.map(hex_digit);
    // Without a branch for each digit: one that is none leaves its mark.
    let (low, marks) =
        rest.iter().fold((0_u64, first), |(low, marks), digit| (low << 4 | u64::from(*digit), marks | digit));
    (marks < NO_DIGIT).then(|| u128::from(first) << 64 | u128::from(low))
}

/// More than any digit.
const NO_DIGIT: u8 = 0x10;

const fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => NO_DIGIT,
    }
}

/// An id that is a letter, a dash and 17 hex digits: 68 bits.
macro_rules! short_id {
    ($(#[$about:meta])* $name:ident, $prefix:literal, $error:ident) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// How many bytes an id has.
            pub const BYTES: usize = 9;
            const MASK: u128 = (1 << 68) - 1;

            /// From 9 bytes, of which the upper half of the first is ignored: give it random ones to make a new id.
            #[must_use]
            pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
                Self(bytes.iter().fold(0u128, |value, byte| value << 8 | u128::from(*byte)) & Self::MASK)
            }

            /// The id in 9 bytes, big-endian; the upper half of the first is 0.
            #[must_use]
            pub fn to_bytes(self) -> [u8; Self::BYTES] {
                let [.., a, b, c, d, e, f, g, h, i] = self.0.to_be_bytes();
                [a, b, c, d, e, f, g, h, i]
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix).and_then(seventeen_digits).map(Self).ok_or($error)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:017x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

short_id!(
    /// A machine: `i-` and 17 hex digits.
    InstanceId,
    "i-",
    INSTANCE
);
short_id!(
    /// A computer that runs machines: `h-` and 17 hex digits, as EC2 names its dedicated hosts.
    HostId,
    "h-",
    HOST
);

/// The longest region name accepted. AWS's longest today has 14 characters.
const REGION_LENGTH_MAX: usize = 32;

/// A region name. Any name that can be a DNS label will do: a self-hosted region may be called `lab`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(Box<str>);

impl Region {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let well_formed = (3..=REGION_LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && !text.contains("--");
        if well_formed { Ok(Self(text.into())) } else { Err(REGION) }
    }
}

/// A zone: the region's name and one letter. That shape is what botocore (which drops the last character to get the
/// region) and the Instance Connect scripts expect.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(Box<str>);

impl Zone {
    /// Zone `letter` of `region`.
    ///
    /// # Errors
    /// `letter` is not a lower-case ASCII letter.
    pub fn new(region: &Region, letter: char) -> Result<Self, IdError> {
        if letter.is_ascii_lowercase() { Ok(Self(format!("{region}{letter}").into())) } else { Err(ZONE) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The region it is in.
    #[must_use]
    pub fn region(&self) -> Region {
        let mut name = self.0.to_string();
        name.pop();
        Region(name.into())
    }
}

impl FromStr for Zone {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let letter = text.chars().next_back().filter(char::is_ascii_lowercase).ok_or(ZONE)?;
        let region = text.strip_suffix(letter).and_then(|region| region.parse().ok()).ok_or(ZONE)?;
        Self::new(&region, letter)
    }
}

macro_rules! shows_as_text {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    )*};
}
shows_as_text!(Region, Zone);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accounts_are_twelve_digits() {
        assert_eq!("000000000001".parse::<AccountId>().unwrap().number(), 1);
        assert_eq!("000000000001".parse::<AccountId>().unwrap().to_string(), "000000000001");
        assert!(AccountId::new(AccountId::MAX).is_ok());
        assert!(AccountId::new(AccountId::MAX + 1).is_err());
        for text in ["", "12345678901", "1234567890123", "+12345678901", "12345678901a", "１23456789012"] {
            assert_eq!(text.parse::<AccountId>(), Err(ACCOUNT), "{text}");
        }
    }

    #[test]
    fn instance_ids_are_seventeen_hex_digits() {
        for text in [
            "i-0123456789abcde",
            "i-0123456789abcdef01",
            "i-0123456789ABCDEF0",
            "0123456789abcdef0",
            "i-0123456789abcdeg0",
            "i-1a2b3c4d",
        ] {
            assert_eq!(text.parse::<InstanceId>(), Err(INSTANCE), "{text}");
        }
        assert_eq!(InstanceId::from_bytes([0xff; 9]).to_string(), "i-fffffffffffffffff");
    }

    #[test]
    fn host_ids_are_seventeen_hex_digits() {
        for text in ["h-0123456789abcde", "h-0123456789abcdef01", "h-0123456789ABCDEF0", "i-0123456789abcdef0", "h-"] {
            assert_eq!(text.parse::<HostId>(), Err(HOST), "{text}");
        }
        assert_eq!("h-0123456789abcdef0".parse::<HostId>().unwrap().to_string(), "h-0123456789abcdef0");
    }

    #[test]
    fn regions_and_zones() {
        let region: Region = "us-east-1".parse().unwrap();
        assert_eq!(Zone::new(&region, 'a').unwrap().as_str(), "us-east-1a");
        assert!(Zone::new(&region, 'A').is_err());
        assert_eq!("us-gov-west-1b".parse::<Zone>().unwrap().region().as_str(), "us-gov-west-1");
        let at_limit = "a".repeat(REGION_LENGTH_MAX);
        assert!(at_limit.parse::<Region>().is_ok());
        assert!(format!("{at_limit}a").parse::<Region>().is_err());
        for text in ["", "ab", "-us", "us-", "us--east", "US-EAST-1", "us.east", "1us", "us_east"] {
            assert_eq!(text.parse::<Region>(), Err(REGION), "{text}");
        }
        for text in ["us-east-1", "us-east-a-", "a", "éa"] {
            assert_eq!(text.parse::<Zone>(), Err(ZONE), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(account in 0..=AccountId::MAX, bytes: [u8; 9], region in "[a-z]{2,6}(-[a-z0-9]{1,6}){0,3}") {
            let account = AccountId::new(account).unwrap();
            prop_assert_eq!(account.to_string().parse(), Ok(account));
            let instance = InstanceId::from_bytes(bytes);
            prop_assert_eq!(instance.to_string().parse(), Ok(instance));
            prop_assert_eq!(InstanceId::from_bytes(instance.to_bytes()), instance);
            let host = HostId::from_bytes(bytes);
            prop_assert_eq!(host.to_string().parse(), Ok(host));
            if let Ok(region) = region.parse::<Region>() {
                let zone = Zone::new(&region, 'c').unwrap();
                prop_assert_eq!(zone.to_string().parse(), Ok(zone.clone()));
                prop_assert_eq!(zone.region(), region);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (text.parse::<AccountId>(), text.parse::<InstanceId>(), text.parse::<HostId>());
            let _ = (text.parse::<Region>(), text.parse::<Zone>());
        }
    }
}

//! What a token says, and its one binary form.
//!
//! ```text
//! offset  length  field
//!      0       1  form: 1
//!      1       1  kind: 1 identity role, 2 management role
//!      2       1  delivery: 1 fetched without a metadata token, 2 with one
//!      3       5  account
//!      8       9  instance id (68 bits)
//!     17       5  issued at, seconds
//!     22       5  expires at, seconds
//!     27       4  boot generation
//!     31     1+n  region
//!      …     1+n  private address: n = 0, 4 or 16
//!      …     1+n  role name  ┐ management role only
//!      …     1+n  role id    ┘
//!      …       m  zeros up to 64 bytes
//! ```
//!
//! Numbers are big-endian. Each set of claims has one form and each form one set of claims. The zeros make nearly all
//! tokens of the identity role equally long, so that their length tells nothing about the network they come from.

use core::net::IpAddr;

use inborn_identity::{AccountId, InstanceId, Region, RoleName, UnixTime};

use crate::LIFE_MAX_SECONDS;

const FORM: u8 = 1;

/// Fewest bytes of claims.
pub(crate) const CLAIMS_LENGTH_MIN: usize = 64;

/// Most bytes of claims: region of 32, IPv6, role name of 64, role id of 32.
pub(crate) const CLAIMS_LENGTH_MAX: usize =
    31 + (1 + 32) + (1 + 16) + (1 + RoleName::LENGTH_MAX) + (1 + ROLE_ID_LENGTH_MAX);

/// Most characters of a role's unique id. IAM's have 21 today.
const ROLE_ID_LENGTH_MAX: usize = 32;

/// Which of an instance's roles a credential is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The role it was born with.
    Identity,
    /// The role that Default Host Management passed to it.
    Management {
        /// The role's name; never the identity role's.
        role: RoleName,
        /// The role's unique id, `AROA…`: 1–32 of `A-Z 0-9`.
        role_id: Box<str>,
    },
}

/// How a credential was fetched, which CloudTrail records as `ec2RoleDelivery`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Delivery {
    /// 1.0: without a metadata token.
    V1,
    /// 2.0: with one.
    V2,
}

impl Delivery {
    /// As CloudTrail writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V2 => "2.0",
        }
    }
}

/// What a token says about the credential it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// The role.
    pub kind: Kind,
    /// The account of the instance.
    pub account: AccountId,
    /// The instance, which is also the name of the session.
    pub instance: InstanceId,
    /// The region that issued the credential, and the only one that takes it.
    pub region: Region,
    /// When the credential begins.
    pub issued_at: UnixTime,
    /// When it ends: good before this second, refused from it on. At most [`LIFE_MAX_SECONDS`] after `issued_at`.
    pub expires_at: UnixTime,
    /// How it was fetched.
    pub delivery: Delivery,
    /// How often the instance had been started when it was issued.
    pub boot_generation: u32,
    /// The instance's private address, where it has one.
    pub private_address: Option<IpAddr>,
}

/// Claims that no credential can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimsError {
    /// An empty, negative or too long life.
    #[error("a credential ends after it begins, and at most {LIFE_MAX_SECONDS} seconds after")]
    Life,
    /// A management role with the name of the identity role.
    #[error("the identity role is not a management role")]
    Role,
    /// A role id of another form.
    #[error("a role id is 1 to {ROLE_ID_LENGTH_MAX} of A-Z and 0-9")]
    RoleId,
}

impl Claims {
    /// Whether a credential may carry these claims. What [`crate::Keyring::mint`] checks.
    ///
    /// # Errors
    /// A life or a role that cannot be.
    pub fn check(&self) -> Result<(), ClaimsError> {
        let life = self.expires_at.since(self.issued_at);
        if life == 0 || life > LIFE_MAX_SECONDS {
            return Err(ClaimsError::Life);
        }
        if let Kind::Management { role, role_id } = &self.kind {
            if role.is_identity() {
                return Err(ClaimsError::Role);
            }
            let well_formed = (1..=ROLE_ID_LENGTH_MAX).contains(&role_id.len())
                && role_id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
            if !well_formed {
                return Err(ClaimsError::RoleId);
            }
        }
        Ok(())
    }

    /// The binary form.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, ClaimsError> {
        self.check()?;
        let mut out = Vec::with_capacity(CLAIMS_LENGTH_MAX);
        out.push(FORM);
        out.push(match self.kind {
            Kind::Identity => 1,
            Kind::Management { .. } => 2,
        });
        out.push(match self.delivery {
            Delivery::V1 => 1,
            Delivery::V2 => 2,
        });
        put_u40(&mut out, self.account.number());
        out.extend_from_slice(&self.instance.to_bytes());
        put_u40(&mut out, self.issued_at.as_secs());
        put_u40(&mut out, self.expires_at.as_secs());
        out.extend_from_slice(&self.boot_generation.to_be_bytes());
        put_text(&mut out, self.region.as_str().as_bytes());
        match self.private_address {
            None => put_text(&mut out, b""),
            Some(IpAddr::V4(address)) => put_text(&mut out, &address.octets()),
            Some(IpAddr::V6(address)) => put_text(&mut out, &address.octets()),
        }
        if let Kind::Management { role, role_id } = &self.kind {
            put_text(&mut out, role.as_str().as_bytes());
            put_text(&mut out, role_id.as_bytes());
        }
        if out.len() < CLAIMS_LENGTH_MIN {
            out.resize(CLAIMS_LENGTH_MIN, 0);
        }
        Ok(out)
    }

    /// Reads the binary form; `None` for everything that [`Claims::encode`] does not write.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let [form, kind, delivery] = reader.take()?;
        let account = AccountId::new(reader.u40()?).ok()?;
        let instance_bytes = reader.take()?;
        let instance = InstanceId::from_bytes(instance_bytes);
        let (issued_at, expires_at) = (reader.time()?, reader.time()?);
        let boot_generation = u32::from_be_bytes(reader.take()?);
        let region = reader.text()?.parse().ok()?;
        let private_address = match *reader.counted()? {
            [] => None,
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
            ref octets => Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)),
        };
        let kind = match kind {
            1 => Kind::Identity,
            2 => Kind::Management { role: reader.text()?.parse().ok()?, role_id: reader.text()?.into() },
            _ => return None,
        };
        let delivery = match delivery {
            1 => Delivery::V1,
            2 => Delivery::V2,
            _ => return None,
        };
        let fields = bytes.len() - reader.0.len();
        let filled = bytes.len() == fields.max(CLAIMS_LENGTH_MIN) && reader.0.iter().all(|byte| *byte == 0);
        if form != FORM || instance.to_bytes() != instance_bytes || !filled {
            return None;
        }
        let claims =
            Self { kind, account, instance, region, issued_at, expires_at, delivery, boot_generation, private_address };
        claims.check().is_ok().then_some(claims)
    }
}

/// Forty bits hold every account and every [`UnixTime`].
fn put_u40(out: &mut Vec<u8>, number: u64) {
    let [_, _, _, bytes @ ..] = number.to_be_bytes();
    out.extend_from_slice(&bytes);
}

/// A length byte and the bytes; every text here has a bound below 256.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u40(&mut self) -> Option<u64> {
        let [a, b, c, d, e] = self.take()?;
        Some(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
    }

    fn time(&mut self) -> Option<UnixTime> {
        let seconds = self.u40()?;
        (seconds <= UnixTime::MAX.as_secs()).then(|| UnixTime::from_secs(seconds))
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let [length] = self.take()?;
        let (taken, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.counted()?).ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Claims {
        Claims {
            kind: Kind::Identity,
            account: AccountId::new(123_456_789_012).unwrap(),
            instance: "i-0123456789abcdef0".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            issued_at: UnixTime::from_secs(1_790_000_000),
            expires_at: UnixTime::from_secs(1_790_022_000),
            delivery: Delivery::V2,
            boot_generation: 3,
            private_address: Some(IpAddr::from([10, 0, 0, 7])),
        }
    }

    /// The longest that can be minted.
    pub(crate) fn longest() -> Claims {
        Claims {
            kind: Kind::Management {
                role: "r".repeat(RoleName::LENGTH_MAX).parse().unwrap(),
                role_id: "A".repeat(ROLE_ID_LENGTH_MAX).into(),
            },
            region: "r".repeat(32).parse().unwrap(),
            private_address: Some(IpAddr::from([0xfe; 16])),
            ..sample()
        }
    }

    pub(crate) fn any_claims() -> impl Strategy<Value = Claims> {
        let kind = prop_oneof![
            Just(Kind::Identity),
            ("[A-Za-z0-9_+=,.@-]{1,64}", "[A-Z0-9]{1,32}")
                .prop_map(|(role, id)| Kind::Management { role: role.parse().unwrap(), role_id: id.into() }),
        ];
        let region = "[a-z]{3,8}(-[a-z0-9]{1,5}){0,3}".prop_map(|text| text.parse().unwrap());
        let times = (0..=UnixTime::MAX.as_secs() - LIFE_MAX_SECONDS, 1..=LIFE_MAX_SECONDS);
        let delivery = prop_oneof![Just(Delivery::V1), Just(Delivery::V2)];
        (kind, 0..=AccountId::MAX, any::<[u8; 9]>(), region, times, delivery, any::<u32>(), any::<Option<IpAddr>>())
            .prop_map(|(kind, account, instance, region, (issued, life), delivery, boot_generation, address)| Claims {
                kind,
                account: AccountId::new(account).unwrap(),
                instance: InstanceId::from_bytes(instance),
                region,
                issued_at: UnixTime::from_secs(issued),
                expires_at: UnixTime::from_secs(issued + life),
                delivery,
                boot_generation,
                private_address: address,
            })
    }

    #[test]
    fn lengths_stay_between_their_bounds() {
        assert_eq!(sample().encode().unwrap().len(), CLAIMS_LENGTH_MIN);
        let ipv6 = Claims { private_address: Some(IpAddr::from([1; 16])), ..sample() };
        assert_eq!(ipv6.encode().unwrap().len(), CLAIMS_LENGTH_MIN);
        assert_eq!(longest().encode().unwrap().len(), CLAIMS_LENGTH_MAX);
    }

    #[test]
    fn a_life_below_at_and_above_its_limits() {
        for (life, is_valid) in [(0, false), (1, true), (LIFE_MAX_SECONDS, true), (LIFE_MAX_SECONDS + 1, false)] {
            let claims = Claims { expires_at: sample().issued_at.plus(life), ..sample() };
            assert_eq!(claims.encode().is_ok(), is_valid, "{life}");
        }
        let backwards = Claims { expires_at: sample().issued_at.minus(1), ..sample() };
        assert_eq!(backwards.check(), Err(ClaimsError::Life));
    }

    #[test]
    fn roles_that_cannot_be() {
        let with =
            |role: RoleName, id: &str| Claims { kind: Kind::Management { role, role_id: id.into() }, ..sample() };
        let role: RoleName = "role".parse().unwrap();
        assert_eq!(with(RoleName::identity(), "AROA1").check(), Err(ClaimsError::Role));
        for (id, is_valid) in [
            (String::new(), false),
            ("A".into(), true),
            ("A".repeat(32), true),
            ("A".repeat(33), false),
            ("AROA:x".into(), false),
            ("aroa".into(), false),
        ] {
            assert_eq!(with(role.clone(), &id).check().is_ok(), is_valid, "{id}");
        }
    }

    #[test]
    fn unknown_forms_kinds_and_deliveries_are_refused() {
        let bytes = sample().encode().unwrap();
        for (offset, values) in [(0, 1..=1u8), (1, 1..=1), (2, 1..=2)] {
            for value in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[offset] = value;
                assert_eq!(Claims::decode(&changed).is_some(), values.contains(&value), "{offset} {value}");
            }
        }
    }

    #[test]
    fn trailing_missing_and_nonzero_fill_is_refused() {
        for claims in [sample(), longest()] {
            let bytes = claims.encode().unwrap();
            for length in 0..bytes.len() {
                assert_eq!(Claims::decode(&bytes[..length]), None, "{length}");
            }
            assert_eq!(Claims::decode(&[bytes.as_slice(), b"\0"].concat()), None);
        }
        let mut filled = sample().encode().unwrap();
        *filled.last_mut().unwrap() = 1;
        assert_eq!(Claims::decode(&filled), None);
    }

    #[test]
    fn numbers_too_large_for_their_types_are_refused() {
        let bytes = sample().encode().unwrap();
        for (field, width) in [(3, 5), (8, 1), (17, 5), (22, 5)] {
            let mut changed = bytes.clone();
            changed[field..field + width].fill(0xff);
            assert_eq!(Claims::decode(&changed), None, "{field}");
        }
        for length in [1u8, 3, 5, 15, 17] {
            let mut changed = bytes.clone();
            changed[41] = length;
            assert_eq!(Claims::decode(&changed), None, "an address of {length} bytes");
        }
    }

    proptest! {
        #[test]
        fn decode_is_the_inverse_of_encode(claims in any_claims()) {
            let bytes = claims.encode().unwrap();
            prop_assert!((CLAIMS_LENGTH_MIN..=CLAIMS_LENGTH_MAX).contains(&bytes.len()));
            prop_assert_eq!(Claims::decode(&bytes), Some(claims));
        }

        /// Whatever is read would be written the same: there is one form.
        #[test]
        fn encode_is_the_inverse_of_decode(claims in any_claims(), index: proptest::sample::Index, value: u8) {
            let mut bytes = claims.encode().unwrap();
            let index = index.index(bytes.len());
            bytes[index] = value;
            if let Some(read) = Claims::decode(&bytes) {
                prop_assert_eq!(read.encode(), Ok(bytes));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Claims::decode(&bytes);
        }
    }
}

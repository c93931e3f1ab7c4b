//! ARNs. The resource part is everything after the fifth colon, so that a role name may hold one.

use core::fmt;
use core::str::FromStr;

use crate::{AccountId, IDENTITY_ROLE_NAME, InstanceId, Partition, Region};

/// A text that is not an ARN, or not of the wanted kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArnError {
    /// Not six parts beginning with `arn`.
    #[error("an ARN is arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE")]
    Form,
    /// A part with a value it cannot have.
    #[error("the {0} in this ARN is not valid")]
    Part(&'static str),
    /// A well-formed ARN of something else.
    #[error("this ARN does not name {0}")]
    Kind(&'static str),
}

/// `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`; region and account may be empty.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Arn {
    /// The partition.
    pub partition: Partition,
    /// The service's namespace, as in `sts`.
    pub service: String,
    /// The region, where the resource has one.
    pub region: Option<Region>,
    /// The account, where the resource has one.
    pub account: Option<AccountId>,
    /// Everything after the fifth colon.
    pub resource: String,
}

/// Longest ARN read. IAM's own limit is 2048 characters.
const ARN_LENGTH_MAX: usize = 2048;

impl FromStr for Arn {
    type Err = ArnError;
    fn from_str(text: &str) -> Result<Self, ArnError> {
        if text.len() > ARN_LENGTH_MAX {
            return Err(ArnError::Form);
        }
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().ok_or(ArnError::Form);
        let (scheme, partition, service, region, account, resource) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        if scheme != "arn" {
            return Err(ArnError::Form);
        }
        let service_is_valid =
            !service.is_empty() && service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !service_is_valid {
            return Err(ArnError::Part("service"));
        }
        if resource.is_empty() || resource.bytes().any(|b| b.is_ascii_control()) {
            return Err(ArnError::Part("resource"));
        }
        Ok(Self {
            partition: partition.parse().map_err(|_| ArnError::Part("partition"))?,
            service: service.to_owned(),
            region: optional(region, "region")?,
            account: optional(account, "account")?,
            resource: resource.to_owned(),
        })
    }
}

fn optional<T: FromStr>(text: &str, part: &'static str) -> Result<Option<T>, ArnError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| ArnError::Part(part)) }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:{}:{}:", self.partition, self.service)?;
        if let Some(region) = &self.region {
            write!(f, "{region}")?;
        }
        f.write_str(":")?;
        if let Some(account) = self.account {
            write!(f, "{account}")?;
        }
        write!(f, ":{}", self.resource)
    }
}

/// The name of a role: one a person may give (1–64 of `A-Z a-z 0-9 _ + = , . @ -`), or the identity role's.
///
/// Source: IAM API reference, `CreateRole`; EC2 user guide for `aws:ec2-instance`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoleName(Box<str>);

impl RoleName {
    /// Longest name.
    pub const LENGTH_MAX: usize = 64;

    /// The name of the identity role.
    #[must_use]
    pub fn identity() -> Self {
        Self(IDENTITY_ROLE_NAME.into())
    }

    /// Whether this is the identity role.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        &*self.0 == IDENTITY_ROLE_NAME
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoleName {
    type Err = ArnError;
    fn from_str(text: &str) -> Result<Self, ArnError> {
        if text == IDENTITY_ROLE_NAME {
            return Ok(Self::identity());
        }
        let well_formed = (1..=Self::LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_name_byte);
        if well_formed { Ok(Self(text.into())) } else { Err(ArnError::Part("role name")) }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The characters of IAM names: `[\w+=,.@-]`.
fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b)
}

/// Longest session name, and the shortest. Source: STS API reference, `AssumeRole`.
const SESSION_NAME_LENGTH: core::ops::RangeInclusive<usize> = 2..=64;

/// `arn:P:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
///
/// Reading accepts `iam` for `sts` too: the EC2 guide prints the identity session that way, although every capture
/// of the wire says `sts`. Printing always says `sts`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AssumedRoleArn {
    /// The partition.
    pub partition: Partition,
    /// The account of the role.
    pub account: AccountId,
    /// The role.
    pub role: RoleName,
    /// The session: an instance's id for the roles of this product.
    pub session: String,
}

impl AssumedRoleArn {
    /// The identity session of `instance`.
    #[must_use]
    pub fn identity(partition: Partition, account: AccountId, instance: InstanceId) -> Self {
        Self { partition, account, role: RoleName::identity(), session: instance.to_string() }
    }
}

impl FromStr for AssumedRoleArn {
    type Err = ArnError;
    fn from_str(text: &str) -> Result<Self, ArnError> {
        const KIND: ArnError = ArnError::Kind("an assumed role");
        let arn: Arn = text.parse()?;
        if !matches!(arn.service.as_str(), "sts" | "iam") || arn.region.is_some() {
            return Err(KIND);
        }
        let (role, session) =
            arn.resource.strip_prefix("assumed-role/").and_then(|rest| rest.split_once('/')).ok_or(KIND)?;
        if !SESSION_NAME_LENGTH.contains(&session.len()) || !session.bytes().all(is_name_byte) {
            return Err(ArnError::Part("session name"));
        }
        Ok(Self {
            partition: arn.partition,
            account: arn.account.ok_or(ArnError::Part("account"))?,
            role: role.parse()?,
            session: session.to_owned(),
        })
    }
}

impl fmt::Display for AssumedRoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:{}:sts::{}:assumed-role/{}/{}", self.partition, self.account, self.role, self.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ON_THE_WIRE: &str = "arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0";
    const AS_DOCUMENTED: &str = "arn:aws:iam::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0";

    #[test]
    fn reads_both_forms_of_the_identity_session() {
        let wire: AssumedRoleArn = ON_THE_WIRE.parse().unwrap();
        assert!(wire.role.is_identity());
        assert_eq!(wire.session, "i-0123456789abcdef0");
        assert_eq!(AS_DOCUMENTED.parse(), Ok(wire.clone()));
        assert_eq!(wire.to_string(), ON_THE_WIRE);
    }

    #[test]
    fn refuses_other_arns() {
        let cases = [
            ("", ArnError::Form),
            ("arn:aws:sts::123456789012", ArnError::Form),
            ("urn:aws:sts::123456789012:x", ArnError::Form),
            ("arn:aws:sts::123456789012:", ArnError::Part("resource")),
            ("arn:mars:sts::123456789012:assumed-role/r/ss", ArnError::Part("partition")),
            ("arn:aws:STS::123456789012:assumed-role/r/ss", ArnError::Part("service")),
            ("arn:aws:sts::12345678901:assumed-role/r/ss", ArnError::Part("account")),
            ("arn:aws:sts:::assumed-role/r/ss", ArnError::Part("account")),
            ("arn:aws:ec2::123456789012:assumed-role/r/ss", ArnError::Kind("an assumed role")),
            ("arn:aws:sts:us-east-1:123456789012:assumed-role/r/ss", ArnError::Kind("an assumed role")),
            ("arn:aws:sts::123456789012:role/r", ArnError::Kind("an assumed role")),
            ("arn:aws:sts::123456789012:assumed-role/r", ArnError::Kind("an assumed role")),
            ("arn:aws:sts::123456789012:assumed-role/r/s", ArnError::Part("session name")),
            ("arn:aws:sts::123456789012:assumed-role/r/a/b", ArnError::Part("session name")),
            ("arn:aws:sts::123456789012:assumed-role/aws:other/ss", ArnError::Part("role name")),
            ("arn:aws:sts::123456789012:assumed-role//ss", ArnError::Part("role name")),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<AssumedRoleArn>(), Err(error), "{text}");
        }
    }

    #[test]
    fn role_names_below_at_and_above_the_limit() {
        for (length, is_valid) in [(0, false), (1, true), (63, true), (64, true), (65, false)] {
            assert_eq!("r".repeat(length).parse::<RoleName>().is_ok(), is_valid, "{length}");
        }
    }

    #[test]
    fn arn_length_at_and_above_the_limit() {
        let at = format!("arn:aws:s3:::{}", "b".repeat(ARN_LENGTH_MAX - 13));
        assert!(at.parse::<Arn>().is_ok());
        assert_eq!(format!("{at}b").parse::<Arn>(), Err(ArnError::Form));
    }

    fn arns() -> impl Strategy<Value = Arn> {
        let region = proptest::option::of("[a-z]{3}(-[a-z0-9]{1,5}){0,2}".prop_map(|text| text.parse().unwrap()));
        let account = proptest::option::of((0..=AccountId::MAX).prop_map(|number| AccountId::new(number).unwrap()));
        (proptest::sample::select(&Partition::ALL[..]), "[a-z][a-z0-9-]{0,12}", region, account, "[!-~]{1,60}")
            .prop_map(|(partition, service, region, account, resource)| Arn {
                partition,
                service,
                region,
                account,
                resource,
            })
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(arn in arns()) {
            prop_assert_eq!(arn.to_string().parse(), Ok(arn));
        }

        #[test]
        fn assumed_roles_too(
            partition in proptest::sample::select(&Partition::ALL[..]),
            account in 0..=AccountId::MAX,
            role in prop_oneof![Just(IDENTITY_ROLE_NAME.to_owned()), "[A-Za-z0-9_+=,.@-]{1,64}"],
            session in "[A-Za-z0-9_+=,.@-]{2,64}",
        ) {
            let arn = AssumedRoleArn { partition, account: AccountId::new(account).unwrap(), role: role.parse().unwrap(), session };
            prop_assert_eq!(arn.to_string().parse(), Ok(arn.clone()));
            prop_assert_eq!(arn.to_string().replacen(":sts:", ":iam:", 1).parse(), Ok(arn));
        }

        #[test]
        fn no_text_panics(text in "(arn:)?(aws:)?\\PC{0,60}") {
            let _ = (text.parse::<Arn>(), text.parse::<AssumedRoleArn>());
        }
    }
}

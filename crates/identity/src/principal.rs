//! Who a verified caller is.

use crate::{AccessKeyId, AccountId, AssumedRoleArn, IDENTITY_ROLE_NAME, InstanceId, Partition, RoleName};

/// The kinds of caller that an operation table tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallerKind {
    /// An instance, by the role it was born with.
    IdentityRole,
    /// An instance, by the role that Default Host Management passed to it.
    ManagementRole,
    /// A person or program that runs the region.
    Operator,
}

impl CallerKind {
    /// All kinds, for tests that must not forget one.
    pub const ALL: [CallerKind; 3] = [Self::IdentityRole, Self::ManagementRole, Self::Operator];
}

/// A caller whose signature was verified. Only the verifier makes one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Principal {
    /// The identity session of an instance.
    IdentityRole {
        /// Its partition.
        partition: Partition,
        /// Its account.
        account: AccountId,
        /// The instance.
        instance: InstanceId,
    },
    /// The management session of an instance.
    ManagementRole {
        /// Its partition.
        partition: Partition,
        /// Its account.
        account: AccountId,
        /// The instance.
        instance: InstanceId,
        /// The role that was passed.
        role: RoleName,
        /// The role's unique id, `AROA…`.
        role_id: Box<str>,
    },
    /// An operator.
    Operator {
        /// Its partition.
        partition: Partition,
        /// Its account.
        account: AccountId,
        /// The user name, as in `operator`.
        name: Box<str>,
        /// The user's unique id, `AIDA…`.
        user_id: Box<str>,
        /// The key it signed with.
        access_key_id: AccessKeyId,
    },
}

impl Principal {
    /// The kind of caller.
    #[must_use]
    pub const fn kind(&self) -> CallerKind {
        match self {
            Self::IdentityRole { .. } => CallerKind::IdentityRole,
            Self::ManagementRole { .. } => CallerKind::ManagementRole,
            Self::Operator { .. } => CallerKind::Operator,
        }
    }

    /// The account it belongs to.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        match self {
            Self::IdentityRole { account, .. }
            | Self::ManagementRole { account, .. }
            | Self::Operator { account, .. } => *account,
        }
    }

    /// The partition it belongs to.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        match self {
            Self::IdentityRole { partition, .. }
            | Self::ManagementRole { partition, .. }
            | Self::Operator { partition, .. } => *partition,
        }
    }

    /// The instance it is, if it is one.
    #[must_use]
    pub const fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::IdentityRole { instance, .. } | Self::ManagementRole { instance, .. } => Some(*instance),
            Self::Operator { .. } => None,
        }
    }

    /// The ARN that `GetCallerIdentity` answers.
    #[must_use]
    pub fn arn(&self) -> String {
        match self {
            Self::IdentityRole { partition, account, instance } => {
                AssumedRoleArn::identity(*partition, *account, *instance).to_string()
            }
            Self::ManagementRole { partition, account, instance, role, .. } => AssumedRoleArn {
                partition: *partition,
                account: *account,
                role: role.clone(),
                session: instance.to_string(),
            }
            .to_string(),
            Self::Operator { partition, account, name, .. } => format!("arn:{partition}:iam::{account}:user/{name}"),
        }
    }

    /// The `UserId` that `GetCallerIdentity` answers, which CloudTrail calls `principalId`.
    #[must_use]
    pub fn user_id(&self) -> String {
        match self {
            Self::IdentityRole { account, instance, .. } => format!("{account}:{IDENTITY_ROLE_NAME}:{instance}"),
            Self::ManagementRole { role_id, instance, .. } => format!("{role_id}:{instance}"),
            Self::Operator { user_id, .. } => user_id.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of sts:GetCallerIdentity captures and CloudTrail records.
    #[test]
    fn says_who_it_is_as_sts_does() {
        let (partition, account) = (Partition::AwsCn, AccountId::new(123_456_789_012).unwrap());
        let instance = "i-0123456789abcdef0".parse().unwrap();
        let identity = Principal::IdentityRole { partition, account, instance };
        assert_eq!(identity.arn(), "arn:aws-cn:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0");
        assert_eq!(identity.user_id(), "123456789012:aws:ec2-instance:i-0123456789abcdef0");
        let management = Principal::ManagementRole {
            partition,
            account,
            instance,
            role: crate::MANAGEMENT_ROLE_NAME.parse().unwrap(),
            role_id: "AROAEXAMPLEEXAMPLE234".into(),
        };
        assert_eq!(management.user_id(), "AROAEXAMPLEEXAMPLE234:i-0123456789abcdef0");
        assert_eq!(management.instance(), Some(instance));
        let operator = Principal::Operator {
            partition,
            account,
            name: "operator".into(),
            user_id: "AIDAEXAMPLEEXAMPLE234".into(),
            access_key_id: AccessKeyId::new(crate::AccessKeyKind::LongLived, account, 7),
        };
        assert_eq!(operator.arn(), "arn:aws-cn:iam::123456789012:user/operator");
        assert_eq!((operator.user_id().as_str(), operator.instance()), ("AIDAEXAMPLEEXAMPLE234", None));
    }
}

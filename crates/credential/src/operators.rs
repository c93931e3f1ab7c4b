//! The people and programs that run the region, by their access key ids.

use std::collections::HashMap;

use inborn_identity::{AccessKeyId, AccessKeyKind, Partition, Principal};

use crate::SecretAccessKey;
use crate::session::ScopedKeys;

/// An operator and the secret that proves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operator {
    /// Who it is; always [`Principal::Operator`].
    pub principal: Principal,
    /// Its secret.
    pub secret: SecretAccessKey,
}

/// Operators that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OperatorError {
    /// A principal of another kind, or an access key id that is not `AKIA…`.
    #[error("an operator is a principal of that kind with a long-lived access key")]
    Kind,
    /// An operator of another partition.
    #[error("the operator of {0} is of another partition")]
    Partition(AccessKeyId),
    /// One access key id twice.
    #[error("the access key id {0} occurs twice")]
    Twice(AccessKeyId),
}

/// Operators by access key id.
#[derive(Default)]
pub(crate) struct Operators(HashMap<AccessKeyId, KnownOperator>);

pub(crate) struct KnownOperator {
    pub(crate) access_key_id: AccessKeyId,
    pub(crate) principal: Principal,
    pub(crate) keys: ScopedKeys,
}

impl Operators {
    pub(crate) fn new(operators: Vec<Operator>, partition: Partition) -> Result<Self, OperatorError> {
        let mut known = HashMap::with_capacity(operators.len());
        for Operator { principal, secret } in operators {
            let Principal::Operator { access_key_id, .. } = principal else { return Err(OperatorError::Kind) };
            if access_key_id.kind() != AccessKeyKind::LongLived {
                return Err(OperatorError::Kind);
            }
            if principal.partition() != partition {
                return Err(OperatorError::Partition(access_key_id));
            }
            let operator = KnownOperator { access_key_id, principal, keys: ScopedKeys::new(secret) };
            if known.insert(access_key_id, operator).is_some() {
                return Err(OperatorError::Twice(access_key_id));
            }
        }
        Ok(Self(known))
    }

    pub(crate) fn get(&self, access_key_id: &str) -> Option<&KnownOperator> {
        self.0.get(&access_key_id.parse().ok()?)
    }
}

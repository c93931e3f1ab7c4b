//! `Inborn.PutHostKeyPolicy`: what the account demands of host keys from now on, also of those it has, and whether they are
//! certified.

use super::{certificates, policy, refusal, request};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let demanded = call.parameters.text(policy::POLICY)?;
        let certified = call.parameters.text(certificates::CERTIFICATES)?;
        if demanded.is_none() && certified.is_none() {
            return Err(refusal::invalid(format!("Say {} or {}", policy::POLICY, certificates::CERTIFICATES)));
        }
        if let Some(text) = demanded {
            policy::set(&call, text).await?;
        }
        if let Some(text) = certified {
            certificates::set(&call, text).await?;
        }
        let settings = policy::shown(&call).await?;
        Ok(request::answer(&call, &settings).into())
    })
}

//! `SendSerialConsoleSSHPublicKey`: machines have no serial console here, and an account on AWS begins without access to one.

use inborn_wire::constraint;
use inborn_wire::error::Problem;

use super::{refusal, user_key};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let id = user_key::instance(&call)?;
        user_key::key(&call)?;
        let port = call.parameters.integer("SerialPort")?.unwrap_or_default();
        constraint::range("SerialPort", port, 0..=0).map_err(|problem| match problem {
            Problem::Validation { message } => refusal::invalid(message),
            other => other,
        })?;
        user_key::running(&call, id, None).await?;
        Err(refusal::no_serial_console())
    })
}

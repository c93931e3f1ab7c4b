//! `RegisterManagedInstance`: a machine's agent shows the public key that it will sign with.

use inborn_wire::success;
use serde_json::json;

use super::{agent, refusal};
use crate::agents::Registered;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        // Later agents send members that are not known here, and lose nothing by it. An activation, though, would register
        // something else than this machine.
        let activation = [call.parameters.text("ActivationId")?, call.parameters.text("ActivationCode")?];
        if activation.iter().any(Option::is_some) {
            return Err(refusal::activation());
        }
        let instance = agent::own_fingerprint(&call)?;
        let key = agent::public_key(&call, "PublicKey")?;
        match call.region.register_agent(instance, &key, call.now).await.map_err(refusal::of_store)? {
            Registered::Yes => {
                Ok(success::aws_json(call.request_id, &json!({"InstanceId": instance.to_string()})).into())
            }
            Registered::OtherKey => Err(refusal::already_registered()),
            Registered::TooOften => Err(refusal::too_many_updates()),
        }
    })
}

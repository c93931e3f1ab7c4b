//! `Inborn.RevokeEpoch`: everything that an epoch sealed has ended at once; machines are given new credentials.

use serde_json::json;

use super::{epochs, refusal, request, shape};
use crate::operation::{Call, Outcome, Reply};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let text = call.parameters.root().get("EpochId").ok_or_else(|| refusal::missing_parameter("EpochId"))?;
        let id: u32 = text.parse().map_err(|_| refusal::invalid_value("EpochId is the number of an epoch"))?;
        request::finish(call.parameters)?;
        epochs::check(&call)?;
        call.region.revoke_epoch(id).await.map_err(epochs::refused)?;
        let answer = shape::done("Inborn.RevokeEpoch", call.request_id);
        Ok(Reply { answer, response_elements: json!({ "epochId": id.to_string() }) })
    })
}

//! `Inborn.RotateEpoch`: a new epoch takes the place of the present one, as soon as every server verifies with it.

use serde_json::json;

use super::{epochs, request, shape};
use crate::operation::{Call, Outcome, Reply};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        request::finish(call.parameters)?;
        epochs::check(&call)?;
        let id = call.region.rotate_epoch().await.map_err(epochs::refused)?.to_string();
        // It has begun: what is due already need not wait.
        if let Err(error) = call.region.advance_epochs().await {
            tracing::warn!(%error, "the rotation of epochs has to wait");
        }
        let answer = shape::response("Inborn.RotateEpoch", call.request_id, |w| w.leaf("epochId", &id));
        Ok(Reply { answer, response_elements: json!({ "epochId": id }) })
    })
}

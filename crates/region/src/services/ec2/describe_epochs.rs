//! `Inborn.DescribeEpochs`: the generations of the keys that credentials are made with, and how far each is.

use inborn_store::EpochState;

use super::{epochs, refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        request::finish(call.parameters)?;
        epochs::check(&call)?;
        let described = call.region.described_epochs().await.map_err(refusal::of_store)?;
        let answer = shape::response("Inborn.DescribeEpochs", call.request_id, |w| {
            w.list("epochSet", "item", &described.epochs, |w, epoch| {
                let state = if epoch.revoked { "revoked" } else { epoch.state.as_str() };
                w.leaf("epochId", &epoch.id.to_string());
                w.leaf("state", state);
                w.leaf("created", &shape::milliseconds(epoch.created_at));
                w.optional("sealsFrom", epoch.seals_from.map(shape::milliseconds).as_deref());
                w.optional("ended", epoch.ended_at.map(shape::milliseconds).as_deref());
                if epoch.state == EpochState::Published {
                    w.list("waitsForSet", "item", &described.wait_for, |w, name| w.leaf("name", name));
                }
            });
            if !described.clocks_apart.is_empty() {
                w.list("clocksApartSet", "item", &described.clocks_apart, |w, name| w.leaf("name", name));
            }
        });
        Ok(answer.into())
    })
}

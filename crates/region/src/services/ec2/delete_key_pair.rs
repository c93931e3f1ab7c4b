//! `DeleteKeyPair`: by name or by id. Machines that were launched with it keep its public half.

use super::{key_pair, refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let (name, id) = (root.get("KeyName"), root.get("KeyPairId"));
        request::finish(call.parameters)?;
        let all = key_pair::all(&call).await?;
        let pair = match (name, id) {
            (None, None) => return Err(refusal::missing_parameter("KeyName")),
            (_, Some(id)) => {
                let found = all.into_iter().find(|pair| pair.id == id);
                Some(found.ok_or_else(|| refusal::key_pair_id_not_found(id))?)
            }
            // A name that nothing has is no error on EC2: what is asked for is so already.
            (Some(name), None) => all.into_iter().find(|pair| pair.name == name),
        };
        if name.is_some_and(|name| id.is_some() && pair.as_ref().is_none_or(|pair| pair.name != name)) {
            return Err(refusal::invalid_combination("KeyName and KeyPairId name different key pairs"));
        }
        if let Some(pair) = &pair {
            let removed = call.region.store().remove_key_pair(pair.account, pair.name.clone()).await;
            removed.map_err(refusal::of_store)?;
        }
        let answer = shape::response("DeleteKeyPair", call.request_id, |w| {
            w.boolean("return", true);
            w.optional("keyPairId", pair.as_ref().map(|pair| pair.id.as_str()));
        });
        Ok(answer.into())
    })
}

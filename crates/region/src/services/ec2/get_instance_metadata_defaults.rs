//! `GetInstanceMetadataDefaults`: what is no preference is left out.

use super::{metadata_defaults, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        request::finish(call.parameters)?;
        let defaults = metadata_defaults::of_account(&call).await?;
        let word = |is_on: bool| if is_on { "enabled" } else { "disabled" };
        let answer = shape::response("GetInstanceMetadataDefaults", call.request_id, |w| {
            w.element("accountLevel", |w| {
                let options = defaults.options;
                w.optional("httpTokens", options.http_tokens.map(|value| value.to_string()).as_deref());
                if let Some(limit) = options.hop_limit {
                    w.integer("httpPutResponseHopLimit", i64::from(limit));
                }
                w.optional("httpEndpoint", options.http_endpoint.map(|value| value.to_string()).as_deref());
                w.optional("instanceMetadataTags", options.tags.map(word));
                w.leaf("managedBy", "account");
                w.optional("httpTokensEnforced", defaults.tokens_enforced.map(word));
            });
        });
        Ok(answer.into())
    })
}

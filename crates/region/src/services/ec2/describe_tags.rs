//! `DescribeTags`: of instances that are not terminated, and of key pairs.

use std::collections::BTreeMap;

use inborn_wire::error::Problem;

use super::filter::{self, Filtered};
use super::{key_pair, refusal, request, shape};
use crate::operation::{Call, Outcome};

/// Bounds of `MaxResults`. Source: EC2 API reference.
const PAGE_MIN: i32 = 5;
const PAGE_MAX: i32 = 1000;

/// One tag, with what it is on.
pub(super) struct Tag {
    resource_id: String,
    resource_type: &'static str,
    key: String,
    value: String,
    /// Itself once more, for the filter `tag:KEY`.
    itself: BTreeMap<String, String>,
}

impl Filtered for Tag {
    fn field(name: &str) -> Option<fn(&Self) -> Option<String>> {
        Some(match name {
            "key" => |tag| Some(tag.key.clone()),
            "value" => |tag| Some(tag.value.clone()),
            "resource-id" => |tag| Some(tag.resource_id.clone()),
            "resource-type" => |tag| Some(tag.resource_type.to_owned()),
            _ => return None,
        })
    }

    fn tags(&self) -> &BTreeMap<String, String> {
        &self.itself
    }
}

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let filters = filter::read::<Tag>(call.parameters)?;
        let limit = root.integer("MaxResults", PAGE_MIN..=PAGE_MAX).map_err(Problem::Parameter)?;
        let after = root.get("NextToken").filter(|token| !token.is_empty()).map(read_token).transpose()?;
        request::finish(call.parameters)?;
        let mut found = all(&call).await?;
        found.retain(|tag| filters.iter().all(|filter| filter.matches(tag)));
        found.sort_by(|a, b| (&a.resource_id, &a.key).cmp(&(&b.resource_id, &b.key)));
        let skipped = after.unwrap_or(0).min(found.len());
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(found.len());
        let page: Vec<&Tag> = found.iter().skip(skipped).take(limit).collect();
        let next = skipped + page.len();
        let answer = shape::response("DescribeTags", call.request_id, |w| {
            w.list("tagSet", "item", page, |w, tag| {
                w.leaf("resourceId", &tag.resource_id);
                w.leaf("resourceType", tag.resource_type);
                w.leaf("key", &tag.key);
                w.leaf("value", &tag.value);
            });
            w.optional("nextToken", (next < found.len()).then(|| write_token(next)).as_deref());
        });
        Ok(answer.into())
    })
}

async fn all(call: &Call<'_>) -> Result<Vec<Tag>, Problem> {
    let account = call.caller.principal.account();
    let tag = |id: &str, resource_type, key: &str, value: &str| Tag {
        resource_id: id.to_owned(),
        resource_type,
        key: key.to_owned(),
        value: value.to_owned(),
        itself: BTreeMap::from([(key.to_owned(), value.to_owned())]),
    };
    let mut found = Vec::new();
    for machine in call.region.machines().of_account(account) {
        let id = machine.id().to_string();
        found.extend(machine.tags().map(|(key, value)| tag(&id, "instance", key, value)));
    }
    for pair in key_pair::all(call).await? {
        found.extend(pair.tags.iter().map(|(key, value)| tag(&pair.id, "key-pair", key, value)));
    }
    Ok(found)
}

/// A page's token is how many tags came before it.
fn write_token(skipped: usize) -> String {
    format!("tags-1-{skipped}")
}

fn read_token(token: &str) -> Result<usize, Problem> {
    token
        .strip_prefix("tags-1-")
        .and_then(|skipped| skipped.parse().ok())
        .ok_or_else(|| refusal::invalid_value("Unable to parse pagination token"))
}

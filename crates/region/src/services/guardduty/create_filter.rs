//! `CreateFilter`.

use serde_json::{Map, json};

use super::request::{self, DETECTOR, Input};
use super::{filter, refusal};
use crate::guardduty::criteria::Criteria;
use crate::guardduty::settings::{Filter, Tags};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let known = [DETECTOR, "name", "description", "action", "rank", "findingCriteria", "clientToken", "tags"];
        let input = Input::of(&call, &known)?;
        let watched = request::detector(&call, &input)?;
        let name = filter::name(&input, "name")?;
        if !input.has("findingCriteria") {
            return Err(refusal::missing("findingCriteria"));
        }
        let now = call.now.as_secs();
        let mut new = Filter {
            description: String::new(),
            archives: false,
            rank: 1,
            criteria: Map::new(),
            created_at: now,
            updated_at: now,
            version: 1,
            tags: input.tags()?.unwrap_or_else(Tags::new),
            client_token: input.client_token()?,
        };
        let criteria = filter::set(&mut new, &input)?;
        let change = |before: Option<&Filter>, others: usize| match before {
            // The answer to the same request may have been lost.
            Some(before) if before.client_token.is_some() && before.client_token == new.client_token => {
                let criteria = Criteria::parse(&before.criteria).map_err(|_| refusal::invalid("findingCriteria"))?;
                Ok((before.clone(), criteria))
            }
            Some(_) => Err(refusal::rejected("because a filter with this name already exists")),
            None if others >= filter::FILTERS_MAX => Err(refusal::too_many("filters", filter::FILTERS_MAX)),
            None => Ok((new.clone(), criteria.clone())),
        };
        let put = call.region.guardduty().put_filter(watched.account, &watched.id, name, change).await;
        put.map_err(refusal::of_change)?;
        Ok(request::answer(&call, &json!({"name": name})))
    })
}

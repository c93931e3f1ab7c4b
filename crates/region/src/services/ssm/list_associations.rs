//! `ListAssociations`: nothing can be associated here, so there is nothing to list.

use inborn_wire::{constraint, success};
use serde_json::json;

use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        if let Some(most) = call.parameters.integer("MaxResults")? {
            constraint::range("MaxResults", most, 1..=50)?;
        }
        // Whatever is asked for, and by filters of whatever form: none of nothing.
        call.parameters.objects("AssociationFilterList")?;
        Ok(success::aws_json(call.request_id, &json!({"Associations": []})).into())
    })
}

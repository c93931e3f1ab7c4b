//! `Inborn.ModifyOperator`: the key of an operator is good for nothing for a while, or again.

use inborn_store::OperatorChange;
use inborn_wire::error::Problem;

use super::{account, refusal};
use crate::operation::{Call, Outcome};

const STATE: &str = "State";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let state = call.parameters.root().one_of(STATE, &["enabled", "disabled"]).map_err(Problem::Parameter)?;
        let change = match state.ok_or_else(|| refusal::missing_parameter(STATE))? {
            "enabled" => OperatorChange::Enable,
            _ => OperatorChange::Disable,
        };
        account::change_operator(&call, "Inborn.ModifyOperator", change).await
    })
}

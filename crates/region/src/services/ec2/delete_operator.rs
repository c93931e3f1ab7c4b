//! `Inborn.DeleteOperator`: the key of an operator is good for nothing any more, for good.

use inborn_store::OperatorChange;

use super::account;
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move { account::change_operator(&call, "Inborn.DeleteOperator", OperatorChange::Delete).await })
}

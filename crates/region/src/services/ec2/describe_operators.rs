//! `Inborn.DescribeOperators`: who may sign for an account, or, to an operator of the region's own, for any.

use super::{account, refusal, request, shape};
use crate::operation::{Call, Outcome};

const NAME: &str = "Inborn.DescribeOperators";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let named = account::id(&call.parameters.root())?;
        let within = match named {
            None if call.account() == call.region.identity().account => None,
            _ => Some(account::of_operators(&call, NAME)?),
        };
        request::finish(call.parameters)?;
        let operators = call.region.operators_of(within).await.map_err(refusal::of_store)?;
        let answer = shape::response(NAME, call.request_id, |w| {
            w.list("operatorSet", "item", &operators, |w, one| account::write_operator(w, &call, one));
        });
        Ok(answer.into())
    })
}

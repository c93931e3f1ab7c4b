//! `Inborn.DescribeAccounts`: all accounts that there ever were. To an operator of another account than the region's own: its own.

use super::{account, refusal, request, shape};
use crate::operation::{Call, Outcome};

const NAME: &str = "Inborn.DescribeAccounts";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        request::finish(call.parameters)?;
        let sees_all = call.account() == call.region.identity().account;
        let mut accounts = call.region.accounts().all();
        accounts.retain(|account| sees_all || account.id == call.account());
        let within = (!sees_all).then(|| call.account());
        let operators = call.region.operators_of(within).await.map_err(refusal::of_store)?;
        let count = |id| operators.iter().filter(|operator| operator.account == id).count();
        let answer = shape::response(NAME, call.request_id, |w| {
            w.list("accountSet", "item", &accounts, |w, one| account::write(w, &call, one, count(one.id)));
        });
        Ok(answer.into())
    })
}

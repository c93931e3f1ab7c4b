//! `Inborn.CloseAccount`: nobody of an account is let in any more, for good.

use serde_json::json;

use super::host::check_caller;
use super::{account, request, shape};
use crate::operation::{Call, Outcome, Reply};

const NAME: &str = "Inborn.CloseAccount";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        check_caller(&call, NAME)?;
        let id = account::required_id(&call.parameters.root())?;
        request::finish(call.parameters)?;
        let closed = call.region.close_account(id, call.now).await.map_err(account::of_error)?;
        let operators = call.region.operators_of(Some(id)).await.map_or(0, |all| all.len());
        let answer = shape::response(NAME, call.request_id, |w| account::write(w, &call, &closed, operators));
        Ok(Reply { answer, response_elements: json!({ "accountId": id.to_string(), "state": "closed" }) })
    })
}

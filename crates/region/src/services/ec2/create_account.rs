//! `Inborn.CreateAccount`: an account whose machines the region runs, with what it wants of new machines.

use inborn_store::Account;
use serde_json::json;

use super::host::check_caller;
use super::modify_instance_metadata_defaults::Change;
use super::{account, metadata_defaults, refusal, request, shape};
use crate::accounts::AccountError;
use crate::operation::{Call, Outcome, Reply};

const NAME: &str = "Inborn.CreateAccount";
/// Longest name. Source: AWS Organizations, `AccountName`.
const NAME_LENGTH_MAX: usize = 50;

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        check_caller(&call, NAME)?;
        let root = call.parameters.root();
        let id = account::required_id(&root)?;
        let name = root.get("Name").unwrap_or_default();
        if name.chars().count() > NAME_LENGTH_MAX || name.chars().any(char::is_control) {
            let message = format!("Name is one line of at most {NAME_LENGTH_MAX} characters");
            return Err(refusal::invalid_value(message));
        }
        let defaults = Change::read_if_any(&root)?;
        request::finish(call.parameters)?;
        // Another server may have made it a moment ago, with defaults that are not to be changed by a refused call.
        call.region.accounts().hear().await.map_err(refusal::of_store)?;
        if call.region.accounts().all().iter().any(|known| known.id == id) {
            return Err(account::of_error(AccountError::Exists(id)));
        }
        // Before the account: nobody launches in it without what it wants.
        // Also that it wants nothing, by which a region is known to have been told.
        for region in call.region.regions() {
            let apply = |before| defaults.as_ref().map_or(before, |defaults| defaults.apply(before));
            metadata_defaults::change_of(&region, id, apply).await?;
        }
        let made = Account { id, name: name.to_owned(), created_at: call.now, closed_at: None };
        call.region.create_account(made.clone()).await.map_err(account::of_error)?;
        let answer = shape::response(NAME, call.request_id, |w| account::write(w, &call, &made, 0));
        Ok(Reply { answer, response_elements: json!({ "accountId": id.to_string() }) })
    })
}

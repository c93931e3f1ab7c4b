//! `StartSession`: an operator asks for a shell, a command or a port of a machine.

use inborn_identity::InstanceId;
use inborn_store::Session as Record;
use inborn_wire::constraint;
use inborn_wire::error::Problem;

use super::{refusal, session};
use crate::gateway::new_uuid;
use crate::operation::{JsonCall, Outcome};
use crate::sessions::{self, NewSession, SHELL, SessionDocument, StartError};

/// Longest `Reason`. Source: botocore's model, `SessionReason`.
const REASON_LENGTH_MAX: usize = 256;
/// Longest value of a parameter. Source: the same, `SessionManagerParameterValue`.
const VALUE_LENGTH_MAX: usize = 65_535;
/// Longest part of an id that is the operator's name: 18 more come behind it.
const NAME_LENGTH_MAX: usize = 64;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let target = session::target(&call)?;
        let name = call.parameters.text("DocumentName")?.unwrap_or(SHELL);
        constraint::length("DocumentName", name, 3..=128)?;
        let reason = call.parameters.text("Reason")?;
        if let Some(reason) = reason {
            constraint::length("Reason", reason, 1..=REASON_LENGTH_MAX)?;
            if reason.contains(['\n', '\r']) {
                return Err(constraint::pattern("Reason", reason, "^.{1,256}$"));
            }
        }
        let document = SessionDocument::find(name).ok_or_else(|| refusal::session_document(name))?;
        let parameters = parameters(&call, document)?;
        let account = call.caller.principal.account();
        let instance: InstanceId = target.parse().map_err(|_| refusal::not_connected(target))?;
        if call.region.machines().packed(instance).is_none_or(|machine| machine.account() != account) {
            return Err(refusal::not_connected(target));
        }
        let owner = call.caller.principal.arn();
        let record = Record {
            id: new_id(&owner),
            account,
            instance,
            owner,
            document_name: name.to_owned(),
            reason: reason.unwrap_or_default().to_owned(),
            started_at: call.now,
            end: None,
            carrier: Some(call.region.store().node()),
        };
        let new = NewSession { record, document, parameters };
        let session = sessions::start(call.region, new).await.map_err(|error| match error {
            StartError::NotConnected => refusal::not_connected(target),
            StartError::TooLong => refusal::session_parameters("The parameters are too long.".to_owned()),
            StartError::TooMany => Problem::Throttled,
            StartError::Store(error) => refusal::of_store(error),
        })?;
        session::let_in(&call, &session)
    })
}

fn parameters(
    call: &JsonCall<'_>,
    document: &SessionDocument,
) -> Result<serde_json::Map<String, serde_json::Value>, Problem> {
    let Some(given) = call.parameters.object("Parameters")? else {
        return document
            .parameters(core::iter::empty())
            .map_err(|fault| refusal::session_parameters(fault.to_string()));
    };
    let mut all = Vec::new();
    for name in given.members().keys() {
        constraint::length("Parameters", name, 1..=255)?;
        let values = given.texts(name)?.unwrap_or_default();
        for value in &values {
            constraint::length("Parameters", value, 1..=VALUE_LENGTH_MAX)?;
        }
        all.push((name.as_str(), values));
    }
    document.parameters(all.into_iter()).map_err(|fault| refusal::session_parameters(fault.to_string()))
}

/// As in `alice-0123456789abcdef0`: safe in a path as it stands.
fn new_id(owner: &str) -> String {
    let name = owner.rsplit('/').next().unwrap_or_default();
    let safe =
        |character: char| if character.is_ascii_alphanumeric() || "._".contains(character) { character } else { '-' };
    let name: String = name.chars().take(NAME_LENGTH_MAX).map(safe).collect();
    let random: String = new_uuid().to_string().chars().filter(char::is_ascii_hexdigit).collect();
    format!("{name}-{}", random.get(15..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fit_into_a_path_and_into_the_store() {
        let id = new_id("arn:aws:iam::123456789012:user/ops/o@p s/é%");
        assert!(id.starts_with("---") || id.starts_with("--"), "{id}");
        let id = new_id(&format!("arn:aws:iam::123456789012:user/{}", "n".repeat(300)));
        assert!(id.len() <= Record::ID_MAX, "{id}");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)));
        let id = new_id("arn:aws:iam::123456789012:user/operator");
        let suffix = id.strip_prefix("operator-").unwrap();
        assert!(suffix.len() == 17 && suffix.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_ne!(id, new_id("arn:aws:iam::123456789012:user/operator"));
    }
}

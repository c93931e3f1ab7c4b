//! What the operations about quarantine have in common: whom they name.

use std::collections::HashSet;
use std::sync::Arc;

use inborn_store::{InstanceState, Quarantine, QuarantineScope};
use inborn_wire::error::Problem;
use inborn_wire::query::Parameters;
use serde_json::{Value, json};

use super::refusal;
use crate::RegionServer;
use crate::operation::Call;

/// Whom one call may name.
const SUBJECTS_MAX: usize = 100;

/// `Subject.1`, …: ids of instances, hosts and accounts, and `*` for all; each once.
pub(super) fn subjects(parameters: &Parameters) -> Result<Vec<QuarantineScope>, Problem> {
    let texts = parameters.root().list("Subject");
    if texts.is_empty() {
        return Err(refusal::missing_parameter("Subject"));
    }
    if texts.len() > SUBJECTS_MAX {
        return Err(refusal::invalid_value(format!("A request may name at most {SUBJECTS_MAX} subjects")));
    }
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for text in texts {
        let scope: QuarantineScope = text.parse().map_err(|()| {
            let shown: String = text.chars().take(64).collect();
            refusal::invalid_value(format!("'{shown}' is no id of an instance, a host or an account, and not *"))
        })?;
        if seen.insert(scope) {
            all.push(scope);
        }
    }
    Ok(all)
}

/// Whether all these are there and the caller's to decide about.
pub(super) async fn check(call: &Call<'_>, scopes: &[QuarantineScope]) -> Result<(), Problem> {
    let account = call.caller.principal.account();
    let is_of_region = account == call.region.identity().account;
    for scope in scopes {
        match *scope {
            QuarantineScope::Instance(id) => {
                let found = call.region.store().instance(id).await.map_err(refusal::of_store)?;
                let is_there = |state| state != InstanceState::Terminated;
                if !found.is_some_and(|found| found.account == account && is_there(found.state)) {
                    return Err(refusal::not_found(&[id]));
                }
            }
            QuarantineScope::Host(id) => {
                let hosts = call.region.store().hosts().await.map_err(refusal::of_store)?;
                if !is_of_region || !hosts.iter().any(|host| host.id == id) {
                    return Err(refusal::invalid_value(format!("There is no host {id}")));
                }
            }
            QuarantineScope::Account(id) if id != account => {
                let is_open = || call.region.accounts().is_open(id);
                // Another server may have added it a moment ago.
                if is_of_region && !is_open() {
                    call.region.home().hear_accounts().await.map_err(refusal::of_store)?;
                }
                if !(is_of_region && is_open()) {
                    return Err(refusal::invalid_value(format!("The account {id} is not the caller's")));
                }
            }
            QuarantineScope::All if !is_of_region => {
                return Err(refusal::invalid_value("Only an operator of the region's own account may name all"));
            }
            QuarantineScope::Account(_) | QuarantineScope::All => {}
        }
    }
    Ok(())
}

/// The quarantines of a region that the caller may see and end. A machine that is gone is still its account's to release.
pub(super) fn of_caller(call: &Call<'_>, region: &RegionServer) -> Vec<Arc<Quarantine>> {
    let account = call.caller.principal.account();
    let is_of_region = account == call.region.identity().account;
    let mut all = region.quarantines().all();
    all.retain(|found| match found.scope {
        QuarantineScope::Instance(id) => {
            region.machines().packed(id).map_or(is_of_region, |machine| machine.account() == account)
        }
        QuarantineScope::Account(id) => id == account || is_of_region,
        QuarantineScope::Host(_) | QuarantineScope::All => is_of_region,
    });
    all
}

/// Subjects as the audit lists them.
pub(super) fn subject_set(scopes: &[QuarantineScope]) -> Value {
    let items: Vec<Value> = scopes.iter().map(|scope| json!({ "subject": scope.to_string() })).collect();
    json!({ "subjectSet": { "items": items } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Option<Vec<String>> {
        let parameters = Parameters::parse(b"", form.as_bytes()).unwrap();
        subjects(&parameters).ok().map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn subjects_are_ids_or_all() {
        let form = "Subject.1=i-0123456789abcdef0&Subject.2=h-0123456789abcdef0&Subject.3=123456789012&Subject.4=%2A\
                    &Subject.5=%2A";
        let expected = ["i-0123456789abcdef0", "h-0123456789abcdef0", "123456789012", "*"];
        assert_eq!(read(form).unwrap(), expected);
        for form in ["", "Subject.1=", "Subject.1=all", "Subject.1=i-1", "Subject=%2A"] {
            assert_eq!(read(form), None, "{form}");
        }
    }

    #[test]
    fn subjects_below_at_and_above_the_most() {
        let many = |count: usize| {
            let form: Vec<String> = (1..=count).map(|number| format!("Subject.{number}=i-{number:017x}")).collect();
            read(&form.join("&")).map(|all| all.len())
        };
        assert_eq!((many(99), many(100), many(101)), (Some(99), Some(100), None));
    }
}

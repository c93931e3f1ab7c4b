//! What IAM's operations read from a request.

use inborn_identity::{MANAGEMENT_ROLE_NAME, RoleName};
use inborn_wire::error::Problem;
use inborn_wire::json;
use inborn_wire::query::Parameters;
use serde_json::Value;

use super::refusal;

/// Longest path. Source: IAM API reference, `CreateRole`.
const PATH_LENGTH_MAX: usize = 512;
/// Longest description.
const DESCRIPTION_LENGTH_MAX: usize = 1000;
/// Longest trust policy.
const POLICY_LENGTH_MAX: usize = 131_072;
/// Who must be trusted with a role before it can be passed to machines.
const TRUSTED: &str = "ssm.amazonaws.com";

/// `RoleName`.
pub(super) fn role_name(parameters: &Parameters) -> Result<RoleName, Problem> {
    let text = parameters.root().require("RoleName").map_err(Problem::Parameter)?;
    let name: Option<RoleName> = text.parse().ok();
    // The identity role is nobody's to name; its own form is the only one with a colon.
    name.filter(|name| !name.is_identity()).ok_or_else(|| {
        refusal::invalid(
            "The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the \
             following: +=,.@_-, and at most 64 of them",
        )
    })
}

/// Whether a role is the one that every account has.
pub(super) fn is_protected(name: &RoleName) -> bool {
    name.as_str().eq_ignore_ascii_case(MANAGEMENT_ROLE_NAME)
}

/// `Path`, `/` if it is not given.
pub(super) fn path(parameters: &Parameters) -> Result<String, Problem> {
    let path = parameters.get("Path").unwrap_or("/");
    let is_good = path.len() <= PATH_LENGTH_MAX
        && path.starts_with('/')
        && path.ends_with('/')
        && path.bytes().all(|byte| matches!(byte, b'!'..=b'~'));
    let rule = "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric \
                characters and/or / characters.";
    if is_good { Ok(path.to_owned()) } else { Err(refusal::invalid(rule)) }
}

/// `Description`, perhaps empty.
pub(super) fn description(parameters: &Parameters) -> Result<String, Problem> {
    let text = parameters.get("Description").unwrap_or_default();
    if text.chars().count() > DESCRIPTION_LENGTH_MAX || text.chars().any(|c| c.is_control() && !"\t\n\r".contains(c)) {
        return Err(refusal::invalid(
            "The specified value for description is invalid: at most 1000 characters of text.",
        ));
    }
    Ok(text.to_owned())
}

/// `AssumeRolePolicyDocument` must trust Systems Manager with `sts:AssumeRole`, and nobody else with anything: no other use of
/// a role is here, and a policy that promised one would not keep it.
pub(super) fn check_trust(parameters: &Parameters) -> Result<(), Problem> {
    let text = parameters.root().require("AssumeRolePolicyDocument").map_err(Problem::Parameter)?;
    if text.len() > POLICY_LENGTH_MAX {
        return Err(refusal::policy("The policy is longer than 131072 characters."));
    }
    let policy = json::decode(text.as_bytes()).map_err(|_| refusal::policy("This policy contains invalid Json"))?;
    let policy = policy.members();
    let statements = match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(statement @ Value::Object(_)) => core::slice::from_ref(statement),
        _ => return Err(refusal::policy("Missing required field Statement")),
    };
    let has_only = |value: &Value, names: &[&str]| {
        value.as_object().is_some_and(|members| members.keys().all(|name| names.contains(&name.as_str())))
    };
    let is_trust = |statement: &Value| {
        let is_one_of = |place: &str, text: &str| statement.pointer(place).is_some_and(|value| is_one(value, text));
        has_only(statement, &["Sid", "Effect", "Principal", "Action"])
            && statement.get("Principal").is_some_and(|principal| has_only(principal, &["Service"]))
            && statement.get("Effect").is_some_and(|effect| effect == "Allow")
            && is_one_of("/Action", "sts:AssumeRole")
            && is_one_of("/Principal/Service", TRUSTED)
    };
    let is_known = policy.keys().all(|name| matches!(name.as_str(), "Version" | "Id" | "Statement"));
    if is_known && !statements.is_empty() && statements.iter().all(is_trust) {
        return Ok(());
    }
    Err(refusal::policy(
        "Roles are passed to machines and have no other use here: the policy must allow sts:AssumeRole to the service \
         ssm.amazonaws.com, without conditions, and nothing else.",
    ))
}

/// A text, alone or as the only one of a list.
fn is_one(value: &Value, text: &str) -> bool {
    value == text || value.as_array().is_some_and(|items| matches!(items.as_slice(), [item] if item == text))
}

/// To be called when everything has been read: refuses what was not understood.
pub(super) fn finish(parameters: &Parameters) -> Result<(), Problem> {
    match parameters.unread().next() {
        None => Ok(()),
        Some(name) => Err(refusal::unread(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_wire::query::encode;

    fn parse(pairs: &[(&str, &str)]) -> Parameters {
        Parameters::parse(b"", encode(pairs.iter().copied()).as_bytes()).unwrap()
    }

    #[test]
    fn only_systems_manager_is_trusted() {
        let good = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ssm.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
        let check = |policy: &str| check_trust(&parse(&[("AssumeRolePolicyDocument", policy)])).is_ok();
        assert!(check(good));
        assert!(check(&good.replace(r#""ssm.amazonaws.com""#, r#"["ssm.amazonaws.com"]"#)));
        assert!(check(&good.replace(['[', ']'], "")));
        for (from, to) in [
            ("ssm.", "ec2."),
            (r#""ssm.amazonaws.com""#, r#"["ssm.amazonaws.com","ec2.amazonaws.com"]"#),
            (r#"{"Service":"ssm.amazonaws.com"}"#, r#"{"Service":"ssm.amazonaws.com","AWS":"*"}"#),
            (r#"{"Service":"ssm.amazonaws.com"}"#, r#""*""#),
            ("Allow", "Deny"),
            ("sts:AssumeRole", "sts:*"),
            (r#""Effect""#, r#""Condition":{},"Effect""#),
            (r#"[{"Eff"#, r#"[{},{"Eff"#),
            ("Statement", "Statements"),
            ("}]}", "}]"),
        ] {
            let policy = good.replace(from, to);
            assert!(policy != good && !check(&policy), "{policy}");
        }
        assert!(check_trust(&parse(&[])).is_err());
    }

    #[test]
    fn names_and_paths() {
        let name = |text: &str| role_name(&parse(&[("RoleName", text)])).is_ok();
        assert!(name("Agents+=,.@_-1") && name(&"r".repeat(64)));
        for bad in ["", "a/b", "aws:ec2-instance", "é", &"r".repeat(65)] {
            assert!(!name(bad), "{bad}");
        }
        let path_of = |text: &str| path(&parse(&[("Path", text)])).is_ok();
        assert!(path_of("/") && path_of("/service-role/") && path_of(&format!("/{}/", "p".repeat(510))));
        for bad in ["", "a", "/a", "a/", "/a b/", &format!("/{}/", "p".repeat(511))] {
            assert!(!path_of(bad), "{bad}");
        }
        assert_eq!(path(&parse(&[])).unwrap(), "/");
    }

    #[test]
    fn descriptions_below_at_and_above_their_limit() {
        let of = |text: &str| description(&parse(&[("Description", text)])).is_ok();
        assert!(of("") && of(&"é".repeat(999)) && of(&"é".repeat(1000)));
        assert!(!of(&"é".repeat(1001)) && !of("\u{7}"));
    }
}

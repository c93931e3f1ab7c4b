//! `UpdateServiceSetting`: a role is passed to every machine that has registered.

use inborn_identity::RoleName;
use inborn_wire::error::Problem;
use inborn_wire::{constraint, success};
use serde_json::json;

use super::{refusal, service_setting};
use crate::operation::{JsonCall, Outcome};

/// Longest `SettingValue`. Source: botocore's model, `ServiceSettingValue`.
const VALUE_LENGTH_MAX: usize = 4096;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        service_setting::check_id(&call)?;
        let value = call.parameters.require_text("SettingValue")?;
        constraint::length("SettingValue", value, 1..=VALUE_LENGTH_MAX)?;
        let value = if value == service_setting::NONE { None } else { Some(passable(&call, value)?) };
        let by = call.caller.principal.arn();
        call.region.pass_role(call.account(), value, by, call.now).await.map_err(refusal::of_setting)?;
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}

/// The name of a role that is there, with its path if it was given with it.
fn passable(call: &JsonCall<'_>, value: &str) -> Result<String, Problem> {
    let shown: String = value.chars().take(128).collect();
    let refuse = |why: &str| Problem::Validation { message: format!("The role {shown} cannot be passed: {why}") };
    let value = value.strip_prefix('/').unwrap_or(value);
    let (path, name) = value.rsplit_once('/').map_or((None, value), |(path, name)| (Some(path), name));
    let name: RoleName = name.parse().map_err(|_| refuse("it is not the name of a role, with or without its path."))?;
    let role = call
        .region
        .roles()
        .get(call.account(), &name)
        .ok_or_else(|| refuse("there is no such role in the account."))?;
    if path.is_some_and(|path| role.path != format!("/{path}/")) {
        return Err(refuse(&format!("its path is {}.", role.path)));
    }
    // As IAM spells it, whatever letters it was asked for in.
    Ok(match path {
        Some(path) => format!("{path}/{}", role.name),
        None => role.name.to_string(),
    })
}

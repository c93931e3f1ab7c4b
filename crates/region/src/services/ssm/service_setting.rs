//! The one service setting that is here, as its three operations read and show it.

use inborn_wire::constraint;
use inborn_wire::error::Problem;
use serde_json::{Value, json};

use super::refusal;
use crate::host_management::SETTING_ID;
use crate::operation::JsonCall;

/// Longest `SettingId`. Source: botocore's model, `ServiceSettingId`.
const ID_LENGTH_MAX: usize = 1000;
/// What the setting says when no role is passed.
pub(super) const NONE: &str = "$None";

/// `SettingId` must name the setting, by its path or by its ARN.
pub(super) fn check_id(call: &JsonCall<'_>) -> Result<(), Problem> {
    let id = call.parameters.require_text("SettingId")?;
    constraint::length("SettingId", id, 1..=ID_LENGTH_MAX)?;
    if id == SETTING_ID || id == arn(call) { Ok(()) } else { Err(refusal::setting_not_found(id)) }
}

fn arn(call: &JsonCall<'_>) -> String {
    let identity = call.region.identity();
    format!("arn:{}:ssm:{}:{}:servicesetting{SETTING_ID}", identity.partition, identity.region, call.account())
}

/// As `GetServiceSetting` and `ResetServiceSetting` answer.
pub(super) fn shown(call: &JsonCall<'_>) -> Value {
    let setting = call.region.host_management().of(call.account()).setting();
    let mut shown = json!({
        "ARN": arn(call),
        "SettingId": SETTING_ID,
        "SettingValue": setting.value.as_deref().unwrap_or(NONE),
        "Status": if setting.value.is_some() { "Customized" } else { "Default" },
        "LastModifiedUser": "System",
    });
    // Of what is off nobody but the system is the author, as in accounts that never turned it on.
    if let (Some(_), Some((by, at)), Some(members)) = (&setting.value, setting.modified(), shown.as_object_mut()) {
        members.insert("LastModifiedUser".to_owned(), by.into());
        members.insert("LastModifiedDate".to_owned(), at.as_secs().into());
    }
    json!({"ServiceSetting": shown})
}

//! Documents as the operations on them read and show them. Source: botocore's model, 2014-11-06.

use std::sync::Arc;

use inborn_sigv4::sha256;
use inborn_wire::constraint;
use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use serde_json::{Map, Value, json};

use super::refusal;
use crate::documents::Document;
use crate::operation::JsonCall;

/// The one version that a document has here: what is written once is never changed.
pub(super) const VERSION: &str = "1";

/// The document that `Name` and the version beside it mean.
pub(super) fn named(call: &JsonCall<'_>) -> Result<Arc<Document>, Problem> {
    let name = call.parameters.require_text("Name")?;
    if !is_name(name, true) {
        return Err(constraint::pattern("Name", name, "^[a-zA-Z0-9_\\-.:/]{3,128}$"));
    }
    let document = find(call, name)?;
    check_version(call.parameters, &document)?;
    Ok(document)
}

/// The document of this name, or of this ARN in the caller's account and our region.
pub(super) fn find(call: &JsonCall<'_>, name: &str) -> Result<Arc<Document>, Problem> {
    let identity = call.region.identity();
    let prefix = format!("arn:{}:ssm:{}:", identity.partition, identity.region);
    let by_arn = name.strip_prefix(&prefix).and_then(|rest| rest.split_once(":document/"));
    let account = call.account();
    let bare =
        by_arn.filter(|(owner, _)| owner.is_empty() || *owner == account.to_string()).map_or(name, |(_, bare)| bare);
    call.region.documents().get(account, bare).ok_or_else(|| refusal::document(name))
}

/// `DocumentVersion` and `VersionName` must mean the version that there is.
pub(super) fn check_version(input: &Object, document: &Document) -> Result<(), Problem> {
    let is_known = match input.text("DocumentVersion")? {
        None => true,
        Some(version) => matches!(version, "$LATEST" | "$DEFAULT" | VERSION),
    };
    let is_called = match input.text("VersionName")? {
        None => true,
        Some(name) => name == document.stored.version_name,
    };
    if is_known && is_called { Ok(()) } else { Err(refusal::document_version()) }
}

/// Whether a text may be the name of a document, or its ARN.
pub(super) fn is_name(name: &str, may_be_arn: bool) -> bool {
    let is_good = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-' | b'.')
            || (may_be_arn && matches!(byte, b':' | b'/'))
    };
    (3..=128).contains(&name.len()) && name.bytes().all(is_good)
}

/// SHA-256 of a document's text, as `Hash` shows it.
pub(super) fn hash(document: &Document) -> String {
    sha256(document.stored.content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who is said to have made it.
pub(super) fn owner(document: &Document) -> String {
    if document.is_built_in { "Amazon".to_owned() } else { document.stored.account.to_string() }
}

/// What every answer about a document tells.
pub(super) fn identifier(document: &Document) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    put("Name", document.stored.name.as_str().into());
    put("CreatedDate", document.stored.created_at.as_secs().into());
    put("Owner", owner(document).into());
    put("PlatformTypes", document.content.platforms().into());
    put("DocumentVersion", VERSION.into());
    put("DocumentType", "Command".into());
    put("SchemaVersion", document.content.schema_version().into());
    put("DocumentFormat", "JSON".into());
    put("Tags", json!([]));
    for (name, text) in [
        ("DisplayName", &document.stored.display_name),
        ("VersionName", &document.stored.version_name),
        ("TargetType", &document.stored.target_type),
    ] {
        if !text.is_empty() {
            put(name, text.as_str().into());
        }
    }
    shown
}

/// `DocumentDescription`.
pub(super) fn description(document: &Document) -> Map<String, Value> {
    let parameters: Vec<Value> = document
        .content
        .parameters()
        .map(|(name, parameter)| {
            let mut shown = json!({
                "Name": name,
                "Type": parameter.kind.as_str(),
                "Description": parameter.description,
            });
            if let (Some(default), Some(shown)) = (&parameter.default, shown.as_object_mut()) {
                let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                shown.insert("DefaultValue".to_owned(), text.into());
            }
            shown
        })
        .collect();
    let mut shown = identifier(document);
    let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    put("Hash", hash(document).into());
    put("HashType", "Sha256".into());
    put("Status", "Active".into());
    put("Description", document.content.description().into());
    put("Parameters", parameters.into());
    put("LatestVersion", VERSION.into());
    put("DefaultVersion", VERSION.into());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_at_and_above() {
        for (length, is_good) in [(2, false), (3, true), (128, true), (129, false)] {
            assert_eq!(is_name(&"n".repeat(length), false), is_good, "{length}");
        }
        for (name, as_name, as_arn) in
            [("a-b_c.d", true, true), ("a:b/c", false, true), ("a b", false, false), ("äöü", false, false)]
        {
            assert_eq!((is_name(name, false), is_name(name, true)), (as_name, as_arn), "{name}");
        }
    }
}

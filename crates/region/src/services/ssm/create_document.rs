//! `CreateDocument`: an operator writes what commands run.

use inborn_store::Document;
use inborn_wire::error::Problem;
use inborn_wire::{constraint, success};
use serde_json::{Value, json};

use super::{document, refusal};
use crate::documents::{Content, ContentError, DocumentError};
use crate::operation::{JsonCall, Outcome, Reply};

/// Longest display name and target type. Source: botocore's model.
const DISPLAY_NAME_LENGTH_MAX: usize = 1024;
const TARGET_TYPE_LENGTH_MAX: usize = 200;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let (stored, content) = read(&call)?;
        let created = match call.region.documents().create(stored, content).await {
            Ok(created) => created,
            Err(DocumentError::Exists) => return Err(refusal::document_exists()),
            Err(DocumentError::TooMany) => return Err(refusal::too_many_documents()),
            Err(DocumentError::Store(error)) => return Err(refusal::of_store(error)),
        };
        let output = json!({"DocumentDescription": document::description(&created)});
        let response_elements = json!({"name": created.stored.name, "hash": document::hash(&created)});
        Ok(Reply { answer: success::aws_json(call.request_id, &output), response_elements })
    })
}

fn read(call: &JsonCall<'_>) -> Result<(Document, Content), Problem> {
    let input = call.parameters;
    let name = input.require_text("Name")?;
    if !document::is_name(name, false) {
        return Err(constraint::pattern("Name", name, "^[a-zA-Z0-9_\\-.]{3,128}$"));
    }
    // What AWS keeps for itself, so that nobody takes an operator's document for one that every account has.
    if ["aws", "amazon", "amzn"].iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix)) {
        return Err(refusal::document_content("Names that begin with aws, amazon or amzn are reserved.".to_owned()));
    }
    let text = |key: &str, most: usize| -> Result<String, Problem> {
        let text = input.text(key)?.unwrap_or_default();
        constraint::length(key, text, 0..=most)?;
        Ok(text.to_owned())
    };
    let version_name = text("VersionName", 128)?;
    if !version_name.is_empty() && !version_name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        return Err(constraint::pattern("VersionName", &version_name, "^[a-zA-Z0-9_\\-.]{1,128}$"));
    }
    if let kind @ Some(_) = input.text("DocumentType")?.filter(|kind| *kind != "Command") {
        let kind = kind.unwrap_or_default();
        return Err(refusal::document_content(format!("Documents of type {} are not served here.", cut(kind))));
    }
    if let Some(format) = input.text("DocumentFormat")?.filter(|format| *format != "JSON") {
        return Err(refusal::document_content(format!("Documents in {} are not served here: use JSON.", cut(format))));
    }
    for member in ["Attachments", "Requires", "Tags"] {
        if let Some(Value::Array(list)) = input.members().get(member)
            && !list.is_empty()
        {
            return Err(refusal::document_content(format!("{member} of documents are not served here.")));
        }
    }
    let content = input.require_text("Content")?;
    if content.len() > Document::CONTENT_BYTES_MAX {
        return Err(refusal::document_too_large("The size limit of a document is 64 KB."));
    }
    let checked = Content::read(content).map_err(|error| match error {
        ContentError::Schema(_) => refusal::document_schema(error.to_string()),
        ContentError::Invalid(message) => refusal::document_content(message),
    })?;
    let document = Document {
        account: call.account(),
        name: name.to_owned(),
        created_at: call.now,
        display_name: text("DisplayName", DISPLAY_NAME_LENGTH_MAX)?,
        version_name,
        target_type: text("TargetType", TARGET_TYPE_LENGTH_MAX)?,
        content: content.to_owned(),
    };
    Ok((document, checked))
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

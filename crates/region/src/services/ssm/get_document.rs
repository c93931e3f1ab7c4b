//! `GetDocument`: the text of a document.

use inborn_wire::success;
use serde_json::json;

use super::{document, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let found = document::named(&call)?;
        if let Some(format) = call.parameters.text("DocumentFormat")?.filter(|format| *format != "JSON") {
            let shown: String = format.chars().take(64).collect();
            return Err(refusal::document_content(format!("Documents in {shown} are not served here: use JSON.")));
        }
        let mut output = json!({
            "Name": found.stored.name,
            "CreatedDate": found.stored.created_at.as_secs(),
            "DocumentVersion": document::VERSION,
            "Status": "Active",
            "Content": found.stored.content,
            "DocumentType": "Command",
            "DocumentFormat": "JSON",
        });
        if let (false, Some(output)) = (found.stored.version_name.is_empty(), output.as_object_mut()) {
            output.insert("VersionName".to_owned(), found.stored.version_name.as_str().into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

//! `ListDocuments`: the documents, in pages.

use inborn_wire::error::Problem;
use inborn_wire::json::Object;
use inborn_wire::{constraint, success};
use serde_json::json;

use super::{document, refusal};
use crate::documents::Document;
use crate::operation::{JsonCall, Outcome};

/// Most documents on a page, and as many as there are if the caller does not say. Source: botocore's model, `MaxResults`.
const PAGE_MAX: usize = 50;
/// Most filters of a call. Source: the same.
const FILTERS_MAX: usize = 6;
const KEYS: [&str; 5] = ["DocumentType", "Name", "Owner", "PlatformTypes", "SearchKeyword"];

struct Filter {
    key: String,
    values: Vec<String>,
}

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let filters = filters(call.parameters)?;
        let limit = match call.parameters.integer("MaxResults")? {
            Some(most) => {
                constraint::range("MaxResults", most, 1..=50)?;
                usize::try_from(most).unwrap_or(PAGE_MAX)
            }
            None => PAGE_MAX,
        };
        let token = call.parameters.text("NextToken")?;
        let after =
            token.map(|token| token.strip_prefix("documents-1-").ok_or_else(refusal::next_token)).transpose()?;
        let documents = call.region.documents().after(call.account(), after).into_iter();
        let mut shown = documents.filter(|document| filters.iter().all(|filter| filter.matches(document)));
        let page: Vec<_> = shown.by_ref().take(limit).collect();
        let next = shown.next().and_then(|_| page.last()).map(|last| format!("documents-1-{}", last.stored.name));
        let list: Vec<_> = page.iter().map(|document| document::identifier(document)).collect();
        let mut output = json!({"DocumentIdentifiers": list});
        if let (Some(next), Some(output)) = (next, output.as_object_mut()) {
            output.insert("NextToken".to_owned(), next.into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

fn filters(input: &Object) -> Result<Vec<Filter>, Problem> {
    let mut filters = Vec::new();
    for filter in input.objects("Filters")?.unwrap_or_default() {
        filters.push(Filter::new(filter.require_text("Key")?, filter.texts("Values")?.unwrap_or_default())?);
    }
    for filter in input.objects("DocumentFilterList")?.unwrap_or_default() {
        filters.push(Filter::new(filter.require_text("key")?, vec![filter.require_text("value")?])?);
    }
    if filters.len() > FILTERS_MAX {
        let message = format!("A request has at most {FILTERS_MAX} filters.");
        return Err(Problem::Validation { message });
    }
    Ok(filters)
}

impl Filter {
    fn new(key: &str, values: Vec<&str>) -> Result<Self, Problem> {
        if !KEYS.contains(&key) {
            return Err(refusal::filter_key(key));
        }
        Ok(Self { key: key.to_owned(), values: values.into_iter().map(str::to_owned).collect() })
    }

    fn matches(&self, document: &Document) -> bool {
        let name = document.stored.name.as_str();
        let is_one = |text: &str| self.values.iter().any(|value| value == text);
        match self.key.as_str() {
            "DocumentType" => is_one("Command"),
            // The beginning of a name.
            "Name" => self.values.iter().any(|value| name.starts_with(value.as_str())),
            "Owner" => self.values.iter().any(|value| match value.as_str() {
                "Amazon" => document.is_built_in,
                "Self" | "Private" => !document.is_built_in,
                "All" => true,
                "Public" | "ThirdParty" => false,
                account => account == document::owner(document),
            }),
            "PlatformTypes" => document.content.platforms().into_iter().any(is_one),
            _ => {
                let text = format!("{name} {}", document.content.description()).to_lowercase();
                self.values.iter().any(|value| text.contains(&value.to_lowercase()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_both_forms() {
        let read =
            |value: serde_json::Value| filters(&inborn_wire::json::decode(value.to_string().as_bytes()).unwrap());
        let both = json!({"Filters": [{"Key": "Owner", "Values": ["Self"]}], "DocumentFilterList": [{"key": "Name", "value": "a"}]});
        assert_eq!(read(both).unwrap().len(), 2);
        assert!(read(json!({"Filters": [{"Key": "Colour", "Values": []}]})).is_err());
        for (count, is_good) in [(5, true), (6, true), (7, false)] {
            let filters = vec![json!({"Key": "Name", "Values": ["a"]}); count];
            assert_eq!(read(json!({"Filters": filters})).is_ok(), is_good, "{count}");
        }
    }
}

//! The filters of `ListCommands` and `ListCommandInvocations`.

use inborn_identity::UnixTime;
use inborn_store::Command;
use inborn_wire::constraint;
use inborn_wire::error::Problem;
use inborn_wire::json::Object;

use super::refusal;

/// Most filters of a call. Source: botocore's model, `CommandFilterList`.
const FILTERS_MAX: usize = 5;

pub(super) enum Filter {
    InvokedAfter(UnixTime),
    InvokedBefore(UnixTime),
    Status(String),
    /// Whether something may still become of it.
    Executing(bool),
    DocumentName(String),
}

/// The filters of a call; stages are of commands alone.
pub(super) fn read(input: &Object, has_stages: bool) -> Result<Vec<Filter>, Problem> {
    let list = input.objects("Filters")?.unwrap_or_default();
    if list.len() > FILTERS_MAX {
        let message = format!("A request has at most {FILTERS_MAX} filters.");
        return Err(Problem::Validation { message });
    }
    list.iter().map(|filter| one(filter, has_stages)).collect()
}

fn one(filter: &Object, has_stages: bool) -> Result<Filter, Problem> {
    let (key, value) = (filter.require_text("key")?, filter.require_text("value")?);
    constraint::length("Value", value, 1..=128)?;
    let time = || {
        let message = format!("The value of {key} is not a time such as 2026-11-26T00:00:00Z.");
        UnixTime::parse_rfc3339(value.as_bytes()).map_err(|_| Problem::Validation { message })
    };
    match key {
        "InvokedAfter" => Ok(Filter::InvokedAfter(time()?)),
        "InvokedBefore" => Ok(Filter::InvokedBefore(time()?)),
        "Status" => Ok(Filter::Status(value.to_owned())),
        "DocumentName" => Ok(Filter::DocumentName(value.to_owned())),
        "ExecutionStage" if has_stages => {
            constraint::one_of("Value", value, &["Executing", "Complete"])?;
            Ok(Filter::Executing(value == "Executing"))
        }
        key => Err(refusal::filter_key(key)),
    }
}

impl Filter {
    /// `status` and `details` are those of the command, or of the invocation that is looked at.
    pub(super) fn matches(&self, command: &Command, status: &str, details: &str) -> bool {
        match self {
            Self::InvokedAfter(time) => command.requested_at >= *time,
            Self::InvokedBefore(time) => command.requested_at < *time,
            Self::Status(wanted) => wanted == status || wanted == details,
            Self::Executing(is_wanted) => command.progress.state.is_terminal() != *is_wanted,
            Self::DocumentName(name) => command.document_name == *name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn filters_below_at_and_above_the_most() {
        let read = |value: Value, has_stages| {
            read(&inborn_wire::json::decode(value.to_string().as_bytes()).unwrap(), has_stages)
        };
        let filter = |key: &str, value: &str| json!({"key": key, "value": value});
        for (count, is_good) in [(0, true), (5, true), (6, false)] {
            let filters = vec![filter("Status", "Success"); count];
            assert_eq!(read(json!({"Filters": filters}), true).is_ok(), is_good, "{count}");
        }
        for (key, value, has_stages, is_good) in [
            ("InvokedAfter", "2026-11-26T00:00:00Z", true, true),
            ("InvokedAfter", "yesterday", true, false),
            ("ExecutionStage", "Executing", true, true),
            ("ExecutionStage", "Executing", false, false),
            ("ExecutionStage", "Resting", true, false),
            ("Colour", "red", true, false),
            ("Status", "", true, false),
        ] {
            let filters = json!({"Filters": [filter(key, value)]});
            assert_eq!(read(filters, has_stages).is_ok(), is_good, "{key} {value}");
        }
    }
}

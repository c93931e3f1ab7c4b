//! The documents that every account has. Names, schema, parameters and steps are AWS's: agents find their plug-ins by them.

use inborn_identity::AccountId;

use super::{BUILT_IN_AT, Content, ContentError, Document};

/// Seconds from 1 to 172800, two days. AWS's pattern, which ends at 28800, is older than its text.
const TIMEOUT_PATTERN: &str = "([1-9][0-9]{0,4})|(1[0-6][0-9]{4})|(17[0-1][0-9]{3})|(172[0-7][0-9]{2})|(172800)";

/// All of them.
pub(super) fn documents(own: AccountId) -> Result<Vec<Document>, ContentError> {
    [
        ("AWS-RunPowerShellScript", script("a PowerShell script", "aws:runPowerShellScript")),
        ("AWS-RunShellScript", script("a shell script", "aws:runShellScript")),
    ]
    .into_iter()
    .map(|(name, content)| {
        let read = Content::read(&content)?;
        let stored = inborn_store::Document {
            // Shown to every account as Amazon's.
            account: own,
            name: name.to_owned(),
            created_at: BUILT_IN_AT,
            display_name: String::new(),
            version_name: String::new(),
            target_type: String::new(),
            content,
        };
        Ok(Document { stored, content: read, is_built_in: true })
    })
    .collect()
}

/// A document of schema 1.2, whose one step runs the commands of its parameter.
fn script(what: &str, plugin: &str) -> String {
    format!(
        r#"{{
  "schemaVersion": "1.2",
  "description": "Run {what} or specify the commands to run.",
  "parameters": {{
    "commands": {{
      "type": "StringList",
      "description": "(Required) Specify {what} or a command to run.",
      "minItems": 1,
      "displayType": "textarea"
    }},
    "workingDirectory": {{
      "type": "String",
      "default": "",
      "description": "(Optional) The path to the working directory on your instance.",
      "maxChars": 4096
    }},
    "executionTimeout": {{
      "type": "String",
      "default": "3600",
      "description": "(Optional) The time in seconds for a command to complete before it is considered to have failed. Default is 3600 (1 hour). Maximum is 172800 (48 hours).",
      "allowedPattern": "{TIMEOUT_PATTERN}"
    }}
  }},
  "runtimeConfig": {{
    "{plugin}": {{
      "properties": [
        {{
          "id": "0.{plugin}",
          "runCommand": "{{{{ commands }}}}",
          "workingDirectory": "{{{{ workingDirectory }}}}",
          "timeoutSeconds": "{{{{ executionTimeout }}}}"
        }}
      ]
    }}
  }}
}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_any_other() {
        let all = documents(AccountId::new(1).unwrap()).unwrap();
        let facts: Vec<_> =
            all.iter().map(|document| (document.stored.name.as_str(), document.content.platforms())).collect();
        assert_eq!(
            facts,
            [
                ("AWS-RunPowerShellScript", vec!["Windows", "Linux", "MacOS"]),
                ("AWS-RunShellScript", vec!["Linux", "MacOS"]),
            ]
        );
        for document in &all {
            let names: Vec<&str> = document.content.parameters().map(|(name, _)| name).collect();
            assert_eq!(names, ["commands", "executionTimeout", "workingDirectory"]);
            assert_eq!(document.content.schema_version(), "1.2");
        }
    }
}

//! The content of a document, checked. Source: AWS's page on the syntax of documents, schemas 1.2, 2.0 and 2.2.

use std::collections::BTreeMap;

use inborn_wire::json;
use serde_json::{Map, Value};

use super::parameters::Parameter;

/// Most parameters and most steps of a document: more than any that is known has.
const PARAMETERS_MAX: usize = 200;
pub(crate) const STEPS_MAX: usize = inborn_store::Invocation::STEPS_MAX;
/// Longest name of a parameter or a step.
const NAME_LENGTH_MAX: usize = 128;
/// How long a step may take if its document does not say. Source: the agent's own default.
const STEP_SECONDS: u32 = 3600;
/// How long it may take at the most: two days. Source: the text of AWS's documents.
const STEP_SECONDS_MAX: u32 = 172_800;

/// The members of a document.
const MEMBERS: [&str; 7] =
    ["schemaVersion", "description", "parameters", "variables", "files", "mainSteps", "runtimeConfig"];

const WINDOWS: &str = "Windows";
const LINUX: &str = "Linux";
const MAC: &str = "MacOS";
const ALL: &[&str] = &[WINDOWS, LINUX, MAC];

/// The plug-ins of agents, and the platforms that they are for. Source: AWS's page on command document plugins.
const ACTIONS: [(&str, &[&str]); 15] = [
    ("aws:applications", &[WINDOWS]),
    ("aws:cloudWatch", &[WINDOWS]),
    ("aws:configureDocker", &[WINDOWS]),
    ("aws:configurePackage", ALL),
    ("aws:domainJoin", ALL),
    ("aws:downloadContent", ALL),
    ("aws:psModule", &[WINDOWS]),
    ("aws:refreshAssociation", ALL),
    ("aws:runDockerAction", ALL),
    ("aws:runDocument", ALL),
    ("aws:runPowerShellScript", ALL),
    ("aws:runShellScript", &[LINUX, MAC]),
    ("aws:softwareInventory", ALL),
    ("aws:updateAgent", &[WINDOWS]),
    ("aws:updateSsmAgent", ALL),
];

/// Why a text is no document.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// Not a schema that commands have.
    #[error("The schema version {0} is not one of 1.2, 2.0 and 2.2.")]
    Schema(String),
    /// Anything else.
    #[error("{0}")]
    Invalid(String),
}

pub(super) fn invalid(message: impl Into<String>) -> ContentError {
    ContentError::Invalid(message.into())
}

/// The content of a document.
#[derive(Debug)]
pub(crate) struct Content {
    schema_version: String,
    description: String,
    parameters: BTreeMap<String, Parameter>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    platforms: Vec<&'static str>,
    /// How long it may take, as it is said: a number, or the name of a parameter in braces.
    timeout: Option<String>,
}

impl Content {
    pub(crate) fn read(text: &str) -> Result<Self, ContentError> {
        let object = json::decode(text.as_bytes())
            .map_err(|error| invalid(format!("The content of the document is not a JSON object. {error}").trim()))?;
        let members = object.members();
        if let Some(unknown) = members.keys().find(|key| !MEMBERS.contains(&key.as_str())) {
            return Err(invalid(format!("The document has a member that is not known: {}.", shown(unknown))));
        }
        let schema_version = text_of(members, "schemaVersion")?.ok_or_else(|| invalid("schemaVersion is missing."))?;
        let steps = match schema_version {
            "1.2" => steps_of_plugins(members)?,
            "2.0" | "2.2" => steps_in_order(members)?,
            other => return Err(ContentError::Schema(shown(other))),
        };
        if !(1..=STEPS_MAX).contains(&steps.len()) {
            return Err(invalid(format!("A document has 1 to {STEPS_MAX} steps.")));
        }
        let parameters = parameters(members)?;
        for part in ["mainSteps", "runtimeConfig"] {
            members.get(part).map_or(Ok(()), |value| check_references(value, &parameters))?;
        }
        let description = text_of(members, "description")?.unwrap_or_default().to_owned();
        Ok(Self { schema_version: schema_version.to_owned(), description, parameters, steps })
    }

    pub(crate) fn schema_version(&self) -> &str {
        &self.schema_version
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// The parameters, by name.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.parameters.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.get(name)
    }

    /// The platforms on which at least one step does something.
    pub(crate) fn platforms(&self) -> Vec<&'static str> {
        let has = |platform: &&&str| self.steps.iter().any(|step| step.platforms.contains(*platform));
        ALL.iter().filter(has).copied().collect()
    }

    /// The names of the steps, in their order.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.name.as_str())
    }

    /// How long all steps together may take, in seconds, with these values of the parameters.
    pub(crate) fn execution_seconds(&self, values: &Map<String, Value>) -> u32 {
        let seconds = |step: &Step| {
            let said = step.timeout.as_deref().unwrap_or_default();
            let value = reference(said).and_then(|name| values.get(name)).map(plain);
            value.as_deref().unwrap_or(said).trim().parse().unwrap_or(STEP_SECONDS).clamp(1, STEP_SECONDS_MAX)
        };
        self.steps.iter().map(seconds).fold(0, u32::saturating_add)
    }
}

/// A text or a number as a text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// As much of what somebody wrote as a sentence repeats.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

fn text_of<'a>(members: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, ContentError> {
    match members.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(format!("{key} is not a text."))),
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn parameters(members: &Map<String, Value>) -> Result<BTreeMap<String, Parameter>, ContentError> {
    let given = match members.get("parameters") {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(invalid("parameters is not an object.")),
    };
    if given.len() > PARAMETERS_MAX {
        return Err(invalid(format!("A document has at most {PARAMETERS_MAX} parameters.")));
    }
    let read = |(name, value): (&String, &Value)| {
        if !is_name(name) {
            return Err(invalid(format!("{} is not a name of a parameter.", shown(name))));
        }
        let Value::Object(value) = value else {
            return Err(invalid(format!("The parameter {name} is not an object.")));
        };
        Ok((name.clone(), Parameter::read(name, value)?))
    };
    given.iter().map(read).collect()
}

/// Schema 1.2: each plug-in once, in no order.
fn steps_of_plugins(members: &Map<String, Value>) -> Result<Vec<Step>, ContentError> {
    let plugins = members.get("runtimeConfig").and_then(Value::as_object);
    let plugins =
        plugins.ok_or_else(|| invalid("A document of schema 1.2 has a runtimeConfig, which is an object."))?;
    let step = |(name, config): (&String, &Value)| {
        let properties = match config.get("properties") {
            Some(Value::Array(list)) => list.first(),
            other => other,
        };
        let Some(Value::Object(properties)) = properties else {
            return Err(invalid(format!("The plugin {} has no properties.", shown(name))));
        };
        Ok(Step { name: name.clone(), platforms: platforms_of(name)?.to_vec(), timeout: timeout(properties) })
    };
    plugins.iter().map(step).collect()
}

/// Schema 2: a list of steps, each with a name of its own.
fn steps_in_order(members: &Map<String, Value>) -> Result<Vec<Step>, ContentError> {
    let list = members.get("mainSteps").and_then(Value::as_array);
    let list = list.ok_or_else(|| invalid("A document of schema 2 has mainSteps, which is a list."))?;
    let mut steps: Vec<Step> = Vec::new();
    for step in list.iter().take(STEPS_MAX + 1) {
        let Value::Object(step) = step else { return Err(invalid("A step is not an object.")) };
        let name = text_of(step, "name")?.unwrap_or_default();
        if !is_name(name) {
            return Err(invalid(format!("{} is not a name of a step.", shown(name))));
        }
        if steps.iter().any(|other| other.name == name) {
            return Err(invalid(format!("There are two steps with the name {name}.")));
        }
        let action = text_of(step, "action")?.ok_or_else(|| invalid(format!("The step {name} has no action.")))?;
        let timeout = match step.get("inputs") {
            None => None,
            Some(Value::Object(inputs)) => timeout(inputs),
            Some(_) => return Err(invalid(format!("The inputs of the step {name} are not an object."))),
        };
        let mut platforms = platforms_of(action)?.to_vec();
        if let Some(precondition) = step.get("precondition") {
            restrict(&mut platforms, precondition).ok_or_else(|| {
                invalid(format!("The precondition of the step {name} is not StringEquals with two texts."))
            })?;
        }
        steps.push(Step { name: name.to_owned(), platforms, timeout });
    }
    Ok(steps)
}

fn platforms_of(action: &str) -> Result<&'static [&'static str], ContentError> {
    let known = ACTIONS.iter().find(|(name, _)| *name == action);
    known.map(|(_, platforms)| *platforms).ok_or_else(|| invalid(format!("The action {} is not known.", shown(action))))
}

/// What a precondition leaves of the platforms; `None` if it is not a precondition.
fn restrict(platforms: &mut Vec<&'static str>, precondition: &Value) -> Option<()> {
    let precondition = precondition.as_object()?;
    let [left, right] = precondition.get("StringEquals")?.as_array()?.as_slice() else { return None };
    let (left, right) = (left.as_str()?, right.as_str()?);
    match (left.trim(), right.trim()) {
        ("platformType", platform) | (platform, "platformType") => platforms.retain(|own| *own == platform),
        // Of a parameter: known when the command is sent, to the agent.
        _ => {}
    }
    (precondition.len() == 1).then_some(())
}

fn timeout(inputs: &Map<String, Value>) -> Option<String> {
    inputs.get("timeoutSeconds").map(plain)
}

/// The parameter that a text stands for, if it is nothing but `{{ NAME }}`.
fn reference(text: &str) -> Option<&str> {
    Some(text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim())
}

/// Every `{{ NAME }}` in the steps names a parameter.
fn check_references(value: &Value, parameters: &BTreeMap<String, Parameter>) -> Result<(), ContentError> {
    match value {
        Value::String(text) => {
            for part in text.split("{{").skip(1) {
                let name = part.split("}}").next().filter(|name| name.len() < part.len()).unwrap_or_default().trim();
                if name.starts_with("ssm:") {
                    return Err(invalid(format!("{} is of Parameter Store, which is not here.", shown(name))));
                }
                if is_name(name) && name != "platformType" && !parameters.contains_key(name) {
                    return Err(invalid(format!("{name} is not a parameter of the document.")));
                }
            }
            Ok(())
        }
        Value::Array(list) => list.iter().try_for_each(|item| check_references(item, parameters)),
        Value::Object(members) => members.values().try_for_each(|member| check_references(member, parameters)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn step(name: &str, action: &str) -> Value {
        json!({"name": name, "action": action, "inputs": {"runCommand": ["echo {{ Word }}"]}})
    }

    fn document(steps: Value) -> Value {
        let parameters = json!({"Word": {"type": "String", "default": "x"}});
        json!({"schemaVersion": "2.2", "description": "d", "parameters": parameters, "mainSteps": steps})
    }

    fn why(document: &Value) -> String {
        Content::read(&document.to_string()).unwrap_err().to_string()
    }

    #[test]
    fn reads_steps_and_platforms() {
        let mut on_windows = step("b", "aws:runPowerShellScript");
        on_windows["precondition"] = json!({"StringEquals": ["platformType", "Windows"]});
        let content =
            Content::read(&document(json!([step("a", "aws:runShellScript"), on_windows])).to_string()).unwrap();
        assert_eq!(content.platforms(), ["Windows", "Linux", "MacOS"]);
        assert_eq!(content.steps().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((content.schema_version(), content.description()), ("2.2", "d"));
        let content = Content::read(&document(json!([step("a", "aws:runShellScript")])).to_string()).unwrap();
        assert_eq!(content.platforms(), ["Linux", "MacOS"]);
    }

    #[test]
    fn says_what_is_wrong() {
        let good = step("a", "aws:runShellScript");
        let with = |key: &str, value: Value| {
            let mut document = document(json!([good]));
            document[key] = value;
            document
        };
        for (document, expected) in [
            (with("schemaVersion", json!("0.3")), "The schema version 0.3 is not one of 1.2, 2.0 and 2.2."),
            (with("schemaVersion", json!(2.2)), "schemaVersion is not a text."),
            (with("schemaVersion", json!("1.2")), "A document of schema 1.2 has a runtimeConfig, which is an object."),
            (with("mainSteps", json!([])), "A document has 1 to 100 steps."),
            (with("mainSteps", json!({})), "A document of schema 2 has mainSteps, which is a list."),
            (with("mainSteps", json!([good, good])), "There are two steps with the name a."),
            (with("mainSteps", json!([step("a b", "aws:runShellScript")])), "a b is not a name of a step."),
            (with("mainSteps", json!([step("a", "aws:fly")])), "The action aws:fly is not known."),
            (with("parameters", json!({})), "Word is not a parameter of the document."),
            (with("parameters", json!({"a b": {}})), "a b is not a name of a parameter."),
            (with("surprise", json!(1)), "The document has a member that is not known: surprise."),
        ] {
            assert_eq!(why(&document), expected);
        }
        assert!(Content::read("schemaVersion: '2.2'").is_err(), "YAML");
        let secret =
            json!([{"name": "a", "action": "aws:runShellScript", "inputs": {"runCommand": "{{ssm:password}}"}}]);
        assert_eq!(why(&document(secret)), "ssm:password is of Parameter Store, which is not here.");
    }

    #[test]
    fn limits_below_at_and_above() {
        for (count, is_good) in [(99, true), (100, true), (101, false)] {
            let steps: Vec<Value> = (0..count).map(|n| step(&format!("s{n}"), "aws:runShellScript")).collect();
            assert_eq!(Content::read(&document(json!(steps)).to_string()).is_ok(), is_good, "{count} steps");
        }
        for (count, is_good) in [(198, true), (199, true), (200, false)] {
            let mut document = document(json!([step("a", "aws:runShellScript")]));
            for number in 0..count {
                document["parameters"][format!("p{number}")] = json!({"type": "String"});
            }
            assert_eq!(Content::read(&document.to_string()).is_ok(), is_good, "{count} parameters and one");
        }
        for (length, is_good) in [(0, false), (1, true), (127, true), (128, true), (129, false)] {
            let steps = json!([step(&"n".repeat(length), "aws:runShellScript")]);
            assert_eq!(Content::read(&document(steps).to_string()).is_ok(), is_good, "{length}");
        }
    }

    #[test]
    fn the_time_of_all_steps_is_added_up() {
        let timed = |name: &str, timeout: Value| json!({"name": name, "action": "aws:runShellScript", "inputs": {"timeoutSeconds": timeout}});
        let seconds = |steps: Value, values: Value| {
            let content = Content::read(&document(steps).to_string()).unwrap();
            content.execution_seconds(values.as_object().unwrap())
        };
        assert_eq!(seconds(json!([timed("a", json!("60")), timed("b", json!(30))]), json!({})), 90);
        assert_eq!(seconds(json!([timed("a", json!("{{ Word }}"))]), json!({"Word": "7"})), 7);
        assert_eq!(seconds(json!([timed("a", json!("{{ Word }}"))]), json!({"Word": "soon"})), 3600);
        for (said, expected) in [(0, 1), (1, 1), (172_799, 172_799), (172_800, 172_800), (172_801, 172_800)] {
            assert_eq!(seconds(json!([timed("a", json!(said))]), json!({})), expected);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}\\[\\]\",:a-zA-Z0-9. ]{0,80}") {
            let _ = Content::read(&text);
        }

        #[test]
        fn no_reference_panics(text in "[{} a:]{0,20}") {
            let _ = check_references(&Value::String(text.clone()), &BTreeMap::new());
            let _ = reference(&text);
        }
    }
}

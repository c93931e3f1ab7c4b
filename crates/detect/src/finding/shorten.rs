//! Documents of findings that are too long for a store: shortened, and said so. What a machine chose to send, or how an operator
//! tags, must not be able to make a finding that cannot be kept.

use super::cut_to;
use serde_json::{Map, Value, json};

/// How long texts may be, in bytes, step by step. With the last of them no document is too long: the model bounds how many
/// texts there are, once tags and ancestors are gone.
const TEXT_STEPS: [usize; 4] = [512, 128, 32, 8];

/// What may be left out as a whole: the least telling first.
const TAGS: &str = "/resource/instanceDetails/tags";
const LINEAGE: &str = "/service/runtimeDetails/process/lineage";

/// Makes a document (botocore's `Finding`) fit into so many bytes: leaves out tags, then ancestors of the process, then the ends of
/// texts. What was done is under `shortened` in `service.additionalInfo.value`. Does nothing where nothing has to be done.
pub fn shorten(document: &mut Value, bytes_max: usize) {
    if fits(document, bytes_max) {
        return;
    }
    let mut said = Map::new();
    for (pointer, name) in [(TAGS, "tags"), (LINEAGE, "ancestors")] {
        // As many as there is room for beside a note of what was done.
        let left_out = leave_out(document, pointer, bytes_max.saturating_sub(NOTE_BYTES_MAX));
        if left_out > 0 {
            said.insert(format!("{name}LeftOut"), Value::from(left_out));
            note(document, &said);
        }
        if fits(document, bytes_max) {
            return;
        }
    }
    for bytes in TEXT_STEPS {
        if let Some(context) = document.pointer_mut("/service/runtimeDetails") {
            cut_texts(context, bytes);
        }
        for pointer in
            ["/description", "/title", "/customDetectionRuleName", "/resource", "/service/action", "/service/evidence"]
        {
            if let Some(part) = document.pointer_mut(pointer) {
                cut_texts(part, bytes);
            }
        }
        said.insert("textsCutTo".to_owned(), Value::from(bytes));
        note(document, &said);
        if fits(document, bytes_max) {
            return;
        }
    }
}

/// What a note takes at most.
const NOTE_BYTES_MAX: usize = 256;

fn fits(document: &Value, bytes_max: usize) -> bool {
    document.to_string().len() <= bytes_max
}

/// Leaves out the last elements of a list until the document fits, or the list is empty; gives how many.
fn leave_out(document: &mut Value, pointer: &str, bytes_max: usize) -> usize {
    let mut over = document.to_string().len().saturating_sub(bytes_max);
    let Some(Value::Array(items)) = document.pointer_mut(pointer) else { return 0 };
    let before = items.len();
    while over > 0 {
        let Some(item) = items.pop() else { break };
        over = over.saturating_sub(item.to_string().len());
    }
    before - items.len()
}

fn cut_texts(value: &mut Value, bytes: usize) {
    match value {
        Value::String(text) if text.len() > bytes => *text = format!("{}…", cut_to(text, bytes)),
        Value::Array(items) => items.iter_mut().for_each(|item| cut_texts(item, bytes)),
        Value::Object(members) => members.values_mut().for_each(|item| cut_texts(item, bytes)),
        _ => {}
    }
}

/// Writes down what was done beside what is there already. `additionalInfo.value` is a text that holds JSON.
fn note(document: &mut Value, said: &Map<String, Value>) {
    let Some(service) = document.get_mut("service").and_then(Value::as_object_mut) else { return };
    let text = service.get("additionalInfo").and_then(|info| info.get("value")).and_then(Value::as_str);
    let mut value: Value = text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!({}));
    if let Some(bytes) = said.get("textsCutTo").and_then(Value::as_u64) {
        cut_texts(&mut value, usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    if let Some(members) = value.as_object_mut() {
        members.insert("shortened".to_owned(), Value::Object(said.clone()));
    }
    service.insert("additionalInfo".to_owned(), json!({ "type": "default", "value": value.to_string() }));
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, recorded};
    use super::super::{Finding, ProcessDetails, RuntimeContext, RuntimeDetails, ThreatList};
    use super::{NOTE_BYTES_MAX, shorten};
    use serde_json::Value;

    const BYTES_MAX: usize = 64 * 1024;

    fn process(text: &str, ancestors: usize) -> ProcessDetails {
        let some = || Some(text.to_owned());
        ProcessDetails {
            name: some(),
            executable_path: some(),
            executable_sha256: some(),
            pwd: some(),
            uuid: some(),
            parent_uuid: some(),
            user: some(),
            lineage: (0..ancestors).map(|_| process(text, 0)).collect(),
            ..ProcessDetails::default()
        }
    }

    /// As long as a machine and an operator can make one: control characters take six bytes each in JSON.
    fn long(text: &str, tags: usize) -> Finding {
        let mut finding = finding();
        let some = || Some(text.to_owned());
        let context = RuntimeContext {
            target_process: Some(process(text, 0)),
            socket_path: some(),
            mount_source: some(),
            mount_target: some(),
            file_system_type: some(),
            flags: vec![text.to_owned(); 2],
            module_name: some(),
            module_file_path: some(),
            command_line_example: some(),
            file_path: some(),
            ..RuntimeContext::default()
        };
        finding.title = text.to_owned();
        finding.description = text.to_owned();
        finding.runtime = Some(RuntimeDetails { process: Some(process(text, 8)), context: Some(context) });
        finding.threat_lists = vec![ThreatList { name: text.to_owned(), threats: vec![text.to_owned(); 8] }];
        if let Some(details) = &mut finding.resource.instance {
            let tag = |number: usize| (format!("{number}{}", "k".repeat(126)), "\u{1}".repeat(256));
            details.tags = (0..tags).map(tag).collect();
        }
        finding
    }

    fn shortened(finding: &Finding) -> (Value, Value) {
        let mut document = finding.document(&recorded());
        shorten(&mut document, BYTES_MAX);
        let text = document["service"]["additionalInfo"]["value"].as_str().unwrap();
        let said = serde_json::from_str::<Value>(text).unwrap();
        (document, said)
    }

    #[test]
    fn fifty_long_tags_do_not_lose_a_finding_and_what_is_left_out_is_said() {
        let finding = long("/usr/bin/bash", 50);
        assert!(finding.document(&recorded()).to_string().len() > BYTES_MAX);
        let (document, said) = shortened(&finding);
        assert!(document.to_string().len() <= BYTES_MAX);
        let kept = document["resource"]["instanceDetails"]["tags"].as_array().unwrap().len();
        let left_out = said["shortened"]["tagsLeftOut"].as_u64().unwrap();
        assert_eq!(kept as u64 + left_out, 50);
        assert!(kept > 30, "{kept}");
        assert_eq!(said["ruleId"], "r1", "what was there stays");
        // What tells of the attack is whole.
        assert_eq!(document["service"]["runtimeDetails"], finding.document(&recorded())["service"]["runtimeDetails"]);
    }

    #[test]
    fn whatever_a_machine_sends_is_made_to_fit() {
        for letter in ["\u{1}", "x", "é", "\"", "\u{1f980}"] {
            let (document, said) = shortened(&long(&letter.repeat(1024), 50));
            assert!(document.to_string().len() <= BYTES_MAX, "{letter:?}");
            assert_eq!(said["shortened"]["tagsLeftOut"], 50);
            assert!(document["service"]["runtimeDetails"]["process"]["executablePath"].is_string());
            assert_eq!(
                (&document["type"], &document["service"]["count"]),
                (&"Execution:Runtime/ReverseShell".into(), &1.into())
            );
        }
    }

    #[test]
    fn documents_below_at_and_above_the_limit() {
        let whole = long("x", 3).document(&recorded());
        let size = whole.to_string().len();
        for (bytes_max, is_whole) in [(size + 1, true), (size, true), (size - 1, false)] {
            let mut document = whole.clone();
            shorten(&mut document, bytes_max);
            assert_eq!(document == whole, is_whole, "{bytes_max}");
            assert!(document.to_string().len() <= bytes_max);
        }
        assert!(NOTE_BYTES_MAX < size);
    }
}

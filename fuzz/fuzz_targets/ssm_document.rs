//! The content of a document of Systems Manager, as an operator sends it, and behind the first empty line the parameters of a
//! call: refused, or read so that every agent is given the same.
#![no_main]

use documents::{Content, STEPS_MAX};
use libfuzzer_sys::fuzz_target;

/// Two files of the region, which has no need to show them to anybody, and whose other parts are not tried here.
#[allow(dead_code, reason = "not all of it is tried")]
#[path = "../../crates/region/src/documents"]
mod documents {
    mod content;
    mod parameters;

    pub(crate) use content::{Content, STEPS_MAX};
}

fuzz_target!(|text: &str| {
    let (document, parameters) = text.split_once("\n\n").unwrap_or((text, ""));
    let Ok(content) = Content::read(document) else { return };
    assert!((1..=STEPS_MAX).contains(&content.steps().count()));
    let again = Content::read(document).expect("it was read before");
    assert_eq!(again.platforms(), content.platforms());
    let given = inborn_wire::json::decode(parameters.as_bytes()).ok();
    let Ok(values) = content.values(given.as_ref()) else { return };
    // Every parameter has a value, and nothing else has one.
    assert!(content.parameters().all(|(name, _)| values.contains_key(name)));
    assert_eq!(content.parameters().count(), values.len());
    assert!(content.execution_seconds(&values) >= 1);
});

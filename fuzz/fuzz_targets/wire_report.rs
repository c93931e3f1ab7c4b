//! What an agent tells of a command: read, within its bounds, and the same again.
#![no_main]

use inborn_wire::message_gateway::report::{
    OUTPUT_CHARS_MAX, REPORT_BYTES_MAX, Report, STANDARD_ERROR_CHARS_MAX, STANDARD_OUTPUT_CHARS_MAX, STEPS_MAX,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some(report) = Report::read(text) else { return };
    assert!(text.len() <= REPORT_BYTES_MAX && report.steps.len() <= STEPS_MAX);
    for step in &report.steps {
        assert!(step.output.chars().count() <= OUTPUT_CHARS_MAX);
        assert!(step.standard_output.chars().count() <= STANDARD_OUTPUT_CHARS_MAX);
        assert!(step.standard_error.chars().count() <= STANDARD_ERROR_CHARS_MAX);
    }
    assert_eq!(Report::read(text), Some(report));
});

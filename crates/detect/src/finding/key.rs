//! What makes two occurrences one finding.

use super::Finding;
use core::fmt;

/// The type, the machine or the account, and the subject. A text, so that a store can index it; bounded, since its parts are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FindingKey(Box<str>);

/// The longest subject, in bytes. Subjects that differ only after that are one.
const SUBJECT_BYTES_MAX: usize = 512;

impl FindingKey {
    pub(super) fn of(finding: &Finding) -> Self {
        let machine = match &finding.resource.instance {
            Some(instance) => instance.instance.to_string(),
            None => finding.account.to_string(),
        };
        let mut subject = finding.subject.as_str();
        while subject.len() > SUBJECT_BYTES_MAX {
            let last = subject.char_indices().next_back().map_or(0, |(at, _)| at);
            subject = subject.get(..last).unwrap_or_default();
        }
        Self(format!("{}|{}|{machine}|{subject}", finding.account, finding.kind.as_str()).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

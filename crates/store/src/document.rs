//! A document: what a command runs, written by an operator.

use inborn_identity::{AccountId, UnixTime};

use crate::StoreError;

/// A document that an operator made. It is never changed, only deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// Whose it is.
    pub account: AccountId,
    /// What it is found by in its account: 1 to [`Document::NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// When it was made.
    pub created_at: UnixTime,
    /// What a person calls it; empty: nothing else.
    pub display_name: String,
    /// What a person calls this version; empty: nothing.
    pub version_name: String,
    /// The kind of resource it is for, `/AWS::EC2::Instance` or so; empty: any.
    pub target_type: String,
    /// Its text as it was given: 1 to [`Document::CONTENT_BYTES_MAX`] bytes.
    pub content: String,
}

impl Document {
    /// The longest name.
    pub const NAME_BYTES_MAX: usize = 128;
    /// The longest text. Source: AWS, which says 64 KB.
    pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
    /// The longest of the other texts: 1024 characters of four bytes.
    pub const TEXT_BYTES_MAX: usize = 4096;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if !(1..=Self::NAME_BYTES_MAX).contains(&self.name.len()) {
            return Err(StoreError::Invalid("the name of a document has 1 to 128 bytes"));
        }
        if !(1..=Self::CONTENT_BYTES_MAX).contains(&self.content.len()) {
            return Err(StoreError::Invalid("a document has 1 to 65536 bytes"));
        }
        let texts = [&self.display_name, &self.version_name, &self.target_type];
        if texts.iter().any(|text| text.len() > Self::TEXT_BYTES_MAX) {
            return Err(StoreError::Invalid("what is said of a document has at most 4096 bytes"));
        }
        Ok(())
    }
}

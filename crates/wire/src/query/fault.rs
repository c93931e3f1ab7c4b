//! What can be wrong with parameters. Kinds and values; the codes are in the table of [`crate::error`].

use super::{DEPTH_MAX, LIST_INDEX_MAX, NAME_LENGTH_MAX, PAIRS_MAX, VALUE_LENGTH_MAX};

/// A query string or form that cannot be read. `Display` is the text of the answer.
///
/// The first two texts are AWS's (`docs/AWS Auth Error Ordering.pdf` in dacut/scratchstack); the others are ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError {
    /// A name or value ends within an escape.
    #[error("Incomplete trailing escape % sequence")]
    IncompleteEscape,
    /// The two characters after a `%` are not hexadecimal.
    #[error("Illegal hex character in escape % pattern: %{0}")]
    IllegalEscape(String),
    /// The decoded bytes are not UTF-8.
    #[error("Parameter names and values must be valid UTF-8")]
    NotUtf8,
    /// One name with two values: whichever we took, something in between could have taken the other.
    #[error("Parameter '{name}' is given more than once, with different values")]
    Conflict {
        /// The name.
        name: String,
    },
    /// More than [`PAIRS_MAX`] parameters.
    #[error("A request may have at most {PAIRS_MAX} parameters")]
    TooMany,
    /// A name of more than [`NAME_LENGTH_MAX`] bytes.
    #[error("A parameter name may be at most {NAME_LENGTH_MAX} bytes long")]
    NameTooLong,
    /// A value of more than [`VALUE_LENGTH_MAX`] bytes.
    #[error("The value of parameter '{name}' is longer than {VALUE_LENGTH_MAX} bytes")]
    ValueTooLong {
        /// The name.
        name: String,
    },
    /// A number in a name above [`LIST_INDEX_MAX`].
    #[error("Parameter '{name}' has an index above {LIST_INDEX_MAX}")]
    IndexTooLarge {
        /// The name.
        name: String,
    },
    /// A name of more than [`DEPTH_MAX`] parts.
    #[error("Parameter '{name}' has more than {DEPTH_MAX} parts")]
    TooDeep {
        /// The name.
        name: String,
    },
}

/// A parameter that is missing or has a value it cannot have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParameterError {
    /// It is required and is not there.
    #[error("{name} is missing")]
    Missing {
        /// Its whole name, as in `Filter.1.Name`.
        name: String,
    },
    /// It should be a whole number of 32 bits.
    #[error("{name} is not a whole number")]
    NotInteger {
        /// Its whole name.
        name: String,
        /// What it is.
        value: String,
    },
    /// It should be `true` or `false`.
    #[error("{name} is not true or false")]
    NotBoolean {
        /// Its whole name.
        name: String,
        /// What it is.
        value: String,
    },
    /// A number below what is allowed.
    #[error("{name} is below {least}")]
    TooSmall {
        /// Its whole name.
        name: String,
        /// What it is.
        value: i32,
        /// The least it may be.
        least: i32,
    },
    /// A number above what is allowed.
    #[error("{name} is above {most}")]
    TooLarge {
        /// Its whole name.
        name: String,
        /// What it is.
        value: i32,
        /// The most it may be.
        most: i32,
    },
    /// A value outside the set of values it may have.
    #[error("{name} is none of its possible values")]
    NotOneOf {
        /// Its whole name.
        name: String,
        /// What it is.
        value: String,
        /// The possible values, in the order in which a message lists them.
        possible: &'static [&'static str],
    },
}

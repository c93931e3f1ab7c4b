//! awsQuery and ec2Query parameters: the query string and the form body of a request as one set of names and values.
//!
//! Lists are written `InstanceId.1`, structures `Filter.1.Name`, and so on in depth. Names are exact, case included.

mod fault;
mod parse;
mod structure;
#[cfg(test)]
mod tests;

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

pub use fault::{ParameterError, QueryError};
pub use structure::Structure;

/// Most parameters of a request, equal ones counted each. EC2 takes a thousand ids and some filters in one call.
pub const PAIRS_MAX: usize = 4096;
/// Longest name, in bytes, decoded.
pub const NAME_LENGTH_MAX: usize = 256;
/// Longest value, in bytes, decoded. User data of 16 KiB takes 21,848 in base64.
pub const VALUE_LENGTH_MAX: usize = 65_536;
/// Highest number in a name such as `InstanceId.1000`.
pub const LIST_INDEX_MAX: u32 = 10_000;
/// Most dot-separated parts of a name; `LaunchTemplateConfigs.1.Overrides.1.BlockDeviceMapping.1.Ebs.Iops` has eight.
pub const DEPTH_MAX: usize = 12;

/// The parameters of one call, and which of them have been read so far.
///
/// A call reads what it understands; EC2 then refuses what is left ([`Parameters::unread`]), STS ignores it.
pub struct Parameters {
    /// Sorted by name, each name once.
    pairs: Vec<Pair>,
}

struct Pair {
    name: String,
    value: String,
    read: AtomicBool,
}

impl Parameters {
    /// Reads the raw query string (without `?`) and the raw form body; either may be empty.
    ///
    /// `Action` and every other parameter may be in either. A name may come more than once only with one value.
    ///
    /// # Errors
    /// Broken escapes, bytes that are not UTF-8, a name with two values, or anything past the limits of this module.
    pub fn parse(query: &[u8], body: &[u8]) -> Result<Self, QueryError> {
        parse::parse(query, body)
    }

    /// The operation asked for.
    #[must_use]
    pub fn action(&self) -> Option<&str> {
        self.get("Action")
    }

    /// The version of the interface asked for.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.get("Version")
    }

    /// The value of this name, whole, and marks it as read.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.pairs.binary_search_by(|pair| pair.name.as_str().cmp(name)).ok()?;
        let pair = self.pairs.get(index)?;
        pair.read.store(true, Ordering::Relaxed);
        Some(&pair.value)
    }

    /// All parameters, seen as one structure: numbers, lists and structures are read from there.
    #[must_use]
    pub fn root(&self) -> Structure<'_> {
        Structure::new(self, String::new())
    }

    /// Marks `name` and everything below it as read: understood, and without effect.
    pub fn ignore(&self, name: &str) {
        for pair in self.starting_with(name) {
            if pair.name.get(name.len()..).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
                pair.read.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The names that no one has read, in order. `Action`, `Version` and the names of query authentication are not
    /// among them.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(|pair| !pair.read.load(Ordering::Relaxed) && !is_of_every_call(&pair.name))
            .map(|pair| pair.name.as_str())
    }

    /// Every name and value, in order of name, without marking any as read: for a record of the call, whose writer knows
    /// which values are secret.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|pair| (pair.name.as_str(), pair.value.as_str()))
    }

    /// The pairs whose names begin with `prefix`, in order of name.
    fn starting_with<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a Pair> {
        let start = self.pairs.partition_point(|pair| pair.name.as_str() < prefix);
        self.pairs.get(start..).unwrap_or_default().iter().take_while({
            let prefix = prefix.to_owned();
            move |pair| pair.name.starts_with(&prefix)
        })
    }
}

fn is_of_every_call(name: &str) -> bool {
    matches!(name, "Action" | "Version") || name.starts_with("X-Amz-")
}

/// The names and values of a raw query string in its order, for protocols in which a name that comes more than once is a list.
///
/// # Errors
/// As [`Parameters::parse`], but for names with two values.
pub fn pairs(query: &[u8]) -> Result<Vec<(String, String)>, QueryError> {
    parse::in_order(query)
}

/// A raw segment of a path as it is meant.
///
/// # Errors
/// Broken escapes, or bytes that are not UTF-8.
pub fn path_segment(raw: &str) -> Result<String, QueryError> {
    parse::segment(raw)
}

/// Writes a form from names and values, in the order given.
#[must_use]
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        crate::percent::encode_into(&mut out, name);
        out.push('=');
        crate::percent::encode_into(&mut out, value);
    }
    out
}

/// Names only: a value may be a session token.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pairs.iter().map(|pair| &pair.name)).finish()
    }
}

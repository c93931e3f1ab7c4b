//! Typed reading of parameters, below some prefix.

use core::ops::RangeInclusive;
use core::sync::atomic::Ordering;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::{LIST_INDEX_MAX, ParameterError, Parameters};

/// The parameters below one prefix, as `TagSpecification.1.Tag.2`. Names are given without the prefix.
#[derive(Clone, Debug)]
pub struct Structure<'a> {
    parameters: &'a Parameters,
    prefix: String,
}

impl<'a> Structure<'a> {
    pub(super) fn new(parameters: &'a Parameters, prefix: String) -> Self {
        Self { parameters, prefix }
    }

    /// The whole name of something in here, as it stands in the request and in messages.
    #[must_use]
    pub fn whole_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Whether the request names anything in here.
    #[must_use]
    pub fn is_present(&self) -> bool {
        let inside = if self.prefix.is_empty() { String::new() } else { format!("{}.", self.prefix) };
        self.parameters.starting_with(&inside).next().is_some()
    }

    /// A text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.parameters.get(&self.whole_name(name))
    }

    /// A text that must be there. An empty one is there.
    ///
    /// # Errors
    /// It is missing.
    pub fn require(&self, name: &str) -> Result<&'a str, ParameterError> {
        self.get(name).ok_or_else(|| ParameterError::Missing { name: self.whole_name(name) })
    }

    /// A whole number: an optional sign and digits, leading zeros allowed, within 32 bits and within `range`.
    ///
    /// The form is what STS was seen to take and refuse (radkawar/stackd `testdata/aws/sts/query_inputs.json`):
    /// `0900` and `+900` are numbers; ` 900 `, `900.0`, `9e2` and 2^31 are not.
    ///
    /// # Errors
    /// Another form, or a number out of range.
    pub fn integer(&self, name: &str, range: RangeInclusive<i32>) -> Result<Option<i32>, ParameterError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let name = self.whole_name(name);
        let Ok(value) = text.parse::<i32>() else {
            return Err(ParameterError::NotInteger { name, value: text.to_owned() });
        };
        if value < *range.start() {
            return Err(ParameterError::TooSmall { name, value, least: *range.start() });
        }
        if value > *range.end() {
            return Err(ParameterError::TooLarge { name, value, most: *range.end() });
        }
        Ok(Some(value))
    }

    /// `true` or `false`, in any case: query clients written by hand send `True`.
    ///
    /// # Errors
    /// Anything else.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ParameterError> {
        match self.get(name) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => Err(ParameterError::NotBoolean { name: self.whole_name(name), value: text.to_owned() }),
        }
    }

    /// One of a set of texts, exactly.
    ///
    /// # Errors
    /// A text outside the set.
    pub fn one_of(
        &self,
        name: &str,
        possible: &'static [&'static str],
    ) -> Result<Option<&'static str>, ParameterError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        possible
            .iter()
            .find(|value| **value == text)
            .map(|value| Some(*value))
            .ok_or_else(|| ParameterError::NotOneOf { name: self.whole_name(name), value: text.to_owned(), possible })
    }

    /// The texts `name.1`, `name.2`, …, in the order of their numbers. Gaps are passed over.
    ///
    /// For awsQuery lists the name ends in `.member`.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<&'a str> {
        let prefix = format!("{}.", self.whole_name(name));
        let mut found = BTreeMap::new();
        for pair in self.parameters.starting_with(&prefix) {
            if let Some(index) = pair.name.strip_prefix(&prefix).and_then(index) {
                pair.read.store(true, Ordering::Relaxed);
                found.insert(index, pair.value.as_str());
            }
        }
        found.into_values().collect()
    }

    /// The structures `name.1.…`, `name.2.…`, …, in the order of their numbers. Gaps are passed over.
    #[must_use]
    pub fn structures(&self, name: &str) -> Vec<Structure<'a>> {
        let whole_name = self.whole_name(name);
        let prefix = format!("{whole_name}.");
        let indexes: BTreeSet<u32> = self
            .parameters
            .starting_with(&prefix)
            .filter_map(|pair| pair.name.strip_prefix(&prefix)?.split_once('.'))
            .filter_map(|(part, _)| index(part))
            .collect();
        let structure = |index| Structure::new(self.parameters, format!("{prefix}{index}"));
        indexes.into_iter().map(structure).collect()
    }

    /// The structure `name.…`.
    #[must_use]
    pub fn structure(&self, name: &str) -> Structure<'a> {
        Structure::new(self.parameters, self.whole_name(name))
    }
}

/// A list index: 1 to [`LIST_INDEX_MAX`] in decimal, without leading zeros, so that no two names mean one place.
fn index(part: &str) -> Option<u32> {
    if part.starts_with('0') || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    part.parse().ok().filter(|index| (1..=LIST_INDEX_MAX).contains(index))
}

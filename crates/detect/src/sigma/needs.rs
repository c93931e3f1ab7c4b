//! What has to stand in an event before a rule can match it. Most rules name texts: an event that holds none of them need not be
//! compared any further, and one search for all texts of a field tells that for all rules at once.
//!
//! A need is never more than what the rule says: where it cannot be told, there is none, and the rule is always compared.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use rsigma_eval::{Event as _, EventValue};
use rsigma_parser::value::StringPart;
use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SelectorPattern, SigmaValue,
};

use super::Compiled;
use crate::event::Event;

/// Texts of which at least one stands in its field whenever a rule matches: field and text, in small letters of ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs(Vec<(String, String)>);

impl Needs {
    /// What a rule needs, if that can be told. Filters only narrow a rule down: what it needs without them it needs with them.
    pub(super) fn of(detections: &Detections) -> Option<Self> {
        let all = detections.conditions.iter().map(|condition| of_condition(condition, detections));
        any(all).filter(|needs| !needs.0.is_empty())
    }

    /// The shorter a text, the more often it is there by chance.
    fn shortest(&self) -> usize {
        self.0.iter().map(|(_, text)| text.len()).min().unwrap_or_default()
    }
}

/// One of these: all of them must be known.
fn any(all: impl Iterator<Item = Option<Needs>>) -> Option<Needs> {
    all.collect::<Option<Vec<Needs>>>().map(|all| Needs(all.into_iter().flat_map(|needs| needs.0).collect()))
}

/// All of these: the most telling one will do.
fn most_telling(all: impl Iterator<Item = Option<Needs>>) -> Option<Needs> {
    all.flatten().max_by_key(Needs::shortest)
}

fn of_condition(condition: &ConditionExpr, detections: &Detections) -> Option<Needs> {
    match condition {
        ConditionExpr::And(all) => most_telling(all.iter().map(|one| of_condition(one, detections))),
        ConditionExpr::Or(all) => any(all.iter().map(|one| of_condition(one, detections))),
        ConditionExpr::Not(_) => None,
        ConditionExpr::Identifier(name) => of_detection(detections.named.get(name)?),
        ConditionExpr::Selector { quantifier, pattern } => {
            let SelectorPattern::Pattern(pattern) = pattern else { return None };
            // Of patterns only the usual form, which cannot mean what a filter brings along.
            let prefix = pattern.strip_suffix('*').filter(|prefix| !prefix.is_empty() && !prefix.starts_with('_'))?;
            if prefix.contains(['*', '?']) {
                return None;
            }
            let named = detections.named.iter().filter(|(name, _)| name.starts_with(prefix));
            let all: Vec<_> = named.map(|(_, detection)| of_detection(detection)).collect();
            match quantifier {
                _ if all.is_empty() => None,
                Quantifier::Any => any(all.into_iter()),
                Quantifier::All => most_telling(all.into_iter()),
                Quantifier::Count(count) => {
                    if *count > 0 {
                        any(all.into_iter())
                    } else {
                        None
                    }
                }
            }
        }
    }
}

fn of_detection(detection: &Detection) -> Option<Needs> {
    match detection {
        Detection::AllOf(items) => most_telling(items.iter().map(of_item)),
        Detection::AnyOf(all) => any(all.iter().map(of_detection)),
        Detection::Keywords(_) => None,
    }
}

fn of_item(item: &DetectionItem) -> Option<Needs> {
    let is_plain = |modifier: &Modifier| {
        matches!(
            modifier,
            Modifier::Contains | Modifier::StartsWith | Modifier::EndsWith | Modifier::All | Modifier::Cased
        )
    };
    let field = item.field.name.as_ref()?;
    if !item.field.modifiers.iter().all(is_plain) {
        return None;
    }
    let of_value = |value: &SigmaValue| Some(Needs(vec![(field.clone(), longest_text(value)?)]));
    let values = item.values.iter().map(of_value);
    if item.field.has_modifier(Modifier::All) {
        most_telling(values)
    } else {
        any(values).filter(|needs| !needs.0.is_empty())
    }
}

/// The longest text of a value between its wildcards. One that is not of ASCII alone has other small letters than bytes tell.
fn longest_text(value: &SigmaValue) -> Option<String> {
    let SigmaValue::String(text) = value else { return None };
    let plain = text.parts.iter().filter_map(|part| match part {
        StringPart::Plain(text) => Some(text),
        StringPart::Special(_) => None,
    });
    plain
        .max_by_key(|text| text.len())
        .filter(|text| !text.is_empty() && text.is_ascii())
        .map(|text| text.to_ascii_lowercase())
}

/// Rules that are compared with the same events.
#[derive(Default)]
pub(super) struct Group {
    rules: Vec<Compiled>,
    /// Those that are always compared, by their places in `rules`.
    always: Vec<usize>,
    fields: Vec<Field>,
}

/// The texts that rules need in one field.
struct Field {
    name: String,
    search: AhoCorasick,
    /// Of each text, whose it is.
    rules: Vec<Vec<usize>>,
}

impl Group {
    /// Rules, and what each needs.
    pub(super) fn new(all: Vec<(Compiled, Option<Needs>)>) -> Self {
        let mut group = Self::default();
        let mut texts = BTreeMap::<String, BTreeMap<String, Vec<usize>>>::new();
        for (at, (rule, needs)) in all.into_iter().enumerate() {
            group.rules.push(rule);
            match needs {
                None => group.always.push(at),
                Some(Needs(needs)) => {
                    for (field, text) in needs {
                        texts.entry(field).or_default().entry(text).or_default().push(at);
                    }
                }
            }
        }
        for (name, texts) in texts {
            match AhoCorasickBuilder::new().ascii_case_insensitive(true).build(texts.keys()) {
                Ok(search) => group.fields.push(Field { name, search, rules: texts.into_values().collect() }),
                // Too many texts for one search.
                Err(_) => group.always.extend(texts.into_values().flatten()),
            }
        }
        group
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The same as [`Self::matches`], without a search: what tests compare it with.
    #[cfg(test)]
    pub(super) fn matches_one_by_one(&self, event: &Event<'_>, found: &mut Vec<usize>) {
        found.extend(self.rules.iter().filter(|rule| rule.matches(event)).map(|rule| rule.number));
    }

    /// The numbers of the rules that an event matches, in any order.
    pub(super) fn matches(&self, event: &Event<'_>, found: &mut Vec<usize>) {
        let mut candidates = Vec::new();
        for field in &self.fields {
            if let Some(value) = event.get_field(&field.name) {
                field.search_in(&value, &mut candidates);
            }
        }
        candidates.extend(&self.always);
        candidates.sort_unstable();
        candidates.dedup();
        let rules = candidates.into_iter().filter_map(|at| self.rules.get(at));
        found.extend(rules.filter(|rule| rule.matches(event)).map(|rule| rule.number));
    }
}

impl Field {
    fn search_in(&self, value: &EventValue<'_>, candidates: &mut Vec<usize>) {
        match value {
            EventValue::Str(text) if text.is_ascii() => {
                for found in self.search.find_overlapping_iter(text.as_bytes()) {
                    candidates.extend(self.rules.get(found.pattern().as_usize()).into_iter().flatten());
                }
            }
            EventValue::Array(items) => items.iter().for_each(|item| self.search_in(item, candidates)),
            // What is no text of ASCII is compared by rules of its own.
            _ => candidates.extend(self.rules.iter().flatten()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Needs;
    use rsigma_parser::parse_sigma_yaml;

    fn needs(detection: &str) -> Option<Vec<(String, String)>> {
        let text = format!("title: T\nlogsource:\n  category: process_creation\ndetection:\n{detection}\n");
        let collection = parse_sigma_yaml(&text).unwrap();
        assert_eq!(collection.errors, Vec::<String>::new());
        Needs::of(&collection.rules[0].detection).map(|needs| {
            let mut all = needs.0;
            all.sort();
            all
        })
    }

    fn some(all: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(all.iter().map(|(field, text)| ((*field).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn what_a_rule_needs() {
        for (detection, expected) in [
            ("  s:\n    Image|endswith: [/Nc, /ncat]\n  condition: s", some(&[("Image", "/nc"), ("Image", "/ncat")])),
            // Of what must be there together, the longest.
            (
                "  s:\n    Image|endswith: /nc\n    CommandLine|contains|all: [a, '--exec', bb]\n  condition: s",
                some(&[("CommandLine", "--exec")]),
            ),
            (
                "  a:\n    Image: /x\n  b:\n    User: root\n  condition: a or b",
                some(&[("Image", "/x"), ("User", "root")]),
            ),
            ("  a:\n    Image: /x\n  b:\n    User: root\n  condition: a and not b", some(&[("Image", "/x")])),
            (
                "  s_a:\n    Image: /x\n  s_b:\n    User: anna\n  condition: 1 of s_*",
                some(&[("Image", "/x"), ("User", "anna")]),
            ),
            ("  s_a:\n    Image: /x\n  s_b:\n    User: anna\n  condition: all of s_*", some(&[("User", "anna")])),
            ("  s:\n    - Image: /x\n    - User: anna\n  condition: s", some(&[("Image", "/x"), ("User", "anna")])),
            ("  s:\n    Image: '*/a*long?b'\n  condition: s", some(&[("Image", "long")])),
        ] {
            assert_eq!(needs(detection), expected, "{detection}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_no_need() {
        for detection in [
            "  a:\n    Image: /x\n  condition: not a",
            "  a:\n    Image: /x\n  b:\n    ProcessId: 7\n  condition: a or b",
            "  a:\n    Image: /x\n  condition: 1 of them",
            "  s:\n    CommandLine|re: 'a.*b'\n  condition: s",
            "  s:\n    Image: null\n  condition: s",
            "  s:\n    Image: ''\n  condition: s",
            "  s:\n    Image: '*'\n  condition: s",
            "  s:\n    Image: [/x, 7]\n  condition: s",
            "  s:\n    Image: /é\n  condition: s",
            "  s:\n    Image|exists: true\n  condition: s",
            "  s:\n    CommandLine|windash|contains: ' -x'\n  condition: s",
            "  s:\n    CommandLine|base64|contains: abc\n  condition: s",
            "  s:\n    - abc\n    - def\n  condition: s",
        ] {
            assert_eq!(needs(detection), None, "{detection}");
        }
    }
}

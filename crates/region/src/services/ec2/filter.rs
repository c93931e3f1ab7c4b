//! The filters of `Describe…`: all must match, each by any of its values, `*` and `?` as wildcards.

use std::collections::BTreeMap;

use inborn_store::{Instance, KeyPair};
use inborn_wire::error::Problem;
use inborn_wire::query::Parameters;

use super::refusal;
use crate::network;

/// Most filters in a request, and values in a filter. Source: EC2 API reference, "Filtering".
const FILTERS_MAX: usize = 50;
const VALUES_MAX: usize = 200;

/// Something that filters choose.
pub(super) trait Filtered: Sized {
    /// What the plain filter of this name looks at.
    fn field(name: &str) -> Option<fn(&Self) -> Option<String>>;
    /// What `tag:KEY` and `tag-key` look at.
    fn tags(&self) -> &BTreeMap<String, String>;
}

/// One filter.
#[derive(Debug)]
pub(super) struct Filter<'a, T> {
    field: Field<'a, T>,
    values: Vec<&'a str>,
}

#[derive(Debug)]
enum Field<'a, T> {
    Tag(&'a str),
    TagKey,
    Of(fn(&T) -> Option<String>),
}

impl Filtered for Instance {
    fn field(name: &str) -> Option<fn(&Self) -> Option<String>> {
        Some(match name {
            "instance-id" => |i| Some(i.id.to_string()),
            "image-id" => |i| Some(i.image_id.clone()),
            "instance-type" => |i| Some(i.instance_type.clone()),
            "instance-state-name" => |i| Some(i.state.to_string()),
            "instance-state-code" => |i| Some(i.state.code().to_string()),
            "availability-zone" => |i| Some(i.zone.to_string()),
            "private-ip-address" => |i| Some(i.private_address.to_string()),
            "reservation-id" => |i| Some(i.reservation_id.clone()),
            "owner-id" => |i| Some(i.account.to_string()),
            "client-token" => |i| i.client_token.clone(),
            "key-name" => |i| i.key_name.clone(),
            "launch-index" => |i| Some(i.ami_launch_index.to_string()),
            "launch-time" => |i| Some(i.launch_time.rfc3339().replace('Z', ".000Z")),
            "metadata-options.http-tokens" => |i| Some(i.metadata_options.http_tokens.to_string()),
            "metadata-options.http-endpoint" => |i| Some(i.metadata_options.http_endpoint.to_string()),
            "metadata-options.http-put-response-hop-limit" => |i| Some(i.metadata_options.hop_limit.to_string()),
            "placement-group-name" => |i| i.placement_group.clone(),
            "network-interface.network-interface-id" => |i| Some(network::interface_id(i.id)),
            "network-interface.mac-address" => |i| Some(network::mac_address(i).to_string()),
            _ => return None,
        })
    }

    fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }
}

impl Filtered for KeyPair {
    fn field(name: &str) -> Option<fn(&Self) -> Option<String>> {
        Some(match name {
            "key-name" => |pair| Some(pair.name.clone()),
            "key-pair-id" => |pair| Some(pair.id.clone()),
            "fingerprint" => |pair| Some(pair.fingerprint.clone()),
            _ => return None,
        })
    }

    fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }
}

/// Reads `Filter.1.Name`, `Filter.1.Value.1`, ….
pub(super) fn read<T: Filtered>(parameters: &Parameters) -> Result<Vec<Filter<'_, T>>, Problem> {
    let structures = parameters.root().structures("Filter");
    if structures.len() > FILTERS_MAX {
        return Err(refusal::invalid_value(format!("A request may have at most {FILTERS_MAX} filters")));
    }
    let mut filters = Vec::with_capacity(structures.len());
    for structure in structures {
        let name = structure.require("Name").map_err(|_| refusal::missing_parameter(&structure.whole_name("Name")))?;
        let field = match (name.strip_prefix("tag:"), name) {
            (Some(key), _) => Field::Tag(key),
            (None, "tag-key") => Field::TagKey,
            (None, name) => Field::Of(
                T::field(name).ok_or_else(|| refusal::invalid_value(format!("The filter '{name}' is invalid")))?,
            ),
        };
        let values = structure.list("Value");
        if values.len() > VALUES_MAX {
            return Err(refusal::invalid_value(format!("A filter may have at most {VALUES_MAX} values")));
        }
        filters.push(Filter { field, values });
    }
    Ok(filters)
}

impl<T: Filtered> Filter<'_, T> {
    /// Whether `one` passes.
    pub(super) fn matches(&self, one: &T) -> bool {
        let any = |text: &str| self.values.iter().any(|value| like(value.as_bytes(), text.as_bytes()));
        match self.field {
            Field::Tag(key) => one.tags().get(key).is_some_and(|value| any(value)),
            Field::TagKey => one.tags().keys().any(|key| any(key)),
            Field::Of(get) => get(one).is_some_and(|text| any(&text)),
        }
    }
}

/// Whether `text` is like `pattern`: `*` stands for any number of bytes, `?` for one, `\` takes their meaning away.
/// Runs in at most pattern × text steps: a star only ever falls back to the last one.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while t < text.len() {
        let (wanted, width) = match (pattern.get(p), pattern.get(p + 1)) {
            (Some(b'\\'), Some(escaped)) => (Some(*escaped), 2),
            (Some(b'*'), _) => {
                last_star = Some((p, t));
                p += 1;
                continue;
            }
            (Some(b'?'), _) => (text.get(t).copied(), 1),
            (plain, _) => (plain.copied(), 1),
        };
        if wanted.is_some() && wanted == text.get(t).copied() {
            (p, t) = (p + width, t + 1);
        } else if let Some((star, from)) = last_star {
            last_star = Some((star, from + 1));
            (p, t) = (star + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        let cases = [
            ("web", "web", true),
            ("web", "web1", false),
            ("web*", "web-1", true),
            ("*-1", "web-1", true),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("*", "", true),
            ("", "", true),
            ("?", "", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
            (r"\\", r"\", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(like(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_not_slow() {
        let pattern = "*a".repeat(100);
        assert!(!like(pattern.as_bytes(), &[b'b'; 10_000]));
        assert!(!like(format!("{pattern}c").as_bytes(), &[b'a'; 10_000]));
    }

    #[test]
    fn unknown_filters_are_refused() {
        let parameters = Parameters::parse(b"", b"Filter.1.Name=colour&Filter.1.Value.1=red").unwrap();
        let Err(Problem::Service { code, message, .. }) = read::<Instance>(&parameters) else { panic!() };
        assert_eq!((code, message.as_str()), ("InvalidParameterValue", "The filter 'colour' is invalid"));
    }
}

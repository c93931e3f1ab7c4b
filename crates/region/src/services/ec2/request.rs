//! What several EC2 operations read from a request in the same way.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inborn_identity::{InstanceId, MetadataOptions};
use inborn_store::{ChangeRequest, MetadataOptionsChange, UserData};
use inborn_wire::error::Problem;
use inborn_wire::query::{Parameters, Structure};

use super::refusal;

/// Longest tag key, in characters. Source: EC2 user guide, "Tag restrictions".
pub(super) const TAG_KEY_LENGTH_MAX: usize = 128;
/// Longest tag value, in characters.
pub(super) const TAG_VALUE_LENGTH_MAX: usize = 256;
/// Most tags of an instance.
pub(super) const TAGS_MAX: usize = 50;

/// `InstanceId.1`, …: at least one, each well-formed, each once.
pub(super) fn instance_ids(parameters: &Parameters) -> Result<Vec<InstanceId>, Problem> {
    let texts = parameters.root().list("InstanceId");
    if texts.is_empty() {
        return Err(refusal::missing_parameter("InstanceId"));
    }
    parse_ids(&texts)
}

/// `InstanceId`.
pub(super) fn instance_id(parameters: &Parameters) -> Result<InstanceId, Problem> {
    let text = parameters.root().get("InstanceId").ok_or_else(|| refusal::missing_parameter("InstanceId"))?;
    text.parse().map_err(|_| refusal::malformed_id(text, "i-"))
}

/// A new random id.
pub(super) fn new_id() -> Result<InstanceId, Problem> {
    let mut bytes = [0; InstanceId::BYTES];
    inborn_chance::fill(&mut bytes).map_err(|_| Problem::Internal)?;
    // The first digit is 0 on EC2 too; 64 random bits are left.
    bytes[0] = 0;
    Ok(InstanceId::from_bytes(bytes))
}

/// User data in base64, with or without line ends.
pub(super) fn user_data(text: &str) -> Result<UserData, Problem> {
    let malformed = || Problem::Service {
        status: 400,
        code: "InvalidUserData.Malformed",
        message: "Invalid BASE64 encoding of user data".to_owned(),
    };
    let compact: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(&compact).map_err(|_| malformed())?;
    UserData::new(bytes)
        .map_err(|_| refusal::invalid_value(format!("User data is limited to {} bytes", UserData::BYTES_MAX)))
}

/// Instance ids from texts, each once.
pub(super) fn parse_ids(texts: &[&str]) -> Result<Vec<InstanceId>, Problem> {
    if texts.len() > ChangeRequest::INSTANCES_MAX {
        let message = format!("A request may name at most {} resources", ChangeRequest::INSTANCES_MAX);
        return Err(refusal::invalid_value(message));
    }
    let mut ids = Vec::with_capacity(texts.len());
    let mut seen = std::collections::HashSet::with_capacity(texts.len());
    for text in texts {
        let id: InstanceId = text.parse().map_err(|_| refusal::malformed_id(text, "i-"))?;
        if seen.insert(id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// To be called when everything has been read and found well: refuses what was not understood, then a dry run.
pub(super) fn finish(parameters: &Parameters) -> Result<(), Problem> {
    let dry_run = parameters.root().boolean("DryRun").map_err(Problem::Parameter)?;
    if let Some(name) = parameters.unread().next() {
        return Err(Problem::UnknownParameter { name: name.to_owned() });
    }
    if dry_run == Some(true) { Err(refusal::dry_run()) } else { Ok(()) }
}

/// `HttpTokens`, `HttpEndpoint`, `HttpPutResponseHopLimit`, `HttpProtocolIpv6`, `InstanceMetadataTags` below `options`.
pub(super) fn metadata_options(options: &Structure<'_>) -> Result<MetadataOptionsChange, Problem> {
    let word = |name| options.one_of(name, &["enabled", "disabled"]).map_err(Problem::Parameter);
    let http_tokens = options.one_of("HttpTokens", &["optional", "required"]).map_err(Problem::Parameter)?;
    let hop_limit = options
        .integer(
            "HttpPutResponseHopLimit",
            i32::from(MetadataOptions::HOP_LIMIT_MIN)..=i32::from(MetadataOptions::HOP_LIMIT_MAX),
        )
        .map_err(Problem::Parameter)?;
    Ok(MetadataOptionsChange {
        http_tokens: http_tokens.and_then(|word| word.parse().ok()),
        http_endpoint: word("HttpEndpoint")?.and_then(|word| word.parse().ok()),
        hop_limit: hop_limit.and_then(|limit| u8::try_from(limit).ok()),
        ipv6: word("HttpProtocolIpv6")?.map(|word| word == "enabled"),
        tags: word("InstanceMetadataTags")?.map(|word| word == "enabled"),
    })
}

/// `Tag.1.Key`, `Tag.1.Value`, … below `structure`.
pub(super) fn tags(structure: &Structure<'_>) -> Result<BTreeMap<String, String>, Problem> {
    let mut tags = BTreeMap::new();
    for tag in structure.structures("Tag") {
        let key = tag.require("Key").map_err(|_| refusal::missing_parameter(&tag.whole_name("Key")))?;
        let value = tag.get("Value").unwrap_or_default();
        check_tag(key, value)?;
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(refusal::invalid_value(format!("Duplicate tag key '{key}' specified.")));
        }
    }
    if tags.len() > TAGS_MAX { Err(refusal::tag_limit()) } else { Ok(tags) }
}

/// The tags for this kind of resource in `TagSpecification.N`; those for volumes and the like have nothing here to be put on.
pub(super) fn tags_for(parameters: &Parameters, resource_type: &str) -> Result<BTreeMap<String, String>, Problem> {
    let mut all = BTreeMap::new();
    for specification in parameters.root().structures("TagSpecification") {
        let tags = tags(&specification)?;
        match specification.get("ResourceType") {
            Some(found) if found == resource_type => all.extend(tags),
            Some(_) => {}
            None => return Err(refusal::missing_parameter(&specification.whole_name("ResourceType"))),
        }
    }
    if all.len() > TAGS_MAX { Err(refusal::tag_limit()) } else { Ok(all) }
}

fn check_tag(key: &str, value: &str) -> Result<(), Problem> {
    if key.is_empty() || key.chars().count() > TAG_KEY_LENGTH_MAX {
        let message = format!("Tag keys must be between 1 and {TAG_KEY_LENGTH_MAX} characters in length.");
        return Err(refusal::invalid_value(message));
    }
    if value.chars().count() > TAG_VALUE_LENGTH_MAX {
        let message = format!("Tag values must be at most {TAG_VALUE_LENGTH_MAX} characters in length.");
        return Err(refusal::invalid_value(message));
    }
    if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
        return Err(refusal::invalid_value("Tag keys starting with 'aws:' are reserved for internal use"));
    }
    Ok(())
}

/// A tag key that metadata could not serve as a path is refused where metadata serves tags. Source: EC2 user guide,
/// "View tags for your EC2 instances using instance metadata".
pub(super) fn check_tags_in_metadata<'a>(keys: impl IntoIterator<Item = &'a String>) -> Result<(), Problem> {
    match keys.into_iter().find(|key| !fits_a_path(key)) {
        None => Ok(()),
        Some(key) => Err(refusal::invalid_value(format!(
            "'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), and must not be \
             a reserved name ('.', '..', '_index')"
        ))),
    }
}

fn fits_a_path(key: &str) -> bool {
    !matches!(key, "." | ".." | "_index") && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+=,.@:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(form: &str) -> Parameters {
        Parameters::parse(b"", form.as_bytes()).unwrap()
    }

    fn code(problem: &Problem) -> &'static str {
        match problem {
            Problem::Service { code, .. } => code,
            Problem::UnknownParameter { .. } => "UnknownParameter",
            Problem::Parameter(_) => "Parameter",
            _ => panic!("{problem:?}"),
        }
    }

    #[test]
    fn ids() {
        let good = "i-0123456789abcdef0";
        assert_eq!(instance_ids(&parse(&format!("InstanceId.1={good}&InstanceId.2={good}"))).unwrap().len(), 1);
        assert_eq!(code(&instance_ids(&parse("")).unwrap_err()), "MissingParameter");
        assert_eq!(code(&instance_ids(&parse("InstanceId.1=i-1")).unwrap_err()), "InvalidInstanceID.Malformed");
        let many = |count: u32| (1..=count).map(|n| format!("InstanceId.{n}=i-{n:017x}")).collect::<Vec<_>>().join("&");
        assert_eq!(instance_ids(&parse(&many(1000))).unwrap().len(), 1000);
        assert_eq!(code(&instance_ids(&parse(&many(1001))).unwrap_err()), "InvalidParameterValue");
    }

    #[test]
    fn tags_below_at_and_above_their_limits() {
        let one = |key: usize, value: usize| {
            tags(&parse(&format!("Tag.1.Key={}&Tag.1.Value={}", "k".repeat(key), "v".repeat(value))).root())
        };
        for (key, value, is_fine) in
            [(1, 0, true), (127, 255, true), (128, 256, true), (129, 0, false), (1, 257, false), (0, 1, false)]
        {
            assert_eq!(one(key, value).is_ok(), is_fine, "{key} {value}");
        }
        let many = |count: u32| {
            let form = (1..=count).map(|n| format!("Tag.{n}.Key=k{n}")).collect::<Vec<_>>().join("&");
            tags(&parse(&form).root())
        };
        assert!(many(49).is_ok() && many(50).is_ok());
        assert_eq!(code(&many(51).unwrap_err()), "TagLimitExceeded");
        assert!(tags(&parse("Tag.1.Key=AWS:x").root()).is_err());
        assert!(tags(&parse("Tag.1.Key=a&Tag.2.Key=a").root()).is_err());
        assert_eq!(code(&tags(&parse("Tag.1.Value=a").root()).unwrap_err()), "MissingParameter");
    }

    #[test]
    fn user_data_below_at_and_above_the_limit() {
        let text = |length: usize| {
            // `AAAA` is three zero bytes; the rest is padded.
            let mut text = "AAAA".repeat(length / 3);
            text.push_str(["", "AA==", "AAA="][length % 3]);
            text
        };
        for (length, is_fine) in [(16_383, true), (16_384, true), (16_385, false)] {
            assert_eq!(user_data(&text(length)).map(|data| data.as_bytes().len()).ok(), is_fine.then_some(length));
        }
    }

    #[test]
    fn metadata_options_are_checked() {
        let read = |form: &str| metadata_options(&parse(form).root());
        assert_eq!(read("HttpPutResponseHopLimit=64").unwrap().hop_limit, Some(64));
        for form in [
            "HttpPutResponseHopLimit=0",
            "HttpPutResponseHopLimit=65",
            "HttpTokens=maybe",
            "HttpEndpoint=on",
            "HttpProtocolIpv6=true",
        ] {
            assert_eq!(code(&read(form).unwrap_err()), "Parameter", "{form}");
        }
        assert_eq!(read("InstanceMetadataTags=enabled").unwrap().tags, Some(true));
    }

    #[test]
    fn what_is_not_understood_is_refused_before_a_dry_run() {
        assert!(finish(&parse("Action=A&Version=1")).is_ok());
        assert_eq!(code(&finish(&parse("DryRun=true")).unwrap_err()), "DryRunOperation");
        assert_eq!(code(&finish(&parse("DryRun=true&Surprise=1")).unwrap_err()), "UnknownParameter");
        assert_eq!(code(&finish(&parse("DryRun=perhaps")).unwrap_err()), "Parameter");
    }
}

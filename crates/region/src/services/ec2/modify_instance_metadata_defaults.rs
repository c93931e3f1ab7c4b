//! `ModifyInstanceMetadataDefaults`: for launches to come; instances that are there stay as they are.

use inborn_identity::MetadataOptions;
use inborn_wire::error::Problem;
use inborn_wire::query::Structure;

use super::metadata_defaults::{self, MetadataDefaults};
use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};

/// What takes a preference away. For the hop limit it is -1.
const NO_PREFERENCE: &str = "no-preference";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let change = Change::read(&call.parameters.root())?;
        request::finish(call.parameters)?;
        metadata_defaults::change(&call, |defaults| change.apply(defaults)).await?;
        Ok(shape::done("ModifyInstanceMetadataDefaults", call.request_id).into())
    })
}

/// The preferences to change: outside `None` what stays, inside `None` what becomes no preference.
pub(super) struct Change {
    http_tokens: Option<Option<&'static str>>,
    http_endpoint: Option<Option<&'static str>>,
    hop_limit: Option<Option<u8>>,
    tags: Option<Option<bool>>,
    tokens_enforced: Option<Option<bool>>,
}

impl Change {
    fn read(root: &Structure<'_>) -> Result<Self, Problem> {
        let nothing = || refusal::invalid_combination("No options were specified to be modified.");
        Self::read_if_any(root)?.ok_or_else(nothing)
    }

    /// As far as something is to change.
    pub(super) fn read_if_any(root: &Structure<'_>) -> Result<Option<Self>, Problem> {
        let word = |name, words: &'static [&'static str]| {
            let word = root.one_of(name, words).map_err(Problem::Parameter)?;
            Ok::<_, Problem>(word.map(|word| (word != NO_PREFERENCE).then_some(word)))
        };
        let switch = |name| {
            let word = word(name, &["enabled", "disabled", NO_PREFERENCE])?;
            Ok::<_, Problem>(word.map(|preference| preference.map(|word| word == "enabled")))
        };
        let change = Self {
            http_tokens: word("HttpTokens", &["optional", "required", NO_PREFERENCE])?,
            http_endpoint: word("HttpEndpoint", &["enabled", "disabled", NO_PREFERENCE])?,
            hop_limit: hop_limit(root)?,
            tags: switch("InstanceMetadataTags")?,
            tokens_enforced: switch("HttpTokensEnforced")?,
        };
        Ok((!change.is_empty()).then_some(change))
    }

    const fn is_empty(&self) -> bool {
        self.http_tokens.is_none()
            && self.http_endpoint.is_none()
            && self.hop_limit.is_none()
            && self.tags.is_none()
            && self.tokens_enforced.is_none()
    }

    pub(super) fn apply(&self, mut defaults: MetadataDefaults) -> MetadataDefaults {
        if let Some(preference) = self.http_tokens {
            defaults.options.http_tokens = preference.and_then(|word| word.parse().ok());
        }
        if let Some(preference) = self.http_endpoint {
            defaults.options.http_endpoint = preference.and_then(|word| word.parse().ok());
        }
        if let Some(preference) = self.hop_limit {
            defaults.options.hop_limit = preference;
        }
        if let Some(preference) = self.tags {
            defaults.options.tags = preference;
        }
        if let Some(preference) = self.tokens_enforced {
            defaults.tokens_enforced = preference;
        }
        defaults
    }
}

/// 1–64, or -1.
fn hop_limit(root: &Structure<'_>) -> Result<Option<Option<u8>>, Problem> {
    let name = "HttpPutResponseHopLimit";
    let limit = root.integer(name, -1..=i32::from(MetadataOptions::HOP_LIMIT_MAX)).map_err(Problem::Parameter)?;
    match limit {
        None => Ok(None),
        Some(-1) => Ok(Some(None)),
        Some(limit) => match MetadataOptions::check_hop_limit(limit.into()) {
            Ok(limit) => Ok(Some(Some(limit))),
            Err(error) => Err(refusal::invalid_value(format!("Invalid value '{limit}' for {name}: {error}, or -1"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_identity::{HttpEndpoint, HttpTokens};
    use inborn_wire::query::Parameters;

    fn changed(defaults: MetadataDefaults, form: &str) -> Option<MetadataDefaults> {
        let parameters = Parameters::parse(b"", form.as_bytes()).unwrap();
        Change::read(&parameters.root()).ok().map(|change| change.apply(defaults))
    }

    #[test]
    fn preferences_are_set_kept_and_taken_away() {
        let all = "HttpTokens=optional&HttpEndpoint=disabled&HttpPutResponseHopLimit=64&InstanceMetadataTags=enabled\
                   &HttpTokensEnforced=disabled";
        let set = changed(MetadataDefaults::default(), all).unwrap();
        let options = set.options;
        assert_eq!(options.http_tokens, Some(HttpTokens::Optional));
        assert_eq!(options.http_endpoint, Some(HttpEndpoint::Disabled));
        assert_eq!((options.hop_limit, options.tags, set.tokens_enforced), (Some(64), Some(true), Some(false)));
        let kept = changed(set, "HttpTokens=no-preference").unwrap();
        assert_eq!((kept.options.http_tokens, kept.options.hop_limit), (None, Some(64)));
        let none = "HttpTokens=no-preference&HttpEndpoint=no-preference&HttpPutResponseHopLimit=-1\
                    &InstanceMetadataTags=no-preference&HttpTokensEnforced=no-preference";
        assert_eq!(changed(set, none), Some(MetadataDefaults::default()));
    }

    #[test]
    fn values_that_cannot_be() {
        for form in
            ["", "HttpTokens=on", "HttpEndpoint=optional", "InstanceMetadataTags=required", "HttpTokensEnforced=1"]
        {
            assert_eq!(changed(MetadataDefaults::default(), form), None, "{form}");
        }
        for (limit, is_fine) in
            [(-2, false), (-1, true), (0, false), (1, true), (2, true), (63, true), (64, true), (65, false)]
        {
            let form = format!("HttpPutResponseHopLimit={limit}");
            assert_eq!(changed(MetadataDefaults::default(), &form).is_some(), is_fine, "{limit}");
        }
    }
}

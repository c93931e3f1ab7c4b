//! How an instance's metadata service behaves: what `ModifyInstanceMetadataOptions` changes.

/// Whether a request without a session token is answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HttpTokens {
    /// IMDSv1 and v2.
    Optional,
    /// IMDSv2 only.
    Required,
}

/// Whether the metadata service answers at all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HttpEndpoint {
    /// It answers.
    Enabled,
    /// It answers 403 to everything.
    Disabled,
}

/// The metadata options of one instance. Source: EC2 API reference, `InstanceMetadataOptionsResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MetadataOptions {
    /// `HttpTokens`.
    pub http_tokens: HttpTokens,
    /// `HttpEndpoint`.
    pub http_endpoint: HttpEndpoint,
    /// `HttpPutResponseHopLimit`, 1–64: the IP TTL of the answer that carries a token.
    pub hop_limit: u8,
    /// `HttpProtocolIpv6`.
    pub ipv6: bool,
    /// `InstanceMetadataTags`.
    pub tags: bool,
}

/// A metadata option with a value it cannot have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MetadataOptionsError {
    /// The hop limit is outside 1–64.
    #[error("the hop limit is a whole number from {min} to {max}", min = MetadataOptions::HOP_LIMIT_MIN, max = MetadataOptions::HOP_LIMIT_MAX)]
    HopLimit,
    /// A word that the option does not know.
    #[error("expected {0}")]
    Word(&'static str),
}

impl MetadataOptions {
    /// The lowest hop limit: the answer reaches the instance and nothing behind it.
    pub const HOP_LIMIT_MIN: u8 = 1;
    /// The highest hop limit.
    pub const HOP_LIMIT_MAX: u8 = 64;

    /// Checks a hop limit.
    ///
    /// # Errors
    /// [`MetadataOptionsError::HopLimit`] outside 1–64.
    pub fn check_hop_limit(limit: i64) -> Result<u8, MetadataOptionsError> {
        u8::try_from(limit)
            .ok()
            .filter(|limit| (Self::HOP_LIMIT_MIN..=Self::HOP_LIMIT_MAX).contains(limit))
            .ok_or(MetadataOptionsError::HopLimit)
    }
}

impl Default for MetadataOptions {
    /// What a launch without options gets: version 2 only, one hop, as new AMIs and accounts have it on AWS.
    fn default() -> Self {
        Self {
            http_tokens: HttpTokens::Required,
            http_endpoint: HttpEndpoint::Enabled,
            hop_limit: 1,
            ipv6: false,
            tags: false,
        }
    }
}

macro_rules! words {
    ($name:ident, $expected:literal, $($word:literal => $value:ident),*) => {
        impl core::str::FromStr for $name {
            type Err = MetadataOptionsError;
            fn from_str(text: &str) -> Result<Self, MetadataOptionsError> {
                match text { $($word => Ok(Self::$value),)* _ => Err(MetadataOptionsError::Word($expected)) }
            }
        }
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(match self { $(Self::$value => $word),* })
            }
        }
    };
}
words!(HttpTokens, "optional or required", "optional" => Optional, "required" => Required);
words!(HttpEndpoint, "enabled or disabled", "enabled" => Enabled, "disabled" => Disabled);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_limit_below_at_and_above() {
        for (limit, expected) in [
            (-1, Err(MetadataOptionsError::HopLimit)),
            (0, Err(MetadataOptionsError::HopLimit)),
            (1, Ok(1)),
            (2, Ok(2)),
            (63, Ok(63)),
            (64, Ok(64)),
            (65, Err(MetadataOptionsError::HopLimit)),
            (i64::MAX, Err(MetadataOptionsError::HopLimit)),
        ] {
            assert_eq!(MetadataOptions::check_hop_limit(limit), expected, "{limit}");
        }
    }

    #[test]
    fn words_round_trip() {
        for value in [HttpTokens::Optional, HttpTokens::Required] {
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        for value in [HttpEndpoint::Enabled, HttpEndpoint::Disabled] {
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        assert_eq!("Required".parse::<HttpTokens>(), Err(MetadataOptionsError::Word("optional or required")));
    }
}

//! Where the bucket is: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&style=path|virtual&ca=FILE&credentials=FILE`.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;

/// The longest prefix: S3's keys have 1024 bytes, and the lake's are shorter than 256.
pub const PREFIX_BYTES_MAX: usize = 512;

/// The region that requests are signed for where an endpoint is named and no region: what stores that have none take.
const REGION_OF_OTHERS: &str = "us-east-1";

/// A bucket and how to reach it. There is no secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Its name.
    pub bucket: String,
    /// What stands before every key, without slashes around it.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Of a store that is not Amazon's: `http://` or `https://`, a host, perhaps a port.
    pub endpoint: Option<String>,
    /// Whether the bucket is part of the host's name, not of the path.
    pub is_virtual: bool,
    /// The certificates that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// Where the key is, if not in the environment.
    pub credentials: Option<PathBuf>,
}

/// What is wrong with an address. Does not quote it: somebody may have put a secret there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

fn error(text: impl Into<String>) -> AddressError {
    AddressError(text.into())
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let rest = text.strip_prefix("s3://").ok_or_else(|| error("it is s3://BUCKET/PREFIX?region=NAME"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = prefix.trim_end_matches('/');
        if !is_bucket(bucket) {
            return Err(error(
                "a bucket's name has 3 to 63 letters a-z, digits, dots and hyphens; keys do not belong there",
            ));
        }
        if prefix.len() > PREFIX_BYTES_MAX || !(prefix.is_empty() || prefix.split('/').all(is_segment)) {
            return Err(error(format!(
                "a prefix has at most {PREFIX_BYTES_MAX} letters, digits, and any of - _ . = +, with single slashes between them"
            )));
        }
        let mut found = Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            region: String::new(),
            endpoint: None,
            is_virtual: false,
            ca: None,
            credentials: None,
        };
        let mut style = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "region" => found.region = value.into_owned(),
                "endpoint" => found.endpoint = Some(value.trim_end_matches('/').to_owned()),
                "style" => style = Some(value.into_owned()),
                "ca" => found.ca = Some(value.into_owned().into()),
                "credentials" => found.credentials = Some(value.into_owned().into()),
                _ => return Err(error("its parameters are region, endpoint, style, ca and credentials")),
            }
        }
        match &found.endpoint {
            Some(endpoint) if !is_endpoint(endpoint) => {
                return Err(error("its endpoint is http://HOST:PORT or https://HOST:PORT, without anything behind it"));
            }
            Some(_) if found.region.is_empty() => REGION_OF_OTHERS.clone_into(&mut found.region),
            None if found.region.is_empty() => return Err(error("it names no region, and no endpoint")),
            _ => {}
        }
        if !found.region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(error("its region is a name as eu-west-1"));
        }
        if found.ca.is_some() && found.is_plain() {
            return Err(error(
                "its endpoint is http://, where no certificate is looked at: leave ca out, or make it https://",
            ));
        }
        found.is_virtual = match style.as_deref() {
            None => found.endpoint.is_none() && !found.bucket.contains('.'),
            Some("virtual") => true,
            Some("path") => false,
            Some(_) => return Err(error("its style is path or virtual")),
        };
        Ok(found)
    }
}

impl Address {
    /// Whether what is sent there can be read by everybody on the way.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }

    /// The endpoint, with the bucket in its name if that belongs there.
    pub(crate) fn bucket_endpoint(&self) -> Option<String> {
        let endpoint = self.endpoint.as_ref()?;
        Some(match endpoint.split_once("://") {
            Some((scheme, host)) if self.is_virtual => format!("{scheme}://{}.{host}", self.bucket),
            _ => endpoint.clone(),
        })
    }
}

/// What tells one place from another, and no more.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        match &self.endpoint {
            Some(endpoint) => write!(f, "?endpoint={endpoint}"),
            None => Ok(()),
        }
    }
}

fn is_bucket(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    (3..=63).contains(&name.len())
        && name.bytes().all(is_allowed)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("..")
}

fn is_segment(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+".contains(&byte);
    !name.is_empty() && name != "." && name != ".." && name.bytes().all(is_allowed)
}

fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<::http::Uri>() else { return false };
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.authority().is_some_and(|one| !one.host().is_empty() && !one.as_str().contains('@'));
    is_web && has_host && uri.path() == "/" && uri.query().is_none() && !text.ends_with('?')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, String> {
        text.parse().map_err(|error: AddressError| error.to_string())
    }

    #[test]
    fn amazons_and_others() {
        let one = parse("s3://my-bucket/a/b=c/?region=eu-west-1").unwrap();
        assert_eq!(
            (one.bucket.as_str(), one.prefix.as_str(), one.region.as_str()),
            ("my-bucket", "a/b=c", "eu-west-1")
        );
        assert_eq!((one.is_virtual, one.is_plain(), one.bucket_endpoint()), (true, false, None));
        assert_eq!(one.to_string(), "s3://my-bucket/a/b=c");
        assert!(!parse("s3://my.bucket?region=eu-west-1").unwrap().is_virtual, "no certificate is for two labels");
        let one = parse("s3://my-bucket?endpoint=http%3A%2F%2F127.0.0.1:9000/&credentials=/c").unwrap();
        assert_eq!((one.prefix.as_str(), one.region.as_str(), one.is_virtual), ("", "us-east-1", false));
        assert!(one.is_plain() && one.credentials == Some("/c".into()));
        assert_eq!(one.bucket_endpoint().unwrap(), "http://127.0.0.1:9000");
        assert_eq!(one.to_string(), "s3://my-bucket?endpoint=http://127.0.0.1:9000");
        let one = parse("s3://bkt?endpoint=https://s3.example&style=virtual&ca=/ca.pem&region=x").unwrap();
        assert_eq!(one.bucket_endpoint().unwrap(), "https://bkt.s3.example");
        assert_eq!(one.ca, Some("/ca.pem".into()));
    }

    #[test]
    fn what_is_none_is_said_and_not_quoted() {
        for text in [
            "",
            "https://my-bucket",
            "s3://",
            "s3://ab?region=x",
            "s3://AKIASECRET:SECRET@my-bucket/x?region=x",
            "s3://my-bucket",
            "s3://my-bucket/a//b?region=x",
            "s3://my-bucket/../b?region=x",
            "s3://my-bucket/SECRET%20?region=x",
            "s3://my-bucket?region=x&key=SECRET",
            "s3://my-bucket?region=x&style=SECRET",
            "s3://my-bucket?region=a%20b",
            "s3://my-bucket?endpoint=ftp://SECRET",
            "s3://my-bucket?endpoint=http://u:SECRET@h",
            "s3://my-bucket?endpoint=http://h/SECRET",
            "s3://my-bucket?endpoint=http://h%3Fx=SECRET",
            "s3://my-bucket?endpoint=http://h&ca=/SECRET",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("SECRET"), "{text}: {error}");
        }
    }

    #[test]
    fn names_below_at_and_above_their_longest() {
        for (length, good) in [(2, false), (3, true), (63, true), (64, false)] {
            assert_eq!(parse(&format!("s3://{}?region=x", "b".repeat(length))).is_ok(), good, "{length}");
        }
        for (length, good) in [(PREFIX_BYTES_MAX - 1, true), (PREFIX_BYTES_MAX, true), (PREFIX_BYTES_MAX + 1, false)] {
            assert_eq!(parse(&format!("s3://bkt/{}?region=x", "p".repeat(length))).is_ok(), good, "{length}");
        }
    }
}

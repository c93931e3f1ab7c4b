//! Where traces go: a flag, and the environment variables that OpenTelemetry names.
//!
//! Source: OpenTelemetry specification 1.50, *Environment Variables* and *OTLP exporter*.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

/// Names and their values.
pub(crate) type Attributes = Vec<(Box<str>, Box<str>)>;

/// How long an export may take, if nobody says.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that may be said.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The most headers, and attributes of the program.
const PAIRS_MAX: usize = 64;

/// Where traces go, and how. Headers often hold a token: `Debug` does not show them.
#[derive(Clone)]
pub struct Settings {
    pub(crate) endpoint: Uri,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) timeout: Duration,
    /// Certificates that are trusted instead of the system's.
    pub(crate) certificates: Option<PathBuf>,
    /// What every span is of.
    pub(crate) resource: Attributes,
    /// Of traces whose last eight bytes are not more than this, as a number, all are told.
    pub(crate) threshold: u64,
}

/// Why traces cannot go there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// It is no address.
    #[error("{0} is no http:// or https:// URL with a host, such as http://localhost:4318/v1/traces")]
    Endpoint(&'static str),
    /// A protocol that is not spoken here.
    #[error("{0} asks for a protocol that is not spoken: http/protobuf is")]
    Protocol(&'static str),
    /// Something else has another form.
    #[error("{0} is not {1}")]
    Form(&'static str, &'static str),
}

/// The flag, in messages.
const FLAG: &str = "--otlp-traces-endpoint";

impl core::fmt::Debug for Settings {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The URL may have a token in its path or query, too.
        f.debug_struct("Settings")
            .field("host", &self.endpoint.authority().map(|place| place.host()))
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// What a flag and the environment say; `None`: traces go nowhere. An empty flag says so, too, whatever the environment says.
    ///
    /// # Errors
    /// Something is not of the form it is to have.
    pub fn gather(
        flag: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        // An empty variable is one that is not set.
        let environment = |name: &str| environment(name).filter(|text| !text.is_empty());
        let either = |name: [&'static str; 2]| name.into_iter().find_map(|name| Some((name, environment(name)?)));
        let is_true = |name| environment(name).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let is_none = environment("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none");
        let endpoint = match flag {
            Some("") => return Ok(None),
            Some(url) => url_of(FLAG, url)?,
            None if is_true("OTEL_SDK_DISABLED") || is_none => return Ok(None),
            None => match either(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]) {
                None => return Ok(None),
                Some((name @ "OTEL_EXPORTER_OTLP_ENDPOINT", url)) => {
                    url_of(name, &format!("{}/v1/traces", url.trim_end_matches('/')))?
                }
                Some((name, url)) => url_of(name, &url)?,
            },
        };
        if let Some((name, protocol)) = either(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"])
            && protocol != "http/protobuf"
        {
            return Err(SettingsError::Protocol(name));
        }
        let headers = match either(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"]) {
            None => Vec::new(),
            Some((name, text)) => {
                let form = SettingsError::Form(name, "a list of headers, as in api-key=abc,tenant=ours");
                let header = |(name, value): (Box<str>, Box<str>)| {
                    let mut value = HeaderValue::from_str(&value).ok()?;
                    value.set_sensitive(true);
                    Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
                };
                let pairs = pairs(&text).ok_or_else(|| form.clone())?;
                pairs.into_iter().map(header).collect::<Option<_>>().ok_or(form)?
            }
        };
        let timeout = match either(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]) {
            None => TIMEOUT,
            Some((name, text)) => {
                let milliseconds = text.parse().ok().map(Duration::from_millis);
                let timeout = milliseconds.filter(|timeout| !timeout.is_zero() && *timeout <= TIMEOUT_MAX);
                timeout.ok_or(SettingsError::Form(name, "a number of milliseconds, from 1 to 60000"))?
            }
        };
        let certificates = either(["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"]);
        Ok(Some(Self {
            endpoint,
            headers,
            timeout,
            certificates: certificates.map(|(_, path)| path.into()),
            resource: resource(&environment)?,
            threshold: threshold(&environment)?,
        }))
    }
}

fn url_of(name: &'static str, text: &str) -> Result<Uri, SettingsError> {
    let url = text.parse::<Uri>().ok();
    let is_http = |url: &Uri| matches!(url.scheme_str(), Some("http" | "https"));
    let has_host = |url: &Uri| url.host().is_some_and(|host| !host.is_empty());
    url.filter(|url| is_http(url) && has_host(url)).ok_or(SettingsError::Endpoint(name))
}

/// `service.name` and the others. What is said of them once is said last in `OTEL_SERVICE_NAME`.
fn resource(environment: &impl Fn(&str) -> Option<String>) -> Result<Attributes, SettingsError> {
    const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let mut resource =
        vec![("service.name".into(), "inborn".into()), ("service.version".into(), env!("CARGO_PKG_VERSION").into())];
    let mut set = |name: Box<str>, value: Box<str>| match resource.iter_mut().find(|(earlier, _)| *earlier == name) {
        Some((_, earlier)) => *earlier = value,
        None => resource.push((name, value)),
    };
    if let Some(text) = environment(ATTRIBUTES) {
        let pairs = pairs(&text).ok_or(SettingsError::Form(ATTRIBUTES, "a list of attributes, as in a=b,c=d"))?;
        pairs.into_iter().for_each(|(name, value)| set(name, value));
    }
    if let Some(name) = environment("OTEL_SERVICE_NAME") {
        set("service.name".into(), name.into());
    }
    Ok(resource)
}

/// Which part of the traces is told, by their ids.
fn threshold(environment: &impl Fn(&str) -> Option<String>) -> Result<u64, SettingsError> {
    const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
    match environment("OTEL_TRACES_SAMPLER").as_deref() {
        // Nobody's trace is gone on with here, so that there is never a parent whose decision counts.
        None | Some("always_on" | "parentbased_always_on") => Ok(u64::MAX),
        Some("always_off" | "parentbased_always_off") => Ok(0),
        Some("traceidratio" | "parentbased_traceidratio") => {
            let Some(text) = environment(ARGUMENT) else { return Ok(u64::MAX) };
            let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            let ratio = ratio.ok_or(SettingsError::Form(ARGUMENT, "a number from 0 to 1"))?;
            // In millionths, so that no conversion between kinds of numbers can be off.
            let millionths = format!("{:.0}", ratio * 1e6).parse::<u128>().unwrap_or_default();
            Ok(u64::try_from(u128::from(u64::MAX) * millionths / 1_000_000).unwrap_or(u64::MAX))
        }
        Some(_) => Err(SettingsError::Form(
            "OTEL_TRACES_SAMPLER",
            "always_on, always_off or traceidratio, or one of these with parentbased_ before it",
        )),
    }
}

/// `a=b,c=d`, percent-encoded.
fn pairs(text: &str) -> Option<Attributes> {
    let mut pairs = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let name = decoded(name.trim())?;
        if name.is_empty() || pairs.len() == PAIRS_MAX {
            return None;
        }
        pairs.push((name, decoded(value.trim())?));
    }
    Some(pairs)
}

/// A plus sign stands for itself here.
fn decoded(text: &str) -> Option<Box<str>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                u8::from_str_radix(core::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().map(String::into_boxed_str)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn gather(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<Settings>, SettingsError> {
        let find =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Settings::gather(flag, find)
    }

    fn endpoint(flag: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        gather(flag, variables).unwrap().map(|settings| settings.endpoint.to_string())
    }

    #[test]
    fn where_traces_go() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces/x?y=z");
        assert_eq!(endpoint(None, &[]), None);
        assert_eq!(endpoint(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
        assert_eq!(endpoint(None, &[all]).as_deref(), Some("http://all:4318/v1/traces"));
        assert_eq!(endpoint(None, &[all, traces]).as_deref(), Some("https://traces/x?y=z"));
        assert_eq!(endpoint(Some("http://flag/v1/traces"), &[all]).as_deref(), Some("http://flag/v1/traces"));
        assert_eq!(endpoint(Some(""), &[all]), None);
        assert_eq!(endpoint(None, &[all, ("OTEL_SDK_DISABLED", "TRUE")]), None);
        assert_eq!(endpoint(None, &[all, ("OTEL_TRACES_EXPORTER", "none")]), None);
    }

    #[test]
    fn what_is_wrong_is_named_and_not_shown() {
        for url in ["ftp://x", "x", "http://", "localhost:4318", "https:///v1/traces", "http://SECRET SECRET"] {
            let error = gather(Some(url), &[]).unwrap_err();
            assert_eq!(error, SettingsError::Endpoint("--otlp-traces-endpoint"), "{url}");
        }
        let good = Some("http://x/");
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "SECRET"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%0aSECRET"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=%+1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=SECRET"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "60001"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "SECRET"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=SECRET"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ] {
            let error = gather(good, &[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name) && !error.contains("SECRET"), "{error}");
        }
    }

    #[test]
    fn headers_are_read_and_hidden() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "not=used"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=S%20E=CRET, ,Tenant = a+b"),
        ];
        let settings = gather(Some("https://x.example/TOKEN"), &variables).unwrap().unwrap();
        let headers: Vec<_> =
            settings.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(headers, [("api-key", "S E=CRET"), ("tenant", "a+b")]);
        let shown = format!("{settings:?}");
        assert_eq!(shown, "Settings { host: Some(\"x.example\"), .. }");
    }

    #[test]
    fn timeouts_below_at_and_above_the_limit() {
        for (text, milliseconds) in [("1", 1), ("59999", 59_999), ("60000", 60_000)] {
            let settings = gather(Some("http://x/"), &[("OTEL_EXPORTER_OTLP_TIMEOUT", text)]).unwrap().unwrap();
            assert_eq!(settings.timeout, Duration::from_millis(milliseconds));
        }
        assert_eq!(gather(Some("http://x/"), &[]).unwrap().unwrap().timeout, TIMEOUT);
    }

    #[test]
    fn pairs_below_at_and_above_the_limit() {
        let list = |count: usize| vec!["a=b"; count].join(",");
        assert_eq!(pairs(&list(PAIRS_MAX - 1)).unwrap().len(), PAIRS_MAX - 1);
        assert_eq!(pairs(&list(PAIRS_MAX)).unwrap().len(), PAIRS_MAX);
        assert_eq!(pairs(&list(PAIRS_MAX + 1)), None);
    }

    #[test]
    fn the_program_says_what_it_is() {
        let variables = [("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,zone=eu%2C1"), ("OTEL_SERVICE_NAME", "region-1")];
        let settings = gather(Some("http://x/"), &variables).unwrap().unwrap();
        let pairs: Vec<_> = settings.resource.iter().map(|(name, value)| (&**name, &**value)).collect();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(pairs, [("service.name", "region-1"), ("service.version", version), ("zone", "eu,1")]);
    }

    #[test]
    fn a_part_of_the_traces() {
        let of = |sampler: &str, argument: &str| {
            let variables = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
            gather(Some("http://x/"), &variables).map(|settings| settings.unwrap().threshold)
        };
        assert_eq!((of("", ""), of("always_on", ""), of("always_off", "")), (Ok(u64::MAX), Ok(u64::MAX), Ok(0)));
        for sampler in ["traceidratio", "parentbased_traceidratio"] {
            assert_eq!((of(sampler, ""), of(sampler, "1"), of(sampler, "0")), (Ok(u64::MAX), Ok(u64::MAX), Ok(0)));
            assert_eq!(of(sampler, "0.25"), Ok(u64::MAX / 4));
            assert!(of(sampler, "1.01").is_err() && of(sampler, "-0.01").is_err() && of(sampler, "x").is_err());
        }
    }
}

//! What the environment says about where to ask, under the names that the AWS SDKs have given it.

use std::path::PathBuf;

use ::http::Uri;

/// Where the metadata service is on EC2.
const METADATA_IPV4: &str = "http://169.254.169.254";
/// And over IPv6.
const METADATA_IPV6: &str = "http://[fd00:ec2::254]";

/// Where to ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The metadata service.
    pub metadata_endpoint: Uri,
    /// Whether to go on without a token where the service gives none.
    pub metadata_v1: bool,
    /// Where STS is, if not at its usual name.
    pub sts_endpoint: Option<Uri>,
    /// Where Instance Connect is, if not at its usual name.
    pub instance_connect_endpoint: Option<Uri>,
    /// Where telemetry is taken, if not at its usual name.
    pub guardduty_data_endpoint: Option<Uri>,
    /// The certificates to trust, if not the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// A variable that holds nothing usable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not a URL of the right kind.
    #[error("{variable} is not a URL like {example}: correct it or unset it")]
    Url {
        /// Which variable.
        variable: &'static str,
        /// What it could be.
        example: &'static str,
    },
    /// Neither IPv4 nor IPv6.
    #[error("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is neither IPv4 nor IPv6: correct it or unset it")]
    Mode,
    /// Switched off.
    #[error("AWS_EC2_METADATA_DISABLED is true, so the metadata service may not be asked: unset it")]
    Disabled,
}

impl Settings {
    /// Reads the variables that `variable` knows; an empty value counts as none.
    ///
    /// - `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` (`IPv4`, `IPv6`)
    /// - `AWS_EC2_METADATA_DISABLED`, `AWS_EC2_METADATA_V1_DISABLED` (`true`)
    /// - `AWS_ENDPOINT_URL_STS`, `AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT` and `AWS_ENDPOINT_URL_GUARDDUTY_DATA`, else
    ///   `AWS_ENDPOINT_URL`
    /// - `AWS_CA_BUNDLE`
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let value = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_true = |name: &str| value(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if is_true("AWS_EC2_METADATA_DISABLED") {
            return Err(SettingsError::Disabled);
        }
        let url = |name: &'static str, schemes: &[&str], example| match value(name) {
            None => Ok(None),
            Some(text) => match text.parse::<Uri>() {
                Ok(uri) if uri.host().is_some() && uri.scheme_str().is_some_and(|s| schemes.contains(&s)) => {
                    Ok(Some(uri))
                }
                _ => Err(SettingsError::Url { variable: name, example }),
            },
        };
        let default = match value("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") {
            None => METADATA_IPV4,
            Some(mode) if mode.eq_ignore_ascii_case("ipv4") => METADATA_IPV4,
            Some(mode) if mode.eq_ignore_ascii_case("ipv6") => METADATA_IPV6,
            Some(_) => return Err(SettingsError::Mode),
        };
        let metadata = url("AWS_EC2_METADATA_SERVICE_ENDPOINT", &["http"], METADATA_IPV4)?;
        let all = || url("AWS_ENDPOINT_URL", &["http", "https"], "http://127.0.0.1:4580");
        let regional = |name, example| match url(name, &["http", "https"], example)? {
            Some(endpoint) => Ok(Some(endpoint)),
            None => all(),
        };
        let sts = regional("AWS_ENDPOINT_URL_STS", "https://sts.us-east-1.amazonaws.com")?;
        let example = "https://ec2-instance-connect.us-east-1.amazonaws.com";
        let instance_connect = regional("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", example)?;
        let example = "https://guardduty-data.us-east-1.amazonaws.com";
        let guardduty_data = regional("AWS_ENDPOINT_URL_GUARDDUTY_DATA", example)?;
        Ok(Self {
            metadata_endpoint: metadata.unwrap_or_else(|| Uri::from_static(default)),
            metadata_v1: !is_true("AWS_EC2_METADATA_V1_DISABLED"),
            sts_endpoint: sts,
            instance_connect_endpoint: instance_connect,
            guardduty_data_endpoint: guardduty_data,
            ca_bundle: value("AWS_CA_BUNDLE").map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn nothing_set_means_ec2() {
        let settings = read(&[("AWS_ENDPOINT_URL", ""), ("AWS_CA_BUNDLE", "")]).unwrap();
        assert_eq!(settings.metadata_endpoint, "http://169.254.169.254");
        assert!(settings.metadata_v1 && settings.sts_endpoint.is_none() && settings.ca_bundle.is_none());
    }

    #[test]
    fn each_variable_has_its_effect() {
        let settings = read(&[
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:8080"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6"),
            ("AWS_EC2_METADATA_V1_DISABLED", "TRUE"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:4580"),
            ("AWS_CA_BUNDLE", "/ca.pem"),
        ])
        .unwrap();
        assert_eq!(settings.metadata_endpoint, "http://127.0.0.1:8080");
        assert!(!settings.metadata_v1);
        assert_eq!(settings.sts_endpoint.unwrap(), "http://127.0.0.1:4580");
        assert_eq!(settings.ca_bundle.unwrap(), PathBuf::from("/ca.pem"));
        let mode = read(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv6")]).unwrap();
        assert_eq!(mode.metadata_endpoint, "http://[fd00:ec2::254]");
        let both = read(&[("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_STS", "https://b:4543")]).unwrap();
        assert_eq!(both.sts_endpoint.unwrap(), "https://b:4543");
        assert_eq!(both.instance_connect_endpoint.unwrap(), "http://a");
        let own = [("AWS_ENDPOINT_URL", "http://a"), ("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", "https://c")];
        assert_eq!(read(&own).unwrap().instance_connect_endpoint.unwrap(), "https://c");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert_eq!(read(&[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err(), SettingsError::Disabled);
        assert_eq!(read(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "v6")]).unwrap_err(), SettingsError::Mode);
        for (variable, value) in [
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "https://169.254.169.254"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "169.254.169.254"),
            ("AWS_ENDPOINT_URL", "ftp://x"),
            ("AWS_ENDPOINT_URL_STS", "/x"),
        ] {
            let error = read(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable) && error.contains("unset it"), "{error}");
        }
    }
}

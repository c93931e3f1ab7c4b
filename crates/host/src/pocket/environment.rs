//! Which variables of the caller's environment a command in a pocket may see.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Variables that would give the command credentials, endpoints or a configuration other than the machine's own.
const DROPPED: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    // Both lead to names outside `REGION.DOMAIN`, or with a prefix that the region has no certificate for.
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "INSTANCE_ID",
];

const DROPPED_PREFIXES: &[&str] = &["AWS_ENDPOINT_URL", "AWS_CONTAINER_", "AWS_ROLE_", "AWS_EC2_METADATA_", "INBORN_"];

/// Proxies are of no use where there is no network, and where there is one they would take calls for the region to the AWS
/// of the world; programs read them in both cases.
const DROPPED_ANY_CASE: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY"];

/// Whether a variable of this name is passed on.
pub(super) fn is_kept(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let dropped = DROPPED.iter().any(|dropped| name == dropped.as_bytes())
        || DROPPED_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        || DROPPED_ANY_CASE.iter().any(|proxy| name.eq_ignore_ascii_case(proxy.as_bytes()));
    !dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_lead_elsewhere_is_dropped() {
        for name in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
            "AWS_DEFAULT_PROFILE",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_STS",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_ROLE_ARN",
            "AWS_EC2_METADATA_DISABLED",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "AWS_SHARED_CREDENTIALS_FILE",
            "AWS_CONFIG_FILE",
            "http_proxy",
            "HTTPS_PROXY",
            "No_Proxy",
            "INBORN_DATA",
            "INBORN_LOG",
        ] {
            assert!(!is_kept(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_rest_is_kept() {
        for name in
            ["PATH", "HOME", "AWS_PAGER", "AWS_MAX_ATTEMPTS", "aws_access_key_id", "MY_HTTP_PROXY", "INBORN", ""]
        {
            assert!(is_kept(OsStr::new(name)), "{name}");
        }
        assert!(is_kept(OsStr::from_bytes(b"\xff\xfe")));
    }
}

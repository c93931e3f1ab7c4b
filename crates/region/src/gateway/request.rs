//! What a request says of itself before anybody asks who sent it: target, host, form.

use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method};
use inborn_identity::Partition;
use inborn_sigv4::Header;
use inborn_wire::error::Problem;
use inborn_wire::query::Parameters;

use crate::{SERVICES, Service};

/// The request target as on the wire.
pub(super) struct Target<'a> {
    pub(super) path: &'a str,
    pub(super) query: &'a str,
}

impl<'a> Target<'a> {
    pub(super) fn of(parts: &'a Parts) -> Self {
        Self { path: parts.uri.path(), query: parts.uri.query().unwrap_or_default() }
    }
}

/// The header fields as the client sent them, names in lower case.
pub(super) fn fields(headers: &HeaderMap) -> Vec<Header<'_>> {
    headers.iter().map(|(name, value)| Header { name: name.as_str().as_bytes(), value: value.as_bytes() }).collect()
}

/// The service that `Host` names, if it is one of our names: `SERVICE.REGION.DOMAIN` or `SERVICE.DOMAIN`, in whatever
/// letters, since names are the same in all of them (RFC 4343). Also with the partitions' own domains, since forwarded
/// calls keep the name they were signed for.
pub(super) fn service_of_host<'a>(headers: &'a HeaderMap, domain: &str) -> Option<&'a str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = |suffix: &str| {
        let (front, end) = name.split_at_checked(name.len().checked_sub(suffix.len())?)?;
        front.strip_suffix('.').filter(|_| end.eq_ignore_ascii_case(suffix))
    };
    let public = Partition::ALL.into_iter().filter_map(|partition| below(partition.dns_suffix()));
    let rest = below(domain).into_iter().chain(public).min_by_key(|rest| rest.len())?;
    let service = |label| SERVICES.iter().find(|service| service.name.eq_ignore_ascii_case(label));
    rest.split('.').find_map(service).map(|service| service.name).or(rest.split('.').next())
}

/// Steps 1 to 3, and 4 as far as the query string goes: what is wrong with a query call, told from its head.
pub(super) fn check_head(service: &Service, parts: &Parts, target: &Target<'_>) -> Result<(), Problem> {
    if !target.path.starts_with('/') || leads_above_root(target.path) {
        return Err(Problem::Target);
    }
    if parts.method != Method::GET && parts.method != Method::POST {
        return Err(Problem::Method);
    }
    if target.query.is_empty() && parts.method == Method::POST {
        return Ok(());
    }
    let parameters = Parameters::parse(target.query.as_bytes(), b"").map_err(Problem::Query)?;
    // A bare visit, as by a browser.
    let is_visit = parts.method == Method::GET && parameters.action().is_none() && service.is_global;
    if is_visit { Err(Problem::Method) } else { Ok(()) }
}

/// Whether `..` takes the path above `/` on its way: the canonical form of such a path does not exist.
fn leads_above_root(path: &str) -> bool {
    let mut depth = 0_usize;
    path.split('/').any(|segment| match segment {
        "" | "." => false,
        ".." => depth.checked_sub(1).map(|up| depth = up).is_none(),
        _ => {
            depth = depth.saturating_add(1);
            false
        }
    })
}

/// The parameters of a query call, from its query string and its form.
pub(super) fn parameters(parts: &Parts, target: &Target<'_>, body: &[u8]) -> Result<Parameters, Problem> {
    let kind = header(&parts.headers, CONTENT_TYPE.as_str()).split(';').next().unwrap_or_default();
    let is_form = kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded");
    let is_form_post = is_form && parts.method == Method::POST;
    if !body.is_empty() && !is_form_post {
        return Err(Problem::ContentType);
    }
    Parameters::parse(target.query.as_bytes(), body).map_err(Problem::Query)
}

/// The operation that `X-Amz-Target` names, for the record of a call to a service that is not here.
pub(super) fn target_operation(headers: &HeaderMap) -> Option<&str> {
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    Some(cut(target.rsplit('.').next()?, 128))
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// At most `bytes_max` bytes of `text`, whole characters only.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn paths_above_the_root() {
        for (path, is_above) in [
            ("/", false),
            ("/a/..", false),
            ("/a/../b", false),
            ("/..", true),
            ("/a/../../b", true),
            ("//.././x", true),
        ] {
            assert_eq!(leads_above_root(path), is_above, "{path}");
        }
    }

    #[test]
    fn hosts_name_services() {
        let name = |host: &str| {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]);
            service_of_host(&headers, "lab.internal").map(str::to_owned)
        };
        for (host, service) in [
            ("sts.us-east-1.lab.internal", Some("sts")),
            ("sts.lab.internal:4580", Some("sts")),
            ("sts.us-east-1.amazonaws.com", Some("sts")),
            ("sts.cn-north-1.amazonaws.com.cn.", Some("sts")),
            ("ec2.us-east-1.amazonaws.com", Some("ec2")),
            ("EC2.us-east-1.AmazonAWS.com", Some("ec2")),
            ("Sts.Lab.INTERNAL:4580", Some("sts")),
            ("b.s3.us-east-1.amazonaws.com", Some("b")),
            ("127.0.0.1:4580", None),
            ("localhost", None),
            ("amazonaws.com", None),
            ("evilamazonaws.com", None),
            ("", None),
        ] {
            assert_eq!(name(host).as_deref(), service, "{host}");
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("héllo", 2), "h");
        assert_eq!(cut("héllo", 3), "hé");
        assert_eq!(cut("hé", 10), "hé");
    }
}

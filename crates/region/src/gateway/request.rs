//! What a request says of itself before anybody asks who sent it: target, host, form.

use core::sync::atomic::AtomicU64;
use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method};
use inborn_credential::{Caller, SecondSignature};
use inborn_identity::Partition;
use inborn_sigv4::Header;
use inborn_wire::error::Problem;
use inborn_wire::json::{self, Object};
use inborn_wire::query::{self, Parameters};

use crate::network::ENDPOINT_LABEL;
use crate::operation::{Input, Upload};
use crate::{NamedByPath, Protocol, Route, SERVICES, Service};

/// The header that names an operation of a JSON service.
const TARGET: &str = "x-amz-target";

/// The service that the names of Instance Connect endpoints belong to.
const ENDPOINT_SERVICE: &str = "ec2-instance-connect";

/// What stands at the end of the name of an endpoint with validated cryptography. Source: AWS PrivateLink, list of services:
/// `com.amazonaws.REGION.guardduty-data-fips`.
const FIPS: &str = "-fips";

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

/// The header fields as the client sent them, names in lower case; without the one value that no signature can cover,
/// because it was made after it.
pub(super) fn fields(headers: &HeaderMap) -> Vec<Header<'_>> {
    let mut fields = Vec::with_capacity(headers.len());
    for name in headers.keys() {
        let values = headers.get_all(name);
        let count = if name.as_str() == SecondSignature::HEADER { values.iter().count() } else { 1 };
        let values = values.iter().enumerate();
        let covered = values.filter(|(index, _)| !SecondSignature::is_uncovered(*index, count));
        fields.extend(covered.map(|(_, value)| Header { name: name.as_str().as_bytes(), value: value.as_bytes() }));
    }
    fields
}

/// What an agent signed beside the first signature.
pub(super) fn second_signature(headers: &HeaderMap) -> Option<SecondSignature> {
    let values = headers.get_all(SecondSignature::HEADER).iter().map(HeaderValue::as_bytes);
    SecondSignature::read(values, headers.get(AUTHORIZATION)?.as_bytes())
}

/// What stands before the domain in `Host`, if it is one of our names: `SERVICE.REGION.DOMAIN` or `SERVICE.DOMAIN`, in whatever
/// letters, since names are the same in all of them (RFC 4343). Also with the partitions' own domains, since forwarded
/// calls keep the name they were signed for.
pub(super) fn name_of_host<'a>(headers: &'a HeaderMap, domain: &str) -> Option<&'a str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = |suffix: &str| {
        let (front, end) = name.split_at_checked(name.len().checked_sub(suffix.len())?)?;
        front.strip_suffix('.').filter(|_| end.eq_ignore_ascii_case(suffix))
    };
    let public = Partition::ALL.into_iter().filter_map(|partition| below(partition.dns_suffix()));
    below(domain).into_iter().chain(public).min_by_key(|rest| rest.len())
}

/// The service that such a name names.
pub(super) fn service_of_name(name: &str) -> Option<&str> {
    let service = |label| SERVICES.iter().find(|service| service.name.eq_ignore_ascii_case(label));
    let endpoint = |label: &str| label.eq_ignore_ascii_case(ENDPOINT_LABEL).then_some(ENDPOINT_SERVICE);
    let fips = |label: &'_ str| {
        let (front, end) = label.split_at_checked(label.len().checked_sub(FIPS.len())?)?;
        (end.eq_ignore_ascii_case(FIPS) && front.eq_ignore_ascii_case("guardduty-data")).then_some("guardduty-data")
    };
    let named = |label| service(fips(label).unwrap_or(label)).map(|service| service.name).or_else(|| endpoint(label));
    name.split('.').find_map(named).or(name.split('.').next())
}

/// The service that is meant.
pub(super) struct Meant<'a> {
    /// If it is one of ours.
    pub(super) service: Option<&'static Service>,
    /// The name that was signed for, or that would have to be.
    pub(super) service_name: &'a str,
    /// The name that a signature has to be for: a host name of ours must agree with what was signed for, so that a signature
    /// for one service never works at another.
    pub(super) endpoint_service: &'a str,
}

impl<'a> Meant<'a> {
    /// Told by what was signed for (`by_scope`), by the name of the host, and where that is an address, by the route.
    /// `signing_name` is what the clients of a service sign for.
    pub(super) fn of(
        parts: &Parts,
        target: &Target<'_>,
        by_scope: Option<&'a str>,
        by_host: Option<&'a str>,
        signing_name: &dyn Fn(&'static Service) -> &'a str,
    ) -> Self {
        let all = || SERVICES.iter().copied();
        let at_host = by_host.and_then(|name| all().find(|service| service.name == name));
        let has_route = |service: &&'static Service| service.route(parts.method.as_str(), target.path).is_some();
        let service = match (by_scope, by_host) {
            (Some(scope), _) => {
                let is_signed = |service: &&'static Service| signing_name(service) == scope;
                let signed = || all().filter(is_signed);
                at_host.filter(is_signed).or_else(|| signed().find(has_route)).or_else(|| signed().next())
            }
            (None, Some(_)) => at_host,
            (None, None) => all().find(has_route).or_else(|| all().find(|service| service.name == "sts")),
        };
        let of_host = at_host.map(signing_name).or(by_host);
        let service_name = by_scope.or(of_host).or(service.map(signing_name)).unwrap_or("sts");
        let endpoint_service = of_host.filter(|_| service.is_some()).unwrap_or(service_name);
        Self { service, service_name, endpoint_service }
    }
}

/// What a request to a route brings, as it came.
pub(super) fn upload(route: &'static Route, parts: &Parts, target: &Target<'_>, body: Bytes) -> Result<Input, Problem> {
    let query = Parameters::parse(target.query.as_bytes(), b"").map_err(Problem::Query)?;
    if let Some((name, _)) = query.pairs().next() {
        return Err(Problem::UnknownParameter { name: cut(name, 128).to_owned() });
    }
    let header = |name| header(&parts.headers, name).to_owned();
    let (content_type, content_encoding) = (header(CONTENT_TYPE.as_str()), header(CONTENT_ENCODING.as_str()));
    Ok(Input::Upload(Upload { path: route.path, content_type, content_encoding, body, retry_after: AtomicU64::new(0) }))
}

/// Where the client finds what it asks, for WebSockets: as in `wss://ssm.us-east-1.amazonaws.com`.
pub(super) fn socket_origin(headers: &HeaderMap, is_encrypted: bool) -> String {
    format!("{}://{}", if is_encrypted { "wss" } else { "ws" }, header(headers, HOST.as_str()))
}

/// What a call names: an operation, and for query services a version of the interface.
pub(super) struct Named<'a> {
    pub(super) action: Option<&'a str>,
    pub(super) version: Option<&'a str>,
}

impl<'a> Named<'a> {
    pub(super) fn of(parameters: &'a Parameters) -> Self {
        Self { action: parameters.action(), version: parameters.version() }
    }
}

/// Steps 1 to 3, and 4 as far as the query string of a query call goes: what is wrong, told from the head.
pub(super) fn check_head(service: &Service, parts: &Parts, target: &Target<'_>) -> Result<(), Problem> {
    if !target.path.starts_with('/') || leads_above_root(target.path) {
        return Err(Problem::Target);
    }
    if service.socket(target.path).is_some() {
        let is_visit = parts.method == Method::GET;
        let parameters = Parameters::parse(target.query.as_bytes(), b"");
        return if is_visit { parameters.map(drop).map_err(Problem::Query) } else { Err(Problem::Method) };
    }
    if let Protocol::Rest { .. } = service.protocol {
        let route = service.route(parts.method.as_str(), target.path);
        return if route.is_some() { Ok(()) } else { Err(Problem::Method) };
    }
    if let Protocol::Json { named_by_path, .. } = service.protocol {
        let is_path = target.path == "/" || named_by_path.iter().any(|named| named.path == target.path);
        return if parts.method == Method::POST && is_path { Ok(()) } else { Err(Problem::Method) };
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

/// The operation that a JSON call names, by what its signature covers: a path that stands for one, or else the target.
/// Whoever names none that way has named none at all.
pub(super) fn json_operation<'a>(
    parts: &'a Parts,
    target: &Target<'_>,
    target_prefix: &str,
    named_by_path: &'static [NamedByPath],
    caller: &Caller,
) -> Option<&'a str> {
    let mut values = parts.headers.get_all(TARGET).iter();
    let (named, others) = (values.next(), values.next());
    if let Some(by_path) = named_by_path.iter().find(|by_path| by_path.path == target.path) {
        let agrees = named.is_none_or(|value| value == by_path.target) && others.is_none();
        return agrees.then_some(by_path.operation);
    }
    let text = named.filter(|_| others.is_none() && caller.signed.covers(TARGET.as_bytes()))?.to_str().ok()?;
    match text.strip_prefix(target_prefix).and_then(|rest| rest.strip_prefix('.')) {
        Some(operation) => Some(operation),
        // Another prefix makes it the name of an operation that is not here: none has a dot.
        None => text.contains('.').then_some(text),
    }
}

/// What a request to a route says: in its body, its path and its query string.
pub(super) fn members(route: &Route, target: &Target<'_>, body: &[u8]) -> Result<Object, Problem> {
    let query = query::pairs(target.query.as_bytes()).map_err(Problem::Query)?;
    let mut object = json::decode(body)?;
    for (name, value) in route.members(target.path).unwrap_or_default() {
        object = object.with(name, &query::path_segment(value).map_err(Problem::Query)?)?;
    }
    let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (index, (name, value)) in query.iter().enumerate() {
        let list = route.query.iter().filter_map(|known| known.strip_suffix("[]")).find(|known| known == name);
        if let Some(list) = list {
            lists.entry(list).or_default().push(value.clone());
        } else if !route.query.contains(&name.as_str()) {
            return Err(Problem::UnknownParameter { name: cut(name, 128).to_owned() });
        } else if !query.iter().take(index).any(|(earlier, same)| earlier == name && same == value) {
            object = object.with(name, value)?;
        }
    }
    for (name, values) in lists {
        object = object.with_list(name, values)?;
    }
    Ok(object)
}

/// The operation that `X-Amz-Target` names, for the record of a call to a service that is not here.
pub(super) fn target_operation(headers: &HeaderMap) -> Option<&str> {
    let target = headers.get(TARGET)?.to_str().ok()?;
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
            name_of_host(&headers, "lab.internal").and_then(service_of_name).map(str::to_owned)
        };
        for (host, service) in [
            ("sts.us-east-1.lab.internal", Some("sts")),
            ("sts.lab.internal:4580", Some("sts")),
            ("sts.us-east-1.amazonaws.com", Some("sts")),
            ("sts.cn-north-1.amazonaws.com.cn.", Some("sts")),
            ("ec2.us-east-1.amazonaws.com", Some("ec2")),
            ("EC2.us-east-1.AmazonAWS.com", Some("ec2")),
            ("Sts.Lab.INTERNAL:4580", Some("sts")),
            ("guardduty-data.us-east-1.lab.internal", Some("guardduty-data")),
            ("GuardDuty-Data-FIPS.us-east-1.amazonaws.com", Some("guardduty-data")),
            ("sts-fips.us-east-1.amazonaws.com", Some("sts-fips")),
            ("b.s3.us-east-1.amazonaws.com", Some("b")),
            ("eice-1.0a1b.ec2-instance-connect-endpoint.us-east-1.amazonaws.com", Some("ec2-instance-connect")),
            ("eice-1.0a1b.fips.EC2-Instance-Connect-Endpoint.us-east-1.lab.internal", Some("ec2-instance-connect")),
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

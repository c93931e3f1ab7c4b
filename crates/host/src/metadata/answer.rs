//! The metadata service of one machine: from an HTTP request to the pure service and back.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use inborn_identity::UnixTime;
use inborn_imds::{Headers, TOKEN_HEADER, TokenKey, respond};

use crate::attachment::Attached;

/// The header fields of a request, for the pure service.
struct Fields<'a>(&'a HeaderMap);

impl Headers for Fields<'_> {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|value| value.as_bytes().trim_ascii())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Whether `Host` is a name that is not this computer's. A page in a browser can have its own name resolve to 127.0.0.1
/// and then read what answers there, but cannot hide that name.
fn names_another(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return false };
    let is_own = |host: &str| {
        let name = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or(host, |(name, _port)| name);
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
    };
    !host.to_str().is_ok_and(is_own)
}

/// Answers a request that came over the attachment of a machine. The body of a request is never read.
pub(crate) fn answer<B>(
    request: &Request<B>,
    attached: &Attached,
    key: &TokenKey,
    now: UnixTime,
) -> Response<Full<Bytes>> {
    let machine = attached.machine();
    let wallet = attached.wallet();
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let asked = inborn_imds::Request {
        method: request.method().as_str(),
        path: target.as_bytes(),
        headers: &Fields(request.headers()),
    };
    // Between a start of the machine and the refill of its wallet there is nothing to hand out: what is in there belongs
    // to an earlier boot.
    let credentials = wallet.at(now).filter(|_| wallet.boot_generation() == machine.boot_generation());
    let view = machine.view(credentials);
    let answer = if machine.is_running() && !(attached.is_open_to_browsers() && names_another(request.headers())) {
        respond(&asked, &view, key, now)
    } else {
        // A machine that does not run asks nothing, and one that means somebody else does not mean us: whoever this is,
        // there is nothing here.
        inborn_imds::Response { close: true, ..inborn_imds::Response::not_found() }
    };
    let version = if request.headers().contains_key(TOKEN_HEADER) { "2" } else { "1" };
    attached.metrics().count(answer.class.as_str(), version, answer.status);
    tracing::debug!(instance = %machine.id(), method = asked.method, status = answer.status, "metadata");
    let mut response = Response::new(Full::new(answer.body.clone()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    answer.for_each_header(|name, value| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    });
    if let Ok(date) = HeaderValue::from_str(&now.http_date()) {
        headers.insert(DATE, date);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.content_length));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_this_computers() {
        let names = |host: &str| names_another(&HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]));
        for own in ["127.0.0.1", "127.0.0.1:40123", "localhost", "LOCALHOST:1", "[::1]", "[::1]:80", "169.254.169.254"]
        {
            assert!(!names(own), "{own}");
        }
        for other in ["evil.example", "evil.example:40123", "127.0.0.1.evil.example", "localhost.evil.example:1", ""] {
            assert!(names(other), "{other}");
        }
        assert!(!names_another(&HeaderMap::new()), "a client that says nothing is no browser");
    }
}

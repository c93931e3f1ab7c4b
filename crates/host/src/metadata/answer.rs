//! From an HTTP request to the pure service and back.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use inborn_identity::UnixTime;
use inborn_imds::{FieldValue, Headers, Response as Answer, TOKEN_HEADER, respond};

use super::{Conversation, Service};

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

/// Why a request gets no answer: the connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// A guest asked by IPv6, and its machine does not answer there: to the guest, nothing listens.
    #[error("the machine's metadata is not served over IPv6")]
    NotOverIpv6,
    /// It would not get where it was asked for.
    #[error("whoever asks for a token is further away than its hop limit")]
    BeyondHopLimit,
}

impl Conversation {
    /// Answers a request. Its body is never read.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Result<Response<Full<Bytes>>, NoAnswer> {
        let Self { socket, attached, service } = self;
        let now = service.clock.now();
        let machine = attached.machine();
        if socket.is_ipv6() && !machine.answers_over_ipv6() {
            return Err(NoAnswer::NotOverIpv6);
        }
        let wallet = attached.wallet();
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let asked = inborn_imds::Request {
            method: request.method().as_str(),
            path: target.as_bytes(),
            headers: &Fields(request.headers()),
        };
        // Between a start of the machine and the refill of its wallet there is nothing to hand out: what is in there
        // belongs to an earlier boot.
        let credentials = wallet.at(now).filter(|_| wallet.boot_generation() == machine.boot_generation());
        let sent = attached.sent_keys();
        let is_of_this_boot = sent.boot_generation == machine.boot_generation();
        let managed_keys = if is_of_this_boot { sent.keys.at(now) } else { None };
        let view = machine.view(credentials, wallet.is_withheld(), managed_keys);
        let mut answer =
            if machine.is_running() && !(attached.is_open_to_browsers() && names_another(request.headers())) {
                respond(&asked, &view, &service.token_key, now)
            } else {
                // A machine that does not run asks nothing, and one that means somebody else does not mean us: whoever this
                // is, there is nothing here.
                Answer { close: true, ..Answer::not_found() }
            };
        if answer.hop_limit.is_some_and(|hops| hops <= socket.hops_so_far()) {
            return Err(NoAnswer::BeyondHopLimit);
        }
        if let Some(hops) = answer.hop_limit
            && let Err(error) = socket.set_hop_limit(hops)
        {
            // Without its limit a token could get to where it must not be.
            tracing::error!(instance = %machine.id(), hops, %error, "no token: the hop limit cannot be set");
            answer = Answer { close: true, ..Answer::unavailable() };
        }
        let version = if request.headers().contains_key(TOKEN_HEADER) { "2" } else { "1" };
        attached.metrics().count(answer.class.as_str(), version, answer.status);
        tracing::debug!(instance = %machine.id(), method = asked.method, status = answer.status, "metadata");
        Ok(service.write(answer, now))
    }

    /// 503, to a request whose turn would come too late.
    pub(super) fn too_many(&self) -> Response<Full<Bytes>> {
        let answer = Answer { close: true, ..Answer::unavailable() };
        self.service.write(answer, self.service.clock.now())
    }
}

impl Service {
    fn write(&self, answer: Answer, now: UnixTime) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        answer.for_each_header(|name, value| {
            let value = match value {
                FieldValue::Text(text) => HeaderValue::from_static(text),
                FieldValue::Number(number) => number.into(),
                FieldValue::Time(at) => date(at),
            };
            headers.insert(HeaderName::from_static(name), value);
        });
        headers.insert(DATE, self.dates.at(now));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.content_length));
        *response.body_mut() = Full::new(answer.body);
        response
    }
}

fn date(at: UnixTime) -> HeaderValue {
    // A date has no character that a header may not have.
    HeaderValue::try_from(at.http_date()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The value of `Date`, written once a second.
#[derive(Debug, Default)]
pub(super) struct Dates(ArcSwapOption<(UnixTime, HeaderValue)>);

impl Dates {
    fn at(&self, now: UnixTime) -> HeaderValue {
        if let Some(known) = &*self.0.load()
            && known.0 == now
        {
            return known.1.clone();
        }
        let value = date(now);
        self.0.store(Some(Arc::new((now, value.clone()))));
        value
    }
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

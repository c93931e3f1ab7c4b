//! The service: one request in, one answer out.

use bytes::Bytes;
use inborn_credential::Delivery;
use inborn_identity::{HttpEndpoint, HttpTokens, UnixTime};

use crate::path;
use crate::tree::{self, Found};
use crate::{Class, Request, Response, TokenKey, TokenTtl, View};

/// The one path that gives tokens. A dated version, or a slash at the end, does not.
pub const TOKEN_PATH: &str = "/latest/api/token";
/// The header that carries a token.
pub const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
/// The header that asks for the life of a new token, and in answers tells the life that a token has left.
pub const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// The header that open proxies add, and that a token must not travel with.
pub const FORWARDED_HEADER: &str = "x-forwarded-for";

const TOKEN_METHODS: &str = "OPTIONS, PUT";
/// Inferred: what EC2 allows is known, but no capture shows this header there.
const TREE_METHODS: &str = "GET, HEAD";

enum Method {
    Get,
    Head,
    Put,
    Options,
}

/// Answers `request` for the instance of `view`.
///
/// The order of the checks is part of the contract: a switched-off service says nothing, a wrong method is told before
/// a token is looked at, and a token is looked at before the path, so that a 404 tells one without a token nothing.
/// Throttling, which comes after the first check, is the listener's: see [`Response::unavailable`].
#[must_use]
pub fn respond(request: &Request<'_>, view: &View<'_>, key: &TokenKey, now: UnixTime) -> Response {
    if view.options.http_endpoint == HttpEndpoint::Disabled {
        return Response::forbidden();
    }
    let target = path::without_query(request.path);
    let method = match method(request.method, target == TOKEN_PATH.as_bytes()) {
        Ok(method) => method,
        Err(refusal) => return refusal,
    };
    let presented = request.headers.get(TOKEN_HEADER);
    let must_not_be_forwarded = matches!(method, Method::Put) || presented.is_some();
    if must_not_be_forwarded && request.headers.contains(FORWARDED_HEADER) {
        return Response::forbidden();
    }
    match method {
        Method::Put => mint(request, view, key, now),
        Method::Options => {
            let empty = Response::plain(200, Class::Token, Bytes::new());
            Response { allow: Some(TOKEN_METHODS), ..empty }
        }
        Method::Get => read(target, presented, view, key, now),
        Method::Head => read(target, presented, view, key, now).without_body(),
    }
}

fn method(name: &str, at_token_path: bool) -> Result<Method, Response> {
    match (name, at_token_path) {
        ("GET", false) => Ok(Method::Get),
        ("HEAD", false) => Ok(Method::Head),
        ("PUT", true) => Ok(Method::Put),
        ("OPTIONS", true) => Ok(Method::Options),
        ("PUT", false) => Err(Response::forbidden()),
        (_, true) => Err(Response { class: Class::Token, ..Response::method_not_allowed(TOKEN_METHODS) }),
        (_, false) => Err(Response::method_not_allowed(TREE_METHODS)),
    }
}

fn mint(request: &Request<'_>, view: &View<'_>, key: &TokenKey, now: UnixTime) -> Response {
    let Some(ttl) = request.headers.get(TTL_HEADER).and_then(TokenTtl::parse) else {
        return Response { class: Class::Token, ..Response::bad_request() };
    };
    let Ok(token) = key.mint(view.instance, ttl, now) else {
        return Response::unavailable();
    };
    Response {
        token_ttl: Some(ttl.as_secs()),
        close: true,
        hop_limit: Some(view.options.hop_limit),
        ..Response::plain(200, Class::Token, Bytes::copy_from_slice(token.as_bytes()))
    }
}

fn read(target: &[u8], presented: Option<&[u8]>, view: &View<'_>, key: &TokenKey, now: UnixTime) -> Response {
    // A bad token never falls back to version 1: the client meant version 2, and learns that it must fetch a new one.
    let (delivery, token_ttl) = match presented {
        None if view.options.http_tokens == HttpTokens::Required => return Response::unauthorized(),
        None => (Delivery::V1, None),
        Some(token) => match key.remaining(token, view.instance, now) {
            Ok(remaining) => (Delivery::V2, Some(remaining)),
            Err(_) => return Response::unauthorized(),
        },
    };
    let found = path::folded(target).map_or(Found::Absent, |path| tree::find(&path, view, delivery));
    let answer = match found {
        Found::Leaf(leaf) => Response {
            content_type: leaf.content_type,
            last_modified: Some(leaf.modified),
            accept_ranges: Some(leaf.accept_ranges),
            delivery: (leaf.class == Class::Credentials).then_some(delivery),
            ..Response::plain(200, leaf.class, leaf.body)
        },
        Found::NotYet => Response::unavailable(),
        Found::Absent => Response::not_found(),
    };
    Response { token_ttl, ..answer }
}

//! An answer as the listener sends it.

use core::fmt;

use bytes::Bytes;
use inborn_credential::Delivery;
use inborn_identity::UnixTime;

use crate::page;

/// What kind of thing was asked for: for counters and logs, which must not have a label per path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// A new session token, or another method at its path.
    Token,
    /// A list of names.
    Listing,
    /// A value.
    Leaf,
    /// Something below `dynamic/`.
    Dynamic,
    /// The credentials document.
    Credentials,
    /// User data.
    UserData,
    /// Nothing: the request was refused, or there is no such path.
    Refused,
}

impl Class {
    /// A word for labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Listing => "listing",
            Self::Leaf => "leaf",
            Self::Dynamic => "dynamic",
            Self::Credentials => "credentials",
            Self::UserData => "user-data",
            Self::Refused => "refused",
        }
    }
}

/// One answer.
///
/// The body may hold a session token or credentials: it is not in `Debug`, and must not be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The bytes to send. Empty in an answer to `HEAD`. What was prepared ahead is shared, not copied.
    pub body: Bytes,
    /// `Content-Length`: bytes in the body, or in the body that `GET` would have had.
    pub content_length: usize,
    /// `X-Aws-Ec2-Metadata-Token-Ttl-Seconds`: the seconds that the token is good for, new or presented.
    pub token_ttl: Option<u32>,
    /// `Last-Modified`.
    pub last_modified: Option<UnixTime>,
    /// `Accept-Ranges`.
    pub accept_ranges: Option<&'static str>,
    /// `Allow`.
    pub allow: Option<&'static str>,
    /// Whether to close the connection after this answer.
    pub close: bool,
    /// The IP TTL (IPv6: unicast hops) to set on the accepted socket just before this answer is written. Only answers that
    /// carry a token have one, and they all close: what is set stays set for whatever follows on that socket.
    pub hop_limit: Option<u8>,
    /// What was asked for.
    pub class: Class,
    /// The credentials that left with this answer, if any did.
    pub delivery: Option<Delivery>,
}

const PLAIN: &str = "text/plain";
const HTML: &str = "text/html";

impl Response {
    pub(crate) fn plain(status: u16, class: Class, body: Bytes) -> Self {
        Self {
            status,
            content_type: PLAIN,
            content_length: body.len(),
            body,
            token_ttl: None,
            last_modified: None,
            accept_ranges: None,
            allow: None,
            close: false,
            hop_limit: None,
            class,
            delivery: None,
        }
    }

    fn page(status: u16, text: &'static str) -> Self {
        let plain = Self::plain(status, Class::Refused, Bytes::from_static(text.as_bytes()));
        Self { content_type: HTML, ..plain }
    }

    fn empty(status: u16) -> Self {
        Self::plain(status, Class::Refused, Bytes::new())
    }

    pub(crate) fn bad_request() -> Self {
        Self::page(400, page::BAD_REQUEST)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::page(401, page::UNAUTHORIZED)
    }

    pub(crate) fn forbidden() -> Self {
        Self::empty(403)
    }

    /// 404, also for a connection that belongs to no instance.
    #[must_use]
    pub fn not_found() -> Self {
        Self::page(404, page::NOT_FOUND)
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::empty(405) }
    }

    /// 503, for what is not there yet and for an instance that asks too often. SDKs try again after 5xx; only some do
    /// after 429.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::empty(503)
    }

    /// The same answer without its body, which is what `HEAD` gets.
    pub(crate) fn without_body(self) -> Self {
        Self { body: Bytes::new(), delivery: None, ..self }
    }

    /// Gives each header but `Date` and `Content-Length` to `put`, names in lower case. EC2 writes them in title case.
    pub fn for_each_header(&self, mut put: impl FnMut(&'static str, FieldValue)) {
        put("server", FieldValue::Text("EC2ws"));
        put("content-type", FieldValue::Text(self.content_type));
        if let Some(at) = self.last_modified {
            put("last-modified", FieldValue::Time(at));
        }
        if let Some(unit) = self.accept_ranges {
            put("accept-ranges", FieldValue::Text(unit));
        }
        if let Some(seconds) = self.token_ttl {
            put(crate::TTL_HEADER, FieldValue::Number(seconds));
        }
        if let Some(methods) = self.allow {
            put("allow", FieldValue::Text(methods));
        }
        if self.close {
            put("connection", FieldValue::Text("close"));
        }
    }
}

/// The value of a header, not yet written: a listener has its own ways to write one without copying it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldValue {
    /// As it is.
    Text(&'static str),
    /// In decimal.
    Number(u32),
    /// As an HTTP date.
    Time(UnixTime),
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Time(at) => f.write_str(&at.http_date()),
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("class", &self.class)
            .field("content_length", &self.content_length)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

//! What a request claims about itself, and whether that holds.

use core::fmt;
use std::borrow::Cow;

use aws_lc_rs::constant_time;
use inborn_identity::UnixTime;

use crate::authorization::{Authorization, Credential};
use crate::bytes::are_same;
use crate::canonical::Frame;
use crate::fields::{self, Fields};
use crate::presigned::Presigned;
use crate::signed::Signed;
use crate::{
    DateMismatch, EXPIRES_MAX, Endpoint, Expires, Fault, Limit, PathMode, Request, Scope, ScopeFault, Scratch,
    SigningKey, TERMINATOR, TOKEN_MAX, hex, path, query,
};

/// Where a request carries its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// In the header field `Authorization`.
    Header,
    /// In parameters of the query: presigned.
    Query,
}

/// A signed request's claims: read, their form checked, nothing verified.
///
/// Whoever acts on more than the signature covers acts on what anybody could have written: ask
/// [`covers`](Self::covers) before a header is used.
///
/// `Debug` shows neither token nor signature.
#[derive(Clone)]
pub struct Presented<'a> {
    request: Request<'a>,
    form: Form,
    credential: Credential<'a>,
    signed: Signed<'a>,
    signature: Cow<'a, str>,
    token: Option<Cow<'a, [u8]>>,
    content_sha256: Option<&'a [u8]>,
    moment: Moment,
}

/// When a request says it was signed.
#[derive(Clone, Copy)]
struct Moment {
    time: UnixTime,
    /// The same in the form of the string to sign.
    text: [u8; 16],
    /// `X-Amz-Expires`, if the request is signed in its query.
    expires: Option<u64>,
}

impl<'a> Presented<'a> {
    /// Reads the claims of a request, signed in its header or in its query: steps 1, 4 to 9 and 12, and the form of
    /// everything that verification needs. No clock and no key is asked.
    ///
    /// # Errors
    /// The first of these checks that fails.
    pub fn read(request: &Request<'a>) -> Result<Self, Fault> {
        let read = Self::new(request, true, |_| Ok(()));
        if let Ok(presented) = &read {
            presented.check_form()?;
        }
        read
    }

    /// [`read`](Self::read) and [`check`](Self::check) in one, in exactly AWS's order: a request that is too old *and*
    /// has a malformed credential is too old.
    ///
    /// # Errors
    /// The first check of steps 1 to 13 that fails.
    pub fn accept(request: &Request<'a>, endpoint: &Endpoint<'_>, now: UnixTime) -> Result<Self, Fault> {
        let read = Self::new(request, endpoint.query_auth, |moment| moment.check(endpoint, now));
        // Looked at where it is: hundreds of bytes, taken out of the result and put back, cost more than the checks.
        if let Ok(presented) = &read {
            presented.check_scope(endpoint)?;
            presented.check_form()?;
            presented.check_payload()?;
        }
        read
    }

    /// Where the signature is.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// Whose key it says signed.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        self.credential.access_key_id()
    }

    /// The session token: of a header without the white space around it, of a query decoded. The signature covers it.
    #[must_use]
    pub fn token(&self) -> Option<&[u8]> {
        self.token.as_deref()
    }

    /// What it says it was signed for.
    #[must_use]
    pub fn scope(&self) -> Scope<'_> {
        self.credential.scope()
    }

    /// When it says it was signed.
    #[must_use]
    pub fn signed_at(&self) -> UnixTime {
        self.moment.time
    }

    /// The names of the signed headers: lower case, sorted, each once, with semicolons between them.
    #[must_use]
    pub fn signed_headers(&self) -> &[u8] {
        self.signed.list.as_bytes()
    }

    /// Whether the signature covers the header of this name, in lower case.
    #[must_use]
    pub fn covers(&self, header: &[u8]) -> bool {
        self.signed.covers(header)
    }

    /// Steps 10, 11 and 13: whether the request is of now and for here, and of a form that is taken here. Both ends of the
    /// window are inside it.
    ///
    /// # Errors
    /// [`Fault::MissingAuthentication`] for the form, [`Fault::ExpiresForm`], [`Fault::Expired`],
    /// [`Fault::NotYetCurrent`], [`Fault::Scope`], [`Fault::PayloadNotSigned`].
    pub fn check(&self, endpoint: &Endpoint<'_>, now: UnixTime) -> Result<(), Fault> {
        if self.form == Form::Query && !endpoint.query_auth {
            return Err(Fault::MissingAuthentication);
        }
        self.moment.check(endpoint, now)?;
        self.check_scope(endpoint)?;
        self.check_payload()
    }

    /// Step 16: whether `key` made the signature of this request with a body of this hash.
    ///
    /// `request` must be the one that was read; another one is a mismatch. The hash is that of the body as it arrived,
    /// before anything was decompressed; if the request has an `x-amz-content-sha256` header, signed or not, it must say
    /// the same. That holds for a request signed in its query as well: nearly all of them are signed without a body, and
    /// then none may come along.
    ///
    /// # Errors
    /// [`Fault::PayloadMismatch`], [`Fault::SignedHeaderAbsent`], [`Fault::Path`] for a path that leads above the root
    /// where paths are normalised, [`Fault::SignatureMismatch`].
    pub fn verify(
        &self,
        request: &Request<'_>,
        body_sha256: &[u8; 32],
        path_mode: PathMode,
        key: &SigningKey,
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        if !self.is_of(request) {
            return Err(Fault::SignatureMismatch);
        }
        let payload = hex::lower(body_sha256);
        if self.content_sha256.is_some_and(|claimed| claimed != payload) {
            return Err(Fault::PayloadMismatch);
        }
        let frame = Frame {
            signed: &self.signed,
            timestamp: &self.moment.text,
            scope: self.credential.scope_text(),
            payload: &payload,
        };
        let signature = frame.signature(request, path_mode, key, scratch)?;
        constant_time::verify_slices_are_equal(&signature, self.signature.as_bytes())
            .map_err(|_| Fault::SignatureMismatch)
    }

    /// Whether this was read from `request`, or from an equal one.
    fn is_of(&self, request: &Request<'_>) -> bool {
        let own = &self.request;
        are_same(own.headers, request.headers)
            && are_same(own.method.as_bytes(), request.method.as_bytes())
            && are_same(own.path, request.path)
            && are_same(own.query, request.query)
    }

    /// Step 13. Everything that is wrong is named at once.
    fn check_scope(&self, endpoint: &Endpoint<'_>) -> Result<(), Fault> {
        let scope = self.credential.scope();
        let day = self.moment.text.get(..8).unwrap_or_default();
        let is_here = endpoint.regions.contains(&scope.region) && endpoint.service == scope.service;
        if is_here && scope.terminator == TERMINATOR && scope.date.as_bytes() == day {
            return Ok(());
        }
        let fault = ScopeFault {
            region: (!endpoint.regions.contains(&scope.region)).then(|| scope.region.into()),
            service: (endpoint.service != scope.service).then(|| endpoint.service.into()),
            terminator: (scope.terminator != TERMINATOR).then(|| scope.terminator.into()),
            date: (scope.date.as_bytes() != day)
                .then(|| DateMismatch { scope: scope.date.into(), signed_at: self.moment.time }),
        };
        Err(Fault::Scope(fault))
    }

    /// Only S3 takes bodies that are not signed. Not a matter of form: what such a request claims can be read all the same.
    fn check_payload(&self) -> Result<(), Fault> {
        match self.content_sha256 {
            Some(claimed) if claimed == b"UNSIGNED-PAYLOAD" || claimed.starts_with(b"STREAMING-") => {
                Err(Fault::PayloadNotSigned)
            }
            _ => Ok(()),
        }
    }

    /// What AWS has no step for, because it would come out as a mismatch: better refused before a key is looked up.
    fn check_form(&self) -> Result<(), Fault> {
        if let Some(token) = &self.token {
            if token.len() > TOKEN_MAX {
                return Err(Fault::TooLarge(Limit::Token));
            }
            // The whole query is signed.
            if self.form == Form::Header && !self.signed.has_token {
                return Err(Fault::TokenNotSigned);
            }
        }
        if hex::is_lower_64(self.signature.as_bytes()) { Ok(()) } else { Err(Fault::SignatureForm) }
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("form", &self.form)
            .field("access_key_id", &self.access_key_id())
            .field("scope", &self.scope())
            .field("signed_at", &self.signed_at())
            .field("signed_headers", &self.signed.list)
            .field("has_token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

impl<'a> Presented<'a> {
    /// Steps 1, 4 and 5, then those of the form. `check` is asked about the moment before the credential is looked at.
    #[inline]
    fn new(
        request: &Request<'a>,
        query_auth: bool,
        check: impl FnOnce(&Moment) -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        // A line feed in the method would be taken for the end of the line in the canonical request.
        if !request.method.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Fault::Path);
        }
        path::check(request.path)?;
        let is_query_signed = query::check(request.query)?;
        fields::check(request.headers)?;
        let fields = Fields::new(request.headers);
        match fields.deciding.authorization.once("authorization")? {
            Some(_) if is_query_signed => Err(Fault::BothForms),
            Some(field) => Self::of_header(request, field, &fields, check),
            None if is_query_signed && query_auth => Self::of_query(request, &fields, check),
            None => Err(Fault::MissingAuthentication),
        }
    }

    /// Steps 6 to 12.
    #[inline]
    fn of_header(
        request: &Request<'a>,
        field: &'a [u8],
        fields: &Fields<'a>,
        check: impl FnOnce(&Moment) -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        let deciding = &fields.deciding;
        let content_sha256 = deciding.shared()?;
        let token = deciding.token.once("x-amz-security-token")?.map(Cow::Borrowed);
        let amz_date = deciding.amz_date.once("x-amz-date")?;
        let date = if amz_date.is_some() { None } else { deciding.date.once("date")? };

        let authorization = Authorization::parse(field, amz_date.is_some() || date.is_some())?;
        let Authorization { credential, signed_headers, signature } = authorization;
        let signed = Signed::read(signed_headers, fields)?;
        if !signed.has_host {
            return Err(Fault::HostNotSigned);
        }
        let moment = match amz_date {
            Some(text) => Moment::basic(text),
            None => Moment::any(date.unwrap_or_default()),
        }?;
        check(&moment)?;
        let (request, form, credential) = (*request, Form::Header, Credential::parse(credential)?);
        Ok(Self { request, form, credential, signed, signature, token, content_sha256, moment })
    }

    /// Steps 7 to 12. A date in a header is no business of this form.
    fn of_query(
        request: &Request<'a>,
        fields: &Fields<'a>,
        check: impl FnOnce(&Moment) -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        let deciding = &fields.deciding;
        let Presigned { authorization, date, expires, token } = Presigned::parse(request.query)?;
        let Authorization { credential, signed_headers, signature } = authorization;
        let content_sha256 = deciding.shared()?;
        if deciding.token.once("x-amz-security-token")?.is_some() {
            return Err(Fault::TokenInHeader);
        }
        let signed = Signed::read(signed_headers, fields)?;
        if !signed.has_host {
            return Err(Fault::HostNotSigned);
        }
        let moment = Moment { expires, ..Moment::basic(&date)? };
        check(&moment)?;
        let (request, form, credential) = (*request, Form::Query, Credential::parse(credential)?);
        Ok(Self { request, form, credential, signed, signature, token, content_sha256, moment })
    }
}

impl Moment {
    /// Step 9 for `X-Amz-Date`, which has one form.
    fn basic(text: &[u8]) -> Result<Self, Fault> {
        let fault = || Fault::DateForm { got: Fault::quote(text) };
        let time = UnixTime::parse_basic(text).map_err(|_| fault())?;
        Ok(Self { time, text: text.try_into().map_err(|_| fault())?, expires: None })
    }

    /// Step 9 for `Date`, which may also have the form of HTTP, or that of mail, which botocore sends: `-0000` for
    /// `GMT`. The string to sign has the basic form all the same, so the moment is signed even where the header is not.
    fn any(text: &[u8]) -> Result<Self, Fault> {
        let from_mail = text.strip_suffix(b"-0000").or_else(|| text.strip_suffix(b"+0000"));
        let from_mail = from_mail.map(|front| [front, b"GMT"].concat());
        match UnixTime::parse_http_date(from_mail.as_deref().unwrap_or(text)) {
            Ok(time) => Self::basic(time.basic().as_bytes()),
            Err(_) => Self::basic(text),
        }
    }

    /// Steps 10 and 11.
    fn check(&self, endpoint: &Endpoint<'_>, now: UnixTime) -> Result<(), Fault> {
        let (signed_at, skew_seconds) = (self.time, endpoint.skew_seconds);
        let good_for = match (endpoint.expires, self.expires) {
            (Expires::Ignored, _) | (Expires::Honoured, None) => skew_seconds,
            (Expires::Honoured, Some(seconds @ 1..=EXPIRES_MAX)) => seconds,
            (Expires::Honoured, Some(seconds)) => {
                return Err(Fault::ExpiresForm { got: seconds.to_string().into() });
            }
        };
        if now.since(signed_at) > good_for {
            return Err(Fault::Expired { signed_at, now, skew_seconds: good_for });
        }
        if signed_at.since(now) > skew_seconds {
            return Err(Fault::NotYetCurrent { signed_at, now, skew_seconds });
        }
        Ok(())
    }
}

//! What a person is told when the store refuses or is away.
//!
//! Answers of S3 are not repeated as they are: the one to a signature that does not match quotes the request, and with it the
//! session token. Only the code and the message are.

use std::io;

use object_store::Error;

/// The longest text of somebody else's that is repeated.
const TEXT_BYTES_MAX: usize = 300;

/// As an error of a file: what is missing, what of it is forbidden, and everything else, by which the store is as good as away.
pub(crate) fn of(error: &Error) -> io::Error {
    let kind = match error {
        Error::NotFound { .. } if !is_bucket_missing(error) => io::ErrorKind::NotFound,
        // Who may not list is told that of an object that is not there, too. Every other refusal is of all that is asked: of these
        // credentials, this clock, this bucket.
        Error::PermissionDenied { .. } if element(&error.to_string(), "Code") == Some("AccessDenied") => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, describe(error))
}

/// That is no answer about one object.
fn is_bucket_missing(error: &Error) -> bool {
    element(&error.to_string(), "Code") == Some("NoSuchBucket")
}

/// In one line, without secrets.
pub(crate) fn describe(error: &Error) -> String {
    let text = error.to_string();
    if let Some(code) = element(&text, "Code") {
        let message = element(&text, "Message").unwrap_or_default();
        let advice = match code {
            "NoSuchBucket" => "; make it, or mend its name",
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" => {
                "; look at the credentials and the region"
            }
            "RequestTimeTooSkewed" => "; set this computer's clock right",
            "AccessDenied" => "; let these credentials put, get and delete objects there",
            _ => "",
        };
        return format!("the store says {}: {}{advice}", cut(code), cut(message));
    }
    let mut last: &dyn core::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let last = last.to_string();
    match error {
        Error::NotFound { .. } => "there is no such object".to_owned(),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            "the store refuses these credentials".to_owned()
        }
        // What has angle brackets is somebody's page.
        _ => cut(last.split('<').next().unwrap_or_default().trim_end_matches([' ', ':'])),
    }
}

/// What stands in the first element of a name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(content, _)| content)
}

fn cut(text: &str) -> String {
    let line: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    let mut end = line.len().min(TEXT_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(body: &str) -> Error {
        Error::PermissionDenied { path: "k".into(), source: body.into() }
    }

    #[test]
    fn an_answer_that_quotes_the_request_is_not_repeated() {
        let error = denied(
            "403: <Error><Code>SignatureDoesNotMatch</Code><Message>Not\nthis</Message><CanonicalRequest>PUT\n\
             x-amz-security-token:SECRET</CanonicalRequest></Error>",
        );
        let text = of(&error).to_string();
        assert_eq!(text, "the store says SignatureDoesNotMatch: Not this; look at the credentials and the region");
        assert_eq!(of(&error).kind(), io::ErrorKind::Other);
        let page = Error::Generic { store: "S3", source: "500 <html>SECRET".into() };
        assert_eq!(of(&page).to_string(), "500");
    }

    #[test]
    fn only_an_object_is_forbidden_and_everything_else_is_of_the_store() {
        for (code, expected) in [
            ("AccessDenied", io::ErrorKind::PermissionDenied),
            ("SignatureDoesNotMatch", io::ErrorKind::Other),
            ("InvalidAccessKeyId", io::ErrorKind::Other),
            ("ExpiredToken", io::ErrorKind::Other),
            ("InvalidToken", io::ErrorKind::Other),
            ("RequestTimeTooSkewed", io::ErrorKind::Other),
            ("AllAccessDisabled", io::ErrorKind::Other),
            ("AccountProblem", io::ErrorKind::Other),
        ] {
            assert_eq!(of(&denied(&format!("<Error><Code>{code}</Code></Error>"))).kind(), expected, "{code}");
        }
        assert_eq!(of(&denied("403 <html>a page of somebody's</html>")).kind(), io::ErrorKind::Other);
        let unauthenticated = Error::Unauthenticated { path: "k".into(), source: "401".into() };
        assert_eq!(of(&unauthenticated).kind(), io::ErrorKind::Other);
    }

    #[test]
    fn a_long_text_is_cut_and_a_missing_bucket_is_no_missing_object() {
        for (length, expected) in [(TEXT_BYTES_MAX - 1, TEXT_BYTES_MAX - 1), (TEXT_BYTES_MAX + 1, TEXT_BYTES_MAX)] {
            assert_eq!(cut(&"x".repeat(length)).len(), expected);
        }
        assert_eq!(cut(&"ä".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
        let missing = |code: &str| Error::NotFound { path: "k".into(), source: format!("<Code>{code}</Code>").into() };
        assert_eq!(of(&missing("NoSuchKey")).kind(), io::ErrorKind::NotFound);
        assert_eq!(of(&missing("NoSuchBucket")).kind(), io::ErrorKind::Other);
    }
}

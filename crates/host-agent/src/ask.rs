//! What a host asks, and what becomes of it.

use std::time::Duration;

use inborn_fleet::{
    CREDENTIALS, Credentials, CredentialsGiven, DOCUMENT, Document, DocumentSigned, MACHINES, Machines,
    MachinesChanged, RENEW, RefusalCode, Refused, Renewed, WAIT_SECONDS,
};
use serde::de::DeserializeOwned;

/// How long an answer may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much longer an answer may take that waits for a change than the region lets it wait.
const WAIT_SLACK: Duration = Duration::from_secs(10);

/// A question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// What has changed.
    Machines(Machines),
    /// Credentials of machines.
    Credentials(Credentials),
    /// The identity document of a machine.
    Document(Document),
    /// The next certificate.
    Renew,
}

/// Of each there is one question at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// The wait for changes, which is also how a host finds that its region is there.
    Watch,
    /// Everything else.
    Work,
}

impl Ask {
    /// Which lane it takes.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::Machines(_) => Lane::Watch,
            Self::Credentials(_) | Self::Document(_) | Self::Renew => Lane::Work,
        }
    }

    /// Its path.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        match self {
            Self::Machines(_) => MACHINES,
            Self::Credentials(_) => CREDENTIALS,
            Self::Document(_) => DOCUMENT,
            Self::Renew => RENEW,
        }
    }

    /// Its body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let written = match self {
            Self::Machines(asked) => serde_json::to_vec(asked),
            Self::Credentials(asked) => serde_json::to_vec(asked),
            Self::Document(asked) => serde_json::to_vec(asked),
            Self::Renew => Ok(b"{}".to_vec()),
        };
        written.unwrap_or_default()
    }

    /// How long its answer may take.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        match self {
            Self::Machines(_) => Duration::from_secs(WAIT_SECONDS).saturating_add(WAIT_SLACK),
            Self::Credentials(_) | Self::Document(_) | Self::Renew => PATIENCE,
        }
    }
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To [`Ask::Machines`].
    Machines(MachinesChanged),
    /// To [`Ask::Credentials`].
    Credentials(CredentialsGiven),
    /// To [`Ask::Document`].
    Document(DocumentSigned),
    /// To [`Ask::Renew`].
    Renewed(Renewed),
}

/// Why there is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The region cannot be reached, or what answers there is none that speaks so.
    #[error("{0}")]
    Unreachable(String),
    /// The region says no.
    #[error("{}: {message}", code.as_str())]
    Refused {
        /// Why.
        code: RefusalCode,
        /// For people.
        message: String,
        /// How long to stay away, in seconds.
        retry_after: Option<u64>,
    },
}

/// Reads what a region has answered to `ask`.
///
/// # Errors
/// Its refusal; [`Failure::Unreachable`] for what no region says.
pub fn decode(ask: &Ask, status: u16, retry_after: Option<u64>, body: &[u8]) -> Result<Answer, Failure> {
    if status != 200 {
        return Err(refusal(status, retry_after, body));
    }
    match ask {
        Ask::Machines(_) => read(body).map(Answer::Machines),
        Ask::Credentials(_) => read(body).map(Answer::Credentials),
        Ask::Document(_) => read(body).map(Answer::Document),
        Ask::Renew => read(body).map(Answer::Renewed),
    }
}

/// Reads a refusal.
pub(crate) fn refusal(status: u16, retry_after: Option<u64>, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Refused>(body) {
        Ok(Refused { code, message }) => Failure::Refused { code, message: printable(&message), retry_after },
        Err(_) => Failure::Unreachable(format!("what answers there speaks otherwise (status {status})")),
    }
}

/// Reads an answer.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|_| Failure::Unreachable("the answer is none that this version understands".to_owned()))
}

/// Without what could speak to a terminal, and not without end.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_refusal_is_told_from_what_is_none() {
        let refused = br#"{"code":"busy","message":"later\u001b[2J"}"#;
        assert_eq!(
            decode(&Ask::Renew, 503, Some(7), refused),
            Err(Failure::Refused { code: RefusalCode::Busy, message: "later[2J".to_owned(), retry_after: Some(7) })
        );
        for body in [&b"<html>"[..], b"", br#"{"code":"else","message":""}"#] {
            assert!(matches!(decode(&Ask::Renew, 502, None, body), Err(Failure::Unreachable(_))));
        }
        assert!(matches!(decode(&Ask::Renew, 200, None, b"{}"), Err(Failure::Unreachable(_))));
        let renewed = decode(&Ask::Renew, 200, None, br#"{"certificate":"c","later":1}"#);
        assert_eq!(renewed, Ok(Answer::Renewed(Renewed { certificate: "c".to_owned() })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(status: u16, body: Vec<u8>, text in r#"\{"(changed|generations|document|code)":.{0,60}\}"#) {
            let instance = "i-0123456789abcdef0".parse().unwrap();
            for ask in [
                Ask::Renew,
                Ask::Machines(Machines::default()),
                Ask::Credentials(Credentials { instances: vec![instance] }),
                Ask::Document(Document { instance }),
            ] {
                for body in [&body[..], text.as_bytes()] {
                    let _ = (decode(&ask, 200, None, body), decode(&ask, status, Some(1), body));
                }
            }
        }
    }
}

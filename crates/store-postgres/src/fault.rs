//! What the errors of the wire mean: to the helper that tries again, and to the callers of a store.

use core::fmt::Display;
use std::io;

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use inborn_store::{Conflict, StoreError};
use rustls::CertificateError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What a job in a transaction gives.
pub(crate) type Outcome<T> = Result<T, Fault>;

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It would come to the same again.
    Final(StoreError),
    /// Nothing of it happened, and another attempt may go well. The error is for when there is none left.
    Again(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

impl From<Conflict> for Fault {
    fn from(conflict: Conflict) -> Self {
        Self::Final(conflict.into())
    }
}

/// A value that is not what was written.
pub(crate) fn corrupt(what: impl Display) -> Fault {
    Fault::Final(StoreError::Corrupt(what.to_string()))
}

/// An error of a statement before the end of its transaction, of which nothing will have happened.
pub(crate) fn from_statement(error: &Error) -> Fault {
    let Some(code) = error.code() else {
        // A column that is absent or of another type comes with a source; so does a connection that broke.
        return match error.is_closed() || is_of_the_wire(error) {
            true => Fault::Again(unavailable(error)),
            false => corrupt(says(error)),
        };
    };
    match code {
        // 23503: what the record belongs to was deleted meanwhile; the rule of the verb says what that means.
        &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED | &SqlState::FOREIGN_KEY_VIOLATION => {
            Fault::Again(StoreError::Busy)
        }
        &SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE => Fault::Final(StoreError::Busy),
        // A text that is longer than an entry of an index: a third of a page.
        &SqlState::PROGRAM_LIMIT_EXCEEDED => {
            Fault::Final(StoreError::Invalid("a text is longer than the database can look it up by"))
        }
        &SqlState::DISK_FULL => Fault::Final(StoreError::Full),
        &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => corrupt(says(error)),
        code if is_interruption(code) => Fault::Again(unavailable(error)),
        // A primary that was told so, or a standby.
        &SqlState::READ_ONLY_SQL_TRANSACTION => {
            Fault::Final(StoreError::ReadOnly(format!("{}; {READ_ONLY_REMEDY}", says(error))))
        }
        _ => Fault::Final(StoreError::Io(says(error))),
    }
}

/// What to do about a database that takes no writes.
const READ_ONLY_REMEDY: &str = "it is a standby, or was told so: lead the URL to the primary, or see on the primary why \
     default_transaction_read_only is on (often a disk that is almost full), make room, and reset it (ALTER SYSTEM RESET, ALTER DATABASE … RESET \
     or ALTER ROLE … RESET default_transaction_read_only)";

/// An error of an insertion or update of `what`, which tells a key that is taken from other troubles.
pub(crate) fn from_insertion(error: &Error, what: &'static str) -> Fault {
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => Conflict::Exists(what).into(),
        _ => from_statement(error),
    }
}

/// An error of COMMIT. Beyond a refusal that says it was rolled back, nobody knows what has happened.
pub(crate) fn from_commit(error: &Error) -> Fault {
    match error.code() {
        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => Fault::Again(StoreError::Busy),
        _ => Fault::Final(StoreError::Io(format!("{}; the commit may have taken effect", says(error)))),
    }
}

/// An error of the pool, with no transaction begun.
pub(crate) fn from_pool(error: &PoolError) -> StoreError {
    match error {
        PoolError::Closed => StoreError::Closed,
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Busy,
        PoolError::Timeout(_) => StoreError::Unavailable("it did not answer in time".to_owned()),
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => match advice(error) {
            Some(advice) => StoreError::Unavailable(format!("{}; {advice}", says(error))),
            None => unavailable(error),
        },
        PoolError::PostCreateHook(HookError::Message(text)) => StoreError::Unavailable(text.to_string()),
        error => StoreError::Unavailable(error.to_string()),
    }
}

/// The server is going down, coming up, or has no room for another connection; classes 08 and 57P, and 53300.
pub(crate) fn is_interruption(code: &SqlState) -> bool {
    let code = code.code();
    code.starts_with("08") || code.starts_with("57P") || code == SqlState::TOO_MANY_CONNECTIONS.code()
}

/// What came of it is not known because the connection has ended, without a word of the server.
pub(crate) fn is_of_the_connection(error: &Error) -> bool {
    error.code().is_none() && (error.is_closed() || is_of_the_wire(error))
}

fn is_of_the_wire(error: &Error) -> bool {
    core::error::Error::source(error).is_some_and(|source| source.is::<io::Error>())
}

/// What the driver says of a server that refuses TLS; it has no type for it.
const NO_TLS: &str = "server does not support TLS";

/// What to do about a server that does not prove who it is. It has been sent nothing then, not even a name.
fn advice(error: &Error) -> Option<&'static str> {
    let source = core::error::Error::source(error)?;
    let Some(error) = source.downcast_ref::<io::Error>() else {
        return (source.to_string() == NO_TLS).then_some(
            "switch TLS on there (ssl = on, with a certificate; it has none over a socket), or say sslmode=disable if nobody else \
             is on the way. Nothing was sent in plain text",
        );
    };
    let rustls::Error::InvalidCertificate(why) = error.get_ref()?.downcast_ref()? else { return None };
    Some(match why {
        CertificateError::UnknownIssuer => {
            "name a PEM file with the certificate of the authority that issued the server's, by sslrootcert=PATH"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "name the host in the URL as its certificate does (hostaddr=IP says where it is), or have one issued with that name \
             among its subject alternative names"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "renew the server's certificate, or see that the clock here is right"
        }
        _ => {
            "have the server's certificate issued anew: X.509 version 3, for a server and not for an authority, with its name"
        }
    })
}

fn unavailable(error: &Error) -> StoreError {
    StoreError::Unavailable(says(error))
}

/// The code and the message. Not the detail, which quotes values.
pub(crate) fn says(error: &Error) -> String {
    match (error.as_db_error(), core::error::Error::source(error)) {
        (Some(told), _) => format!("{} {}", told.code().code(), told.message()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_postgres::{Client, NoTls};

    use super::*;

    /// A server that lets anybody in, and refuses each statement with the code that the statement is.
    async fn refuse(mut stream: DuplexStream) -> io::Result<()> {
        let mut rest = vec![0; stream.read_u32().await? as usize - 4];
        stream.read_exact(&mut rest).await?;
        // Let in; ready.
        stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
        loop {
            let kind = stream.read_u8().await?;
            let mut text = vec![0; stream.read_u32().await? as usize - 4];
            stream.read_exact(&mut text).await?;
            if kind != b'Q' {
                return Ok(());
            }
            let code = core::str::from_utf8(&text).unwrap().trim_end_matches('\0');
            let fields = format!("SERROR\0C{code}\0Mrefused\0DKey (id)=(hidden) is there.\0\0");
            stream.write_u8(b'E').await?;
            stream.write_u32(u32::try_from(fields.len()).unwrap() + 4).await?;
            stream.write_all(fields.as_bytes()).await?;
            stream.write_all(b"Z\0\0\0\x05I").await?;
        }
    }

    async fn client() -> Client {
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(refuse(theirs).map(drop));
        let (client, connection) = tokio_postgres::Config::new().user("x").connect_raw(ours, NoTls).await.unwrap();
        tokio::spawn(connection.map(drop));
        client
    }

    /// What each code means in a statement, in an insertion and at the end: whether it is tried again, and what a caller is told.
    #[tokio::test]
    async fn what_the_codes_mean() {
        let client = client().await;
        let shown = |fault: &Fault| match fault {
            Fault::Again(error) => ("again", format!("{error:?}")),
            Fault::Final(error) => ("final", format!("{error:?}")),
        };
        let (is, unknown) =
            (|code: &str, kind: &str| format!("{kind}(\"{code} refused\")"), "the commit may have taken effect");
        for (code, how, told) in [
            ("40001", "again", "Busy".to_owned()),
            ("40P01", "again", "Busy".to_owned()),
            ("23503", "again", "Busy".to_owned()),
            ("57014", "final", "Busy".to_owned()),
            ("55P03", "final", "Busy".to_owned()),
            ("53100", "final", "Full".to_owned()),
            ("25006", "final", is("25006", "ReadOnly").replace("refused", &format!("refused; {READ_ONLY_REMEDY}"))),
            ("53300", "again", is("53300", "Unavailable")),
            ("57P01", "again", is("57P01", "Unavailable")),
            ("57P03", "again", is("57P03", "Unavailable")),
            ("08006", "again", is("08006", "Unavailable")),
            ("XX001", "final", is("XX001", "Corrupt")),
            ("XX002", "final", is("XX002", "Corrupt")),
            ("23505", "final", is("23505", "Io")),
            ("42601", "final", is("42601", "Io")),
        ] {
            let error = client.batch_execute(code).await.unwrap_err();
            assert_eq!(shown(&from_statement(&error)), (how, told.clone()), "{code}");
            // Of an insertion only the key that is taken means something else.
            let inserted = shown(&from_insertion(&error, "a thing"));
            match code {
                "23505" => assert_eq!(inserted, ("final", "Conflict(Exists(\"a thing\"))".to_owned())),
                _ => assert_eq!(inserted, (how, told)),
            }
            // A commit is tried again only where the server says that it was rolled back.
            let (how, told) = shown(&from_commit(&error));
            match code {
                "40001" | "40P01" => assert_eq!((how, told.as_str()), ("again", "Busy")),
                _ => assert!(how == "final" && told.starts_with("Io(") && told.contains(unknown), "{code}: {told}"),
            }
            assert!(!says(&error).contains("hidden"), "values are not quoted");
        }
        let error = client.batch_execute("54000").await.unwrap_err();
        assert!(matches!(from_statement(&error), Fault::Final(StoreError::Invalid(_))));
    }

    /// A connection that ends before the end of a transaction was asked for has done nothing; after it, nobody knows.
    #[tokio::test]
    async fn what_a_broken_connection_means() {
        let (ours, theirs) = tokio::io::duplex(4096);
        let server = tokio::spawn(refuse(theirs));
        let (client, connection) = tokio_postgres::Config::new().user("x").connect_raw(ours, NoTls).await.unwrap();
        tokio::spawn(connection.map(drop));
        server.abort();
        let error = client.batch_execute("40001").await.unwrap_err();
        assert!(matches!(from_statement(&error), Fault::Again(StoreError::Unavailable(_))), "{error}");
        assert!(matches!(from_commit(&error), Fault::Final(StoreError::Io(_))), "{error}");
    }
}

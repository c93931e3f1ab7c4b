//! Whose name requests are signed with.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use zeroize::Zeroizing;

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";

/// A file is no longer than this.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where the key comes from. What is known of it is not shown.
pub enum Credentials {
    /// It does not change.
    Fixed(Arc<AwsCredential>),
    /// The profile `default` of a file in the form of `~/.aws/credentials`, read for each request: whoever replaces a key
    /// replaces the file.
    File(PathBuf),
}

/// Why there is no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Nobody has named one.
    #[error(
        "the telemetry store has no credentials: set {KEY_ID} and {SECRET} in the environment, or name a file with credentials=PATH"
    )]
    Missing,
    /// The file cannot be read.
    #[error("the credentials of the telemetry store in {0} cannot be read: {1}")]
    Unreadable(PathBuf, String),
    /// The file has none.
    #[error("{0} has no aws_access_key_id and aws_secret_access_key under [default]")]
    Incomplete(PathBuf),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(one) => f.debug_tuple("Fixed").field(&one.key_id).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Credentials {
    /// Those of a file, which must have some now; without one, those of an environment.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn find(file: Option<&Path>, environment: impl Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        if let Some(path) = file {
            read(path)?;
            return Ok(Self::File(path.to_owned()));
        }
        let set = |name| environment(name).filter(|value| !value.is_empty());
        let (Some(key_id), Some(secret_key)) = (set(KEY_ID), set(SECRET)) else {
            return Err(CredentialsError::Missing);
        };
        Ok(Self::Fixed(Arc::new(AwsCredential { key_id, secret_key, token: set(TOKEN) })))
    }

    /// A key that does not change.
    #[must_use]
    pub fn fixed(key_id: &str, secret_key: &str, token: Option<&str>) -> Self {
        let (key_id, secret_key, token) = (key_id.into(), secret_key.into(), token.map(Into::into));
        Self::Fixed(Arc::new(AwsCredential { key_id, secret_key, token }))
    }
}

#[async_trait::async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        match self {
            Self::Fixed(one) => Ok(Arc::clone(one)),
            // A small local file, in a runtime that does nothing else.
            Self::File(path) => read(path)
                .map(Arc::new)
                .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) }),
        }
    }
}

fn read(path: &Path) -> Result<AwsCredential, CredentialsError> {
    let unreadable = |why: String| CredentialsError::Unreadable(path.to_owned(), why);
    let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?);
    parse(&text).ok_or_else(|| CredentialsError::Incomplete(path.to_owned()))
}

fn parse(text: &str) -> Option<AwsCredential> {
    let (mut key_id, mut secret_key, mut token) = (None, None, None);
    let mut is_default = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            is_default = name.trim() == "default";
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|_| is_default) else { continue };
        let value = Some(value.trim()).filter(|value| !value.is_empty()).map(str::to_owned);
        match name.trim() {
            "aws_access_key_id" => key_id = value,
            "aws_secret_access_key" => secret_key = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    Some(AwsCredential { key_id: key_id?, secret_key: secret_key?, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_default() {
        let text = "[other]\naws_access_key_id = no\n# c\n[default]\naws_access_key_id=AKID\n aws_secret_access_key = s=cret \n\
                    region = x\n[more]\naws_secret_access_key = no\n";
        let found = parse(text).unwrap();
        let token = |found: &AwsCredential| found.token.clone();
        assert_eq!((found.key_id.as_str(), found.secret_key.as_str(), token(&found)), ("AKID", "s=cret", None));
        let found = parse("[default]\naws_access_key_id=A\naws_secret_access_key=S\naws_session_token=T").unwrap();
        assert_eq!(token(&found).as_deref(), Some("T"));
        for text in [
            "",
            "aws_access_key_id=A\naws_secret_access_key=S",
            "[default]\naws_access_key_id=A\naws_secret_access_key=",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_file_is_below_or_at_its_longest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[default]\naws_access_key_id=A\naws_secret_access_key=S\n#";
        for (longer, good) in [(-1_i64, true), (0, true), (1, false)] {
            let length = usize::try_from(i64::try_from(FILE_BYTES_MAX).unwrap() + longer).unwrap();
            std::fs::write(file.path(), format!("{text}{}", "x".repeat(length - text.len()))).unwrap();
            assert_eq!(Credentials::find(Some(file.path()), |_| None).is_ok(), good, "{longer}");
        }
    }

    #[test]
    fn without_a_file_they_are_of_the_environment_and_are_not_shown() {
        let environment = |name: &str| (name != TOKEN).then(|| format!("{name} value"));
        let found = Credentials::find(None, environment).unwrap();
        let text = format!("{found:?}");
        assert!(text.contains("AWS_ACCESS_KEY_ID value") && !text.contains("SECRET"), "{text}");
        assert_eq!(Credentials::find(None, |_| Some(String::new())).unwrap_err(), CredentialsError::Missing);
        let error = Credentials::find(Some(Path::new("/nowhere")), environment).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }
}

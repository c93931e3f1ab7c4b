//! `inborn credentials`: the machine's own credentials, in the form of the SDKs' `credential_process`.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{MetadataClient, MetadataError, Secret};

/// Where a machine finds the credentials of its identity.
pub const PATH: &str = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";

/// Short-lived credentials.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `ASIA…`.
    pub access_key_id: String,
    /// Signs requests.
    pub secret_access_key: Secret,
    /// Goes with each request.
    pub session_token: Secret,
    /// When they end, as in `2026-11-23T05:29:00Z`.
    pub expiration: String,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The metadata service did not help.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// It knows the question, but this machine has no credentials now.
    #[error("the metadata service has no credentials for this machine: {code}; try again in a moment")]
    NotSuccess {
        /// What it says in place of `Success`.
        code: String,
    },
    /// Not the document that is documented. The text of it is not repeated.
    #[error("the metadata service answered with something that is not credentials")]
    Malformed,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    code: String,
    access_key_id: Option<String>,
    secret_access_key: Option<Secret>,
    token: Option<Secret>,
    expiration: Option<String>,
}

/// Fetches the credentials of the machine that this runs in.
///
/// # Errors
/// See [`CredentialsError`].
pub async fn credentials(metadata: &mut MetadataClient) -> Result<Credentials, CredentialsError> {
    let document = metadata.get(PATH).await?.ok_or_else(|| MetadataError::Missing { path: PATH.to_owned() })?;
    Credentials::parse(document.expose())
}

/// Characters of a code that are repeated in an error.
const CODE_LENGTH_MAX: usize = 64;

impl Credentials {
    /// Reads the document of the metadata service.
    ///
    /// # Errors
    /// [`CredentialsError::NotSuccess`] and [`CredentialsError::Malformed`].
    pub fn parse(document: &str) -> Result<Self, CredentialsError> {
        let document: Document = serde_json::from_str(document).map_err(|_| CredentialsError::Malformed)?;
        if document.code != "Success" {
            let code = document.code.chars().filter(|c| c.is_ascii_graphic()).take(CODE_LENGTH_MAX).collect();
            return Err(CredentialsError::NotSuccess { code });
        }
        let present = |field: Option<String>| field.filter(|text| !text.is_empty()).ok_or(CredentialsError::Malformed);
        let secret =
            |field: Option<Secret>| field.filter(|text| !text.expose().is_empty()).ok_or(CredentialsError::Malformed);
        Ok(Self {
            access_key_id: present(document.access_key_id)?,
            secret_access_key: secret(document.secret_access_key)?,
            session_token: secret(document.token)?,
            expiration: present(document.expiration)?,
        })
    }

    /// The JSON of `credential_process`, version 1. This is the secret itself: it belongs on standard output and nowhere
    /// else.
    #[must_use]
    pub fn process_json(&self) -> Zeroizing<String> {
        let quote = |text: &str| Zeroizing::new(serde_json::Value::from(text).to_string());
        Zeroizing::new(format!(
            "{{\"Version\":1,\"AccessKeyId\":{},\"SecretAccessKey\":{},\"SessionToken\":{},\"Expiration\":{}}}",
            *quote(&self.access_key_id),
            *quote(self.secret_access_key.expose()),
            *quote(self.session_token.expose()),
            *quote(&self.expiration),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{
  "Code" : "Success",
  "LastUpdated" : "2026-11-23T05:29:00Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIAQNZGKIQY56JQ7WML",
  "SecretAccessKey" : "secret/+key",
  "Token" : "token==",
  "Expiration" : "2026-11-23T11:49:00Z"
}"#;

    #[test]
    fn the_document_becomes_the_answer_of_a_credential_process() {
        let credentials = Credentials::parse(DOCUMENT).unwrap();
        assert_eq!(
            *credentials.process_json(),
            concat!(
                r#"{"Version":1,"AccessKeyId":"ASIAQNZGKIQY56JQ7WML","SecretAccessKey":"secret/+key","#,
                r#""SessionToken":"token==","Expiration":"2026-11-23T11:49:00Z"}"#
            )
        );
        let shown = format!("{credentials:?}");
        assert!(shown.contains("ASIAQNZGKIQY56JQ7WML") && !shown.contains("secret/+key") && !shown.contains("token=="));
    }

    #[test]
    fn another_code_is_told() {
        let text = r#"{ "Code" : "AssumeRoleUnauthorizedAccess", "Message" : "no" }"#;
        let error = Credentials::parse(text).unwrap_err().to_string();
        assert!(error.contains("AssumeRoleUnauthorizedAccess"), "{error}");
        let long = format!("{{\"Code\":\"{}\"}}", "C".repeat(1000));
        let CredentialsError::NotSuccess { code } = Credentials::parse(&long).unwrap_err() else { panic!() };
        assert_eq!(code.len(), CODE_LENGTH_MAX);
    }

    #[test]
    fn what_is_not_credentials_is_not_repeated() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"Code":"Success"}"#,
            r#"{"Code":"Success","AccessKeyId":"hunter2","SecretAccessKey":"","Token":"t","Expiration":"e"}"#,
            r#"{"Code":"Success","AccessKeyId":"a","SecretAccessKey":["hunter2"],"Token":"t","Expiration":"e"}"#,
        ] {
            let error = Credentials::parse(text).unwrap_err();
            assert!(matches!(error, CredentialsError::Malformed), "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}

//! The JSON documents, byte for byte as EC2 writes them: two spaces, `"Key" : "value",`, one key to a line, no newline
//! at the end.
//!
//! The shape is a contract. Shell scripts (the host-key script of EC2 Instance Connect 1.1.14) take values out line by
//! line with an expression that wants the blanks around the colon and the comma after the value, so a serializer with
//! another taste would break them.

use core::fmt::{self, Write as _};
use std::net::Ipv4Addr;

use bytes::Bytes;
use inborn_credential::{Credential, Delivery};
use inborn_identity::{AccountId, InstanceId, UnixTime};
use zeroize::Zeroizing;

use crate::Facts;

/// The document of one set of credentials, rendered ahead.
pub struct PreparedCredential {
    /// Wiped when the last answer that shares it is gone.
    document: Bytes,
    issued_at: UnixTime,
    expires_at: UnixTime,
}

/// Characters of a credentials document beside its values: names, quotes, blanks. Checked by a test, so that the buffer
/// with the secret never has to grow, which would leave a copy of it behind.
const CREDENTIAL_FRAME: usize = 194;

impl PreparedCredential {
    /// Renders `identity-credentials/ec2/security-credentials/ec2-instance`.
    ///
    /// Source: captures of EC2 instances; keys in the order Code, LastUpdated, Type, AccessKeyId, SecretAccessKey, Token,
    /// Expiration.
    #[must_use]
    pub fn render(
        access_key_id: &str,
        secret_access_key: &str,
        session_token: &str,
        issued_at: UnixTime,
        expires_at: UnixTime,
    ) -> Self {
        let json = credential_json([access_key_id, secret_access_key, session_token], issued_at, expires_at);
        Self { document: Bytes::from_owner(Zeroizing::new(json)), issued_at, expires_at }
    }

    /// `Expiration`.
    #[must_use]
    pub const fn expires_at(&self) -> UnixTime {
        self.expires_at
    }
}

fn credential_json(values: [&str; 3], issued_at: UnixTime, expires_at: UnixTime) -> String {
    let [access_key_id, secret_access_key, session_token] = values;
    let mut json = Json::with_capacity(CREDENTIAL_FRAME + values.map(str::len).iter().sum::<usize>());
    json.text("Code", "Success");
    json.text("LastUpdated", &issued_at.rfc3339());
    json.text("Type", "AWS-HMAC");
    json.text("AccessKeyId", access_key_id);
    json.text("SecretAccessKey", secret_access_key);
    json.text("Token", session_token);
    json.text("Expiration", &expires_at.rfc3339());
    json.finish()
}

impl From<&Credential> for PreparedCredential {
    fn from(credential: &Credential) -> Self {
        Self::render(
            credential.access_key_id.as_str(),
            credential.secret_access_key.expose(),
            credential.session_token.expose(),
            credential.issued_at,
            credential.expires_at,
        )
    }
}

impl fmt::Debug for PreparedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedCredential")
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The documents below `identity-credentials/ec2`, of one generation, for both ways of fetching them.
#[derive(Debug)]
pub struct PreparedCredentials {
    info: Bytes,
    v1: PreparedCredential,
    v2: PreparedCredential,
}

impl PreparedCredentials {
    /// The documents of one generation: `v1` for those who ask without a session token, `v2` for those who ask with one.
    #[must_use]
    pub fn new(account: AccountId, v1: PreparedCredential, v2: PreparedCredential) -> Self {
        let mut json = Json::with_capacity(128);
        json.text("Code", "Success");
        json.text("LastUpdated", &v2.issued_at.rfc3339());
        json.text("AccountId", &account.to_string());
        Self { info: json.finish().into(), v1, v2 }
    }

    /// The earlier `Expiration` of the two.
    #[must_use]
    pub fn expires_at(&self) -> UnixTime {
        self.v1.expires_at.min(self.v2.expires_at)
    }

    /// The later `LastUpdated` of the two.
    #[must_use]
    pub fn issued_at(&self) -> UnixTime {
        self.v1.issued_at.max(self.v2.issued_at)
    }

    /// `info`: no secret in it.
    pub(crate) const fn info(&self) -> &Bytes {
        &self.info
    }

    /// `security-credentials/ec2-instance`.
    pub(crate) const fn document(&self, delivery: Delivery) -> &Bytes {
        match delivery {
            Delivery::V1 => &self.v1.document,
            Delivery::V2 => &self.v2.document,
        }
    }
}

/// The instance identity document: who, what and where `instance` is. Rendered at each start.
///
/// Source: captures of EC2 instances. Keys come in alphabetical order but for `marketplaceProductCodes`; what does not
/// apply is `null`.
#[must_use]
pub fn identity_document(instance: InstanceId, facts: &Facts) -> Bytes {
    let mut json = Json::with_capacity(640);
    json.text("accountId", &facts.account.to_string());
    json.text("architecture", &facts.architecture);
    json.text("availabilityZone", facts.zone.as_str());
    json.null("billingProducts");
    json.null("devpayProductCodes");
    json.null("marketplaceProductCodes");
    json.text("imageId", &facts.image_id);
    json.text("instanceId", &instance.to_string());
    json.text("instanceType", &facts.instance_type);
    json.null("kernelId");
    json.text("pendingTime", &facts.launch_time.rfc3339());
    json.optional("privateIp", facts.private_ip.as_ref().map(Ipv4Addr::to_string).as_deref());
    json.null("ramdiskId");
    json.text("region", facts.region.as_str());
    json.text("version", "2017-09-30");
    json.finish().into()
}

/// The signatures of an instance identity document, in the form they are served in: base64 in lines of 76 characters,
/// without a newline at the end.
///
/// Source: a capture of `signature` (174 bytes for an RSA-1024 signature); samples of `pkcs7` in public test data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DocumentSignatures {
    /// `signature`: over the document's bytes.
    pub signature: Bytes,
    /// `pkcs7` and `rsa2048`: a SignedData that holds the document itself. On EC2 the former is signed with DSA and SHA-1,
    /// which nobody should trust any more; here both are the latter.
    pub pkcs7: Bytes,
}

/// An object of texts and nulls in EC2's form.
struct Json(String);

impl Json {
    fn with_capacity(capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('{');
        Self(text)
    }

    fn key(&mut self, key: &str) {
        self.0.push_str(if self.0.len() == 1 { "\n  \"" } else { ",\n  \"" });
        self.0.push_str(key);
        self.0.push_str("\" : ");
    }

    fn null(&mut self, key: &str) {
        self.key(key);
        self.0.push_str("null");
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.null(key),
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push('"');
        for character in value.chars() {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\u{0}'..='\u{1f}' => {
                    // Writing into a `String` cannot fail.
                    let _ = write!(self.0, "\\u{:04x}", u32::from(character));
                }
                _ => self.0.push(character),
            }
        }
        self.0.push('"');
    }

    fn finish(mut self) -> String {
        self.0.push_str("\n}");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_with_the_secret_never_grows() {
        let at = UnixTime::from_secs(1_795_000_000);
        let json = credential_json(["ASIA", "secret", "token"], at, at);
        assert_eq!(json.len(), CREDENTIAL_FRAME + "ASIA".len() + "secret".len() + "token".len());
        assert_eq!(json.capacity(), json.len());
    }

    #[test]
    fn escapes_what_json_must() {
        let mut json = Json::with_capacity(0);
        json.text("a", "\"\\\n\u{1}é/");
        json.null("b");
        assert_eq!(json.finish(), "{\n  \"a\" : \"\\\"\\\\\\u000a\\u0001é/\",\n  \"b\" : null\n}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let at = UnixTime::from_secs(1_795_000_000);
        let one = || PreparedCredential::render("ASIAKEY", "SECRET", "TOKEN", at, at);
        let shown = format!("{:?}", PreparedCredentials::new(AccountId::new(7).unwrap(), one(), one()));
        assert!(shown.contains("expires_at"));
        assert!(!["ASIAKEY", "SECRET", "TOKEN"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }
}

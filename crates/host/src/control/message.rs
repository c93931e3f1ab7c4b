//! Requests and answers.

use inborn_identity::{InstanceId, Region};
use serde::{Deserialize, Serialize};

use super::text;

/// What a client asks.
#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    AttachLoopback {
        #[serde(with = "text")]
        instance: InstanceId,
    },
    /// With the five or six sockets of the pocket.
    AttachPocket(PocketRequest),
    Attachments {},
    Detach {
        #[serde(with = "text")]
        instance: InstanceId,
    },
}

/// The machine of a pocket, and the names that its resolver answers.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct PocketRequest {
    /// A launched instance.
    #[serde(with = "text")]
    pub instance: InstanceId,
    /// The region that the client believes to be served here.
    #[serde(with = "text")]
    pub region: Region,
    /// The DNS suffix, such as `amazonaws.com`.
    pub domain: String,
}

/// What the server answers.
#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    Loopback { port: u16 },
    Attached,
    Attachments { attachments: Vec<Attachment> },
    Detached,
    Refused { reason: String },
}

/// A machine that this host answers for.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// Which one.
    #[serde(with = "text")]
    pub instance: InstanceId,
    /// How.
    #[serde(flatten)]
    pub kind: AttachmentKind,
}

/// How a host knows that a machine is asking.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AttachmentKind {
    /// By a port of its own on 127.0.0.1.
    Loopback {
        /// The port.
        port: u16,
    },
    /// By the sockets of its pocket.
    Pocket,
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: &str = "i-0123456789abcdef0";

    #[test]
    fn the_bytes_of_requests_and_answers() {
        let instance: InstanceId = INSTANCE.parse().unwrap();
        let print = |request: &Request| serde_json::to_string(request).unwrap();
        assert_eq!(
            print(&Request::AttachLoopback { instance }),
            r#"{"verb":"attach_loopback","instance":"i-0123456789abcdef0"}"#
        );
        let pocket =
            PocketRequest { instance, region: "us-east-1".parse().unwrap(), domain: "amazonaws.com".to_owned() };
        assert_eq!(
            print(&Request::AttachPocket(pocket)),
            r#"{"verb":"attach_pocket","instance":"i-0123456789abcdef0","region":"us-east-1","domain":"amazonaws.com"}"#
        );
        assert_eq!(print(&Request::Attachments {}), r#"{"verb":"attachments"}"#);
        let attachments = vec![
            Attachment { instance, kind: AttachmentKind::Loopback { port: 8080 } },
            Attachment { instance, kind: AttachmentKind::Pocket },
        ];
        assert_eq!(
            serde_json::to_string(&Answer::Attachments { attachments }).unwrap(),
            concat!(
                r#"{"answer":"attachments","attachments":["#,
                r#"{"instance":"i-0123456789abcdef0","kind":"loopback","port":8080},"#,
                r#"{"instance":"i-0123456789abcdef0","kind":"pocket"}]}"#
            )
        );
        assert_eq!(serde_json::to_string(&Answer::Attached).unwrap(), r#"{"answer":"attached"}"#);
    }

    #[test]
    fn what_is_read_back_is_what_was_said() {
        for text in [
            r#"{"verb":"attach_loopback","instance":"i-0123456789abcdef0"}"#,
            r#"{"verb":"attach_pocket","instance":"i-0123456789abcdef0","region":"us-east-1","domain":"amazonaws.com"}"#,
            r#"{"verb":"attachments"}"#,
            r#"{"verb":"detach","instance":"i-0123456789abcdef0"}"#,
        ] {
            let request: Request = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
        }
    }

    #[test]
    fn what_is_not_a_request() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"verb":"launch"}"#,
            r#"{"verb":"detach"}"#,
            r#"{"verb":"detach","instance":"i-1"}"#,
            r#"{"verb":"detach","instance":"i-0123456789abcdef0","force":true}"#,
            r#"{"verb":"attach_pocket","instance":"i-0123456789abcdef0","region":"U S","domain":"x"}"#,
            r#"{"verb":"attachments","all":true}"#,
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}

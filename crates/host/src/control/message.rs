//! Requests and answers.

use inborn_identity::{AccountId, InstanceId, MacAddress, Region};
use serde::{Deserialize, Serialize};

use super::text;
use crate::attachment::Kind;
use crate::place::Place;

/// What a client asks.
#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    AttachLoopback {
        #[serde(with = "text")]
        instance: InstanceId,
        /// The port it should be, or any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    Attach {
        #[serde(with = "text")]
        instance: InstanceId,
        place: Place,
        once: bool,
        /// The machine's own interface, if somebody knows it.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "text::optional")]
        mac: Option<MacAddress>,
    },
    /// With the five or six sockets of the pocket.
    AttachPocket(PocketRequest),
    Attachments {},
    Status {},
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
    /// Whether other names are to be resolved too, because the pocket has a network.
    #[serde(default, skip_serializing_if = "is_false")]
    pub world: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// What the server answers.
#[derive(Serialize, Deserialize, Debug)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    Loopback { port: u16 },
    Attached,
    Attachments { attachments: Vec<Attachment> },
    Detached,
    Status(HostStatus),
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
    pub kind: Kind,
    /// Why it is not listened to at present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What a host apart from its region knows of it, and of the machines that were placed there.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct HostStatus {
    /// Whether the region is there, as far as the host has seen.
    pub is_connected: bool,
    /// When it was last heard, in seconds since 1970.
    pub heard_at: Option<u64>,
    /// Whether all that it serves would be served after a crash, too, with the region away.
    pub is_kept: bool,
    /// Ordered by id.
    pub machines: Vec<PlacedMachine>,
}

/// A machine that was placed on a host, attached or not.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PlacedMachine {
    /// Which one.
    #[serde(with = "text")]
    pub instance: InstanceId,
    /// Whose it is.
    #[serde(with = "text")]
    pub account: AccountId,
    /// Its tag `Name`; empty if it has none.
    pub name: String,
    /// Whether it runs.
    pub is_running: bool,
    /// Until when its credentials are good, in seconds since 1970; none if it has none.
    pub credentials_until: Option<u64>,
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
            print(&Request::AttachLoopback { instance, port: None }),
            r#"{"verb":"attach_loopback","instance":"i-0123456789abcdef0"}"#
        );
        assert_eq!(
            print(&Request::Attach { instance, place: Place::Process { pid: 7 }, once: true, mac: None }),
            r#"{"verb":"attach","instance":"i-0123456789abcdef0","place":{"kind":"process","pid":7},"once":true}"#
        );
        let pocket = PocketRequest {
            instance,
            region: "us-east-1".parse().unwrap(),
            domain: "amazonaws.com".to_owned(),
            world: false,
        };
        assert_eq!(
            print(&Request::AttachPocket(pocket)),
            r#"{"verb":"attach_pocket","instance":"i-0123456789abcdef0","region":"us-east-1","domain":"amazonaws.com"}"#
        );
        assert_eq!(print(&Request::Attachments {}), r#"{"verb":"attachments"}"#);
        let attachments = vec![
            Attachment { instance, kind: Kind::Loopback { port: 8080 }, trouble: None },
            Attachment { instance, kind: Kind::Pocket, trouble: None },
            Attachment { instance, kind: Kind::At(Place::Vsock { cid: 3 }), trouble: Some("gone".to_owned()) },
        ];
        assert_eq!(
            serde_json::to_string(&Answer::Attachments { attachments }).unwrap(),
            concat!(
                r#"{"answer":"attachments","attachments":["#,
                r#"{"instance":"i-0123456789abcdef0","kind":"loopback","port":8080},"#,
                r#"{"instance":"i-0123456789abcdef0","kind":"pocket"},"#,
                r#"{"instance":"i-0123456789abcdef0","kind":"vsock","cid":3,"trouble":"gone"}]}"#
            )
        );
        assert_eq!(serde_json::to_string(&Answer::Attached).unwrap(), r#"{"answer":"attached"}"#);
    }

    #[test]
    fn attachments_are_read_back() {
        for text in [
            r#"{"instance":"i-0123456789abcdef0","kind":"loopback","port":8080}"#,
            r#"{"instance":"i-0123456789abcdef0","kind":"namespace","path":"/run/netns/web"}"#,
            r#"{"instance":"i-0123456789abcdef0","kind":"interface","name":"tap0","trouble":"gone"}"#,
        ] {
            let attachment: Attachment = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&attachment).unwrap(), text);
        }
    }

    #[test]
    fn what_is_read_back_is_what_was_said() {
        for text in [
            r#"{"verb":"attach_loopback","instance":"i-0123456789abcdef0"}"#,
            r#"{"verb":"attach_pocket","instance":"i-0123456789abcdef0","region":"us-east-1","domain":"amazonaws.com"}"#,
            r#"{"verb":"attach_loopback","instance":"i-0123456789abcdef0","port":8080}"#,
            r#"{"verb":"attach","instance":"i-0123456789abcdef0","place":{"kind":"interface","name":"tap0"},"once":false}"#,
            concat!(
                r#"{"verb":"attach","instance":"i-0123456789abcdef0","place":{"kind":"interface","name":"tap0"},"#,
                r#""once":false,"mac":"02:00:5e:00:53:01"}"#
            ),
            r#"{"verb":"attach_pocket","instance":"i-0123456789abcdef0","region":"us-east-1","domain":"x.y","world":true}"#,
            r#"{"verb":"attachments"}"#,
            r#"{"verb":"status"}"#,
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
            r#"{"verb":"attach","instance":"i-0123456789abcdef0","place":{"kind":"interface","name":"a/b"},"once":false}"#,
            r#"{"verb":"attach","instance":"i-0123456789abcdef0","place":{"kind":"pocket"},"once":false}"#,
            r#"{"verb":"attach","instance":"i-0123456789abcdef0","place":{"kind":"process","pid":-1},"once":false}"#,
            concat!(
                r#"{"verb":"attach","instance":"i-0123456789abcdef0","place":{"kind":"vsock","cid":3},"#,
                r#""once":false,"mac":"01:00:5e:00:53:01"}"#
            ),
        ] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}

//! The kinds of attachment, and what each is worth.

use serde::{Deserialize, Serialize};

use crate::place::Place;

/// How a machine is attached: by what its host knows that it is the one asking.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Hash, Debug)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A port of 127.0.0.1. For development.
    Loopback {
        /// The port.
        port: u16,
    },
    /// The sockets of a pocket, made inside its network namespace.
    Pocket,
    /// A place on this computer where the machine itself is.
    #[serde(untagged)]
    At(Place),
}

impl Kind {
    /// One word for the strength of the attachment.
    #[must_use]
    pub const fn strength(&self) -> &'static str {
        match self {
            Self::Loopback { .. } => "development",
            Self::Pocket | Self::At(Place::Namespace { .. } | Place::Process { .. }) => "namespace",
            Self::At(Place::Interface { .. }) => "interface",
            Self::At(Place::Vsock { .. }) => "vsock",
        }
    }

    /// What a person is told about it.
    #[must_use]
    pub const fn meaning(&self) -> &'static str {
        match self {
            Self::Loopback { .. } => "any process on this computer can ask in its name",
            Self::Pocket | Self::At(Place::Namespace { .. } | Place::Process { .. }) => {
                "only processes inside its network namespace, and what they forward, can ask"
            }
            Self::At(Place::Interface { .. }) => "only what arrives through its network interface can ask",
            Self::At(Place::Vsock { .. }) => "only the virtual machine with its context id can ask",
        }
    }

    /// Where a program asks.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self {
            Self::Loopback { port } => format!("http://127.0.0.1:{port}"),
            Self::Pocket => "http://169.254.169.254 inside its pocket".to_owned(),
            Self::At(place @ Place::Vsock { .. }) => {
                format!("port {} of the host, from {place}", crate::place::VSOCK_PORT)
            }
            Self::At(place @ Place::Interface { .. }) => format!("http://169.254.169.254 through {place}"),
            Self::At(place) => format!("http://169.254.169.254 inside {place}"),
        }
    }

    /// Its place, if it has one.
    pub(crate) const fn place(&self) -> Option<&Place> {
        match self {
            Self::At(place) => Some(place),
            Self::Loopback { .. } | Self::Pocket => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_as_text_and_back() {
        let interface = Place::Interface { name: "tap0".parse().unwrap() };
        for (kind, text, strength) in [
            (Kind::Loopback { port: 80 }, r#"{"kind":"loopback","port":80}"#, "development"),
            (Kind::Pocket, r#"{"kind":"pocket"}"#, "namespace"),
            (
                Kind::At(Place::Namespace { path: "/run/netns/web".parse().unwrap() }),
                r#"{"kind":"namespace","path":"/run/netns/web"}"#,
                "namespace",
            ),
            (Kind::At(Place::Process { pid: 7 }), r#"{"kind":"process","pid":7}"#, "namespace"),
            (Kind::At(interface), r#"{"kind":"interface","name":"tap0"}"#, "interface"),
            (Kind::At(Place::Vsock { cid: 3 }), r#"{"kind":"vsock","cid":3}"#, "vsock"),
        ] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), text);
            assert_eq!(serde_json::from_str::<Kind>(text).unwrap(), kind);
            assert_eq!(kind.strength(), strength);
        }
        for text in [
            r#"{"kind":"interface","name":"../x"}"#,
            r#"{"kind":"interface","name":""}"#,
            r#"{"kind":"namespace","path":"relative"}"#,
            r#"{"kind":"bridge"}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<Kind>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn where_a_program_asks() {
        let at = |place| Kind::At(place).endpoint();
        assert_eq!(at(Place::Process { pid: 7 }), "http://169.254.169.254 inside network namespace of process 7");
        assert_eq!(
            at(Place::Interface { name: "tap0".parse().unwrap() }),
            "http://169.254.169.254 through network interface tap0"
        );
        assert_eq!(at(Place::Vsock { cid: 3 }), "port 80 of the host, from vsock context 3");
    }
}

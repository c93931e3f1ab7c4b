//! The documents that say what kind of session it is, and the parameters that they take.
//!
//! Names and parameters are AWS's. The texts follow its descriptions: what agents read of them is the same.

use serde_json::{Map, Value};

/// What a session is when nothing else is asked for.
pub(crate) const SHELL: &str = "SSM-SessionManagerRunShell";

/// A kind of session.
#[derive(Debug)]
pub(crate) struct SessionDocument {
    /// As in `AWS-StartPortForwardingSession`.
    pub(crate) name: &'static str,
    /// JSON, schema 1.0.
    content: &'static str,
    /// In the order of the document.
    parameters: &'static [Parameter],
}

/// One parameter: a text.
#[derive(Debug)]
struct Parameter {
    name: &'static str,
    form: Form,
    is_required: bool,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// Any text.
    Text,
    /// A port.
    Port,
    /// A port, or 0 for any that is free.
    PortOrAny,
    /// The name or the address of a host.
    Host,
}

/// What is wrong with the parameters of a session.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ParameterFault {
    /// The document has none of this name.
    #[error("Parameter \"{name}\" is not defined in the document.")]
    Unknown { name: String },
    /// A document's parameters are texts: one value each.
    #[error("Parameter \"{name}\" takes one value.")]
    Count { name: String },
    /// The value is not of its form.
    #[error("Parameter \"{name}\" has value \"{value}\" not matching its allowed pattern.")]
    Form { name: String, value: String },
    /// It must be there.
    #[error("Parameter \"{name}\" is required.")]
    Missing { name: String },
}

/// Longest part of a name or value that a fault repeats.
const SHOWN_MAX: usize = 128;
/// Longest name of a host (RFC 1035).
const HOST_MAX: usize = 253;

const fn optional(name: &'static str, form: Form) -> Parameter {
    Parameter { name, form, is_required: false }
}

static DOCUMENTS: [SessionDocument; 5] = [
    SessionDocument { name: SHELL, content: include_str!("documents/run_shell.json"), parameters: &[] },
    SessionDocument {
        name: "AWS-StartInteractiveCommand",
        content: include_str!("documents/interactive_command.json"),
        parameters: &[Parameter { name: "command", form: Form::Text, is_required: true }],
    },
    SessionDocument {
        name: "AWS-StartPortForwardingSession",
        content: include_str!("documents/port_forwarding.json"),
        parameters: &[optional("portNumber", Form::Port), optional("localPortNumber", Form::PortOrAny)],
    },
    SessionDocument {
        name: "AWS-StartPortForwardingSessionToRemoteHost",
        content: include_str!("documents/port_forwarding_to_remote_host.json"),
        parameters: &[
            optional("portNumber", Form::Port),
            optional("localPortNumber", Form::PortOrAny),
            optional("host", Form::Host),
        ],
    },
    SessionDocument {
        name: "AWS-StartSSHSession",
        content: include_str!("documents/ssh.json"),
        parameters: &[optional("portNumber", Form::Port)],
    },
];

impl SessionDocument {
    /// The document of this name.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        DOCUMENTS.iter().find(|document| document.name == name)
    }

    /// The document itself.
    pub(crate) fn content(&self) -> Value {
        // A test reads them all.
        serde_json::from_str(self.content).unwrap_or_default()
    }

    /// The parameters as agents take them: one text each. What is left out has the document's default.
    pub(crate) fn parameters<'a>(
        &self,
        given: impl Iterator<Item = (&'a str, Vec<&'a str>)>,
    ) -> Result<Map<String, Value>, ParameterFault> {
        let shown = |text: &str| text.chars().take(SHOWN_MAX).collect::<String>();
        let mut taken = Map::new();
        for (name, values) in given {
            let own = self.parameters.iter().find(|own| own.name == name);
            let own = own.ok_or_else(|| ParameterFault::Unknown { name: shown(name) })?;
            let [value] = values[..] else { return Err(ParameterFault::Count { name: shown(name) }) };
            if !own.form.holds(value) {
                return Err(ParameterFault::Form { name: shown(name), value: shown(value) });
            }
            taken.insert(name.to_owned(), value.into());
        }
        match self.parameters.iter().find(|own| own.is_required && !taken.contains_key(own.name)) {
            Some(own) => Err(ParameterFault::Missing { name: own.name.to_owned() }),
            None => Ok(taken),
        }
    }
}

impl Form {
    fn holds(self, value: &str) -> bool {
        let port = || match value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0') {
            true => value.parse::<u16>().is_ok(),
            false => false,
        };
        match self {
            Self::Text => !value.is_empty(),
            Self::Port => port(),
            Self::PortOrAny => value == "0" || port(),
            Self::Host => {
                let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
                (1..=HOST_MAX).contains(&value.len()) && value.bytes().all(is_of_names)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(name: &str, given: &[(&str, &[&str])]) -> Result<Map<String, Value>, String> {
        let given = given.iter().map(|(name, values)| (*name, values.to_vec()));
        SessionDocument::find(name).unwrap().parameters(given).map_err(|fault| fault.to_string())
    }

    #[test]
    fn each_document_has_the_parameters_that_it_says() {
        for document in &DOCUMENTS {
            let content = document.content();
            assert_eq!(content["schemaVersion"], "1.0", "{}", document.name);
            let said = content["parameters"].as_object().cloned().unwrap_or_default();
            let mut own: Vec<&str> = document.parameters.iter().map(|own| own.name).collect();
            own.sort_unstable();
            assert_eq!(said.keys().collect::<Vec<_>>(), own, "{}", document.name);
            for own in document.parameters {
                assert_eq!(said[own.name].get("default").is_none(), own.is_required, "{}", own.name);
                if let Some(default) = said[own.name]["default"].as_str() {
                    assert!(own.form.holds(default), "{}: {default}", own.name);
                }
            }
        }
    }

    #[test]
    fn what_a_document_does_not_take_is_refused() {
        let forward = "AWS-StartPortForwardingSession";
        let good = parameters(forward, &[("portNumber", &["80"]), ("localPortNumber", &["0"])]).unwrap();
        assert_eq!(Value::Object(good), serde_json::json!({"portNumber": "80", "localPortNumber": "0"}));
        assert_eq!(parameters(forward, &[]), Ok(Map::new()));
        for (given, said) in [
            (("host", &["x"][..]), "is not defined"),
            (("portNumber", &[]), "takes one value"),
            (("portNumber", &["1", "2"]), "takes one value"),
        ] {
            assert!(parameters(forward, &[given]).unwrap_err().contains(said), "{given:?}");
        }
        for (port, is_good) in [
            ("0", false),
            ("1", true),
            ("65535", true),
            ("65536", false),
            ("+1", false),
            ("", false),
            ("01", false),
            ("1 ", false),
        ] {
            assert_eq!(parameters(forward, &[("portNumber", &[port])]).is_ok(), is_good, "{port}");
        }
        let remote = "AWS-StartPortForwardingSessionToRemoteHost";
        let long = "a".repeat(HOST_MAX);
        let longer = "a".repeat(HOST_MAX + 1);
        for (host, is_good) in [
            ("db.lab.internal", true),
            ("fd00::1", true),
            (long.as_str(), true),
            (longer.as_str(), false),
            ("", false),
            ("a b", false),
            ("$(x)", false),
        ] {
            assert_eq!(parameters(remote, &[("host", &[host])]).is_ok(), is_good, "{host}");
        }
        assert!(parameters("AWS-StartInteractiveCommand", &[]).unwrap_err().contains("\"command\" is required"));
        assert!(SessionDocument::find("AWS-RunShellScript").is_none());
    }
}

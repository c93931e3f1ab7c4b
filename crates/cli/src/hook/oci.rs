//! The hook of OCI runtimes. Source: OCI runtime specification 1.2, `config.md` (hooks) and `runtime.md` (state).

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, bail};
use inborn_host::place::Place;
use serde::Deserialize;

use super::{Key, Where, end, start};
use crate::arguments;
use crate::arguments::hook::Oci;

/// The container's name, in its annotations.
const NAME: &str = "inborn.name";
/// What begins the name of an annotation that is to be a tag.
const TAG: &str = "inborn.tag.";
/// What Kubernetes' runtimes say of containers that share the namespace of their pod: the pod's own is the machine.
const POD_ROLES: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];

/// What a runtime tells its hooks.
#[derive(Deserialize, Debug)]
struct State {
    id: String,
    /// Where its files are: a container id is unique for one runtime and one of its roots only, and two containers of one
    /// key would be one machine.
    bundle: String,
    status: String,
    #[serde(default)]
    pid: Option<u32>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Start { pid: u32 },
    End,
    Nothing,
}

pub(super) async fn run(arguments: &Oci, input: &str) -> anyhow::Result<()> {
    let state: State = serde_json::from_str(input).context("standard input is not the state of an OCI container")?;
    let key = state.key();
    match state.step()? {
        Step::Start { pid } if is_ours(pid) => Ok(()),
        Step::Start { pid } => {
            let machine = state.machine(&arguments.machine);
            let at = Where { place: Place::Process { pid }, mac: None };
            start(&arguments.region, &key, &machine, at).await.map(drop)
        }
        Step::End => end(&Key { region: arguments.region.clone(), key }).await,
        Step::Nothing => Ok(()),
    }
}

/// Whether the container shares the network of its computer: then it is no machine of its own, and runs without an identity.
fn is_ours(pid: u32) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    namespace("self").is_some_and(|own| namespace(&pid.to_string()) == Some(own))
}

impl State {
    fn key(&self) -> String {
        format!("oci/{}@{}", self.id, self.bundle)
    }

    fn step(&self) -> anyhow::Result<Step> {
        let shares_a_pod =
            POD_ROLES.iter().any(|name| self.annotations.get(*name).is_some_and(|role| role == "container"));
        if shares_a_pod {
            return Ok(Step::Nothing);
        }
        match (self.status.as_str(), self.pid) {
            ("creating" | "created" | "running", Some(pid)) if pid > 0 => Ok(Step::Start { pid }),
            ("creating" | "created" | "running", _) => {
                bail!("the state of container {} has no pid: call this hook as createRuntime", self.id)
            }
            ("stopped", _) => Ok(Step::End),
            (status, _) => bail!("the status {status} of container {} is none that OCI knows", self.id),
        }
    }

    /// The machine that this container is, beside what the hook's own flags say.
    fn machine(&self, flags: &arguments::Machine) -> arguments::Machine {
        let mut machine = flags.clone();
        machine.name = self.annotations.get(NAME).or(flags.name.as_ref()).or(Some(&self.id)).cloned();
        let tags = self.annotations.iter().filter_map(|(name, value)| Some((name.strip_prefix(TAG)?, value)));
        // One that is said to be the key is refused, not taken: the region takes no tag twice.
        machine.tags.extend(tags.map(|(key, value)| (key.to_owned(), value.clone())));
        machine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(text: &str) -> anyhow::Result<Step> {
        serde_json::from_str::<State>(text)?.step()
    }

    #[test]
    fn the_steps_of_a_containers_life() {
        let created =
            r#"{"ociVersion":"1.0.2","id":"web","status":"creating","pid":4422,"bundle":"/b","annotations":{}}"#;
        assert_eq!(step(created).unwrap(), Step::Start { pid: 4422 });
        assert_eq!(step(&created.replace("creating", "created")).unwrap(), Step::Start { pid: 4422 });
        // runc leaves the pid away, crun says 0.
        assert_eq!(step(r#"{"id":"web","bundle":"/b","status":"stopped","pid":0}"#).unwrap(), Step::End);
        assert_eq!(step(r#"{"id":"web","bundle":"/b","status":"stopped"}"#).unwrap(), Step::End);
        for (role, expected) in [("container", Step::Nothing), ("sandbox", Step::Start { pid: 7 })] {
            let name = "io.kubernetes.cri.container-type";
            let text =
                format!(r#"{{"id":"x","bundle":"/b","status":"created","pid":7,"annotations":{{"{name}":"{role}"}}}}"#);
            assert_eq!(step(&text).unwrap(), expected);
        }
    }

    #[test]
    fn containers_of_one_id_and_two_runtimes_are_two_machines() {
        let key = |text: &str| serde_json::from_str::<State>(text).unwrap().key();
        let one = r#"{"id":"web","bundle":"/run/one/web","status":"stopped"}"#;
        assert_eq!(key(one), "oci/web@/run/one/web");
        assert_ne!(key(one), key(&one.replace("one", "two")));
    }

    #[test]
    fn what_is_no_state() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"id":"x","status":"created","pid":1}"#,
            r#"{"id":"x","bundle":"/b","status":"created"}"#,
            r#"{"id":"x","bundle":"/b","status":"created","pid":0}"#,
            r#"{"id":"x","bundle":"/b","status":"paused","pid":1}"#,
            r#"{"id":"x","bundle":"/b","status":"created","pid":-1}"#,
        ] {
            assert!(step(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_container_in_our_own_network_is_no_machine() {
        assert!(is_ours(std::process::id()));
        assert!(!is_ours(u32::MAX));
    }
}

//! What hypervisors and container runtimes call.

use clap::{Args, Subcommand};

use super::{Machine, Place, Region};

const HOOK_HELP: &str = "\
A machine that a hook starts has a key that only its hypervisor gives, as in `libvirt/UUID`, in its tag inborn:origin. The \
hooks find it again by that, so each may be called any number of times.

Ready-made callers are in contrib/; docs/attachments.md says how to install them.";

#[derive(Debug, Args)]
#[command(after_help = HOOK_HELP)]
pub(crate) struct Hook {
    #[command(subcommand)]
    pub(crate) event: Event,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// A machine has started: launch it or start it again, attach it, and print its id
    Start(Start),
    /// A machine has stopped, and may start again: detach and stop it
    Stop(Key),
    /// A machine is gone: terminate it
    End(Key),
    /// A hook of OCI runtimes (runc, crun, Podman): reads the container's state from standard input
    Oci(Oci),
    /// The hook of libvirt's QEMU driver: reads the domain's XML from standard input
    Libvirt(Libvirt),
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    #[command(flatten)]
    pub(crate) region: Region,
    /// What only this machine has, as in firecracker/7c0f
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) key: Key,
    #[command(flatten)]
    pub(crate) machine: Machine,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Oci {
    #[command(flatten)]
    pub(crate) region: Region,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

#[derive(Debug, Args)]
pub(crate) struct Libvirt {
    #[command(flatten)]
    pub(crate) region: Region,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// The domain's name
    pub(crate) domain: String,
    /// What happens, as in started
    pub(crate) operation: String,
    /// The step of it, as in begin
    pub(crate) step: String,
    /// What libvirt says besides
    pub(crate) extra: Option<String>,
}

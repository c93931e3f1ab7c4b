//! Why a machine cannot be attached to a place.

use std::io;

use super::Place;

/// Why a place cannot be used. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is nothing of that name.
    #[error("there is no {place}: make it first")]
    Absent {
        /// Where.
        place: Place,
    },
    /// Another machine is there.
    #[error("{place} is the place of machine {holder}: detach that one first")]
    Taken {
        /// Where.
        place: Place,
        /// Whose it is.
        holder: inborn_identity::InstanceId,
    },
    /// The file is no network namespace.
    #[error("{place} is not a network namespace: name a file as in /run/netns")]
    NotANamespace {
        /// Which.
        place: Place,
    },
    /// A namespace that everybody here is in.
    #[error("{place} is this computer's own: every process here could ask in the machine's name")]
    Own {
        /// Which.
        place: Place,
    },
    /// What arrives there is somebody else's.
    #[error("{place} cannot be the place of a machine: {reason}")]
    Unfit {
        /// Which.
        place: Place,
        /// Why, and what to do.
        reason: String,
    },
    /// The process may not do it.
    #[error("{what}: not permitted: `inborn up` needs {needs}; run it as root, or give its service these capabilities")]
    Denied {
        /// What it tried.
        what: String,
        /// The capabilities it needs.
        needs: &'static str,
    },
    /// Something listens there.
    #[error("something else listens at port {} of the metadata address at {place}: stop it first", super::PORT)]
    InUse {
        /// Where.
        place: Place,
    },
    /// The kernel says no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The kernel's word.
        source: io::Error,
    },
}

/// What entering a namespace and setting up its loopback takes.
pub(super) const NEEDS_NAMESPACE: &str =
    "CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_BIND_SERVICE (and CAP_SYS_PTRACE for the processes of others)";
/// What binding to an interface and setting it up takes.
pub(super) const NEEDS_INTERFACE: &str = "CAP_NET_ADMIN and CAP_NET_BIND_SERVICE";
/// What a low port of vsock takes.
pub(super) const NEEDS_VSOCK: &str = "CAP_NET_BIND_SERVICE";

impl PlaceError {
    /// Tells a lack of permission from everything else.
    pub(super) fn of(what: impl Into<String>, needs: &'static str, source: io::Error) -> Self {
        let what = what.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { what, needs },
            _ => Self::Io { what, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_permission_names_the_capabilities() {
        let error = |errno: rustix::io::Errno| {
            PlaceError::of("cannot enter x", NEEDS_VSOCK, io::Error::from(errno)).to_string()
        };
        for errno in [rustix::io::Errno::PERM, rustix::io::Errno::ACCESS] {
            assert_eq!(
                error(errno),
                "cannot enter x: not permitted: `inborn up` needs CAP_NET_BIND_SERVICE; run it as root, or give its \
                 service these capabilities"
            );
        }
        assert_eq!(error(rustix::io::Errno::NODEV), "cannot enter x: No such device (os error 19)");
    }
}

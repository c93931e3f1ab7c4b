//! What an event told from outside lacks and /proc still knows: names of users, parents, the sockets behind descriptors.

use std::collections::HashMap;

use super::event::{Event, Process, What};
use super::proc::{Proc, read};
use super::sockets::{State, TABLE_BYTES_MAX, TABLES, inode_of, parse};
use super::source::since_boot_ms;

/// Looks things up, or does not where the events are of another time or computer.
#[derive(Debug)]
pub(crate) struct Enrich(Option<Proc>);

impl Enrich {
    pub(crate) fn by(proc: Proc) -> Self {
        Self(Some(proc))
    }

    /// Adds to `event` what is known. False if the event is of this sensor itself, which tells nothing of itself.
    pub(crate) fn complete(&mut self, event: &mut Event) -> bool {
        let Some(proc) = &self.0 else { return true };
        let boot_ms = event.time_ms.saturating_sub(since_boot_ms());
        let Some(actor) = actor_of(&mut event.what) else { return true };
        if actor.pid == std::process::id() {
            return false;
        }
        complete_process(proc, actor, boot_ms);
        if let What::Launched { process, environment, .. } = &mut event.what {
            *environment = proc.environment(process.pid);
        }
        if let What::Duplicated { actor, new_fd, local, remote, .. } = &mut event.what
            && remote.is_none()
            && let Some((here, there)) = ends(proc, actor.pid, *new_fd)
        {
            (*local, *remote) = (Some(here), Some(there));
        }
        true
    }
}

/// Who did it.
fn actor_of(what: &mut What) -> Option<&mut Process> {
    match what {
        What::Launched { process, .. } | What::Ended { process, .. } | What::UserSet { process, .. } => Some(process),
        What::Accessed { actor, .. }
        | What::Mounted { actor, .. }
        | What::Duplicated { actor, .. }
        | What::Invoked { actor, .. }
        | What::MadeExecutable { actor, .. } => Some(actor),
        What::Opened { actor, .. }
        | What::Changed { actor, .. }
        | What::ModuleLoaded { actor, .. }
        | What::Connected { actor, .. }
        | What::Listening { actor, .. }
        | What::LookedUp { actor, .. }
        | What::Alerted { actor, .. } => actor.as_mut(),
    }
}

fn complete_process(proc: &Proc, process: &mut Process, boot_ms: i64) {
    if let Some(user) = &mut process.user
        && user.name.is_none()
    {
        *user = proc.user(user.id);
    }
    let Some(stat) = proc.stat(process.pid) else { return };
    let found = proc.process(process.pid, &stat, boot_ms).process;
    // The number may be another's by now: what was told of the program must be so still.
    if process.path.is_some() && found.path.is_some() && process.path != found.path {
        return;
    }
    process.uid = process.uid.take().or(found.uid);
    process.created_ms = process.created_ms.or(found.created_ms);
    process.name = process.name.take().or(found.name);
    process.path = process.path.take().or(found.path);
    process.command_line = process.command_line.take().or(found.command_line);
    let is_parents = match (&process.parent, &found.parent) {
        (Some(told), Some(found)) => told.pid == found.pid && told.command_line.is_none(),
        (told, _) => told.is_none(),
    };
    if is_parents {
        process.parent = found.parent;
    }
}

fn ends(proc: &Proc, pid: u32, fd: u32) -> Option<(super::event::Endpoint, super::event::Endpoint)> {
    let inode = inode_of(&proc.link(pid, &format!("fd/{fd}"))?)?;
    let mut sockets = HashMap::new();
    for (table, protocol) in TABLES {
        if let Some(bytes) = read(&proc.path(pid, table), TABLE_BYTES_MAX) {
            parse(&bytes, protocol, &mut sockets);
        }
    }
    let socket = sockets.get(&inode).filter(|socket| socket.state == State::Connected)?;
    Some((socket.local, socket.remote))
}

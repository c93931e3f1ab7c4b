//! An event as one OCSF 1.3 object. The shapes are promised in docs/telemetry.md.

use serde_json::{Map, Value, json};

use super::event::{Change, Direction, Endpoint, Event, Process, Protocol, User, What};
use super::text::base_name;

/// The version of OCSF: the newest that Security Lake takes.
const VERSION: &str = "1.3.0";
/// `O_ACCMODE` of open(2), the same on every architecture.
const ACCESS_MODE: u32 = 0o3;
/// `type_id` of a file: regular, and of a system call as what the kernel was asked for.
const REGULAR_FILE: u8 = 1;
const SYSTEM_CALL: u8 = 2;

/// What all events of one sensor have in common.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// Of this run of the sensor: no other has the same.
    pub(crate) run: String,
    pub(crate) hostname: Option<String>,
}

/// Writes the `number`th event of a run.
pub(crate) fn render(event: &Event, stamp: &Stamp, number: u64) -> String {
    let (class, activity, mut members) = shape(&event.what);
    let severity = match &event.what {
        What::Alerted { severity, .. } => *severity,
        _ => 1,
    };
    let mut device = json!({ "type_id": 0 });
    put(&mut device, "hostname", stamp.hostname.clone());
    let common = json!({
        "class_uid": class,
        "category_uid": class / 1000,
        "activity_id": activity,
        "type_uid": class * 100 + activity,
        "severity_id": severity,
        "time": event.time_ms,
        "metadata": {
            "version": VERSION,
            "uid": format!("{}-{number}", stamp.run),
            "log_provider": event.provider.name(),
            "product": { "name": "inborn sensor", "vendor_name": "Inborn", "version": env!("CARGO_PKG_VERSION") },
        },
        "device": device,
    });
    if let Value::Object(common) = common {
        members.extend(common);
    }
    Value::Object(members).to_string()
}

/// Class, activity, and what is of this class alone.
fn shape(what: &What) -> (u32, u32, Map<String, Value>) {
    let (class, activity, value) = match what {
        What::Launched { .. } | What::Ended { .. } | What::Accessed { .. } | What::UserSet { .. } => of_process(what),
        What::Opened { .. } | What::Changed { .. } | What::Mounted { .. } => of_file(what),
        What::ModuleLoaded { actor, name, path } => {
            let mut file = json!({ "name": name, "type_id": REGULAR_FILE });
            put(&mut file, "path", path.clone());
            (1002, 1, with_actor(json!({ "driver": { "file": file } }), actor.as_ref()))
        }
        What::Duplicated { .. } | What::Invoked { .. } | What::MadeExecutable { .. } => of_kernel(what),
        What::Connected { .. } | What::Listening { .. } | What::LookedUp { .. } => of_network(what),
        What::Alerted { rule, text, tags, actor, .. } => {
            // What makes two alerts the same finding: the rule and the machine, which the region knows.
            let info = json!({ "uid": rule, "title": rule, "desc": text, "types": tags });
            let evidences = actor
                .as_ref()
                .map(|actor| json!([{ "process": process(actor), "actor": { "process": process(actor) } }]));
            let mut members = json!({ "finding_info": info, "status_id": 1 });
            put(&mut members, "evidences", evidences);
            (2004, 1, members)
        }
    };
    match value {
        Value::Object(members) => (class, activity, members),
        _ => (class, activity, Map::new()),
    }
}

fn of_process(what: &What) -> (u32, u32, Value) {
    match what {
        What::Launched { process: launched, exe_deleted, environment } => {
            let mut members = json!({ "process": process(launched), "actor": parent_as_actor(launched) });
            let mut unmapped = json!({});
            put(&mut unmapped, "exe_deleted", exe_deleted.then_some(true));
            // `process.working_directory` is younger than the version that is promised.
            put(&mut unmapped, "working_directory", launched.directory.clone());
            let variables: Map<String, Value> =
                environment.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
            put(&mut unmapped, "env", (!variables.is_empty()).then_some(variables));
            put_unmapped(&mut members, unmapped);
            (1007, 1, members)
        }
        What::Ended { process: ended, exit_code } => {
            let mut members = json!({ "process": process(ended), "actor": parent_as_actor(ended) });
            put(&mut members, "exit_code", *exit_code);
            (1007, 2, members)
        }
        What::Accessed { actor, target, syscall, request, writes } => {
            let mut unmapped = json!({ "syscall": syscall });
            put(&mut unmapped, "ptrace", request.as_ref().map(|request| json!({ "request": request })));
            let mut members =
                json!({ "process": process(target), "actor": { "process": process(actor) }, "unmapped": unmapped });
            if *writes {
                let how = request.as_deref().unwrap_or(syscall);
                put(&mut members, "injection_type_id", Some(99));
                put(&mut members, "injection_type", Some(how));
            }
            (1007, if *writes { 4 } else { 3 }, members)
        }
        What::UserSet { process: changed, previous_uid, previous_euid, uid, euid } => {
            let mut set = json!({ "uid": uid, "euid": euid });
            put(&mut set, "previous_uid", *previous_uid);
            put(&mut set, "previous_euid", *previous_euid);
            let members = json!({
                "process": process(changed),
                "actor": { "process": process(changed) },
                "unmapped": { "setuid": set },
            });
            (1007, 5, members)
        }
        _ => (1007, 0, json!({})),
    }
}

fn of_file(what: &What) -> (u32, u32, Value) {
    match what {
        What::Opened { actor, path, flags } => {
            let opened = json!({ "flags": flag_names(*flags), "write": flags & ACCESS_MODE != 0 });
            let members = json!({ "file": file(path), "access_mask": flags, "unmapped": { "open": opened } });
            (1001, 14, with_actor(members, actor.as_ref()))
        }
        What::Changed { actor, path, change } => {
            let mut members = json!({ "file": file(path) });
            let activity = match change {
                Change::Created => 1,
                Change::Modified => 3,
                Change::Deleted => 4,
                Change::RenamedTo(new) => {
                    put(&mut members, "file_result", Some(file(new)));
                    5
                }
                Change::Mode(mode) => {
                    put(&mut members, "unmapped", Some(json!({ "chmod": { "mode": mode } })));
                    7
                }
                Change::Linked { symbolic, target } => {
                    let kind = if *symbolic { "symbolic" } else { "hard" };
                    put(&mut members, "unmapped", Some(json!({ "link": { "kind": kind, "target": target } })));
                    1
                }
            };
            (1001, activity, with_actor(members, actor.as_ref()))
        }
        What::Mounted { actor, target, source, kind, flags } => {
            let mut mount = json!({});
            put(&mut mount, "source", source.clone());
            put(&mut mount, "type", kind.clone());
            put(&mut mount, "flags", *flags);
            let members = json!({ "file": file(target), "unmapped": { "mount": mount } });
            (1001, 12, with_actor(members, Some(actor)))
        }
        _ => (1001, 0, json!({})),
    }
}

fn of_kernel(what: &What) -> (u32, u32, Value) {
    let kernel = |name: &str, call: &str| json!({ "name": name, "type_id": SYSTEM_CALL, "system_call": call });
    match what {
        What::Duplicated { actor, old_fd, new_fd, fds, local, remote, syscall } => {
            let mut dup = json!({ "new_fd": new_fd });
            put(&mut dup, "old_fd", *old_fd);
            put(&mut dup, "fds", (!fds.is_empty()).then_some(fds.clone()));
            put(&mut dup, "src_endpoint", local.map(endpoint));
            put(&mut dup, "dst_endpoint", remote.map(endpoint));
            let members = json!({ "kernel": kernel("dup", syscall), "unmapped": { "dup": dup } });
            (1003, 4, with_actor(members, Some(actor)))
        }
        What::Invoked { actor, syscall } => {
            (1003, 4, with_actor(json!({ "kernel": kernel(syscall, syscall) }), Some(actor)))
        }
        What::MadeExecutable { actor, flags } => {
            let members = json!({ "process": process(actor), "unmapped": { "mprotect": { "flags": flags } } });
            (1004, 2, with_actor(members, Some(actor)))
        }
        _ => (1003, 0, json!({})),
    }
}

fn of_network(what: &What) -> (u32, u32, Value) {
    match what {
        What::Connected { actor, protocol, local, remote, direction, failed, unix_path } => {
            let direction = match direction {
                Direction::Inbound => 1,
                Direction::Outbound => 2,
            };
            // Who began is the source: of a connection that came in, that is the other side.
            let (source, destination) = if direction == 1 { (remote, local) } else { (local, remote) };
            let mut members = json!({ "connection_info": connection(*protocol, direction) });
            put(&mut members, "src_endpoint", source.map(endpoint));
            put(&mut members, "dst_endpoint", destination.map(endpoint));
            put(&mut members, "unmapped", unix_path.as_ref().map(|path| json!({ "socket": { "path": path } })));
            (4001, if *failed { 4 } else { 1 }, with_actor(members, actor.as_ref()))
        }
        What::Listening { actor, protocol, local } => {
            let mut members = json!({ "connection_info": connection(*protocol, 1) });
            put(&mut members, "src_endpoint", local.map(endpoint));
            (4001, 7, with_actor(members, actor.as_ref()))
        }
        What::LookedUp { actor, name, kind, answers, is_answer } => {
            let mut query = json!({ "hostname": name });
            put(&mut query, "type", kind.clone());
            let mut members = json!({ "query": query });
            let records: Vec<Value> = answers.iter().map(|data| json!({ "rdata": data })).collect();
            put(&mut members, "answers", (!records.is_empty()).then_some(records));
            (4003, if *is_answer { 2 } else { 1 }, with_actor(members, actor.as_ref()))
        }
        _ => (4001, 0, json!({})),
    }
}

fn connection(protocol: Protocol, direction: u8) -> Value {
    let mut info = json!({ "direction_id": direction });
    let known = match protocol {
        Protocol::Tcp => Some((6, "tcp")),
        Protocol::Udp => Some((17, "udp")),
        Protocol::Unknown => None,
    };
    put(&mut info, "protocol_num", known.map(|(number, _)| number));
    put(&mut info, "protocol_name", known.map(|(_, name)| name));
    info
}

fn endpoint(of: Endpoint) -> Value {
    json!({ "ip": of.ip.to_string(), "port": of.port })
}

fn file(path: &str) -> Value {
    json!({ "path": path, "name": base_name(path), "type_id": REGULAR_FILE })
}

/// The parent has started it; where it is not known, all that can be said is that somebody did.
fn parent_as_actor(launched: &Process) -> Value {
    match &launched.parent {
        Some(parent) => json!({ "process": process(parent) }),
        None => json!({}),
    }
}

fn with_actor(mut members: Value, actor: Option<&Process>) -> Value {
    put(&mut members, "actor", actor.map(|actor| json!({ "process": process(actor) })));
    members
}

fn process(of: &Process) -> Value {
    let mut value = json!({ "pid": of.pid });
    put(&mut value, "uid", of.uid.clone());
    put(&mut value, "name", of.name.clone());
    put(&mut value, "cmd_line", of.command_line.clone());
    put(&mut value, "file", of.path.as_deref().map(file));
    put(&mut value, "created_time", of.created_ms);
    put(&mut value, "user", of.user.as_ref().map(user));
    put(&mut value, "parent_process", of.parent.as_deref().map(process));
    value
}

fn user(of: &User) -> Value {
    let mut value = json!({ "uid": of.id.to_string() });
    put(&mut value, "name", of.name.clone());
    value
}

fn put(into: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Value::Object(members), Some(value)) = (into, value) {
        members.insert(name.to_owned(), value.into());
    }
}

fn put_unmapped(into: &mut Value, unmapped: Value) {
    let has_any = unmapped.as_object().is_some_and(|members| !members.is_empty());
    put(into, "unmapped", has_any.then_some(unmapped));
}

/// The names of what open(2) was asked for. The numbers are those of x86-64; on aarch64 four differ, which are left out.
fn flag_names(flags: u32) -> Vec<&'static str> {
    let mode = match flags & ACCESS_MODE {
        0 => "O_RDONLY",
        1 => "O_WRONLY",
        _ => "O_RDWR",
    };
    let named =
        [(0o100, "O_CREAT"), (0o200, "O_EXCL"), (0o1000, "O_TRUNC"), (0o2000, "O_APPEND"), (0o2_000_000, "O_CLOEXEC")];
    std::iter::once(mode).chain(named.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| name)).collect()
}

#[cfg(test)]
mod tests;

use super::*;
use crate::sensor::event::Provider;

fn stamp() -> Stamp {
    Stamp { run: "run".into(), hostname: Some("web".into()) }
}

fn bash() -> Process {
    Process {
        pid: 4711,
        uid: Some("b-4711-1".into()),
        name: Some("bash".into()),
        command_line: Some("bash -i".into()),
        path: Some("/usr/bin/bash".into()),
        created_ms: Some(5),
        directory: Some("/tmp".into()),
        user: Some(User { id: 1000, name: Some("anna".into()) }),
        parent: Some(Box::new(Process { pid: 1, name: Some("init".into()), ..Process::default() })),
    }
}

fn at(port: u16) -> Option<Endpoint> {
    Some(Endpoint { ip: "127.0.0.1".parse().unwrap(), port })
}

fn written(what: What) -> Value {
    let event = Event { time_ms: 1_764_192_000_123, provider: Provider::Proc, what };
    serde_json::from_str(&render(&event, &stamp(), 7)).unwrap()
}

#[test]
fn a_launch_in_full() {
    let environment = vec![("LD_PRELOAD".to_owned(), "/x.so".to_owned())];
    let event = written(What::Launched { process: bash(), exe_deleted: true, environment });
    let file = json!({ "path": "/usr/bin/bash", "name": "bash", "type_id": 1 });
    assert_eq!(
        event,
        json!({
            "class_uid": 1007, "category_uid": 1, "activity_id": 1, "type_uid": 100_701, "severity_id": 1,
            "time": 1_764_192_000_123_i64,
            "metadata": {
                "version": "1.3.0", "uid": "run-7", "log_provider": "proc",
                "product": { "name": "inborn sensor", "vendor_name": "Inborn", "version": env!("CARGO_PKG_VERSION") },
            },
            "device": { "type_id": 0, "hostname": "web" },
            "process": {
                "pid": 4711, "uid": "b-4711-1", "name": "bash", "cmd_line": "bash -i", "created_time": 5, "file": file,
                "user": { "uid": "1000", "name": "anna" }, "parent_process": { "pid": 1, "name": "init" },
            },
            "actor": { "process": { "pid": 1, "name": "init" } },
            "unmapped": { "exe_deleted": true, "working_directory": "/tmp", "env": { "LD_PRELOAD": "/x.so" } },
        })
    );
}

#[test]
fn a_reverse_shell() {
    let event = written(What::Duplicated {
        actor: bash(),
        old_fd: None,
        new_fd: 0,
        fds: vec![0, 1, 2],
        local: at(51234),
        remote: at(4444),
        syscall: "dup2".into(),
    });
    assert_eq!(
        (&event["class_uid"], &event["activity_id"], &event["type_uid"]),
        (&json!(1003), &json!(4), &json!(100_304))
    );
    assert_eq!(event["kernel"], json!({ "name": "dup", "type_id": 2, "system_call": "dup2" }));
    assert_eq!(event["actor"]["process"]["name"], "bash");
    let expected = json!({
        "new_fd": 0, "fds": [0, 1, 2], "dst_endpoint": { "ip": "127.0.0.1", "port": 4444 },
        "src_endpoint": { "ip": "127.0.0.1", "port": 51234 },
    });
    assert_eq!(event["unmapped"]["dup"], expected);
}

#[test]
fn every_kind_has_its_class_and_activity() {
    let actor = || Some(bash());
    let target = Process { pid: 9, ..Process::default() };
    let accessed = |writes| What::Accessed {
        actor: bash(),
        target: target.clone(),
        syscall: "ptrace".into(),
        request: None,
        writes,
    };
    let changed = |change| What::Changed { actor: actor(), path: "/etc/passwd".into(), change };
    let connected = |direction, failed| What::Connected {
        actor: actor(),
        protocol: Protocol::Tcp,
        local: at(1),
        remote: at(2),
        direction,
        failed,
        unix_path: None,
    };
    let looked_up = |is_answer| What::LookedUp {
        actor: None,
        name: "a.b".into(),
        kind: None,
        answers: vec!["1.2.3.4".into()],
        is_answer,
    };
    for (what, class, activity) in [
        (What::Ended { process: bash(), exit_code: Some(1) }, 1007, 2),
        (accessed(false), 1007, 3),
        (accessed(true), 1007, 4),
        (What::UserSet { process: bash(), previous_uid: Some(1), previous_euid: None, uid: 0, euid: 0 }, 1007, 5),
        (What::Opened { actor: actor(), path: "/x".into(), flags: 0o1101 }, 1001, 14),
        (changed(Change::Created), 1001, 1),
        (changed(Change::Modified), 1001, 3),
        (changed(Change::Deleted), 1001, 4),
        (changed(Change::RenamedTo("/y".into())), 1001, 5),
        (changed(Change::Mode("4755".into())), 1001, 7),
        (changed(Change::Linked { symbolic: true, target: "/y".into() }), 1001, 1),
        (What::Mounted { actor: bash(), target: "/m".into(), source: None, kind: None, flags: Some(4096) }, 1001, 12),
        (What::ModuleLoaded { actor: None, name: "m".into(), path: None }, 1002, 1),
        (What::Invoked { actor: bash(), syscall: "bpf".into() }, 1003, 4),
        (What::MadeExecutable { actor: bash(), flags: 5 }, 1004, 2),
        (connected(Direction::Outbound, false), 4001, 1),
        (connected(Direction::Inbound, true), 4001, 4),
        (What::Listening { actor: actor(), protocol: Protocol::Unknown, local: at(1) }, 4001, 7),
        (looked_up(false), 4003, 1),
        (looked_up(true), 4003, 2),
        (What::Alerted { rule: "r".into(), text: "t".into(), severity: 4, tags: vec![], actor: actor() }, 2004, 1),
    ] {
        let event = written(what);
        assert_eq!(
            (event["class_uid"].as_u64(), event["activity_id"].as_u64()),
            (Some(class), Some(activity)),
            "{event}"
        );
        assert_eq!(
            (event["category_uid"].as_u64(), event["type_uid"].as_u64()),
            (Some(class / 1000), Some(class * 100 + activity))
        );
        for member in ["severity_id", "time", "metadata", "device"] {
            assert!(!event[member].is_null(), "{event}");
        }
    }
}

#[test]
fn who_began_a_connection_is_its_source() {
    let of = |direction| {
        let event = written(What::Connected {
            actor: None,
            protocol: Protocol::Tcp,
            local: at(1),
            remote: at(2),
            direction,
            failed: false,
            unix_path: None,
        });
        (
            event["src_endpoint"]["port"].as_u64(),
            event["dst_endpoint"]["port"].as_u64(),
            event["connection_info"]["direction_id"].as_u64(),
        )
    };
    assert_eq!(of(Direction::Outbound), (Some(1), Some(2), Some(2)));
    assert_eq!(of(Direction::Inbound), (Some(2), Some(1), Some(1)));
}

#[test]
fn flags_of_open() {
    assert_eq!(flag_names(0), ["O_RDONLY"]);
    assert_eq!(flag_names(0o2_001_101), ["O_WRONLY", "O_CREAT", "O_TRUNC", "O_CLOEXEC"]);
    let event = written(What::Opened { actor: None, path: "/etc/passwd".into(), flags: 0o2 });
    assert_eq!(event["unmapped"]["open"], json!({ "flags": ["O_RDWR"], "write": true }));
}

use super::*;
use serde_json::{Value, json};

fn converted(log: &str) -> Vec<Value> {
    let mut out = Vec::new();
    convert(log.as_bytes(), &mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A SYSCALL record with what all have.
fn syscall(number: u32, rest: &str) -> String {
    format!(
        "type=SYSCALL msg=audit(1764192000.123:7): arch=c000003e syscall={number} {rest} ppid=100 pid=200 auid=1000 uid=1000 gid=1000 \
         euid=0 suid=0 tty=pts0 ses=3 comm=\"bash\" exe=\"/usr/bin/bash\" key=\"k\"\n"
    )
}

fn one(log: &str) -> Value {
    let events = converted(log);
    assert_eq!(events.len(), 1, "{events:?}");
    events[0].clone()
}

#[test]
fn a_program_is_started() {
    let log = syscall(59, "success=yes exit=0 a0=1 a1=2 a2=3 a3=4 items=2")
        + "type=EXECVE msg=audit(1764192000.123:7): argc=3 a0=\"bash\" a1=\"-c\" a2=6563686F2022612062220A\n"
        + "type=CWD msg=audit(1764192000.123:7): cwd=\"/tmp\"\n"
        + "type=PATH msg=audit(1764192000.123:7): item=0 name=\"/usr/bin/bash\" nametype=NORMAL\n"
        + "type=PROCTITLE msg=audit(1764192000.123:7): proctitle=62617368\n"
        + "type=EOE msg=audit(1764192000.123:7): \n";
    let event = one(&log);
    assert_eq!((&event["class_uid"], &event["time"]), (&json!(1007), &json!(1_764_192_000_123_i64)));
    assert_eq!(event["process"]["cmd_line"], "bash -c echo \"a b\"\n");
    assert_eq!(event["process"]["user"]["uid"], "0");
    assert_eq!(event["actor"]["process"]["pid"], 100);
    assert_eq!(event["unmapped"]["working_directory"], "/tmp");
}

#[test]
fn long_arguments_come_in_pieces() {
    let log = syscall(59, "success=yes exit=0")
        + "type=EXECVE msg=audit(1764192000.123:7): argc=2 a0=\"echo\" a1_len=8 a1[0]=6162\n"
        + "type=EXECVE msg=audit(1764192000.123:7): a1[1]=6364 a2=\"x\"\n";
    assert_eq!(one(&log)["process"]["cmd_line"], "echo abcd x");
}

#[test]
fn a_program_that_has_no_file() {
    let log = syscall(322, "success=yes exit=0").replace("\"/usr/bin/bash\"", "\"/memfd:x (deleted)\"");
    let event = one(&log);
    assert_eq!(
        (&event["process"]["file"]["path"], &event["unmapped"]["exe_deleted"]),
        (&json!("/memfd:x"), &json!(true))
    );
}

#[test]
fn what_was_refused_did_not_happen() {
    assert_eq!(converted(&syscall(59, "success=no exit=-13")), Vec::<Value>::new());
    assert_eq!(converted(&syscall(101, "success=no exit=-1 a0=10 a1=5")), Vec::<Value>::new());
}

#[test]
fn ptrace_in_its_forms() {
    let of = |a0: &str| one(&(syscall(101, &format!("success=yes exit=0 a0={a0} a1=c8 a2=0 a3=0"))));
    let attach = of("10");
    assert_eq!(
        (&attach["activity_id"], &attach["unmapped"]["ptrace"]["request"]),
        (&json!(3), &json!("PTRACE_ATTACH"))
    );
    assert_eq!((&attach["process"]["pid"], &attach["actor"]["process"]["pid"]), (&json!(200), &json!(200)), "0xc8");
    let poke = of("4");
    assert_eq!((&poke["activity_id"], &poke["injection_type"]), (&json!(4), &json!("PTRACE_POKETEXT")));
    let me = of("0");
    assert_eq!((&me["unmapped"]["ptrace"]["request"], &me["process"]["pid"]), (&json!("PTRACE_TRACEME"), &json!(200)));
}

#[test]
fn memory_of_another_is_written() {
    let log = syscall(311, "success=yes exit=8 a0=12c a1=0 a2=0 a3=0")
        + "type=OBJ_PID msg=audit(1764192000.123:7): opid=300 oauid=0 ocomm=\"sshd\"\n";
    let event = one(&log);
    assert_eq!(
        (&event["activity_id"], &event["process"]["pid"], &event["process"]["name"]),
        (&json!(4), &json!(300), &json!("sshd"))
    );
}

#[test]
#[cfg(target_endian = "little")]
fn sockets() {
    let with = |number, rest: &str, saddr: &str| {
        converted(&(syscall(number, rest) + &format!("type=SOCKADDR msg=audit(1764192000.123:7): saddr={saddr}\n")))
    };
    let inet = "0200115C7F0000010000000000000000";
    let connects = &with(42, "success=no exit=-115", inet)[0];
    assert_eq!((&connects["activity_id"], &connects["dst_endpoint"]["port"]), (&json!(1), &json!(4444)));
    assert_eq!(with(42, "success=no exit=-111", inet)[0]["activity_id"], 4);
    let unix = &with(42, "success=yes exit=0", "01002F72756E2F646F636B65722E736F636B00")[0];
    assert_eq!(unix["unmapped"]["socket"]["path"], "/run/docker.sock");
    assert_eq!(with(49, "success=yes exit=0", inet)[0]["activity_id"], 7);
    assert_eq!(with(288, "success=yes exit=5", inet)[0]["connection_info"]["direction_id"], 1);
}

#[test]
fn standard_streams() {
    let event = one(&syscall(33, "success=yes exit=0 a0=5 a1=0"));
    assert_eq!((&event["class_uid"], &event["unmapped"]["dup"]), (&json!(1003), &json!({ "old_fd": 5, "new_fd": 0 })));
    assert_eq!(converted(&syscall(33, "success=yes exit=7 a0=5 a1=7")), Vec::<Value>::new(), "no standard stream");
}

#[test]
fn files() {
    let with = |number, rest: &str, paths: &[(&str, &str)]| {
        let mut log = syscall(number, rest) + "type=CWD msg=audit(1764192000.123:7): cwd=\"/etc\"\n";
        for (item, (name, kind)) in paths.iter().enumerate() {
            log += &format!(
                "type=PATH msg=audit(1764192000.123:7): item={item} name=\"{name}\" inode=1 nametype={kind}\n"
            );
        }
        let event = one(&log);
        (event["activity_id"].as_u64().unwrap(), event["file"]["path"].as_str().unwrap().to_owned(), event)
    };
    let yes = "success=yes exit=3 a0=ffffff9c a1=1 a2=241 a3=1b6";
    let (activity, path, event) = with(257, yes, &[("passwd", "NORMAL")]);
    assert_eq!((activity, path.as_str(), &event["unmapped"]["open"]["write"]), (14, "/etc/passwd", &json!(true)));
    assert_eq!(with(257, yes, &[("/etc", "PARENT"), ("./new", "CREATE")]).1, "/etc/new");
    assert_eq!(with(87, yes, &[("/etc", "PARENT"), ("/etc/x", "DELETE")]).0, 4);
    let (activity, path, event) =
        with(316, yes, &[("/etc/a", "PARENT"), ("/etc/a", "PARENT"), ("/etc/a", "DELETE"), ("/etc/b", "CREATE")]);
    assert_eq!((activity, path.as_str(), &event["file_result"]["path"]), (5, "/etc/a", &json!("/etc/b")));
    let (activity, _, event) = with(90, "success=yes exit=0 a0=1 a1=9ed", &[("/tmp/x", "NORMAL")]);
    assert_eq!((activity, &event["unmapped"]["chmod"]["mode"]), (7, &json!("4755")));
    let (activity, path, event) = with(165, "success=yes exit=0 a3=1000", &[("/mnt", "NORMAL"), ("/", "NORMAL")]);
    assert_eq!(
        (activity, path.as_str(), &event["unmapped"]["mount"]),
        (12, "/mnt", &json!({ "source": "/", "flags": 4096 }))
    );
    assert_eq!(
        with(88, yes, &[("/etc/shadow", "UNKNOWN"), ("/tmp/l", "CREATE")]).2["unmapped"]["link"],
        json!({ "kind": "symbolic", "target": "/etc/shadow" })
    );
}

#[test]
fn modules_users_and_other_calls() {
    let log =
        syscall(313, "success=yes exit=0 a0=3") + "type=KERN_MODULE msg=audit(1764192000.123:7): name=\"rootkit\"\n";
    assert_eq!(one(&log)["driver"]["file"]["name"], "rootkit");
    let event = one(&syscall(105, "success=yes exit=0 a0=0"));
    assert_eq!((&event["activity_id"], &event["unmapped"]["setuid"]), (&json!(5), &json!({ "uid": 1000, "euid": 0 })));
    assert_eq!(one(&syscall(319, "success=yes exit=4"))["kernel"]["name"], "memfd_create");
    assert_eq!(one(&syscall(10, "success=yes exit=0 a2=7"))["class_uid"], 1004);
    assert_eq!(converted(&syscall(10, "success=yes exit=0 a2=3")), Vec::<Value>::new(), "not executable");
    assert_eq!(
        converted(&syscall(59, "success=yes exit=0").replace("c000003e", "40000003")),
        Vec::<Value>::new(),
        "another architecture's number"
    );
}

#[test]
fn events_that_come_between_each_other_are_told_apart() {
    let record =
        |serial: u32, text: &str| format!("type=EXECVE msg=audit(1764192000.123:{serial}): argc=1 a0=\"{text}\"\n");
    let start = |serial: u32| syscall(59, "success=yes exit=0").replace(":7)", &format!(":{serial})"));
    let log = start(1) + &start(2) + &record(2, "two") + &record(1, "one");
    let lines: Vec<_> =
        converted(&log).iter().map(|event| event["process"]["cmd_line"].as_str().unwrap().to_owned()).collect();
    assert_eq!(lines, ["one", "two"]);
}

#[test]
fn groups_below_at_and_above_the_limit() {
    for count in [join::GROUPS_MAX - 1, join::GROUPS_MAX, join::GROUPS_MAX + 1] {
        let mut joiner = Joiner::default();
        let mut done = 0;
        for serial in 1..=count {
            let line = syscall(59, "success=yes exit=0").replace(":7)", &format!(":{serial})"));
            done += joiner.take(parse_line(line.as_bytes()).unwrap()).len();
        }
        assert_eq!(done, count.saturating_sub(join::GROUPS_MAX));
        assert_eq!(joiner.finish().len(), count.min(join::GROUPS_MAX));
    }
}

#[test]
fn what_has_no_end_is_complete_when_later_things_happen() {
    let mut joiner = Joiner::default();
    joiner.take(parse_line(syscall(59, "success=yes exit=0").as_bytes()).unwrap());
    assert!(joiner.overdue(1_764_192_002_123).is_empty());
    assert_eq!(joiner.overdue(1_764_192_002_124).len(), 1);
}

#[test]
fn paths_below_at_and_above_the_limit() {
    for count in [join::PATHS_MAX - 1, join::PATHS_MAX, join::PATHS_MAX + 1] {
        let mut joiner = Joiner::default();
        for item in 0..count {
            let line = format!("type=PATH msg=audit(1.000:7): item={item} name=\"/x\" nametype=NORMAL");
            joiner.take(parse_line(line.as_bytes()).unwrap());
        }
        assert_eq!(joiner.finish()[0].paths.len(), count.min(join::PATHS_MAX));
    }
}

#[test]
fn no_bytes_panic() {
    proptest::proptest!(|(bytes: Vec<u8>)| {
        convert(&bytes, &mut Vec::new()).unwrap();
        parse_kernel(1300, &bytes);
    });
    let field = r#"( [a-z0-9\[\]_]{0,6}=("[^"]{0,9}"?|[0-9A-Fa-f]{0,12}|\(null\)))"#;
    let kind = "(SYSCALL|EXECVE|PATH|CWD|SOCKADDR|PROCTITLE|OBJ_PID|KERN_MODULE|EOE)";
    let log = format!(r"(type={kind} msg=audit\([0-9]{{1,4}}\.[0-9]{{3}}:[0-9]\):{field}{{0,9}}\n){{0,9}}");
    let log = proptest::string::string_regex(&log).unwrap();
    proptest::proptest!(|(text in log)| {
        convert(text.as_bytes(), &mut Vec::new()).unwrap();
    });
}

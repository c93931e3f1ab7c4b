//! Events, in the form in which the sensor sends them.

use serde_json::{Value, json};

/// A rule, and what it is tried with.
pub(crate) struct Case {
    pub(crate) rule: &'static str,
    pub(crate) matching: Vec<Value>,
    pub(crate) near: Vec<Value>,
}

fn process(path: &str) -> Value {
    let name = path.rsplit('/').next().unwrap();
    json!({ "pid": 4711, "name": name, "cmd_line": name, "file": { "path": path, "name": name, "type_id": 1 },
        "user": { "uid": "1000", "name": "anna" } })
}

fn in_container(path: &str) -> Value {
    let mut process = process(path);
    process["container"] = json!({ "uid": "0123456789ab", "image": { "name": "web" } });
    process
}

fn event(class: u32, activity: u32, members: Value) -> Value {
    let mut event = json!({
        "class_uid": class, "category_uid": class / 1000, "activity_id": activity, "type_uid": class * 100 + activity,
        "severity_id": 1, "time": 1_764_192_000_123_u64,
        "metadata": { "version": "1.3.0", "uid": "6f1c-42", "product": { "name": "inborn sensor", "vendor_name": "Inborn" } },
        "device": { "uid": "i-0123456789abcdef0", "type_id": 0 },
    });
    for (name, value) in members.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

fn started(path: &str, parent: &str, command: &str) -> Value {
    let mut child = process(path);
    child["parent_process"] = process(parent);
    child["cmd_line"] = json!(command);
    event(1007, 1, json!({ "process": child, "actor": { "process": process(parent) } }))
}

fn duplicated(path: &str, parent: &str, fds: &[u32]) -> Value {
    let mut actor = process(path);
    actor["parent_process"] = process(parent);
    event(
        1003,
        4,
        json!({
            "kernel": { "name": "dup", "type_id": 2, "system_call": "dup2" },
            "actor": { "process": actor },
            "unmapped": { "dup": { "new_fd": fds[0], "fds": fds,
                "dst_endpoint": { "ip": "127.0.0.1", "port": 4444 }, "src_endpoint": { "ip": "127.0.0.1", "port": 51234 } } },
        }),
    )
}

/// A shell with a connection as its standard streams.
pub(crate) fn reverse_shell() -> Value {
    duplicated("/usr/bin/bash", "/usr/bin/sleep", &[0, 1, 2])
}

fn traced(by: &str, activity: u32, request: &str) -> Value {
    event(
        1007,
        activity,
        json!({ "actor": { "process": process(by) }, "process": process("/usr/bin/victim"),
            "unmapped": { "syscall": "ptrace", "ptrace": { "request": request } } }),
    )
}

fn injected(by: &str, call: &str) -> Value {
    event(
        1007,
        4,
        json!({ "actor": { "process": process(by) }, "process": process("/usr/bin/victim"),
            "injection_type_id": 99, "injection_type": call, "unmapped": { "syscall": call } }),
    )
}

fn opened(by: &str, path: &str, write: bool) -> Value {
    event(
        1001,
        14,
        json!({ "actor": { "process": process(by) }, "file": { "path": path, "type_id": 1 },
            "unmapped": { "open": { "flags": ["O_WRONLY"], "write": write } } }),
    )
}

fn written(by: &str, path: &str) -> Value {
    event(1001, 3, json!({ "actor": { "process": process(by) }, "file": { "path": path, "type_id": 1 } }))
}

/// As the program that runs a script, and started by this.
fn as_script(mut event: Value, command: &str, parent: &str) -> Value {
    let actor = match event["class_uid"].as_u64() {
        Some(1007) if event["activity_id"] == 1 => &mut event["process"],
        _ => &mut event["actor"]["process"],
    };
    actor["cmd_line"] = json!(command);
    if !parent.is_empty() {
        actor["parent_process"]["cmd_line"] = json!(parent);
    }
    event
}

/// What packages, scripts of the system and applets of busybox write, which is no news: by program, command line and the command line
/// of the parent.
fn scripted() -> Vec<Value> {
    let postinst = "/bin/sh /var/lib/dpkg/info/sudo.postinst configure 1.9";
    [
        ("/usr/bin/python3.9", "/usr/bin/python3 /usr/bin/dnf install -y cronie", "", "/etc/cron.d/0hourly"),
        ("/usr/bin/python3.9", "/usr/bin/python3 -s /usr/bin/yum update", "", "/etc/pam.d/sshd"),
        ("/usr/libexec/platform-python3.6", "/usr/libexec/platform-python /usr/bin/dnf-3 update", "", "/usr/bin/runc"),
        ("/usr/bin/python3.11", "/usr/bin/python3 /usr/bin/cloud-init init", "", "/srv/anna/.ssh/authorized_keys"),
        (
            "/usr/bin/python3.11",
            "/usr/bin/python3 /usr/bin/cloud-init modules",
            "",
            "/etc/sudoers.d/90-cloud-init-users",
        ),
        ("/usr/bin/perl", "/usr/bin/perl -w /usr/sbin/pam-auth-update --package", "", "/etc/pam.d/common-auth"),
        (
            "/usr/bin/perl",
            "/usr/bin/perl /usr/bin/deb-systemd-helper enable ssh.service",
            "",
            "/etc/systemd/system/sshd.service",
        ),
        ("/usr/bin/dash", postinst, "/usr/bin/dpkg --configure -a", "/etc/sudoers.d/README"),
        ("/usr/bin/install", "install -m 440 README /etc/sudoers.d/README", postinst, "/etc/sudoers.d/README"),
        (
            "/usr/bin/cp",
            "cp /tmp/aurules /etc/audit/audit.rules",
            "/bin/bash /sbin/augenrules --load",
            "/etc/audit/audit.rules",
        ),
        ("/bin/busybox", "adduser -D web", "", "/etc/passwd"),
        ("/bin/busybox", "busybox passwd web", "", "/etc/shadow"),
        ("/bin/busybox", "/usr/bin/crontab -", "", "/var/spool/cron/root"),
        ("/usr/bin/dnf5", "dnf5 upgrade", "", "/etc/profile.d/lang.sh"),
    ]
    .into_iter()
    .map(|(by, command, parent, path)| as_script(written(by, path), command, parent))
    .collect()
}

fn renamed(by: &str, from: &str, to: &str) -> Value {
    event(
        1001,
        5,
        json!({ "actor": { "process": process(by) }, "file": { "path": from, "type_id": 1 },
            "file_result": { "path": to, "type_id": 1 } }),
    )
}

fn module(by: Option<&str>, name: &str) -> Value {
    let mut members = json!({ "driver": { "file": { "name": name, "type_id": 1 } } });
    if let Some(by) = by {
        members["actor"] = json!({ "process": process(by) });
    }
    event(1002, 1, members)
}

fn connected_to_socket(actor: Value, path: &str) -> Value {
    event(4001, 1, json!({ "actor": { "process": actor }, "unmapped": { "socket": { "path": path } } }))
}

fn mounted(actor: Value, source: &str) -> Value {
    event(
        1001,
        12,
        json!({ "actor": { "process": actor }, "file": { "path": "/mnt", "type_id": 2 },
            "unmapped": { "mount": { "source": source, "type": "ext4", "flags": [] } } }),
    )
}

fn user_changed(path: &str, previous: u32, uid: u32) -> Value {
    event(
        1007,
        5,
        json!({ "actor": { "process": process(path) }, "process": process(path),
            "unmapped": { "setuid": { "uid": uid, "euid": uid, "previous_uid": previous, "previous_euid": previous } } }),
    )
}

fn answered(name: &str, address: &str) -> Value {
    event(
        4003,
        2,
        json!({ "query": { "hostname": name, "type": "A" }, "answers": [{ "rdata": "192.0.2.1", "type": "A" },
            { "rdata": address, "type": "A" }] }),
    )
}

fn called(by: &str, call: &str) -> Value {
    event(
        1003,
        4,
        json!({ "kernel": { "name": call, "type_id": 2, "system_call": call }, "actor": { "process": process(by) } }),
    )
}

/// For every rule of ours.
pub(crate) fn cases() -> Vec<Case> {
    let mut socketless = reverse_shell();
    socketless["unmapped"]["dup"] = json!({ "new_fd": 0, "fds": [0] });
    let mut for_device = module(Some("/usr/bin/kmod"), "virtio_net");
    for_device["actor"]["process"]["parent_process"] = process("/usr/lib/systemd/systemd-udevd");
    let mut commandless = duplicated("/bin/busybox", "/x", &[0]);
    commandless["actor"]["process"].as_object_mut().unwrap().remove("cmd_line");
    let mut higher = reverse_shell();
    higher["unmapped"]["dup"]["new_fd"] = json!(3);
    vec![
        Case {
            rule: "reverse_shell",
            matching: vec![
                reverse_shell(),
                duplicated("/bin/dash", "/usr/bin/perl", &[1]),
                duplicated("/bin/sh", "/x", &[2]),
                as_script(duplicated("/bin/busybox", "/x", &[0]), "sh -i", ""),
                as_script(duplicated("/bin/busybox", "/x", &[0]), "/bin/busybox ash", ""),
                as_script(duplicated("/bin/busybox", "/x", &[0]), "-sh", ""),
                commandless,
            ],
            near: vec![
                socketless,
                higher,
                duplicated("/usr/sbin/sshd", "/sbin/init", &[0, 1, 2]),
                as_script(duplicated("/bin/busybox", "/bin/busybox", &[0, 1]), "httpd -i -h /srv", ""),
                as_script(duplicated("/bin/busybox", "/bin/busybox", &[0, 1]), "/usr/bin/wget ftp://x.sh", ""),
            ],
        },
        Case {
            rule: "reverse_shell_interpreter",
            matching: vec![
                duplicated("/usr/bin/python3.11", "/usr/bin/bash", &[0, 1, 2]),
                duplicated("/usr/bin/nc.openbsd", "/usr/bin/bash", &[0, 1, 2]),
                as_script(duplicated("/bin/busybox", "/x", &[0, 1, 2]), "busybox nc 192.0.2.1 4444", ""),
            ],
            near: vec![
                duplicated("/usr/bin/python3.11", "/usr/lib/systemd/systemd", &[0, 1, 2]),
                duplicated("/usr/bin/python3.11", "/usr/bin/bash", &[0, 1]),
                duplicated("/usr/bin/pythonista", "/usr/bin/bash", &[0, 1, 2]),
            ],
        },
        Case {
            rule: "fileless_execution",
            matching: vec![
                started("/memfd:payload", "/usr/bin/python3", "x"),
                started("/proc/self/fd/3", "/usr/bin/perl", "x"),
                started("/proc/77/fd/12", "/usr/bin/perl", "x"),
                started("/dev/fd/3", "/usr/bin/perl", "x"),
                started("/memfd:runc_cloned:/proc/self/exe", "/tmp/x", "runc init"),
            ],
            near: vec![
                started("/memfd:runc_cloned:/proc/self/exe", "/usr/bin/containerd-shim-runc-v2", "runc init"),
                started("/proc/self/fd/3/x", "/usr/bin/perl", "x"),
                started("/opt/memfd:x", "/usr/bin/perl", "x"),
            ],
        },
        Case {
            rule: "injection_ptrace",
            matching: vec![traced("/tmp/x", 3, "PTRACE_ATTACH"), traced("/tmp/x", 4, "PTRACE_POKETEXT")],
            near: vec![
                traced("/usr/bin/gdb", 3, "PTRACE_ATTACH"),
                traced("/tmp/x", 3, "PTRACE_TRACEME"),
                injected("/tmp/x", "process_vm_readv"),
            ],
        },
        Case {
            rule: "injection_vm_write",
            matching: vec![injected("/tmp/x", "process_vm_writev")],
            near: vec![injected("/tmp/x", "process_vm_readv"), injected("/usr/bin/gdb", "process_vm_writev")],
        },
        Case {
            rule: "injection_proc_mem",
            matching: vec![opened("/tmp/x", "/proc/99/mem", true), written("/tmp/x", "/proc/99/task/101/mem")],
            near: vec![
                opened("/tmp/x", "/proc/99/mem", false),
                opened("/tmp/x", "/proc/self/mem", true),
                opened("/usr/bin/gdb", "/proc/99/mem", true),
                opened("/tmp/x", "/proc/99/memory", true),
            ],
        },
        Case {
            rule: "ptrace_anti_debugging",
            matching: vec![traced("/tmp/x", 3, "PTRACE_TRACEME")],
            near: vec![traced("/usr/bin/strace", 3, "PTRACE_TRACEME"), traced("/tmp/x", 3, "PTRACE_ATTACH")],
        },
        Case {
            rule: "kernel_module",
            matching: vec![module(Some("/usr/sbin/insmod"), "rootkit"), module(Some("/usr/bin/kmod"), "rootkit")],
            near: vec![
                module(Some("/usr/lib/systemd/systemd-udevd"), "virtio_net"),
                module(None, "rootkit"),
                for_device,
                event(1002, 1, json!({})),
            ],
        },
        Case {
            rule: "kernel_module_unattributed",
            matching: vec![module(None, "nf_tables")],
            near: vec![module(Some("/usr/sbin/insmod"), "rootkit"), event(1002, 1, json!({}))],
        },
        Case {
            rule: "sensitive_file_persistence",
            matching: vec![
                written("/usr/bin/tee", "/srv/anna/.ssh/authorized_keys"),
                opened("/usr/bin/bash", "/etc/cron.d/x", true),
                renamed("/usr/bin/mv", "/tmp/x", "/etc/systemd/system/x.service"),
                // A script that only has the name, and an interpreter that is none of the system's.
                as_script(written("/usr/bin/python3.9", "/etc/cron.d/x"), "python3 /tmp/usr/bin/dnf", ""),
                as_script(written("/usr/bin/python3.9", "/etc/cron.d/x"), "python3 -c x /usr/bin/dnf", ""),
                as_script(written("/tmp/python3", "/etc/cron.d/x"), "python3 /usr/bin/dnf", ""),
                as_script(written("/bin/busybox", "/etc/cron.d/x"), "vi /etc/cron.d/x", ""),
                as_script(written("/usr/bin/dash", "/etc/cron.d/x"), "sh /tmp/var/lib/dpkg/info/x.postinst", ""),
            ],
            near: vec![
                opened("/usr/sbin/sshd", "/srv/anna/.ssh/authorized_keys", false),
                written("/usr/bin/dpkg", "/etc/cron.d/x"),
                written("/usr/bin/tee", "/srv/anna/.ssh/authorized_keys.bak"),
                written("/usr/bin/tee", "/srv/etc/crontab"),
            ],
        },
        Case {
            rule: "sensitive_file_privilege",
            matching: vec![
                written("/usr/bin/tee", "/etc/sudoers.d/x"),
                renamed("/usr/bin/mv", "/tmp/x", "/etc/passwd"),
                as_script(written("/bin/busybox", "/etc/passwd"), "tee /etc/passwd", ""),
                as_script(written("/usr/bin/perl", "/etc/pam.d/common-auth"), "perl /tmp/pam-auth-update", ""),
            ],
            near: vec![
                opened("/usr/bin/tee", "/etc/passwd", false),
                renamed("/usr/sbin/useradd", "/etc/passwd+", "/etc/passwd"),
                renamed("/usr/bin/mv", "/etc/passwd", "/tmp/x"),
            ],
        },
        Case {
            rule: "sensitive_file_evasion",
            matching: vec![
                written("/usr/bin/tee", "/etc/ld.so.preload"),
                written("/usr/bin/sed", "/etc/audit/rules.d/a.rules"),
            ],
            near: vec![
                written("/usr/sbin/augenrules", "/etc/audit/audit.rules"),
                written("/usr/bin/tee", "/etc/ld.so.cache"),
            ],
        },
        Case {
            rule: "docker_socket",
            matching: vec![connected_to_socket(in_container("/usr/bin/curl"), "/var/run/docker.sock")],
            near: vec![
                connected_to_socket(process("/usr/bin/docker"), "/var/run/docker.sock"),
                connected_to_socket(in_container("/usr/bin/curl"), "/run/app.sock"),
            ],
        },
        Case {
            rule: "release_agent",
            matching: vec![opened("/usr/bin/bash", "/tmp/cgrp/release_agent", true)],
            near: vec![
                opened("/usr/bin/cat", "/sys/fs/cgroup/rdma/release_agent", false),
                written("/usr/lib/systemd/systemd", "/sys/fs/cgroup/systemd/release_agent"),
            ],
        },
        Case {
            rule: "container_mounts_host",
            matching: vec![
                mounted(in_container("/usr/bin/mount"), "/dev/vda1"),
                mounted(in_container("/x"), "/dev/mapper/root"),
            ],
            near: vec![
                mounted(process("/usr/bin/mount"), "/dev/vda1"),
                mounted(in_container("/usr/bin/mount"), "tmpfs"),
                mounted(in_container("/usr/bin/mount"), "/dev/shm"),
            ],
        },
        Case {
            rule: "runc_overwritten",
            matching: vec![
                opened("/proc/self/exe", "/usr/bin/runc", true),
                opened("/tmp/x", "/usr/local/sbin/runc", true),
            ],
            near: vec![opened("/tmp/x", "/usr/bin/runc", false), written("/usr/bin/dpkg", "/usr/bin/runc")],
        },
        Case {
            rule: "elevation_to_root",
            matching: vec![user_changed("/tmp/x", 1000, 0)],
            near: vec![
                user_changed("/usr/bin/sudo", 1000, 0),
                as_script(user_changed("/bin/busybox", 1000, 0), "su -", ""),
                user_changed("/usr/sbin/nginx", 0, 33),
                user_changed("/usr/sbin/x", 0, 0),
                user_changed("/tmp/x", 1000, 1001),
            ],
        },
        Case {
            rule: "metadata_dns_rebind",
            matching: vec![answered("rebind.example", "169.254.169.254"), answered("rebind.example", "fd00:ec2::254")],
            near: vec![
                answered("www.example", "192.0.2.7"),
                answered("instance-data.ec2.internal", "169.254.169.254"),
                answered("www.example", "169.254.169.25"),
            ],
        },
        Case {
            rule: "crypto_miner",
            matching: vec![
                started("/tmp/kworker", "/usr/bin/bash", "kworker -o stratum+tcp://pool.example:3333"),
                started("/tmp/xmrig", "/usr/bin/bash", "xmrig"),
            ],
            near: vec![
                started("/usr/bin/grep", "/usr/bin/bash", "grep stratum+tcp:// log"),
                started("/usr/bin/curl", "/usr/bin/bash", "curl http://pool.example"),
            ],
        },
        Case {
            rule: "suspicious_tool",
            matching: vec![started("/usr/bin/nmap", "/usr/bin/bash", "nmap -sS 192.0.2.0/24")],
            near: vec![started("/usr/bin/cat", "/usr/bin/bash", "cat /usr/bin/nmap")],
        },
        Case {
            rule: "suspicious_shell",
            matching: vec![
                started("/usr/bin/dash", "/usr/sbin/nginx", "sh -c id"),
                started("/bin/busybox", "/usr/sbin/nginx", "/bin/sh -c id"),
            ],
            near: vec![
                started("/bin/busybox", "/usr/sbin/nginx", "gzip -c log"),
                started("/usr/bin/dash", "/usr/sbin/sshd", "sh"),
                started("/usr/sbin/nginx", "/usr/bin/dash", "nginx"),
            ],
        },
        Case {
            rule: "userfaultfd",
            matching: vec![called("/tmp/x", "userfaultfd")],
            near: vec![called("/usr/bin/qemu-system-x86_64", "userfaultfd"), called("/tmp/x", "memfd_create")],
        },
    ]
}

/// What machines do all day.
pub(crate) fn benign() -> Vec<Value> {
    let mut found = Vec::new();
    for (path, parent, command) in [
        ("/usr/bin/bash", "/usr/sbin/sshd", "-bash"),
        ("/usr/bin/ls", "/usr/bin/bash", "ls -la /etc"),
        ("/usr/bin/python3.11", "/usr/lib/systemd/systemd", "python3 -m http.server"),
        ("/usr/sbin/nginx", "/usr/lib/systemd/systemd", "nginx -g daemon off;"),
        ("/usr/bin/dpkg", "/usr/bin/apt-get", "dpkg --configure -a"),
        ("/usr/bin/curl", "/usr/bin/bash", "curl https://example.com"),
        ("/usr/bin/dash", "/usr/sbin/cron", "/bin/sh -c run-parts /etc/cron.hourly"),
        ("/usr/bin/git", "/usr/bin/make", "git rev-parse HEAD"),
        ("/usr/sbin/runc", "/usr/bin/containerd-shim-runc-v2", "runc --root /run create"),
        ("/usr/bin/sudo", "/usr/bin/bash", "sudo -i"),
    ] {
        found.push(started(path, parent, command));
    }
    for (by, path, write) in [
        ("/usr/bin/cat", "/etc/passwd", false),
        ("/usr/sbin/sshd", "/etc/shadow", false),
        ("/usr/bin/vim", "/srv/app/config.py", true),
        ("/usr/sbin/nginx", "/var/log/nginx/access.log", true),
        ("/usr/lib/systemd/systemd-journald", "/var/log/journal/x/system.journal", true),
        ("/usr/bin/apt-get", "/etc/cron.daily/apt", true),
        ("/usr/bin/passwd", "/etc/shadow", true),
        ("/usr/bin/ps", "/proc/99/stat", false),
    ] {
        found.push(opened(by, path, write));
    }
    found.extend(scripted());
    found.push(duplicated("/usr/sbin/in.ftpd", "/usr/sbin/xinetd", &[0, 1, 2]));
    found.push(module(Some("/usr/lib/systemd/systemd-modules-load"), "br_netfilter"));
    found.push(connected_to_socket(process("/usr/bin/docker"), "/var/run/docker.sock"));
    found.push(mounted(process("/usr/bin/mount"), "/dev/sdb1"));
    found.push(user_changed("/usr/sbin/sshd", 0, 1000));
    found.push(user_changed("/usr/bin/su", 1000, 0));
    found.push(answered("example.com", "192.0.2.44"));
    found.push(called("/usr/bin/dockerd", "unshare"));
    found.push(traced("/usr/bin/strace", 3, "PTRACE_SEIZE"));
    found.push(event(
        4001,
        1,
        json!({ "actor": { "process": process("/usr/bin/curl") }, "dst_endpoint": { "ip": "169.254.169.254", "port": 80 },
            "connection_info": { "protocol_num": 6, "protocol_name": "tcp", "direction_id": 2 } }),
    ));
    found
}

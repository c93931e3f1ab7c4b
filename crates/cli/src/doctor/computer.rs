//! The computer: what the kernel allows, and which programs are there.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Finding, Kind};

/// Fewer file descriptors are too few for a few thousand connections and guests.
const DESCRIPTORS_MIN: u64 = 4096;

const POCKETS: &str = "pockets";
const EGRESS: &str = "pockets' network";
const LOGINS: &str = "logins";
const DESCRIPTORS: &str = "descriptors";

/// For who serves there: where a region or its machines are elsewhere, nobody runs pockets or logs in through this computer.
pub(super) fn look(kind: Kind) -> Vec<Finding> {
    match kind {
        Kind::Up => vec![pockets(), egress(), logins(), descriptors()],
        Kind::Region | Kind::Host => vec![descriptors()],
    }
}

/// Whether `inborn run` can make namespaces: by making some.
fn pockets() -> Finding {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let works = match tried {
        Ok(status) => Some(status.success()),
        // Not there: then only the settings can be asked.
        Err(_) => None,
    };
    verdict_on_pockets(works, |name| std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok())
}

/// Settings of kernels that keep ordinary users from making user namespaces, their values that do so, and the remedies.
const HINDRANCES: [(&str, &str, &str); 3] = [
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that gives inborn `userns`",
    ),
];

fn verdict_on_pockets(works: Option<bool>, setting: impl Fn(&str) -> Option<String>) -> Finding {
    if works == Some(true) {
        return Finding::fine(POCKETS, "user, network and mount namespaces can be made");
    }
    let hindrance =
        HINDRANCES.iter().find(|(name, value, _)| setting(name).is_some_and(|found| found.trim() == *value));
    match (hindrance, works) {
        (Some((name, value, next)), _) => {
            let name = name.replace('/', ".");
            Finding::problem(POCKETS, format!("`inborn run` cannot make namespaces: {name} is {value}"), *next)
        }
        (None, Some(false)) => Finding::problem(
            POCKETS,
            "`inborn run` cannot make namespaces here",
            "in a container: give it what it needs for that, or run inborn outside",
        ),
        (None, _) => Finding::fine(POCKETS, "nothing keeps `inborn run` from making namespaces"),
    }
}

fn egress() -> Finding {
    let missing: Vec<&str> = [("passt", has_program("passt")), ("/dev/net/tun", Path::new("/dev/net/tun").exists())]
        .iter()
        .filter_map(|(name, is_there)| (!is_there).then_some(*name))
        .collect();
    if missing.is_empty() {
        return Finding::fine(EGRESS, "passt and /dev/net/tun are there");
    }
    let found = format!("{} missing: `inborn run --net host-egress` does not work", missing.join(" and "));
    Finding::hint(EGRESS, found, "apt install passt; modprobe tun")
}

fn logins() -> Finding {
    let missing: Vec<&str> = ["ssh", "ssh-keygen"].into_iter().filter(|name| !has_program(name)).collect();
    if missing.is_empty() {
        return Finding::fine(LOGINS, "ssh and ssh-keygen are there");
    }
    let found = format!("{} missing: `inborn ssh` and `inborn host-keys` need them", missing.join(" and "));
    Finding::hint(LOGINS, found, "apt install openssh-client")
}

fn descriptors() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    verdict_on_descriptors(limit)
}

/// `None` is no limit.
fn verdict_on_descriptors(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit @ ..DESCRIPTORS_MIN) => Finding::hint(
            DESCRIPTORS,
            format!("a process may have {limit}: each connection and machine takes one or two"),
            "ulimit -Hn, or LimitNOFILE= of the unit",
        ),
        Some(limit) => Finding::fine(DESCRIPTORS, format!("a process may have {limit}")),
        None => Finding::fine(DESCRIPTORS, "without limit"),
    }
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where root's programs are is not in everybody's path.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_kernel_that_forbids_pockets_is_told_with_its_remedy() {
        assert_eq!(verdict_on_pockets(Some(true), |_| Some("0".into())).verdict, Verdict::Fine);
        assert_eq!(verdict_on_pockets(None, |_| None).verdict, Verdict::Fine);
        assert_eq!(verdict_on_pockets(Some(false), |_| None).verdict, Verdict::Problem);
        for (name, value, _) in HINDRANCES {
            let finding = verdict_on_pockets(Some(false), |asked| (asked == name).then(|| format!("{value}\n")));
            assert_eq!(finding.verdict, Verdict::Problem);
            assert!(finding.next.contains(&name.replace('/', ".")), "{finding:?}");
        }
    }

    #[test]
    fn descriptors_below_at_and_above_what_is_needed() {
        assert_eq!(verdict_on_descriptors(Some(DESCRIPTORS_MIN - 1)).verdict, Verdict::Hint);
        assert_eq!(verdict_on_descriptors(Some(DESCRIPTORS_MIN)).verdict, Verdict::Fine);
        assert_eq!(verdict_on_descriptors(Some(DESCRIPTORS_MIN + 1)).verdict, Verdict::Fine);
        assert_eq!(verdict_on_descriptors(None).verdict, Verdict::Fine);
    }
}

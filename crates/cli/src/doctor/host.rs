//! A host apart from its region: who it is, what it has kept, and whether its region knows it.

use inborn_host::control::{ControlClient, HostStatus};
use inborn_host_agent::{Answer, Ask, Client, Failure};
use inborn_identity::{Clock, UnixTime};
use inborn_pki::{HOST_LIFE_SECONDS, HOST_RENEW_SECONDS, HostCertificate};

use super::{Finding, Patient};
use crate::clock::SystemClock;
use crate::host_agent::{HostIdentity, KeptCache, look_at_cache};

/// How much later than it is due a host may have its next certificate: it asks at a moment of its own, and again each hour.
const RENEWAL_LATE_SECONDS: u64 = 2 * 86_400;
/// How far its clock and its region's may differ: what is signed five minutes away is refused, and credentials have an end.
const CLOCK_OFF_MAX_SECONDS: u64 = 60;
/// How long ago a host that runs may have heard its region: twice the wait of a question.
const HEARD_SECONDS: u64 = 60;

const IDENTITY: &str = "host";
const CERTIFICATE: &str = "certificate";
const REGION: &str = "region";
const CLOCKS: &str = "clocks";
const CACHE: &str = "cache";
const RUNNING: &str = "running";

pub(super) async fn look(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let status = ControlClient::new(&patient.data).status().await.ok();
    findings.push(running(patient, status.as_ref()));
    match HostIdentity::read(&patient.data) {
        Ok(Some(identity)) if identity.is_evicted => findings.push(Finding::problem(
            IDENTITY,
            format!("the region {} has cut off {} for good", identity.region, identity.host),
            "`inborn host join` with another token from `inborn host token`, or stop the unit",
        )),
        Ok(Some(identity)) => {
            let told = format!("{} ({}) of region {}", identity.host, identity.name, identity.region);
            findings.push(Finding::fine(IDENTITY, told));
            let now = SystemClock.now();
            findings.push(verdict_on_certificate(identity.certificate_ends(), identity.is_whole(), now));
            findings.extend(region(&identity, now).await);
            findings.push(verdict_on_cache(look_at_cache(&patient.data, identity.host), status.is_some()));
        }
        Ok(None) => findings.push(Finding::problem(IDENTITY, "it has not joined a region", "inborn host join")),
        Err(error) => findings.push(Finding::problem(IDENTITY, format!("{error:#}"), "see above")),
    }
    findings
}

fn running(patient: &Patient, status: Option<&HostStatus>) -> Finding {
    let Some(status) = status else {
        return Finding::hint(
            RUNNING,
            format!("no `inborn host` runs on {}, or it is not this user's", patient.data.display()),
            "`inborn host`, or `systemctl enable --now inborn-host`; run this as its user, or as root",
        );
    };
    verdict_on_status(status, SystemClock.now())
}

fn verdict_on_status(status: &HostStatus, now: UnixTime) -> Finding {
    let heard = status.heard_at.map(UnixTime::from_secs);
    let count = status.machines.len();
    let without = status
        .machines
        .iter()
        .filter(|machine| machine.is_running && machine.credentials_until.is_none_or(|until| until <= now.as_secs()))
        .count();
    let told = heard.map_or_else(|| "never".to_owned(), UnixTime::rfc3339);
    if without > 0 {
        return Finding::hint(
            RUNNING,
            format!("{without} of {count} machines have no credentials; the region was heard last: {told}"),
            "see `region` below; `inborn host status` names them. One in quarantine has none, and some minutes after it neither",
        );
    }
    if !status.is_connected || heard.is_none_or(|heard| heard.plus(HEARD_SECONDS) < now) {
        let next = "it serves on meanwhile; see `region` below";
        return Finding::hint(RUNNING, format!("it serves {count} machines; the region was heard last: {told}"), next);
    }
    if !status.is_kept {
        let found = format!("it serves {count} machines, of which not all is kept over a restart yet");
        return Finding::hint(RUNNING, found, "in a moment it is; if not, its log says why: is the disk full?");
    }
    Finding::fine(RUNNING, format!("it serves {count} machines, and all of it is kept over a restart"))
}

fn verdict_on_certificate(ends: UnixTime, is_whole: bool, now: UnixTime) -> Finding {
    if !is_whole {
        return Finding::problem(
            CERTIFICATE,
            "it is not of this host's key",
            "restore host.json and host.key of one moment, or join anew (`inborn host join`)",
        );
    }
    if now > ends {
        return Finding::problem(
            CERTIFICATE,
            format!("it ended at {}: the region does not know this host any more", ends.rfc3339()),
            "if the clock is right: join anew with another token (`inborn host join`)",
        );
    }
    let left = ends.since(now);
    let found = format!("{} days left, until {}", left / 86_400, ends.rfc3339());
    if left + RENEWAL_LATE_SECONDS < HOST_LIFE_SECONDS - HOST_RENEW_SECONDS {
        let next = "the next one is late: let the host run and reach its region before this one ends";
        return Finding::hint(CERTIFICATE, found, next);
    }
    Finding::fine(CERTIFICATE, found)
}

/// Asks each address for the next certificate, which is thrown away: that takes all that a host's questions take, and changes nothing.
async fn region(identity: &HostIdentity, now: UnixTime) -> Vec<Finding> {
    let tls = match identity.tls() {
        Ok(tls) => tls,
        Err(error) => return vec![Finding::problem(REGION, format!("{error:#}"), "join anew (`inborn host join`)")],
    };
    let (mut answers, mut clock) = (Vec::new(), None);
    for address in &identity.addresses {
        let client = Client::new(std::sync::Arc::clone(&tls));
        let answer = client.ask(address, &Ask::Renew, || {}).await;
        if let Ok(Answer::Renewed(renewed)) = &answer {
            clock =
                HostCertificate::from_pem(&renewed.certificate).ok().map(|one| one.not_after.minus(HOST_LIFE_SECONDS));
        }
        answers.push((address.to_string(), answer.map(drop)));
    }
    let mut findings = vec![verdict_on_answers(&answers)];
    // It was there a moment after `now`, at most what all questions took.
    findings.extend(clock.map(|clock| verdict_on_clock(clock, now, SystemClock.now())));
    findings
}

fn verdict_on_answers(answers: &[(String, Result<(), Failure>)]) -> Finding {
    let failed: Vec<String> =
        answers.iter().filter_map(|(at, answer)| Some(told(at, answer.as_ref().err()?))).collect();
    let refusal = answers.iter().find_map(|(_, answer)| match answer {
        Err(Failure::Refused { code, .. }) => Some(code.as_str()),
        _ => None,
    });
    let good = answers.len() - failed.len();
    match (good, refusal) {
        (_, Some("evicted" | "not-joined")) => Finding::problem(
            REGION,
            failed.join("; "),
            "if that is not meant: `inborn host join` with another token; `inborn hosts` at the region lists who is known",
        ),
        (0, Some(_)) => Finding::hint(
            REGION,
            failed.join("; "),
            "it has much to do, or does not hear its database: again a little later",
        ),
        (0, None) => Finding::problem(
            REGION,
            format!("not reached: {}", failed.join("; ")),
            "does a server run there with --hosts-port, is a firewall in between, has the region another authority than the one that \
             was joined? Machines are served meanwhile",
        ),
        (_, _) if !failed.is_empty() => Finding::hint(
            REGION,
            format!("{good} of {} addresses answer; not: {}", answers.len(), failed.join("; ")),
            "the host goes to another one by itself",
        ),
        _ => Finding::fine(
            REGION,
            format!(
                "it knows this host; asked at {}",
                answers.iter().map(|(at, _)| at.as_str()).collect::<Vec<_>>().join(", ")
            ),
        ),
    }
}

/// A failure with the address that it was at.
fn told(at: &str, failure: &Failure) -> String {
    let text = failure.to_string();
    if text.starts_with(at) { text } else { format!("{at}: {text}") }
}

/// The region's clock, read between these two moments of ours.
fn verdict_on_clock(region: UnixTime, before: UnixTime, after: UnixTime) -> Finding {
    let off = if region < before { before.since(region) } else { region.since(after) };
    if off > CLOCK_OFF_MAX_SECONDS {
        let way = if region < before { "ahead of" } else { "behind" };
        return Finding::problem(
            CLOCKS,
            format!("this computer's is {off} s {way} the region's: credentials and signatures are judged by it"),
            "`timedatectl` here and there",
        );
    }
    Finding::fine(CLOCKS, "this computer's agrees with the region's")
}

fn verdict_on_cache(cache: anyhow::Result<KeptCache>, is_running: bool) -> Finding {
    match cache {
        Ok(KeptCache::Good) => Finding::fine(CACHE, "what is served is kept, and can be opened"),
        Ok(KeptCache::Absent) => Finding::hint(
            CACHE,
            "nothing is kept: after a restart without the region no machine is served",
            if is_running {
                "in a moment there is, once the region was heard"
            } else {
                "let the host run with its region there"
            },
        ),
        Ok(KeptCache::Elsewhere) => Finding::hint(
            CACHE,
            "there is no cache.key here to open it with",
            "where the unit gives it as a credential, its log says how that went; else it is made anew from the region",
        ),
        Err(error) => Finding::problem(
            CACHE,
            format!("{error:#}"),
            "with the region there: stop the host, remove cache.sealed and cache.key, start it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;
    use inborn_fleet::RefusalCode;
    use inborn_host::control::PlacedMachine;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    #[test]
    fn a_certificate_that_is_late_has_ended_or_is_anothers() {
        let due = HOST_LIFE_SECONDS - HOST_RENEW_SECONDS - RENEWAL_LATE_SECONDS;
        for (ends, verdict) in [
            (NOW.minus(1), Verdict::Problem),
            (NOW, Verdict::Hint),
            (NOW.plus(due - 1), Verdict::Hint),
            (NOW.plus(due), Verdict::Fine),
            (NOW.plus(HOST_LIFE_SECONDS), Verdict::Fine),
        ] {
            assert_eq!(verdict_on_certificate(ends, true, NOW).verdict, verdict, "{ends:?}");
        }
        assert_eq!(verdict_on_certificate(NOW.plus(HOST_LIFE_SECONDS), false, NOW).verdict, Verdict::Problem);
    }

    #[test]
    fn a_clock_below_at_and_above_what_it_may_be_off() {
        let (before, after) = (NOW, NOW.plus(5));
        for (region, verdict) in [
            (before, Verdict::Fine),
            (before.minus(CLOCK_OFF_MAX_SECONDS), Verdict::Fine),
            (before.minus(CLOCK_OFF_MAX_SECONDS + 1), Verdict::Problem),
            (after.plus(CLOCK_OFF_MAX_SECONDS), Verdict::Fine),
            (after.plus(CLOCK_OFF_MAX_SECONDS + 1), Verdict::Problem),
        ] {
            assert_eq!(verdict_on_clock(region, before, after).verdict, verdict, "{region:?}");
        }
    }

    #[test]
    fn what_the_addresses_answer() {
        let refused = |code| Err(Failure::Refused { code, message: "because".to_owned(), retry_after: None });
        let away = || Err(Failure::Unreachable("a:1: nobody".to_owned()));
        let verdict = |answers: Vec<Result<(), Failure>>| {
            let named: Vec<_> = answers.into_iter().map(|answer| ("a:1".to_owned(), answer)).collect();
            verdict_on_answers(&named).verdict
        };
        assert_eq!(verdict(vec![Ok(()), Ok(())]), Verdict::Fine);
        assert_eq!(verdict(vec![Ok(()), away()]), Verdict::Hint);
        assert_eq!(verdict(vec![away(), away()]), Verdict::Problem);
        assert_eq!(verdict(vec![refused(RefusalCode::Busy)]), Verdict::Hint);
        assert_eq!(verdict(vec![Ok(()), refused(RefusalCode::Evicted)]), Verdict::Problem);
        assert_eq!(verdict(vec![refused(RefusalCode::NotJoined)]), Verdict::Problem);
    }

    #[test]
    fn a_host_that_runs() {
        let machine = |is_running, credentials_until| PlacedMachine {
            instance: "i-0123456789abcdef0".parse().unwrap(),
            account: "123456789012".parse().unwrap(),
            name: String::new(),
            is_running,
            credentials_until,
        };
        let good = machine(true, Some(NOW.as_secs() + 1));
        let status = |heard_at, is_kept, machines| HostStatus { is_connected: true, heard_at, is_kept, machines };
        let heard = Some(NOW.as_secs());
        let verdict = |status: HostStatus| verdict_on_status(&status, NOW).verdict;
        assert_eq!(verdict(status(heard, true, vec![good.clone(), machine(false, None)])), Verdict::Fine);
        assert_eq!(verdict(status(heard, false, vec![good.clone()])), Verdict::Hint);
        for (ago, expected) in
            [(HEARD_SECONDS - 1, Verdict::Fine), (HEARD_SECONDS, Verdict::Fine), (HEARD_SECONDS + 1, Verdict::Hint)]
        {
            assert_eq!(verdict(status(Some(NOW.as_secs() - ago), true, vec![])), expected, "{ago}");
        }
        assert_eq!(verdict(status(None, true, vec![])), Verdict::Hint);
        for without in [machine(true, None), machine(true, Some(NOW.as_secs()))] {
            assert_eq!(verdict(status(heard, true, vec![good.clone(), without])), Verdict::Hint);
        }
    }

    #[test]
    fn what_is_kept() {
        assert_eq!(verdict_on_cache(Ok(KeptCache::Good), true).verdict, Verdict::Fine);
        assert_eq!(verdict_on_cache(Ok(KeptCache::Absent), true).verdict, Verdict::Hint);
        assert_eq!(verdict_on_cache(Ok(KeptCache::Elsewhere), false).verdict, Verdict::Hint);
        let error = anyhow::anyhow!("it cannot be opened");
        assert_eq!(verdict_on_cache(Err(error), true).verdict, Verdict::Problem);
    }
}
